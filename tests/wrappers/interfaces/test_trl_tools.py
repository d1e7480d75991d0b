"""The tools that TRL gives a model are the text interface under other names, and their schemas say what they need."""

from __future__ import annotations

import inspect
import json
import pickle
import random
from typing import Any, get_type_hints

import gymnasium as gym
import pytest

import registry
from nextstep_envs.errors import ActionError, ConfigError
from tests.compat.tier_routing import WEIGHT
from tests.wrappers.interfaces.calls import CALLS
from wrappers import CostPenalty
from wrappers.interfaces.trl import TOOLS, TabularTools, Tools, task_rows, trl_environment

ENTRIES = [entry for entry in registry.entries() if entry.protocol in TOOLS]
TOOL_NAMES = {
    "workflow": {"assign", "finish"},
    "routing": {"activate", "terminate"},
    "dag": {"add_node", "run", "finish"},
    "search": {"add_operator", "remove_operator", "set_operator", "finish"},
}
WORKFLOW = "NextStep/WebShop-Workflow-v0"
STEP = {"subtask": "{task}", "worker_id": "planning", "access_list": []}
OUTAGE = {"kind": "fake", "failure_rate": 1.0}


def tools_of(environment: Tools) -> dict[str, Any]:
    """What TRL would take for tools."""
    members = inspect.getmembers(type(environment), predicate=inspect.isfunction)
    names = [name for name, _ in members if name not in ("reset", "get_reward") and not name.startswith("_")]
    return {name: getattr(environment, name) for name in names}


def test_every_protocol_has_tools() -> None:
    assert {entry.protocol for entry in registry.entries() if entry.protocol and entry.entry_point} == set(TOOLS)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_a_tool_is_an_action_of_the_protocol_and_nothing_else_is(entry: Any) -> None:
    assert set(tools_of(trl_environment(entry.id)())) == TOOL_NAMES[entry.protocol]


@pytest.mark.parametrize("kind", [*TOOLS.values(), TabularTools])
def test_every_argument_has_a_type_and_a_description(kind: type[Tools]) -> None:
    utils = pytest.importorskip("transformers.utils", reason="needs the extra [agents]")
    for name, function in inspect.getmembers(kind, predicate=inspect.isfunction):
        if name.startswith("_") or name in ("reset", "get_reward"):
            continue
        schema = utils.get_json_schema(function)["function"]
        arguments = {p for p in inspect.signature(function).parameters if p != "self"}
        assert schema["name"] == name and schema["description"] and schema["return"]["type"] == "string"
        assert set(schema["parameters"]["properties"]) == arguments
        assert all(argument["description"] for argument in schema["parameters"]["properties"].values())
        optional = {p.name for p in inspect.signature(function).parameters.values() if p.default is None}
        assert set(schema["parameters"].get("required", ())) == arguments - optional
        assert get_type_hints(function)["return"] is str


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_tools_do_what_the_text_interface_does(entry: Any) -> None:
    """A hundred calls, good and bad, over several episodes: the same messages, rewards and costs."""
    environment = trl_environment(entry.id, cost_weight=0.3)()
    env = CostPenalty(gym.make(entry.id, interface="text"), weight=0.3)
    format_text = env.get_wrapper_attr("setup").rules.format_text()
    rng, steps, episode, invalid = random.Random(4), 0, 0, 0
    while steps < 100:
        first = environment.reset(seed=episode, sample=3, prompt=[], unrelated=1)
        observation, _ = env.reset(seed=episode, options={"sample": 3})
        before, after = observation.split(format_text)
        assert first.startswith(before) and first.endswith(after)
        reward, cost, over = 0.0, 0.0, False
        while not over:
            name, arguments, action = CALLS[entry.protocol](rng)
            observation, gain, terminated, truncated, info = env.step(json.dumps(action))
            assert getattr(environment, name)(**arguments) == observation
            reward, cost, over = reward + gain, cost + info["cost"], terminated or truncated
            steps, invalid = steps + 1, invalid + info["invalid_action"]
            assert environment.episode.over == over
        assert environment.get_reward() == reward and environment.episode.cost == cost
        episode += 1
    assert episode > 2 and invalid > 5


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_the_first_message_speaks_of_tools(entry: Any) -> None:
    environment = trl_environment(entry.id)()
    first = environment.reset(seed=0)
    assert "JSON" not in first and "Workers:" in first
    for name in tools_of(environment):
        assert name in first


