"""The named problems: how an orchestrator of workers should spend, small enough for an exact answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode

from nextstep_envs.tabular.env import TabularCMDP
from nextstep_envs.tabular.outcomes import Flags, Floats, Outcomes
from nextstep_envs.tabular.vector import TabularVectorEnv


class TierRouting(TabularCMDP):
    """Route one task to a worker: skip it, or pay for a small, medium or large one.

    ## Action space
    `Discrete(4)`: skip, small, medium, large.

    ## Observation space
    As `TabularCMDP`, with 3 states: an easy, medium or hard task, drawn with .5, .3 and .2.

    ## Reward
    1 for a success. Its probability for small, medium and large: easy .90, .95, .98; medium .50, .80, .92; hard .15,
    .45, .80.

    ## Cost
    "spend": 0, 1, 2 or 5. Budget 1.2.

    ## Episode end
    After one decision.

    Args:
        d: the budget.
        render_mode: None or "ansi".

    ## Version history
    v0: first version. Optimum under the budget 0.7125, without it 0.9260.
    """

    def __init__(self, d: Sequence[float] | float = 1.2, render_mode: str | None = None) -> None:
        success = np.array([[0.0, 0.90, 0.95, 0.98], [0.0, 0.50, 0.80, 0.92], [0.0, 0.15, 0.45, 0.80]])
        outcomes = _tries(success, costs=[[0.0], [1.0], [2.0], [5.0]], on_failure=np.full((3, 4), 3))
        super().__init__(
            **_arrays(outcomes),
            mu=[0.5, 0.3, 0.2],
            d=d,
            horizon=1,
            cost_names=["spend"],
            state_names=["easy", "medium", "hard"],
            action_names=["skip", "small", "medium", "large"],
            render_mode=render_mode,
        )


class RetryStop(TabularCMDP):
    """After every failure: stop, or pay for another attempt, which is less likely to succeed than the last.

    ## Action space
    `Discrete(3)`: stop, cheap, strong.

    ## Observation space
    As `TabularCMDP`, with 6 states: the number of failures so far.

    ## Reward
    1 for a success. Its probability after k failures: cheap .35 * .8^k, strong .75 * .8^k.

    ## Cost
    "spend": 1 for a cheap, 3 for a strong attempt. Budget 3.

    ## Episode end
    Stop, a success, or the sixth failure.

    Args:
        d: the budget.
        render_mode: None or "ansi".

    ## Version history
    v0: first version. Optimum under the budget 0.7893, without it 0.9833.
    """

    def __init__(self, d: Sequence[float] | float = 3.0, render_mode: str | None = None) -> None:
        failures = np.arange(6)[:, None]
        on_failure = np.where([True, False, False], 6, failures + 1)  # stopping ends; state 6 is the end as well
        success = np.array([0.0, 0.35, 0.75]) * 0.8**failures
        outcomes = _tries(success, costs=[[0.0], [1.0], [3.0]], on_failure=on_failure)
        super().__init__(
            **_arrays(outcomes),
            mu=np.eye(6)[0],
            d=d,
            horizon=6,
            cost_names=["spend"],
            state_names=[f"{k} failures" for k in range(6)],
            action_names=["stop", "cheap", "strong"],
            render_mode=render_mode,
        )


class DagRetries(TabularCMDP):
    """Run the diamond A before B and C before D within 8 calls: which node next, on which worker, or stop.

    ## Action space
    `Discrete(9)`: stop, then A cheap, A strong, B cheap ... D strong. Legal: stop, and the unfinished nodes whose
    predecessors are finished.

    ## Observation space
    As `TabularCMDP`, with 32 states: the finished nodes and the number of calls made.

    ## Reward
    1 when A, B or C succeeds, 5 when D does. A cheap call succeeds with .55, a strong one with .90.

    ## Cost
    "spend": 1 for a cheap, 3 for a strong call; budget 9. "leaks": 1 if a success leaked a defect, which happens with
    .10 (cheap) or .01 (strong); budget 0.25.

    ## Episode end
    Stop, D has succeeded, or 8 calls.

    Args:
        d: the two budgets.
        render_mode: None or "ansi".

    ## Version history
    v0: first version. Optimum under the budgets 7.5289, without them 7.9978.
    """

    def __init__(self, d: Sequence[float] = (9.0, 0.25), render_mode: str | None = None) -> None:
        outcomes, mask, names = _diamond()
        super().__init__(
            **_arrays(outcomes),
            mu=np.eye(len(names))[0],
            d=d,
            horizon=8,
            mask=mask,
            cost_names=["spend", "leaks"],
            state_names=names,
            action_names=["stop", *(f"{node} {tier}" for node in "ABCD" for tier in ("cheap", "strong"))],
            render_mode=render_mode,
        )


class JointPlanWork(TabularCMDP):
    """`TeamPlanWork` as one decision maker sees it who moves both agents at once.

    ## Action space
    `Discrete(9)`: 3 * planner effort + worker tier.

    ## Observation space
    As `TabularCMDP`, with 4 states: an easy or hard task (.6 and .4), at its first or second try.

    ## Reward
    1 for a success.
    Its probability by effort (none, low, high) and tier (none, small, large): easy 0 .40 .60, 0 .55 .70, 0 .60 .80;
    hard 0 .05 .20, 0 .15 .45, 0 .25 .70.

    ## Cost
    "planning" (of the planner): effort 0, .5 or 1; budget 0.9. "work" (of the worker): tier 0, 1 or 2.5; budget 1.6.
    Both are paid on every try.

    ## Episode end
    A success or the second failure.

    Args:
        d: the two budgets.
        render_mode: None or "ansi".

    ## Version history
    v0: first version. Optimum under the budgets 0.6991 (0.6894 if the agents choose independently), without 0.9400.
    """

    def __init__(self, d: Sequence[float] = (0.9, 1.6), render_mode: str | None = None) -> None:
        costs = [[effort, tier] for effort in (0.0, 0.5, 1.0) for tier in (0.0, 1.0, 2.5)]
        on_failure = np.array([1, 4, 3, 4])  # the second failure ends
        outcomes = _tries(
            np.repeat(_TEAM_SUCCESS.reshape(2, 9), 2, axis=0), costs, np.repeat(on_failure[:, None], 9, axis=1)
        )
        super().__init__(
            **_arrays(outcomes),
            mu=[0.6, 0.0, 0.4, 0.0],
            d=d,
            horizon=2,
            cost_names=["planning", "work"],
            state_names=[f"{task}, {tries}" for task in ("easy", "hard") for tries in ("first try", "second try")],
            action_names=[f"{p} planning, {w} worker" for p in ("no", "low", "high") for w in ("no", "small", "large")],
            render_mode=render_mode,
        )


# Success probability by task (easy, hard), planner effort (none, low, high) and worker tier (none, small, large).
_TEAM_SUCCESS = np.array(
    [
        [[0.0, 0.40, 0.60], [0.0, 0.55, 0.70], [0.0, 0.60, 0.80]],
        [[0.0, 0.05, 0.20], [0.0, 0.15, 0.45], [0.0, 0.25, 0.70]],
    ]
)


def _arrays(outcomes: Outcomes) -> dict[str, Any]:
    """What `TabularCMDP` is told of sampled outcomes."""
    transitions, reward, costs = outcomes.expected()
    return {"P": transitions, "R": reward, "C": costs, "outcomes": outcomes}


def _tries(success: Floats, costs: Sequence[Sequence[float]], on_failure: npt.NDArray[np.int64]) -> Outcomes:
    """Success brings 1 and ends, failure leads on; costs are paid either way.

    Args:
        success: probability [S, A].
        costs: [A, K].
        on_failure: the next state [S, A]; S ends the episode.
    """
    return Outcomes(
        probability=np.stack([success, 1.0 - success], -1),
        next_state=np.stack([np.full_like(on_failure, len(success)), on_failure], -1),
        reward=np.stack([np.ones_like(success), np.zeros_like(success)], -1),
        costs=np.tile(np.asarray(costs)[:, None, :], (len(success), 1, 2, 1)),
    )


def _diamond() -> tuple[Outcomes, Flags, list[str]]:
    """Outcomes (a clean success, a leaking one, a failure), legal actions and state names of `DagRetries`."""
    needs = {"A": "", "B": "A", "C": "A", "D": "BC"}
    finished = ("", "A", "AB", "AC", "ABC")
    states = [(done, calls) for calls in range(8) for done in finished if len(done) <= calls]
    number = {state: index for index, state in enumerate(states)}
    end = len(states)
    probability, following = np.zeros((end, 9, 3)), np.full((end, 9, 3), end)
    reward, costs, mask = np.zeros((end, 9, 3)), np.zeros((end, 9, 3, 2)), np.zeros((end, 9), bool)
    probability[..., 0], mask[:, 0] = 1.0, True
    for index, (done, calls) in enumerate(states):
        for n, node in enumerate("ABCD"):
            if node in done or not set(needs[node]) <= set(done):
                continue
            after = "".join(sorted(done + node))
            for tier, (success, leak, spend) in enumerate(((0.55, 0.10, 1.0), (0.90, 0.01, 3.0))):
                at = index, 1 + 2 * n + tier
                mask[at] = True
                probability[at] = success * (1 - leak), success * leak, 1 - success
                following[at] = [number.get((done_then, calls + 1), end) for done_then in (after, after, done)]
                reward[at] = (5.0, 5.0, 0.0) if node == "D" else (1.0, 1.0, 0.0)
                costs[at] = (spend, 0.0), (spend, 1.0), (spend, 0.0)
    names = [f"{done or 'nothing'} done, {calls} calls" for done, calls in states]
    return Outcomes(probability, following, reward, costs), mask, names


def _vector(
    problem: Callable[..., TabularCMDP],
    num_envs: int = 1,
    autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
    max_episode_steps: int | None = None,
    **kwargs: Any,
) -> TabularVectorEnv:
    return TabularVectorEnv(problem(**kwargs), num_envs, autoreset_mode, max_episode_steps)


# What `gymnasium.make_vec` calls: the arguments of the problem and of `TabularVectorEnv`.
tier_routing_vector = partial(_vector, TierRouting)
retry_stop_vector = partial(_vector, RetryStop)
dag_retries_vector = partial(_vector, DagRetries)
joint_plan_work_vector = partial(_vector, JointPlanWork)
