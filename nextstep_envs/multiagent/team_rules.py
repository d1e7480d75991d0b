"""The rules of Team: each round every agent picks a tier for its speciality; picks become steps in a fixed order.

A team that shares one reward and pays for its own choices is the setting of MACPO (Gu et al. 2021, arXiv 2110.02793).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from nextstep_envs.episode import Decision, State
from nextstep_envs.errors import ConfigError, check_choice
from nextstep_envs.ledger import cost_terms, estimate_tokens
from nextstep_envs.protocols.base import BaseProtocol, Mask, worker_line
from nextstep_envs.protocols.features import Features
from nextstep_envs.protocols.messages import amounts, report
from nextstep_envs.protocols.parsing import parse_json
from nextstep_envs.types import Budget, Step, Usage
from nextstep_envs.workers.base import WorkerSpec

TIERS = ("pass", "cheap", "dear", "verify")
PASS = 0
Table = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Speciality:
    """What one agent of a team is for.

    Attributes:
        agent: its name.
        duty: what it does, in a few words, for messages.
        instruction: what the worker of the tier "cheap" or "dear" is told; `{task}` stands for the task's prompt.
        verification: what the worker of the tier "verify" is told.
    """

    agent: str
    duty: str
    instruction: str
    verification: str


SHOP_TEAM = (
    Speciality(
        "planner_0",
        "lists what the request asks for",
        "List the requirements of this request: {task}",
        "Complete the earlier list of all requirements of this request: {task}",
    ),
    Speciality(
        "finder_0",
        "searches the shop and opens a product",
        "Search and open the product that this request asks for: {task}",
        "Compare more products, search again and open the one that this request asks for: {task}",
    ),
    Speciality(
        "buyer_0",
        "sets the options of the open product and buys it",
        "Check the open product, set its options and buy it, for this request: {task}",
        "Check the open product against every requirement, repair what is wrong and buy, for this request: {task}",
    ),
)

# Who works for whom. A planner's "cheap" is the pool's planner: its quickest worker cannot write lists.
SHOP_TABLE: Table = {
    "planner_0": {"cheap": "planning", "dear": "general_reasoning", "verify": "verification"},
    "finder_0": {"cheap": "tool_use", "dear": "general_reasoning", "verify": "verification"},
    "buyer_0": {"cheap": "tool_use", "dear": "general_reasoning", "verify": "verification"},
}


class Pick(NamedTuple):
    """One agent's choice in one round: an index of `TIERS`, or why it is invalid (then it passes)."""

    tier: int = PASS
    invalid: str = ""


Round = tuple[Pick, ...]  # one for each agent, in their order


