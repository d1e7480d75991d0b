"""A run may begin with a trained policy."""

from __future__ import annotations

import numpy as np
import pytest

from nextstep_agents import train
from nextstep_envs.errors import ConfigError

QUICK = {"total_steps": 200, "quiet": True, "cost_limits": []}


def test_a_run_begins_as_the_given_policy() -> None:
    taught = train("NextStep/TierRouting-v0", "reinforce", seed=1, learning_rate=0.05, **QUICK)
    asked = np.eye(taught.policy.spaces.size, dtype=np.float32)
    masks = np.ones((len(asked), taught.policy.spaces.outputs), np.int8)
    seen = {"observation": asked, "action_mask": masks} if taught.policy.spaces.masked else asked
    before = taught.policy.probabilities(seen)
    again = train("NextStep/TierRouting-v0", "reinforce", seed=2, learning_rate=1e-9, start=taught.policy, **QUICK)
    assert again.policy.probabilities(seen) == pytest.approx(before, abs=1e-5)
    other = train("NextStep/TierRouting-v0", "reinforce", seed=2, learning_rate=1e-9, **QUICK)
    assert np.abs(other.policy.probabilities(seen) - before).max() > 0.01


def test_another_network_is_refused() -> None:
    taught = train("NextStep/TierRouting-v0", "reinforce", hidden=(8,), **QUICK)
    with pytest.raises(ConfigError, match="start= has other networks"):
        train("NextStep/TierRouting-v0", "reinforce", hidden=(16,), start=taught.policy, **QUICK)
