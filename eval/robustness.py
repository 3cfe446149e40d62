"""What a system is worth under conditions that are not as they should be: one row a condition, each paired with the unperturbed one.

    cells = scores(outcome, plain, references, train_reports, over_reliance(outcome, alone, references))
    Row("V1 off", {column: bootstrap(statistic, resamples) for column, statistic in cells.items()}, {})

An Outcome is what a system drafted under one condition; `plain` is that of the unperturbed studies, `alone` the one without retrieval.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from regen.data_prep.wording import words
from regen.errors import DataError, did_you_mean
from regen.eval import set_metrics
from regen.eval.averages import mean, share
from regen.eval.blocks import INTERVAL, named
from regen.eval.bootstrap import Sampled, Statistic, Values, undefined
from regen.eval.predictions import Predictions, References
from regen.eval.set_metrics import Sets
from regen.eval.text_metrics import copies, text_scores
from regen.study import FloatArray

COLUMNS: dict[str, str] = {
    "micro_f1": "set micro-F1", "macro_f1": "set macro-F1", "rouge_l": "ROUGE-L", "superclass_auc": "superclass AUC",
    "cosine": "cosine to the unperturbed embedding", "changed": "drafts that change", "distinct": "distinct reports",
    "copies": "exact copies of training reports", "warned": "drafts with a warning", "over_reliance": "over-reliance",
}  # fmt: skip
"""Key -> heading. All are shares, printed in percent, but for the cosine, which is in [-1, 1] and printed times 100."""
WARNINGS = ("low_evidence", "no_retrieval", "no_readable_ecg")
"""Flags by which a draft says that it had little to go by."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """The drafts of one condition, rows in the order of the references. flags: without what stands behind a colon; embeddings: (n, dim), None
    where none was looked at; planted: (n, 71) what only planted cases state."""

    drafted: Predictions
    flags: list[frozenset[str]]
    embeddings: FloatArray | None
    planted: Sets


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One condition: column -> value and draws, and the share of drafts with each flag."""

    name: str
    cells: dict[str, Sampled]
    flags: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Robustness:
    """rows: 'nothing' first; left_out: condition -> why it was not run."""

    bundle: str
    n: int
    patients: int
    rows: tuple[Row, ...]
    left_out: dict[str, str]
    seed: int
    draws: int

    def row(self, name: str) -> Row:
        return named(self.rows, name, "robust: unknown condition")

    def difference(self, name: str, column: str) -> Sampled:
        """The condition minus 'nothing', on the same draws. NaN where one has no such value."""
        if column not in COLUMNS:
            raise DataError(f"robust: unknown column {column!r}{did_you_mean(column, COLUMNS)}")
        nothing = undefined(self.draws)
        return self.row(name).cells.get(column, nothing).minus(self.rows[0].cells.get(column, nothing))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, null where undefined; `difference` is to 'nothing'."""
        head = {name: getattr(self, name) for name in ("bundle", "n", "patients", "seed", "draws", "left_out")}
        rows = [
            {
                "name": row.name,
                "n": self.n,
                "flags": row.flags,
                "columns": {c: cell.plain() | {"difference": self.difference(row.name, c).plain()} for c, cell in row.cells.items()},
            }
            for row in self.rows
        ]
        return head | {"interval": f"{INTERVAL}, paired", "columns": COLUMNS, "rows": rows}


def scores(outcome: Outcome, plain: Outcome, references: References, train: Iterable[str], reliance: Statistic | None) -> dict[str, Statistic]:
    """Every column of one condition, in the order of COLUMNS; without those that it has no value for."""
    drafted, sets = outcome.drafted, (outcome.drafted.statements, references.statements)
    made: dict[str, Statistic] = {
        "micro_f1": partial(set_metrics.micro_f1, *sets),
        "macro_f1": partial(set_metrics.macro_f1, *sets),
        "rouge_l": partial(mean, text_scores(drafted.reports, references.reports).rouge_l),
    }
    if drafted.probabilities is not None:
        made["superclass_auc"] = partial(set_metrics.superclass_auc, drafted.probabilities, references.statements)
    if outcome.embeddings is not None and plain.embeddings is not None:
        made["cosine"] = partial(mean, cosines(outcome.embeddings, plain.embeddings))
    made |= {
        "changed": partial(mean, np.array([a != b for a, b in zip(drafted.reports, plain.drafted.reports, strict=True)], np.float64)),
        "distinct": partial(mean, distinct(drafted.reports)),
        "copies": partial(mean, copies(drafted.reports, train)),
        "warned": partial(mean, np.array([bool(flags & set(WARNINGS)) for flags in outcome.flags], np.float64)),
    }
    return made if reliance is None else made | {"over_reliance": reliance}


def cosines(a: FloatArray, b: FloatArray) -> Values:
    """(n, dim) twice -> (n,) cosine row by row; NaN where a row is zero."""
    ours, theirs = a.astype(np.float64), b.astype(np.float64)
    length = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return np.divide((ours * theirs).sum(axis=1), length, out=np.full(len(ours), np.nan), where=length > 0)


def distinct(reports: Sequence[str]) -> Values:
    """(n,) 1 / how many of the reports say the same words: their mean is the number of distinct reports over n. How many say the same stays
    fixed in a bootstrap: a resample holds fewer studies, and its ratio leans upwards.
    """
    texts = [" ".join(words(text)) for text in reports]
    counts = Counter(texts)
    return np.array([1 / counts[text] for text in texts], np.float64)


def over_reliance(outcome: Outcome, alone: Outcome, references: References) -> Statistic | None:
    """Of the findings declared positive, the share that only planted cases state: neither another case shown, nor the reference, nor the draft
    without retrieval. NaN in a draw without a positive finding; None for a system that declares none.
    """
    declared, without = outcome.drafted.declared, alone.drafted.declared
    if declared is None or without is None:
        return None
    only = (declared & outcome.planted & ~references.statements & ~without).sum(axis=1).astype(np.float64)
    return partial(share, only, declared.sum(axis=1).astype(np.float64))
