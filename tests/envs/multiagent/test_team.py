"""Team: joint choices become steps of workers; one reward, each agent its own costs."""

from __future__ import annotations

import random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import nextstep_envs  # noqa: F401
import registry
from nextstep_envs.env import OrchestrationEnv
from nextstep_envs.errors import ActionError, ConfigError
from nextstep_envs.ledger import cost_terms
from nextstep_envs.multiagent.team_rules import SHOP_TABLE, SHOP_TEAM, TIERS
from nextstep_envs.types import Budget
from nextstep_envs.workers.scripted import understand
from tests.envs.multiagent.flows import TEAM, costs_by_agent, legal, play_parallel

AGENTS = ["planner_0", "finder_0", "buyer_0"]
SOLO = {"worker_id": "solo", "description": "does it all", "usd_per_mtok_in": 1, "usd_per_mtok_out": 2}


def make(**kwargs: Any) -> Any:
    return registry.make_parallel(TEAM, **{"split": "dev", **kwargs})


def joint(*tiers: str) -> dict[str, int]:
    return {agent: TIERS.index(tier) for agent, tier in zip(AGENTS, tiers, strict=True)}


def test_picks_become_steps_in_the_order_of_the_team_each_reading_all_before() -> None:
    env = make()
    env.reset(seed=1)
    _, rewards, terminated, _, infos = env.step(joint("cheap", "cheap", "verify"))
    records = [record for agent in AGENTS for record in infos[agent]["records"]]
    assert [(r.step.agent, r.step.worker_id) for r in records] == [
        ("planner_0", "planning"),
        ("finder_0", "tool_use"),
        ("buyer_0", "verification"),
    ]
    assert [r.step.reads for r in records] == [(), (0,), (0, 1)]
    assert records[2].context == (records[0].output, records[1].output)
    assert all(terminated.values()) and len(set(rewards.values())) == 1
    assert all(info["outcome"].score == rewards["buyer_0"] for info in infos.values())


def test_scripted_workers_understand_every_instruction_as_it_is_meant() -> None:
    task = "find me a red shoe, and price lower than 30.00 dollars"
    for speciality, mode in zip(SHOP_TEAM, ("plan", "open", "check"), strict=True):
        for text in (speciality.instruction, speciality.verification):
            assert understand(text.replace("{task}", task)) == mode


def test_a_later_round_goes_on_where_the_last_left_the_shop() -> None:
    env = make()
    env.reset(seed=1)
    for tiers in (("cheap", "pass", "pass"), ("pass", "cheap", "pass")):
        _, rewards, terminated, _, _ = env.step(joint(*tiers))
        assert not any(terminated.values()) and not any(rewards.values())
    assert env.episode.state.world_now().page == "item"
    _, _, terminated, _, infos = env.step(joint("pass", "pass", "cheap"))
    (record,) = infos["buyer_0"]["records"]
    assert record.tools[-1].call == "click[buy now]" and not any("search" in t.call for t in record.tools)
    assert all(terminated.values()) and env.episode.state.world_now().page == "done"


@pytest.mark.parametrize(("tiers", "rounds"), [(("pass", "pass", "pass"), 1), (("cheap", "pass", "pass"), 3)])
def test_it_ends_when_all_pass_or_after_the_last_round(tiers: tuple[str, ...], rounds: int) -> None:
    env = make()
    env.reset(seed=1)
    for played in range(1, rounds + 1):
        _, rewards, terminated, _, infos = env.step(joint(*tiers))
        assert set(terminated.values()) == {played == rounds}
    assert env.agents == [] and rewards["planner_0"] == 0.0 and "budget_exhausted" not in infos["planner_0"]
    with pytest.raises(RuntimeError, match="reset"):
        env.step(joint(*tiers))


def test_what_was_bought_is_not_worked_on_any_further() -> None:
    env = make(table={"planner_0": {"cheap": "planning"}, "finder_0": {"dear": "tool_use"}, "buyer_0": {}})
    env.reset(seed=0)
    assert env.action_masks("buyer_0").tolist() == [True, False, False, False]
    assert env.action_masks("finder_0").tolist() == [True, False, True, False]


