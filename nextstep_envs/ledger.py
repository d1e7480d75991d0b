"""Money and allowances: prices, bounds and what is left. The only place that knows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from nextstep_envs.errors import ConfigError
from nextstep_envs.types import NANO, UNLIMITED, Allowance, Budget, Usage
from nextstep_envs.workers.base import WorkerSpec

COST_NAMES = ("mix", "usd", "tokens", "calls", "env_steps", "flops")
MIX_WEIGHTS = (0.6, 0.3, 0.1)  # tokens, environment steps, calls


def estimate_tokens(text: str) -> int:
    """Tokens of a text where no tokenizer is known: one per four characters, rounded up."""
    return (len(text) + 3) // 4


def price(usage: Usage, spec: WorkerSpec) -> Usage:
    """`usage` with its USD (whole 1e-9) and FLOPs (2 * parameters * tokens) filled in at the worker's prices."""
    prompt, completion, calls, env_steps, _, _ = usage
    if not (prompt or completion):
        return Usage(0, 0, calls, env_steps)
    # USD per million tokens is a thousand nano-USD per token.
    usd = round(1000 * (prompt * spec.usd_per_mtok_in + completion * spec.usd_per_mtok_out))
    return Usage(prompt, completion, calls, env_steps, usd, round(2e9 * spec.params_b * (prompt + completion)))


def fit(bound: Usage, left: Allowance, spec: WorkerSpec, least: int) -> Usage:
    """The bound of a call with its completion tokens lowered, where needed, to what `left` allows in tokens and USD.

    Where that is fewer than `least`, or something else is lacking, the bound comes back as it is, to be refused.
    """
    if not left.lacks(price(bound, spec)):
        return bound
    if left.lacks(price(bound._replace(completion_tokens=least), spec)):
        return bound
    most = min(bound.completion_tokens, left.tokens - bound.prompt_tokens)
    if spec.usd_per_mtok_out and left.usd_nano < UNLIMITED:
        prompt = price(bound._replace(completion_tokens=0), spec).usd_nano
        # One nano-USD is kept back: `price` rounds.
        affordable = (left.usd_nano - prompt - 1) / (1000 * spec.usd_per_mtok_out)
        if affordable < most:
            most = max(int(affordable), least)
    return bound._replace(completion_tokens=most)


def check_budget(budget: Budget) -> Budget:
    """Return `budget`, or raise `ConfigError` naming the limit that is not positive."""
    for name in ("steps", "env_steps", "tokens", "calls", "call_tokens"):
        value = getattr(budget, name)
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise ConfigError(f"budget {name}={value!r} must be a whole number > 0")
    if budget.usd is not None and not budget.usd > 0:
        raise ConfigError(f"budget usd={budget.usd!r} must be > 0, or None for no limit")
    return budget


def total_allowance(budget: Budget) -> Allowance:
    """The whole budget of an episode as an allowance."""
    usd = UNLIMITED if budget.usd is None else round(budget.usd * NANO)
    return Allowance(budget.tokens, budget.calls, budget.env_steps, usd)


def divide(left: Allowance, weights: Sequence[float]) -> tuple[Allowance, ...]:
    """Shares of `left` that never add up to more than it.

    Of each resource every share gets one unit, where there are enough (a call cannot be halved); the rest is divided in
    proportion to `weights` (> 0) and rounded down. Equal weights give equal shares.
    """
    n = len(weights)
    # Exact: a float's rounding could hand out more than there is. Each weight once: most often all are equal.
    total = sum(Fraction(weight) * times for weight, times in Counter(weights).items())

    def share(amount: int, part: Fraction) -> int:
        if amount >= UNLIMITED:
            return amount
        least = int(amount >= n)
        return least + int(max(amount - least * n, 0) * part)

    parts = {weight: Fraction(weight) / total for weight in set(weights)}
    shares = {weight: Allowance(*(share(amount, part) for amount in left)) for weight, part in parts.items()}
    return tuple(shares[weight] for weight in weights)


def cost_terms(usage: Usage, budget: Budget) -> dict[str, float]:
    """Every cost of `usage` by name, in raw units.

    "mix" = .6 tokens/B_tokens + .3 env_steps/B_env_steps + .1 calls/B_calls (NextStep specification).
    """
    tokens = usage[0] + usage[1]
    a, b, c = MIX_WEIGHTS
    mix = a * tokens / budget.tokens + b * usage.env_steps / budget.env_steps + c * usage.calls / budget.calls
    return {
        "mix": mix,
        "usd": usage.usd_nano / NANO,
        "tokens": float(tokens),
        "calls": float(usage.calls),
        "env_steps": float(usage.env_steps),
        "flops": float(usage.flops),
    }
