"""From which probability on a label counts as present: thresholds that keep what was asked on new patients, not only on these.

    aim = Aim("sensitivity", 0.95, delta=0.05)
    point = choose(probabilities, truth, subjects, aim, np.random.default_rng(0))
    point.threshold, point.holds, point.confidence       (0.031, True, 0.962)
    aim.smallest                                         59 positive patients are needed at least

Sensitivity. Of each positive patient one positive study is drawn, so that the n scores are independent. Sorted upwards they are s(1) to s(n),
and "p >= s(k)" misses a new patient's positive study with a chance above 1 - x only if fewer than k of them lie at or below the (1 - x)
quantile: with probability P(Binomial(n, 1 - x) < k) at most. The largest k that keeps this at or below delta is taken. It holds for every
distribution, for ties too (Wilks, Annals of Mathematical Statistics 1941; for classifiers Tong, Feng and Li, Science Advances 2018). Even k = 1
needs x ** n <= delta, hence n >= log(delta) / log(x); with fewer the lowest positive score is taken, and the confidence it has is told.
Specificity is the mirror image, over the negatives. Both hold for new patients like those of the validation split (same site, same scanner, same
mix), and for scores whose model never saw that split. Youden's J and F1 are the best values on the validation split and promise nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from regen.errors import ConfigError, DataError, did_you_mean

WEAK = 0.65
"""AUROC that a label must not be shown to stay under: below it no threshold tells presence from absence to any use."""
Kind = Literal["sensitivity", "specificity", "youden", "f1"]
Scores = npt.NDArray[np.float64]
Truth = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Aim:
    """What a threshold shall reach. value: of sensitivity or specificity, in (0, 1); delta: how often a fresh validation split may fail it."""

    kind: Kind = "youden"
    value: float = math.nan
    delta: float = 0.05

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(f"aim: expected sensitivity, specificity, youden or f1, got {self.kind!r}{did_you_mean(self.kind, get_args(Kind))}")
        if self.promises and not 0 < self.value < 1:
            raise ConfigError(f"aim: expected a {self.kind} above 0 and below 1, got {self.value:g}; 0.95 is a usual one")
        if not 0 < self.delta < 1:
            raise ConfigError(f"aim: expected a delta above 0 and below 1, got {self.delta:g}; 0.05 is a usual one")

    @property
    def promises(self) -> bool:
        return self.kind in ("sensitivity", "specificity")

    @property
    def smallest(self) -> int:
        """Patients of the class in question from which on the promise can hold; 0 where nothing is promised."""
        if not self.promises:
            return 0
        n = max(1, math.ceil(math.log(self.delta) / math.log(self.value)) - 1)
        while self.value**n > self.delta:
            n += 1
        return n

    def __str__(self) -> str:
        shown = {"youden": "highest Youden's J on validation", "f1": "highest F1 on validation"}
        return shown.get(self.kind, f"{self.kind} >= {self.value:g} with confidence {1 - self.delta:g}")


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """threshold: present at or above it. n: independent patients behind it; holds: whether the aim is promised.

    confidence: that the aim is reached on new patients, over validation splits; None where nothing is promised.
    """

    threshold: float
    n: int
    holds: bool
    confidence: float | None
    method: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def order_statistic(n: int, aim: Aim) -> tuple[int, float]:
    """(k, confidence): the k-th of n scores counted from the side that is missed; k is 1 where n is too small for the aim.

    confidence: P(Binomial(n, 1 - value) >= k), what k reaches.
    """
    from scipy.stats import binom

    k = np.arange(1, n + 1)
    failing = binom.cdf(k - 1, n, 1 - aim.value)
    best = max(1, int((failing <= aim.delta).sum()))
    return best, float(1 - failing[best - 1])


def choose(probabilities: Scores, truth: Truth, subjects: Sequence[str | None], aim: Aim, rng: np.random.Generator) -> OperatingPoint:
    """The operating point of one label on validation cases that its model did not learn from. All (n,); a subject of None stands alone.

    Raises:
        DataError: no positive or no negative, or arrays of different length.
    """
    p = np.asarray(probabilities, np.float64)
    if not len(p) == len(truth) == len(subjects):
        raise DataError(f"operating point: expected as many labels and subjects as probabilities, got {len(truth)}, {len(subjects)} and {len(p)}")
    if truth.all() or not truth.any():
        raise DataError(f"operating point: expected positives and negatives, got {int(truth.sum())} of {len(truth)}; give more validation studies")
    if not aim.promises:
        return _best(p, truth, aim)
    wanted = truth if aim.kind == "sensitivity" else ~truth
    drawn = np.sort(p[one_a_subject(np.flatnonzero(wanted), subjects, rng)])
    n = len(drawn)
    k, confidence = order_statistic(n, aim)
    holds = n >= aim.smallest
    if aim.kind == "sensitivity":
        threshold = drawn[k - 1] if holds else p[wanted].min()
        method = f"score {k} of {n} positives from below" if holds else f"lowest positive score: positives of {n} patients, {aim.smallest} are needed"
    else:
        threshold = np.nextafter(drawn[n - k] if holds else p[wanted].max(), np.inf)
        method = (
            f"above score {k} of {n} negatives from the top"
            if holds
            else f"above every negative: negatives of {n} patients, {aim.smallest} are needed"
        )
    return OperatingPoint(float(threshold), n, holds, confidence, method)


def auroc_at_most(probabilities: Scores, truth: Truth, confidence: float = 0.95) -> tuple[float, float]:
    """AUROC and its one-sided upper limit, by the standard error of Hanley and McNeil (Radiology 1982), at no less than half a case's rank.

    Both (n,), with positives and negatives among them; cases count as independent.
    """
    from scipy.stats import mannwhitneyu, norm

    m, n = int(truth.sum()), int((~truth).sum())
    area = float(mannwhitneyu(probabilities[truth], probabilities[~truth]).statistic) / (m * n)
    low = min(max(area, 1 - area), 1 - 0.5 / (m * n))  # the error of a perfect order is not 0
    first, second = low / (2 - low), 2 * low**2 / (1 + low)
    variance = (low * (1 - low) + (m - 1) * (first - low**2) + (n - 1) * (second - low**2)) / (m * n)
    return area, area + float(norm.ppf(confidence)) * math.sqrt(variance)


def one_a_subject(rows: npt.NDArray[np.int64], subjects: Sequence[str | None], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Of each subject one of its rows, drawn evenly; a row without a subject is kept."""
    first: dict[str, int] = {}
    for row in rng.permutation(rows).tolist():
        subject = subjects[row]
        first.setdefault(f"row:{row}" if subject is None else f"subject:{subject}", row)
    return np.array(sorted(first.values()), np.int64)


def _best(p: Scores, truth: Truth, aim: Aim) -> OperatingPoint:
    """Youden: half-way between the score that is best and the next one below. F1: half of the best F1 (Lipton et al. 2014), which
    is where the expected F1 of calibrated probabilities is highest."""
    values = np.unique(p)
    said = len(p) - np.searchsorted(np.sort(p), values)
    hits = int(truth.sum()) - np.searchsorted(np.sort(p[truth]), values)
    if aim.kind == "f1":
        threshold = float((2 * hits / (said + truth.sum())).max()) / 2
        return OperatingPoint(threshold, len(p), False, None, "half the best F1 on validation")
    at = int(np.argmax(hits / truth.sum() - (said - hits) / (~truth).sum()))
    threshold = float((values[at] + values[at - 1]) / 2) if at else float(values[0])
    return OperatingPoint(threshold, len(p), False, None, "best Youden's J on validation")
