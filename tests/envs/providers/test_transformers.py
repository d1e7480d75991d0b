"""A model in this process answers each request as if it were alone, and refuses what it cannot do."""

from __future__ import annotations

import asyncio
import math
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from nextstep_envs.errors import ConfigError  # noqa: E402
from nextstep_envs.providers.local import Ticket  # noqa: E402
from nextstep_envs.providers.transformers import ChatTokenizer, TransformersProvider  # noqa: E402
from nextstep_envs.requests import (  # noqa: E402
    CodeRequest,
    Message,
    Request,
    Result,
    ToolSpec,
    ToolUse,
)
from nextstep_envs.types import Usage  # noqa: E402
from tests.envs.providers.tiny import WINDOW, ask, changed, make_folder, mixed  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def provider() -> Iterator[TransformersProvider]:
    made = TransformersProvider(device="cpu", threads=1)
    yield made
    made.close()


WORDS = ("a", "lamp", "red", "x", "buy", "now", "10", "shoe")


def one(provider: TransformersProvider, request: Request) -> Result:
    (result,) = provider.perform([request])
    return result


def assert_alike(left: Sequence[Result], right: Sequence[Result]) -> None:
    """Equal but for the rounding of log-probabilities."""
    for a, b in zip(left, right, strict=True):
        assert replace(a, value=replace(a.value, logprobs=())) == replace(b, value=replace(b.value, logprobs=()))
        assert [token for token, _ in a.value.logprobs] == [token for token, _ in b.value.logprobs]
        for (_, p), (_, q) in zip(a.value.logprobs, b.value.logprobs, strict=True):
            assert p == pytest.approx(q, abs=1e-3)


def test_an_answer_does_not_depend_on_its_company(folder: Path, provider: TransformersProvider) -> None:
    requests = mixed(folder)
    alone = [one(provider, request) for request in requests]
    assert len({result.value.text for result in alone}) == len(requests)
    assert_alike(provider.perform(requests), alone)
    assert_alike(provider.perform(requests[::-1]), alone[::-1])
    small = TransformersProvider(device="cpu", max_rows=2)
    assert_alike(small.perform(requests), alone)
    small.close()


def test_a_greedy_answer_is_that_of_the_library_and_so_are_its_log_probabilities(
    folder: Path, provider: TransformersProvider
) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    requests = [replace(r, payload=replace(r.payload, temperature=0.0)) for r in mixed(folder)]
    for request, result in zip(requests, provider.perform(requests), strict=True):
        chat = [{"role": message.role, "content": message.content} for message in request.payload.messages]
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=False)
        most = request.payload.max_tokens
        with torch.inference_mode():
            both = network.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=most, do_sample=False)
            logp = network(both).logits[0].log_softmax(-1)
        said = both[0, ids.shape[1] :]
        assert result.value.text == tokenizer.decode(said, skip_special_tokens=True)
        assert result.usage == Usage(ids.shape[1], len(said), calls=1)
        expected = logp[ids.shape[1] - 1 : -1].gather(1, said[:, None])[:, 0]
        assert [p for _, p in result.value.logprobs] == pytest.approx(expected.tolist(), abs=1e-3)


def test_sampling_follows_the_request_s_seed_and_the_model_s_distribution(
    folder: Path, provider: TransformersProvider
) -> None:
    first = ask(folder, temperature=1.0, max_tokens=12)
    others = [replace(first, seed=seed) for seed in range(20)]
    texts = [result.value.text for result in provider.perform([first, *others])]
    assert len(set(texts)) > 15
    assert one(provider, first).value.text == texts[0]
    firsts = [one(provider, ask(folder, text=word, max_tokens=1, logprobs=True)) for word in WORDS]
    # Parts of characters all look the same as text.
    word, token, expected = next(
        (word, token, math.exp(logprob))
        for word, result in zip(WORDS, firsts, strict=True)
        for token, logprob in result.value.logprobs
        if token.isascii() and 0.1 < math.exp(logprob) < 0.9
    )
    one_token = ask(folder, text=word, max_tokens=1, temperature=1.0, logprobs=True)
    many = [replace(one_token, seed=seed) for seed in range(600)]
    share = sum(result.value.logprobs[0][0] == token for result in provider.perform(many)) / len(many)
    assert abs(share - expected) < 4 * (expected * (1 - expected) / len(many)) ** 0.5
    cold = provider.perform([replace(ask(folder, temperature=0.01), seed=seed) for seed in range(5)])
    assert {result.value.text for result in cold} == {one(provider, ask(folder)).value.text}


