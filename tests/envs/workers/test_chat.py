"""Chat workers: what they are told, how they act and answer, what the record says of it."""

from __future__ import annotations

import json
import pickle
import random

import gymnasium as gym
import pytest

import nextstep_envs  # noqa: F401
from nextstep_envs.errors import ConfigError
from nextstep_envs.programs.validation import ValidationSet
from nextstep_envs.requests import Ask, ChatReply, Done, Job, Message, Result, ToolSpec, ToolUse
from nextstep_envs.types import Allowance, ToolCall
from nextstep_envs.worlds.base import tools_of
from tests.envs.toy import Counter
from tests.envs.workers.chatting import OPEN, STAMP, SUM, Desk, Model, calls, down, work, worker


def test_a_json_worker_acts_in_the_world_and_then_answers() -> None:
    model = Model(['{"action": "open[left]"}', 'Sure: {"action": "stamp[form]"}', '{"answer": "tidy"}'])
    record = work(worker(), model)
    assert record.output == "tidy" and not record.failed and not record.error and record.confidence is None
    assert record.tools == (("open[left]", "after open[left]"), ("stamp[form]", "after stamp[form]"))
    assert (record.usage.calls, record.usage.env_steps, record.reformats) == (3, 2, 0)
    last = model.chats[-1]
    assert [message.role for message in last.messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert last.messages[-1].content == "after stamp[form]" and last.tools == ()
    assert last.messages[: len(model.chats[0].messages)] == model.chats[0].messages  # a conversation only grows


def test_a_json_worker_is_told_its_tools_and_how_to_write() -> None:
    model = Model(['{"answer": "done"}'])
    work(worker(tools=[SUM]), model, role="You are Ada.", context=("first", "second"))
    system, brief = (message.content for message in model.chats[0].messages)
    assert system.startswith("You are Ada. Work on the subtask")
    for form in ('{"action": "open[name]"}', '{"action": "stamp[name]"}', '{"tool": "its name"', '{"answer": '):
        assert form in system
    assert "open[name]: Open a drawer." in system and f"sum: Add up. Arguments: {SUM.schema}" in system
    assert brief.splitlines()[0] == "Subtask: tidy up"
    assert brief.index("first") < brief.index("second") < brief.index("The world shows:\na desk")


def test_a_native_worker_hands_over_its_tools_and_gets_its_answers_by_id() -> None:
    model = Model([calls(("open", '{"name": "left"}'), text="Let me see."), "All tidy."])
    record = work(worker(tool_calls="native", tools=[SUM]), model)
    assert record.output == "All tidy." and record.tools == (("open[left]", "after open[left]"),)
    first, second = model.chats
    assert first.tools == second.tools == (OPEN, STAMP, SUM)
    assert second.messages[2:] == (
        Message("assistant", "Let me see.", (ToolUse("id0", "open", '{"name": "left"}'),)),
        Message("tool", "after open[left]", call_id="id0"),
    )


def test_several_calls_of_one_reply_are_done_in_order_and_each_is_counted() -> None:
    uses = (("open", '{"name": "a"}'), ("sum", '{"text": "1"}'), ("stamp", '{"name": "b", "times": 2}'))
    model = Model([calls(*uses), "done"])
    record = work(worker(tool_calls="native", tools=[SUM]), model)
    assert [tool.call for tool in record.tools] == ["open[a]", 'sum({"text": "1"})', "stamp[b]"]
    assert (record.usage.calls, record.usage.env_steps) == (2, 3)
    assert [(m.call_id, m.content) for m in model.chats[1].messages[3:]] == [
        ("id0", "after open[a]"),
        ("id1", "did sum"),
        ("id2", "after stamp[b]"),
    ]


def test_calls_stop_where_the_actions_are_used_up() -> None:
    uses = [("open", json.dumps({"name": str(i)})) for i in range(5)]
    record = work(worker(tool_calls="native"), Model([calls(*uses), "done"]), Allowance(env_steps=3))
    assert record.error == "budget: env_steps" and len(record.tools) == record.usage.env_steps == 3


def test_a_registered_tool_is_called_in_json() -> None:
    model = Model(['{"tool": "sum", "arguments": {"text": "1+1"}}', '{"answer": "2"}'])
    record = work(worker(tools=[SUM]), model)
    assert [(tool.name, json.loads(tool.arguments)) for tool in model.tools] == [("sum", {"text": "1+1"})]
    assert record.tools == (ToolCall('sum({"text": "1+1"})', "did sum"),) and record.usage.env_steps == 1


def test_a_tool_of_the_world_may_be_called_by_name_in_json_too() -> None:
    record = work(worker(), Model(['{"tool": "open", "arguments": {"name": "left"}}', '{"answer": "ok"}']))
    assert [tool.call for tool in record.tools] == ["open[left]"]


@pytest.mark.parametrize(
    ("use", "told"),
    [
        (("close", "{}"), "no tool 'close'; there are: open, stamp, sum"),
        (("open", "left"), "must be one JSON object"),
        (("open", "[1]"), "must be one JSON object"),
        (("open", "{}"), "'name' is missing"),
        (("open", '{"name": 3}'), "'name' must be of type string"),
        (("stamp", '{"name": "a", "times": "twice"}'), "'times' must be of type integer"),
        (("sum", '{"txt": "1"}'), "'text' is missing"),
    ],
)
@pytest.mark.parametrize("form", ["native", "json"])
def test_a_call_that_cannot_be_made_is_told_to_the_model_and_counted(
    use: tuple[str, str], told: str, form: str
) -> None:
    bad = calls(use) if form == "native" else json.dumps({"tool": use[0], "arguments": use[1]})
    model = Model([bad, '{"answer": "I give up", "failed": true}'])
    record = work(worker(tool_calls=form, tools=[SUM]), model)
    assert told in model.chats[1].messages[-1].content
    assert record.reformats == 1 and record.tools == () and record.usage.env_steps == 0 and record.failed


def test_a_bad_call_beside_good_ones_spoils_only_itself() -> None:
    model = Model([calls(("open", '{"name": "a"}'), ("nope", "{}"), ("open", '{"name": "b"}')), "done"])
    record = work(worker(tool_calls="native"), model)
    assert [tool.call for tool in record.tools] == ["open[a]", "open[b]"] and record.reformats == 1
    assert [m.call_id for m in model.chats[1].messages if m.role == "tool"] == ["id0", "id1", "id2"]


@pytest.mark.parametrize("form", ["native", "json"])
def test_reformats_are_bounded_and_counted(form: str) -> None:
    bad = calls(("nope", "{}"), text="again") if form == "native" else "again"
    model = Model([bad] * 9)
    record = work(worker(tool_calls=form, reformats=3), model)
    assert (record.reformats, record.usage.calls, record.output) == (3, 4, "again") and not record.failed


def test_a_reformat_that_the_budget_forbids_is_not_counted() -> None:
    record = work(worker(), Model(["no json"]), Allowance(calls=1))
    assert record.error == "budget: calls" and record.reformats == 0


def test_an_empty_native_reply_is_asked_for_again() -> None:
    model = Model(["", "here"])
    record = work(worker(tool_calls="native"), model)
    assert record.output == "here" and record.reformats == 1 and "empty" in model.chats[1].messages[-1].content


@pytest.mark.parametrize("form", ["native", "json"])
@pytest.mark.parametrize("finish", ["length", "filter"])
def test_a_reply_that_was_cut_off_is_the_answer_as_it_stands(form: str, finish: str) -> None:
    record = work(worker(tool_calls=form), Model([ChatReply('{"answer": "I was about', finish=finish)]))
    assert record.output == '{"answer": "I was about' and record.usage.calls == 1 and record.reformats == 0


@pytest.mark.parametrize(
    ("said", "failed", "confidence"),
    [
        ({}, False, None),
        ({"failed": True}, True, None),
        ({"failed": "yes"}, False, None),
        ({"confidence": 0.25}, False, 0.25),
        ({"confidence": 1}, False, 1),
        ({"confidence": 1.5}, False, None),
        ({"confidence": True}, False, None),
        ({"confidence": "high", "failed": False}, False, None),
    ],
)
@pytest.mark.parametrize("form", ["native", "json"])
def test_an_answer_may_say_how_sure_it_is_and_whether_it_failed(
    said: dict[str, object], failed: bool, confidence: float | None, form: str
) -> None:
    record = work(worker(tool_calls=form), Model([json.dumps({"answer": "so", **said})]))
    assert (record.output, record.failed, record.confidence) == ("so", failed, confidence)


def test_thinking_is_recorded_and_not_passed_on() -> None:
    replies = [ChatReply('{"action": "open[a]"}', "hmm, left or right"), ChatReply('{"answer": "a"}', "that was it")]
    model = Model(replies)
    record = work(worker(), model)
    assert record.thinking == ("hmm, left or right", "that was it") and record.output == "a"
    assert not any("hmm" in message.content for message in model.chats[1].messages)


def test_thinking_survives_a_step_that_is_cut_short() -> None:
    record = work(worker(), Model([ChatReply('{"action": "open[a]"}', "so")]), Allowance(calls=1))
    assert record.error == "budget: calls" and record.thinking == ("so",)


def test_an_outage_ends_the_step() -> None:
    record = work(worker(), down)
    assert record.error == "outage: nobody answers" and record.output == ""


def test_without_tools_of_the_world_there_are_no_actions() -> None:
    model = Model(['{"action": "open[a]"}', '{"answer": "then not"}'])
    record = work(worker(), model, tools=())
    assert '"action"' not in model.chats[0].messages[0].content
    assert record.tools == () and record.reformats == 1


@pytest.mark.parametrize(
    ("model", "native"),
    [("openai:a", True), ("anthropic:a", True), ("google:a", True), ("fake:a", False), ("transformers:/m", False)],
)
def test_the_form_of_tool_calls_follows_the_provider(model: str, native: bool) -> None:
    assert worker(model=model).native is native
    assert worker(model=model, tool_calls="json").native is False


def test_an_unknown_form_of_tool_calls_is_an_error() -> None:
    with pytest.raises(ConfigError, match="tool_calls='xml'.*'native'.*'json'"):
        worker(tool_calls="xml")


def test_a_tool_with_the_name_of_a_tool_of_the_world_is_an_error_before_anything_is_asked() -> None:
    model = Model([])
    with pytest.raises(ConfigError, match="'open'.*leave it out"):
        work(worker(tools=[OPEN]), model)
    assert model.asked == []


def test_tools_of_servers_are_asked_for_once_and_listed() -> None:
    listed = ToolSpec("docs__find", "Find.", SUM.schema)
    model = Model([calls(("docs__find", '{"text": "x"}')), "found"])

    def perform(request: object) -> Result:
        result = model(request)  # type: ignore[arg-type]
        payload = model.asked[-1].payload
        if model.asked[-1].kind == "tool" and not payload.arguments:
            return Result(model.asked[-1].id, json.dumps([listed._asdict()] if payload.name == "docs" else []))
        return result

    record = work(worker(tool_calls="native", servers=["docs", "empty"], tools=[SUM]), perform)
    assert [(t.name, t.arguments) for t in model.tools] == [
        ("docs", ""),
        ("empty", ""),
        ("docs__find", '{"text": "x"}'),
    ]
    assert model.chats[0].tools == (OPEN, STAMP, SUM, listed)
    assert [tool.call for tool in record.tools] == ['docs__find({"text": "x"})'] and record.usage.env_steps == 1


def test_advance_is_pure_and_its_memory_survives_pickling() -> None:
    desk, someone = Desk(), worker(tool_calls="native", tools=[SUM])
    job = Job("tidy up", view="a desk", tools=desk.tools())
    first = someone.advance(job, None, None, random.Random(0))
    assert isinstance(first, Ask) and first == someone.advance(job, None, None, random.Random(1))
    reply = Result("0/0", calls(("open", '{"name": "a"}'), ("sum", '{"text": "b"}')))
    step = someone.advance(job, first.memory, reply, random.Random(0))
    assert isinstance(step, Ask) and pickle.loads(pickle.dumps(step)) == step and hash(step.memory)
    assert someone.advance(job, pickle.loads(pickle.dumps(first.memory)), reply, random.Random(5)) == step
    end = someone.advance(job, first.memory, Result("0/0", ChatReply("done")), random.Random(0))
    assert end == Done("done")


PLANS = {
    "Workflow": {
        "workflow": [
            {"subtask": "List what {task} asks for", "worker_id": "planning", "access_list": []},
            {"subtask": "Find {task}", "worker_id": "tool_use", "access_list": [0]},
            {"subtask": "Buy {task}", "worker_id": "verification", "access_list": [0, 1]},
        ]
    },
    "DAG": {
        "dag": [
            {"subtask": "Find {task}", "agent": "planning"},
            {"subtask": "Find {task}", "agent": "tool_use"},
            {"subtask": "Buy {task}", "agent": "verification", "depends_on": [0, 1]},
        ]
    },
}


@pytest.mark.parametrize("protocol", PLANS)
@pytest.mark.parametrize("tokens", [300, 700, 1500, 4000])
def test_an_episode_of_chat_workers_keeps_its_budget(protocol: str, tokens: int) -> None:
    budget = {"tokens": tokens, "calls": 7, "env_steps": 9}
    env = gym.make(f"NextStep/WebShop-{protocol}-v0", interface="text", workers="fake", split="test", budget=budget)
    for seed in range(4):
        env.reset(seed=seed)
        _, _, terminated, truncated, info = env.step(json.dumps(PLANS[protocol]))
        terms = info["cost_terms"]
        assert (terminated or protocol == "DAG") and not truncated
        assert all(terms[name] <= limit for name, limit in budget.items())
    env.close()


def test_a_search_over_workflows_offers_the_tools_of_its_world() -> None:
    assert tools_of(ValidationSet(Desk(), 1)) == Desk().tools()
    assert tools_of(Counter()) == ()
