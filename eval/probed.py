"""What linear probes read off frozen features, on rows that they did not learn from, and which cases lie near in what they read.

    parts = [(learn, test), ...]                                  row numbers; nobody on both sides
    space = spaces(features, parts)                               a part: features of learn and of test, standardised
    read = read_off(space, truth, parts)                          a part: (p of learn, p of test), each (rows, labels)
    ranked = nearest_cases(space, truth, ids, subjects, parts, 10, counted)               by the features themselves
    ranked = nearest_cases(log_odds(read), truth, ids, subjects, parts, 10, counted)      by what the probes read

The log-odds of all labels are the space of a small adapter on frozen vectors, which MedImageInsight searches (arXiv 2410.06542).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import numpy.typing as npt

from regen.eval.bootstrap import Values
from regen.eval.linear_probe import linear_probe, standardised
from regen.eval.nearest import by_cosine, same_owner
from regen.eval.retrieval_metrics import Ranked, judge
from regen.eval.set_metrics import Sets
from regen.study import FloatArray

Rows = npt.NDArray[np.int64]
Parts = Sequence[tuple[Rows, Rows]]
"""(learned on, scored) row numbers."""
Pairs = list[tuple[FloatArray, FloatArray]]
"""Of each part: something (rows, width) of its learned and of its scored rows."""
_CERTAIN = 1e-6


def spaces(features: FloatArray, parts: Parts) -> Pairs:
    """The features, in units of the spread of what is learned on."""
    return [standardised(features[learn], features[test]) for learn, test in parts]


def read_off(space: Pairs, truth: FloatArray, parts: Parts) -> Pairs:
    """Probabilities of every label. truth: (n, labels) 1, 0, NaN where not known; a label of which a part knows nothing reads 0."""
    out = []
    for (learn, _), (own, other) in zip(parts, space, strict=True):
        both, known = np.concatenate([own, other]), ~np.isnan(truth[learn])
        columns = (linear_probe(own[known[:, c]], truth[learn, c][known[:, c]] == 1, both) for c in range(truth.shape[1]))
        read = np.stack(list(columns), 1).astype(np.float32)
        out.append((read[: len(own)], read[len(own) :]))
    return out


def log_odds(read: Pairs) -> Pairs:
    """Probabilities as log-odds, each label in units of its spread over what is learned on; a label that never varies is 0."""
    out = []
    for pair in read:
        own, other = (np.log(p / (1 - p)) for p in (np.clip(part.astype(np.float64), _CERTAIN, 1 - _CERTAIN) for part in pair))
        spread = own.std(axis=0)
        scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > _CERTAIN)
        out.append((((own - own.mean(axis=0)) * scale).astype(np.float32), ((other - own.mean(axis=0)) * scale).astype(np.float32)))
    return out


def scored(read: Pairs, parts: Parts) -> Values:
    """(all scored rows in order, labels): each row's own."""
    return np.concatenate([other for _, other in read])[_in_order(parts)].astype(np.float64)


def nearest_cases(
    space: Pairs, truth: FloatArray, ids: Sequence[str], subjects: Sequence[str | None], parts: Parts, depth: int, counted: Sets
) -> Ranked:
    """For every scored row, in order: the rows learned on by cosine, never of the same patient; relevant where they share a counted label."""
    stated = truth == 1
    made = []
    for (learn, test), (cases, queries) in zip(parts, space, strict=True):
        names = ([values[i] for i in rows] for rows in (test, learn) for values in (ids, subjects))
        made.append(judge(stated[test], stated[learn], same_owner(*names), by_cosine(queries, cases), depth, counted))  # type: ignore[arg-type]
    every = Ranked(*(np.concatenate([getattr(one, field.name) for one in made]) for field in fields(Ranked)))
    return every.take(_in_order(parts))


def _in_order(parts: Parts) -> Rows:
    """Where each scored row, in order, stands among those of the parts one after the other."""
    return np.argsort(np.concatenate([test for _, test in parts]), kind="stable")
