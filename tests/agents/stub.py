"""A tiny text environment whose best action depends on the words of the task and on who is there."""

from __future__ import annotations

import json
import random
from typing import Any

import gymnasium as gym
import numpy as np

from nextstep_envs.seeding import derive, stream
from nextstep_envs.spaces import Prompt

WORKERS = ("general_reasoning", "tool_use", "planning", "verification")
DOMAINS = 5
NOUNS = tuple(
    f"{a}{b}" for a in ("ba", "ko", "mi", "ru", "ze") for b in ("lan", "tor", "pid", "sen", "gal", "fim", "dox", "wu")
)
COLOURS = ("red", "blue", "green", "black", "white")
# Plans: (worker, reads) per step. The first worker of a plan must be there.
PLANS: tuple[tuple[tuple[str, tuple[str, ...]], ...], ...] = (
    (("general_reasoning", ()),),
    (("tool_use", ()),),
    (("planning", ()), ("tool_use", ("0",))),
    (("planning", ()), ("general_reasoning", ("0",))),
    (("tool_use", ()), ("verification", ("0",))),
    (("general_reasoning", ()), ("verification", ("0",))),
    (("planning", ()), ("tool_use", ("0",)), ("verification", ("1",))),
    (("verification", ()),),
)
# Mean payoff by domain (rows) and plan (columns): no plan is good everywhere.
PAYOFF = np.array(
    [
        [0.9, 0.5, 0.5, 0.4, 0.5, 0.5, 0.6, 0.1],
        [0.3, 0.9, 0.5, 0.3, 0.6, 0.3, 0.5, 0.1],
        [0.3, 0.4, 0.9, 0.5, 0.4, 0.3, 0.7, 0.1],
        [0.2, 0.4, 0.4, 0.4, 0.9, 0.6, 0.7, 0.1],
        [0.3, 0.3, 0.5, 0.9, 0.3, 0.5, 0.5, 0.1],
    ]
)


def plan_text(plan: tuple[tuple[str, tuple[str, ...]], ...]) -> str:
    """The JSON action of a plan."""
    steps = [{"subtask": "do {task}", "worker_id": worker, "access_list": list(reads)} for worker, reads in plan]
    return json.dumps({"workflow": steps})


def present(message: str) -> set[str]:
    """Workers that the first message lists."""
    return {worker for worker in WORKERS if f"- {worker}:" in message}


def demonstrate(message: str, rng: random.Random) -> str:
    """A plan drawn uniformly from those whose workers are there."""
    there = present(message)
    return plan_text(rng.choice([plan for plan in PLANS if {worker for worker, _ in plan} <= there]))


class StubEnv(gym.Env[str, str]):
    """One decision (a whole plan) ends an episode; an invalid one gives nothing and may be repeated twice."""

    cost_names = ("calls",)

    def __init__(self, split: str = "train", noise: float = 0.1, fail_rate: float = 0.0) -> None:
        self.observation_space, self.action_space = Prompt(), Prompt()
        self.split, self.noise, self.fail_rate = split, noise, fail_rate

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        options = options or {}
        seed = int(self.np_random.integers(1 << 40)) if seed is None else seed
        rng = stream(seed, self.split)
        noun = rng.randrange(len(NOUNS))
        self.task_id = str(options.get("task_id", f"{self.split}-{derive(seed, 'task') % 100000}"))
        self.sample = int(options.get("sample", 0))
        self.domain, self.pool = noun // (len(NOUNS) // DOMAINS), sorted(rng.sample(WORKERS, 3))
        self.noise_rng = stream(seed, "noise", self.sample)
        self.tries = 0
        workers = "\n".join(f"- {worker}: works on tasks" for worker in self.pool)
        task = f"find a {rng.choice(COLOURS)} {NOUNS[noun]} for less than {rng.randrange(10, 90)} dollars"
        return f"Task: {task}\nWorkers:\n{workers}\nAnswer in JSON.\n", self._info()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.tries += 1
        plan = self._parse(action)
        failed = self.noise_rng.random() < self.fail_rate
        if failed:
            return "outage\n", 0.0, False, True, self._info() | {"mask_sample": True, "costs": np.zeros(1)}
        if plan is None:
            over = self.tries >= 3
            outcome = {"outcome": {"score": 0.0, "success": False}} if over else {}
            extra = {"invalid_action": True, "costs": np.zeros(1), **outcome}
            return "Invalid action.\n", 0.0, over, False, self._info() | extra
        score = float(np.clip(PAYOFF[self.domain, plan] + self.noise_rng.gauss(0, self.noise), 0, 1))
        extra = {"costs": np.array([float(len(PLANS[plan]))]), "outcome": {"score": score, "success": score > 0.8}}
        return "Over.\n", score, True, False, self._info() | extra

    def _info(self) -> dict[str, Any]:
        return {"task_id": self.task_id, "sample": self.sample}

    def _parse(self, action: str) -> int | None:
        try:
            steps = json.loads(action)["workflow"]
            plan = tuple((step["worker_id"], tuple(step["access_list"])) for step in steps)
        except (ValueError, KeyError, TypeError):
            return None
        known = plan in PLANS and {worker for worker, _ in plan} <= set(self.pool)
        return PLANS.index(plan) if known else None
