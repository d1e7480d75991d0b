"""API keys: where they come from, and how they are kept out of every text.

A key comes from the environment or from a secrets file that nobody else can read. It is looked up by name at the moment
a connection is opened and kept nowhere else, so that settings, specs, pickles and traces only ever hold the name.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from urllib.parse import quote

import yaml

from nextstep_envs.errors import ConfigError

FILE_VARIABLE = "NEXTSTEP_SECRETS_FILE"
MODE = 0o600
HIDDEN = "[secret]"
SHORTEST = 8  # characters; less is no secret ("none", "EMPTY"), and hiding it would spoil texts
_HEAD = 12  # characters by which a secret is recognised, since a text may break off in the middle of it
_NAMED_SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)$", re.I)
_LINE = re.compile(r"(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*)")
# What looks like a key wherever it came from: bearer headers, and the forms of OpenAI, Anthropic and Google.
_SHAPES = re.compile(r"(?i:\bbearer\s+)[^\s\"',]{8,}|\bsk-[\w-]{8,}|\bAIza[\w-]{8,}|\bya29\.[\w.-]{8,}")
_handed_out: set[str] = set()


def find_secret(name: str, file: str | None = None) -> str | None:
    """The value of secret `name`: the environment's, else the secrets file's; None where neither has it.

    Args:
        name: as in the environment, such as "OPENAI_API_KEY".
        file: path of the secrets file; default: the environment variable `NEXTSTEP_SECRETS_FILE`, else there is none.

    Raises:
        ConfigError: the file is missing, malformed or readable by others, or the value cannot be sent as a header.
    """
    value = os.environ.get(name) or read_secrets(file).get(name)
    if not value:
        return None
    value = value.strip()
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigError(f"the value of {name} holds spaces, line breaks or other characters that no key has")
    if len(value) >= SHORTEST:
        _handed_out.add(value)
    return value


def read_secrets(file: str | None = None) -> Mapping[str, str]:
    """All of a secrets file: KEY=VALUE lines, or a YAML mapping where its name ends in .yaml or .yml.

    Args:
        file: as for `find_secret`; where there is no file, the result is empty.

    Raises:
        ConfigError: it is missing, malformed, or has another mode than 0600.
    """
    path = file or os.environ.get(FILE_VARIABLE)
    if not path:
        return {}
    try:
        with open(path, encoding="utf-8") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            if os.name == "posix" and mode != MODE:
                raise ConfigError(f"secrets file {path!r} has mode {mode:04o}; make it yours alone: chmod 600 {path}")
            text = opened.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"secrets file {path!r} cannot be read: {type(error).__name__}") from None
    values = _yaml(path, text) if path.endswith((".yaml", ".yml")) else _lines(path, text)
    _handed_out.update(value for value in values.values() if len(value) >= SHORTEST)
    return values


def redact(text: str) -> str:
    """`text` without secrets: those of the secrets file, of the environment, and whatever looks like a key."""
    named = (value for name, value in os.environ.items() if _NAMED_SECRET.search(name) and len(value) >= SHORTEST)
    values = {*_handed_out, *named}
    heads = {form[:_HEAD] for value in values for form in (value, quote(value, safe=""), json.dumps(value)[1:-1])}
    if heads:
        known = "|".join(re.escape(head) for head in sorted(heads, key=len, reverse=True))
        text = re.sub(rf"(?:{known})[^\s\"']*", HIDDEN, text)
    return _SHAPES.sub(HIDDEN, text)


def _lines(path: str, text: str) -> dict[str, str]:
    values = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if not found:  # the line itself is not shown: it may be a key
            raise ConfigError(f"secrets file {path!r}, line {number}: write NAME=value")
        name, value = found.groups()
        quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'"
        values[name] = value[1:-1] if quoted else value
    return values


def _yaml(path: str, text: str) -> dict[str, str]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError:  # its message shows the text
        raise ConfigError(f"secrets file {path!r} is not valid YAML") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(x, str) for pair in values.items() for x in pair):
        raise ConfigError(f"secrets file {path!r} must map names to texts; put quotes around values")
    return values
