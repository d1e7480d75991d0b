"""Which questions are for training, for development and for the test: by hash, so that nothing leaks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nextstep_envs.errors import ConfigError, DataError, check_choice
from nextstep_envs.recorded.answers import Answers, split_key

SHARES = (("train", 70), ("dev", 15), ("test", 15))  # of 100
SOURCES = ("file", "hash")


@dataclass(frozen=True)
class SplitSettings:
    """How questions are divided.

    Attributes:
        splits: "file" (as the data says), "hash" (70 % train, 15 % dev, 15 % test); None: as the data says, by hash
            where it says nothing.
        folds, fold: for cross-fitting: train and dev together are divided anew into `folds` parts by hash; dev is part
            number `fold`, train the others, test stays as it is.
        held_out_categories: category shift: training questions are of other categories, those of dev and test of these.
        held_out_models: worker-pool shift: models that cannot be asked on training questions.
    """

    splits: str | None = None
    folds: int | None = None
    fold: int | None = None
    held_out_categories: tuple[str, ...] = ()
    held_out_models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.splits is not None:
            check_choice("splits", self.splits, SOURCES)
        if (self.folds is None) != (self.fold is None):
            raise ConfigError(f"folds={self.folds!r} and fold={self.fold!r} must be given together")
        if self.folds is not None and self.fold is not None and not (self.folds >= 2 and 0 <= self.fold < self.folds):
            raise ConfigError(f"fold={self.fold!r} must be from 0 to folds - 1, and folds={self.folds!r} at least 2")


def divide(answers: Answers, settings: SplitSettings) -> npt.NDArray[Any]:
    """The split of every question, object [Q]; "" for questions of none.

    Raises:
        ConfigError: an unknown category, or one held out for which nothing would be left.
        DataError: questions that must not be parted are in two splits of the file.
    """
    filed = all(answers.split)
    if settings.splits == "file" and not filed:
        raise ConfigError(f"splits='file', but {answers.description} names none; choose 'hash'")
    if filed and settings.splits != "hash":
        _check_disjoint(answers)
        split = answers.split.copy()
    else:
        split = np.array([_by_share(int(key)) for key in answers.key], dtype=object)
    if settings.folds is not None:
        part = np.array([_number(int(key), "fold") % settings.folds for key in answers.key])
        split = np.where(split == "test", split, np.where(part == settings.fold, "dev", "train")).astype(object)
    for name in settings.held_out_categories:
        check_choice("held_out_categories entry", name, answers.categories)
    if settings.held_out_categories:
        names = np.array(answers.categories)[answers.category]
        held_out = np.isin(names, settings.held_out_categories)
        split[held_out == (split == "train")] = ""
    return split


def askable(answers: Answers, split: npt.NDArray[Any], held_out_models: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Whom can be asked about what, bool [Q, W]: models with a row, but on training questions none that is held out."""
    names = [model.name for model in answers.models]
    for name in held_out_models:
        check_choice("held_out_models entry", name, names)
    kept = np.array([name not in held_out_models for name in names])
    if not kept.any():
        raise ConfigError(f"held_out_models={list(held_out_models)} leaves nobody to train with")
    can: npt.NDArray[np.bool_] = answers.available & (kept | (split != "train")[:, None])
    return can


def by_hash(text: str) -> str:
    """The split of a question by its text: 70 % train, 15 % dev, 15 % test."""
    return _by_share(split_key(text))


def _by_share(key: int) -> str:
    place = _number(key, "split") % 100
    for name, share in SHARES:
        if place < share:
            return name
        place -= share
    raise AssertionError("shares add up to 100")


def _number(key: int, purpose: str) -> int:
    """A number that depends on a question and on what it is for."""
    return int.from_bytes(hashlib.blake2b(f"{purpose}/{key}".encode(), digest_size=8).digest(), "little")


def _check_disjoint(answers: Answers) -> None:
    first: dict[int, int] = {}
    for row, key in enumerate(answers.key.tolist()):
        other = first.setdefault(key, row)
        if answers.split[other] != answers.split[row]:
            raise DataError(
                f"{answers.description}: questions {answers.ids[other]!r} and {answers.ids[row]!r} begin alike, but "
                f"one is in {answers.split[other]!r}, the other in {answers.split[row]!r}; use splits='hash'"
            )
