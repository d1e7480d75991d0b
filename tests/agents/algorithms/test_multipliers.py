"""Lagrange multipliers move as their papers say."""

from __future__ import annotations

import numpy as np
import pytest

from nextstep_agents.algorithms.multipliers import PID, Ascent
from nextstep_envs.errors import ConfigError


def test_ascent_steps_in_proportion_to_the_relative_excess_and_never_below_zero() -> None:
    ascent = Ascent(rate=0.5, optimism=0.0)
    memory = ascent.step(ascent.start(2), np.array([0.2, -0.3]), 0.0)
    np.testing.assert_allclose(memory["multipliers"], [0.1, 0.0])
    memory = ascent.step(memory, np.array([0.1, 0.4]), 0.9)
    np.testing.assert_allclose(memory["multipliers"], [0.15, 0.2])


def test_optimism_counts_on_the_last_change_to_go_on() -> None:
    ascent = Ascent(rate=0.5, optimism=2.0)
    first = ascent.step(ascent.start(1), np.array([0.2]), 0.0)
    np.testing.assert_allclose(first["multipliers"], [0.5 * 0.2])
    second = ascent.step(first, np.array([0.3]), 0.0)
    np.testing.assert_allclose(second["multipliers"], [0.1 + 0.5 * (0.3 + 2 * 0.1)])


@pytest.mark.parametrize(("optimism", "least", "most"), [(0.0, 0.5, 2.0), (2.0, 0.0, 0.05)])
def test_optimism_damps_the_circles_of_a_bilinear_game(optimism: float, least: float, most: float) -> None:
    """The least over x of the most over lambda of lambda x: plain ascent goes round the saddle point for ever."""
    ascent, x, excess = Ascent(rate=0.2, optimism=optimism, first=1.0), 0.5, 0.0
    memory, found = ascent.start(1), []
    for _ in range(600):
        memory = ascent.step(memory, np.array([excess]), 0.0)
        x -= 0.05 * (float(memory["multipliers"][0]) - 1.0)
        excess = x
        found.append(abs(excess))
    assert least <= max(found[-200:]) <= most


def test_an_excess_that_never_ends_meets_the_bound() -> None:
    for method in (Ascent(most=7.0), PID(most=7.0)):
        memory = method.start(1)
        for _ in range(100):
            memory = method.step(memory, np.array([50.0]), 0.0)
        assert memory["multipliers"] == [7.0]


def test_pid_adds_its_three_terms() -> None:
    pid = PID(proportional=2.0, integral=0.5, derivative=3.0, smoothing=0.0, delay=1)
    first = pid.step(pid.start(1), np.array([0.2]), 0.0)
    np.testing.assert_allclose(first["multipliers"], [2 * 0.2 + 0.5 * 0.2])
    second = pid.step(first, np.array([0.3]), 0.0)
    np.testing.assert_allclose(second["multipliers"], [2 * 0.3 + 0.5 * (0.2 + 0.3) + 3 * (0.3 - 0.2)])
    third = pid.step(second, np.array([0.1]), 0.0)  # a falling cost does not lower the multiplier by the third term
    np.testing.assert_allclose(third["multipliers"], [2 * 0.1 + 0.5 * (0.2 + 0.3 + 0.1)])


def test_pid_smooths_with_the_weight_of_the_past() -> None:
    pid = PID(proportional=1.0, integral=0.0, smoothing=0.75)
    memory = pid.step(pid.start(1), np.array([0.4]), 0.0)
    memory = pid.step(memory, np.array([0.8]), 0.0)
    np.testing.assert_allclose(memory["multipliers"], [0.75 * 0.4 + 0.25 * 0.8])


def test_the_integral_is_not_wound_up_below_zero() -> None:
    pid = PID(proportional=0.0, integral=0.1)
    memory = pid.start(1)
    for _ in range(50):
        memory = pid.step(memory, np.array([-0.9]), 0.0)
    np.testing.assert_allclose(pid.step(memory, np.array([0.5]), 0.0)["multipliers"], [0.05])


@pytest.mark.parametrize("wrong", [{"most": -1.0}, {"first": 2.0, "most": 1.0}, {"smoothing": 1.0}, {"delay": 0}])
def test_settings_out_of_range_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=str(next(iter(wrong.values())))):
        PID(**wrong)  # type: ignore[arg-type]
