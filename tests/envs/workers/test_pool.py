"""The default pool: four workers that differ where it matters."""

from __future__ import annotations

import random

from nextstep_envs.types import Budget
from nextstep_envs.workers.base import draw_pool
from nextstep_envs.workers.pool import DEFAULT_POOL, scripted_crew, scripted_workers


def test_the_pool_has_the_four_roles_in_order() -> None:
    assert [s.worker_id for s in DEFAULT_POOL] == ["general_reasoning", "tool_use", "planning", "verification"]


def test_no_worker_is_the_most_skilled_everywhere() -> None:
    domains = [domain for domain, _ in DEFAULT_POOL[0].skills]
    assert all([domain for domain, _ in spec.skills] == domains for spec in DEFAULT_POOL)
    best = {max(DEFAULT_POOL, key=lambda spec: dict(spec.skills)[domain]).worker_id for domain in domains}
    assert len(best) >= 3


def test_prices_differ() -> None:
    assert len({spec.usd_per_mtok_in for spec in DEFAULT_POOL}) == len(DEFAULT_POOL)
    assert max(DEFAULT_POOL, key=lambda spec: spec.usd_per_mtok_in).worker_id == "general_reasoning"
    assert min(DEFAULT_POOL, key=lambda spec: spec.usd_per_mtok_in).worker_id == "tool_use"


def test_a_drawn_pool_keeps_the_order_and_misses_everyone_sometimes() -> None:
    drawn = {draw_pool(DEFAULT_POOL, 3, random.Random(seed)) for seed in range(100)}
    assert len(drawn) == 4
    for pool in drawn:
        assert list(pool) == [spec for spec in DEFAULT_POOL if spec in pool]


def test_every_spec_gets_its_worker() -> None:
    assert list(scripted_workers(DEFAULT_POOL)) == [spec.worker_id for spec in DEFAULT_POOL]
    crew = scripted_crew(DEFAULT_POOL[:2], Budget())
    assert crew.provider is None
    assert list(crew.actors) == ["general_reasoning", "tool_use"]
