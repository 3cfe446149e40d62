"""`regen index build`: the training split of a prepared folder through an encoder into an index folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch

from regen.artifact import new_artifact
from regen.data_prep.image_store import ImageWriter, square
from regen.data_prep.prepared import SPLITS, Prepared
from regen.encoders.recordings import load_recordings
from regen.encoders.space import Space, load_space
from regen.errors import ConfigError, DataError, did_you_mean
from regen.index.archive import THUMB, Archive, Vectors
from regen.index.case_index import Asker, CaseIndex
from regen.index.cases import cases_from
from regen.index.limits import nearest_limit
from regen.study import FloatArray


def build_index(
    data_path: str | Path, encoder_path: str | Path, out: str | Path, device: torch.device | str = "cpu", split: str = "train",
    force: bool = False, thumbnails: bool = True,
) -> None:  # fmt: skip
    """Encode every recording with a report and every chest X-ray with a report or labels of one split, and write the index folder.

    thumbnails: keep a small copy of every image, to be shown beside a query.

    Raises:
        DataError: the split holds nothing that the encoder reads and somebody reported.
        ArtifactError: `out` exists without force, or an input is damaged.
    """
    if split not in SPLITS:
        raise ConfigError(f"--split: expected one of {', '.join(SPLITS)}, got {split!r}{did_you_mean(split, SPLITS)}")
    data = Prepared.open(data_path)
    space = load_space(encoder_path, device)
    rows = _cases(data, space, split)
    if not len(rows):
        raise DataError(
            f"{data_path}: expected studies in the {split} split with a report and a modality of {' or '.join(space.modalities[:-1])}, got none; "
            "prepare with reports"
        )
    with new_artifact(out, "index", {"split": split, "thumbnails": thumbnails}, {"data": data.digest, "encoder": space.fingerprint}, force) as work:
        found = {}
        ecg = np.flatnonzero(rows["ecg_row"].is_not_null().to_numpy())
        if space.ecg is not None and len(ecg):
            recordings = load_recordings(data, rows[ecg.tolist()], work.scratch, split)
            vectors, _, _ = space.ecg.encode(np.asarray(recordings.signals), np.asarray(recordings.measures))
            found["ecg"] = Vectors(ecg, vectors)
        cxr = np.flatnonzero(rows["cxr_rows"].is_not_null().to_numpy())
        if space.cxr is not None and len(cxr):
            found["cxr"] = Vectors(cxr, encode_views(data, rows[cxr.tolist()], space))
            if thumbnails:
                _keep_thumbnails(data, rows[cxr.tolist()], work.path / "thumbs")
        reports = space.text.encode(rows["report"].fill_null("").to_list())
        archive = Archive(cases_from(data, rows), found, reports, space.fingerprint, "torch")
        archive.save(work.path)
        work.manifest |= {"fingerprint": space.fingerprint, "cases": len(rows)}
        if "cxr" in found and split != "val" and (limit := val_limit(data, space, archive.part("cxr"))) is not None:
            work.manifest["limits"] = {"cxr": limit}


def val_limit(data: Prepared, space: Space, part: CaseIndex) -> float | None:
    """The limit that the X-rays of val set; None where there are too few."""
    rows = data.split_cxr("val")
    askers = [Asker(study, subject) for study, subject in rows.select("study_id", "subject_id").iter_rows()]
    return nearest_limit(part, encode_views(data, rows, space), askers) if len(rows) else None


def _cases(data: Prepared, space: Space, split: str) -> pl.DataFrame:
    """Rows of the split that the space reads and of which something is known."""
    reported = pl.col("report").is_not_null()
    ecg = pl.col("ecg_row").is_not_null() & reported if space.ecg is not None else pl.lit(False)
    cxr = pl.col("cxr_rows").is_not_null() & (reported | pl.col("observations").is_not_null()) if space.cxr is not None else pl.lit(False)
    return data.studies.filter(pl.col("split") == split, ecg | cxr)


def encode_views(data: Prepared, rows: pl.DataFrame, space: Space) -> FloatArray:
    """(n, dim): the mean of each study's views, of unit length. Every row has a chest X-ray."""
    total = np.zeros((len(rows), space.image_tower().dim), np.float32)
    for positions, images in data.images(rows, every=True):
        np.add.at(total, positions, space.encode_images(images)[0])
    return total / np.linalg.norm(total, axis=1, keepdims=True).clip(1e-6)


def _keep_thumbnails(data: Prepared, rows: pl.DataFrame, folder: Path) -> None:
    """First views, numbered as the rows, which are in stored order."""
    writer = ImageWriter(folder, THUMB)
    for _, images in data.images(rows):
        for image in images:
            writer.add(square(image.astype(np.float32) / 255, THUMB))
    writer.flush()
