"""Trains an orchestrator: warm start, then rounds of rollout and update, with evaluation and checkpoints."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

import nextstep_envs  # noqa: F401  (registers the ids)
from nextstep_agents.algorithms.update import TrainingError, update
from nextstep_agents.checkpoint import Progress, latest_checkpoint, load_progress, save_checkpoint, write_text
from nextstep_agents.demonstrations import workflow_plan
from nextstep_agents.engines.transformers import TransformersEngine
from nextstep_agents.evaluation.play import Scores, play_llm
from nextstep_agents.policies.llm import LLMPolicy
from nextstep_agents.rollout import Start, describe, reset, rollout, to_batch
from nextstep_agents.settings import TrainSettings, make_settings
from nextstep_agents.tracking import Bar, Tracker
from nextstep_agents.warmstart import Demonstrator, warm_start
from nextstep_envs.env import OrchestrationEnv
from nextstep_envs.errors import ConfigError
from nextstep_envs.seeding import derive, stream
from wrappers import CostPenalty, RecordTrace

Callback = Callable[[int, Mapping[str, float]], bool | None]
"""Called after every training step with its number and metrics; returning False ends the training."""

WARM_UP = 5  # steps over which the learning rate rises
EVALUATION_SEED = 1_000_003  # of dev and test episodes: the same for every run, so that runs can be compared


@dataclass
class TrainResult:
    """What a run brought.

    Attributes:
        policy: the best policy by dev reward, or the last where there was no evaluation.
        warm: the policy before training, as it came out of the warm start.
        settings: of the run.
        history: metrics of every training step.
        folder: the run folder.
    """

    policy: LLMPolicy
    warm: LLMPolicy
    settings: TrainSettings
    folder: Path
    history: list[dict[str, float]] = field(default_factory=list)

    def evaluate(self, tasks: int = 100, split: str = "test", seeds: int = 1) -> Scores:
        """Play the policy on the first `tasks` tasks of a split."""
        return evaluate(self.policy, self.settings, split, tasks, seeds)


def train(
    env_or_id: str = TrainSettings.env,
    algorithm: str = "grpo",
    policy: str = "llm",
    total_steps: int = TrainSettings.total_steps,
    seed: int = 0,
    callback: Callback | None = None,
    device: str = "cpu",
    log_dir: str = "",
    demonstrator: Demonstrator = workflow_plan,
    quiet: bool = False,
    **settings: Any,
) -> TrainResult:
    """Train an orchestrator on an environment with a text interface.

    Args:
        env_or_id: a registered id.
        algorithm: "grpo". policy: "llm".
        total_steps: training steps.
        seed: of everything that is random.
        callback: called after every step; returning False ends the training.
        device: such as "cpu" or "cuda".
        log_dir: run folder; "" for runs/<time>.
        demonstrator: whom a new model imitates before it learns by itself.
        quiet: show no progress bar.
        **settings: further fields of `TrainSettings`; a group takes a mapping, `grpo={"group_size": 4}`.

    Raises:
        ConfigError: a setting is unknown or out of range.
        TrainingError: too many episodes failed, or a gradient is not finite.
    """
    if not isinstance(env_or_id, str):
        raise ConfigError(f"env_or_id={env_or_id!r} must be a registered id; see `nextstep envs`")
    named = {"algorithm": algorithm, "policy": policy, "total_steps": total_steps, "seed": seed}
    made = make_settings(env=env_or_id, device=device, log_dir=log_dir, **named, **settings)
    return run(made, callback, demonstrator, quiet)


def run(
    settings: TrainSettings,
    callback: Callback | None = None,
    demonstrator: Demonstrator = workflow_plan,
    quiet: bool = False,
) -> TrainResult:
    """As `train`, from settings."""
    torch.set_num_threads(settings.threads)
    _check_tasks(settings)
    folder = _folder(settings)
    # Without a checkpoint the run was killed in the warm start or soon after, and begins again: the same, bit for bit.
    checkpoint = latest_checkpoint(folder / "checkpoints") if settings.resume else None
    write_text(folder / "settings.json", _stored(settings))
    resume_step = _step_of(checkpoint)
    tracker = Tracker(folder, resume_step)
    try:
        with Bar(quiet) as bar:
            return _run(settings, folder, checkpoint, tracker, bar, callback, demonstrator)
    finally:
        tracker.close()


def _run(
    settings: TrainSettings,
    folder: Path,
    checkpoint: Path | None,
    tracker: Tracker,
    bar: Bar,
    callback: Callback | None,
    demonstrator: Demonstrator,
) -> TrainResult:
    warm_folder, best_folder = folder / "warm_start", folder / "best"
    if checkpoint is None:
        policy = _warm_policy(settings, tracker, bar, demonstrator)
        policy.save(warm_folder)
    else:
        policy = LLMPolicy.load(checkpoint / "policy", settings.device)
    warm = LLMPolicy.load(warm_folder, settings.device)
    optimiser = torch.optim.AdamW(policy.model.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    progress = load_progress(checkpoint, optimiser) if checkpoint else Progress()

    algorithm, evaluation = settings.grpo, settings.evaluation
    engine = TransformersEngine(policy.model, policy.dialogue.stop)
    envs = make_envs(settings, "train", algorithm.group_size * algorithm.groups_per_step)
    envs[0] = RecordTrace(envs[0], folder / "traces" / "train.jsonl")
    result = TrainResult(policy, warm, settings, folder)
    bar.begin("training", settings.total_steps, progress.step)
    for step in range(progress.step, settings.total_steps):
        began = time.monotonic()
        starts = [
            Start(derive(settings.seed, "task", step, g) % 2**31, k, g)
            for g in range(algorithm.groups_per_step)
            for k in range(algorithm.group_size)
        ]
        answers = derive(settings.seed, "answers", step)
        episodes = rollout(envs, policy.dialogue, engine, starts, settings.limits, settings.temperature, answers)
        metrics = describe(episodes, _cost_names(envs[0]))
        if metrics["masked_rate"] > settings.max_masked_rate:
            raise TrainingError(
                f"{metrics['masked_rate']:.1%} of the episodes of step {step + 1} failed, more than "
                f"max_masked_rate={settings.max_masked_rate:.1%}: repair the provider, or allow more"
            )
        batch = to_batch(episodes).to(settings.device)
        keep = algorithm.keep(batch)
        metrics["flat_groups"] = 1 - float(keep.float().mean())
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * _schedule(step, settings.total_steps)
        metrics["learning_rate"] = optimiser.param_groups[0]["lr"]
        if bool(keep.any()):
            chosen = batch.select(keep)
            metrics |= update(
                policy,
                optimiser,
                algorithm.at(step / settings.total_steps),
                chosen,
                algorithm.advantages(batch)[keep],
                settings.update,
                settings.temperature,
                derive(settings.seed, "update", step),
                warm if algorithm.kl or algorithm.kl_end else None,
            )
        seconds = time.monotonic() - began
        metrics |= {"seconds": seconds, "tokens_per_second": float(batch.action.sum()) / seconds}
        progress = _after(settings, policy, engine, step + 1, progress, tracker, best_folder)
        tracker.log("train", step + 1, metrics)
        result.history.append(metrics)
        bar.step(f"reward {metrics['reward']:.3f}  outcome {metrics['outcome']:.3f}")
        last = step + 1 == settings.total_steps
        if last or (step + 1) % settings.checkpoint_every == 0:
            save_checkpoint(folder / "checkpoints", policy, optimiser, progress)
        if callback is not None and callback(step + 1, metrics) is False:
            save_checkpoint(folder / "checkpoints", policy, optimiser, progress)
            break
    for env in envs:
        env.close()
    if evaluation.every and best_folder.exists():
        result.policy = LLMPolicy.load(best_folder, settings.device)
    result.policy.save(folder / "policy")
    return result


def _after(
    settings: TrainSettings,
    policy: LLMPolicy,
    engine: TransformersEngine,
    step: int,
    progress: Progress,
    tracker: Tracker,
    best_folder: Path,
) -> Progress:
    """Evaluate on the dev split when it is time, and keep the best policy."""
    every = settings.evaluation.every
    if every and (step % every == 0 or step == settings.total_steps):
        scores = evaluate(policy, settings, "dev", settings.evaluation.dev_tasks, 1, engine)
        reward = float(np.nanmean(scores.reward))
        means = {"reward": reward, "outcome": float(np.nanmean(scores.outcome)), "cost": float(np.nanmean(scores.cost))}
        tracker.log("dev", step, means)
        if reward > progress.best:
            policy.save(best_folder)
            return Progress(step, reward, step)
    return Progress(step, progress.best, progress.best_step)


def evaluate(
    policy: LLMPolicy,
    settings: TrainSettings,
    split: str,
    tasks: int,
    seeds: int,
    engine: TransformersEngine | None = None,
) -> Scores:
    """Play a policy on the first `tasks` tasks of a split, each `seeds` times."""
    envs = make_envs(settings, split, min(tasks * seeds, 128))
    ids = task_ids(envs[0], split, tasks)
    engine = engine or TransformersEngine(policy.model, policy.dialogue.stop)
    temperature = settings.evaluation.temperature
    scores = play_llm(policy, engine, envs, ids, seeds, settings.limits, temperature, EVALUATION_SEED)
    for env in envs:
        env.close()
    return scores


def make_envs(settings: TrainSettings, split: str, count: int, interface: str = "text") -> list[gym.Env[Any, Any]]:
    """Environments of the run: the outcome minus the weighted cost is the reward."""
    return [
        CostPenalty(
            gym.make(settings.env, interface=interface, split=split, **settings.env_kwargs), settings.cost_weight
        )
        for _ in range(count)
    ]


def task_ids(env: gym.Env[Any, Any], split: str, count: int) -> list[str]:
    """The first `count` task ids of a split; `ConfigError` if it has fewer."""
    ids = list(env.unwrapped.setup.world.ids(split))  # type: ignore[attr-defined]
    if len(ids) < count:
        raise ConfigError(f"{count} tasks were asked for but the {split!r} split has only {len(ids)}; ask for fewer")
    return ids[:count]


def _check_tasks(settings: TrainSettings) -> None:
    """Raise `ConfigError` now, not after the training, if there is nothing to train on, or too few held-out tasks."""
    how = settings.evaluation
    try:
        (env,) = make_envs(settings, "train", 1)
    except gym.error.UnregisteredEnv as error:
        raise ConfigError(f"env={settings.env!r} is not registered with Gymnasium; see `nextstep envs`") from error
    if not isinstance(env.unwrapped, OrchestrationEnv):
        raise ConfigError(f"env={settings.env!r} has no workers to orchestrate; train one whose id names a protocol")
    if env.unwrapped.setup.rules.name != "workflow":
        raise ConfigError(
            f"env={settings.env!r}: warm start and baselines speak the Workflow protocol only; "
            "train an id such as NextStep/WebShop-Workflow-v0"
        )
    if how.every:
        task_ids(env, "dev", how.dev_tasks)
    if how.tasks:
        task_ids(env, "test", how.tasks)
        task_ids(env, "train", how.plan_tasks)
    env.close()


def _warm_policy(settings: TrainSettings, tracker: Tracker, bar: Bar, demonstrator: Demonstrator) -> LLMPolicy:
    """A new model that has learned to answer at all, or the model at `llm.path`."""
    (env,) = make_envs(settings, "train", 1)
    messages = [
        reset(env, Start(derive(settings.seed, "message", i) % 2**31))[0] for i in range(settings.warm_start.messages)
    ]
    env.close()
    rng = stream(settings.seed, "tokenizer")
    texts = [*messages, *(demonstrator(message, rng) for message in messages)]
    policy = LLMPolicy.new(settings.llm, texts, derive(settings.seed, "weights"))
    policy.model.to(settings.device)
    if settings.warm_start.steps:
        bar.begin("warm start", settings.warm_start.steps)

    def report(step: int, metrics: dict[str, float]) -> None:
        tracker.log("warm_start", step, metrics)
        bar.step(f"loss {metrics['loss']:.3f}")

    warm_start(policy, messages, demonstrator, settings.warm_start, settings.seed, report)
    return policy


def _schedule(step: int, total: int) -> float:
    """Share of the learning rate: up over `WARM_UP` steps, then linearly down to a tenth."""
    return min(1.0, (step + 1) / WARM_UP) * (1 - 0.9 * step / total)


def _folder(settings: TrainSettings) -> Path:
    folder = Path(settings.log_dir or time.strftime("runs/%Y-%m-%d_%H-%M-%S"))
    if (folder / "settings.json").exists() and not settings.resume:
        raise ConfigError(f"log_dir={str(folder)!r} already holds a run; choose another folder, or set resume=True")
    if settings.resume:
        _check_same_run(settings, folder / "settings.json")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _check_same_run(settings: TrainSettings, file: Path) -> None:
    """Raise `ConfigError` unless the run to resume has these settings: going on with others would be neither run."""
    if not file.exists():
        raise ConfigError(f"log_dir={str(file.parent)!r} holds no run to resume")
    before, now = json.loads(file.read_text()), json.loads(_stored(settings))
    changed = [f"{name}={now[name]!r} (was {before.get(name)!r})" for name in now if now[name] != before.get(name)]
    if changed:
        raise ConfigError(f"the run in {str(file.parent)!r} has other settings; repeat them: {', '.join(changed)}")


def _stored(settings: TrainSettings) -> str:
    """The settings as JSON, without those that do not change what is computed."""
    fields = {k: v for k, v in asdict(settings).items() if k not in ("log_dir", "resume", "checkpoint_every")}
    return json.dumps(fields, indent=1) + "\n"


def _step_of(checkpoint: Path | None) -> int:
    return int(checkpoint.name.removeprefix("step-")) if checkpoint else 0


def _cost_names(env: gym.Env[Any, Any]) -> tuple[str, ...]:
    names: tuple[str, ...] = env.get_wrapper_attr("cost_names")
    return names
