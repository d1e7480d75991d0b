"""What a run on vectors brought."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nextstep_agents.learning.environments import Problem
from nextstep_agents.learning.evaluation import evaluate
from nextstep_agents.learning.run_settings import RunSettings
from nextstep_agents.policies.trained import MLPPolicy, TeamPolicy
from nextstep_agents.runs import EVALUATION_SEED, cpu_threads
from nextstep_envs.errors import ConfigError


@dataclass
class TrainResult:
    """What a run brought.

    Attributes:
        policy: the last policy; with `evaluation.every`, the best. Of a team, the policies by agent.
        history: metrics of every round.
        multipliers: by constraint, in units of reward per unit of cost: the mean over the last fifth of the rounds.
        settings: of the run.
        folder: the run folder; None without one.
        problem: the environments. reopen: makes them with other arguments; None where they were not made from an id.
    """

    policy: MLPPolicy | TeamPolicy
    history: list[dict[str, float]]
    multipliers: dict[str, float]
    settings: RunSettings
    folder: Path | None
    problem: Problem
    reopen: Callable[[Mapping[str, Any]], Problem] | None = None

    def evaluate(
        self,
        episodes: int = 1000,
        seed: int = EVALUATION_SEED,
        deterministic: bool = False,
        env_kwargs: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Play the policy; see `nextstep_agents.learning.evaluation.evaluate` for what comes back.

        Args:
            episodes: how many.
            seed: of the episodes and of the actions.
            deterministic: take the likeliest actions, which is another policy than the one that was trained.
            env_kwargs: arguments of the environment to change, for example `{"split": "test"}`; for ids only.
        """
        if isinstance(episodes, bool) or not isinstance(episodes, int) or episodes < 1:
            raise ConfigError(f"episodes={episodes!r} must be a whole number >= 1")
        how = episodes, seed, self.problem.objective_gamma, self.settings.max_decisions, deterministic
        if not env_kwargs:
            with cpu_threads(self.settings.threads):
                return evaluate(self.problem.stage, self.policy.actor, *how)
        if self.reopen is None:
            raise ConfigError(f"env_kwargs={dict(env_kwargs)} can change environments that were given by id only")
        other = self.reopen(env_kwargs)
        try:
            with cpu_threads(self.settings.threads):
                return evaluate(other.stage, self.policy.actor, *how)
        finally:
            other.close()

    def close(self) -> None:
        """Release what the environments hold; `evaluate` needs them."""
        self.problem.close()
