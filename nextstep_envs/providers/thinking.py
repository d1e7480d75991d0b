"""Takes what a model thought aloud, between `<think>` and `</think>`, out of its text."""

from __future__ import annotations

OPEN, CLOSE = "<think>", "</think>"


def split_thinking(text: str) -> tuple[str, str]:
    """The answer, and the thinking.

    A part that is never closed (the model ran out of tokens) is thinking to its end. Text before a `</think>` that
    nothing opened is thinking as well: some chat templates write the `<think>` into the prompt. Text without either
    mark comes back as it is.
    """
    if OPEN not in text and CLOSE not in text:
        return text, ""
    answer: list[str] = []
    thinking: list[str] = []
    opened, closed = text.find(OPEN), text.find(CLOSE)
    if closed >= 0 and not 0 <= opened < closed:
        thinking.append(text[:closed])
        text = text[closed + len(CLOSE) :]
    while text:
        before, _, rest = text.partition(OPEN)
        inside, _, text = rest.partition(CLOSE)
        answer.append(before)
        thinking.append(inside)
    return "".join(answer).strip(), "\n".join(part.strip() for part in thinking if part.strip())
