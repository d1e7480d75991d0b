"""Small constrained MDPs whose optimum is known exactly."""

from __future__ import annotations

from nextstep_envs.tabular.env import TabularCMDP
from nextstep_envs.tabular.outcomes import Outcomes
from nextstep_envs.tabular.problems import DagRetries, JointPlanWork, RetryStop, TierRouting
from nextstep_envs.tabular.team import TeamPlanWork
from nextstep_envs.tabular.vector import TabularVectorEnv

__all__ = [
    "DagRetries",
    "JointPlanWork",
    "Outcomes",
    "RetryStop",
    "TabularCMDP",
    "TabularVectorEnv",
    "TeamPlanWork",
    "TierRouting",
]
