"""Playing all questions at once is what the environment does one by one."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from nextstep_agents.evaluation.play import play as play_env
from nextstep_agents.recorded.learned import vectors
from nextstep_agents.recorded.lookahead import fit_lookahead
from nextstep_agents.recorded.mixture import Mixture
from nextstep_agents.recorded.plans import Plan
from nextstep_agents.recorded.play import Asker, ask, play, seat
from nextstep_agents.recorded.policy import AskerPolicy
from nextstep_agents.recorded.readers import by_category
from nextstep_agents.recorded.routers import router_within
from nextstep_envs.errors import ConfigError
from nextstep_envs.recorded.board import Board
from nextstep_envs.worlds.qa.world import QuestionWorld
from tests.agents.recorded.conftest import ID, KWARGS, rows_of


def askers(world: QuestionWorld) -> dict[str, Asker]:
    rows = rows_of(world, "train")
    return {
        "single": Plan((2,)),
        "majority": Plan((0, 1, 2)),
        "null": Plan((0, 2, 1), "null"),
        "disagreement": Plan((1, 0, 2), "disagreement"),
        "lottery": Mixture(Plan((0,)), Plan((1, 2)), 0.5),
        "router": router_within(by_category(world, rows), world, rows, 1.5 * float(world.answers.usd[:, 0].mean())),
        "lookahead": fit_lookahead(world, rows, 100.0),
    }


@pytest.mark.parametrize("name", ["single", "majority", "null", "disagreement", "lottery", "router", "lookahead"])
def test_an_asker_does_the_same_on_the_environment(name: str, world: QuestionWorld, made: Any) -> None:
    asker, rows = askers(world)[name], rows_of(world, "dev")[:60]
    played = play(asker, world, rows)
    scores = play_env(AskerPolicy(asker, made), made, [world.answers.ids[row] for row in rows], seeds=1)
    assert np.array_equal(scores.outcome[:, 0], played.right)
    assert scores.cost[:, 0] == pytest.approx(played.usd, abs=1e-12)


def test_one_who_asks_a_worker_twice_is_refused(tiny: QuestionWorld) -> None:
    class Stubborn:
        def choose(self, board: Board) -> Any:
            return np.zeros(len(board.question), np.int64)

    with pytest.raises(ConfigError, match="asks 'cheap' about question '1'"):
        play(Stubborn(), tiny, np.array([0]))


def test_a_policy_without_info_is_refused(made: Any) -> None:
    with pytest.raises(ConfigError, match="needs info"):
        AskerPolicy(Plan((0,)), made).act(None)


def test_vectors_are_what_the_environment_shows(world: QuestionWorld, made: Any) -> None:
    many: Any = gym.make_vec(ID, num_envs=8, split="dev", **KWARGS)
    observations, infos = many.reset(seed=3)
    rows = np.array([world.row(id) for id in infos["task_id"]])
    board, rules = seat(world, rows), made.unwrapped.setup.rules
    for columns in (np.zeros(8, np.int64), np.arange(8) % 2 + 1):
        seen, masks = vectors(rules, board)
        assert np.array_equal(seen, observations["observation"])
        assert np.array_equal(masks, observations["action_mask"])
        observations, *_ = many.step(columns)
        ask(world, board, np.arange(8), columns)
