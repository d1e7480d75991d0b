"""The Gymnasium shell over a bare world: one agent acting with the world's own tools, in text."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from nextstep_envs.env import check_render_mode
from nextstep_envs.errors import ActionError, ConfigError, check_choice
from nextstep_envs.ledger import cost_terms
from nextstep_envs.seeding import stream
from nextstep_envs.setup import build_world, check_common_options
from nextstep_envs.spaces import Prompt
from nextstep_envs.types import Budget, Task, Usage
from nextstep_envs.worlds.base import World

RESET_OPTIONS = ("task_id", "sample")


class BareEnv(gym.Env[str, str]):
    """Act in a world directly, as published agents of that world do.

    ## Action space
    `Prompt`: a call in the world's own form; WebShop: `search[words]` and `click[label]`. What cannot be done shows the
    same page again.

    ## Observation space
    `Prompt`: what the world shows; WebShop: a page in `observation_mode` ("text_rich", "text" or "url").

    ## Reward
    The world's outcome in [0, 1] when the world is done, else 0.

    ## Cost
    Every action costs one `env_steps`; `info["costs"]` is float64 [1], `info["cost_terms"]` has all names.

    ## Episode end
    Terminated when the world is done (WebShop: Buy Now), or after `max_steps` actions with
    `info["budget_exhausted"] == "env_steps"`: an exhausted budget is an end, so nothing is bootstrapped. Never
    truncated. `info["outcome"]` comes with the last step; it is ground truth.

    ## Starting state
    The task is drawn from the split by the world's weights, or is `options["task_id"]`, whatever its split.
    `info["available_actions"]` says what can be done; WebShop: `has_search_bar` and `clickables`.

    Args:
        world: name of the world.
        split: "train", "dev", "test" or "all".
        max_steps: actions per episode; None for no limit.
        interface: "text"; the bare world has no other.
        render_mode: None or "ansi".
        **world_kwargs: for the world; WebShop: `data_dir`, `num_products`, `goals`, `price_seed`, `observation_mode`,
            `reveal_score`.

    ## Version history
    v0: first version.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 1}

    def __init__(
        self,
        world: str = "webshop",
        split: str = "train",
        max_steps: int | None = 15,
        interface: str = "text",
        render_mode: str | None = None,
        **world_kwargs: Any,
    ) -> None:
        check_choice("interface", interface, ("text",))
        check_render_mode(render_mode, self.metadata["render_modes"])
        if max_steps is not None and (isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1):
            raise ConfigError(f"max_steps={max_steps!r} must be a whole number > 0, or None for no limit")
        self._kwargs = {"world": world, "split": split, "max_steps": max_steps, "render_mode": render_mode}
        self._kwargs |= world_kwargs
        self.world: World = build_world(world, world_kwargs)
        self.world.ids(split)
        self.split, self.max_steps, self.render_mode = split, max_steps, render_mode
        self.observation_space, self.action_space = Prompt(), Prompt()
        self._limits = Budget() if max_steps is None else Budget(env_steps=max_steps)
        self._task: Task | None = None
        self._state: Any = None
        self._steps, self._sample, self._over = 0, 0, False

    @property
    def cost_names(self) -> tuple[str, ...]:
        """Names of the entries of `info["costs"]`."""
        return ("env_steps",)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start an episode; options: task_id (int or str) and sample."""
        checked = check_common_options(options, RESET_OPTIONS)
        named, sample = checked.get("task_id"), checked.get("sample", 0)
        task = None if named is None else self.world.task(str(named))
        super().reset(seed=seed)
        episode_seed = int(self.np_random.integers(1 << 62))
        if task is None:
            task = self.world.task(self.world.sample_id(self.split, stream(episode_seed, "task")))
        self._task, self._state = task, self.world.begin(task, stream(episode_seed, "world"))
        self._steps, self._sample, self._over = 0, int(sample), False
        return self.world.view(self._state), self._info(Usage())

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Make one call in the world."""
        if not isinstance(action, str):
            raise ActionError(f"a text action must be a str, got {type(action).__name__} {action!r}")
        if self._task is None or self._over:
            raise RuntimeError(f"{'the episode is over' if self._over else 'no episode has begun'}; call reset first")
        self._state, view = self.world.act(self._state, action)
        self._steps += 1
        info = self._info(Usage(env_steps=1))
        done = self.world.done(self._state)
        self._over = done or self._steps == self.max_steps
        if not self._over:
            return view, 0.0, False, False, info
        outcome = info["outcome"] = self.world.outcome(self._task, self._state)
        if not done:
            info["budget_exhausted"] = "env_steps"
        return view, float(outcome.score), True, False, info

    def render(self) -> str | None:
        """What the world shows now (`render_mode="ansi"`)."""
        if self._task is None:
            raise RuntimeError("no episode has begun; call reset first")
        return self.world.view(self._state) if self.render_mode == "ansi" else None

    def snapshot(self) -> tuple[Any, ...]:
        """The episode as one frozen, picklable object."""
        return self._task, self._state, self._steps, self._sample, self._over

    def restore(self, state: tuple[Any, ...], sample: int | None = None) -> None:
        """Continue from a snapshot; the bare world has no noise, so `sample` is only a label."""
        self._task, self._state, self._steps, self._sample, self._over = state
        self._sample = self._sample if sample is None else sample

    def _info(self, usage: Usage) -> dict[str, Any]:
        terms = cost_terms(usage, self._limits)
        return {
            "task_id": self._task.task_id if self._task else "",
            "sample": self._sample,
            "available_actions": self.world.available(self._state),
            "costs": np.array([terms["env_steps"]]),
            "cost": terms["env_steps"],
            "cost_terms": terms,
            "books": {},
            "records": (),
        }

    # Worlds are large: a pickle carries the arguments and the episode, and rebuilds the world.
    def __getstate__(self) -> dict[str, Any]:
        random = (self._np_random, self._np_random_seed)
        return {"kwargs": self._kwargs, "spec": self.spec, "random": random, "state": self.snapshot()}

    def __setstate__(self, pickled: dict[str, Any]) -> None:
        BareEnv.__init__(self, **pickled["kwargs"])
        self.spec = pickled["spec"]
        self._np_random, self._np_random_seed = pickled["random"]
        self.restore(pickled["state"])
