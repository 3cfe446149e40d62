"""Products with what follows them, in one pass over the result, on a CPU in bfloat16.

    linear(x, weight, bias, gelu=True)        convolve(x, weight, bias, stride, padding, relu=True)
    add_convolved_(x, onto, ...)              onto = relu(onto + convolution), in place

torch's own compiler emits these oneDNN calls; they have no public name, so they are tried once against the plain ones (`available`) and the
plain ones stand in for them elsewhere. Convolutions are over (b, channels, 1, time), channels last.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def linear(x: Tensor, weight: Tensor, bias: Tensor, gelu: bool = False) -> Tensor:
    """x: (..., inside); weight: (outside, inside). Returns (..., outside)."""
    if x.dtype == torch.bfloat16 and available():
        return _linear(x, weight, bias, gelu)
    out = F.linear(x, weight, bias)
    return F.gelu(out) if gelu else out


def convolve(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, relu: bool = False) -> Tensor:
    """x: (b, inside, 1, time); weight: (outside, inside, 1, taps). Returns (b, outside, 1, steps)."""
    if relu and x.dtype == torch.bfloat16 and available():
        return _convolve(x, weight, bias, stride, padding)
    out = F.conv2d(x, weight, bias, (1, stride), (0, padding))
    return out.relu_() if relu else out


def add_convolved_(x: Tensor, onto: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """The same added to `onto`, which is overwritten with the rectified sum and returned."""
    if x.dtype == torch.bfloat16 and available():
        return _add_convolved_(x, onto, weight, bias, stride, padding)
    return onto.add_(F.conv2d(x, weight, bias, (1, stride), (0, padding))).relu_()


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether this torch has the fused calls, and they give what the plain ones give."""
    x = torch.linspace(-2, 2, 2 * 16 * 8).view(2, 16, 1, 8).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    weight = torch.linspace(-0.5, 0.6, 16 * 16 * 3).view(16, 16, 1, 3).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    bias, flat, square = torch.linspace(-1, 1, 16).to(torch.bfloat16), x[:, :, 0].transpose(1, 2).contiguous(), weight[:, :, 0, 0].contiguous()
    convolved = F.conv2d(x, weight, bias, (1, 1), (0, 1))
    try:
        pairs = [
            (_linear(flat, square, bias, False), F.linear(flat, square, bias)),
            (_linear(flat, square, bias, True), F.gelu(F.linear(flat, square, bias))),
            (_convolve(x, weight, bias, 1, 1), convolved.relu()), (_add_convolved_(x, x.clone(), weight, bias, 1, 1), (x + convolved).relu()),
        ]  # fmt: skip
    except (AttributeError, RuntimeError, TypeError):
        return False
    return all(got.shape == wanted.shape and torch.allclose(got, wanted, rtol=0.02, atol=0.05) for got, wanted in pairs)


def _linear(x: Tensor, weight: Tensor, bias: Tensor, gelu: bool) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu" if gelu else "none", [], "none" if gelu else "")
    return out


def _convolve(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    out: Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *_where(stride, padding), "relu", [], "")
    return out


def _add_convolved_(x: Tensor, onto: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    out: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(onto, x, weight, bias, *_where(stride, padding), "add", 1.0, "relu", [], None)
    return out


def _where(stride: int, padding: int) -> tuple[Any, ...]:
    return (0, padding), (1, stride), (1, 1), 1
