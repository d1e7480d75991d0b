"""Multi-agent environments in PettingZoo's forms: Pipeline (in turn, or all at once) and Team (all at once)."""

from __future__ import annotations

from nextstep_envs.multiagent.pipeline import ParallelPipelineEnv, PipelineEnv
from nextstep_envs.multiagent.team import TeamEnv
from nextstep_envs.multiagent.workflows import Role, Taken, Turn

__all__ = ["ParallelPipelineEnv", "PipelineEnv", "Role", "Taken", "TeamEnv", "Turn"]
