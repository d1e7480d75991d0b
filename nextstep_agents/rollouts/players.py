"""Policies as a rollout sees them: one player for each episode, whose moves are awaited."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from nextstep_agents.policies.scripted import PLANS, FixedPlanPolicy, RandomPolicy
from nextstep_agents.rollouts.settings import Model, RolloutSettings
from nextstep_agents.rollouts.stage import Attempt, Stage
from nextstep_agents.rollouts.traffic import count_traffic
from nextstep_envs.errors import ConfigError, NextStepError
from nextstep_envs.ledger import price
from nextstep_envs.providers.base import Provider, waste_of
from nextstep_envs.providers.building import answer_settings, build_provider, resolve_settings
from nextstep_envs.providers.metrics import Metrics
from nextstep_envs.providers.replay import ReplayProvider
from nextstep_envs.providers.store import Store
from nextstep_envs.requests import ChatRequest, Message, Request
from nextstep_envs.seeding import derive, stream
from nextstep_envs.types import Usage
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.workers.crew_spec import read_pool

SYSTEM = (
    "You orchestrate the work on a task. Each message says how things stand; answer with your next action in the form "
    "that the first message asks for, and with nothing else."
)


class PolicyOutage(NextStepError):
    """The policy's provider stays down: the episode is masked."""


class Player(Protocol):
    """A policy in one episode.

    Attributes:
        usage, waste: what it has consumed itself, priced: answers, and billed attempts that failed.
    """

    usage: Usage
    waste: Usage

    async def act(self, observation: Any, info: Mapping[str, Any]) -> Any:
        """The next action; `PolicyOutage` if there is nobody to ask."""
        ...


MakePlayer = Callable[[Attempt, asyncio.Semaphore], Player]


class ScriptedPlayer:
    """A policy that needs nobody: fixed plans and chance."""

    usage = waste = Usage()

    def __init__(self, choose: Callable[[Any, Mapping[str, Any]], Any]) -> None:
        self._choose = choose

    async def act(self, observation: Any, info: Mapping[str, Any]) -> Any:
        """The next action."""
        return self._choose(observation, info)


class ModelPlayer:
    """A language model in conversation with the environment: messages are the user's, its answers are its actions.

    It sees nothing but a line about its role, the environment's messages and its own answers; what it thinks aloud is
    not kept.

    Args:
        provider: answers.
        spec: its name and price.
        settings: how it is asked.
        seed: of this episode's answers.
        slots: bounds the requests under way, together with those of the workers.
    """

    def __init__(
        self, provider: Provider, spec: WorkerSpec, settings: Model, seed: int, slots: asyncio.Semaphore
    ) -> None:
        self.usage = self.waste = Usage()
        self._provider, self._spec, self._settings, self._seed, self._slots = provider, spec, settings, seed, slots
        self._messages: tuple[Message, ...] = (Message("system", SYSTEM),)

    async def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """What it answers to the next message."""
        name = f"orchestrator/{len(self._messages) // 2}"
        self._messages = (*self._messages, Message("user", observation))
        how = self._settings
        chat = ChatRequest(self._spec.model, self._messages, how.max_tokens, how.temperature)
        try:
            async with self._slots:
                result = await self._provider.answer(Request(name, "chat", chat, derive(self._seed, name)))
        except asyncio.CancelledError as cancelled:
            self.waste = self.waste.plus(price(waste_of(cancelled), self._spec))
            raise
        self.usage = self.usage.plus(price(result.usage, self._spec))
        self.waste = self.waste.plus(price(result.waste, self._spec))
        if result.error:
            raise PolicyOutage(result.error)
        answer: str = result.value.text
        self._messages = (*self._messages, Message("assistant", answer))
        return answer


