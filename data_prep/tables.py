"""CSV tables in, as hospitals export them: every way in which one can be broken is one DataError.

for who, row in read_table("reports.csv", {"record"}, "give the table of reports"):
    who == "reports.csv, line 2";  row == {"record": "clinic/0001", "report": "Sinus rhythm."}
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from regen.errors import DataError


def read_table(path: Path, needed: set[str], remedy: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a UTF-8 CSV with a header line: yields (where it stands, cells by column).

    needed: columns that must be there; remedy: what to do where one is not, or the file.

    Raises:
        DataError: no such file, not UTF-8, a column missing, a row with more or fewer cells than the header.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from _rows(csv.DictReader(file, strict=True), path, needed, remedy)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; {remedy}") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: expected UTF-8 text, got a byte that is none (0x{error.object[error.start]:02x}); save the table as UTF-8"
        ) from error
    except (OSError, csv.Error) as error:
        raise DataError(f"{path}: expected a CSV table, could not read it ({error}); {remedy}") from error


def _rows(reader: csv.DictReader[str], path: Path, needed: set[str], remedy: str) -> Iterator[tuple[str, dict[str, str]]]:
    names = list(reader.fieldnames or ())
    missing = sorted(needed - set(names))
    if missing:
        raise DataError(f"{path}: expected the columns {', '.join(missing)}, got {', '.join(names)[:200] or 'an empty file'}; {remedy}")
    if len(set(names)) < len(names):
        raise DataError(f"{path}: expected every column once, got {', '.join(names)[:200]}; rename one")
    for row in reader:
        who = f"{path}, line {reader.line_num}"
        if None in row or None in row.values():
            cells = len(names) + len(row[None]) if None in row else sum(value is not None for value in row.values())  # type: ignore[call-overload]
            raise DataError(f"{who}: expected {len(names)} cells, got {cells}; put text that holds a comma or a line end in quotes")
        yield who, row


def time_of(text: str | None, who: str) -> datetime | None:
    """An ISO 8601 time without zone; one with a zone becomes UTC, so that the times of one table can be compared.

    Raises:
        DataError: not empty and no time.
    """
    text = (text or "").strip()
    try:
        time = datetime.fromisoformat(text) if text else None
    except (ValueError, OverflowError) as error:
        raise DataError(f"{who}: expected a time as 2024-03-01T08:15:00, got {text!r}") from error
    return time.astimezone(UTC).replace(tzinfo=None) if time is not None and time.tzinfo else time


def number_of(text: str | None, name: str, who: str) -> float | None:
    """A finite number, None where the cell is empty.

    Raises:
        DataError: not empty and no number.
    """
    text = (text or "").strip()
    try:
        value = float(text) if text else None
    except ValueError:
        value = float("nan")
    if value is not None and not abs(value) < float("inf"):
        raise DataError(f"{who}: expected a number for {name}, got {text!r}")
    return value
