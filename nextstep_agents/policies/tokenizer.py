"""A byte-level BPE tokenizer trained on the text of an environment."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, MESSAGE, ANSWER, END = "<|pad|>", "<|message|>", "<|answer|>", "<|end|>"
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content + '<|end|>' }}"
    "{% else %}{{ '<|message|>' + m.content + '<|answer|>' }}{% endif %}{% endfor %}"
)
# Where merges may not cross: a line after the first (workers and rules, which come back in every message), a JSON key
# with its punctuation, an identifier, a number and a run of other signs are each one piece. So what is always the same
# costs a token a line, an action is few tokens, and a worker's name is one.
PIECES = r"""\n[^\n]+|\s?[\[{,}\]]*\s?[\[{]*"[A-Za-z_]+":|\s?[A-Za-z_]+|\s?[0-9]+|\s?[^\sA-Za-z_0-9]+|\s+"""


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Learn merges from `texts`; any other text still encodes, byte by byte."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_])
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
