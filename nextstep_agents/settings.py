"""Everything that a language model's training can be told: the schema of `train(policy="llm")`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nextstep_agents.algorithms.grpo import GRPO
from nextstep_agents.learning.settings import ALGORITHMS as MLP_ALGORITHMS
from nextstep_agents.overrides import changed
from nextstep_agents.policies.llm import LLMSettings
from nextstep_agents.rollout import Limits
from nextstep_agents.warmstart import WarmStart
from nextstep_envs.errors import ConfigError, check_choice

ALGORITHMS = ("grpo",)
POLICIES = ("llm",)


@dataclass(frozen=True)
class Evaluation:
    """How policies are compared while and after training.

    Attributes:
        every: training steps between evaluations on the dev split; 0: never. The best checkpoint is kept by them.
        dev_tasks: tasks of such an evaluation.
        tasks: held-out tasks (test split) of the closing table; 0: no table.
        seeds: attempts at each of them, with other noise.
        temperature: of the policy's answers; 0: the likeliest.
        plan_tasks: training tasks on which the best fixed plan is chosen.
        maskable_ppo: train MaskablePPO on the same number of episodes, where sb3-contrib is installed.
        bootstrap: resamples of the intervals.
    """

    every: int = 20
    dev_tasks: int = 100
    tasks: int = 200
    seeds: int = 3
    temperature: float = 1.0
    plan_tasks: int = 300
    maskable_ppo: bool = True
    bootstrap: int = 2000


@dataclass(frozen=True)
class TrainSettings:
    """Settings of a run.

    Attributes:
        env: environment id; env_kwargs: its further arguments.
        algorithm: "grpo"; policy: "llm".
        total_steps: training steps after the warm start.
        seed: of everything that is random.
        cost_weight: lambda; the reward is the outcome minus lambda times `info["cost"]`.
        learning_rate: of AdamW. It warms up over 5 steps and then falls linearly to a tenth. 1e-3 suits a new model
            of a million parameters; 1e-5 a pretrained one of billions.
        temperature: of sampling in training.
        micro_groups: groups per forward and backward pass, which bounds memory and changes nothing else.
        max_masked_rate: share of failed episodes above which training stops.
        checkpoint_every: training steps between checkpoints.
        threads: CPU threads of torch; with small matrices more than one is slower on a busy machine.
        device: of the model, such as "cpu" or "cuda".
        log_dir: the run folder; "" for runs/<time>.
        resume: go on from the run folder's last checkpoint.
    """

    env: str = "NextStep/WebShop-Workflow-v0"
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    algorithm: str = "grpo"
    policy: str = "llm"
    total_steps: int = 80
    seed: int = 0
    cost_weight: float = 0.2
    learning_rate: float = 1e-3
    temperature: float = 1.0
    max_masked_rate: float = 0.02
    checkpoint_every: int = 10
    threads: int = 1
    device: str = "cpu"
    log_dir: str = ""
    resume: bool = False
    llm: LLMSettings = field(default_factory=LLMSettings)
    warm_start: WarmStart = field(default_factory=WarmStart)
    grpo: GRPO = field(
        default_factory=lambda: GRPO(
            groups_per_step=32, kl=0.3, kl_end=0.02, epochs=1, minibatches=1, entropy=0.0, max_grad_norm=1.0
        )
    )
    micro_groups: int = 32
    limits: Limits = field(default_factory=Limits)
    evaluation: Evaluation = field(default_factory=Evaluation)

    def __post_init__(self) -> None:
        if self.algorithm in MLP_ALGORITHMS and self.algorithm not in ALGORITHMS:
            raise ConfigError(f"algorithm={self.algorithm!r} trains on vectors only; add policy=mlp, or take 'grpo'")
        check_choice("algorithm", self.algorithm, ALGORITHMS)
        check_choice("policy", self.policy, POLICIES)
        if self.grpo.groups_per_step is None:
            raise ConfigError("grpo.groups_per_step=None must be a whole number >= 1 for a language model")
        for name in ("total_steps", "checkpoint_every", "threads", "micro_groups"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("learning_rate", "temperature"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)} must be > 0")
        if self.cost_weight < 0:
            raise ConfigError(f"cost_weight={self.cost_weight} must be >= 0")

    @property
    def episodes(self) -> int:
        """Episodes of a training step."""
        assert self.grpo.groups_per_step is not None
        return self.grpo.group_size * self.grpo.groups_per_step


def make_settings(**given: Any) -> TrainSettings:
    """Settings with some fields changed; a nested group takes a mapping of its own fields.

    Raises:
        ConfigError: an unknown field or a value out of range, naming it.
    """
    settings: TrainSettings = changed(TrainSettings(), given)
    return settings
