"""Trains a language model to orchestrate: warm start, then rollouts and updates, with evaluation and checkpoints."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

import nextstep_envs  # noqa: F401  (registers the ids)
from nextstep_agents.algorithms.critic_free import without_budgets
from nextstep_agents.algorithms.update import TrainingError, update
from nextstep_agents.checkpoint import Progress, latest_checkpoint, load_progress, save_checkpoint
from nextstep_agents.demonstrations import workflow_plan
from nextstep_agents.engines.transformers import TransformersEngine
from nextstep_agents.evaluation.play import Scores, play_llm
from nextstep_agents.policies.llm import LLMPolicy
from nextstep_agents.rollout import Start, describe, reset, rollout, to_batch
from nextstep_agents.runs import EVALUATION_SEED, FOLDERS, Callback, claim
from nextstep_agents.settings import TrainSettings
from nextstep_agents.tracking import Bar, Tracker
from nextstep_agents.warmstart import Demonstrator, warm_start
from nextstep_envs.env import OrchestrationEnv
from nextstep_envs.errors import ConfigError
from nextstep_envs.seeding import derive, stream
from wrappers import CostPenalty, RecordTrace

WARM_UP = 5  # steps over which the learning rate rises


@dataclass
class LLMTrainResult:
    """What a run brought.

    Attributes:
        policy: the best policy by dev reward, or the last where there was no evaluation.
        warm: the policy before training, as it came out of the warm start.
        settings: of the run.
        folder: the run folder.
        history: metrics of every training step.
        multipliers: of limited costs; GRPO limits none.
    """

    policy: LLMPolicy
    warm: LLMPolicy
    settings: TrainSettings
    folder: Path
    history: list[dict[str, float]] = field(default_factory=list)
    multipliers: dict[str, float] = field(default_factory=dict)

    def evaluate(self, tasks: int = 100, split: str = "test", seeds: int = 1) -> Scores:
        """Play the policy on the first `tasks` tasks of a split."""
        return evaluate(self.policy, self.settings, split, tasks, seeds)


def run(
    settings: TrainSettings,
    callback: Callback | None = None,
    demonstrator: Demonstrator = workflow_plan,
    quiet: bool = False,
) -> LLMTrainResult:
    """Train a language model; see `nextstep_agents.train`.

    Args:
        settings: of the run.
        callback: called after every step; returning False ends the training.
        demonstrator: whom a new model imitates before it learns by itself.
        quiet: show no progress bar.
    """
    torch.set_num_threads(settings.threads)
    _check_tasks(settings)
    folder = claim(settings.log_dir or time.strftime(FOLDERS), settings, settings.resume)
    # Without a checkpoint the run was killed in the warm start or soon after, and begins again: the same, bit for bit.
    checkpoint = latest_checkpoint(folder / "checkpoints") if settings.resume else None
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
) -> LLMTrainResult:
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
    envs = make_envs(settings, "train", settings.episodes)
    envs[0] = RecordTrace(envs[0], folder / "traces" / "train.jsonl")
    result = LLMTrainResult(policy, warm, settings, folder)
    bar.begin("training", settings.total_steps, progress.step)
    for step in range(progress.step, settings.total_steps):
        began = time.monotonic()
        starts = [
            Start(derive(settings.seed, "task", step, g) % 2**31, k, g)
            for g in range(settings.episodes // algorithm.group_size)
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
            estimates = without_budgets(batch, step / settings.total_steps)
            metrics |= update(
                policy,
                optimiser,
                algorithm.objective(batch, estimates, algorithm.start(0))[0],
                batch,
                algorithm,
                settings.temperature,
                derive(settings.seed, "update", step),
                warm if algorithm.kl or algorithm.kl_end else None,
                keep,
                settings.micro_groups,
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


def _step_of(checkpoint: Path | None) -> int:
    return int(checkpoint.name.removeprefix("step-")) if checkpoint else 0


def _cost_names(env: gym.Env[Any, Any]) -> tuple[str, ...]:
    names: tuple[str, ...] = env.get_wrapper_attr("cost_names")
    return names
