"""A long rollout over a service that breaks every fifth attempt, killed with -9 in the middle and resumed.

The `openai` provider talks to a server on loopback through a proxy that injects 429 (with and without Retry-After),
500, 503, connection resets, hanging sockets, slow bodies, cut and truncated answers, pages of HTML and answers without
choices. Every episode must end, once, as success, failure or masked; what the ledgers say must equal, to the token,
what the server billed less what the proxy kept from the caller. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the servers are test tools, which no installation has

from tests.servers.rollouts import ENV, chaotic_rollout


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=0.2, help="share of attempts that are broken")
    parser.add_argument("--kill-after", type=int, default=4_000, help="episodes; 0 for no kill")
    parser.add_argument("--concurrency", type=int, default=128)
    parser.add_argument("--timeout", type=float, default=10.0, help="of an attempt, in seconds")
    parser.add_argument("--env", default=ENV)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = chaotic_rollout(
            Path(folder),
            arguments.episodes,
            arguments.kill_after,
            arguments.rate,
            arguments.concurrency,
            arguments.timeout,
            arguments.env,
        )
    unexplained = report.ended.unexplained()
    print(*(f"{name:>10}: {n}" for name, n in report.faults.most_common()), sep="\n")
    figures = {
        "benchmark": "chaos",
        "env": arguments.env,
        "episodes": len(report.lines),
        **report.endings(),
        "lost_or_doubled": report.lost_or_doubled(),
        "attempts": report.attempts,
        "faulty": sum(report.faults.values()),
        "ledgers_differ_by_tokens": sum(account.tokens for account in unexplained),
        "ledgers_differ_by_calls": sum(account.calls for account in unexplained),
        "tokens_in_ledgers": report.ended.ledgers.tokens + (report.killed.ledgers.tokens if report.killed else 0),
        "tokens_cut_off_by_the_kill": report.killed.unexplained()[0].tokens if report.killed else 0,
        "wall_s": round(report.wall_s, 1),
    }
    print(json.dumps(figures))
    if figures["lost_or_doubled"] or any(any(account) for account in unexplained):
        sys.exit("episodes or tokens do not add up")


if __name__ == "__main__":
    main()
