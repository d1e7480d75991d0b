"""How close the concurrent driver comes to the least time that a set of episodes can take.

256 episodes each run one DAG of ten nodes whose workers make two to five calls in a row. Calls take simulated times,
log-normal with a median of 100 ms, that follow from each request's seed: so the longest critical path, a first-come,
first-served schedule and the lock step of the vector environment are known beforehand, to the microsecond, and what is
measured can be held against them. The last line is one JSON object.

ratio_to_bound: wall time with up to 2,000 calls under way / the longest critical path of all episodes.
ratio_to_fifo_N: wall time with at most N calls under way / the length of that schedule with N servers.
cpu_ms_per_call: of the process, episodes, ledgers, messages and infos included; the largest of the three.
sleep_cpu_ms_per_call: what an event loop takes for the same sleeps and nothing else, beside that largest one. An idle
processor wakes up slowly: this part grows as calls get rarer, and no driver can avoid it.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import random
import statistics
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium as gym

import nextstep_envs  # noqa: F401
from nextstep_envs.concurrent import ConcurrentEnv
from nextstep_envs.drivers import batched, one_by_one
from nextstep_envs.episode import State
from nextstep_envs.graph import critical_path
from nextstep_envs.providers.fake import FakeProvider
from nextstep_envs.requests import Ask, ChatRequest, Done, Job, Message, Request, Result
from nextstep_envs.seeding import stream
from nextstep_envs.setup import Setup
from nextstep_envs.types import Budget, Usage
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.workers.crew import Crew
from registry import components

ID = "NextStep/WebShop-DAG-v0"
NODES, ROOTS, CALLS = 10, (5, 8), (2, 5)  # nodes of a DAG; how many depend on none; calls of a node
ROOM = {"tokens": 10**9, "calls": 10**6, "env_steps": 10**6}


class Caller:
    """A worker that makes as many calls as its subtask says and does nothing in the world."""

    def advance(self, job: Job, memory: Any, result: Result | None, rng: random.Random) -> Ask | Done:
        """Ask, ask again, answer."""
        made = memory or 0
        if made == int(job.subtask.split()[0]):
            return Done("done")
        chat = ChatRequest("fake:caller", (Message("system", "A caller."), Message("user", job.subtask)), 64)
        return Ask("chat", chat, Usage(16, 64, 1), made + 1)


def caller_crew(specs: tuple[WorkerSpec, ...], budget: Budget, median_s: float = 0.1, sigma: float = 1.0) -> Crew:
    """Callers behind the fake provider."""
    provider = FakeProvider(latency_s=median_s, latency_sigma=sigma)
    return Crew(specs, {spec.worker_id: Caller() for spec in specs}, provider)


def whole_dag(rng: random.Random, agents: Sequence[str]) -> str:
    """A random DAG as one action."""
    roots = rng.randint(*ROOTS)
    nodes = [
        {
            "subtask": f"{rng.randint(*CALLS)} calls",
            "agent": rng.choice(agents),
            "depends_on": [] if i < roots else rng.sample(range(i), rng.randint(1, 3)),
        }
        for i in range(NODES)
    ]
    return json.dumps({"dag": nodes})


class Chain(NamedTuple):
    """A node of an episode: the times of its calls in seconds, one after the other, and the nodes before it."""

    calls: tuple[float, ...]
    after: tuple[int, ...]


Plan = dict[int, Chain]


def plans(setup: Setup, actions: Sequence[str], latency: Any) -> list[Plan]:
    """What every episode will do, found by playing it without waiting."""
    provider, found = FakeProvider(), []
    for seed, action in enumerate(actions):
        asked: list[Request] = []

        def perform(requests: Sequence[Request], asked: list[Request] = asked) -> Sequence[Result]:
            asked += requests
            return provider.perform(requests)

        env = ConcurrentEnv(setup, asyncio.Semaphore())
        env.reset(seed)
        env.episode.act(action)
        one_by_one(env.episode, perform)
        state: State = env.episode.state
        assert all(call.record and not call.record.error for call in state.calls.values()) and len(state.calls) == NODES
        times: dict[int, list[float]] = {i: [] for i in state.calls}
        for request in asked:
            times[int(request.id.partition("/")[0])].append(latency(request))
        found.append({i: Chain(tuple(times[i]), call.step.after) for i, call in state.calls.items()})
    return found


def longest_path(episodes: Sequence[Plan]) -> float:
    """Seconds that the slowest episode takes if nothing ever waits."""
    return max(
        critical_path({i: node.after for i, node in plan.items()}, {i: sum(node.calls) for i, node in plan.items()})[1]
        for plan in episodes
    )


def first_come_first_served(episodes: Sequence[Plan], servers: int) -> float:
    """Seconds until all is done where at most `servers` calls are under way and the one that waits longest is next."""
    queue = deque((e, i, 0) for e, plan in enumerate(episodes) for i, node in plan.items() if not node.after)
    missing = [{i: len(node.after) for i, node in plan.items()} for plan in episodes]
    working: list[tuple[float, int, tuple[int, int, int]]] = []
    now, begun = 0.0, 0
    while queue or working:
        while queue and len(working) < servers:
            episode, node, turn = queue.popleft()
            heapq.heappush(working, (now + episodes[episode][node].calls[turn], begun, (episode, node, turn)))
            begun += 1
        now, _, (episode, node, turn) = heapq.heappop(working)
        plan = episodes[episode]
        if turn + 1 < len(plan[node].calls):
            queue.append((episode, node, turn + 1))
            continue
        for later, chain in plan.items():
            if node in chain.after:
                missing[episode][later] -= 1
                if not missing[episode][later]:
                    queue.append((episode, later, 0))
    return now


def lock_step(setup: Setup, actions: Sequence[str], latency: Any) -> float:
    """Seconds that the vector environment's driver waits: every batch is as slow as its slowest call."""
    provider, waited = FakeProvider(), 0.0

    def perform(requests: Sequence[Request]) -> Sequence[Result]:
        nonlocal waited
        waited += max(map(latency, requests))
        return provider.perform(requests)

    envs = [ConcurrentEnv(setup, asyncio.Semaphore()) for _ in actions]
    for seed, (env, action) in enumerate(zip(envs, actions, strict=True)):
        env.reset(seed)
        env.episode.act(action)
    batched([env.episode for env in envs], perform)
    return waited


