"""The Search protocol: one action is one edit of a workflow program, which then runs on validation tasks.

After AFlow (arXiv 2410.10762), with a policy in the place of its tree search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from nextstep_envs.errors import ConfigError, check_choice
from nextstep_envs.ledger import COST_NAMES, cost_terms
from nextstep_envs.programs.compile import compile_program
from nextstep_envs.programs.edits import Edit, apply, describe, read_edit
from nextstep_envs.programs.episode import Proposal, SearchEpisode
from nextstep_envs.programs.instructions import DIALECTS, GENERAL, Dialect
from nextstep_envs.programs.menu import edit_of, menu
from nextstep_envs.programs.program import Operator, Program, problems
from nextstep_envs.programs.serial import read_program
from nextstep_envs.programs.state import Evaluation, SearchState, best_of
from nextstep_envs.programs.validation import ValidationSet
from nextstep_envs.protocols.base import Mask, only_last
from nextstep_envs.protocols.parsing import parse_json
from nextstep_envs.protocols.search_features import SearchFeatures
from nextstep_envs.protocols.search_texts import SearchTexts
from nextstep_envs.requests import Actor
from nextstep_envs.types import Budget, Step, Task
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.worlds.base import World

REWARD_MODES = ("score", "improvement")


class SearchProtocol(SearchTexts):
    """Rules of Search: edit a program, see what it scores, edit again.

    An episode draws `tasks` validation tasks and starts from one operator that does everything. A valid action is one
    edit; the edited program then runs on every task, `runs` times, and the next edit starts from it. `Budget.steps`
    (8) counts edits and invalid actions; **the other limits hold for one run of the program on one task**, while
    `info["cost"]` is the total of all runs. An edit that would break the program, or change nothing, is an invalid
    action: nothing runs and nothing is charged.

    Vector actions: one index for each entry of `menu` (add kind x worker x what it goes by, at the end, a text before
    the output, which reads it; then, for each slot, another worker, other inputs, removal); the last index is finish.
    Text actions: JSON, one of
    `{"edit": "add", "operator": {"kind": ..., "worker": ..., "inputs": [...], "prompt": ...}, "readers": [...]}`,
    `{"edit": "remove", "name": ...}`, `{"edit": "set", "name": ..., "worker": ..., "prompt": ..., "inputs": [...]}`,
    `{"program": ...}` (all of it anew) and `{"finish": true}`.

    Reward: after each edit the mean score of all runs ("score"), or by how much it exceeds the best mean before it
    ("improvement"; the first is compared with 0, for the program at the start is not run, and nothing is charged
    for it). So improvements add up to the best mean, which is also the score of `info["outcome"]`: that of the best
    program, 0 where none was evaluated; it is a success if all its runs are. After a valid edit `info` has
    `score_mean`, `score_std` (of the runs), `score_cost` (mean of one run: the first of `cost_limits`, else "mix"),
    `program` (JSON), and the records of all runs, task by task. Observations show the scores too: they are what a
    search goes by. Means of a few noisy runs flatter the best of many programs: compare programs on fresh tasks.

    Chance: each evaluation draws anew, named by its number, so a program that comes back is measured again.

    Args:
        pool: every worker there is, in slot order.
        budget: see above.
        cost_limits: per episode, in raw units, by cost name.
        tasks: how many validation tasks.
        runs: how often a program runs on each of them.
        max_operators: the most operators a program may have.
        reward_mode: "score" or "improvement".
        program: to start from, as an object, JSON or Python text; by default one generate. Where a worker of it is not
            in the episode's pool, the first one who is takes its place.
    """

    name = "search"
    default_budget = Budget(steps=8)

    def __init__(
        self,
        pool: tuple[WorkerSpec, ...],
        budget: Budget,
        cost_limits: Mapping[str, float],
        tasks: int = 4,
        runs: int = 1,
        max_operators: int = 6,
        reward_mode: str = "score",
        program: Mapping[str, Any] | str | None = None,
    ) -> None:
        for argument, value in (("tasks", tasks), ("runs", runs), ("max_operators", max_operators)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{argument}={value!r} must be a whole number >= 1")
        check_choice("reward_mode", reward_mode, REWARD_MODES)
        self.pool, self.budget, self.cost_limits = pool, budget, cost_limits
        self.tasks, self.runs, self.max_operators, self.reward_mode = tasks, runs, max_operators, reward_mode
        self.first = Program((Operator("answer1", "generate", pool[0].worker_id),))
        if program is not None:
            self.first = read_program(program)
        self.main_cost = next(iter(cost_limits), COST_NAMES[0])
        self.menu = menu([spec.worker_id for spec in pool], max_operators)
        self.n_actions = len(self.menu) + 1
        self.features = SearchFeatures(pool, budget, max_operators)
        self._use("", runs_code=False)

    def adapt(self, world: World) -> ValidationSet:
        """Sets of tasks of a world, whose own instructions the operators take on."""
        self._use(world.name, bool(getattr(world, "runs_code", False)))
        wrong = problems(self.first, [spec.worker_id for spec in self.pool], self.runs_code, self.max_operators)
        if wrong:
            raise ConfigError(f"program: {'; '.join(wrong)}")
        return ValidationSet(world, self.tasks)

    def _use(self, world: str, runs_code: bool) -> None:
        self.dialect: Dialect = DIALECTS.get(world, GENERAL)
        self.runs_code = runs_code

    def episode(self, world: World, workers: Mapping[str, Actor]) -> SearchEpisode:
        """A search under these rules, waiting for its first reset. `world`: what `adapt` gave."""
        assert isinstance(world, ValidationSet)
        return SearchEpisode(world, self, workers, self.budget)

    # -- what a program is ---------------------------------------------------------------------------------------

    def start(self, pool: tuple[WorkerSpec, ...]) -> Program:
        """The program at the beginning; absent workers are replaced by the first one present."""
        present = [spec.worker_id for spec in pool]
        return Program(
            tuple(op if op.worker in present else replace(op, worker=present[0]) for op in self.first.operators)
        )

    def compile(self, program: Program, task: Task) -> tuple[Step, ...]:
        """The steps of a program on a task."""
        return compile_program(program, task.prompt, self.dialect)

    def reward(self, evaluation: Evaluation, before: Sequence[Evaluation]) -> float:
        """The mean score, or what it adds to the best one before."""
        if self.reward_mode == "score":
            return evaluation.mean
        best = best_of(before)
        return max(evaluation.mean - (best.mean if best else 0.0), 0.0)

    def cost(self, evaluation: Evaluation) -> float:
        """Mean main cost of one run."""
        return cost_terms(evaluation.usage, self.budget)[self.main_cost] / len(evaluation.runs)

    # -- what an action means ------------------------------------------------------------------------------------

    def decode(self, state: SearchState, action: Any) -> Proposal:
        """The edited program behind a vector index or a JSON text; what makes no sense is an invalid action."""
        return self._decode_text(state, action) if isinstance(action, str) else self._decode_index(state, int(action))

    def _decode_index(self, state: SearchState, action: int) -> Proposal:
        if action == self.n_actions - 1:
            return Proposal(finish=True)
        if not 0 <= action < self.n_actions:
            return Proposal(invalid=f"action {action} is outside 0..{self.n_actions - 1}")
        return self._propose(state.program, edit_of(state.program, self.menu[action]), _present(state))

    def _decode_text(self, state: SearchState, text: str) -> Proposal:
        value = parse_json(text)
        if not isinstance(value, Mapping):
            return Proposal(invalid="no JSON object was found")
        if value.get("finish") is True:
            return Proposal(finish=True)
        return self._propose(state.program, read_edit(state.program, value), _present(state))

    def _propose(self, program: Program, edit: Edit | str, present: tuple[str, ...]) -> Proposal:
        """Carry an edit out, if the program after it is another one and can run."""
        if isinstance(edit, str):
            return Proposal(invalid=edit)
        edited = apply(program, edit)
        if isinstance(edited, str):
            return Proposal(invalid=edited)
        if edited == program:
            return Proposal(invalid="the edit changes nothing")
        wrong = problems(edited, present, self.runs_code, self.max_operators)
        if wrong:
            return Proposal(invalid=f"the edit breaks the program: {'; '.join(wrong)}")
        return Proposal(edited, describe(edit))

    # -- what the orchestrator sees ------------------------------------------------------------------------------

    def mask(self, state: SearchState) -> Mask:
        """int8 [n_actions]: 1 for edits that leave a program that can run; finish always is."""
        if state.end or state.steps_used() >= self.budget.steps:
            return only_last(self.n_actions)
        return self._mask(state.program, _present(state))

    @lru_cache(maxsize=2048)  # noqa: B019 - protocols live as long as the process's environments
    def _mask(self, program: Program, present: tuple[str, ...]) -> Mask:
        legal = [not self._propose(program, edit_of(program, choice), present).invalid for choice in self.menu]
        mask = np.array([*legal, True], np.int8)
        mask.flags.writeable = False
        return mask


def _present(state: SearchState) -> tuple[str, ...]:
    return tuple(spec.worker_id for spec in state.pool)
