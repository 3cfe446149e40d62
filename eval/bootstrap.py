"""95 % intervals by patient: a draw takes patients with replacement, each with all of their studies.

    resamples = Resamples(subjects, np.random.default_rng(0))
    sampled = bootstrap(partial(micro_f1, predicted, reference), resamples)
    sampled.value, sampled.interval                       0.673, (0.640, 0.709)
    sampled.minus(bootstrap(other, resamples)).interval   of the difference, draw by draw on the same patients

Studies of one patient resemble each other, so to draw studies would make the intervals too narrow. Intervals are bias-corrected and
accelerated (BCa: Efron, JASA 1987; Efron and Tibshirani 1993, chapter 14): the plain percentiles miss a rare share, an AUROC of few
positives or a biased statistic (a calibration error) far more often than they say. Their levels are those of Student's t, expanded by
sqrt(n / (n - 1)) for n patients, because draws vary too little where patients are few (Hesterberg, The American Statistician 2015).
`regen bench coverage` prints how often each kind of interval holds the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, stdtrit

Values = npt.NDArray[np.float64]
DRAWS = 1000
GROUPS = 100
"""Groups of patients that are left out one at a time, each patient alone where there are no more: what the acceleration is estimated from."""
_CHUNK = 1 << 18
"""Weights held at once (draws x studies), 2 MB: they stay in the cache, and memory is bounded whatever the number of studies."""
_PICKS = 1 << 14
"""Patients drawn at once."""
Statistic = Callable[[Values], Values]
"""Weights (d, n) -> values (d,): how a metric comes out when study i counts weights[:, i] times."""


def each_once(n: int) -> Values:
    """(1, n) of ones: the weights of the sample as it is."""
    return np.ones((1, n))


class Resamples:
    """The draws of one sample of studies. Two statistics run over the same object see the same draws, which pairs them."""

    def __init__(self, subjects: Sequence[str | None], rng: np.random.Generator, draws: int = DRAWS) -> None:
        """subjects: of each study its patient; a study whose patient is unknown (None) stands for a patient of its own."""
        ids = [f"subject:{s}" if s is not None else f"study:{i}" for i, s in enumerate(subjects)]
        names, self._patient = np.unique(np.array(ids, dtype=object).astype(str), return_inverse=True)
        self.n, self.patients, self.draws = len(ids), len(names), draws
        self._times = np.zeros((draws, self.patients), np.uint16)
        step = max(1, _PICKS // max(self.patients, 1))
        for start in range(0, draws if self.patients else 0, step):
            some = self._times[start : start + step]
            places = rng.integers(0, self.patients, some.shape) + self.patients * np.arange(len(some))[:, None]
            some[:] = np.bincount(places.ravel(), minlength=some.size).reshape(some.shape)

    def __iter__(self) -> Iterator[Values]:
        """Weights (some draws, n), in order of the draws."""
        return self._weights(self._times)

    def left_out(self) -> Iterator[Values]:
        """Weights (some groups, n): all patients but those of one of GROUPS groups, one row a group."""
        groups = min(GROUPS, self.patients)
        return self._weights((np.arange(self.patients) % max(groups, 1) != np.arange(groups)[:, None]).astype(np.uint16))

    def of_studies(self, times: Values) -> Values:
        """(d, patients) how often each patient counts -> (d, n) how often each study does."""
        return times[:, self._patient]

    def _weights(self, times: npt.NDArray[np.uint16]) -> Iterator[Values]:
        step = max(1, _CHUNK // max(self.n, 1))
        for start in range(0, len(times), step):
            yield self.of_studies(times[start : start + step].astype(np.float64))


_NONE = np.zeros(0)


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """A statistic on the sample as it is, on every draw, and with each group of patients left out. NaN where it is undefined."""

    value: float
    draws: Values
    left_out: Values = field(default_factory=lambda: _NONE)
    patients: int = 0
    """0: not known, and the interval is not expanded."""

    @property
    def interval(self) -> tuple[float, float]:
        """BCa, 95 %, over the draws where the statistic is defined; NaN where it is defined on none."""
        known = self.draws[~np.isnan(self.draws)]
        if not len(known):
            return float("nan"), float("nan")
        low, high = np.quantile(known, bca_levels(self.value, known, self.left_out, self.patients))
        return float(low), float(high)

    def plain(self) -> dict[str, float | None]:
        """{"value", "low", "high"} for JSON, null where undefined."""
        values = zip(("value", "low", "high"), (self.value, *self.interval), strict=True)
        return {name: None if np.isnan(value) else round(value, 6) for name, value in values}

    def minus(self, other: Sampled) -> Sampled:
        """The difference, draw by draw. Both must come from the same Resamples."""
        apart = self.left_out - other.left_out if len(self.left_out) == len(other.left_out) else _NONE
        return Sampled(self.value - other.value, self.draws - other.draws, apart, self.patients)


def bca_levels(value: float, draws: Values, left_out: Values = _NONE, patients: int = 0) -> Values:
    """(2,): which quantiles of the draws are the ends of the 95 % interval.

    draws: none NaN; left_out: the statistic without each group of patients, none for no acceleration; patients: 0 for levels that are not
    expanded. No level is surer than half a draw, so that few patients cannot ask for what the draws do not hold.
    """
    finest = float(ndtri(0.5 / len(draws)))
    few = stdtrit(patients - 1, 0.975) * np.sqrt(patients / (patients - 1)) if patients > 1 else ndtri(0.975)
    ends = np.array([-1.0, 1.0]) * min(float(few), -finest)
    below = (np.mean(draws < value) + np.mean(draws <= value)) / 2
    bias = np.clip(ndtri(below), finest, -finest)
    away = np.nanmean(left_out) - left_out[~np.isnan(left_out)] if np.isfinite(left_out).any() else _NONE
    spread = np.sum(away**2) ** 1.5
    acceleration = np.sum(away**3) / (6 * spread) if spread > 0 else 0.0
    turned = bias + (bias + ends) / np.maximum(1 - acceleration * (bias + ends), 1e-9)
    return np.asarray(ndtr(turned), np.float64)


def bootstrap(statistic: Statistic, resamples: Resamples) -> Sampled:
    """The statistic of the sample with its spread over the draws."""
    if not resamples.n:
        return undefined(resamples.draws)
    value = statistic(each_once(resamples.n))[0]
    draws, left_out = (np.concatenate([statistic(weights) for weights in each]) for each in (resamples, resamples.left_out()))
    return Sampled(float(value), draws, left_out, resamples.patients)


def undefined(draws: int) -> Sampled:
    """What has no value on any of so many draws."""
    return Sampled(float("nan"), np.full(draws, np.nan))


def paired(system: Statistic, other: Statistic, resamples: Resamples) -> Sampled:
    """system - other on the same draws: its interval leaves 0 out where the two differ by more than the choice of patients explains."""
    return bootstrap(system, resamples).minus(bootstrap(other, resamples))
