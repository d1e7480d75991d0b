"""Who was recorded: models, prices and limits, read from one YAML file (or the `models.json` of a data folder)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from nextstep_envs.errors import DataError, check_choice
from nextstep_envs.types import Budget
from nextstep_envs.workers.base import WorkerSpec

PACKAGED = Path(__file__).with_name("pools")
NAMED = ("open", "all")
PRICES = ("usd_per_m_input", "usd_per_m_output")
PREFIX = "recorded:"  # of `WorkerSpec.model`; the name of the recorded model follows

PoolArg = str | Mapping[str, Any]


@dataclass(frozen=True)
class PoolModel:
    """One recorded model.

    Attributes:
        name: as the data files write it.
        usd_per_m_input, usd_per_m_output: price in US dollars of a million prompt / completion tokens.
        prompt_tokens: of every call, an estimate.
        samples_per_answer: completions that one answer took (a verifier picks one of many); all of them are billed.
        params_b, active_params_b: billions of parameters, all and those at work; None: not disclosed.
        kind: "base", "instruct" ...
        price_tier: where the price comes from.
        open_weights: whether the weights are public.
        dataset: what it answered, "mmlu_pro" or "gsm8k".
        skills: share of training questions that it got right, by category; where it is missing, it is estimated
            from the training questions of the data that are loaded.
    """

    name: str
    usd_per_m_input: float
    usd_per_m_output: float
    prompt_tokens: int
    samples_per_answer: int = 1
    params_b: float | None = None
    active_params_b: float | None = None
    kind: str = ""
    price_tier: str = ""
    open_weights: bool = False
    dataset: str = ""
    skills: tuple[tuple[str, float], ...] = ()

    def spec(self, skills: tuple[tuple[str, float], ...]) -> WorkerSpec:
        """The worker that an orchestrator sees."""
        size = "" if self.params_b is None else f", {self.params_b:g}B parameters"
        active = self.active_params_b or self.params_b or 0.0  # undisclosed sizes count no FLOPs
        said = f"{self.kind or 'a model'}{size}."
        return WorkerSpec(
            self.name, said, self.usd_per_m_input, self.usd_per_m_output, active, skills, PREFIX + self.name
        )


@dataclass(frozen=True)
class Pool:
    """Models in slot order, and what an episode may consume by default.

    Attributes:
        known: every model that has a price, in this pool or not.
        named: whether it is "open" or "all": then models of which a folder has no answers are left out, and a model
            that is not known is an error. A pool of one's own says itself who is in it.
    """

    models: tuple[PoolModel, ...]
    budget: Mapping[str, int | float]
    known: frozenset[str]
    named: bool = False


def read_pool(dataset: str, pool: PoolArg, folder: Path | None) -> Pool:
    """The pool of an environment.

    Args:
        dataset: "mmlu_pro" or "gsm8k".
        pool: "open" (models with public weights), "all", the path of a YAML file, or its content as a mapping.
        folder: of the data. Its `models.json`, where there is one, is the price list of "open" and "all"; without it
            they are the packaged ones.

    Raises:
        ConfigError: an unknown name.
        DataError: a missing file, an unknown or missing field, a model without a price: with file and entry.
    """
    if isinstance(pool, Mapping):
        return _pool(pool, dataset, "pool")
    if pool.endswith((".yaml", ".yml")):
        return _pool(_read_yaml(Path(pool)), dataset, pool)
    check_choice("pool", pool, (*NAMED, "a path that ends in .yaml"))
    source = PACKAGED / f"{dataset}.yaml"
    packaged = _pool(_read_yaml(source), dataset, source.name)
    models = packaged.models
    if folder is not None and (folder / "models.json").is_file():
        models = _folder_models(folder / "models.json", dataset, {model.name: model for model in models})
    known = frozenset(model.name for model in models)
    chosen = tuple(model for model in models if pool == "all" or model.open_weights)
    if not chosen:
        raise DataError(f"pool={pool!r}: no model of {', '.join(sorted(known))} has open weights; choose pool='all'")
    return Pool(chosen, packaged.budget, known, named=True)


def _folder_models(path: Path, dataset: str, packaged: Mapping[str, PoolModel]) -> tuple[PoolModel, ...]:
    """The models of a data folder; what it does not say of a known model (its skills) is taken from the package."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error
    entries = _entries(value, {"note", "models"}, str(path))
    models = []
    for i, entry in enumerate(entries):
        model = _model(entry, f"{path}, models[{i}]", packaged)
        if model.dataset in ("", dataset):
            models.append(model)
    return tuple(models)


