"""The PettingZoo shells of Pipeline: agents act in turn, or all submit an action and one of them counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv

from nextstep_envs.env import check_action, check_render_mode
from nextstep_envs.errors import ConfigError, check_choice
from nextstep_envs.execution import BUDGET
from nextstep_envs.ledger import check_budget, cost_terms
from nextstep_envs.multiagent.pipeline_features import PipelineFeatures
from nextstep_envs.multiagent.pipeline_rules import WAIT, PipelineRules, PipelineState
from nextstep_envs.multiagent.shell import LimitsArg, generator_for, in_order, limits_by_agent, without_probe
from nextstep_envs.multiagent.shop_menu import ShopMenu
from nextstep_envs.multiagent.workflows import INVALID, make_roles, make_workflow
from nextstep_envs.seeding import stream
from nextstep_envs.setup import (
    SPLITS,
    BudgetArg,
    build_world,
    change_budget,
    check_common_options,
    check_cost_names,
)
from nextstep_envs.spaces import Prompt
from nextstep_envs.types import Budget, Usage

RESET_OPTIONS = ("task_id", "sample")
MENUS = {"webshop": ShopMenu}
_METADATA = {"name": "nextstep_pipeline_v0", "render_modes": ["ansi"], "render_fps": 1, "is_parallelizable": True}


class _Shell:
    """What both forms share: arguments, spaces, starting state, infos, snapshots."""

    metadata: dict[str, Any] = _METADATA
    agents: list[str]
    _kept: tuple[str, ...] = ("agents", "_state", "_np_random")  # attributes that a pickle carries

    def __init__(
        self,
        world: str = "webshop",
        interface: str = "vector",
        pipeline: Any = None,
        workflow: str | None = None,
        split: str = "train",
        budget: BudgetArg = None,
        cost: str | Sequence[str] = "mix",
        cost_limits: LimitsArg = None,
        reward: str = "outcome",
        render_mode: str | None = None,
        **world_kwargs: Any,
    ) -> None:
        self._kwargs = {k: v for k, v in locals().items() if k not in ("self", "world_kwargs", "__class__")}
        self._kwargs |= world_kwargs
        check_choice("interface", interface, ("vector", "text"))
        check_choice("reward", reward, ("outcome", "none"))
        check_choice("split", split, SPLITS)
        check_choice("world", world, MENUS)
        check_render_mode(render_mode, ("ansi",))
        self.cost_names = check_cost_names(cost)
        if world_kwargs.get("show_instruction"):
            raise ConfigError("show_instruction=True would show the task to roles that may not see it; leave it out")
        menu = MENUS[world]
        kinds = tuple(menu.kinds)
        roles = make_roles(pipeline, menu.roles, kinds)
        turns = sum(role.turns for role in roles)
        self.budget: Budget = check_budget(change_budget(budget, Budget(steps=turns, calls=turns)))
        next_turn = make_workflow(workflow, roles, kinds)
        built: Any = build_world(world, {**world_kwargs, "show_instruction": False})
        built.ids(split)
        self.rules = PipelineRules(built, menu(built), roles, next_turn, self.budget)
        self.features = PipelineFeatures(self.rules)
        self.split, self.render_mode = split, render_mode
        self.scored, self.text = reward == "outcome", interface == "text"
        self.possible_agents: list[str] = list(self.rules.roles)
        self.agents = []
        self.cost_limits = limits_by_agent(cost_limits, self.possible_agents)
        self.observation_spaces = {agent: self._observation_space() for agent in self.possible_agents}
        self.action_spaces: dict[str, spaces.Space[Any]] = {
            agent: Prompt() if self.text else spaces.Discrete(self.rules.n_actions) for agent in self.possible_agents
        }
        self._np_random: np.random.Generator | None = None
        self._state: PipelineState | None = None

    def _observation_space(self) -> spaces.Dict:
        if self.text:
            return spaces.Dict(message=Prompt())
        return spaces.Dict(
            observation=spaces.Box(-1.0, 1.0, (self.features.size,), np.float32),
            action_mask=spaces.Box(0, 1, (self.rules.n_actions,), np.int8),
        )

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """The agent's observation space, the same object at every call."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """The agent's action space, the same object at every call."""
        return self.action_spaces[agent]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the entries of the vector observation."""
        return self.features.names

    @property
    def action_names(self) -> tuple[str, ...]:
        """What the vector actions are."""
        return ("wait", "hand_over", *self.rules.menu.slot_names)

    def observe(self, agent: str) -> Any:
        """What an agent sees now."""
        state = self._now()
        if self.text:
            return {"message": self.rules.message(state, agent)}
        return {"observation": self.features(state, agent), "action_mask": self.rules.mask(state, agent)}

    def action_masks(self, agent: str) -> npt.NDArray[np.bool_]:
        """Legal actions of an agent, bool [n]."""
        return self.rules.mask(self._now(), agent).astype(bool)

    def render(self) -> str | None:
        """The whole episode as text (`render_mode="ansi"`)."""
        return self.rules.transcript(self._now()) if self.render_mode == "ansi" else None

    def close(self) -> None:
        """Nothing to release."""

    def snapshot(self) -> PipelineState:
        """The episode as one frozen, picklable object; both forms have the same."""
        return self._now()

    def _begin(self, seed: int | None, options: Mapping[str, Any] | None) -> None:
        checked = check_common_options(without_probe(options), RESET_OPTIONS)
        task_id = checked.get("task_id")
        if task_id is not None:
            self.rules.world.task(str(task_id))
        self._np_random = generator_for(seed, self._np_random)
        episode_seed = int(self._np_random.integers(1 << 62))
        if task_id is None:
            task_id = self.rules.world.sample_id(self.split, stream(episode_seed, "task"))
        self._state = self.rules.begin(str(task_id), episode_seed, int(checked.get("sample", 0)))
        self.agents = list(self.possible_agents)

    def _now(self) -> PipelineState:
        if self._state is None:
            raise RuntimeError("no episode has begun; call reset first")
        return self._state

    def _advance(self, action: int | str) -> None:
        self._state = self.rules.act(self._now(), action)

    def _reward(self) -> float:
        state = self._now()
        return float(self.rules.outcome(state).score) if state.end and self.scored else 0.0

    def _info(self, agent: str, turn: int | None) -> dict[str, Any]:
        """The info of an agent that is told about one of its turns, or about none."""
        state = self._now()
        taken = None if turn is None else state.taken[turn]
        terms = cost_terms(Usage() if taken is None else taken.usage, self.budget)
        info: dict[str, Any] = {
            "task_id": state.task.task_id,
            "sample": state.sample,
            "costs": np.array([terms[name] for name in self.cost_names]),
            "cost": terms[self.cost_names[0]],
            "cost_terms": terms,
            "books": {},
            "records": () if turn is None else (self.rules.record(state, turn),),
            "action_mask": self.rules.mask(state, agent),
            "invalid_action": taken is not None and taken.act == INVALID,
        }
        if state.end:
            info["outcome"] = self.rules.outcome(state)
            if state.end.startswith(BUDGET):
                info["budget_exhausted"] = state.end.removeprefix(BUDGET)
        return info

    # Worlds are large: a pickle carries the arguments and the episode, and rebuilds the world.
    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in vars(self).items() if name in self._kept}
        return {"kwargs": self._kwargs, "kept": kept}

    def __setstate__(self, pickled: dict[str, Any]) -> None:
        type(self).__init__(self, **pickled["kwargs"])
        vars(self).update(pickled["kept"])


