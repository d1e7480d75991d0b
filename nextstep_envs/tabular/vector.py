"""Many tabular episodes in lock step, in numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from nextstep_envs.errors import ConfigError
from nextstep_envs.setup import check_reset_mask, check_seeds
from nextstep_envs.tabular import chance
from nextstep_envs.tabular.env import Observation, TabularCMDP
from nextstep_envs.tabular.outcomes import Flags, Floats, cumulative

Integers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class EpisodeStates:
    """`EpisodeState` of n episodes, each entry an array [n], and which of them wait for their reset."""

    root: Words
    episode: Words
    sample: Words
    start: Integers
    state: Integers
    steps: Words
    over: Flags

    def copy(self) -> EpisodeStates:
        """The same with arrays of its own."""
        return EpisodeStates(*(getattr(self, field.name).copy() for field in fields(self)))


class TabularVectorEnv(VectorEnv[Any, Any, Any]):
    """Many environments of one tabular constrained MDP.

    Equal, seed for seed, to `SyncVectorEnv` over the single environment (sub-environment i is seeded with seed + i), at
    a fraction of its cost: a step is a handful of array operations, whatever the number of environments.

    Args:
        cmdp: the environment to multiply; its own episode is left alone.
        num_envs: how many.
        autoreset_mode: SAME_STEP by default: a dead step would be a wasted decision.
        max_episode_steps: truncate after so many decisions; None (default) never truncates.
    """

    def __init__(
        self,
        cmdp: TabularCMDP,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        max_episode_steps: int | None = None,
    ) -> None:
        super().__init__()
        _check_count("num_envs", num_envs)
        if max_episode_steps is not None:
            _check_count("max_episode_steps", max_episode_steps)
        self.cmdp, self.num_envs, self.max_episode_steps = cmdp, num_envs, max_episode_steps
        self.render_mode = cmdp.render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {"render_modes": ["ansi"], "autoreset_mode": self.autoreset_mode}
        self.single_observation_space, self.single_action_space = cmdp.observation_space, cmdp.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        outcomes = cmdp.model.outcomes
        self._width = outcomes.probability.shape[-1]
        self._pairs = cmdp.n_states * cmdp.n_actions
        # No uniform number reaches the last cumulative probability, 1, so that it need not be compared.
        self._cumulative = cumulative(outcomes.probability).reshape(self._pairs, self._width)[:, :-1]
        self._next, self._reward = outcomes.next_state.ravel(), outcomes.reward.ravel()
        self._costs = outcomes.costs.reshape(self._pairs * self._width, -1)
        self._illegal = ~cmdp.model.mask.ravel()
        self._start_cumulative = cumulative(cmdp.model.start)
        self._task_ids = np.array([str(state) for state in range(cmdp.n_states)], dtype=object)
        self._episodes: EpisodeStates | None = None
        self._stream: Words = np.zeros(num_envs, np.uint64)

    @property
    def cost_names(self) -> tuple[str, ...]:
        """Names of the entries of `info["costs"]`."""
        return self.cmdp.cost_names

    @property
    def cost_limits(self) -> Mapping[str, float]:
        """Budgets by cost name."""
        return self.cmdp.cost_limits

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the entries of the observation."""
        return self.cmdp.feature_names

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start all episodes, or those of `options["reset_mask"]` (bool [num_envs]); options: task_id, sample."""
        options = dict(options or {})
        chosen = check_reset_mask(options.pop("reset_mask", None), self.num_envs)
        checked = self.cmdp.check_options(options)
        seeds = check_seeds(seed, self.num_envs)
        if self._episodes is None:
            if not chosen.all():
                raise ConfigError("options['reset_mask'] must select every environment in the first reset")
            self._episodes = _before_the_first(self.num_envs)
        now = self._episodes
        at = np.flatnonzero(chosen)
        for i, episode in zip(at.tolist(), now.episode[at].tolist(), strict=True):
            if (given := seeds[i]) is not None:
                now.root[i], now.episode[i] = chance.root(given), 0
            elif episode == 0:
                now.root[i] = seeding.np_random()[0].integers(1 << 63)
        self._begin(at, checked)
        costs, invalid = np.zeros((self.num_envs, len(self.cost_names))), np.zeros(self.num_envs, bool)
        return self._observe(now.state), self._columns(chosen, costs, invalid)

    def step(self, actions: Any) -> tuple[Observation, Floats, Flags, Flags, dict[str, Any]]:
        """Take one decision in every episode."""
        now = self._running()
        stale = now.over.copy()
        if stale.any() and self.autoreset_mode is AutoresetMode.DISABLED:
            raise RuntimeError(f"environments {np.flatnonzero(stale).tolist()} are over; reset them with reset_mask")
        # What waits for its reset takes part with any decision, which is undone below.
        pairs = np.where(stale, 0, now.state * self.cmdp.n_actions + self._check_actions(actions, ~stale))
        draws = chance.uniform(self._stream, now.steps)
        index = pairs * self._width + (draws[:, None] >= self._cumulative[pairs]).sum(1)
        rewards, costs, invalid = self._reward[index], self._costs[index], self._illegal[pairs]
        now.state[:] = self._next[index]
        now.steps[:] += np.uint64(1)
        if stale.any():
            self._begin(np.flatnonzero(stale), {})
            rewards[stale], costs[stale], invalid[stale] = 0.0, 0.0, False
        terminated = now.state == self.cmdp.n_states
        truncated = np.zeros(self.num_envs, bool)
        if self.max_episode_steps is not None:
            truncated = (now.steps >= self.max_episode_steps) & ~terminated
        now.over[:] = over = terminated | truncated
        if self.autoreset_mode is not AutoresetMode.SAME_STEP or not over.any():
            return self._observe(now.state), rewards, terminated, truncated, self._columns(None, costs, invalid)
        ended = np.flatnonzero(over)
        final_obs, final_info = self._final(ended), self._columns(over, costs, invalid)
        self._begin(ended, {})
        costs[ended], invalid[ended] = 0.0, False
        infos = self._columns(None, costs, invalid)
        infos |= {"final_obs": final_obs, "final_info": final_info, "_final_obs": over, "_final_info": over.copy()}
        return self._observe(now.state), rewards, terminated, truncated, infos

    def action_masks(self) -> Flags:
        """Legal actions, bool [num_envs, n_actions]."""
        legal: Flags = self.cmdp.masks[self._running().state].astype(bool)
        return legal

    def render(self) -> tuple[str, ...] | None:
        """Every episode as text (`render_mode="ansi"`)."""
        if self.render_mode != "ansi":
            return None
        names = (*self.feature_names, "the end")
        now = self._running()
        where = zip(now.steps, now.state, strict=True)
        return tuple(f"after {steps} decisions: {names[state]}" for steps, state in where)

    def snapshot(self) -> EpisodeStates:
        """All episodes as one picklable object."""
        return self._running().copy()

    def restore(self, states: EpisodeStates, sample: int | None = None) -> None:
        """Continue from a snapshot, later episodes included; with `sample`, as other attempts with other chance."""
        now = states.copy()
        if sample is not None:
            now.sample[:] = self.cmdp.check_options({"sample": sample})["sample"]
        self._episodes = now
        self._stream = chance.key(now.root, now.episode, chance.SAMPLE + now.sample)

    def _running(self) -> EpisodeStates:
        if self._episodes is None:
            raise RuntimeError("there are no episodes yet; call reset first")
        return self._episodes

    def _begin(self, at: Integers, options: Mapping[str, Any]) -> None:
        """Start the next episode of the environments `at`."""
        now = self._running()
        now.episode[at] += np.uint64(1)
        now.sample[at] = options.get("sample", 0)
        named = chance.key(now.root[at], now.episode[at])
        if (task_id := options.get("task_id")) is not None:
            now.start[at] = int(task_id)
        else:
            draws = chance.uniform(chance.key(named, chance.START), 0)
            now.start[at] = np.searchsorted(self._start_cumulative, draws, side="right")
        self._stream[at] = chance.key(named, chance.SAMPLE + now.sample[at])
        now.state[at], now.steps[at], now.over[at] = now.start[at], 0, False

    def _observe(self, states: Integers) -> Observation:
        observations = np.zeros((len(states), self.cmdp.n_states), np.float32)
        live = states < self.cmdp.n_states
        observations[live, states[live]] = 1.0
        return {"action_mask": self.cmdp.masks[states], "observation": observations}

    def _final(self, ended: Integers) -> npt.NDArray[Any]:
        """What is observed at the end, one dict for each episode, None for those that go on."""
        seen = self._observe(self._running().state[ended])
        column = np.full(self.num_envs, None, dtype=object)
        rows = zip(seen["observation"], seen["action_mask"], strict=True)
        column[ended] = [{"observation": observation, "action_mask": mask} for observation, mask in rows]
        return column

    def _columns(self, where: Flags | None, costs: Floats, invalid: Flags) -> dict[str, Any]:
        """Infos in Gymnasium's vector form: for each key a column and which environments have it (None: all)."""
        now, n = self._running(), self.num_envs
        has = np.ones(n, bool) if where is None else where
        records = np.full(n, None, dtype=object)
        records.fill(())
        columns: dict[str, Any] = {
            "task_id": self._task_ids[now.start],
            "sample": now.sample.astype(int),
            "costs": costs.copy(),
            "cost": costs[:, 0].copy(),
            "cost_terms": {},
            "books": {},
            "records": records,
            "action_mask": self.cmdp.masks[now.state],
            "invalid_action": invalid.copy(),
        }
        infos: dict[str, Any] = {}
        for k, name in enumerate(self.cost_names):
            columns["cost_terms"] |= {name: np.where(has, costs[:, k], 0.0), f"_{name}": has.copy()}
        for name, column in columns.items():
            if where is not None and isinstance(column, np.ndarray):
                column[~where] = None if column.dtype == object else 0
            infos[name], infos[f"_{name}"] = column, has.copy()
        return infos

    def _check_actions(self, actions: Any, live: Flags) -> Integers:
        """The actions as an array, or `ActionError` naming the first that is wrong."""
        if len(actions) != self.num_envs:
            raise ConfigError(f"{len(actions)} actions were given for {self.num_envs} environments")
        chosen = np.asarray(actions)
        if chosen.dtype.kind not in "iu" or chosen.ndim != 1:
            chosen = np.array([self.cmdp.check_action(action) for action in actions])
        if (wrong := live & ((chosen < 0) | (chosen >= self.cmdp.n_actions))).any():
            self.cmdp.check_action(chosen[wrong][0])
        return chosen.astype(np.int64, copy=False)


def _before_the_first(n: int) -> EpisodeStates:
    words, numbers = np.zeros((4, n), np.uint64), np.zeros((2, n), np.int64)
    return EpisodeStates(words[0], words[1], words[2], numbers[0], numbers[1], words[3], np.zeros(n, bool))


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name}={value!r} must be a whole number >= 1")