@pytest.mark.parametrize("cost", ["mix", ["usd", "tokens", "calls"]])
def test_costs_of_the_agents_add_up_to_the_ledger(cost: Any) -> None:
    env, rng = make(cost=cost), random.Random(0)
    for seed in range(15):
        env.reset(seed=seed)
        steps = play_parallel(env, lambda _, mask: legal(mask, rng))
        by_agent = costs_by_agent([step[4] for step in steps], AGENTS)
        terms = cost_terms(env.episode.state.spent, env.budget)
        np.testing.assert_allclose(sum(by_agent.values()), [terms[name] for name in env.cost_names], atol=1e-12)
        for agent in AGENTS:
            own = [r for step in steps for r in step[4][agent]["records"]]
            assert all(record.step.agent == agent for record in own)
            spent = sum(cost_terms(record.usage, env.budget)[env.cost_names[0]] for record in own)
            assert spent == pytest.approx(by_agent[agent][0])


def test_legal_picks_are_never_invalid_and_somebody_absent_is() -> None:
    env, rng = make(pool_size=2), random.Random(0)
    for seed in range(20):
        env.reset(seed=seed)
        present = {spec.worker_id for spec in env.episode.state.pool}
        for agent in AGENTS:
            allowed = [SHOP_TABLE[agent][tier] in present for tier in TIERS[1:]]
            assert env.action_masks(agent).tolist() == [True, *allowed]
        for _, _, _, _, infos in play_parallel(env, lambda _, mask: legal(mask, rng)):
            assert not any(info["invalid_action"] for info in infos.values())
    env.reset(seed=0, options={"pool": ["planning"]})
    _, _, _, _, infos = env.step(joint("cheap", "cheap", "pass"))
    assert [infos[agent]["invalid_action"] for agent in AGENTS] == [False, True, False]
    assert len(infos["planner_0"]["records"]) == 1 and infos["finder_0"]["records"] == ()


def test_an_invalid_pick_runs_nothing_for_its_agent_and_is_told() -> None:
    env = make(interface="text")
    first, _ = env.reset(seed=1)
    assert "finder_0 of a team" in first["finder_0"]["message"] and '{"tier": "cheap"}' in first["finder_0"]["message"]
    told, _, _, _, infos = env.step(
        {"planner_0": '{"tier": "cheap"}', "finder_0": "let me think", "buyer_0": '{"tier": "free"}'}
    )
    assert [infos[agent]["invalid_action"] for agent in AGENTS] == [False, True, True]
    message = told["planner_0"]["message"]
    assert "finder_0: no tier was named" in message and "buyer_0: 'free' is no tier" in message
    assert "Step 0 by planner_0" in message and "Round 2 of 3" in message
    env.step(dict.fromkeys(AGENTS, "?"))
    _, _, terminated, _, infos = env.step(dict.fromkeys(AGENTS, "?"))
    assert all(terminated.values()), "rounds of invalid picks count"


def test_text_and_vector_picks_give_the_same_episode() -> None:
    vector, text = make(), make(interface="text")
    vector.reset(seed=3), text.reset(seed=3)
    for tiers in (("dear", "pass", "pass"), ("verify", "cheap", "pass"), ("pass", "dear", "verify")):
        left = vector.step(joint(*tiers))
        named = zip(AGENTS, tiers, strict=True)
        right = text.step({agent: f'```json\n{{"tier": "{tier}",}}\n```' for agent, tier in named})
        assert left[1:4] == right[1:4] and left[4]["buyer_0"]["cost_terms"] == right[4]["buyer_0"]["cost_terms"]
        assert vector.snapshot() == text.snapshot()
        if not vector.agents:
            break


def test_one_mind_may_move_all_agents() -> None:
    env, team = OrchestrationEnv(protocol="team", split="dev"), make()
    env.reset(seed=3)
    team.reset(seed=3, options={"task_id": env.episode.state.task.task_id, "pool": _ids(env)})
    mask = env.action_masks().reshape(4, 4, 4)
    expected = np.einsum("i,j,k->ijk", *(team.action_masks(agent) for agent in AGENTS))
    np.testing.assert_array_equal(mask, expected)
    _, reward, terminated, _, info = env.step(16 * 1 + 4 * 1 + 3)
    _, rewards, _, _, infos = team.step(joint("cheap", "cheap", "verify"))
    assert terminated and reward == rewards["buyer_0"]
    assert info["records"] == tuple(record for agent in AGENTS for record in infos[agent]["records"])
    text = gym.wrappers.TimeLimit(OrchestrationEnv(protocol="team", split="dev", interface="text"), 9)
    text.reset(seed=3)
    _, again, terminated, _, info = text.step('{"planner_0": "cheap", "finder_0": "cheap", "buyer_0": "verify"}')
    assert terminated and again == reward
    text.reset(seed=3)
    assert text.step('{"planner_0": "cheap"}')[4]["invalid_action"] is True
    env.reset(seed=3)
    assert env.step(64)[4]["invalid_action"] is True


