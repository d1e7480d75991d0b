"""How fast the bare shop is, and how its search scales. The last line is one JSON object.

The policy clicks uniformly among the legal labels, buys with probability .15 where it can, and searches for four random
words of the instruction; an episode has 15 steps at most. Everything counts: policy, resets, search, pages, reward.
Every catalogue size is measured in a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import gymnasium as gym

BUY_RATE = 0.15


def act(rng: random.Random, available: dict[str, Any], words: list[str]) -> str:
    """The benchmark's policy."""
    if available["has_search_bar"]:
        return f"search[{' '.join(rng.choices(words, k=4))}]"
    clickables = available["clickables"]
    if "buy now" in clickables and rng.random() < BUY_RATE:
        return "click[buy now]"
    return f"click[{rng.choice(clickables)}]"


def steps_per_cpu_second(env: gym.Env[str, str], episodes: int, seed: int) -> float:
    """Environment steps in one CPU second, the policy's time included."""
    rng, steps, start = random.Random(seed), 0, time.process_time()
    for episode in range(episodes):
        page, info = env.reset(seed=seed * episodes + episode)
        words, over = page.split("\n")[2].split(), False
        while not over:
            _, _, over, _, info = env.step(act(rng, info["available_actions"], words))
            steps += 1
    return steps / (time.process_time() - start)


def measure_steps(data_dir: str | None, repeats: int) -> dict[str, float]:
    """Construction time, speed and memory of the shop with 1,000 products."""
    import nextstep_envs  # noqa: F401

    start = time.process_time()
    env = gym.make("NextStep/WebShop-v0", data_dir=data_dir, split="all")
    construct = time.process_time() - start
    speeds = [steps_per_cpu_second(env, 1000, seed) for seed in range(repeats)]
    return {
        "steps_per_cpu_second": round(statistics.median(speeds)),
        "construct_seconds": round(construct, 3),
        "rss_mb": _rss_mb(),
    }


def measure_search(products: int) -> dict[str, float]:
    """Latency of cold searches of instruction words, and memory, with a generated catalogue."""
    from nextstep_envs.worlds.webshop import load_shop

    shop, rng, times = load_shop(num_products=products), random.Random(0), []
    for _ in range(1000):
        words = shop.goals[rng.randrange(len(shop.goals))].instruction.split()
        query = " ".join(rng.choices(words, k=4))
        start = time.process_time()
        shop.search(query)
        times.append(1e3 * (time.process_time() - start))
    times.sort()
    return {
        f"search_p50_ms_{products}": round(times[500], 3),
        f"search_p95_ms_{products}": round(times[950], 3),
        f"rss_mb_{products}": _rss_mb(),
    }


def _rss_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Measure each part in a fresh process and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", help="folder of the published files instead of the generated catalogue")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--products", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--part", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        part = measure_steps(args.data_dir, args.repeats) if args.part == "steps" else measure_search(int(args.part))
        print(json.dumps(part))
        return
    merged: dict[str, float] = {}
    for name in ("steps", *map(str, args.products)):
        command = [sys.executable, *sys.argv, "--part", name]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        merged |= json.loads(printed.splitlines()[-1])
    print(json.dumps(merged))


if __name__ == "__main__":
    main()
