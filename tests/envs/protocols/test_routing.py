"""Routing: one action activates one agent, which sees the task and everything before it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from nextstep_envs.errors import ConfigError
from nextstep_envs.workers.personas import TERMINATE, load_personas

ID = "NextStep/WebShop-Routing-v0"


def make(**kwargs: Any) -> Any:
    return gym.make(ID, **{"interface": "text", "split": "dev", **kwargs})


def activate(env: Any, agent: str, **more: str) -> Any:
    return env.step(json.dumps({"agent": agent, **more}))


def personas_file(folder: Path, **changes: Any) -> str:
    solver = {"name": "solver", "role_prompt": "You solve.", "model_type": "planning", "agent_type": "reasoning"}
    solver |= {"actions": ["planning", "conclude"], "policy": "autonomous"} | changes
    stopper = solver | {"name": "stopper", "actions": [TERMINATE]}
    path = folder / "personas.jsonl"
    path.write_text(json.dumps(solver) + "\n" + json.dumps(stopper), encoding="utf-8")
    return str(path)


def test_an_agent_is_its_persona_played_by_its_worker() -> None:
    env = make()
    env.reset(seed=0)
    _, _, _, _, info = activate(env, "planner")
    (record,) = info["records"]
    personas = {p.name: p for p in load_personas()}
    assert record.step.agent == "planner" and record.step.worker_id == personas["planner"].model_type == "planning"
    assert record.step.role == personas["planner"].role_prompt
    assert "{task}" not in record.step.subtask and info["cost"] > 0


def test_an_agent_sees_all_that_was_written_before() -> None:
    env = make()
    env.reset(seed=0)
    outputs: tuple[str, ...] = ()
    for agent in ("planner", "questioner", "summarizer"):
        (record,) = activate(env, agent)[-1]["records"]
        assert record.context == outputs
        outputs = (*outputs, record.output)


@pytest.mark.parametrize("action", ['{"agent": "terminator"}', '{"finish": true}'])
def test_the_terminator_ends_and_costs_nothing(action: str) -> None:
    env = make()
    env.reset(seed=0)
    activate(env, "web_searcher")
    _, _, terminated, _, info = env.step(action)
    assert terminated and info["cost"] == 0.0 and "outcome" in info


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ('{"agent": "nobody"}', '"agent" must be one of planner'),
        ('{"agent": ["planner"]}', '"agent" must be one of'),
        ('{"agent": "planner", "action": "critique"}', '"action" of planner must be one of planning'),
        ("activate the planner", "no JSON object"),
    ],
)
def test_what_names_no_agent_is_an_invalid_action_that_runs_nothing(action: str, says: str) -> None:
    env = make()
    env.reset(seed=0)
    observation, reward, terminated, _, info = env.step(action)
    assert says in observation and info["invalid_action"] and info["cost"] == 0.0 and not info["records"]
    assert not terminated and reward == 0.0


def test_agents_whose_worker_is_absent_are_masked_and_refused() -> None:
    env = make(interface="vector")
    _, info = env.reset(seed=0, options={"pool": ["planning", "tool_use"]})
    rules = env.unwrapped.setup.rules
    for index, activation in enumerate(rules.activations):
        assert info["action_mask"][index] == (activation.persona.model_type in ("planning", "tool_use"))
    absent = int(np.flatnonzero(info["action_mask"] == 0)[0])
    assert env.step(absent)[-1]["invalid_action"]


def test_an_agent_with_several_actions_has_one_index_for_each(tmp_path: Path) -> None:
    path = personas_file(tmp_path)
    env = make(personas=path)
    opening, _ = env.reset(seed=0, options={"pool": ["planning"]})
    assert "solver (planning, conclude; played by planning)" in opening and '"action"' in opening
    rules = env.unwrapped.setup.rules
    assert [a.label for a in rules.activations] == ["solver:planning", "solver:conclude"] and rules.n_actions == 3
    (first,) = activate(env, "solver")[-1]["records"]
    (second,) = activate(env, "solver", action="conclude")[-1]["records"]
    assert [rules.action_of(r.step.agent) for r in (first, second)] == ["planning", "conclude"]


def test_external_tools_can_be_switched_off() -> None:
    with_tools, without = make().unwrapped.setup.rules, make(external_tools=False).unwrapped.setup.rules
    assert with_tools.n_actions == 14 and without.n_actions == 9
    assert all(a.persona.agent_type == "reasoning" for a in without.activations)


def test_personas_that_fit_no_pool_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model_type='gpt' is no worker; the pool has general_reasoning"):
        make(personas=personas_file(tmp_path, model_type="gpt"))
    with pytest.raises(ConfigError, match="only terminators are left"):
        make(personas=personas_file(tmp_path, agent_type="tool"), external_tools=False)


def test_a_vector_index_is_the_text_action_of_the_same_agent() -> None:
    text, vector = make(), make(interface="vector")
    rules = text.unwrapped.setup.rules
    for index in (0, 10, 2):
        text.reset(seed=4), vector.reset(seed=4)
        by_name = activate(text, rules.activations[index].persona.name)[-1]
        assert vector.step(index)[-1]["records"] == by_name["records"]


def test_features_name_the_agents_that_acted() -> None:
    env = make(interface="vector")
    env.reset(seed=0)
    observation, *_ = env.step(0)
    names = env.unwrapped.feature_names
    lit = {name for name, value in zip(names, observation["observation"], strict=True) if "agent." in name and value}
    assert lit == {"step[0].agent.planner"}


def test_a_chat_worker_is_told_who_it_is() -> None:
    env = make(workers="fake")
    env.reset(seed=1)
    env.unwrapped.episode.act('{"agent": "critic"}')
    (request,) = env.unwrapped.episode.poll()
    system = request.payload.messages[0][1]
    assert "You look for faults" in system
