"""The ECG encoder as it is used on a CPU with fast bfloat16: the same function, several times as fast.

    fast = FastEcg(encoder)
    tokens, mask = fast.tokens(signal)         (b, 12, 1000) mV, NaN where missing -> (b, 63, 256) bfloat16, (b, 63)

A copy of the weights, made once: batch norms folded into the convolutions, everything in bfloat16, channels last, no autocast. Tokens
are filled up to a multiple of 32 inside, because the CPU's softmax and small products lose a factor of three on 63 columns. What it
computes in another way is below bfloat16's own rounding (the exact GELU for the tanh form); `EcgEncoder` in float32 is its oracle.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regen.encoders.ecg import MILLIVOLTS, PATCH, EcgEncoder, Residual
from regen.encoders.fused import add_convolved_, convolve, linear
from regen.encoders.layers import Block

_ROUND = 32
"""Tokens are filled up to a multiple of this."""
_ROWS = 16
"""Recordings that pass through at once: what lies between the layers then stays in a core's cache, and its memory is used again instead
of being handed back to the system and zeroed anew, which costs as much as all products together."""
_CLIP = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class _Conv:
    """A convolution over time with its batch norm folded in; signals are (b, channels, 1, time), channels last."""

    weight: Tensor
    bias: Tensor
    stride: int
    padding: int

    @classmethod
    def of(cls, conv: nn.Conv1d, norm: nn.BatchNorm1d | None, dtype: torch.dtype, scale: float = 1.0) -> _Conv:
        weight = conv.weight.detach() * scale
        bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach()
        if norm is not None:
            gain, shift = affine(norm)
            weight, bias = weight * gain[:, None, None], bias * gain + shift
        laid = weight[:, :, None].to(dtype).contiguous(memory_format=torch.channels_last)
        return cls(laid, bias.to(dtype), int(conv.stride[0]), int(conv.padding[0]))  # type: ignore[arg-type]

    def __call__(self, x: Tensor, relu: bool = False) -> Tensor:
        return convolve(x, self.weight, self.bias, self.stride, self.padding, relu)

    def add_(self, x: Tensor, onto: Tensor) -> Tensor:
        """onto = relu(onto + what it makes of x)."""
        return add_convolved_(x, onto, self.weight, self.bias, self.stride, self.padding)


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """Two convolutions and a shortcut."""

    first: _Conv
    second: _Conv
    short: _Conv | None

    @classmethod
    def of(cls, stage: Residual, dtype: torch.dtype) -> _Stage:
        def folded(conv: nn.Module, norm: nn.Module) -> _Conv:
            assert isinstance(conv, nn.Conv1d)
            assert isinstance(norm, nn.BatchNorm1d)
            return _Conv.of(conv, norm, dtype)

        short = folded(*stage.short) if isinstance(stage.short, nn.Sequential) else None
        return cls(folded(stage.conv1, stage.norm1), folded(stage.conv2, stage.norm2), short)

    def __call__(self, x: Tensor) -> Tensor:
        y = self.first(x, relu=True)
        return self.second.add_(y, x if self.short is None else self.short(x))


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """A transformer block; the attention's scale is folded into the query weights."""

    heads: int
    norm1: tuple[Tensor, Tensor]
    qkv: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    norm2: tuple[Tensor, Tensor]
    up: tuple[Tensor, Tensor]
    down: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, block: Block, dtype: torch.dtype) -> _Layer:
        def taken(module: nn.Linear | nn.LayerNorm, gain: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
            weight, bias = module.weight.detach(), module.bias.detach()
            weight = weight * (gain[:, None] if isinstance(gain, Tensor) else gain)
            return weight.to(dtype).contiguous(), (bias * gain).to(dtype)

        width = block.out.in_features
        scale = torch.ones(3 * width, device=block.out.weight.device)
        scale[:width] = (width // block.heads) ** -0.5
        return cls(block.heads, taken(block.norm1), taken(block.qkv, scale), taken(block.out), taken(block.norm2), taken(block.up), taken(block.down))

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x: (b, n, width), changed in place; bias: (b or 1, 1, n) added to the scores, or None."""
        width = (x.shape[-1],)
        x += linear(self._attend(linear(F.layer_norm(x, width, *self.norm1), *self.qkv), bias), *self.out)
        x += linear(linear(F.layer_norm(x, width, *self.norm2), *self.up, gelu=True), *self.down)
        return x

    def _attend(self, qkv: Tensor, bias: Tensor | None) -> Tensor:
        b, n, three = qkv.shape
        query, key, value = qkv.view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
        return mixed.transpose(1, 2).reshape(b, n, three // 3)


class FastEcg:
    """See the module. Only for use: it has no gradients, and does not follow the encoder when that is trained further."""

    def __init__(self, encoder: EcgEncoder, dtype: torch.dtype = torch.bfloat16) -> None:
        self.dtype = dtype
        gain, _ = affine(encoder.norm)
        self.first = _Conv.of(encoder.first, encoder.norm, dtype, 1 / MILLIVOLTS)
        self.leads = (encoder.leads.weight.detach() * gain[:, None], encoder.leads.bias.detach() * gain)
        whole = self.leads[0].sum(1) + self.leads[1]
        self.first_of_all_leads = replace(self.first, bias=(affine(encoder.norm)[1] + whole).to(dtype))
        self.stages = [_Stage.of(stage, dtype) for stage in encoder.stages if isinstance(stage, Residual)]
        self.patch = _Conv.of(encoder.patch, None, dtype)
        self.position = encoder.position.detach().to(dtype)
        self.layers = [_Layer.of(block, dtype) for block in encoder.blocks if isinstance(block, Block)]
        self.last = (encoder.last.weight.detach().to(dtype), encoder.last.bias.detach().to(dtype))

    @torch.no_grad()
    def tokens(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """As EcgEncoder.tokens, for whole recordings. signal: (b, 12, time) float32 mV. Returns (b, n, width) of `dtype`, (b, n) bool."""
        parts = [self._tokens(part) for part in signal.split(_ROWS)]
        return torch.cat([states for states, _ in parts]), torch.cat([mask for _, mask in parts])

    def _tokens(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        x, mask = self._begin(signal)
        for stage in self.stages:
            x = stage(x)
        x = self.patch(x)[:, :, 0].transpose(1, 2)
        b, n, width = x.shape
        filled = -(-n // _ROUND) * _ROUND
        states = x.new_zeros(b, filled, width)
        torch.add(x, self.position[:n], out=states[:, :n])
        bias = self._bias(mask, filled)
        for layer in self.layers:
            states = layer(states, bias)
        return F.layer_norm(states[:, :n], (width,), *self.last), mask

    def _begin(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """First convolution and the lead mask. Returns (b, channels, 1, time / 2) and the token mask (b, n)."""
        b, leads, time = signal.shape
        count = -(-time // PATCH)
        weight, shift = self.leads
        if bool(torch.isfinite(signal.sum())):
            mask = torch.ones(b, count, dtype=torch.bool, device=signal.device)
            extra = None
        else:
            there = ~torch.isnan(signal)
            heard = there.any(1)
            share = there.float().sum(2) / heard.sum(1, keepdim=True).clamp_min(1)
            mask = F.max_pool1d(heard[:, None].float(), PATCH, PATCH, ceil_mode=True)[:, 0] > 0
            extra = F.linear(share, weight, shift)
            signal = torch.nan_to_num(signal)
        limit = _CLIP * MILLIVOLTS
        x = torch.empty((b, leads, 1, time), dtype=self.dtype, device=signal.device, memory_format=torch.channels_last)
        x[:, :, 0] = signal.clamp(-limit, limit)
        if extra is None:
            return self.first_of_all_leads(x, relu=True), mask
        return self.first(x).add_(extra[:, :, None, None].to(self.dtype)).relu_(), mask

    def _bias(self, mask: Tensor, filled: int) -> Tensor | None:
        """(b or 1, 1, 1, filled): very low where a key is filling or was not heard; None where all were heard and nothing was filled."""
        n = mask.shape[1]
        if bool(mask.all()):
            if filled == n:
                return None
            mask = mask[:1]
        bias = torch.full((len(mask), 1, 1, filled), -1e4, dtype=self.dtype, device=mask.device)
        bias[..., :n].masked_fill_(mask[:, None, None], 0.0)
        return bias


def affine(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Gain and shift that a batch norm in eval mode multiplies and adds, (channels,) each."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
    return gain, norm.bias.detach() - norm.running_mean * gain
