"""What was asked and answered, in one SQLite file: a cache that many processes share, and a recording to replay.

A call is found by its content. What changes the answer is in the key: the kind, the model, every message and tool,
max_tokens, temperature, whether log-probabilities were asked for, the provider's own settings (such as its URL), and
the request's seed, which differs by episode, sample, step and turn. What does not is not: the request's id, who asked,
when, with which API key.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from nextstep_envs.errors import ConfigError, DataError
from nextstep_envs.requests import ChatReply, ChatRequest, Request, Result, ToolRequest, ToolUse
from nextstep_envs.types import Usage

APPLICATION = 0x4E585453  # "NXTS": SQLite's place for saying whose file it is
VERSION = 1
BUSY_S = 60.0  # how long to wait for another process's write
SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY, request TEXT NOT NULL, result TEXT NOT NULL, outage INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS crews (number INTEGER PRIMARY KEY, crew TEXT NOT NULL UNIQUE);
PRAGMA application_id = {application};
PRAGMA user_version = {version};
COMMIT;
"""
_PUT = """
INSERT INTO calls VALUES (?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET result = excluded.result, outage = excluded.outage WHERE outage > excluded.outage
RETURNING 1
"""
_FIELDS: Mapping[type, tuple[str, ...]] = {
    kind: tuple(field.name for field in fields(kind)) for kind in (ChatRequest, ToolRequest, ChatReply)
}


def request_text(request: Request, settings: Mapping[str, Any] | None = None) -> str:
    """The canonical JSON of everything that changes a request's answer.

    Args:
        request: a chat or a tool call.
        settings: of the provider, as far as they change its answers; plain data without secrets.

    Raises:
        ConfigError: a kind of request that no store keeps.
    """
    payload = request.payload
    names = _FIELDS.get(type(payload))
    if names is None:
        raise ConfigError(f"a store keeps chat and tool calls, not {request.kind!r}")
    content: dict[str, Any] = {name: getattr(payload, name) for name in names}
    if "temperature" in content:
        content["temperature"] = float(content["temperature"])  # 0 and 0.0 are one
    content |= {"kind": request.kind, "seed": request.seed, "settings": settings or {}}
    return json.dumps(content, separators=(",", ":"), sort_keys=True)


def request_key(request: Request, settings: Mapping[str, Any] | None = None) -> str:
    """SHA-256 of `request_text`, in hexadecimal."""
    return _key(request_text(request, settings))


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def result_text(result: Result) -> str:
    """A result as JSON, without its id. Its value is a chat reply, or plain data where a tool answered."""
    chat = isinstance(result.value, ChatReply)
    value = {name: getattr(result.value, name) for name in _FIELDS[ChatReply]} if chat else result.value
    document = {"chat": chat, "value": value, "usage": result.usage, "error": result.error, "waste": result.waste}
    return json.dumps(document, separators=(",", ":"))


def read_result(id: str, text: str) -> Result:
    """The result that `result_text` wrote, as the answer to request `id`."""
    document = json.loads(text)
    value = document["value"]
    if document["chat"]:
        value["calls"] = tuple(ToolUse(*call) for call in value["calls"])
        value["logprobs"] = tuple((token, logprob) for token, logprob in value["logprobs"])
        value = ChatReply(**value)
    return Result(id, value, Usage(*document["usage"]), document["error"], Usage(*document["waste"]))


