"""Alignment: ECG, report text and coded statements meet in one space.

Text-anchored contrast (MoRE) in which same-report and same-statement pairs are positives (UniCL), a learnable temperature that is in the
optimiser and clamped, ECG-text matching as an option, and binary cross-entropy of the statement head on the same features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regen.encoders.ecg import PATCH, EcgEncoder
from regen.encoders.head import StatementHead
from regen.encoders.losses import info_nce, match_loss
from regen.encoders.recipe import EncoderRecipe
from regen.encoders.recordings import Recordings, disturb
from regen.encoders.text import TextTower
from regen.encoders.training import Checkpoint, Curve, Ema, autocast, epoch_seed, make_optimizer, one_cycle, seeded, take_step

SCALE_LIMITS = (np.log(1.0), np.log(100.0))


class Meeting(nn.Module):
    """The temperature (as the log of its inverse) and the matcher, which sees a pair and says whether it belongs together."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(float(np.log(1 / 0.07))))
        self.match = nn.Sequential(nn.Linear(3 * dim, dim), nn.GELU(), nn.Linear(dim, 1))

    def scale(self) -> Tensor:
        return self.log_scale.clamp(*SCALE_LIMITS).exp()

    def match_logits(self, ecg: Tensor, text: Tensor) -> Tensor:
        """(n, dim), (n, dim) -> (n,)"""
        return self.match(torch.cat([ecg, text, ecg * text], 1))[:, 0]


def align(
    encoder: EcgEncoder, head: StatementHead, tower: TextTower, recordings: Recordings, recipe: EncoderRecipe, scratch: Path,
    device: torch.device, progress: Callable[[Iterable[int], str], Iterable[int]],
) -> Curve:  # fmt: skip
    """Train all three in place for recipe.align_epochs; the encoder and head end with their moving averages."""
    with seeded(epoch_seed(recipe.seed, "align", -1)):
        meeting = Meeting(recipe.dim).to(device)
    modules: dict[str, nn.Module] = {"encoder": encoder, "learned": head.learned, "tower": tower, "meeting": meeting}
    optimizer = make_optimizer(modules, recipe.weight_decay)
    together = nn.ModuleDict({"encoder": encoder, "learned": head.learned, "tower": tower})
    ema = Ema(together, recipe.ema)
    checkpoint = Checkpoint(scratch / "align.safetensors", modules, optimizer, ema)
    start = checkpoint.load()
    curve = Curve(scratch / "align.jsonl", start)
    groups = positive_groups(recordings)
    per_epoch = max(1, len(recordings) // recipe.batch)
    for epoch in progress(range(start, recipe.align_epochs), "alignment"):
        together.train()
        totals = np.zeros(3)
        with seeded(epoch_seed(recipe.seed, "align", epoch)) as rng:
            for i, rows in enumerate(recordings.batches(recipe.batch, rng)):
                losses = _losses(encoder, head, tower, meeting, recordings, rows, groups, recipe, rng, device)
                weights = (recipe.statement_weight, recipe.contrast_weight, recipe.match_weight)
                loss = sum((w * x for w, x in zip(weights, losses, strict=True)), torch.zeros((), device=device))
                take_step(optimizer, loss, one_cycle(epoch * per_epoch + i, recipe.align_epochs * per_epoch, recipe.align_rate))
                ema.update(together)
                totals += [float(x.detach()) for x in losses]
        statements, contrast, match = totals / per_epoch
        curve.add(statements=statements, contrast=contrast, matching=match)
        checkpoint.save(epoch + 1)
    ema.apply(together)
    return curve


def _losses(
    encoder: EcgEncoder, head: StatementHead, tower: TextTower, meeting: Meeting, recordings: Recordings, rows: Any,
    groups: npt.NDArray[np.int64], recipe: EncoderRecipe, rng: np.random.Generator, device: torch.device,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    crop, first = recordings.crops(rows, recipe.crop, PATCH, rng)
    labels = torch.from_numpy(recordings.labels[rows])
    signal = disturb(crop)
    with autocast(device):
        tokens, mask = encoder.tokens(signal.to(device), first.to(device))
        features = encoder.features(tokens, mask)
        logits = head.learned(F.dropout(features, recipe.dropout)).float()
    coded = ~torch.isnan(labels).any(1)
    smooth = labels[coded] * (1 - recipe.label_smoothing) + recipe.label_smoothing / 4
    zero = torch.zeros((), device=device)
    statements = F.binary_cross_entropy_with_logits(logits[coded.to(device)], smooth.to(device)) if coded.any() else zero
    told = [i for i, row in enumerate(rows) if recordings.reports[row]]
    if len(told) < 2 or recipe.contrast_weight == recipe.match_weight == 0:
        return statements, zero, zero
    ecg = encoder.embed(features[told])
    with autocast(device):
        text = tower([recordings.reports[rows[i]] for i in told])
    group = groups[rows[told]]
    positive = torch.from_numpy((group[:, None] == group[None]).any(-1)).to(device)
    contrast = info_nce(text, ecg, scale=meeting.scale(), positive=positive)
    if recipe.match_weight == 0:
        return statements, contrast, zero
    other = _hard_negatives(text.detach() @ ecg.detach().T, positive)
    pairs = meeting.match_logits(torch.cat([ecg, ecg[other]]), torch.cat([text, text]))
    return statements, contrast, match_loss(pairs)


def _hard_negatives(similarity: Tensor, positive: Tensor) -> Tensor:
    """For each text an ECG of another group, the likelier the closer (ALBEF). (n, n), (n, n) -> (n,) indices."""
    weights = (similarity * 10).softmax(1).masked_fill(positive, 0) + 1e-8
    return torch.multinomial(weights.cpu(), 1)[:, 0].to(similarity.device)


def positive_groups(recordings: Recordings) -> npt.NDArray[np.int64]:
    """(n, 2) numbers: rows that share the first have the same report, rows that share the second the same statements.

    The columns are compared each with itself. A study without a report shares no report, one that was not coded no statements.
    """
    reports: dict[str, int] = {}
    sets: dict[bytes, int] = {}
    out = np.zeros((len(recordings), 2), np.int64)
    for i, report in enumerate(recordings.reports):
        labels = recordings.labels[i]
        key = str(i).encode() if np.isnan(labels).any() else labels.tobytes()
        out[i] = reports.setdefault(report or f"\0{i}", len(reports)), sets.setdefault(key, len(sets))
    return out
