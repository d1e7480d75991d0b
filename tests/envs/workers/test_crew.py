"""Crews: plain data in, workers with models and prices out; wrong data is named before anything is spent."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import yaml

import nextstep_envs  # noqa: F401  (registers)
from nextstep_envs.errors import ConfigError, DataError
from nextstep_envs.providers import service
from nextstep_envs.providers.building import answer_settings
from nextstep_envs.providers.router import Router
from nextstep_envs.requests import ChatReply, ChatRequest, Message, Request, Result
from nextstep_envs.types import Budget
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.workers.crew import Crew, build_crew
from nextstep_envs.workers.crew_spec import ROLES, read_pool, write_pool
from nextstep_envs.workers.pool import DEFAULT_POOL
from registry import components
from registry.errors import UnknownNameError
from tests.conformance.cases import assert_same
from tests.envs.providers.calling import clean_environment
from tests.servers.anthropic_wire import AnthropicServer
from tests.servers.openai_like import OpenAIServer

KEY = "sk-test-0123456789abcdef"
STEP = '{"subtask": "Buy {task}", "worker_id": "%s", "access_list": ["all"]}'


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)


def build(workers: Any) -> Crew:
    return build_crew(workers, Budget())


def chat(**settings: Any) -> dict[str, Any]:
    return {"kind": "chat", **settings}


def prices(spec: WorkerSpec) -> tuple[float, float, float]:
    return spec.usd_per_mtok_in, spec.usd_per_mtok_out, spec.params_b


# Pools and prices


def test_a_model_alone_plays_the_whole_default_pool_at_its_own_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    crew = build("openai:gpt-4o-mini")
    assert [spec.worker_id for spec in crew.specs] == [spec.worker_id for spec in DEFAULT_POOL]
    assert {spec.model for spec in crew.specs} == {"openai:gpt-4o-mini"}
    assert {prices(spec) for spec in crew.specs} == {(0.15, 0.6, 0.0)}
    assert not any(spec.skills for spec in crew.specs)  # those of the default pool are the scripted workers'
    assert [actor.model for actor in crew.actors.values()] == ["openai:gpt-4o-mini"] * 4  # type: ignore[attr-defined]


def test_prices_come_from_the_entry_then_from_models_then_from_the_known() -> None:
    entries = [
        {"worker_id": "entry", "description": "", "usd_per_mtok_in": 7.0},
        {"worker_id": "models", "description": "", "model": "local:tiny"},
        {"worker_id": "known", "description": "", "model": "anthropic:claude-haiku-4-5"},
    ]
    models = {"local:tiny": {"usd_per_mtok_in": 0, "usd_per_mtok_out": 0, "params_b": 0.1}}
    models["openai:gpt-5"] = {"usd_per_mtok_in": 1, "usd_per_mtok_out": 2}
    assert [prices(spec) for spec in read_pool(entries, "openai:gpt-5", models)] == [(7, 2, 0), (0, 0, 0.1), (1, 5, 0)]
    assert [spec.model for spec in read_pool(entries, "openai:gpt-5", models)][0] == "openai:gpt-5"


def test_a_model_without_a_price_is_an_error_that_says_how_to_give_it() -> None:
    with pytest.raises(ConfigError) as caught:
        read_pool(None, "openai:of-my-own")
    said = str(caught.value)
    assert "'openai:of-my-own'" in said and "usd_per_mtok_in" in said and "0 where a call costs nothing" in said
    assert "openai:gpt-4o-mini" in said and "anthropic:" not in said


def test_every_known_model_has_a_price() -> None:
    names = [name for name in components.names("model") if not name.endswith(":*")]
    assert len(names) >= 15
    for name in names:
        price = components.load("model", name)
        assert 0 < price.usd_per_mtok_in < price.usd_per_mtok_out < 100
        assert name.partition(":")[0] in components.names("provider")


def test_a_pool_survives_plain_data() -> None:
    crew = read_pool(None, "openai:gpt-4o")
    for specs in (DEFAULT_POOL, crew):
        assert read_pool(json.loads(json.dumps(write_pool(specs)))) == specs


@pytest.mark.parametrize("field", ["usd_per_mtok_in", "usd_per_mtok_out", "params_b"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_price_that_is_none_is_an_error(field: str, value: float) -> None:
    entry = {"worker_id": "w", "description": "", "usd_per_mtok_in": 1.0, "usd_per_mtok_out": 1.0, field: value}
    with pytest.raises(ConfigError, match=field):
        read_pool([entry])


# Settings


def test_a_yaml_file_says_the_same_as_a_mapping(tmp_path: Path) -> None:
    settings = chat(model="fake:x", providers={"fake": {"invalid_rate": 0.5}}, temperature=0.7)
    path = tmp_path / "crew.yaml"
    path.write_text(yaml.safe_dump(settings))
    left, right = build(settings), build(str(path))
    assert left.specs == right.specs
    assert isinstance(left.provider, Router) and isinstance(right.provider, Router)
    assert vars(left.provider.providers["fake"]) == vars(right.provider.providers["fake"])
    assert [actor.temperature for actor in right.actors.values()] == [0.7] * 4  # type: ignore[attr-defined]


LOCAL = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "concurrency": 3, "timeout_s": 2.5}


def test_settings_of_a_provider_reach_its_client_and_its_limits() -> None:
    free = {"local:tiny": {"usd_per_mtok_in": 0, "usd_per_mtok_out": 0}}
    crew = build(chat(model="local:tiny", models=free, providers={"local": LOCAL}))
    gateway: Any = crew.provider.providers["local"]  # type: ignore[union-attr]
    assert (gateway.limits.concurrency, gateway.limits.timeout_s) == (3, 2.5)
    assert gateway.client_factory().base_url == LOCAL["base_url"]


FREE = {"usd_per_mtok_in": 0, "usd_per_mtok_out": 0}
WRONG: dict[str, tuple[Any, str]] = {
    "kind": ({"kind": "chatty"}, "'chatty'.*'chat'"),
    "no kind": ({"model": "fake:x"}, "kind=None.*chat"),
    "setting": (chat(model="fake:x", temprature=1), "'temprature'.*'temperature'"),
    "scripted": ({"kind": "scripted", "store": "x"}, "'store'"),
    "provider": ("opnai:gpt-4o", "model 'opnai:gpt-4o'.*providers: anthropic, .*openai"),
    "window": (chat(model="fake:x", context_tokens=0), "context_tokens=0"),
    "servers": (chat(model="fake:x", mcp=["files"]), "mcp=.*files"),
    "provider name": (chat(model="fake:x", providers={"openai": {}}), "'openai'.*'fake'"),
    "provider kind": (chat(model="fake:x", providers={"fake": {"kind": "fakes"}}), "'fakes'.*'fake'"),
    "provider setting": (chat(model="fake:x", providers={"fake": {"rate": 1}}), "'rate'.*'invalid_rate'"),
    "provider settings": (chat(model="fake:x", providers={"fake": 3}), "'fake'.*=3"),
    "limit": (chat(model="openai:gpt-4o", providers={"openai": {**LOCAL, "concurrency": 0}}), "concurrency=0"),
    "limit name": (chat(model="openai:gpt-4o", providers={"openai": {"concurency": 1}}), "'concurency'.*'concurrency'"),
    "value": ({"kind": "fake", "invalid_rate": 2}, "invalid_rate=2"),
    "no model": (chat(), "'general_reasoning'.*model=''"),
    "half a model": (
        chat(model="gpt-4o", models={"gpt-4o": {"usd_per_mtok_in": 1, "usd_per_mtok_out": 1}}),
        "'gpt-4o'",
    ),
    "temperature": (chat(model="fake:x", temperature=-1), "temperature=-1"),
    "tool": (chat(model="fake:x", tools=["hammer"]), "'hammer'.*'calculator'"),
    "both": (chat(model="fake:x", store="a", replay="b"), "'a'.*'b'"),
    "models": (chat(model="fake:x", models={"fake:x": {"price": 1}}), "'price'.*'usd_per_mtok_in'"),
    "a model's price": (chat(model="fake:x", models={"fake:x": {"usd_per_mtok_in": 1}}), "'fake:x'.*malformed"),
    "pool field": ({"kind": "fake", "pool": [{"name": "w"}]}, "'name'.*'worker_id'"),
    "pool": ({"kind": "fake", "pool": []}, "non-empty"),
    "twice": ({"kind": "fake", "pool": [{"worker_id": "w", "description": "", "model": "fake:x"}] * 2}, "twice"),
    "no file": ("crew.yml", "crew.yml"),
    "a number": (3, "3"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_with_the_fix(case: str) -> None:
    workers, words = WRONG[case]
    with pytest.raises((ConfigError, UnknownNameError), match=words):
        build(workers)


def test_a_key_among_the_settings_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigError, match="'api_key'") as caught:
        build(chat(model="openai:gpt-4o", providers={"openai": {"api_key": KEY}}))
    assert KEY not in str(caught.value)


def test_a_missing_key_is_an_error_before_anything_is_asked() -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        build("openai:gpt-4o")


def test_settings_that_go_into_a_store_hold_neither_limits_nor_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "hush-0123456789abcdef")
    given = {
        **LOCAL,
        "key": "MY_API_KEY",
        "secrets_file": "s",
        "extra": {"user": "hush-0123456789abcdef", "top_p": 0.5},
    }
    kept = answer_settings(given)
    assert kept == {"kind": "openai", "base_url": LOCAL["base_url"], "extra": {"user": "[secret]", "top_p": 0.5}}
    with pytest.raises(ConfigError, match="plain data"):
        answer_settings({"extra": {"f": print}})


# Recordings


def play(env: gym.Env[Any, Any], sample: int = 0) -> list[Any]:
    seen: list[Any] = [env.reset(seed=3, options={"sample": sample})]
    workers = tuple(spec.worker_id for spec in env.unwrapped.worker_specs)  # type: ignore[attr-defined]
    while not (len(seen) > 1 and (seen[-1][2] or seen[-1][3])):
        seen.append(env.step(STEP % workers[len(seen) % len(workers)]))
    return seen


def make(workers: Any, **kwargs: Any) -> gym.Env[Any, Any]:
    return gym.make("NextStep/WebShop-Workflow-v0", interface="text", split="dev", workers=workers, **kwargs)


def shop(body: Any, rng: Any) -> str | dict[str, Any]:
    """Adds up by the first tool that it is given, which is not the shop's, then acts in words."""
    tools = {tool["function"]["name"] for tool in body.get("tools") or ()}
    turns = len(body["messages"])
    if "calculator" in tools and turns < 4:
        call = {"name": "calculator", "arguments": '{"expression": "30 - 7"}'}
        return {"content": None, "tool_calls": [{"id": "c1", "type": "function", "function": call}]}
    return rng.choice(("<think>hm</think>" + '{"action": "search[lamp]"}', '{"answer": "nothing found"}', "no JSON"))


