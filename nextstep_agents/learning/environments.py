"""From what a user calls an environment to a `Stage`, and what there is to know about it before training."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from pettingzoo import AECEnv, ParallelEnv

import nextstep_envs  # noqa: F401  (registers the ids)
import registry
from nextstep_agents.learning.stages import SingleStage, Stage, TeamStage, VectorStage
from nextstep_envs.errors import ConfigError
from nextstep_envs.tabular import TabularCMDP
from nextstep_envs.vector import BatchedVectorEnv

SLOTS = 16  # environments side by side where each step is Python
COLUMNS = 128  # and where one step of all is a few array operations
CUT_OFF = 0.99  # discount of rewards where episodes are cut off from outside
NEGLIGIBLE = 1e-3  # a discounted problem that goes on for ever is cut where what follows weighs less than this
BATCHED = f"{BatchedVectorEnv.__module__}:{BatchedVectorEnv.__qualname__}"

logger = logging.getLogger("nextstep")
Make = Callable[[], Any]


@dataclass(frozen=True)
class Problem:
    """An environment to train on.

    Attributes:
        name: its id, or what it is.
        stage: slots for its episodes.
        cost_limits: the environment's own budgets by cost name (of a team by agent), or None.
        gamma: discount of rewards that suits it.
        objective_gamma: discount of returns and costs in the problem itself: 1 but for discounted tabular CMDPs.
        owned: whether `close` closes the environments, which were made here.
    """

    name: str
    stage: Stage
    cost_limits: Mapping[str, Any] | None
    gamma: float
    objective_gamma: float
    owned: bool

    def close(self) -> None:
        """Release what the environments hold."""
        if self.owned:
            self.stage.close()


def open_problem(
    env_or_id: Any,
    env_kwargs: Mapping[str, Any] | None = None,
    *,
    team: bool = False,
    num_envs: int | None = None,
    max_decisions: int | None = None,
    cost_limits: Any = None,
) -> Problem:
    """Make the environments of a run.

    An id is made as often as there are slots; a tabular CMDP becomes its vector form. An instance is copied through its
    Gymnasium spec, a parallel environment of this project as it stands; what cannot be copied, or `num_envs=1`, plays
    in the very instance, one episode after the other. A callable makes one environment a call.

    Args:
        env_or_id: an id of Gymnasium or of this project, a Gymnasium environment, a `TabularCMDP`, a PettingZoo
            parallel environment, or a callable that returns one of these.
        env_kwargs: arguments for an id.
        team: of an id that has a single-agent and a parallel form, take the parallel one.
        num_envs: slots; None: 16, or 128 where all are stepped at once.
        max_decisions: after which the learner stops an episode.
        cost_limits: as the user gave them; they name the costs of environments that do not.

    Raises:
        ConfigError: nothing can be made of it, or the result has no costs that could be limited.
    """
    first, another, owned = _source(env_or_id, dict(env_kwargs or {}), team, num_envs)
    name = env_or_id if isinstance(env_or_id, str) else f"{type(_inner(first)).__name__} (an object)"
    count = num_envs or SLOTS
    tabular = _tabular(first)
    if tabular is not None:
        first = tabular.vector(num_envs or COLUMNS, max_episode_steps=_horizon(tabular))
    names = _cost_names(first, cost_limits)
    if isinstance(first, VectorEnv):
        stage: Stage = VectorStage(first, names)
    else:
        if another is None and num_envs is not None and num_envs > 1:
            raise ConfigError(f"num_envs={num_envs}, but {name} cannot be copied; give a callable that makes one")
        if another is None:
            logger.info("%s cannot be copied: episodes are played one at a time; a callable would allow more", name)
        envs = [first, *(another() for _ in range(count - 1))] if another is not None else [first]
        stage = TeamStage(envs, names) if isinstance(first, ParallelEnv) else SingleStage(envs, names)
    inner = _inner(first)
    exact = isinstance(inner, TabularCMDP)
    objective = inner.gamma if exact else 1.0
    gamma = objective if exact else _discount(first, max_decisions)
    return Problem(name, stage, _attribute(first, "cost_limits"), gamma, objective, owned)


def _source(env_or_id: Any, kwargs: dict[str, Any], team: bool, num_envs: int | None) -> tuple[Any, Make | None, bool]:
    """One environment, how to make another (None: it cannot be done), and whether they are ours to close."""
    if isinstance(env_or_id, str):
        make = _by_id(env_or_id, kwargs, team, num_envs)
        return make(), make, True
    if kwargs:
        raise ConfigError(f"env_kwargs={kwargs} are for ids; give them to {env_or_id!r} yourself")
    if isinstance(env_or_id, AECEnv):
        raise ConfigError(f"{env_or_id!r} acts in turns; give its parallel form, see pettingzoo.utils.aec_to_parallel")
    if isinstance(env_or_id, VectorEnv):
        if env_or_id.metadata.get("autoreset_mode") is not AutoresetMode.SAME_STEP or not _ours(env_or_id):
            raise ConfigError(f"{env_or_id!r}: give an id or a callable that makes one environment, not a vector")
        return env_or_id, None, False
    if isinstance(env_or_id, gym.Env):
        spec = env_or_id.spec
        if num_envs == 1 or spec is None or any(w.kwargs is None for w in spec.additional_wrappers):
            return env_or_id, None, False
        return _from_spec(spec)(), _from_spec(spec), True
    if isinstance(env_or_id, ParallelEnv):
        if num_envs == 1 or not _ours(env_or_id):
            return env_or_id, None, False
        return deepcopy(env_or_id), lambda: deepcopy(env_or_id), True
    if callable(env_or_id):
        first = env_or_id()
        if not isinstance(first, gym.Env | ParallelEnv):
            raise ConfigError(f"env_or_id={env_or_id!r} returned {first!r}, which is no environment")
        return first, env_or_id, True
    raise ConfigError(
        f"env_or_id={env_or_id!r} is no environment; give an id (see `nextstep envs`), a Gymnasium environment, a "
        "PettingZoo parallel environment, or a callable that makes one"
    )


def _by_id(id: str, kwargs: dict[str, Any], team: bool, num_envs: int | None) -> Make:
    own = id.removeprefix("nextstep_envs:")
    entry = _entry(own)
    if entry is None and ":" not in id and id not in gym.registry:
        registry.load_plugins()
        entry = _entry(own)
    if entry is not None and entry.parallel_entry_point and (team or not entry.entry_point):
        return lambda: registry.make_parallel(own, **kwargs)
    if entry is not None and not entry.entry_point:
        raise ConfigError(f"env={id!r}: its agents act in turns only; training needs a single-agent or parallel form")
    if entry is not None and entry.vector_entry_point not in (None, BATCHED):  # by column; see SLOTS
        return lambda: gym.make_vec(id, num_envs or COLUMNS, **kwargs)

    def make() -> gym.Env[Any, Any]:
        try:
            return gym.make(id, disable_env_checker=True, **kwargs)
        except (gym.error.UnregisteredEnv, ModuleNotFoundError) as error:
            raise ConfigError(f"env={id!r} is not registered with Gymnasium: {error}; see `nextstep envs`") from error

    return make


def _entry(id: str) -> registry.EnvEntry | None:
    return next((entry for entry in registry.entries() if entry.id == id), None)


def _from_spec(spec: EnvSpec) -> Make:
    return lambda: gym.make(spec, disable_env_checker=True)


def _ours(env: Any) -> bool:
    return type(env).__module__.partition(".")[0] == "nextstep_envs"


def _inner(env: Any) -> Any:
    """What is behind the wrappers; of a vector of tabular CMDPs, the CMDP."""
    return getattr(env.unwrapped, "cmdp", env.unwrapped)


def _tabular(env: Any) -> TabularCMDP | None:
    """The tabular CMDP, unless a wrapper changes what it does."""
    while isinstance(env, OrderEnforcing | PassiveEnvChecker):
        env = env.env
    return env if isinstance(env, TabularCMDP) else None


def _horizon(cmdp: TabularCMDP) -> int | None:
    """Decisions after which an episode is cut off; only where it could go on for ever."""
    if cmdp.gamma == 1.0 or cmdp.horizon is not None:
        return None
    return math.ceil(math.log(NEGLIGIBLE) / math.log(cmdp.gamma))


def _attribute(env: Any, name: str) -> Any:
    """An attribute of an environment or of what it wraps, or None."""
    if isinstance(env, gym.Env):
        return env.get_wrapper_attr(name) if env.has_wrapper_attr(name) else None
    return getattr(env, name, getattr(env.unwrapped, name, None))


def _cost_names(env: Any, cost_limits: Any) -> tuple[str, ...]:
    """The environment's own names, else what the limits say: "cost" for one, "cost_0", "cost_1" ... for several."""
    names = _attribute(env, "cost_names")
    if names is not None:
        return tuple(names)
    if cost_limits is None or not len(cost_limits):
        return ()
    if isinstance(env, ParallelEnv) or len(cost_limits) == 1:
        single = isinstance(cost_limits, Mapping) and not isinstance(env, ParallelEnv)
        return tuple(map(str, cost_limits)) if single else ("cost",)
    if isinstance(cost_limits, Mapping):
        raise ConfigError(
            f"cost_limits={dict(cost_limits)!r}: the environment does not name its costs; give a list in the order of "
            "info['costs'], or the environment an attribute cost_names"
        )
    return tuple(f"cost_{k}" for k in range(len(cost_limits)))


def _discount(env: Any, max_decisions: int | None) -> float:
    """1 for episodes that end by themselves; less where they are cut off, or may be for all we know."""
    if max_decisions is not None or (isinstance(env, ParallelEnv) and not _ours(env)):
        return CUT_OFF
    if isinstance(env, gym.Env) and env.spec is not None and env.spec.max_episode_steps is not None:
        return CUT_OFF
    while isinstance(env, gym.Wrapper):
        if isinstance(env, TimeLimit):
            return CUT_OFF
        env = env.env
    return 1.0
