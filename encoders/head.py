"""From the encoder's features and the measurements to calibrated statement probabilities.

    head = StatementHead(feature_width=512)
    probabilities = head.probabilities(features, measures)     (b, 512), (b, FEATURES) -> (b, 71), in the order of CODES

Two linear readings are added: one of the learned features, one of the measurements, which know what a ruler knows and do not overfit.
Their weights and a shift a statement are fitted on the validation fold (Platt 1999, with the slope shared), and each statement stores
the threshold at which it counts as found.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regen.data_prep.measure import FEATURES
from regen.data_prep.statements import CODES
from regen.study import FloatArray

_NEVER = -9.0
"""Logit of a statement that training never showed."""


class FeatureScale(nn.Module):
    """Standardises measurements with training statistics: robustly clipped, missing ones at the mean."""

    low: Tensor
    high: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, features: int = FEATURES) -> None:
        super().__init__()
        for name, value in (("low", -1.0), ("high", 1.0), ("centre", 0.0), ("spread", 1.0)):
            self.register_buffer(name, torch.full((features,), value))

    @classmethod
    def fit(cls, measures: FloatArray) -> FeatureScale:
        """measures: (n, features), NaN where missing."""
        scale = cls(measures.shape[1])
        known = np.asarray(measures, np.float64)
        empty = np.isnan(known).all(axis=0)
        known = np.where(empty, 0.0, known)
        low, high = np.nanquantile(known, [0.005, 0.995], axis=0)
        clipped = np.clip(known, low, high)
        values = (low, high, np.nanmean(clipped, axis=0), np.nanstd(clipped, axis=0))
        for name, value in zip(("low", "high", "centre", "spread"), values, strict=True):
            getattr(scale, name).copy_(torch.from_numpy(np.asarray(value, np.float32)))
        scale.spread.clamp_(min=1e-4)
        return scale

    def forward(self, measures: Tensor, keep_missing: bool = False) -> Tensor:
        """(b, features) -> (b, features), about unit variance; NaN becomes 0, the mean, unless keep_missing."""
        out = (torch.maximum(torch.minimum(measures, self.high), self.low) - self.centre) / self.spread
        return out if keep_missing else torch.nan_to_num(out)


class StatementHead(nn.Module):
    """See the module. `mix` (2,) weighs the two readings, `shift` (71,) and `thresholds` (71,) are set by calibration."""

    mix: Tensor
    shift: Tensor
    thresholds: Tensor

    def __init__(self, feature_width: int, features: int = FEATURES) -> None:
        super().__init__()
        self.learned = nn.Linear(feature_width, len(CODES))
        self.scale = FeatureScale(features)
        self.measured = nn.Linear(features, len(CODES))
        nn.init.zeros_(self.measured.weight)
        nn.init.zeros_(self.measured.bias)
        self.register_buffer("mix", torch.tensor([1.0, 0.0]))
        self.register_buffer("shift", torch.zeros(len(CODES)))
        self.register_buffer("thresholds", torch.full((len(CODES),), 0.5))

    def readings(self, features: Tensor, measures: Tensor) -> Tensor:
        """(b, 2, 71) logits of the two readings, before they are mixed."""
        return torch.stack([self.learned(features.float()), self.measured(self.scale(measures.float()))], 1)

    def probabilities(self, features: Tensor, measures: Tensor) -> Tensor:
        """(b, 71) calibrated probabilities, float32."""
        return torch.sigmoid((self.readings(features, measures) * self.mix[:, None]).sum(1) + self.shift)


def fit_measured(head: StatementHead, measures: FloatArray, labels: FloatArray, penalty: float = 100.0) -> None:
    """Ridge logistic regression of every statement on the measurements, all at once (L-BFGS).

    measures: (n, features); labels: (n, 71), rows of NaN left out; penalty: the squared weights count this much against the summed loss.
    """
    head.scale.load_state_dict(FeatureScale.fit(measures).state_dict())
    known = ~np.isnan(labels).any(axis=1)
    x = head.scale(torch.from_numpy(np.asarray(measures[known], np.float32))).double()
    y = torch.from_numpy(labels[known]).double()
    weight = torch.zeros(y.shape[1], x.shape[1], dtype=torch.float64, requires_grad=True)
    start = y.mean(0).clamp(1e-4, 1 - 1e-4)
    bias = (start / (1 - start)).log().clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=120, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(x @ weight.T + bias, y, reduction="sum") + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    rare = y.sum(0) < 3
    with torch.no_grad():
        weight[rare] = 0.0
        bias[rare] = _NEVER
        head.measured.weight.copy_(weight)
        head.measured.bias.copy_(bias)


def calibrate(head: StatementHead, features: Tensor, measures: Tensor, labels: FloatArray, pull: float = 12.0) -> None:
    """Fit mix, shifts and thresholds on a validation fold.

    The two weights are shared by all statements, so that a rare one cannot bend them; the shifts are pulled to zero as by `pull`
    imagined cases. features: (n, width); measures: (n, FEATURES); labels: (n, 71).
    """
    known = ~np.isnan(labels).any(axis=1)
    with torch.no_grad():
        logits = head.readings(features, measures)[torch.from_numpy(known)].double()
    y = torch.from_numpy(labels[known]).double()
    mix, shift = _fit_mix(logits, y, pull)
    if bool((mix < 0).any()):  # a reading that speaks against itself is left out, and the rest fitted without it
        logits = logits * (mix >= 0).double()[:, None]
        mix, shift = _fit_mix(logits, y, pull)
    with torch.no_grad():
        used = logits.abs().amax((0, 2)) > 0
        head.mix.copy_(mix.clamp_min(0) * used)
        head.shift.copy_(shift)
        probabilities = torch.sigmoid((logits * head.mix.double()[:, None]).sum(1) + head.shift.double())
        head.thresholds.copy_(torch.from_numpy(best_thresholds(probabilities.numpy(), labels[known])))


def _fit_mix(logits: Tensor, y: Tensor, pull: float) -> tuple[Tensor, Tensor]:
    """Weights of the two readings and shifts of the statements. logits: (n, 2, 71); y: (n, 71), both double."""
    mix = torch.tensor([0.6, 0.4], dtype=torch.float64, requires_grad=True)
    shift = torch.zeros(y.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([mix, shift], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits((logits * mix[:, None]).sum(1) + shift, y, reduction="sum")
        loss = loss + pull / 8 * shift.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return mix.detach(), shift.detach()


def best_thresholds(probabilities: npt.NDArray[np.float64], labels: FloatArray, pull: float = 25.0) -> FloatArray:
    """A threshold a statement, at which F1 is expected to be best.

    For calibrated probabilities the set with the best F1 holds what is likelier than half the F1 reached (Lipton et al. 2014). The F1
    of a statement is estimated on the fold and pulled towards that of all statements together, as by `pull` more positives.
    probabilities, labels: (n, 71). Returns (71,) float32 in [0.1, 0.6].
    """
    grid = np.linspace(0.1, 0.6, 51)
    positive = labels.sum(axis=0)
    hits = np.stack([((probabilities >= t) * labels).sum(axis=0) for t in grid])
    said = np.stack([(probabilities >= t).sum(axis=0) for t in grid])
    overall = (2 * hits.sum(axis=1) / np.maximum(said.sum(axis=1) + positive.sum(), 1)).max()
    best = (2 * hits / np.maximum(said + positive, 1)).max(axis=0)
    reached = (positive * best + pull * overall) / (positive + pull)
    return np.clip(reached / 2, grid[0], grid[-1]).astype(np.float32)
