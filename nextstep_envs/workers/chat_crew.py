"""Crews of chat models: which models, behind which providers, kept in which store."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nextstep_envs.errors import ConfigError, check_choice
from nextstep_envs.providers.base import Provider
from nextstep_envs.providers.building import (
    answer_settings,
    build_provider,
    local_files,
    resolve_settings,
    token_counter,
)
from nextstep_envs.providers.cached import CachedProvider
from nextstep_envs.providers.replay import ReplayProvider
from nextstep_envs.providers.router import Router
from nextstep_envs.providers.store import Store
from nextstep_envs.providers.tools import TIMEOUT_S, ToolProvider
from nextstep_envs.tools.functions import load_tools
from nextstep_envs.tools.mcp import read_servers
from nextstep_envs.types import Budget
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.workers.chat import ChatWorker
from nextstep_envs.workers.crew import Crew
from nextstep_envs.workers.crew_spec import write_pool


def chat_crew(
    specs: tuple[WorkerSpec, ...],
    budget: Budget,
    providers: Mapping[str, Any] | None = None,
    temperature: float = 0.0,
    context_tokens: int | None = None,
    tools: Sequence[str] = (),
    mcp: Mapping[str, Any] | None = None,
    tool_calls: str | None = None,
    tokenizer: str | None = None,
    tool_timeout_s: float = TIMEOUT_S,
    store: str | None = None,
    replay: str | None = None,
) -> Crew:
    """Chat workers (kind "chat").

    Args:
        specs: each with a `model`.
        budget: `call_tokens` bounds a completion.
        providers: settings by provider name (see `providers.building.build_provider`); a provider without any has its
            defaults. A name of your own with `kind` makes a second provider of a kind: `{"local": {"kind": "openai",
            "base_url": ...}}` answers for "local:<model>".
        temperature: of every call.
        context_tokens: the models' window, prompt and completion; None for no limit.
        tools: names of registered tools that every worker may call.
        mcp: MCP servers whose tools every worker may call (see `tools.mcp.read_servers`).
        tool_calls: "native", "json" or None, which is "native" for "openai", "anthropic" and "google".
        tokenizer: folder of the tokenizer that counts what prompts take. None: a model's own where it is in this
            process ("transformers", "vllm"), else an estimate. A replay cuts prompts where the recording did, so it
            needs the same one; name it here where it has moved.
        tool_timeout_s: of one call of a tool.
        store: path of a file that keeps every call and answers those that it knows, without asking (or paying) again.
            "replay:<path>" then answers from it alone; it holds the crew too. Either way an episode has the bytes of
            the recording, its costs, budgets and `info["books"]` included; what was really asked and paid is in the
            metrics of the providers.
        replay: path of such a file: answer from it and nothing else. Nothing is connected to then.

    Raises:
        ConfigError: a worker without a model, an unknown provider or setting, a bad value, store and replay.
        MissingExtraError: a library that a provider needs is not installed.
        DataError: the file is missing, damaged or something else.
    """
    _check(specs, temperature, context_tokens, store, replay)
    settings, mcp = _settings(specs, providers or {}, bool(replay)), mcp or {}
    functions, servers = load_tools(tools), () if replay else read_servers(mcp)
    talk: dict[str, Any] = {"temperature": temperature, "context_tokens": context_tokens, "tool_calls": tool_calls}
    has: dict[str, Any] = {"tools": tuple(tool.spec for tool in functions), "servers": tuple(mcp)}
    count = {model: _counter(model, settings, tokenizer) for model in dict.fromkeys(spec.model for spec in specs)}
    actors = {
        s.worker_id: ChatWorker(s.model, s.description, budget.call_tokens, **has, **talk, count_tokens=count[s.model])
        for s in specs
    }
    known = {name: answer_settings(own) for name, own in settings.items()}
    if store or replay:
        for name, own in known.items():
            own.update(local_files(name, own, _models(specs, name)))
    known_servers = {name: answer_settings(own) for name, own in mcp.items()}
    scope = known | {f"mcp:{name}": own for name, own in known_servers.items()}
    if replay:
        return Crew(specs, actors, ReplayProvider(Store(replay, scope, exists=True)))
    kept = Store(store, scope) if store else None
    models = {name: build_provider(name, own, kept, _models(specs, name)) for name, own in settings.items()}
    own_tools: Provider = ToolProvider(functions, servers, tool_timeout_s)
    if kept:
        own_tools = CachedProvider(own_tools, kept)
        parts = {"pool": write_pool(specs), "providers": known, "tools": list(tools), "mcp": known_servers}
        kept.add_crew({"kind": "chat", **parts, **talk, "tokenizer": tokenizer})
    return Crew(specs, actors, Router(models, own_tools))


def fake_crew(
    specs: tuple[WorkerSpec, ...],
    budget: Budget,
    invalid_rate: float = 0.0,
    failure_rate: float = 0.0,
    latency_s: float = 0.0,
    latency_sigma: float = 1.0,
    store: str | None = None,
) -> Crew:
    """Chat workers whose model is the fake provider, whatever they cost (kind "fake"); see `FakeProvider`."""
    named = tuple(replace(spec, model=f"fake:{spec.worker_id}") for spec in specs)
    settings = {
        "invalid_rate": invalid_rate,
        "failure_rate": failure_rate,
        "latency_s": latency_s,
        "latency_sigma": latency_sigma,
    }
    return chat_crew(named, budget, {"fake": settings}, store=store)


def _check(
    specs: tuple[WorkerSpec, ...], temperature: Any, context_tokens: Any, store: str | None, replay: str | None
) -> None:
    for spec in specs:
        if ":" not in spec.model:
            raise ConfigError(f"worker {spec.worker_id!r}: model={spec.model!r} must look like 'openai:gpt-4o-mini'")
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 <= temperature < math.inf:
        raise ConfigError(f"temperature={temperature!r} must be a number >= 0")
    whole = isinstance(context_tokens, int) and not isinstance(context_tokens, bool)
    if context_tokens is not None and not (whole and context_tokens > 0):
        raise ConfigError(f"context_tokens={context_tokens!r} must be a whole number > 0, or None for no limit")
    if store and replay:
        raise ConfigError(f"store={store!r} and replay={replay!r}: give one of them")


def _models(specs: tuple[WorkerSpec, ...], provider: str) -> list[str]:
    """Those of a provider that workers are."""
    return list(dict.fromkeys(spec.model for spec in specs if spec.model.partition(":")[0] == provider))


def _counter(model: str, settings: Mapping[str, Mapping[str, Any]], tokenizer: str | None) -> Callable[[str], int]:
    if tokenizer is not None:
        return token_counter("transformers", {}, f"transformers:{tokenizer}")
    name = model.partition(":")[0]
    return token_counter(name, settings[name], model)


def _settings(
    specs: tuple[WorkerSpec, ...], providers: Mapping[str, Any], replay: bool
) -> dict[str, Mapping[str, Any]]:
    """Settings of each provider that the workers' models name; a replay's are complete."""
    used = dict.fromkeys(spec.model.partition(":")[0] for spec in specs)
    for name, own in providers.items():
        check_choice("providers entry", name, used)
        if not isinstance(own, Mapping):
            raise ConfigError(f"providers[{name!r}]={own!r} must be a mapping of settings")
    settings = {name: providers.get(name, {}) for name in used}
    return settings if replay else {name: resolve_settings(name, own) for name, own in settings.items()}
