"""A small transformer over the events of a chart: tokens for a writer, a vector in the space of the reports, statements the chart alone suggests.

    encoder = ChartEncoder(vocabulary, ContextRecipe())
    seen = encoder(tensors(vocabulary.charts([study.events], most=32)))     seen.tokens (1, e, width), seen.vector (1, dim), seen.logits (1, 71)

An event is one token: values and their mask beside the categories -> Linear -> SiLU -> Linear (the grouped embedding of CXRMate-ED), plus its
source, plus an MLP of 1 / sqrt(hours + 1), or a learned vector where the time is missing. A study without a chart is the learned first token
alone. Two heads say what a hidden event held.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from regen.artifact import load_manifest
from regen.data_prep.statements import CODES
from regen.encoders.chart import SOURCES, Charts, ChartVocabulary
from regen.encoders.context_recipe import ContextRecipe
from regen.encoders.layers import Block
from regen.encoders.store import compact, fill
from regen.study import Event, FloatArray

CHART_FILES = ("chart.safetensors", "vocabulary.json", "chart.json")
"""What `save_chart` writes."""


@dataclass(frozen=True, slots=True, eq=False)
class ChartBatch:
    """Charts as tensors. values: (b, e, numeric), present: the same; categories: (b, e, c), floats; source: (b, e), -1 for none; hours: (b, e)."""

    values: Tensor
    present: Tensor
    categories: Tensor
    source: Tensor
    hours: Tensor

    @property
    def there(self) -> Tensor:
        """(b, e) bool: an event is there."""
        return self.source >= 0

    def without(self, dropped: Tensor) -> ChartBatch:
        """dropped: (b, e) bool, events that the model shall not know of."""
        return replace(self, source=self.source.masked_fill(dropped, -1))


@dataclass(frozen=True, slots=True, eq=False)
class SeenChart:
    """tokens: (b, e, width), zero where there is no event; vector: (b, dim) unit length; logits: (b, 71)."""

    tokens: Tensor
    vector: Tensor
    logits: Tensor


def tensors(charts: Charts, device: torch.device | str = "cpu") -> ChartBatch:
    values, present, categories = (torch.from_numpy(x).float() for x in (charts.values, charts.present, charts.categories))
    return ChartBatch(*(x.to(device) for x in (values, present, categories, torch.from_numpy(charts.source), torch.from_numpy(charts.hours))))


class EventEmbedding(nn.Module):
    """ChartBatch -> (b, e, width): what an event holds, of which source it is, and when it was."""

    def __init__(self, numeric: int, categories: int, width: int) -> None:
        super().__init__()
        self.content = nn.Sequential(nn.Linear(2 * numeric + categories, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
        self.source = nn.Embedding(len(SOURCES), width)
        self.time = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))
        self.no_time = nn.Parameter(torch.randn(width) * 0.02)
        self.hidden = nn.Parameter(torch.randn(width) * 0.02)

    def forward(self, batch: ChartBatch, hide: Tensor | None = None) -> Tensor:
        """hide: (b, e) bool, events whose content is replaced by a learned vector."""
        content = self.content(torch.cat([batch.values * batch.present, batch.present, batch.categories], -1))
        if hide is not None:
            content = torch.where(hide[..., None], self.hidden, content)
        known = ~torch.isnan(batch.hours)
        since = (batch.hours.nan_to_num().clamp_min(0) + 1).rsqrt()[..., None]
        time = torch.where(known[..., None], self.time(since), self.no_time)
        return content + self.source(batch.source.clamp_min(0)) + time


class ChartEncoder(nn.Module):
    """See the module."""

    modality = "chart"

    def __init__(self, vocabulary: ChartVocabulary, recipe: ContextRecipe, dim: int) -> None:
        super().__init__()
        self.vocabulary, self.most, self.width, self.dim = vocabulary, recipe.events, recipe.width, dim
        numeric, categories = len(vocabulary.numeric), len(vocabulary.categories)
        self.embed = EventEmbedding(numeric, categories, recipe.width)
        self.first = nn.Parameter(torch.randn(recipe.width) * 0.02)
        self.blocks = nn.ModuleList(Block(recipe.width, recipe.heads, recipe.drop_path) for _ in range(recipe.depth))
        self.norm = nn.LayerNorm(recipe.width)
        self.project = nn.Linear(recipe.width, dim)
        self.statements = nn.Linear(recipe.width, len(CODES))
        self.values = nn.Linear(recipe.width, numeric)
        self.categories = nn.Linear(recipe.width, categories)

    def states(self, batch: ChartBatch, hide: Tensor | None = None) -> Tensor:
        """(b, 1 + e, width): the chart's state, then every event's."""
        events = self.embed(batch, hide)
        x = torch.cat([self.first.expand(len(events), 1, -1), events], 1)
        mask = F.pad(batch.there, (1, 0), value=True)
        for block in self.blocks:
            x = block(x, mask)
        out: Tensor = self.norm(x)
        return out

    def read(self, states: Tensor, there: Tensor) -> SeenChart:
        """What the states say; there: (b, e) bool."""
        vector = F.normalize(self.project(states[:, 0]), dim=-1)
        return SeenChart(states[:, 1:].masked_fill(~there[..., None], 0), vector, self.statements(states[:, 0]))

    def forward(self, batch: ChartBatch, hide: Tensor | None = None) -> SeenChart:
        return self.read(self.states(batch, hide), batch.there)


@torch.no_grad()
def chart_logits(encoder: ChartEncoder, charts: Sequence[Sequence[Event]], batch: int = 512) -> FloatArray:
    """(n, 71) what each chart alone suggests of the statements; rows of NaN where nothing was charted."""
    out = []
    for start in range(0, len(charts), batch):
        given = tensors(encoder.vocabulary.charts(charts[start : start + batch], encoder.most), encoder.first.device)
        out.append(encoder(given).logits.masked_fill(~given.there.any(1, keepdim=True), float("nan")).cpu().numpy())
    return np.concatenate(out) if out else np.zeros((0, len(CODES)), np.float32)


def save_chart(folder: Path, encoder: ChartEncoder, recipe: ContextRecipe) -> None:
    """Weights, vocabulary and recipe into a folder."""
    save_file(compact(encoder), folder / "chart.safetensors")
    encoder.vocabulary.save(folder / "vocabulary.json")
    (folder / "chart.json").write_text(json.dumps({"recipe": recipe.model_dump(), "dim": encoder.dim}, indent=1))


def read_chart(folder: Path) -> ChartEncoder:
    """What `save_chart` wrote, in eval mode, its files unchecked: of a folder whose manifest was."""
    stored = json.loads((folder / "chart.json").read_text())
    encoder = ChartEncoder(ChartVocabulary.load(folder / "vocabulary.json"), ContextRecipe(**stored["recipe"]), int(stored["dim"]))
    fill(encoder, folder / "chart.safetensors")
    return encoder.eval()


def load_chart(folder: str | Path) -> tuple[ChartEncoder, str]:
    """A folder of regen train context, checked: its encoder and the fingerprint of the report space it was trained in.

    Raises:
        ArtifactError: not such a folder, or a damaged one.
    """
    manifest = load_manifest(folder, "context")
    return read_chart(Path(folder)), str(manifest["fingerprint"])
