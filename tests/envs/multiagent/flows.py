"""Workflow functions as users write them, good and bad, and players for both environments."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import nextstep_envs  # noqa: F401
import registry
from nextstep_envs.multiagent import Taken, Turn

TEAM, PIPELINE = "NextStep/WebShop-Team-v0", "NextStep/WebShop-Pipeline-v0"
NOT_A_FUNCTION = 7
ROLES = ["searcher_0", "chooser_0", "buyer_0"]
BLIND = [
    {"agent": "a_0", "prompt": "Search.", "turns": 2, "calls": ["search"]},
    {"agent": "b_0", "prompt": "Open.", "turns": 2, "calls": ["open"], "sees": ["a_0"], "sees_task": False},
    {"agent": "c_0", "prompt": "Buy.", "turns": 3, "calls": ["option", "buy"], "sees": ["b_0"], "sees_task": False},
]


def make_pipeline(form: str = "aec", **kwargs: Any) -> Any:
    """A pipeline in one of its forms, on the dev split."""
    return (registry.make_aec if form == "aec" else registry.make_parallel)(PIPELINE, **{"split": "dev", **kwargs})


def call(text: str) -> str:
    """The text action that makes a call in the world."""
    return json.dumps({"action": text})


def note(text: str) -> str:
    """The text action that hands over."""
    return json.dumps({"answer": text})


def back_and_forth(taken: tuple[Taken, ...]) -> Turn | None:
    """The chooser sends the searcher back until something was bought by the chooser itself, at most six turns."""
    if len(taken) == 6:
        return None
    if len(taken) % 2:
        return Turn("chooser_0", ("open", "option", "buy"), ("searcher_0",), sees_task=False)
    return Turn("searcher_0", ("search",), ("chooser_0",))


def endless(taken: tuple[Taken, ...]) -> Turn | None:
    """Never ends by itself; lists instead of tuples are fine."""
    return Turn("searcher_0", ["search"])  # type: ignore[arg-type]


def nobody(taken: tuple[Taken, ...]) -> Turn | None:
    """Gives no first turn."""
    return None


def stranger(taken: tuple[Taken, ...]) -> Turn | None:
    """Names an agent that is not in the pipeline, but only later."""
    return Turn("painter_0") if taken else Turn("searcher_0", ("search",))


def unknown_call(taken: tuple[Taken, ...]) -> Turn | None:
    """Allows what the world does not have."""
    return Turn("searcher_0", ("fly",))


def unknown_hand_over(taken: tuple[Taken, ...]) -> Turn | None:
    """Shows the hand-over of nobody."""
    return Turn("searcher_0", sees=("painter_0",))


def words(taken: tuple[Taken, ...]) -> Any:
    """Returns no Turn."""
    return "searcher_0"


def failing(taken: tuple[Taken, ...]) -> Turn | None:
    """Fails after a turn."""
    return Turn("searcher_0", ("search",)) if not taken else taken[99].turn


def legal(mask: Any, rng: random.Random) -> int:
    """A random legal action."""
    return int(rng.choice(np.flatnonzero(mask).tolist()))


def play_parallel(env: Any, choose: Callable[[str, Any], Any]) -> list[tuple[Any, ...]]:
    """All that the steps of one episode return; `choose` gives an agent's action for its mask."""
    seen = []
    while env.agents:
        seen.append(env.step({agent: choose(agent, env.action_masks(agent)) for agent in env.agents}))
    return seen


def costs_by_agent(infos: list[Mapping[str, Any]], agents: list[str]) -> dict[str, Any]:
    """Sums of `costs` over steps."""
    return {agent: sum(info[agent]["costs"] for info in infos) for agent in agents}
