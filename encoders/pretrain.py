"""Self-supervised pre-training of the ECG encoder: no report and no label is read here.

Three tasks on the same two disturbed, partly hidden views of a recording:
  masked patches    rebuild what was hidden (He et al. 2022; ECG-ReGen masks patches too)
  two views         the views of a recording find each other among the batch (SimCLR, Chen et al. 2020)
  measurements      tell what a ruler would: rate, intervals, amplitudes, the average beat (regen.data_prep.measure), from a part of the
                    signal with leads missing. The target is computed from the signal itself, so this is self-supervision as well; of
                    the three it helps most when there are few recordings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regen.data_prep.measure import FEATURES
from regen.encoders.ecg import PATCH, EcgEncoder, in_units
from regen.encoders.head import FeatureScale
from regen.encoders.losses import info_nce, masked_patches, masked_regression
from regen.encoders.recipe import EncoderRecipe
from regen.encoders.recordings import Recordings, disturb
from regen.encoders.training import Checkpoint, Curve, autocast, epoch_seed, make_optimizer, one_cycle, seeded, take_step


class PretrainHeads(nn.Module):
    """What turns tokens and features into the three answers; thrown away afterwards."""

    def __init__(self, encoder: EcgEncoder) -> None:
        super().__init__()
        width = encoder.config.width
        self.rebuild = nn.Linear(width, 12 * PATCH)
        self.view = nn.Sequential(nn.Linear(2 * width, 256), nn.GELU(), nn.Linear(256, 128))
        self.measure = nn.Linear(2 * width, FEATURES)


def pretrain(
    encoder: EcgEncoder, recordings: Recordings, scale: FeatureScale, recipe: EncoderRecipe, scratch: Path, device: torch.device,
    progress: Callable[[Iterable[int], str], Iterable[int]],
) -> Curve:  # fmt: skip
    """Train `encoder` in place for recipe.pretrain_epochs, going on from a checkpoint in `scratch` if one is there."""
    heads = PretrainHeads(encoder).to(device)
    modules: dict[str, nn.Module] = {"encoder": encoder, "heads": heads}
    optimizer = make_optimizer(modules, recipe.weight_decay)
    checkpoint = Checkpoint(scratch / "pretrain.safetensors", modules, optimizer)
    start = checkpoint.load()
    curve = Curve(scratch / "pretrain.jsonl", start)
    per_epoch = max(1, len(recordings) // recipe.batch)
    encoder.train()
    for epoch in progress(range(start, recipe.pretrain_epochs), "pre-training"):
        totals = np.zeros(3)
        with seeded(epoch_seed(recipe.seed, "pretrain", epoch)) as rng:
            for i, rows in enumerate(recordings.batches(recipe.batch, rng)):
                losses = _losses(encoder, heads, recordings, rows, scale, recipe, rng, device)
                weights = (recipe.mask_weight, recipe.view_weight, recipe.measure_weight)
                loss = sum((w * x for w, x in zip(weights, losses, strict=True)), torch.zeros((), device=device))
                total = recipe.pretrain_epochs * per_epoch
                take_step(optimizer, loss, one_cycle(epoch * per_epoch + i, total, recipe.pretrain_rate, 0.1))
                totals += [float(x.detach()) for x in losses]
        masked, views, measures = totals / per_epoch
        curve.add(masked_patches=masked, two_views=views, measurements=measures)
        checkpoint.save(epoch + 1)
    return curve


def _losses(
    encoder: EcgEncoder, heads: PretrainHeads, recordings: Recordings, rows: Any, scale: FeatureScale, recipe: EncoderRecipe,
    rng: np.random.Generator, device: torch.device,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    target = scale(torch.from_numpy(np.asarray(recordings.measures[rows])).to(device), keep_missing=True)
    masked, measured, views = [], [], []
    for _ in range(2):
        crop, first = recordings.crops(rows, recipe.crop, PATCH, rng)
        hidden = hide(len(rows), recipe.crop // PATCH, recipe.mask_share)
        seen = disturb(crop).masked_fill(hidden.repeat_interleave(PATCH, 1)[:, None], float("nan"))
        crop, first, seen, hidden = (x.to(device) for x in (crop, first, seen, hidden))
        with autocast(device):
            tokens, mask = encoder.tokens(seen, first)
            features = encoder.features(tokens, mask)
            rebuilt, view, measures = heads.rebuild(tokens), heads.view(features), heads.measure(features)
        masked.append(masked_patches(rebuilt.float(), in_units(crop), hidden))
        measured.append(masked_regression(measures.float(), target))
        views.append(F.normalize(view.float(), dim=1))
    return (masked[0] + masked[1]) / 2, info_nce(views[0], views[1], scale=10.0), (measured[0] + measured[1]) / 2


def hide(rows: int, patches: int, share: float) -> Tensor:
    """(rows, patches) bool: a share of the patches in spans of three, so that a neighbour's edge does not give a beat away."""
    spans = torch.rand(rows, -(-patches // 3)).repeat_interleave(3, 1)[:, :patches]
    order = (spans + 1e-6 * torch.rand(rows, patches)).argsort(1).argsort(1)
    return order < round(patches * share)
