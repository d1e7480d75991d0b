"""The store keeps every call exactly, for many processes at once, through kills, and never the wrong one."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nextstep_envs.errors import ConfigError, DataError
from nextstep_envs.providers.store import Store, read_result, request_key, result_text
from nextstep_envs.requests import (
    ChatReply,
    ChatRequest,
    CodeRequest,
    Message,
    Request,
    Result,
    ToolRequest,
    ToolSpec,
    ToolUse,
)
from nextstep_envs.types import Usage

CHAT = ChatRequest("openai:m", (Message("system", "Be brief."), Message("user", "2 + 2?")), 64)


def ask(seed: int = 1, chat: Any = CHAT, id: str = "0/0", kind: Any = "chat") -> Request:
    return Request(id, kind, chat, seed)


def reply(text: str, id: str = "0/0") -> Result:
    return Result(id, ChatReply(text), Usage(10, 2, 1))


def write_many(path: str, start: int, stop: int) -> list[str]:
    """Put and read back calls; their answers name the writer, who may not be the first."""
    store = Store(path)
    kept = [store.put(ask(seed), reply(f"{seed} by {start}")).value.text for seed in range(start, stop)]
    assert [store.get(ask(seed)).value.text for seed in range(start, stop)] == kept  # type: ignore[union-attr]
    store.close()
    return kept


texts = st.text()
usages = st.builds(Usage, *[st.integers(0, 1 << 50)] * 6)
floats = st.floats(allow_nan=False, max_value=0)
calls = st.lists(st.builds(ToolUse, texts, texts, texts, texts), max_size=2).map(tuple)
logprobs = st.lists(st.tuples(texts, floats), max_size=3).map(tuple)
finishes = st.sampled_from(("stop", "length", "tools", "filter"))
replies = st.builds(ChatReply, texts, texts, calls, finishes, logprobs)


@example(ChatReply("half a pair: \ud83d"), Usage(), "", Usage())
@given(replies, usages, texts, usages)
def test_every_field_of_a_result_survives_exactly(value: ChatReply, usage: Usage, error: str, waste: Usage) -> None:
    result = Result("3/1", value, usage, error, waste)
    assert read_result("3/1", result_text(result)) == result


def test_a_stored_result_answers_an_equal_request_of_another_id(tmp_path: Path) -> None:
    store = Store(tmp_path / "calls.sqlite")
    store.put(ask(id="0/0"), reply("4"))
    assert store.get(ask(id="2/7")) == reply("4", "2/7")
    store.close()


CALLED = (*CHAT.messages, Message("assistant", "", (ToolUse("", "f", "{}"),)))
CHANGES = {
    "seed": ask(seed=2),
    "model": ask(chat=replace(CHAT, model="openai:n")),
    "provider": ask(chat=replace(CHAT, model="anthropic:m")),
    "a message": ask(chat=replace(CHAT, messages=(*CHAT.messages[:1], Message("user", "2 + 3?")))),
    "a role": ask(chat=replace(CHAT, messages=(Message("user", "Be brief."), CHAT.messages[1]))),
    "a tool call": ask(
        chat=replace(CHAT, messages=(*CHAT.messages, Message("assistant", "", (ToolUse("", "f", "{}"),))))
    ),
    "which call is answered": ask(chat=replace(CHAT, messages=(*CHAT.messages, Message("tool", "5", (), "a")))),
    "tools": ask(chat=replace(CHAT, tools=(ToolSpec("f", "does f", "{}"),))),
    "max_tokens": ask(chat=replace(CHAT, max_tokens=65)),
    "temperature": ask(chat=replace(CHAT, temperature=0.1)),
    "logprobs": ask(chat=replace(CHAT, logprobs=True)),
    "kind": ask(chat=ToolRequest("f", "{}"), kind="tool"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_changes_the_answer_changes_the_key(what: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "calls.sqlite")
    store.put(ask(), reply("4"))
    assert request_key(CHANGES[what]) != request_key(ask())
    assert store.get(CHANGES[what]) is None
    store.close()


def test_all_keys_differ_from_each_other() -> None:
    assert len({request_key(request) for request in CHANGES.values()}) == len(CHANGES)


def test_settings_of_the_provider_are_part_of_the_key_and_those_of_others_are_not(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    here = Store(path, {"openai": {"base_url": "http://a", "extra": {"top_p": 0.5, "top_k": 3}}})
    here.put(ask(), reply("4"))
    there = Store(path, {"openai": {"base_url": "http://b", "extra": {"top_p": 0.5, "top_k": 3}}})
    assert there.get(ask()) is None
    reordered = {"openai": {"extra": {"top_k": 3, "top_p": 0.5}, "base_url": "http://a"}}
    same = Store(path, reordered | {"google": {"project": "p"}})
    assert same.get(ask()) == reply("4")
    for store in (here, there, same):
        store.close()


def test_equal_temperatures_have_one_key_whatever_their_type() -> None:
    assert request_key(ask(chat=replace(CHAT, temperature=1))) == request_key(ask(chat=replace(CHAT, temperature=1.0)))


def test_what_a_tool_answered_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "calls.sqlite")
    request = ask(chat=ToolRequest("calculator", '{"expression": "1+1"}'), kind="tool")
    store.put(request, Result("0/0", "2"))
    assert store.get(request) == Result("0/0", "2")
    store.close()


def test_a_kind_that_is_not_kept_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'code'"):
        request_key(ask(chat=CodeRequest("1", 1.0), kind="code"))


def test_the_first_answer_stays_and_is_what_a_second_writer_goes_on_with(tmp_path: Path) -> None:
    store = Store(tmp_path / "calls.sqlite")
    assert store.put(ask(), reply("4")) == reply("4")
    assert store.put(ask(id="1/0"), reply("four", "1/0")) == reply("4", "1/0")
    assert store.get(ask()) == reply("4")
    store.close()


def test_an_outage_is_tried_again_by_a_cache_and_kept_for_a_replay(tmp_path: Path) -> None:
    store = Store(tmp_path / "calls.sqlite")
    outage = Result("0/0", error="server: 503 (attempt 6)", waste=Usage(5, 0, 1))
    store.put(ask(), outage)
    assert store.get(ask()) is None
    assert store.get(ask(), outages=True) == outage
    assert store.put(ask(), reply("4")) == reply("4")
    assert store.put(ask(), outage) == reply("4")
    assert store.get(ask(), outages=True) == reply("4")
    store.close()


def test_many_processes_write_one_new_store_and_nothing_is_lost(tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "calls.sqlite")
    # Neighbours overlap by half, so that they race for keys as well as for the file.
    spans = [(path, 100 * i, 100 * i + 200) for i in range(6)]
    with multiprocessing.get_context("spawn").Pool(6) as pool:
        kept = pool.starmap(write_many, spans, chunksize=1)
    store = Store(path, exists=True)
    assert store.count() == 700
    for (_, start, _), texts in zip(spans, kept, strict=True):
        for seed, text in enumerate(texts, start):
            assert store.get(ask(seed)) == reply(text)
    store.close()


def test_many_threads_share_one_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "calls.sqlite")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: store.put(ask(seed), reply(str(seed))), range(800)))
        found = list(pool.map(lambda seed: store.get(ask(seed)), range(800)))
    assert found == [reply(str(seed)) for seed in range(800)]
    store.close()


PRELUDE = """
import os, signal, sys
from nextstep_envs.providers.store import Store
from tests.envs.providers.test_store import ask, reply
store = Store(sys.argv[1])
"""
FORK = """
store.put(ask(0), reply("0"))
store._lock.acquire()  # as while another thread is writing
child = os.fork()
if child:
    store._lock.release()
