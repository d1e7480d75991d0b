"""Does training pay? Trains the default orchestrator with several seeds and pools their closing tables.

Every seed is a whole `nextstep train`: warm start, GRPO, baselines, held-out tasks. A run that is already in the folder
is used as it is. Intervals are over tasks; the attempts of all seeds at a task count as one mean. The last line is one
JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from rich.console import Console

from nextstep_agents.cli import main as nextstep
from nextstep_agents.evaluation.table import markdown, pool, summary


def main() -> None:
    """Train what is missing, pool and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/learning"))
    parser.add_argument("overrides", nargs="*", help="further settings of nextstep train")
    args = parser.parse_args()
    folders, seconds = [args.folder / f"seed-{seed}" for seed in range(args.seeds)], []
    for seed, folder in enumerate(folders):
        if not (folder / "scores.json").exists():
            began = time.process_time()
            if nextstep(["train", f"seed={seed}", f"log_dir={folder}", *args.overrides]):
                raise SystemExit(f"training with seed {seed} failed")
            seconds.append(time.process_time() - began)
    data = summary(pool(folders), 5000)
    Console().print(markdown(data))
    print(json.dumps({**data, "training_seeds": args.seeds, "cpu_seconds": [round(s) for s in seconds]}))


if __name__ == "__main__":
    main()
