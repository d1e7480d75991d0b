"""A pipeline as a state machine: one frozen state, and pure functions of it that both PettingZoo forms share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from nextstep_envs.execution import BUDGET
from nextstep_envs.ledger import estimate_tokens, total_allowance
from nextstep_envs.multiagent.shop_menu import ShopMenu, Slot
from nextstep_envs.multiagent.workflows import ANSWER, INVALID, REFUSED, NextTurn, Role, Taken, Turn
from nextstep_envs.protocols.base import Mask
from nextstep_envs.protocols.messages import amounts
from nextstep_envs.protocols.parsing import parse_json
from nextstep_envs.seeding import stream
from nextstep_envs.types import Budget, Outcome, Step, StepRecord, Task, ToolCall, Usage
from nextstep_envs.worlds.base import World

WAIT, HAND_OVER, FIRST_SLOT = 0, 1, 2
_QUOTED = 120  # characters of a refused call in a message


@dataclass(frozen=True, slots=True)
class PipelineState:
    """A whole episode.

    Attributes:
        task: what reset fixed.
        world: the world now.
        sample: which attempt this is; the roles are the policies, so an attempt has no chance of its own.
        turn: the turn to be taken; at the end the last one.
        reading: estimated tokens of the message that its agent reads.
        taken: turns taken.
        handed: for each role that has ended its part, the number of its last turn and what it handed over.
        spent: usage so far.
        end: why the episode is over ("finish", "done", "budget: tokens"), or "".
    """

    task: Task
    world: Any
    sample: int
    turn: Turn
    reading: int = 0
    taken: tuple[Taken, ...] = ()
    handed: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    spent: Usage = Usage()
    end: str = ""

    def last_of(self, agent: str) -> int | None:
        """The number of an agent's last turn, or None."""
        return next((i for i in range(len(self.taken) - 1, -1, -1) if self.taken[i].agent == agent), None)


