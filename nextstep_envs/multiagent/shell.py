"""What the PettingZoo shells share: reset options, joint actions, limits by agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding

from nextstep_envs.errors import ActionError, check_choice
from nextstep_envs.setup import check_cost_limits

Limits = Mapping[str, float]
LimitsArg = Limits | Mapping[str, Limits] | None


def generator_for(seed: int | None, current: np.random.Generator | None) -> np.random.Generator:
    """The generator of a reset: a seed starts a new one, without a seed the current one goes on."""
    return current if seed is None and current is not None else seeding.np_random(seed)[0]


def without_probe(options: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Reset options without the one that PettingZoo's API tests pass to every environment, `{"options": 1}`."""
    return {key: value for key, value in (options or {}).items() if key != "options"}


def limits_by_agent(limits: LimitsArg, agents: Sequence[str]) -> dict[str, dict[str, float]]:
    """Limits per episode for each agent.

    Args:
        limits: one mapping of cost name to limit for all agents, or a mapping of agent to such a mapping.
        agents: all agents.

    Raises:
        ConfigError: an unknown agent or cost name, or a limit that is not positive.
    """
    given = dict(limits or {})
    if not any(isinstance(value, Mapping) for value in given.values()):
        return {agent: check_cost_limits(given) for agent in agents}  # type: ignore[arg-type]
    for agent in given:
        check_choice("cost_limits agent", agent, agents)
    return {agent: check_cost_limits(given.get(agent)) for agent in agents}  # type: ignore[arg-type]


def in_order(actions: Mapping[str, Any], agents: Sequence[str]) -> list[Any]:
    """The actions of all live agents, in their order.

    Raises:
        RuntimeError: the episode is over.
        ActionError: an agent has no action, or there is one for somebody else.
    """
    if not agents:
        raise RuntimeError("the episode is over or has not begun; call reset first")
    if not isinstance(actions, Mapping) or set(actions) != set(agents):
        names = ", ".join(map(str, actions)) if isinstance(actions, Mapping) else type(actions).__name__
        raise ActionError(f"actions must be a mapping with exactly the live agents {', '.join(agents)}; got {names}")
    return [actions[agent] for agent in agents]
