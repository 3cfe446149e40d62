"""MIMIC-CXR (DICOM) and MIMIC-CXR-JPG 2.x, official layout (Johnson et al., Scientific Data 2019; PhysioNet 2019, 2024).

    entries("mimic-cxr-jpg-2.1.0", report_root="mimic-cxr-2.1.0")

Reads mimic-cxr-2.0.0-{metadata,split,chexpert,negbio}.csv, packed with gzip or not, the images files/p10/p10000032/s50414267/<dicom_id>.jpg or
.dcm, and the reports files/p10/p10000032/s50414267.txt: unpack mimic-cxr-reports.zip first. The DICOM release brings no tables: put those of
MIMIC-CXR-JPG beside its files/. A study is one Entry with all its views, and official splits stay ('validate' is val). A study that lacks
something (no image, no report, no split) is listed as failed and the rest goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from regen.data_prep.chexpert import OBSERVATIONS
from regen.data_prep.image_folder import frontal_first, observations_of
from regen.data_prep.prepare import Entry
from regen.data_prep.sections import parse_sections, report_of
from regen.errors import ConfigError, DataError, did_you_mean

LABELS = ("chexpert", "negbio", "none")
_SPLITS = {"train": "train", "validate": "val", "test": "test"}
_REMEDY = "give the folder of MIMIC-CXR-JPG 2.x, or put its tables beside files/ of MIMIC-CXR"


def entries(root: str | Path, report_root: str | Path | None = None, labels: str = "chexpert") -> Iterator[Entry]:
    """One Entry a study, sorted by subject and study. The three tables are held in memory, images and reports are not.

    report_root: where files/ or mimic-cxr-reports/files/ with the reports lies; None looks in root. labels: whose observations to take.

    Raises:
        ConfigError: another name of labels.
        DataError: a table or a column of it is missing, a table is damaged, or no report is there at all.
    """
    if labels not in LABELS:
        raise ConfigError(f"--labels: expected one of {', '.join(LABELS)}, got {labels!r}{did_you_mean(labels, LABELS)}")
    root = Path(root)
    table = _studies(root, labels)
    reports = _report_folder(Path(report_root) if report_root else root)
    for part in table.iter_slices(4096):
        for row in part.iter_rows(named=True):
            yield _entry(row, root, reports)


def _studies(root: Path, labels: str) -> pl.DataFrame:
    """A row a study: subject_id, study_id, lists dicom_id, ViewPosition, StudyDate, StudyTime, split over its images; label columns."""
    images = _scan(root, "metadata", ["dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "StudyTime"])
    split = _scan(root, "split", ["dicom_id", "split"]).unique("dicom_id")
    studies = images.join(split, on="dicom_id", how="left").group_by("subject_id", "study_id").agg(pl.all().sort_by("dicom_id"))
    if labels != "none":
        table = _scan(root, labels, ["subject_id", "study_id", *OBSERVATIONS]).unique(["subject_id", "study_id"])
        studies = studies.join(table, on=["subject_id", "study_id"], how="full", coalesce=True)
    try:
        return studies.sort("subject_id", "study_id").collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{root}: expected the tables of MIMIC-CXR-JPG, could not read one ({_first_line(error)}); download them again") from error


def _scan(root: Path, name: str, columns: list[str]) -> pl.LazyFrame:
    """Chosen columns of mimic-cxr-2.0.0-<name>.csv or .csv.gz as text."""
    path = root / f"mimic-cxr-2.0.0-{name}.csv"
    path = path if path.exists() else path.with_name(path.name + ".gz")
    if not path.exists():
        raise DataError(f"{root}: expected {path.name} or {path.stem}, got neither; {_REMEDY}")
    try:
        frame = pl.scan_csv(path, infer_schema=False)
        names = frame.collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: expected a CSV table, could not read it ({_first_line(error)}); download it again") from error
    missing = [column for column in columns if column not in names]
    if missing:
        raise DataError(f"{path}: expected the columns {', '.join(missing)}, got {', '.join(names)[:200] or 'an empty file'}; {_REMEDY}")
    return frame.select(columns)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _report_folder(root: Path) -> Path:
    """The folder that holds p10, p11, ... with reports in them."""
    for folder in (root / "mimic-cxr-reports" / "files", root / "files", root):
        if next(folder.glob("p[0-9]*/p[0-9]*/s[0-9]*.txt"), None) is not None:
            return folder
    packed = next(root.glob("mimic-cxr-reports*.zip"), None)
    got = f"only {packed.name}; unpack it there" if packed else "none; give the folder of MIMIC-CXR with mimic-cxr-reports.zip unpacked (--reports)"
    raise DataError(f"{root}: expected reports as files/p10/p10000032/s50414267.txt, got {got}")


def _entry(row: dict[str, Any], root: Path, reports: Path) -> Entry:
    subject, study = row["subject_id"], row["study_id"]
    below = f"p{str(subject)[:2]}/p{subject}"
    try:
        if not row["dicom_id"]:
            raise DataError(f"s{study}: expected images in the metadata table, got none")
        images, views = frontal_first(_images(root / "files" / below / f"s{study}", row["dicom_id"]), row["ViewPosition"])
        split = _split(row["split"], study)
        time = _time(row["StudyDate"], row["StudyTime"], study)
        sections = parse_sections(_text(reports / below / f"s{study}.txt"))
        observations = observations_of(row, f"s{study}")
    except DataError as error:
        return Entry(study_id=str(study), subject_id=str(subject), broken=str(error))
    return Entry(
        study_id=study,
        subject_id=subject,
        images=images,
        views=views,
        time=time,
        split=split,
        report=report_of(sections) or None,
        sections=sections or None,
        observations=observations,
        language="en",
    )


def _images(folder: Path, dicom_ids: list[str]) -> list[str]:
    try:
        there = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise DataError(f"{folder}: expected the study's images, could not read the folder; download it again") from error
    out = []
    for dicom_id in dicom_ids:
        name = next((dicom_id + suffix for suffix in (".jpg", ".dcm") if dicom_id + suffix in there), None)
        if name is None:
            raise DataError(f"{folder / dicom_id}: expected a .jpg or .dcm of this name, got neither; download it again")
        out.append(str(folder / name))
    return out


def _split(names: list[str | None], study: str) -> str:
    if None in names or len(set(names)) != 1 or names[0] not in _SPLITS:
        got = ", ".join(sorted({name or "none" for name in names}))
        raise DataError(f"s{study}: expected one split of {', '.join(_SPLITS)} for all its images in the split table, got {got}")
    return _SPLITS[str(names[0])]


def _time(dates: list[str | None], times: list[str | None], study: str) -> datetime | None:
    """When the first image was taken. StudyDate is 21800506, StudyTime 213014.531 with its leading zeros lost; blank is unknown."""
    found = []
    for date, time in zip(dates, times, strict=True):
        if not date or not time:
            continue
        clock, _, fraction = time.partition(".")
        try:
            moment = datetime.strptime(date + clock.zfill(6), "%Y%m%d%H%M%S")
            found.append(moment + timedelta(seconds=float(f"0.{fraction or 0}")))
        except ValueError as error:
            raise DataError(f"s{study}: expected StudyDate and StudyTime as 21800506 and 213014.531, got {date!r} and {time!r}") from error
    return min(found, default=None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(f"{path}: expected the study's report, could not read it ({error.strerror}); unpack mimic-cxr-reports.zip again") from error
