"""Scripted workers: they read only their job, pay for what they read, and their roles and skills show."""

from __future__ import annotations

import copy
import pickle
import random
from pathlib import Path
from typing import Any

import pytest

from nextstep_envs.ledger import estimate_tokens
from nextstep_envs.requests import Ask, Done, Job, Result
from nextstep_envs.types import Usage
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.workers.pool import DEFAULT_POOL, scripted_workers
from nextstep_envs.workers.requirements import Requirements, Term, parse_list, parse_request, write_list
from nextstep_envs.workers.scripted import ScriptedWorker, understand
from nextstep_envs.worlds.webshop.world import WebShopWorld

WORKERS = scripted_workers(DEFAULT_POOL)
CARRY = "Buy the product that the given requirements describe."
OPEN = "Search and open the product that the given requirements describe."
CHECK = "Check the open product against the given requirements, repair what is wrong and buy."


@pytest.fixture(scope="module")
def world() -> WebShopWorld:
    return WebShopWorld(show_instruction=False)


class Run:
    """One worker's step in the world, by hand."""

    def __init__(self, world: WebShopWorld, worker: Any, job: Job, state: Any, seed: int = 0) -> None:
        self.asks: list[Ask] = []
        self.pages: list[str] = []
        memory, result, turn = None, None, 0
        while True:
            out = worker.advance(job, memory, result, random.Random(1000 * seed + turn))
            turn += 1
            if isinstance(out, Done):
                break
            state, page = world.act(state, out.payload)
            self.asks.append(out)
            self.pages.append(page)
            memory, result = out.memory, Result("", page, out.bound)
        self.done, self.state = out, state

    @property
    def usage(self) -> Usage:
        total = self.done.usage
        for ask in self.asks:
            total = total.plus(ask.bound)
        return total


def start(world: WebShopWorld, task_id: str) -> tuple[str, Any]:
    task = world.task(task_id)
    return task.prompt, world.begin(task, random.Random(0))


def score(world: WebShopWorld, task_id: str, state: Any) -> float:
    return float(world.outcome(world.task(task_id), state).score)


def tasks_of(world: WebShopWorld, category: str, n: int) -> list[str]:
    found = (i for i in world.ids("train") if world.shop.product(world.shop.goal(i).asin).category == category)
    return [str(i) for i, _ in zip(found, range(n), strict=False)]


def solve(world: WebShopWorld, task_id: str, buyer: str, planner: str = "", subtask: str = CARRY) -> float:
    """Score of one worker alone, or of a planner's list and a buyer."""
    request, state = start(world, task_id)
    if not planner:
        job = Job(f"Shop for and buy: {request}", (), world.view(state))
        return score(world, task_id, Run(world, WORKERS[buyer], job, state).state)
    listed = Run(world, WORKERS[planner], Job(f"List the requirements of this request: {request}"), state)
    job = Job(subtask, (listed.done.value,), world.view(state))
    return score(world, task_id, Run(world, WORKERS[buyer], job, listed.state).state)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_subtasks_are_understood_by_key_words_outside_the_request() -> None:
    assert understand("List the requirements of this request: Find me a check shirt to buy") == "plan"
    assert understand("Shop for and buy: Find me a plan holder") == "buy"
    assert understand("Please verify what is open, then purchase it") == "check"
    assert understand("Search for it and open the best hit") == "open"
    assert understand("Find me lip paint") == "buy"
    assert understand("List the requirements of this request: a folding box to buy, in red") == "plan"


def test_a_request_is_parsed_into_product_features_options_and_price() -> None:
    text = (
        "I need no smell, lasts all day lip paint with shiny finish with color: ruby, and size: 250 ml, "
        "and price lower than 40.00 dollars"
    )
    features = (Term("no smell"), Term("lasts all day"), Term("shiny finish"))
    options = (("color", "ruby"), ("size", "250 ml"))
    assert parse_request(text) == Requirements(Term("lip paint"), features, options, 40.0)
    assert parse_request("nothing of the kind") is None


