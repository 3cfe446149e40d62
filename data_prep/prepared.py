"""The prepared folder: what every later stage reads instead of anybody's raw files.

    data/
      studies.parquet     one row a study: ids, time, split, report, statements, age, sex, language, site, device, signal row
      ecg/00000.parquet   packed signals (regen.data_prep.signal_store)
      cxr/00000.parquet   packed chest X-rays (regen.data_prep.image_store), only if there are any
      events.parquet      the patients' context (regen.data_prep.events), only if it was joined (regen.data_prep.event_store)
      failed.csv          the studies that could not be read, and why (only if there are any)
      manifest.json

`regen.data_prep.prepare` writes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from regen.artifact import load_manifest
from regen.data_prep.events import EVENTS
from regen.data_prep.image_store import Bytes, read_images
from regen.data_prep.signal_store import read_rows
from regen.study import Ecg, FloatArray, Study

SPLITS = ("train", "val", "test")
EVENTS_FILE = "events.parquet"
SECONDS = 10.0
"""Stored length; longer recordings are cut to their first 10 s, shorter ones filled with missing samples."""

SCHEMA: dict[str, Any] = {
    "study_id": pl.String, "subject_id": pl.String, "time": pl.Datetime("us"), "split": pl.String, "report": pl.String,
    "statements": pl.List(pl.Struct({"code": pl.String, "likelihood": pl.Float64})), "language": pl.String, "age": pl.Float64,
    "sex": pl.String, "site": pl.String, "device": pl.String, "source": pl.String, "flags": pl.List(pl.String), "ecg_row": pl.Int64,
    "observations": pl.List(pl.Struct({"code": pl.String, "likelihood": pl.Float64})),
    "sections": pl.List(pl.Struct({"name": pl.String, "text": pl.String})), "cxr_rows": pl.List(pl.Int64), "views": pl.List(pl.String),
}  # fmt: skip
"""Columns of studies.parquet. statements and observations are null where nobody coded the study, ecg_row and cxr_rows where there is no
recording and no image; views names the images of cxr_rows, one each."""


class Prepared:
    """A prepared folder, opened and checked. `studies` is a polars table of SCHEMA; signals are read when asked for."""

    def __init__(self, path: str | Path, studies: pl.DataFrame, manifest: dict[str, Any]) -> None:
        self.path = Path(path)
        self.studies = studies
        self.manifest = manifest
        self.fs = float(manifest["fs"])
        self.pixels = int(manifest.get("pixels", 0))

    @classmethod
    def open(cls, path: str | Path) -> Prepared:
        """Open a prepared folder, or the studies.parquet in it.

        Raises:
            ArtifactError: not a prepared folder, or one with a damaged file.
        """
        path = Path(path)
        folder = path.parent if path.name == "studies.parquet" else path
        manifest = load_manifest(folder, "prepare")
        return cls(folder, _with_all_columns(pl.read_parquet(folder / "studies.parquet")), manifest)

    @property
    def digest(self) -> str:
        """SHA-256 of studies.parquet, for the manifests of what is made from it."""
        return str(self.manifest["files"]["studies.parquet"]["sha256"])

    @property
    def events_digest(self) -> str:
        """SHA-256 of events.parquet; empty where the folder has none."""
        return str(self.manifest["files"].get(EVENTS_FILE, {}).get("sha256", ""))

    @property
    def events(self) -> pl.LazyFrame | None:
        """The context of all studies (regen.data_prep.events.EVENTS), in no promised order; None where the folder has none."""
        return pl.scan_parquet(self.path / EVENTS_FILE) if EVENTS_FILE in self.manifest["files"] else None

    def context(self, study_ids: Sequence[str]) -> pl.DataFrame:
        """The context rows of the given studies: by study, those without a time first, then older first. Empty where nothing is known."""
        if self.events is None:
            return pl.DataFrame(schema=EVENTS)
        return self.events.filter(pl.col("study_id").is_in(list(study_ids))).collect().sort("study_id", "time", maintain_order=True)

    def split(self, name: str, with_ecg: bool = True) -> pl.DataFrame:
        """Rows of one split, in stored order; with_ecg leaves out studies without a recording: a report alone, a chest X-ray."""
        rows = self.studies.filter(pl.col("split") == name)
        return rows.filter(pl.col("ecg_row").is_not_null()) if with_ecg else rows

    def split_cxr(self, name: str) -> pl.DataFrame:
        """Rows of one split that have a chest X-ray, in stored order."""
        return self.studies.filter(pl.col("split") == name, pl.col("cxr_rows").is_not_null())

    def signals(self, rows: pl.DataFrame, batch: int = 512) -> Iterator[tuple[npt.NDArray[np.int64], FloatArray]]:
        """Signals of the given rows: yields (positions in `rows`, (n, 12, time) mV at self.fs), shard by shard."""
        yield from read_rows(self.path / "ecg", rows["ecg_row"].to_numpy().astype(np.int64), batch)

    def images(self, rows: pl.DataFrame, batch: int = 256, every: bool = False) -> Iterator[tuple[npt.NDArray[np.int64], Bytes]]:
        """First views of the given rows, or every view: yields (positions in `rows`, (n, pixels, pixels) uint8), shard by shard.

        All rows have a chest X-ray. With every, a position comes as often as its study has views.
        """
        views = rows.select("cxr_rows").with_row_index("at")
        views = views.explode("cxr_rows") if every else views.with_columns(pl.col("cxr_rows").list.first())
        at = views["at"].to_numpy().astype(np.int64)
        for positions, block in read_images(self.path / "cxr", views["cxr_rows"].to_numpy().astype(np.int64), self.pixels, batch):
            yield at[positions], block

    def load(self, rows: pl.DataFrame) -> FloatArray:
        """All signals of the given rows at once: (n, 12, time) float32 millivolts."""
        out = np.zeros((len(rows), 12, round(self.fs * SECONDS)), np.float32)
        for positions, block in self.signals(rows):
            out[positions] = block
        return out


def _with_all_columns(studies: pl.DataFrame) -> pl.DataFrame:
    """A folder that was prepared before a column existed knows nothing of it."""
    return studies.with_columns(pl.lit(None, kind).alias(name) for name, kind in SCHEMA.items() if name not in studies.columns)


def study_from(row: dict[str, Any], signal: FloatArray | None, fs: float) -> Study:
    """A row of studies.parquet (as a dict) and its signal as a Study."""
    statements = row["statements"]
    return Study(
        study_id=row["study_id"], subject_id=row["subject_id"], time=row["time"], report=row["report"],
        statements=None if statements is None else {s["code"]: s["likelihood"] for s in statements},
        observations=None if row["observations"] is None else {s["code"]: s["likelihood"] for s in row["observations"]},
        sections=None if row["sections"] is None else {s["name"]: s["text"] for s in row["sections"]},
        ecg=None if signal is None else Ecg(signal, fs), age=row["age"], sex=row["sex"], language=row["language"],
        source=row["source"], flags=tuple(row["flags"] or ()),
    )  # fmt: skip
