"""Reads a JSON action out of what a language model wrote, with one repair pass."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_WORDS = {"true": "True", "false": "False", "null": "None"}
_STRING = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'')
MAX_LENGTH = 100_000


def parse_json(text: str) -> Any:
    """The JSON value in `text`, or None.

    Strict JSON first. Then one repair: the outermost braces are cut out of fences and prose, trailing commas are
    dropped, and Python-style quotes and constants are read.
    """
    if len(text) > MAX_LENGTH:
        return None
    value = _load(text)
    if value is not None:
        return value
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end <= start:
        return None
    body = text[start : end + 1]
    repaired = _outside_strings(body, lambda part: _TRAILING_COMMA.sub(r"\1", part))
    value = _load(repaired)
    if value is not None:
        return value
    try:
        return ast.literal_eval(_outside_strings(repaired, _python_words))
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None


def _load(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _python_words(part: str) -> str:
    return re.sub(r"\b(true|false|null)\b", lambda m: _WORDS[m[0]], part)


def _outside_strings(text: str, change: Any) -> str:
    """Apply `change` to the parts of `text` that lie outside quoted strings."""
    # A comma and the bracket after it never have a string between them, so parts can be changed one by one.
    parts, last = [], 0
    for match in _STRING.finditer(text):
        parts += [change(text[last : match.start()]), match[0]]
        last = match.end()
    return "".join([*parts, change(text[last:])])
