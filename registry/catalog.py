"""Environment ids and what Gymnasium and PettingZoo need to build each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from registry.errors import ConflictError


@dataclass(frozen=True)
class EnvEntry:
    """One environment id.

    Attributes:
        id: "NextStep/<World>-<Protocol>-v<N>"; N rises whenever rewards, masks, tasks or workers change results.
        entry_point: "module:attribute" of the Gymnasium environment, or None where there is none.
        vector_entry_point: of its batched vector form, or None.
        aec_entry_point, parallel_entry_point: of the PettingZoo environments behind `make_aec` and `make_parallel`,
            or None.
        kwargs: plain data, so that a spec survives JSON.
        world, protocol: names of the parts; protocol "" is the bare world.
        reward_threshold: the mean reward at which the task counts as solved, where one is known.
        nondeterministic: whether equal seeds and actions may differ (live models).
    """

    id: str
    entry_point: str | None = None
    vector_entry_point: str | None = None
    aec_entry_point: str | None = None
    parallel_entry_point: str | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    world: str = ""
    protocol: str = ""
    reward_threshold: float | None = None
    nondeterministic: bool = False


def _orchestration(id: str, world: str, protocol: str, **kwargs: Any) -> EnvEntry:
    """One orchestrator with workers in a world."""
    return EnvEntry(
        id=id,
        entry_point="nextstep_envs.env:OrchestrationEnv",
        vector_entry_point="nextstep_envs.vector:BatchedVectorEnv",
        kwargs={"world": world, "protocol": protocol, **kwargs},
        world=world,
        protocol=protocol,
    )


def _questions(id: str, world: str, usd: float) -> EnvEntry:
    """Whom to ask about a question, on recorded or generated answers, at a mean price of `usd` an episode."""
    return EnvEntry(
        id=id,
        entry_point="nextstep_envs.recorded.env:QuestionRoutingEnv",
        vector_entry_point="nextstep_envs.recorded.vector:make_vector",
        kwargs={
            "world": world,
            "protocol": "question_routing",
            "workers": "recorded",
            "cost": "usd",
            "cost_limits": {"usd": usd},
        },
        world=world,
        protocol="routing",
    )


_entries: dict[str, EnvEntry] = {
    entry.id: entry
    for entry in (
        EnvEntry(
            id="NextStep/WebShop-v0",
            entry_point="nextstep_envs.bare:BareEnv",
            kwargs={"world": "webshop"},
            world="webshop",
        ),
        _orchestration("NextStep/WebShop-Workflow-v0", "webshop", "workflow"),
        _orchestration("NextStep/WebShop-Routing-v0", "webshop", "routing"),
        _orchestration("NextStep/WebShop-DAG-v0", "webshop", "dag", cost_limits={"mix": 0.4}),
        _orchestration("NextStep/WebShop-Search-v0", "webshop", "search"),
        _questions("NextStep/MMLUPro-Routing-v0", "mmlu_pro", usd=600e-6),
        _questions("NextStep/GSM8K-Routing-v0", "gsm8k", usd=2e-3),
        EnvEntry(
            id="NextStep/TierRouting-v0",
            entry_point="nextstep_envs.tabular:TierRouting",
            vector_entry_point="nextstep_envs.tabular.problems:tier_routing_vector",
            reward_threshold=0.7125,  # of these four: the best return under the default budgets
        ),
        EnvEntry(
            id="NextStep/RetryStop-v0",
            entry_point="nextstep_envs.tabular:RetryStop",
            vector_entry_point="nextstep_envs.tabular.problems:retry_stop_vector",
            reward_threshold=0.7893,
        ),
        EnvEntry(
            id="NextStep/DagRetries-v0",
            entry_point="nextstep_envs.tabular:DagRetries",
            vector_entry_point="nextstep_envs.tabular.problems:dag_retries_vector",
            reward_threshold=7.5289,
        ),
        EnvEntry(
            id="NextStep/TeamPlanWork-v0",
            entry_point="nextstep_envs.tabular:JointPlanWork",
            vector_entry_point="nextstep_envs.tabular.problems:joint_plan_work_vector",
            parallel_entry_point="nextstep_envs.tabular:TeamPlanWork",
            reward_threshold=0.6991,
        ),
        EnvEntry(
            id="NextStep/WebShop-Pipeline-v0",
            aec_entry_point="nextstep_envs.multiagent:PipelineEnv",
            parallel_entry_point="nextstep_envs.multiagent:ParallelPipelineEnv",
            kwargs={"world": "webshop"},
            world="webshop",
            protocol="pipeline",
        ),
        EnvEntry(
            id="NextStep/WebShop-Team-v0",
            parallel_entry_point="nextstep_envs.multiagent:TeamEnv",
            kwargs={"world": "webshop"},
            world="webshop",
            protocol="team",
        ),
    )
}


def entries() -> tuple[EnvEntry, ...]:
    """Every known environment, in order of registration."""
    return tuple(_entries.values())


def add(entry: EnvEntry) -> None:
    """Make an environment known to the catalog; adding the same one again changes nothing.

    Raises:
        ConflictError: the id is taken by a different environment.
    """
    if _entries.setdefault(entry.id, entry) != entry:
        raise ConflictError(f"environment {entry.id!r} is already {_entries[entry.id]}; raise its version instead")
