"""Where there is no data: problems with latent difficulties, and made-up workers with latent abilities.

A problem is a chain of k = 1 ... 8 sums in words, told in the terms of its category. With difficulty
b = -1.2 + 0.35 k + N(0, 0.5) and a worker's ability a in the category, the worker is right with probability

    g + (1 - g) / (1 + exp(-1.7 (a - b)))      (three-parameter logistic model; g = 1 / options, 0 without options)

A worker who is wrong gives no answer with its own probability; else the problem's common error with probability 0.4
(errors of models agree more often than chance has it), else another wrong answer. Those who are wrong say that they are
not sure in half of the cases, those who are right in a tenth. Everything is drawn once, from a fixed seed; no answer
is a real model's.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nextstep_envs.ledger import estimate_tokens
from nextstep_envs.recorded.answers import LETTERS, Answers, Builder, Question
from nextstep_envs.recorded.pool import Pool, PoolModel
from nextstep_envs.recorded.splits import by_hash
from nextstep_envs.seeding import stream

QUESTIONS = 1200
MAX_OPERATIONS = 8
EASE, SLOPE, SPREAD, DISCRIMINATION = -1.2, 0.35, 0.5, 1.7
COMMON_ERROR, UNSURE_WRONG, UNSURE_RIGHT = 0.4, 0.5, 0.1
PROMPT_TOKENS = 1300
BUDGET = {"steps": 12, "calls": 12, "tokens": 60_000, "call_tokens": 4096}
COUNTING = ("math", "physics", "chemistry", "engineering", "computer science")
THINGS = {
    "biology": "cells", "business": "orders", "chemistry": "molecules", "computer science": "packets",
    "economics": "coins", "engineering": "bolts", "health": "patients", "history": "scrolls", "law": "cases",
    "math": "points", "other": "boxes", "philosophy": "arguments", "physics": "photons", "psychology": "answers",
}  # fmt: skip


@dataclass(frozen=True)
class Latent:
    """A made-up worker: price, size, ability, ability in counting categories, how often it gives no answer."""

    name: str
    usd_per_mtok: float
    params_b: float
    ability: float
    counting: float
    silent: float

    def model(self, categories: tuple[str, ...]) -> PoolModel:
        """Its entry in the pool; how good it turns out to be is estimated from training questions."""
        price = self.usd_per_mtok
        return PoolModel(
            self.name, price, price, PROMPT_TOKENS, 1, self.params_b, None, "made up", "by size", True, "generated"
        )


WORKERS = (
    Latent("tiny", 0.1, 4, -0.8, -0.8, 0.15),
    Latent("small", 0.2, 8, -0.3, -0.4, 0.1),
    Latent("small-counting", 0.2, 7, -0.9, 0.5, 0.05),
    Latent("mixture", 0.6, 13, 0.1, 0.0, 0.1),
    Latent("medium", 0.8, 34, 0.4, 0.2, 0.1),
    Latent("large", 0.9, 70, 1.0, 1.0, 0.02),
)


def generate(
    dataset: str, categories: tuple[str, ...], origin: tuple[Callable[..., Answers], tuple[Any, ...]]
) -> Answers:
    """The generated data set in the shape of `dataset`: with options for "mmlu_pro", without for "gsm8k"."""
    rng = stream(0, "generated", dataset)
    models = tuple(worker.model(categories) for worker in WORKERS)
    pool = Pool(models, BUDGET, frozenset(model.name for model in models))
    problems = [_problem(i, rng, categories, dataset == "mmlu_pro") for i in range(QUESTIONS)]
    builder = Builder(pool, categories, [problem.question for problem in problems])
    for problem in problems:
        for worker in WORKERS:
            label, text = _answer(problem, worker, rng)
            builder.put(problem.question.id, worker.name, label, estimate_tokens(text), text)
    return builder.build(dataset, "generated", "a generated pool of made-up workers (no real model's answers)", origin)


@dataclass(frozen=True)
class _Problem:
    question: Question
    difficulty: float
    working: tuple[int, ...]  # the value at the start and after each operation
    errors: tuple[str, ...]  # wrong answers, the common one first


def _problem(index: int, rng: random.Random, categories: tuple[str, ...], options: bool) -> _Problem:
    category = categories[index % len(categories)]
    value, k = rng.randint(3, 30), rng.randint(1, MAX_OPERATIONS)
    said, working = [f"There are {value} {THINGS[category]}."], [value]
    for _ in range(k):
        value, words = _operation(value, rng)
        said.append(words)
        working.append(value)
    text = " ".join((*said, f"How many {THINGS[category]} are there now?"))
    near = [value + d for d in (-20, -10, -7, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 8, 10, 12, 20) if value + d >= 0]
    wrong = list(map(str, dict.fromkeys([*(v for v in working if v != value), *rng.sample(near, 10)])))[:9]
    rng.shuffle(wrong)
    difficulty = EASE + SLOPE * k + rng.gauss(0.0, SPREAD)
    if not options:
        question = Question(f"sum-{index:04d}", category, text, (), str(value), by_hash(text), "generated")
        return _Problem(question, difficulty, tuple(working), tuple(wrong))
    shown = [*wrong, str(value)]
    rng.shuffle(shown)
    letters = dict(zip(shown, LETTERS, strict=True))
    question = Question(
        f"sum-{index:04d}", category, text, tuple(shown), letters[str(value)], by_hash(text), "generated"
    )
    return _Problem(question, difficulty, tuple(working), tuple(letters[number] for number in wrong))


def _operation(value: int, rng: random.Random) -> tuple[int, str]:
    kind = rng.choice(("more", "fewer", "double") if 1 < value < 200 else ("more",) if value < 2 else ("fewer",))
    if kind == "double":
        return 2 * value, "Then their number doubles."
    n = rng.randint(2, 20) if kind == "more" else rng.randint(1, value - 1)
    if kind == "more":
        return value + n, f"Then {n} more come."
    return value - n, f"Then {n} are taken away."


def _answer(problem: _Problem, worker: Latent, rng: random.Random) -> tuple[str | None, str]:
    """What a worker answers and writes."""
    question = problem.question
    guess = 1 / len(question.options) if question.options else 0.0
    ability = worker.counting if question.category in COUNTING else worker.ability
    ease = 1 / (1 + math.exp(-DISCRIMINATION * (ability - problem.difficulty)))
    right = rng.random() < guess + (1 - guess) * ease
    common = rng.random() < COMMON_ERROR
    error = problem.errors[0] if common else rng.choice(problem.errors[1:])
    silent, unsure = rng.random() < worker.silent, rng.random() < (UNSURE_RIGHT if right else UNSURE_WRONG)
    shown = problem.working if right else problem.working[: rng.randint(1, len(problem.working))]
    steps = ", then ".join(map(str, shown))
    hedge = " I am not sure." if unsure else ""
    if not right and silent:
        return None, f"We count {steps}.{hedge} It cannot be said."
    label = question.reference if right else error
    written = f"({label})" if question.options else label
    return label, f"We count {steps}.{hedge} The answer is {written}."
