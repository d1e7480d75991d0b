"""One rollout from settings to summary: episodes side by side, each written when it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from rich.console import Console

from nextstep_agents.rollouts.books import Account, Spent, of_records
from nextstep_agents.rollouts.brake import CEILING, Brake, on_interrupt
from nextstep_agents.rollouts.folder import Folder
from nextstep_agents.rollouts.players import Cast, PolicyOutage, make_cast, wants_text
from nextstep_agents.rollouts.progress import Meter
from nextstep_agents.rollouts.settings import RolloutSettings
from nextstep_agents.rollouts.stage import Attempt, Session, Stage, attempts, open_stage
from nextstep_agents.rollouts.tally import Tally
from nextstep_agents.rollouts.traffic import terms
from wrappers.record import Trace


def rollout(settings: RolloutSettings, console: Console | None = None) -> dict[str, Any]:
    """Play the episodes of a run, or those of them that are still to do, and write the folder.

    Args:
        settings: of the run.
        console: for progress; standard error by default.

    Returns:
        The summary, as in `summary.json`: `stopped` is "" if all episodes were played, else "usd_ceiling" or
        "interrupted"; `out` is the folder.

    Raises:
        ConfigError: a setting is wrong; nothing was spent.
        DataError: the folder to resume is damaged.
    """
    console = console or Console(stderr=True)
    stage = open_stage(settings, wants_text(settings.policy))
    try:
        cast = make_cast(settings, stage)
        try:
            folder = Folder(settings)
            with folder.claimed():
                return _resume(settings, stage, cast, folder, console)
        finally:
            cast.close()
    finally:
        stage.close()


def _resume(settings: RolloutSettings, stage: Stage, cast: Cast, folder: Folder, console: Console) -> dict[str, Any]:
    planned = attempts(settings, stage.task_ids)
    before = folder.summary()
    tally = Tally(planned, stage.cost_names, Account.read(before.get("spent", {}).get("discarded")))
    for attempt, line in folder.finished(planned):
        tally.add(attempt, line)
    waiting = [attempt for attempt in planned if attempt not in tally]
    if settings.resume:
        console.print(f"{folder.path}: {tally.lines} of {len(planned)} episodes are done", highlight=False)
    brake, wall, cpu = Brake(), time.monotonic(), time.process_time()
    stopped = "error"
    try:
        with Meter(console, len(planned), tally.lines) as meter:
            asyncio.run(_Run(settings, stage, cast, folder, tally, brake, meter).all(waiting))
        stopped = brake.reason if tally.lines < len(planned) else ""
    finally:
        summary = {
            "out": str(folder.path),
            "env": settings.env,
            "policy": settings.policy,
            "seed": settings.seed,
            "planned": len(planned),
            "stopped": stopped,
            **tally.summary(settings.seed),
            "traffic": {
                who: {name: terms(metrics) for name, metrics in of.traffic().items()}
                for who, of in (("workers", stage), ("policy", cast))
            },
            "wall_s": time.monotonic() - wall,
            "cpu_s": time.process_time() - cpu,
        }
        folder.write_summary(summary)
    return summary


class _Run:
    """What the episodes of a run share."""

    def __init__(
        self,
        settings: RolloutSettings,
        stage: Stage,
        cast: Cast,
        folder: Folder,
        tally: Tally,
        brake: Brake,
        meter: Meter,
    ) -> None:
        self.settings, self.stage, self.cast, self.folder = settings, stage, cast, folder
        self.tally, self.brake, self.meter = tally, brake, meter

    async def all(self, waiting: list[Attempt]) -> None:
        """Play all of them."""
        slots = asyncio.Semaphore(self.settings.concurrency)
        sessions = [self.stage.session(slots) for _ in range(min(self.settings.concurrency, len(waiting)))]
        with on_interrupt(self.brake, self.settings.on_interrupt == "discard", self.meter.say):
            await _side_by_side(waiting, [partial(self.one, session, slots) for session in sessions], self.brake)

    async def one(self, session: Session, slots: asyncio.Semaphore, attempt: Attempt) -> None:
        """Play one, write it down."""
        ceiling = self.settings.usd_ceiling
        if ceiling is not None and self.tally.usd >= ceiling:
            self.brake.stop(CEILING)
            return
        try:
            line = await self._play(attempt, session, slots)
        except asyncio.CancelledError:
            self.tally.discard(attempt)
            raise
        self.folder.add(line)
        self.tally.add(attempt, line)
        self.meter.show(self.tally.lines, self.tally.usd, self.tally.usd_to_come, self.tally.masked)

    async def _play(self, attempt: Attempt, session: Session, slots: asyncio.Semaphore) -> dict[str, Any]:
        player = self.cast.make(attempt, slots)
        observation, info = session.reset(attempt.seed, attempt.options)
        trace = Trace(self.settings.env, attempt.seed, attempt.options, observation, info)
        spent, over = Spent(), False

        def note(records: Iterable[Any]) -> None:
            nonlocal spent
            workers = spent.plus(of_records(records))
            spent = workers._replace(orchestrator=Account.of(player.usage), orchestrator_waste=Account.of(player.waste))
            self.tally.note(attempt, spent)

        while not over:
            try:
                action = await player.act(observation, info)
            except PolicyOutage as outage:
                error = {"kind": "outage", "message": f"policy: {outage}"}
                trace.end(False, True, {"error": error, "mask_sample": True, "books": {}})
                break
            except asyncio.CancelledError:
                note(())
                raise
            try:
                observation, reward, terminated, truncated, info = await session.step(action)
            except asyncio.CancelledError:
                note(session.abandon()["records"])
                raise
            trace.add(action, observation, reward, terminated, truncated, info)
            note(info["records"])
            over = terminated or truncated
        note(())
        own = {name: account.terms() for name, account in spent._asdict().items() if name.startswith("orchestrator")}
        trace.line["books"] |= {name: terms for name, terms in own.items() if any(terms.values())}
        return trace.line


async def _side_by_side(
    waiting: Iterable[Attempt], players: list[Callable[[Attempt], Awaitable[None]]], brake: Brake
) -> None:
    """Every player takes the next attempt when it has finished one, until none is left or the brake is pulled."""
    queue = iter(waiting)

    async def go_on(play: Callable[[Attempt], Awaitable[None]]) -> None:
        for attempt in queue:
            if brake.reason:
                return
            await play(attempt)

    tasks: list[asyncio.Task[None]] = []

    def cut() -> None:
        for task in tasks:
            task.cancel()

    brake.cut = cut
    try:
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(go_on(play)) for play in players]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
