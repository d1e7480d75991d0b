"""An OpenEnv environment over any id with a text interface, and its server. Checked with OpenEnv 0.10."""

from __future__ import annotations

from functools import partial
from typing import Any

from gymnasium.envs.registration import EnvSpec

from nextstep_envs.errors import ConfigError, MissingExtraError, check_choice
from wrappers.interfaces.session import Session, make_text_env

try:
    from openenv.core.env_server import Action, Environment, Observation, State, create_app
    from openenv.core.env_server.types import EnvironmentMetadata
    from pydantic import Field
except ImportError as error:
    raise MissingExtraError("openenv", "openenv", "wrappers.interfaces.openenv") from error


class TextAction(Action):
    """What the orchestrator writes."""

    text: str = Field(description="An action as the first message asks for it: JSON, or a call of the bare world")


class TextObservation(Observation):
    """What the orchestrator reads, and what the last action brought. The reward is None where there is none."""

    text: str = Field(description="The next message of the conversation")
    cost: float = Field(0.0, description="What the last action cost, in units of the environment's cost")
    cost_terms: dict[str, float] = Field(default_factory=dict, description="The same by every name of a cost")
    invalid_action: bool = Field(False, description="Whether the last action meant nothing; the text says why")
    mask_sample: bool = Field(False, description="Whether an outage ended the episode: drop it, it has no reward")
    error: str = Field("", description="What failed, if mask_sample")


class EpisodeState(State):
    """Where an episode stands; `reset` with this task and sample, and the seed that it was given, starts it again."""

    task_id: str = ""
    sample: int = 0
    reward: float = Field(0.0, description="Earned so far")
    cost: float = Field(0.0, description="Spent so far")
    done: bool = True


class NextStepEnvironment(Environment[TextAction, TextObservation, EpisodeState]):
    """An id as an OpenEnv environment. Sessions share nothing, so a server may hold many.

    Args:
        env: an id with a text interface, or the spec of such an environment, possibly wrapped.
        cost_weight: price of one unit of `info["cost"]`.
        **kwargs: of the environment.

    Raises:
        ConfigError: an argument is wrong.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, env: str | EnvSpec, cost_weight: float = 0.0, **kwargs: Any) -> None:
        super().__init__()
        self._session = Session(make_text_env(env, cost_weight, **kwargs))
        self._episode_id: str | None = None

    def reset(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        task_id: str | None = None,
        sample: int = 0,
        **kwargs: Any,
    ) -> TextObservation:
        """Start an episode.

        Args:
            seed: fixes task, workers and world; without one, the episode goes on from the last one's chance.
            episode_id: a name for it, which `state` repeats.
            task_id: the task, in place of the one that the seed draws.
            sample: which attempt this is; only its noise differs from that of others: 0, 1, 2 ... within a group.
            **kwargs: there are no others.

        Raises:
            ConfigError: an argument is unknown or wrong; nothing is ignored in silence.
        """
        for name in kwargs:
            check_choice("argument of reset", name, ("seed", "episode_id", "task_id", "sample"))
        text = self._session.reset(seed, task_id, sample)
        self._episode_id = episode_id
        return self._observe(text, None)

    def step(self, action: TextAction, timeout_s: float | None = None, **kwargs: Any) -> TextObservation:
        """Take a decision and wait until its work is done.

        Raises:
            ConfigError: a timeout is asked for.
            RuntimeError: the episode is over, or has not begun.
        """
        if timeout_s is not None:
            raise ConfigError(
                f"timeout_s={timeout_s!r}: a step cannot be cut short; the workers' provider has timeouts"
            )
        text = self._session.step(action.text)
        return self._observe(text, None if self._session.masked else self._session.gain)

    @property
    def state(self) -> EpisodeState:
        """Where the episode stands."""
        session = self._session
        return EpisodeState(
            episode_id=self._episode_id,
            step_count=session.steps,
            task_id=session.info.get("task_id", ""),
            sample=session.info.get("sample", 0),
            reward=session.reward,
            cost=session.cost,
            done=session.over,
        )

    def get_metadata(self) -> EnvironmentMetadata:
        """Name and version: those of the id."""
        spec = self._session.env.spec
        assert spec is not None  # `gym.make` gives every environment one
        return EnvironmentMetadata(
            name=spec.name, description=f"{spec.id}: orchestration of LLM workers, in text", version=str(spec.version)
        )

    def close(self) -> None:
        """Release what the environment holds."""
        self._session.env.close()

    def _observe(self, text: str, reward: float | None) -> TextObservation:
        info = self._session.info
        return TextObservation(
            text=text,
            reward=reward,
            done=self._session.over,
            cost=float(info["cost"]),
            cost_terms={name: float(value) for name, value in info["cost_terms"].items()},
            invalid_action=self._session.invalid,
            mask_sample=self._session.masked,
            error=info["error"]["message"] if self._session.masked else "",
        )


def openenv_app(env: str | EnvSpec, *, cost_weight: float = 0.0, max_sessions: int = 64, **kwargs: Any) -> Any:
    """The FastAPI application that offers an environment to OpenEnv's clients, a WebSocket session for each.

    Args:
        env: as for `NextStepEnvironment`.
        cost_weight: price of one unit of `info["cost"]`.
        max_sessions: how many at once.
        **kwargs: of the environment.

    Raises:
        ConfigError: an argument is wrong.
    """
    make = partial(NextStepEnvironment, env, cost_weight, **kwargs)
    make().close()  # a wrong argument is an error now, not in every session
    return create_app(make, TextAction, TextObservation, max_concurrent_envs=max_sessions, state_cls=EpisodeState)
