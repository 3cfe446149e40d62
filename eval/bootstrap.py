"""95 % intervals by patient: a draw takes patients with replacement, each with all of their studies.

    resamples = Resamples(subjects, np.random.default_rng(0))
    sampled = bootstrap(partial(micro_f1, predicted, reference), resamples)
    sampled.value, sampled.interval                       0.673, (0.640, 0.709)
    sampled.minus(bootstrap(other, resamples)).interval   of the difference, draw by draw on the same patients

Percentile intervals (Efron and Tibshirani 1993, chapter 13). Studies of one patient resemble each other, so to draw studies would make
the intervals too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
DRAWS = 1000
_CHUNK = 1 << 18
"""Weights held at once (draws x studies), 2 MB: they stay in the cache, and memory is bounded whatever the number of studies."""
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
        for row in self._times if self.patients else ():
            row[:] = np.bincount(rng.integers(0, self.patients, self.patients), minlength=self.patients)

    def __iter__(self) -> Iterator[Values]:
        """Weights (some draws, n), in order of the draws."""
        step = max(1, _CHUNK // max(self.n, 1))
        for start in range(0, self.draws, step):
            yield self._times[start : start + step][:, self._patient].astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """A statistic on the sample as it is, and on every draw. NaN where it is undefined."""

    value: float
    draws: Values

    @property
    def interval(self) -> tuple[float, float]:
        """2.5th and 97.5th percentile of the draws where the statistic is defined; NaN where it is defined on none."""
        known = self.draws[~np.isnan(self.draws)]
        if not len(known):
            return float("nan"), float("nan")
        low, high = np.percentile(known, [2.5, 97.5])
        return float(low), float(high)

    @classmethod
    def nothing(cls, draws: int) -> Sampled:
        """Undefined, on the sample and on every draw."""
        return cls(float("nan"), np.full(draws, np.nan))

    def plain(self) -> dict[str, float | None]:
        """{"value", "low", "high"} for JSON, null where undefined."""
        values = zip(("value", "low", "high"), (self.value, *self.interval), strict=True)
        return {name: None if np.isnan(value) else round(value, 6) for name, value in values}

    def minus(self, other: Sampled) -> Sampled:
        """The difference, draw by draw. Both must come from the same Resamples."""
        return Sampled(self.value - other.value, self.draws - other.draws)


def bootstrap(statistic: Statistic, resamples: Resamples) -> Sampled:
    """The statistic of the sample with its spread over the draws."""
    value = statistic(each_once(resamples.n))[0] if resamples.n else np.nan
    draws = [statistic(weights) for weights in resamples] if resamples.n else [np.full(resamples.draws, np.nan)]
    return Sampled(float(value), np.concatenate(draws))


def paired(system: Statistic, other: Statistic, resamples: Resamples) -> Sampled:
    """system - other on the same draws: its interval leaves 0 out where the two differ by more than the choice of patients explains."""
    return bootstrap(system, resamples).minus(bootstrap(other, resamples))
