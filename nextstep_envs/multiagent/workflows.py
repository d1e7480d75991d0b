"""Who acts next in a pipeline: roles as data, one function that puts them in order, and users' own functions."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from nextstep_envs.errors import ConfigError, check_choice
from nextstep_envs.types import Usage

ANSWER, INVALID, REFUSED = "answer", "invalid", "refused"
_AGENT = re.compile(r"[a-z]+_[0-9]+")


@dataclass(frozen=True, slots=True)
class Role:
    """One agent of a pipeline.

    Attributes:
        agent: its name, such as "searcher_0".
        prompt: what it is told.
        turns: the most turns before the next role follows.
        calls: the kinds of world calls it may make.
        sees: roles whose latest hand-over it reads.
        sees_task: whether it sees the task.
    """

    agent: str
    prompt: str
    turns: int = 1
    calls: tuple[str, ...] = ()
    sees: tuple[str, ...] = ()
    sees_task: bool = True


@dataclass(frozen=True, slots=True)
class Turn:
    """The next turn: what a workflow function returns.

    Attributes:
        agent: whose turn it is.
        calls: the kinds of world calls it may make; it may always hand over.
        sees: roles whose latest hand-over it reads.
        sees_task: whether it sees the task.
        left: turns that it has left, this one included, as far as that is known.
    """

    agent: str
    calls: tuple[str, ...] = ()
    sees: tuple[str, ...] = ()
    sees_task: bool = True
    left: int = 1


@dataclass(frozen=True, slots=True)
class Taken:
    """A turn that was taken: what a workflow function reads.

    Attributes:
        turn: as the workflow gave it.
        act: "answer" (it handed over), the kind of its world call, "invalid" (nothing ran) or "refused" (the budget
            did not allow it, and nothing ran).
        text: the answer, the call, or what was wrong.
        wrote: the action as written.
        view: what the world showed after a call, else "".
        context: the hand-overs that it read.
        reads: numbers of the turns in which they were made.
        usage: what the turn consumed.
    """

    turn: Turn
    act: str
    text: str
    wrote: str
    view: str = ""
    context: tuple[str, ...] = ()
    reads: tuple[int, ...] = ()
    usage: Usage = Usage()

    @property
    def agent(self) -> str:
        """Whose turn it was."""
        return self.turn.agent


NextTurn = Callable[[tuple[Taken, ...]], Turn | None]
"""A workflow: the turns taken so far give the next one, or None for the end. Pure."""


def one_after_another(roles: Sequence[Role], taken: tuple[Taken, ...]) -> Turn | None:
    """The workflow of a pipeline that is data: each role acts until it hands over or its turns are used up."""
    at = 0
    if taken:
        last = taken[-1]
        if last.act != ANSWER and last.turn.left > 1:
            return replace(last.turn, left=last.turn.left - 1)
        at = 1 + next(i for i, role in enumerate(roles) if role.agent == last.agent)
    if at == len(roles):
        return None
    role = roles[at]
    return Turn(role.agent, role.calls, role.sees, role.sees_task, role.turns)


def make_workflow(name: str | None, roles: Sequence[Role], kinds: Sequence[str]) -> NextTurn:
    """The workflow function of a pipeline, with every turn it gives checked.

    Args:
        name: a user's function as "module:function", or None for the roles one after another.
        roles: who can act.
        kinds: the kinds of world calls there are.

    Raises:
        ConfigError: the name leads to no function, or the function gives no first turn.
    """
    give = partial(one_after_another, tuple(roles)) if name is None else load_workflow(name)
    agents = [role.agent for role in roles]

    def checked(taken: tuple[Taken, ...]) -> Turn | None:
        try:
            turn = give(taken)
        except Exception as error:
            raise ConfigError(
                f"workflow={name!r} failed after {len(taken)} turns: {type(error).__name__}: {error}"
            ) from error
        return None if turn is None else _check(turn, f"workflow={name!r}: after {len(taken)} turns it", agents, kinds)

    if checked(()) is None:
        raise ConfigError(f"workflow={name!r} gives no first turn; for no turns taken it must return a Turn")
    return checked


def load_workflow(name: Any) -> NextTurn:
    """The function that "module:function" names; `ConfigError` if there is none."""
    module, _, attribute = name.partition(":") if isinstance(name, str) else ("", "", "")
    if not (module and attribute):
        raise ConfigError(f"workflow={name!r} must look like 'module:function'")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"workflow={name!r} cannot be loaded: {error}") from error
    if not callable(found):
        raise ConfigError(f"workflow={name!r} is a {type(found).__name__}; it must be a function")
    return found  # type: ignore[no-any-return]  # what it returns is checked at each call


def _check(turn: Any, where: str, agents: Sequence[str], kinds: Sequence[str]) -> Turn:
    if not isinstance(turn, Turn):
        raise ConfigError(f"{where} returned a {type(turn).__name__}; it must return a Turn, or None for the end")
    check_choice(f"{where} returned the agent", turn.agent, agents)
    for kind in turn.calls:
        check_choice(f"{where} allowed the call", kind, kinds)
    for agent in turn.sees:
        check_choice(f"{where} showed the hand-over of", agent, agents)
    return replace(turn, calls=tuple(turn.calls), sees=tuple(turn.sees))


def make_roles(pipeline: Any, built_in: Sequence[Role], kinds: Sequence[str]) -> tuple[Role, ...]:
    """The roles of a pipeline.

    Args:
        pipeline: None for the built-in roles, a list of mappings with `Role`'s fields, or the path of a YAML file that
            holds such a list.
        built_in: the roles of this world.
        kinds: the kinds of world calls there are.

    Raises:
        ConfigError: naming the entry that is wrong.
    """
    if pipeline is None:
        return tuple(built_in)
    entries = _read(pipeline) if isinstance(pipeline, str) else pipeline
    if not isinstance(entries, list | tuple) or not entries:
        raise ConfigError(f"pipeline={pipeline!r} must be a non-empty list of roles, or the path of a YAML file of one")
    roles = tuple(_role(i, entry) for i, entry in enumerate(entries))
    agents = [role.agent for role in roles]
    if len(set(agents)) < len(agents):
        raise ConfigError(f"pipeline names a role twice: {', '.join(agents)}")
    for i, role in enumerate(roles):
        for kind in role.calls:
            check_choice(f"pipeline[{i}] call", kind, kinds)
        for agent in role.sees:
            check_choice(f"pipeline[{i}] sees", agent, agents)
    return roles


def _read(path: str) -> Any:
    if not path.endswith((".yaml", ".yml")) or not Path(path).is_file():
        raise ConfigError(f"pipeline={path!r}: there is no such YAML file")
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"pipeline={path!r} is not valid YAML: {error}") from error


def _role(index: int, entry: Any) -> Role:
    if isinstance(entry, Role):
        entry = asdict(entry)
    if not isinstance(entry, Mapping):
        raise ConfigError(f"pipeline[{index}]={entry!r} must be a mapping of Role fields")
    for key in entry:
        check_choice(f"pipeline[{index}] field", key, [field.name for field in fields(Role)])
    value = {**entry, "calls": tuple(entry.get("calls", ())), "sees": tuple(entry.get("sees", ()))}
    agent, turns = value.get("agent"), value.get("turns", 1)
    if not isinstance(agent, str) or not _AGENT.fullmatch(agent):
        raise ConfigError(f"pipeline[{index}] agent={agent!r} must look like 'searcher_0' (PettingZoo's convention)")
    if not isinstance(value.get("prompt"), str):
        raise ConfigError(f"pipeline[{index}] prompt={value.get('prompt')!r} must be a text")
    if isinstance(turns, bool) or not isinstance(turns, int) or turns < 1:
        raise ConfigError(f"pipeline[{index}] turns={turns!r} must be a whole number > 0")
    return Role(**value)
