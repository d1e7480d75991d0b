"""Trained policies: they act, give probabilities, and are saved as safetensors and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from safetensors.torch import save_file
from torch import Tensor

from nextstep_agents.checkpoint import read_tensors
from nextstep_agents.policies.mlp import Actor, MLPSettings
from nextstep_agents.policies.space_data import from_data, to_data
from nextstep_agents.policies.spaces import AgentSpaces
from nextstep_envs.errors import ConfigError, DataError

FILE = "policy.json"
WEIGHTS = "policy.safetensors"
Probabilities = npt.NDArray[np.float64]


class MLPPolicy:
    """The policy of one agent. Observations may come alone or in a batch.

    Args:
        actor: the networks of all agents of the run.
        agent: whose policy this is.
        seed: of the actions that `act` draws.
    """

    def __init__(self, actor: Actor, agent: int = 0, seed: int = 0) -> None:
        self.actor, self.agent = actor, agent
        self.spaces = actor.agents[agent]
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Begin the stream of drawn actions anew."""
        self._generator = torch.Generator().manual_seed(seed)

    def reset(self) -> None:
        """Begin an episode; it changes nothing, since the policy remembers nothing."""

    @torch.no_grad()
    def probabilities(self, observation: Any) -> Probabilities:
        """The probability of every action, [A], or [n, A] for a batch.

        Raises:
            ConfigError: the actions are continuous.
        """
        if not self.spaces.discrete:
            raise ConfigError(f"actions in {self.spaces.action} are continuous and have no probabilities; use act")
        views, masks, single = self._views(observation)
        found: Probabilities = self.actor.outputs(self.agent, views, masks).double().softmax(1).numpy()
        return found[0] if single else found

    def act(self, observation: Any, info: Mapping[str, Any] | None = None, *, deterministic: bool = False) -> Any:
        """An action as the environment takes it; drawn, unless `deterministic` asks for the likeliest.

        Where budgets bind the best policy draws lots, and its likeliest actions are another policy.
        """
        views, masks, single = self._views(observation)
        if deterministic:
            chosen, _ = self.actor.best(self.agent, views, masks)
        else:
            chosen, _ = self.actor.sample(self.agent, views, masks, self._generator)
        actions = [self.spaces.to_env(action) for action in chosen.numpy()]
        return actions[0] if single else np.stack(actions)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, Any]:
        """As Stable-Baselines3's `predict`: the action, and `state` as it was."""
        return self.act(observation, deterministic=deterministic), state

    def save(self, folder: str | Path) -> Path:
        """Write the policy; `load` reads it."""
        return _save(folder, self.actor, {"agent": self.agent})

    def _views(self, observation: Any) -> tuple[Tensor, Tensor, bool]:
        """Vectors [n, F], masks [n, A], and whether it was a single observation."""
        inside = observation["observation"] if self.spaces.masked else observation
        if _batched(self.spaces.inner, inside):
            vectors, masks = self.spaces.vectors(observation)
            return torch.from_numpy(vectors), torch.from_numpy(masks), False
        vector, mask = self.spaces.vector(observation), self.spaces.mask(observation)
        return torch.from_numpy(vector)[None], torch.from_numpy(mask)[None], True


class TeamPolicy(Mapping[str, MLPPolicy]):
    """The policies of a team, by agent.

    Args:
        actor: the networks of all agents.
        names: of the agents, in order.
        seed: of the actions that `act` draws.
    """

    def __init__(self, actor: Actor, names: tuple[str, ...], seed: int = 0) -> None:
        self.actor = actor
        self._policies = {name: MLPPolicy(actor, i, seed + i) for i, name in enumerate(names)}

    def __getitem__(self, name: str) -> MLPPolicy:
        return self._policies[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._policies)

    def __len__(self) -> int:
        return len(self._policies)

    def act(self, observations: Mapping[str, Any], *, deterministic: bool = False) -> dict[str, Any]:
        """The action of every agent that observes something."""
        return {name: self[name].act(one, deterministic=deterministic) for name, one in observations.items()}

    def predict(
        self, observations: Mapping[str, Any], state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[dict[str, Any], Any]:
        """As `act`, in the form of `MLPPolicy.predict`."""
        return self.act(observations, deterministic=deterministic), state

    def save(self, folder: str | Path) -> Path:
        """Write the policies; `load` reads them."""
        return _save(folder, self.actor, {"names": list(self)})


def make_policy(actor: Actor, names: tuple[str, ...], seed: int = 0) -> MLPPolicy | TeamPolicy:
    """The policy of the only agent (named ""), or those of a team."""
    return MLPPolicy(actor, 0, seed) if names == ("",) else TeamPolicy(actor, names, seed)


def load(folder: str | Path, seed: int = 0) -> MLPPolicy | TeamPolicy:
    """What `save` wrote.

    Args:
        folder: where.
        seed: of the actions that the policy draws.

    Raises:
        ConfigError: there is no saved policy of this kind.
        DataError: it is not whole.
    """
    file = Path(folder) / FILE
    if not file.exists():
        raise ConfigError(f"no saved policy at {str(folder)!r}: {file.name} is missing")
    data = json.loads(file.read_text())
    if data["policy"] != "mlp":
        raise ConfigError(f"{file} holds a policy of kind {data['policy']!r}, not 'mlp'")
    agents = [AgentSpaces(from_data(one["observation"]), from_data(one["action"])) for one in data["agents"]]
    actor = Actor(agents, MLPSettings(**data["mlp"]), torch.Generator())
    try:
        actor.load_state_dict(read_tensors(Path(folder) / WEIGHTS))
    except RuntimeError as error:
        raise DataError(f"the policy at {str(folder)!r} is not whole: {error}") from error
    return TeamPolicy(actor, tuple(data["names"]), seed) if "names" in data else MLPPolicy(actor, data["agent"], seed)


def load_policy(folder: str | Path) -> Any:
    """Any saved policy, whatever kind it is: an `MLPPolicy`, a `TeamPolicy` or an `LLMPolicy`."""
    file = Path(folder) / FILE
    if file.exists() and json.loads(file.read_text())["policy"] == "llm":
        from nextstep_agents.policies.llm import LLMPolicy  # needs transformers

        return LLMPolicy.load(folder)
    return load(folder)


def _save(folder: str | Path, actor: Actor, who: Mapping[str, Any]) -> Path:
    path = Path(folder)
    agents = [{"observation": to_data(a.observation), "action": to_data(a.action)} for a in actor.agents]
    data = {"policy": "mlp", **who, "mlp": asdict(actor.settings), "agents": agents}
    path.mkdir(parents=True, exist_ok=True)
    save_file(actor.state_dict(), path / WEIGHTS)
    (path / FILE).write_text(json.dumps(data, indent=1) + "\n")
    return path


def _batched(space: spaces.Space[Any], observation: Any) -> bool:
    """Whether there is one dimension more than the space has."""
    if isinstance(space, spaces.Dict):
        name, inner = next(iter(space.items()))
        return _batched(inner, observation[name])
    if isinstance(space, spaces.Tuple):
        return _batched(space[0], observation[0])
    return np.ndim(observation) > len(space.shape or ())
