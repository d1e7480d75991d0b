"""The doctor calls each provider that is set up once, and says what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nextstep_envs.errors import ConfigError
from nextstep_envs.providers.doctor import MODELS, Diagnosis, examine
from registry import components
from tests.envs.providers.calling import KEYS, clean_environment
from tests.servers.anthropic_wire import AnthropicServer
from tests.servers.google_wire import GoogleServer
from tests.servers.openai_like import OpenAIServer
from tests.servers.scripted import ScriptedServer
from tests.servers.wire import json_response

KEY = "hunter2hunter2"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)


def test_services_that_are_not_set_up_are_told_how_and_not_called() -> None:
    found = list(examine())
    assert [(one.provider, one.state) for one in found] == [(name, "not set up") for name in MODELS]
    assert all(f"{one.provider.upper()}_API_KEY" in one.detail for one in found)


def test_every_service_that_works_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with OpenAIServer() as openai, AnthropicServer() as anthropic, GoogleServer() as google:
        for name, url in (("OPENAI", f"{openai.url}/v1"), ("ANTHROPIC", anthropic.url), ("GOOGLE_GEMINI", google.url)):
            monkeypatch.setenv(f"{name}_BASE_URL", url)
        found = list(examine())
    assert [one.state for one in found] == ["works"] * 3 and all(one.usage.calls == 1 for one in found)
    assert [len(server.bodies) for server in (openai, anthropic, google)] == [1, 1, 1]
    assert "A red shoe." in found[1].detail


def diagnosis(status: int, model: str = "openai:m", **error: Any) -> Diagnosis:
    with ScriptedServer(json_response(status, {"error": {"message": "No.", **error}})) as server:
        (found,) = examine([model], {"openai": {"base_url": f"{server.url}/v1"}})
    assert len(server.requests) == 1  # cheap: no retries
    return found


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "check the key"),
        (403, "its rights"),
        (404, "model's name"),
        (400, "extra="),
        (429, "used up"),
        (500, "try later"),
        (529, "busy"),
        (200, "base_url"),
    ],
)
def test_a_failure_comes_with_advice(status: int, advice: str) -> None:
    found = diagnosis(status)
    assert found.state == "fails" and advice in found.detail and "No." in found.detail


def test_a_spent_quota_is_told_from_a_rate_limit() -> None:
    assert "is spent" in diagnosis(429, code="insufficient_quota").detail


def test_nobody_there_is_told() -> None:
    with ScriptedServer() as server:
        pass
    (found,) = examine(["local:m"], {"local": {"kind": "openai", "base_url": server.url}})
    assert found.state == "fails" and server.url in found.detail and "check base_url" in found.detail


@pytest.mark.parametrize(
    ("models", "providers", "match"),
    [
        (["openai:m"], {}, "OPENAI_API_KEY"),
        (["nobody:m"], {}, "nobody"),
        (["openai:m"], {"openai": {"base_ulr": "x"}}, "base_ulr"),
        (["openai:m"], {"openai": {"base_url": "x"}}, "https://host/path"),
    ],
)
def test_a_wrong_setting_is_a_diagnosis_not_a_crash(models: list[str], providers: Any, match: str) -> None:
    (found,) = examine(models, providers)
    assert found.state == "fails" and match in found.detail


def test_a_secrets_file_that_others_can_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secrets"
    path.write_text(f"OPENAI_API_KEY={KEY}")
    path.chmod(0o644)
    monkeypatch.setenv("NEXTSTEP_SECRETS_FILE", str(path))
    assert all(one.state == "fails" and f"chmod 600 {path}" in one.detail for one in examine())


def test_no_diagnosis_shows_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.setenv(name, KEY)
    with OpenAIServer(key="another") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        found = next(examine())
    assert found.state == "fails" and "401" in found.detail and KEY not in repr(found)


def test_providers_without_a_service_are_examined_too() -> None:
    (found,) = examine(["fake:m"])
    assert found.state == "works"


@pytest.mark.parametrize("model", MODELS.values())
def test_the_models_that_are_asked_have_a_price(model: str) -> None:
    assert components.load("model", model).usd_per_mtok_out < 10


def test_a_model_without_a_provider_is_an_error() -> None:
    with pytest.raises(ConfigError, match="gpt-4o"):
        list(examine(["gpt-4o"]))
