"""Named parts: a kind and a name give an import string, which is imported when the part is first asked for."""

from __future__ import annotations

import importlib
from typing import Any

from registry import plugins
from registry.errors import ConflictError, TargetError, UnknownNameError

KINDS = ("world", "protocol", "worker", "provider", "tool", "model", "reward_model", "coach", "policy")

_BUILT_IN = {
    ("world", "webshop"): "nextstep_envs.worlds.webshop.world:WebShopWorld",
    ("protocol", "workflow"): "nextstep_envs.protocols.workflow:WorkflowProtocol",
    ("protocol", "routing"): "nextstep_envs.protocols.routing:RoutingProtocol",
    ("protocol", "dag"): "nextstep_envs.protocols.dag:DagProtocol",
    ("protocol", "team"): "nextstep_envs.multiagent.team_rules:TeamProtocol",
    ("protocol", "search"): "nextstep_envs.protocols.search:SearchProtocol",
    ("worker", "scripted"): "nextstep_envs.workers.pool:scripted_crew",
    ("worker", "fake"): "nextstep_envs.workers.crew:fake_crew",
    ("provider", "fake"): "nextstep_envs.providers.fake:FakeProvider",
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
