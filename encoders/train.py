"""`regen train encoder`: load, pre-train, align, calibrate, save. Reads from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import polars as pl
import torch

from regen.artifact import new_artifact
from regen.data_prep.prepare import write
from regen.data_prep.prepared import Prepared
from regen.data_prep.synthetic_cohort import entries
from regen.encoders.align import align
from regen.encoders.ecg import EcgEncoder
from regen.encoders.head import StatementHead, calibrate, fit_measured
from regen.encoders.pretrain import pretrain
from regen.encoders.recipe import EncoderRecipe
from regen.encoders.recordings import Recordings, load_recordings
from regen.encoders.store import save_towers
from regen.encoders.text import TextTower
from regen.encoders.training import autocast, draw_curves
from regen.errors import DataError

Progress = Callable[[Iterable[int], str], Iterable[int]]


def plain(items: Iterable[int], title: str) -> Iterable[int]:
    """No progress bar."""
    return items


def train_encoder(
    recipe: EncoderRecipe, data_path: str | Path, out: str | Path, device: torch.device, force: bool = False, progress: Progress = plain
) -> None:
    """Train the towers on the train split, calibrate on val, write the encoder folder.

    Raises:
        DataError: no recordings in train or val, or none of them coded.
        ArtifactError: `out` exists without force, or the prepared folder is damaged.
    """
    data = Prepared.open(data_path)
    with new_artifact(out, "encoder", recipe.model_dump(), {"data": data.digest}, force) as work:
        train = load_recordings(data, data.split("train"), work.scratch, "train")
        val = load_recordings(data, data.split("val"), work.scratch, "val")
        check_coded(train, val, data_path)

        torch.manual_seed(recipe.seed)
        encoder = EcgEncoder(recipe.ecg()).to(device)
        head = StatementHead(encoder.feature_width)
        fit_measured(head, np.asarray(train.measures), train.labels)
        head.to(device)
        reports = [text for text in data.split("train", with_ecg=False)["report"].to_list() if text]
        tower = make_tower(recipe, reports).to(device)

        seen = _with_synthetic(train, recipe, work.scratch)
        curves = {"pre-training": pretrain(encoder, seen, head.scale, recipe, work.scratch, device, progress)}
        curves["alignment"] = align(encoder, head, tower, train, recipe, work.scratch, device, progress)

        features = embed_features(encoder, np.asarray(val.signals))
        calibrate(head.cpu(), features, torch.from_numpy(np.asarray(val.measures)), val.labels)
        work.manifest["fingerprint"] = save_towers(work.path, encoder.cpu(), head, tower.cpu(), recipe)
        draw_curves(curves, work.path / "curves.png")


def make_tower(recipe: EncoderRecipe, reports: list[str]) -> TextTower:
    if recipe.text == "small":
        return TextTower.small(reports, recipe.dim, recipe.text_width, recipe.text_depth, recipe.text_length, recipe.vocabulary)
    return TextTower.load(recipe.text, recipe.dim, recipe.text_length, recipe.text_mode)


@torch.no_grad()
def embed_features(encoder: EcgEncoder, signals: np.ndarray, batch: int = 64) -> torch.Tensor:
    """(n, 12, 1000) -> pooled features (n, 2 * width) float32, on the CPU."""
    encoder.eval()
    device = encoder.position.device
    out = []
    for start in range(0, len(signals), batch):
        with autocast(device):
            features = encoder.features(*encoder.tokens(torch.from_numpy(signals[start : start + batch].astype(np.float32)).to(device)))
        out.append(features.float().cpu())
    return torch.cat(out)


def _with_synthetic(train: Recordings, recipe: EncoderRecipe, scratch: Path) -> Recordings:
    """The training recordings, and recipe.synthetic made-up ones beside them, for pre-training only."""
    if not recipe.synthetic:
        return train
    folder = scratch / "synthetic"
    if not folder.exists():
        write(entries(recipe.synthetic, recipe.seed + 1), folder, "synthetic", {"n": recipe.synthetic})
    data = Prepared.open(folder)
    made = load_recordings(data, data.studies, scratch, "made")
    return Recordings(
        pl.concat([train.rows, made.rows]), np.concatenate([train.signals, made.signals]), np.concatenate([train.measures, made.measures]),
        np.concatenate([train.labels, made.labels]), train.reports + made.reports,
    )  # fmt: skip


def check_coded(train: Recordings, val: Recordings, path: str | Path) -> None:
    """Raises DataError where a split holds fewer than two coded recordings."""
    for name, part in (("train", train), ("val", val)):
        coded = int((~np.isnan(part.labels).any(axis=1)).sum()) if len(part) else 0
        if coded < 2:
            raise DataError(
                f"{path}: expected coded recordings in the {name} split, got {coded} of {len(part)}; "
                "prepare more studies, or give statements or reports that the labeler reads"
            )
