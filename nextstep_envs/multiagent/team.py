"""The PettingZoo shell of Team: all agents act at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from pettingzoo import ParallelEnv

from nextstep_envs.drivers import one_by_one
from nextstep_envs.env import check_action, check_render_mode
from nextstep_envs.episode import Episode, State
from nextstep_envs.infos import reset_info, step_info
from nextstep_envs.multiagent.shell import LimitsArg, generator_for, in_order, limits_by_agent, without_probe
from nextstep_envs.multiagent.team_rules import SHOP_TEAM, TIERS, Table, TeamProtocol, check_rounds
from nextstep_envs.setup import BudgetArg, Setup, check_options, make_setup
from nextstep_envs.spaces import Prompt
from nextstep_envs.types import Budget, Transition, Usage
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.workers.crew import WorkersArg

Vector = npt.NDArray[np.float32]


class TeamEnv(ParallelEnv[str, Any, Any]):
    """A team works on one task: each round every agent picks, for its speciality, how much to spend.

    The agents of WebShop are `planner_0` (lists requirements), `finder_0` (searches and opens a product) and `buyer_0`
    (sets options and buys). Each pick but "pass" becomes one step by the worker that the table gives for agent and
    tier. The steps of a round run in the agents' order; each reads all earlier outputs and goes on where the last left
    the shop.

    ## Action space
    `interface="vector"`: `Discrete(4)` for each agent: pass, cheap, dear, verify. `interface="text"`: `Prompt`, a JSON
    text `{"tier": "cheap"}`. What cannot be run is that agent's *invalid action*: nothing runs for it, the others'
    picks do, the next message says why, and its `info["invalid_action"]` is True.

    ## Observation space
    `"vector"`: `Dict(observation=Box float32 [n], action_mask=Box int8 [4])`; `feature_names` names the n entries: who
    the agent is, then what all share (task, workers present, what is left, who did what and with which reported result,
    costs of each agent). `"text"`: `Dict(message=Prompt)`, the next message of the agent's conversation. `state()` is
    the shared part, float32 [n - 3], in either interface.

    ## Reward
    Shared: the world's outcome in [0, 1] to every agent when the episode ends, else 0 (`reward="outcome"`), or always 0
    (`reward="none"`).

    ## Cost
    `info[agent]["costs"]` float64 [K]: the costs of that agent's own steps in this round, in raw units, in the order of
    `cost=`; summed over agents and rounds they are what the episode spent. Never subtracted from the reward.
    `cost_limits[agent]` holds the agent's limits per episode, for trainers; nothing enforces them.

    ## Episode end
    Terminated for all: after the last round, when all pass, when the world is done (something was bought: later steps
    of that round do not run), or when the budget, which all share, is exhausted (`info["budget_exhausted"]`).
    Truncated: only when a provider stays down; then `info["error"]` says why and `info["mask_sample"]` is True.
    `info["outcome"]` comes with the last round and is ground truth.

    ## Starting state
    `reset(seed=s)` fixes everything; `options["task_id"]` picks the task, `options["pool"]` the workers present,
    `options["sample"]=k` changes only this attempt's noise.

    Args:
        world: name of the world; it must be a shop.
        interface: "vector" or "text".
        workers: as in `OrchestrationEnv`.
        split: "train", "dev", "test" or "all".
        rounds: the most rounds.
        table: worker ids by agent and tier, for other workers than the default ones, for example
            `{"buyer_0": {"cheap": "small", "dear": "large"}}`; a tier without a worker is never legal.
        budget: `Budget` fields to change; by default there are enough steps for every agent in every round.
        cost: one cost name or several: mix, usd, tokens, calls, env_steps, flops.
        cost_limits: per episode, in raw units, for all agents (`{"usd": .002}`) or by agent
            (`{"buyer_0": {"usd": .002}}`).
        pool_size: workers drawn per episode; default all.
        reward: "outcome" or "none".
        render_mode: None or "ansi".
        **world_kwargs: for the world, for example `data_dir`, `num_products`, `goals`.

    ## Version history
    v0: first version.
    """

    metadata = {"name": "nextstep_team_v0", "render_modes": ["ansi"], "render_fps": 1, "is_parallelizable": True}

    def __init__(
        self,
        world: str = "webshop",
        interface: str = "vector",
        workers: WorkersArg = "scripted",
        split: str = "train",
        rounds: int = 3,
        table: Table | None = None,
        budget: BudgetArg = None,
        cost: str | Sequence[str] = "mix",
        cost_limits: LimitsArg = None,
        pool_size: int | None = None,
        reward: str = "outcome",
        render_mode: str | None = None,
        **world_kwargs: Any,
    ) -> None:
        self._kwargs = {k: v for k, v in locals().items() if k not in ("self", "world_kwargs", "__class__")}
        self._kwargs |= world_kwargs
        check_render_mode(render_mode, ("ansi",))
        own = {"rounds": check_rounds(rounds), "table": table, **world_kwargs}
        setup = make_setup(
            world, "team", interface, workers, split, _steps_for(budget, rounds), cost, None, pool_size, reward, own
        )
        self.setup: Setup = setup if pool_size is not None else replace(setup, pool_size=len(setup.crew.specs))
        assert isinstance(self.setup.rules, TeamProtocol)
        self.rules: TeamProtocol = self.setup.rules
        self.render_mode = render_mode
        self.possible_agents: list[str] = list(self.rules.agents)
        self.agents: list[str] = []
        self.cost_limits = limits_by_agent(cost_limits, self.possible_agents)
        size = self.rules.features.size
        self.state_space = spaces.Box(-1.0, 32.0, (size,), np.float32)
        self.feature_names: tuple[str, ...] = (*(f"me.{a}" for a in self.rules.agents), *self.rules.features.names)
        self.observation_spaces = {agent: self._observation_space() for agent in self.possible_agents}
        self.action_spaces: dict[str, spaces.Space[Any]] = {
            agent: Prompt() if self.setup.text else spaces.Discrete(len(TIERS)) for agent in self.possible_agents
        }
        self.episode: Episode = self.rules.episode(self.setup.world, self.setup.crew.actors)
        self._np_random: np.random.Generator | None = None

    def _observation_space(self) -> spaces.Dict:
        if self.setup.text:
            return spaces.Dict(message=Prompt())
        observation = spaces.Box(-1.0, 32.0, (len(self.feature_names),), np.float32)
        return spaces.Dict(observation=observation, action_mask=spaces.Box(0, 1, (len(TIERS),), np.int8))

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """The agent's observation space, the same object at every call."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """The agent's action space, the same object at every call."""
        return self.action_spaces[agent]

    @property
    def cost_names(self) -> tuple[str, ...]:
        """Names of the entries of `info[agent]["costs"]`."""
        return self.setup.cost_names

    @property
    def budget(self) -> Budget:
        """What the team may consume in one episode."""
        return self.setup.budget

    @property
    def worker_specs(self) -> tuple[WorkerSpec, ...]:
        """Every worker there is."""
        return self.setup.crew.specs

    def reset(
        self, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Start an episode; options: task_id, sample, pool."""
        checked = check_options(self.setup, without_probe(options))
        self._np_random = generator_for(seed, self._np_random)
        self.setup.begin(self.episode, self._np_random, checked)
        self.agents = list(self.possible_agents)
        masks, state = self.rules.masks(self.episode.state), self.episode.state
        infos = {a: reset_info(self.setup, state, mask.copy()) for a, mask in zip(self.agents, masks, strict=True)}
        return self._observe(masks), infos

    def step(self, actions: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
        """Play one round: observations, rewards, terminations, truncations and infos by agent."""
        picks = tuple(check_action(action, self.setup.text) for action in in_order(actions, self.agents))
        self.episode.act(picks)
        if self.setup.crew.provider and self.episode.poll():
            one_by_one(self.episode, self.setup.crew.provider.perform)
        result = self.episode.transition(self.setup.scored)
        agents, masks = self.agents, self.rules.masks(self.episode.state)
        infos = {agent: self._info(i, result, masks[i].copy()) for i, agent in enumerate(agents)}
        if result.terminated or result.truncated:
            self.agents = []
        return (
            self._observe(masks),
            dict.fromkeys(agents, result.reward),
            dict.fromkeys(agents, result.terminated),
            dict.fromkeys(agents, result.truncated),
            infos,
        )

    def _info(self, index: int, result: Transition, mask: npt.NDArray[np.int8]) -> dict[str, Any]:
        """The info of one agent: what its own steps did and cost."""
        agent, state = self.possible_agents[index], self.episode.state
        records = tuple(record for record in result.records if record.step.agent == agent)
        usage = Usage()
        for record in records:
            usage = usage.plus(record.usage)
        info = step_info(self.setup, state, result._replace(records=records, usage=usage), mask)
        info["invalid_action"] = bool(state.draft[-1][index].invalid)
        return info

    def _observe(self, masks: npt.NDArray[np.int8]) -> dict[str, Any]:
        state = self.episode.state
        if self.setup.text:
            return {agent: {"message": self.rules.message_to(agent, state)} for agent in self.possible_agents}
        shared, me = self.state(), np.eye(len(self.possible_agents), dtype=np.float32)
        return {
            agent: {"observation": np.concatenate((me[i], shared)), "action_mask": masks[i].copy()}
            for i, agent in enumerate(self.possible_agents)
        }

    def state(self) -> Vector:
        """What all agents share, float32: the input of a centralised critic."""
        return self.rules.features(self.episode.state)

    def action_masks(self, agent: str) -> npt.NDArray[np.bool_]:
        """Legal actions of an agent, bool [4]."""
        mask: npt.NDArray[np.int8] = self.rules.masks(self.episode.state)[self.possible_agents.index(agent)]
        return mask.astype(bool)

    def render(self) -> str | None:
        """The whole episode as text (`render_mode="ansi"`)."""
        return self.rules.transcript(self.episode.state) if self.render_mode == "ansi" else None

    def snapshot(self) -> State:
        """The episode as one frozen, picklable object."""
        return self.episode.snapshot()

    def restore(self, state: State, sample: int | None = None) -> None:
        """Continue from a snapshot; with `sample`, as another attempt with other chance."""
        self.episode.restore(state, sample)
        self.agents = [] if state.end else list(self.possible_agents)

    def close(self) -> None:
        """Release the provider's clients."""
        if self.setup.crew.provider:
            self.setup.crew.provider.close()

    # Worlds are large and providers hold sockets: a pickle carries the arguments and the episode, and rebuilds both.
    def __getstate__(self) -> dict[str, Any]:
        return {"kwargs": self._kwargs, "np_random": self._np_random, "state": getattr(self.episode, "state", None)}

    def __setstate__(self, pickled: dict[str, Any]) -> None:
        TeamEnv.__init__(self, **pickled["kwargs"])
        self._np_random = pickled["np_random"]
        if pickled["state"] is not None:
            self.restore(pickled["state"])


def _steps_for(budget: BudgetArg, rounds: int) -> BudgetArg:
    """`budget` with steps for every agent in every round, unless it says otherwise."""
    if budget is not None and not isinstance(budget, Mapping):
        return budget
    return {"steps": rounds * len(SHOP_TEAM), **(budget or {})}
