"""Soft prompts: the study and the retrieved cases as a fixed number of vectors in the language model's input space.

    soft = SoftPrompt(encoder_width=256, report_dim=256, model_width=256, recipe)
    prefix = soft(tokens, reports, scores)        (b, study_tokens + neighbours * neighbour_tokens, model_width)

The encoder's tokens are resampled by learned queries (Perceiver; a fixed number beats raw tokens, OpenTSLM), and each retrieved report is a
few tokens made of its vector, its rank and its score. With a chart encoder (regen.encoders.chart_encoder), whose copy here goes on learning with the
writer, the events of the patient's chart are resampled to `context_tokens` more. A study, a retrieval or a chart that is missing is a learned
vector, never zero.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from regen.encoders.chart_encoder import ChartBatch, ChartEncoder
from regen.generators.recipe import WriterRecipe


class SoftPrompt(nn.Module):
    """encoder_width: of the encoder's tokens; report_dim: of report vectors; model_width: of the language model's embeddings."""

    def __init__(
        self, encoder_width: int, report_dim: int, model_width: int, recipe: WriterRecipe, scale: float = 0.02, chart: ChartEncoder | None = None
    ) -> None:
        super().__init__()
        self.study_tokens = recipe.study_tokens
        self.neighbours = recipe.neighbours if recipe.neighbour_tokens else 0
        self.each = recipe.neighbour_tokens
        self.scale = scale
        self.queries = nn.Parameter(torch.randn(recipe.study_tokens, encoder_width) * 0.02)
        self.resample = nn.MultiheadAttention(encoder_width, 4, batch_first=True)
        self.norm_in = nn.LayerNorm(encoder_width)
        self.out = nn.Sequential(nn.LayerNorm(encoder_width), nn.Linear(encoder_width, model_width), nn.GELU(), nn.Linear(model_width, model_width))
        self.no_study = nn.Parameter(torch.randn(recipe.study_tokens, model_width))
        self.report = nn.Linear(report_dim, max(1, self.each) * model_width)
        self.rank = nn.Embedding(max(1, recipe.neighbours), model_width)
        self.score = nn.Sequential(nn.Linear(1, 32), nn.GELU(), nn.Linear(32, model_width))
        self.no_case = nn.Parameter(torch.randn(model_width))
        self.norm = nn.LayerNorm(model_width)
        self.context = ContextPrompt(chart, recipe.context_tokens, model_width) if chart is not None and recipe.context_tokens else None

    @property
    def length(self) -> int:
        return self.study_tokens + self.neighbours * self.each + (len(self.context.no_context) if self.context is not None else 0)

    def forward(self, tokens: Tensor, reports: Tensor, scores: Tensor, charts: ChartBatch | None = None) -> Tensor:
        """tokens: (b, t, encoder_width), zero rows where nothing was heard; reports: (b, k, report_dim); scores: (b, k) cosines, NaN where
        there is no case; charts: of the patients, where the writer reads them. Returns (b, length, model_width)."""
        parts = []
        if self.study_tokens:
            parts.append(self._study(tokens.float()))
        if self.neighbours:
            parts.append(self._cases(reports.float(), scores.float()))
        if self.context is not None and charts is not None:
            parts.append(self.context(charts))
        if not parts:
            return tokens.new_zeros(len(tokens), 0, self.no_case.shape[0])
        return self.norm(torch.cat(parts, 1)) * self.scale

    def _study(self, tokens: Tensor) -> Tensor:
        empty = (tokens == 0).all(-1)
        nothing = empty.all(1)
        hidden = empty & ~nothing[:, None]
        keys = self.norm_in(tokens)
        read, _ = self.resample(self.queries.expand(len(tokens), -1, -1), keys, keys, key_padding_mask=hidden, need_weights=False)
        return torch.where(nothing[:, None, None], self.no_study, self.out(read + self.queries))

    def _cases(self, reports: Tensor, scores: Tensor) -> Tensor:
        b, k = scores.shape
        there = ~torch.isnan(scores)
        rank = self.rank.weight[:k]
        case = (
            self.report(reports).view(b, k, self.each, len(self.no_case))
            + rank[None, :, None]
            + self.score(scores.nan_to_num()[..., None])[:, :, None]
        )
        case = torch.where(there[..., None, None], case, self.no_case)
        if k < self.neighbours:
            case = torch.cat([case, self.no_case.expand(b, self.neighbours - k, self.each, -1)], 1)
        return case.flatten(1, 2)


class ContextPrompt(nn.Module):
    """ChartBatch -> (b, n, model_width): latent queries over the events' tokens, as the study's; a learned vector each where nothing was charted."""

    def __init__(self, chart: ChartEncoder, n: int, model_width: int) -> None:
        super().__init__()
        width = chart.width
        self.chart = copy.deepcopy(chart).requires_grad_(True)
        for unused in ("project", "statements", "values", "categories"):
            delattr(self.chart, unused)
        self.queries = nn.Parameter(torch.randn(n, width) * 0.02)
        self.resample = nn.MultiheadAttention(width, 4, batch_first=True)
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, model_width), nn.GELU(), nn.Linear(model_width, model_width))
        self.no_context = nn.Parameter(torch.randn(n, model_width))

    def forward(self, charts: ChartBatch) -> Tensor:
        states = self.chart.states(charts)
        hidden = nn.functional.pad(~charts.there, (1, 0), value=False)
        read, _ = self.resample(self.queries.expand(len(states), -1, -1), states, states, key_padding_mask=hidden, need_weights=False)
        nothing = ~charts.there.any(1)
        return torch.where(nothing[:, None, None], self.no_context, self.out(read + self.queries))
