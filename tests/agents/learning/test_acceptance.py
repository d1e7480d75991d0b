"""Trained policies against linear-programming optima, exactly evaluated; `benchmarks/cmdp.py` has the whole table."""

from __future__ import annotations

import numpy as np
import pytest

from nextstep_agents import train
from nextstep_envs.tabular import RetryStop, TabularCMDP, TierRouting


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("make", "steps"), [(TierRouting, 60_000), (RetryStop, 60_000)], ids=["tier", "retry"])
def test_defaults_find_the_optimum_within_the_budget(make: type[TabularCMDP], steps: int, seed: int) -> None:
    cmdp = make()  # type: ignore[call-arg]
    best = cmdp.optimum()
    tail = []

    def exact(played: object, policy: object) -> dict[str, float]:
        tail.append(cmdp.evaluate(policy))
        return {}

    result = train(cmdp, "pid_lagrangian", total_steps=steps, seed=seed, metrics=exact, quiet=True)
    tail = tail[-len(tail) // 5 :]
    assert np.mean([one["return"] for one in tail]) >= 0.96 * best["return"]
    assert np.mean([one["costs"] for one in tail]) <= 1.03 * cmdp.d[0]
    assert result.multipliers["spend"] == pytest.approx(best["multipliers"][0], rel=0.3)


def test_a_multiplier_that_hardly_moves_overspends() -> None:
    """A bad setting has to look bad."""
    cmdp = RetryStop()
    result = train(cmdp, "ppo_lagrangian", total_steps=30_000, multiplier={"rate": 0.002}, quiet=True)
    exact = cmdp.evaluate(result.policy)
    assert exact["costs"][0] > 1.1 * cmdp.d[0] and exact["return"] > cmdp.optimum()["return"]
