"""ED visits of the KTAS study (Moon, Shim, Park, Park; PLoS ONE 14(9):e0216972, 2019): vital signs at triage and the complaint.

    rows = read_ktas(Path("ktas.csv"), tally)      rows: a frame of regen.data_prep.events.CANDIDATE

The table has neither patients nor times: a visit is a subject, its number in the table the id, and triage has no time. The diagnosis was made after
triage and has no time either, so it is refused. Reads the original (semicolons, decimal commas, Windows characters) and copies saved otherwise.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import polars as pl

from regen.data_prep.events import CANDIDATE, NO_TIME, Tally, candidates, code_part
from regen.data_prep.vitals import checked, vital_of
from regen.errors import DataError

_NAMES = {"BT": "temperature", "Saturation": "spo2", "NRS_pain": "pain", "KTAS_expert": "acuity"}
"""The original's columns whose name is no alias of a vital sign."""
_UNKNOWN = {"", "??", "?", "#BOÞ!", "#NULL!", "NA"}
"""What stands in the table where nothing was written down."""


def read_ktas(path: Path, tally: Tally) -> pl.LazyFrame:
    """A row for each filled cell of a vital sign, for each complaint, and (refused) for each diagnosis.

    Raises:
        DataError: no such file, or no table with a complaint and vital signs.
    """
    table, decimal_comma = _rows(path, tally)
    out = []
    for at, row in enumerate(table):
        subject = row.get("") or str(at)
        complaint, diagnosis = (row.get("Chief_complain") or "").strip(), (row.get("Diagnosis in ED") or "").strip()
        for column, cell in row.items():
            vital = _vital(column, cell)
            if vital and cell.strip() in _UNKNOWN:
                tally.add("ktas", 1, f"{vital}: written as unknown", f"visit {subject}: {cell.strip() or 'empty'}")
            elif vital:
                raw = cell.replace(",", ".") if decimal_comma else cell
                out.append({"subject_id": subject, "code": f"TRIAGE//{vital}", "raw": raw, "unit": None})
        if complaint:
            out.append({"subject_id": subject, "code": "COMPLAINT", "text_value": complaint})
        if diagnosis:
            out.append({"subject_id": subject, "code": f"DX//text//{code_part(diagnosis)}", "text_value": diagnosis, "reason": NO_TIME})
    schema = CANDIDATE | {"raw": pl.String, "unit": pl.String}
    frame = pl.DataFrame([{"table": "ktas", **row} for row in out], schema=schema).lazy()
    measured = checked(frame.filter(pl.col("raw").is_not_null()))
    return pl.concat([candidates(frame.filter(pl.col("raw").is_null())), candidates(measured)])


def _vital(column: str, cell: str) -> str | None:
    """The vital sign of a column. KTAS_expert is an acuity only where it is a grade from 1 to 5, not a group's name; Pain is yes or no."""
    if column == "Pain" or (column == "KTAS_expert" and not cell.strip().isdigit()):
        return None
    return _NAMES.get(column) or vital_of(column)


def _rows(path: Path, tally: Tally) -> tuple[list[dict[str, str]], bool]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: expected the KTAS table, could not read it ({error.strerror}); check the path") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
        tally.remark("the table is not UTF-8: read as Windows-1252")
    plain = "".join(bytes([ord(c)]).decode("cp1252", "replace") if 0x80 <= ord(c) < 0xA0 else c for c in text)
    if plain != text:
        tally.remark(f"{sum(a != b for a, b in zip(plain, text, strict=True))} control characters are read as the Windows characters that they were")
    header = plain.split("\n", 1)[0]
    separator = max(",;\t", key=header.count)
    rows = [{k: v or "" for k, v in row.items() if k is not None} for row in csv.DictReader(io.StringIO(plain), delimiter=separator)]
    if not rows or "Chief_complain" not in rows[0] or not any(_vital(c, "1") for c in rows[0]):
        raise DataError(
            f"{path}: expected the KTAS table with Chief_complain and vital signs, got the columns {header.strip()[:200]!r}; check the file"
        )
    return rows, separator == ";"
