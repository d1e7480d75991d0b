"""The Search protocol: what an edit is, what is legal, what is seen and what is paid."""

from __future__ import annotations

import json
import random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nextstep_envs  # noqa: F401  (registers)
from nextstep_envs.errors import ConfigError
from nextstep_envs.programs.episode import SearchEpisode
from nextstep_envs.programs.program import problems
from nextstep_envs.programs.serial import from_json, to_python
from nextstep_envs.protocols.search import SearchProtocol
from nextstep_envs.requests import Done, Job
from nextstep_envs.types import Budget, Usage
from nextstep_envs.workers.pool import DEFAULT_POOL
from nextstep_envs.workers.scripted import ScriptedWorker
from tests.envs.programs.test_validation import Many
from tests.envs.toy import POOL

ID = "NextStep/WebShop-Search-v0"
FINISH = {"finish": True}


class Steady:
    """Does one thing in the world and answers; its output tells what it read."""

    def advance(self, job: Job, memory: Any, result: Any, rng: Any) -> Any:
        from nextstep_envs.requests import Ask

        if result is None:
            return Ask("world", "act", Usage(env_steps=1))
        return Done(f"[{' '.join(job.context)}]", Usage(20, 5, 1))


def start(budget: Budget | None = None, pool: Any = POOL, **kwargs: Any) -> tuple[SearchEpisode, SearchProtocol]:
    limits = budget or Budget(steps=8)
    rules = SearchProtocol(POOL, limits, kwargs.pop("cost_limits", {}), **{"tasks": 2, **kwargs})
    episode = rules.episode(rules.adapt(Many()), {"a": Steady(), "b": Steady()})
    episode.reset("3+4", pool, seed=1)
    return episode, rules


def act(episode: SearchEpisode, action: Any) -> Any:
    episode.act(json.dumps(action) if isinstance(action, dict) else action)
    return episode.transition()


def add(kind: str, *inputs: str, worker: str = "a", **more: Any) -> dict[str, Any]:
    return {"edit": "add", "operator": {"kind": kind, "worker": worker, "inputs": list(inputs)}, **more}


def program(episode: SearchEpisode) -> str:
    return to_python(episode.state.program)


# -- what an action means ----------------------------------------------------------------------------------------------


def test_text_edits_build_a_program_step_by_step() -> None:
    episode, _ = start()
    for action in (
        add("custom", "task", readers=["answer1"]),
        {"edit": "set", "name": "answer1", "inputs": ["text1"], "prompt": "Go by it."},
        add("review", "answer1", worker="b"),
        add("revise", "critique1", "answer1"),
        {"edit": "set", "name": "critique1", "worker": "a"},
    ):
        assert not act(episode, action).terminated and not episode.state.notice
    assert program(episode) == (
        "def workflow(task):\n"
        "    text1 = custom(task, worker='a')\n"
        "    answer1 = generate(text1, worker='a', prompt='Go by it.')\n"
        "    critique1 = review(answer1, worker='a')\n"
        "    answer2 = revise(critique1, answer1, worker='a')\n"
        "    return answer2\n"
    )
    assert [run.output for run in episode.state.evaluations[-1].runs] == ["[[[]] [[[]]]]"] * 2


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("hello", "no JSON object was found"),
        ("[1]", "no JSON object was found"),
        ({"edit": "remove", "name": "answer1"}, "breaks the program: no operator gives an answer"),
        ({"edit": "remove", "name": "plan"}, "there is no operator 'plan'; there are answer1"),
        ({"edit": "set", "name": "answer1", "worker": "a"}, "changes nothing"),
        ({"edit": "set", "name": "answer1", "worker": "c"}, "'answer1' has the worker 'c'; choose one of a, b"),
        ({"edit": "set", "name": "answer1", "inputs": ["answer1"]}, "does not come before it; 'answer1' reads 0 of"),
        (add("review", "task"), "'critique1' reads 0 of type answer"),
        (add("program", "task"), "this world runs no code"),
        ({"program": {"operators": []}}, "no operator gives an answer"),
        ({"program": "def workflow(task):\n    __import__('os')\n    return task"}, "line 2: only name = kind"),
    ],
)
def test_an_invalid_edit_says_why_and_leaves_the_program(action: Any, reason: str) -> None:
    episode, _ = start()
    before = program(episode)
    end = act(episode, action)
    assert reason in episode.state.notice and program(episode) == before
    assert end.usage == Usage() and end.records == () and end.reward == 0.0 and not end.extra


