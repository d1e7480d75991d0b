"""Every registered id with every interface, and a way to play each of them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np

import nextstep_envs  # noqa: F401  (registers)
import registry
from nextstep_envs.workers.personas import load_personas
from nextstep_envs.workers.pool import DEFAULT_POOL


@dataclass(frozen=True)
class Case:
    """One environment as `gym.make` builds it.

    Attributes:
        text: whether actions are texts.
        vector: whether it has a batched form.
        pays: when it gives a reward: "end" (the outcome, once) or "always".
    """

    id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    text: bool = False
    vector: bool = False
    protocol: str = ""
    pays: str = "end"
    world: str = ""

    def __str__(self) -> str:
        return "-".join((self.id.partition("/")[2], *self.kwargs.values()))

    def make(self, **kwargs: Any) -> gym.Env[Any, Any]:
        """A fresh environment, with Gymnasium's own checks around it."""
        return gym.make(self.id, **self.kwargs, **kwargs)

    def policy(self, seed: int) -> Callable[[Any, Mapping[str, Any]], Any]:
        """A random player that takes mostly legal actions."""
        rng = random.Random(seed)
        if not self.text:
            return lambda observation, info: int(rng.choice(np.flatnonzero(info["action_mask"])))
        if self.world in ("mmlu_pro", "gsm8k"):
            return _asker(rng)
        if self.protocol:
            return lambda observation, info: TALKERS[self.protocol](rng)
        return lambda observation, info: _shopper(rng, observation, info)


def _workflow(rng: random.Random) -> str:
    if rng.random() < 0.15:
        return '{"finish": true}'
    worker = rng.choice(DEFAULT_POOL).worker_id  # now and then one that is absent: an invalid action
    access = rng.choice(("[]", '["last"]', '["all"]'))
    return f'{{"subtask": "{{task}}", "worker_id": "{worker}", "access_list": {access}}}'


def _routing(rng: random.Random) -> str:
    return f'{{"agent": "{rng.choice(load_personas()).name}"}}'


def _dag(rng: random.Random) -> str:
    node = {"subtask": "Buy {task}", "agent": rng.choice(DEFAULT_POOL).worker_id, "depends_on": []}
    check = {"subtask": "Check and buy", "agent": rng.choice(DEFAULT_POOL).worker_id, "depends_on": [0]}
    return rng.choice((json.dumps(node), json.dumps({"dag": [node, check]}), '{"run": true}', '{"finish": true}'))


def _search(rng: random.Random) -> str:
    worker = rng.choice(DEFAULT_POOL).worker_id
    kind = rng.choice(("generate", "custom"))
    added = {"name": rng.choice("abc"), "kind": kind, "worker": worker, "inputs": ["task"]}
    edits = ({"edit": "add", "operator": added}, {"edit": "remove", "name": rng.choice("abc")}, {"finish": True})
    return json.dumps(rng.choice(edits))


TALKERS = {"workflow": _workflow, "routing": _routing, "dag": _dag, "search": _search}


def _asker(rng: random.Random) -> Callable[[str, Mapping[str, Any]], str]:
    """Asks workers whom the first message names, now and then one a second time: an invalid action."""
    known: list[str] = []

    def act(observation: str, info: Mapping[str, Any]) -> str:
        if observation.startswith("Task:"):
            known[:] = re.findall(r"^- (\S+): ", observation, re.M)
        return '{"finish": true}' if rng.random() < 0.3 else json.dumps({"agent": rng.choice(known)})

    return act


def _shopper(rng: random.Random, observation: str, info: Mapping[str, Any]) -> str:
    available = info["available_actions"]
    if available["has_search_bar"]:
        words = [word for word in observation.split() if word.isalpha()]
        return f"search[{' '.join(rng.sample(words, 3))}]"
    return f"click[{rng.choice(available['clickables'])}]"


def _cases() -> list[Case]:
    cases = []
    for entry in registry.entries():
        if entry.entry_point is None:
            continue
        batched = entry.vector_entry_point is not None
        if entry.protocol:
            pays = "always" if entry.protocol == "search" else "end"
            cases += [
                Case(entry.id, {"interface": name}, name == "text", batched, entry.protocol, pays, entry.world)
                for name in ("vector", "text")
            ]
        elif entry.world:
            cases.append(Case(entry.id, {}, True, batched))
        else:
            cases.append(Case(entry.id, {}, False, batched, pays="always"))
    return cases


CASES = _cases()


def play(case: Case, env: gym.Env[Any, Any], steps: int = 12, seed: int = 3, **options: Any) -> list[tuple[Any, ...]]:
    """Everything a few steps return, resets included: the first with a seed, later ones without."""
    start = env.reset(seed=seed, options=options or None)
    return [start, *go_on(case.policy(seed), env, start, steps)]


def go_on(policy: Any, env: gym.Env[Any, Any], now: tuple[Any, Any], steps: int = 12) -> list[tuple[Any, ...]]:
    """Everything a few more steps return, from where the environment stands."""
    (observation, info), seen = now, []
    for _ in range(steps):
        observation, reward, terminated, truncated, info = env.step(policy(observation, info))
        seen.append((observation, reward, terminated, truncated, info))
        if terminated or truncated:
            observation, info = env.reset()
            seen.append((observation, info))
    return seen


def assert_same(left: Any, right: Any, where: str = "") -> None:
    """Equal in type and value, arrays bit for bit."""
    assert type(left) is type(right), f"{where}: {type(left)} is not {type(right)}"
    if isinstance(left, Mapping):
        assert list(left) == list(right), f"{where}: {list(left)} is not {list(right)}"
        for key in left:
            assert_same(left[key], right[key], f"{where}[{key!r}]")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), where
        for index, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_same(a, b, f"{where}[{index}]")
    elif isinstance(left, np.ndarray) and left.dtype != object:
        assert left.dtype == right.dtype and left.shape == right.shape, where
        assert left.tobytes() == right.tobytes(), f"{where}: {left} is not {right}"
    elif isinstance(left, np.ndarray):
        assert_same(left.tolist(), right.tolist(), where)
    else:
        assert left == right, f"{where}: {left!r} is not {right!r}"
