"""OpenAI's chat completions, and every server that speaks them (llama.cpp, vLLM, Ollama, DeepSeek ...)."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from nextstep_envs.providers.service import (
    SEEDS,
    Answer,
    ServiceClient,
    arguments_of,
    count_of,
    schema_of,
    text_of,
)
from nextstep_envs.requests import ChatReply, ChatRequest, Message, ToolUse

FINISH = {"length": "length", "tool_calls": "tools", "function_call": "tools", "content_filter": "filter"}
MODERN = ("openai.com", "openai.azure.com")  # hosts that want `max_completion_tokens`; others know `max_tokens`


class OpenAIClient(ServiceClient):
    """A `Client` of chat completions (https://platform.openai.com/docs/api-reference/chat).

    Offers tool calls, log-probabilities (thinking included, where the server shows it) and seeds (the request's, modulo
    2**31). Thinking is taken from `reasoning_content`, `reasoning` and `<think>` parts of the text; its tokens are
    completion tokens. A reply that was filtered keeps what was written. An unknown reason to stop counts as "stop".
    """

    service = "openai"
    package = "openai"
    module = "openai"
    keys = ("OPENAI_API_KEY",)
    url_variable = "OPENAI_BASE_URL"
    reserved = frozenset(
        ("model", "messages", "tools", "max_tokens", "max_completion_tokens", "n", "stream", "logprobs")
    )

    def _connect(self) -> Any:
        import openai

        return openai.AsyncOpenAI(api_key=self._secret(), base_url=self.base_url, max_retries=0, http_client=self._http)

    def _body(self, chat: ChatRequest, seed: int) -> dict[str, Any]:
        host = urlsplit(self.base_url or "https://api.openai.com").hostname or ""
        limit = "max_completion_tokens" if host.endswith(MODERN) else "max_tokens"
        functions = ({"name": t.name, "description": t.description, "parameters": schema_of(t)} for t in chat.tools)
        return {
            "model": chat.model,
            "messages": [_message(message) for message in chat.messages],
            limit: chat.max_tokens,
            "temperature": chat.temperature,
            "seed": seed % SEEDS,
            "tools": [{"type": "function", "function": function} for function in functions] or None,
            "logprobs": chat.logprobs or None,
        }

    async def _send(self, body: dict[str, Any], timeout_s: float) -> Answer:
        import httpx2

        # Not by `chat.completions.create`, which spends milliseconds on walking through the messages, twice.
        options = {"timeout": timeout_s, "security": {"bearer_auth": True}}
        response = await self._library.post("/chat/completions", cast_to=httpx2.Response, body=body, options=options)
        return Answer(response.headers.get("content-type", ""), response.text)

    def _exceptions(self) -> tuple[type[Exception], ...]:
        import openai

        return (openai.OpenAIError,)

    def _reply(self, document: Any) -> ChatReply:
        choice = document["choices"][0]
        message = choice["message"]
        calls = tuple(_call(i, call) for i, call in enumerate(message.get("tool_calls") or ()))
        refusal = text_of(message.get("refusal"))
        finish = "filter" if refusal else FINISH.get(choice.get("finish_reason"), "stop")
        tokens = (choice.get("logprobs") or {}).get("content") or ()
        return ChatReply(
            text=text_of(message.get("content")) or refusal,
            thinking=text_of(message.get("reasoning_content") or message.get("reasoning")),
            calls=calls,
            finish="tools" if calls and finish == "stop" else finish,
            logprobs=tuple((text_of(token["token"]), float(token["logprob"])) for token in tokens),
        )

    def _usage(self, document: Any) -> tuple[int, int]:
        usage = document["usage"]
        prompt, completion = count_of(usage["prompt_tokens"]), count_of(usage["completion_tokens"])
        # Some servers count thinking in the total only.
        return prompt, max(completion, count_of(usage.get("total_tokens") or 0) - prompt)


def _message(message: Message) -> dict[str, Any]:
    written: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.role == "tool":
        written["tool_call_id"] = message.call_id
    if message.calls:
        written["content"] = message.content or None
        written["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _arguments(call)}}
            for call in message.calls
        ]
    return written


def _arguments(call: ToolUse) -> str:
    """As the model wrote them, unless servers that read them would refuse the whole conversation."""
    value = arguments_of(call.arguments)
    return json.dumps(value) if "invalid" in value else call.arguments


def _call(index: int, call: Any) -> ToolUse:
    function = call["function"]
    arguments = function["arguments"]
    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return ToolUse(text_of(call.get("id")) or f"call-{index}", text_of(function["name"]), text_of(written))
