"""For tests of rollouts: a way to run one, and a provider whose model writes plans and now and then fails."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nextstep_agents.config import compose_rollout
from nextstep_agents.policies.scripted import PLANS, plan_text
from nextstep_agents.rollouts.run import rollout
from nextstep_envs.requests import ChatReply, Request, Result
from nextstep_envs.types import Usage
from registry import components
from wrappers.jsonl import read_lines

PRICES = ("llm.usd_per_mtok_in=1", "llm.usd_per_mtok_out=2")

components.register("provider", "talker", "tests.agents.talker:Talker")


class Talker:
    """Answers with a fixed plan after `false_starts` answers that are no JSON; it fails with `failure_rate`."""

    asked: list[Request] = []  # by every talker, for tests to look at

    def __init__(self, false_starts: int = 0, failure_rate: float = 0.0) -> None:
        self.false_starts, self.failure_rate = false_starts, failure_rate

    def perform(self, requests: Sequence[Request]) -> list[Result]:
        return [self._result(request) for request in requests]

    async def answer(self, request: Request) -> Result:
        for _ in range(random.Random(request.seed).choice((0, 2, 9))):
            await asyncio.sleep(0)
        return self._result(request)

    def close(self) -> None:
        pass

    def _result(self, request: Request) -> Result:
        self.asked.append(request)
        billed = Usage(1000, 0, 1)
        if random.Random(request.seed).random() < self.failure_rate:
            return Result(request.id, error="talked to nobody", waste=billed)
        turns = sum(message.role == "assistant" for message in request.payload.messages)
        plan = plan_text(PLANS["general.shop"])
        text = plan if turns >= self.false_starts else f"Let me think {turns}."
        return Result(request.id, ChatReply(text, thinking="a secret thought"), Usage(1000, 500, 1), waste=billed)


def run(folder: Path, *overrides: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The summary and the lines of a run in this process."""
    summary = rollout(compose_rollout([*overrides, f"out={folder}"]))
    return summary, list(read_lines(folder / "episodes.jsonl"))


def in_order(lines: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(line) for line in lines)


def keys(lines: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(line["seed"], line["sample"]) for line in lines]
