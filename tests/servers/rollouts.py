"""A rollout in a process of its own, against a server behind a chaos proxy, killed in the middle and resumed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from nextstep_agents.rollouts.books import Account, of_line
from tests.servers.chaos import FAULTS, ChaosProxy, seeded
from tests.servers.openai_like import OpenAIServer
from tests.servers.shopper import shopper
from wrappers.jsonl import read_lines

ROOT = Path(__file__).parents[2]
ENV = "NextStep/WebShop-DAG-v0"
MODEL = "openai:fake"
STALLED_S = 120.0  # without a finished episode


class Books(NamedTuple):
    """What was billed.

    Attributes:
        server: all of it.
        lost: what the proxy kept from the caller.
        wasted: for answers of no use that told their bill.
    """

    server: Account
    lost: Account
    wasted: Account


class Stage(NamedTuple):
    """What one process did.

    Attributes:
        lines: the episodes that it finished.
        ledgers, waste: what they were charged, and what their records say was billed for failed attempts.
        books: what server and proxy say.
    """

    lines: tuple[Mapping[str, Any], ...]
    ledgers: Account
    waste: Account
    books: Books

    def unexplained(self) -> tuple[Account, Account]:
        """What the server billed beyond ledgers and waste; all zero, but for the episodes that a kill cut off."""
        server, lost, wasted = self.books
        return _less(_less(_less(server, lost), wasted), self.ledgers), _less(wasted, self.waste)


class Report(NamedTuple):
    """How it went: the process that was killed (if any was), and the one that came to the end."""

    killed: Stage | None
    ended: Stage
    planned: int
    faults: Counter[str]
    attempts: int
    wall_s: float

    @property
    def lines(self) -> tuple[Mapping[str, Any], ...]:
        """All episodes."""
        return (*(self.killed.lines if self.killed else ()), *self.ended.lines)

    def endings(self) -> Counter[str]:
        """Episodes by how they ended: "success", "failure" or "masked"."""
        return Counter(
            "masked" if line["mask_sample"] else "success" if line["outcome"]["success"] else "failure"
            for line in self.lines
        )

    def lost_or_doubled(self) -> int:
        """Episodes that are missing, or there twice."""
        seen = Counter((line["seed"], line["sample"]) for line in self.lines)
        return self.planned - len(seen) + sum(seen.values()) - len(seen)


def chaotic_rollout(
    folder: Path,
    episodes: int,
    kill_after: int = 0,
    rate: float = 0.2,
    concurrency: int = 128,
    timeout_s: float = 10.0,
    env: str = ENV,
) -> Report:
    """Play `episodes` with `rate` of all attempts broken; kill -9 the process once `kill_after` have ended (0: never).

    Raises:
        RuntimeError: no episode ended in two minutes, or the command failed.
    """
    start = time.monotonic()
    with OpenAIServer(shopper) as server, ChaosProxy(server, seeded(0, rate, FAULTS)) as proxy:
        service = {
            "base_url": f"{proxy.url}/v1",
            "timeout_s": timeout_s,
            "retries": 3,
            "backoff_s": 0.05,
            "concurrency": concurrency,
            "breaker_failures": 100,
        }
        price = {"usd_per_mtok_in": 1.0, "usd_per_mtok_out": 2.0}
        workers = {"kind": "chat", "model": MODEL, "models": {MODEL: price}, "providers": {"openai": service}}
        (folder / "workers.yaml").write_text(yaml.safe_dump(workers))
        command = [
            *(sys.executable, "-m", "nextstep_agents.cli", "rollout", f"env={env}", f"episodes={episodes}"),
            *(f"concurrency={concurrency}", f"out={folder / 'run'}"),
            f"env_kwargs={{workers: {folder / 'workers.yaml'}}}",
        ]
        killed, start_of_books = None, Books(Account(), Account(), Account())
        if kill_after:
            _run(command, folder, kill_after)
            killed = _stage(folder, (), server, proxy, start_of_books)
            start_of_books = killed.books
            command.append("resume=true")
        _run(command, folder, None)
        ended = _stage(folder, killed.lines if killed else (), server, proxy, start_of_books)
        return Report(killed, ended, episodes, proxy.faults(), len(proxy.events), time.monotonic() - start)


def _run(command: list[str], folder: Path, kill_after: int | None) -> None:
    """Until it ends or has finished `kill_after` episodes."""
    path = folder / "run" / "episodes.jsonl"
    with (folder / "log.txt").open("a") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            known, since = -1, time.monotonic()
            while process.poll() is None:
                done = path.read_bytes().count(b"\n") if path.exists() else 0
                if kill_after is not None and done >= kill_after:
                    return
                if done > known:
                    known, since = done, time.monotonic()
                elif time.monotonic() - since > STALLED_S:
                    raise RuntimeError(f"no episode has ended for {STALLED_S:g} s, after {done}")
                time.sleep(0.05)
        finally:
            process.kill()
            process.wait()
        if process.returncode or kill_after is not None:
            raise RuntimeError(f"status {process.returncode}: {(folder / 'log.txt').read_text()[-2000:]}")


def _stage(
    folder: Path,
    known: Iterable[Mapping[str, Any]],
    server: OpenAIServer,
    proxy: ChaosProxy,
    before: Books,
) -> Stage:
    while server.in_flight or proxy.forwarding:  # what a killed process had asked for
        time.sleep(0.01)
    old = {(line["seed"], line["sample"]) for line in known}
    path = folder / "run" / "episodes.jsonl"
    lines = tuple(line for line in read_lines(path) if (line["seed"], line["sample"]) not in old)
    ledgers = waste = Account()
    for line in lines:
        spent = of_line(line)
        ledgers = ledgers.plus(0, *spent.workers[1:])
        waste = waste.plus(0, *spent.waste[1:])
    now = (server.total(), proxy.lost(), proxy.wasted())
    books = Books(*(_less(Account(0, u.tokens, u.calls), b) for u, b in zip(now, before, strict=True)))
    return Stage(lines, ledgers, waste, books)


def _less(a: Account, b: Account) -> Account:
    return Account(*(x - y for x, y in zip(a, b, strict=True)))
