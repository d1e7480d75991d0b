"""Spending real models' recorded answers well: baselines, MaskablePPO and ours under mean budgets, and the speed.

    python benchmarks/recorded.py --out runs/recorded [--seeds 1] [--cross-seeds 1] [--steps 100000] [--folds 0]

Everything is chosen on training questions. "dev": trained on the files' train split, judged on dev. "cross": five folds
over both, each judged by what the others taught. Chance is averaged out: lotteries in expectation, learned policies
over `DRAWS` draws for each question. "over the flip" compares with the coin flip between the cheapest and the best
model at the cost that was really paid, on the same questions; "adjusted" compares two of these differences. Intervals
are 95%, by bootstrap over questions. MaskablePPO sees what ours sees and pays a price (`CostPenaltyVector`): of three,
the one that does best within the budget on training questions.

What `--out` holds already is used as it is. Writes recorded.json and recorded.png; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import matplotlib
import numpy as np

from nextstep_agents.evaluation.statistics import bootstrap
from nextstep_agents.recorded.baselines import baselines, ends, fixed_plans, flip_at
from nextstep_agents.recorded.bounds import any_correct, budgeted_optimum
from nextstep_agents.recorded.learned import LearnedAsker
from nextstep_agents.recorded.lookahead import lookahead_within
from nextstep_agents.recorded.orchestrator import ENV_KWARGS, train_orchestrator
from nextstep_agents.recorded.play import Played, play
from wrappers import CostPenaltyVector
from wrappers.interfaces import SB3VecEnv

matplotlib.use("Agg")
ENV = "NextStep/MMLUPro-Routing-v0"
DRAWS = 8  # of a policy for each question
LEARNED = ("MaskablePPO", "ours")
PRICES = (0.75, 1.0, 1.33)  # times the price of the plan that meets the budget
OTHERS = ("lottery", "lookahead")  # stronger than what the issue asks for, and never the "best baseline"


class Part:
    """Questions to train on and questions to judge by."""

    def __init__(self, data: str, fold: int | None, folds: int) -> None:
        self.name = "dev" if fold is None else f"fold{fold}"
        shared = {"workers": f"recorded:{data}", "skills": "train"}
        self.kwargs = shared if fold is None else {**shared, "folds": folds, "fold": fold}
        self.setup = gym.make(ENV, **{**ENV_KWARGS, **self.kwargs}).unwrapped.setup
        self.world = self.setup.world
        self.train, self.rows = (np.flatnonzero(self.world.split_of == name) for name in ("train", "dev"))

    def judged(self, policy: Any, rows: Any, seed: int, draws: int = DRAWS) -> Played:
        """What a trained policy does, averaged over its draws."""
        played = play(LearnedAsker(policy, self.setup.rules, seed), self.world, np.repeat(rows, draws))
        return Played(*(column.reshape(len(rows), draws).mean(1) for column in (played.right, played.usd)))


class MaskedProbabilities:
    """A MaskablePPO model, as `LearnedAsker` wants it."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def probabilities(self, observation: Mapping[str, Any]) -> Any:
        """[n, A]."""
        tensors, _ = self.model.policy.obs_to_tensor(dict(observation))
        found = self.model.policy.get_distribution(tensors, action_masks=observation["action_mask"])
        return found.distribution.probs.detach().numpy().astype(np.float64)


def ours(part: Part, budget: float, seed: int, steps: int) -> Played:
    """Ours on the questions that judge."""
    result = train_orchestrator(ENV, budget, part.kwargs, total_steps=steps, seed=seed, quiet=True)
    result.close()
    return part.judged(result.policy, part.rows, seed)


def maskable_ppo(part: Part, budget: float, seed: int, steps: int) -> Played:
    """MaskablePPO at the best of `PRICES`."""
    from sb3_contrib import MaskablePPO

    plan, _ = lookahead_within(part.world, part.train, budget)
    tried = []
    for factor in PRICES:
        many = gym.make_vec(f"nextstep_envs:{ENV}", num_envs=64, **{**ENV_KWARGS, **part.kwargs})
        env = SB3VecEnv(CostPenaltyVector(many, weight=plan.price * factor))
        settings = {"n_steps": 32, "batch_size": 512, "gamma": 1.0, "gae_lambda": 1.0, "ent_coef": 0.02}
        model = MaskablePPO("MultiInputPolicy", env, seed=seed, device="cpu", **settings).learn(steps)
        policy = MaskedProbabilities(model)
        known = part.judged(policy, part.train, seed, 1)
        over = max(0.0, float(known.usd.mean()) / budget - 1.02)
        tried.append(((over, -float(known.right.mean())), len(tried), policy))
    return part.judged(min(tried)[2], part.rows, seed)


