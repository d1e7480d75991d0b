"""Wrappers: what reshapes rewards, records episodes or shifts the worker pool."""

from __future__ import annotations

from wrappers.cost import CostPenalty, CostPenaltyVector
from wrappers.pool import WorkerPoolShift
from wrappers.record import RecordCost, RecordCostVector, RecordTrace
from wrappers.routing import RoutingReward, RoutingRewardVector

__all__ = [
    "CostPenalty",
    "CostPenaltyVector",
    "RecordCost",
    "RecordCostVector",
    "RecordTrace",
    "RoutingReward",
    "RoutingRewardVector",
    "WorkerPoolShift",
]
