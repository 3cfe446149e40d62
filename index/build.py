"""`regen index build`: the training split of a prepared folder through an encoder into an index folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch

from regen.artifact import new_artifact
from regen.data_prep.prepared import Prepared
from regen.encoders.recordings import load_recordings
from regen.encoders.store import Towers, load_towers
from regen.errors import DataError
from regen.index.case_index import CaseIndex
from regen.index.cases import cases_from
from regen.study import FloatArray


def build_index(
    data_path: str | Path, encoder_path: str | Path, out: str | Path, device: torch.device | str = "cpu", split: str = "train", force: bool = False
) -> None:
    """Encode every reported recording of one split and write the index folder.

    Raises:
        DataError: the split holds no recording with a report.
        ArtifactError: `out` exists without force, or an input is damaged.
    """
    data = Prepared.open(data_path)
    towers = load_towers(encoder_path, device)
    rows = data.split(split).filter(pl.col("report").is_not_null())
    if not len(rows):
        raise DataError(f"{data_path}: expected recordings with reports in the {split} split, got none; prepare with reports")
    with new_artifact(out, "index", {"split": split}, {"data": data.digest, "encoder": towers.fingerprint}, force) as work:
        recordings = load_recordings(data, rows, work.scratch, split)
        vectors, _, _ = towers.encode(np.asarray(recordings.signals), np.asarray(recordings.measures))
        index = CaseIndex(cases_from(data, rows), vectors, encode_reports(towers, recordings.reports), towers.fingerprint, "torch")
        index.save(work.path)
        work.manifest |= {"fingerprint": towers.fingerprint, "cases": len(index)}


@torch.no_grad()
def encode_reports(towers: Towers, reports: list[str], batch: int = 256) -> FloatArray:
    """(n, dim) unit vectors of report texts, float32."""
    return np.concatenate([towers.text(reports[i : i + batch]).cpu().numpy() for i in range(0, len(reports), batch)])
