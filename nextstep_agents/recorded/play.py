"""Asks recorded workers about many questions in lock step, and counts as the environment does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from nextstep_envs.errors import ConfigError
from nextstep_envs.recorded.answers import NONE
from nextstep_envs.recorded.board import Board, tally
from nextstep_envs.worlds.qa.world import QuestionWorld

Integers = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Asker(Protocol):
    """Decides whom to ask next. It sees questions and the answers of those it has asked, never what is right."""

    def choose(self, board: Board) -> Integers:
        """The next worker for each episode [N], or W to end."""
        ...


@dataclass(frozen=True)
class Played:
    """What came of each question.

    Attributes:
        right: share of final answers that are right [n]; 0 or 1 for whoever leaves nothing to chance.
        usd: US dollars spent [n], the mean over what was left to chance.
    """

    right: Values
    usd: Values


def seat(world: QuestionWorld, rows: Integers) -> Board:
    """Episodes on some questions in which nobody has been asked."""
    board = Board.empty(len(rows), len(world.answers.models), 0)
    board.question[:] = rows
    board.present[:] = world.can_ask[rows]
    board.prices[:] = [(model.usd_per_m_input, model.usd_per_m_output) for model in world.answers.models]
    return board


def ask(world: QuestionWorld, board: Board, episodes: Integers, columns: Integers) -> None:
    """Write the answers of one worker for each of some episodes into the board."""
    answers, rows = world.answers, board.question[episodes]
    code = answers.code[rows, columns]
    level = np.rint(1000 * world.skills[answers.category[rows], columns]).astype(np.int64)
    board.order[episodes, columns] = board.order[episodes].max(1) + 1
    board.answer[episodes, columns] = code
    board.weight[episodes, columns] = np.where(code == NONE, 0, level)
    prompts = np.array([model.prompt_tokens for model in answers.models])
    board.prompt[episodes, columns] = prompts[columns]
    board.completion[episodes, columns] = answers.tokens[rows, columns]
    board.calls[episodes, columns] = 1
    board.usd_nano[episodes, columns] = np.rint(1e9 * answers.usd[rows, columns]).astype(np.int64)
    board.steps[episodes] += 1


def play(asker: Asker, world: QuestionWorld, rows: Integers) -> Played:
    """Let it ask about some questions until it ends every episode.

    Raises:
        ConfigError: it asks somebody who was asked or cannot be asked.
    """
    board, workers = seat(world, rows), len(world.answers.models)
    going = np.arange(len(rows))
    while going.size:
        chosen = asker.choose(board.take(going))
        going, chosen = going[chosen < workers], chosen[chosen < workers]
        allowed = board.present[going, chosen] & (board.order[going, chosen] == 0)
        if not allowed.all():
            at = int(np.flatnonzero(~allowed)[0])
            name, id = world.answers.models[chosen[at]].name, world.answers.ids[board.question[going[at]]]
            raise ConfigError(f"{asker!r} asks {name!r} about question {id!r}, which is not possible (any more)")
        ask(world, board, going, chosen)
    return Played(right(world, board).astype(np.float64), board.spent_usd_nano() / 1e9)


def right(world: QuestionWorld, board: Board) -> Flags:
    """Whether the final answer of each episode is right [N]; ground truth, for scorers."""
    leads = tally(board, world.rule).leads
    final = np.where(leads, board.answer, NONE).max(1)
    found: Flags = (final == world.answers.reference_code[board.question]) & (final != NONE)
    return found
