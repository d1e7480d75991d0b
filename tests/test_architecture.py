"""The house rules that no type checker knows: which way imports run, how long a file is, where torch lives."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = ("registry", "nextstep_envs", "wrappers", "nextstep_agents")  # each may import those before it
HEAVY = {"torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors", "vllm", "ray"}
LAZY_TORCH = {
    "nextstep_envs/providers/transformers.py",
    "nextstep_envs/providers/vllm.py",
    "nextstep_envs/recorded/encoder.py",
}
LONGEST = 400


def sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Top-level package of every import of a file, and whether it happens when the file is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0], id(node) not in inside
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield (node.module or "").partition(".")[0], id(node) not in inside


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", sources(*ORDER), ids=name)
def test_imports_run_one_way(path: Path) -> None:
    package = name(path).partition("/")[0]
    above = set(ORDER[ORDER.index(package) + 1 :])
    wrong = sorted({module for module, _ in imports(path)} & above)
    assert not wrong, f"{name(path)} imports {wrong}; {package} may only import {ORDER[: ORDER.index(package)]}"


@pytest.mark.parametrize("path", sources("registry", "nextstep_envs", "wrappers"), ids=name)
def test_torch_stays_in_the_agents_package(path: Path) -> None:
    heavy = [(module, eager) for module, eager in imports(path) if module in HEAVY]
    if name(path) in LAZY_TORCH:
        heavy = [(module, eager) for module, eager in heavy if eager]
    assert not heavy, f"{name(path)} imports {sorted({module for module, _ in heavy})}"


@pytest.mark.parametrize("path", sources("registry"), ids=name)
def test_the_registry_imports_nothing_heavy_when_imported(path: Path) -> None:
    eager = {module for module, at_import in imports(path) if at_import}
    assert eager <= {"registry", *sys.stdlib_module_names}, f"{name(path)} imports {sorted(eager)}"


@pytest.mark.parametrize("path", sources(*ORDER, "configs", "benchmarks", "examples", "tests"), ids=name)
def test_a_file_is_one_idea(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    assert lines <= LONGEST, f"{name(path)} has {lines} lines: more than one idea?"
    if text.strip():
        documented = ast.get_docstring(ast.parse(text))
        assert documented, f"{name(path)} does not say what it is for"


@pytest.mark.parametrize("package", ["registry", "nextstep_envs", "wrappers"])
def test_importing_the_core_loads_no_optional_library(package: str) -> None:
    optional = sorted(
        HEAVY
        | {
            "stable_baselines3",
            "openai",
            "anthropic",
            "httpx2",
            "mcp",
            "hydra",
            "rich",
            "spacy",
            "matplotlib",
            "tensorboard",
        }
    )
    code = f"import sys, {package}; print(*[m for m in {optional} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_importing_the_registry_does_not_import_gymnasium() -> None:
    code = "import sys, registry; print('gymnasium' in sys.modules or 'nextstep_envs' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
