"""Dataclasses changed by plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from nextstep_agents.overrides import changed
from nextstep_envs.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    """A group of settings."""

    size: int = 1
    sizes: tuple[int, ...] = (1,)
    free: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outer:
    """Settings with groups, one of them optional."""

    name: str = "a"
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None


def test_groups_take_mappings_and_keep_their_other_fields() -> None:
    found = changed(Outer(inner=Inner(size=5)), {"name": "b", "inner": {"sizes": [2, 3]}})
    assert found == Outer("b", Inner(5, (2, 3)))
    assert changed(Outer(), {"inner": Inner(7)}).inner.size == 7


def test_an_optional_group_begins_with_its_defaults() -> None:
    assert changed(Outer(), {"maybe": {"size": 3}}).maybe == Inner(3)
    assert changed(Outer(maybe=Inner(4)), {"maybe": {"sizes": [9]}}).maybe == Inner(4, (9,))
    assert changed(Outer(maybe=Inner(4)), {"maybe": None}).maybe is None


def test_a_free_mapping_is_taken_as_it_is() -> None:
    assert changed(Outer(), {"inner": {"free": {"anything": 1}}}).inner.free == {"anything": 1}


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"nam": 1}, "setting nam='nam'.*'name', 'inner', 'maybe'"),
        ({"inner": {"siz": 1}}, "setting inner.siz='siz'.*'size'"),
        ({"maybe": {"siz": 1}}, "setting maybe.siz='siz'.*'size'"),
    ],
)
def test_an_unknown_field_is_named_with_its_group(given: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        changed(Outer(), given)
