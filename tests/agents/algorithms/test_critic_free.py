"""What GRPO, REINFORCE and REINFORCE++ share: budgets, units, failed episodes, and that they learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nextstep_agents.algorithms.advantages import against_peers, normalised
from nextstep_agents.algorithms.critic_free import CriticFree, without_budgets
from nextstep_agents.algorithms.grpo import GRPO
from nextstep_agents.algorithms.multipliers import PID
from nextstep_agents.algorithms.reinforce import Reinforce
from nextstep_agents.algorithms.reinforce_pp import ReinforcePlusPlus
from nextstep_agents.learning.constraints import make_constraints
from nextstep_agents.learning.learner import Learner, learn_round, make_learner
from nextstep_agents.learning.settings import make_learn_settings
from nextstep_agents.learning.stages import VectorStage
from nextstep_agents.policies.mlp import Actor
from nextstep_envs.errors import ConfigError
from nextstep_envs.tabular import TabularCMDP, TierRouting
from tests.agents.algorithms.hand import Table, batch_of, estimates_of

FIXED = PID(proportional=0.0, integral=0.0, first=0.5)  # a multiplier of 0.5, whatever happens
FORMS = [
    GRPO(),
    GRPO(credit="decision", baseline="leave_one_out", scale="batch"),
    Reinforce(),
    Reinforce(baseline="none"),
    ReinforcePlusPlus(),
    ReinforcePlusPlus(baseline="group", group_size=2),
]


def some_batch() -> Any:
    return batch_of(
        [[[0], [1]], [[1]], [[1], [0]], [[0]]],
        [[1.0, 0.0], [0.5], [0.0, 2.0], [0.0]],
        [0, 0, 1, 1],
        [[1.0, 0.0], [0.0], [2.0, 1.0], [0.5]],
    )


@pytest.mark.parametrize("algorithm", FORMS)
def test_a_failed_episode_matters_to_nothing(algorithm: CriticFree) -> None:
    policy, batch = Table([[0.2, -0.1], [0.0, 0.4]]), some_batch()
    wild = batch_of(
        [[[0], [1]], [[1]], [[1], [1]], [[1], [0]], [[0]]],
        [[1.0, 0.0], [0.5], [float("nan"), 1e9], [0.0, 2.0], [0.0]],
        [0, 0, 0, 1, 1],
        [[1.0, 0.0], [0.0], [float("inf"), 1e9], [2.0, 1.0], [0.5]],
        [1.0, 1.0, 0.0, 1.0, 1.0],
    )
    gradients = []
    for some in (batch, wild):
        some = policy.old(some)
        objective, _, _ = algorithm.objective(some, estimates_of(some), algorithm.start(1))
        logp, entropy = policy.log_probs(some)
        loss, _ = objective.loss(some, torch.arange(len(some)), logp, entropy)
        gradients.append(torch.autograd.grad(loss, policy.logits)[0])
    torch.testing.assert_close(*gradients)
    assert gradients[0].any()


@pytest.mark.parametrize("algorithm", FORMS)
def test_rewards_and_costs_become_one_signal(algorithm: CriticFree) -> None:
    """A batch with costs, at a multiplier of 0.5, is a batch with the rewards (r - 0.5 c) / 1.5."""
    policy, batch = Table([[0.2, -0.1], [0.0, 0.4]]), policy_batch()
    algorithm = replace(algorithm, multiplier=FIXED)
    with_costs, memory, _ = algorithm.objective(batch, estimates_of(batch), algorithm.start(1))
    assert memory["multipliers"].tolist() == [0.5]
    merged = replace(batch, rewards=(batch.rewards - 0.5 * batch.costs[..., 0].float()) / 1.5)
    plain = replace(algorithm, scale="none") if isinstance(algorithm, GRPO) and algorithm.scale == "auto" else algorithm
    without, _, _ = plain.objective(merged, without_budgets(merged), plain.start(0))
    logp, entropy = policy.log_probs(batch)
    rows = torch.arange(len(batch))
    torch.testing.assert_close(
        with_costs.loss(batch, rows, logp, entropy)[0], without.loss(merged, rows, logp, entropy)[0]
    )


def policy_batch() -> Any:
    return Table([[0.2, -0.1], [0.0, 0.4]]).old(some_batch())


@pytest.mark.parametrize("algorithm", FORMS)
def test_the_multiplier_knows_nothing_of_how_advantages_are_scaled(algorithm: CriticFree) -> None:
    batch = policy_batch()
    found = []
    for scale in (1.0, 50.0):
        estimates = estimates_of(replace(batch, rewards=batch.rewards * scale, costs=batch.costs * scale), excess=0.3)
        found.append(algorithm.objective(batch, estimates, algorithm.start(1))[1]["multipliers"])
    assert found[0] == found[1] > 0


def test_peers_by_hand() -> None:
    values = torch.tensor([[1.0, 4.0], [3.0, 9.0], [8.0, 2.0]])
    valid = torch.tensor([[True, True], [True, False], [True, True]])
    first, second = torch.tensor([[0, 1], [0, 1], [2, 3]]), torch.tensor([[0, 1], [0, 1], [0, 1]])
    found = against_peers(values, valid, [first, second])
    torch.testing.assert_close(found, torch.tensor([[-2.0, 2.0], [2.0, 0.0], [6.0, -2.0]]))
    found = against_peers(values, valid, [first], leave_one_out=False)
    torch.testing.assert_close(found, torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]))
    alone = against_peers(values, valid, [first])
    torch.testing.assert_close(alone, torch.tensor([[-2.0, 4.0], [2.0, 0.0], [8.0, 2.0]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equal_values_normalise_to_exactly_zero(dtype: torch.dtype) -> None:
    values, mask = torch.full((7, 3), 0.1, dtype=dtype), torch.ones(7, 3)
    assert not normalised(values, mask).any()
    assert not normalised(values, torch.zeros(7, 3)).any()


def run(cmdp: TabularCMDP, algorithm: str, rounds: int | None, **settings: Any) -> tuple[Learner, dict[str, float]]:
    limits = None if settings.pop("free", False) else list(cmdp.d)
    made = make_learn_settings(algorithm=algorithm, **settings)
    stage = VectorStage(cmdp.vector(128), cmdp.cost_names)
    constraints = make_constraints(limits, cmdp.cost_names, ("",))
    learner, metrics = make_learner(stage, made, constraints), {}
    while learner.steps < made.total_steps and (rounds is None or learner.round < rounds):
        metrics = learn_round(learner, stage, made, constraints, 1.0, 1.0)
    return learner, metrics


@pytest.mark.parametrize("algorithm", ["grpo", "reinforce", "reinforce_pp"])
def test_counting_a_cost_in_another_unit_changes_nothing(algorithm: str) -> None:
    base = TierRouting()
    learned = []
    for unit in (1.0, 128.0):  # a power of two, so that not even rounding differs
        cmdp = TabularCMDP(P=base.P, R=base.R, C=unit * base.C, mu=base.mu, d=[unit * 0.7])
        learner, metrics = run(cmdp, algorithm, 5, total_steps=5 * 128, episodes=128)
        learned.append(torch.nn.utils.parameters_to_vector(learner.actor.parameters()))
        (multiplier,) = (value for name, value in metrics.items() if name.startswith("multiplier/"))
        assert multiplier > 0
    torch.testing.assert_close(*learned, rtol=0, atol=0)


def probabilities(actor: Actor, cmdp: TabularCMDP) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        return actor.outputs(0, torch.eye(cmdp.n_states), torch.from_numpy(cmdp.mask)).double().softmax(1).numpy()


@pytest.mark.parametrize("algorithm", ["grpo", "reinforce", "reinforce_pp"])
@pytest.mark.parametrize("free", [True, False])
def test_it_learns(algorithm: str, free: bool) -> None:
    cmdp = TierRouting()
    learner, _ = run(cmdp, algorithm, None, total_steps=30_000, free=free)
    found = cmdp.evaluate(probabilities(learner.actor, cmdp))
    best = cmdp.optimum(d=[np.inf] if free else None)["return"]
    assert found["return"] > (0.97 if free else 0.9) * best
    assert free or found["costs"][0] < 1.12 * cmdp.d[0]


@pytest.mark.parametrize(
    ("algorithm", "settings", "match"),
    [
        ("grpo", {"kl": 0.1}, "kl=0.1.*no reference policy"),
        ("grpo", {"kl_end": 0.1}, "kl_end=0.1.*no reference policy"),
        ("grpo", {"groups_per_step": 4}, "groups_per_step=4.*episodes"),
        ("grpo", {"scale": "group"}, "scale='group'.*cost_limits"),
        ("reinforce_pp", {"kl": 0.1}, "kl=0.1.*no reference policy"),
    ],
)
def test_what_a_run_on_vectors_cannot_do_is_refused(algorithm: str, settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        run(TierRouting(), algorithm, 1, **settings)
