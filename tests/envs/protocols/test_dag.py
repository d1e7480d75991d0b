"""The DAG protocol's two interfaces: drafts, masks, what the orchestrator sees, arguments."""

from __future__ import annotations

import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from nextstep_envs.errors import ConfigError
from nextstep_envs.protocols.dag import CONTEXTS
from nextstep_envs.protocols.templates import TEMPLATES
from nextstep_envs.types import Usage
from tests.envs.protocols.dagging import Run, node
from tests.envs.toy import POOL

ID = "nextstep_envs:NextStep/WebShop-DAG-v0"
GRID = (len(POOL), len(TEMPLATES), len(CONTEXTS))
RUN, FINISH = int(np.prod(GRID)), int(np.prod(GRID)) + 1


def index(worker: int, template: int, context: str) -> int:
    return int(np.ravel_multi_index((worker, template, CONTEXTS.index(context)), GRID))


def legal(run: Run) -> tuple[Any, bool, bool]:
    """The mask in parts: nodes [worker, template, context], run, finish."""
    mask = run.rules.mask(run.episode.state)
    assert mask.dtype == np.int8 and mask.shape == (run.rules.n_actions,)
    return mask[:RUN].reshape(GRID), bool(mask[RUN]), bool(mask[FINISH])


def test_drafting_runs_nothing_costs_nothing_and_uses_no_step() -> None:
    run = Run()
    for action in (index(0, 0, "none"), node("x", 0)):
        result = run.act(action)
        assert result.records == () and result.usage == Usage() and not result.terminated
    assert run.started == [] and run.episode.state.steps_used() == 0
    assert "Draft: 0 by a; 1 by a after 0." in run.rules.message(run.episode.state)
    assert len(run.act(RUN).records) == 2 and run.episode.state.draft is None
    assert run.act(RUN).records == () and run.episode.state.notice == "there is no node to run"


def test_finish_drops_the_draft_and_a_whole_dag_replaces_it() -> None:
    run = Run()
    run.act(node("x"))
    result = run.act(FINISH)
    assert result.terminated and run.started == [] and run.episode.state.end == "finish"
    run = Run()
    run.act(node("x"))
    assert [r.step.subtask for r in run.dag(node("y")).records] == ["y"]


def test_contexts_reach_back_to_earlier_runs_and_pass_over_what_was_cut_short() -> None:
    run = Run(max_replans=0)
    for action in (node("p"), node("q"), node("greedy"), {"run": True}):
        run.act(action)
    run.act(index(0, 1, "last"))
    run.act(index(1, 1, "last"))
    run.act(index(1, 1, "all"))
    run.act(index(0, 1, "none"))
    steps = [r.step for r in run.act(RUN).records]
    assert [s.after for s in steps] == [(1,), (3,), (0, 1, 3, 4), ()] and all(s.reads == s.after for s in steps)
    assert [s.index for s in steps] == [3, 4, 5, 6] and [s.worker_id for s in steps] == ["a", "b", "b", "a"]


def test_text_and_vector_actions_agree() -> None:
    by_index, by_text = Run({"steps": 8}, {"mix": 0.1}), Run({"steps": 8}, {"mix": 0.1})
    for worker, template, context in [(0, 0, "none"), (1, 3, "last"), (0, 2, "all"), (1, 1, "none"), (1, 4, "last")]:
        chosen = TEMPLATES[template]
        entry = node(
            chosen.text, *([] if context == "none" else [context]), agent="ab"[worker], expects=list(chosen.expects)
        )
        by_index.act(index(worker, template, context))
        by_text.act(entry)
        assert by_index.episode.state == by_text.episode.state
    for first, second in ((RUN, {"run": True}), (RUN, {"run": True}), (FINISH, {"finish": True})):
        assert by_index.act(first)._replace(outcome=None) == by_text.act(second)._replace(outcome=None)
        assert by_index.episode.state == by_text.episode.state


