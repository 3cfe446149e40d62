"""The chart's say in a statement's probability: its log-odds over the prevalence, beside those of the head and of the nearest cases.

All statements share one weight of the chart, and each has one of its own on top, pulled to zero as a shift is: what no signal shows (a digitalis
effect) is then read from the chart, and what the signal shows is not. Fitted on the validation split, with retrieval and without; a study
without a chart never comes here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from regen.encoders.head import best_thresholds
from regen.study import FloatArray

Odds = npt.NDArray[np.float64]
_PULL, _OWN_PULL = 12.0, 6.0
"""A shift, and a statement's own weight of the chart, are pulled to zero as by this many imagined cases."""
LEAST = 30
"""Charted and coded validation studies without which nothing is fitted."""


@dataclass(slots=True)
class ChartEvidence:
    """weights: (3,) of head, votes and chart; own: (71,) added to the chart's; shift, thresholds: (71,). alone_*: without retrieval, weights (2,)."""

    weights: FloatArray
    own: FloatArray
    shift: FloatArray
    thresholds: FloatArray
    alone_weights: FloatArray
    alone_own: FloatArray
    alone_shift: FloatArray
    alone_thresholds: FloatArray

    @classmethod
    def fit(cls, head: Odds, votes: Odds, chart: Odds, labels: FloatArray) -> ChartEvidence:
        """head, votes, chart: (n, 71) log-odds, the last two over the prevalence; labels: (n, 71). All without NaN."""
        zeros = np.zeros(labels.shape[1], np.float32)
        out = cls(*_calibrate([head, votes], chart, labels), zeros, *_calibrate([head], chart, labels), zeros)
        out.thresholds = best_thresholds(out.probabilities(head, votes, chart), labels)
        out.alone_thresholds = best_thresholds(out.probabilities(head, None, chart), labels)
        return out

    def probabilities(self, head: Odds, votes: Odds | None, chart: Odds) -> Odds:
        """Of log-odds as `fit` takes them; votes: None without retrieval. (b, 71)"""
        if votes is None:
            logits = head * self.alone_weights[0] + chart * np.maximum(self.alone_weights[1] + self.alone_own, 0) + self.alone_shift
        else:
            logits = head * self.weights[0] + votes * self.weights[1] + chart * np.maximum(self.weights[2] + self.own, 0) + self.shift
        return 0.5 + 0.5 * np.tanh(logits / 2)

    def stored(self) -> dict[str, npt.NDArray[np.generic]]:
        """Name -> array, for the file that holds the evidence model."""
        return {f"chart_{f.name}": np.ascontiguousarray(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def restored(cls, stored: dict[str, npt.NDArray[np.float32]]) -> ChartEvidence | None:
        """Takes its arrays out of `stored`; None where there are none."""
        names = [f.name for f in fields(cls)]
        return cls(*(stored.pop(f"chart_{name}") for name in names)) if f"chart_{names[0]}" in stored else None


def _calibrate(inputs: list[Odds], chart: Odds, labels: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Logistic regression with weights that are never negative. Returns weights (m + 1,), own (71,), shift (71,)."""
    x, z, y = torch.from_numpy(np.stack(inputs, -1)), torch.from_numpy(chart), torch.from_numpy(labels).double()
    weights = torch.full((x.shape[2] + 1,), 1 / (x.shape[2] + 1), dtype=torch.float64, requires_grad=True)
    own, shift = (torch.zeros(y.shape[1], dtype=torch.float64, requires_grad=True) for _ in range(2))

    def loss() -> Tensor:
        logits = x @ weights[:-1].clamp_min(0) + z * (weights[-1] + own).clamp_min(0) + shift
        pulls = _PULL / 8 * shift.square().sum() + _OWN_PULL / 8 * own.square().sum()
        return F.binary_cross_entropy_with_logits(logits, y, reduction="sum") + pulls

    _minimise(loss, [weights, own, shift])
    fitted = weights.detach().float().numpy()
    fitted[:-1] = np.maximum(fitted[:-1], 0)
    return fitted, own.detach().float().numpy(), shift.detach().float().numpy()


def _minimise(loss: Callable[[], Tensor], parameters: list[Tensor]) -> None:
    optimizer = torch.optim.LBFGS(parameters, max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
