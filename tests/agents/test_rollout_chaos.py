"""Hundreds of episodes through the official client and a chaos proxy, killed in the middle: none lost, all booked."""

from __future__ import annotations

from pathlib import Path

import pytest

from nextstep_agents.rollouts.books import Account
from tests.servers.rollouts import chaotic_rollout

EPISODES = 500


@pytest.mark.slow
def test_every_episode_ends_once_and_is_booked_to_the_token(tmp_path: Path) -> None:
    pytest.importorskip("openai")
    report = chaotic_rollout(tmp_path, EPISODES, kill_after=EPISODES // 3, timeout_s=4.0)
    assert report.lost_or_doubled() == 0 and len(report.lines) == EPISODES
    assert sum(report.endings().values()) == EPISODES
    assert report.ended.unexplained() == (Account(), Account())
    assert report.killed is not None and len(report.killed.lines) >= EPISODES // 3
    # A kill cuts off episodes that were under way: what they had spent is billed and in no ledger.
    assert all(amount >= 0 for account in report.killed.unexplained() for amount in account)
    assert sum(report.faults.values()) > 0.15 * report.attempts