def _pool(value: Any, dataset: str, where: str) -> Pool:
    entries = _entries(value, {"kind", "data_dir", "dataset", "budget", "models"}, where)
    named = value.get("dataset", dataset)
    if named != dataset:
        raise DataError(f"{where}: dataset={named!r}, but the world is {dataset!r}")
    models = tuple(_model(entry, f"{where}, models[{i}]", {}) for i, entry in enumerate(entries))
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{where}: the model {name!r} is there {names.count(name)} times")
    budget = value.get("budget", {})
    if not isinstance(budget, Mapping):
        raise DataError(f"{where}: budget={budget!r} must be a mapping such as {{tokens: 60000}}")
    for key in budget:
        check_choice(f"{where}: budget entry", key, [f.name for f in fields(Budget)])
    return Pool(models, dict(budget), frozenset(names))


def _entries(value: Any, allowed: set[str], where: str) -> list[Any]:
    if not isinstance(value, Mapping) or not isinstance(value.get("models"), list) or not value["models"]:
        raise DataError(f"{where}: there must be a non-empty list 'models'")
    if unknown := sorted(set(value) - allowed):
        raise DataError(f"{where}: unknown field {unknown[0]!r}; known: {', '.join(sorted(allowed))}")
    return list(value["models"])


def _model(entry: Any, where: str, packaged: Mapping[str, PoolModel]) -> PoolModel:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str) or not entry["name"]:
        raise DataError(f"{where}: a model needs a 'name', got {entry!r}")
    where = f"{where} ({entry['name']})"
    known = [f.name for f in fields(PoolModel)]
    for field in entry:
        if field not in known:
            raise DataError(f"{where}: unknown field {field!r}; known: {', '.join(known)}")
    for field in (*PRICES, "prompt_tokens"):
        if entry.get(field) is None:
            what = "no price" if field in PRICES else "no size of the prompt"
            raise DataError(f"{where}: {what}: give {field}")
        _check_number(where, field, entry[field], 0)
    _check_number(where, "samples_per_answer", entry.get("samples_per_answer", 1), 1)
    for field in ("params_b", "active_params_b"):
        if entry.get(field) is not None:
            _check_number(where, field, entry[field], 0)
    for field in ("prompt_tokens", "samples_per_answer"):
        if not isinstance(entry.get(field, 1), int):
            raise DataError(f"{where}: {field}={entry[field]!r} must be a whole number")
    skills = entry.get("skills", {})
    if not isinstance(skills, Mapping):
        raise DataError(f"{where}: skills={skills!r} must map categories to shares in [0, 1]")
    for category, share in skills.items():
        _check_number(where, f"skills[{category!r}]", share, 0)
        if share > 1:
            raise DataError(f"{where}: skills[{category!r}]={share!r} must be at most 1")
    levels = tuple((str(category), float(share)) for category, share in skills.items())
    if not levels and entry["name"] in packaged:
        levels = packaged[entry["name"]].skills
    return PoolModel(**{**entry, "skills": levels})


def _check_number(where: str, field: str, value: Any, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < math.inf:
        raise DataError(f"{where}: {field}={value!r} must be a number >= {least:g}")


def _read_yaml(path: Path) -> Any:
    if not path.is_file():
        raise DataError(f"pool={str(path)!r}: there is no such file")
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise DataError(f"pool={str(path)!r} is not valid YAML: {error}") from error