class PipelineRules:
    """What actions mean and what each role sees.

    A vector action is an index: wait, hand over, then the menu's slots. A text action is JSON, `{"action": "a call"}`
    or `{"answer": "what is handed over"}`. Anything else is invalid: it runs nothing and uses the turn.

    Args:
        world: where the pipeline works.
        menu: that world's calls.
        roles: who can act.
        workflow: who acts next.
        budget: of one episode; a turn is a step and a call.
    """

    def __init__(self, world: World, menu: ShopMenu, roles: Sequence[Role], workflow: NextTurn, budget: Budget) -> None:
        self.world, self.menu, self.workflow, self.budget = world, menu, workflow, budget
        self.roles = {role.agent: role for role in roles}
        self.total = total_allowance(budget)
        self.n_actions = FIRST_SLOT + len(menu.slot_names)
        self._slots = lru_cache(maxsize=1 << 10)(menu.slots)

    # -- what happens --------------------------------------------------------------------------------------------

    def begin(self, task_id: str, seed: int, sample: int) -> PipelineState:
        """The start of an episode."""
        turn = self.workflow(())
        assert turn is not None  # make_workflow has checked it
        task = self.world.task(task_id)
        state = PipelineState(task, self.world.begin(task, stream(seed, "world")), sample, turn)
        return replace(state, reading=estimate_tokens(self.message(state, turn.agent)))

    def act(self, state: PipelineState, action: int | str) -> PipelineState:
        """The state after the agent whose turn it is has acted."""
        if state.end:
            raise RuntimeError(f"the episode is over ({state.end}); call reset first")
        act, text, wrote = self._decode(state, action)
        calls = act not in (ANSWER, INVALID)
        usage = Usage(state.reading, estimate_tokens(wrote), 1, int(calls))
        lack = self.total.minus(state.spent).lacks(usage)
        world, view = state.world, ""
        if lack:
            act, text, usage = REFUSED, lack, Usage()
        elif calls:
            world, view = self.world.act(world, text)
        seen = [state.handed[agent] for agent in state.turn.sees if agent in state.handed]
        reads, context = tuple(i for i, _ in seen), tuple(words for _, words in seen)
        taken = (*state.taken, Taken(state.turn, act, text, wrote, view, context, reads, usage))
        return self._go_on(replace(state, world=world, taken=taken, spent=state.spent.plus(usage)))

    def _go_on(self, state: PipelineState) -> PipelineState:
        """Whose turn is next, or why there is none."""
        last = state.taken[-1]
        turn = None
        if last.act == REFUSED:
            end = BUDGET + last.text
        elif self.world.done(state.world):
            end = "done"
        else:
            turn = self.workflow(state.taken)
            end = "" if turn else "finish"
        if turn is None or turn.agent != last.agent or last.act == ANSWER:
            # A role that did not hand over in words leaves a note on what it left open.
            words = last.text if last.act == ANSWER else self.menu.report(state.world)
            state = replace(state, handed={**state.handed, last.agent: (len(state.taken) - 1, words)})
        return replace(state, end=end) if turn is None else self._read(replace(state, turn=turn))

    def _read(self, state: PipelineState) -> PipelineState:
        """Let the next agent read its message; the episode ends where the budget does not allow that."""
        reading = estimate_tokens(self.message(state, state.turn.agent))
        lack = self.total.minus(state.spent).lacks(Usage(reading, calls=1))
        if len(state.taken) >= self.budget.steps:
            lack = "steps"
        return replace(state, reading=reading, end=BUDGET + lack if lack else "")

    def _decode(self, state: PipelineState, action: int | str) -> tuple[str, str, str]:
        """Kind of the act; the call, the answer or what is wrong; the action as written."""
        if isinstance(action, str):
            value = parse_json(action)
            if isinstance(value, Mapping) and isinstance(value.get("answer"), str):
                return ANSWER, value["answer"], action
            if isinstance(value, Mapping) and isinstance(value.get("action"), str):
                return self._call(state, value["action"], action)
            return INVALID, 'no JSON object with an "action" or an "answer" was found', action
        if action == HAND_OVER:
            words = self.menu.report(state.world)
            return ANSWER, words, json.dumps({"answer": words})
        if action == WAIT:
            return INVALID, "it is your turn, so you cannot wait", ""
        if not 0 <= action < self.n_actions:
            return INVALID, f"action {action} is outside 0..{self.n_actions - 1}", ""
        slot = self.slots(state)[action - FIRST_SLOT]
        if slot is None:
            return INVALID, f"{self.menu.slot_names[action - FIRST_SLOT]} is empty on this page", ""
        return self._call(state, slot.call, json.dumps({"action": slot.call}))

    def _call(self, state: PipelineState, call: str, wrote: str) -> tuple[str, str, str]:
        kind = self.menu.kind(state.world, call)
        if not kind:
            return INVALID, f"{call[:_QUOTED]!r} does nothing on this page", wrote
        if kind not in state.turn.calls:
            agent = state.turn.agent
            return INVALID, f"{call[:_QUOTED]!r} is a call of the kind {kind}, which {agent} may not make", wrote
        return kind, call, wrote

    # -- what it brought -----------------------------------------------------------------------------------------

    def outcome(self, state: PipelineState) -> Outcome:
        """Ground truth about the end."""
        return self.world.outcome(state.task, state.world)

    def record(self, state: PipelineState, index: int) -> StepRecord:
        """A turn as reward wrappers read it: the role's prompt, what it saw, wrote and did."""
        turn = state.taken[index]
        step = Step(
            index,
            state.task.prompt if turn.turn.sees_task else "",
            turn.agent,
            (index - 1,) if index else (),
            turn.reads,
            agent=turn.agent,
            role=self.roles[turn.agent].prompt,
        )
        called = turn.act not in (ANSWER, INVALID, REFUSED)
        return StepRecord(
            step,
            turn.context,
            turn.text if turn.act == ANSWER else turn.wrote,
            (ToolCall(turn.text, turn.view),) if called else (),
            turn.usage,
            error=BUDGET + turn.text if turn.act == REFUSED else "",
            failed=turn.act == INVALID,
        )

    # -- what a role sees ----------------------------------------------------------------------------------------

    def texts(self, state: PipelineState) -> tuple[str, ...]:
        """All that the agent whose turn it is may know besides the open page: the task, then hand-overs."""
        handed = (state.handed[agent][1] for agent in state.turn.sees if agent in state.handed)
        return (state.task.prompt, *handed) if state.turn.sees_task else tuple(handed)

    def slots(self, state: PipelineState) -> Sequence[Slot | None]:
        """The menu of the agent whose turn it is."""
        return self._slots(state.world, self.texts(state))

    def mask(self, state: PipelineState, agent: str) -> Mask:
        """int8 [n_actions]. Whose turn it is may hand over and make the calls that page and role allow; others wait."""
        mask = np.zeros(self.n_actions, np.int8)
        if state.end or agent != state.turn.agent:
            mask[WAIT] = 1
            return mask
        mask[HAND_OVER] = 1
        if state.spent.env_steps < self.budget.env_steps:
            allowed = state.turn.calls
            for at, (slot, kind) in enumerate(zip(self.slots(state), self.menu.slot_kinds, strict=True), FIRST_SLOT):
                mask[at] = slot is not None and kind in allowed
        return mask

    def message(self, state: PipelineState, agent: str) -> str:
        """The next message of an agent's conversation; whose turn it is not learns only that."""
        if state.end:
            return f"The episode is over ({state.end})."
        turn = state.turn
        if agent != turn.agent:
            return f"It is {turn.agent}'s turn: wait."
        last = state.taken[-1] if state.taken else None
        goes_on = last is not None and last.act != ANSWER and replace(last.turn, left=turn.left) == turn
        lines = [] if goes_on else self._opening(state)
        if last is not None and last.act == INVALID and last.agent == agent:
            lines.append(f"Invalid action, nothing was run: {last.text}.")
        lines += ["The world shows:", self.world.view(state.world).rstrip("\n")]
        left = amounts(self.budget.steps - len(state.taken), self.total.minus(state.spent))
        return "\n".join([*lines, f"Your turns left: {turn.left}. Left for all: {left}", ""])

    def _opening(self, state: PipelineState) -> list[str]:
        turn = state.turn
        lines = [f"You are {turn.agent}. {self.roles[turn.agent].prompt}"]
        if turn.sees_task:
            lines.append(f"Task: {state.task.prompt}")
        lines += [f"From {agent}: {state.handed[agent][1]}" for agent in turn.sees if agent in state.handed]
        calls = "; ".join(f"{kind}: {self.menu.kinds[kind]}" for kind in turn.calls) or "none"
        lines.append(f"Your calls in the world: {calls}.")
        lines.append('Answer in JSON: {"action": "a call"}, or {"answer": "your note to the next role"} to hand over.')
        return lines

    def transcript(self, state: PipelineState) -> str:
        """The whole episode as text."""
        lines = [f"Task: {state.task.prompt}"]
        for taken in state.taken:
            lines.append(f"{taken.agent} {taken.act}: {taken.text}")
            if taken.view:
                lines.append("  " + taken.view.rstrip("\n").replace("\n", "\n  "))
        lines.append(f"The episode is over ({state.end})." if state.end else f"Next: {state.turn.agent}.")
        return "\n".join(lines)
