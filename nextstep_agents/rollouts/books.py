"""What a rollout has spent, account by account, in whole units so that sums are exact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from nextstep_envs.types import NANO, Usage


class Account(NamedTuple):
    """Money, tokens and calls; `usd_nano` is in 1e-9 USD."""

    usd_nano: int = 0
    tokens: int = 0
    calls: int = 0

    def plus(self, usd_nano: int, tokens: int, calls: int) -> Account:
        """The sum, field by field."""
        return Account(self.usd_nano + usd_nano, self.tokens + tokens, self.calls + calls)

    def terms(self) -> dict[str, float]:
        """As it stands in `books` and in a summary: by cost name, in raw units."""
        return {"usd": self.usd_nano / NANO, "tokens": float(self.tokens), "calls": float(self.calls)}

    @classmethod
    def of(cls, usage: Usage) -> Account:
        """Of priced usage."""
        return cls(usage.usd_nano, usage.tokens, usage.calls)

    @classmethod
    def read(cls, terms: Mapping[str, float] | None) -> Account:
        """What `terms` wrote; nothing where there is no entry."""
        return cls(round(terms["usd"] * NANO), int(terms["tokens"]), int(terms["calls"])) if terms else cls()


class Spent(NamedTuple):
    """What was billed, and why.

    Attributes:
        workers: charged to the episodes.
        waste: of the workers' attempts that failed and were billed nevertheless.
        orchestrator: the policy's own calls; orchestrator_waste: its attempts that failed.
    """

    workers: Account = Account()
    waste: Account = Account()
    orchestrator: Account = Account()
    orchestrator_waste: Account = Account()

    def plus(self, other: Spent) -> Spent:
        """The sum, account by account."""
        return Spent(*(mine.plus(*theirs) for mine, theirs in zip(self, other, strict=True)))

    @property
    def usd_nano(self) -> int:
        """All of it in 1e-9 USD."""
        return sum(account.usd_nano for account in self)

    def terms(self) -> dict[str, dict[str, float]]:
        """By account and cost name."""
        return {name: account.terms() for name, account in self._asdict().items()}

    @classmethod
    def read(cls, terms: Mapping[str, Mapping[str, float]] | None) -> Spent:
        """What `terms` wrote; nothing for accounts that have no entry."""
        return cls(*(Account.read((terms or {}).get(name)) for name in cls._fields))


def of_records(records: Iterable[Any]) -> Spent:
    """What workers used in a step: the records of an `info`."""
    usage = waste = Usage()
    for record in records:
        usage, waste = usage.plus(record.usage), waste.plus(record.waste)
    return Spent(Account.of(usage), Account.of(waste))


def of_line(line: Mapping[str, Any]) -> Spent:
    """What an episode used: a line of a trace."""
    usage = waste = Usage()
    for step in line["steps"]:
        for record in step["records"]:
            usage, waste = usage.plus(Usage(**record["usage"])), waste.plus(Usage(**record["waste"]))
    own = Spent.read(line["books"])
    return Spent(Account.of(usage), Account.of(waste), own.orchestrator, own.orchestrator_waste)
