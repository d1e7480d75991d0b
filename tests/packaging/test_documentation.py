"""The code that readers are shown runs as it stands."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
BLOCKS = [
    pytest.param(block, id=f"{page.relative_to(ROOT)}-{index}")
    for page in PAGES
    for index, block in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
]
# What a block takes for granted when it is read on its page, and what would take too long in a test.
BEFORE = 'import gymnasium as gym\nenv = gym.make("nextstep_envs:NextStep/WebShop-Workflow-v0")\n'
TINY_RUN = "total_steps=1, warm_start={'steps': 2, 'messages': 8}, grpo={'groups_per_step': 2}, evaluation={'every': 0}"
QUICKER = {"20_000": "512", "total_steps=40": TINY_RUN, "tasks=100": "tasks=2"}
# Modules that a block imports and the extras that bring them.
OPTIONAL = {
    "agilerl": "compat-agilerl",
    "nextstep_agents": "agents",
    "openenv": "openenv",
    "ray": "compat-rllib",
    "sb3_contrib": "compat",
    "tianshou": "compat",
    "torchrl": "compat",
    "trl": "trl",
    "verifiers": "verifiers",
}


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_of_code_runs(block: str, tmp_path: Path) -> None:
    for module, extra in OPTIONAL.items():
        needed = "torch" if module == "nextstep_agents" else module
        imported = re.search(rf"^(from|import) (wrappers\.interfaces\.)?{module}\b", block, re.M)
        if imported and importlib.util.find_spec(needed) is None:
            pytest.skip(f"needs the extra [{extra}]")
    for slow, quick in QUICKER.items():
        block = block.replace(slow, quick)
    code = block if block.startswith("import ") else BEFORE + block
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # TorchRL says so of every PettingZoo that is not two years old.
    spared = "ignore:PettingZoo in TorchRL is tested using:UserWarning"
    command = [sys.executable, "-W", "error::UserWarning", "-W", spared, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
