"""Environments side by side: each slot plays one episode at a time, whatever kind of environment it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from nextstep_agents.policies.spaces import AgentSpaces, Flags, Vector
from nextstep_agents.rollout import Start
from nextstep_envs.errors import ConfigError
from nextstep_envs.together import Together

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """What n slots see, by agent: vectors [n, F], masks [n, A], and who is to act, bool [n, agents]."""

    vectors: tuple[Vector, ...]
    masks: tuple[Flags, ...]
    acts: Flags


@dataclass(frozen=True)
class Moved:
    """One decision in each of n slots.

    Attributes:
        seen: afterwards; what an ended episode showed last.
        reward: [n], of a team the mean over its agents.
        costs: [n, K] in raw units; of a team agent by agent.
        terminated, truncated, failed: bool [n]; a failed episode teaches nothing (`info["mask_sample"]`).
    """

    seen: Seen
    reward: Floats
    costs: Floats
    terminated: Flags
    truncated: Flags
    failed: Flags


class Stage(Protocol):
    """Slots for episodes. `names` are the agents' ("" for the only one), `cost_names` those of the columns of costs."""

    names: tuple[str, ...]
    agents: tuple[AgentSpaces, ...]
    cost_names: tuple[str, ...]
    size: int

    def reset(self, slots: Sequence[int], starts: Sequence[Start]) -> Seen:
        """Begin an episode in each of these slots."""
        ...

    def step(self, slots: Sequence[int], actions: Sequence[npt.NDArray[Any]]) -> Moved:
        """Take a decision in each of these slots; `actions` [n] or [n, D] by agent."""
        ...

    def close(self) -> None:
        """Release what the environments hold."""
        ...


class SingleStage:
    """Gymnasium environments, one a slot; `cost_names` () where their infos hold no costs.

    What the workers of all slots ask of models in one step is answered side by side.
    """

    def __init__(self, envs: Sequence[gym.Env[Any, Any]], cost_names: tuple[str, ...]) -> None:
        self._together = Together(envs)
        self.envs, self.size, self.cost_names = list(envs), len(envs), cost_names
        self.names: tuple[str, ...] = ("",)
        self.agents: tuple[AgentSpaces, ...] = (AgentSpaces(envs[0].observation_space, envs[0].action_space),)

    def reset(self, slots: Sequence[int], starts: Sequence[Start]) -> Seen:
        """See `Stage`."""
        return self._seen([_reset(self.envs[slot], start)[0] for slot, start in zip(slots, starts, strict=True)])

    def step(self, slots: Sequence[int], actions: Sequence[npt.NDArray[Any]]) -> Moved:
        """See `Stage`."""
        (spaces,) = self.agents
        results = self._together.step(slots, [spaces.to_env(action) for action in actions[0]])
        observations, rewards, terminated, truncated, infos = zip(*results, strict=True)
        costs = np.array([costs_of(info, self.cost_names) for info in infos]).reshape(len(slots), -1)
        failed = np.array([bool(info.get("mask_sample", False)) for info in infos])
        flags = np.array(terminated, bool), np.array(truncated, bool)
        return Moved(self._seen(observations), np.array(rewards, np.float64), costs, *flags, failed)

    def close(self) -> None:
        """See `Stage`."""
        self._together.close()
        for env in self.envs:
            env.close()

    def _seen(self, observations: Sequence[Any]) -> Seen:
        (spaces,) = self.agents
        vectors = np.stack([spaces.vector(o) for o in observations])
        masks = np.stack([spaces.mask(o) for o in observations])
        return Seen((vectors,), (masks,), np.ones((len(observations), 1), bool))


class TeamStage:
    """PettingZoo parallel environments, one a slot; their costs are each agent's own."""

    def __init__(self, envs: Sequence[Any], cost_names: tuple[str, ...]) -> None:
        self.envs, self.size, self.names = list(envs), len(envs), tuple(envs[0].possible_agents)
        self._own = cost_names
        self.cost_names = tuple(f"{agent}/{name}" for agent in self.names for name in cost_names)
        self.agents = tuple(AgentSpaces(envs[0].observation_space(a), envs[0].action_space(a)) for a in self.names)
        self._empty = [
            (np.zeros(a.size, np.float32), np.ones(a.outputs if a.discrete else 1, bool)) for a in self.agents
        ]

    def reset(self, slots: Sequence[int], starts: Sequence[Start]) -> Seen:
        """See `Stage`."""
        observations = [_reset(self.envs[slot], start)[0] for slot, start in zip(slots, starts, strict=True)]
        return self._seen(slots, observations)

    def step(self, slots: Sequence[int], actions: Sequence[npt.NDArray[Any]]) -> Moved:
        """See `Stage`."""
        observations, rows = [], []
        costs = np.zeros((len(slots), len(self.names), len(self._own)))
        for row, slot in enumerate(slots):
            env = self.envs[slot]
            acting = set(env.agents)
            chosen = {
                name: self.agents[i].to_env(actions[i][row]) for i, name in enumerate(self.names) if name in acting
            }
            observation, rewards, terminations, truncations, infos = env.step(chosen)
            over = not env.agents
            for i, name in enumerate(self.names):
                if self._own and name in infos and name in acting:
                    costs[row, i] = costs_of(infos[name], self._own)
            cut = over and any(truncations.values()) and not all(terminations.values())
            failed = any(info.get("mask_sample", False) for info in infos.values())
            observations.append(observation)
            rows.append((np.mean(list(rewards.values())) if rewards else 0.0, over and not cut, cut, failed))
        reward, terminated, truncated, failed_column = np.array(rows, np.float64).T
        flags = (column.astype(bool) for column in (terminated, truncated, failed_column))
        return Moved(self._seen(slots, observations), reward, costs.reshape(len(slots), -1), *flags)

    def close(self) -> None:
        """See `Stage`."""
        for env in self.envs:
            env.close()

    def _seen(self, slots: Sequence[int], observations: Sequence[Any]) -> Seen:
        acts = np.array([[name in self.envs[slot].agents for name in self.names] for slot in slots])
        columns = []
        for i, name in enumerate(self.names):
            spaces = self.agents[i]
            pairs = [
                (spaces.vector(o[name]), spaces.mask(o[name])) if name in o else self._empty[i] for o in observations
            ]
            columns.append(tuple(np.stack(part) for part in zip(*pairs, strict=True)))
        vectors, masks = zip(*columns, strict=True)
        return Seen(vectors, masks, acts)


