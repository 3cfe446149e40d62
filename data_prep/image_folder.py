"""Anyone's chest X-rays: a folder of DICOM, PNG or JPEG files and a table of reports.

    image,report[,study_id,subject_id,time,age,sex,language,split,view, any CheXpert observation]
    2024/a.dcm,"FINDINGS: Clear lungs. IMPRESSION: Normal.",s1,p17,2024-03-01T08:15:00,61,female,en,train,PA
    2024/b.dcm,,s1,p17,,,,,,LATERAL

`image` is the path below the folder, with or without suffix. Rows with one study_id are the views of one study: what one of them says holds for
all. study_id defaults to `image`, subject_id to the DICOM's patient, else to study_id (say so if a person has several studies: the split is by
subject), time is ISO 8601,
sex female or male, split one of train, val, test (a hash of the subject decides where it is empty). A column named like an observation ('Pleural
Effusion') holds 1 present, 0 absent, -1 or 0.5 uncertain, blank not mentioned; a study with none of them has its English report read instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from regen.data_prep.chest_labeler import label_report
from regen.data_prep.chexpert import CELLS, OBSERVATIONS
from regen.data_prep.labeler import language_of
from regen.data_prep.prepare import Entry
from regen.data_prep.recording import sex_of
from regen.data_prep.sections import has_headings, parse_sections, report_of
from regen.data_prep.tables import number_of, read_table, time_of
from regen.data_prep.views import frontal_rank
from regen.errors import DataError, did_you_mean

COLUMNS = ("image", "report", "study_id", "subject_id", "time", "age", "sex", "language", "split", "view")
IMAGE_SUFFIXES = (".dcm", ".png", ".jpg", ".jpeg")
_GERMAN = re.compile(r"(?i)\b(?:keine?|der|die|das|und|nicht|mit|ohne|beidseits|regelrecht)\b")


def entries(folder: str | Path, reports: str | Path) -> Iterator[Entry]:
    """One Entry a study of the table, in the order of their first rows; the whole table is held in memory.

    Raises:
        DataError: no table, no `image` column, an unknown column, a cell that does not parse, two rows of a study that disagree; the
            message names row and column.
    """
    folder, table = Path(folder), Path(reports)
    known = COLUMNS + OBSERVATIONS
    studies: dict[str, list[tuple[str, dict[str, str]]]] = {}
    for number, (who, row) in enumerate(read_table(table, {"image"}, f"give a CSV with the columns {', '.join(COLUMNS)}")):
        for name in row if number == 0 else ():
            if name not in known:
                raise DataError(f"{table}: unknown column {name!r}{did_you_mean(name, known)}")
        cells = {name: value.strip() for name, value in row.items() if value.strip()}
        if "image" not in cells:
            raise DataError(f"{who}: expected a file name in 'image', got nothing")
        studies.setdefault(cells.get("study_id", cells["image"]), []).append((who, cells))
    for study_id, rows in studies.items():
        yield _entry(study_id, rows, folder)


def _entry(study_id: str, rows: list[tuple[str, dict[str, str]]], folder: Path) -> Entry:
    cells = _merged(study_id, rows)
    who = rows[0][0]
    images, views = frontal_first([str(locate_image(folder, row["image"])) for _, row in rows], [row.get("view") for _, row in rows])
    report = cells.get("report")
    sections = parse_sections(report) if report and has_headings(report) else None
    report = report_of(sections) or None if sections else report
    language = cells.get("language") or (_language(report) if report else None)
    observations = observations_of(cells, who) or (label_report(report) if report and language == "en" else None)
    return Entry(
        study_id=study_id,
        subject_id=cells.get("subject_id") or "",
        images=images,
        views=views,
        time=time_of(cells.get("time"), who),
        split=cells.get("split"),
        report=report,
        sections=sections,
        observations=observations,
        language=language,
        age=number_of(cells.get("age"), "age", who),
        sex=sex_of(cells.get("sex")),
    )


def _merged(study_id: str, rows: list[tuple[str, dict[str, str]]]) -> dict[str, str]:
    """What the rows of a study say together; each is checked under its own line."""
    out: dict[str, str] = {}
    for who, row in rows:
        time_of(row.get("time"), who)
        number_of(row.get("age"), "age", who)
        observations_of(row, who)
        for name, value in row.items():
            if name not in {"image", "view"} and out.setdefault(name, value) != value:
                raise DataError(
                    f"{who}: expected one {name} for study {study_id!r}, got {value[:60]!r} after {out[name][:60]!r}; make the rows agree"
                )
    return out


def observations_of(cells: dict[str, Any], who: str) -> dict[str, float] | None:
    """CheXpert's cells (1, 0, -1 or 0.5; blank left out) as likelihoods; None where all are blank.

    Raises:
        DataError: another value.
    """
    out = {}
    for name in OBSERVATIONS:
        value = number_of(cells.get(name), name, who)
        if value is None:
            continue
        if value not in CELLS:
            raise DataError(f"{who}: expected 1, 0, -1, 0.5 or nothing for {name}, got {cells[name]!r}")
        out[name] = CELLS[value]
    return out or None


def frontal_first(images: Sequence[str], views: Sequence[str | None]) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
    """Views of a study in their order, but PA, AP and other frontal ones first, then unnamed ones, then lateral and oblique ones."""
    order = sorted(range(len(images)), key=lambda i: frontal_rank(views[i]))
    return tuple(images[i] for i in order), tuple((views[i] or "").upper() or None for i in order)


def locate_image(folder: Path, image: str) -> Path:
    """The file of a name with or without suffix; the name as it is where there is none."""
    path = folder / image
    candidates = [path, *(path.with_name(path.name + suffix) for suffix in IMAGE_SUFFIXES)]
    return next((candidate for candidate in candidates if candidate.is_file()), path)


def _language(report: str) -> str | None:
    return "de" if _GERMAN.search(report) else language_of(report)
