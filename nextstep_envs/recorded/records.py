"""The records of recorded answers, made without running an episode."""

from __future__ import annotations

import numpy as np

from nextstep_envs.execution import BUDGET
from nextstep_envs.recorded.answers import NONE
from nextstep_envs.recorded.crew import weights_of
from nextstep_envs.recorded.rules import QuestionRouting
from nextstep_envs.types import Step, StepRecord, ToolCall, Usage
from nextstep_envs.worlds.qa.world import NOTED, QuestionWorld, answer_call


class Bookkeeper:
    """Writes what `Episode` with a `RecordedWorker` would write.

    Attributes:
        task_ids: of every question, object [Q].
    """

    def __init__(self, world: QuestionWorld, rules: QuestionRouting) -> None:
        self.answers, self.columns = world.answers, rules.columns.tolist()
        self.workers, self.weights = [spec.worker_id for spec in rules.pool], weights_of(world)
        self.task_ids = np.array(self.answers.ids, dtype=object)
        self._code, self._category = self.answers.code, self.answers.category

    def record(self, question: int, slot: int, index: int, usage: Usage, refused: str) -> StepRecord:
        """What the worker in a slot answered to a question, as step number `index`; `refused`: what it lacked."""
        answers, column = self.answers, self.columns[slot]
        step = Step(index, answers.prompts[question], self.workers[slot], (index - 1,) if index else ())
        if refused:
            return StepRecord(step, (), "", (), usage, BUDGET + refused)
        code, text = self._code[question, column], answers.text[question, column]
        if code == NONE:
            return StepRecord(step, (), text, (), usage, failed=True)
        weight = self.weights[column][self._category[question]]
        call = ToolCall(answer_call(answers.labels[question][code], weight), NOTED)
        return StepRecord(step, (), text, (call,), usage, confidence=weight / 1000)