def test_the_mask_grows_with_what_can_be_depended_on() -> None:
    run = Run()
    nodes, can_run, can_finish = legal(run)
    assert nodes[:, :, 0].all() and not nodes[:, :, 1:].any() and not can_run and can_finish
    run.act(index(0, 0, "none"))
    nodes, can_run, can_finish = legal(run)
    assert nodes[:, :, :2].all() and not nodes[:, :, 2].any() and can_run and can_finish
    run.act(index(0, 0, "none"))
    assert legal(run)[0].all()
    run.act(RUN)
    nodes, can_run, _ = legal(run)
    assert nodes.all() and not can_run


def test_the_mask_closes_when_the_draft_is_full_or_steps_are_used_up() -> None:
    run = Run(max_nodes=2)
    run.act(index(0, 0, "none"))
    run.act(index(0, 0, "none"))
    nodes, can_run, _ = legal(run)
    assert not nodes.any() and can_run
    run = Run({"steps": 2})
    run.act(index(0, 0, "none"))
    run.act(RUN)
    run.act(index(0, 0, "none"))
    nodes, can_run, _ = legal(run)
    assert not nodes.any() and can_run
    assert run.act(RUN).terminated and run.rules.mask(run.episode.state).tolist() == [0] * FINISH + [1]


def test_the_mask_knows_that_a_longer_draft_means_smaller_shares() -> None:
    run = Run({"calls": 2})
    run.act(index(0, 0, "none"))
    assert legal(run)[0].any()
    run.act(index(0, 0, "none"))
    assert not legal(run)[0].any()
    run = Run({"tokens": 40})
    run.act(index(0, 0, "none"))
    nodes, _, _ = legal(run)
    assert nodes[:, 1].any() and not nodes[:, 4].any()  # the longest instruction no longer fits


def test_absent_workers_are_masked_out_and_invalid() -> None:
    run = Run()
    run.episode.reset("7", POOL[1:], seed=1)
    assert not legal(run)[0][0].any() and legal(run)[0][1].any()
    run.act(0)
    assert "must be one of b" in run.episode.state.notice
    run.act(FINISH + 1)
    assert "outside" in run.episode.state.notice


budgets = st.fixed_dictionaries(
    {"steps": st.integers(1, 8), "calls": st.integers(1, 8), "tokens": st.integers(1, 600)},
)


