"""Fixed plans, lotteries over them and bounds, against what can be counted by hand or tried out."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from nextstep_agents.recorded.baselines import baselines, ends, fixed_plans, flip_at
from nextstep_agents.recorded.bounds import any_correct, budgeted_optimum
from nextstep_agents.recorded.mixture import meet, within
from nextstep_agents.recorded.plans import Plan, best_lottery, best_within, cascades, majorities
from nextstep_agents.recorded.play import play
from nextstep_envs.errors import ConfigError
from nextstep_envs.worlds.qa.world import QuestionWorld
from tests.agents.recorded.conftest import rows_of

ALL = np.arange(6)
CHEAP, DEAR = 108e-6, 1080e-6  # 1000 prompt tokens at 0.1 and 1, 40 more at double, in millionths of a dollar


def test_plans_on_six_questions(tiny: QuestionWorld) -> None:
    single = play(Plan((0,)), tiny, ALL)
    assert single.right.tolist() == [1, 0, 0, 0, 1, 0]
    assert single.usd == pytest.approx(np.full(6, CHEAP))
    escalated = play(Plan((0, 1), "null"), tiny, ALL)
    assert escalated.right.tolist() == [1, 0, 1, 0, 1, 0]  # question 3: cheap gave no answer
    assert escalated.usd == pytest.approx(CHEAP + DEAR * np.array([0, 0, 1, 0, 0, 0]))
    both = play(Plan((0, 1)), tiny, ALL)
    assert both.right.tolist() == [1, 1, 1, 0, 1, 1]  # the last answer settles a tie; dear gave none to question 5


def test_a_plan_asks_nobody_twice() -> None:
    with pytest.raises(ConfigError, match=r"columns=\(1, 1\)"):
        Plan((1, 1))
    with pytest.raises(ConfigError, match="sometimes"):
        Plan((1,), "sometimes")


def test_disagreement_escalates_until_two_agree(world: QuestionWorld) -> None:
    rows = rows_of(world, "train")
    code = world.answers.code[rows]
    agreed = (code[:, 0] == code[:, 1]) & (code[:, 0] >= 0)
    asked = play(Plan((0, 1, 2), "disagreement"), world, rows).usd
    usd = world.answers.usd[rows]
    assert asked == pytest.approx(usd[:, 0] + usd[:, 1] + np.where(agreed, 0, usd[:, 2]))
    assert 0 < agreed.mean() < 1


def test_the_kinds_of_plans() -> None:
    assert {plan.columns for plan in majorities([3, 1, 2, 0], [0, 1, 2, 3])} == {(3, 1, 2), (0, 1, 2)}
    found = cascades([3, 1, 2])
    assert [(p.columns, p.when) for p in found if len(p.columns) == 3] == [
        ((3, 1, 2), "null"),
        ((3, 1, 2), "disagreement"),
    ]
    assert sum(len(p.columns) == 2 for p in found) == 3


def test_the_best_lottery_beats_every_pair_of_plans(world: QuestionWorld) -> None:
    rows = rows_of(world, "train")
    fixed = fixed_plans(world, rows)
    plans = (*fixed.singles, *fixed.majorities, *fixed.cascades)
    points = [(float(p.usd.mean()), float(p.right.mean())) for p in fixed.played]
    budget = 0.5 * (min(points)[0] + max(points)[0])
    best = max(right for usd, right in points if usd <= budget)
    for (a, low), (b, high) in combinations(points, 2):
        if min(a, b) <= budget < max(a, b):
            best = max(best, low + (budget - a) / (b - a) * (high - low))
    found = best_lottery(plans, fixed.played, budget).expected(world, rows)
    assert found.right.mean() == pytest.approx(best)
    assert found.usd.mean() <= budget * (1 + 1e-9)
    with pytest.raises(ConfigError, match="less than"):
        best_lottery(plans, fixed.played, 1e-9)
    assert best_within(plans, fixed.played, 1e-9) is None


def test_the_coin_flip_meets_the_budget_between_the_cheapest_and_the_best(tiny: QuestionWorld) -> None:
    train = np.arange(4)
    cheap, dear = ends(tiny, train)
    assert (cheap.columns, dear.columns) == ((0,), (1,))
    flip = meet(cheap, dear, tiny, train, (CHEAP + DEAR) / 2).expected(tiny, ALL)
    assert flip.right.tolist() == [1, 0.5, 0.5, 0, 0.5, 0.5]
    assert flip.usd == pytest.approx(np.full(6, (CHEAP + DEAR) / 2))
    assert flip_at(tiny, train, ALL, (CHEAP + DEAR) / 2).right.tolist() == flip.right.tolist()
    assert flip_at(tiny, train, ALL, 1.0).right.tolist() == [1, 1, 1, 0, 0, 1]
    with pytest.raises(ConfigError, match="costs on average"):
        meet(cheap, dear, tiny, train, CHEAP / 2)
    with pytest.raises(ConfigError, match="cheapest plan costs"):
        within(lambda price: dear, tiny, train, CHEAP)


def test_every_baseline_keeps_its_budget_on_training_questions(world: QuestionWorld) -> None:
    rows = rows_of(world, "train")
    usd = np.sort(world.answers.usd[rows].mean(0))
    budget = float(usd[0] + 0.4 * (usd[-1] - usd[0]))
    found = baselines(world, rows, budget, fixed_plans(world, rows))
    assert set(found) >= {
        "single",
        "cascade",
        "coin flip",
        "lottery",
        "category",
        "neighbours",
        "logistic",
        "lookahead",
    }
    for name, mixture in found.items():
        assert mixture.expected(world, rows).usd.mean() <= budget * (1 + 1e-6), name
    right = {name: float(mixture.expected(world, rows).right.mean()) for name, mixture in found.items()}
    assert right["lottery"] >= max(right["single"], right["cascade"], right["coin flip"])


def test_hindsight_by_hand(tiny: QuestionWorld) -> None:
    found = any_correct(tiny, ALL)
    assert found.right.tolist() == [1, 1, 1, 0, 1, 1]
    assert found.usd == pytest.approx([CHEAP, DEAR, DEAR, CHEAP, CHEAP, DEAR])
    assert budgeted_optimum(tiny, ALL, CHEAP) == pytest.approx(2 / 6)
    assert budgeted_optimum(tiny, ALL, CHEAP + 1.5 * (DEAR - CHEAP) / 6) == pytest.approx(3.5 / 6)
    assert budgeted_optimum(tiny, ALL, DEAR) == pytest.approx(5 / 6)
    with pytest.raises(ConfigError, match="no plan of one call"):
        budgeted_optimum(tiny, ALL, CHEAP / 2)


def test_the_linear_programme_agrees_with_greedy_upgrades(world: QuestionWorld) -> None:
    """From the cheapest call on, the next dollar goes where it buys most: exact for one right worker or none."""
    rows = rows_of(world, "train")[:200]
    usd, right = world.answers.usd[rows], world.answers.correct[rows]
    first = usd.argmin(1)
    start = np.arange(len(rows)), first
    gain = right.any(1) & ~right[start]
    extra = np.where(right, usd, np.inf).min(1)[gain] - usd[start][gain]
    for share in (0.1, 0.5):
        spare = share * extra.sum()
        done, left = float(right[start].sum()), spare
        for price in np.sort(extra):
            part = min(1.0, left / price)
            done, left = done + part, left - part * price
        budget = float((usd[start].sum() + spare) / len(rows))
        assert budgeted_optimum(world, rows, budget) == pytest.approx(done / len(rows), abs=1e-6)
