"""Workers that answer with what a model answered."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nextstep_envs.errors import ConfigError
from nextstep_envs.recorded.answers import NONE, Answers
from nextstep_envs.requests import Ask, Done, Job, Result
from nextstep_envs.types import Usage
from nextstep_envs.workers.crew import Crew
from nextstep_envs.worlds.base import World
from nextstep_envs.worlds.qa.world import QuestionWorld, answer_call

SETTINGS = ("kind", "data_dir", "pool", "dataset", "budget", "models")


@dataclass(frozen=True, slots=True)
class RecordedWorker:
    """An `Actor` that looks up its answer to the question in its subtask; whatever else it is given changes nothing.

    It gives its answer to the world with a confidence: no recorded model stated one, so it is the model's skill in the
    question's category. Where nothing could be extracted from what the model wrote, it gives none and says that it
    failed. One step is one call: it uses the model's prompt tokens and the tokens of the answer, all samples counted.
    """

    answers: Answers
    column: int
    weights: tuple[int, ...]  # by category, in thousandths

    def advance(self, job: Job, memory: int | None, result: Result | None, rng: random.Random) -> Ask | Done:
        """Answer, then hand over the text."""
        row = self.answers.row_of_prompt.get(job.subtask) if memory is None else memory
        if row is None or not self.answers.available[row, self.column]:
            return Done("I have no recorded answer to this.", Usage(calls=1), failed=True)
        weight = self.weights[self.answers.category[row]]
        if memory is not None:
            return Done(self.answers.text[row, self.column], confidence=weight / 1000)
        prompt = self.answers.models[self.column].prompt_tokens
        usage = Usage(prompt, int(self.answers.tokens[row, self.column]), 1)
        code = self.answers.code[row, self.column]
        if code == NONE:
            return Done(self.answers.text[row, self.column], usage, failed=True)
        return Ask("world", answer_call(self.answers.labels[row][code], weight), usage, row)


def weights_of(world: QuestionWorld) -> tuple[tuple[int, ...], ...]:
    """The confidence of each model in each category, in thousandths [W][C]."""
    return tuple(tuple(round(float(level) * 1000) for level in column) for column in world.skills.T)


def recorded_crew(world: World | None) -> Crew:
    """The recorded workers of a world of questions (kind "recorded").

    Raises:
        ConfigError: the world has no recorded answers.
    """
    if not isinstance(world, QuestionWorld):
        name = getattr(world, "name", None)
        raise ConfigError(f"workers of kind 'recorded' are for the worlds 'mmlu_pro' and 'gsm8k', not {name!r}")
    answers, weights = world.answers, weights_of(world)
    specs = tuple(
        model.spec(tuple(zip(answers.categories, world.skills[:, w].tolist(), strict=True)))
        for w, model in enumerate(answers.models)
    )
    actors = {spec.worker_id: RecordedWorker(answers, w, weights[w]) for w, spec in enumerate(specs)}
    return Crew(specs, actors, whole=True)


def recorded_place(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the world that the settings of recorded workers stand for.

    Args:
        settings: `data_dir`, and `pool` or the content of a pool file (`models`, `budget`, `dataset`).
    """
    for name in settings:
        if name not in SETTINGS:
            known = ", ".join(map(repr, SETTINGS))
            raise ConfigError(f"setting of workers of kind 'recorded'={name!r} is unknown; choose one of {known}")
    place = {name: settings[name] for name in ("data_dir", "pool") if name in settings}
    if "models" in settings:
        place["pool"] = {name: settings[name] for name in ("dataset", "budget", "models") if name in settings}
    return place