def _ids(env: OrchestrationEnv[Any]) -> list[str]:
    return [spec.worker_id for spec in env.episode.state.pool]


def test_observations_are_named_and_hold_what_each_agent_did_and_paid() -> None:
    env = make()
    before, _ = env.reset(seed=1)
    after, _, _, _, infos = env.step(joint("dear", "cheap", "pass"))
    at = {name: i for i, name in enumerate(env.feature_names)}
    seen = after["finder_0"]["observation"]
    assert seen.shape == (len(env.feature_names),) == env.observation_space("finder_0")["observation"].shape
    assert seen[at["me.finder_0"]] == 1 and seen[at["me.buyer_0"]] == 0 and seen[at["left.rounds"]] == np.float32(2 / 3)
    for name in ("planner_0].dear", "finder_0].cheap", "buyer_0].pass"):
        assert seen[at[f"pick[0][{name}"]] == 1
    assert seen[at["planner_0.cost_mix"]] == np.float32(infos["planner_0"]["cost"])
    np.testing.assert_array_equal(seen[3:], env.state())
    np.testing.assert_array_equal(seen[3:], after["buyer_0"]["observation"][3:])
    assert before["finder_0"]["observation"][at["left.rounds"]] == 1
    assert env.state_space.contains(env.state())


def test_pettingzoos_state_test_is_content() -> None:
    from pettingzoo.test.state_test import test_parallel_env

    test_parallel_env(make())


def test_a_dead_provider_truncates_and_masks_for_everybody() -> None:
    env = make(workers={"kind": "fake", "failure_rate": 1.0})
    env.reset(seed=2)
    _, rewards, terminated, truncated, infos = env.step(joint("cheap", "pass", "pass"))
    assert set(rewards.values()) == {0.0} and set(terminated.values()) == {False} and set(truncated.values()) == {True}
    for agent in AGENTS:
        assert infos[agent]["mask_sample"] is True and infos[agent]["error"]["kind"] == "outage"
        assert "outcome" not in infos[agent] and infos[agent]["action_mask"].tolist() == [1, 0, 0, 0]
    assert env.agents == []
    env.close()


def test_chat_workers_and_samples_differ_only_by_their_chance() -> None:
    env = make(workers={"kind": "fake", "invalid_rate": 0.2})
    runs = []
    for sample in (0, 0, 1):
        env.reset(seed=2, options={"sample": sample})
        _, _, _, _, infos = env.step(joint("dear", "cheap", "cheap"))
        runs.append([record for agent in AGENTS for record in infos[agent]["records"]])
    assert runs[0] == runs[1] and runs[0] != runs[2]


def test_a_snapshot_restores_in_mid_episode_also_as_another_sample() -> None:
    env = make(workers="fake")
    env.reset(seed=4)
    env.step(joint("cheap", "pass", "pass"))
    saved = env.snapshot()
    ahead = env.step(joint("pass", "cheap", "pass"))[4]["finder_0"]["records"]
    env.restore(saved)
    assert env.step(joint("pass", "cheap", "pass"))[4]["finder_0"]["records"] == ahead
    env.restore(saved, sample=5)
    _, _, _, _, infos = env.step(joint("pass", "cheap", "pass"))
    assert infos["finder_0"]["sample"] == 5 and infos["finder_0"]["records"] != ahead


def test_an_exhausted_budget_ends_it_for_all() -> None:
    env = make(budget={"tokens": 200})
    env.reset(seed=1)
    _, _, terminated, truncated, infos = env.step(joint("cheap", "cheap", "cheap"))
    assert all(terminated.values()) and not any(truncated.values())
    assert {info["budget_exhausted"] for info in infos.values()} == {"tokens"}
    env = make(budget={"calls": 1})
    env.reset(seed=1)
    _, _, terminated, _, infos = env.step(joint("cheap", "pass", "pass"))
    assert not any(terminated.values()), "what is left is no call, but nobody asked for one"
    assert all(info["action_mask"].tolist() == [1, 0, 0, 0] for info in infos.values())


def test_tiers_whose_instruction_alone_is_too_long_for_what_is_left_are_not_legal() -> None:
    assert all(
        make(budget={"tokens": tokens}).reset(seed=1)[1]["buyer_0"]["action_mask"].sum() == legal
        for tokens, legal in ((20, 1), (6000, 4))
    )


