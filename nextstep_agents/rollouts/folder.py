"""The folder of a rollout: settings, a line for each finished episode, a summary. It may be killed at any moment."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nextstep_agents.rollouts.settings import RolloutSettings
from nextstep_agents.rollouts.stage import Attempt
from nextstep_envs.errors import ConfigError, DataError
from nextstep_envs.providers.building import answer_settings
from nextstep_envs.providers.secrets import redact
from wrappers.jsonl import append_line, read_lines

if sys.platform != "win32":
    import fcntl

# A resumed run may change these: they decide neither what an episode is nor what becomes of it.
FREE = ("out", "resume", "episodes", "concurrency", "usd_ceiling", "on_interrupt")


class Folder:
    """Where a rollout is written.

    Files: `settings.json`; `episodes.jsonl`, a line for each finished episode in the order in which they ended (as
    `wrappers.RecordTrace` writes them); `summary.json`.

    Args:
        settings: of the run.

    Raises:
        ConfigError: the folder holds a run already, or, with `resume`, none or one with other settings.
    """

    def __init__(self, settings: RolloutSettings) -> None:
        self.path = Path(settings.out or time.strftime("runs/%Y-%m-%d_%H-%M-%S"))
        self.episodes = self.path / "episodes.jsonl"
        self._settings = self.path / "settings.json"
        stored = _stored(settings)
        if settings.resume:
            self._check_same(stored)
        elif self._settings.exists() or self.episodes.exists():
            raise ConfigError(
                f"out={str(self.path)!r} already holds a run; choose another folder, or go on with it: resume=true"
            )
        self._text = json.dumps(stored, indent=1) + "\n"

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Make the folder, and keep other processes from writing to it: two runs would double episodes."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as lock:
            if sys.platform != "win32":
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    raise ConfigError(f"out={str(self.path)!r}: another process is writing this run") from error
            _write(self._settings, self._text)
            yield

    def finished(self, attempts: Sequence[Attempt]) -> Iterator[tuple[Attempt, dict[str, Any]]]:
        """The episodes that are done and their lines, in order; what a kill left of a line is ignored.

        Raises:
            DataError: a line is damaged, is there twice, or is none of this run's episodes.
        """
        known = {(a.seed, a.sample): a for a in attempts}
        found: set[Attempt] = set()
        lines = read_lines(self.episodes) if self.episodes.exists() else iter(())
        while True:
            where = f"{str(self.episodes)!r}, line {len(found) + 1}"
            try:
                line = next(lines, None)
                attempt = line and known.get((line["seed"], line["sample"]))
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise DataError(f"{where} is damaged: {error!r}") from error
            if line is None:
                return
            if attempt is None:
                raise DataError(f"{where}: none of the {len(attempts)} episodes of this run")
            if attempt in found:
                raise DataError(f"{where}: the episode is there twice (seed {attempt.seed})")
            found.add(attempt)
            yield attempt, line

    def add(self, line: Mapping[str, Any]) -> None:
        """Add a finished episode; when this returns it is on disk."""
        append_line(self.episodes, line)

    def summary(self) -> dict[str, Any]:
        """The summary of the last time this run stopped in an orderly way; {} if it never did."""
        path = self.path / "summary.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Replace the summary."""
        _write(self.path / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n")

    def _check_same(self, stored: Mapping[str, Any]) -> None:
        if not self._settings.exists():
            raise ConfigError(f"out={str(self.path)!r} holds no run to resume")
        before = json.loads(self._settings.read_text(encoding="utf-8"))
        changed = [
            f"{name}={value!r} (was {before.get(name)!r})"
            for name, value in stored.items()
            if name not in FREE and value != before.get(name)
        ]
        if changed:
            raise ConfigError(f"the run in {str(self.path)!r} has other settings; repeat them: {', '.join(changed)}")


def _stored(settings: RolloutSettings) -> dict[str, Any]:
    """The settings as plain data, without secrets and without what does not change a model's answers."""
    fields = asdict(settings)
    fields["llm"]["provider"] = answer_settings(settings.llm.provider)
    plain: dict[str, Any] = json.loads(redact(json.dumps(fields)))
    return plain


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
