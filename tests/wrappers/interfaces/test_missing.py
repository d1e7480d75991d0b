"""Without its library an adapter says which extra brings it; the tools for TRL need none."""

from __future__ import annotations

import sys

import pytest

import wrappers.interfaces
from nextstep_envs.errors import MissingExtraError


@pytest.mark.parametrize(
    ("name", "library", "extra"),
    [("verifiers_env", "verifiers.v1", "verifiers"), ("openenv_app", "openenv.core.env_server", "openenv")],
)
def test_the_extra_is_named(name: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, f"wrappers.interfaces.{extra}", raising=False)
    monkeypatch.setitem(sys.modules, library.partition(".")[0], None)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=rf"wrappers.interfaces.{extra} needs .*nextstep-envs\[{extra}\]"):
        getattr(wrappers.interfaces, name)


def test_the_tools_for_trl_need_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    monkeypatch.setitem(sys.modules, "transformers", None)
    environment = wrappers.interfaces.trl_environment("NextStep/WebShop-Workflow-v0")()
    assert environment.reset(**wrappers.interfaces.task_rows("NextStep/WebShop-Workflow-v0", 1)[0])
