"""Pipeline: roles act in turn, see only what they may, and both PettingZoo forms give the same episode."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from nextstep_envs.errors import ConfigError
from nextstep_envs.multiagent.pipeline_rules import HAND_OVER, WAIT
from tests.envs.multiagent.flows import BLIND, ROLES, call, legal, make_pipeline, note


def test_a_role_acts_until_it_hands_over_or_its_turns_are_used_up() -> None:
    env = make_pipeline(interface="text")
    env.reset(seed=1)
    acted = []
    for action in (call("search[lamp]"), note("page 1"), *[call("click[back to search]")] * 6, note("nothing")):
        acted.append(env.agent_selection)
        env.step(action)
    assert acted == ["searcher_0"] * 2 + ["chooser_0"] * 6 + ["buyer_0"]
    assert env.snapshot().end == "finish" and set(env.terminations.values()) == {True}


def test_a_purchase_ends_it_with_the_same_reward_for_all() -> None:
    env = make_pipeline()
    env.reset(seed=2)
    names = env.action_names
    for name in ("search.translated_with_options", "hand_over", "open[0]", "hand_over", "buy"):
        _, reward, terminated, _, _ = env.last()
        assert reward == 0.0 and not terminated
        env.step(names.index(name))
    assert env.snapshot().end == "done"
    seen = {}
    for agent in env.agent_iter():
        _, reward, terminated, truncated, info = env.last()
        seen[agent] = reward
        assert terminated and not truncated and info["outcome"].score == reward
        env.step(None)
    assert set(seen) == set(ROLES) and len(set(seen.values())) == 1 and seen["buyer_0"] > 0
    with pytest.raises(RuntimeError, match="reset"):
        env.step(0)


@pytest.mark.parametrize("interface", ["vector", "text"])
def test_both_forms_give_the_same_episode(interface: str) -> None:
    aec, parallel = make_pipeline(interface=interface), make_pipeline("parallel", interface=interface)
    rng = random.Random(0)
    for seed in range(12):
        aec.reset(seed=seed)
        observations, _ = parallel.reset(seed=seed)
        spent = dict.fromkeys(ROLES, 0.0)
        total = dict.fromkeys(ROLES, 0.0)
        while not any(aec.terminations.values()):
            observation, _, _, _, info = aec.last()
            actor = aec.agent_selection
            spent[actor] += info["cost"]
            for agent in ROLES:
                np.testing.assert_equal(aec.observe(agent), observations[agent])
            action: Any = legal(info["action_mask"], rng)
            wait: Any = WAIT
            if interface == "text":
                slot = aec.rules.slots(aec.snapshot())[action - 2] if action > HAND_OVER else None
                action, wait = (note("done") if slot is None else call(slot.call)), ""
            aec.step(action)
            everybody = dict.fromkeys(ROLES, wait) | {actor: action}
            observations, rewards, terminated, truncated, infos = parallel.step(everybody)
            assert aec.snapshot() == parallel.snapshot()
            assert aec.terminations == terminated and aec.truncations == truncated and aec.rewards == rewards
            assert not any(info["invalid_action"] for info in infos.values())
            assert infos[actor]["records"] == aec.infos[actor]["records"]
            for agent in ROLES:
                total[agent] += infos[agent]["cost"]
        for _ in aec.agent_iter():
            spent[aec.agent_selection] += aec.last()[4]["cost"]
            aec.step(None)
        assert parallel.agents == [] and spent == pytest.approx(total)


def test_vector_and_text_actions_give_the_same_episode() -> None:
    vector, text, rng = make_pipeline(), make_pipeline(interface="text"), random.Random(3)
    for seed in range(8):
        vector.reset(seed=seed), text.reset(seed=seed)
        while not vector.snapshot().end:
            vector.step(legal(vector.action_masks(vector.agent_selection), rng))
            text.step(vector.snapshot().taken[-1].wrote)
            assert vector.snapshot() == text.snapshot()


def test_legal_actions_are_never_invalid_and_somebody_can_always_act() -> None:
    env, rng = make_pipeline("parallel"), random.Random(1)
    for seed in range(25):
        env.reset(seed=seed)
        while env.agents:
            masks = {agent: env.action_masks(agent) for agent in ROLES}
            actor = env.snapshot().turn.agent
            assert all(mask.any() for mask in masks.values()) and masks[actor][HAND_OVER] and not masks[actor][WAIT]
            waiting = [mask for agent, mask in masks.items() if agent != actor]
            assert all(mask[WAIT] and mask.sum() == 1 for mask in waiting)
            _, _, _, _, infos = env.step({agent: legal(mask, rng) for agent, mask in masks.items()})
            assert not any(info["invalid_action"] for info in infos.values())


def test_every_illegal_action_is_invalid_uses_the_turn_and_runs_nothing() -> None:
    env = make_pipeline()
    env.reset(seed=1)
    start = env.snapshot()
    for action in [*np.flatnonzero(~env.action_masks("searcher_0")).tolist(), 99, -1]:
        env.restore(start)
        env.step(action)
        state = env.snapshot()
        assert env.infos["searcher_0"]["invalid_action"] is True
        assert state.world == start.world and len(state.taken) == 1 and state.turn.left == start.turn.left - 1
        env.step(env.action_names.index("search.whole"))
        assert env.infos["searcher_0"]["invalid_action"] is False


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("search for lamps", 'no JSON object with an "action" or an "answer"'),
        ('{"action": 3}', "no JSON object"),
        ('{"action": "search"}', "'search' does nothing on this page"),
        ('{"action": "click[b000]"}', "'click[b000]' does nothing on this page"),
        ("", "no JSON object"),
    ],
)
def test_what_cannot_be_read_or_is_not_allowed_is_told_in_the_next_message(written: str, told: str) -> None:
    env = make_pipeline(interface="text")
    env.reset(seed=1)
    env.step(written)
    message = env.last()[0]["message"]
    assert f"Invalid action, nothing was run: {told}" in message and "Your turns left: 2." in message
    assert "Invalid" not in env.observe("buyer_0")["message"]
    env.step(note("sorry"))
    assert "Invalid" not in env.last()[0]["message"]


def test_a_call_that_the_page_offers_but_the_role_may_not_make_is_invalid() -> None:
    env = make_pipeline(interface="text")
    env.reset(seed=1)
    env.step(call("search[tea]"))
    page = env.snapshot().world
    product = f"click[{page.shown[0].lower()}]"
    env.step(call(product))
    assert env.snapshot().world == page and env.infos["searcher_0"]["invalid_action"] is True
    assert f"{product!r} is a call of the kind open, which searcher_0 may not make" in env.last()[0]["message"]
    env.step(note("take the first"))
    env.step(call(product))
    assert env.snapshot().world.page == "item" and env.infos["chooser_0"]["invalid_action"] is False


def test_only_the_agent_whose_turn_it_is_acts_in_the_parallel_form() -> None:
    for interface, wrong, wait in (("vector", HAND_OVER, WAIT), ("text", note("me first"), "")):
        env = make_pipeline("parallel", interface=interface)
        env.reset(seed=1)
        start = env.snapshot()
        act = 2 if interface == "vector" else call("search[lamp]")
        _, _, _, _, infos = env.step({"searcher_0": act, "chooser_0": wrong, "buyer_0": wait})
        assert [infos[agent]["invalid_action"] for agent in ROLES] == [False, True, False]
        assert infos["chooser_0"]["cost"] == 0.0 and infos["chooser_0"]["records"] == ()
        assert len(env.snapshot().taken) == 1 and env.snapshot().world != start.world
        _, _, _, _, infos = env.step(dict.fromkeys(ROLES, wait))
        assert infos["searcher_0"]["invalid_action"] is True, "whose turn it is must not wait"


def test_a_role_that_may_not_see_the_task_observes_the_same_whatever_the_task_is() -> None:
    for interface in ("vector", "text"):
        env = make_pipeline(interface=interface, pipeline=BLIND)
        views = []
        for task in ("500", "501"):
            env.reset(seed=0, options={"task_id": task})
            env.step(HAND_OVER if interface == "vector" else note("nothing yet"))
            assert env.agent_selection == "b_0"
            state = env.snapshot()
            # Everybody has read equally much: what is left of the budget may depend on the task, what is read may not.
            env.restore(type(state)(state.task, state.world, 0, state.turn, 0, state.taken, state.handed))
            views.append((env.observe("b_0"), env.observe("c_0"), env.rules.texts(state)))
        np.testing.assert_equal(views[0], views[1])
        env.reset(seed=0, options={"task_id": "500"})
        first = env.observe("a_0")
        env.reset(seed=0, options={"task_id": "501"})
        with pytest.raises(AssertionError):
            np.testing.assert_equal(first, env.observe("a_0"))


def test_a_role_reads_the_hand_overs_it_may_see_and_no_others() -> None:
    text, vector = make_pipeline(interface="text", pipeline=BLIND), make_pipeline(pipeline=BLIND)
    views = []
    for secret in ("aaaa bbbb", "cccc dddd"):
        text.reset(seed=0)
        text.step(note(secret))
        assert f"From a_0: {secret}" in text.last()[0]["message"]
        vector.restore(text.snapshot())
        at = vector.feature_names.index("handed_hash[0]")
        assert vector.observe("b_0")["observation"][at : at + 64].any()
        text.step(note("open nothing"))
        assert "From b_0: open nothing" in text.last()[0]["message"]
        vector.restore(text.snapshot())
        views.append((text.observe("c_0"), vector.observe("c_0")))
    np.testing.assert_equal(views[0], views[1])


def test_waiting_agents_learn_only_that_they_must_wait() -> None:
    text, vector = make_pipeline(interface="text"), make_pipeline()
    for env in (text, vector):
        env.reset(seed=0)
    assert text.observe("buyer_0") == {"message": "It is searcher_0's turn: wait."}
    observation = vector.observe("buyer_0")["observation"]
    names = np.array(vector.feature_names)
    assert {name.partition("[")[0] for name in names[observation != 0]} == {
        "me.buyer_0", "left.steps", "left.tokens", "left.calls", "left.env_steps",
    }  # fmt: skip


def test_pages_never_show_the_instruction() -> None:
    env = make_pipeline(interface="text", pipeline=BLIND)
    env.reset(seed=0, options={"task_id": "500"})
    instruction = env.snapshot().task.prompt
    assert instruction in env.observe("a_0")["message"]
    env.step(call("search[lamp]"))
    env.step(note(""))
    assert instruction not in env.observe("b_0")["message"]
    with pytest.raises(ConfigError, match="show_instruction=True"):
        make_pipeline(show_instruction=True)


def test_the_conversation_of_a_role_grows_by_what_is_new() -> None:
    env = make_pipeline(interface="text")
    env.reset(seed=0)
    first = env.last()[0]["message"]
    assert "You are searcher_0." in first and "Task:" in first and "search[words]" in first and '{"answer"' in first
    env.step(call("search[lamp]"))
    second = env.last()[0]["message"]
    assert second.startswith("The world shows:\n[button] Back to Search") and "Task:" not in second


def test_a_role_that_runs_out_of_turns_leaves_a_note_on_what_is_open() -> None:
    env = make_pipeline(interface="text", pipeline=BLIND)
    env.reset(seed=0)
    env.step(call("search[sofa]"))
    env.step(call("search[ottoman footrest]"))
    assert env.agent_selection == "b_0" and "From a_0: Results page 1 shows" in env.last()[0]["message"]
