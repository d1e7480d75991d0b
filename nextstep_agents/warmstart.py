"""Supervised learning on demonstrated answers: where a new language model learns to answer at all."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from nextstep_agents.batch import Batch
from nextstep_agents.policies.llm import LLMPolicy
from nextstep_envs.errors import ConfigError
from nextstep_envs.seeding import derive, stream

Demonstrator = Callable[[str, random.Random], str]
"""An answer to a first message, drawn from the demonstrated distribution."""


@dataclass(frozen=True)
class WarmStart:
    """Settings of supervised learning; the learning rate falls linearly to a tenth.

    Attributes:
        steps: optimiser steps; 0 skips the warm start.
        messages: first messages collected from the training tasks.
        read_messages: learn to predict the messages, too; so the words of a task mean something before the first
            reward, which a model with random weights needs. Off for a pretrained model.
        messages_per_step, answers_per_message: size of an optimiser batch; answers to one message share its prefix.
        learning_rate: of AdamW.
    """

    steps: int = 250
    messages: int = 2048
    read_messages: bool = True
    messages_per_step: int = 32
    answers_per_message: int = 1
    learning_rate: float = 4e-3

    def __post_init__(self) -> None:
        for name in ("messages", "messages_per_step", "answers_per_message", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)!r} must be > 0")
        if self.steps < 0:
            raise ConfigError(f"steps={self.steps!r} must be >= 0")


def answers_batch(policy: LLMPolicy, pairs: Sequence[tuple[str, str]], read_messages: bool = False) -> Batch:
    """Rows of (message, answer): the answer's tokens are the action tokens, as if they had been sampled.

    With `read_messages` every token but the first is one.
    """
    prompts = [policy.dialogue.opening(message) for message, _ in pairs]
    answers = [policy.dialogue.answer(answer) for _, answer in pairs]
    names = {message: index for index, message in enumerate(dict.fromkeys(message for message, _ in pairs))}
    lengths = torch.tensor([len(p) + len(a) for p, a in zip(prompts, answers, strict=True)])
    tokens = torch.zeros(len(pairs), int(lengths.max()), dtype=torch.long)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        tokens[row, : lengths[row]] = torch.tensor(prompt + answer)
    columns = torch.arange(tokens.shape[1])
    inside = columns < lengths[:, None]
    return Batch(
        tokens=tokens,
        turn=inside.long() - 1,
        action=inside & (columns >= torch.tensor([1 if read_messages else len(p) for p in prompts])[:, None]),
        logprobs=torch.zeros(tokens.shape),
        rewards=torch.zeros(len(pairs), 1),
        costs=torch.zeros(len(pairs), 1, 0, dtype=torch.float64),
        weight=torch.ones(len(pairs)),
        group=torch.tensor([names[message] for message, _ in pairs]),
        inputs={"lengths": lengths},
    )


def warm_start(
    policy: LLMPolicy,
    messages: Sequence[str],
    demonstrator: Demonstrator,
    settings: WarmStart,
    seed: int,
    report: Callable[[int, dict[str, float]], None] | None = None,
) -> dict[str, float]:
    """Minimise the cross-entropy of demonstrated answers, mean over tokens; returns the last metrics."""
    if not settings.steps:
        return {}
    optimiser = torch.optim.AdamW(policy.model.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    metrics: dict[str, float] = {}
    for step in range(settings.steps):
        rng = stream(derive(seed, "warm start"), step)
        drawn = [rng.choice(messages) for _ in range(settings.messages_per_step)]
        pairs = [(m, demonstrator(m, rng)) for m in drawn for _ in range(settings.answers_per_message)]
        batch = answers_batch(policy, pairs, settings.read_messages).to(policy.device)
        warmup = min(1.0, (step + 1) / 10)
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * warmup * (1 - 0.9 * step / settings.steps)
        logp, _ = policy.log_probs(batch)
        tokens = batch.mask.sum()
        loss = -(logp * batch.mask).sum() / tokens
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
        optimiser.step()
        length = float(tokens) / len(pairs)
        metrics = {"loss": float(loss.detach()), "grad_norm": float(norm), "tokens_per_answer": length}
        if report is not None:
            report(step + 1, metrics)
    return metrics
