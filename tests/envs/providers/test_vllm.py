"""vLLM's engine in this process, where it is installed: `scripts/vllm_server.sh` makes an environment that has it."""

from __future__ import annotations

import asyncio
import importlib.util
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from nextstep_envs.errors import ConfigError, MissingExtraError  # noqa: E402
from nextstep_envs.providers.transformers import TransformersProvider  # noqa: E402
from nextstep_envs.providers.vllm import VllmProvider  # noqa: E402
from tests.envs.providers.tiny import ask, make_folder, mixed  # noqa: E402

ENGINE = {"enforce_eager": True, "max_model_len": 1024, "dtype": "float32"}
there = importlib.util.find_spec("vllm") is not None
needs_vllm = pytest.mark.skipif(not there, reason="vLLM is not installed here; see scripts/vllm_server.sh")


@pytest.mark.skipif(there, reason="vLLM is installed")
def test_without_vllm_the_error_names_what_to_install() -> None:
    with pytest.raises(MissingExtraError, match=r"nextstep-envs\[vllm\]"):
        VllmProvider()


@pytest.mark.parametrize("name", ["model", "trust_remote_code", "load_format"])
def test_what_keeps_loading_safe_is_not_the_user_s_to_set(name: str) -> None:
    with pytest.raises(ConfigError, match=f"must not set {name}"):
        VllmProvider(engine={name: True})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("models") / "tiny", hidden_size=128, heads=2)


@pytest.fixture(scope="module")
def provider() -> Iterator[VllmProvider]:
    made = VllmProvider(ENGINE)
    yield made
    made.close()


@needs_vllm
@pytest.mark.filterwarnings("ignore")  # the library's own
def test_its_greedy_answers_are_those_of_transformers(folder: Path, provider: VllmProvider) -> None:
    other = TransformersProvider(device="cpu")
    greedy = [i for i, request in enumerate(mixed(folder)) if not request.payload.temperature]
    ours = other.perform([mixed(folder)[i] for i in greedy])
    theirs = provider.perform([mixed(folder, "vllm")[i] for i in greedy])
    for a, b in zip(ours, theirs, strict=True):
        assert (b.value.text, b.value.finish, b.usage) == (a.value.text, a.value.finish, a.usage)
        assert [p for _, p in b.value.logprobs] == pytest.approx([p for _, p in a.value.logprobs], abs=0.01)
    other.close()


@needs_vllm
@pytest.mark.filterwarnings("ignore")
def test_a_sample_is_that_of_its_seed(folder: Path, provider: VllmProvider) -> None:
    requests = [ask(folder, i, temperature=1.0, provider="vllm") for i in range(8)]
    texts = [result.value.text for result in provider.perform(requests)]
    assert len(set(texts)) > 5
    assert [result.value.text for result in provider.perform(requests)] == texts

    async def together() -> list[str]:
        answers = await asyncio.gather(*(provider.answer(request) for request in requests))
        return [answer.value.text for answer in answers]

    assert asyncio.run(together()) == texts


@needs_vllm
@pytest.mark.filterwarnings("ignore")
def test_what_does_not_fit_or_takes_too_long_is_an_outage(folder: Path, provider: VllmProvider) -> None:
    long = ask(folder, 1, "hello " * 2000, provider="vllm")
    refused, fine = provider.perform([long, ask(folder, 2, provider="vllm")])
    assert "context_tokens=1024" in refused.error and not fine.error
    allowed, provider.timeout_s = provider.timeout_s, 1e-9
    (late,) = provider.perform([ask(folder, 3, "lamp", 900, provider="vllm")])
    provider.timeout_s = allowed
    assert "timeout" in late.error
    assert provider.perform([ask(folder, 2, provider="vllm")])[0].value.text == fine.value.text


@needs_vllm
@pytest.mark.filterwarnings("ignore")
def test_a_cancelled_caller_leaves_the_engine_to_the_others(folder: Path, provider: VllmProvider) -> None:
    short = ask(folder, 1, provider="vllm")
    alone = provider.perform([short])[0]

    async def cancelled() -> str:
        given_up = asyncio.create_task(provider.answer(ask(folder, 2, "lamp", 900, provider="vllm")))
        kept = asyncio.create_task(provider.answer(short))
        await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        text: str = (await kept).value.text
        return text

    assert asyncio.run(cancelled()) == alone.value.text


@needs_vllm
def test_a_copy_starts_without_an_engine(provider: VllmProvider) -> None:
    copy = pickle.loads(pickle.dumps(provider))
    assert copy._models == {} and copy.engine == ENGINE and "vllm" in sys.modules
    copy.close()
