"""A server that speaks Google's generateContent as published, by API key or by Vertex AI's tokens.

https://ai.google.dev/api/generate-content, https://ai.google.dev/gemini-api/docs/thought-signatures
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.servers.wire import Message, Server, json_response, read_message

Body = Mapping[str, Any]
GEMINI = re.compile(r"/v1(?:beta|alpha)?/models/([^:/]+):generateContent")
VERTEX = re.compile(
    r"/v1(?:beta1)?/projects/([^/]+)/locations/([^/]+)/publishers/google/models/([^:/]+):generateContent"
)
FIELDS = {"contents", "systemInstruction", "generationConfig", "tools", "toolConfig", "safetySettings"}
CONFIG = {"temperature", "maxOutputTokens", "seed", "responseLogprobs", "logprobs", "thinkingConfig", "topP", "topK"}
DATA = {"args", "response", "parametersJsonSchema"}  # what is in these is the user's
SIGNATURE = "c2lnbmVkIHRob3VnaHQ="
TOKEN = "ya29.a-token-of-the-fake-vertex"


def plain(body: Body) -> list[dict[str, Any]]:
    """Calls the first tool that it is offered, once; else answers. Thinks aloud where that is asked for."""
    config = body.get("generationConfig", {})
    aloud = config.get("thinkingConfig", {}).get("includeThoughts")
    thoughts = [{"text": "The user wants shoes.", "thought": True}] if aloud else []
    answered = any("functionResponse" in part for part in body["contents"][-1]["parts"])
    if body.get("tools") and not answered:
        name = body["tools"][0]["functionDeclarations"][0]["name"]
        call = {"functionCall": {"name": name, "args": {"q": "red shoe"}}, "thoughtSignature": SIGNATURE}
        return [*thoughts, {"text": "I will look."}, call]
    return [*thoughts, {"text": "A red "}, {"text": "shoe."}]


class GoogleServer(Server):
    """Answers `generateContent` of both services, and `POST /token` with an access token for Vertex AI.

    Args:
        reply: the parts to answer.
        candidate: fields that replace those of the candidate.
        document: fields that replace those of the answer; None takes one out.
        key: the only API key that it accepts; None accepts any.
        signed: whether calls must come back with their thought signature, as models from Gemini 3 on want it.
    """

    def __init__(
        self,
        reply: Callable[[Body], list[dict[str, Any]]] = plain,
        candidate: Mapping[str, Any] | None = None,
        document: Mapping[str, Any] | None = None,
        key: str | None = None,
        signed: bool = False,
        port: int = 0,
    ) -> None:
        super().__init__(port)
        self.reply, self.candidate, self.document = reply, dict(candidate or {}), dict(document or {})
        self.key, self.signed = key, signed
        self.bodies: list[Body] = []
        self.paths: list[str] = []
        self.tokens = 0

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request after the other."""
        while (message := await read_message(reader)) is not None:
            writer.write(self._answer(message))
            await writer.drain()

    def _answer(self, message: Message) -> bytes:
        method, path, _ = message.start
        self.paths.append(path)
        if (method, path) == ("POST", "/token"):
            self.tokens += 1
            return json_response(200, {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})
        if method != "POST" or not (GEMINI.fullmatch(path) or VERTEX.fullmatch(path)):
            return error(404, "NOT_FOUND", f"{path} is not found")
        key, bearer = message.headers.get("x-goog-api-key"), message.headers.get("authorization")
        if VERTEX.fullmatch(path):
            if bearer != f"Bearer {TOKEN}":
                return error(401, "UNAUTHENTICATED", f"Request had invalid authentication credentials: {bearer}")
        elif not key or (self.key is not None and key != self.key):
            return error(400, "INVALID_ARGUMENT", f"API key not valid: {key}. Please pass a valid API key.")
        body = camel(json.loads(message.body))
        wrong = check(body, self.signed)
        if wrong:
            return error(400, "INVALID_ARGUMENT", wrong)
        self.bodies.append(body)
        parts = self.reply(body)
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}
        if body.get("generationConfig", {}).get("responseLogprobs"):
            texts = [part["text"] for part in parts if "text" in part]
            chosen = [{"token": text, "tokenId": i, "logProbability": -0.5} for i, text in enumerate(texts)]
            candidate["logprobsResult"] = {"chosenCandidates": chosen}
        prompt, written = len(message.body) // 4, len(json.dumps(parts)) // 4
        usage = {"promptTokenCount": prompt, "candidatesTokenCount": written, "totalTokenCount": prompt + written}
        value = {"candidates": [candidate | self.candidate], "usageMetadata": usage, "modelVersion": "fake"}
        return json_response(200, {k: v for k, v in (value | self.document).items() if v is not None})


def camel(value: Any) -> Any:
    """Field names in camel case: the service takes the other spelling too, and the official client writes both."""
    if isinstance(value, list):
        return [camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = {re.sub(r"_([a-z])", lambda found: found[1].upper(), name): item for name, item in value.items()}
    return {name: item if name in DATA else camel(item) for name, item in named.items()}


def error(status: int, kind: str, message: str, details: list[Any] | None = None) -> bytes:
    """An error as the service writes it."""
    return json_response(
        status, {"error": {"code": status, "message": message, "status": kind, "details": details or []}}
    )


def check(body: Body, signed: bool) -> str:
    """What the service would find wrong with a request; "" if nothing."""
    unknown = (body.keys() - FIELDS) | (body.get("generationConfig", {}).keys() - CONFIG)
    if unknown:
        return f"Invalid JSON payload received. Unknown name {sorted(unknown)}: Cannot find field."
    if not -(1 << 31) <= body.get("generationConfig", {}).get("seed", 0) < 1 << 31:
        return "Invalid value at 'generation_config.seed' (TYPE_INT32)"
    turns = body["contents"]
    for i, turn in enumerate(turns):
        if turn["role"] not in ("user", "model"):
            return f"contents[{i}]: Please use a valid role: user, model."
        if not turn["parts"] or any(part.get("text") == "" for part in turn["parts"]):
            return f"contents[{i}].parts: required oneof field 'data' must have one initialized field"
        called = [part["functionCall"]["name"] for part in turn["parts"] if "functionCall" in part]
        after = turns[i + 1]["parts"] if i + 1 < len(turns) else ()
        answered = [part["functionResponse"]["name"] for part in after if "functionResponse" in part]
        if called != answered:
            return "Please ensure that function call turn comes with as many function response parts."
        first = next((part for part in turn["parts"] if "functionCall" in part), None)
        if signed and first and first.get("thoughtSignature") != SIGNATURE:
            return "Function call is missing a thought_signature in functionCall parts."
    return ""
