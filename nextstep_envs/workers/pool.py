"""The default pool of four workers: prices and skills."""

from __future__ import annotations

from nextstep_envs.requests import Actor
from nextstep_envs.types import Budget
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.workers.crew import Crew
from nextstep_envs.workers.scripted import ScriptedWorker

DOMAINS = ("beauty", "electronics", "garden", "fashion", "grocery")


def _skills(*levels: float) -> tuple[tuple[str, float], ...]:
    return tuple(zip(DOMAINS, levels, strict=True))


#                          beauty electronics garden fashion grocery
_GENERAL = _skills(0.2, 0.9, 0.2, 0.2, 0.7)
_TOOLS = _skills(0.6, 0.3, 0.9, 0.3, 0.3)
_PLANNING = _skills(0.9, 0.2, 0.4, 0.9, 0.3)
_VERIFICATION = _skills(0.3, 0.3, 0.3, 0.9, 0.9)

DEFAULT_POOL: tuple[WorkerSpec, ...] = (
    WorkerSpec("general_reasoning", "An all-rounder, and dear.", 3.0, 15.0, 70.0, _GENERAL),
    WorkerSpec("tool_use", "Quick and cheap in the shop; sloppy without a list.", 0.15, 0.6, 8.0, _TOOLS),
    WorkerSpec("planning", "Turns requests into lists of requirements.", 0.8, 3.2, 32.0, _PLANNING),
    WorkerSpec("verification", "Compares with a list, repairs and buys.", 0.6, 2.4, 14.0, _VERIFICATION),
)


def scripted_workers(specs: tuple[WorkerSpec, ...]) -> dict[str, Actor]:
    """A scripted worker for each spec, by worker id."""
    return {spec.worker_id: ScriptedWorker(spec) for spec in specs}


def scripted_crew(specs: tuple[WorkerSpec, ...], budget: Budget) -> Crew:
    """Scripted workers (kind "scripted"). They keep the budget by being refused, so they need not know it."""
    return Crew(specs, scripted_workers(specs))
