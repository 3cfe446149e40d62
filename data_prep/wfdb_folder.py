"""Anyone's records: a folder of ECG files and a table of reports.

    record,report[,study_id,subject_id,time,age,sex,language,split,statements]
    clinic/0001,"Sinus rhythm. No acute changes.",,p17,2024-03-01T08:15:00,61,female,en,,

`record` is the path below the folder, with or without suffix (.hea, .dcm). study_id defaults to `record`, subject_id to the DICOM's patient,
else to study_id (say so if a person has several studies: the split is by subject), time is ISO 8601, sex female or male, split one of train,
val, test (a hash of the subject decides where it is empty), statements SCP codes with a space between them (read from the report where the
column is empty).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from regen.data_prep.labeler import coded, language_of
from regen.data_prep.prepare import Entry
from regen.data_prep.readers import READERS
from regen.data_prep.recording import sex_of
from regen.data_prep.statements import BY_CODE
from regen.data_prep.tables import number_of, read_table, time_of
from regen.errors import DataError, did_you_mean

COLUMNS = ("record", "report", "study_id", "subject_id", "time", "age", "sex", "language", "split", "statements")


def entries(folder: str | Path, reports: str | Path) -> Iterator[Entry]:
    """One Entry a row of the table.

    Raises:
        DataError: no table, no `record` column, an unknown column, or a cell that does not parse; the message names row and column.
    """
    folder, table = Path(folder), Path(reports)
    for number, (who, row) in enumerate(read_table(table, {"record"}, f"give a CSV with the columns {', '.join(COLUMNS)}")):
        for name in row if number == 0 else ():
            if name not in COLUMNS:
                raise DataError(f"{table}: unknown column {name!r}{did_you_mean(name, COLUMNS)}")
        yield _entry(row, folder, who)


def _entry(row: dict[str, str], folder: Path, who: str) -> Entry:
    def cell(name: str) -> str | None:
        return (row.get(name) or "").strip() or None

    record = cell("record")
    if record is None:
        raise DataError(f"{who}: expected a file name in 'record', got nothing")
    report = cell("report")
    study_id = cell("study_id") or record
    return Entry(
        study_id=study_id,
        subject_id=cell("subject_id") or "",
        path=str(_locate(folder, record)),
        time=time_of(cell("time"), who),
        split=cell("split"),
        report=report,
        statements=_statements(cell("statements"), who) if cell("statements") else (coded(report) if report else None),
        language=cell("language") or (language_of(report) if report else None),
        age=number_of(cell("age"), "age", who),
        sex=sex_of(cell("sex")),
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
