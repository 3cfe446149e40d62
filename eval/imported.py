"""Anyone's predictions: JSON lines or CSV, whatever the columns are called.

    rows = read_predictions("peer.csv", {"study_id": "dicom", "report": "generated_text"})

Each row is then a draft: study_id and report, and, where a file has it, `findings` as `regen draft` writes them. What else a row holds is
left alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from regen.data_prep.tables import read_table
from regen.errors import ConfigError, DataError, did_you_mean

FIELDS = ("study_id", "report")


def read_predictions(path: str | Path, columns: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """The rows of a .csv file (UTF-8, first line names the columns), or of JSON lines. columns: field -> what the file calls it.

    Raises:
        DataError: a file that cannot be read, a row without the fields, or a file without rows.
    """
    rows = [_as_text(row, where) for where, row in read_rows(path, FIELDS, columns)]
    if not rows:
        raise DataError(f"{path}: expected predictions, the file holds none; write them again")
    return rows


def read_rows(path: str | Path, fields: Sequence[str], columns: Mapping[str, str] | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, row) of a CSV or of JSON lines; the fields stand in each row under their own names, whatever the file calls them.

    Raises:
        DataError: a file that cannot be read, or a row without one of the fields.
    """
    path = Path(path)
    remedy = f"name them with --columns {','.join(f'{field}=...' for field in fields)} where the command has it, else rename them"
    names = {field: field for field in fields} | dict(columns or {})
    for where, row in read_table(path, set(names.values()), remedy) if path.suffix.lower() == ".csv" else _lines(path):
        missing = [f"{field} (in column {name!r})" if name != field else field for field, name in names.items() if row.get(name) is None]
        if missing:
            have = ", ".join(str(key) for key in list(row)[:8])
            raise DataError(f"{where}: expected {' and '.join(missing)}, got the columns {have}; {remedy}")
        yield where, row | {field: row[name] for field, name in names.items()}


def parse_columns(given: str, fields: Sequence[str] = FIELDS) -> dict[str, str]:
    """'study_id=dicom,report=generated_text' -> a mapping.

    Raises:
        ConfigError: no such field, or no '='.
    """
    out: dict[str, str] = {}
    for part in filter(None, given.split(",")):
        field, sign, name = (text.strip() for text in part.partition("="))
        if field not in fields or not sign or not name:
            hint = did_you_mean(field, fields) if sign else ""
            raise ConfigError(f"--columns: expected FIELD=COLUMN with {' or '.join(fields)}, got {part!r}{hint}")
        out[field] = name
    return out


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected predictions as JSON lines or CSV in UTF-8, could not read the file ({error}); check the path") from error
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}: expected a JSON object, could not read it ({error}); write the predictions again") from error
            if not isinstance(row, dict):
                raise DataError(f"{where}: expected a JSON object, got {line[:60]!r}; write one object a line")
            yield where, row


def _as_text(row: dict[str, Any], where: str) -> dict[str, Any]:
    values = {field: row[field] for field in FIELDS}
    wrong = [field for field, value in values.items() if not isinstance(value, str) and not (field == "study_id" and isinstance(value, int))]
    if wrong:
        raise DataError(f"{where}: expected {wrong[0]} as text, got {str(values[wrong[0]])[:40]}; write one text a study")
    return row | {field: str(value).encode("utf-8", "replace").decode() for field, value in values.items()}
