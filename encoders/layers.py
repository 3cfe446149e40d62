"""The transformer block that every tower here is made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Pre-norm transformer block with stochastic depth (Huang et al. 2016) and DropKey (Li et al. 2023; MoRE).

    drop_key: share of the keys that a query does not see, drawn anew for every query, head and step while training. Attention is written out
    on the CPU, where the fused kernel's backward is several times slower than three products.
    """

    def __init__(self, width: int, heads: int, drop_path: float = 0.0, drop_key: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.drop_path = drop_path
        self.drop_key = drop_key
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: (b, n, width); mask: (b, n) bool, True where a token is there, or None when all are. Returns (b, n, width)."""
        x = x + self._path(self.out(self._attend(self.norm1(x), mask)))
        return x + self._path(self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh")))

    def _attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        b, n, width = x.shape
        query, key, value = self.qkv(x).view(b, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        bias = None if mask is None else mask[:, None, None, :]
        if self.training and self.drop_key:
            seen = keys_seen((b, self.heads, n, n), self.drop_key, x.device)
            bias = seen if bias is None else seen & bias
        if x.is_cuda:
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        else:
            scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
            if bias is not None:
                scores = scores.masked_fill(~bias, -1e4)
            mixed = scores.softmax(-1) @ value
        return mixed.transpose(1, 2).reshape(b, n, width)

    def _path(self, x: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return x
        keep = torch.rand(len(x), 1, 1, device=x.device) >= self.drop_path
        return x * (keep / (1 - self.drop_path)).to(x.dtype)


def keys_seen(shape: tuple[int, ...], share: float, device: torch.device) -> Tensor:
    """(..., queries, keys) bool for DropKey: False for a random share of the keys; a query always sees itself."""
    seen = torch.rand(shape, device=device) >= share
    return seen | torch.eye(shape[-2], shape[-1], dtype=torch.bool, device=device)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens that are there. x: (b, n, width); mask: (b, n) bool. Zero where none is."""
    weight = mask.to(x.dtype)[..., None]
    return (x * weight).sum(1) / weight.sum(1).clamp_min(1)


def masked_max(x: Tensor, mask: Tensor) -> Tensor:
    """Maximum over the tokens that are there. x: (b, n, width); mask: (b, n) bool. Zero where none is."""
    return x.masked_fill(~mask[..., None], -1e4).amax(1).masked_fill(~mask.any(1, keepdim=True), 0)
