"""Environments for TRL's `environment_factory`: each action of a protocol is a typed tool of its own.

TRL takes every public method but `reset` and `get_reward` for a tool, and its docstring for the tool's description.
Nothing here imports TRL. Checked with TRL 1.16 (`GRPOTrainer`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

import registry
from nextstep_envs.errors import ConfigError
from nextstep_envs.recorded.rules import HOW, QuestionRouting
from nextstep_envs.seeding import stream
from wrappers.interfaces.session import Session, make_env, make_text_env, spec_of

_SEE = "A worker sees its subtask and the outputs of"
_TASK = '"{task}" in a subtask stands for the task.'


class Tools:
    """The environment of one rollout; subclasses add the tools.

    Args:
        env: with `interface="text"`, possibly wrapped.
        next_sample: gives the sample of an episode whose row names none.
    """

    def __init__(self, env: gym.Env[Any, Any], next_sample: Callable[[], int]) -> None:
        self._session = Session(env)
        self._next_sample = next_sample

    @property
    def episode(self) -> Session:
        """Reward, cost and info so far, for reward functions and logs: `environments[i].episode.cost`."""
        return self._session

    def reset(self, seed: int | None = None, task_id: str | None = None, sample: int | None = None, **row: Any) -> str:
        """Start an episode; TRL adds what is returned to the last message of the prompt.

        Args:
            seed: fixes task, workers and world: the same for all rollouts of a group.
            task_id: the task, in place of the one that the seed draws.
            sample: which attempt this is; only its noise differs from that of others. By default the number of
                episodes that the factory's environments have begun, so that no two attempts are alike.
            **row: the other columns of the data set, which are of no consequence.

        Raises:
            ConfigError: there is no seed: the rollouts of a group would be about different tasks.
        """
        if seed is None:
            raise ConfigError("the row has no seed, so a group would not share its task; make rows with task_rows")
        sample = self._next_sample() if sample is None else int(sample)
        return self._opening(self._session.reset(int(seed), task_id, sample))

    def get_reward(self) -> float | None:
        """What the rollout has earned. One that stopped calling tools has finished: its work is judged as it stands.

        None after an outage or an error: TRL then leaves the rollout out of its group's baseline and gives it no
        advantage.
        """
        self._session.leave()
        return None if self._session.masked else self._session.reward

    def _act(self, action: Mapping[str, Any]) -> str:
        """Take a decision; entries that are None are left to the protocol."""
        given = {key: value for key, value in action.items() if value is not None}
        return str(self._session.step(json.dumps(given)))

    def _opening(self, message: str) -> str:
        """The first message, with tools in the place of JSON."""
        rules = self._session.env.get_wrapper_attr("setup").rules
        return message.replace(rules.format_text(), self._how(rules))

    def _how(self, rules: Any) -> str:
        """How to act, in words."""
        raise NotImplementedError


class _Finishing(Tools):
    def finish(self) -> str:
        """End the episode. What has been done by then is judged.

        Returns:
            A last message.
        """
        return self._act({"finish": True})


class WorkflowTools(_Finishing):
    """Tools of Workflow: steps run one after the other."""

    def assign(self, subtask: str, worker_id: str, access_list: list[str]) -> str:
        """Have a worker do one step, and wait for its result.

        Args:
            subtask: What the worker shall do. "{task}" in it stands for the task.
            worker_id: Who shall do it: one of the workers listed at the beginning.
            access_list: Earlier steps whose outputs the worker shall see: their numbers, such as "0", or "last" or
                "all". Empty for none.

        Returns:
            What the worker reports, and what is left of the budget.
        """
        return self._act({"subtask": subtask, "worker_id": worker_id, "access_list": access_list})

    def _how(self, rules: Any) -> str:
        return f"Call assign for each step, then finish. {_TASK} {_SEE} the steps in its access list, nothing else."


class RoutingTools(Tools):
    """Tools of Routing: one agent after the other, each seeing everything before it."""

    def activate(self, agent: str, action: str | None = None) -> str:
        """Let an agent work on the task, and wait for its result.

        Args:
            agent: Who: one of the agents listed at the beginning.
            action: Which of its actions, if it has several; otherwise leave it out.

        Returns:
            What the agent reports, and what is left of the budget.
        """
        return self._act({"agent": agent, "action": action})

    def terminate(self) -> str:
        """End the episode. What has been done by then is judged.

        Returns:
            A last message.
        """
        return self._act({"finish": True})

    def _how(self, rules: Any) -> str:
        recorded = isinstance(rules, QuestionRouting)  # what was answered long ago knows nothing of this episode
        said = "An agent sees the task and everything that was written before it."
        seen = HOW[rules.world.rule] if recorded else said
        return f"Call activate for one agent after the other, then terminate. {seen}"


class DagTools(_Finishing):
    """Tools of DAG: nodes are drafted, then run as soon as what they depend on has ended."""

    def add_node(
        self,
        subtask: str,
        agent: str,
        depends_on: list[str],
        cost: float | None = None,
        expects: list[str] | None = None,
    ) -> str:
        """Add a node to the draft. Nothing runs and nothing is charged yet.

        Args:
            subtask: What the agent shall do. "{task}" in it stands for the task.
            agent: Who shall do it: one of the workers listed at the beginning.
            depends_on: Nodes whose outputs it needs: numbers of nodes of this draft, such as "0", ended steps as
                "step 0", or "last" or "all". Empty for a node that can start at once.
            cost: What it may cost. If all nodes declare a cost, the budget is divided in that proportion.
            expects: Texts that the world should show after it; if most of them are missing, you are asked again.

        Returns:
            The draft, and what is left of the budget.
        """
        return self._act(
            {"subtask": subtask, "agent": agent, "depends_on": depends_on, "cost": cost, "expects": expects}
        )

    def run(self) -> str:
        """Run the draft, and wait for the results of its nodes.

        Returns:
            What the agents report, and what is left of the budget.
        """
        return self._act({"run": True})

    def _how(self, rules: Any) -> str:
        limit = f" Cost limit of an episode: {rules.cost_limit:g} {rules.main_cost}." if rules.cost_limits else ""
        return (
            f"Call add_node for each node, then run; look at the results, draft and run again, or finish. {_TASK} "
            f"{_SEE} the nodes that its node depends on, and works where the last of them left the world; the world "
            "after the last node counts. What is left of the budget is divided among the nodes of a run. "
            f"At most {rules.max_nodes} nodes in a draft, {rules.max_parallel} at a time.{limit}"
        )


class SearchTools(_Finishing):
    """Tools of Search: edits of a program, which is evaluated after each."""

    def add_operator(
        self,
        kind: str,
        worker: str,
        inputs: list[str],
        readers: list[str] | None = None,
        name: str | None = None,
        prompt: str | None = None,
    ) -> str:
        """Add an operator to the program, and evaluate the program.

        Args:
            kind: What it does: one of the operators listed at the beginning.
            worker: Who does it: one of the workers listed at the beginning.
            inputs: What it reads: "task", or names of operators before it.
            readers: Operators that shall read it from now on; it is put before them. Left out, it comes last.
            name: What it is called; left out, a name is found.
            prompt: Its instruction; left out, the usual one of its kind. "{task}" in it stands for the task.

        Returns:
            The score, and the program as it is now.
        """
        operator = {"kind": kind, "worker": worker, "inputs": inputs, "name": name, "prompt": prompt}
        given = {key: value for key, value in operator.items() if value is not None}
        return self._act({"edit": "add", "operator": given, "readers": readers})

    def remove_operator(self, name: str) -> str:
        """Take an operator that nothing reads out of the program, and evaluate the program.

        Args:
            name: Which operator.

        Returns:
            The score, and the program as it is now.
        """
        return self._act({"edit": "remove", "name": name})

    def set_operator(
        self, name: str, worker: str | None = None, prompt: str | None = None, inputs: list[str] | None = None
    ) -> str:
        """Change an operator, and evaluate the program. What is left out stays as it is.

        Args:
            name: Which operator.
            worker: Who does it from now on.
            prompt: Its new instruction. "{task}" in it stands for the task.
            inputs: What it reads from now on: "task", or names of operators before it.

        Returns:
            The score, and the program as it is now.
        """
        return self._act({"edit": "set", "name": name, "worker": worker, "prompt": prompt, "inputs": inputs})

    def _how(self, rules: Any) -> str:
        return (
            "Call add_operator, remove_operator or set_operator for one edit after the other, then finish. "
            "An operator reads only what comes before it. Without a prompt it is told the usual instruction of its "
            'kind; "{task}" in a prompt stands for the task, which must then be among the inputs. The last operator '
            "that gives an answer gives the program's answer; what it does not need is not run."
        )


class TabularTools(Tools):
    """The tool of a tabular CMDP. Its states and actions are told by their names."""

    def choose(self, action: int) -> str:
        """Take an action.

        Args:
            action: Its number.

        Returns:
            The next state.
        """
        return self._state(self._session.step(action))

    def _opening(self, message: Any) -> str:
        names = enumerate(self._session.env.get_wrapper_attr("action_names"))
        return f"{self._state(message)}\nActions: {', '.join(f'{i} {name}' for i, name in names)}\n"

    def _state(self, observation: Mapping[str, Any]) -> str:
        if self._session.over:
            return "The episode is over."
        names = self._session.env.get_wrapper_attr("feature_names")
        return f"State: {names[int(np.argmax(observation['observation']))]}"


TOOLS: dict[str, type[Tools]] = {
    "workflow": WorkflowTools,
    "routing": RoutingTools,
    "dag": DagTools,
    "search": SearchTools,
}


class EnvironmentFactory:
    """What TRL calls for each environment it needs; see `trl_environment`. It can be pickled before it is used."""

    def __init__(self, tools: type[Tools], env: str | EnvSpec, cost_weight: float, kwargs: Mapping[str, Any]) -> None:
        self._tools, self._env, self._cost_weight, self._kwargs = tools, env, cost_weight, dict(kwargs)
        self._begun = 0

    def __call__(self) -> Tools:
        """Another environment."""
        make = make_env if self._tools is TabularTools else make_text_env
        return self._tools(make(self._env, self._cost_weight, **self._kwargs), self._next_sample)

    def _next_sample(self) -> int:
        # The processes of a launcher may share a group: each takes the numbers that are its own.
        rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self._begun += 1
        return (self._begun - 1) * processes + rank


def trl_environment(env: str | EnvSpec, *, cost_weight: float = 0.0, **kwargs: Any) -> EnvironmentFactory:
    """What to give a TRL trainer as `environment_factory`.

        GRPOTrainer(
            model=...,
            train_dataset=Dataset.from_list(task_rows("NextStep/WebShop-Workflow-v0", 1000)),
            environment_factory=trl_environment("NextStep/WebShop-Workflow-v0", cost_weight=0.2),
        )

    A group shares the seed of its row, hence task, workers and world; its samples are numbered, so that the
    workers' noise differs. The reward is the environment's own, less the weighted cost; a rollout that an outage
    spoiled has none, and a reward function of yours should return None for it as well (`episode.masked`).
    What cannot be done is told by the tool and uses a step, as in the text interface; a tool that is called after the
    end raises, which TRL shows to the model and counts in `tools/failure_frequency`.

    Args:
        env: an id with a protocol, or of a tabular CMDP; or the spec of such an environment, possibly wrapped:
            `CostPenalty(gym.make(id, interface="text"), 0.2, form="log").spec`.
        cost_weight: price of one unit of `info["cost"]`.
        **kwargs: of the environment.

    Raises:
        ConfigError: the environment has no tools.
    """
    return EnvironmentFactory(_tools(env), env, cost_weight, kwargs)


def task_rows(env: str | EnvSpec, n: int, seed: int = 0, **kwargs: Any) -> list[dict[str, Any]]:
    """Rows of a data set: an empty user message, which `reset` fills in, a seed and the task that it draws.

    Args:
        env: as for `trl_environment`.
        n: how many.
        seed: of the rows' own seeds.
        **kwargs: of the environment, such as `split`.

    Raises:
        ConfigError: the environment has no tools.
    """
    _tools(env)
    made, rng, rows = make_env(env, 0.0, **kwargs), stream(seed, "rows"), []
    for _ in range(n):
        row_seed = rng.randrange(1 << 31)
        _, info = made.reset(seed=row_seed)
        prompt = [{"role": "user", "content": ""}]
        rows.append({"prompt": prompt, "seed": row_seed, "task_id": info["task_id"]})
    made.close()
    return rows


def _tools(env: str | EnvSpec) -> type[Tools]:
    name = spec_of(env).id
    known = {entry.id: entry for entry in registry.entries() if entry.entry_point is not None}
    entry = known.get(name)
    if entry is not None and entry.protocol in TOOLS:
        return TOOLS[entry.protocol]
    if entry is not None and not entry.world:
        return TabularTools
    having = ", ".join(e.id for e in known.values() if e.protocol in TOOLS or not e.world)
    raise ConfigError(f"{name!r} has no protocol with tools; choose one of {having}")
