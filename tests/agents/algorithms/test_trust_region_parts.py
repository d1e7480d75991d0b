"""The line search, conjugate gradients, divergences and the products with their curvature."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from nextstep_agents.algorithms.trust_region import (
    Step,
    assign,
    categorical_kl,
    conjugate_gradient,
    constrained_step,
    fisher_product,
    flat,
    gaussian_kl,
    line_search,
)
from nextstep_agents.algorithms.update import TrainingError
from nextstep_envs.errors import ConfigError
from tests.agents.algorithms.steps import F64, IDENTITY, Problem

# --- the line search ------------------------------------------------------------------------------------------------

STEP = Step(torch.ones(3), "constrained", 1.0, torch.ones(1, dtype=F64), torch.ones(1, dtype=F64))


def trial(
    kl: float = 0.0, reward: float = 1.0, costs: tuple[float, ...] = (0.0,), step: Step = STEP, c: float = -1.0
) -> bool:
    """Whether a step with these effects is accepted at once."""
    excess = [c] * len(costs)
    return line_search(lambda x: (kl, reward, costs), step, excess, kl_limit=0.1, attempts=1) is not None


def test_a_step_is_accepted_that_improves_and_keeps_its_limits() -> None:
    assert trial(kl=0.1, reward=1e-9, costs=(1.0,))
    assert not trial(kl=0.1001)
    assert not trial(reward=0.0)
    assert not trial(costs=(1.001,))
    assert not trial(costs=(0.5, 1.1))
    assert trial(costs=())


def test_a_violated_cost_has_to_fall_and_then_reward_may_too() -> None:
    recovery = replace(STEP, case="recovery")
    for step in (STEP, recovery):
        assert trial(reward=-5.0, costs=(-0.1,), step=step, c=0.5)
        assert not trial(reward=5.0, costs=(0.0,), step=step, c=0.5)
        assert not trial(reward=5.0, costs=(-0.1, 0.1), step=step, c=0.5)
        assert trial(costs=(-0.1, 0.0), step=step, c=0.5)


@pytest.mark.parametrize("values", [(math.nan, 1.0, 0.0), (0.0, math.nan, 0.0), (0.0, 1.0, math.nan)])
def test_what_is_not_a_number_is_not_accepted(values: tuple[float, float, float]) -> None:
    kl, reward, cost = values
    assert not trial(kl, reward, (cost,))
    assert not trial(kl, reward, (cost,), c=0.5)


def test_the_search_shortens_the_step_until_it_passes() -> None:
    tried: list[float] = []

    def evaluate(x: Tensor) -> tuple[float, float, list[float]]:
        size = float(x[0])
        tried.append(size)
        return size**2, size, [size]

    accepted = line_search(evaluate, STEP, [-0.3], kl_limit=0.2)
    assert accepted is not None and accepted.tries == 3 and tried == [1.0, 0.5, 0.25]
    torch.testing.assert_close(accepted.x, torch.full((3,), 0.25))
    assert (accepted.kl, accepted.reward_change, accepted.cost_changes.tolist()) == (0.0625, 0.25, [0.25])
    tried.clear()
    assert line_search(evaluate, STEP, [-0.3], kl_limit=0.2, beta=0.9, attempts=4) is None
    assert tried == pytest.approx([1, 0.9, 0.81, 0.729])


def test_a_step_of_length_zero_is_not_tried() -> None:
    def evaluate(x: Tensor) -> tuple[float, float, list[float]]:
        raise AssertionError("evaluated")

    zero = replace(STEP, x=torch.zeros(3), case="recovery")
    assert line_search(evaluate, zero, [1.0], kl_limit=0.1) is None


# --- conjugate gradients --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-8), (torch.float32, 1e-3)])
def test_conjugate_gradients_solve_a_system_in_as_many_products_as_it_has_dimensions(
    dtype: torch.dtype, error: float
) -> None:
    for seed in range(20):
        p = Problem(seed, 0, dimension=10)
        p.H += np.eye(10)  # a condition number of about 50
        x = conjugate_gradient(p.product, torch.as_tensor(p.g).to(dtype), iterations=12)
        np.testing.assert_allclose(x, np.linalg.solve(p.H, p.g), atol=error * np.linalg.norm(p.g))


def test_conjugate_gradients_stop_when_they_are_done() -> None:
    calls = []

    def product(v: Tensor) -> Tensor:
        calls.append(v)
        return v * torch.tensor([1.0, 2.0, 2.0, 2.0], dtype=F64)

    b = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=F64)
    torch.testing.assert_close(conjugate_gradient(product, b), b / torch.tensor([1.0, 2.0, 2.0, 2.0], dtype=F64))
    assert len(calls) == 2  # two different eigenvalues
    assert not conjugate_gradient(product, torch.zeros(4, dtype=F64)).any() and len(calls) == 2


def test_a_singular_system_is_solved_where_it_can_be() -> None:
    p = np.array([0.5, 0.3, 0.2])
    fisher = torch.as_tensor(np.diag(p) - np.outer(p, p))
    b = torch.tensor([1.0, -0.25, -0.75], dtype=F64)  # in its range
    x = conjugate_gradient(lambda v: fisher @ v, b)
    torch.testing.assert_close(fisher @ x, b)


def test_no_curvature_along_a_gradient_is_an_error() -> None:
    with pytest.raises(TrainingError, match="raise damping"):
        conjugate_gradient(lambda v: -v, torch.ones(2))


# --- the divergence and its Hessian ---------------------------------------------------------------------------------


def test_the_divergence_of_categorical_distributions() -> None:
    p, q = torch.tensor([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]]), torch.tensor([[0.2, 0.2, 0.6], [0.25, 0.75, 0.0]])
    expected = [0.5 * math.log(2.5) + 0.3 * math.log(1.5) + 0.2 * math.log(1 / 3), math.log(4)]
    torch.testing.assert_close(categorical_kl(p.log(), q.log()), torch.tensor(expected))
    assert not categorical_kl(p.log(), p.log()).any()
    assert torch.isinf(categorical_kl(q.log(), p.log())[1])


def test_the_divergence_has_a_gradient_where_actions_are_masked() -> None:
    for reverse in (False, True):
        logits = torch.tensor([0.4, -math.inf, 0.1], dtype=F64, requires_grad=True)
        old = torch.tensor([0.0, -math.inf, 0.0], dtype=F64).log_softmax(-1)
        new = logits.log_softmax(-1)
        (categorical_kl(new, old) if reverse else categorical_kl(old, new)).backward()
        assert logits.grad is not None and bool(torch.isfinite(logits.grad).all()) and logits.grad[0] > 0


def test_the_divergence_of_gaussians_is_that_of_torch() -> None:
    torch.manual_seed(1)
    mean, new_mean, log_std, new_log_std = torch.randn(5, 3), torch.randn(5, 3), torch.randn(3), torch.randn(3)
    old = torch.distributions.Normal(mean, log_std.exp())
    new = torch.distributions.Normal(new_mean, new_log_std.exp())
    expected = torch.distributions.kl_divergence(old, new).sum(-1)
    torch.testing.assert_close(gaussian_kl(mean, log_std, new_mean, new_log_std), expected)
    assert not gaussian_kl(mean, log_std, mean, log_std).any()


def test_the_product_is_that_with_the_fisher_information_of_a_softmax() -> None:
    logits = torch.nn.Parameter(torch.tensor([[0.3, -1.2, 2.0], [5.0, 0.0, -5.0]], dtype=F64))

    def mean_kl() -> Tensor:
        new = logits.log_softmax(-1)
        return categorical_kl(new.detach(), new).mean()

    product = fisher_product(mean_kl, [logits], damping=0.25)
    blocks = [(torch.diag(p) - torch.outer(p, p)) / 2 for p in logits.detach().softmax(-1)]
    expected = torch.block_diag(*blocks) + 0.25 * torch.eye(6, dtype=F64)
    columns = torch.stack([product(v) for v in torch.eye(6, dtype=F64)])
    torch.testing.assert_close(columns, expected, atol=1e-14, rtol=0)
    assert not columns.requires_grad


def test_the_product_of_a_network_is_that_with_its_fisher_information_masked_actions_included() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)).double()
    unused = torch.nn.Parameter(torch.ones(2, dtype=F64))
    states = torch.randn(7, 4, dtype=F64)
    illegal = torch.zeros(7, 3, dtype=torch.bool)
    illegal[:3, 1] = True
    parameters = [*network.parameters(), unused]

    def log_probs() -> Tensor:
        return network(states).masked_fill(illegal, -math.inf).log_softmax(-1)

    old = log_probs().detach()
    product = fisher_product(lambda: categorical_kl(old, log_probs()).mean(), parameters, damping=0.0)
    size = flat(parameters).numel()
    fisher = torch.zeros(size, size, dtype=F64)
    for state in range(7):  # E[score score'], action by action
        for action in (~illegal[state]).nonzero()[:, 0]:
            score = torch.autograd.grad(
                log_probs()[state, action], parameters, allow_unused=True, materialize_grads=True
            )
            fisher += old[state, action].exp() * torch.outer(flat(score), flat(score)) / 7
    columns = torch.stack([product(v) for v in torch.eye(size, dtype=F64)])
    torch.testing.assert_close(columns, fisher, atol=1e-12, rtol=0)


def test_a_step_moves_a_softmax_policy_by_the_trust_region() -> None:
    logits = torch.nn.Parameter(torch.tensor([0.5, -0.3, 0.1, 0.0], dtype=F64))
    old = logits.detach().log_softmax(-1)
    rewards, costs = torch.tensor([1.0, 2.0, 0.0, 0.5], dtype=F64), torch.tensor([1.0, 5.0, 0.0, 1.0], dtype=F64)

    def value(of: Tensor) -> Tensor:
        return logits.softmax(-1) @ of

    product = fisher_product(lambda: categorical_kl(old, logits.log_softmax(-1)), [logits], damping=1e-6)
    g, b = (torch.autograd.grad(value(of), logits)[0] for of in (rewards, costs))
    before = value(costs).item()
    delta = 1e-5
    step = constrained_step(g, b[None], [-1e-4], product, delta)
    assert step.case == "constrained"
    assign([logits], flat([logits]).detach() + step.x)
    assert categorical_kl(old, logits.log_softmax(-1)).item() == pytest.approx(delta, rel=0.02)
    assert value(costs).item() - before == pytest.approx(1e-4, abs=2e-5)


def test_parameters_as_a_vector_and_back() -> None:
    parameters = [torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.zeros(4))]
    vector = flat(parameters).detach()
    assert vector.tolist() == [1.0] * 6 + [0.0] * 4
    assign(parameters, vector + 1)
    assert torch.equal(flat(parameters), vector + 1) and parameters[0].shape == (2, 3)
    other = torch.zeros(10)
    assign(parameters, other)
    other += 7  # must not reach the policy
    assert not flat(parameters).any()
    with pytest.raises(ConfigError, match="10 parameters"):
        assign(parameters, torch.zeros(1))


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("b", "c", "delta", "error", "match"),
    [
        ([[1.0, 0.0]], [0.0, 1.0], 0.5, ConfigError, "shapes"),
        ([[1.0, 0.0, 0.0]], [0.0], 0.5, ConfigError, "shapes"),
        ([[1.0, 0.0]], [0.0], 0.0, ConfigError, "delta=0.0"),
        ([[1.0, 0.0]] * 11, [0.0] * 11, 0.5, ConfigError, "11 constraints"),
        ([[math.nan, 0.0]], [0.0], 0.5, TrainingError, "cost_gradients"),
        ([[1.0, 0.0]], [math.nan], 0.5, TrainingError, "excess"),
        ([[1.0, 0.0]], [math.inf], 0.5, TrainingError, "excess"),
    ],
)
def test_bad_input_is_named(
    b: list[list[float]], c: list[float], delta: float, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        constrained_step(torch.ones(2), torch.tensor(b), c, IDENTITY, delta)


def test_a_line_search_checks_its_settings_and_what_it_is_told() -> None:
    with pytest.raises(ConfigError, match=r"beta=1\.0"):
        line_search(lambda x: (0.0, 1.0, [0.0]), STEP, [0.0], 0.1, beta=1.0)
    with pytest.raises(ConfigError, match="cost changes"):
        line_search(lambda x: (0.0, 1.0, 0.0), STEP, [0.0], 0.1)
