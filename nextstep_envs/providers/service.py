"""What the clients of all services share: one attempt under one deadline, checked answers, faults by their cause."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, NamedTuple
from urllib.parse import urlsplit

from nextstep_envs.errors import ConfigError, MissingExtraError
from nextstep_envs.ledger import estimate_tokens
from nextstep_envs.providers.base import NOTHING, CallError, Completion, Fault
from nextstep_envs.providers.secrets import find_secret, redact
from nextstep_envs.providers.thinking import split_thinking
from nextstep_envs.requests import ChatReply, ChatRequest, Message, ToolSpec
from nextstep_envs.types import Usage

SEEDS = 1 << 31  # services take 32-bit seeds
EXCERPT = 300  # characters of a service's own words in an error
KEYLESS = "none"  # for servers that want no key; the libraries insist on one
_FAULTS: dict[int, Fault] = {408: "timeout", 409: "server", 429: "rate limit", 503: "overloaded", 529: "overloaded"}
_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_OPTIONAL = ("temperature", "seed")  # that some models refuse
_SPENT = ("insufficient_quota", "billing_hard_limit_reached")  # a 429 that waiting does not cure


class Answer(NamedTuple):
    """What a service answered with status 200."""

    content_type: str
    body: str


class ServiceClient(ABC):
    """A `Client` over a service's official library, for one event loop.

    The library's own retries are off and its timeout is ours. It opens its connections at the first call, so that an
    instance can be made, copied, forked and pickled anywhere; it holds the name of its key, never the key.

    Args:
        base_url: of a compatible server ("http://host:port/path"); None: as the environment says, else the service's.
        key: name of the secret that holds the API key, in capitals, never the key itself; None: the service's usual
            one, which may be missing where `base_url` names another server.
        extra: fields for every request beyond those of a `ChatRequest`, in the service's own words; None as a value
            leaves a field out, for models that refuse it: `{"temperature": None}`.
        secrets_file: where keys are that the environment has not; see `providers.secrets`.

    Raises:
        MissingExtraError: the library is not installed.
        ConfigError: no key, a malformed URL, or a field in `extra` that is not the user's to set.
    """

    service: ClassVar[str]
    package: ClassVar[str]
    module: ClassVar[str]
    keys: ClassVar[tuple[str, ...]]
    url_variable: ClassVar[str]
    reserved: ClassVar[frozenset[str]]  # fields that would change what is asked or billed behind the ledger's back

    def __init__(
        self,
        base_url: str | None = None,
        key: str | None = None,
        extra: Mapping[str, Any] | None = None,
        secrets_file: str | None = None,
    ) -> None:
        try:
            importlib.import_module(self.module)  # here, as it takes a second that an event loop would miss
        except ModuleNotFoundError as error:
            if not self.module.startswith(error.name or "?"):
                raise
            raise MissingExtraError(self.package, "providers", f"provider {self.service!r}") from None
        self.base_url = base_url or os.environ.get(self.url_variable) or None
        self.key, self.secrets_file = key, secrets_file
        try:
            self.extra: dict[str, Any] = json.loads(json.dumps(dict(extra or {})))
        except TypeError as error:
            raise ConfigError(f"extra= of provider {self.service!r} must be plain data: {error}") from error
        if self.base_url is not None:
            _check_url(self.base_url)
        if key is not None and not _NAME.fullmatch(key):  # it is not shown: it may be a key
            raise ConfigError(
                f"key= of provider {self.service!r} must name an environment variable, such as MY_API_KEY"
            )
        if taken := sorted(self.reserved & self.extra.keys()):
            raise ConfigError(f"extra= of provider {self.service!r} must not set {', '.join(taken)}; leave it out")
        self._secret()
        self._library: Any = None
        self._http: Any = None

    async def complete(self, chat: ChatRequest, seed: int, timeout_s: float) -> Completion:
        """One attempt at a chat completion.

        Where a service answers without metering, the usage is estimated from characters. A failed attempt's usage is
        what the service said of it; nothing where it did not say.

        Raises:
            CallError: it failed.
            ConfigError: the service cannot do what `chat` asks; nothing was sent.
        """
        body = {name: value for name, value in (self._body(chat, seed) | self.extra).items() if value is not None}
        if self._library is None:
            from nextstep_envs.providers.connections import Connections

            self._http = Connections()
            self._library = self._connect()
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._send(body, timeout_s)
        except TimeoutError:
            error = CallError("timeout", f"{self.service} did not answer within {timeout_s:g} s")
        except self._exceptions() as problem:
            error = self._failed(problem)
        else:
            return self._read(chat, answer)
        # Outside of the handler, so that the library's exception is not chained: it holds the request's headers.
        raise error

    async def close(self) -> None:
        """Release connections; a later call opens new ones."""
        http, self._http, self._library = self._http, None, None
        if http is not None:
            await http.aclose()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_library": None, "_http": None}

    def __repr__(self) -> str:
        settings = {"base_url": self.base_url, "key": self.key, "extra": self.extra or None}
        shown = ", ".join(f"{name}={value!r}" for name, value in settings.items() if value is not None)
        return redact(f"{type(self).__name__}({shown})")

    @abstractmethod
    def _connect(self) -> Any:
        """The library's client, over the connections `self._http`."""

    @abstractmethod
    def _body(self, chat: ChatRequest, seed: int) -> dict[str, Any]:
        """The request in the service's words; None leaves a field out."""

    @abstractmethod
    async def _send(self, body: dict[str, Any], timeout_s: float) -> Answer:
        """One attempt."""

    @abstractmethod
    def _exceptions(self) -> tuple[type[Exception], ...]:
        """What `_send` raises when a call fails."""

    @abstractmethod
    def _reply(self, document: Any) -> ChatReply:
        """The reply in an answer; LookupError, TypeError, ValueError or AttributeError where it is malformed."""

    @abstractmethod
    def _usage(self, document: Any) -> tuple[int, int]:
        """Prompt and completion tokens in an answer, errors as for `_reply` where they are missing or malformed."""

    def _secret(self) -> str:
        """The API key."""
        for name in (self.key,) if self.key else self.keys:
            value = find_secret(name, self.secrets_file)
            if value:
                return value
        if self.base_url and not self.key:
            return KEYLESS
        names = self.key or " or ".join(self.keys)
        raise ConfigError(f"provider {self.service!r} needs a key: set {names} in the environment or a secrets file")

    def _failed(self, problem: Exception) -> CallError:
        import httpx2

        response = getattr(problem, "response", None)
        if isinstance(response, httpx2.Response):
            return refusal(self.service, response.status_code, response.headers, response.text)
        cause: BaseException = problem
        while cause.__cause__ is not None:
            cause = cause.__cause__
        fault: Fault = "timeout" if isinstance(problem.__cause__ or problem, httpx2.TimeoutException) else "connection"
        where = self.base_url or "the service"
        return CallError(fault, redact(f"{self.service}: {where}: {str(cause) or type(cause).__name__}"))

    def _read(self, chat: ChatRequest, answer: Answer) -> Completion:
        document, usage, wrong = None, None, ""
        try:
            document = json.loads(answer.body)
            usage = Usage(*self._usage(document), calls=1)
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            wrong = "" if document is not None else f"not JSON ({error})"
        if "json" not in answer.content_type:
            wrong = f"of content type {answer.content_type!r}, not JSON"
        reply = ChatReply("")
        if not wrong:
            try:
                reply = self._reply(document)
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                wrong = f"not as documented ({type(error).__name__}: {error})"
        if wrong:
            message = redact(f"{self.service}'s answer is {wrong}: {_excerpt(answer.body)}")
            raise CallError("malformed", message, usage=usage or NOTHING)
        if chat.logprobs and reply.text and not reply.logprobs:
            message = f"{self.service} sent no log-probabilities for model {chat.model!r}; ask for none"
            raise CallError("refused", message, usage=usage or NOTHING)
        text, thought = split_thinking(reply.text)
        reply = replace(reply, text=text, thinking="\n".join(filter(None, (reply.thinking, thought))))
        written = "".join((text, reply.thinking, *(call.arguments for call in reply.calls)))
        return Completion(reply, usage or _estimate(chat, written))


