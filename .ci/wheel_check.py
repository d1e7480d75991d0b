"""Uses the installed wheel as a stranger would: the core alone, no torch, from a folder with none of our files."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path

warnings.simplefilter("error")

import gymnasium as gym  # noqa: E402

for package in ("torch", "transformers", "stable_baselines3"):
    assert importlib.util.find_spec(package) is None, f"the core alone installed {package}"

import nextstep_envs  # noqa: E402
import registry  # noqa: E402
import wrappers  # noqa: E402

for package in (nextstep_envs, registry, wrappers):
    folder = Path(package.__file__).parent
    assert folder.parent.name == "site-packages", folder
    assert (folder / "py.typed").exists(), f"{package.__name__} is not typed"

for entry in registry.entries():
    if entry.aec_entry_point is not None:
        turns = registry.make_aec(entry.id)
        turns.reset(seed=0)
        for _ in turns.agent_iter():
            *_, terminated, truncated, info = turns.last()
            over = terminated or truncated
            turns.step(None if over else turns.action_space(turns.agent_selection).sample(info["action_mask"]))
        print(f"{entry.id}: played in turns")
    if entry.parallel_entry_point is not None:
        team = registry.make_parallel(entry.id)
        _, infos = team.reset(seed=0)
        while team.agents:
            chosen = {agent: team.action_space(agent).sample(infos[agent]["action_mask"]) for agent in team.agents}
            _, _, _, _, infos = team.step(chosen)
        print(f"{entry.id}: played side by side")
    if entry.entry_point is None:
        continue
    env_id = entry.id
    env = wrappers.RecordCost(gym.make(f"nextstep_envs:{env_id}"))
    env.action_space.seed(0)
    _, info = env.reset(seed=0)
    over = False
    while not over:
        action = env.action_space.sample(info["action_mask"]) if "action_mask" in info else env.action_space.sample()
        _, reward, terminated, truncated, info = env.step(action)
        over = terminated or truncated
    print(f"{env_id}: reward {reward:.3f}, {info['episode']['l']} steps, cost {info['episode']['c']:.4f}")
    env.close()

# The command needs the agents extra; without it, it must say so and not fall over.
command = Path(sys.executable).with_name("nextstep")
done = subprocess.run([str(command), "train"], capture_output=True, text=True, check=False)
output = done.stdout + done.stderr
assert done.returncode != 0 and "nextstep-envs[agents]" in output and "Traceback" not in output, output
print(f"nextstep train, without the extra: {output.strip()}")
