"""`regen train context`: what training charted becomes a vocabulary, then the chart encoder learns in the report space of an ECG encoder.

Five losses, on two views of each batch: the charts as they are, and with a random subset of their sources (and of the recordings) left out and
some events hidden. Masked events and categories; contrast with the vector of the report, the text tower frozen; the statements from the chart
alone; and the consistency of the fused views (LANISTR).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regen.artifact import new_artifact
from regen.data_prep.prepared import Prepared, study_from
from regen.data_prep.study_context import with_context
from regen.encoders.align import SCALE_LIMITS, positive_groups
from regen.encoders.chart import ChartVocabulary
from regen.encoders.chart_encoder import ChartBatch, ChartEncoder, SeenChart, save_chart, tensors
from regen.encoders.chart_losses import Fusion, consistency, hidden_events, masked_events, subset
from regen.encoders.context_recipe import ContextRecipe
from regen.encoders.losses import info_nce
from regen.encoders.recordings import Recordings, load_recordings
from regen.encoders.space import load_space
from regen.encoders.store import Towers
from regen.encoders.train import Progress, check_coded, plain
from regen.encoders.training import Checkpoint, Curve, Ema, draw_curves, epoch_seed, make_optimizer, one_cycle, seeded, take_step
from regen.errors import ConfigError, DataError
from regen.study import Event, FloatArray

LOSSES = ("values", "categories", "contrast", "statements", "consistency")


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """One split: recordings, their studies' events, the vectors of recordings and reports, (n, dim)."""

    recordings: Recordings
    events: list[Sequence[Event]]
    ecg: FloatArray
    report: FloatArray

    def charts(self, encoder: ChartEncoder, rows: Sequence[int], device: torch.device) -> ChartBatch:
        return tensors(encoder.vocabulary.charts([self.events[i] for i in rows], encoder.most), device)


def train_context(
    recipe: ContextRecipe, data_path: str | Path, encoder_path: str | Path, out: str | Path, device: torch.device, force: bool = False,
    progress: Progress = plain,
) -> None:  # fmt: skip
    """Train on the recordings of the train split that are coded or reported, and write the context folder.

    Raises:
        DataError: no events in the prepared folder, or no coded recordings in train or val.
        ConfigError: the encoder reads no ECGs.
        ArtifactError: `out` exists without force, or an input is damaged.
    """
    data, space = Prepared.open(data_path), load_space(encoder_path, device)
    if data.events is None:
        raise DataError(f"{data_path}: expected a prepared folder with events, got one without; join them first: regen prepare mimic-iv-ed")
    if space.ecg is None:
        raise ConfigError(f"{encoder_path}: expected an encoder that reads ECGs, this one reads {', '.join(space.modalities)}; choose another")
    inputs = {"data": data.digest, "events": data.events_digest, "encoder": space.fingerprint}
    with new_artifact(out, "context", recipe.model_dump(), inputs, force) as work:
        train, val = (load_material(data, name, space.ecg, work.scratch) for name in ("train", "val"))
        check_coded(train.recordings, val.recordings, data_path)
        vocabulary = ChartVocabulary.fit(train.events, recipe.least)
        if not vocabulary.numeric and len(vocabulary.categories) == 1:
            raise DataError(f"{data_path}: expected values or categories charted in {recipe.least} training studies, got none; set least lower")
        with seeded(epoch_seed(recipe.seed, "context", -1)):
            encoder = ChartEncoder(vocabulary, recipe, space.text.dim).to(device)
            fusion = Fusion(space.text.dim).to(device)
        curve = fit(encoder, fusion, train, val, recipe, work.scratch, device, progress)
        save_chart(work.path, encoder.cpu(), recipe)
        draw_curves({"context": curve}, work.path / "curves.png")
        work.manifest["fingerprint"] = space.fingerprint


def load_material(data: Prepared, split: str, towers: Towers, scratch: Path) -> Material:
    rows = data.split(split)
    recordings = load_recordings(data, rows, scratch, split)
    studies = with_context(data, [study_from(row, None, data.fs) for row in rows.to_dicts()])
    if not studies:
        return Material(recordings, [], np.zeros((0, towers.text.dim), np.float32), np.zeros((0, towers.text.dim), np.float32))
    ecg = towers.encode(np.asarray(recordings.signals), np.asarray(recordings.measures))[0]
    return Material(recordings, [study.events for study in studies], ecg, towers.text.encode(recordings.reports))


