"""How far a rollout is: episodes, dollars so far, time and dollars to the end. A bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINES = 10  # about so many where there is no terminal


class Meter:
    """Shows progress on a console; the bar is gone when it is left.

    Args:
        console: where; lines instead of a bar where it is no terminal.
        total: episodes. done: those that an earlier part of the run has finished.
    """

    def __init__(self, console: Console, total: int, done: int) -> None:
        self._console, self._total, self._lines = console, total, not console.is_terminal
        self._every = max(total // LINES, 1)
        self._done, self._began = done, time.monotonic()
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._progress = Progress(
            TextColumn("episodes"),
            *columns,
            TextColumn("{task.fields[note]}"),
            console=console,
            refresh_per_second=2,
            transient=True,
            disable=self._lines,
        )
        self._task: Any = self._progress.add_task("", total=total, completed=done, note="")

    def __enter__(self) -> Meter:
        self._progress.start()
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._progress.stop()

    def show(self, done: int, usd: float, usd_to_come: float, masked: int) -> None:
        """After an episode."""
        note = f"${usd:.4f} spent, about ${usd_to_come:.4f} to come" + (f", {masked} masked" if masked else "")
        self._progress.update(self._task, completed=done, note=note)
        if self._lines and (done % self._every == 0 or done == self._total):
            seconds = (time.monotonic() - self._began) / (done - self._done) * (self._total - done)
            self.say(f"episodes {done}/{self._total}  {note}, about {seconds:.0f} s left")

    def say(self, text: str) -> None:
        """A line of its own."""
        self._console.print(text, highlight=False, soft_wrap=True)
