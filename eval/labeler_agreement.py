"""How far the chest X-ray labeler agrees with labels that somebody else gave to the same reports.

    reports, truth = read_labelled("labeled_reports.csv")
    for row in agreement(reports, truth):
        row.observation, row.positive, row.f1_positive, row.kappa

A label is one of four answers: present (1.0), uncertain (0.5), denied (0.0), not mentioned (left out). Agreement is with those labels,
which are a labeler's or a reader's own: it is not accuracy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from regen.data_prep.chest_labeler import ABSENT, PRESENT, UNCERTAIN, label_report
from regen.data_prep.chexpert import CELLS, OBSERVATIONS
from regen.data_prep.tables import number_of, read_table
from regen.errors import DataError, did_you_mean

Answers = npt.NDArray[np.int64]
ANSWERS: tuple[float | None, ...] = (None, ABSENT, UNCERTAIN, PRESENT)
ALL = "All"
"""The last row's name: all pairs of report and observation together (micro)."""
_TEXT_COLUMNS = ("Reports", "report", "text")


@dataclass(frozen=True, slots=True)
class Agreement:
    """One observation over n reports: how often the truth holds it present, denied, uncertain, and how well the labeler agrees.

    f1_positive, f1_negative, f1_uncertain: F1 of that answer against the three others, NaN where neither side gives it.
    kappa: Cohen's, over the four answers, in [-1, 1]; NaN where both sides give one and the same answer throughout.
    """

    observation: str
    n: int
    positive: int
    negative: int
    uncertain: int
    f1_positive: float
    f1_negative: float
    f1_uncertain: float
    kappa: float


def agreement(reports: Sequence[str], truth: Sequence[Mapping[str, float]]) -> list[Agreement]:
    """Label the reports and compare: a row an observation, in the order of OBSERVATIONS, then ALL.

    truth: of each report, observation -> 1.0, 0.5 or 0.0; what is not mentioned is left out.

    Raises:
        DataError: not one truth a report, an unknown observation, or a label that is none of the three.
    """
    if len(reports) != len(truth):
        raise DataError(f"agreement: expected labels for each report, got {len(reports)} reports and {len(truth)} rows of labels")
    return agreement_of([label_report(text) for text in reports], truth)


def agreement_of(labels: Sequence[Mapping[str, float]], truth: Sequence[Mapping[str, float]]) -> list[Agreement]:
    """The same for labels that are there already, from any labeler."""
    if len(labels) != len(truth):
        raise DataError(f"agreement: expected a row of labels a row of truth, got {len(labels)} and {len(truth)}")
    ours, theirs = answers(labels), answers(truth)
    rows = [_row(name, ours[:, i], theirs[:, i]) for i, name in enumerate(OBSERVATIONS)]
    return [*rows, _row(ALL, ours.ravel(), theirs.ravel())]


def answers(labels: Sequence[Mapping[str, float]]) -> Answers:
    """(n, 14): the place of each label in ANSWERS; 0 where an observation is not mentioned.

    Raises:
        DataError: an unknown observation, or a label that is none of 1.0, 0.5, 0.0.
    """
    out = np.zeros((len(labels), len(OBSERVATIONS)), np.int64)
    for i, row in enumerate(labels):
        for name, value in row.items():
            if name not in OBSERVATIONS:
                raise DataError(f"labels of report {i}: expected one of the 14 observations, got {name!r}{did_you_mean(name, OBSERVATIONS)}")
            if value not in ANSWERS:
                raise DataError(f"labels of report {i}: expected 1.0, 0.5 or 0.0 for {name}, got {value}; write -1 as 0.5")
            out[i, OBSERVATIONS.index(name)] = ANSWERS.index(value)
    return out


def _row(name: str, ours: Answers, theirs: Answers) -> Agreement:
    absent, uncertain, present = 1, 2, 3
    counts = int((theirs == present).sum()), int((theirs == absent).sum()), int((theirs == uncertain).sum())
    return Agreement(
        name, len(theirs), *counts, f1(ours == present, theirs == present), f1(ours == absent, theirs == absent),
        f1(ours == uncertain, theirs == uncertain), kappa(ours, theirs),
    )  # fmt: skip


def f1(ours: npt.NDArray[np.bool_], theirs: npt.NDArray[np.bool_]) -> float:
    """2 TP / (2 TP + FP + FN) of two (n,) masks; NaN where both are empty."""
    either = int(ours.sum() + theirs.sum())
    return 2 * int((ours & theirs).sum()) / either if either else float("nan")


def kappa(ours: Answers, theirs: Answers) -> float:
    """Cohen's kappa (Educ Psychol Meas 1960) of two (n,) arrays of answers; NaN for n = 0 and where chance alone already agrees fully."""
    if not len(ours):
        return float("nan")
    shares = np.stack([np.bincount(side, minlength=len(ANSWERS)) for side in (ours, theirs)]) / len(ours)
    chance = float((shares[0] * shares[1]).sum())
    return (float((ours == theirs).mean()) - chance) / (1 - chance) if chance < 1 else float("nan")


def read_labelled(path: str | Path) -> tuple[list[str], list[dict[str, float]]]:
    """A CSV of report texts with the CheXpert columns: 1 present, 0 denied, -1 uncertain, empty not mentioned. Returns texts and labels.

    The text stands in a column 'Reports', 'report' or 'text'; columns of other names are left alone.

    Raises:
        DataError: no such file, no text column, an observation's column missing, a cell that is none of the four.
    """
    path = Path(path)
    reports: list[str] = []
    truth: list[dict[str, float]] = []
    for who, row in read_table(path, set(OBSERVATIONS), "give a table with a report and the 14 CheXpert columns a row"):
        column = next((name for name in _TEXT_COLUMNS if name in row), None)
        if column is None:
            raise DataError(f"{path}: expected the report's text in a column {' or '.join(_TEXT_COLUMNS)}, got none; rename it")
        reports.append(row[column])
        truth.append(_labels(row, who))
    return reports, truth


def _labels(row: Mapping[str, str], who: str) -> dict[str, float]:
    labels: dict[str, float] = {}
    for name in OBSERVATIONS:
        value = number_of(row[name], name, who)
        if value is None:
            continue
        if value not in CELLS:
            raise DataError(f"{who}: expected 1, 0, -1 or an empty cell for {name}, got {row[name]}")
        labels[name] = CELLS[value]
    return labels


def lines(rows: Iterable[Agreement]) -> list[str]:
    """The table as aligned text, a heading first; '-' where a value is undefined."""
    out = [f"{'observation':<28}{'n':>6}{'pos':>6}{'neg':>6}{'unc':>6}{'F1 pos':>8}{'F1 neg':>8}{'F1 unc':>8}{'kappa':>8}"]
    for row in rows:
        values = "".join(f"{'-' if v != v else f'{v:.3f}':>8}" for v in (row.f1_positive, row.f1_negative, row.f1_uncertain, row.kappa))
        out.append(f"{row.observation:<28}{row.n:>6}{row.positive:>6}{row.negative:>6}{row.uncertain:>6}{values}")
    return out