def test_what_differs_within_a_group_is_the_noise_of_the_workers() -> None:
    factory = trl_environment(WORKFLOW, split="test")  # where nobody is absent
    rows = task_rows(WORKFLOW, 6, split="test")
    group = [factory() for _ in range(8)]
    reports = []
    for number, row in enumerate(rows):
        assert len({environment.reset(**row) for environment in group}) == 1
        infos = [environment.episode.info for environment in group]
        assert {info["task_id"] for info in infos} == {row["task_id"]}
        # Numbered on and on: the same row in a later epoch is another attempt again.
        assert [info["sample"] for info in infos] == list(range(8 * number, 8 * number + 8))
        reports.append({environment.assign(**STEP) for environment in group})
    assert max(map(len, reports)) > 1


def test_processes_share_no_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        environment = trl_environment(WORKFLOW)()
        for _ in range(3):
            environment.reset(seed=0)
            seen.append(environment.episode.info["sample"])
    assert sorted(seen) == list(range(6))


def test_a_row_may_name_its_sample_and_its_task() -> None:
    environment = trl_environment(WORKFLOW)()
    environment.reset(seed=5, task_id="17", sample=9)
    first = environment.assign(**STEP)
    assert (environment.episode.info["task_id"], environment.episode.info["sample"]) == ("17", 9)
    environment.reset(seed=5, task_id="17", sample=9)
    assert environment.assign(**STEP) == first


def test_rows_are_plain_data_and_name_the_task_of_their_seed() -> None:
    rows = task_rows(WORKFLOW, 20, seed=1, split="test")
    assert rows == task_rows(WORKFLOW, 20, seed=1, split="test") != task_rows(WORKFLOW, 20, seed=2, split="test")
    assert json.loads(json.dumps(rows)) == rows and len({row["seed"] for row in rows}) == 20
    env = gym.make(WORKFLOW, split="test")
    for row in rows:
        assert env.reset(seed=row["seed"])[1]["task_id"] == row["task_id"]


def test_a_row_without_a_seed_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no seed.*task_rows"):
        trl_environment(WORKFLOW)().reset(prompt=[{"role": "user", "content": "hello"}])


def test_after_the_end_a_tool_raises_and_changes_nothing() -> None:
    environment = trl_environment(WORKFLOW)()
    with pytest.raises(RuntimeError, match="over"):
        environment.finish()
    environment.reset(seed=0)
    assert "Invalid action" in environment.assign("{task}", "nobody", [])
    assert "over" in environment.finish()
    reward = environment.get_reward()
    with pytest.raises(RuntimeError, match="the episode is over"):
        environment.assign(**STEP)
    assert environment.get_reward() == reward and environment.episode.steps == 2


def test_a_rollout_that_stops_is_judged_as_it_stands() -> None:
    rewards = []
    for finish in (False, True):
        environment = trl_environment(WORKFLOW)()
        environment.reset(seed=0, sample=0)
        environment.assign(**STEP)
        if finish and not environment.episode.over:
            environment.finish()
        rewards.append(environment.get_reward())
        assert environment.get_reward() == rewards[-1]  # asking twice changes nothing
    assert rewards[0] == rewards[1] > 0
    idle = trl_environment(WORKFLOW)()
    idle.reset(seed=0)
    assert idle.get_reward() == 0.0