def two_services(openai: OpenAIServer, anthropic: AnthropicServer, **settings: Any) -> dict[str, Any]:
    pool = [
        {"worker_id": "a", "description": "A buyer.", "model": "openai:gpt-4o"},
        {"worker_id": "b", "description": "A clerk.", "model": "there:mini"},
        {"worker_id": "c", "description": "A judge.", "model": "anthropic:claude-haiku-4-5"},
    ]
    providers = {
        "openai": {"base_url": f"{openai.url}/v1", "timeout_s": 20},
        "there": {"kind": "openai", "base_url": f"{openai.url}/v1", "extra": {"top_p": 0.9}},
        "anthropic": {"base_url": anthropic.url, "retries": 0},
    }
    models = {"there:mini": {"usd_per_mtok_in": 1, "usd_per_mtok_out": 2}}
    return chat(pool=pool, providers=providers, models=models, tools=["calculator"], temperature=0.5, **settings)


def refuse(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("a replay went to the network")


def test_a_crew_of_services_replays_byte_for_byte_without_network_or_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.sqlite"
    with OpenAIServer(shop) as openai, AnthropicServer() as anthropic:
        env = make(two_services(openai, anthropic, store=str(path)))
        live = [play(env, sample) for sample in (0, 1)]
        asked = len(openai.bills) + len(anthropic.bodies)
        again = [play(env, sample) for sample in (0, 1)]
        env.close()
        assert len(openai.bills) + len(anthropic.bodies) == asked > 5
    assert_same(live, again)
    said = repr(live)
    assert "calculator(" in said and "'23'" in said and "hm" in said
    moved = path.rename(tmp_path / "elsewhere.sqlite")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(service.ServiceClient, "__init__", refuse)
    env = make(f"replay:{moved}")
    assert_same(live, [play(env, sample) for sample in (0, 1)])
    with pytest.raises(DataError, match="seed: asked"):
        play(env, sample=2)
    env.close()


def test_a_recording_holds_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    path = tmp_path / "run.sqlite"
    with OpenAIServer(key=KEY) as openai:
        settings = {"openai": {"base_url": f"{openai.url}/v1"}}
        env = make(chat(model="openai:gpt-4o", providers=settings, store=str(path)))
        play(env)
        pickled = pickle.dumps(env.unwrapped)
        assert openai.bills and KEY not in repr(env.unwrapped.__dict__)
        env.close()
    for written in (pickled, *(file.read_bytes() for file in tmp_path.iterdir())):
        assert KEY.encode() not in written


def test_a_url_of_the_environment_is_recorded_and_changes_no_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    request = Request("0/0", "chat", ChatRequest("openai:gpt-4o", (Message("user", "hi"),), 8), 1)
    for name, url in (("theirs", ""), ("mine", "http://127.0.0.1:9/v1")):
        path = str(tmp_path / name)
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        crew: Any = build(chat(model="openai:gpt-4o", store=path))
        crew.provider.providers["openai"].store.put(request, Result("0/0", ChatReply(name)))
        crew.provider.close()
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:8/v1")
        crew = build(f"replay:{path}")
        assert crew.provider.perform([request]) == [Result("0/0", ChatReply(name))]
        assert crew.provider.store.settings == {"openai": {"base_url": url} if url else {}}
        crew.provider.close()


def test_of_two_crews_in_one_file_a_mapping_says_which_replays(tmp_path: Path) -> None:
    path = str(tmp_path / "run.sqlite")
    crews = [chat(model="fake:x", temperature=temperature) for temperature in (0.0, 1.0)]
    live = []
    for crew in crews:
        env = make({**crew, "store": path})
        live.append(play(env))
        env.close()
    with pytest.raises(ConfigError, match="2 crews.*fake:x"):
        build(f"replay:{path}")
    for crew, seen in zip(crews, live, strict=True):
        env = make({**crew, "replay": path})
        assert_same(play(env), seen)
        env.close()


def test_a_replay_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing"):
        build(f"replay:{tmp_path / 'nothing'}")


# Specs and pickles


def tail(pickled: bytes) -> list[Any]:
    """What an environment gives that was pickled in its first episode; in a process of its own."""
    env = pickle.loads(pickled)
    seen = [env.step(STEP % "planning") for _ in range(1)]
    env.close()
    return seen


def test_an_environment_that_has_asked_pickles_without_connections(tmp_path: Path) -> None:
    with OpenAIServer(shop) as openai:
        providers = {"openai": {"base_url": f"{openai.url}/v1"}}
        workers = chat(model="openai:gpt-4o", providers=providers, store=str(tmp_path / "calls.sqlite"))
        env = make(workers, budget={"tokens": 60000, "calls": 60})
        env.reset(seed=3)
        assert not env.step(STEP % "tool_use")[2]
        pickled = pickle.dumps(env.unwrapped)
        assert b"Gateway" not in pickled and b"providers.store" not in pickled
        here = env.step(STEP % "planning")
        env.close()
        bills = len(openai.bills)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            (there,) = pool.apply(tail, (pickled,))
        assert_same(here, there)
        assert len(openai.bills) == bills  # the other process found the calls in the store


def test_a_spec_with_a_crew_survives_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    workers = chat(model="openai:gpt-4o", providers={"openai": {"concurrency": 2}}, temperature=0.1)
    env = make(workers)
    assert env.spec is not None
    text = env.spec.to_json()
    env.close()
    again = gym.make(gym.envs.registration.EnvSpec.from_json(text))
    assert again.unwrapped.worker_specs == env.unwrapped.worker_specs  # type: ignore[attr-defined]
    again.close()
    assert KEY not in text


def test_roles_are_those_of_the_default_pool() -> None:
    assert list(ROLES) == [spec.worker_id for spec in DEFAULT_POOL]


def test_a_worker_kind_of_a_plugin_gets_the_pool_and_its_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    def crew(specs: tuple[WorkerSpec, ...], budget: Budget, mood: str = "good") -> Crew:
        return Crew(specs, {spec.worker_id: mood for spec in specs})  # type: ignore[misc]

    load: Callable[[str, str], Any] = components.load
    monkeypatch.setattr(components, "load", lambda kind, name: crew if name == "moody" else load(kind, name))
    assert set(build({"kind": "moody", "mood": "bad", "model": "openai:gpt-4o"}).actors.values()) == {"bad"}
    with pytest.raises(ConfigError, match="'modd'.*'mood'"):
        build({"kind": "moody", "modd": "bad"})
