"""Reading data files: whatever is wrong is named with file and row."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from nextstep_envs.errors import DataError


def read_lines(path: Path, fields: Set[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON Lines file (gzip if it ends in .gz) with their rows, from 1.

    Raises:
        DataError: the file is truncated or damaged, a row is no object, or has another set of fields.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for row, line in enumerate(file, start=1):
                value = json.loads(line)
                if not isinstance(value, dict) or value.keys() != fields:
                    check_fields(value, fields, f"{path}, row {row}")
                yield row, value
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: truncated or damaged ({error}); get the file again") from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}, row {row}: not valid JSON ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def check_fields(value: Any, required: Set[str], where: str, optional: Set[str] = frozenset()) -> None:
    """Raise `DataError` unless `value` is an object with the required fields and no others but the optional ones."""
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: must be a JSON object, got {str(value)[:60]!r}")
    known = ", ".join(sorted(required | optional))
    for field in value:
        if field not in required and field not in optional:
            raise DataError(f"{where}: unknown field {field!r}; known: {known}")
    for field in sorted(required):
        if field not in value:
            raise DataError(f"{where}: the field {field!r} is missing; needed: {known}")


def check_texts(value: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    """Raise `DataError` unless these fields are texts."""
    for name in names:
        if not isinstance(value[name], str):
            raise DataError(f"{where}: {name}={value[name]!r} must be a text")


def read_zipped_list(path: Path) -> list[Any]:
    """The one JSON list in a zip archive.

    Raises:
        DataError: the archive is truncated or damaged, or holds something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.endswith(".json") and not n.startswith("__MACOSX")]
            if len(names) != 1:
                raise DataError(f"{path}: must hold one .json file, it holds {', '.join(names) or 'none'}")
            value = json.loads(archive.read(names[0]))
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: truncated or damaged ({error}); get the file again") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(value, list):
        raise DataError(f"{path}: must hold a JSON list, got {type(value).__name__}")
    return value


def read_table(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with a header, with their numbers from 1 (the header not counted).

    Raises:
        DataError: no header, no text, or a row of another length.
    """
    try:
        text = path.read_text(encoding="utf-8")
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file ({error})") from error
    if not rows:
        raise DataError(f"{path}: there is no header")
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(rows[0]):
            raise DataError(f"{path}, row {number}: {len(row)} columns, but the header has {len(rows[0])}")
        yield number, dict(zip(rows[0], row, strict=True))
