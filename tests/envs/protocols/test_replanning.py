"""Each replanning trigger fires just beyond its threshold and not at it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from nextstep_envs.errors import ConfigError
from nextstep_envs.protocols import replanning
from nextstep_envs.protocols.replanning import Triggers, node_findings, plan_findings
from nextstep_envs.types import Step, StepRecord, Usage

DEFAULT = Triggers()


def record(index: int = 0, output: str | None = None, expects: tuple[str, ...] = (), **kwargs: Any) -> StepRecord:
    step = Step(index, "do", "a", expects=expects)
    return StepRecord(step, (), f"out{index}" if output is None else output, (), Usage(), **kwargs)


def node(record: StepRecord, view: str = "", triggers: Triggers = DEFAULT) -> list[str]:
    return list(node_findings(record, view, triggers))


def plan(records: list[StepRecord], decided: int, cost: float = 0.0, limit: float = 100.0) -> list[str]:
    return list(plan_findings(records, decided, cost, limit, DEFAULT))


def test_failed_fires_on_an_error_and_on_a_workers_own_word() -> None:
    assert node(record()) == []
    assert node(record(failed=True)) == ["failed"]
    assert node(record(error="budget: tokens")) == ["failed"]
    assert "budget: tokens" in node_findings(record(error="budget: tokens"), "", DEFAULT)["failed"]


def test_unexpected_fires_when_more_than_half_is_missing() -> None:
    four = record(expects=("Red", "green", "blue", "grey"))
    assert node(four, "RED and GREEN") == []
    assert node(four, "only red") == ["unexpected"]
    assert "'green', 'blue', 'grey'" in node_findings(four, "only red", DEFAULT)["unexpected"]
    assert node(record(expects=("x",)), "") == ["unexpected"] and node(record(), "") == []
    assert node(four, "only red", Triggers(missing=0.75)) == []


def test_unsure_fires_below_one_half_and_never_without_a_statement() -> None:
    assert node(record(confidence=0.5)) == [] and node(record(confidence=None)) == []
    assert node(record(confidence=0.49)) == ["unsure"] and node(record(confidence=0.0)) == ["unsure"]
    assert node(record(confidence=0.6), triggers=Triggers(confidence=0.7)) == ["unsure"]


def test_slow_needs_more_than_half_the_cost_and_less_than_a_third_done() -> None:
    done = [record(i) for i in range(3)]
    assert plan(done, decided=10, cost=51) == []  # 30% done
    assert plan(done, decided=11, cost=51) == ["slow"]
    assert plan(done, decided=11, cost=50) == []
    assert plan(done, decided=11, cost=51, limit=math.inf) == []
    assert plan([*done, record(3, failed=True)], decided=11, cost=51) == ["slow"]  # a failure is no progress


def test_over_fires_above_105_percent() -> None:
    done = [record(i) for i in range(2)]
    assert plan(done, decided=2, cost=105) == [] and plan(done, decided=2, cost=106) == ["over"]
    assert plan(done, decided=2, cost=1e9, limit=math.inf) == []


def test_stalled_fires_on_two_failures_among_the_last_three() -> None:
    good, bad = (lambda i: record(i)), (lambda i: record(i, failed=True))
    assert plan([bad(0), good(1), bad(2)], 3) == ["stalled"]
    assert plan([bad(0), bad(1), good(2)], 3) == ["stalled"]
    assert plan([bad(0), good(1), good(2), bad(3)], 4) == []
    assert plan([bad(0)], 1) == [] and plan([bad(0), bad(1)], 2) == ["stalled"]


def test_stalled_fires_when_five_nodes_brought_nothing_new() -> None:
    first = [record(0, "a"), record(1, "b")]
    old = [record(i, "ab"[i % 2]) for i in range(2, 7)]
    assert plan([*first, *old[:4]], 6) == []
    assert plan([*first, *old], 7) == ["stalled"]
    assert plan([*first, *old[:3], record(5, "new"), old[4]], 7) == []
    lost = record(5, "new", failed=True)  # what a failure writes is not progress
    assert plan([*first, *old[:3], lost, old[4]], 7) == ["stalled"]
    assert plan([record(i, "same") for i in range(5)], 5) == []  # the first of them was new


def test_a_reason_begins_with_its_kinds_and_gives_every_detail() -> None:
    bad = record(2, failed=True, confidence=0.1)
    findings = [node_findings(bad, "", DEFAULT), plan_findings([bad], 1, 120.0, 100.0, DEFAULT)]
    text = replanning.reason(findings)
    assert replanning.kinds_of(text) == ("failed", "unsure", "slow", "over")
    assert "step 2 reports a failure" in text and "120% of the cost limit" in text and "0.10" in text
    assert replanning.reason([{}, {}]) == "" and replanning.kinds_of("") == ()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"confidense": 0.5}, "confidense.*'confidence'"),
        ({"confidence": "high"}, "high.*number >= 0"),
        ({"missing": -0.1}, "-0.1.*number >= 0"),
        ({"missing": math.nan}, "nan.*number >= 0"),
        ({"window": 0}, "0.*whole number >= 1"),
        ({"failures": 1.5}, "1.5.*whole number >= 1"),
        ({"idle": True}, "True.*whole number >= 1"),
    ],
)
def test_wrong_thresholds_are_named_with_the_fix(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        replanning.make_triggers(changes)


def test_thresholds_can_be_changed_one_by_one() -> None:
    assert replanning.make_triggers(None) == DEFAULT
    assert replanning.make_triggers({"idle": 3, "over_cost": 2}) == Triggers(idle=3, over_cost=2)
