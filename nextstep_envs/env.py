"""The one Gymnasium shell over an `Episode`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from nextstep_envs.drivers import one_by_one
from nextstep_envs.errors import ActionError, ArgumentError
from nextstep_envs.infos import reset_info, step_info
from nextstep_envs.machine import Machine
from nextstep_envs.setup import BudgetArg, Setup, check_options, make_setup
from nextstep_envs.spaces import Prompt
from nextstep_envs.types import Budget
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.workers.crew import WorkersArg

Observation = TypeVar("Observation", dict[str, npt.NDArray[Any]], str)


class OrchestrationEnv(gym.Env[Any, Any], Generic[Observation]):
    """Orchestrate workers: decide step by step who does what, with which context, within a budget.

    What one action is depends on the protocol: `WorkflowProtocol`, `RoutingProtocol`, `DagProtocol`, `SearchProtocol`.

    ## Action space
    `interface="vector"`: `Discrete`; the last index is finish. `interface="text"`: `Prompt`, a JSON text;
    `{"finish": true}` ends. What cannot be run is an *invalid action*: it runs nothing, uses one step, the next
    observation says why, and `info["invalid_action"]` is True.

    ## Observation space
    `"vector"`: `Dict(observation=Box float32 [n], action_mask=Box int8 [n_actions])`;
    `env.unwrapped.feature_names` names the n entries. `"text"`: `Prompt`, the next message of a conversation; the first
    holds task, workers, budget and rules, `render()` the whole.

    ## Reward
    The world's outcome in [0, 1] when the episode ends, else 0 (`reward="outcome"`), or always 0 (`reward="none"`).
    Search pays after each edit: the score of the edited program.

    ## Cost
    `info["costs"]` float64 [K]: this step's costs in raw units, in the order of `cost=`; `info["cost"]` is the first,
    `info["cost_terms"]` all by name. Never subtracted from the reward.

    ## Episode end
    Terminated: finish, a whole plan has run, the world is done, or the budget is exhausted
    (`info["budget_exhausted"]` names it). Truncated: only when a provider or sandbox stays down; then
    `info["error"]` says why and `info["mask_sample"]` is True: drop the sample. `info["outcome"]` comes with the last
    step and is ground truth, not for policies or reward models.

    ## Starting state
    `reset(seed=s)` fixes everything; `options["task_id"]` picks the task, `options["pool"]` the workers present
    (ids, or `WorkerSpec`s of the same id with other prices),
    `options["sample"]=k` changes only this attempt's noise.

    Args:
        world: name of the world.
        protocol: name of the protocol.
        interface: "vector" or "text".
        workers: "scripted", "fake", "<provider>:<model>", "replay:<file>", a mapping or a YAML path (see
            `workers.crew.build_crew`).
        split: "train", "dev", "test" or "all".
        budget: `Budget` fields to change, for example `{"tokens": 3000}`.
        cost: one cost name or several: mix, usd, tokens, calls, env_steps, flops.
        cost_limits: per episode, in raw units, for example `{"usd": .02}`; stored for trainers, not enforced here.
        pool_size: workers drawn per episode; default all but one in the train split, all in the others.
        reward: "outcome" or "none".
        render_mode: None or "ansi".
        **own_kwargs: for the protocol (see its class) and the world, for example `data_dir`, `num_products`, `goals`.

    ## Version history
    v0: first version.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 1}

    def __init__(
        self,
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
        **own_kwargs: Any,
    ) -> None:
        self._kwargs = {k: v for k, v in locals().items() if k not in ("self", "own_kwargs", "__class__")}
        self._kwargs |= own_kwargs
        check_render_mode(render_mode, self.metadata["render_modes"])
        self.setup: Setup = make_setup(
            world, protocol, interface, workers, split, budget, cost, cost_limits, pool_size, reward, own_kwargs
        )
        self.render_mode = render_mode
        self.observation_space, self.action_space = make_spaces(self.setup)
        self.episode: Machine = self.setup.episode()
        self._begun: str | int | None = None

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
    def worker_specs(self) -> tuple[WorkerSpec, ...]:
        """Every worker there is, in slot order; an episode has `pool_size` of them."""
        return self.setup.crew.specs

    @property
    def pool_size(self) -> int:
        """How many workers are drawn for an episode."""
        return self.setup.pool_size

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the entries of the vector observation."""
        return self.setup.rules.features.names

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; options: task_id, sample, pool."""
        checked = check_options(self.setup, options)
        super().reset(seed=seed)
        self._begun = None
        self.setup.begin(self.episode, self.np_random, checked)
        mask = self.setup.rules.mask(self.episode.state).copy()
        return self._observe(mask), reset_info(self.setup, self.episode.state, mask)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one decision, unless `begin` has, and wait until its steps have ended."""
        action, begun, self._begun = check_action(action, self.setup.text), self._begun, None
        if begun is None:
            self.episode.act(action)
        elif action != begun:
            raise ActionError(
                f"step got {action!r}, begin {begun!r}: give both what reaches this env past its wrappers"
            )
        if self.setup.crew.provider and self.episode.poll():
            one_by_one(self.episode, self.setup.crew.provider.perform)
        result = self.episode.transition(self.setup.scored)
        mask = self.setup.rules.mask(self.episode.state).copy()
        info = step_info(self.setup, self.episode.state, result, mask)
        return self._observe(mask), result.reward, result.terminated, result.truncated, info

    def begin(self, action: Any) -> None:
        """Take the decision of the next `step`, which must be given the same action, and wait for nothing.

        Whoever steps many environments can so answer the requests of all their episodes side by side (`together`).
        Until that `step`, nothing else is to be done with the environment but to reset it.
        """
        action = check_action(action, self.setup.text)
        self.episode.act(action)
        self._begun = action

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Legal actions, bool [n_actions] (the name that sb3-contrib looks for)."""
        return self.setup.rules.mask(self.episode.state).astype(bool)

    def render(self) -> str | None:
        """The whole episode as text (`render_mode="ansi"`)."""
        return self.setup.rules.transcript(self.episode.state) if self.render_mode == "ansi" else None

    def snapshot(self) -> Any:
        """The episode as one frozen, picklable object."""
        return self.episode.snapshot()

    def restore(self, state: Any, sample: int | None = None) -> None:
        """Continue from a snapshot; with `sample`, as another attempt with other chance."""
        self.episode.restore(state, sample)
        self._begun = None

    def close(self) -> None:
        """Release the provider's clients."""
        if self.setup.crew.provider:
            self.setup.crew.provider.close()

    def _observe(self, mask: npt.NDArray[np.int8]) -> Any:
        rules, state = self.setup.rules, self.episode.state
        if self.setup.text:
            return rules.message(state)
        return {"observation": rules.features(state), "action_mask": mask}

    # Worlds are large and providers hold sockets: a pickle carries the arguments and the episode, and rebuilds both.
    def __getstate__(self) -> dict[str, Any]:
        return {
            "kwargs": self._kwargs,
            "spec": self.spec,
            "np_random": self._np_random,
            "np_random_seed": self._np_random_seed,
            "state": getattr(self.episode, "state", None),
        }

    def __setstate__(self, pickled: dict[str, Any]) -> None:
        OrchestrationEnv.__init__(self, **pickled["kwargs"])
        self.spec, self._np_random = pickled["spec"], pickled["np_random"]
        self._np_random_seed = pickled["np_random_seed"]
        if pickled["state"] is not None:
            self.episode.restore(pickled["state"])


