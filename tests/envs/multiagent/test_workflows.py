"""Users' own workflow functions: what they can do, and how their mistakes are named."""

from __future__ import annotations

from typing import Any

import pytest

from nextstep_envs.errors import ConfigError
from nextstep_envs.multiagent import Role, Taken, Turn
from nextstep_envs.multiagent.workflows import ANSWER, one_after_another
from tests.envs.multiagent.flows import call, make_pipeline, note

FLOWS = "tests.envs.multiagent.flows"


def make(workflow: Any, **kwargs: Any) -> Any:
    return make_pipeline(interface="text", workflow=workflow, **kwargs)


def test_a_function_may_send_roles_back_and_decides_what_they_see_and_may_do() -> None:
    env = make(f"{FLOWS}:back_and_forth")
    env.reset(seed=1)
    task = env.snapshot().task.prompt
    order = []
    for action in (
        call("search[tea]"),
        note("no good"),
        call("search[coffee]"),
        call("search[sofa]"),
        "?",
        "?",
    ):
        order.append(env.agent_selection)
        if env.agent_selection == "chooser_0":
            assert task not in env.last()[0]["message"]
        env.step(action)
    assert order == ["searcher_0", "chooser_0"] * 3 and env.snapshot().end == "finish"
    acts = [taken.act for taken in env.snapshot().taken]
    assert acts == ["search", "answer", "search", "invalid", "invalid", "invalid"], "the chooser may not search"
    assert env.snapshot().taken[2].context == ("no good",), "the searcher reads what the chooser said"


def test_a_role_that_comes_back_is_told_all_again() -> None:
    env = make(f"{FLOWS}:back_and_forth")
    env.reset(seed=1)
    for action in (call("search[tea]"), note("no good")):
        env.step(action)
    message = env.last()[0]["message"]
    assert env.agent_selection == "searcher_0" and "You are searcher_0" in message
    assert "From chooser_0: no good" in message


def test_the_budget_ends_what_a_function_does_not() -> None:
    env = make(f"{FLOWS}:endless", budget={"steps": 5})
    env.reset(seed=1)
    for _ in range(5):
        assert not env.snapshot().end
        env.step(call("search[tea]"))
    assert env.snapshot().end == "budget: steps"
    assert env.snapshot().taken[0].turn.calls == ("search",)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("back_and_forth", "'back_and_forth' must look like 'module:function'"),
        (f"{FLOWS}:", "must look like"),
        (7, "workflow=7 must look like"),
        ("no_such_module:flow", "no_such_module:flow.*No module named"),
        (f"{FLOWS}:no_such_flow", "no_such_flow.*cannot be loaded"),
        (f"{FLOWS}:NOT_A_FUNCTION", "is a int; it must be a function"),
        (f"{FLOWS}:nobody", "nobody.*gives no first turn"),
        (f"{FLOWS}:words", "words.*after 0 turns it returned a str"),
        (f"{FLOWS}:unknown_call", "'fly'.*'search'"),
        (f"{FLOWS}:unknown_hand_over", "'painter_0'.*'searcher_0'"),
    ],
)
def test_a_bad_function_is_named_before_anything_begins(name: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make(name)


@pytest.mark.parametrize(
    ("name", "match"),
    [("stranger", "after 1 turns it returned the agent='painter_0'"), ("failing", "failed after 1 turns: IndexError")],
)
def test_a_function_that_goes_wrong_later_is_named_then(name: str, match: str) -> None:
    env = make(f"{FLOWS}:{name}")
    env.reset(seed=1)
    with pytest.raises(ConfigError, match=match):
        env.step(call("search[tea]"))


def test_the_data_form_is_the_function_that_puts_roles_one_after_another() -> None:
    roles = (Role("a_0", "", 2, ("search",)), Role("b_0", "", 1, (), ("a_0",), False))
    first = one_after_another(roles, ())
    assert first == Turn("a_0", ("search",), (), True, 2)
    second = one_after_another(roles, (Taken(first, "search", "", ""),))
    assert second == Turn("a_0", ("search",), (), True, 1)
    for taken in ((Taken(first, ANSWER, "", ""),), (Taken(first, "search", "", ""), Taken(second, "search", "", ""))):
        third = one_after_another(roles, taken)
        assert third == Turn("b_0", (), ("a_0",), False, 1)
        assert one_after_another(roles, (*taken, Taken(third, "invalid", "", ""))) is None
