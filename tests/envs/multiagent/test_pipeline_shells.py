"""The shells of Pipeline: costs, records, budgets, snapshots, copies and arguments."""

from __future__ import annotations

import copy
import pickle
import random
from typing import Any

import numpy as np
import pytest

from nextstep_envs.errors import ActionError, ConfigError
from nextstep_envs.ledger import cost_terms, estimate_tokens
from nextstep_envs.multiagent import Role
from nextstep_envs.multiagent.pipeline_rules import HAND_OVER
from tests.envs.multiagent.flows import ROLES, call, costs_by_agent, legal, make_pipeline, note, play_parallel


@pytest.mark.parametrize("cost", ["mix", ["tokens", "env_steps", "calls"]])
def test_costs_of_the_roles_add_up_to_the_ledger(cost: Any) -> None:
    env, rng = make_pipeline("parallel", cost=cost), random.Random(0)
    for seed in range(10):
        env.reset(seed=seed)
        steps = play_parallel(env, lambda _, mask: legal(mask, rng))
        by_agent = costs_by_agent([step[4] for step in steps], ROLES)
        terms = cost_terms(env.snapshot().spent, env.budget)
        np.testing.assert_allclose(sum(by_agent.values()), [terms[name] for name in env.cost_names], atol=1e-12)


def test_a_turn_is_recorded_with_what_it_saw_wrote_did_and_cost() -> None:
    env = make_pipeline(interface="text")
    env.reset(seed=0)
    message = env.last()[0]["message"]
    env.step(call("search[lamp]"))
    (record,) = env.infos["searcher_0"]["records"]
    assert record.step.agent == "searcher_0" and record.step.subtask == env.snapshot().task.prompt
    assert record.step.role.startswith("You search") and record.output == call("search[lamp]")
    (tool,) = record.tools
    assert tool.call == "search[lamp]" and "Total results" in tool.observation
    written = estimate_tokens(call("search[lamp]"))
    assert record.usage[:4] == (estimate_tokens(message), written, 1, 1)
    env.step(note("page 1 is open"))
    assert env.infos["searcher_0"]["records"][0].output == "page 1 is open"
    env.step("?")
    (record,) = env.infos["chooser_0"]["records"]
    assert record.failed and record.step.index == 2 and record.step.reads == (1,)
    assert record.context == ("page 1 is open",) and record.tools == () and record.usage.env_steps == 0
    assert env.infos["buyer_0"]["records"] == () and env.infos["buyer_0"]["cost"] == 0.0


@pytest.mark.parametrize(
    ("budget", "exhausted"),
    [({"steps": 2}, "steps"), ({"calls": 2}, "calls"), ({"tokens": 300}, "tokens"), ({"env_steps": 1}, "env_steps")],
)
def test_an_exhausted_budget_ends_it_and_is_named(budget: dict[str, int], exhausted: str) -> None:
    env = make_pipeline("parallel", interface="text", budget=budget)
    env.reset(seed=0)
    while env.agents:
        actor = env.snapshot().turn.agent
        _, rewards, terminated, truncated, infos = env.step(dict.fromkeys(ROLES, "") | {actor: call("search[lamp]")})
    assert all(terminated.values()) and not any(truncated.values()) and set(rewards.values()) == {0.0}
    assert {info["budget_exhausted"] for info in infos.values()} == {exhausted} and "outcome" in infos["buyer_0"]
    spent = env.snapshot().spent
    limits = env.budget
    assert spent.tokens <= limits.tokens and spent.calls <= limits.calls and spent.env_steps <= limits.env_steps
    if exhausted == "env_steps":
        (record,) = infos["searcher_0"]["records"]
        assert record.error == "budget: env_steps" and record.tools == () and record.usage.tokens == 0


def test_a_budget_that_does_not_allow_the_first_turn_ends_the_episode_with_it() -> None:
    env = make_pipeline(budget={"tokens": 10})
    env.reset(seed=0)
    assert not any(env.terminations.values())
    env.step(HAND_OVER)
    assert env.last()[2] and env.infos["searcher_0"]["budget_exhausted"] == "tokens"
    assert env.snapshot().spent.tokens == 0


def test_without_actions_left_a_role_can_only_hand_over() -> None:
    env = make_pipeline(budget={"env_steps": 1})
    env.reset(seed=0)
    env.step(env.action_names.index("search.whole"))
    assert np.flatnonzero(env.action_masks("searcher_0")).tolist() == [HAND_OVER]


def test_reward_none_leaves_the_outcome_in_info_only() -> None:
    env = make_pipeline(reward="none")
    env.reset(seed=2)
    for name in ("search.translated_with_options", "hand_over", "open[0]", "hand_over", "buy"):
        env.step(env.action_names.index(name))
    _, reward, terminated, _, info = env.last()
    assert terminated and reward == 0.0 and info["outcome"].score > 0


