"""The losses of the shared space and of pre-training. All are means, in nats or in squared signal units."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(query: Tensor, key: Tensor, *, scale: Tensor | float, positive: Tensor | None = None) -> Tensor:
    """Symmetric contrastive loss with many positives a row, for towers that meet in one space.

    With the identity as `positive` (the default) this is InfoNCE (van den Oord et al. 2018; CLIP); with pairs of the same label it is
    UniCL (Yang et al. 2022): the target of a row is spread evenly over its positives, so that a second normal ECG in the batch
    is no negative of a normal report.

    Args:
        query, key: (n, dim) unit vectors, row i of one belongs to row i of the other.
        scale: inverse temperature, multiplied into the cosines.
        positive: (n, n) bool, True where query i and key j count as a match; the diagonal must be True.

    Returns:
        Scalar, nats: the mean of both directions.
    """
    logits = scale * query @ key.T
    if positive is None:
        positive = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    target = positive.to(logits.dtype)
    rows = -(target / target.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
    columns = -(target / target.sum(0, keepdim=True) * logits.log_softmax(0)).sum(0).mean()
    return (rows + columns) / 2


def masked_patches(predicted: Tensor, signal: Tensor, hidden: Tensor, limit: float = 25.0) -> Tensor:
    """Reconstruction error of the patches that were hidden, over the leads that are there (masked autoencoding, He et al. 2022).

    Args:
        predicted: (b, n, 12 * patch) in the encoder's units.
        signal: (b, 12, n * patch), the same units, NaN where missing.
        hidden: (b, n) bool, True where the encoder did not see the patch.
        limit: an error is counted up to this square, so that one artefact does not rule a batch.
    """
    b, n, _ = predicted.shape
    target = signal.view(b, 12, n, -1).transpose(1, 2).flatten(2)
    known = ~torch.isnan(target) & hidden[..., None]
    error = (predicted - torch.nan_to_num(target)).square().clamp(max=limit)
    return (error * known).sum() / known.sum().clamp_min(1)


def masked_regression(predicted: Tensor, target: Tensor) -> Tensor:
    """Smooth L1 over the entries of `target` that are not NaN. Both (b, k)."""
    known = ~torch.isnan(target)
    error = F.smooth_l1_loss(predicted, torch.nan_to_num(target), reduction="none")
    return (error * known).sum() / known.sum().clamp_min(1)


def match_loss(logits: Tensor) -> Tensor:
    """ECG-text matching (ALBEF, Li et al. 2021; ECG-ReGen): the first half of `logits` (2n,) are true pairs, the rest are not."""
    n = len(logits) // 2
    target = torch.cat([torch.ones(n), torch.zeros(len(logits) - n)]).to(logits)
    return F.binary_cross_entropy_with_logits(logits, target)
