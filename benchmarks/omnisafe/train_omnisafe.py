"""Trains omnisafe on one of our problems, inside .venv-omnisafe; see scripts/omnisafe_env.sh. Prints one line of JSON.

omnisafe knows only continuous actions. The documented way to a discrete choice is a vector of A numbers whose largest
names the action, so its policy is the law of the arg max of A independent Gaussians; `argmax_law` computes it exactly.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import types
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from problems import PROBLEMS, Recorder, Table, arguments, report
from scipy.special import log_ndtr

# omnisafe imports it always and needs it only for its own environments.
sys.modules["safety_gymnasium"] = types.ModuleType("safety_gymnasium")
import omnisafe  # noqa: E402
from omnisafe.envs.core import CMDP, env_register  # noqa: E402

ALGORITHMS = ("PPOLag", "CPPOPID", "P3O")
SETTINGS = ("tuned", "default")  # default: as published, but for one thread

# From a small search by hand on TierRouting and RetryStop: small epochs, many environments at once, whole
# episodes without discount, observations left as they are; and rates, gains and penalties for costs of order 1, not 25.
TUNED: dict[str, dict[str, Any]] = {
    "train_cfgs": {"vector_env_nums": 16},
    "algo_cfgs": {
        "steps_per_epoch": 2048,
        "update_iters": 10,
        "batch_size": 256,
        "obs_normalize": False,
        "gamma": 1.0,
        "cost_gamma": 1.0,
    },
    "model_cfgs": {"actor": {"lr": 1e-3}, "critic": {"lr": 1e-3}},
}
TUNED_FOR: dict[str, dict[str, dict[str, Any]]] = {
    "PPOLag": {"lagrange_cfgs": {"lambda_lr": 0.07}},
    "CPPOPID": {"lagrange_cfgs": {"pid_kp": 2.0, "pid_ki": 0.1, "pid_kd": 0.0}},
    "P3O": {"algo_cfgs": {"kappa": 1.0}},
}


@env_register
class OneHot(CMDP):  # type: ignore[misc]
    """A tabular problem as omnisafe sees it: one-hot states, A numbers for an action, the first cost.

    An episode that ends is followed by the next in the same step. One environment is our single one, which is the
    faster for one; several are our vector environment.

    Args:
        env_id: a name of `PROBLEMS`.
        num_envs: environments in lock step.
        device: "cpu".
    """

    need_auto_reset_wrapper = False
    need_time_limit_wrapper = False
    _support_envs: ClassVar[list[str]] = list(PROBLEMS)

    def __init__(self, env_id: str, num_envs: int = 1, device: Any = None) -> None:
        super().__init__(env_id)
        cmdp = PROBLEMS[env_id]()
        self._num_envs, self._seed = num_envs, None
        self._env: Any = cmdp if num_envs == 1 else cmdp.vector(num_envs)
        self._observation_space = spaces.Box(0.0, 1.0, (cmdp.n_states,), np.float32)
        self._action_space = spaces.Box(-1.0, 1.0, (cmdp.n_actions,), np.float32)

    def set_seed(self, seed: int) -> None:
        """Seed the next reset."""
        self._seed = seed

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[torch.Tensor, dict[str, Any]]:
        """Start all episodes."""
        seen, _ = self._env.reset(seed=self._seed if seed is None else seed)
        self._seed = None
        return self._observe(seen), {}

    def step(self, action: torch.Tensor) -> tuple[Any, ...]:
        """Take the legal action whose number is largest."""
        choice = np.where(self._legal, action.detach().numpy(), -np.inf).argmax(-1)
        seen, reward, over, cut, info = self._env.step(choice)
        cost = info["cost"]
        if self._num_envs == 1 and over:
            seen, _ = self._env.reset()
        elif "final_info" in info:
            cost = np.where(over, info["final_info"]["cost"], cost)
        paid = (torch.as_tensor(value, dtype=torch.float32) for value in (reward, cost))
        return self._observe(seen), *paid, *map(torch.as_tensor, (over, cut)), {}

    def render(self) -> None:
        """Nothing to see."""

    def close(self) -> None:
        """Nothing to release."""

    def _observe(self, seen: dict[str, Any]) -> torch.Tensor:
        self._legal = seen["action_mask"] == 1
        return torch.as_tensor(seen["observation"])


def argmax_law(mean: Table, std: Table, legal: Any) -> Table:
    """The chance of each entry to be the largest of independent Gaussians: the integral of phi_a prod_{b != a} Phi_b.

    Args:
        mean: [S, A].
        std: [A].
        legal: which entries compete, bool [S, A].
    """
    law = np.zeros_like(mean)
    for state, among in enumerate(legal):
        m, s = mean[state, among], std[among]
        x = np.linspace((m - 9 * s).min(), (m + 9 * s).max(), 4001)
        z = (x[:, None] - m) / s
        below = log_ndtr(z)
        density = np.exp(below.sum(1, keepdims=True) - below - z**2 / 2) / (s * np.sqrt(2 * np.pi))
        law[state, among] = np.trapezoid(density, x, axis=0)
    if abs(law.sum(1) - 1.0).max() > 1e-6:
        raise ArithmeticError(f"the integrals of {law} do not sum to 1: the grid is too coarse for std={std}")
    return law / law.sum(1, keepdims=True)


def law_of(agent: Any, legal: Any) -> Table:
    """The policy of an omnisafe agent as probabilities [S, A]."""
    seen = torch.eye(len(legal))
    normalizer = agent._env.save().get("obs_normalizer")
    if normalizer is not None:  # without counting these observations
        seen = (seen - normalizer.mean) / normalizer.std
    with torch.no_grad():
        mean = agent._actor_critic.actor.mean(seen).double().numpy()
        std = agent._actor_critic.actor.log_std.exp().double().numpy()
    return argmax_law(mean, std, legal)


def configure(algorithm: str, setting: str, budget: float, seed: int, steps: int, folder: str) -> dict[str, Any]:
    """The `custom_cfgs` of a run."""
    tuned = (TUNED, TUNED_FOR[algorithm]) if setting == "tuned" else ()
    limit = {"algo_cfgs" if algorithm == "P3O" else "lagrange_cfgs": {"cost_limit": budget}}
    run = {
        "seed": seed,
        "train_cfgs": {"total_steps": steps, "torch_threads": 1},
        "logger_cfgs": {"log_dir": folder, "use_tensorboard": False},
    }
    chosen: dict[str, Any] = {}
    for part in (*tuned, limit, run):
        for group, values in part.items():
            chosen[group] = {**chosen.get(group, {}), **values} if isinstance(values, dict) else values
    return chosen


def train(problem: str, algorithm: str, setting: str, seed: int, steps: int) -> Recorder:
    """Train one agent and follow it epoch by epoch."""
    cmdp = PROBLEMS[problem]()
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        recorder = Recorder(cmdp)
        chosen = configure(algorithm, setting, float(cmdp.d[0]), seed, steps, folder)
        agent = omnisafe.Agent(algorithm, problem, custom_cfgs=chosen).agent
        update, epoch = agent._update, agent._cfgs.algo_cfgs.steps_per_epoch

        def update_and_record() -> None:
            update()
            recorder((len(recorder.curve) + 1) * epoch, lambda: law_of(agent, cmdp.mask))

        agent._update = update_and_record
        agent.learn()
    return recorder


if __name__ == "__main__":
    args = arguments(__doc__, algorithm=ALGORITHMS, setting=SETTINGS)
    report(train(args.problem, args.algorithm, args.setting, args.seed, args.steps))
