"""Model folders for tests: a random network of two layers with a tokenizer of its own. Nothing is downloaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from nextstep_agents.policies.tokenizer import train_tokenizer
from nextstep_envs.requests import ChatRequest, Message, Request

SYSTEM = "You shop."
WINDOW = 8192


def make_folder(folder: Path, hidden_size: int = 32, heads: int = 4) -> Path:
    """A model in Hugging Face format, float32; its weights are so large that it prefers some tokens to others."""
    words = 'search[red shoe] click[buy now] {"action": "search[lamp]"} {"answer": "done"} The shop shows pages. '
    tokenizer = train_tokenizer([words * 20], 400)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=2,
        max_position_embeddings=WINDOW,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        initializer_range=0.5,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def changed(folder: Path, to: Path, name: str, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a folder with one of its JSON files changed."""
    shutil.copytree(folder, to)
    content = json.loads((to / name).read_text())
    change(content)
    (to / name).write_text(json.dumps(content))
    return to


def ask(
    folder: Path,
    i: int = 0,
    text: str = "hello",
    max_tokens: int = 16,
    temperature: float = 0.0,
    logprobs: bool = False,
    provider: str = "transformers",
) -> Request:
    """A chat request with its own id and seed."""
    messages = (Message("system", SYSTEM), Message("user", text))
    chat = ChatRequest(f"{provider}:{folder}", messages, max_tokens, temperature, logprobs=logprobs)
    return Request(f"{i}/0", "chat", chat, seed=1000 + i)


def mixed(folder: Path, provider: str = "transformers") -> list[Request]:
    """Requests of many lengths, greedy and sampled."""
    words = "find a red lamp that can be folded and costs little".split()
    return [ask(folder, i, " ".join(words[: i + 1]), 5 + 3 * i, (i % 3) / 2, True, provider) for i in range(9)]
