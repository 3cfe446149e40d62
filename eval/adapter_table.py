"""How an adapter does on studies it has not seen: each label over all of them, and by sex and age.

    made = adapter_table(adapter.names, probabilities, adapter.thresholds, labels, subjects, groups_of(sex, ages))
    made[0].labels[0].sensitivity                      Rate(value=0.94, low=0.86, high=0.98, bootstrap=Sampled)
    made[0].macro_auroc.interval                       of the labels with at least FEW positives

AUROC and calibration error have intervals by patient (regen.eval.bootstrap). Sensitivity and specificity have Wilson's (JASA 1927) with the
number of patients for the number of studies: on the safe side where patients have several, and not of width 0 at 100 %, as a bootstrap's is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from regen.eval.averages import mean_of
from regen.eval.bootstrap import DRAWS, Resamples, Sampled, Values, bootstrap
from regen.eval.finding_metrics import expected_calibration_error, sensitivity, specificity
from regen.eval.set_metrics import auc
from regen.eval.strata import AGE_BAND, LEAST
from regen.study import FloatArray

FEW = 10
"""Positives that a label must have to be in a macro average."""
Rows = npt.NDArray[np.int64]
Groups = Sequence[tuple[str, Rows]]


@dataclass(frozen=True, slots=True, eq=False)
class Rate:
    """A share with Wilson's interval over patients, and the bootstrap's."""

    value: float
    low: float
    high: float
    bootstrap: Sampled

    def to_dict(self) -> dict[str, Any]:
        plain = {name: _plain(value) for name, value in (("value", self.value), ("low", self.low), ("high", self.high))}
        return plain | {"bootstrap": self.bootstrap.plain()}


@dataclass(frozen=True, slots=True, eq=False)
class LabelScore:
    """One label over the studies of a group that know it. NaN where undefined."""

    name: str
    n: int
    positives: int
    patients: int
    auroc: Sampled
    ece: Sampled
    sensitivity: Rate
    specificity: Rate

    def to_dict(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in ("name", "n", "positives", "patients")}
        values = {name: getattr(self, name).plain() for name in ("auroc", "ece")}
        return counts | values | {name: getattr(self, name).to_dict() for name in ("sensitivity", "specificity")}


@dataclass(frozen=True, slots=True, eq=False)
class GroupScore:
    """in_macro: labels with at least FEW positives in the group."""

    name: str
    n: int
    patients: int
    labels: tuple[LabelScore, ...]
    macro_auroc: Sampled
    in_macro: int

    def to_dict(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in ("name", "n", "patients", "in_macro")}
        return counts | {"macro_auroc": self.macro_auroc.plain(), "labels": [label.to_dict() for label in self.labels]}


def adapter_table(
    names: Sequence[str], probabilities: npt.NDArray, thresholds: npt.NDArray, labels: FloatArray, subjects: Sequence[str | None], groups: Groups,
    seed: int = 0, draws: int = DRAWS,
) -> list[GroupScore]:  # fmt: skip
    """A score a group. probabilities, labels: (n, len(names)), labels 1, 0 or NaN; thresholds: (len(names),)."""
    out = []
    for number, (name, rows) in enumerate(groups):
        p, y, who = probabilities[rows], labels[rows], [subjects[i] for i in rows]
        resamples = Resamples(who, np.random.default_rng([seed, number]), draws)
        scores = tuple(_label(label, p[:, c], p[:, c] >= thresholds[c], y[:, c], who, resamples) for c, label in enumerate(names))
        covered = [score.auroc for score in scores if FEW <= score.positives < score.n]
        macro = mean_of(covered, draws)
        out.append(GroupScore(name, len(rows), resamples.patients, scores, macro, len(covered)))
    return out


def groups_of(sex: Sequence[str | None], ages: Sequence[float | None]) -> list[tuple[str, Rows]]:
    """'all', then each sex and each age band of AGE_BAND years with at least LEAST studies, where there is more than one of the kind."""
    bands = [None if age is None or age != age else min(int(age // AGE_BAND) * AGE_BAND, 80) for age in ages]
    named = [None if low is None else "age 80+" if low == 80 else f"age {low:02d}-{low + AGE_BAND - 1}" for low in bands]
    out: list[tuple[str, Rows]] = [("all", np.arange(len(sex)))]
    for values in (list(sex), named):
        known = sorted({value for value in values if value is not None})
        rows = {value: np.flatnonzero([each == value for each in values]) for value in known}
        out += [(value, part) for value, part in rows.items() if len(known) > 1 and len(part) >= LEAST]
    return out


def wilson(share: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share of n independent cases; NaN where n is 0."""
    if not n:
        return math.nan, math.nan
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _label(
    name: str, p: npt.NDArray, said: npt.NDArray[np.bool_], labels: FloatArray, subjects: Sequence[str | None], resamples: Resamples
) -> LabelScore:
    known = np.flatnonzero(~np.isnan(labels))
    truth = labels[known] == 1
    patient = [subjects[i] if subjects[i] is not None else f"\0{i}" for i in known.tolist()]

    def sampled(metric: Callable[..., Values], given: npt.NDArray) -> Sampled:
        return bootstrap(lambda weights: metric(given[known], truth, weights[:, known]), resamples)

    def rate(metric: Callable[..., Values], counted: npt.NDArray[np.bool_]) -> Rate:
        made = sampled(metric, said)
        return Rate(made.value, *wilson(made.value, len({patient[i] for i in np.flatnonzero(counted)})), made)

    return LabelScore(
        name, len(known), int(truth.sum()), len(set(patient)), sampled(auc, p), sampled(expected_calibration_error, p),
        rate(sensitivity, truth), rate(specificity, ~truth),
    )  # fmt: skip


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