def test_a_program_can_have_so_many_operators_and_no_more() -> None:
    episode, rules = start(max_operators=2)
    act(episode, add("custom", "task"))
    assert not episode.state.notice
    act(episode, add("custom", "task"))
    assert "3 operators, more than the 2 allowed" in episode.state.notice
    adds = [i for i, choice in enumerate(rules.menu) if choice.action == "add"]
    assert not rules.mask(episode.state)[adds].any()


def test_absent_workers_are_replaced_at_the_start_and_refused_later() -> None:
    both = {"operators": [{"name": name, "kind": "generate", "worker": name} for name in "ab"]}
    episode, rules = start(pool=POOL[1:], program=both)
    assert [op.worker for op in episode.state.program.operators] == ["b", "b"]
    act(episode, {"edit": "set", "name": "a", "worker": "a"})
    assert "choose one of b" in episode.state.notice
    legal = [rules.menu[i] for i in np.flatnonzero(rules.mask(episode.state)[:-1])]
    assert legal and {choice.worker for choice in legal} <= {"b", ""}


# -- what is legal ---------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=9), st.sampled_from([POOL, POOL[1:]]))
@settings(max_examples=60, deadline=None)
def test_exactly_the_masked_in_edits_are_valid(picks: list[int], pool: Any) -> None:
    episode, rules = start(Budget(steps=10), pool=pool, max_operators=4)
    for pick in picks:
        mask = rules.mask(episode.state)
        assert mask.shape == (rules.n_actions,) and mask.dtype == np.int8 and mask[-1] == 1
        legal = np.flatnonzero(mask[:-1])
        assert legal.size
        choice = int(legal[pick % len(legal)])
        illegal = np.flatnonzero(mask[:-1] == 0)
        assert rules.decode(episode.state, int(illegal[pick % len(illegal)])).invalid
        old = episode.state.program
        act(episode, choice)
        assert not episode.state.notice and episode.state.program != old
        assert problems(episode.state.program, [spec.worker_id for spec in pool], most=4) == ()


def test_menu_edits_wire_by_type() -> None:
    episode, rules = start()

    def pick(action: str, **wanted: Any) -> None:
        (index,) = (
            i
            for i, choice in enumerate(rules.menu)
            if choice.action == action and all(getattr(choice, k) == v for k, v in wanted.items())
        )
        act(episode, index)
        assert not episode.state.notice, episode.state.notice

    pick("add", kind="custom", worker="b", background="task")
    pick("inputs", slot=1, background="texts")
    pick("add", kind="review", worker="a", background="both")
    pick("add", kind="generate", worker="b", background="task")
    pick("add", kind="ensemble", worker="a", background="texts")
    pick("add", kind="test", worker="b", background="task")
    pick("remove", slot=5)
    pick("worker", slot=4, worker="b")
    assert program(episode) == (
        "def workflow(task):\n"
        "    text1 = custom(task, worker='b')\n"
        "    answer1 = generate(text1, worker='a')\n"
        "    critique1 = review(answer1, task, text1, worker='a')\n"
        "    answer2 = generate(task, worker='b')\n"
        "    answer3 = ensemble(answer1, answer2, text1, worker='b')\n"
        "    return answer3\n"
    )


def test_an_action_outside_the_menu_is_invalid_and_the_last_is_finish() -> None:
    episode, rules = start()
    for action in (-1, rules.n_actions):
        act(episode, action)
        assert "outside" in episode.state.notice
    assert act(episode, rules.n_actions - 1).terminated
    assert rules.mask(episode.state).sum() == 1


# -- what is paid ----------------------------------------------------------------------------------------------------


def improving(episode: SearchEpisode) -> list[float]:
    """Toy scores rise with each operator that acts in the world, and fall when one goes."""
    edits = (
        add("custom", "task", readers=["answer1"]),
        {"edit": "set", "name": "answer1", "inputs": ["task"]},
        {"edit": "set", "name": "answer1", "inputs": ["text1"]},
        add("custom", "text1", readers=["answer1"]),
        FINISH,
    )
    return [act(episode, edit).reward for edit in edits]


