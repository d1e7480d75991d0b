"""What a run's gateways have counted: how services behaved, which no episode's books tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nextstep_envs.providers.base import Provider
from nextstep_envs.providers.gateway import Gateway
from nextstep_envs.providers.metrics import Metrics
from nextstep_envs.providers.router import Router
from nextstep_envs.types import Usage

COUNTS = ("calls", "hits", "outages", "cancelled", "attempts", "retries", "unmetered")


def count_traffic(name: str, provider: Provider | None) -> dict[str, Metrics]:
    """The counts of this process by provider; nothing of providers without a gateway: local models, fakes, replays.

    Args:
        name: what models call the provider, where it is one and no router over several.
        provider: of the workers or the policy, or None.
    """
    if isinstance(provider, Router):
        found = [count_traffic(own, inner) for own, inner in provider.providers.items()]
        return {own: metrics for part in found for own, metrics in part.items()}
    return {name: provider.metrics()} if isinstance(provider, Gateway) else {}


def terms(metrics: Metrics) -> dict[str, Any]:
    """As it stands in a summary. `used` and `waste` are tokens; `faults` are failed attempts by kind."""
    return {
        **{name: getattr(metrics, name) for name in COUNTS},
        "faults": dict(sorted(metrics.faults.items())),
        "used": _tokens(metrics.used),
        "waste": _tokens(metrics.waste),
        "circuit": metrics.circuit,
    }


def text(who: str, name: str, counts: Mapping[str, Any]) -> str:
    """What `terms` wrote, in a line; what did not happen is left out.

    Args:
        who: "workers" or "policy". name: of the provider.
        counts: what `terms` wrote.
    """
    faults = ", ".join(f"{n} {fault}" for fault, n in counts["faults"].items())
    wasted = sum(counts["waste"].values())
    parts = [
        (True, f"{counts['calls']} calls in {counts['attempts']} attempts"),
        (faults, f"failed: {faults}"),
        (counts["retries"], f"{counts['retries']} retries"),
        (counts["outages"], f"{counts['outages']} calls given up"),
        (counts["cancelled"], f"{counts['cancelled']} cancelled"),
        (wasted, f"{wasted} tokens wasted"),
        (counts["unmetered"], f"{counts['unmetered']} attempts of unknown bill"),
        (counts["hits"], f"{counts['hits']} answered from the store"),
        (counts["circuit"] != "closed", f"circuit {counts['circuit']}"),
    ]
    return f"{name} ({who}): " + "; ".join(part for shown, part in parts if shown)


def _tokens(usage: Usage) -> dict[str, int]:
    return {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