class PipelineEnv(_Shell, AECEnv[str, Any, Any]):
    """Roles work on a task one after another; at its turn a role acts in the world itself or hands over.

    The roles of WebShop are `searcher_0` (searches), `chooser_0` (opens and reads about products) and `buyer_0` (sets
    options and buys), in the form of MAPPA's pipelines (solver, executor, verifier). A pipeline is data (`pipeline=`),
    or a user's own function (`workflow="module:function"`) that gives the next turn for the turns taken so far.

    ## Action space
    `interface="vector"`: `Discrete(n)` for each role, the same for all: 0 waits (legal while it is another's turn), 1
    hands over with a note on what is open, the others are the world's calls in fixed slots; `action_names` names them.
    `interface="text"`: `Prompt`, JSON: `{"action": "search[red shoe]"}` or `{"answer": "a note"}`, which hands over.
    What cannot be parsed or is not allowed is an *invalid action*: nothing runs, the turn is used, the next message
    says why, and `info["invalid_action"]` is True.

    ## Observation space
    `"vector"`: `Dict(observation=Box float32 [m], action_mask=Box int8 [n])`; `feature_names` names the m entries.
    `"text"`: `Dict(message=Prompt)`, the next message of the role's conversation. In both a role sees, at its turn, the
    open page, its turns and the budget left, the hand-overs of the roles that it may read, and the task only where its
    turn shows it; at others' turns only that it must wait. Pages do not show the instruction.

    ## Reward
    Shared: the world's outcome in [0, 1] to every role when the episode ends, else 0 (`reward="outcome"`), or always 0
    (`reward="none"`).

    ## Cost
    A turn costs its role a call, the estimated tokens of its message and of what it wrote (one per four characters)
    and, if it made a call in the world, one `env_steps`. `info["costs"]` float64 [K] are those of one turn, in the
    order of `cost=`. In this form `infos[agent]` tells of the agent's last turn until it takes another (as rewards
    accumulate until then), so that what `last()` gives adds up; in the parallel form it tells of the last step only.
    `cost_limits[agent]` holds the agent's limits per episode, for trainers.

    ## Episode end
    Terminated for all: the workflow ends, the world is done, or the budget is exhausted (`info["budget_exhausted"]`
    names the resource; a turn that does not fit is not made). Never truncated. `info["outcome"]` comes at the end and
    is ground truth.

    ## Starting state
    `reset(seed=s)` draws the task; `options["task_id"]` picks it. `options["sample"]` is only a label: the roles are
    the policies, so an attempt has no noise of its own.

    Args:
        world: name of the world: webshop.
        interface: "vector" or "text".
        pipeline: roles as a list of mappings with the fields of `workflows.Role`, or the path of a YAML file of such a
            list; default the world's own.
        workflow: "module:function": a pure function from the turns taken so far (a tuple of `workflows.Taken`) to the
            next `workflows.Turn`, or None for the end; default the roles one after another. Its agents are those of
            `pipeline`.
        split: "train", "dev", "test" or "all".
        budget: `Budget` fields to change; by default as many steps and calls as the roles have turns. Roles have no
            price, so `usd` never binds, and what bounds the length of an action is the policy's business, not
            `call_tokens`.
        cost: one cost name or several: mix, usd, tokens, calls, env_steps, flops.
        cost_limits: per episode, in raw units, for all agents (`{"tokens": 900}`) or by agent
            (`{"buyer_0": {"tokens": 900}}`).
        reward: "outcome" or "none".
        render_mode: None or "ansi".
        **world_kwargs: for the world, for example `data_dir`, `num_products`, `goals`.

    ## Version history
    v0: first version.
    """

    _kept = (
        *_Shell._kept, "agent_selection", "_skip_agent_selection", "rewards", "_cumulative_rewards", "terminations",
        "truncations", "infos",
    )  # fmt: skip

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> None:
        """Start an episode; options: task_id, sample."""
        self._begin(seed, options)
        self._show()

    def step(self, action: Any) -> None:
        """Take the turn of the agent that is selected."""
        if not self.agents:
            raise RuntimeError("the episode is over or has not begun; call reset first")
        agent = self.agent_selection
        if self.terminations[agent]:
            self._was_dead_step(action)
            return
        self._advance(check_action(action, self.text))
        self._show()

    def restore(self, state: PipelineState, sample: int | None = None) -> None:
        """Continue from a snapshot; a pipeline has no noise, so `sample` is only a label."""
        self._state = state if sample is None else replace(state, sample=sample)
        self.agents = list(self.possible_agents)
        self._show()

    def _show(self) -> None:
        """PettingZoo's attributes, all of which follow from the state."""
        state = self._now()
        over = bool(state.end)
        self.rewards = dict.fromkeys(self.agents, self._reward())
        # Nothing is earned before the end, so what has accumulated is the last reward.
        self._cumulative_rewards = dict(self.rewards)
        self.terminations = dict.fromkeys(self.agents, over)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {agent: self._info(agent, state.last_of(agent)) for agent in self.agents}
        self.agent_selection = state.turn.agent
        self._skip_agent_selection = None
        if over:
            self._deads_step_first()


