"""A key is in nothing that a failing run leaves behind: errors, results, logs, pickles, traces, stores, specs."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import nextstep_envs  # noqa: F401
import wrappers
from nextstep_envs.providers.gateway import Gateway
from nextstep_envs.providers.limits import Limits
from nextstep_envs.providers.store import Store
from nextstep_envs.requests import Request
from tests.envs.providers.calling import CLIENTS, KEYS, ask, clean_environment, failure
from tests.servers.anthropic_wire import AnthropicServer
from tests.servers.google_wire import GoogleServer
from tests.servers.openai_like import OpenAIServer
from tests.servers.scripted import ScriptedServer
from tests.servers.wire import Server, json_response, response

KEY = "recognisable+0123456789/abcdef=="  # of no shape that a pattern would know
IN_HEADERS = ("wrong type", "redirect")  # HTTP libraries log, when told to log everything, what a server puts there
PIECES = (KEY, KEY[:16], "recognisable%2B")


class Log(logging.Handler):
    """Every record of every logger, formatted with its traceback."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record) + repr(record.args))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)
    for name in KEYS:
        monkeypatch.setenv(name, KEY)


@pytest.fixture
def log() -> Iterator[Log]:
    """All that is logged, at the most talkative level, by libraries too."""
    handler, root = Log(), logging.getLogger()
    before = {logger: logger.level for logger in (root, *_loggers())}
    root.addHandler(handler)
    for logger in before:
        logger.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    for logger, level in before.items():
        logger.setLevel(level)


def _loggers() -> list[logging.Logger]:
    return [
        logging.getLogger(name) for name in ("openai", "anthropic", "google_genai", "google", "httpx2", "httpcore2")
    ]


def clean(*texts: str | bytes) -> bool:
    """Whether no text holds the key, or a piece of it that says enough."""
    joined = [text if isinstance(text, bytes) else text.encode() for text in texts]
    return not any(piece.encode() in text for piece in PIECES for text in joined)


def test_the_search_for_a_key_finds_it() -> None:
    assert not clean("a", f"x {KEY} y") and not clean(pickle.dumps([KEY])) and clean("nothing")


def servers() -> dict[str, Server]:
    """Servers that show the key they were given in what they answer, and that break off in the middle of it."""
    page = f"<html>You sent {KEY}</html>".encode()
    return {
        "401": ScriptedServer(json_response(401, {"error": {"message": f"Incorrect API key provided: {KEY}."}})),
        "400 with half of it": ScriptedServer(json_response(400, {"error": {"message": f"Incorrect key {KEY[:20]}"}})),
        "500 as text": ScriptedServer(response(500, f"Traceback: headers={{'key': '{KEY}'}}".encode())),
        "long": ScriptedServer(json_response(500, {"error": {"message": "x" * 290 + KEY}})),
        "page": ScriptedServer(response(200, page, {"content-type": "text/html"})),
        "wrong type": ScriptedServer(response(200, b"{}", {"content-type": f"text/{KEY}"})),
        "wrong field": ScriptedServer(
            json_response(
                200, {"choices": [{"message": {"content": [KEY]}}], "content": [{KEY: KEY}], "candidates": [KEY]}
            )
        ),
        "redirect": ScriptedServer(json_response(307, {}, {"location": f"http://localhost/?key={KEY}"})),
        "cut": ScriptedServer(response(200, b"{}", {"content-length": "9999"})[:-1]),
    }


@pytest.mark.parametrize("trouble", servers())
@pytest.mark.parametrize("name", CLIENTS)
def test_no_trouble_of_a_client_shows_the_key(
    name: str, trouble: str, log: Log, capfd: pytest.CaptureFixture[str]
) -> None:
    with servers()[trouble] as server:
        client = CLIENTS[name](base_url=server.url + ("/v1" if name == "openai" else ""))
        error = failure(client, ask(), timeout_s=1.0)
        assert server.requests and any(KEY in str(message.headers) for message in server.requests)  # type: ignore[attr-defined]

        gateway = Gateway(lambda: client, Limits(retries=1, backoff_s=0.0, timeout_s=1.0))
        results = gateway.perform([Request("0/0", "chat", ask(f"{name}:m"), 0)])
        metrics = gateway.metrics()
        gateway.close()
    assert results[0].error
    chain = [error.__cause__, error.__context__]
    shown = [
        *traceback.format_exception(error),
        repr(error),
        str(vars(error)),
        repr(chain),
        repr(client),
        repr(gateway),
    ]
    assert clean(*shown, repr(results), repr(metrics), pickle.dumps((error.args, results, client)))
    assert log.lines and (trouble in IN_HEADERS or clean(*log.lines, *capfd.readouterr()))


def test_a_key_that_no_header_can_carry_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, make in CLIENTS.items():
        for variable in KEYS:
            monkeypatch.setenv(variable, f"{KEY}\n{KEY}")
        with pytest.raises(ValueError) as caught:
            make(base_url="http://localhost")
        assert clean(*traceback.format_exception(caught.value)), name


def shops() -> dict[str, Server]:
    """Each service, refusing the key that it is given and showing it."""
    return {
        "openai": OpenAIServer(key="another"),
        "anthropic": AnthropicServer(key="another"),
        "google": GoogleServer(key="another"),
    }


@pytest.mark.parametrize("name", CLIENTS)
def test_no_artefact_of_a_failing_run_shows_the_key(
    name: str, log: Log, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found: list[Any] = []
    with shops()[name] as server, warnings.catch_warnings(record=True) as warned:
        workers = {
            "kind": "chat",
            "model": f"{name}:m",
            "models": {f"{name}:m": {"usd_per_mtok_in": 0.1, "usd_per_mtok_out": 0.2}},
            "providers": {name: {"base_url": server.url + ("/v1" if name == "openai" else "")}},
            "store": str(tmp_path / "store.sqlite"),
        }
        env: Any = gym.make("NextStep/WebShop-Workflow-v0", workers=workers)
        env = wrappers.RecordTrace(env, tmp_path / "trace.jsonl")
        for seed in range(2):
            obs, info = env.reset(seed=seed)
            over = False
            while not over:
                action = int(np.flatnonzero(obs["action_mask"])[0])
                obs, reward, terminated, truncated, info = env.step(action)
                found.append((obs, reward, info))
                over = terminated or truncated
            assert info["mask_sample"] and "answered 40" in info["error"]["message"]  # an outage: 401, or Google's 400
        found.append(env.unwrapped.snapshot())
        spec = env.spec.to_json()
        env.close()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"trace.jsonl", "store.sqlite"}
    assert clean(*(path.read_bytes() for path in files))
    assert clean(spec, json.dumps(workers), repr(found), pickle.dumps(found), *map(str, warned))
    assert clean(*log.lines, *capfd.readouterr()) and log.lines
    store = Store(tmp_path / "store.sqlite", exists=True)
    assert clean(repr(list(store.requests())), repr(store.crews()))
    store.close()
