"""What operators there are: what each reads, and what it gives (after AFlow's operators, arXiv 2410.10762)."""

from __future__ import annotations

from dataclasses import dataclass

TASK, TEXT, ANSWER, CRITIQUE, VERDICT = "task", "text", "answer", "critique", "verdict"
MANY = 99


@dataclass(frozen=True, slots=True)
class Port:
    """Inputs of one sort: `least` to `most` values of any of `types`. The ports of a kind share no type."""

    types: tuple[str, ...]
    least: int = 1
    most: int = 1


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of operator.

    Attributes:
        name: as it is written in programs.
        ports: what it reads.
        output: the type of what it gives.
        needs_code: whether only a world that runs code can have it.
    """

    name: str
    ports: tuple[Port, ...]
    output: str
    needs_code: bool = False

    def signature(self) -> str:
        """Its types on one line, such as "review(answer, task/text*) -> critique"."""
        return f"{self.name}({', '.join(map(_show, self.ports))}) -> {self.output}"


_SOURCE = Port((TASK, TEXT), 1, MANY)  # what there is to go by
_BACKGROUND = Port((TASK, TEXT), 0, MANY)  # the same where something else comes first
_ANSWER = Port((ANSWER,))
_ANYTHING_ELSE = Port((ANSWER, CRITIQUE, VERDICT), 0, MANY)

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("generate", (_SOURCE,), ANSWER),
        Kind("review", (_ANSWER, _BACKGROUND), CRITIQUE),
        Kind("revise", (_ANSWER, Port((CRITIQUE, VERDICT), 1, MANY), _BACKGROUND), ANSWER),
        Kind("ensemble", (Port((ANSWER,), 2, MANY), _BACKGROUND), ANSWER),
        Kind("test", (_ANSWER, _BACKGROUND), VERDICT),
        Kind("program", (_SOURCE,), ANSWER, needs_code=True),
        Kind("custom", (_BACKGROUND, _ANYTHING_ELSE), TEXT),
        Kind("format", (Port((TEXT,)),), ANSWER),
    )
}


def _show(port: Port) -> str:
    mark = {(0, MANY): "*", (1, MANY): "+", (2, MANY): " x2+"}.get((port.least, port.most), "")
    return "/".join(port.types) + mark
