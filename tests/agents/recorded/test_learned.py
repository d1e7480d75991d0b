"""What training questions teach: routers, the plan of two steps, its imitation, and what train() makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nextstep_agents.policies.mlp import MLPSettings
from nextstep_agents.recorded.imitation import imitate
from nextstep_agents.recorded.learned import LearnedAsker, vectors
from nextstep_agents.recorded.lookahead import fit_lookahead, lookahead_within
from nextstep_agents.recorded.orchestrator import train_orchestrator
from nextstep_agents.recorded.play import play, seat
from nextstep_agents.recorded.readers import READERS, by_category
from nextstep_agents.recorded.routers import Router, mean_usd
from nextstep_envs.worlds.qa.world import QuestionWorld
from tests.agents.recorded.conftest import ID, rows_of, with_wrong


def test_categories_by_hand(tiny: QuestionWorld) -> None:
    chance = by_category(tiny, np.arange(4))  # training: law 1 and 3, math 2 and 4
    law, math = (tiny.answers.categories.index(name) for name in ("law", "math"))
    assert chance[tiny.answers.category == law][0].tolist() == [2 / 4, 3 / 4]
    assert chance[tiny.answers.category == math][0].tolist() == [1 / 4, 2 / 4]


@pytest.mark.parametrize("name", READERS)
def test_a_router_knows_training_questions_only(name: str, world: QuestionWorld) -> None:
    rows, dev = rows_of(world, "train"), rows_of(world, "dev")
    assert np.array_equal(READERS[name](world, rows), READERS[name](with_wrong(world, dev), rows))
    fewer = READERS[name](with_wrong(world, rows[::2]), rows)
    assert fewer[dev].mean() < READERS[name](world, rows)[dev].mean() - 0.05


def test_a_router_asks_one_worker_and_the_price_decides_which(world: QuestionWorld) -> None:
    rows = rows_of(world, "train")
    usd, chance = mean_usd(world, rows), by_category(world, rows)
    frugal = play(Router(chance, usd, 1e9), world, rows)
    assert frugal.usd == pytest.approx(world.answers.usd[rows, usd.argmin()])
    free = play(Router(chance, usd, 0.0), world, rows)
    assert np.array_equal(free.right, world.answers.correct[rows, chance[rows].argmax(1)])


def test_the_plan_knows_training_questions_only(world: QuestionWorld) -> None:
    rows = rows_of(world, "train")
    plan, other = (fit_lookahead(w, rows, 100.0) for w in (world, with_wrong(world, rows_of(world, "dev"))))
    assert np.array_equal(plan.first, other.first) and np.array_equal(plan.second, other.second)


def test_a_training_question_is_not_judged_by_its_own_answers(world: QuestionWorld) -> None:
    rows = rows_of(world, "train")
    plan, other = (fit_lookahead(w, rows, 100.0) for w in (world, with_wrong(world, rows[:1])))
    same = world.answers.key % 5 == world.answers.key[rows[0]] % 5
    assert np.array_equal(plan.second[rows[0]], other.second[rows[0]])
    assert not np.array_equal(plan.second[rows[~same[rows]]], other.second[rows[~same[rows]]])


def test_the_plan_of_a_high_price_asks_the_cheapest_and_ends(world: QuestionWorld) -> None:
    rows = rows_of(world, "train")
    usd = mean_usd(world, rows)
    played = play(fit_lookahead(world, rows, 1e9), world, rows)
    assert played.usd == pytest.approx(world.answers.usd[rows, usd.argmin()])


def test_the_plan_meets_its_budget_and_reads_better_than_chance(world: QuestionWorld) -> None:
    rows = rows_of(world, "train")
    usd = np.sort(mean_usd(world, rows))
    budget = float(0.6 * usd[0] + 0.4 * usd[-1])
    plan, lottery = lookahead_within(world, rows, budget)
    played = lottery.expected(world, rows)
    assert played.usd.mean() == pytest.approx(budget, rel=1e-6)
    cheap, dear = world.answers.correct[rows][:, [usd_order(world, rows)[0], usd_order(world, rows)[-1]]].mean(0)
    assert played.right.mean() > 0.6 * cheap + 0.4 * dear + 0.02
    assert plan.price > 0


def usd_order(world: QuestionWorld, rows: Any) -> Any:
    return mean_usd(world, rows).argsort()


def test_imitation_does_as_the_plan_does(world: QuestionWorld, made: Any) -> None:
    rows, setup = rows_of(world, "train"), made.unwrapped.setup
    plan = fit_lookahead(world, rows, 300.0)
    policy = imitate(plan, setup, rows, temperature=0.005, mlp=MLPSettings((64,)), epochs=40, learning_rate=3e-3)
    board = seat(world, rows)
    seen, masks = vectors(setup.rules, board)
    found = policy.probabilities({"observation": seen, "action_mask": masks}).argmax(1)
    wanted = plan.choose(board)
    always = np.bincount(wanted).max() / len(wanted)
    assert (found == wanted).mean() > always + 0.5 * (1 - always)
    as_plan, as_policy = play(plan, world, rows), play(LearnedAsker(policy, setup.rules), world, rows)
    assert as_policy.usd.mean() == pytest.approx(as_plan.usd.mean(), rel=0.15)


def test_the_orchestrator_trains_from_its_plan(world: QuestionWorld) -> None:
    usd = np.sort(mean_usd(world, rows_of(world, "train")))
    budget = float(0.6 * usd[0] + 0.4 * usd[-1])
    kwargs = {"workers": "recorded"}
    result = train_orchestrator(ID, budget, kwargs, total_steps=4000, episodes=512, seed=1, quiet=True)
    first = result.history[0]
    assert first["cost/usd"] == pytest.approx(budget, rel=0.2)  # no search from far above the budget
    assert first["multiplier/usd"] > 0
    assert result.evaluate(500)["costs"][0] == pytest.approx(budget, rel=0.2)
    result.close()
