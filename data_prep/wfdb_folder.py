"""Anyone's records: a folder of ECG files and a table of reports.

    record,report[,study_id,subject_id,time,age,sex,language,split,statements]
    clinic/0001,"Sinus rhythm. No acute changes.",,p17,2024-03-01T08:15:00,61,female,en,,

`record` is the path below the folder, with or without suffix (.hea, .dcm). study_id defaults to `record`, subject_id to study_id (say so if a
person has several studies: the split is by subject), time is ISO 8601, split one of train, val, test (a hash of the subject decides
where it is empty), statements SCP codes with a space between them (read from the report where the column is empty).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from regen.data_prep.labeler import coded, language_of
from regen.data_prep.prepared import Entry
from regen.data_prep.readers import READERS
from regen.data_prep.statements import BY_CODE
from regen.errors import DataError, did_you_mean

COLUMNS = ("record", "report", "study_id", "subject_id", "time", "age", "sex", "language", "split", "statements")


def entries(folder: str | Path, reports: str | Path) -> Iterator[Entry]:
    """One Entry a row of the table.

    Raises:
        DataError: no table, no `record` column, an unknown column, or a cell that does not parse; the message names row and column.
    """
    folder, table = Path(folder), Path(reports)
    try:
        file = table.open(newline="", encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{table}: no such file; give a CSV with the columns {', '.join(COLUMNS)}") from error
    with file:
        reader = csv.DictReader(file)
        names = reader.fieldnames or []
        if "record" not in names:
            raise DataError(f"{table}: expected a column 'record', got {', '.join(names) or 'nothing'}; name each file below {folder} in it")
        for name in names:
            if name not in COLUMNS:
                raise DataError(f"{table}: unknown column {name!r}{did_you_mean(name, COLUMNS)}")
        for number, row in enumerate(reader, start=2):
            yield _entry(row, folder, f"{table}, line {number}")


def _entry(row: dict[str, str], folder: Path, who: str) -> Entry:
    def cell(name: str) -> str | None:
        return (row.get(name) or "").strip() or None

    record = cell("record")
    if record is None:
        raise DataError(f"{who}: expected a file name in 'record', got nothing")
    report = cell("report")
    study_id = cell("study_id") or record
    try:
        time = datetime.fromisoformat(cell("time") or "") if cell("time") else None
        age = float(cell("age") or "") if cell("age") else None
    except ValueError as error:
        raise DataError(f"{who}: expected time as 2024-03-01T08:15:00 and age in years, got {row.get('time')!r}, {row.get('age')!r}") from error
    return Entry(
        study_id=study_id,
        subject_id=cell("subject_id") or study_id,
        path=str(_locate(folder, record)),
        time=time,
        split=cell("split"),
        report=report,
        statements=_statements(cell("statements"), who) if cell("statements") else (coded(report) if report else None),
        language=cell("language") or (language_of(report) if report else None),
        age=age,
        sex=cell("sex"),
    )


def _locate(folder: Path, record: str) -> Path:
    path = folder / record
    if path.suffix.lower() in READERS:
        return path
    found = [path.with_name(path.name + suffix) for suffix in READERS]
    return next((p for p in found if p.exists()), found[0])


def _statements(text: str | None, who: str) -> dict[str, float]:
    codes = (text or "").split()
    for code in codes:
        if code not in BY_CODE:
            raise DataError(f"{who}: unknown statement {code!r}{did_you_mean(code, BY_CODE)}")
    return dict.fromkeys(codes, 1.0)
