"""A CSV table with a row per step, which survives crashes and edits."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path

from lib_pivotal.core.atomic_file import free_name, replacing

__all__ = ["StepTable", "read_last_rows", "read_rows"]

_TAIL_BYTES = 2**16


class StepTable:
    """Appends rows to a table; the columns are those of its first row. A damaged file is kept under another name.

    Args:
        path: the file.
        first_step: steps already done; later rows of an earlier attempt are dropped.
        needed: a column that has a number in every valid row.

    Raises:
        OSError: it cannot be written; also raised by :meth:`write` and :meth:`close`.
    """

    def __init__(self, path: Path, first_step: int, needed: str) -> None:
        rows, is_damaged = _rows(path, needed)
        if is_damaged:
            os.replace(path, free_name(path.with_name(f"{path.name}.damaged")))
        rows = [row for row in rows if int(row["step"]) <= first_step]
        self._columns = list(rows[0]) if rows else []
        with replacing(path, keep=False) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            if rows:
                writer = csv.DictWriter(file, self._columns)
                writer.writeheader()
                writer.writerows(rows)
        self._file = path.open("a", newline="", encoding="utf-8")

    def write(self, values: Mapping[str, object]) -> None:
        """Append a row.

        Args:
            values: column → value: the step, then numbers.
        """
        writer = csv.DictWriter(self._file, self._columns or list(values), extrasaction="ignore")
        if not self._columns:
            self._columns = list(values)
            writer.writeheader()
        writer.writerow(values)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_rows(path: Path, needed: str) -> list[dict[str, str]]:
    """The valid rows of a table: column → text; none if there is no such file.

    Args:
        path: the file.
        needed: see :class:`StepTable`.
    """
    return _rows(path, needed)[0]


def read_last_rows(path: Path, needed: str) -> list[dict[str, str]]:
    """Like :func:`read_rows`, but of a long table only the last rows, about 64 KiB of them.

    Args:
        path: the file.
        needed: see :class:`StepTable`.

    Raises:
        OSError: it cannot be read.
    """
    if not path.is_file():
        return []
    with path.open("rb") as file:
        raw = file.read(2 * _TAIL_BYTES)
        size = path.stat().st_size
        if size > len(raw):
            file.seek(size - _TAIL_BYTES)
            head, tail = raw.partition(b"\n")[0], file.read()
            raw = head + b"\n" + tail.partition(b"\n")[2]
    return _parsed(raw, needed)[0]


def _rows(path: Path, needed: str) -> tuple[list[dict[str, str]], bool]:
    """The valid rows, and whether the file is damaged."""
    if not path.is_file():
        return [], path.exists()
    return _parsed(path.read_bytes(), needed)


def _parsed(raw: bytes, needed: str) -> tuple[list[dict[str, str]], bool]:
    rows: list[dict[str, str]] = []
    is_damaged = b"\0" in raw
    try:
        lines = raw.replace(b"\0", b"").decode("utf-8", "replace")
        is_damaged = is_damaged or "\ufffd" in lines
        reader = csv.DictReader(lines.splitlines())
        # A row that was cut off by a crash lacks its step or other cells.
        rows.extend(row for row in reader if None not in (*row, *row.values()) and _is_valid(row, needed))
    except csv.Error:
        is_damaged = True
    return rows, is_damaged


def _is_valid(row: Mapping[str, str], needed: str) -> bool:
    try:
        float(row[needed])
    except (KeyError, ValueError):
        return False
    step = row.get("step", "")
    return step.isascii() and step.isdecimal() and len(step) < 10
