"""Chest X-ray archives that the tests make up: tables, images, and what comes of preparing them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from regen.data_prep.prepare import write
from regen.data_prep.prepared import Prepared


def table(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def picture(path: Path, bright: int = 200) -> Path:
    """A made-up image: a bright square on a slope."""
    pixels = np.tile(np.linspace(0, 90, 40, dtype=np.uint8), (50, 1))
    pixels[10:20, 5:15] = bright
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def prepared(entries: object, out: Path) -> tuple[Prepared, dict[str, str]]:
    summary = write(entries, out, "test", {}, workers=1, pixels=64)  # type: ignore[arg-type]
    return Prepared.open(out), {f.study_id: f.reason for f in summary.failures}


def row(data: Prepared, study_id: str) -> dict[str, object]:
    return data.studies.row(by_predicate=pl.col("study_id") == study_id, named=True)


def likelihoods(data: Prepared, study_id: str) -> dict[str, float]:
    return {item["code"]: item["likelihood"] for item in row(data, study_id)["observations"] or ()}  # type: ignore[attr-defined]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
