"""NIH ChestX-ray14, official layout: Data_Entry_2017.csv (or _v2020) and images_001/images/ ... or images/ (Wang et al., CVPR 2017).

One image is one study; there are no reports and no times. Labels reach the CheXpert observations that NIH labels at all: what an image is not
labelled with is absent (0.0), what lies above a label is as certain as the label (regen.data_prep.chexpert). train_val_list.txt and
test_list.txt decide the split where they are (the subject's hash parts val from train), else the subject's hash alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from regen.data_prep.chexpert import NIH_TO_CHEXPERT, with_ancestors
from regen.data_prep.prepare import Entry, split_of
from regen.data_prep.recording import sex_of
from regen.data_prep.tables import read_table
from regen.errors import DataError, did_you_mean

TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
LABELLED = tuple(dict.fromkeys(name for name in NIH_TO_CHEXPERT.values() if name))
"""Observations that an NIH label can make present."""
_REMEDY = "give the folder of ChestX-ray14 that holds Data_Entry_2017.csv"
_OLDEST = 120.0
_YEARS = {"": 1.0, "Y": 1.0, "M": 12.0, "D": 365.25}


def entries(root: str | Path, seed: int = 0) -> Iterator[Entry]:
    """One Entry a row of the table. An image that is not there, or that no official list names, is listed as failed.

    seed: of the hash that splits subjects.

    Raises:
        DataError: no table, a column that is missing, an unknown label, or one official list without the other.
    """
    root = Path(root)
    table = next((root / name for name in TABLES if (root / name).exists()), root / TABLES[-1])
    images, official = _find_images(root), _official(root)
    for who, row in read_table(table, {"Image Index", "Finding Labels", "Patient ID", "Patient Age", "View Position"}, _REMEDY):
        name, subject = row["Image Index"].strip(), row["Patient ID"].strip()
        broken = None
        if name not in images:
            broken = f"{root / name}: expected the image in images/ or images_*/images/, got none; unpack all images_*.tar.gz"
        elif official is not None and name not in official:
            broken = f"{name}: expected it in train_val_list.txt or test_list.txt, got neither; restore the official lists"
        yield Entry(
            study_id=name.removesuffix(".png"),
            subject_id=subject,
            images=(images.get(name, ""),),
            views=(row["View Position"].strip() or None,),
            split=_split(official[name], subject, seed) if official is not None and broken is None else None,
            observations=_observations(row["Finding Labels"], who),
            age=_age(row["Patient Age"], who),
            sex=sex_of(row.get("Patient Gender") or row.get("Patient Sex")),
            broken=broken,
        )


def _find_images(root: Path) -> dict[str, str]:
    """File name -> path, over all image folders."""
    folders = [root / "images", *sorted(root.glob("images_*/images")), *sorted(root.glob("images_*"))]
    return {path.name: str(path) for folder in folders if folder.is_dir() for path in folder.iterdir() if path.suffix.lower() == ".png"}


def _official(root: Path) -> dict[str, str] | None:
    """Image -> 'train_val' or 'test'; None where there are no lists."""
    lists = {"train_val": root / "train_val_list.txt", "test": root / "test_list.txt"}
    there = [path.name for path in lists.values() if path.exists()]
    if not there:
        return None
    if len(there) == 1:
        raise DataError(f"{root}: expected train_val_list.txt and test_list.txt, got {there[0]} alone; add the other, or take it away")
    try:
        return {name: part for part, path in lists.items() for name in path.read_text(encoding="utf-8").split()}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{root}: expected both lists as UTF-8 text, could not read them ({error}); copy them again") from error


def _split(part: str, subject: str, seed: int) -> str:
    """Nine tenths of the official train_val subjects train."""
    return "test" if part == "test" else "val" if split_of(subject, seed) == "val" else "train"


def _observations(labels: str, who: str) -> dict[str, float]:
    present = {}
    for label in labels.split("|"):
        if label.strip() not in NIH_TO_CHEXPERT:
            raise DataError(f"{who}: unknown label {label.strip()!r}{did_you_mean(label.strip(), NIH_TO_CHEXPERT)}")
        observation = NIH_TO_CHEXPERT[label.strip()]
        if observation is not None:
            present[observation] = 1.0
    present = with_ancestors(present)
    return {name: present.get(name, 0.0) for name in LABELLED}


def _age(text: str, who: str) -> float | None:
    """Years from 58, 058Y, 013M or 005D; ages above 120, which the table has by mistake, and blank ones are missing.

    Raises:
        DataError: anything else.
    """
    if not text.strip():
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([YMD]?)", text.strip())
    if match is None:
        raise DataError(f"{who}: expected an age as 58 or 058Y, got {text.strip()!r}")
    years = float(match[1]) / _YEARS[match[2]]
    return years if years <= _OLDEST else None
