"""`regen bench coverage`: how often intervals hold the truth, on simulated patients whose truth is known.

    made = coverage(60, repeats=1000)
    made["AUROC of a 10 % finding"].bca, .percentile            0.945, 0.890

A simulated patient has one to three studies that resemble each other. A study shows each of five findings where a normal latent value is
high; two systems see it through noise, call findings and give probabilities. The truth of every statistic is its value on many patients.
Everything is synthetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from regen.errors import ConfigError
from regen.eval import timing
from regen.eval.averages import mean
from regen.eval.bootstrap import DRAWS, Resamples, Sampled, Statistic, Values, bootstrap, paired
from regen.eval.finding_metrics import expected_calibration_error
from regen.eval.set_metrics import Sets, auc, frequent, macro_f1, micro_f1

PREVALENCE = np.array([0.4, 0.3, 0.2, 0.1, 0.05])
RARE = 3
"""The finding whose share, AUROC and calibration are taken."""
_MANY = 100_000
"""Patients that give the truth."""
_ALIKE, _SEEN = 0.9, (0.9, 0.8)
"""Correlation of two studies of a patient, and of what each system sees with what is so."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """Shares of the repeats. below, above: the truth lies below or above the BCa interval."""

    bca: float
    percentile: float
    below: float
    above: float


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """n studies: whose they are, what is so (n, 5), and of two systems what they call (n, 5) and the probabilities of the first."""

    patients: list[str]
    truth: Sets
    called: tuple[Sets, Sets]
    probabilities: Values

    @classmethod
    def draw(cls, patients: int, rng: np.random.Generator) -> Cohort:
        of = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
        latent = _mixed(rng.normal(size=(patients, len(PREVALENCE)))[of], np.sqrt(_ALIKE), rng)
        first, second = (_mixed(latent, seen, rng) for seen in _SEEN)
        high = -ndtri(PREVALENCE)
        likely = ndtr((_SEEN[0] * first - high) / np.sqrt(1 - _SEEN[0] ** 2))
        return cls([str(i) for i in of], latent > high, (first > high, second > high), likely)

    def statistics(self) -> dict[str, Statistic]:
        truth, called, p = self.truth, self.called, self.probabilities
        rare = truth[:, RARE]
        return {
            "mean of a score": partial(mean, p.mean(axis=1)),
            "share of a 10 % finding": partial(mean, rare.astype(np.float64)),
            "micro-F1": partial(micro_f1, called[0], truth),
            "macro-F1": partial(macro_f1, called[0], truth),
            "AUROC of a 10 % finding": partial(auc, p[:, RARE], rare),
            "calibration error": partial(expected_calibration_error, np.sqrt(p[:, RARE]), rare),
        }


def _mixed(values: Values, alike: float, rng: np.random.Generator) -> Values:
    """Normal values whose correlation with `values` is `alike`."""
    return np.asarray(alike * values + np.sqrt(1 - alike**2) * rng.normal(size=values.shape))


DIFFERENCE = "micro-F1, one system minus another"


@cache
def _truths() -> tuple[dict[str, float], float, Values]:
    """Of the statistics, of the difference, and the F1 of each finding: a macro average covers those that a sample has enough of."""
    many = Cohort.draw(_MANY, np.random.default_rng(0))
    values = {name: float(statistic(np.ones((1, len(many.truth))))[0]) for name, statistic in many.statistics().items()}
    one, other = (float(micro_f1(called, many.truth)[0]) for called in many.called)
    each = np.array([micro_f1(many.called[0][:, [c]], many.truth[:, [c]])[0] for c in range(len(PREVALENCE))])
    return values, one - other, each


def coverage(patients: int, repeats: int = 1000, draws: int = DRAWS, seed: int = 0) -> dict[str, Coverage]:
    """How often the intervals of samples of so many patients hold the truth. A repeat where a statistic is undefined is left out of its row.

    Raises:
        ConfigError: fewer than two patients, or no repeat.
    """
    if patients < 2 or repeats < 1 or draws < 2:
        raise ConfigError(f"coverage: expected at least 2 patients, 1 repeat and 2 draws, got {patients}, {repeats} and {draws}")
    truths, apart, each = _truths()
    held: dict[str, list[tuple[bool, bool, bool, bool]]] = {}
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, patients, repeat])
        sample = Cohort.draw(patients, rng)
        resamples = Resamples(sample.patients, rng, draws)
        statistics = sample.statistics()
        cells = {name: (bootstrap(statistic, resamples), truths[name]) for name, statistic in statistics.items()}
        covered = frequent(sample.truth)
        cells["macro-F1"] = cells["macro-F1"][0], float(each[covered].mean()) if covered.any() else np.nan
        one, other = (partial(micro_f1, called, sample.truth) for called in sample.called)
        cells[DIFFERENCE] = paired(one, other, resamples), apart
        for name, (cell, truth) in cells.items():
            if not np.isnan(cell.value):
                held.setdefault(name, []).append(_held(cell, truth))
    return {name: Coverage(*np.mean(rows, axis=0).tolist()) for name, rows in held.items()}


def _held(cell: Sampled, truth: float) -> tuple[bool, bool, bool, bool]:
    low, high = cell.interval
    first, last = np.nanpercentile(cell.draws, [2.5, 97.5])
    return low <= truth <= high, bool(first <= truth <= last), truth < low, truth > high


def bench(patients: list[int], repeats: int, draws: int, seed: int) -> dict[str, Any]:
    """Every number of patients, as plain JSON."""
    rows = {
        str(n): {name: {part: getattr(c, part) for part in Coverage.__slots__} for name, c in coverage(n, repeats, draws, seed).items()}
        for n in patients
    }
    return {"machine": timing.machine(), "repeats": repeats, "draws": draws, "seed": seed, "patients": rows}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The result for people."""
    yield f"coverage of 95 % intervals by patient, percent of {result['repeats']} simulated samples, {result['draws']} draws (seed {result['seed']})"
    yield "                                            BCa   percentile   truth below / above BCa"
    for n, rows in result["patients"].items():
        for name, row in rows.items():
            bca, percentile, below, above = (100 * row[part] for part in ("bca", "percentile", "below", "above"))
            yield f"  {n:>4} patients  {name:36} {bca:5.1f} {percentile:8.1f}        {below:4.1f} / {above:.1f}"
