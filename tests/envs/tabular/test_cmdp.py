"""A user's own model: what is refused, how a horizon is kept, and that the answers are exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from nextstep_envs.errors import ConfigError
from nextstep_envs.tabular import Outcomes, TabularCMDP, TierRouting
from tests.envs.tabular.cases import loop, one_shot, uniform

INF = float("inf")


def backward(arguments: dict[str, Any], gain: np.ndarray) -> float:
    """The best expected sum of `gain` [S, A] within the horizon, by backward induction."""
    gamma = arguments.get("gamma", 1.0)
    value = np.zeros(len(arguments["mu"]))
    for _ in range(arguments["horizon"]):
        value = (gain + gamma * np.asarray(arguments["P"]) @ value).max(-1)
    return float(np.dot(arguments["mu"], value))


@pytest.mark.parametrize("gamma", [1.0, 0.8])
def test_a_horizon_is_kept_exactly(gamma: float) -> None:
    arguments = loop(gamma=gamma)
    env = TabularCMDP(**arguments)
    assert env.n_states == 12
    assert env.optimum([INF, INF])["return"] == pytest.approx(backward(arguments, arguments["R"]), abs=1e-9)


def test_a_horizon_and_a_budget_together_are_solved_exactly() -> None:
    """Strong duality: the optimum is the least Lagrangian bound, each bound solved by backward induction."""
    arguments = loop(C=loop()["C"][0], d=1.7)
    found = TabularCMDP(**arguments).optimum()
    assert found["costs"] == pytest.approx([1.7]) and found["multipliers"][0] > 0

    def bound(price: float) -> float:
        return backward(arguments, arguments["R"] - price * arguments["C"]) + price * 1.7

    assert found["return"] == pytest.approx(minimize_scalar(bound, bounds=(0, 20), method="bounded").fun, abs=1e-4)
    assert bound(found["multipliers"][0]) == pytest.approx(found["return"], abs=1e-9)


def test_a_policy_of_an_expanded_model_is_played_for_exactly_the_horizon() -> None:
    env = TabularCMDP(**loop())
    for seed in range(5):
        observation, info = env.reset(seed=seed)
        assert info["task_id"] in ("0", "1")  # the names of the first states stay
        for time in range(4):
            assert observation["observation"].argmax() // 3 == time
            observation, _, terminated, truncated, _ = env.step(seed % 2)
            assert terminated == (time == 3) and not truncated
    assert env.feature_names[:4] == ("0 at 0", "1 at 0", "2 at 0", "0 at 1")


def test_a_horizon_that_no_policy_outlasts_changes_nothing() -> None:
    assert TabularCMDP(**one_shot(horizon=1)).n_states == 2
    assert TierRouting().n_states == 3
    chain = np.zeros((2, 2, 2))
    chain[0, 0, 1] = 1.0
    assert TabularCMDP(**one_shot(P=chain, horizon=2)).n_states == 2
    assert TabularCMDP(**one_shot(P=chain, horizon=1)).n_states == 2  # expanded once: time 0 only
    assert TabularCMDP(**one_shot(P=chain, horizon=1)).P.sum() == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_discounted_value_is_that_of_the_linear_equations(seed: int) -> None:
    env = TabularCMDP(**loop(horizon=None, gamma=0.9))
    policy = np.random.default_rng(seed).dirichlet(np.ones(2), 3)
    chain = np.einsum("sa,sat->st", policy, env.P)
    visits = np.linalg.solve(np.eye(3) - 0.9 * chain.T, env.mu)
    found = env.evaluate(policy)
    assert found["return"] == pytest.approx(visits @ (policy * env.R).sum(-1), abs=1e-9)
    np.testing.assert_allclose(found["costs"], [visits @ (policy * cost).sum(-1) for cost in env.C], atol=1e-9)


def test_a_discounted_optimum_is_that_of_value_iteration() -> None:
    env = TabularCMDP(**loop(horizon=None, gamma=0.9))
    value = np.zeros(3)
    for _ in range(500):
        value = (env.R + 0.9 * env.P @ value).max(-1)
    assert env.optimum([INF, INF])["return"] == pytest.approx(env.mu @ value, abs=1e-9)


def test_missing_probability_ends_the_episode() -> None:
    """Going on with probability 1/2 makes two decisions on average."""
    env = TabularCMDP([[[0.5]]], [[1.0]], [[3.0]], [1.0], 9.0)
    found = env.evaluate([[1.0]])
    assert found["return"] == pytest.approx(2.0) and found["costs"] == pytest.approx([6.0])
    lengths = []
    env.reset(seed=0)
    for _ in range(4000):
        length, over = 0, False
        while not over:
            _, reward, over, _, info = env.step(0)
            assert reward == 1.0 and info["cost"] == 3.0
            length += 1
        lengths.append(length)
        env.reset()
    assert np.mean(lengths) == pytest.approx(2.0, abs=5 * np.sqrt(2 / 4000))


def test_what_is_illegal_does_not_count() -> None:
    greedy = one_shot(R=[[1.0, 2.0], [0.0, 99.0]], mask=[[1, 1], [1, 0]], d=9.0)
    env = TabularCMDP(**greedy)
    assert env.optimum()["return"] == pytest.approx(1.0)
    assert not env.R[1, 1] and not env.C[0, 1, 1]
    forever = one_shot(P=[[[0, 0], [1, 0]], [[0, 0], [0, 1]]], mask=[[1, 0], [1, 0]])  # only by illegal actions
    assert TabularCMDP(**forever).n_states == 2


def test_a_process_that_may_never_end_is_refused_unless_it_is_never_reached() -> None:
    stays = np.zeros((2, 2, 2))
    stays[1, 1, 1] = 1.0
    with pytest.raises(ConfigError, match=r"stay in states \[1\] for ever"):
        TabularCMDP(**one_shot(P=stays))
    assert TabularCMDP(**one_shot(P=stays, mu=[1.0, 0.0])).optimum()["return"] == pytest.approx(2.0)
    assert TabularCMDP(**one_shot(P=stays, gamma=0.9)).n_states == 2
    assert TabularCMDP(**one_shot(P=stays, horizon=3)).n_states == 6
    circle = np.zeros((2, 2, 2))
    circle[0, 0, 1] = circle[1, 1, 0] = 1.0
    with pytest.raises(ConfigError, match=r"\[0, 1\]"):
        TabularCMDP(**one_shot(P=circle))
    leaks = circle * 0.999
    assert TabularCMDP(**one_shot(P=leaks, d=1000.0)).optimum()["return"] > 100


def test_rounding_in_a_row_ends_nothing() -> None:
    thirds = np.full((3, 1, 3), 1 / 3)
    thirds[0, 0] = [0.1, 0.2, 0.7 - 1e-12]
    env = TabularCMDP(thirds, np.ones((3, 1)), np.ones((3, 1)), [1.0, 0.0, 0.0], 1.0, gamma=0.5)
    assert (env.P.sum(-1) >= 1 - 1e-15).all()
    assert env.evaluate(np.ones((3, 1)))["return"] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"P": np.zeros((2, 2, 3))}, r"P has shape \(2, 2, 3\)"),
        ({"P": np.zeros((2, 2))}, r"P has shape \(2, 2\)"),
        ({"P": [[1.0, 2.0], [3.0]]}, "P="),
        ({"P": np.full((2, 2, 2), -0.1)}, r"P\[0, 0\].*negative"),
        ({"P": np.full((2, 2, 2), 0.5001)}, r"P\[0, 0\].*sums to"),
        ({"P": np.full((2, 2, 2), np.nan)}, r"P\[0, 0, 0\] is not finite"),
        ({"R": [1.0, 2.0]}, r"R has shape \(2,\)"),
        ({"R": [[1.0, np.inf], [0.0, 0.0]]}, r"R\[0, 1\] is not finite"),
        ({"C": np.zeros((1, 2, 3))}, r"C has shape \(1, 2, 3\)"),
        ({"C": np.zeros(4)}, r"C has shape \(4,\)"),
        ({"C": "dear"}, "C='dear'"),
        ({"mu": [0.5, 0.6]}, "mu=.*1.1"),
        ({"mu": [1.5, -0.5]}, "mu="),
        ({"mu": [1.0]}, r"mu has shape \(1,\)"),
        ({"d": [-1.0]}, r"d=\[-1.0\]"),
        ({"d": [np.nan]}, "d="),
        ({"d": []}, "d="),
        ({"d": [1.0, 2.0]}, r"d=\[1.0, 2.0\].*1 costs"),
        ({"gamma": 0.0}, "gamma=0.0"),
        ({"gamma": 1.1}, "gamma=1.1"),
        ({"gamma": None}, "gamma=None"),
        ({"horizon": 0}, "horizon=0"),
        ({"horizon": 2.5}, "horizon=2.5"),
        ({"mask": [[1, 1], [0, 0]]}, "state 1 has no legal action"),
        ({"mask": [[1, 1]]}, "mask"),
        ({"mask": [[1, 2], [1, 1]]}, "mask"),
        ({"cost_names": ["a", "b"]}, "cost_names"),
        ({"state_names": ["same", "same"]}, "state_names"),
        ({"action_names": []}, "action_names"),
        ({"render_mode": "human"}, "render_mode='human'"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TabularCMDP(**one_shot(**changes))


def gamble(**changes: Any) -> Outcomes:
    """One state and one action: 4 with 1/4 at a cost of 8, else nothing."""
    parts: dict[str, Any] = {
        "probability": np.array([[[0.25, 0.75]]]),
        "next_state": np.array([[[1, 1]]]),
        "reward": np.array([[[4.0, 0.0]]]),
        "costs": np.array([[[[8.0], [0.0]]]]),
    }
    return Outcomes(**{**parts, **changes})


def test_sampled_outcomes_are_paid_as_drawn_and_solved_as_expected() -> None:
    env = TabularCMDP([[[0.0]]], [[1.0]], [[2.0]], [1.0], 5.0, outcomes=gamble())
    paid = []
    for seed in range(400):
        env.reset(seed=seed)
        _, reward, _, _, info = env.step(0)
        paid.append((reward, info["cost"]))
    assert set(paid) == {(4.0, 8.0), (0.0, 0.0)}
    assert np.mean(paid, axis=0) == pytest.approx([1.0, 2.0], abs=0.5)
    assert env.evaluate([[1.0]])["return"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    "outcomes",
    [
        gamble(reward=np.array([[[2.0, 0.0]]])),
        gamble(costs=np.array([[[[4.0], [0.0]]]])),
        gamble(next_state=np.array([[[0, 1]]])),
        gamble(next_state=np.array([[[2, 1]]])),
        gamble(probability=np.array([[[0.25, 0.5]]])),
        gamble(reward=np.zeros((1, 1, 3))),
    ],
)
def test_outcomes_that_contradict_the_arrays_are_refused(outcomes: Outcomes) -> None:
    with pytest.raises(ConfigError, match="outcomes"):
        TabularCMDP([[[0.0]]], [[1.0]], [[2.0]], [1.0], 5.0, outcomes=outcomes)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (np.ones((3, 2)) / 2, "shape"),
        ([[0.5, 0.6], [1.0, 0.0]], r"policy\[0\]"),
        ([[1.5, -0.5], [1.0, 0.0]], r"policy\[0\]"),
        ([[np.nan, 1.0], [1.0, 0.0]], r"policy\[0\]"),
        ([[1.0, 0.0], [0.99, 0.01]], "0.01 on illegal actions"),
        (None, "policy"),
        ("best", "policy"),
    ],
)
def test_what_is_no_policy_is_refused(policy: Any, message: str) -> None:
    env = TabularCMDP(**one_shot(mask=[[1, 1], [1, 0]]))
    with pytest.raises(ConfigError, match=message):
        env.evaluate(policy)


def test_what_a_softmax_leaves_on_illegal_actions_is_forgiven() -> None:
    env = TabularCMDP(**one_shot(mask=[[1, 1], [1, 0]]))
    table = env.policy_table(np.array([[0.5, 0.5], [1 - 1e-8, 1e-8]], np.float32))
    np.testing.assert_array_equal(table, [[0.5, 0.5], [1.0, 0.0]])


def test_a_learned_policy_is_asked_what_the_environment_shows() -> None:
    env = TierRouting()
    seen = []

    class Learned:
        def probabilities(self, observation: Any) -> list[float]:
            assert observation in env.observation_space
            seen.append(observation["observation"].argmax())
            return [0.0, 0.0, 0.0, 1.0]

    assert env.evaluate(Learned())["return"] == pytest.approx(0.926)
    assert seen == [0, 1, 2]
    for state in range(3):
        shown, _ = env.reset(seed=0, options={"task_id": str(state)})
        expected = env.observation(state)
        assert list(shown) == list(expected)
        for key, value in shown.items():
            np.testing.assert_array_equal(value, expected[key], strict=True)


def test_the_arrays_can_be_read_back() -> None:
    arguments = loop(horizon=None, gamma=0.9)
    env = TabularCMDP(**arguments)
    for name in ("P", "R", "C", "mu", "d"):
        np.testing.assert_allclose(getattr(env, name), arguments[name], atol=1e-12)
    assert env.gamma == 0.9 and env.horizon is None and env.mask.all()
    assert env.cost_limits == {"cost_0": 2.0, "cost_1": 2.2}
    assert uniform(env).shape == (3, 2)
