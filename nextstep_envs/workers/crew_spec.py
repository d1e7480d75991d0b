"""From plain data to the workers' public faces: the pool, its models and their prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from nextstep_envs.errors import ConfigError, check_choice
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.workers.models import ModelPrice
from registry import components

FIELDS = tuple(field.name for field in fields(WorkerSpec))
ROLES = {
    "general_reasoning": "An all-rounder.",
    "tool_use": "A quick hand that acts by a list of what is wanted.",
    "planning": "A planner that turns requests into lists of requirements.",
    "verification": "A verifier that compares with the list of requirements, repairs and finishes.",
}
"""The default pool's ids and who they are where one model plays them all: no skills, prices of the model."""


def read_pool(entries: Any, model: str = "", models: Mapping[str, Any] | None = None) -> tuple[WorkerSpec, ...]:
    """The workers that a crew's `pool`, `model` and `models` describe.

    Args:
        entries: a list of mappings of `WorkerSpec` fields; None for the default pool.
        model: of every entry that names none, as "<provider>:<model>"; "" for none.
        models: prices by model: mappings with usd_per_mtok_in, usd_per_mtok_out and, optionally, params_b.

    Prices come from the entry, else from `models`, else from the known models (registry kind "model").

    Raises:
        ConfigError: a malformed entry, a name twice, unequal skill domains, or a model without a price.
    """
    prices = _read_models(models)
    if entries is None:
        if model == "":
            from nextstep_envs.workers.pool import DEFAULT_POOL

            return DEFAULT_POOL
        entries = [{"worker_id": name, "description": text} for name, text in ROLES.items()]
    if not isinstance(entries, list | tuple) or not entries:
        raise ConfigError(f"pool={entries!r} must be a non-empty list of workers")
    specs = tuple(_spec(i, entry, model, prices) for i, entry in enumerate(entries))
    ids = [spec.worker_id for spec in specs]
    if len(set(ids)) < len(ids):
        raise ConfigError(f"pool names a worker twice: {', '.join(ids)}")
    domains = [tuple(domain for domain, _ in spec.skills) for spec in specs]
    if len(set(domains)) > 1:
        raise ConfigError(f"every worker of a pool needs the same skill domains, got {domains}")
    return specs


def write_pool(specs: tuple[WorkerSpec, ...]) -> list[dict[str, Any]]:
    """Plain data from which `read_pool` makes the same workers, whatever models cost then."""
    return [asdict(spec) | {"skills": dict(spec.skills)} for spec in specs]


def _spec(index: int, entry: Any, model: str, prices: Mapping[str, ModelPrice]) -> WorkerSpec:
    where = f"pool[{index}]"
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where}={entry!r} must be a mapping of WorkerSpec fields")
    for name in entry:
        check_choice(f"{where} field", name, FIELDS)
    given = {"model": model, **entry}
    skills = given.pop("skills", {})
    if not isinstance(given["model"], str):
        raise ConfigError(f"{where}: model={given['model']!r} must be a text such as 'openai:gpt-4o-mini'")
    if given["model"]:
        price = prices.get(given["model"]) or _known_price(given["model"])
        if price is not None:
            given = {**price._asdict(), **given}
        elif not {"usd_per_mtok_in", "usd_per_mtok_out"} <= given.keys():
            raise ConfigError(_unpriced(where, given["model"]))
    try:
        return WorkerSpec(**given, skills=tuple((str(k), float(v)) for k, v in dict(skills).items()))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where} is malformed: {error}") from error


def _read_models(models: Mapping[str, Any] | None) -> dict[str, ModelPrice]:
    if not isinstance(models, Mapping | None):
        raise ConfigError(f"models={models!r} must map models to their prices")
    prices = {}
    for name, entry in (models or {}).items():
        where = f"models[{name!r}]"
        if not isinstance(entry, Mapping):
            raise ConfigError(f"{where}={entry!r} must be a mapping of {', '.join(ModelPrice._fields)}")
        for field in entry:
            check_choice(f"{where} field", field, ModelPrice._fields)
        try:
            prices[name] = ModelPrice(**entry)
        except TypeError as error:
            raise ConfigError(f"{where} is malformed: {error}") from error
    return prices


def _known_price(model: str) -> ModelPrice | None:
    provider = model.partition(":")[0]
    known = components.names("model")
    name = next((name for name in (model, f"{provider}:*") if name in known), None)
    return None if name is None else components.load("model", name)


def _unpriced(where: str, model: str) -> str:
    provider = model.partition(":")[0]
    known = ", ".join(name for name in components.names("model") if name.startswith(f"{provider}:"))
    providers = ", ".join(components.names("provider"))
    return (
        f"{where}: no price is known for model {model!r}. Give usd_per_mtok_in and usd_per_mtok_out in the pool entry, "
        f"or models={{{model!r}: {{'usd_per_mtok_in': ..., 'usd_per_mtok_out': ...}}}} (0 where a call costs nothing). "
        f"Known models of {provider!r}: {known or 'none'}; providers: {providers}"
    )
