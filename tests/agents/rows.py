"""Batches with everything that makes them hard: groups of unequal size, several turns, rows of unequal length."""

from __future__ import annotations

import random

import numpy as np

from nextstep_agents.batch import Batch
from nextstep_agents.policies.llm import LLMPolicy
from nextstep_agents.rollout import Episode, Start, to_batch

GROUPS = (0, 0, 0, 1, 2, 2)
TURNS = (1, 2, 1, 1, 3, 1)


def ragged_episodes(policy: LLMPolicy, messages: list[str], seed: int = 0) -> list[Episode]:
    """Six episodes in groups of 3, 1 and 2; random answers of 1 to 9 tokens in one to three turns."""
    rng = random.Random(seed)
    episodes = []
    for row, (group, turns) in enumerate(zip(GROUPS, TURNS, strict=True)):
        episode = Episode(Start(seed=group, sample=row, group=group), task_id=str(group))
        episode.add(policy.dialogue.opening(messages[group] * (1 + group)))
        for turn in range(turns):
            tokens = [rng.randrange(10, len(policy.tokenizer)) for _ in range(rng.randrange(1, 9))] + [
                policy.dialogue.stop
            ]
            episode.add(tokens, [-rng.random() for _ in tokens])
            episode.answers.append("answer")
            episode.rewards.append(rng.random())
            episode.costs.append(np.array([rng.random()]))
            if turn + 1 < turns:
                episode.add(policy.dialogue.following("Invalid action.\n", ended=True))
        episodes.append(episode)
    return episodes


def ragged_batch(policy: LLMPolicy, messages: list[str], seed: int = 0) -> Batch:
    """The same as tensors."""
    return to_batch(ragged_episodes(policy, messages, seed))