def test_score_pays_the_mean_after_each_edit() -> None:
    assert improving(start()[0]) == pytest.approx([0.3, 0.2, 0.3, 0.4, 0.0])


def test_improvement_pays_what_is_new_and_adds_up_to_the_best() -> None:
    episode, _ = start(reward_mode="improvement")
    rewards = improving(episode)
    assert rewards == pytest.approx([0.3, 0.0, 0.0, 0.1, 0.0])
    assert sum(rewards) == pytest.approx(max(e.mean for e in episode.state.evaluations))


def test_info_has_mean_standard_deviation_cost_and_program() -> None:
    for limits, cost in (({}, 0.6 * 50 / 6000 + 0.3 * 2 / 80 + 0.1 * 2 / 12), ({"tokens": 9.0}, 50.0)):
        episode, _ = start(cost_limits=limits, runs=3)
        end = act(episode, add("custom", "task", readers=["answer1"]))
        assert end.extra == {
            "score_mean": pytest.approx(0.3),
            "score_std": pytest.approx(0.0),
            "score_cost": pytest.approx(cost),
            "program": end.extra["program"],
        }
        assert from_json(end.extra["program"]) == episode.state.program
        assert end.usage == Usage(6 * 40, 6 * 10, 12, 12, end.usage.usd_nano, end.usage.flops)


def test_without_reward_scores_are_still_measured() -> None:
    episode, _ = start()
    episode.act(json.dumps(add("custom", "task", readers=["answer1"])))
    end = episode.transition(scored=False)
    assert end.reward == 0.0 and end.extra["score_mean"] == pytest.approx(0.3)


# -- what is seen ----------------------------------------------------------------------------------------------------


def test_features_name_every_entry() -> None:
    episode, rules = start()
    act(episode, add("custom", "task", readers=["answer1"], worker="b"))
    act(episode, "junk")
    vector = rules.features(episode.state)
    assert vector.dtype == np.float32 and vector.shape == (rules.features.size,) == (len(rules.features.names),)
    assert len(set(rules.features.names)) == rules.features.size
    named = dict(zip(rules.features.names, vector.tolist(), strict=True))
    shown = {name: value for name, value in named.items() if value and not name.startswith("task_hash")}
    assert shown == pytest.approx(
        {
            **{"pool[a].present": 1, "pool[b].present": 1},
            **{"pool[a].log_price": np.log(4), "pool[b].log_price": np.log(13)},
            **{"left.edits": 6 / 8, "invalid_actions": 1 / 8, "evaluated": 1 / 8},
            **{f"{which}.mean": 0.3 for which in ("last", "best")},
            **{f"{which}.cost_mix": 0.6 * 50 / 6000 + 0.3 * 2 / 80 + 0.1 * 2 / 12 for which in ("last", "best")},
            **{"operator[0].kind.custom": 1, "operator[0].worker.b": 1, "operator[0].runs": 1},
            **{"operator[0].reads_task": 1, "operator[1].kind.generate": 1, "operator[1].worker.a": 1},
            **{"operator[1].runs": 1, "operator[1].reads_task": 1, "operator[1].reads[0]": 1},
        },
        abs=1e-6,
    )


def test_messages_show_tasks_and_program_then_what_each_edit_brought() -> None:
    episode, rules = start()
    first = rules.message(episode.state)
    for part in ("1. count to 3", "2. count to 4", "- a: Asks twice", "- review(answer", "answer1 = generate(task",
                 "8 edits, 6 operators", "12 calls, 6000 tokens", '{"finish": true}'):  # fmt: skip
        assert part in first
    assert "- program(" not in first  # the toy world runs no code
    act(episode, add("custom", "task", readers=["answer1"]))
    second = rules.message(episode.state)
    assert "Edit 1 (add text1 = custom(task) by a, read by answer1): score 0.300" in second
    assert "task 2, score 0.30: [[]]" in second and "text1 = custom(task, worker='a')" in second
    assert "Left: 7 edits" in second
    act(episode, "junk")
    assert rules.message(episode.state) == (
        "Invalid action, nothing was run: no JSON object was found.\nLeft: 6 edits\n"
    )
    act(episode, FINISH)
    assert rules.message(episode.state) == "The episode is over (finish).\n"
    whole = rules.transcript(episode.state)
    assert whole.startswith(first.rstrip()) and "score 0.300" in whole and whole.endswith("(finish).")