class Cast:
    """Makes the player of each episode.

    Args:
        make: the player of an episode.
        provider: that they share, if any. name: what models call it.
    """

    def __init__(self, make: MakePlayer, provider: Provider | None = None, name: str = "") -> None:
        self.make, self._provider, self._name = make, provider, name

    def traffic(self) -> dict[str, Metrics]:
        """What the policy's gateway has counted, by provider."""
        return count_traffic(self._name, self._provider)

    def close(self) -> None:
        """Release the provider's clients."""
        if self._provider:
            self._provider.close()


def wants_text(policy: str) -> bool:
    """Whether a policy acts in text; `ConfigError` if there is no such policy."""
    if policy == "random":
        return False
    if policy in PLANS or ":" in policy:
        return True
    raise ConfigError(
        f"policy={policy!r} is unknown; choose random, <provider>:<model>, or a fixed plan: {', '.join(PLANS)}"
    )


def make_cast(settings: RolloutSettings, stage: Stage) -> Cast:
    """The players of a rollout. Nothing is spent.

    Raises:
        ConfigError: the policy does not suit the environment, or its provider, key or price is missing.
    """
    policy = settings.policy
    if policy == "random":
        return Cast(_random(settings, stage))
    if policy in PLANS:
        if stage.protocol != "workflow":
            raise ConfigError(f"policy={policy!r} is a plan for Workflow, which env={settings.env!r} is not")
        return Cast(lambda attempt, slots: _scripted(FixedPlanPolicy(policy, "text" if stage.text else "vector")))
    provider, spec = _provider(policy, settings.llm), _spec(policy, settings.llm)

    def talk(attempt: Attempt, slots: asyncio.Semaphore) -> Player:
        seed = derive(attempt.seed, "orchestrator", attempt.sample)
        return ModelPlayer(provider, spec, settings.llm, seed, slots)

    return Cast(talk, provider, policy.partition(":")[0])


def _scripted(policy: FixedPlanPolicy | RandomPolicy) -> Player:
    return ScriptedPlayer(policy.act)


def _random(settings: RolloutSettings, stage: Stage) -> MakePlayer:
    def seed(attempt: Attempt) -> int:
        return derive(attempt.seed, "policy", attempt.sample)

    if not stage.text:
        return lambda attempt, slots: _scripted(RandomPolicy("vector", seed(attempt)))
    if stage.protocol == "workflow":
        return lambda attempt, slots: _scripted(RandomPolicy("text", seed(attempt)))
    if stage.protocol:
        raise ConfigError(
            f"policy=random writes no texts for env={settings.env!r}; leave env_kwargs.interface out: it acts by number"
        )
    return lambda attempt, slots: ScriptedPlayer(_Shopper(stream(seed(attempt))).act)


class _Shopper:
    """Chance in a bare shop: searches for words of the page, clicks on whatever there is."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        available = info["available_actions"]
        if available["has_search_bar"]:
            words = [word for word in observation.split() if word.isalpha()]
            return f"search[{' '.join(self._rng.sample(words, min(3, len(words))))}]"
        return f"click[{self._rng.choice(available['clickables'])}]"


def _provider(policy: str, llm: Model) -> Provider:
    name, settings = policy.partition(":")[0], dict(llm.provider)
    if llm.replay:
        return ReplayProvider(Store(llm.replay, {name: answer_settings(settings)}, exists=True))
    settings = resolve_settings(name, settings)
    store = Store(llm.store, {name: answer_settings(settings)}) if llm.store else None
    return build_provider(name, settings, store)


def _spec(policy: str, llm: Model) -> WorkerSpec:
    """The policy as somebody who is paid."""
    entry: dict[str, Any] = {"worker_id": "orchestrator", "description": "The policy.", "model": policy}
    if llm.usd_per_mtok_in is not None:
        entry |= {"usd_per_mtok_in": llm.usd_per_mtok_in, "usd_per_mtok_out": llm.usd_per_mtok_out}
    try:
        return read_pool([entry])[0]
    except ConfigError as error:
        raise ConfigError(
            f"policy={policy!r}: no price is known; give llm.usd_per_mtok_in and llm.usd_per_mtok_out, 0 where a call "
            "costs nothing"
        ) from error
