"""MIMIC-IV-ECG, official layout: record_list.csv, machine_measurements.csv and files/ (Gow et al., PhysioNet 2023).

The report is the cart's: its lines report_0 ... report_17 joined to sentences; statements are read from them by the labeler.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from regen.data_prep.labeler import coded
from regen.data_prep.prepare import Entry
from regen.data_prep.tables import read_table, time_of

_LINES = [f"report_{i}" for i in range(18)]
_REMEDY = "give the folder of the official release, with record_list.csv and machine_measurements.csv"


def entries(root: str | Path) -> Iterator[Entry]:
    """One Entry a row of record_list.csv, split by a hash of the subject.

    Raises:
        DataError: a table or a column of it is missing.
    """
    root = Path(root)
    reports = _reports(root / "machine_measurements.csv")
    for who, row in read_table(root / "record_list.csv", {"subject_id", "study_id", "ecg_time", "path"}, _REMEDY):
        report = reports.get(row["study_id"])
        yield Entry(
            study_id=row["study_id"],
            subject_id=row["subject_id"],
            path=str(root / f"{row['path']}.hea"),
            time=time_of(row["ecg_time"], who),
            report=report,
            statements=coded(report) if report else None,
            language="en" if report else None,
        )


def _reports(path: Path) -> dict[str, str]:
    out = {}
    for _, row in read_table(path, {"study_id", "report_0"}, _REMEDY):
        lines = [row.get(name) or "" for name in _LINES]
        text = " ".join(f"{line.strip().rstrip('.')}." for line in lines if line.strip())
        if text:
            out[row["study_id"]] = text
    return out
