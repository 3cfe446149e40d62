"""The losses of the chart encoder, and what a training step hides.

part, ecg = subset(batch, rng)                     a view of the charts with a random subset of their sources, and of the recordings
values, categories = masked_events(...)            what the hidden events held
consistency(fusion, whole, part)                   the fused view of parts agrees with that of the whole
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regen.encoders.chart import SOURCES
from regen.encoders.chart_encoder import ChartBatch

DROPPED = (*SOURCES, "ecg")
"""What modality dropout hides, each on its own: every subset occurs."""


def subset(batch: ChartBatch, rng: np.random.Generator) -> tuple[ChartBatch, Tensor]:
    """A random subset of the sources of each study. Returns the charts without the others, and (b,) bool, whether the ECG is hidden."""
    gone = torch.from_numpy(rng.random((len(batch.source), len(DROPPED))) < rng.random((len(batch.source), 1))).to(batch.source.device)
    dropped = gone[:, : len(SOURCES)].gather(1, batch.source.clamp_min(0))
    return batch.without(dropped), gone[:, -1]


def hidden_events(batch: ChartBatch, share: float, rng: np.random.Generator) -> Tensor:
    """(b, e) bool: a random share of the events that are there."""
    return torch.from_numpy(rng.random(tuple(batch.source.shape)) < share).to(batch.source.device) & batch.there


def masked_events(values: Tensor, categories: Tensor, batch: ChartBatch, hide: Tensor) -> tuple[Tensor, Tensor]:
    """Masked-event modelling. Mean squared error over the values that hidden events held (a missing one is no target), and mean binary
    cross-entropy over their categories. values: (b, e, numeric), categories: (b, e, c) logits; hide: (b, e) bool."""
    known = batch.present * hide[..., None]
    error = ((values - batch.values).square() * known).sum() / known.sum().clamp_min(1)
    entropy = F.binary_cross_entropy_with_logits(categories, batch.categories, reduction="none").mean(-1)
    return error, (entropy * hide).sum() / hide.sum().clamp_min(1)


class Fusion(nn.Module):
    """ECG vector and chart vector -> one view of the study, (b, dim); a learned vector stands for a part that is hidden or not there.

    Only training uses it: with `predict` it is the pair of projector and predictor of SimSiam (Chen and He, 2021). log_scale: of the contrast.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.no_ecg = nn.Parameter(torch.randn(dim) * dim**-0.5)
        self.no_chart = nn.Parameter(torch.randn(dim) * dim**-0.5)
        self.project = nn.Sequential(nn.Linear(2 * dim, dim), nn.GELU(), nn.Linear(dim, dim))
        self.predict = nn.Sequential(nn.Linear(dim, dim // 2), nn.GELU(), nn.Linear(dim // 2, dim))
        self.log_scale = nn.Parameter(torch.tensor(float(np.log(1 / 0.07))))

    def forward(self, ecg: Tensor, chart: Tensor, has_ecg: Tensor, has_chart: Tensor) -> Tensor:
        """ecg, chart: (b, dim); has_ecg, has_chart: (b,) bool."""
        ecg = torch.where(has_ecg[:, None], ecg, self.no_ecg)
        chart = torch.where(has_chart[:, None], chart, self.no_chart)
        out: Tensor = self.project(torch.cat([ecg, chart], 1))
        return out


def consistency(fusion: Fusion, whole: Tensor, part: Tensor) -> Tensor:
    """Masked-multimodal consistency (LANISTR, Ebrahimi et al. 2023): negative cosine between the predicted view of one and the other, which gets
    no gradient, in both directions. whole, part: (b, dim) of Fusion. In [-1, 1]."""
    forth = F.cosine_similarity(fusion.predict(whole), part.detach(), dim=-1)
    back = F.cosine_similarity(fusion.predict(part), whole.detach(), dim=-1)
    return -(forth + back).mean() / 2
