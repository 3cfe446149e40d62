"""What a draft is going to say, decided before a word is written: findings from the evidence model, and the cases to write from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from regen.data_prep.statements import CODES
from regen.generators.base import Request
from regen.generators.evidence import EvidenceModel, agreement, votes_of
from regen.generators.recipe import WriterRecipe
from regen.index.case_index import CaseIndex
from regen.study import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Probabilities (71,), positive codes, and the cases shown: those that agree best, (k,) rows of the index (-1: none) and cosines."""

    probabilities: FloatArray
    positive: frozenset[str]
    retrieved: bool
    ids: npt.NDArray[np.int64]
    scores: FloatArray

    @property
    def cases(self) -> list[int]:
        """Rows of the cases shown."""
        return [i for i in self.ids.tolist() if i >= 0]


def make_plans(evidence: EvidenceModel, index: CaseIndex, recipe: WriterRecipe, requests: Sequence[Request]) -> list[Plan]:
    """One plan a request; the whole batch at once."""
    ids = _pad([r.ids for r in requests], -1, np.int64)
    scores = _pad([r.scores for r in requests], np.nan, np.float32)
    head = np.stack([r.head for r in requests])
    retrieved = np.asarray((ids >= 0).any(axis=1) & bool(recipe.neighbours), np.bool_)
    votes = votes_of(index.statements, ids, scores, recipe.vote_temperature) if ids.shape[1] else np.zeros_like(head)
    probabilities = np.where(retrieved[:, None], evidence.probabilities(head, votes), alone := evidence.probabilities(head, None))
    positive = np.where(retrieved[:, None], evidence.decide(probabilities), evidence.decide(alone, retrieved=False))
    order = np.argsort(-agreement(index.statements, ids, probabilities), axis=1, kind="stable")[:, : recipe.neighbours]
    return [
        Plan(probabilities[i], frozenset(CODES[j] for j in np.flatnonzero(positive[i])), bool(retrieved[i]), ids[i][order[i]], scores[i][order[i]])
        for i in range(len(requests))
    ]


def _pad(rows: Sequence[npt.NDArray[Any]], fill: float, kind: type) -> npt.NDArray[Any]:
    out: npt.NDArray[Any] = np.full((len(rows), max(map(len, rows), default=0)), fill, kind)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out
