"""Intervals and paired comparisons."""

from __future__ import annotations

import numpy as np
import pytest

from nextstep_agents.evaluation.statistics import bootstrap, paired


def test_the_interval_matches_the_normal_one_for_many_tasks() -> None:
    values = np.random.default_rng(0).normal(2.0, 1.0, 2000)
    found = bootstrap(values)
    half = 1.96 * values.std() / 2000**0.5
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)


def test_attempts_at_one_task_do_not_count_as_independent() -> None:
    per_task = np.random.default_rng(1).normal(size=100)
    repeated = np.repeat(per_task[:, None], 50, axis=1)
    assert bootstrap(repeated) == pytest.approx(bootstrap(per_task))


def test_pairing_removes_what_tasks_have_in_common() -> None:
    rng = np.random.default_rng(2)
    difficulty = rng.normal(0, 10, (200, 1))
    a, b = difficulty + rng.normal(0.5, 0.1, (200, 3)), difficulty + rng.normal(0, 0.1, (200, 3))
    assert paired(a, b).low > 0.45
    with pytest.raises(ValueError, match="shape"):
        paired(a, b[:, :2])
