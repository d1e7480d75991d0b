"""How the fake provider orchestrates: plans of one or two steps for Workflow, and plans that are no JSON."""

from __future__ import annotations

import json
import random
import re

from nextstep_envs.requests import ChatRequest

ASKED = '{"workflow": ['  # in the first message of Workflow's text interface, and of nothing else
PROSE = "I would rather talk it over first."
_WORKER = re.compile(r"^- (\S+): ", re.M)


def is_orchestrator(chat: ChatRequest) -> bool:
    """Whether a chat asks for actions of Workflow."""
    return len(chat.messages) > 1 and ASKED in chat.messages[1].content


def is_first_answer(chat: ChatRequest) -> bool:
    """Whether nothing has been answered yet."""
    return not any(message.role == "assistant" for message in chat.messages)


def write_plan(chat: ChatRequest, rng: random.Random) -> str:
    """A plan by workers who are there: one shops alone, or one lists what is wanted and another buys by the list."""
    workers = _WORKER.findall(chat.messages[1].content)
    if rng.random() < 0.5:
        steps = [_step("Shop for and buy: {task}", rng.choice(workers))]
    else:
        steps = [
            _step("List the requirements of this request: {task}", rng.choice(workers)),
            _step("Buy the product that the given requirements describe.", rng.choice(workers), "last"),
        ]
    return json.dumps({"workflow": steps})


def spoil_plan(chat: ChatRequest, rng: random.Random) -> str:
    """What is no JSON: by even chance a plan in a fence with a comma too many, which can be repaired, or mere prose."""
    if rng.random() < 0.5:
        return PROSE
    return f"Here is my plan:\n```json\n{write_plan(chat, rng)[:-1]},}}\n```"


def _step(subtask: str, worker_id: str, *access: str) -> dict[str, str | list[str]]:
    return {"subtask": subtask, "worker_id": worker_id, "access_list": list(access)}
