"""Tiny folders of recorded answers: every number in them can be checked by hand."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
MODELS = ("cheap", "dear", "closed")
PREDS = {  # by question: what cheap, dear and closed answer; B is always right
    1: ("B", "B", "B"),
    2: ("A", "B", "B"),
    3: (None, "B", "A"),
    4: ("A", "A", "B"),
    5: ("B", None, None),
    6: ("A", "B", "A"),
}


def model(name: str, price: float, **more: Any) -> Row:
    """An entry of a pool."""
    return {
        "name": name, "dataset": "mmlu_pro", "usd_per_m_input": price, "usd_per_m_output": 2 * price,
        "prompt_tokens": 1000, "open_weights": name != "closed", **more,
    }  # fmt: skip


def models() -> Row:
    """A `models.json`."""
    return {"note": "made up", "models": [model("cheap", 0.1), model("dear", 1.0), model("closed", 2.0)]}


def questions() -> list[Row]:
    """Six questions, four of them for training."""
    return [
        {
            "question_id": i,
            "category": "law" if i % 2 else "math",
            "question": f"Which option of question number {i} is right?",
            "options": ["first", "second", "third"],
            "answer_index": 1,
            "src": "made up",
            "split": "train" if i <= 4 else "dev",
        }
        for i in PREDS
    ]


def answer(question: int, name: str, pred: str | None, tokens: int = 40) -> Row:
    """A row of `answers.jsonl.gz`."""
    said = "I cannot say." if pred is None else f"The answer is ({pred})."
    return {
        "question_id": question, "model": name, "pred": pred, "correct": pred == "B", "output_chars": 4 * tokens,
        "output_tokens": tokens, "text": f"{name} thinks. {said}",
    }  # fmt: skip


def answers() -> list[Row]:
    """Every model's answer to every question."""
    return [answer(i, name, p) for i, preds in PREDS.items() for name, p in zip(MODELS, preds, strict=True)]


def write_lines(path: Path, rows: Sequence[Any]) -> None:
    """JSON Lines, as gzip."""
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def write_compact(folder: Path, rows: Sequence[Row] | None = None, asked: Sequence[Row] | None = None) -> Path:
    """A folder with the compact form."""
    write_lines(folder / "questions.jsonl.gz", questions() if asked is None else asked)
    write_lines(folder / "answers.jsonl.gz", answers() if rows is None else rows)
    (folder / "models.json").write_text(json.dumps(models()))
    return folder


def published(question: int, text: str, field: str = "generated_text", **changes: Any) -> Row:
    """A row of one of MMLU-Pro's published files."""
    return {
        "question_id": question, "question": f"Which option of question number {question} is right?",
        "options": ["first", "second", "third"], "answer": "B", "answer_index": 1, "cot_content": "", "category": "law",
        "src": "made up", "pred": "C", field: text, **changes,
    }  # fmt: skip


def write_archive(folder: Path, name: str, rows: Sequence[Any]) -> Path:
    """`model_outputs_<name>_5shots.zip`."""
    path = folder / f"model_outputs_{name}_5shots.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"model_outputs_{name}_5shots.json", json.dumps(rows))
    return path
