"""From a plain-data worker spec to the workers of an environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from nextstep_envs.errors import ConfigError
from nextstep_envs.requests import Actor, Request, Result
from nextstep_envs.types import Budget
from nextstep_envs.workers.base import WorkerSpec
from registry import components

WorkersArg = str | Mapping[str, Any]


class Provider(Protocol):
    """What answers requests."""

    def perform(self, requests: Sequence[Request]) -> Sequence[Result]:
        """One result for each request, in order; an outage is a result with an error."""
        ...

    def close(self) -> None:
        """Release clients."""
        ...


@dataclass(frozen=True)
class Crew:
    """Everybody who can be given work.

    Attributes:
        specs: the whole pool, in slot order.
        actors: how each of them works, by worker_id.
        provider: answers their requests; None where they never wait.
    """

    specs: tuple[WorkerSpec, ...]
    actors: Mapping[str, Actor]
    provider: Provider | None = None


def build_crew(workers: WorkersArg, budget: Budget) -> Crew:
    """Build the workers named by `workers`.

    Args:
        workers: a kind ("scripted", "fake"), a mapping `{"kind": ..., "pool": [...], settings}`, or the path of a
            YAML file that holds such a mapping. `pool` lists `WorkerSpec` fields; without it the default four.
        budget: of the episode; `call_tokens` bounds a completion.

    Raises:
        ConfigError: an unknown kind, a missing file or a malformed pool, naming it.
    """
    settings = dict(_settings(workers))
    kind = settings.pop("kind", None)
    if not isinstance(kind, str):
        raise ConfigError(f'workers={workers!r} has no "kind"; name one of {", ".join(components.names("worker"))}')
    specs = _pool(settings.pop("pool", None))
    make: Callable[..., Crew] = components.load("worker", kind)
    try:
        return make(specs, budget, **settings)
    except TypeError as error:
        if "unexpected keyword" in str(error):
            raise ConfigError(f"workers of kind {kind!r} take no such setting: {error}") from error
        raise


def _settings(workers: WorkersArg) -> Mapping[str, Any]:
    if isinstance(workers, Mapping):
        return workers
    if not isinstance(workers, str):
        raise ConfigError(f"workers={workers!r} must be a name, a mapping or the path of a YAML file")
    if not workers.endswith((".yaml", ".yml")):
        return {"kind": workers}
    path = Path(workers)
    if not path.is_file():
        raise ConfigError(f"workers={workers!r}: there is no such file")
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"workers={workers!r} is not valid YAML: {error}") from error
    if not isinstance(value, Mapping):
        raise ConfigError(f"workers={workers!r} must hold a mapping with at least `kind`")
    return value


def _pool(entries: Any) -> tuple[WorkerSpec, ...]:
    if entries is None:
        from nextstep_envs.workers.pool import DEFAULT_POOL

        return DEFAULT_POOL
    if not isinstance(entries, list | tuple) or not entries:
        raise ConfigError(f"pool={entries!r} must be a non-empty list of workers")
    specs = tuple(_spec(i, entry) for i, entry in enumerate(entries))
    ids = [spec.worker_id for spec in specs]
    if len(set(ids)) < len(ids):
        raise ConfigError(f"pool names a worker twice: {', '.join(ids)}")
    domains = [tuple(domain for domain, _ in spec.skills) for spec in specs]
    if len(set(domains)) > 1:
        raise ConfigError(f"every worker of a pool needs the same skill domains, got {domains}")
    return specs


def _spec(index: int, entry: Any) -> WorkerSpec:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"pool[{index}]={entry!r} must be a mapping of WorkerSpec fields")
    fields = dict(entry)
    skills = fields.pop("skills", {})
    try:
        return WorkerSpec(**fields, skills=tuple((str(k), float(v)) for k, v in dict(skills).items()))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"pool[{index}] is malformed: {error}") from error


def fake_crew(
    specs: tuple[WorkerSpec, ...], budget: Budget, invalid_rate: float = 0.0, failure_rate: float = 0.0
) -> Crew:
    """Chat workers whose model is the fake provider (kind "fake")."""
    from nextstep_envs.providers.fake import FakeProvider
    from nextstep_envs.workers.chat import ChatWorker

    actors = {s.worker_id: ChatWorker(f"fake-{s.worker_id}", s.description, budget.call_tokens) for s in specs}
    return Crew(specs, actors, FakeProvider(invalid_rate, failure_rate))
