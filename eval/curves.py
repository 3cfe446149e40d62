"""The points of the plots on a card: ROC, reliability, risk over coverage.

rates = roc(scores, truth)                          false and true positive rate, from (0, 0) to (1, 1)
bins = reliability(probabilities, truth, bins=10)   mean probability, observed share and count of each bin that holds anything
cover, risk = risk_coverage(confidence, loss)       the mean loss of the most confident share of the studies
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from regen.eval.bootstrap import Values
from regen.eval.set_metrics import Sets

Points = tuple[Values, Values]


def roc(scores: npt.NDArray, truth: npt.NDArray[np.bool_]) -> Points:
    """False and true positive rate at every threshold, ties together. scores, truth: (n,). NaN rates where a class is empty."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)
    right, wrong = np.cumsum(truth[order])[last], np.cumsum(~truth[order])[last]
    with np.errstate(invalid="ignore"):
        return np.concatenate([[0.0], wrong / max(wrong[-1], 0)]), np.concatenate([[0.0], right / max(right[-1], 0)])


def reliability(probabilities: npt.NDArray, truth: Sets, bins: int = 10) -> tuple[Values, Values, npt.NDArray[np.int64]]:
    """Equal-width bins over all entries of both arrays (of one shape): mean probability, share that is true, count; empty bins left out."""
    p, y = probabilities.ravel().astype(np.float64), truth.ravel()
    at = np.minimum((p * bins).astype(int), bins - 1)
    count = np.bincount(at, minlength=bins)
    held = count > 0
    mean, share = (np.bincount(at, weights=values, minlength=bins)[held] / count[held] for values in (p, y.astype(np.float64)))
    return mean, share, count[held]


def risk_coverage(confidence: npt.NDArray, loss: npt.NDArray) -> Points:
    """Coverage (1/n .. 1) and the mean loss of that most confident share (El-Yaniv and Wiener, JMLR 2010). Ties in their given order."""
    ordered = loss[np.argsort(-confidence, kind="stable")]
    count = np.arange(1, len(ordered) + 1)
    return count / max(len(ordered), 1), np.cumsum(ordered) / count
