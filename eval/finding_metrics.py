"""How good the probabilities of findings are: do they rank, are they calibrated, and what do they miss at their thresholds.

    average_precision(probabilities[:, c], truth[:, c])             array([0.412]): one statement, as scikit-learn computes it
    macro(brier, probabilities, truth, weights=draws)               (d,): mean over statements with at least FEW positives
    delong(probabilities[:, c], truth[:, c])                        (0.875, 0.529, 1.0): AUROC and its 95 % interval

METRICS names all of them; each takes what a system said of one statement and whether it was so, both (n,). `weights` (d, n) says how often
each study counts in each of d draws; None means once each. A value that is undefined (no positive, no negative, no study) is NaN, never 0.
The AUROC is set_metrics.auc.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from regen.errors import DataError
from regen.eval.averages import mean_known, ratio
from regen.eval.bootstrap import Values, each_once
from regen.eval.set_metrics import FEW, Sets, auc, frequent

BINS = 10
"""Equal-width bins of [0, 1] of the expected calibration error; the last one holds 1."""
Metric = Callable[[npt.NDArray, Sets, Values | None], Values]
"""(n,) said of one statement, (n,) bool whether it was so, weights (d, n) or None -> (d,)."""


def average_precision(scores: npt.NDArray, truth: Sets, weights: Values | None = None) -> Values:
    """Area under the precision-recall curve as the sum of precision times the gain in recall, tied scores as one step.

    Not interpolated, which would be too hopeful (Davis and Goadrich, ICML 2006). Its floor is the prevalence, not one half. NaN in a draw
    without a positive. Returns (d,).
    """
    weights = each_once(len(truth)) if weights is None else weights
    order = np.argsort(-np.asarray(scores), kind="stable")
    ranked = np.asarray(scores)[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], len(ranked) > 0))
    counted = weights[:, order]
    hits = np.cumsum(counted * truth[order], axis=1)[:, ends]
    precision = np.nan_to_num(ratio(hits, np.cumsum(counted, axis=1)[:, ends]))
    gained = (np.diff(hits, axis=1, prepend=0.0) * precision).sum(axis=1)
    return ratio(gained, weights @ truth.astype(np.float64))


def brier(probabilities: npt.NDArray, truth: Sets, weights: Values | None = None) -> Values:
    """Mean squared distance of the probability from what was so (Brier, Monthly Weather Review 1950); lower is better. Returns (d,)."""
    weights = each_once(len(truth)) if weights is None else weights
    return ratio(weights @ (np.asarray(probabilities, np.float64) - truth) ** 2, weights.sum(axis=1))


def expected_calibration_error(probabilities: npt.NDArray, truth: Sets, weights: Values | None = None, bins: int = BINS) -> Values:
    """Mean distance of probability and observed share over equal-width bins of [0, 1], each bin by its studies (Naeini et al., AAAI 2015).

    Of the probability that the statement holds, not of the likelier of two classes. A rare statement lies almost wholly in the first bin.
    With few studies the value is too high, and more so in the draws of a bootstrap: its interval may lie above the value. Returns (d,).
    """
    weights = each_once(len(truth)) if weights is None else weights
    p = np.asarray(probabilities, np.float64)
    inside = np.clip((p * bins).astype(np.int64), 0, bins - 1)[:, None] == np.arange(bins)
    gaps = weights @ np.where(inside, (p - truth)[:, None], 0.0)
    return ratio(np.abs(gaps).sum(axis=1), weights.sum(axis=1))


def sensitivity(said: Sets, truth: Sets, weights: Values | None = None) -> Values:
    """Share of the positives that were called positive. Returns (d,), NaN in a draw without a positive."""
    weights = each_once(len(truth)) if weights is None else weights
    return ratio(weights @ (said & truth).astype(np.float64), weights @ truth.astype(np.float64))


def specificity(said: Sets, truth: Sets, weights: Values | None = None) -> Values:
    """Share of the negatives that were not called positive. Returns (d,), NaN in a draw without a negative."""
    return sensitivity(~said, ~truth, weights)


METRICS: dict[str, tuple[Metric, bool]] = {
    "auroc": (auc, False), "auprc": (average_precision, False), "brier": (brier, False), "ece": (expected_calibration_error, False),
    "sensitivity": (sensitivity, True), "specificity": (specificity, True),
}  # fmt: skip
"""Key -> (metric, whether it takes what was said at the thresholds instead of probabilities)."""


def macro(metric: Metric, given: npt.NDArray, truth: Sets, weights: Values | None = None, few: int = FEW) -> Values:
    """Mean of a metric over the columns with at least `few` positives; which those are is decided on the truth as a whole.

    given, truth: (n, columns). In a draw a column where the metric is undefined is left out; NaN where none is left. Returns (d,).
    """
    weights = each_once(len(truth)) if weights is None else weights
    values = [metric(given[:, c], truth[:, c], weights) for c in np.flatnonzero(frequent(truth, few))]
    return mean_known(np.stack(values, axis=1) if values else np.zeros((len(weights), 0)))


def delong(scores: npt.NDArray, truth: Sets, level: float = 0.95) -> tuple[float, float, float]:
    """AUROC with the interval of DeLong, DeLong and Clarke-Pearson (Biometrics 1988), from midranks (Sun and Xu, IEEE SPL 2014).

    Normal approximation, cut to [0, 1]; it takes the studies as independent, so with several of one patient it is too narrow: the
    bootstrap by patient is not. scores, truth: (n,). Returns (value, low, high); NaN ends with fewer than two positives or negatives,
    all NaN without one. At an AUROC of 0 or 1 the interval has no width.

    Raises:
        DataError: a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise DataError(f"delong: expected a level between 0 and 1, got {level}; 0.95 is the usual one")
    scores = np.asarray(scores, np.float64)
    positive, negative = scores[truth], scores[~truth]
    m, n = len(positive), len(negative)
    if not m or not n:
        return math.nan, math.nan, math.nan
    ranks = rankdata(np.concatenate([positive, negative]))
    won = (ranks[:m] - rankdata(positive)) / n
    kept = 1 - (ranks[m:] - rankdata(negative)) / m
    value = float(won.mean())
    if min(m, n) < 2:
        return value, math.nan, math.nan
    half = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(won.var(ddof=1) / m + kept.var(ddof=1) / n)
    return value, max(0.0, value - half), min(1.0, value + half)
