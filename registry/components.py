"""Named parts: a kind and a name give an import string, which is imported when the part is first asked for."""

from __future__ import annotations

import importlib
from typing import Any

from registry import plugins
from registry.errors import ConflictError, TargetError, UnknownNameError

KINDS = ("world", "protocol", "worker", "provider", "tool", "model", "reward_model", "coach", "policy")

_BUILT_IN = {
    ("world", "webshop"): "nextstep_envs.worlds.webshop.world:WebShopWorld",
    ("world", "mmlu_pro"): "nextstep_envs.worlds.qa.mmlu_pro:MMLUPro",
    ("world", "gsm8k"): "nextstep_envs.worlds.mathchat.gsm8k:GSM8K",
    ("protocol", "workflow"): "nextstep_envs.protocols.workflow:WorkflowProtocol",
    ("protocol", "routing"): "nextstep_envs.protocols.routing:RoutingProtocol",
    ("protocol", "question_routing"): "nextstep_envs.recorded.rules:QuestionRouting",
    ("protocol", "dag"): "nextstep_envs.protocols.dag:DagProtocol",
    ("protocol", "team"): "nextstep_envs.multiagent.team_rules:TeamProtocol",
    ("protocol", "search"): "nextstep_envs.protocols.search:SearchProtocol",
    ("worker", "scripted"): "nextstep_envs.workers.pool:scripted_crew",
    ("worker", "recorded"): "nextstep_envs.recorded.crew:recorded_crew",
    ("worker", "fake"): "nextstep_envs.workers.chat_crew:fake_crew",
    ("worker", "chat"): "nextstep_envs.workers.chat_crew:chat_crew",
    ("provider", "fake"): "nextstep_envs.providers.fake:FakeProvider",
    ("provider", "openai"): "nextstep_envs.providers.openai:OpenAIClient",
    ("provider", "anthropic"): "nextstep_envs.providers.anthropic:AnthropicClient",
    ("provider", "google"): "nextstep_envs.providers.google:GoogleClient",
    ("provider", "transformers"): "nextstep_envs.providers.transformers:TransformersProvider",
    ("provider", "vllm"): "nextstep_envs.providers.vllm:VllmProvider",
    ("model", "openai:gpt-4o"): "nextstep_envs.workers.models:GPT_4O",
    ("model", "openai:gpt-4o-mini"): "nextstep_envs.workers.models:GPT_4O_MINI",
    ("model", "openai:gpt-4.1"): "nextstep_envs.workers.models:GPT_4_1",
    ("model", "openai:gpt-4.1-mini"): "nextstep_envs.workers.models:GPT_4_1_MINI",
    ("model", "openai:gpt-4.1-nano"): "nextstep_envs.workers.models:GPT_4_1_NANO",
    ("model", "openai:gpt-5"): "nextstep_envs.workers.models:GPT_5",
    ("model", "openai:gpt-5-mini"): "nextstep_envs.workers.models:GPT_5_MINI",
    ("model", "openai:gpt-5-nano"): "nextstep_envs.workers.models:GPT_5_NANO",
    ("model", "anthropic:claude-opus-4-5"): "nextstep_envs.workers.models:CLAUDE_OPUS_4_5",
    ("model", "anthropic:claude-opus-4-6"): "nextstep_envs.workers.models:CLAUDE_OPUS_4_6",
    ("model", "anthropic:claude-sonnet-4-5"): "nextstep_envs.workers.models:CLAUDE_SONNET_4_5",
    ("model", "anthropic:claude-sonnet-4-6"): "nextstep_envs.workers.models:CLAUDE_SONNET_4_6",
    ("model", "anthropic:claude-haiku-4-5"): "nextstep_envs.workers.models:CLAUDE_HAIKU_4_5",
    ("model", "google:gemini-2.5-pro"): "nextstep_envs.workers.models:GEMINI_2_5_PRO",
    ("model", "google:gemini-2.5-flash"): "nextstep_envs.workers.models:GEMINI_2_5_FLASH",
    ("model", "google:gemini-2.5-flash-lite"): "nextstep_envs.workers.models:GEMINI_2_5_FLASH_LITE",
    ("model", "fake:*"): "nextstep_envs.workers.models:FREE",
    ("model", "transformers:*"): "nextstep_envs.workers.models:FREE",
    ("model", "vllm:*"): "nextstep_envs.workers.models:FREE",
    ("tool", "calculator"): "nextstep_envs.tools.calculator:calculate",
}
_targets: dict[tuple[str, str], str] = dict(_BUILT_IN)


def register(kind: str, name: str, target: str) -> None:
    """Name a part. Doing it again with the same target changes nothing.

    Args:
        kind: one of `KINDS`.
        name: what users write, such as `world="webshop"`.
        target: where it is, as "package.module:attribute"; it is imported only by `load`.

    Raises:
        UnknownNameError: `kind` is not one of `KINDS`.
        TargetError: `target` has the wrong form.
        ConflictError: the name already stands for another target.
    """
    _check_kind(kind)
    module, _, attribute = target.partition(":")
    if not (module and attribute):
        raise TargetError(f"target {target!r} of {kind} {name!r} must look like 'package.module:attribute'")
    known = _targets.setdefault((kind, name), target)
    if known != target:
        raise ConflictError(f"{kind} {name!r} is already {known!r}; register {target!r} under another name")


def names(kind: str) -> tuple[str, ...]:
    """The registered names of a kind, sorted. Plugins count once `registry.load_plugins()` has run."""
    _check_kind(kind)
    return tuple(sorted(name for known, name in _targets if known == kind))


def load(kind: str, name: str) -> Any:
    """Import and return a part. An unknown name is looked for in installed plugins before it is an error.

    Raises:
        UnknownNameError: nobody registered the name; the message lists the known ones.
        PluginError: the name is unknown and an installed plugin is broken.
        TargetError: the registered module has no such attribute.
    """
    _check_kind(kind)
    if (kind, name) not in _targets:
        plugins.load_plugins()
    target = _targets.get((kind, name))
    if target is None:
        raise UnknownNameError(kind, name, names(kind))
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except AttributeError as error:
        raise TargetError(f"{kind} {name!r} is registered as {target!r}, but {error}") from error


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise UnknownNameError("kind of part", kind, KINDS)
