"""The Gymnasium shell over a tabular constrained MDP, and its exact solutions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from nextstep_envs.env import check_action, check_render_mode
from nextstep_envs.errors import ActionError, ConfigError, check_choice
from nextstep_envs.setup import check_common_options
from nextstep_envs.tabular import chance, solve
from nextstep_envs.tabular.cmdp import ArrayLike, check_limits, make_model
from nextstep_envs.tabular.outcomes import Flags, Floats, Outcomes, cumulative

if TYPE_CHECKING:
    from nextstep_envs.tabular.vector import TabularVectorEnv

RESET_OPTIONS = ("task_id", "sample")
Observation = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class EpisodeState:
    """An episode, and the chance of all that follow it.

    Attributes:
        root: key of this environment's chance, fixed by the last seed.
        episode: how many episodes have begun since that seed.
        sample: which attempt this is.
        start: the first state.
        state: the current state; the number of states if the episode is over.
        steps: decisions taken.
        last: the last decision as (action, reward, costs), or None.
    """

    root: int
    episode: int
    sample: int
    start: int
    state: int
    steps: int = 0
    last: tuple[int, float, tuple[float, ...]] | None = None


class TabularCMDP(gym.Env[Any, Any]):
    """A constrained MDP with known arrays: an environment to train on, and its exact optimum.

    ## Action space
    `Discrete(A)`. An illegal action ends the episode with reward 0, costs 0 and `info["invalid_action"]`.

    ## Observation space
    `Dict(observation=Box float32 [S], action_mask=Box int8 [A])`: the state as a one-hot vector (zeros when the episode
    is over) and the legal actions. `feature_names` names the states.

    ## Reward
    R(s, a) as expected; with `outcomes`, the reward of the outcome drawn.

    ## Cost
    `info["costs"]` float64 [K]: C(s, a) as expected; with `outcomes`, those of the outcome drawn. Budgets bound the
    expected cost of an episode, E[sum_t gamma^t C_k] <= d_k; they end nothing and are never subtracted from the reward.

    ## Episode end
    Terminated: the probability missing from a row of P, an illegal action, or the horizon. Never truncated.

    ## Starting state
    Drawn from mu; `info["task_id"]` is its number. `reset(seed=s)` fixes everything that follows;
    `options["task_id"]` picks the first state, `options["sample"]=k` changes only the chance of this episode's steps.

    ## Horizon
    Where some policy could still be running after `horizon` steps, time becomes part of the state, because the optimum
    then depends on it: state s at time t = 0 ... horizon - 1 is number `t * S + s`, here and in every array that this
    class returns. Where time is in the state already, nothing changes.

    Args:
        P: transition probabilities [S, A, S]; rows may sum to less than 1, the rest ends the episode.
        R: expected rewards [S, A].
        C: expected costs [K, S, A], or K arrays [S, A] (or one such array, for K = 1).
        mu: distribution of the first state [S].
        d: budgets [K]; inf for none.
        gamma: discount of rewards and costs in `optimum` and `evaluate`; 1 needs episodes that end.
        horizon: the most decisions of an episode, or None.
        mask: legal actions, bool [S, A]; default all.
        outcomes: what a sampled step may bring; its expectation must be P, R and C. Default: the next state is drawn,
            reward and costs are paid as expected.
        cost_names: K names; default "cost", or "cost_0", "cost_1" ...
        state_names: S names; default the numbers.
        action_names: A names; default the numbers.
        render_mode: None or "ansi".

    Raises:
        ConfigError: the first argument that is wrong, naming its value and the fix.

    ## Version history
    v0: first version.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 1}

    def __init__(
        self,
        P: ArrayLike,
        R: ArrayLike,
        C: ArrayLike | Sequence[ArrayLike],
        mu: ArrayLike,
        d: ArrayLike,
        gamma: float = 1.0,
        horizon: int | None = None,
        mask: ArrayLike | None = None,
        *,
        outcomes: Outcomes | None = None,
        cost_names: Sequence[str] | None = None,
        state_names: Sequence[str] | None = None,
        action_names: Sequence[str] | None = None,
        render_mode: str | None = None,
    ) -> None:
        check_render_mode(render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        self.model = make_model(P, R, C, mu, d, gamma, horizon, mask, outcomes)
        n_states, n_actions = self.model.mask.shape
        n_given, n_costs = len(np.asarray(mu)), len(self.model.limits)
        names = _names("state_names", state_names, n_given, [str(state) for state in range(n_given)])
        if n_given < n_states:
            names = tuple(f"{name} at {time}" for time in range(n_states // n_given) for name in names)
        self.feature_names = names
        numbers = [str(action) for action in range(n_actions)]
        self.action_names = _names("action_names", action_names, n_actions, numbers)
        default = ["cost"] if n_costs == 1 else [f"cost_{k}" for k in range(n_costs)]
        self.cost_names = _names("cost_names", cost_names, n_costs, default)
        self.action_space = spaces.Discrete(n_actions)
        self.observation_space = spaces.Dict(
            observation=spaces.Box(0.0, 1.0, (n_states,), np.float32),
            action_mask=spaces.Box(0, 1, (n_actions,), np.int8),
        )
        # The row after the last state is the end; there a mask without any action would make learners divide by zero.
        self.masks = np.concatenate([self.model.mask, np.ones((1, n_actions), bool)]).astype(np.int8)
        self.horizon = horizon
        self._starts = tuple(str(state) for state in np.flatnonzero(self.model.start))
        # Lists: looking one number up in them is much faster than in arrays.
        self._start_cumulative: list[float] = cumulative(self.model.start).tolist()
        self._cumulative: list[list[list[float]]] = cumulative(self.model.outcomes.probability).tolist()
        self._state: EpisodeState | None = None
        self._stream = 0

    @property
    def n_states(self) -> int:
        """S, times the horizon where time is part of the state."""
        return len(self.feature_names)

    @property
    def n_actions(self) -> int:
        """A."""
        return len(self.action_names)

    @property
    def P(self) -> Floats:
        """Transition probabilities [S, A, S]; 0 for illegal actions, as in R and C."""
        P: Floats = self.model.matrix.toarray().reshape(self.n_states, self.n_actions, self.n_states)
        return P

    @property
    def R(self) -> Floats:
        """Expected rewards [S, A]."""
        return self.model.reward

    @property
    def C(self) -> Floats:
        """Expected costs [K, S, A]."""
        return self.model.costs

    @property
    def mu(self) -> Floats:
        """Distribution of the first state [S]."""
        return self.model.start

    @property
    def d(self) -> Floats:
        """Budgets [K]."""
        return self.model.limits

    @property
    def gamma(self) -> float:
        """Discount of `optimum` and `evaluate`."""
        return self.model.gamma

    @property
    def mask(self) -> Flags:
        """Legal actions, bool [S, A]."""
        return self.model.mask

    @property
    def cost_limits(self) -> Mapping[str, float]:
        """Budgets d by cost name."""
        return dict(zip(self.cost_names, self.model.limits.tolist(), strict=True))

    def optimum(self, d: ArrayLike | None = None) -> dict[str, Any]:
        """The best policy under the budgets, exactly: a linear program over occupancy measures.

        Args:
            d: budgets [K] in place of the environment's own; inf for none.

        Returns:
            return: its expected return.
            costs: its expected costs, float64 [K].
            multipliers: of the budgets, float64 [K], >= 0: what one more unit of each would add to the return.
            policy: probabilities, float64 [S, A]; uniform over legal actions in states that it never visits.

        Raises:
            ConfigError: no policy keeps the budgets.
        """
        return solve.optimum(self.model, self.model.limits if d is None else check_limits(d, len(self.model.limits)))

    def evaluate(self, policy: Any) -> dict[str, Any]:
        """The exact value of any stochastic policy.

        Args:
            policy: anything that `policy_table` takes.

        Returns:
            return: its expected return.
            costs: its expected costs, float64 [K].

        Raises:
            ConfigError: not a distribution in every state, or more than 1e-6 on illegal actions.
        """
        return solve.evaluate(self.model, self.policy_table(policy))

    def policy_table(self, policy: Any) -> Floats:
        """The probabilities [S, A] of a policy.

        Args:
            policy: an array [S, A], or an object whose `probabilities(observation)` returns [A].

        Raises:
            ConfigError: not a distribution in every state, or more than 1e-6 on illegal actions.
        """
        if hasattr(policy, "probabilities"):
            seen = (self.observation(state) for state in range(self.n_states))
            policy = [np.asarray(policy.probabilities(observation)) for observation in seen]
        return solve.check_policy(policy, self.model.mask)

    def observation(self, state: int) -> Observation:
        """What is observed in a state; state S is the end of an episode."""
        return {"observation": one_hot(state, self.n_states), "action_mask": self.masks[state].copy()}

    def vector(self, num_envs: int, **kwargs: Any) -> TabularVectorEnv:
        """Many of this environment in lock step; keyword arguments as for `TabularVectorEnv`."""
        from nextstep_envs.tabular.vector import TabularVectorEnv

        return TabularVectorEnv(self, num_envs, **kwargs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; options: task_id, sample."""
        checked = self.check_options(options)
        super().reset(seed=seed)
        if seed is not None or self._state is None:
            root, episode = int(self.np_random.integers(1 << 63)) if seed is None else chance.root(seed), 1
        else:
            root, episode = self._state.root, self._state.episode + 1
        task_id, sample = checked.get("task_id"), int(checked.get("sample", 0))
        if task_id is None:
            start = bisect_right(self._start_cumulative, chance.uniform(chance.key(root, episode, chance.START), 0))
        else:
            start = int(task_id)
        self.restore(EpisodeState(root, episode, sample, start, start))
        return self.observation(start), self._info(start, sample, start, np.zeros(len(self.cost_names)), False)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one decision."""
        now = self.snapshot()
        if now.state == self.n_states:
            raise RuntimeError("the episode is over; call reset first")
        choice = self.check_action(action)
        outcomes, draw = self.model.outcomes, chance.uniform(self._stream, now.steps)
        at = now.state, choice, bisect_right(self._cumulative[now.state][choice], draw)
        following, reward = int(outcomes.next_state[at]), float(outcomes.reward[at])
        costs = outcomes.costs[at].copy()
        last = choice, reward, tuple(costs.tolist())
        self._state = EpisodeState(now.root, now.episode, now.sample, now.start, following, now.steps + 1, last)
        info = self._info(now.start, now.sample, following, costs, not self.model.mask[at[:2]])
        return self.observation(following), reward, following == self.n_states, False, info

    def action_masks(self) -> Flags:
        """Legal actions, bool [A] (the name that sb3-contrib looks for)."""
        legal: Flags = self.masks[self.snapshot().state].astype(bool)
        return legal

    def render(self) -> str | None:
        """Where the episode is, as text (`render_mode="ansi"`)."""
        if self.render_mode != "ansi":
            return None
        now = self.snapshot()
        names = (*self.feature_names, "the end")
        lines = [f"start: {names[now.start]}", f"after {now.steps} decisions: {names[now.state]}"]
        if now.last is not None:
            action, reward, costs = now.last
            spent = ", ".join(f"{name} {cost:g}" for name, cost in zip(self.cost_names, costs, strict=True))
            lines.append(f"last decision: {self.action_names[action]}, reward {reward:g}, {spent}")
        return "\n".join(lines)

    def snapshot(self) -> EpisodeState:
        """The episode as one frozen, picklable object."""
        if self._state is None:
            raise RuntimeError("there is no episode yet; call reset first")
        return self._state

    def restore(self, state: EpisodeState, sample: int | None = None) -> None:
        """Continue from a snapshot, later episodes included; with `sample`, as another attempt with other chance."""
        if sample is not None:
            state = replace(state, sample=int(self.check_options({"sample": sample})["sample"]))
        self._state = state
        self._stream = chance.key(state.root, state.episode, chance.SAMPLE + state.sample)

    def check_options(self, options: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """The options of a reset, or `ConfigError` naming the one that is wrong."""
        checked = check_common_options(options, RESET_OPTIONS)
        if checked.get("task_id") is not None:
            check_choice("options['task_id']", checked["task_id"], self._starts)
        return checked

    def check_action(self, action: Any) -> int:
        """The action as a number, or `ActionError` naming it."""
        choice = int(check_action(action, text=False))
        if not 0 <= choice < self.n_actions:
            raise ActionError(f"action {choice} does not exist; choose a number from 0 to {self.n_actions - 1}")
        return choice

    def _info(self, start: int, sample: int, state: int, costs: Floats, invalid: bool) -> dict[str, Any]:
        terms = dict(zip(self.cost_names, costs.tolist(), strict=True))
        return {
            "task_id": str(start),
            "sample": sample,
            "costs": costs,
            "cost": terms[self.cost_names[0]],
            "cost_terms": terms,
            "books": {},
            "records": (),
            "action_mask": self.masks[state].copy(),
            "invalid_action": invalid,
        }


def one_hot(state: int, n_states: int) -> npt.NDArray[np.float32]:
    """A state as a vector [S]; zeros for the end of an episode, state S."""
    vector = np.zeros(n_states, np.float32)
    vector[state : state + 1] = 1.0
    return vector


def _names(what: str, names: Sequence[str] | None, count: int, default: Sequence[str]) -> tuple[str, ...]:
    chosen = tuple(default if names is None else names)
    if len(chosen) != count or len(set(chosen)) != count:
        raise ConfigError(f"{what}={chosen} must be {count} different names")
    return chosen