def refusal(service: str, status: int, headers: Mapping[str, str], body: str) -> CallError:
    """The error for an answer with another status than 200, with what the service says and when it may be asked again.

    As the official libraries do, it heeds `x-should-retry` and takes a spent quota for final.
    """
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    said = _said(document) or _excerpt(body)
    if 300 <= status < 400:
        said = (
            f"it redirects to {headers.get('location')!r}; set base_url to where it is"  # following would carry the key
        )
    for field in _OPTIONAL if status == 400 else ():
        if field in said.lower():
            said += f" (to leave the field out: extra={{{field!r}: None}})"
    again = headers.get("x-should-retry")
    fault: Fault = _FAULTS.get(status, "server" if status >= 500 or again == "true" else "refused")
    if again == "false" or (status == 429 and any(f'"{word}"' in body for word in _SPENT)):
        fault = "refused"
    return CallError(fault, redact(f"{service} answered {status}: {said}"), retry_after(headers, document))


def retry_after(headers: Mapping[str, str], document: Any = None) -> float | None:
    """Seconds to wait, from `retry-after-ms`, `retry-after` (seconds or a date) or Google's `RetryInfo`; else None."""
    seconds = _number(headers.get("retry-after-ms"), 1e-3)
    if seconds is None:
        value = headers.get("retry-after")
        seconds = _number(value)
        if seconds is None and value:
            with suppress(ValueError):
                seconds = parsedate_to_datetime(value).timestamp() - time.time()
    if seconds is None:
        error = document.get("error") if isinstance(document, Mapping) else None
        details = error.get("details") if isinstance(error, Mapping) else None
        for detail in details if isinstance(details, list) else ():
            if isinstance(detail, Mapping) and "retryDelay" in detail:
                seconds = _number(str(detail["retryDelay"]).removesuffix("s"))
    return None if seconds is None else max(seconds, 0.0)