def test_a_list_survives_writing_and_reading() -> None:
    wanted = Requirements(Term("couch", "sofa loveseat"), (Term("cozy feel"),), (("size", "king"),), 90.0, listed=True)
    assert parse_list("Noted.\n" + write_list(wanted)) == wanted
    assert parse_list("no list") is None


@pytest.mark.parametrize("spec", DEFAULT_POOL, ids=lambda spec: spec.worker_id)
def test_bounds_are_exactly_what_was_read_and_written(world: WebShopWorld, spec: WorkerSpec) -> None:
    request, state = start(world, "1600")
    listed = Run(world, WORKERS["planning"], Job(f"List the requirements of: {request}"), state).done.value
    job = Job(CARRY, (listed,), world.view(state))
    run = Run(world, ScriptedWorker(spec), job, state)
    read = [estimate_tokens(job.subtask) + estimate_tokens(listed) + estimate_tokens(job.view)]
    read += map(estimate_tokens, run.pages)
    written = [*(estimate_tokens(ask.payload) for ask in run.asks), estimate_tokens(run.done.value)]
    spent = [*(ask.bound for ask in run.asks), run.done.usage]
    assert [usage.prompt_tokens for usage in spent] == read
    assert [usage.completion_tokens for usage in spent] == written
    assert [usage.env_steps for usage in spent] == [1] * len(run.asks) + [0]
    assert run.usage.calls == 1
    assert max(written) <= 512


def test_advance_is_pure_and_memory_can_be_kept(world: WebShopWorld) -> None:
    request, state = start(world, "1600")
    worker, job = WORKERS["general_reasoning"], Job(f"Shop for and buy: {request}", (), world.view(state))
    run = Run(world, worker, job, state)
    for i, ask in enumerate(run.asks[:-1]):
        memory = pickle.loads(pickle.dumps(ask.memory))
        assert memory == ask.memory
        before = copy.deepcopy(memory)
        answers = [worker.advance(job, memory, Result("", run.pages[i]), random.Random(i + 1)) for _ in range(2)]
        assert answers[0] == answers[1] == run.asks[i + 1]
        assert memory == before


@pytest.mark.parametrize("worker_id", list(WORKERS))
@pytest.mark.parametrize("subtask", [CARRY, OPEN, CHECK, "List the requirements."])
def test_without_requirements_nothing_is_done(world: WebShopWorld, worker_id: str, subtask: str) -> None:
    """The world knows the request, the job does not: a worker that acted would have read what it may not."""
    _, state = start(world, "1600")
    run = Run(world, WORKERS[worker_id], Job(subtask, (), world.view(state)), state)
    assert not run.asks
    assert run.usage.calls == 1


def test_a_listed_requirement_is_followed_to_the_letter(world: WebShopWorld) -> None:
    request, state = start(world, "1600")
    other, _ = start(world, "1700")
    listed = Run(world, WORKERS["planning"], Job(f"List the requirements of: {other}"), state).done.value
    run = Run(world, WORKERS["tool_use"], Job(f"Shop for and buy: {request}", (listed,)), state)
    wanted = parse_list(listed)
    assert wanted is not None
    assert wanted.product.best in run.asks[0].payload


def test_the_latest_list_counts(world: WebShopWorld) -> None:
    _, state = start(world, "1600")
    lists = tuple(write_list(Requirements(Term(noun))) for noun in ("couch", "perfume"))
    run = Run(world, WORKERS["tool_use"], Job(CARRY, lists), state)
    assert run.asks[0].payload == "search[perfume]"


@pytest.mark.parametrize(
    ("category", "good", "bad"),
    [
        ("beauty", ("tool_use", "planning"), ("general_reasoning", "")),
        ("electronics", ("general_reasoning", ""), ("tool_use", "planning")),
        ("garden", ("tool_use", ""), ("general_reasoning", "")),
        ("fashion", ("verification", "planning"), ("tool_use", "")),
        ("grocery", ("verification", "general_reasoning"), ("verification", "planning")),
    ],
)
def test_each_domain_has_its_own_good_choice(
    world: WebShopWorld, category: str, good: tuple[str, str], bad: tuple[str, str]
) -> None:
    tasks = tasks_of(world, category, 25)
    right, wrong = (mean([solve(world, task, *who) for task in tasks]) for who in (good, bad))
    assert right >= 0.85
    assert right >= wrong + 0.15