def make_spaces(setup: Setup) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """Observation and action space of one environment."""
    if setup.text:
        return Prompt(), Prompt()
    n, size = setup.rules.n_actions, setup.rules.features.size
    # Shares and unit vectors lie in [-1, 1]; log prices and lengths stay far below 32.
    observation = spaces.Box(-1.0, 32.0, (size,), np.float32)
    return spaces.Dict(observation=observation, action_mask=spaces.Box(0, 1, (n,), np.int8)), spaces.Discrete(n)


def check_action(action: Any, text: bool) -> str | int:
    """The action in plain Python, or `ActionError` naming its type."""
    if text:
        if not isinstance(action, str):
            raise ActionError(f"a text action must be a str, got {type(action).__name__} {action!r}")
        return action
    if isinstance(action, np.ndarray) and action.size == 1:
        action = action.item()
    if isinstance(action, bool) or not isinstance(action, int | np.integer):
        raise ActionError(f"a vector action must be a whole number, got {type(action).__name__} {action!r}")
    return int(action)


def check_render_mode(render_mode: str | None, modes: Sequence[str]) -> None:
    """Raise `ArgumentError` for a render mode that does not exist."""
    if render_mode is not None and render_mode not in modes:
        raise ArgumentError(f"render_mode={render_mode!r} is unknown; choose None or one of {', '.join(modes)}")
