"""Records what episodes cost and everything that happened in them; changes neither reward nor observation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, SupportsFloat, cast

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper

from wrappers.columns import Progress, step_column
from wrappers.jsonl import append_line, plain


class RecordCost(RecordConstructorArgs, gym.Wrapper[Any, Any, Any, Any]):
    """Adds the episode's costs to `info["episode"]` of its last step.

    Entries: `r` return, `l` length, `c` sum of `info["cost"]`, `costs` sums of `info["costs"]` (float64 [K]) and
    `cost_terms` sums of `info["cost_terms"]`. Where `RecordEpisodeStatistics` wrote `r`, `l` and `t` already, they
    stay; apply that wrapper first (inside), since it refuses to share its key.

    Args:
        env: any environment with `info["cost"]`, `info["costs"]` and `info["cost_terms"]`.
        stats_key: the entry of `info` to write.
    """

    _costs: npt.NDArray[np.float64]

    def __init__(self, env: gym.Env[Any, Any], stats_key: str = "episode") -> None:
        RecordConstructorArgs.__init__(self, stats_key=stats_key)
        gym.Wrapper.__init__(self, env)
        self._key = stats_key
        self._clear()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode with empty sums."""
        self._clear()
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step and add up."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._return += float(reward)
        self._length += 1
        self._cost += float(info["cost"])
        self._costs = self._costs + info["costs"]
        for name, value in info["cost_terms"].items():
            self._terms[name] = self._terms.get(name, 0.0) + float(value)
        if terminated or truncated:
            sums = {"c": self._cost, "costs": self._costs, "cost_terms": dict(self._terms)}
            written = info.get(self._key, {"r": self._return, "l": self._length})
            info = {**info, self._key: {**written, **sums}}
        return observation, reward, terminated, truncated, info

    def _clear(self) -> None:
        self._return, self._length, self._cost, self._costs = 0.0, 0, 0.0, np.zeros(())
        self._terms: dict[str, float] = {}


class RecordCostVector(RecordConstructorArgs, VectorWrapper):
    """`RecordCost` for a vector environment: `infos["episode"]` has the same entries, each `[num_envs, ...]`.

    As with Gymnasium's vector `RecordEpisodeStatistics`, `infos["_episode"]` marks the sub-environments whose episode
    ended in this step, and the entry stands at the top level whatever the autoreset mode. Apply that wrapper first.

    Args:
        env: a vector environment whose infos have `cost`, `costs` and `cost_terms`.
        stats_key: the entry of `infos` to write.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], stats_key: str = "episode") -> None:
        RecordConstructorArgs.__init__(self, stats_key=stats_key)
        VectorWrapper.__init__(self, env)
        self._key = stats_key
        self._progress = Progress(self.num_envs, env.metadata)
        self._sums: dict[str, npt.NDArray[np.float64]] = {}

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start episodes with empty sums."""
        self._progress.reset(options)
        observations, infos = self.env.reset(seed=cast("int | None", seed), options=options)
        if not self._sums:  # which costs there are is known from the first infos
            terms = [f"cost_terms/{name}" for name in infos["cost_terms"] if not name.startswith("_")]
            self._sums = {name: np.zeros(self.num_envs) for name in ("r", "cost", *terms)}
            self._sums["costs"] = np.zeros_like(infos["costs"])
        return observations, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Take a step and add up."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        fresh, live, ended = self._progress.decisions == 0, self._progress.live, terminations | truncations
        for name, total in self._sums.items():
            total[fresh] = 0.0
            total[live] += (rewards if name == "r" else step_column(infos, name, np.zeros_like(total)))[live]
        if ended.any():
            sums = {name: _rows(total, ended) for name, total in self._sums.items()}
            lengths = np.where(ended, self._progress.decisions + 1, 0)
            terms = {name.partition("/")[2]: total for name, total in sums.items() if "/" in name}
            written = infos.get(self._key, {"r": sums["r"], "l": lengths})
            infos[self._key] = {**written, "c": sums["cost"], "costs": sums["costs"], "cost_terms": terms}
            infos[f"_{self._key}"] = ended.copy()
        self._progress.step(ended)
        return observations, rewards, terminations, truncations, infos


