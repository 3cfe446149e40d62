"""How well a ranking of reported cases serves a query, and how well recordings find their own report text.

    ranked = judge(queries, archive, barred, score, depth=10)        statements (q, 71) and (n, 71) bool
    precision(ranked, 10)                                            array([0.61])
    ndcg(ranked, 10, weights=draws)                                  (d,): one value a draw of a bootstrap
    recall_at(true_ranks(similarity, own), 5)                        ECG -> report

A case is relevant where it shares a statement with the query other than sinus rhythm: an abnormal one, or both are NORM. Sinus rhythm
alone (77 % of PTB-XL) would make nearly every case relevant to every query; to ask for the whole set would leave rare queries without any.
The graded gain is the F1 of the two sets, sinus rhythm left out on both sides, so that it is above 0 exactly where the case is relevant.

A query to which no case is relevant has no value: NaN, left out of the mean and never zero; `judged` says how many are left. `weights`
(d, n) says how often each query counts in each of d draws; None means once each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regen.data_prep.statements import CODES
from regen.errors import DataError
from regen.eval.averages import mean
from regen.eval.bootstrap import Values
from regen.eval.nearest import BLOCK, Barred, Score
from regen.eval.set_metrics import Sets

COUNTED: Sets = np.array([code != "SR" for code in CODES])
"""(71,): the statements that make a case relevant."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """Of n queries, each with its nearest `depth` cases: gain, ideal (n, depth): graded gains as ranked and as the best order has them,
    0 where there are fewer cases; total (n,): relevant cases in the archive; average_precision (n,): over the whole archive, NaN where total
    is 0.
    """

    gain: Values
    ideal: Values
    total: npt.NDArray[np.int64]
    average_precision: Values

    def take(self, rows: npt.NDArray[np.int64]) -> Ranked:
        """The same for some of the queries."""
        return Ranked(self.gain[rows], self.ideal[rows], self.total[rows], self.average_precision[rows])


def overlap(queries: Sets, archive: Sets, counted: Sets = COUNTED) -> Values:
    """(q, labels), (n, labels) -> (q, n) F1 of each pair of sets over the labels that are counted; 0 where either is empty."""
    ours, theirs = (sets[:, counted].astype(np.float32) for sets in (queries, archive))
    sizes = ours.sum(axis=1)[:, None] + theirs.sum(axis=1)
    return np.asarray(2 * (ours @ theirs.T) / np.maximum(sizes, 1), np.float64)


def judge(queries: Sets, archive: Sets, barred: Barred, score: Score, depth: int, counted: Sets = COUNTED) -> Ranked:
    """Rank the allowed cases by score, ties in the archive's order, and keep what the metrics need.

    queries (q, labels), archive (n, labels) bool; counted (labels,): those that make a case relevant.

    Raises:
        DataError: depth below 1.
    """
    if depth < 1:
        raise DataError(f"judge: expected a depth of at least 1, got {depth}")
    n, take = len(queries), min(depth, len(archive))
    made = Ranked(np.zeros((n, depth)), np.zeros((n, depth)), np.zeros(n, np.int64), np.full(n, np.nan))
    for start in range(0, n, BLOCK):
        rows = slice(start, min(start + BLOCK, n))
        forbidden = barred(rows)
        gains = np.where(forbidden, 0.0, overlap(queries[rows], archive, counted))
        order = np.argsort(np.where(forbidden, np.inf, -score(rows)), axis=1, kind="stable")
        ordered = np.take_along_axis(gains, order, axis=1)
        made.gain[rows, :take] = ordered[:, :take]
        made.ideal[rows, :take] = -np.sort(-gains, axis=1)[:, :take]
        made.total[rows] = (gains > 0).sum(axis=1)
        made.average_precision[rows] = _average_precision(ordered > 0, made.total[rows])
    return made


def judged(ranked: Ranked) -> int:
    """Queries to which at least one allowed case is relevant: those the means are over."""
    return int((ranked.total > 0).sum())


def precision(ranked: Ranked, k: int, weights: Values | None = None) -> Values:
    """Share of the nearest k that are relevant; a rank without a case counts as not relevant. Returns (d,)."""
    return mean(_where_any(ranked, _hits(ranked, k).sum(axis=1) / k), weights)


def recall(ranked: Ranked, k: int, weights: Values | None = None) -> Values:
    """Share of all relevant cases that are among the nearest k: at most k / total, so small in a large archive. Returns (d,)."""
    return mean(_where_any(ranked, _hits(ranked, k).sum(axis=1) / np.maximum(ranked.total, 1)), weights)


def average_precision(ranked: Ranked, k: int, weights: Values | None = None) -> Values:
    """Mean AP@k: precision at the rank of each relevant case among the nearest k, summed and divided by min(k, total). Returns (d,)."""
    return mean(_average_precision(_hits(ranked, k), np.minimum(ranked.total, k)), weights)


def mean_average_precision(ranked: Ranked, weights: Values | None = None) -> Values:
    """mAP over the whole ranking (Manning, Raghavan and Schuetze 2008, section 8.4). Returns (d,)."""
    return mean(ranked.average_precision, weights)


def ndcg(ranked: Ranked, k: int, weights: Values | None = None) -> Values:
    """Normalised discounted cumulated gain (Jaervelin and Kekaelaeinen, ACM TOIS 2002): gains F1, discount 1 / log2(rank + 1). (d,)."""
    _check(ranked, k)
    discount = 1 / np.log2(np.arange(2, k + 2))
    best = ranked.ideal[:, :k] @ discount
    return mean(_where_any(ranked, ranked.gain[:, :k] @ discount / np.where(best > 0, best, 1)), weights)


def true_ranks(similarity: npt.NDArray, own: npt.NDArray[np.int64]) -> Values:
    """(n, m) similarity of queries and candidates, own (n,): column of each query's own, -1 where it has none -> its rank from 1.

    Every other candidate that scores as high stands before it, so a constant similarity ranks last. NaN similarity is never close. NaN
    where own is -1.
    """
    scores = np.where(np.isnan(similarity), -np.inf, similarity)
    mine = scores[np.arange(len(scores)), np.maximum(own, 0)] if scores.shape[1] else np.zeros(len(scores))
    return np.where(own >= 0, (scores >= mine[:, None]).sum(axis=1), np.nan)


def shared_ranks(similarity: npt.NDArray, groups: npt.NDArray[np.int64], candidate_groups: npt.NDArray[np.int64]) -> Values:
    """(n, m) similarity, (n,) and (m,) numbers -> rank from 1 of the best candidate of the query's own group.

    Candidates of one group are the same thing (reports of one wording); of other groups, those that score as high stand before it. NaN where no
    candidate is of the query's group.
    """
    scores = np.where(np.isnan(similarity), -np.inf, similarity)
    same = groups[:, None] == candidate_groups
    mine = np.where(same, scores, -np.inf).max(axis=1, initial=-np.inf)
    return np.where(same.any(axis=1), 1.0 + (~same & (scores >= mine[:, None])).sum(axis=1), np.nan)


def recall_at(ranks: Values, k: int, weights: Values | None = None) -> Values:
    """R@k: share of queries whose own candidate is among the nearest k; queries without one left out. Returns (d,)."""
    return mean(np.where(np.isnan(ranks), np.nan, ranks <= k), weights)


def chance_at(candidates: int, k: int) -> float:
    """R@k of a random order of the candidates: k / candidates, at most 1; NaN without candidates."""
    return min(k / candidates, 1.0) if candidates else float("nan")


def _hits(ranked: Ranked, k: int) -> Sets:
    _check(ranked, k)
    return np.asarray(ranked.gain[:, :k] > 0, np.bool_)


def _check(ranked: Ranked, k: int) -> None:
    depth = ranked.gain.shape[1]
    if not 1 <= k <= depth:
        raise DataError(f"retrieval metrics: expected k from 1 to the depth that was ranked ({depth}), got {k}; judge to a depth of {k}")


def _average_precision(relevant: Sets, out_of: npt.NDArray[np.int64]) -> Values:
    """(b, ranks) bool in rank order -> (b,), divided by out_of; NaN where that is 0."""
    at_rank = np.cumsum(relevant, axis=1) / np.arange(1, relevant.shape[1] + 1)
    return np.divide((at_rank * relevant).sum(axis=1), out_of, out=np.full(len(relevant), np.nan), where=out_of > 0)


def _where_any(ranked: Ranked, values: Values) -> Values:
    return np.where(ranked.total > 0, values, np.nan)