def test_an_answer_ends_at_a_token_that_the_folder_names_which_is_metered_but_not_shown(
    folder: Path, provider: TransformersProvider, tmp_path: Path
) -> None:
    long = one(provider, ask(folder, max_tokens=20, logprobs=True)).value
    tokens = [token for token, _ in long.logprobs]
    stop = next(i for i in range(3, 20) if tokens[i] not in tokens[:i])
    assert long.finish == "length"
    (token,) = transformers.AutoTokenizer.from_pretrained(folder)(tokens[stop])["input_ids"]
    named = changed(folder, tmp_path / "m", "generation_config.json", lambda c: c.update(eos_token_id=[token, 2]))
    short = one(provider, ask(named, max_tokens=20, logprobs=True))
    assert short.value.finish == "stop"
    assert [token for token, _ in short.value.logprobs] == tokens[: stop + 1]
    assert short.usage.completion_tokens == stop + 1
    assert short.value.text == one(provider, ask(folder, max_tokens=stop)).value.text
    assert one(provider, ask(named, max_tokens=stop)).value.finish == "length"


def test_thinking_is_kept_apart_also_where_the_template_opens_it(folder: Path, tmp_path: Path) -> None:
    tokenizer = ChatTokenizer(str(folder))
    said = tokenizer._ids("<think>Red.</think>A lamp.<|end|>")
    prompt = tokenizer.encode([Message("user", "Which?")])
    reply = tokenizer.reply(prompt, said)
    assert (reply.thinking, reply.text, reply.finish) == ("Red.", "A lamp.", "stop")
    opened = tmp_path / "m"
    shutil.copytree(folder, opened)
    template = opened / "chat_template.jinja"
    template.write_text(template.read_text() + "{% if add_generation_prompt %}<think>\n{% endif %}")
    tokenizer = ChatTokenizer(str(opened))
    prompt = tokenizer.encode([Message("user", "Which?")])
    unfinished = tokenizer.reply(prompt, tokenizer._ids("Red, or"))
    assert (unfinished.thinking, unfinished.text, unfinished.finish) == ("Red, or", "", "length")
    assert tokenizer.reply(prompt, said[1:]).text == "A lamp."


def test_what_it_cannot_do_is_refused_before_anything_is_computed(folder: Path, provider: TransformersProvider) -> None:
    good = ask(folder)
    tool = ToolSpec("search", "Searches.", "{}")
    called = Message("assistant", "", (ToolUse("1", "search", "{}"),))
    bad = [
        (replace(good, payload=replace(good.payload, tools=(tool,))), "tool_calls='json'"),
        (replace(good, payload=replace(good.payload, messages=(called,))), "tool_calls='json'"),
        (replace(good, payload=replace(good.payload, model="transformers:")), "must name a folder"),
        (replace(good, kind="code", payload=CodeRequest("1", 1.0)), "not 'code'"),
    ]
    for request, words in bad:
        with pytest.raises(ConfigError, match=words):
            provider.perform([good, request])
        with pytest.raises(ConfigError, match=words):
            asyncio.run(provider.answer(request))


