"""The numbers behind the environments are uniform, independent, and the same one by one and many at once."""

from __future__ import annotations

import numpy as np
from scipy import stats

from nextstep_envs.tabular import chance


def test_one_by_one_and_many_at_once_agree_bit_for_bit() -> None:
    roots = np.array([0, 1, 2**62 + 12345, 2**63 - 1], np.uint64)
    steps = np.array([0, 1, 7, 1000], np.uint64)
    keys = chance.key(roots, steps, 3)
    draws = chance.uniform(keys, steps)
    for i, (root, step) in enumerate(zip(roots.tolist(), steps.tolist(), strict=True)):
        assert chance.key(root, step, 3) == int(keys[i])
        assert chance.uniform(chance.key(root, step, 3), step) == float(draws[i])


def test_a_stream_is_splitmix64() -> None:
    """The first outputs for seed 0 as its authors' reference implementation gives them."""
    reference = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]
    assert [chance.uniform(0, i) for i in range(4)] == [(word >> 11) * 2.0**-53 for word in reference]


def test_draws_are_uniform_along_every_name() -> None:
    """Seeds, episodes, samples and steps are counted upwards: neighbours must look unrelated."""
    count = np.arange(20_000, dtype=np.uint64)
    zero = np.zeros(20_000, np.uint64)
    series = {
        "root": chance.uniform(chance.key(count, 1, 1), zero),
        "episode": chance.uniform(chance.key(zero, count, 1), zero),
        "sample": chance.uniform(chance.key(zero, 1, count), zero),
        "step": chance.uniform(chance.key(zero, 1, 1), count),
    }
    for name, draws in series.items():
        assert draws.min() >= 0.0 and draws.max() < 1.0
        assert stats.kstest(draws, "uniform").pvalue > 1e-4, name
        pairs = np.histogram2d(draws[:-1], draws[1:], bins=8, range=[[0, 1], [0, 1]])[0].ravel()
        assert stats.chisquare(pairs).pvalue > 1e-4, name
    assert abs(np.corrcoef(list(series.values())) - np.eye(4)).max() < 0.04
