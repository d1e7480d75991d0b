"""Policies without parameters: fixed plans and chance. Baselines, and teachers for a warm start."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from nextstep_envs.errors import ConfigError, check_choice
from nextstep_envs.protocols.templates import TEMPLATES
from nextstep_envs.workers.pool import DEFAULT_POOL

CONTEXTS = ("none", "last", "all")
Interface = Literal["text", "vector"]
_TEMPLATE_SLOTS = {template.name: i for i, template in enumerate(TEMPLATES)}
_WORKER_IDS = tuple(spec.worker_id for spec in DEFAULT_POOL)
_SHORT = {"general_reasoning": "general", "tool_use": "tool", "planning": "planner", "verification": "verifier"}


class PlanStep(NamedTuple):
    """One step of a plan: who, with which instruction template, seeing which outputs ("none", "last", "all")."""

    worker_id: str
    template: str
    context: str = "none"


Plan = tuple[PlanStep, ...]


def plan_name(plan: Plan) -> str:
    """A short name, such as "planner.plan>tool.carry"."""
    return ">".join(f"{_SHORT.get(step.worker_id, step.worker_id)}.{step.template}" for step in plan)


def _sensible_plans() -> dict[str, Plan]:
    """Every sensible plan of one to three steps.

    Alone: one worker does it all. In two: one lists the requirements, another buys by the list. In three: a worker
    who may read requests lists them, a second opens the best product, a third checks it and buys.
    """
    plans: list[Plan] = [(PlanStep(worker, "shop"),) for worker in _WORKER_IDS]
    for reader in _WORKER_IDS:
        for buyer in _WORKER_IDS:
            plans.append((PlanStep(reader, "plan"), PlanStep(buyer, "carry", "last")))
    for reader in ("general_reasoning", "planning", "tool_use"):
        for finder in ("general_reasoning", "tool_use", "verification"):
            for checker in ("general_reasoning", "tool_use", "verification"):
                listing, found = PlanStep(reader, "plan"), PlanStep(finder, "open", "last")
                plans.append((listing, found, PlanStep(checker, "check", "all")))
    return {plan_name(plan): plan for plan in plans}


PLANS: dict[str, Plan] = _sensible_plans()

# What a language model is shown before it learns by itself: between them, a good choice for every domain.
WARM_START_PLANS: tuple[str, ...] = (
    "general.shop",
    "tool.shop",
    "planner.plan>tool.carry",
    "planner.plan>verifier.carry",
    "general.plan>verifier.carry",
    "planner.plan>general.carry",
)


def plan_steps(plan: Plan) -> list[dict[str, Any]]:
    """The plan as workflow entries: subtask, worker_id, access_list."""
    text = {template.name: template.text for template in TEMPLATES}
    return [
        {
            "subtask": text[step.template],
            "worker_id": step.worker_id,
            "access_list": [] if step.context == "none" else [step.context],
        }
        for step in plan
    ]


def plan_text(plan: Plan) -> str:
    """The whole plan as one action of the text interface."""
    return json.dumps({"workflow": plan_steps(plan)})


def action_index(step: PlanStep, worker_ids: Sequence[str] = _WORKER_IDS) -> int:
    """The step as an action of the vector interface: (worker * n_templates + template) * 3 + context."""
    check_choice("template", step.template, _TEMPLATE_SLOTS)
    check_choice("context", step.context, CONTEXTS)
    check_choice("worker_id", step.worker_id, worker_ids)
    slot = worker_ids.index(step.worker_id) * len(TEMPLATES) + _TEMPLATE_SLOTS[step.template]
    return slot * len(CONTEXTS) + CONTEXTS.index(step.context)


def finish_index(worker_ids: Sequence[str] = _WORKER_IDS) -> int:
    """The action of the vector interface that ends the episode."""
    return len(worker_ids) * len(TEMPLATES) * len(CONTEXTS)


def available_plans(worker_ids: Sequence[str], names: Sequence[str] = tuple(PLANS)) -> tuple[str, ...]:
    """Those of the named plans that need no absent worker."""
    return tuple(name for name in names if all(step.worker_id in worker_ids for step in PLANS[name]))


class FixedPlanPolicy:
    """Always the same plan. With the vector interface it acts step by step, then finishes.

    Args:
        plan: a name of `PLANS`, or the plan itself.
        interface: "text" (one action: the whole plan) or "vector".
    """

    def __init__(self, plan: str | Plan, interface: Interface = "text") -> None:
        check_choice("interface", interface, ("text", "vector"))
        if isinstance(plan, str):
            check_choice("plan", plan, PLANS)
            plan = PLANS[plan]
        if not plan:
            raise ConfigError("plan=() has no step; give at least one")
        self.plan, self.interface = plan, interface
        self._actions = [*map(action_index, plan), finish_index()]
        self._step = 0

    def reset(self) -> None:
        """Begin a new episode."""
        self._step = 0

    def act(self, observation: Any, info: Mapping[str, Any] | None = None) -> str | int:
        """The next action of this episode."""
        if self.interface == "text":
            return plan_text(self.plan)
        action = self._actions[min(self._step, len(self.plan))]
        self._step += 1
        return action


class RandomPolicy:
    """Chance: with the vector interface any legal action, with the text interface a random plan.

    A random plan has one to three steps, each with a random worker present, template and context.

    Args:
        interface: "text" or "vector".
        seed: of all draws.
    """

    def __init__(self, interface: Interface = "text", seed: int = 0) -> None:
        check_choice("interface", interface, ("text", "vector"))
        self.interface, self._rng = interface, random.Random(seed)

    def reset(self) -> None:
        """Begin a new episode; the draws go on."""

    def act(self, observation: Any, info: Mapping[str, Any] | None = None) -> str | int:
        """A random action. The text interface reads who is present from `info["action_mask"]`."""
        mask = (info or {}).get("action_mask")
        if self.interface == "vector":
            if mask is None:
                mask = observation["action_mask"]
            return self._rng.choice([i for i, legal in enumerate(mask) if legal])
        present = _WORKER_IDS
        if mask is not None:
            width = len(TEMPLATES) * len(CONTEXTS)
            present = tuple(w for i, w in enumerate(_WORKER_IDS) if any(mask[i * width : (i + 1) * width]))
        steps = range(self._rng.randint(1, 3))
        return plan_text(
            tuple(
                PlanStep(
                    self._rng.choice(present),
                    self._rng.choice(TEMPLATES).name,
                    self._rng.choice(CONTEXTS[: 1 + min(i, 2)]),
                )
                for i in steps
            )
        )