class Store:
    """Calls and their answers in one file, for any number of processes and threads (not over a network drive).

    A write is one transaction in SQLite's write-ahead log: readers never wait, a process that is killed leaves whole
    rows, and what it had written stays. The file is opened at first use, in each process for itself.

    Args:
        path: the file; it is created, with its folder, unless `exists`.
        settings: by provider (and by MCP server, as "mcp:<name>"), those of its settings that change its answers; plain
            data without secrets.
        exists: require a file that is there.

    Raises:
        DataError: (at first use too) the file is missing, damaged or something else.
    """

    def __init__(
        self, path: str | Path, settings: Mapping[str, Mapping[str, Any]] | None = None, exists: bool = False
    ) -> None:
        self.path, self.settings = Path(path), settings or {}
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        if exists and not self.path.is_file():
            raise DataError(f"there is no store at {str(path)!r}; record one with store={str(path)!r}")
        _stores.add(self)

    def text(self, request: Request) -> str:
        """`request_text` with the settings of whom the request goes to."""
        if isinstance(payload := request.payload, ToolRequest):
            return request_text(request, self.settings.get(f"mcp:{payload.name.partition('__')[0]}"))
        return request_text(request, self.settings.get(getattr(payload, "model", "").partition(":")[0]))

    def get(self, request: Request, outages: bool = False) -> Result | None:
        """The recorded result, with the id of this request; None where there is none.

        Args:
            outages: count a recorded outage as a result. A replay does; a cache does not, so that the call is tried
                again.
        """
        key = _key(self.text(request))
        rows = self._run("SELECT result FROM calls WHERE key = ? AND outage <= ?", (key, outages))
        return self._read(request, key, rows[0][0]) if rows else None

    def put(self, request: Request, result: Result) -> Result:
        """Keep a result and return what the store holds from now on.

        The first answer stays, so that two processes that asked the same at once go on with the same answer. An
        answer replaces an outage.
        """
        text = self.text(request)
        key = _key(text)
        row = (key, text, result_text(result), bool(result.error))
        if self._run(_PUT, row):
            return result
        kept = self._run("SELECT result FROM calls WHERE key = ?", (key,))
        return self._read(request, key, kept[0][0])

    def add_crew(self, crew: Mapping[str, Any]) -> None:
        """Note, as plain data, whose calls these are; a crew that is known is not added again."""
        self._run("INSERT OR IGNORE INTO crews (crew) VALUES (?)", (json.dumps(crew),))

    def crews(self) -> list[dict[str, Any]]:
        """The crews that recorded here, in order."""
        return [json.loads(text) for (text,) in self._run("SELECT crew FROM crews ORDER BY number")]

    def requests(self) -> Iterator[dict[str, Any]]:
        """What was asked (see `request_text`), as dicts, in order of recording."""
        last = 0
        while rows := self._run("SELECT rowid, request FROM calls WHERE rowid > ? ORDER BY rowid LIMIT 1000", (last,)):
            yield from (json.loads(text) for _, text in rows)
            last = rows[-1][0]

    def count(self) -> int:
        """How many calls there are."""
        return int(self._run("SELECT count(*) FROM calls")[0][0])

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[Store], tuple[Any, ...]]:
        return Store, (self.path, self.settings)

    def _read(self, request: Request, key: str, text: str) -> Result:
        try:
            return read_result(request.id, text)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"store {str(self.path)!r}: call {key} is damaged ({error}); delete that row") from error

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = _open(self.path)
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise DataError(f"store {str(self.path)!r} cannot be used: {error}") from error


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        # Tables before header: another process may be creating the store right now.
        queries = ("SELECT count(*) FROM sqlite_schema", "PRAGMA application_id", "PRAGMA user_version")
        tables, *header = (connection.execute(query).fetchone()[0] for query in queries)
        if header != [APPLICATION, VERSION] and (tables or any(header)):
            raise DataError(f"{str(path)!r} is an SQLite file, but no store of version {VERSION}; name another file")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # whole after any crash; flushed at checkpoints
        if not any(header):
            connection.executescript(SCHEMA.format(application=APPLICATION, version=VERSION))
    except BaseException:
        connection.close()
        raise
    return connection


_stores: weakref.WeakSet[Store] = weakref.WeakSet()
_inherited: list[sqlite3.Connection] = []


def _after_fork() -> None:
    # SQLite forbids a child to use, or even to close, its parent's connection: it is kept, unused, and opened anew.
    for store in _stores:
        if store._connection is not None:
            _inherited.append(store._connection)
        store._connection, store._lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
