"""A tiny language model that can call tools, made and warmed up in seconds: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jinja2 import Template
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nextstep_agents.policies.tokenizer import train_tokenizer

Message = dict[str, Any]

# Short on purpose: a call is few tokens, and the tools' schemas are left out.
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>{{ m.content }}{% for c in m.tool_calls or [] %}"
    "<tool_call>{{ c.function.name }} {{ c.function.arguments | tojson }}</tool_call>{% endfor %}<|im_end|>"
    "{% else %}<|message|>{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
RESPONSE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>",
    "fields": {
        "tool_calls": {
            "open_pattern": r"<tool_call>(?P<name>\w+) ",
            "close": "</tool_call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
        },
        "content": {"close": "<|im_end|>", "content": "text"},
    },
}


def make_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with a chat template that knows tools."""
    tokenizer = train_tokenizer(texts, vocab_size)
    marks = ["<|message|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"]
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>", "additional_special_tokens": marks})
    tokenizer.chat_template = TEMPLATE
    tokenizer.response_template = RESPONSE
    return tokenizer


def make_model(tokenizer: PreTrainedTokenizerFast, max_length: int, layers: int, seed: int) -> LlamaForCausalLM:
    """Layers of 64 units, at random."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=max_length,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


def call(name: str, arguments: dict[str, Any]) -> Message:
    """The assistant's message with one tool call."""
    function = {"name": name, "arguments": arguments}
    return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}


def text(messages: list[Message]) -> str:
    """A conversation as the template writes it."""
    return Template(TEMPLATE).render(messages=messages)


def tokens(tokenizer: PreTrainedTokenizerFast, messages: list[Message], ask: bool = False) -> list[int]:
    """A conversation as tokens; `ask`: with the head of the next answer."""
    return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, add_generation_prompt=ask)


def warm_up(
    model: LlamaForCausalLM, draw: Callable[[], tuple[list[int], int]], steps: int, lr: float, batch: int
) -> float:
    """Supervised learning; `draw` gives a conversation, and where what is to be learned begins. The last loss."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    loss = torch.zeros(())
    for _ in range(steps):
        drawn = [draw() for _ in range(batch)]
        length = max(len(ids) for ids, _ in drawn)
        inputs = torch.tensor([ids + [0] * (length - len(ids)) for ids, _ in drawn])
        place = torch.arange(length)
        learn = torch.stack([(place >= start) & (place < len(ids)) for ids, start in drawn])
        loss = model(input_ids=inputs, labels=torch.where(learn, inputs, -100)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())