def fit(
    encoder: ChartEncoder, fusion: Fusion, train: Material, val: Material, recipe: ContextRecipe, scratch: Path, device: torch.device,
    progress: Progress,
) -> Curve:  # fmt: skip
    """Train in place for recipe.epochs; the encoder ends with its moving average."""
    modules: dict[str, nn.Module] = {"encoder": encoder, "fusion": fusion}
    optimizer = make_optimizer(modules, recipe.weight_decay)
    ema = Ema(encoder, recipe.ema)
    checkpoint = Checkpoint(scratch / "context.safetensors", modules, optimizer, ema)
    start = checkpoint.load()
    curve = Curve(scratch / "context.jsonl", start)
    groups = positive_groups(train.recordings)[:, 0]
    weights = torch.tensor([recipe.value_weight, recipe.category_weight, recipe.contrast_weight, recipe.statement_weight, recipe.consistency_weight])
    per_epoch = max(1, len(train.recordings) // recipe.batch)
    for epoch in progress(range(start, recipe.epochs), "context"):
        encoder.train()
        totals = torch.zeros(len(LOSSES))
        with seeded(epoch_seed(recipe.seed, "context", epoch)) as rng:
            for step, rows in enumerate(train.recordings.batches(recipe.batch, rng)):
                losses = _losses(encoder, fusion, train, rows.tolist(), torch.from_numpy(groups[rows]), recipe, rng, device)
                rate = one_cycle(epoch * per_epoch + step, recipe.epochs * per_epoch, recipe.rate)
                take_step(optimizer, (weights.to(device) * losses).sum(), rate)
                ema.update(encoder)
                totals += losses.detach().cpu()
        named = dict(zip(LOSSES, (totals / per_epoch).tolist(), strict=True))
        curve.add(**named, validation_statements=statement_loss(encoder, val, device))
        checkpoint.save(epoch + 1)
    ema.apply(encoder)
    encoder.eval()
    return curve


@torch.no_grad()
def statement_loss(encoder: ChartEncoder, part: Material, device: torch.device) -> float:
    """Binary cross-entropy of the statements from the whole charts of a split, mean over the catalogue."""
    encoder.eval()
    sums = [
        float(_statements(encoder(part.charts(encoder, rows, device)), part, rows)) * len(rows)
        for rows in (list(range(i, min(i + 256, len(part.events)))) for i in range(0, len(part.events), 256))
    ]
    return sum(sums) / max(1, len(part.events))


def _losses(
    encoder: ChartEncoder, fusion: Fusion, part: Material, rows: list[int], groups: Tensor, recipe: ContextRecipe, rng: np.random.Generator,
    device: torch.device,
) -> Tensor:  # fmt: skip
    """(5,) in the order of LOSSES."""
    whole = part.charts(encoder, rows, device)
    some, deaf = subset(whole, rng)
    hide = hidden_events(some, recipe.mask_share, rng)
    states = encoder.states(some, hide)
    seen, partly = encoder(whole), encoder.read(states, some.there)
    values, categories = masked_events(encoder.values(states[:, 1:]), encoder.categories(states[:, 1:]), whole, hide)
    told = [i for i, row in enumerate(rows) if part.recordings.reports[row]]
    report = torch.from_numpy(part.report[[rows[i] for i in told]]).to(device)
    positive = (groups[told][:, None] == groups[told][None]).to(device)
    scale = fusion.log_scale.clamp(*SCALE_LIMITS).exp()
    zero = torch.zeros((), device=device)
    contrast = sum((info_nce(report, view.vector[told], scale=scale, positive=positive) / 2 for view in (seen, partly)), zero) if told else zero
    statements = (_statements(seen, part, rows) + _statements(partly, part, rows)) / 2
    ecg = torch.from_numpy(part.ecg[rows]).to(device)
    heard = torch.ones(len(rows), dtype=torch.bool, device=device)
    full = fusion(ecg, seen.vector, heard, whole.there.any(1))
    masked = fusion(ecg, partly.vector, ~deaf.to(device), some.there.any(1))
    return torch.stack([values, categories, contrast, statements, consistency(fusion, full, masked)])


def _statements(seen: SeenChart, part: Material, rows: list[int]) -> Tensor:
    labels = torch.from_numpy(part.recordings.labels[rows])
    coded = ~torch.isnan(labels).any(1)
    if not coded.any():
        return seen.logits.sum() * 0
    return F.binary_cross_entropy_with_logits(seen.logits[coded.to(seen.logits.device)], labels[coded].to(seen.logits.device))
