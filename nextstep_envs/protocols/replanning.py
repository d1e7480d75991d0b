"""When a running plan goes back to the orchestrator: six triggers as pure functions (WebArena MAS, section 5.2).

Three look at one node and hold back what depends on it; three look at the whole episode after a run:

- failed: a node was cut short, or its worker says that it did not succeed;
- unexpected: more than half of what a node should bring about is missing from what the world shows after it;
- unsure: a worker states a confidence below 0.5;
- slow: more than 50% of the cost limit is spent with less than 30% of the decided nodes done;
- over: more than 105% of the cost limit is spent;
- stalled: 2 of the last 3 nodes failed, or none of the last 5 wrote anything new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from nextstep_envs.errors import ConfigError, check_choice
from nextstep_envs.types import StepRecord

NODE_KINDS = ("failed", "unexpected", "unsure")
KINDS = (*NODE_KINDS, "slow", "over", "stalled")
Findings = Mapping[str, str]
"""What has fired: kind -> details in words."""


@dataclass(frozen=True, slots=True)
class Triggers:
    """Thresholds.

    Attributes:
        missing: a node's end is unexpected if more than this share of its expectations is missing.
        confidence: a worker is unsure below this.
        slow_cost, slow_progress: too slow if more than this share of the cost limit is spent with less than this share
            of the decided nodes done.
        over_cost: too dear above this share of the cost limit.
        failures, window: stalled if so many of the last so many nodes failed.
        idle: stalled if none of so many last nodes ended well with an output that was not seen before.
    """

    missing: float = 0.5
    confidence: float = 0.5
    slow_cost: float = 0.5
    slow_progress: float = 0.3
    over_cost: float = 1.05
    failures: int = 2
    window: int = 3
    idle: int = 5


def make_triggers(changes: Mapping[str, Any] | None) -> Triggers:
    """The default thresholds with some changed.

    Raises:
        ConfigError: an unknown name, or a value that is not a number >= 0 (for counts: a whole number >= 1).
    """
    counts = {f.name for f in fields(Triggers) if isinstance(f.default, int)}
    for key, value in (changes or {}).items():
        check_choice("triggers entry", key, [f.name for f in fields(Triggers)])
        whole = isinstance(value, int) and not isinstance(value, bool)
        if key in counts and not (whole and value >= 1):
            raise ConfigError(f"triggers[{key!r}]={value!r} must be a whole number >= 1")
        if key not in counts and not ((whole or isinstance(value, float)) and value >= 0):
            raise ConfigError(f"triggers[{key!r}]={value!r} must be a number >= 0")
    return Triggers(**(changes or {}))


def node_findings(record: StepRecord, view: str, triggers: Triggers) -> Findings:
    """What one ended node gives reason to replan for.

    Args:
        record: of the node.
        view: what the world showed after it.
        triggers: thresholds.
    """
    found = {}
    name = f"step {record.step.index}"
    if record.error:
        found["failed"] = f"{name} was cut short ({record.error})"
    elif record.failed:
        found["failed"] = f"{name} reports a failure"
    if absent := missing(record.step.expects, view, triggers.missing):
        found["unexpected"] = f"after {name} the world does not show {', '.join(map(repr, absent))}"
    if record.confidence is not None and record.confidence < triggers.confidence:
        found["unsure"] = f"{name} has confidence {record.confidence:.2f}"
    return found


def plan_findings(
    records: Sequence[StepRecord], decided: int, cost: float, limit: float, triggers: Triggers
) -> Findings:
    """What the episode so far gives reason to replan for.

    Args:
        records: of all nodes that have ended, by index.
        decided: number of nodes decided, ended or not.
        cost: of the episode so far. limit: on it; infinite where there is none.
        triggers: thresholds.
    """
    found = {}
    share = cost / limit
    progress = sum(map(ended_well, records)) / decided if decided else 1.0
    if share > triggers.slow_cost and progress < triggers.slow_progress:
        found["slow"] = f"{share:.0%} of the cost limit spent with {progress:.0%} of the nodes done"
    if share > triggers.over_cost:
        found["over"] = f"{share:.0%} of the cost limit spent"
    last = records[-triggers.window :]
    failures = len(last) - sum(map(ended_well, last))
    if failures >= triggers.failures:
        found["stalled"] = f"{failures} of the last {len(last)} nodes failed"
    elif idle(records, triggers.idle):
        found["stalled"] = f"none of the last {triggers.idle} nodes brought anything new"
    return found


def missing(expects: Sequence[str], view: str, share: float) -> tuple[str, ...]:
    """The expected texts that `view` lacks, whatever their case, if they are more than `share` of all; else ()."""
    shown = view.casefold()
    absent = tuple(text for text in expects if text.casefold() not in shown)
    return absent if len(absent) > share * len(expects) else ()


def idle(records: Sequence[StepRecord], n: int) -> bool:
    """Whether none of the last `n` nodes ended well with an output that no node had written before it."""
    if len(records) < n:
        return False
    seen: set[str] = set()
    news = []
    for record in records:
        news.append(ended_well(record) and record.output not in seen)
        seen.add(record.output)
    return not any(news[-n:])


def ended_well(record: StepRecord) -> bool:
    """Whether a node was neither cut short nor failed by its worker's own word."""
    return not (record.error or record.failed)


def reason(findings: Sequence[Findings]) -> str:
    """One text for all that has fired: the kinds, a colon, the details; "" for nothing."""
    kinds = [kind for kind in KINDS if any(kind in found for found in findings)]
    details = [detail for found in findings for detail in found.values()]
    return f"{', '.join(kinds)}: {'; '.join(details)}" if kinds else ""


def kinds_of(text: str) -> tuple[str, ...]:
    """The kinds that a `reason` begins with."""
    return tuple(text.partition(":")[0].split(", ")) if text else ()
