"""The Routing protocol: one action activates the next agent, or terminates (Puppeteer, arXiv 2505.19591)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from nextstep_envs.episode import Decision, State
from nextstep_envs.errors import ConfigError
from nextstep_envs.ledger import estimate_tokens
from nextstep_envs.protocols.base import BaseProtocol, Mask, only_last
from nextstep_envs.protocols.features import Features
from nextstep_envs.protocols.parsing import parse_json
from nextstep_envs.types import Budget, Step
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.workers.personas import INSTRUCTIONS, TERMINATE, Persona, load_personas

FORMAT = (
    'Answer in JSON: {{"agent": "<name>"}} activates that agent{actions}; {{"agent": "{terminator}"}} ends. '
    "An agent sees the task and everything that was written before it."
)


@dataclass(frozen=True, slots=True)
class Activation:
    """One vector action: a persona doing one of its actions; `label` is its name, and the action if it has several."""

    label: str
    persona: Persona
    action: str


class RoutingProtocol(BaseProtocol):
    """Rules of Routing: one agent after the other, each seeing the task and all earlier outputs.

    Vector actions: one index for each (agent, action), in the order of the personas; the last index terminates. Text
    actions: JSON `{"agent": "<name>"}`, with `"action"` where an agent has several (its first by default);
    the terminator's name, or `{"finish": true}`, ends.

    An agent is a persona played by the worker that its `model_type` names; where that worker was not drawn into the
    episode's pool, the agent is masked out. Paths that fork are forks of the episode: `snapshot`, then
    `restore(s, sample=k)` for each path.

    Args:
        pool: every worker there is, in slot order.
        budget: of one episode.
        cost_limits: per episode, in raw units, by cost name.
        personas: path of a JSON lines file; None: the fourteen defaults.
        external_tools: False removes agents of type "tool".
    """

    name = "routing"

    def __init__(
        self,
        pool: tuple[WorkerSpec, ...],
        budget: Budget,
        cost_limits: Mapping[str, float],
        personas: str | None = None,
        external_tools: bool = True,
    ) -> None:
        super().__init__(pool, budget, cost_limits)
        loaded = load_personas(personas)
        self.activations = tuple(
            Activation(p.name if len(p.actions) == 1 else f"{p.name}:{action}", p, action)
            for p in loaded
            if external_tools or p.agent_type != "tool"
            for action in p.actions
            if action != TERMINATE
        )
        if not self.activations:
            raise ConfigError(f"personas={personas!r}, external_tools={external_tools}: only terminators are left")
        for activation in self.activations:
            if activation.persona.model_type not in self.slots:
                raise ConfigError(
                    f"persona {activation.persona.name!r}: model_type={activation.persona.model_type!r} is no worker; "
                    f"the pool has {', '.join(self.slots)}: change the personas file or the workers"
                )
        self.terminators = tuple(p.name for p in loaded if p.actions == (TERMINATE,))
        self.n_actions = len(self.activations) + 1
        self._index = {activation.label: i for i, activation in enumerate(self.activations)}
        self.features = Features(pool, budget, agents=tuple(self._index))

    def action_of(self, label: str) -> str:
        """The action behind `Step.agent`."""
        return self.activations[self._index[label]].action

    # -- what an action means ------------------------------------------------------------------------------------

    def decode(self, state: State, action: Any) -> Decision:
        """The step behind a vector index or a JSON text; what makes no sense is an invalid action."""
        index = self._read(action) if isinstance(action, str) else int(action)
        if isinstance(index, str):
            return Decision(invalid=index)
        if not 0 <= index < self.n_actions:
            return Decision(invalid=f"action {index} is outside 0..{self.n_actions - 1}")
        if index == self.n_actions - 1:
            return Decision(finish=True)
        chosen = self.activations[index]
        worker_id = chosen.persona.model_type
        if worker_id not in {spec.worker_id for spec in state.pool}:
            return Decision(invalid=f"agent {chosen.persona.name} needs the worker {worker_id}, who is absent")
        n = len(state.steps)
        subtask = INSTRUCTIONS[chosen.action].replace("{task}", state.task.prompt)
        after, reads = ((n - 1,), tuple(range(n))) if n else ((), ())
        return Decision((Step(n, subtask, worker_id, after, reads, None, chosen.label, chosen.persona.role_prompt),))

    def _read(self, text: str) -> int | str:
        """The index that a text action means, or what is wrong with it."""
        value = parse_json(text)
        if not isinstance(value, Mapping):
            return "no JSON object was found"
        name, action = value.get("agent"), value.get("action")
        if value.get("finish") is True or name in self.terminators:
            return self.n_actions - 1
        found = [i for i, a in enumerate(self.activations) if a.persona.name == name]
        if not found:
            names = dict.fromkeys(a.persona.name for a in self.activations)
            return f'"agent" must be one of {", ".join([*names, *self.terminators])}'
        if action is None:
            return found[0]
        named = [i for i in found if self.activations[i].action == action]
        return named[0] if named else f'"action" of {name} must be one of {", ".join(self._actions(found))}'

    def _actions(self, indices: Sequence[int]) -> list[str]:
        return [self.activations[i].action for i in indices]

    # -- what the orchestrator sees ------------------------------------------------------------------------------

    def mask(self, state: State) -> Mask:
        """int8 [n_actions]: 1 where the agent's worker is present and the budget allows a call; terminating always."""
        if state.end or state.steps_used() >= self.budget.steps:
            return only_last(self.n_actions)
        left = self.total.minus(state.spent)
        if left.calls < 1 or left.usd_nano <= 0:
            return only_last(self.n_actions)
        needs = _instruction_tokens(state.task.prompt)
        fits = tuple(left.tokens >= needs[activation.action] for activation in self.activations)
        return self._mask(tuple(spec.worker_id for spec in state.pool), fits)

    @lru_cache(maxsize=512)  # noqa: B019 - protocols live as long as the process's environments
    def _mask(self, present: tuple[str, ...], fits: tuple[bool, ...]) -> Mask:
        legal = [fit and a.persona.model_type in present for a, fit in zip(self.activations, fits, strict=True)]
        mask = np.array([*legal, True], np.int8)
        mask.flags.writeable = False
        return mask

    def workers_text(self, state: State) -> Sequence[str]:
        """The workers present, then the agents that they can play."""
        present = {spec.worker_id for spec in state.pool}
        agents = dict.fromkeys(a.persona for a in self.activations if a.persona.model_type in present)
        return [
            *super().workers_text(state),
            "Agents:",
            *(f"- {p.name} ({', '.join(p.actions)}; played by {p.model_type}): {p.role_prompt}" for p in agents),
        ]

    def format_text(self) -> str:
        """How to answer, for the first message."""
        several = any(len(activation.persona.actions) > 1 for activation in self.activations)
        actions = ', "action": "<one of its actions>" chooses what it does' if several else ""
        return FORMAT.format(actions=actions, terminator=self.terminators[0])


@lru_cache(maxsize=4096)
def _instruction_tokens(prompt: str) -> Mapping[str, int]:
    return {name: estimate_tokens(text.replace("{task}", prompt)) for name, text in INSTRUCTIONS.items()}
