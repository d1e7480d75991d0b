"""The DAG protocol: nodes are drafted one by one or as a whole, then run as soon as what they depend on has ended."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nextstep_envs.episode import Decision, Episode, State
from nextstep_envs.errors import ConfigError
from nextstep_envs.execution import Call
from nextstep_envs.ledger import cost_terms, divide
from nextstep_envs.protocols import replanning
from nextstep_envs.protocols.base import BaseProtocol, Mask
from nextstep_envs.protocols.dag_plan import Node, Situation, add_nodes, read_dag
from nextstep_envs.protocols.features import Features
from nextstep_envs.protocols.grid import Grid
from nextstep_envs.protocols.parsing import parse_json
from nextstep_envs.protocols.templates import TEMPLATES
from nextstep_envs.requests import Actor
from nextstep_envs.types import Budget, Step, StepRecord
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.worlds.base import World

CONTEXTS = ("none", "last", "all")
FORMAT = (
    'Answer in JSON. A node {{"subtask": "...", "agent": "...", "depends_on": ["0"]}} is drafted, {{"run": true}} runs '
    'the draft, {{"dag": [node, ...]}} runs a whole DAG and ends, {{"finish": true}} ends. '
    'A node may also have an "id" (else its position is its name), a "cost" and "expects", texts that the world should '
    'show after it. Steps that have ended are called "step 0". "{{task}}" in a subtask stands for the task. '
    "An agent sees its subtask and the outputs of the nodes that its node depends on, and works where the last of them "
    "left the world; the world after the last node counts. What is left of the budget is divided among the nodes of a "
    "run, in proportion to their costs if all declare one. "
    "At most {max_nodes} nodes in a DAG, {max_parallel} at a time.{limit}"
)


class DagProtocol(BaseProtocol):
    """Rules of DAG: nodes start the moment the nodes they depend on have ended, several at a time.

    ## Action space
    `interface="vector"`: `(worker * n_templates + template) * 3 + context` adds a node to the draft, then comes *run*,
    then *finish*. Context none: a root; last: it depends on the node before it; all: on every node before it, ended
    steps included (steps that were cut short are passed over). Drafting runs nothing, costs nothing and uses no step.

    `interface="text"`: JSON. `{"subtask", "agent", "depends_on", "cost"?, "expects"?, "id"?}`, also as `{"node": ...}`,
    drafts a node; `{"run": true}` runs the draft; `{"finish": true}` ends, and a draft is dropped;
    `{"dag": [node, ...]}` runs a whole DAG in place of any draft and ends. A whole DAG may also have the form of
    WebArena MAS: `{"dag": {"nodes": [{"id", "task", "description", "estimated_cost"}], "edges": [[from, to]],
    "agent_assignments": {id: agent}, "parallel_groups": [[id, id]], "estimated_total_cost"}}`; other fields are
    ignored. `depends_on` names nodes of the same draft or DAG by id (by default the position, from 0), ended steps as
    `"step 3"`, or `"last"` or `"all"`. `{task}` in a subtask stands for the task.

    A plan has at most `max_nodes` nodes, no cycle, a source and a sink, known agents, independent parallel groups,
    and no more nodes than steps are left. Declared costs are in units of the main cost, the first of `cost_limits`:
    each > 0, their sum at most what is left of the limit, none above half of it. Otherwise the action is invalid:
    nothing runs, one step is used, all errors are told at once. A draft survives it as far as steps are left.

    ## A run
    A node sees the outputs of the nodes it depends on, and acts on a copy of the world as the highest-numbered of
    them left it; the outcome is that of the highest-numbered finished node. What is left of the budget is divided
    among the nodes of a run, equally, or by declared cost if every node declares one (and a call each while there are
    enough); what a node does not use returns after the run. A node that exhausts its share is cut short, the others
    go on, and so does the episode: of the budgets only steps end it. Nodes that did not start use no step.

    ## Replanning
    After a run, control goes back to the orchestrator, even from a whole DAG, if a trigger fires and something is left
    to decide: *failed* (a node was cut short or reports a failure), *unexpected* (more than half of what a node
    `expects` the world to show is missing), *unsure* (a confidence below 0.5), *slow* (more than 50% of the cost limit
    spent with less than 30% of the nodes done), *over* (more than 105% of the cost limit spent), *stalled* (2 of the
    last 3 nodes failed, or none of the last 5 brought anything new). During a run, nothing that depends on a node that
    has failed, ended unexpectedly or unsure starts; other branches go on. Finished nodes are kept and can be built on.
    This happens at most `max_replans` times, drafts that were run included; then nothing interrupts any more.
    `info["interrupted"]` gives the reason: kinds, a colon, details.

    ## Observation space
    Vector: task, pool, budgets and steps as in Workflow, then the triggers that fired (`trigger.*`), `left.replans`,
    `left.cost_limit`, `draft.size`; for each step `failed`, `unsure` and `unexpected`; for each place of the draft
    worker, template, and how it depends on others. Text: the next message, with the draft, replans and cost limit.

    Args:
        pool: every worker there is, in slot order.
        budget: of one episode; 10 steps by default.
        cost_limits: per episode, in raw units, by cost name; the first is the main cost. Without any, nothing is too
            dear, and declared costs only divide the budget.
        max_nodes: nodes of one plan.
        max_parallel: nodes at work at once.
        max_replans: how often a trigger may interrupt.
        triggers: thresholds to change, by name (`replanning.Triggers`).
    """

    name = "dag"
    default_budget = Budget(steps=10)
    _world: World

    def __init__(
        self,
        pool: tuple[WorkerSpec, ...],
        budget: Budget,
        cost_limits: Mapping[str, float],
        max_nodes: int = 10,
        max_parallel: int = 4,
        max_replans: int = 3,
        triggers: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(pool, budget, cost_limits)
        for name, value, least in (
            ("max_nodes", max_nodes, 1),
            ("max_parallel", max_parallel, 1),
            ("max_replans", max_replans, 0),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"{name}={value!r} must be a whole number >= {least}")
        self.max_nodes, self.max_parallel, self.max_replans = max_nodes, max_parallel, max_replans
        self.triggers = replanning.make_triggers(triggers)
        self.main_cost, self.cost_limit = next(iter(cost_limits.items()), ("mix", math.inf))
        self.grid = Grid(pool, len(CONTEXTS))
        self.n_actions = self.grid.size + 2
        self._templates = {template.text: i for i, template in enumerate(TEMPLATES)}
        self.features = Features(pool, budget, own_names=self._own_names(), own=self._own)

    def episode(self, world: World, workers: Mapping[str, Actor]) -> Episode:
        """An episode under these rules, waiting for its first reset."""
        self._world = world
        return super().episode(world, workers)

    # -- what an action means ------------------------------------------------------------------------------------

    def decode(self, state: State, action: Any) -> Decision:
        """What a vector index or a JSON text means; what makes no sense is an invalid action."""
        decision = self._read(state, action) if isinstance(action, str) else self._choose(state, int(action))
        if decision.invalid and state.draft:
            # The invalid action uses a step, and the draft must not need more steps than are left.
            return replace(decision, draft=state.draft[: max(self._steps_left(state) - 1, 0)] or None)
        return decision

    def _choose(self, state: State, action: int) -> Decision:
        if not 0 <= action < self.n_actions:
            return Decision(invalid=f"action {action} is outside 0..{self.n_actions - 1}")
        if action == self.n_actions - 1:
            return Decision(finish=True)
        if action == self.n_actions - 2:
            return self._run(state, state.draft or (), finish=False)
        worker_id, template, context = self.grid.choice(action)
        depends = [] if context == 0 else [CONTEXTS[context]]
        entry = {"subtask": template.text, "agent": worker_id, "depends_on": depends, "expects": template.expects}
        return self._draft(state, entry)

    def _read(self, state: State, text: str) -> Decision:
        value = parse_json(text)
        if not isinstance(value, Mapping):
            return Decision(invalid="no JSON object was found")
        if "dag" in value:
            nodes = read_dag(value["dag"], self._situation(state))
            return Decision(invalid=nodes) if isinstance(nodes, str) else self._run(state, nodes, finish=True)
        if value.get("finish") is True:
            return Decision(finish=True)
        if value.get("run") is True:
            return self._run(state, state.draft or (), finish=False)
        return self._draft(state, value.get("node", value))

    def _draft(self, state: State, entry: Any) -> Decision:
        nodes = add_nodes(state.draft or (), [entry], self._situation(state))
        return Decision(invalid=nodes) if isinstance(nodes, str) else Decision(draft=nodes)

    def _run(self, state: State, nodes: tuple[Node, ...], finish: bool) -> Decision:
        """The nodes as steps, each with its share of what is left."""
        if not nodes:
            return Decision(invalid="there is no node to run")
        costs = [node.cost for node in nodes if node.cost is not None]
        weights = costs if len(costs) == len(nodes) else [1.0] * len(nodes)
        shares = divide(self.total.minus(state.spent), weights)
        steps = tuple(replace(node.step, allowance=share) for node, share in zip(nodes, shares, strict=True))
        return Decision(steps, finish)

    def _situation(self, state: State) -> Situation:
        ended = [(i, call) for i, call in state.calls.items() if call.record]
        return Situation(
            prompt=state.task.prompt,
            agents=tuple(spec.worker_id for spec in state.pool),
            whole=tuple(i for i, call in ended if not _error(call)),
            cut_short=frozenset(i for i, call in ended if _error(call)),
            final=frozenset(i for i, call in ended if self._world.done(call.world)),
            first=max(state.calls, default=-1) + 1,
            steps_left=self._steps_left(state),
            max_nodes=self.max_nodes,
            cost_left=self.cost_limit - self._cost(state),
        )

    # -- replanning ----------------------------------------------------------------------------------------------

    def may_start(self, state: State, step: Step) -> bool:
        """Whether a step may start: not after a step of this run that fires a trigger, while replans are left."""
        if state.interrupts >= self.max_replans:
            return True
        # What an earlier run brought is known to the orchestrator. Steps further up have let these start.
        return not any(self._findings(state.calls[j]) for j in step.after if j not in state.told)

    def interrupt(self, state: State, fresh: Sequence[StepRecord]) -> str:
        """The triggers that have fired, while replans are left; see `replanning.reason`."""
        if state.interrupts >= self.max_replans:
            return ""
        cost, decided = self._cost(state), len(state.steps)
        plan = replanning.plan_findings(state.records(), decided, cost, self.cost_limit, self.triggers)
        return replanning.reason([*(self._findings(state.calls[r.step.index]) for r in fresh), plan])

    def _findings(self, call: Call) -> replanning.Findings:
        if call.record is None:
            return {}
        view = call.tools[-1].observation if call.tools else call.job.view
        return replanning.node_findings(call.record, view, self.triggers)

    def _cost(self, state: State) -> float:
        return cost_terms(state.spent, self.budget)[self.main_cost]

    def _steps_left(self, state: State) -> int:
        return max(self.budget.steps - state.steps_used(), 0)

    # -- what the orchestrator sees ------------------------------------------------------------------------------

    def mask(self, state: State) -> Mask:
        """int8 [n_actions].

        A node: while the plan and the steps have room for it, the worker is present, the context exists and its
        share of the budget would allow a call. Run: with a draft. Finish: always.
        """
        drafted = len(state.draft or ())
        room = not state.end and drafted < min(self.max_nodes, self._steps_left(state))
        earlier = drafted + sum(not _error(call) for call in state.calls.values())
        contexts = min(earlier, 2) + 1 if room else 0
        share = self.total.minus(state.spent).split(drafted + 1)
        return self.grid.mask(state, share, contexts, (drafted > 0 and not state.end, True))

    def format_text(self) -> str:
        """How to answer, for the first message."""
        limit = (
            "" if math.isinf(self.cost_limit) else f" Cost limit of an episode: {self.cost_limit:g} {self.main_cost}."
        )
        return FORMAT.format(max_nodes=self.max_nodes, max_parallel=self.max_parallel, limit=limit)

    def status_text(self, state: State) -> Sequence[str]:
        """The draft, what is left of the cost limit and of the replans."""
        draft = state.draft or ()
        lines = [f"Draft: {'; '.join(_drafted(node, draft) for node in draft)}."] if draft else []
        if not math.isinf(self.cost_limit):
            left = self.cost_limit - self._cost(state)
            lines.append(f"Left of the cost limit: {left:.3g} {self.main_cost}.")
        return [*lines, f"Replans left: {max(self.max_replans - state.interrupts, 0)}."]

    def _own_names(self) -> tuple[str, ...]:
        place = (*(f"worker.{w}" for w in self.slots), *(f"template.{t.name}" for t in TEMPLATES))
        return (
            *(f"trigger.{kind}" for kind in replanning.KINDS),
            *("left.replans", "left.cost_limit", "draft.size"),
            *(f"step[{i}].{kind}" for i in range(self.budget.steps) for kind in replanning.NODE_KINDS),
            *(f"draft[{i}].{n}" for i in range(self.max_nodes) for n in (*place, "after_last", "after_share")),
        )

    def _own(self, state: State) -> Sequence[float]:
        """The values behind `_own_names`."""
        fired = replanning.kinds_of(state.interrupted)
        draft = state.draft or ()
        limited = not math.isinf(self.cost_limit)
        values: list[float] = [
            *(kind in fired for kind in replanning.KINDS),
            1 - state.interrupts / self.max_replans if self.max_replans else 0.0,
            max(1 - self._cost(state) / self.cost_limit, -1.0) if limited else 1.0,
            len(draft) / self.max_nodes,
        ]
        for call in state.calls.values():
            found = self._findings(call)
            values += [kind in found for kind in replanning.NODE_KINDS]
        values += [0.0] * ((self.budget.steps - len(state.calls)) * len(replanning.NODE_KINDS))
        slots, templates = len(self.slots), len(self._templates)
        for node in draft:
            step = node.step
            block = [0.0] * (slots + templates + 2)
            block[self.slots[step.worker_id]] = 1.0
            if (template := self._template(state, step)) is not None:
                block[slots + template] = 1.0
            block[-2:] = [float(step.index - 1 in step.after), len(step.after) / step.index if step.index else 0.0]
            values += block
        return values + [0.0] * ((self.max_nodes - len(draft)) * (slots + templates + 2))

    def _template(self, state: State, step: Step) -> int | None:
        """Which template a drafted node was made from, if any."""
        prompt = state.task.prompt
        return next((i for text, i in self._templates.items() if text.replace("{task}", prompt) == step.subtask), None)


def _error(call: Call) -> str:
    return call.record.error if call.record else ""


def _drafted(node: Node, draft: Sequence[Node]) -> str:
    """A drafted node in the words of an action."""
    names = {other.step.index: other.label for other in draft}
    after = ", ".join(names.get(i, f"step {i}") for i in node.step.after)
    return f"{node.label} by {node.step.worker_id}" + (f" after {after}" if after else "")
