"""A tiny language model on the stub environment, shared by the tests of the agents."""

from __future__ import annotations

import pytest
import torch

from nextstep_agents.engines.transformers import TransformersEngine
from nextstep_agents.policies.llm import LLMPolicy, LLMSettings
from nextstep_envs.seeding import stream
from tests.agents import stub

TINY = LLMSettings(hidden_size=32, intermediate_size=64, layers=2, heads=2, vocab_size=600)


@pytest.fixture(scope="session")
def messages() -> list[str]:
    """First messages of the stub environment."""
    env = stub.StubEnv()
    return [env.reset(seed=seed)[0] for seed in range(40)]


@pytest.fixture(scope="session")
def texts(messages: list[str]) -> list[str]:
    """The messages and answers to them."""
    rng = stream(0)
    return [*messages, *(stub.demonstrate(message, rng) for message in messages)]


@pytest.fixture
def policy(texts: list[str]) -> LLMPolicy:
    """A new random policy for each test."""
    torch.set_num_threads(1)
    return LLMPolicy.new(TINY, texts, seed=3)


@pytest.fixture
def engine(policy: LLMPolicy) -> TransformersEngine:
    """The engine that samples from `policy`."""
    return TransformersEngine(policy.model, policy.dialogue.stop)