def test_a_snapshot_moves_between_forms_and_interfaces() -> None:
    aec, parallel = make_pipeline(), make_pipeline("parallel", interface="text")
    aec.reset(seed=3)
    aec.step(aec.action_names.index("search.translated"))
    aec.step(HAND_OVER)
    parallel.restore(pickle.loads(pickle.dumps(aec.snapshot())), sample=4)
    actions = dict.fromkeys(ROLES, "") | {"chooser_0": note("that one")}
    observations, _, _, _, infos = parallel.step(actions)
    assert infos["chooser_0"]["sample"] == 4 and "From chooser_0: that one" in observations["buyer_0"]["message"]
    before = aec.snapshot()
    aec.step(HAND_OVER)
    aec.restore(before)
    assert aec.agent_selection == "chooser_0" and aec.snapshot() == before


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["copy", "pickle"])
def test_a_copy_taken_while_agents_leave_continues_alike(clone: Any) -> None:
    env = make_pipeline()
    env.reset(seed=1)
    for _ in range(3):
        env.step(HAND_OVER)
    env.step(None)
    twin = clone(env)
    assert twin.agents == env.agents == ROLES[1:] and twin.agent_selection == env.agent_selection
    for _ in range(2):
        env.step(None), twin.step(None)
    assert twin.agents == [] and len(pickle.dumps(env)) < 50_000


def test_seeds_and_tasks_fix_the_episode() -> None:
    env = make_pipeline(split="train")
    env.reset(seed=4)
    first = env.infos["buyer_0"]["task_id"]
    env.reset()
    second = env.infos["buyer_0"]["task_id"]
    env.reset(seed=4)
    assert env.infos["buyer_0"]["task_id"] == first and first != second
    env.reset(seed=4, options={"task_id": 1600, "sample": 2})
    assert (env.infos["buyer_0"]["task_id"], env.infos["buyer_0"]["sample"]) == ("1600", 2)


def test_roles_may_be_objects_or_a_yaml_file(tmp_path: Any) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text("- {agent: solo_0, prompt: Do it all., turns: 4, calls: [search, open, option, buy]}\n")
    for pipeline in (str(path), [Role("solo_0", "Do it all.", 4, ("search", "open", "option", "buy"))]):
        env = make_pipeline(pipeline=pipeline)
        assert env.possible_agents == ["solo_0"] and env.budget.steps == 4
        env.reset(seed=2)
        for name in ("search.translated_with_options", "open[0]", "buy"):
            env.step(env.action_names.index(name))
        assert env.last()[1] > 0


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"pipeline": []}, r"pipeline=\[\]"),
        ({"pipeline": "flow.yaml"}, "flow.yaml.*no such YAML file"),
        ({"pipeline": [3]}, r"pipeline\[0\]=3"),
        ({"pipeline": [{"agent": "Searcher", "prompt": ""}]}, "agent='Searcher'.*searcher_0"),
        ({"pipeline": [{"agent": "a_0"}]}, "prompt=None"),
        ({"pipeline": [{"agent": "a_0", "prompt": "", "turns": 0}]}, "turns=0"),
        ({"pipeline": [{"agent": "a_0", "prompt": "", "turn": 1}]}, "'turn'.*'turns'"),
        ({"pipeline": [{"agent": "a_0", "prompt": "", "calls": ["fly"]}]}, "'fly'.*'search'"),
        ({"pipeline": [{"agent": "a_0", "prompt": "", "sees": ["b_0"]}]}, "'b_0'"),
        ({"pipeline": [{"agent": "a_0", "prompt": ""}] * 2}, "twice: a_0, a_0"),
        ({"world": "mars"}, "'mars'.*'webshop'"),
        ({"interface": "json"}, "interface='json'"),
        ({"split": "validation"}, "split='validation'"),
        ({"reward": "profit"}, "'profit'"),
        ({"cost": "euros"}, "'euros'"),
        ({"cost_limits": {"cook_0": {"mix": 1}}}, "'cook_0'"),
        ({"budget": {"tokens": 0}}, "tokens=0"),
        ({"render_mode": "human"}, "'human'"),
        ({"num_product": 3}, "'num_product'"),
    ],
)
@pytest.mark.parametrize("form", ["aec", "parallel"])
def test_bad_arguments_are_named_with_the_fix(form: str, kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make_pipeline(form, **kwargs)


@pytest.mark.parametrize("options", [{"task": "1"}, {"task_id": "zzz"}, {"pool": ["planning"]}, {"sample": -1}])
def test_bad_reset_options_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        make_pipeline().reset(options=options)


def test_actions_of_the_wrong_type_and_steps_without_an_episode() -> None:
    env = make_pipeline()
    for use in (lambda: env.step(1), lambda: env.observe("buyer_0"), lambda: env.snapshot()):
        with pytest.raises(RuntimeError, match="reset"):
            use()
    env.reset(seed=0)
    for bad in ("1", 2.5, True):
        with pytest.raises(ActionError):
            env.step(bad)
    parallel = make_pipeline("parallel")
    parallel.reset(seed=0)
    with pytest.raises(ActionError, match="exactly the live agents"):
        parallel.step({"searcher_0": 1})


def test_render_shows_the_whole_episode() -> None:
    env = make_pipeline(render_mode="ansi")
    env.reset(seed=2)
    env.step(env.action_names.index("search.whole"))
    env.step(HAND_OVER)
    page = env.render()
    assert page.startswith("Task:") and "searcher_0 search: search[" in page and "Next: chooser_0." in page
    silent = make_pipeline()
    silent.reset(seed=2)
    assert silent.render() is None
