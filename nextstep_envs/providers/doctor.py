"""Says which providers work: one cheap call to each that is set up, and what is wrong where it fails."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from nextstep_envs.errors import ConfigError, MissingExtraError
from nextstep_envs.providers.building import build_provider, resolve_settings
from nextstep_envs.providers.secrets import find_secret, redact
from nextstep_envs.requests import ChatRequest, Message, Request
from nextstep_envs.types import Usage
from registry import components
from registry.errors import UnknownNameError

State = Literal["works", "fails", "not set up"]
MODELS = {
    "openai": "openai:gpt-4.1-nano",
    "anthropic": "anthropic:claude-haiku-4-5",
    "google": "google:gemini-2.5-flash-lite",
}
QUESTION = (Message("system", "Be brief."), Message("user", "Reply with the word ready."))
MAX_TOKENS = 16  # the least that some services allow
ADVICE = {
    "timeout": "it is slow or cannot be reached; check the network, or allow more with timeout_s",
    "connection": "check base_url, the network and any proxy",
    "rate limit": "the key is good, but its limit or quota is used up",
    "overloaded": "the service is there, but busy; try later",
    "server": "the service has trouble of its own; try later",
    "malformed": "what is there does not speak this provider's language; check base_url",
}
REFUSALS = {
    "400": "the service does not take this request or model; leave fields out with extra=",
    "401": "check the key",
    "403": "the key may not do this; check its rights, project and region",
    "404": "check the model's name and base_url",
    "429": "the account's credit or quota is spent",
}


class Diagnosis(NamedTuple):
    """What one provider's examination came to.

    Attributes:
        provider: its name.
        model: that was asked.
        state: how it is.
        detail: what it answered, what went wrong and what to do, or how to set it up. Holds no secret.
        seconds: that the call took.
        usage: what it used; unpriced.
    """

    provider: str
    model: str
    state: State
    detail: str
    seconds: float = 0.0
    usage: Usage = Usage()


def examine(
    models: Sequence[str] = (), providers: Mapping[str, Mapping[str, Any]] | None = None, timeout_s: float = 30.0
) -> Iterator[Diagnosis]:
    """Examine providers one after the other, by the same way that workers' calls go, without retries.

    Args:
        models: "<provider>:<model>" each; none: a cheap model of each service, where a key or URL for it is set up.
        providers: settings by provider name, as for a crew of chat workers.
        timeout_s: of each call.

    Raises:
        ConfigError: a model of another form.
    """
    providers = providers or {}
    for model in models or tuple(MODELS.values()):
        name, colon, _ = model.partition(":")
        if not colon:
            raise ConfigError(f"model {model!r} must look like 'openai:gpt-4.1-nano'")
        settings = dict(providers.get(name, {}))
        missing = "" if models or settings else _not_set_up(name)
        if missing:
            yield Diagnosis(name, model, "not set up", missing)
        else:
            yield _ask(name, model, settings, timeout_s)


def _not_set_up(name: str) -> str:
    """How to set a service up; "" where that was begun."""
    service = components.load("provider", name)
    if os.environ.get(service.url_variable):
        return ""
    try:
        if any(find_secret(key) for key in service.keys):
            return ""
    except ConfigError:
        return ""  # the examination says what is wrong
    return f"set {' or '.join(service.keys)} in the environment or a secrets file"


def _ask(name: str, model: str, settings: dict[str, Any], timeout_s: float) -> Diagnosis:
    started = time.monotonic()
    try:
        settings = resolve_settings(name, settings)
        service = hasattr(components.load("provider", settings.get("kind", name)), "complete")
        limits = {"retries": 0, "timeout_s": timeout_s} if service else {}
        provider = build_provider(name, {**settings, **limits})
    except (ConfigError, MissingExtraError, UnknownNameError) as error:
        return Diagnosis(name, model, "fails", redact(str(error)))
    try:
        (result,) = provider.perform([Request("0/0", "chat", ChatRequest(model, QUESTION, MAX_TOKENS), 0)])
    finally:
        provider.close()
    seconds = time.monotonic() - started
    if result.error:
        return Diagnosis(name, model, "fails", _explained(result.error), seconds, result.waste)
    reply = result.value
    said = repr(reply.text or reply.thinking) if reply.text or reply.thinking else f"nothing ({reply.finish})"
    return Diagnosis(name, model, "works", f"it said {redact(said)}", seconds, result.usage)


def _explained(error: str) -> str:
    """An outage and what to do about it."""
    fault = error.partition(":")[0]
    status = next((code for code in REFUSALS if f" answered {code}:" in error), "")
    advice = REFUSALS.get(status, "") if fault == "refused" else ADVICE.get(fault, "")
    return f"{error}; {advice}" if advice else error
