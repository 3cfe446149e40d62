"""The ECG encoder: a convolutional patch stem, a transformer over time, one unit vector and its tokens.

    encoder = EcgEncoder(EcgConfig())
    tokens, mask = encoder.tokens(signal)      signal (b, 12, 1000) mV at 100 Hz, NaN where missing -> (b, 63, 256), (b, 63)
    embedding = encoder(signal)                (b, 256), unit length, float32

A patch is 16 samples (0.16 s) of all leads. The stem is residual and convolutional, because two thousand recordings are too few
for a linear patch embedding to learn what a QRS is; which leads are there enters beside the samples, so a missing lead is not a flat one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from regen.config import Config
from regen.encoders.layers import Block, masked_max, masked_mean

PATCH = 16
"""Samples a token covers."""
MILLIVOLTS = 0.25
"""Signals are divided by this many millivolts and clipped at +-20: about unit variance for a normal ECG."""


def in_units(signal: Tensor) -> Tensor:
    """Millivolts -> the encoder's units, clipped; NaN stays."""
    return (signal / MILLIVOLTS).clamp(-20, 20)


class EcgConfig(Config):
    """Shape of the encoder. fs in Hz, seconds: the longest recording it takes; dim: of the embedding."""

    width: int = Field(256, gt=0, multiple_of=32)
    depth: int = Field(3, ge=1)
    heads: int = Field(4, ge=1)
    channels: tuple[int, int, int] = (64, 128, 192)
    dim: int = Field(256, gt=0)
    fs: float = Field(100.0, ge=100)
    seconds: float = Field(10.0, gt=0)
    drop_path: float = Field(0.1, ge=0, lt=1)


class Residual(nn.Module):
    """Two convolutions with batch norm and a shortcut; the first one thins time by `stride`."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(inside, outside, 7, stride, 3, bias=False)
        self.norm1 = nn.BatchNorm1d(outside)
        self.conv2 = nn.Conv1d(outside, outside, 7, 1, 3, bias=False)
        self.norm2 = nn.BatchNorm1d(outside)
        same = inside == outside and stride == 1
        self.short = nn.Identity() if same else nn.Sequential(nn.Conv1d(inside, outside, 1, stride, bias=False), nn.BatchNorm1d(outside))

    def forward(self, x: Tensor) -> Tensor:
        """(b, inside, time) -> (b, outside, ceil(time / stride))."""
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.short(x))


class EcgEncoder(nn.Module):
    """See the module. Seams: `tokens`, `features`, `forward`; `modality` and `dim` say what it embeds and how wide."""

    modality = "ecg"

    def __init__(self, config: EcgConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.dim
        a, b, c = config.channels
        self.first = nn.Conv1d(12, a, 11, 2, 5, bias=False)
        self.leads = nn.Linear(12, a)
        self.norm = nn.BatchNorm1d(a)
        self.stages = nn.Sequential(Residual(a, a, 1), Residual(a, b, 2), Residual(b, c, 2))
        self.patch = nn.Conv1d(c, config.width, 3, 2, 1)
        count = -(-round(config.fs * config.seconds) // PATCH)
        self.position = nn.Parameter(torch.randn(count, config.width) * 0.02)
        paths = torch.linspace(0, config.drop_path, config.depth).tolist()
        self.blocks = nn.ModuleList([Block(config.width, config.heads, path) for path in paths])
        self.last = nn.LayerNorm(config.width)
        self.project = nn.Linear(2 * config.width, config.dim)

    @property
    def feature_width(self) -> int:
        return 2 * self.config.width

    def tokens(self, signal: Tensor, first: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tokens of a recording or of a window of it.

        signal: (b, 12, time) mV at config.fs, NaN where missing; first: (b,) the patch at which each window starts, None for the
        beginning. Returns (b, n, width) and (b, n) bool, True where at least one lead was heard.
        """
        there = ~torch.isnan(signal)
        x = torch.nan_to_num(in_units(signal))
        heard = there.any(1)
        leads = there.float().sum(2) / heard.sum(1, keepdim=True).clamp_min(1)
        x = F.relu(self.norm(self.first(x) + self.leads(leads)[..., None]))
        x = self.patch(self.stages(x)).transpose(1, 2)
        mask = F.max_pool1d(heard[:, None].float(), PATCH, PATCH, ceil_mode=True)[:, 0] > 0
        at = torch.arange(x.shape[1], device=x.device)
        x = x + (self.position[at][None] if first is None else self.position[first[:, None] + at])
        full = bool(mask.all())
        for block in self.blocks:
            x = block(x, None if full else mask)
        return self.last(x), mask

    def features(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Mean and maximum over the tokens: (b, 2 * width)."""
        return torch.cat([masked_mean(tokens, mask), masked_max(tokens, mask)], 1)

    def embed(self, features: Tensor) -> Tensor:
        """(b, 2 * width) -> (b, dim), unit length, float32."""
        return F.normalize(self.project(features).float(), dim=1)

    def forward(self, signal: Tensor) -> Tensor:
        """signal: (b, 12, time) mV, NaN where missing. Returns (b, dim) unit vectors, float32."""
        return self.embed(self.features(*self.tokens(signal)))
