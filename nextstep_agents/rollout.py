"""Plays episodes on text environments, many at once, token in and token out.

An episode's tokens are the messages it was given and exactly what the engine sampled; sampled text is never encoded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch

from nextstep_agents.batch import Batch
from nextstep_agents.engines.types import Engine
from nextstep_agents.policies.dialogue import Dialogue
from nextstep_envs.errors import NextStepError
from nextstep_envs.seeding import derive
from nextstep_envs.together import Together, Turn

StopReason = Literal["finished", "failed", "turn_limit", "token_limit"]


class RolloutError(NextStepError, RuntimeError):
    """An environment does not do what rollouts rely on."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where an episode begins: equal `seed` and `task_id` mean equal task, pool and world; `sample` is the noise."""

    seed: int
    sample: int = 0
    group: int = 0
    task_id: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """When an episode is stopped from outside: turns, tokens of one answer, tokens of the conversation.

    One turn by default: the orchestrator writes its whole plan at once, and an invalid one has reward 0.
    """

    turns: int = 1
    new_tokens: int = 48
    tokens: int = 1024


@dataclass
class Episode:
    """One episode as it was seen by the policy and judged by the environment.

    Attributes:
        tokens, action, turn, logprobs: parallel lists over the conversation; `action` marks sampled tokens, `turn`
            the decision a token leads to or belongs to.
        rewards, costs: one entry per decision; costs in raw units.
        answers: the text of each decision.
        lengths: sampled tokens of each decision; `cut` counts answers without a stop token.
        weight: 0 if the environment failed.
        stop: why it ended.
        score, success: the world's outcome; 0 where the episode was stopped before it had one.
    """

    start: Start
    task_id: str = ""
    tokens: list[int] = field(default_factory=list)
    action: list[bool] = field(default_factory=list)
    turn: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    costs: list[np.ndarray[Any, np.dtype[np.float64]]] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    cut: int = 0
    invalid: int = 0
    weight: float = 1.0
    stop: StopReason | None = None
    score: float = 0.0
    success: float = 0.0

    def add(self, tokens: Sequence[int], logprobs: Sequence[float] | None = None) -> None:
        """Append tokens that were given (no log-probabilities) or sampled."""
        self.tokens += tokens
        self.action += [logprobs is not None] * len(tokens)
        self.turn += [len(self.answers)] * len(tokens)
        self.logprobs += [0.0] * len(tokens) if logprobs is None else logprobs

    @property
    def reward(self) -> float:
        """Undiscounted return."""
        return sum(self.rewards)

    @property
    def cost(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Total cost [C]."""
        return np.sum(self.costs, axis=0) if self.costs else np.zeros(0)


def rollout(
    envs: Sequence[gym.Env[str, str]],
    dialogue: Dialogue,
    engine: Engine,
    starts: Sequence[Start],
    limits: Limits,
    temperature: float,
    seed: int,
) -> list[Episode]:
    """Play one episode per start, `len(envs)` at a time; `seed` names the engine's randomness.

    The orchestrator answers turn by turn for all of them; in each turn, what their workers ask of models is answered
    side by side.
    """
    episodes: list[Episode] = []
    with closing(Together(envs)) as together:
        for wave, begin in enumerate(range(0, len(starts), len(envs))):
            part = starts[begin : begin + len(envs)]
            episodes += _play(together, dialogue, engine, part, limits, temperature, derive(seed, "wave", wave))
    _check_groups(episodes)
    return episodes


def _play(
    together: Together,
    dialogue: Dialogue,
    engine: Engine,
    starts: Sequence[Start],
    limits: Limits,
    temperature: float,
    seed: int,
) -> list[Episode]:
    episodes = [Episode(start) for start in starts]
    encoded: dict[str, list[int]] = {}  # rows of a group open with the same message
    for env, episode in zip(together.envs, episodes, strict=False):  # the last wave may have fewer episodes
        message, info = reset(env, episode.start)
        episode.task_id = str(info["task_id"])
        if message not in encoded:
            encoded[message] = dialogue.opening(message)
        episode.add(encoded[message])

    active = list(range(len(episodes)))
    for turn in range(limits.turns):
        for row in active:
            if len(episodes[row].tokens) + limits.new_tokens > limits.tokens:
                episodes[row].stop = "token_limit"
        active = [row for row in active if episodes[row].stop is None]
        if not active:
            break
        completions = engine.generate(
            [episodes[row].tokens for row in active],
            [episodes[row].start.group for row in active],
            limits.new_tokens,
            temperature,
            derive(seed, "turn", turn),
        )
        for row, completion in zip(active, completions, strict=True):
            episode = episodes[row]
            episode.add(completion.tokens, completion.logprobs)
            episode.answers.append(dialogue.decode(completion.tokens))
            episode.lengths.append(len(completion.tokens))
            episode.cut += completion.stop == "length"
        turns = together.step(active, [episodes[row].answers[-1] for row in active])
        for row, completion, result in zip(active, completions, turns, strict=True):
            episode = episodes[row]
            message = _add_turn(episode, result)
            if episode.stop is None and turn + 1 < limits.turns:  # a message that nobody answers teaches nothing
                episode.add(dialogue.following(message, ended=completion.stop == "end"))
    for episode in episodes:
        episode.stop = episode.stop or "turn_limit"
    return episodes


def reset(env: gym.Env[str, str], start: Start) -> tuple[str, dict[str, Any]]:
    """Begin the episode that `start` names."""
    options: dict[str, Any] = {"sample": start.sample}
    if start.task_id is not None:
        options["task_id"] = start.task_id
    return env.reset(seed=start.seed, options=options)


def _add_turn(episode: Episode, result: Turn) -> Any:
    """Note what a decision brought; the message that follows."""
    message, reward, terminated, truncated, info = result
    episode.rewards.append(float(reward))
    episode.costs.append(np.array(info.get("costs", ()), np.float64))
    episode.invalid += bool(info.get("invalid_action", False))
    if info.get("mask_sample", False):
        episode.weight, episode.stop = 0.0, "failed"
    elif terminated or truncated:
        episode.stop = "finished"
    outcome = info.get("outcome")
    if outcome is not None:
        episode.score, episode.success = float(outcome["score"]), float(outcome["success"])
    return message


def _check_groups(episodes: Sequence[Episode]) -> None:
    tasks: dict[int, str] = {}
    for episode in episodes:
        if tasks.setdefault(episode.start.group, episode.task_id) != episode.task_id:
            raise RolloutError(
                f"reset(seed={episode.start.seed}) gave tasks {tasks[episode.start.group]!r} and {episode.task_id!r} "
                "for two samples; the task must depend on the seed alone"
            )


def to_batch(episodes: Sequence[Episode]) -> Batch:
    """Episodes as right-padded tensors."""
    size = max(len(e.tokens) for e in episodes)
    decisions = max(1, *(len(e.rewards) for e in episodes))
    n_costs = max([len(c) for e in episodes for c in e.costs], default=0)

    def padded(lists: Sequence[Sequence[Any]], width: int, fill: float, dtype: torch.dtype) -> torch.Tensor:
        out = torch.full((len(lists), width), fill, dtype=dtype)
        for row, values in enumerate(lists):
            out[row, : len(values)] = torch.tensor(values, dtype=dtype)
        return out

    costs = torch.zeros(len(episodes), decisions, n_costs, dtype=torch.float64)
    for row, episode in enumerate(episodes):
        for decision, cost in enumerate(episode.costs):
            costs[row, decision] = torch.from_numpy(cost)
    return Batch(
        tokens=padded([e.tokens for e in episodes], size, 0, torch.long),
        turn=padded([e.turn for e in episodes], size, -1, torch.long),
        action=padded([e.action for e in episodes], size, False, torch.bool),
        logprobs=padded([e.logprobs for e in episodes], size, 0.0, torch.float32),
        rewards=padded([e.rewards for e in episodes], decisions, 0.0, torch.float32),
        costs=costs,
        weight=torch.tensor([e.weight for e in episodes]),
        group=torch.tensor([e.start.group for e in episodes]),
        inputs={"lengths": torch.tensor([len(e.tokens) for e in episodes])},
    )


def describe(episodes: Sequence[Episode], cost_names: Sequence[str] = ()) -> dict[str, float]:
    """Means over the episodes that did not fail; rates over all."""
    kept = [e for e in episodes if e.weight > 0]
    actions = max(sum(len(e.answers) for e in episodes), 1)
    stops = Counter(e.stop for e in episodes)
    metrics = {
        "reward": _mean([e.reward for e in kept]),
        "outcome": _mean([e.score for e in kept]),
        "success": _mean([e.success for e in kept]),
        "turns": _mean([len(e.answers) for e in kept]),
        "answer_tokens": _mean([n for e in episodes for n in e.lengths]),
        "valid_action_rate": 1 - sum(e.invalid for e in episodes) / actions,
        "cut_answer_rate": sum(e.cut for e in episodes) / actions,
        "masked_rate": 1 - len(kept) / max(len(episodes), 1),
        "stopped_by_limit_rate": (stops["turn_limit"] + stops["token_limit"]) / max(len(episodes), 1),
    }
    totals = [e.cost for e in kept]
    for index in range(len(totals[0]) if totals else 0):
        name = cost_names[index] if index < len(cost_names) else str(index)
        metrics[f"cost_{name}"] = _mean([c[index] for c in totals])
    return metrics


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