def _rows(values: npt.NDArray[np.float64], chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """A copy with zeros in the rows that are not chosen."""
    rows = np.zeros_like(values)
    rows[chosen] = values[chosen]
    return rows


class Trace:
    """One episode growing into a line of a trace; `RecordTrace` says what it holds.

    Args:
        env_id: of the environment, or None.
        seed, options: as given to `reset`.
        observation, info: what `reset` gave.

    Attributes:
        line: the episode so far, plain data.
    """

    def __init__(
        self, env_id: str | None, seed: int | None, options: Mapping[str, Any] | None, observation: Any, info: Any
    ) -> None:
        self.line: dict[str, Any] = {
            "env_id": env_id,
            "task_id": info["task_id"],
            "sample": info["sample"],
            "seed": seed,
            "options": plain(options),
            "messages": [observation] if isinstance(observation, str) else [],
            "steps": [],
            "reward": 0.0,
            "cost": 0.0,
            "terminated": False,
            "truncated": False,
        }

    def add(
        self, action: Any, observation: Any, reward: SupportsFloat, terminated: bool, truncated: bool, info: Any
    ) -> None:
        """Add a step, and the end with the last one."""
        # Made plain now: what the environment lends us may change before the end.
        step = {"action": action, "reward": float(reward)}
        step |= {name: info[name] for name in ("cost", "costs", "records", "invalid_action") if name in info}
        self.line["steps"].append(plain(step))
        self.line["reward"] += float(reward)
        self.line["cost"] += float(info.get("cost", 0.0))
        if isinstance(observation, str):
            self.line["messages"].append(observation)
        if terminated or truncated:
            self.end(terminated, truncated, info)

    def end(self, terminated: bool, truncated: bool, info: Mapping[str, Any]) -> None:
        """Say how it ended."""
        self.line |= {"terminated": bool(terminated), "truncated": bool(truncated)}
        for name in ("outcome", "budget_exhausted", "error", "mask_sample", "books"):
            self.line[name] = plain(info.get(name))


class RecordTrace(RecordConstructorArgs, gym.Wrapper[Any, Any, Any, Any]):
    """Writes every episode as one line of JSON.

    A line holds `env_id`, `task_id`, `sample`, the `seed` given to `reset` (null where the environment went on with
    its own), `options`, `messages` (text observations, the first from `reset`), `steps` (each with `action`, `reward`,
    `cost`, `costs`, `records` and, where infos have it, `invalid_action`), the sums `reward` and `cost`, and how it
    ended: `terminated`, `truncated`, `outcome`, `budget_exhausted`, `error`, `mask_sample`, `books`. An episode left by
    `reset` or `close` after its first step is written too, with `terminated` and `truncated` both false. Settings of
    the environment, where keys might hide, are not written. `wrappers.jsonl.read_lines` reads the file.

    Args:
        env: the environment; rewards are those at this point of the wrapper stack.
        path: the file to append to; its folder is made.
    """

    def __init__(self, env: gym.Env[Any, Any], path: str | os.PathLike[str]) -> None:
        RecordConstructorArgs.__init__(self, path=os.fspath(path))
        gym.Wrapper.__init__(self, env)
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._trace: Trace | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; one that was left unfinished is written first."""
        self._write()
        observation, info = self.env.reset(seed=seed, options=options)
        env_id = self.spec.id if self.spec is not None else None
        self._trace = Trace(env_id, seed, options, observation, info)
        return observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step; the last one writes the line."""
        if (trace := self._trace) is None:
            raise gym.error.ResetNeeded("RecordTrace: no episode is running; call reset before step")
        observation, reward, terminated, truncated, info = self.env.step(action)
        trace.add(action, observation, reward, terminated, truncated, info)
        if terminated or truncated:
            self._write()
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        """Write what is unfinished and close the environment."""
        self._write()
        self.env.close()

    def _write(self) -> None:
        trace, self._trace = self._trace, None
        if trace is not None and trace.line["steps"]:
            append_line(self.path, trace.line)