class ParallelPipelineEnv(_Shell, ParallelEnv[str, Any, Any]):
    """`PipelineEnv` in PettingZoo's parallel form: every role submits an action, the one whose turn it is acts.

    The others may only wait: action 0, or the text "". Anything else they submit does nothing and is reported in their
    `info["invalid_action"]`. The same actions give the same episode as in the AEC form; a step's info holds only what
    that step cost the agent.
    """

    def reset(
        self, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Start an episode; options: task_id, sample."""
        self._begin(seed, options)
        return self._observe_all(), {agent: self._info(agent, None) for agent in self.agents}

    def step(self, actions: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
        """Take one turn: observations, rewards, terminations, truncations and infos by agent."""
        given = in_order(actions, self.agents)
        checked = dict(zip(self.agents, (check_action(action, self.text) for action in given), strict=True))
        actor, turn = self._now().turn.agent, len(self._now().taken)
        self._advance(checked[actor])
        agents, reward, over = self.agents, self._reward(), bool(self._now().end)
        infos = {agent: self._info(agent, turn if agent == actor else None) for agent in agents}
        for agent in agents:
            if agent != actor:
                infos[agent]["invalid_action"] = checked[agent] != ("" if self.text else WAIT)
        observations = self._observe_all()
        if over:
            self.agents = []
        return (
            observations,
            dict.fromkeys(agents, reward),
            dict.fromkeys(agents, over),
            dict.fromkeys(agents, False),
            infos,
        )

    def restore(self, state: PipelineState, sample: int | None = None) -> None:
        """Continue from a snapshot; a pipeline has no noise, so `sample` is only a label."""
        self._state = state if sample is None else replace(state, sample=sample)
        self.agents = [] if state.end else list(self.possible_agents)

    def _observe_all(self) -> dict[str, Any]:
        return {agent: self.observe(agent) for agent in self.agents}
