"""Steps per CPU second of every registered id with scripted workers, single and batched, under a random legal policy.

A step is one decision of one agent, the time in the world and in scripted workers included, that of the policy not. For
PettingZoo ids a parallel step counts once for each agent that acts. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

import nextstep_envs  # noqa: F401
import registry
from registry import EnvEntry

Timed = Callable[..., Any]


class Clock:
    """Adds up the CPU time of calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, function: Timed, *args: Any, **kwargs: Any) -> Any:
        """Call a function on the clock."""
        start = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            self.seconds += time.process_time() - start


def single(entry: EnvEntry, seconds: float) -> float:
    """Steps per CPU second through `gym.make`."""
    env, clock, rng, steps = gym.make(entry.id), Clock(), random.Random(0), 0
    observation, info = env.reset(seed=0)
    while clock.seconds < seconds:
        observation, _, terminated, truncated, info = clock(env.step, choose(observation, info, rng))
        steps += 1
        if terminated or truncated:
            observation, info = clock(env.reset)
    env.close()
    return steps / clock.seconds


def choose(observation: Any, info: Any, rng: random.Random) -> Any:
    """A legal action; in the bare shop, where actions are texts, a search or a click."""
    if "action_mask" in info:
        return int(rng.choice(np.flatnonzero(info["action_mask"])))
    if info["available_actions"]["has_search_bar"]:
        words = [word for word in observation.split() if word.isalpha()]
        return f"search[{' '.join(rng.sample(words, 3))}]"
    return f"click[{rng.choice(info['available_actions']['clickables'])}]"


def batched(entry: EnvEntry, seconds: float, n: int = 64) -> float:
    """Sub-environment steps per CPU second through `gym.make_vec`."""
    envs = gym.make_vec(entry.id, num_envs=n, vectorization_mode="vector_entry_point")
    clock, rng, steps = Clock(), np.random.default_rng(0), 0
    observations, _ = envs.reset(seed=0)
    while clock.seconds < seconds:
        masks = observations["action_mask"]
        actions = (rng.random(masks.shape) * masks).argmax(axis=1)
        observations, *_ = clock(envs.step, actions)
        steps += n
    envs.close()
    return steps / clock.seconds


def parallel(entry: EnvEntry, seconds: float) -> float:
    """Agent decisions per CPU second through `registry.make_parallel`; one that can only wait does not count."""
    env, clock, rng, steps = registry.make_parallel(entry.id), Clock(), random.Random(0), 0
    _, infos = env.reset(seed=0)
    while clock.seconds < seconds:
        legal = {agent: np.flatnonzero(infos[agent]["action_mask"]) for agent in env.agents}
        steps += sum(len(choices) > 1 for choices in legal.values())
        _, _, _, _, infos = clock(env.step, {agent: int(rng.choice(choices)) for agent, choices in legal.items()})
        if not env.agents:
            _, infos = clock(env.reset)
    env.close()
    return steps / clock.seconds


def aec(entry: EnvEntry, seconds: float) -> float:
    """Agent turns per CPU second through `registry.make_aec`."""
    env, clock, rng, steps = registry.make_aec(entry.id), Clock(), random.Random(0), 0
    env.reset(seed=0)
    while clock.seconds < seconds:
        if not env.agents:
            clock(env.reset)
        _, _, terminated, truncated, info = clock(env.last)
        over = terminated or truncated
        clock(env.step, None if over else int(rng.choice(np.flatnonzero(info["action_mask"]))))
        steps += not over
    env.close()
    return steps / clock.seconds


SIDES: dict[str, tuple[str, Callable[[EnvEntry, float], float]]] = {
    "single": ("entry_point", single),
    "batched_64": ("vector_entry_point", batched),
    "parallel": ("parallel_entry_point", parallel),
    "aec": ("aec_entry_point", aec),
}


def main() -> None:
    """Measure every form of every id in turn and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU time of one measurement")
    arguments = parser.parse_args()
    table: dict[str, dict[str, int]] = {}
    for entry in registry.entries():
        for name, (form, measure) in SIDES.items():
            if getattr(entry, form) is not None:
                speeds = [measure(entry, arguments.seconds) for _ in range(arguments.repeats)]
                table.setdefault(entry.id, {})[name] = round(float(np.median(speeds)))
        cells = "  ".join(f"{name} {speed:>7,}" for name, speed in table[entry.id].items())
        print(f"{entry.id:32} {cells}", flush=True)
    print(json.dumps({"steps_per_cpu_second": table}))


if __name__ == "__main__":
    main()