else:
    signal.alarm(30)
for seed in range(1, 200):
    store.put(ask(2 * seed + (child == 0)), reply("x"))
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(store.count())
"""
WRITE = """
seed = 0
while True:
    store.put(ask(seed), reply("x" * 3000))
    seed += 1
    print(seed, flush=True)
"""


def script(body: str, path: Path) -> subprocess.Popen[str]:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", PRELUDE + body, str(path)]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)


def test_a_forked_process_opens_the_file_for_itself(tmp_path: Path) -> None:
    with script(FORK, tmp_path / "calls.sqlite") as process:
        out, _ = process.communicate(timeout=120)
    assert (process.returncode, out.strip()) == (0, "399")


@pytest.mark.parametrize("lines", [1, 300])
def test_a_writer_killed_at_any_moment_leaves_all_that_it_had_put(lines: int, tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    with script(WRITE, path) as process:
        assert process.stdout is not None
        for _ in range(lines):
            last = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        last = max([last, *map(int, process.stdout.read().split("\n")[:-1])])
    store = Store(path, exists=True)
    assert store.count() in (last, last + 1)
    assert all(store.get(ask(seed)) == reply("x" * 3000) for seed in range(store.count()))
    store.put(ask(-1), reply("more"))
    store.close()
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    garbage, other, cut = (tmp_path / name for name in ("garbage", "other", "cut"))
    garbage.write_bytes(b"these are not the bytes you are looking for" * 50)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE calls (a)")
    connection.close()
    store = Store(cut)
    for seed in range(50):
        store.put(ask(seed), reply("x" * 1000))
    store.close()
    cut.write_bytes(cut.read_bytes()[:5000])
    before = other.read_bytes()
    for path, words in ((garbage, "not a database"), (other, "no store of version"), (cut, "malformed")):
        store = Store(path)
        with pytest.raises(DataError, match=f"{path.name}.*{words}"):
            store.get(ask(49))
        store.close()
    assert other.read_bytes() == before


def test_a_store_that_must_exist_and_does_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        Store(tmp_path / "nowhere.sqlite", exists=True)
    assert not list(tmp_path.iterdir())


def test_a_damaged_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    store = Store(path)
    store.put(ask(), reply("4"))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE calls SET result = substr(result, 1, 20)")
    connection.close()
    with pytest.raises(DataError, match=request_key(ask())):
        store.get(ask())
    store.close()


def test_a_pickled_store_holds_no_connection(tmp_path: Path) -> None:
    store = Store(tmp_path / "calls.sqlite", {"openai": {"base_url": "http://a"}})
    store.put(ask(), reply("4"))
    other = pickle.loads(pickle.dumps(store))
    store.close()
    assert other.get(ask()) == reply("4")
    other.close()


def test_a_crew_is_noted_once_and_in_order(tmp_path: Path) -> None:
    store = Store(tmp_path / "calls.sqlite")
    first = {"kind": "chat", "pool": [{"worker_id": "b", "skills": {"z": 0.5, "a": 1.0}}]}
    for crew in (first, {"kind": "chat"}, first):
        store.add_crew(crew)
    assert store.crews() == [first, {"kind": "chat"}]
    assert list(store.crews()[0]["pool"][0]["skills"]) == ["z", "a"]
    store.close()
