"""Event loops, threads and processes: where a gateway works, what a cancelled call leaves, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nextstep_envs.errors import ConfigError
from nextstep_envs.providers.base import Completion
from nextstep_envs.providers.gateway import Gateway, Limits
from nextstep_envs.providers.loop import BackgroundLoop
from nextstep_envs.requests import ChatRequest, CodeRequest, Request
from nextstep_envs.types import Usage
from tests.envs.providers.calls import DEADLINE_S, Client, Clock, ask, done, hang, script
from tests.servers.client import HttpClient
from tests.servers.openai_like import OpenAIServer, lognormal


@pytest.fixture
def threads() -> Callable[[], list[str]]:
    """Names of the threads that were started since."""
    before = set(threading.enumerate())
    return lambda: [thread.name for thread in threading.enumerate() if thread not in before]


def test_nothing_is_started_before_the_first_call(threads: Callable[[], list[str]]) -> None:
    made: list[Client] = []
    Gateway(lambda: made.append(Client()) or made[-1])  # type: ignore[func-returns-value]
    assert made == [] and threads() == []


def test_the_client_gets_the_model_without_its_provider() -> None:
    client = Client()
    gateway = Gateway(lambda: client)
    request = Request("0/0", "chat", ChatRequest("test:org/model:8b", (), 5), 1)
    assert gateway.perform([request])[0].value.text == "1"
    assert client.models == ["org/model:8b"]
    gateway.close()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("0/0", "code", CodeRequest("1", 1.0), 1), "answers chat requests, not 'code'"),
        (Request("0/0", "chat", ChatRequest("gpt", (), 5), 1), "'gpt' names no provider; write '<provider>:gpt'"),
    ],
)
def test_a_request_that_is_not_for_a_model_is_refused_before_any_is_made(request_: Request, message: str) -> None:
    client = Client()
    gateway = Gateway(lambda: client)
    with pytest.raises(ConfigError, match=message):
        gateway.perform([ask(), request_])
    with pytest.raises(ConfigError, match=message):
        asyncio.run(gateway.answer(request_))
    assert client.starts == 0


def test_an_event_loop_closes_its_own_client_when_it_ends(threads: Callable[[], list[str]]) -> None:
    made: list[Client] = []
    gateway = Gateway(lambda: made.append(Client()) or made[-1])  # type: ignore[func-returns-value]

    async def main(n: int) -> None:
        await asyncio.gather(*(gateway.answer(ask(i)) for i in range(n)))

    for n in (1, 20):
        asyncio.run(main(n))
        assert made[-1].closed == 1 and made[-1].starts == n
    assert len(made) == 2 and threads() == []


def test_close_ends_thread_and_client_and_may_be_repeated(threads: Callable[[], list[str]]) -> None:
    made: list[Client] = []
    gateway = Gateway(lambda: made.append(Client()) or made[-1])  # type: ignore[func-returns-value]
    gateway.close()
    gateway.perform([ask()])
    assert threads() == ["nextstep"]
    gateway.close()
    gateway.close()
    assert threads() == [] and made[0].closed == 1
    assert gateway.metrics().calls == 1  # the books stay
    assert gateway.perform([ask()])[0].value.text == "1000"  # anew
    gateway.close()
    assert len(made) == 2 and made[1].closed == 1 and threads() == []


def test_close_inside_an_event_loop_closes_that_loops_client() -> None:
    made: list[Client] = []
    gateway = Gateway(lambda: made.append(Client()) or made[-1])  # type: ignore[func-returns-value]

    async def main() -> None:
        await gateway.answer(ask())
        gateway.close()
        await gateway.answer(ask())  # anew
        await gateway.answer(ask())
        assert [(client.starts, client.closed) for client in made] == [(1, 1), (2, 0)]

    asyncio.run(main())
    assert [client.closed for client in made] == [1, 1]


def test_a_gateway_that_is_forgotten_ends_its_thread(threads: Callable[[], list[str]]) -> None:
    gateway = Gateway(Client)
    gateway.perform([ask()])
    del gateway
    gc.collect()
    assert threads() == []


def test_close_during_a_call_ends_the_call() -> None:
    gateway = Gateway(lambda: Client(hang))
    failures: list[BaseException] = []

    def work() -> None:
        try:
            gateway.perform([ask()])
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while gateway.metrics().in_flight == 0:
        thread.join(0.01)
    gateway.close()
    thread.join(DEADLINE_S)
    assert not thread.is_alive() and type(failures[0]).__name__ == "CancelledError"


class Sleeper:
    """Sleeps on a background loop and says when that has ended."""

    def __init__(self) -> None:
        self.loop, self.begun, self.ended = BackgroundLoop(), threading.Event(), threading.Event()

    async def sleep(self) -> None:
        self.begun.set()
        try:
            await asyncio.sleep(2 * DEADLINE_S)
        finally:
            self.ended.set()


def test_cancelling_the_wait_for_another_loop_cancels_what_runs_there() -> None:
    sleeper = Sleeper()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sleeper.loop.wait(sleeper.sleep()), 0.05)

    asyncio.run(main())
    assert sleeper.ended.wait(DEADLINE_S)
    sleeper.loop.close()


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise there")
def test_an_interrupt_of_the_wait_cancels_what_runs() -> None:
    class Interrupt(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupt

    sleeper = Sleeper()

    def send() -> None:
        sleeper.begun.wait(DEADLINE_S)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(Interrupt):
            sleeper.loop.run(sleeper.sleep())
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)
    assert sleeper.ended.wait(DEADLINE_S)
    sleeper.loop.close()


def test_an_interrupt_while_a_call_is_handed_over_cancels_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper, hand_over = Sleeper(), asyncio.BaseEventLoop.call_soon_threadsafe
    interrupts = iter([KeyboardInterrupt()])  # one only: the cancellation is handed over too

    def interrupted(loop: asyncio.BaseEventLoop, *args: Any, **kwargs: Any) -> Any:
        handle = hand_over(loop, *args, **kwargs)
        if threading.current_thread() is threading.main_thread():
            for interrupt in interrupts:
                assert sleeper.begun.wait(DEADLINE_S)
                raise interrupt
        return handle

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_soon_threadsafe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sleeper.loop.run(sleeper.sleep())
    assert sleeper.ended.wait(DEADLINE_S)
    sleeper.loop.close()


def test_a_cancelled_call_leaves_its_place_and_exact_books() -> None:
    async def main() -> None:
        client = Client(hang)
        gateway = Gateway(lambda: client, Limits(concurrency=2))
        tasks = [asyncio.create_task(gateway.answer(ask(i))) for i in range(6)]
        await asyncio.sleep(0.02)
        assert (gateway.metrics().in_flight, gateway.metrics().waiting) == (2, 4)
        for task in (tasks[0], tasks[5]):  # one under way, one in the queue
            task.cancel()
        await asyncio.sleep(0.02)
        metrics = gateway.metrics()
        assert (metrics.in_flight, metrics.waiting, metrics.attempts, metrics.unmetered) == (2, 2, 1, 1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        client.behave = script(done(prompt=3, completion=4))
        assert (await gateway.answer(ask())).usage == Usage(3, 4, calls=1)
        metrics = gateway.metrics()
        assert (metrics.in_flight, metrics.waiting, metrics.cancelled, metrics.calls) == (0, 0, 6, 1)
        assert (metrics.used, metrics.waste) == (Usage(3, 4, calls=1), Usage())

    asyncio.run(main())


def test_a_call_cancelled_between_attempts_is_not_tried_again() -> None:
    async def main() -> None:
        client = Client()

        async def forever(seconds: float) -> None:
            await asyncio.Event().wait()

        async def refuse(*_: object) -> Completion:
            raise ConnectionResetError("gone")

        client.behave = refuse
        gateway = Gateway(lambda: client, sleep=forever, clock=Clock())
        task = asyncio.create_task(gateway.answer(ask()))
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        metrics = gateway.metrics()
        assert (client.starts, metrics.in_flight, metrics.retries, metrics.cancelled) == (1, 0, 0, 1)
        assert metrics.faults == {"connection": 1}

    asyncio.run(main())


def test_cancellations_over_sockets_leave_no_call_and_no_bill_uncounted() -> None:
    async def main(gateway: Gateway) -> int:
        rng = random.Random(0)
        tasks = [asyncio.create_task(gateway.answer(ask(i))) for i in range(400)]
        await asyncio.sleep(0)  # all have begun
        async with asyncio.timeout(DEADLINE_S):
            while pending := [task for task in tasks if not task.done()]:
                for task in rng.sample(pending, min(8, len(pending))):
                    task.cancel()
                await asyncio.wait(rng.sample(pending, 1 + len(pending) // 50))
        return sum(task.cancelled() for task in tasks)

    with OpenAIServer(latency=lognormal(0.005, 0.7)) as server:
        gateway = Gateway(lambda: HttpClient(server.port), Limits(concurrency=50))
        cancelled = asyncio.run(main(gateway))
        metrics = gateway.metrics()
    assert 0 < cancelled < 400 and metrics.cancelled == cancelled
    assert metrics.calls + metrics.cancelled == 400 and (metrics.in_flight, metrics.waiting) == (0, 0)
    assert metrics.used.calls == metrics.calls
    assert metrics.used.calls <= len(server.bills) <= metrics.used.calls + metrics.unmetered


def test_a_spawned_process_gets_a_gateway_of_its_own() -> None:
    with OpenAIServer() as server:
        gateway = Gateway(partial(HttpClient, server.port), Limits(concurrency=3))
        mine = gateway.perform([ask()])
        copy = pickle.loads(pickle.dumps(gateway))
        assert copy.limits == gateway.limits and copy.perform([ask()]) == mine
        copy.close()
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(gateway.perform, ([ask()],)) == mine
        gateway.close()


FORK = """
import multiprocessing, sys, threading
from functools import partial
from nextstep_envs.providers.gateway import Gateway, Limits
from tests.envs.providers.calls import ask
from tests.servers.client import HttpClient

gateway = Gateway(partial(HttpClient, int(sys.argv[1])), Limits(concurrency=2))
first = gateway.perform([ask(i) for i in range(5)])

def child(close):
    assert gateway.metrics().calls == 0
    assert gateway.perform([ask(i) for i in range(5)]) == first
    if close:
        gateway.close()  # or its own finalizers do

for close in (True, False):
    process = multiprocessing.get_context("fork").Process(target=child, args=(close,))
    process.start()
    process.join(30)
    assert process.exitcode == 0, process.exitcode
    assert gateway.perform([ask(i) for i in range(5)]) == first
assert gateway.metrics().calls == 15
gateway.close()
assert threading.active_count() == 1
print("fine")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_starts_afresh_and_leaves_its_parent_alone(openai_server: OpenAIServer) -> None:
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", FORK, str(openai_server.port)]
    root = Path(__file__).parents[3]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=DEADLINE_S)
    assert (ended.stdout, ended.stderr) == ("fine\n", "")