def test_a_prompt_beyond_the_window_is_an_outage_that_its_company_survives(
    folder: Path, provider: TransformersProvider
) -> None:
    long, short = ask(folder, 1, "hello " * WINDOW), ask(folder)
    refused, fine = provider.perform([long, short])
    assert f"context_tokens={WINDOW}" in refused.error and refused.value is None and refused.waste == Usage()
    assert fine == one(provider, short)


def break_weights(folder: Path) -> None:
    state = transformers.AutoModelForCausalLM.from_pretrained(folder).state_dict()
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def without(name: str) -> Any:
    return lambda folder: (folder / name).unlink()


def write(name: str, text: str) -> Any:
    return lambda folder: (folder / name).write_text(text)


FOLDERS = {
    "nothing": (lambda folder: shutil.rmtree(folder), "no config.json"),
    "weights that could hold code": (break_weights, "no \\*.safetensors: weights in other formats"),
    "damaged weights": (write("model.safetensors", "no tensors"), "cannot be used"),
    "no chat template": (without("chat_template.jinja"), "no chat template"),
    "no tokenizer": (lambda f: [without(n)(f) for n in ("tokenizer.json", "tokenizer_config.json")], "cannot be used"),
    "a template that refuses": (write("chat_template.jinja", "{{ raise_exception('no system') }}"), "no system"),
    "code of its own": (
        write("config.json", '{"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}'),
        "code of its own, which is not run",
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_cannot_be_used_is_an_error_that_says_why(
    name: str, folder: Path, provider: TransformersProvider, tmp_path: Path
) -> None:
    change, words = FOLDERS[name]
    broken = tmp_path / "m"
    shutil.copytree(folder, broken)
    change(broken)
    with pytest.raises(ConfigError, match=words):
        provider.perform([ask(broken)])
    assert not provider.perform([ask(folder)])[0].error


def test_weights_that_do_not_fit_are_an_error_and_never_random(
    folder: Path, provider: TransformersProvider, tmp_path: Path
) -> None:
    deeper = changed(folder, tmp_path / "m", "config.json", lambda config: config.update(num_hidden_layers=3))
    with pytest.raises(ConfigError, match="do not fit its config.json: model.layers.2"):
        provider.perform([ask(deeper)])


def test_a_model_that_computes_nonsense_is_an_outage(
    folder: Path, provider: TransformersProvider, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "m")
    network = transformers.AutoModelForCausalLM.from_pretrained(folder)
    torch.nn.init.constant_(network.model.norm.weight, float("nan"))
    network.save_pretrained(tmp_path / "m")
    assert "NaN" in one(provider, ask(tmp_path / "m")).error


def test_what_takes_too_long_is_an_outage_with_its_waste(folder: Path) -> None:
    slow = TransformersProvider(device="cpu", timeout_s=1e-9)
    done, late = slow.perform([ask(folder, max_tokens=1), ask(folder, 1, max_tokens=50)])
    assert not done.error and done.usage.completion_tokens == 1
    assert "timeout" in late.error and late.usage == Usage() and late.waste.completion_tokens == 1
    slow.close()


class Watched(TransformersProvider):
    """Knows its batches."""

    batches: list[list[str]]

    def _generate(self, model: Any, tickets: Sequence[Ticket]) -> list[Result]:
        self.batches.append([ticket.request.id for ticket in tickets])
        return super()._generate(model, tickets)


def test_requests_that_arrive_during_a_batch_go_together_into_the_next_one(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "m")
    watched = Watched(device="cpu", max_rows=4)
    watched.batches = []
    requests = [ask([folder, other][i % 5 == 4], i) for i in range(15)]

    async def all_at_once() -> list[Result]:
        return await asyncio.gather(*(watched.answer(request) for request in requests))

    answers = asyncio.run(all_at_once())
    assert [answer.id for answer in answers] == [request.id for request in requests]
    assert sorted(sum(watched.batches, [])) == sorted(request.id for request in requests)
    assert max(map(len, watched.batches)) == 4 and len(watched.batches) <= 6
    others = {requests[i].id for i in (4, 9, 14)}
    assert all(others.issuperset(batch) or others.isdisjoint(batch) for batch in watched.batches)
    assert_alike(answers, watched.perform(requests))
    watched.close()


def at_token(provider: TransformersProvider, folder: Path, number: int, act: Callable[[], object]) -> list[int]:
    """Do something when a batch comes to a token; the list grows by one with every token."""
    provider.perform([ask(folder, max_tokens=1)])  # loads the model
    steps: list[int] = []

    def count(*_: object) -> None:
        steps.append(len(steps))
        if len(steps) == number:
            act()

    provider._models[str(folder)].network.register_forward_hook(count)
    return steps


def test_a_cancelled_caller_leaves_its_batch_and_the_others_go_on(folder: Path) -> None:
    provider = TransformersProvider(device="cpu")
    endless, short = ask(folder, 1, "lamp", max_tokens=2000), ask(folder, 2, max_tokens=200)
    alone = provider.perform([short])
    begins: list[Callable[[], object]] = []
    steps = at_token(provider, folder, 3, lambda: begins.pop()())

    async def cancelled() -> Result:
        loop = asyncio.get_running_loop()
        given_up = asyncio.create_task(provider.answer(endless))
        kept = asyncio.create_task(provider.answer(short))
        begins.append(lambda: loop.call_soon_threadsafe(given_up.cancel))
        with pytest.raises(asyncio.CancelledError):
            await given_up
        return await kept

    assert_alike([asyncio.run(cancelled())], alone)
    assert 200 <= len(steps) < 1000
    provider.close()


def test_closing_ends_what_is_under_way_and_a_later_call_starts_anew(folder: Path) -> None:
    provider = TransformersProvider(device="cpu", max_rows=1)
    begun = threading.Event()
    steps = at_token(provider, folder, 3, begun.set)

    async def closed() -> list[Any]:
        tasks = [asyncio.create_task(provider.answer(ask(folder, i, "lamp", max_tokens=2000))) for i in range(3)]
        await asyncio.to_thread(begun.wait, 60)
        await asyncio.to_thread(provider.close)
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(error) for error in asyncio.run(closed())] == [asyncio.CancelledError] * 3
    assert 3 <= len(steps) < 1000
    assert provider._models == {}
    before = one(provider, ask(folder))
    copy = pickle.loads(pickle.dumps(provider))
    assert copy.max_rows == 1 and copy._models == {} and one(copy, ask(folder)) == before
    copy.close()
    provider.close()
    provider.close()


FORK = """
import multiprocessing, sys
from tests.envs.providers.tiny import ask
from nextstep_envs.providers.transformers import TransformersProvider

provider = TransformersProvider(device="cpu", threads=1)
mine = provider.perform([ask(sys.argv[1])])

def child():
    assert provider.perform([ask(sys.argv[1])]) == mine
    provider.close()

process = multiprocessing.get_context("fork").Process(target=child, daemon=True)
process.start()
process.join(120)
assert process.exitcode == 0, process.exitcode
assert provider.perform([ask(sys.argv[1])]) == mine
print("fine")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no fork")
def test_a_forked_process_loads_models_of_its_own(folder: Path) -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", FORK, str(folder)]
    # A child that is forked after OpenMP has started threads can wait for them for ever: torch's own limit.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=240)
    assert ended.stdout == "fine\n", ended.stderr


@pytest.mark.parametrize(
    "settings",
    [{"max_rows": 0}, {"threads": 0}, {"threads": True}, {"dtype": "int8"}, {"timeout_s": 0}, {"device": "abacus"}],
    ids=str,
)
def test_a_bad_setting_is_an_error_that_names_it(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ConfigError, match=f"^{name}="):
        TransformersProvider(**settings)


def test_nothing_asked_is_nothing_answered(provider: TransformersProvider) -> None:
    assert provider.perform([]) == []
