"""The batched vector shell: many episodes, one call of the provider for all their requests, infos by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from nextstep_envs.drivers import batched
from nextstep_envs.env import check_action, check_render_mode, make_spaces
from nextstep_envs.errors import ConfigError
from nextstep_envs.infos import add_ends, columns, objects
from nextstep_envs.setup import BudgetArg, check_options, check_reset_mask, check_seeds, make_setup
from nextstep_envs.types import Budget, Transition, Usage
from nextstep_envs.workers.crew import WorkersArg

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class VectorState:
    """Where a batched environment stands: its episodes, its generators' states, who is over, decisions so far."""

    episodes: tuple[Any, ...]
    chance: tuple[Any, ...]
    over: tuple[bool, ...]
    lengths: tuple[int, ...]


class BatchedVectorEnv(VectorEnv[Any, Any, Any]):
    """Many orchestration environments in lock step.

    Equal, seed for seed, to `SyncVectorEnv` over `OrchestrationEnv` (sub-environment i is seeded with seed + i), but a
    step gathers the requests of all episodes into one call, and infos are built by column. The arguments not listed
    here are those of `OrchestrationEnv`.

    Args:
        num_envs: how many.
        autoreset_mode: SAME_STEP by default: a dead step would be a wasted decision.
        max_episode_steps: truncate after so many decisions; None (default) never truncates.
    """

    def __init__(
        self,
        num_envs: int = 1,
        world: str = "webshop",
        protocol: str = "workflow",
        interface: str = "vector",
        workers: WorkersArg = "scripted",
        split: str = "train",
        budget: BudgetArg = None,
        cost: str | Sequence[str] = "mix",
        cost_limits: Mapping[str, float] | None = None,
        pool_size: int | None = None,
        reward: str = "outcome",
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        max_episode_steps: int | None = None,
        **own_kwargs: Any,
    ) -> None:
        super().__init__()
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise ConfigError(f"num_envs={num_envs!r} must be a whole number >= 1")
        check_render_mode(render_mode, ["ansi"])
        self.setup = make_setup(
            world, protocol, interface, workers, split, budget, cost, cost_limits, pool_size, reward, own_kwargs
        )
        self.num_envs, self.render_mode, self.max_episode_steps = num_envs, render_mode, max_episode_steps
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {"render_modes": ["ansi"], "autoreset_mode": self.autoreset_mode}
        self.single_observation_space, self.single_action_space = make_spaces(self.setup)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.episodes = [self.setup.episode() for _ in range(num_envs)]
        self._rngs: list[np.random.Generator | None] = [None] * num_envs
        self._over: Flags = np.zeros(num_envs, bool)
        self._lengths = np.zeros(num_envs, int)

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
        """Names of the entries of the vector observation."""
        return self.setup.rules.features.names

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start all episodes, or those of `options["reset_mask"]` (bool [num_envs])."""
        options = dict(options or {})
        chosen = np.flatnonzero(check_reset_mask(options.pop("reset_mask", None), self.num_envs)).tolist()
        checked = check_options(self.setup, options)
        seeds = check_seeds(seed, self.num_envs)
        for i in chosen:
            rng = self._rngs[i]
            if rng is None or seeds[i] is not None:
                rng, _ = seeding.np_random(seeds[i])
                self._rngs[i] = rng
            self._begin(i, checked)
        masks = self._masks(range(self.num_envs))
        return self._observe(masks), self._infos(chosen, [Usage()] * len(chosen), [()] * len(chosen), masks[chosen])

    def step(self, actions: Any) -> tuple[Any, npt.NDArray[np.float64], Flags, Flags, dict[str, Any]]:
        """Take one decision in every episode."""
        n = self.num_envs
        if len(actions) != n:
            raise ConfigError(f"{len(actions)} actions were given for {n} environments")
        stale = self._over.copy()
        if stale.any() and self.autoreset_mode is AutoresetMode.DISABLED:
            raise RuntimeError(f"environments {np.flatnonzero(stale).tolist()} are over; reset them with reset_mask")
        live = np.flatnonzero(~stale).tolist()
        for i in live:
            self.episodes[i].act(check_action(actions[i], self.setup.text))
        if self.setup.crew.provider:
            batched([self.episodes[i] for i in live], self.setup.crew.provider.perform)
        results = {i: self.episodes[i].transition(self.setup.scored) for i in live}
        for i in np.flatnonzero(stale):
            self._begin(int(i), {})
            results[int(i)] = Transition(0.0, Usage(), (), False, False)
        self._lengths[live] += 1
        return self._collect([results[i] for i in range(n)])

    def _collect(self, results: list[Transition]) -> tuple[Any, npt.NDArray[np.float64], Flags, Flags, dict[str, Any]]:
        """Turn the transitions of all episodes into arrays, resetting what is over where the mode says so."""
        rewards = np.array([r.reward for r in results])
        terminated = np.array([r.terminated for r in results])
        truncated = np.array([r.truncated for r in results])
        if self.max_episode_steps:
            truncated |= (self._lengths >= self.max_episode_steps) & ~terminated
        usages, records = [r.usage for r in results], [r.records for r in results]
        self._over = terminated | truncated
        over = self._over.copy()  # a sub-environment that is reset below is no longer over
        ended = np.flatnonzero(over).tolist()
        masks = self._masks(range(self.num_envs))
        everyone = range(self.num_envs)
        if not ended or self.autoreset_mode is not AutoresetMode.SAME_STEP:
            infos = self._infos(everyone, usages, records, masks)
            add_ends(infos, self.num_envs, everyone, results)
            return self._observe(masks), rewards, terminated, truncated, infos
        final = self._infos(ended, [usages[i] for i in ended], [records[i] for i in ended], masks[ended])
        add_ends(final, self.num_envs, ended, [results[i] for i in ended])
        final_obs = objects(self.num_envs, ended, [self._observation(i, masks[i]) for i in ended])
        for i in ended:
            self._begin(i, {})
            usages[i], records[i] = Usage(), ()
        masks[ended] = self._masks(ended)
        infos = self._infos(everyone, usages, records, masks)
        going = np.flatnonzero(~over).tolist()
        add_ends(infos, self.num_envs, going, [results[i] for i in going])
        infos["final_obs"], infos["final_info"] = final_obs, final
        infos["_final_obs"], infos["_final_info"] = over, over.copy()
        return self._observe(masks), rewards, terminated, truncated, infos

    def action_masks(self) -> Flags:
        """Legal actions, bool [num_envs, n_actions]."""
        return self._masks(range(self.num_envs)).astype(bool)

    def render(self) -> tuple[str, ...] | None:
        """Every episode as text (`render_mode="ansi"`)."""
        if self.render_mode != "ansi":
            return None
        return tuple(self.setup.rules.transcript(episode.state) for episode in self.episodes)

    def snapshot(self) -> VectorState:
        """All episodes as one frozen, picklable object, with the chance from which later ones begin."""
        chance = tuple(None if rng is None else rng.bit_generator.state for rng in self._rngs)
        states = tuple(episode.snapshot() for episode in self.episodes)
        return VectorState(states, chance, tuple(self._over.tolist()), tuple(self._lengths.tolist()))

    def restore(self, state: VectorState, sample: int | None = None) -> None:
        """Continue from a snapshot; with `sample`, all episodes as other attempts with other chance."""
        if len(state.episodes) != self.num_envs:
            raise ConfigError(f"the snapshot has {len(state.episodes)} episodes, but there are {self.num_envs}")
        for episode, one in zip(self.episodes, state.episodes, strict=True):
            episode.restore(one, sample)
        for i, chance in enumerate(state.chance):
            self._rngs[i], _ = (None, None) if chance is None else seeding.np_random(0)
            if (rng := self._rngs[i]) is not None:
                rng.bit_generator.state = chance
        self._over, self._lengths = np.array(state.over), np.array(state.lengths)

    def close_extras(self, **kwargs: Any) -> None:
        """Release the provider's clients."""
        if self.setup.crew.provider:
            self.setup.crew.provider.close()

    def _begin(self, i: int, options: Mapping[str, Any]) -> None:
        rng = self._rngs[i]
        if rng is None:
            raise RuntimeError("call reset before step")
        self.setup.begin(self.episodes[i], rng, options)
        self._over[i], self._lengths[i] = False, 0

    def _masks(self, which: Sequence[int]) -> npt.NDArray[np.int8]:
        return np.stack([self.setup.rules.mask(self.episodes[i].state) for i in which])

    def _observation(self, i: int, mask: npt.NDArray[np.int8]) -> Any:
        state = self.episodes[i].state
        if self.setup.text:
            return self.setup.rules.message(state)
        return {"observation": self.setup.rules.features(state), "action_mask": mask.copy()}

    def _observe(self, masks: npt.NDArray[np.int8]) -> Any:
        if self.setup.text:
            return tuple(self.setup.rules.message(episode.state) for episode in self.episodes)
        features = self.setup.rules.features
        vectors = np.stack([features(episode.state) for episode in self.episodes])
        return {"action_mask": masks.copy(), "observation": vectors}

    def _infos(
        self,
        where: Sequence[int],
        usages: Sequence[Usage],
        records: Sequence[tuple[Any, ...]],
        masks: npt.NDArray[np.int8],
    ) -> dict[str, Any]:
        states = [self.episodes[i].state for i in where]
        return columns(self.setup, self.num_envs, where, states, usages, records, masks)
