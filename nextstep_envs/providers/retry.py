"""How long to wait before a failed attempt is made again."""

from __future__ import annotations

from nextstep_envs.providers.limits import Limits
from nextstep_envs.seeding import stream


def backoff(limits: Limits, seed: int, attempt: int, asked: float | None = None) -> float:
    """Seconds to pause after failed attempt number `attempt` (from 0): exponential backoff with full jitter.

    Uniform in [0, min(max_backoff_s, backoff_s * 2^attempt)], as in M. Brooker, "Exponential Backoff And Jitter" (AWS
    Architecture Blog, 2015), on top of what the service asked for.

    Args:
        seed: of the request; it and `attempt` name the random stream.
        asked: seconds of a Retry-After, or None.
    """
    # Beyond 2^60 it is capped anyway; the bound keeps the power a float.
    longest = min(limits.max_backoff_s, limits.backoff_s * 2.0 ** min(attempt, 60))
    return (asked or 0.0) + stream(seed, "retry", attempt).uniform(0.0, longest)
