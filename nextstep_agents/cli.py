"""The `nextstep` command: `envs` lists the ids, `train` trains an orchestrator; settings are Hydra overrides."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from nextstep_envs.errors import MissingExtraError, NextStepError

USAGE = """usage: nextstep <command> [overrides]

  envs                      list the environment ids
  train [key=value ...]     train a language model, then compare it with baselines on held-out tasks
                            for example: nextstep train seed=1 total_steps=40 grpo.group_size=4
                            frozen settings: nextstep train experiment=smoke
                            all settings: nextstep train --help
  train policy=mlp [...]    train on vectors, under budgets, on any Gymnasium or parallel environment
                            for example: nextstep train policy=mlp env=NextStep/TierRouting-v0 algorithm=p3o
                            all settings: nextstep train policy=mlp --help
  rollout [key=value ...]   play a policy on many episodes side by side and write down what happened
                            for example: nextstep rollout policy=general.shop episodes=1000 split=dev out=runs/mine
                            killed or stopped? repeat it with resume=true
                            all settings: nextstep rollout --help
  smoke [key=value ...]     a rollout on the fake provider, set by the environment: SPLIT, SEED, MAX_STEPS, MAX_TOK,
                            MAX_CALLS, MAX_TASKS, METHODS, OUT_ROOT, NEXTSTEP_FAKE_INVALID_RATE ...
  dev-slice [key=value ...] the same on a real provider: 8 tasks of S_policy_dev, MODEL=<provider>:<model>
  doctor [model ...]        make one cheap call to each provider that is set up and say what is wrong
                            for example: nextstep doctor openai:gpt-4.1-mini timeout_s=10
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    commands = {
        "envs": _envs,
        "train": _train,
        "rollout": _rollout,
        "smoke": _smoke,
        "dev-slice": _dev_slice,
        "doctor": _doctor,
    }
    if not given or given[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if given else 2
    if given[0] not in commands:
        print(f"nextstep: {given[0]!r} is no command; choose one of {', '.join(commands)}", file=sys.stderr)
        return 2
    try:
        return commands[given[0]](given[1:])
    except NextStepError as error:
        print(f"nextstep {given[0]}: {error}", file=sys.stderr)
        return 2


def _envs(arguments: Sequence[str]) -> int:
    from registry import catalog

    if arguments:
        print(f"nextstep envs takes no arguments, got {' '.join(arguments)}", file=sys.stderr)
        return 2
    for entry in catalog.entries():
        forms = {"gymnasium": entry.entry_point, "aec": entry.aec_entry_point, "parallel": entry.parallel_entry_point}
        made = ", ".join(name for name, target in forms.items() if target is not None)
        print(f"{entry.id:<34} world {entry.world or '-':<10} protocol {entry.protocol or '-':<10} {made}")
    return 0


def _train(overrides: Sequence[str]) -> int:
    mlp = "policy=mlp" in overrides
    try:
        import hydra  # noqa: F401
        import rich  # noqa: F401
        import torch  # noqa: F401

        if not mlp:
            import transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "agents", "nextstep train") from error
    if mlp:
        from nextstep_agents.learning.command import command

        return command(overrides)
    from omegaconf import OmegaConf
    from rich.console import Console
    from transformers.utils import logging

    from nextstep_agents.config import compose_train

    if any(word in ("-h", "--help") for word in overrides):
        print(OmegaConf.to_yaml(OmegaConf.structured(_defaults())), end="")
        return 0
    logging.disable_progress_bar()
    return _train_with(compose_train(overrides), Console())


def _rollout(overrides: Sequence[str]) -> int:
    _need_hydra("nextstep rollout")
    from nextstep_agents.rollouts.command import command

    return command(overrides)


def _smoke(overrides: Sequence[str]) -> int:
    _need_hydra("nextstep smoke")
    from nextstep_agents.rollouts.scripts import SMOKE, command

    return command(SMOKE, overrides)


def _dev_slice(overrides: Sequence[str]) -> int:
    _need_hydra("nextstep dev-slice")
    from nextstep_agents.rollouts.scripts import DEV_SLICE, command

    return command(DEV_SLICE, overrides)


def _need_hydra(command: str) -> None:
    try:
        import hydra  # noqa: F401
        import rich  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(error.name or "hydra-core", "agents", command) from error


def _doctor(arguments: Sequence[str]) -> int:
    from nextstep_agents.doctor import command

    return command(arguments)


def _defaults() -> Any:
    from nextstep_agents.settings import TrainSettings

    return TrainSettings


def _train_with(settings: Any, console: Any) -> int:
    from nextstep_agents.evaluation.table import compare, save_scores, show, summary, write
    from nextstep_agents.llm_training import run

    result = run(settings)
    console.print(f"Trained: {result.folder} (policy, checkpoints, metrics.csv, tensorboard, traces)")
    if settings.evaluation.tasks:
        console.print("Comparing on held-out tasks ...")
        comparison = compare(result)
        save_scores(comparison, result.folder)
        data = summary(comparison, settings.evaluation.bootstrap)
        write(data, result.folder)
        show(data, console)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