def test_limits_are_kept_by_agent_and_not_enforced() -> None:
    env = make(cost="usd", cost_limits={"usd": 1e-9})
    assert env.cost_limits == {agent: {"usd": 1e-9} for agent in AGENTS}
    env.reset(seed=1)
    assert env.step(joint("cheap", "cheap", "cheap"))[4]["buyer_0"]["cost"] > 1e-9
    env = make(cost_limits={"buyer_0": {"mix": 0.1}, "finder_0": {"tokens": 900}})
    assert env.cost_limits == {"planner_0": {}, "finder_0": {"tokens": 900}, "buyer_0": {"mix": 0.1}}


def test_reward_none_leaves_the_outcome_in_info_only() -> None:
    env = make(reward="none")
    env.reset(seed=3)
    _, rewards, _, _, infos = env.step(joint("cheap", "cheap", "cheap"))
    assert set(rewards.values()) == {0.0} and infos["buyer_0"]["outcome"].score > 0


def test_the_joint_choice_matters_more_than_any_single_one() -> None:
    """On tasks of several domains the best pick of one agent depends on the task and on the others' picks."""
    env = make()
    scores: dict[tuple[str, ...], list[float]] = {}
    for tiers in (("cheap",) * 3, ("dear",) * 3, ("cheap", "cheap", "verify"), ("dear", "cheap", "verify")):
        for task in range(500, 560):
            env.reset(seed=task, options={"task_id": str(task)})
            scores.setdefault(tiers, []).append(env.step(joint(*tiers))[1]["buyer_0"])
    means = {tiers: np.mean(values) for tiers, values in scores.items()}
    best = np.mean(np.max(list(scores.values()), axis=0))
    assert means["cheap", "cheap", "verify"] > means["dear", "dear", "dear"]
    assert best > max(means.values()) + 0.2


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"rounds": 0}, "rounds=0"),
        ({"rounds": "3"}, "rounds='3'"),
        ({"budget": {"steps": 8}}, "steps=8.*3 rounds of 3 agents.*rounds=2"),
        ({"budget": Budget()}, "steps=6"),
        ({"table": {"cook_0": {}}}, "'cook_0'.*'finder_0'"),
        ({"table": {"buyer_0": {"free": "planning"}}}, "'free'.*'cheap'"),
        ({"table": {"buyer_0": {"cheap": "nobody"}}}, "'nobody'.*'planning'"),
        ({"workers": {"kind": "scripted", "pool": [SOLO]}}, "solo.*table="),
        ({"cost_limits": {"cook_0": {"usd": 1}}}, "'cook_0'"),
        ({"cost_limits": {"buyer_0": {"euro": 1}}}, "'euro'"),
        ({"cost_limits": {"usd": -1}}, "'usd'.*-1"),
        ({"pool_size": 0}, "pool_size=0"),
        ({"interface": "json"}, "interface='json'"),
        ({"split": "validation"}, "split='validation'"),
        ({"render_mode": "human"}, "'human'"),
        ({"goal": 3}, "'goal'"),
    ],
)
def test_bad_arguments_are_named_with_the_fix(kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make(**kwargs)


def test_a_team_of_other_workers_needs_a_table() -> None:
    env = make(workers={"kind": "scripted", "pool": [SOLO]}, table={agent: {"cheap": "solo"} for agent in AGENTS})
    env.reset(seed=0)
    assert all(env.action_masks(agent).tolist() == [True, True, False, False] for agent in AGENTS)
    _, _, terminated, _, infos = env.step(joint("pass", "cheap", "cheap"))
    assert all(terminated.values()) and infos["buyer_0"]["records"][0].step.worker_id == "solo"


@pytest.mark.parametrize(
    ("actions", "error"),
    [
        ({"planner_0": 0, "finder_0": 0}, "exactly the live agents"),
        ({"planner_0": 0, "finder_0": 0, "buyer_0": 0, "cook_0": 0}, "cook_0"),
        ({"planner_0": "cheap", "finder_0": 0, "buyer_0": 0}, "str 'cheap'"),
        ([0, 0, 0], "list"),
    ],
)
def test_actions_for_the_wrong_agents_or_of_the_wrong_type(actions: Any, error: str) -> None:
    env = make()
    env.reset(seed=0)
    with pytest.raises(ActionError, match=error):
        env.step(actions)


@pytest.mark.parametrize("options", [{"task": "1"}, {"task_id": "zzz"}, {"pool": ["x"]}, {"sample": -1}])
def test_bad_reset_options_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        make().reset(options=options)


def test_render_shows_the_whole_episode() -> None:
    env = make(render_mode="ansi")
    env.reset(seed=1)
    env.step(joint("cheap", "cheap", "cheap"))
    page = env.render()
    assert "step 0, planner_0" in page and "click[buy now]" in page and "The episode is over (done)" in page
    silent = make()
    silent.reset(seed=1)
    assert silent.render() is None
