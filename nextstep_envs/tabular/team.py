"""Planner and worker act at once, under a budget each: the PettingZoo form of `JointPlanWork`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from pettingzoo import ParallelEnv

from nextstep_envs.env import check_action
from nextstep_envs.errors import ActionError, ConfigError
from nextstep_envs.multiagent.shell import in_order, without_probe
from nextstep_envs.tabular import solve
from nextstep_envs.tabular.cmdp import ArrayLike, check_limits, make_model
from nextstep_envs.tabular.env import EpisodeState, Observation, one_hot
from nextstep_envs.tabular.outcomes import Flags, Floats
from nextstep_envs.tabular.problems import JointPlanWork

PLANNER, WORKER = "planner_0", "worker_0"
_CHOICES = 3  # of each agent
_TIE = 1e-9


class TeamPlanWork(ParallelEnv[str, Observation, int]):
    """A planner chooses how much to plan while a worker chooses how strong a model to run, up to two tries.

    ## Agents
    "planner_0" and "worker_0"; they see the same state and choose at the same time.

    ## Action space
    `Discrete(3)` each: no, low or high effort; no, small or large worker. All are always legal.

    ## Observation space
    Of each agent `Dict(observation=Box float32 [4], action_mask=Box int8 [3])`: the task (easy or hard) and the try
    (first or second) as a one-hot vector, zeros when the episode is over. `state()` is that vector as well.

    ## Reward
    Shared: 1 for a success.
    Its probability by effort (none, low, high) and tier (none, small, large): easy 0 .40 .60, 0 .55 .70, 0 .60 .80;
    hard 0 .05 .20, 0 .15 .45, 0 .25 .70.

    ## Cost
    Of each agent its own "spend", `info[agent]["costs"]` float64 [1], paid on every try. Planner: 0, .5 or 1, budget
    0.9. Worker: 0, 1 or 2.5, budget 1.6. `cost_limits` holds the budgets by agent.

    ## Episode end
    A success or the second failure, for both agents.

    ## Starting state
    As `TabularCMDP`.

    Args:
        d: the two budgets.
        render_mode: None or "ansi".

    ## Version history
    v0: first version. Best product policy under the budgets 0.6894; 0.6991 if one mind moved both agents.
    """

    metadata = {"name": "team_plan_work_v0", "render_modes": ["ansi"], "is_parallelizable": True}

    def __init__(self, d: Sequence[float] = (0.9, 1.6), render_mode: str | None = None) -> None:
        self.joint = JointPlanWork(d, render_mode)  # the same problem with one decision maker of 9 actions
        self.render_mode = render_mode
        self.possible_agents = [PLANNER, WORKER]
        self.agents: list[str] = []
        self.state_space = spaces.Box(0.0, 1.0, (self.joint.n_states,), np.float32)
        self.observation_spaces = {
            agent: spaces.Dict(observation=self.state_space, action_mask=spaces.Box(0, 1, (_CHOICES,), np.int8))
            for agent in self.possible_agents
        }
        self.action_spaces = {agent: spaces.Discrete(_CHOICES) for agent in self.possible_agents}

    @property
    def cost_names(self) -> tuple[str, ...]:
        """Names of the entries of `info[agent]["costs"]`: each agent has one cost, its own."""
        return ("spend",)

    @property
    def cost_limits(self) -> Mapping[str, Mapping[str, float]]:
        """Budgets by agent and cost name."""
        limits = zip(self.possible_agents, self.joint.d.tolist(), strict=True)
        return {agent: {"spend": limit} for agent, limit in limits}

    def observation_space(self, agent: str) -> spaces.Dict:
        """The space of an agent's observations."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Discrete:
        """The space of an agent's actions."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        """Start an episode; options: task_id, sample."""
        observation, info = self.joint.reset(seed=seed, options=dict(without_probe(options)))
        self.agents = self.possible_agents[:]
        return self._each(observation), self._infos(info)

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Take one decision of both agents."""
        chosen = zip(self.possible_agents, in_order(actions, self.agents), strict=True)
        effort, tier = (_choice(agent, action) for agent, action in chosen)
        observation, reward, terminated, truncated, info = self.joint.step(_CHOICES * effort + tier)
        acted, self.agents = self.possible_agents, [] if terminated else self.possible_agents[:]
        return (
            self._each(observation),
            dict.fromkeys(acted, reward),
            dict.fromkeys(acted, terminated),
            dict.fromkeys(acted, truncated),
            self._infos(info),
        )

    def action_masks(self, agent: str) -> Flags:
        """Legal actions of an agent, bool [3]: all."""
        return np.ones(self.action_spaces[agent].n, bool)

    def state(self) -> npt.NDArray[np.float32]:
        """What a centralised critic may see: the one-hot state."""
        return one_hot(self.joint.snapshot().state, self.joint.n_states)

    def render(self) -> str | None:
        """Where the episode is, as text (`render_mode="ansi"`)."""
        return self.joint.render()

    def snapshot(self) -> EpisodeState:
        """The episode as one frozen, picklable object."""
        return self.joint.snapshot()

    def restore(self, state: EpisodeState, sample: int | None = None) -> None:
        """Continue from a snapshot, later episodes included; with `sample`, as another attempt with other chance."""
        self.joint.restore(state, sample)
        self.agents = [] if state.state == self.joint.n_states else self.possible_agents[:]

    def observation(self, state: int) -> Observation:
        """What each agent observes in a state; state 4 is the end of an episode."""
        return {"observation": one_hot(state, self.joint.n_states), "action_mask": np.ones(_CHOICES, np.int8)}

    def evaluate(self, policies: Mapping[str, Any]) -> dict[str, Any]:
        """The exact value of agents that choose independently.

        Args:
            policies: by agent, an array [4, 3] or an object whose `probabilities(observation)` returns [3].

        Returns:
            return: the expected return.
            costs: expected costs of planner and worker, float64 [2].

        Raises:
            ConfigError: an agent is missing, or a policy is not a distribution in every state.
        """
        if set(policies) != set(self.possible_agents):
            raise ConfigError(f"policies of {sorted(policies)} were given; expected {self.possible_agents}")
        legal = np.ones((self.joint.n_states, _CHOICES), bool)
        tables = []
        for agent in self.possible_agents:
            policy = policies[agent]
            if hasattr(policy, "probabilities"):
                seen = (self.observation(state) for state in range(self.joint.n_states))
                policy = [np.asarray(policy.probabilities(observation)) for observation in seen]
            tables.append(solve.check_policy(policy, legal))
        return self.joint.evaluate(_product(*tables))

    def product_optimum(self, d: ArrayLike | None = None, starts: int = 64, seed: int = 0) -> dict[str, Any]:
        """The best independent policies found under the budgets: each in turn the exact best reply to the other.

        The problem is not convex, so replies (linear programs) are repeated until neither gains, from many starts.

        Args:
            d: budgets [2] in place of the environment's own.
            starts: random first policies of the worker.
            seed: of the starts.

        Returns:
            return: the expected return.
            costs: expected costs, float64 [2].
            policies: by agent, probabilities [4, 3].

        Raises:
            ConfigError: no start led to policies that keep the budgets.
        """
        limits = self.joint.model.limits if d is None else check_limits(d, len(self.possible_agents))
        rng = np.random.default_rng(seed)
        found = []
        for _ in range(starts):
            worker = rng.dirichlet(np.full(_CHOICES, 0.5), self.joint.n_states)
            result = self._alternate(worker, limits)
            if result is not None:
                found.append(result)
        if not found:
            raise ConfigError(f"d={limits.tolist()}: none of {starts} starts led to policies within these budgets")
        return max(found, key=lambda result: float(result["return"]))

    def _alternate(self, worker: Floats, limits: Floats) -> dict[str, Any] | None:
        """Best replies in turn from a worker's policy on; None if no planner can keep the budgets with it."""
        value = -np.inf
        while True:
            reply = self._reply("sijt,sj->sit", worker, limits)
            if reply is None:
                return None
            planner = reply["policy"]
            answer = self._reply("sijt,si->sjt", planner, limits)
            if answer is None:
                return None
            worker = answer["policy"]
            if answer["return"] <= value + _TIE:
                policies = {PLANNER: planner, WORKER: worker}
                return {**self.evaluate(policies), "policies": policies}
            value = answer["return"]

    def _reply(self, sums: str, other: Floats, limits: Floats) -> dict[str, Any] | None:
        """The best policy of one agent while the other's is part of the world."""
        model, n = self.joint.model, self.joint.n_states
        P, R, C = model.outcomes.expected()
        P = np.einsum(sums, P.reshape(n, _CHOICES, _CHOICES, n), other)
        R = np.einsum(sums, R.reshape(n, _CHOICES, _CHOICES, 1), other)[..., 0]
        C = np.stack([np.einsum(sums, cost.reshape(n, _CHOICES, _CHOICES, 1), other)[..., 0] for cost in C])
        mine = make_model(P, R, C, model.start, limits, 1.0, None, None, None)
        return solve.occupancy_optimum(mine, limits)

    def _each(self, observation: Observation) -> dict[str, Observation]:
        return {
            agent: {"observation": observation["observation"].copy(), "action_mask": np.ones(_CHOICES, np.int8)}
            for agent in self.possible_agents
        }

    def _infos(self, info: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        infos = {}
        for agent, cost in zip(self.possible_agents, info["costs"].tolist(), strict=True):
            own = {"costs": np.array([cost]), "cost": cost, "cost_terms": {"spend": cost}}
            infos[agent] = {**info, **own, "books": {}, "action_mask": np.ones(_CHOICES, np.int8)}
        return infos


def _choice(agent: str, action: Any) -> int:
    choice = int(check_action(action, text=False))
    if not 0 <= choice < _CHOICES:
        raise ActionError(f"action {choice} of {agent} does not exist; choose a number from 0 to {_CHOICES - 1}")
    return choice


def _product(planner: Floats, worker: Floats) -> Floats:
    joint: Floats = (planner[:, :, None] * worker[:, None, :]).reshape(len(planner), -1)
    return joint