def test_the_cost_is_taken_off_at_its_price() -> None:
    plain, priced = trl_environment(WORKFLOW)(), trl_environment(WORKFLOW, cost_weight=0.5)()
    for environment in (plain, priced):
        environment.reset(seed=0, sample=0)
        environment.assign(**STEP)
    reward, cost = plain.get_reward(), priced.episode.cost
    assert cost > 0 and priced.get_reward() == pytest.approx(reward - 0.5 * cost)
    assert priced.episode.cost_terms["mix"] == cost and priced.episode.cost_terms["tokens"] > 0


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_an_outage_has_no_reward(entry: Any) -> None:
    environment = trl_environment(entry.id, cost_weight=0.5, workers=OUTAGE)()
    environment.reset(seed=0)
    worker = environment.episode.env.get_wrapper_attr("episode").state.pool[0].worker_id
    if entry.protocol == "workflow":
        environment.assign("{task}", worker, [])
    elif entry.protocol == "routing":
        environment.activate("web_searcher" if entry.world == "webshop" else worker)
    elif entry.protocol == "dag":
        environment.add_node("{task}", worker, [])
        environment.run()
    else:
        environment.add_operator("generate", worker, ["task"])
    assert environment.episode.over and environment.episode.masked
    assert environment.get_reward() is None
    environment.reset(seed=0)
    assert environment.get_reward() == 0.0  # the next rollout starts afresh


def test_an_error_in_the_environment_has_no_reward_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRL shows it to the model and goes on."""
    environment = trl_environment(WORKFLOW)()
    environment.reset(seed=0)

    def fail(action: Any) -> Any:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(environment.episode.env, "step", fail)
        with pytest.raises(OSError, match="disk full"):
            environment.assign(**STEP)
    with pytest.raises(RuntimeError, match="over"):
        environment.finish()
    assert environment.get_reward() is None
    environment.reset(seed=0)
    assert environment.get_reward() == 0.0


def test_a_factory_survives_pickling() -> None:
    factory = pickle.loads(pickle.dumps(trl_environment(WORKFLOW, cost_weight=0.5, split="test")))
    environment = factory()
    assert environment.reset(seed=0) and factory() is not environment


def test_a_wrapped_spec_is_an_environment_too() -> None:
    spec = CostPenalty(gym.make(WORKFLOW, interface="text"), weight=0.5).spec
    by_spec, by_weight = trl_environment(spec)(), trl_environment(WORKFLOW, cost_weight=0.5)()
    for environment in (by_spec, by_weight):
        environment.reset(seed=0, sample=0)
        environment.assign(**STEP)
    assert by_spec.get_reward() == by_weight.get_reward()


@pytest.mark.parametrize("env_id", ["NextStep/WebShop-v0"])
def test_an_environment_without_tools_is_named(env_id: str) -> None:
    assert trl_environment(f"nextstep_envs:{WORKFLOW}")().reset(seed=0)  # the form that imports
    for make in (trl_environment, lambda name: task_rows(name, 1)):
        with pytest.raises(ConfigError, match=f"{env_id}.*choose one of .*WebShop-Workflow-v0"):
            make(env_id)
    with pytest.raises(gym.error.Error, match="NextStep"):
        trl_environment("NextStep/Nothing-v0")


def test_a_wrong_argument_is_an_error() -> None:
    with pytest.raises(ConfigError, match="split='nowhere'"):
        trl_environment(WORKFLOW, split="nowhere")()
    with pytest.raises(ConfigError, match="weight=-1"):
        trl_environment(WORKFLOW, cost_weight=-1)()


def test_a_tabular_environment_has_one_tool() -> None:
    environment = trl_environment("NextStep/TierRouting-v0", cost_weight=WEIGHT)()
    assert set(tools_of(environment)) == {"choose"}
    assert environment.reset(seed=0, task_id="2") == "State: hard\nActions: 0 skip, 1 small, 2 medium, 3 large\n"
    with pytest.raises(ActionError, match="action 4 does not exist"):
        environment.choose(4)
    assert environment.choose(3) == "The episode is over."
    assert environment.episode.cost == 5.0
    assert environment.get_reward() in (pytest.approx(-5 * WEIGHT), pytest.approx(1 - 5 * WEIGHT))
    environment.reset(seed=0)
    assert environment.get_reward() == 0.0
