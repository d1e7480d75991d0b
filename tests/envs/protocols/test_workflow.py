"""The Workflow protocol: what actions mean, who sees what, and what is legal."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from nextstep_envs.episode import Episode
from nextstep_envs.protocols.templates import TEMPLATES
from nextstep_envs.protocols.workflow import CONTEXTS, WorkflowProtocol
from nextstep_envs.requests import Done, Job
from nextstep_envs.types import Budget, Usage
from tests.envs.toy import POOL, Counter


class Spy:
    """Answers "out<n>" at once and keeps the jobs it saw."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def advance(self, job: Job, memory: Any, result: Any, rng: Any) -> Done:
        self.jobs.append(job)
        return Done(f"out{len(self.jobs) - 1}", Usage(20, 5, 1))


def start(**budget: Any) -> tuple[Episode, Spy, WorkflowProtocol]:
    limits, spy = Budget(**budget), Spy()
    rules = WorkflowProtocol(POOL, limits, {})
    episode = Episode(Counter(), rules, {"a": spy, "b": spy}, limits)
    episode.reset("7", POOL, seed=1)
    return episode, spy, rules


def act(episode: Episode, action: Any) -> Any:
    episode.act(json.dumps(action) if isinstance(action, dict) else action)
    return episode.transition()


def step(text: str, access: Any = (), worker: str = "a") -> dict[str, Any]:
    return {"subtask": text, "worker_id": worker, "access_list": list(access)}


def test_access_lists_gate_context_exactly() -> None:
    episode, spy, _ = start()
    plan = [step("s0"), step("s1", ["0"]), step("s2", [0]), step("s3", ["all"]), step("s4", ["last"]), step("s5")]
    act(episode, {"workflow": plan})
    assert [job.context for job in spy.jobs] == [
        (), ("out0",), ("out0",), ("out0", "out1", "out2"), ("out3",), (),
    ]  # fmt: skip
    assert [job.subtask for job in spy.jobs] == ["s0", "s1", "s2", "s3", "s4", "s5"]


def test_task_is_replaced_only_where_it_is_named() -> None:
    episode, spy, _ = start()
    act(episode, step("do {task} {other}"))
    act(episode, step("alone"))
    assert [job.subtask for job in spy.jobs] == ["do count to 7 {other}", "alone"]


def test_a_whole_plan_runs_and_ends_and_one_step_does_not() -> None:
    episode, _, _ = start()
    assert not act(episode, step("x")).terminated
    last = act(episode, {"workflow": [step("y", ["0"])]})
    assert last.terminated and [r.step.index for r in last.records] == [1]
    episode, _, _ = start()
    assert act(episode, {"workflow": []}).terminated
    episode, _, _ = start()
    assert act(episode, {"finish": True}).terminated


@pytest.mark.parametrize(
    ("action", "why"),
    [
        ("gibberish", "no JSON object"),
        ({"workflow": "x"}, "must be a list"),
        ({"workflow": [step("x", worker="nobody")]}, '"worker_id" must be one of a, b'),
        ({"workflow": [step("x"), step("y", ["1"])]}, "no earlier step"),
        ({"workflow": [step("x")] * 7}, "only 6 are left"),
        ({"subtask": "", "worker_id": "a"}, "non-empty"),
        ({"subtask": "x", "worker_id": "a", "access_list": [True]}, "no earlier step"),
        ({"subtask": "x", "worker_id": ["a"], "access_list": []}, '"worker_id"'),
        ({"subtask": "x", "worker_id": "a", "access_list": {"0": 1}}, "must be a list"),
        ({"subtask": "x", "worker_id": "a", "access_list": ["9" * 5000]}, "no earlier step"),
        ({"finish": False}, "non-empty"),
    ],
)
def test_invalid_actions_say_why_run_nothing_and_use_one_step(action: Any, why: str) -> None:
    episode, spy, rules = start()
    result = act(episode, action)
    assert not spy.jobs and not result.terminated and result.usage == Usage()
    assert episode.state.steps_used() == 1
    message = rules.message(episode.state)
    assert why in message and "Invalid action" in message and "5 steps" in message


def test_the_conversation_grows_only_at_its_end() -> None:
    episode, _, rules = start()
    first = rules.message(episode.state)
    assert "count to 7" in first and "a: Asks twice" in first
    act(episode, step("x"))
    second = rules.message(episode.state)
    assert "out0" in second and "count to 7" not in second
    whole = rules.transcript(episode.state)
    assert whole.startswith(first.rstrip()) and "out0" in whole


def test_vector_actions_cover_worker_template_and_context() -> None:
    episode, spy, rules = start()
    n = len(TEMPLATES) * len(CONTEXTS)
    episode.act(n * 1 + 3 * 1 + 0)
    episode.transition()
    episode.act(2)
    episode.transition()
    first, second = episode.state.steps
    assert (first.worker_id, first.reads, second.worker_id, second.reads) == ("b", (), "a", (0,))
    assert first.subtask == TEMPLATES[1].text.replace("{task}", "count to 7")
    episode.act(rules.n_actions - 1)
    assert episode.transition().terminated


def test_the_mask_knows_pool_context_and_budget() -> None:
    episode, _, rules = start()
    episode.reset("7", POOL[1:], seed=1)
    mask = rules.mask(episode.state)
    grid = mask[:-1].reshape(len(POOL), len(TEMPLATES), len(CONTEXTS))
    assert mask.dtype == np.int8 and mask[-1] == 1
    assert not grid[0].any() and grid[1, :, 0].all() and not grid[1, :, 1:].any()
    act(episode, step("x", worker="b"))
    assert rules.mask(episode.state)[:-1].reshape(grid.shape)[1, :, 1].all()
    poor, _, rules = start(tokens=3)
    assert rules.mask(poor.state).sum() == 1


def test_a_masked_or_absent_action_is_invalid_not_an_error() -> None:
    episode, spy, rules = start()
    episode.reset("7", POOL[1:], seed=1)
    episode.act(0)
    assert not episode.transition().terminated and not spy.jobs
    episode.act(10_000)
    assert "outside" in episode.state.notice


def test_features_name_every_entry_and_hide_ground_truth() -> None:
    episode, _, rules = start()
    features = rules.features
    empty = features(episode.state)
    assert empty.shape == (len(features.names),) and empty.dtype == np.float32
    assert len(set(features.names)) == len(features.names)
    act(episode, step("x"))
    named = dict(zip(features.names, features(episode.state), strict=True))
    assert named["step[0].worker.a"] == 1 and named["step[0].done"] == 1 and named["step[1].done"] == 0
    assert named["left.steps"] == pytest.approx(5 / 6) and named["left.tokens"] == pytest.approx(1 - 25 / 6000)
