"""`nextstep doctor`: a line for each provider, and a status that scripts can rely on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nextstep_agents.cli import main

NOBODY = 'providers={local: {kind: openai, base_url: "http://127.0.0.1:9/v1"}}'


def test_a_provider_that_answers_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "fake:anything"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("works") and "fake:anything" in line and "tokens)" in line


def test_a_provider_that_fails_is_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openai")
    assert main(["doctor", "fake:anything", "local:model", NOBODY, "timeout_s=5"]) == 1
    good, bad = capsys.readouterr().out.splitlines()
    assert good.startswith("works")
    assert bad.startswith("fails") and "local:model" in bad and "http://127.0.0.1:9/v1" in bad


def test_what_is_not_set_up_is_no_failure(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI", "ANTHROPIC", "GOOGLE", "GEMINI"):
        monkeypatch.delenv(f"{name}_API_KEY", raising=False)
        monkeypatch.delenv(f"{name}_BASE_URL", raising=False)
    monkeypatch.delenv("NEXTSTEP_SECRETS_FILE", raising=False)
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 3 and all(line.startswith("not set up") and "_API_KEY" in line for line in lines)


@pytest.mark.parametrize(("argument", "named"), [("nope", "'nope'"), ("tmeout=1", "tmeout"), ("timeout_s=0", "0")])
def test_a_wrong_argument_is_named(argument: str, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", argument]) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("models", [[], ["fake:anything"]])
def test_a_provider_that_is_set_up_is_not_silently_left_out(
    models: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *models, NOBODY]) == 2
    said = capsys.readouterr()
    assert "local:<model>" in said.err and not said.out


def test_models_alone_need_no_hydra() -> None:
    code = (
        "import sys; sys.modules.update(hydra=None, omegaconf=None, torch=None)\n"
        "from nextstep_agents.cli import main\n"
        "raise SystemExit(main(['doctor', 'fake:anything']))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