def collect(part: Part, budgets: list[float], how: argparse.Namespace) -> None:
    """Run what the folder does not hold yet: one file for each method, part, budget and seed."""
    folder, fixed = how.out / "runs", None
    folder.mkdir(parents=True, exist_ok=True)
    for budget in budgets:
        stem = f"{part.name}-{budget:.0f}"
        if not (folder / f"{stem}-baselines.npz").exists():
            fixed = fixed or fixed_plans(part.world, part.train)
            found = baselines(part.world, part.train, budget / 1e6, fixed)
            came = {name: found[name].expected(part.world, part.rows) for name in found}
            np.savez(folder / f"{stem}-baselines.npz", **{n: np.stack([p.right, p.usd]) for n, p in came.items()})
            report(stem, "baselines", {name: (p.right.mean(), p.usd.mean() * 1e6) for name, p in came.items()})
        own, others = (how.seeds, how.seeds) if part.name == "dev" else (how.cross_seeds, 0)
        for name, run, steps, seeds in (
            ("ours", ours, how.steps, own),
            ("MaskablePPO", maskable_ppo, how.sb3_steps, others),
        ):
            for seed in range(seeds):
                file = folder / f"{stem}-{name}-{seed}.npz"
                if steps and not file.exists():
                    start = time.process_time()
                    p = run(part, budget / 1e6, seed, steps)
                    np.savez(file, came=np.stack([p.right, p.usd]))
                    spent = time.process_time() - start
                    report(stem, f"{name} {seed}", {"": (p.right.mean(), p.usd.mean() * 1e6), "cpu": (0, spent)})


def report(stem: str, what: str, came: Mapping[str, Any]) -> None:
    """Progress."""
    shown = ", ".join(f"{name} {100 * right:.1f} at {usd:.0f}".strip() for name, (right, usd) in came.items())
    print(f"{stem} {what}: {shown}", flush=True)


def compared(parts: list[Part], budget: float, folder: Path) -> dict[str, Any]:
    """All methods at one budget over the questions of some parts."""
    came: dict[str, list[Any]] = {}
    for part in parts:
        stem = f"{part.name}-{budget:.0f}"
        with np.load(folder / f"{stem}-baselines.npz") as file:
            for name in file.files:
                came.setdefault(name, []).append([file[name]])
        for name in LEARNED:
            runs = [np.load(file)["came"] for file in sorted(folder.glob(f"{stem}-{name}-*.npz"))]
            if runs:
                came.setdefault(name, []).append(runs)
    rows, over = {}, {}
    for name, found in came.items():
        if len(found) < len(parts):
            continue  # not in every part
        seeds = min(map(len, found))
        table = np.concatenate([np.stack(runs[:seeds]) for runs in found], 2)  # [seeds, right and usd, questions]
        gains = [flipped(parts, one[0], one[1]) for one in table]
        over[name] = np.stack(gains, 1)
        rows[name] = {
            "accuracy": interval(table[:, 0].T),
            "usd": float(table[:, 1].mean()),
            "fits": bool(table[:, 1].mean() <= 1.01 * budget / 1e6),
            "over_flip": interval(over[name]),
            "seeds": seeds,
            "right": table[:, 0].mean(0),
        }
    if "ours" in rows:
        for name in rows:
            adjusted = over["ours"].mean(1) - over[name].mean(1)
            rows[name]["ours_minus"] = interval(rows["ours"]["right"] - rows[name]["right"])
            rows[name]["ours_minus_adjusted"] = interval(adjusted)
    for row in rows.values():
        del row["right"]
    return rows


def flipped(parts: list[Part], right: Any, usd: Any) -> Any:
    """Right answers more than the coin flip's for the same money, by question."""
    sizes = np.cumsum([len(part.rows) for part in parts])[:-1]
    pieces = zip(parts, np.split(right, sizes), np.split(usd, sizes), strict=True)
    return np.concatenate([r - flip_at(p.world, p.train, p.rows, u.mean()).right for p, r, u in pieces])


def interval(values: Any) -> list[float]:
    """Mean, low, high in percent."""
    return [round(100 * value, 2) for value in bootstrap(values)]


def bounds(parts: list[Part], budgets: list[float]) -> dict[str, Any]:
    """In hindsight, over the questions that judge."""
    weights = [len(part.rows) for part in parts]
    best = [any_correct(part.world, part.rows) for part in parts]
    total = np.concatenate([b.right for b in best]).mean(), np.concatenate([b.usd for b in best]).mean()
    found = {"any_correct": {"accuracy": 100 * float(total[0]), "usd": float(total[1])}}
    for budget in budgets:
        values = [budgeted_optimum(part.world, part.rows, budget / 1e6) for part in parts]
        found[f"optimum_{budget:.0f}"] = {"accuracy": 100 * float(np.average(values, weights=weights))}
    return found


