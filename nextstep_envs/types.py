"""The data that flows through an episode. Everything here is frozen and picklable.

A `Task` is given to an orchestrator; each of its decisions adds `Step`s; a worker turns a step into a
`StepRecord`; one decision yields a `Transition`; the world judges the end as an `Outcome`. What was consumed on
the way is a `Usage`, and what may be consumed is a `Budget` (per episode) or an `Allowance` (per step).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

NANO = 1_000_000_000
UNLIMITED = 1 << 62


class Usage(NamedTuple):
    """What was consumed, in whole units, so that sums never depend on order. `usd_nano` is in 1e-9 USD."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0
    env_steps: int = 0
    usd_nano: int = 0
    flops: int = 0

    @property
    def tokens(self) -> int:
        """Prompt plus completion tokens."""
        return self[0] + self[1]

    def plus(self, other: Usage) -> Usage:
        """The sum, field by field."""
        a, b, c, d, e, f = self
        g, h, i, j, k, m = other
        return Usage(a + g, b + h, c + i, d + j, e + k, f + m)


class Allowance(NamedTuple):
    """The most one step may consume; `UNLIMITED` where there is no limit."""

    tokens: int = UNLIMITED
    calls: int = UNLIMITED
    env_steps: int = UNLIMITED
    usd_nano: int = UNLIMITED

    def lacks(self, usage: Usage) -> str:
        """The first resource of which `usage` needs more than is allowed; "" if all of it fits."""
        if usage[0] + usage[1] > self[0]:
            return "tokens"
        if usage.calls > self.calls:
            return "calls"
        if usage.env_steps > self.env_steps:
            return "env_steps"
        return "usd" if usage.usd_nano > self.usd_nano else ""

    def minus(self, usage: Usage) -> Allowance:
        """What is left after `usage`; unlimited stays unlimited."""
        spent = (usage[0] + usage[1], usage.calls, usage.env_steps, usage.usd_nano)
        return Allowance(*(a if a >= UNLIMITED else a - b for a, b in zip(self, spent, strict=True)))

    def split(self, n: int) -> Allowance:
        """One of `n` equal shares, rounded down."""
        return Allowance(*(a if a >= UNLIMITED else a // n for a in self))


@dataclass(frozen=True, slots=True)
class Task:
    """What an agent may know of a task; the answer stays in the world. `task_id` is unique in its world."""

    task_id: str
    prompt: str


@dataclass(frozen=True, slots=True)
class Step:
    """One piece of work given to a worker.

    Attributes:
        index: position in the episode, from 0.
        subtask: the instruction, with `{task}` already replaced.
        worker_id: who does it.
        after: indices of the steps that must end first; the world is taken from the highest of them.
        reads: indices of the steps whose outputs the worker sees.
        allowance: the most it may consume, set when the step was decided; None: all that is left when it starts.
        agent: the persona or role it is done as ("" where there are only workers).
        role: that persona's prompt, for the worker alone.
        expects: what the world should show after it, where the orchestrator says so.
    """

    index: int
    subtask: str
    worker_id: str
    after: tuple[int, ...] = ()
    reads: tuple[int, ...] = ()
    allowance: Allowance | None = None
    agent: str = ""
    role: str = ""
    expects: tuple[str, ...] = ()


class ToolCall(NamedTuple):
    """One action that a worker took, in the world or with another tool, and what was answered."""

    call: str
    observation: str


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What one finished step saw, did, wrote and consumed: the contract between environments and rewards.

    Immutable, so a deep copy is the record itself (libraries deep-copy every `info`).

    Attributes:
        step: what was asked.
        context: the outputs of earlier steps that the worker saw.
        output: what it wrote.
        tools: what it did in the world and with other tools, in order.
        usage: priced.
        error: why it was cut short ("budget: ...", "outage: ..."), or "".
        failed: whether the worker itself says that it did not succeed.
        confidence: its own, in [0, 1], where it states one.
        waste: billed by providers for attempts that failed and were tried again; priced, not charged to the budget.
        thinking: what it thought aloud, reply by reply; nobody else is shown it.
        reformats: how often it was asked again because a reply had the wrong form.
    """

    step: Step
    context: tuple[str, ...]
    output: str
    tools: tuple[ToolCall, ...]
    usage: Usage
    error: str = ""
    failed: bool = False
    confidence: float | None = None
    waste: Usage = Usage()
    thinking: tuple[str, ...] = ()
    reformats: int = 0

    def __copy__(self) -> StepRecord:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> StepRecord:
        return self


@dataclass(frozen=True, eq=False)
class Outcome(Mapping[str, Any]):
    """Ground truth about the end of an episode: a read-only mapping of `score`, `success` and `details`.

    Attributes:
        score: in [0, 1].
        success: whether the task counts as solved.
        details: the world's breakdown of the score; each entry is also a key of the mapping and an attribute.
    """

    score: float
    success: bool
    details: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        if key == "score":
            return self.score
        return self.success if key == "success" else self.details[key]

    def __iter__(self) -> Iterator[str]:
        return iter(("score", "success", *self.details))

    def __len__(self) -> int:
        return 2 + len(self.details)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "details":
            raise AttributeError(name)
        try:
            return self.details[name]
        except KeyError:
            raise AttributeError(f"Outcome has no {name!r}; it has {', '.join(self)}") from None

    def __deepcopy__(self, memo: dict[int, Any]) -> Outcome:
        return self


@dataclass(frozen=True, slots=True)
class Budget:
    """What one episode may consume (defaults of v0.1.0).

    Attributes:
        steps: workflow steps.
        env_steps: actions in the world.
        tokens: prompt plus completion tokens of all worker calls.
        calls: worker calls.
        call_tokens: completion tokens of one call.
        usd: US dollars, or None for no limit.
    """

    steps: int = 6
    env_steps: int = 80
    tokens: int = 6000
    calls: int = 12
    call_tokens: int = 512
    usd: float | None = None


class Transition(NamedTuple):
    """What one decision yielded.

    Attributes:
        records: the steps that ended in it, by index.
        extra: more entries for `info`, the protocol's own.
    """

    reward: float
    usage: Usage
    records: tuple[StepRecord, ...]
    terminated: bool
    truncated: bool
    outcome: Outcome | None = None
    budget_exhausted: str = ""
    error: str = ""
    extra: Mapping[str, Any] = {}
