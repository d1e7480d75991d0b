"""From a plain-data description to the workers of an environment."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nextstep_envs.errors import ConfigError, check_choice
from nextstep_envs.providers.base import Provider
from nextstep_envs.requests import Actor
from nextstep_envs.types import Budget
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.workers.crew_spec import read_pool
from nextstep_envs.worlds.base import World
from registry import components

WorkersArg = str | Mapping[str, Any]
COMMON = ("kind", "pool", "model", "models")  # settings of every kind
RECORDED = "recorded"


@dataclass(frozen=True)
class Crew:
    """Everybody who can be given work.

    Attributes:
        specs: the whole pool, in slot order.
        actors: how each of them works, by worker_id.
        provider: answers their requests; None where they never wait.
        whole: whether all of them are there in every episode, unless `pool_size` says otherwise.
    """

    specs: tuple[WorkerSpec, ...]
    actors: Mapping[str, Actor]
    provider: Provider | None = None
    whole: bool = False


def build_crew(workers: WorkersArg, budget: Budget, world: World | None = None) -> Crew:
    """Build the workers named by `workers`.

    Args:
        workers: one of

            - a kind: "scripted", "fake", "recorded";
            - "recorded:<folder>": the models whose answers are recorded there (see `recorded.load.load_answers`);
            - "<provider>:<model>", such as "openai:gpt-4o-mini": the default pool, each worker a chat with that model;
            - "replay:<file>": the crew that recorded the file (see `store` in `workers.chat_crew`), answering from it;
            - a mapping: `kind`, `pool` (a list of `WorkerSpec` fields), `model` (of every worker that names none),
              `models` (prices by model), and what the kind takes (see `workers.chat_crew`);
            - the path of a YAML file that holds such a mapping.
        budget: of the episode; `call_tokens` bounds a completion.
        world: where they work; recorded workers answer its questions.

    Raises:
        ConfigError: an unknown kind or setting, a missing file or a malformed pool, naming it.
    """
    settings = dict(_settings(workers))
    kind = settings.get("kind")
    if not isinstance(kind, str):
        raise ConfigError(f"workers: kind={kind!r} must be one of {', '.join(components.names('worker'))}")
    make: Callable[..., Crew] = components.load("worker", kind)
    if kind == RECORDED:
        return make(world)
    own = list(inspect.signature(make).parameters)[2:]  # after specs and budget
    for name in settings:
        check_choice(f"setting of workers of kind {kind!r}", name, (*COMMON, *own))
    specs = read_pool(settings.get("pool"), settings.get("model", ""), settings.get("models"))
    return make(specs, budget, **{name: value for name, value in settings.items() if name in own})


def kind_of(workers: WorkersArg) -> Any:
    """The kind of workers, as yet unchecked."""
    return _settings(workers).get("kind")


def place_of(workers: WorkersArg) -> Mapping[str, Any]:
    """What workers say about the world that they are for: recorded ones, where its data and its pool are."""
    settings = _settings(workers)
    if settings.get("kind") != RECORDED:
        return {}
    from nextstep_envs.recorded.crew import recorded_place

    return recorded_place(settings)


def _settings(workers: WorkersArg) -> Mapping[str, Any]:
    if isinstance(workers, Mapping):
        return workers
    if not isinstance(workers, str):
        raise ConfigError(f"workers={workers!r} must be a name, a mapping or the path of a YAML file")
    if workers.endswith((".yaml", ".yml")):
        return _read_yaml(workers)
    name, colon, rest = workers.partition(":")
    if not colon:
        return {"kind": workers}
    if name == RECORDED:
        return {"kind": RECORDED, "data_dir": rest}
    return _replayed(rest) if name == "replay" else {"kind": "chat", "model": workers}


def _read_yaml(workers: str) -> Mapping[str, Any]:
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


def _replayed(path: str) -> Mapping[str, Any]:
    """The settings of the one crew that recorded a store."""
    from nextstep_envs.providers.store import Store

    store = Store(path, exists=True)
    crews = store.crews()
    store.close()
    if len(crews) == 1:
        return {**crews[0], "replay": path}
    who = "; ".join(", ".join(dict.fromkeys(str(entry["model"]) for entry in crew["pool"])) for crew in crews)
    raise ConfigError(
        f"{path!r} was recorded by {len(crews)} crews ({who}); say which with a mapping: the settings of that crew and "
        f"'replay': {path!r}"
    )
