"""Which reported study lies nearest to a query in one view or another, and which ones it must not see.

    score, barred = by_cosine(query, cases), same_owner(studies, subjects, others, their_subjects)
    values = np.where(barred(rows), -np.inf, score(rows))        rows: a slice of queries -> (b, cases)

The floors of `regen eval report` copy from the nearest, `regen eval retrieval` ranks them all. Work is by blocks of queries, so that memory
does not grow with queries times cases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from regen.eval.linear_probe import standardised
from regen.eval.set_metrics import Sets
from regen.study import FloatArray

BLOCK = 256
"""Queries compared with all cases at once."""
Score = Callable[[slice], FloatArray]
"""Queries -> (b, cases), higher is nearer."""
Barred = Callable[[slice], Sets]
"""Queries -> (b, cases), True where the query must not see the case."""


def by_cosine(query: FloatArray, cases: FloatArray) -> Score:
    """(n, w), (m, w) -> cosine; a row of zeros has cosine 0 to all."""
    unit = [part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12) for part in (query, cases)]
    return lambda rows: unit[0][rows] @ unit[1].T


def by_measures(query: FloatArray, cases: FloatArray) -> Score:
    """Hand-made features, (n, FEATURES) and (m, FEATURES): nearest in Euclidean distance, standardised on the cases, missing ones at the mean."""
    theirs, ours = standardised(cases, query)
    half = (theirs**2).sum(axis=1) / 2
    return lambda rows: ours[rows] @ theirs.T - half


def same_owner(studies: Sequence[str], subjects: Sequence[str | None], others: Sequence[str], their_subjects: Sequence[str | None]) -> Barred:
    """Bars a query's own study and every study of its subject; subjects that are unknown (None) are nobody's."""
    number: dict[tuple[str, str | None], int] = {}

    def column(kind: str, names: Sequence[str | None], unknown: int) -> npt.NDArray[np.int64]:
        return np.array([number.setdefault((kind, name), len(number)) if name is not None else unknown for name in names], np.int64)

    study, other = column("study", studies, -1), column("study", others, -1)
    subject, their_subject = column("subject", subjects, -1), column("subject", their_subjects, -2)
    return lambda rows: (study[rows, None] == other) | (subject[rows, None] == their_subject)
