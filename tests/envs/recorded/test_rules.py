"""Question routing in single environments: who can be asked, what it costs, what is seen, how it ends."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml

from nextstep_envs.errors import ConfigError, DataError
from nextstep_envs.worlds.qa.world import NOTED
from tests.envs.recorded import tiny

ID = "NextStep/MMLUPro-Routing-v0"
ALL = {"pool": "all", "split": "all"}


def make(folder: Path, **kwargs: Any) -> Any:
    return gym.make(ID, workers=f"recorded:{folder}", **{**ALL, **kwargs})


def begin(env: Any, question: int) -> Any:
    return env.reset(seed=0, options={"task_id": str(question)})


def named(env: Any, observation: Any) -> dict[str, float]:
    return dict(zip(env.unwrapped.feature_names, observation["observation"].tolist(), strict=True))


def test_an_answer_is_the_recorded_one_at_the_pools_price(folder: Path) -> None:
    env = make(folder)
    begin(env, 4)
    _, reward, terminated, _, info = env.step(1)
    (record,) = info["records"]
    assert (reward, terminated) == (0.0, False)
    assert record.output == "dear thinks. The answer is (A)." and record.context == () and not record.failed
    assert [(tool.call, tool.observation) for tool in record.tools] == [("answer[A; 0.500]", NOTED)]
    assert record.usage[:3] == (1000, 40, 1) and info["costs"].tolist() == [1000 * 1e-6 + 40 * 2e-6]
    assert env.unwrapped.setup.world.answers.usd[3].tolist() == [0.000108, 0.00108, 0.00216]


def test_the_outcome_is_the_vote_and_ties_go_to_the_last(folder: Path) -> None:
    env = make(folder)
    for question, asked, reward in (
        (4, [0, 1, 2], 0.0),
        (4, [0, 2], 1.0),
        (4, [2, 0], 0.0),
        (6, [1], 1.0),
        (6, [], 0.0),
    ):
        begin(env, question)
        for action in asked:
            env.step(action)
        _, got, terminated, truncated, info = env.step(3)
        assert (got, terminated, truncated) == (reward, True, False)
        assert info["outcome"].votes == len(asked) and info["outcome"].success == bool(reward)


def test_the_last_answer_counts_where_it_is_asked_for(folder: Path) -> None:
    env = make(folder, answer="last")
    for asked, reward in (([0, 1, 2], 1.0), ([2, 1, 0], 0.0)):
        begin(env, 4)
        for action in asked:
            env.step(action)
        assert env.step(3)[1] == reward
    begin(env, 5)
    env.step(0), env.step(1)
    assert env.step(3)[1] == 1.0  # who gives no answer changes nothing


def test_weighted_votes_count_by_skill(folder: Path) -> None:
    value = tiny.models()
    for model, skill in zip(value["models"], (0.2, 0.3, 0.6), strict=True):
        model["skills"] = {"law": skill, "math": skill}
    (folder / "models.json").write_text(json.dumps(value))
    for rule, reward in (("vote", 0.0), ("weighted", 1.0)):
        env = make(folder, answer=rule)
        begin(env, 4)  # A, A, B
        for action in (2, 0, 1):
            _, _, _, _, info = env.step(action)
        assert info["records"][0].confidence == 0.3
        assert env.step(3)[1] == reward


def test_nobody_can_be_asked_twice(folder: Path) -> None:
    env = make(folder)
    _, info = begin(env, 1)
    assert info["action_mask"].tolist() == [1, 1, 1, 1]
    observation, _, _, _, info = env.step(0)
    assert info["action_mask"].tolist() == [0, 1, 1, 1]
    again, reward, terminated, _, info = env.step(0)
    assert info["invalid_action"] and info["records"] == () and info["cost"] == 0.0 and not terminated
    before, after = named(env, observation), named(env, again)
    assert {name for name in before if before[name] != after[name]} == {"left.steps", "invalid"}


def test_a_model_without_a_row_is_masked_for_that_question_alone(folder: Path) -> None:
    rows = [row for row in tiny.answers() if (row["question_id"], row["model"]) != (4, "dear")]
    env = make(tiny.write_compact(folder, rows))
    for question, mask in ((3, [1, 1, 1, 1]), (4, [1, 0, 1, 1])):
        observation, info = begin(env, question)
        assert info["action_mask"].tolist() == mask and named(env, observation)["dear.present"] == mask[1]
    _, _, _, _, info = env.step(1)
    assert info["invalid_action"] and info["records"] == ()
    text = make(folder, interface="text")
    assert "- dear:" in begin(text, 3)[0] and "- dear:" not in begin(text, 4)[0]


def test_a_held_out_model_is_masked_in_training_only(folder: Path) -> None:
    for split, mask in (("train", [1, 0, 1, 1]), ("dev", [1, 1, 1, 1])):
        env = make(folder, split=split, held_out_models=["dear"])
        assert env.reset(seed=0)[1]["action_mask"].tolist() == mask


def test_everybody_is_there_unless_a_pool_size_is_given(folder: Path) -> None:
    assert make(folder, split="train").unwrapped.pool_size == 3
    env = make(folder, pool_size=2)
    masks = {tuple(env.reset(seed=seed)[1]["action_mask"].tolist()) for seed in range(20)}
    assert masks == {(1, 1, 0, 1), (1, 0, 1, 1), (0, 1, 1, 1)}


def test_what_might_break_the_budget_is_masked(folder: Path) -> None:
    # A call takes at most 1000 + 100 tokens: .00012, .0012 and .0024 dollars.
    for budget, mask in (
        ({"call_tokens": 100, "usd": 0.0013}, [1, 1, 0, 1]),
        ({"call_tokens": 100, "usd": 0.0011}, [1, 0, 0, 1]),
        ({"call_tokens": 100, "tokens": 1099}, [0, 0, 0, 1]),
        ({"call_tokens": 100, "tokens": 1100}, [1, 1, 1, 1]),
    ):
        assert begin(make(folder, budget=budget), 1)[1]["action_mask"].tolist() == mask
    env = make(folder, budget={"calls": 1})
    begin(env, 1)
    assert env.step(0)[0]["action_mask"].tolist() == [0, 0, 0, 1]


def test_a_recorded_answer_that_is_longer_than_allowed_is_not_cut_but_refused(folder: Path) -> None:
    env = make(folder, budget={"call_tokens": 1, "tokens": 1001})
    begin(env, 1)
    _, reward, terminated, truncated, info = env.step(0)
    assert terminated and not truncated and info["budget_exhausted"] == "tokens" and info["cost"] == 0.0
    assert info["records"][0].error == "budget: tokens" and reward == 0.0


def test_steps_run_out(folder: Path) -> None:
    env = make(folder, budget={"steps": 2})
    begin(env, 1)
    env.step(0)
    _, reward, terminated, _, info = env.step(1)
    assert terminated and reward == 1.0 and info["budget_exhausted"] == "steps"


def test_the_vector_says_how_the_answers_stand(folder: Path) -> None:
    env = make(folder)
    observation, _ = begin(env, 4)
    first = named(env, observation)
    assert first["category.math"] == 1 and first["category.law"] == 0 and first["asked"] == 0
    assert first["dear.prompt_milli_usd"] == 1.0 and first["dear.log_price"] == np.float32(math.log1p(3.0))
    env.step(0), env.step(2)
    observation = env.step(1)[0]
    seen = named(env, observation)
    assert seen["asked"] == 1 and seen["nulls"] == 0 and seen["different"] == np.float32(2 / 3)
    assert seen["agreement"] == np.float32(2 / 3) and seen["margin"] == np.float32(1 / 3)
    assert [seen[f"{name}.leads"] for name in tiny.MODELS] == [1, 1, 0]
    assert [seen[f"{name}.place"] for name in tiny.MODELS] == [np.float32(k / 3) for k in (1, 3, 2)]
    assert seen["spent.milli_usd"] == np.float32(0.108 + 1.08 + 2.16) and seen["dear.length"] == 40 / 512
    begin(env, 3)
    silent = named(env, env.step(0)[0])
    assert silent["cheap.null"] == 1 and silent["nulls"] == np.float32(1 / 3) and silent["agreement"] == 0


def test_observations_hold_no_ground_truth(folder: Path) -> None:
    """Two folders that differ in what is right give the same observations."""
    other = folder / "other"
    other.mkdir()
    asked = [{**row, "answer_index": 0} for row in tiny.questions()]
    rows = [{**row, "correct": row["pred"] == "A"} for row in tiny.answers()]
    tiny.write_compact(other, rows, asked)
    value = tiny.models()
    for model in value["models"]:
        model["skills"] = {"law": 0.5, "math": 0.5}
    for place in (folder, other):
        (place / "models.json").write_text(json.dumps(value))
    for interface in ("vector", "text"):
        one, two = make(folder, interface=interface), make(other, interface=interface)
        for question in tiny.PREDS:
            seen = []
            for env in (one, two):
                seen.append([begin(env, question)[0]])
                for name in tiny.MODELS:
                    seen[-1].append(env.step(tiny.MODELS.index(name) if interface == "vector" else ask(name))[0])
            assert repr(seen[0]) == repr(seen[1])
            if interface == "vector":
                pairs = zip(seen[0], seen[1], strict=True)
                assert all((a["observation"] == b["observation"]).all() for a, b in pairs)


def ask(name: str) -> str:
    return json.dumps({"agent": name})


def test_the_text_shows_answers_with_their_reasoning_uncut(folder: Path) -> None:
    long = "so " * 900 + "The answer is (B)."
    rows = [{**row, "text": long if row["model"] == "dear" else row["text"]} for row in tiny.answers()]
    env = make(tiny.write_compact(folder, rows), interface="text", render_mode="ansi")
    message, _ = begin(env, 4)
    assert "Which option of question number 4 is right?\nA. first" in message and "- cheap:" in message
    assert "(recorded answers)" in message and "most workers" in message
    message = env.step(ask("dear"))[0]
    assert long in message and "dear answered A (1040 tokens, $0.001080)" in message
    assert "Final answer as things stand: A" in message
    assert "Invalid action, nothing was run: worker dear was asked already" in env.step(ask("dear"))[0]
    assert "must be one of cheap, dear, closed" in env.step(ask("nobody"))[0]
    assert "no JSON object" in env.step("dear")[0]
    assert "over (finish)" in env.step('{"finish": true}')[0]
    assert long in env.render() and "cheap thinks" not in env.render()


def test_a_sample_is_only_a_label(folder: Path) -> None:
    env = make(folder)
    runs = []
    for sample in (0, 5):
        env.reset(seed=3, options={"sample": sample})
        runs.append([env.step(action)[0]["observation"].tolist() for action in (0, 1, 3)])
    assert runs[0] == runs[1]


def test_workers_may_be_a_yaml_file_that_is_the_pool(folder: Path) -> None:
    path = folder / "workers.yaml"
    pool = {"models": [tiny.model("dear", 5.0)], "budget": {"steps": 3, "call_tokens": 64}}
    path.write_text(yaml.safe_dump({"kind": "recorded", "data_dir": str(folder), **pool}))
    env = gym.make(ID, workers=str(path), split="all")
    assert [spec.worker_id for spec in env.unwrapped.worker_specs] == ["dear"]
    assert (env.unwrapped.budget.steps, env.unwrapped.budget.call_tokens) == (3, 64)
    begin(env, 1)
    assert env.step(0)[-1]["cost"] == pytest.approx(1000 * 5e-6 + 40 * 10e-6)
    named_pool = gym.make(ID, workers={"kind": "recorded", "data_dir": str(folder), "pool": "all"})
    assert len(named_pool.unwrapped.worker_specs) == 3
    assert len(gym.make(ID, data_dir=str(folder)).unwrapped.worker_specs) == 2


def test_a_price_shift_changes_what_is_paid_and_seen(folder: Path) -> None:
    from wrappers import WorkerPoolShift

    env = WorkerPoolShift(make(folder), drop=["closed"], price_factor={"dear": 3.0})
    observation, info = begin(env, 1)
    assert info["action_mask"].tolist() == [1, 1, 0, 1]
    assert named(env, observation)["dear.prompt_milli_usd"] == 3.0
    assert env.step(1)[-1]["cost"] == pytest.approx(3 * 0.00108)


def test_the_environment_says_whose_answers_these_are(folder: Path) -> None:
    assert make(folder).unwrapped.data_source == "recorded"
    assert gym.make(ID).unwrapped.data_source == "generated"
    assert "(generated answers)" in gym.make(ID, interface="text").reset(seed=0)[0]


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"workers": "recorded:/nowhere"}, DataError, "data_dir='/nowhere': there is no such folder"),
        ({"workers": {"kind": "recorded", "folder": "x"}}, ConfigError, "'folder' is unknown"),
        ({"workers": "recorded:/a", "data_dir": "/b"}, ConfigError, "data_dir='/b', but the workers say '/a'"),
        ({"question_buckets": -1}, ConfigError, "question_buckets=-1"),
        (
            {"question_encoder": "bert"},
            ConfigError,
            "question_encoder='bert' is unknown; choose one of 'hash', 'minilm'",
        ),
        ({"world": "webshop"}, ConfigError, "for the worlds 'mmlu_pro' and 'gsm8k', not 'webshop'"),
        ({"world": "webshop", "workers": "scripted"}, ConfigError, "needs a world of questions, not 'webshop'"),
        ({"anwser": "vote"}, ConfigError, "'anwser'.*'answer'"),
    ],
)
def test_a_bad_argument_is_named(kwargs: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gym.make(ID, **kwargs)


def test_live_workers_vote_by_calling_the_worlds_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chat model answers with `answer[...]`; the rest is as with recorded ones."""
    from nextstep_envs.providers.fake import FakeProvider
    from nextstep_envs.requests import ChatReply, Result
    from nextstep_envs.types import Usage

    def perform(self: Any, requests: Any) -> list[Result]:
        results = []
        for request in requests:
            voted = any("answer[" in m.content for m in request.payload.messages if m.role == "assistant")
            reply = ChatReply('{"answer": "done"}' if voted else '{"action": "answer[C]"}')
            results.append(Result(request.id, reply, Usage(200, 10, 1)))
        return results

    monkeypatch.setattr(FakeProvider, "perform", perform)
    env = gym.make(ID, workers="fake", split="dev")
    observation, info = env.reset(seed=0)
    _, _, _, _, info = env.step(0)
    assert [tool.call for tool in info["records"][0].tools] == ["answer[C]"] and info["cost_terms"]["calls"] == 2
    _, reward, _, _, info = env.step(env.action_space.n - 1)
    assert info["outcome"].answer == "C" and reward == float(info["outcome"].reference == "C")
