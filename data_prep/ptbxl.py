"""PTB-XL, official layout: ptbxl_database.csv and records500/ or records100/ (Wagner et al. 2020).

`--report english` renders a report from what the cardiologists coded; `original` keeps the report as written, cleaned, with its language.
Folds 1-7 train, 8 val, 9 and 10 test; the noise columns reach the rendered report and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from regen.data_prep.coding import from_ptbxl, render
from regen.data_prep.labeler import language_of
from regen.data_prep.prepare import Entry
from regen.data_prep.tables import number_of, read_table, time_of
from regen.errors import ConfigError, DataError

SPLIT_OF_FOLD = {**dict.fromkeys(range(1, 8), "train"), 8: "val", 9: "test", 10: "test"}
_SUFFIXES = re.compile(r"(?is)\bedit:.*|\b4\.46\b.*|\bunbest.tigter? (?:bericht|befund).*|\btrace only requested\.?|\b(?:ekg )?wird nicht befundet.*")
_CONTROLS = re.compile(r"[^\S ]|[^\w\s.,;:()&/+<>=%?!'\"#*-]|ó\S")


def entries(
    root: str | Path, rate: int, report: str, extra_reports: str | Path | None = None, folds: dict[int, str] = SPLIT_OF_FOLD
) -> Iterator[Entry]:
    """One Entry a row of ptbxl_database.csv, in its order; then the rows of `extra_reports` (same columns), which have no recording.

    Raises:
        DataError: no database file, a column that is missing, codes that the catalogue does not know.
    """
    if report not in {"english", "original"}:
        raise ConfigError(f"--report: expected english or original, got {report!r}")
    root = Path(root)
    column = "filename_hr" if rate > 100 or (root / "records500").is_dir() else "filename_lr"
    yield from _rows(root / "ptbxl_database.csv", report, root, column, folds)
    if extra_reports is not None:
        yield from _rows(Path(extra_reports), report, None, column, folds)


def _rows(table: Path, report: str, root: Path | None, column: str, folds: dict[int, str]) -> Iterator[Entry]:
    needed = {"ecg_id", "patient_id", "scp_codes", "strat_fold", "report", column}
    for who, row in read_table(table, needed, "give the folder of PTB-XL 1.0.3 that holds ptbxl_database.csv, as released"):
        try:
            entry = _entry(row, report, str(root / f"{row[column]}.hea") if root else None, folds, who)
        except (ValueError, KeyError) as error:
            raise DataError(f"{who}: expected ids and a fold from 1 to 10 as numbers, got {error}; restore the official file") from error
        yield entry


def _entry(row: dict[str, str], report: str, path: str | None, folds: dict[int, str], who: str) -> Entry:
    coding = from_ptbxl(row)
    original = clean_original(row["report"])
    text = render(coding) if report == "english" else original
    age = number_of(row.get("age"), "age", who)
    return Entry(
        study_id=f"{int(row['ecg_id']):05d}",
        subject_id=str(int(float(row["patient_id"]))),
        path=path,
        time=time_of(row.get("recording_date"), who),
        split=folds[int(row["strat_fold"])],
        report=text or None,
        statements=coding.statements,
        language="en" if report == "english" else (language_of(original) if original else None),
        age=min(age, 90.0) if age is not None else None,
        sex={"0": "male", "1": "female"}.get(row.get("sex") or ""),
        site=(row.get("site") or "").removesuffix(".0") or None,
        device=re.sub(r"\s+", " ", row.get("device") or "").strip() or None,
    )


def clean_original(text: str) -> str:
    """A report as written, in lower case, without the recorder's suffixes, editors' marks and control characters."""
    text = _SUFFIXES.sub(" ", text)
    text = _CONTROLS.sub(" ", text)
    return re.sub(r"\s+", " ", text).strip(" .;,").lower()
