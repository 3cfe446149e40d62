"""`regen train encoder` for a space with chest X-rays: load, pair, train jointly, calibrate, save. Reads from top to bottom."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regen.artifact import new_artifact
from regen.data_prep.prepared import Prepared
from regen.encoders.cxr import CxrEncoder, adapt_trunk, merge_adapters
from regen.encoders.ecg import EcgEncoder
from regen.encoders.head import StatementHead, calibrate, fit_measured
from regen.encoders.image_sources import load_weights, plan_trunk
from regen.encoders.image_trunks import Trunk, build_trunk
from regen.encoders.images import Images, load_images
from regen.encoders.pairs import pair_studies
from regen.encoders.pretrain import pretrain
from regen.encoders.ranks import Ranks
from regen.encoders.recordings import Recordings, load_recordings
from regen.encoders.shared import Joint, train_joint
from regen.encoders.shared_recipe import SharedRecipe
from regen.encoders.space import Space, load_space, save_space
from regen.encoders.train import Progress, check_coded, embed_features, make_tower, plain
from regen.encoders.training import Curve, draw_curves
from regen.errors import ConfigError, DataError


@dataclass(slots=True, eq=False)
class EcgPart:
    """The ECG side of a joint training: towers, their training recordings, and those of the validation split."""

    encoder: EcgEncoder
    head: StatementHead
    train: Recordings
    val: Recordings
    curves: dict[str, Curve]


def train_shared(
    recipe: SharedRecipe, data_path: str | Path, out: str | Path, device: torch.device, force: bool = False, progress: Progress = plain
) -> None:
    """Train the towers on the train split and write the encoder folder. Under torchrun every process trains, the first one writes.

    Raises:
        DataError: no chest X-rays in train, or, with ecg_tower, no coded recordings in train or val.
        ConfigError: a model that is not there, or start is an encoder of another width or image side, or a stopped run of several ranks.
        ArtifactError: `out` exists without force, or the prepared folder is damaged.
    """
    ranks = Ranks.join(device)
    data = Prepared.open(data_path)
    start = load_space(recipe.start, device) if recipe.start else None
    if start is not None and start.text.dim != recipe.dim:
        raise ConfigError(f"start: expected an encoder whose space has dim {recipe.dim}, {recipe.start} has {start.text.dim}; set dim to that")
    inputs = {"data": data.digest} | ({"start": start.fingerprint} if start is not None else {})
    with _workplace(ranks, out, recipe.model_dump(), inputs, force) as (folder, scratch, manifest):
        rows = data.split_cxr("train")
        if len(rows) < 2:
            raise DataError(f"{data_path}: expected chest X-rays in the train split, got {len(rows)}; prepare more studies")
        images = load_images(data, rows, scratch, "train")
        torch.manual_seed(recipe.seed)
        ecg = _ecg_part(recipe, data, start, scratch, device, progress) if recipe.ecg_tower else None
        side = recipe.pixels or data.pixels
        cxr = (_going_on(recipe, start, side) if start is not None and start.cxr is not None else make_cxr(recipe, side)).to(device)
        text = start.text.train() if start is not None else make_tower(recipe, _reports(data)).to(device)
        recordings = ecg.train if ecg else None
        units = _units(images, recordings, recipe.window_days)
        joint = Joint(cxr, text, images, units, ecg.encoder if ecg else None, ecg.head if ecg else None, recordings)
        curves = (ecg.curves if ecg else {}) | {"joint": train_joint(joint, recipe, scratch, device, progress, ranks)}
        merge_adapters(cxr)
        if ecg is not None:
            features = embed_features(ecg.encoder, np.asarray(ecg.val.signals))
            calibrate(ecg.head.cpu(), features, torch.from_numpy(np.asarray(ecg.val.measures)), ecg.val.labels)
        if manifest is not None:
            parts = (ecg.encoder.cpu(), ecg.head) if ecg else ()
            manifest["fingerprint"] = save_space(folder, recipe, text.cpu(), cxr.cpu(), side, joint.scale, *parts)
            manifest["pairs"] = int((units >= 0).all(1).sum())
            draw_curves(curves, folder / "curves.png")


def make_cxr(recipe: SharedRecipe, side: int) -> CxrEncoder:
    """The image tower of a recipe, with its pretrained weights where it names some.

    Raises:
        ConfigError: no such model.
    """
    small = {"width": recipe.cxr_width, "depth": recipe.cxr_depth, "heads": recipe.cxr_heads, "drop_path": recipe.drop_path}
    plan = plan_trunk(recipe.cxr, side, recipe.cxr_weights == "pretrained", **(small if recipe.cxr == "small" else {}))
    trunk = build_trunk(plan)
    load_weights(trunk)
    return CxrEncoder(_made_ready(trunk, recipe), recipe.dim)


def _going_on(recipe: SharedRecipe, start: Space, side: int) -> CxrEncoder:
    """The image tower that recipe.start holds, to be trained as the recipe says."""
    if start.side != side:
        raise ConfigError(f"start: expected an encoder of images of side {side}, {recipe.start} reads {start.side}; set pixels to that")
    tower = start.image_tower().train()
    _made_ready(tower.trunk, recipe)
    return tower


def _made_ready(trunk: Trunk, recipe: SharedRecipe) -> Trunk:
    """DropKey, recomputed activations, and what of the trunk is trained."""
    if recipe.drop_key and recipe.cxr_mode != "frozen" and trunk.plan.kind in ("small", "timm"):
        trunk.drop_keys(recipe.drop_key)
    if recipe.checkpointing:
        trunk.checkpointing()
    adapt_trunk(trunk, recipe.cxr_mode)
    return trunk


def _ecg_part(recipe: SharedRecipe, data: Prepared, start: Space | None, scratch: Path, device: torch.device, progress: Progress) -> EcgPart:
    """Towers pre-trained here, or those of recipe.start."""
    train = load_recordings(data, data.split("train"), scratch, "train")
    val = load_recordings(data, data.split("val"), scratch, "val")
    check_coded(train, val, data.path)
    if start is not None and start.ecg is not None:
        return EcgPart(start.ecg.ecg.train(), start.ecg.head.train(), train, val, {})
    encoder = EcgEncoder(recipe.ecg()).to(device)
    head = StatementHead(encoder.feature_width)
    fit_measured(head, np.asarray(train.measures), train.labels)
    head.to(device)
    return EcgPart(encoder, head, train, val, {"pre-training": pretrain(encoder, train, head.scale, recipe, scratch, device, progress)})


def _units(images: Images, recordings: Recordings | None, window_days: float) -> np.ndarray:
    if recordings is None:
        return np.stack([np.full(len(images), -1), np.arange(len(images))], 1)
    return pair_studies(recordings.rows, images.rows, window_days)


def _reports(data: Prepared) -> list[str]:
    """What the text tower's vocabulary is made from."""
    reports = [text for text in data.split("train", with_ecg=False)["report"].to_list() if text]
    return reports or ["no report"]


@contextmanager
def _workplace(
    ranks: Ranks, out: str | Path, config: dict[str, Any], inputs: dict[str, str], force: bool
) -> Iterator[tuple[Path, Path, dict[str, Any] | None]]:
    """(folder, scratch, manifest): the artefact for the first rank, a folder that is thrown away for the others."""
    if ranks.rank == 0:
        with new_artifact(out, "encoder", config, inputs, force) as work:
            yield work.path, work.scratch, work.manifest
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder), Path(folder), None
