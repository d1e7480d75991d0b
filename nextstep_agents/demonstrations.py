"""Whom a new language model imitates before it learns by itself."""

from __future__ import annotations

import random
import re

from nextstep_agents.policies.scripted import PLANS, WARM_START_PLANS, available_plans, plan_text

_WORKER = re.compile(r"^- (\w+):", re.M)


def workflow_plan(message: str, rng: random.Random) -> str:
    """Any of the warm-start plans that the workers named in the message allow: blind to the task."""
    names = available_plans(_WORKER.findall(message), WARM_START_PLANS)
    return plan_text(PLANS[rng.choice(names)])