def system_and_rest(service: str, messages: tuple[Message, ...]) -> tuple[str, list[Message]]:
    """The system text, and the other messages without empty ones, which services refuse."""
    system = [message.content for message in messages if message.role == "system"]
    if any(message.role != "system" for message in messages[: len(system)]):
        raise ConfigError(f"{service} takes system messages only before all others; send later ones as the user's")
    rest = messages[len(system) :]
    return "\n\n".join(system), [m for m in rest if m.content.strip() or m.calls or m.role == "tool"]


def schema_of(tool: ToolSpec) -> dict[str, Any]:
    """The JSON Schema of a tool's arguments."""
    try:
        schema = json.loads(tool.schema)
    except ValueError as error:
        raise ConfigError(f"tool {tool.name!r}: its schema is not JSON ({error})") from error
    if not isinstance(schema, dict):
        raise ConfigError(f"tool {tool.name!r}: its schema must be a JSON object, not {tool.schema!r}")
    return schema


def arguments_of(text: str) -> dict[str, Any]:
    """A call's arguments as an object; what is none goes as `{"invalid": text}`, so that the model sees its mistake."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"invalid": text}


def text_of(value: Any) -> str:
    """A text field; "" where it is null. Halves of surrogate pairs, which cannot be sent on, become "?"."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value.encode("utf-8", "replace").decode()


def count_of(value: Any) -> int:
    """A number of tokens."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError(f"{value!r} is no number of tokens")
    return value


def _estimate(chat: ChatRequest, written: str) -> Usage:
    asked = [message.content for message in chat.messages]
    asked += [call.arguments for message in chat.messages for call in message.calls]
    asked += ["".join(tool) for tool in chat.tools]
    return Usage(sum(map(estimate_tokens, asked)), estimate_tokens(written), calls=1)


def _said(document: Any) -> str:
    """The message of an error document, in any of the usual places."""
    if isinstance(document, list) and document:
        document = document[0]
    for name in ("error", "message", "detail"):
        if isinstance(document, Mapping) and document.get(name):
            found = document[name]
            return _excerpt(found) if isinstance(found, str) else _said(found) or _excerpt(json.dumps(found))
    return ""


def _excerpt(text: str) -> str:
    text = " ".join(redact(text).split())  # before it is cut: half a key could not be told from other text
    return text if len(text) <= EXCERPT else text[:EXCERPT] + "..."


def _number(text: str | None, scale: float = 1.0) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value * scale if 0 <= value < float("inf") else None


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"base_url={redact(url)!r} must look like 'https://host/path'")
    if parts.username or parts.password or parts.query:
        raise ConfigError(f"base_url of host {parts.hostname!r} must hold no user, password or query: use a key")