def measure(setup: Setup, actions: Sequence[str], limit: int) -> tuple[float, float, int]:
    """Wall seconds, CPU seconds and the most calls under way of one run with at most `limit` calls under way."""
    provider = setup.crew.provider
    assert isinstance(provider, FakeProvider)
    under_way = most = 0
    answer = provider.answer

    async def counted(request: Request) -> Result:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        result = await answer(request)
        under_way -= 1
        return result

    async def play(env: ConcurrentEnv, action: str) -> None:
        *_, info = await env.step(action)
        assert info["outcome"] is not None and len(info["records"]) == NODES

    async def run() -> tuple[float, float]:
        slots = asyncio.Semaphore(limit)
        envs = [ConcurrentEnv(setup, slots) for _ in actions]
        for seed, env in enumerate(envs):
            env.reset(seed)
        wall, cpu = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as group:
            for env, action in zip(envs, actions, strict=True):
                group.create_task(play(env, action))
        return time.perf_counter() - wall, time.process_time() - cpu

    provider.answer = counted  # type: ignore[method-assign]
    try:
        return *asyncio.run(run()), most
    finally:
        provider.answer = answer  # type: ignore[method-assign]


def sleep_only(episodes: Sequence[Plan], limit: int) -> float:
    """CPU seconds of an event loop that sleeps as long as the calls take, at most `limit` at once, and does no more."""
    times = iter([seconds for plan in episodes for node in plan.values() for seconds in node.calls])

    async def server() -> None:
        for seconds in times:
            await asyncio.sleep(seconds)

    async def run() -> float:
        cpu = time.process_time()
        async with asyncio.TaskGroup() as group:
            for _ in range(limit):
                group.create_task(server())
        return time.process_time() - cpu

    return asyncio.run(run())


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3, help="of every run; medians are reported")
    parser.add_argument("--median", type=float, default=0.1, help="of a call's time, in seconds")
    parser.add_argument("--sigma", type=float, default=1.0, help="standard deviation of the logarithm of that time")
    arguments = parser.parse_args()
    components.register("worker", "caller", "__main__:caller_crew")
    workers = {"kind": "caller", "median_s": arguments.median, "sigma": arguments.sigma}
    env = gym.make(ID, interface="text", split="all", workers=workers, budget=ROOM, max_parallel=NODES, max_replans=0)
    setup: Setup = env.unwrapped.setup  # type: ignore[attr-defined]
    agents = [spec.worker_id for spec in setup.crew.specs]
    actions = [whole_dag(stream(seed, "dag"), agents) for seed in range(arguments.episodes)]
    latency = setup.crew.provider.latency  # type: ignore[union-attr]
    episodes = plans(setup, actions, latency)
    calls = sum(len(node.calls) for plan in episodes for node in plan.values())
    waiting = sum(sum(node.calls) for plan in episodes for node in plan.values())
    report: dict[str, Any] = {"benchmark": "concurrency", "episodes": len(actions), "calls": calls}
    report |= {"cpu_ms_per_call": 0.0, "sleep_cpu_ms_per_call": 0.0}
    report["most_calls_under_way"] = 0
    print(f"{len(actions)} episodes, {calls} calls, one after the other {waiting:.0f} s", flush=True)
    for name, limit, bound in (
        ("bound", 2000, longest_path(episodes)),
        ("fifo_128", 128, first_come_first_served(episodes, 128)),
        ("fifo_64", 64, first_come_first_served(episodes, 64)),
    ):
        runs, sleeps = [], []
        for _ in range(arguments.repeats):
            runs.append(measure(setup, actions, limit))
            sleeps.append(1000 * sleep_only(episodes, limit) / calls)
        wall = statistics.median(run[0] for run in runs)
        cpu = statistics.median(1000 * run[1] / calls for run in runs)
        report[f"ratio_to_{name}"] = round(wall / bound, 4)
        report[f"all_ratios_to_{name}"] = [round(run[0] / bound, 4) for run in runs]
        if cpu > report["cpu_ms_per_call"]:
            report |= {"cpu_ms_per_call": round(cpu, 4), "sleep_cpu_ms_per_call": round(statistics.median(sleeps), 4)}
        report["most_calls_under_way"] = max(report["most_calls_under_way"], runs[0][2])
        print(f"at most {limit:>4} at once: {wall:6.2f} s of {bound:6.2f} s, {cpu:.3f} ms CPU a call", end="")
        print(f", of it {statistics.median(sleeps):.3f} for sleeping alone", flush=True)
    lock = lock_step(setup, actions, latency)
    report |= {"longest_critical_path_s": round(longest_path(episodes), 3), "lock_step_s": round(lock, 3)}
    report["lock_step_ratio_to_bound"] = round(lock / longest_path(episodes), 2)
    print(f"lock step of the vector environment: {lock:.2f} s of waiting")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