class VectorStage:
    """A vector environment that resets what is over in the same step, as all of this project's do.

    Slots without an episode of ours go on with whatever legal action comes first, and nobody looks.
    """

    def __init__(self, env: Any, cost_names: tuple[str, ...]) -> None:
        self.env, self.size, self.cost_names = env, env.num_envs, cost_names
        self.names: tuple[str, ...] = ("",)
        self.agents: tuple[AgentSpaces, ...] = (AgentSpaces(env.single_observation_space, env.single_action_space),)
        observations, _ = env.reset(seed=0)  # the first reset has to begin all; `reset_mask` serves from then on
        self._masks = self.agents[0].vectors(observations)[1]

    def reset(self, slots: Sequence[int], starts: Sequence[Start]) -> Seen:
        """See `Stage`."""
        observations: Any = None
        for sample in dict.fromkeys(start.sample for start in starts):
            seeds: list[int | None] = [None] * self.size
            for slot, start in zip(slots, starts, strict=True):
                seeds[slot] = start.seed if start.sample == sample else None
            which = np.array([seed is not None for seed in seeds])
            observations, _ = self.env.reset(seed=seeds, options={"sample": sample, "reset_mask": which})
        return self._seen(observations, slots)

    def step(self, slots: Sequence[int], actions: Sequence[npt.NDArray[Any]]) -> Moved:
        """See `Stage`."""
        (spaces,) = self.agents
        every = self._masks.argmax(1).astype(np.int64)
        every[list(slots)] = actions[0]  # slots that were freed and taken again are no longer in order
        observations, rewards, terminated, truncated, infos = self.env.step(every)
        index = np.asarray(slots)
        costs, failed = np.zeros((self.size, len(self.cost_names))), np.zeros(self.size, bool)
        over = terminated | truncated
        going = ~over
        if self.cost_names:
            costs[going] = np.stack(infos["costs"][going]) if going.any() else 0.0
            if over.any():
                costs[over] = np.stack(infos["final_info"]["costs"][over])
        if "mask_sample" in infos.get("final_info", {}):
            failed = np.array([bool(value) for value in infos["final_info"]["mask_sample"]])
        seen = self._seen(observations, slots)
        for row in np.flatnonzero(truncated[index]):
            seen.vectors[0][row] = spaces.vector(infos["final_obs"][index[row]])
        columns = (column[index] for column in (rewards, costs, terminated, truncated, failed))
        return Moved(seen, *columns)

    def close(self) -> None:
        """See `Stage`."""
        self.env.close()

    def _seen(self, observations: Any, slots: Sequence[int]) -> Seen:
        vectors, masks = self.agents[0].vectors(observations)
        self._masks = masks
        index = np.asarray(slots)
        return Seen((vectors[index],), (masks[index],), np.ones((len(index), 1), bool))


def costs_of(info: Any, names: Sequence[str]) -> Floats:
    """The costs of one step, [K]: `info["costs"]`, or `info["cost"]` where there is one cost."""
    if not names:
        return np.zeros(0)
    if "costs" in info:
        return np.asarray(info["costs"], np.float64)
    if len(names) == 1 and "cost" in info:
        return np.array([info["cost"]], np.float64)
    raise ConfigError(
        f"the environment's info has no 'costs' (or 'cost') for {', '.join(names)}; add them in a wrapper"
    )


def _reset(env: Any, start: Start) -> tuple[Any, Any]:
    """Begin an episode; only this project's environments know samples."""
    if start.sample and hasattr(env.unwrapped, "snapshot"):
        result: tuple[Any, Any] = env.reset(seed=start.seed, options={"sample": start.sample})
        return result
    result = env.reset(seed=start.seed)
    return result
