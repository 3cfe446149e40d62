"""What a draft is going to say, decided before a word is written: findings from the evidence model, and the cases to write from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from regen.data_prep.statements import CODES
from regen.generators.base import Request
from regen.generators.evidence import EvidenceModel, agreement, votes_of
from regen.generators.recipe import WriterRecipe
from regen.generators.rules import RULES, believable, denies, rate_name
from regen.index.case_index import CaseIndex
from regen.study import FloatArray

_COLUMN = {code: i for i, code in enumerate(CODES)}
_BY_RATE = 0.9
"""Of the training cases coded with a sinus rhythm that is regular and below 50 or from 100 to 130 /min, the share whose code says so (95 of 105)."""


@dataclass(frozen=True, slots=True, eq=False)
class Blind:
    """What the plan would be without the chart: probabilities (71,) and positive codes."""

    probabilities: FloatArray
    positive: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Probabilities (71,), positive codes, and the cases shown: those that agree best, (k,) rows of the index (-1: none) and cosines.

    retrieved: whether there are cases; heard: whether they count. They do not where they show other findings than the ECG. blind: without the
    chart, where one was read.
    """

    probabilities: FloatArray
    positive: frozenset[str]
    retrieved: bool
    ids: npt.NDArray[np.int64]
    scores: FloatArray
    heard: bool = True
    blind: Blind | None = None

    @property
    def cases(self) -> list[int]:
        """Rows of the cases shown."""
        return [i for i in self.ids.tolist() if i >= 0]

    def without_chart(self) -> Plan:
        """The plan of a writer that was not shown the chart."""
        return self if self.blind is None else replace(self, probabilities=self.blind.probabilities, positive=self.blind.positive, blind=None)


def make_plans(
    evidence: EvidenceModel, index: CaseIndex, recipe: WriterRecipe, requests: Sequence[Request], charts: FloatArray | None = None
) -> list[Plan]:
    """One plan a request; the whole batch at once. charts: (b, 71) logits that the charts suggest, NaN rows where there is none."""
    ids = _pad([r.ids for r in requests], -1, np.int64)
    scores = _pad([r.scores for r in requests], np.nan, np.float32)
    head = np.stack([r.head for r in requests])
    retrieved = np.asarray((ids >= 0).any(axis=1) & bool(recipe.neighbours), np.bool_)
    votes = votes_of(index.statements, ids, scores, recipe.vote_temperature) if ids.shape[1] else np.zeros_like(head)
    heard = np.asarray(retrieved & (evidence.accord(head, votes) >= evidence.accord_limit[0]), np.bool_)
    probabilities = np.where(heard[:, None], evidence.probabilities(head, votes), evidence.probabilities(head, None))
    probabilities = np.stack([by_rate(row, r.measured) for row, r in zip(probabilities, requests, strict=True)])
    denied = np.stack([_denied(r.measured) for r in requests])
    positive = evidence.decide(probabilities, heard, denied)
    blind: dict[int, Blind] = {}
    if charts is not None and evidence.chart is not None:
        charted = ~np.isnan(charts).any(axis=1)
        blind = {i: Blind(probabilities[i].copy(), _codes(positive[i])) for i in np.flatnonzero(charted).tolist()}
        for found in (True, False):
            if (rows := np.flatnonzero(charted & (heard == found))).size:
                told = evidence.charted(head[rows], votes[rows] if found else None, charts[rows])
                probabilities[rows] = np.stack([by_rate(row, requests[i].measured) for row, i in zip(told, rows.tolist(), strict=True)])
                positive[rows] = evidence.decide(probabilities[rows], found, denied[rows], charted=True)
    order = np.argsort(-agreement(index.statements, ids, probabilities), axis=1, kind="stable")[:, : recipe.neighbours]
    return [
        Plan(
            probabilities[i], _codes(positive[i]), bool(retrieved[i]), ids[i][order[i]], scores[i][order[i]], bool(heard[i]),
            blind.get(i),
        )
        for i in range(len(requests))
    ]  # fmt: skip


def by_rate(probabilities: FloatArray, measured: Mapping[str, float]) -> FloatArray:
    """(71,) -> (71,): where a regular rhythm is slow or fast, what was seen of a sinus rhythm goes by the name that the rate gives it."""
    name = rate_name(measured)
    if name is None:
        return probabilities
    out = probabilities.copy()
    usual, named = _COLUMN["SR"], _COLUMN[name]
    sinus = min(1.0, float(out[usual] + out[named]))
    out[named], out[usual] = max(_BY_RATE * sinus, float(out[named])), min((1 - _BY_RATE) * sinus, float(out[usual]))
    return out


def _denied(measured: Mapping[str, float]) -> npt.NDArray[np.bool_]:
    """(71,) bool."""
    out = np.zeros(len(CODES), np.bool_)
    known = believable(measured, ())
    out[[_COLUMN[code] for code in RULES if code in _COLUMN and denies(code, known)]] = True
    return out


def _codes(positive: npt.NDArray[np.bool_]) -> frozenset[str]:
    return frozenset(CODES[j] for j in np.flatnonzero(positive))


def _pad(rows: Sequence[npt.NDArray[Any]], fill: float, kind: type) -> npt.NDArray[Any]:
    out: npt.NDArray[Any] = np.full((len(rows), max(map(len, rows), default=0)), fill, kind)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out
