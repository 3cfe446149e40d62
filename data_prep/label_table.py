"""A user's own labels: a CSV with one row an image or a study, and one column a label.

    image,Cardiomegaly,tube too deep[,study_id,subject_id,split,sex,age]
    2024/a.dcm,1,0
    2024/b.dcm,,-1

1 is present, 0 absent; blank, -1 and 0.5 (uncertain) are left out. `image` is the path below the folder of images, with or without suffix;
`study_id` alone is enough where it names the file, or for a prepared folder. subject_id defaults to study_id (say so if a person has several
studies: the split is by subject). Columns of the folder's own table (report, time, view, language) are passed over; every other one is a label.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regen.data_prep.chest_labeler import UNCERTAIN
from regen.data_prep.chexpert import CELLS
from regen.data_prep.image_folder import COLUMNS
from regen.data_prep.prepare import split_of
from regen.data_prep.prepared import SPLITS
from regen.data_prep.recording import age_or_missing, sex_of
from regen.data_prep.tables import number_of, read_table
from regen.errors import DataError, did_you_mean
from regen.study import FloatArray

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}
"""Of the subjects, where the table names no split. Validation gets more than elsewhere: operating points rest on its positives."""
_REMEDY = "give a CSV with the column image or study_id, and one column a label"


@dataclass(frozen=True, slots=True, eq=False)
class LabelTable:
    """n rows of which at least one label is known. labels: (n, len(names)) 1, 0, NaN; images: as the table names them; splits: None where blank."""

    names: tuple[str, ...]
    study_ids: list[str]
    subjects: list[str]
    images: list[str]
    splits: list[str | None]
    sex: list[str | None]
    ages: list[float | None]
    labels: FloatArray

    def __len__(self) -> int:
        return len(self.study_ids)


def read_label_table(path: str | Path) -> LabelTable:
    """Read and check the whole table.

    Raises:
        DataError: no such table, no column image or study_id, no label column, a cell that is none, an image that stands twice, no label known.
    """
    path = Path(path)
    names: tuple[str, ...] = ()
    rows: list[tuple[dict[str, str], float | None, list[float]]] = []
    seen: set[str] = set()
    for who, row in read_table(path, set(), _REMEDY):
        names = names or _label_columns(path, row)
        cells = {name: value.strip() for name, value in row.items()}
        image = cells.get("image") or cells.get("study_id")
        if not image:
            raise DataError(f"{who}: expected a name in image or study_id, got nothing; fill it in")
        if image in seen:
            raise DataError(f"{who}: expected each image once, got {image!r} again; leave one row")
        seen.add(image)
        if cells.get("split") and cells["split"] not in SPLITS:
            raise DataError(f"{who}: expected train, val or test in split, got {cells['split']!r}{did_you_mean(cells['split'], SPLITS)}")
        values = [_value(cells[name], name, who) for name in names]
        if not np.isnan(values).all():
            rows.append((cells | {"image": image}, age_or_missing(number_of(cells.get("age"), "age", who))[0], values))
    if not rows:
        raise DataError(f"{path}: expected rows with a label of 1 or 0, got none; {_REMEDY}")
    ids = [cells.get("study_id") or cells["image"] for cells, _, _ in rows]
    return LabelTable(
        names, ids, [cells.get("subject_id") or id_ for (cells, _, _), id_ in zip(rows, ids, strict=True)], [cells["image"] for cells, _, _ in rows],
        [cells.get("split") or None for cells, _, _ in rows], [sex_of(cells.get("sex")) for cells, _, _ in rows], [age for _, age, _ in rows],
        np.array([values for _, _, values in rows], np.float32),
    )  # fmt: skip


def assign_splits(subjects: Sequence[str], given: Sequence[str | None], seed: int = 0, shares: Mapping[str, float] = SHARES) -> list[str]:
    """A split a row: what any row of its subject is given, else by a hash of the subject in `shares`. No subject on two sides.

    Raises:
        DataError: a subject whose rows are given different splits.
    """
    fixed: dict[str, str] = {}
    for subject, split in zip(subjects, given, strict=True):
        if split is not None and fixed.setdefault(subject, split) != split:
            raise DataError(f"split: expected all rows of a subject in one, got {subject!r} in {fixed[subject]} and {split}; give it one, or none")
    return [fixed.get(subject) or split_of(subject, seed, shares) for subject in subjects]


def _label_columns(path: Path, row: dict[str, str]) -> tuple[str, ...]:
    if not {"image", "study_id"} & row.keys():
        raise DataError(f"{path}: expected the column image or study_id, got {', '.join(row)[:200]}; {_REMEDY}")
    names = tuple(name for name in row if name not in COLUMNS)
    if not names or not all(name.strip() for name in names):
        raise DataError(f"{path}: expected named label columns beside {', '.join(row)[:200]}, got none or a blank one; {_REMEDY}")
    return names


def _value(text: str, name: str, who: str) -> float:
    try:
        likelihood = CELLS[float(text)] if text else UNCERTAIN
    except (ValueError, KeyError):
        raise DataError(
            f"{who}: expected 1, 0, -1, 0.5 or nothing for label {name!r}, got {text[:40]!r}; take the column away if it is no label"
        ) from None
    return math.nan if likelihood == UNCERTAIN else likelihood
