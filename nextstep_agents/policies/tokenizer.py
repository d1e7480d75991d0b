"""A byte-level BPE tokenizer trained on the text of an environment."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, MESSAGE, ANSWER, END = "<|pad|>", "<|message|>", "<|answer|>", "<|end|>"
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content + '<|end|>' }}"
    "{% else %}{{ '<|message|>' + m.content + '<|answer|>' }}{% endif %}{% endfor %}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Learn merges from `texts`; any other text still encodes, byte by byte."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, MESSAGE, ANSWER, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, additional_special_tokens=[MESSAGE, ANSWER]
    )
    fast.chat_template = TEMPLATE
    return fast