# -- the environment -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [
        ({"tasks": 0}, "tasks=0 must be a whole number >= 1"),
        ({"runs": 1.5}, "runs=1.5"),
        ({"max_operators": True}, "max_operators=True"),
        ({"tasks": 6000}, "fewer than the tasks=6000"),
        ({"reward_mode": "best"}, "reward_mode='best' is unknown"),
        ({"program": "print(1)"}, "line 1: a program is one function"),
        ({"program": {"operators": [{"name": "a", "kind": "generate", "worker": "nobody"}]}}, "worker 'nobody'"),
        ({"program": {"operators": [{"name": "a", "kind": "program", "worker": "tool_use"}]}}, "runs no code"),
    ],
)
def test_wrong_arguments_are_named(kwargs: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        gym.make(ID, **kwargs)


def test_in_the_shop_programs_differ_clearly() -> None:
    """Lists by one worker, a draft by another, checked against a list: far better than one worker alone."""
    programs = {
        "alone": "def workflow(task):\n    a = generate(task, worker='general_reasoning')\n    return a",
        "team": (
            "def workflow(task):\n"
            "    wanted = custom(task, worker='general_reasoning')\n"
            "    draft = generate(wanted, worker='verification')\n"
            "    flaws = review(draft, wanted, worker='planning')\n"
            "    final = revise(draft, flaws, wanted, worker='verification')\n"
            "    return final"
        ),
    }
    env = gym.make(ID, split="dev", tasks=60, interface="text")
    scores = {}
    for name, text in programs.items():
        env.reset(seed=7)
        _, scores[name], _, _, info = env.step(json.dumps({"program": text}))
        assert not info["invalid_action"] and scores[name] == info["score_mean"]
    assert scores["team"] > scores["alone"] + 0.2


def test_a_test_looks_at_the_open_product_and_neither_buys_nor_knows_the_score() -> None:
    text = (
        "def workflow(task):\n"
        "    draft = generate(task, worker='tool_use')\n"
        "    verdict = test(draft, task, worker='verification')\n"
        "    final = revise(draft, verdict, task, worker='verification')\n"
        "    return final"
    )
    env = gym.make(ID, split="dev", interface="text")
    env.reset(seed=3)
    records = env.step(json.dumps({"program": text}))[-1]["records"]
    tests = [record for record in records if record.step.agent == "verdict"]
    assert len(tests) == 4
    for record in tests:
        assert record.output.startswith("Opened: ") and "1 compared" in record.output
        assert not any("buy" in tool.call or "search" in tool.call for tool in record.tools)
        assert "score" not in record.output.lower()


def test_where_nothing_is_open_a_scripted_test_fails() -> None:
    worker = ScriptedWorker(DEFAULT_POOL[3])
    done = worker.advance(Job("Test the open product: find me a lamp"), None, None, random.Random(0))
    assert isinstance(done, Done) and done.failed and "nothing to test" in done.value


def test_waiting_workers_give_the_same_alone_and_in_a_batch() -> None:
    kwargs = {"workers": "fake", "tasks": 2, "budget": {"steps": 2}}
    many = gym.make_vec(ID, num_envs=2, vectorization_mode="vector_entry_point", **kwargs)
    _, infos = many.reset(seed=5)
    actions = [int(np.flatnonzero(mask)[3]) for mask in infos["action_mask"]]
    _, rewards, _, _, infos = many.step(np.array(actions))
    for i, action in enumerate(actions):
        env = gym.make(ID, **kwargs)
        env.reset(seed=5 + i)
        _, reward, _, _, info = env.step(action)
        assert info["records"] and infos["records"][i] == info["records"] and rewards[i] == reward
        assert infos["program"][i] == info["program"] and infos["score_cost"][i] == info["score_cost"]


def test_a_failing_provider_masks_the_sample() -> None:
    env = gym.make(ID, workers={"kind": "fake", "failure_rate": 1.0}, tasks=2)
    _, info = env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(int(np.flatnonzero(info["action_mask"])[0]))
    assert truncated and not terminated and reward == 0.0 and info["mask_sample"]
    assert info["error"]["kind"] == "outage" and "outcome" not in info and "score_mean" not in info
