"""Named parts: lazy import, clear errors, plugins."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import registry
from nextstep_envs.workers.models import ModelPrice
from registry import components, plugins
from registry.errors import ConflictError, NextStepError, PluginError, TargetError, UnknownNameError


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registrations of a test end with it."""
    monkeypatch.setattr(components, "_targets", dict(components._targets))
    monkeypatch.setattr(plugins, "_loaded", set(plugins._loaded))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Pretends that packages with these plugin functions are installed."""
    points: list[EntryPoint] = []
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == plugins.GROUP else [])

    def install(name: str, body: str) -> None:
        (tmp_path / f"plugin_{name}.py").write_text(f"def register():\n    {body}\n")
        points.append(EntryPoint(name, f"plugin_{name}:register", plugins.GROUP))

    yield install
    for module in set(sys.modules) - before:
        if module.startswith("plugin_"):
            del sys.modules[module]


@pytest.mark.parametrize(("kind", "name"), sorted(components._BUILT_IN))
def test_every_built_in_part_exists(kind: str, name: str) -> None:
    part = components.load(kind, name)
    assert isinstance(part, ModelPrice) if kind == "model" else callable(part)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"world 'webshpo' is unknown; known: .*'webshop'"):
        components.load("world", "webshpo")


def test_an_unknown_kind_lists_the_known_ones() -> None:
    for call in (lambda: components.load("wrold", "webshop"), lambda: components.names("wrold")):
        with pytest.raises(UnknownNameError, match=r"'wrold' is unknown; known: .*'world'"):
            call()


def test_registration_is_idempotent_and_refuses_another_target() -> None:
    components.register("tool", "abacus", "math:fsum")
    components.register("tool", "abacus", "math:fsum")
    assert components.load("tool", "abacus") is __import__("math").fsum
    with pytest.raises(ConflictError, match=r"'abacus' is already 'math:fsum'"):
        components.register("tool", "abacus", "math:prod")


@pytest.mark.parametrize("target", ["math", "math:", ":fsum"])
def test_a_malformed_target_is_refused(target: str) -> None:
    with pytest.raises(TargetError, match="must look like"):
        components.register("tool", "abacus", target)


def test_a_target_that_does_not_exist_is_named() -> None:
    components.register("tool", "abacus", "math:no_such_thing")
    with pytest.raises(TargetError, match=r"'math:no_such_thing'.*no_such_thing"):
        components.load("tool", "abacus")


def test_a_part_is_imported_only_when_it_is_loaded(installed: Callable[..., None]) -> None:
    installed("lazy", "pass")
    components.register("tool", "lazy", "plugin_lazy:register")
    assert "plugin_lazy" not in sys.modules
    components.load("tool", "lazy")
    assert "plugin_lazy" in sys.modules


def test_an_unknown_name_is_looked_for_in_plugins(installed: Callable[..., None]) -> None:
    installed("abacus", "import registry; registry.components.register('tool', 'abacus', 'math:fsum')")
    assert "abacus" not in components.names("tool")
    assert components.load("tool", "abacus") is __import__("math").fsum
    assert "abacus" in components.names("tool")


def test_a_plugin_runs_once(installed: Callable[..., None]) -> None:
    installed("once", "pass")
    assert registry.load_plugins() == ("once",)
    assert registry.load_plugins() == ()


def test_a_broken_plugin_is_named_and_the_cause_kept(installed: Callable[..., None]) -> None:
    installed("broken", "raise RuntimeError('out of paint')")
    with pytest.raises(PluginError, match=r"'broken'.*plugin_broken:register.*out of paint") as caught:
        components.load("world", "no such world")
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_all_errors_share_the_base_of_the_project() -> None:
    from nextstep_envs import errors

    assert errors.NextStepError is NextStepError
    for error in (UnknownNameError, ConflictError, TargetError, PluginError):
        assert issubclass(error, NextStepError)