@given(budgets, st.integers(1, 4), st.integers(0, 2), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_every_legal_action_is_valid_and_every_policy_comes_to_an_end(
    budget: dict[str, Any], max_nodes: int, max_replans: int, chance: Any
) -> None:
    run = Run(budget, {"tokens": 50.0}, max_nodes=max_nodes, max_replans=max_replans)
    lazy = chance.random()
    for _ in range(budget["steps"] * (max_nodes + 1) + 2):
        mask = run.rules.mask(run.episode.state)
        choices = np.flatnonzero(mask).tolist()
        if len(choices) > 1 and chance.random() < lazy:
            choices.remove(FINISH)
        assert mask[FINISH] == 1
        vector = run.rules.features(run.episode.state)
        assert vector.dtype == np.float32 and vector.min() >= -1 and vector.max() <= 32
        result = run.act(chance.choice(choices))
        assert not run.episode.state.notice
        if result.terminated:
            return
        assert choices != [FINISH], "finish did not end the episode"
    pytest.fail("the episode does not end")


def test_invalid_actions_keep_the_draft_and_come_to_an_end() -> None:
    run = Run({"steps": 3})
    run.act(node("x"))
    run.act("junk")
    assert [n.step.subtask for n in run.episode.state.draft] == ["x"]
    run.act("junk")
    assert run.act("junk").budget_exhausted == "steps"


def test_features_name_every_entry_and_show_the_draft() -> None:
    run = Run(limits={"tokens": 100.0})
    names = run.rules.features.names
    assert len(set(names)) == len(names) == run.rules.features(run.episode.state).size
    run.act(node("x"))
    run.act(RUN)
    run.act(index(1, 3, "last"))
    run.act(node("y", 0, "step 0"))
    named = dict(zip(names, run.rules.features(run.episode.state).tolist(), strict=True))
    assert named["draft.size"] == pytest.approx(0.2) and named["left.cost_limit"] == pytest.approx(0.8)
    assert named["draft[0].worker.b"] == named["draft[0].template.open"] == named["draft[0].after_last"] == 1
    assert sum(named[f"draft[1].template.{t.name}"] for t in TEMPLATES) == 0 and named["draft[1].worker.a"] == 1
    assert named["draft[1].after_share"] == 1 and named["draft[2].worker.a"] == 0
    assert named["left.replans"] == 1 and named["trigger.failed"] == 0


def test_the_first_message_tells_the_limits_and_later_ones_what_is_left() -> None:
    run = Run(limits={"tokens": 100.0}, max_nodes=7)
    first = run.rules.message(run.episode.state)
    assert "At most 7 nodes" in first and "Cost limit of an episode: 100 tokens." in first and '{"run": true}' in first
    run.act(node("x", id="k"))
    run.act(RUN)
    run.act(node("y", "step 0"))
    second = run.rules.message(run.episode.state)
    assert "Draft: 0 by a after step 0." in second and "Left of the cost limit: 80 tokens." in second
    assert run.rules.transcript(run.episode.state).startswith(first.rstrip())
    assert "Cost limit" not in Run().rules.format_text()


@pytest.mark.parametrize(
    ("kwargs", "why"),
    [
        ({"max_nodes": 0}, "max_nodes=0"),
        ({"max_parallel": 1.5}, "max_parallel=1.5"),
        ({"max_parallel": True}, "max_parallel=True"),
        ({"max_replans": -1}, "max_replans=-1"),
        ({"triggers": {"mood": 1}}, "mood"),
        ({"max_node": 3}, "max_node"),
    ],
)
def test_wrong_arguments_are_named(kwargs: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        gym.make(ID, **kwargs)


@pytest.mark.parametrize("interface", ["vector", "text"])
def test_gymnasiums_checker_is_content(interface: str) -> None:
    check_env(gym.make(ID, interface=interface, disable_env_checker=True).unwrapped)


def test_the_spec_carries_the_cost_limit_and_costs_make_it_a_cmdp() -> None:
    env = gym.make(ID, interface="text", split="test")
    assert env.unwrapped.cost_limits == env.spec.kwargs["cost_limits"] == {"mix": 0.4}
    assert env.unwrapped.budget.steps == 10 and gym.make(ID, budget={"tokens": 900}).unwrapped.budget.steps == 10
    env.reset(seed=3)
    plan = [
        node(TEMPLATES[0].text, agent="planning", cost=0.05),
        node(TEMPLATES[2].text, "0", agent="verification", cost=0.2),
    ]
    _, reward, terminated, _, info = env.step(json.dumps({"dag": plan}))
    assert terminated and info["cost"] == info["costs"][0] == info["cost_terms"]["mix"] > 0
    assert 0 <= reward == info["outcome"]["score"] and len(info["records"]) == 2


def test_info_tells_why_control_came_back() -> None:
    env = gym.make(ID, interface="text", split="test")
    env.reset(seed=3)
    lost = node("Buy what is required", agent="tool_use")  # it was given no requirements
    observation, reward, terminated, _, info = env.step(
        json.dumps({"dag": [lost, node("{task}", 0, agent="planning")]})
    )
    assert info["interrupted"].startswith("failed") and not terminated and reward == 0
    assert len(info["records"]) == 1 and f"Interrupted: {info['interrupted']}" in observation
    _, _, terminated, _, info = env.step('{"finish": true}')
    assert terminated and "interrupted" not in info
