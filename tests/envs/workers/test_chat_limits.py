"""Chat workers and what they may use: completions, prompts, windows; counts that are too low."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextstep_envs.errors import ConfigError
from nextstep_envs.ledger import estimate_tokens, fit, price
from nextstep_envs.requests import ChatReply, ChatRequest, Job, Message
from nextstep_envs.types import UNLIMITED, Allowance, Usage
from nextstep_envs.workers import chat_prompts as prompts
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.workers.chat import LEAST
from tests.envs.workers.chatting import SPEC, Desk, Model, spoken, work, worker

ACTION, ANSWER = '{"action": "open[a]"}', '{"answer": "done"}'


def prompt_of(chat: ChatRequest) -> int:
    return prompts.size(chat.messages, estimate_tokens, chat.tools)


def first_prompt(**kwargs: object) -> int:
    model = Model([ANSWER])
    work(worker(), model, **kwargs)  # type: ignore[arg-type]
    return prompt_of(model.chats[0])


def test_a_completion_is_as_long_as_the_tokens_left_allow() -> None:
    needed = first_prompt(allowance=Allowance(tokens=9999))
    for left, most in ((needed + 500, 100), (needed + 100, 100), (needed + 99, 99), (needed + LEAST, LEAST)):
        model = Model([ANSWER])
        assert not work(worker(), model, Allowance(tokens=left)).error
        assert model.chats[0].max_tokens == most


def test_a_completion_is_as_long_as_the_money_left_allows() -> None:
    needed = price(Usage(first_prompt()), SPEC).usd_nano
    for tokens in (100, 90, LEAST):
        model = Model([ANSWER])
        record = work(worker(), model, Allowance(usd_nano=needed + 4000 * tokens + 1))
        assert not record.error and model.chats[0].max_tokens == tokens
    model = Model([ANSWER])
    assert work(worker(), model, Allowance(usd_nano=needed + 4000 * (LEAST - 1))).error == "budget: usd"
    assert model.asked == []


def test_a_call_that_leaves_no_room_for_an_answer_is_refused_and_not_made() -> None:
    smallest = first_prompt(view="", allowance=Allowance(tokens=999))
    model = Model([ANSWER])
    record = work(worker(), model, Allowance(tokens=smallest + LEAST - 1), view="")
    assert record.error == "budget: tokens" and model.asked == [] and record.usage == Usage()


def test_a_worker_with_short_completions_needs_no_more_room_than_one() -> None:
    model = Model([ANSWER])
    needed = first_prompt(allowance=Allowance(tokens=999))
    assert not work(worker(max_tokens=10), model, Allowance(tokens=needed + 10)).error
    assert model.chats[0].max_tokens == 10
    assert work(worker(max_tokens=10), Model([ANSWER]), Allowance(tokens=30)).error == "budget: tokens"


money = st.one_of(st.just(UNLIMITED), st.integers(0, 10**7))


@given(
    st.integers(0, 3000),
    st.integers(1, 600),
    st.integers(-100, 4000),
    money,
    st.floats(0, 100),
    st.one_of(st.just(0.0), st.floats(1e-9, 100)),
    st.integers(1, 100),
)
@settings(max_examples=300, deadline=None)
def test_what_is_fitted_fits_and_is_the_longest_that_does(
    prompt: int, wish: int, tokens: int, usd: int, dear_in: float, dear_out: float, least: int
) -> None:
    least = min(least, wish)
    spec, left = WorkerSpec("w", "", dear_in, dear_out), Allowance(tokens=tokens, usd_nano=usd)
    bound = Usage(prompt, wish, calls=1)
    fitted = fit(bound, left, spec, least)

    def fits(completion: int) -> bool:
        return not left.lacks(price(bound._replace(completion_tokens=completion), spec))

    if fits(wish) or not fits(least):
        assert fitted is bound
        return
    n = fitted.completion_tokens
    assert fitted == bound._replace(completion_tokens=n) and least <= n < wish and fits(n)
    rounding = math.ceil(0.002 / dear_out) if dear_out else 0  # tokens that two nano-USD buy
    assert n + 1 + rounding > wish or not fits(n + 1 + rounding)


@given(
    st.integers(100, 3000),
    st.one_of(st.none(), st.integers(0, 5_000_000)),
    st.lists(st.integers(0, 400), min_size=1, max_size=12),
    st.floats(0.2, 1.0),
)
@settings(max_examples=150, deadline=None)
def test_a_step_keeps_its_allowance_where_prompts_are_not_undercounted(
    tokens: int, usd: int | None, lengths: list[int], share: float
) -> None:
    allowance = Allowance(tokens=tokens, usd_nano=UNLIMITED if usd is None else usd)
    replies = [json.dumps({"action": "open[" + "x" * length + "]"}) for length in lengths]
    cut = [lambda chat, text=text: ChatReply(text[: 4 * chat.max_tokens]) for text in (*replies, ANSWER)]
    model = Model([*cut, *["never"] * 9], lambda chat: Usage(int(share * prompt_of(chat)), calls=1))
    record = work(worker(), model, allowance)
    assert allowance.lacks(record.usage) == ""
    assert all(chat.max_tokens >= LEAST for chat in model.chats)


@given(st.integers(300, 3000), st.lists(st.floats(1.0, 4.0), min_size=14, max_size=14), st.integers(0, 800))
@settings(max_examples=150, deadline=None)
def test_a_step_exceeds_its_allowance_by_no_more_than_the_undercount_of_one_prompt(
    tokens: int, factors: list[float], length: int
) -> None:
    factor = iter(factors)
    metered: list[int] = []

    def meter(chat: ChatRequest) -> Usage:
        metered.append(math.ceil(next(factor) * prompt_of(chat)))
        return Usage(metered[-1], calls=1)

    model = Model([json.dumps({"action": "open[" + "x" * length + "]"})] * 14, meter)
    record = work(worker(), model, Allowance(tokens=tokens, calls=12))
    undercount = metered[-1] - prompt_of(model.chats[-1]) if metered else 0
    assert record.usage.tokens <= tokens + undercount
    assert record.error.startswith("budget: ") and (record.usage.tokens <= tokens or record.error == "budget: tokens")


def test_what_a_service_metered_is_the_measure_of_the_next_prompt() -> None:
    model = Model([ACTION, ACTION, ANSWER], lambda chat: Usage(2 * prompt_of(chat), calls=1))
    plain = Model([ACTION, ANSWER])
    work(worker(), plain)
    first, second = map(prompt_of, plain.chats)
    spent = 2 * first + estimate_tokens(ACTION)
    allowance = Allowance(tokens=spent + 2 * second + LEAST + 40)  # the brief says these numbers, and is as long
    record = work(worker(), model, allowance)
    assert record.error == "budget: tokens" and len(model.chats) == 2
    used = 2 * prompt_of(model.chats[0]) + estimate_tokens(ACTION)
    assert model.chats[1].max_tokens == min(100, allowance.tokens - used - 2 * prompt_of(model.chats[1]))


def test_a_prompt_is_counted_with_the_models_own_tokenizer() -> None:
    heard: list[str] = []

    def count(text: str) -> int:
        heard.append(text)
        return len(text.split())

    model = Model([ANSWER])
    work(worker(count_tokens=count), model, Allowance(tokens=prompts.size(model_messages(), count) + 80))
    assert "a desk" in " ".join(heard)
    size = prompts.size(model.chats[0].messages, lambda text: len(text.split()))
    assert model.chats[0].max_tokens == min(100, prompts.size(model_messages(), count) + 80 - size)


def model_messages() -> tuple[Message, ...]:
    model = Model([ANSWER])
    work(worker(), model, Allowance(tokens=999))
    return model.chats[0].messages


def paper(letter: str, tokens: int) -> str:
    return f"{letter}-begin " + letter * (4 * tokens - 14) + f" {letter}-end"


def test_the_oldest_context_is_cut_first_and_marked() -> None:
    context = (paper("a", 200), paper("b", 200), paper("c", 200))
    whole = first_prompt(context=context, allowance=Allowance(tokens=9999))
    for saved, gone in ((50, ["a-begin"]), (250, ["a-begin", "a-end", "b-begin"])):
        model = Model([ANSWER])
        record = work(worker(), model, Allowance(tokens=whole + LEAST - saved), context=context)
        brief = model.chats[0].messages[1].content
        assert not record.error and record.context == context
        for word in ("a-begin", "a-end", "b-begin", "b-end", "c-begin", "c-end", "a desk", "Subtask: tidy up"):
            assert (word in brief) is (word not in gone), word
        assert "[cut here: about " in brief and model.chats[0].max_tokens >= LEAST


def test_a_context_that_fits_is_not_touched() -> None:
    context = (paper("a", 200),)
    whole = first_prompt(context=context, allowance=Allowance(tokens=999))
    model = Model([ANSWER])
    work(worker(), model, Allowance(tokens=whole + LEAST), context=context)
    assert context[0] in model.chats[0].messages[1].content


def test_a_window_bounds_prompt_and_completion_together() -> None:
    class Library(Desk):
        def act(self, state: tuple[str, ...], call: str) -> tuple[tuple[str, ...], str]:
            return (*state, call), paper(call[5], 150)

    window = 700
    actions = [json.dumps({"action": f"open[{letter}]"}) for letter in "pqrs"]
    model = Model([*actions, ANSWER])
    record = work(worker(context_tokens=window), model, world=Library())
    assert not record.error and record.output == "done" and len(record.tools) == 4
    assert all(prompt_of(chat) + chat.max_tokens <= window and chat.max_tokens == 100 for chat in model.chats)
    last = [message.content for message in model.chats[-1].messages]
    assert "[cut here" in last[1] or "[cut here" in last[3]
    assert paper("s", 150) == last[-1] and paper("p", 150) != last[3]
    assert actions[0] == last[2]  # its own words stay


def test_a_subtask_that_no_window_holds_is_a_failure_without_a_call() -> None:
    model = Model([ANSWER])
    record = work(worker(context_tokens=120), model, subtask=paper("t", 300))
    assert record.failed and "window of 120 tokens" in record.output and model.asked == [] and not record.error


@pytest.mark.parametrize("context_tokens", [100, 0, -1, "8k", 1e4, True])
def test_a_window_that_holds_no_completion_is_an_error(context_tokens: Any) -> None:
    with pytest.raises(ConfigError, match="context_tokens=.*above the 100 tokens"):
        worker(context_tokens=context_tokens)


words = st.text(alphabet="ab \né漢", max_size=400)


@given(st.lists(words, max_size=5), words, st.integers(-50, 600), st.sampled_from([estimate_tokens, len]))
@settings(max_examples=200, deadline=None)
def test_a_conversation_fits_wherever_cutting_can_make_it(
    context: list[str], view: str, room: int, count: prompts.Count
) -> None:
    job = Job("tidy up", tuple(context), view)
    turns = (Message("assistant", ACTION), Message("user", "x" * 300))
    made = prompts.conversation("system", job, turns, count, room)
    whole = prompts.conversation("system", job, turns, count)
    if prompts.size(whole, count) <= room:
        assert made == whole
    least = prompts.conversation("system", job, turns, count, -(10**6))
    assert prompts.size(made, count) <= max(room, prompts.size(least, count))
    assert made[0] == whole[0] and made[2] == whole[2] and made[1].content.startswith("Subtask: tidy up\n")


def test_metering_of_the_fake_kind_stays_below_the_count() -> None:
    model = Model([ACTION, ANSWER])
    work(worker(), model)
    assert all(spoken(chat).prompt_tokens <= prompt_of(chat) for chat in model.chats)


@pytest.mark.parametrize("allowance", [Allowance(), Allowance(tokens=500, calls=3, env_steps=7)])
def test_the_brief_says_what_may_be_used(allowance: Allowance) -> None:
    model = Model([ANSWER])
    work(worker(), model, allowance)
    line = "You may use at most 3 replies, 7 actions, 500 tokens in all."
    assert (line in model.chats[0].messages[1].content) is (allowance.calls == 3)
    assert ("at most" in model.chats[0].messages[1].content) is (allowance.calls == 3)
