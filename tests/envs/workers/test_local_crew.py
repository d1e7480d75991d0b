"""Workers whose model is in this process: whole episodes, the same in every driver, recorded and replayed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import nextstep_envs  # noqa: E402, F401  (registers)
from nextstep_envs.concurrent import ConcurrentEnv  # noqa: E402
from nextstep_envs.errors import ConfigError  # noqa: E402
from nextstep_envs.providers.local import Ticket  # noqa: E402
from nextstep_envs.providers.transformers import ChatTokenizer, TransformersProvider  # noqa: E402
from nextstep_envs.requests import Result  # noqa: E402
from nextstep_envs.types import Budget  # noqa: E402
from nextstep_envs.workers.crew import build_crew  # noqa: E402
from tests.conformance.cases import assert_same  # noqa: E402
from tests.envs.providers.tiny import make_folder  # noqa: E402

ID = "NextStep/WebShop-Workflow-v0"
SETTINGS: dict[str, Any] = {"interface": "text", "split": "test", "budget": {"tokens": 20_000, "call_tokens": 24}}
STEP = json.dumps({"subtask": "Find {task}", "worker_id": "tool_use", "access_list": []})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("models") / "tiny")


def played(workers: Any, seed: int = 0, steps: int = 2) -> list[Any]:
    """What reset and steps of one environment return."""
    env = gym.make(ID, workers=workers, **SETTINGS)
    try:
        return [env.reset(seed=seed), *(env.step(STEP) for _ in range(steps))]
    finally:
        env.close()


def test_an_episode_is_the_same_alone_in_a_vector_and_side_by_side(folder: Path) -> None:
    workers = f"transformers:{folder}"
    alone = [played(workers, seed, 1) for seed in range(3)]
    records = [rows[1][-1]["records"][0] for rows in alone]
    assert all(record.usage.calls == 1 and record.usage.prompt_tokens > 100 for record in records)
    assert not any(rows[1][-1].get("error") for rows in alone) and len({record.output for record in records}) == 3

    many = gym.make_vec(ID, 3, workers=workers, **SETTINGS)
    texts, infos = many.reset(seed=0)
    assert list(texts) == [rows[0][0] for rows in alone]
    texts, rewards, _, _, infos = many.step([STEP] * 3)
    assert list(texts) == [rows[1][0] for rows in alone] and rewards.tolist() == [rows[1][1] for rows in alone]
    for i in range(3):
        assert_same(infos["records"][i], alone[i][1][-1]["records"])
        assert infos["costs"][i].tobytes() == alone[i][1][-1]["costs"].tobytes()
    many.close()

    env = gym.make(ID, workers=workers, **SETTINGS)

    async def side_by_side() -> list[Any]:
        async def one(seed: int) -> Any:
            episode = ConcurrentEnv(env.unwrapped.setup, slots)
            episode.reset(seed=seed)
            return await episode.step(STEP)

        slots = asyncio.Semaphore(8)
        return await asyncio.gather(*(one(seed) for seed in range(3)))

    assert_same(asyncio.run(side_by_side()), [rows[1] for rows in alone])
    env.close()


def test_a_recording_is_replayed_byte_for_byte_without_the_weights(folder: Path, tmp_path: Path) -> None:
    model, calls = shutil.copytree(folder, tmp_path / "m"), str(tmp_path / "calls.sqlite")
    recorded = played({"kind": "chat", "model": f"transformers:{model}", "store": calls, "temperature": 0.7})
    (model / "model.safetensors").unlink()
    assert_same(played(f"replay:{calls}"), recorded)
    moved = shutil.move(model, tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="no config.json"):
        played(f"replay:{calls}")
    assert not TransformersProvider.folder_state(str(model)) and Path(moved).is_dir()


class Counting(TransformersProvider):
    """Counts what it is asked."""

    asked = 0

    def _generate(self, model: Any, tickets: Sequence[Ticket]) -> list[Result]:
        Counting.asked += len(tickets)
        return super()._generate(model, tickets)


def test_a_cache_does_not_answer_for_a_model_that_has_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nextstep_envs.providers.transformers.TransformersProvider", Counting)
    model = shutil.copytree(folder, tmp_path / "m")
    workers = {"kind": "chat", "model": f"transformers:{model}", "store": str(tmp_path / "calls.sqlite")}
    first = played(workers, steps=1)
    asked = Counting.asked
    assert asked > 0 and played(workers, steps=1)[1][-1]["records"] == first[1][-1]["records"]
    assert Counting.asked == asked
    weights = model / "model.safetensors"
    os.utime(weights, ns=(0, weights.stat().st_mtime_ns + 1))
    played(workers, steps=1)
    assert Counting.asked == 2 * asked


def test_prompts_are_counted_by_the_model_s_tokenizer_or_by_the_one_that_is_named(folder: Path) -> None:
    text = "search[red shoe] costs 12.50 dollars" * 5
    expected = ChatTokenizer(str(folder)).count(text)
    price = {"usd_per_mtok_in": 1.0, "usd_per_mtok_out": 1.0}
    server = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}
    remote = {"kind": "chat", "model": "own:m", "models": {"own:m": price}, "providers": {"own": server}}
    counted = []
    for workers in ({"kind": "chat", "model": f"transformers:{folder}"}, remote | {"tokenizer": str(folder)}, remote):
        crew = build_crew(workers, Budget())
        counted.append(crew.actors["planning"].count_tokens(text))  # type: ignore[attr-defined]
        assert crew.provider is not None
        crew.provider.close()
    assert counted == [expected, expected, len(text) // 4] and expected != len(text) // 4


@pytest.mark.parametrize("name", ["workers", "tokenizer"])
def test_a_folder_that_is_not_there_is_an_error_when_the_environment_is_made(name: str, folder: Path) -> None:
    models = {"workers": "transformers:/nowhere", "tokenizer": f"transformers:{folder}"}
    workers = {"kind": "chat", "model": models[name]} | ({"tokenizer": "/nowhere"} if name == "tokenizer" else {})
    with pytest.raises(ConfigError, match="'/nowhere' has no config.json"):
        gym.make(ID, workers=workers, **SETTINGS)


def test_weights_that_are_not_safe_are_an_error_when_the_environment_is_made(folder: Path, tmp_path: Path) -> None:
    model = shutil.copytree(folder, tmp_path / "m")
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="no \\*.safetensors"):
        gym.make(ID, workers=f"transformers:{model}", **SETTINGS)
