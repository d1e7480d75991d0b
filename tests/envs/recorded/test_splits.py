"""No question, and no near relative of one, is on both sides of a split; shifts hold out what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nextstep_envs.errors import ConfigError, DataError
from nextstep_envs.recorded.answers import split_key
from nextstep_envs.recorded.load import load_answers
from nextstep_envs.recorded.splits import SplitSettings, askable, divide
from tests.envs.recorded import tiny


def generated(**settings: Any) -> tuple[Any, Any]:
    answers = load_answers("mmlu_pro", None, "open")
    return answers, divide(answers, SplitSettings(**settings))


def test_questions_are_divided_by_hash_into_all_three() -> None:
    answers, split = generated(splits="hash")
    shares = [(split == name).mean() for name in ("train", "dev", "test")]
    assert shares == pytest.approx([0.7, 0.15, 0.15], abs=0.04)
    assert (divide(answers, SplitSettings(splits="hash")) == split).all()


def test_near_relatives_stay_together() -> None:
    long = "word " * 40
    assert split_key(long + "and this") == split_key(long.upper() + "or that")
    assert split_key("What is 1 + 2?") != split_key("What is 1 + 3?")


def test_a_file_that_parts_near_relatives_is_refused(folder: Path) -> None:
    rows = tiny.questions()
    for row, end in ((rows[0], "a"), (rows[5], "b")):
        row["question"] = "word " * 40 + end
    answers = load_answers("mmlu_pro", str(tiny.write_compact(folder, asked=rows)), "all")
    with pytest.raises(DataError, match="questions '1' and '6' begin alike, .*'train', the other in 'dev'"):
        divide(answers, SplitSettings())
    split = divide(answers, SplitSettings(splits="hash"))
    assert split[0] == split[5]


def test_the_files_own_split_is_taken_unless_told_otherwise(folder: Path) -> None:
    answers = load_answers("mmlu_pro", str(folder), "all")
    assert divide(answers, SplitSettings()).tolist() == ["train"] * 4 + ["dev"] * 2
    tiny.write_archive(folder, "cheap", [tiny.published(1, "The answer is (B).")])
    for name in ("answers", "questions"):
        (folder / f"{name}.jsonl.gz").unlink()
    raw = load_answers("mmlu_pro", str(folder), "all")
    assert divide(raw, SplitSettings())[0] in ("train", "dev", "test")
    with pytest.raises(ConfigError, match="splits='file', but .* names none"):
        divide(raw, SplitSettings(splits="file"))


def test_folds_cover_train_and_dev_once_and_leave_the_test_alone() -> None:
    answers, plain = generated()
    held_out = []
    for fold in range(5):
        split = divide(answers, SplitSettings(folds=5, fold=fold))
        assert ((split == "test") == (plain == "test")).all()
        held_out.append(split == "dev")
        assert ((split == "train") == ((plain != "test") & ~held_out[-1])).all()
    assert (sum(held_out) == (plain != "test")).all() and all(dev.any() for dev in held_out)


def test_a_category_shift_trains_without_and_tests_with() -> None:
    answers, split = generated(held_out_categories=("law", "math"))
    _, plain = generated()
    for row, name in enumerate(split):
        shifted = answers.categories[answers.category[row]] in ("law", "math")
        assert name == (plain[row] if shifted == (plain[row] != "train") else "")


def test_a_pool_shift_closes_models_in_training_only() -> None:
    answers, split = generated()
    can = askable(answers, split, ("large",))
    large = [model.name for model in answers.models].index("large")
    assert not can[split == "train", large].any() and can[split != "train", large].all()
    others = [w for w in range(len(answers.models)) if w != large]
    assert (can[:, others] == answers.available[:, others]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"splits": "random"}, "splits='random'"),
        ({"folds": 5}, "folds=5 and fold=None must be given together"),
        ({"folds": 5, "fold": 5}, "fold=5 must be from 0"),
        ({"held_out_categories": ("alchemy",)}, "'alchemy'"),
    ],
)
def test_a_bad_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        generated(**settings)


def test_a_pool_shift_needs_known_models_and_leaves_somebody() -> None:
    answers, split = generated()
    with pytest.raises(ConfigError, match="'nobody'"):
        askable(answers, split, ("nobody",))
    with pytest.raises(ConfigError, match="leaves nobody"):
        askable(answers, split, [model.name for model in answers.models])


def test_skills_come_from_the_pool_or_from_training_questions(folder: Path) -> None:
    from nextstep_envs.recorded.answers import skill_levels

    value = tiny.models()
    value["models"][1]["skills"] = {"law": 0.9}
    (folder / "models.json").write_text(json.dumps(value))
    answers = load_answers("mmlu_pro", str(folder), "all")
    split = divide(answers, SplitSettings())
    law, math = answers.categories.index("law"), answers.categories.index("math")
    # law: training questions 1 and 3; math: 2 and 4; one right and one wrong is added to each
    assert skill_levels(answers, split, "pool")[law].tolist() == [0.5, 0.9, 0.5]
    assert skill_levels(answers, split, "train")[[law, math]].tolist() == [[0.5, 0.75, 0.5], [0.25, 0.5, 0.75]]
