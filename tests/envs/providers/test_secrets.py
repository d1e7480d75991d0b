"""Keys: where they are found, who may read them, and what is no key."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from nextstep_envs.errors import ConfigError
from nextstep_envs.providers.secrets import find_secret, read_secrets, redact
from tests.envs.providers.calling import CLIENTS, KEYS, ask, clean_environment, complete
from tests.servers.openai_like import OpenAIServer


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)


def secrets_file(folder: Path, text: str, mode: int = 0o600, name: str = "secrets") -> str:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_key_of_the_environment_comes_before_one_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXTSTEP_SECRETS_FILE", secrets_file(tmp_path, "OPENAI_API_KEY=of-the-file"))
    assert find_secret("OPENAI_API_KEY") == "of-the-file"
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")
    assert find_secret("OPENAI_API_KEY") == "of-the-environment"
    assert find_secret("ANTHROPIC_API_KEY") is None


def test_an_argument_names_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXTSTEP_SECRETS_FILE", secrets_file(tmp_path, "K=of-the-variable"))
    assert find_secret("K", secrets_file(tmp_path, "K=of-the-argument", name="other")) == "of-the-argument"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("secrets", "# keys\n\nexport A_KEY = \"first key\"\n B='x=y'\nC=plain # not a comment\n"),
        ("secrets.yaml", "A_KEY: first key\nB: x=y\nC: 'plain # not a comment'\n"),
    ],
)
def test_lines_and_yaml_are_read(tmp_path: Path, name: str, text: str) -> None:
    found = read_secrets(secrets_file(tmp_path, text, name=name))
    assert found == {"A_KEY": "first key", "B": "x=y", "C": "plain # not a comment"}


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o400, 0o700, 0o666])
def test_a_file_of_another_mode_is_refused_with_the_fix(tmp_path: Path, mode: int) -> None:
    path = secrets_file(tmp_path, "OPENAI_API_KEY=hunter2hunter2", mode)
    with pytest.raises(ConfigError, match=f"{mode:04o}.*chmod 600 {path}") as caught:
        find_secret("OPENAI_API_KEY", path)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("secrets", "A=1\nhunter2hunter2\n"),
        ("secrets.yaml", "hunter2hunter2: [\n"),
        ("secrets.yaml", "- hunter2hunter2\n"),
        ("secrets.yaml", "A: 2222222222\n"),
        ("secrets", "A=\udcff".encode("utf-8", "surrogateescape").decode("latin-1")),
    ],
)
def test_a_malformed_file_is_named_and_not_shown(tmp_path: Path, name: str, text: str) -> None:
    path = secrets_file(tmp_path, text, name=name)
    Path(path).write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=path) as caught:
        read_secrets(path)
    assert "hunter2" not in str(caught.value) and caught.value.__cause__ is None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="FileNotFoundError"):
        find_secret("K", str(tmp_path / "none"))


@pytest.mark.parametrize("value", ["two words", "line\nbreak", "schlüssel-ä"])
def test_a_value_that_no_header_can_carry_is_refused_and_not_shown(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K", value)
    with pytest.raises(ConfigError, match="K") as caught:
        find_secret("K")
    assert value not in str(caught.value)


def test_line_ends_around_a_key_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K", " abcdefgh\r\n")
    assert find_secret("K") == "abcdefgh"


@pytest.mark.parametrize("name", CLIENTS)
def test_a_service_without_a_key_is_an_error_that_names_the_variable(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name.upper()}_API_KEY"):
        CLIENTS[name]()
    with pytest.raises(ConfigError, match="MY_KEY"):
        CLIENTS[name](base_url="http://localhost", key="MY_KEY")  # a named key is meant


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("key", ["sk-hunter2hunter2", "hunter2hunter2", ""])
def test_a_key_in_place_of_its_name_is_refused_and_not_shown(name: str, key: str) -> None:
    with pytest.raises(ConfigError, match="must name an environment variable") as caught:
        CLIENTS[name](base_url="http://localhost", key=key)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", CLIENTS)
def test_another_server_may_need_no_key(name: str) -> None:
    CLIENTS[name](base_url="http://localhost")


def test_the_key_of_a_file_is_sent(tmp_path: Path, openai_server: OpenAIServer) -> None:
    openai_server.key = "of-a-file-0123"
    path = secrets_file(tmp_path, "MINE=of-a-file-0123")
    client = CLIENTS["openai"](base_url=f"{openai_server.url}/v1", key="MINE", secrets_file=path)
    assert complete(pickle.loads(pickle.dumps(client)), ask()).usage.calls == 1


@pytest.mark.parametrize("name", CLIENTS)
def test_clients_hold_no_key(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "hunter2hunter2"
    for variable in KEYS:
        monkeypatch.setenv(variable, key)
    client = CLIENTS[name](extra={"labels": {"user": key}})
    assert key not in repr(client)
    client.extra = {}
    assert key.encode() not in pickle.dumps(client) and key not in str(vars(client))


def test_what_was_handed_out_is_hidden(tmp_path: Path) -> None:
    path = secrets_file(tmp_path, "ONE=aaaa+bbbb/cccc==\nTWO=dddd-eeee-ffff-gggg\nSHORT=none\n")
    find_secret("ONE", path)
    text = "a aaaa+bbbb/cccc== b 'dddd-eeee-ffff-gggg' c aaaa%2Bbbbb%2Fcccc%3D%3D d none"
    assert redact(text) == "a [secret] b '[secret]' c [secret] d none"


def test_half_a_secret_is_hidden_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "abcdefghijklmnopqrstuvwxyz")
    assert redact("it was abcdefghijklmno") == "it was [secret]"


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "MY_TOKEN", "db_password", "CLIENT_SECRET"])
def test_secrets_of_the_environment_are_hidden(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "hunter2hunter2")
    assert redact("hunter2hunter2, x") == "[secret] x"


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abc.def.ghi",
        "key sk-proj-0123456789abcdef",
        "key sk-ant-api03-abc_def-ghi",
        "key AIzaSyA-0123456789_abcdef",
        "token ya29.a0AfH6SMB-xyz_0.1",
    ],
)
def test_whatever_looks_like_a_key_is_hidden(text: str) -> None:
    assert redact(text) == text.rpartition("Bearer" if "Bearer" in text else " ")[0].rstrip() + " [secret]"
    assert redact(redact(text)) == redact(text)


def test_other_text_is_left_alone() -> None:
    text = "The risk-averse bearer of asks: sk-1, none, EMPTY, https://example.org/a?b=c"
    assert redact(text) == text
