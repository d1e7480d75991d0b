"""Where a run's numbers go: TensorBoard, CSV and a progress bar."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Tracker:
    """Writes metrics of a phase ("warm_start", "train", "dev") by step.

    One CSV file a phase and one TensorBoard log. A resumed run drops the rows after `resume_step`, which it will make
    again.
    """

    def __init__(self, folder: Path, resume_step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and only runs with a folder need it

        self.folder, self.resume_step = folder, resume_step
        folder.mkdir(parents=True, exist_ok=True)
        self._board: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=resume_step + 1)
        self._columns: dict[str, list[str]] = {}

    def log(self, phase: str, step: int, metrics: Mapping[str, float]) -> None:
        """Add one row. Metrics that appear later get a column of their own; the file is rewritten for it."""
        for name, value in metrics.items():
            self._board.add_scalar(f"{phase}/{name}", value, step)
        self._board.flush()
        path = self.path(phase)
        if phase not in self._columns:
            self._begin(phase, path)
        columns = self._columns[phase]
        new = [name for name in metrics if name not in columns]
        row = {"step": step, **metrics}
        if new or not path.exists():
            columns += new
            self._write(path, columns, [*read_rows(path), row])
            return
        with path.open("a", newline="") as file:
            csv.DictWriter(file, columns).writerow(row)

    def path(self, phase: str) -> Path:
        """The CSV file of a phase."""
        return self.folder / ("metrics.csv" if phase == "train" else f"{phase}.csv")

    def close(self) -> None:
        """Finish the TensorBoard log."""
        self._board.close()

    def _begin(self, phase: str, path: Path) -> None:
        rows = [row for row in read_rows(path) if int(row["step"]) <= self.resume_step]
        self._columns[phase] = list(rows[0]) if rows else ["step"]
        if rows:
            self._write(path, self._columns[phase], rows)
        else:
            path.unlink(missing_ok=True)

    @staticmethod
    def _write(path: Path, columns: list[str], rows: list[Any]) -> None:
        temporary = path.with_suffix(".tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        temporary.replace(path)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class Bar:
    """A progress bar that shows itself before the first step ends. Where there is no terminal, it prints lines."""

    def __init__(self, quiet: bool = False) -> None:
        columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(
            *columns,
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            disable=quiet,
            refresh_per_second=2,
            transient=True,
        )
        self._task: Any = None
        self._lines = not self._progress.console.is_terminal and not quiet
        self._name, self._done, self._total, self._every = "", 0, 0, 1

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._progress.stop()

    def begin(self, name: str, total: int, done: int = 0, every: int = 10) -> None:
        """Start a phase of so many steps, with a line after `every` of them."""
        self._task = self._progress.add_task(name, total=total, completed=done, note="")
        self._name, self._done, self._total, self._every = name, done, total, every
        if self._lines:
            self._progress.console.print(f"{name}: {total} steps")

    def step(self, note: str = "", count: int = 1) -> None:
        """One step, or several, are done."""
        self._progress.update(self._task, advance=count, note=note)
        before, self._done = self._done, self._done + count
        if self._lines and (self._done // self._every > before // self._every or self._done == self._total):
            self._progress.console.print(f"{self._name} {self._done}/{self._total}  {note}")
