"""Question routing for many episodes in lock step, in numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from nextstep_envs.env import check_action, check_render_mode, make_spaces
from nextstep_envs.errors import ConfigError
from nextstep_envs.recorded.board import Board, Flags, Integers, Limits, legal, tally, usd_nano
from nextstep_envs.recorded.columns import Bill, Ends, add_ends, columns
from nextstep_envs.recorded.crew import weights_of
from nextstep_envs.recorded.records import Bookkeeper
from nextstep_envs.recorded.rules import QuestionRouting
from nextstep_envs.setup import BudgetArg, check_options, check_reset_mask, check_seeds, make_setup
from nextstep_envs.types import Budget, StepRecord
from nextstep_envs.vector import BatchedVectorEnv
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.workers.crew import RECORDED, WorkersArg, kind_of
from nextstep_envs.worlds.qa.world import QuestionWorld

OVERSPENT = ("tokens", "calls", "usd")


def make_vector(num_envs: int = 1, workers: WorkersArg = RECORDED, interface: str = "vector", **kwargs: Any) -> Any:
    """The fast environment for recorded workers and vectors; the general one for texts, live models and rendering."""
    shown = kwargs.get("render_mode") is not None
    fast = interface == "vector" and kind_of(workers) == RECORDED and not shown
    make: Any = QuestionVectorEnv if fast else BatchedVectorEnv
    return make(num_envs=num_envs, workers=workers, interface=interface, **kwargs)


@dataclass(frozen=True)
class VectorState:
    """N episodes, the chance from which later ones begin, and which of them wait for their reset."""

    board: Board
    params: npt.NDArray[np.float64]
    samples: Integers
    lengths: Integers
    over: Flags
    chance: tuple[Any, ...]


class QuestionVectorEnv(VectorEnv[Any, Any, Any]):
    """Many environments of question routing with recorded workers.

    Equal, seed for seed, to `SyncVectorEnv` over `QuestionRoutingEnv` (sub-environment i is seeded with seed + i): a
    step is a handful of array operations and a record for each answer. The arguments not listed here are those of
    `QuestionRoutingEnv`.

    Args:
        num_envs: how many.
        autoreset_mode: SAME_STEP by default: a dead step would be a wasted decision.
        max_episode_steps: truncate after so many decisions; None (default) never truncates.
    """

    def __init__(
        self,
        num_envs: int = 1,
        world: str = "mmlu_pro",
        protocol: str = "question_routing",
        interface: str = "vector",
        workers: WorkersArg = RECORDED,
        split: str = "train",
        budget: BudgetArg = None,
        cost: str | Sequence[str] = "usd",
        cost_limits: Mapping[str, float] | None = None,
        pool_size: int | None = None,
        reward: str = "outcome",
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        max_episode_steps: int | None = None,
        **own_kwargs: Any,
    ) -> None:
        super().__init__()
        for name, count in (("num_envs", num_envs), ("max_episode_steps", max_episode_steps or 1)):
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise ConfigError(f"{name}={count!r} must be a whole number >= 1")
        check_render_mode(render_mode, [])
        self.setup = make_setup(
            world, protocol, interface, workers, split, budget, cost, cost_limits, pool_size, reward, own_kwargs
        )
        assert isinstance(self.setup.rules, QuestionRouting) and isinstance(self.setup.world, QuestionWorld)
        self.rules, self.world = self.setup.rules, self.setup.world
        self.num_envs, self.render_mode, self.max_episode_steps = num_envs, render_mode, max_episode_steps
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {"render_modes": [], "autoreset_mode": self.autoreset_mode}
        self.single_observation_space, self.single_action_space = make_spaces(self.setup)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.board = Board.empty(num_envs, len(self.rules.pool), self.rules.text_buckets)
        self._limits: Limits = self.rules.limits(0)  # recorded prompts are estimates, the same for every question
        self._params = np.zeros((num_envs, len(self.rules.pool)))  # billions, of the workers present
        self._weights = np.array(weights_of(self.world)).T  # [C, W]
        self._records = Bookkeeper(self.world, self.rules)
        self._samples, self._lengths = np.zeros((2, num_envs), np.int64)
        self._over: Flags = np.zeros(num_envs, bool)
        self._open = self._masks()  # the legal actions, as last observed
        self._rngs: list[np.random.Generator | None] = [None] * num_envs

    @property
    def cost_names(self) -> tuple[str, ...]:
        """Names of the entries of `info["costs"]`."""
        return self.setup.cost_names

    @property
    def cost_limits(self) -> Mapping[str, float]:
        """Limits per episode by cost name, in raw units."""
        return self.setup.cost_limits

    @property
    def budget(self) -> Budget:
        """What one episode may consume."""
        return self.setup.budget

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the entries of the observation."""
        return self.rules.features.names

    @property
    def data_source(self) -> str:
        """Whose answers these are: "recorded" (real models') or "generated" (made-up workers')."""
        return self.world.data_source

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start all episodes, or those of `options["reset_mask"]` (bool [num_envs]); options: task_id, sample, pool."""
        options = dict(options or {})
        chosen = np.flatnonzero(check_reset_mask(options.pop("reset_mask", None), self.num_envs))
        checked = check_options(self.setup, options)
        seeds = check_seeds(seed, self.num_envs)
        for i in chosen.tolist():
            if self._rngs[i] is None or seeds[i] is not None:
                self._rngs[i], _ = seeding.np_random(seeds[i])
        self._begin(chosen, checked)
        masks = self._masks()
        return self._observe(masks), self._columns(chosen, Bill.empty(self.num_envs), masks)

    def step(self, actions: Any) -> tuple[Any, npt.NDArray[np.float64], Flags, Flags, dict[str, Any]]:
        """Take one decision in every episode."""
        if None in self._rngs:
            raise RuntimeError("call reset before step")
        stale = self._over.copy()
        if stale.any() and self.autoreset_mode is AutoresetMode.DISABLED:
            raise RuntimeError(f"environments {np.flatnonzero(stale).tolist()} are over; reset them with reset_mask")
        chosen, finish = self._check_actions(actions), self.single_action_space.n - 1  # type: ignore[attr-defined]
        valid = (chosen >= 0) & (chosen <= finish) & ~stale
        valid[valid] &= self._open[valid, chosen[valid]] == 1
        board, bill = self.board, Bill.empty(self.num_envs)
        bill.invalid[:] = ~valid & ~stale
        board.invalid[bill.invalid] += 1
        board.steps[bill.invalid] += 1
        asked = np.flatnonzero(valid & (chosen < finish))
        refused = self._ask(asked, chosen[asked], bill)
        ended = (valid & (chosen == finish)) | (refused != "") | (board.steps >= self.budget.steps)
        ended &= ~stale
        exhausted = np.where(valid & (chosen == finish), "", np.where(refused != "", refused, "steps"))
        board.over[ended] = True
        self._begin(np.flatnonzero(stale), {})
        self._lengths[~stale] += 1
        return self._collect(ended, exhausted, bill)

    def action_masks(self) -> Flags:
        """Legal actions, bool [num_envs, n_actions]."""
        return self._open.astype(bool)

    def snapshot(self) -> VectorState:
        """All episodes as one frozen, picklable object, with the chance from which later ones begin."""
        chance = tuple(None if rng is None else rng.bit_generator.state for rng in self._rngs)
        arrays = (self._params.copy(), self._samples.copy(), self._lengths.copy(), self._over.copy())
        return VectorState(self.board.copy(), *arrays, chance)

    def restore(self, state: VectorState, sample: int | None = None) -> None:
        """Continue from a snapshot; recorded answers have no noise, so `sample` is only a label."""
        if len(state.over) != self.num_envs:
            raise ConfigError(f"the snapshot has {len(state.over)} episodes, but there are {self.num_envs}")
        self.board, self._params = state.board.copy(), state.params.copy()
        self._samples, self._lengths, self._over = state.samples.copy(), state.lengths.copy(), state.over.copy()
        self._open = self._masks()
        if sample is not None:
            self._samples[:] = sample
        for i, chance in enumerate(state.chance):
            self._rngs[i] = None if chance is None else seeding.np_random(0)[0]
            if (rng := self._rngs[i]) is not None:
                rng.bit_generator.state = chance

    def _begin(self, rows: Integers, options: Mapping[str, Any]) -> None:
        self.board.clear(rows)
        self._params[rows], self._over[rows], self._lengths[rows] = 0.0, False, 0
        for i in rows.tolist():
            seat: Any = _Seat(self, i)  # a Machine that is only ever reset
            self.setup.begin(seat, self._rngs[i], options)

    def _ask(self, rows: Integers, slots: Integers, bill: Bill) -> npt.NDArray[Any]:
        """Put one question to one worker in each of some rows; what keeps a call from being made, by name [N]."""
        board, answers = self.board, self.world.answers
        question, column = board.question[rows], self.rules.columns[slots]
        prompt, completion = self._limits.prompt[slots], answers.tokens[question, column]
        cost = usd_nano(prompt, completion, board.prices[rows, slots])
        left = self.rules.total
        # In the order in which `Allowance.lacks` looks.
        over = np.stack(
            [
                board.spent_tokens()[rows] + prompt + completion > left.tokens,
                board.spent_calls()[rows] + 1 > left.calls,
                board.spent_usd_nano()[rows] + cost > left.usd_nano,
            ]
        )
        fits = ~over.any(0)
        refused = np.full(self.num_envs, "", dtype=object)
        refused[rows[~fits]] = np.array(OVERSPENT, dtype=object)[over[:, ~fits].argmax(0)]
        place = board.order[rows].max(1) + 1
        board.order[rows, slots] = place
        board.steps[rows] += 1
        made, by = rows[fits], slots[fits]
        code = answers.code[question[fits], column[fits]]
        weight = self._weights[answers.category[question[fits]], column[fits]]
        board.answer[made, by], board.weight[made, by] = code, np.where(code >= 0, weight, 0)
        board.prompt[made, by], board.completion[made, by] = prompt[fits], completion[fits]
        board.calls[made, by], board.usd_nano[made, by] = 1, cost[fits]
        if self.rules.text_buckets:
            words = answers.text_hashes(question[fits], column[fits], self.rules.text_buckets)
            board.words[made, by] = words
        tokens = prompt[fits] + completion[fits]
        bill.tokens[made], bill.calls[made], bill.usd_nano[made] = tokens, 1, cost[fits]
        bill.flops[made] = np.rint(2e9 * self._params[made, by] * tokens)
        bill.prompt[made], bill.completion[made] = prompt[fits], completion[fits]
        for i, slot, k in zip(rows.tolist(), slots.tolist(), place.tolist(), strict=True):
            bill.records[i] = (self._record(i, slot, k - 1, bill, str(refused[i])),)
        return refused

    def _record(self, i: int, slot: int, index: int, bill: Bill, refused: str) -> StepRecord:
        return self._records.record(int(self.board.question[i]), slot, index, bill.usage(i), refused)

    def _collect(
        self, ended: Flags, exhausted: npt.NDArray[Any], bill: Bill
    ) -> tuple[Any, npt.NDArray[np.float64], Flags, Flags, dict[str, Any]]:
        """Turn where everybody stands into arrays, resetting what is over where the mode says so."""
        ends = self._ends(ended, exhausted)
        rewards = np.where(ended & self.setup.scored, ends.right, 0.0)
        truncated = np.zeros(self.num_envs, bool)
        if self.max_episode_steps:
            truncated = (self._lengths >= self.max_episode_steps) & ~ended
        self._over = ended | truncated
        over, everyone = self._over.copy(), np.arange(self.num_envs)
        masks = self._masks()
        if not over.any() or self.autoreset_mode is not AutoresetMode.SAME_STEP:
            infos = self._columns(everyone, bill, masks)
            add_ends(infos, np.flatnonzero(ended), ends)
            return self._observe(masks), rewards, ended, truncated, infos
        last = np.flatnonzero(over)
        final = self._columns(last, bill, masks)
        add_ends(final, np.flatnonzero(ended), ends)
        final_obs = self._final(last, masks)
        self._begin(last, {})
        bill.clear(last)
        masks = self._masks()
        infos = self._columns(everyone, bill, masks)
        infos["final_obs"], infos["final_info"] = final_obs, final
        infos["_final_obs"], infos["_final_info"] = over, over.copy()
        return self._observe(masks), rewards, ended, truncated, infos

    def _ends(self, ended: Flags, exhausted: npt.NDArray[Any]) -> Ends:
        """The outcomes of the episodes that have ended."""
        ends, answers = Ends.empty(self.num_envs, exhausted), self.world.answers
        rows = np.flatnonzero(ended)
        if not rows.size:
            return ends
        part = self.board.take(rows)
        counts = tally(part, self.world.rule)
        code = np.where(counts.leads, part.answer, -1).max(1)
        for i, question, found, n in zip(
            rows.tolist(), part.question.tolist(), code.tolist(), counts.given.sum(1).tolist(), strict=True
        ):
            label = answers.labels[question][found] if found >= 0 else ""
            outcome = self.world.judge(question, label, n)
            ends.outcomes[i], ends.right[i] = outcome, outcome.score
        return ends

    def _masks(self) -> npt.NDArray[np.int8]:
        return legal(self.board, self._limits, self.budget, self.rules.total)

    def _observe(self, masks: npt.NDArray[np.int8]) -> dict[str, Any]:
        self._open = masks
        return {"action_mask": masks.copy(), "observation": self.rules.features.rows(self.board, self._limits)}

    def _final(self, rows: Integers, masks: npt.NDArray[np.int8]) -> npt.NDArray[Any]:
        column = np.full(self.num_envs, None, dtype=object)
        vectors = self.rules.features.rows(self.board.take(rows), self._limits)
        for i, vector in zip(rows.tolist(), vectors, strict=True):
            column[i] = {"observation": vector.copy(), "action_mask": masks[i].copy()}
        return column

    def _columns(self, where: Integers, bill: Bill, masks: npt.NDArray[np.int8]) -> dict[str, Any]:
        return columns(self.setup, where, self._records.task_ids[self.board.question], self._samples, bill, masks)

    def _check_actions(self, actions: Any) -> Integers:
        if len(actions) != self.num_envs:
            raise ConfigError(f"{len(actions)} actions were given for {self.num_envs} environments")
        chosen = np.asarray(actions)
        if chosen.dtype.kind not in "iu" or chosen.ndim != 1:
            chosen = np.array([check_action(action, text=False) for action in actions])
        return chosen.astype(np.int64, copy=False)


@dataclass(frozen=True)
class _Seat:
    """Row i of an environment, as `Setup.begin` sees an episode."""

    env: QuestionVectorEnv
    i: int

    def reset(self, task_id: str, pool: tuple[WorkerSpec, ...], seed: int, sample: int = 0) -> None:
        """Begin the row, which was cleared."""
        env, i = self.env, self.i
        env.rules.seat(env.board, i, env.world.row(task_id), pool)
        env._samples[i] = sample
        env._params[i, [env.rules.slots[spec.worker_id] for spec in pool]] = [spec.params_b for spec in pool]