def test_a_planner_who_knows_the_trade_helps_a_buyer_who_does_not(world: WebShopWorld) -> None:
    tasks = tasks_of(world, "beauty", 25)
    assert mean([solve(world, t, "tool_use", "planning") for t in tasks]) > 0.3 + mean(
        [solve(world, t, "tool_use") for t in tasks]
    )


def test_who_opens_does_not_buy_and_who_checks_does(world: WebShopWorld) -> None:
    request, state = start(world, tasks_of(world, "fashion", 1)[0])
    listed = Run(world, WORKERS["planning"], Job(f"List the requirements of: {request}"), state).done.value
    opened = Run(world, WORKERS["tool_use"], Job(OPEN, (listed,), world.view(state)), state)
    assert not world.done(opened.state)
    assert "Buy Now" in world.view(opened.state)
    job = Job(CHECK, (listed, opened.done.value), world.view(opened.state))
    checked = Run(world, WORKERS["verification"], job, opened.state)
    assert world.done(checked.state)
    assert checked.asks[0].payload == "click[features]"


def test_a_verifier_repairs_a_wrong_choice(world: WebShopWorld) -> None:
    task = tasks_of(world, "fashion", 1)[0]
    request, state = start(world, task)
    listed = Run(world, WORKERS["planning"], Job(f"List the requirements of: {request}"), state).done.value
    state, page = world.act(state, "search[sneakers laces]")
    wrong = page.split("[button] B0")[1].split(" ")[0].lower()
    state, page = world.act(state, f"click[b0{wrong}]")
    run = Run(world, WORKERS["verification"], Job(CHECK, (listed,), page), state)
    assert score(world, task, run.state) >= 0.8


def test_skill_decides_how_much_is_read(world: WebShopWorld) -> None:
    def spent(level: float) -> int:
        skills = tuple((domain, level) for domain, _ in DEFAULT_POOL[0].skills)
        worker = ScriptedWorker(WorkerSpec("verification", "", 1.0, 1.0, skills=skills))
        total = 0
        for task in tasks_of(world, "grocery", 10):
            request, state = start(world, task)
            wanted = parse_request(request)
            assert wanted is not None
            total += Run(world, worker, Job(CARRY, (write_list(wanted),)), state).usage.tokens
        return total

    assert spent(0.9) > 1.3 * spent(0.3)


def test_a_worker_with_an_unknown_id_or_no_skills_works(world: WebShopWorld) -> None:
    request, state = start(world, "1600")
    worker = ScriptedWorker(WorkerSpec("newcomer", "", 1.0, 1.0))
    assert world.done(Run(world, worker, Job(f"Buy: {request}", (), world.view(state)), state).state)


def test_chance_changes_little_but_something(world: WebShopWorld) -> None:
    request, state = start(world, tasks_of(world, "garden", 1)[0])
    job = Job(f"Shop for and buy: {request}", (), world.view(state))
    runs = [Run(world, WORKERS["tool_use"], job, state, seed) for seed in range(200)]
    calls = [tuple(ask.payload for ask in run.asks) for run in runs]
    usual = max(calls.count(c) for c in set(calls))
    assert 150 <= usual < 200


@pytest.mark.parametrize("goals", ["synthetic", "human"])
def test_workers_find_their_way_in_the_published_shop(webshop_data: Path, goals: str) -> None:
    world = WebShopWorld(show_instruction=False, data_dir=webshop_data, goals=goals)
    scores = []
    for task in [str(i) for i in world.ids("all")][:12]:
        request, state = start(world, task)
        listed = Run(world, WORKERS["planning"], Job(f"List the requirements of: {request}"), state)
        assert parse_list(listed.done.value) is not None
        for worker_id in WORKERS:
            run = Run(world, WORKERS[worker_id], Job(CARRY, (listed.done.value,), world.view(state)), state)
            assert len(run.asks) < 60
            scores.append(score(world, task, run.state) if world.done(run.state) else 0.0)
    assert mean(scores) > 0.3
