"""From a folder, or from nothing, to a data set."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from nextstep_envs.errors import DataError
from nextstep_envs.recorded import compact, raw
from nextstep_envs.recorded.answers import Answers, Builder
from nextstep_envs.recorded.generated import generate
from nextstep_envs.recorded.pool import Pool, PoolArg, read_pool

CATEGORIES: Mapping[str, tuple[str, ...]] = {
    "mmlu_pro": (
        "biology", "business", "chemistry", "computer science", "economics", "engineering", "health", "history", "law",
        "math", "other", "philosophy", "physics", "psychology",
    ),
    "gsm8k": ("math",),
}  # fmt: skip

_Reader = Callable[[Path, Pool, tuple[str, ...]], Builder]


def load_answers(dataset: str, data_dir: str | None, pool: PoolArg) -> Answers:
    """The answers of a data set, shared by all who ask for the same.

    Args:
        dataset: "mmlu_pro" or "gsm8k".
        data_dir: a folder with the compact form, or with the files as published (see docs/recorded.md); None: the
            generated data set.
        pool: "open", "all", the path of a YAML file or its content (see `pool.read_pool`); generated data has its own.

    Raises:
        DataError: a file is missing, damaged or contradicts itself, with file and row.
    """
    folder = None if data_dir is None else str(Path(data_dir).expanduser().resolve())
    named = isinstance(pool, str)
    written = str(pool) if named else json.dumps(pool, sort_keys=True)
    return _load(dataset, folder, written, named, _stamps(folder, written if named else ""))


def _stamps(folder: str | None, pool: str) -> tuple[Any, ...]:
    """What changes when files change."""
    paths = [] if folder is None else [*Path(folder).glob("*"), *Path(folder).glob("eval_results/*")]
    files = sorted(path for path in (*paths, Path(pool)) if path.is_file())
    return tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files)


@lru_cache(maxsize=8)
def _load(dataset: str, folder: str | None, pool: str, named: bool, stamps: tuple[Any, ...]) -> Answers:
    origin = (load_answers, (dataset, folder, pool if named else json.loads(pool)))
    categories = CATEGORIES[dataset]
    if folder is None:
        return generate(dataset, categories, origin)
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"data_dir={folder!r}: there is no such folder")
    models = read_pool(dataset, pool if named else json.loads(pool), path)
    builder = _reader(dataset, path)(path, models, categories)
    return builder.build(dataset, "recorded", folder, origin)


def _reader(dataset: str, folder: Path) -> _Reader:
    """Which form the files of a folder have."""
    if dataset == "mmlu_pro":
        if (folder / compact.ANSWERS).is_file() and (folder / compact.QUESTIONS).is_file():
            return compact.read_mmlu_pro
        if raw.archives(folder):
            return raw.read_mmlu_pro
        wanted = f"{compact.QUESTIONS} and {compact.ANSWERS}, or model_outputs_<model>_5shots.zip"
    else:
        if (folder / compact.GSM8K).is_file():
            return compact.read_gsm8k
        if (folder / raw.SOLUTIONS).is_file() or (folder / raw.ROUTELLM).is_file():
            return raw.read_gsm8k
        wanted = f"{compact.GSM8K}, {raw.SOLUTIONS} or {raw.ROUTELLM}"
    raise DataError(f"{folder}: no recorded answers of {dataset}; there should be {wanted}")