class TeamProtocol(BaseProtocol):
    """Rules of Team, for any shell: PettingZoo's gives every agent its own action, Gymnasium's takes the joint one.

    A joint action is a tuple of one pick for each agent (an index of `TIERS` or a text `{"tier": "cheap"}`), the number
    whose digits in base 4 are the picks, the first agent's highest, or a text `{"planner_0": "cheap", ...}`. An invalid
    pick runs nothing; the others' run. Steps of a round run in the agents' order, each with all earlier outputs and in
    the world as the step before left it.

    Args:
        pool: every worker there is.
        budget: of one episode; its `steps` must allow every agent a step in every round.
        cost_limits: per episode, by cost name.
        rounds: the most rounds.
        table: worker ids by agent and tier, for pools of other workers than the default ones.

    Raises:
        ConfigError: `rounds` or `table` is wrong, or the budget has too few steps.
    """

    name = "team"
    default_budget = Budget(steps=9)

    def __init__(
        self,
        pool: tuple[WorkerSpec, ...],
        budget: Budget,
        cost_limits: Mapping[str, float],
        rounds: int = 3,
        table: Table | None = None,
    ) -> None:
        super().__init__(pool, budget, cost_limits)
        self.team = SHOP_TEAM
        self.agents = tuple(speciality.agent for speciality in self.team)
        self.rounds = check_rounds(rounds)
        if budget.steps < self.rounds * len(self.team):
            raise ConfigError(
                f"budget steps={budget.steps} is less than {self.rounds} rounds of {len(self.team)} agents need; "
                f"set rounds={budget.steps // len(self.team)} or fewer instead"
            )
        self.table = self._check_table(table)
        self.n_actions = len(TIERS) ** len(self.team)
        self.features = Features(pool, budget, self.agents, self._own_names(), self._own)

    # -- what an action means ------------------------------------------------------------------------------------

    def decode(self, state: State, action: Any) -> Decision:
        """The steps that a joint action stands for; the last round, or one in which all pass, is the end."""
        present = {spec.worker_id for spec in state.pool}
        round_: Round = tuple(
            _pick(raw, self.table[agent], present) for agent, raw in zip(self.agents, self._split(action), strict=True)
        )
        steps: list[Step] = []
        for speciality, pick in zip(self.team, round_, strict=True):
            if pick.tier == PASS:
                continue
            index, tier = len(state.steps) + len(steps), TIERS[pick.tier]
            text = speciality.verification if tier == "verify" else speciality.instruction
            worker_id = self.table[speciality.agent][tier]
            after = (index - 1,) if index else ()
            subtask = text.replace("{task}", state.task.prompt)
            steps.append(Step(index, subtask, worker_id, after, tuple(range(index)), agent=speciality.agent))
        history: tuple[Round, ...] = (*(state.draft or ()), round_)
        notices = [f"{a}: {pick.invalid}" for a, pick in zip(self.agents, round_, strict=True) if pick.invalid]
        finish = len(history) >= self.rounds or not (steps or notices)
        return Decision(tuple(steps), finish, "; ".join(notices), history)

    def _split(self, action: Any) -> Sequence[Any]:
        """A joint action in any form as a raw pick for each agent: an index, a tier's name or anything else."""
        if isinstance(action, tuple):
            return [_entry(parse_json(raw), "tier") if isinstance(raw, str) else raw for raw in action]
        if isinstance(action, str):
            value = parse_json(action)
            return [_entry(value, agent) for agent in self.agents]
        if not 0 <= action < self.n_actions:
            return [action] * len(self.agents)  # no pick either
        base = len(TIERS)
        return [action // base**power % base for power in reversed(range(len(self.agents)))]

    # -- what the agents see -------------------------------------------------------------------------------------

    def masks(self, state: State) -> Mask:
        """int8 [agents, tiers]: passing always; another tier if its worker is present and the budget allows a call."""
        masks = np.zeros((len(self.team), len(TIERS)), np.int8)
        masks[:, PASS] = 1
        left = self.total.minus(state.spent)
        if state.end or left.calls < 1 or left.usd_nano <= 0:
            return masks
        present = {spec.worker_id for spec in state.pool}
        task = estimate_tokens(state.task.prompt)
        for row, speciality in zip(masks, self.team, strict=True):
            workers = self.table[speciality.agent]
            for tier, name in enumerate(TIERS):
                text = speciality.verification if name == "verify" else speciality.instruction
                if workers.get(name) in present and left.tokens >= estimate_tokens(text) + task:
                    row[tier] = 1
        return masks

    def mask(self, state: State) -> Mask:
        """int8 [4 ** agents]: joint actions of which every pick is legal."""
        joint = np.ones(1, np.int8)
        for row in self.masks(state):
            joint = np.outer(joint, row).ravel()
        return joint

    def duties(self) -> list[str]:
        """The team, the tiers and the order of work, in lines for messages."""
        lines = [f"Team, in the order in which they work in each of {self.rounds} rounds:"]
        for speciality in self.team:
            tiers = ", ".join(f"{tier} = {worker}" for tier, worker in self.table[speciality.agent].items())
            lines.append(f"- {speciality.agent} {speciality.duty}. Tiers: pass, {tiers}.")
        return lines

    def format_text(self) -> str:
        """How to answer, for the first message of the joint form."""
        example = ", ".join(f'"{agent}": "cheap"' for agent in self.agents)
        return "\n".join([*self.duties(), f"Answer in JSON with everybody's tier: {{{example}}}"])

    def status_text(self, state: State) -> Sequence[str]:
        """Whose pick was invalid, and which round comes next."""
        played = len(state.draft or ())
        invalid = [f"An invalid pick counts as a pass. {state.notice}."] if state.notice else []
        return invalid if state.end else [*invalid, f"Round {played + 1} of {self.rounds}."]

    def message(self, state: State) -> str:
        """The next message to whoever decides for all."""
        return super().message(state) if self._untouched(state) else self._news(state)

    def _news(self, state: State) -> str:
        # Where one pick is invalid the others' still run, so the notice is the status text's.
        return report(replace(state, notice=""), self.budget, self.status_text(state))

    def message_to(self, agent: str, state: State) -> str:
        """The next message to one agent: task, team and rules at first, then what the last round brought."""
        if not self._untouched(state):
            return self._news(state)
        lines = [
            f"You are {agent} of a team that works on this task: {state.task.prompt}",
            *self.duties(),
            "Workers:",
            *map(worker_line, state.pool),
            f"Budget of the team: {amounts(self.budget.steps, self.total)}",
            'All pick at once. Answer in JSON with your tier for this round: {"tier": "cheap"}. If all pass, it ends.',
            "",
        ]
        return "\n".join(lines)

    # -- features ------------------------------------------------------------------------------------------------

    def _own_names(self) -> tuple[str, ...]:
        picks = [f"pick[{r}][{a}].{tier}" for r in range(self.rounds) for a in self.agents for tier in TIERS]
        reports = [
            f"{a}.{name}" for a in self.agents for name in ("cost_mix", "cost_usd_milli", "failed", "confidence")
        ]
        return ("left.rounds", *reports, *picks)

    def _own(self, state: State) -> list[float]:
        history: tuple[Round, ...] = state.draft or ()
        values = [1 - len(history) / self.rounds]
        for agent in self.agents:
            records = [record for record in state.records() if record.step.agent == agent]
            used = Usage()
            for record in records:
                used = used.plus(record.usage)
            costs = cost_terms(used, self.budget)
            failed = bool(records) and records[-1].failed
            sure = records[-1].confidence if records else None
            values += [costs["mix"], min(1000 * costs["usd"], 32.0), float(failed), 0.0 if sure is None else sure]
        picks = np.zeros((self.rounds, len(self.agents), len(TIERS)))
        for r, round_ in enumerate(history):
            for a, pick in enumerate(round_):
                picks[r, a, pick.tier] = not pick.invalid
        return values + picks.ravel().tolist()

    def _check_table(self, table: Table | None) -> dict[str, dict[str, str]]:
        known = [spec.worker_id for spec in self.pool]
        if table is None:
            full = {agent: dict(tiers) for agent, tiers in SHOP_TABLE.items()}
            if not any(worker in known for tiers in full.values() for worker in tiers.values()):
                raise ConfigError(
                    f"none of the team's default workers is among {', '.join(known)}; say who works for whom, for "
                    f"example table={{'{self.agents[0]}': {{'cheap': '{known[0]}'}}}}"
                )
            return full
        for agent, tiers in table.items():
            check_choice("table agent", agent, self.agents)
            for tier, worker in tiers.items():
                check_choice(f"table[{agent!r}] tier", tier, TIERS[1:])
                check_choice(f"table[{agent!r}][{tier!r}]", worker, known)
        return {agent: dict(table.get(agent, {})) for agent in self.agents}


def check_rounds(rounds: Any) -> int:
    """`rounds`, or `ConfigError` if it is not a whole number > 0."""
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
        raise ConfigError(f"rounds={rounds!r} must be a whole number > 0")
    return rounds


def _entry(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def _pick(raw: Any, workers: Mapping[str, str], present: set[str]) -> Pick:
    """What a raw pick means."""
    tier = TIERS.index(raw) if isinstance(raw, str) and raw in TIERS else raw
    if isinstance(tier, bool) or not isinstance(tier, int) or not 0 <= tier < len(TIERS):
        what = "no tier was named" if raw is None else f"{raw!r} is no tier"
        return Pick(invalid=f"{what}; the tiers are {', '.join(TIERS)}")
    worker = workers.get(TIERS[tier])
    if tier != PASS and worker not in present:
        absent = "has no worker" if worker is None else f"needs {worker}, who is absent"
        return Pick(invalid=f"{TIERS[tier]} {absent}")
    return Pick(tier)