def speed(data: str) -> float:
    """Environment steps in one CPU second through `gym.make_vec(id, 64)`, median of five."""
    rates = []
    env = gym.make_vec(f"nextstep_envs:{ENV}", num_envs=64, workers=f"recorded:{data}")
    observations, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(5):
        start = time.process_time()
        for _ in range(500):
            mask = observations["action_mask"]
            observations, *_ = env.step((rng.random(mask.shape) * mask).argmax(1))
        rates.append(500 * 64 / (time.process_time() - start))
    return float(np.median(rates))


def draw(path: Path, tables: Mapping[str, Any], parts: Mapping[str, list[Part]]) -> None:
    """Accuracy over cost of everything, and the coin flip's line."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(tables), figsize=(7 * len(tables), 5), squeeze=False)
    for ax, (title, table) in zip(axes[0], tables.items(), strict=True):
        names = list(dict.fromkeys(name for rows in table.values() for name in rows))
        for number, name in enumerate(names):
            points = [(r[name]["usd"] * 1e6, *r[name]["accuracy"]) for r in table.values() if name in r]
            x, mean, low, high = np.array(sorted(points)).T
            heavy = {"linewidth": 2.5, "zorder": 5} if name == "ours" else {"alpha": 0.7}
            ax.errorbar(
                x,
                mean,
                np.stack([mean - low, high - mean]),
                marker="o",
                capsize=2,
                color=f"C{number}" if number < 10 else "k",
                label=name,
                **heavy,
            )
        flips = [[play(plan, p.world, p.rows) for plan in ends(p.world, p.train)] for p in parts[title]]
        usd, right = (
            [np.concatenate([getattr(flip[i], field) for flip in flips]).mean() for i in (0, 1)]
            for field in ("usd", "right")
        )
        ax.plot(1e6 * np.array(usd), 100 * np.array(right), "k--", label="coin flip line")
        ax.set(xlabel="mean cost, micro-USD a question", ylabel="accuracy, %", title=title)
        ax.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run what is missing, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/recorded")
    parser.add_argument("--out", type=Path, default=Path("runs/recorded"))
    parser.add_argument("--budgets", nargs="+", type=float, default=[300, 600, 1000], help="micro-USD a question")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100_000, help="decisions of ours")
    parser.add_argument("--sb3-steps", type=int, default=60_000, help="of MaskablePPO at each price; 0: leave it out")
    parser.add_argument("--cross-seeds", type=int, default=3, help="of ours; MaskablePPO is left out there")
    parser.add_argument("--folds", type=int, default=5, help="0: no cross-fitting")
    how = parser.parse_args()
    dev = Part(how.data, None, 0)
    parts = {"dev": [dev], "cross": [Part(how.data, fold, how.folds) for fold in range(how.folds)]}
    parts = {name: some for name, some in parts.items() if some}
    for part in sum(parts.values(), []):
        collect(part, how.budgets, how)
    tables = {n: {f"{b:.0f}": compared(some, b, how.out / "runs") for b in how.budgets} for n, some in parts.items()}
    limits = {name: bounds(some, how.budgets) for name, some in parts.items()}
    fronts: dict[str, Any] = {}
    for name, table in tables.items():
        for budget, rows in table.items():
            print(f"\n{name}, {budget} micro-USD: accuracy, cost, over the coin flip; ours minus it, adjusted for cost")
            for method, r in sorted(rows.items(), key=lambda item: -item[1]["over_flip"][0]):
                print(
                    f"  {method:<12} {spread(r['accuracy'])} at {1e6 * r['usd']:5.0f}{'' if r['fits'] else '!'}"
                    f"   {spread(r['over_flip'])}   {spread(r.get('ours_minus'))}   "
                    f"{spread(r.get('ours_minus_adjusted'))}"
                )
            fit = {m: r for m, r in rows.items() if r["fits"] and m not in (*OTHERS, "ours")}
            best = max(fit, key=lambda m: fit[m]["accuracy"][0], default=None)
            chosen = {"best_baseline": best, "baseline": fit.get(best), "ours": rows.get("ours")}
            fronts.setdefault(name, {})[budget] = chosen
    last = {"steps_per_cpu_second": speed(how.data), "fronts": fronts, "bounds": limits}
    (how.out / "recorded.json").write_text(json.dumps({**last, "tables": tables}, indent=1) + "\n")
    draw(how.out / "recorded.png", tables, parts)
    print(json.dumps(last))


def spread(values: list[float] | None) -> str:
    """A mean and its interval."""
    return "" if values is None else "{:5.1f} [{:+.1f}, {:+.1f}]".format(*values)


if __name__ == "__main__":
    main()
