"""Appends whole lines of JSON to a file that may be read, shared and killed at any moment."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

if sys.platform != "win32":
    import fcntl


def plain(value: Any) -> Any:
    """The value as JSON knows it: named tuples and dataclasses become objects, arrays become lists.

    Raises:
        TypeError: something is none of these; its `repr` is not written instead, for it might hold a secret.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: plain(item) for name, item in zip(value._fields, value, strict=True)}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON; pass plain data, arrays or dataclasses")


def append_line(path: str | os.PathLike[str], value: Any) -> None:
    """Add one line and force it to disk. Several processes may append to one file.

    A writer killed in the middle of its write leaves a line without an end; the next writer removes it, and
    `read_lines` never shows it.
    """
    line = (json.dumps(plain(value), ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "backslashreplace")
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        if sys.platform != "win32":
            fcntl.flock(handle, fcntl.LOCK_EX)
        _drop_torn_line(handle)
        while line:
            line = line[os.write(handle, line) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def read_lines(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The values of a file of JSON lines; a last line without an end is left out."""
    with Path(path).open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)


def _drop_torn_line(handle: int) -> None:
    end = os.lseek(handle, 0, os.SEEK_END)
    keep = end
    while keep:
        start = max(0, keep - 65536)
        os.lseek(handle, start, os.SEEK_SET)
        newline = os.read(handle, keep - start).rfind(b"\n")
        if newline >= 0:
            keep = start + newline + 1
            break
        keep = start
    if keep < end:
        os.ftruncate(handle, keep)
