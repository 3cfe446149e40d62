"""MIMIC-IV-ECG, official layout: record_list.csv, machine_measurements.csv and files/ (Gow et al., PhysioNet 2023).

The report is the cart's: its lines report_0 ... report_17 joined to sentences; statements are read from them by the labeler.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from regen.data_prep.labeler import coded
from regen.data_prep.prepared import Entry
from regen.errors import DataError

_LINES = [f"report_{i}" for i in range(18)]


def entries(root: str | Path) -> Iterator[Entry]:
    """One Entry a row of record_list.csv, split by a hash of the subject.

    Raises:
        DataError: a table or a column of it is missing.
    """
    root = Path(root)
    reports = _reports(root / "machine_measurements.csv")
    for row in _table(root / "record_list.csv", {"subject_id", "study_id", "ecg_time", "path"}):
        report = reports.get(row["study_id"])
        yield Entry(
            study_id=row["study_id"],
            subject_id=row["subject_id"],
            path=str(root / f"{row['path']}.hea"),
            time=datetime.fromisoformat(row["ecg_time"]) if row["ecg_time"] else None,
            report=report,
            statements=coded(report) if report else None,
            language="en" if report else None,
        )


def _reports(path: Path) -> dict[str, str]:
    out = {}
    for row in _table(path, {"study_id", "report_0"}):
        lines = [row.get(name) or "" for name in _LINES]
        text = " ".join(f"{line.strip().rstrip('.')}." for line in lines if line.strip())
        if text:
            out[row["study_id"]] = text
    return out


def _table(path: Path, needed: set[str]) -> Iterator[dict[str, str]]:
    try:
        file = path.open(newline="", encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; give the folder that holds record_list.csv and machine_measurements.csv") from error
    with file:
        reader = csv.DictReader(file)
        missing = needed - set(reader.fieldnames or ())
        if missing:
            raise DataError(f"{path}: expected the columns of MIMIC-IV-ECG, {', '.join(sorted(missing))} missing; restore the official file")
        yield from reader
