"""Conversation and tokens: the chat template of a tokenizer, cut into the pieces that turns are made of.

Sampled tokens are never encoded again: a transcript grows by `opening`, then sampled tokens, then `following` ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nextstep_envs.errors import ConfigError

_FIRST, _ANSWER, _SECOND = "\x02first\x03", "\x02answer\x03", "\x02second\x03"


@dataclass(frozen=True)
class Dialogue:
    """The token ids around messages.

    Attributes:
        tokenizer: a Hugging Face tokenizer with a chat template.
        before: what precedes the first message.
        reply: what stands between a message and the answer to it.
        after: what stands between an answer and the next message; begins with `stop`.
        stop: the token that ends an answer.
    """

    tokenizer: Any
    before: tuple[int, ...]
    reply: tuple[int, ...]
    after: tuple[int, ...]
    stop: int

    @classmethod
    def of(cls, tokenizer: Any) -> Dialogue:
        """Read the pieces off the tokenizer's chat template.

        Raises:
            ConfigError: there is no template, an answer does not end with a special token, or the template rewrites
                earlier turns (then what is trained would not be what was sampled).
        """
        if not tokenizer.chat_template:
            raise ConfigError("the tokenizer has no chat template; use an instruction-tuned model")

        def render(*contents: str) -> str:
            roles = ("user", "assistant") * len(contents)
            messages = [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)]
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            return str(text)

        first, whole = render(_FIRST), render(_FIRST, _ANSWER, _SECOND)
        if not whole.startswith(first + _ANSWER):
            raise ConfigError(f"the chat template changes earlier turns: {first + _ANSWER!r} became {whole!r}")
        before, reply = first.split(_FIRST)
        after, reply_again = whole[len(first + _ANSWER) :].split(_SECOND)
        if reply != reply_again:
            raise ConfigError(f"the chat template opens answers in two ways: {reply!r} and {reply_again!r}")

        def ids(text: str) -> tuple[int, ...]:
            return tuple(tokenizer.encode(text, add_special_tokens=False))

        after_ids = ids(after)
        if not after_ids or after_ids[0] not in tokenizer.all_special_ids:
            raise ConfigError(f"answers must end with a special token, but the chat template has {after!r} there")
        return cls(tokenizer, ids(before), ids(reply), after_ids, after_ids[0])

    def opening(self, message: str) -> list[int]:
        """The tokens of a conversation up to where the first answer begins."""
        return [*self.before, *self.encode(message), *self.reply]

    def following(self, message: str, ended: bool) -> list[int]:
        """The tokens that follow an answer, up to where the next begins; `ended`: the answer has its stop token."""
        return [*(self.after[1:] if ended else self.after), *self.encode(message), *self.reply]

    def answer(self, text: str) -> list[int]:
        """The tokens of an answer written by somebody else (a demonstration), stop token included."""
        return [*self.encode(text), self.stop]

    def encode(self, text: str) -> list[int]:
        """Plain text to tokens; a special token spelled out in it stays plain text."""
        return list(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of sampled tokens, without the stop token."""
        kept = tokens[:-1] if tokens and tokens[-1] == self.stop else tokens
        return str(self.tokenizer.decode(list(kept), skip_special_tokens=False, clean_up_tokenization_spaces=False))
