"""Retrieval metrics: worked by hand, against scikit-learn, and their edges."""

from __future__ import annotations

import math

import numpy as np
import pytest

from regen.data_prep.statements import CODES
from regen.errors import DataError
from regen.eval import retrieval_metrics as metrics
from regen.eval.bootstrap import Values
from regen.eval.nearest import same_owner
from regen.eval.retrieval_metrics import Ranked, judge, overlap
from regen.eval.set_metrics import Sets


def sets(*rows: str) -> Sets:
    """'SR IMI' -> a row of (71,) bool."""
    return np.array([[code in row.split() for code in CODES] for row in rows])


def nobody(rows: slice) -> Sets:
    return np.zeros((1, 1), np.bool_)


def ranked_by(queries: Sets, archive: Sets, scores: np.ndarray, depth: int) -> Ranked:
    return judge(queries, archive, nobody, lambda rows: scores[rows], depth)


@pytest.fixture
def by_hand() -> Ranked:
    """One query, IMI + LVH. Cases nearest first: gains 1, 0 (sinus rhythm alone is none), 2/3, 0, 1/2."""
    archive = sets("IMI LVH", "SR", "SR IMI", "SR NORM", "LVH PVC")
    return ranked_by(sets("SR IMI LVH"), archive, np.array([[0.9, 0.8, 0.7, 0.6, 0.5]]), 5)


def test_what_is_relevant_and_how_much() -> None:
    queries = sets("SR NORM", "SR IMI LVH", "SR", "")
    archive = sets("NORM", "SR", "SR LVH", "IMI LVH", "NORM PVC")
    expected = [[1, 0, 0, 0, 2 / 3], [0, 0, 2 / 3, 1, 0], [0] * 5, [0] * 5]
    np.testing.assert_allclose(overlap(queries, archive), expected, atol=1e-6)


def test_by_hand(by_hand: Ranked) -> None:
    np.testing.assert_allclose(by_hand.gain, [[1, 0, 2 / 3, 0, 0.5]], atol=1e-6)
    np.testing.assert_allclose(by_hand.ideal, [[1, 2 / 3, 0.5, 0, 0]], atol=1e-6)
    assert by_hand.total.tolist() == [3]
    assert [float(metrics.precision(by_hand, k)[0]) for k in (1, 2, 5)] == pytest.approx([1, 1 / 2, 3 / 5])
    assert [float(metrics.recall(by_hand, k)[0]) for k in (1, 2, 5)] == pytest.approx([1 / 3, 1 / 3, 1])
    assert metrics.average_precision(by_hand, 1)[0] == pytest.approx(1)
    assert metrics.average_precision(by_hand, 2)[0] == pytest.approx(1 / 2)
    whole = (1 + 2 / 3 + 3 / 5) / 3
    assert metrics.average_precision(by_hand, 5)[0] == pytest.approx(whole)
    assert metrics.mean_average_precision(by_hand)[0] == pytest.approx(whole)
    dcg, best = 1 + (2 / 3) / 2 + 0.5 / math.log2(6), 1 + (2 / 3) / math.log2(3) + 0.5 / 2
    assert metrics.ndcg(by_hand, 5)[0] == pytest.approx(dcg / best, abs=1e-6)
    assert metrics.ndcg(by_hand, 2)[0] == pytest.approx(1 / (1 + (2 / 3) / math.log2(3)), abs=1e-6)


def test_map_over_the_archive_sees_beyond_the_depth() -> None:
    scores = np.array([[0.1, 0.5, 0.9]])
    ranked = ranked_by(sets("IMI"), sets("IMI", "LVH", "LVH"), scores, 1)
    assert metrics.mean_average_precision(ranked)[0] == pytest.approx(1 / 3)
    assert metrics.average_precision(ranked, 1)[0] == 0


def test_against_scikit_learn(rng: np.random.Generator) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    queries, archive = rng.random((300, 71)) < 0.05, rng.random((120, 71)) < 0.05
    scores = rng.random((300, 120))
    ranked, gains = ranked_by(queries, archive, scores, 20), overlap(queries, archive)
    some = np.flatnonzero((gains > 0).any(axis=1))
    assert 50 < len(some) == metrics.judged(ranked) < 300
    for k in (1, 5, 20):
        assert metrics.ndcg(ranked, k)[0] == pytest.approx(sklearn.ndcg_score(gains[some], scores[some], k=k), abs=1e-6)
    expected = [sklearn.average_precision_score(gains[i] > 0, scores[i]) for i in some]
    assert metrics.mean_average_precision(ranked)[0] == pytest.approx(np.mean(expected))


def test_a_query_without_a_relevant_case_is_left_out_not_zero() -> None:
    queries, archive = sets("IMI", "AFIB", "SR"), sets("IMI", "LVH")
    ranked = ranked_by(queries, archive, np.tile([0.9, 0.1], (3, 1)), 2)
    assert metrics.judged(ranked) == 1
    for value in (
        metrics.precision(ranked, 1),
        metrics.ndcg(ranked, 2),
        metrics.mean_average_precision(ranked),
        metrics.average_precision(ranked, 2),
    ):
        assert value.tolist() == [1]
    nothing = ranked.take(np.array([1, 2]))
    for metric in (metrics.precision, metrics.recall, metrics.average_precision, metrics.ndcg):
        assert np.isnan(metric(nothing, 1)).all()
    assert np.isnan(metrics.mean_average_precision(nothing)).all()


def test_weights_count_a_query_as_often_as_it_was_drawn(rng: np.random.Generator) -> None:
    queries, archive = rng.random((9, 71)) < 0.1, rng.random((30, 71)) < 0.1
    ranked = ranked_by(queries, archive, rng.random((9, 30)), 5)
    ranks = np.where(rng.random(9) < 0.2, np.nan, rng.integers(1, 9, 9)).astype(np.float64)
    weights: Values = rng.integers(0, 3, (4, 9)).astype(np.float64)
    for metric in (metrics.precision, metrics.recall, metrics.average_precision, metrics.ndcg):
        drawn = [metric(ranked.take(np.repeat(np.arange(9), row.astype(int))), 5)[0] for row in weights]
        np.testing.assert_allclose(metric(ranked, 5, weights), drawn)
    drawn = [metrics.recall_at(np.repeat(ranks, row.astype(int)), 3)[0] for row in weights]
    np.testing.assert_allclose(metrics.recall_at(ranks, 3, weights), drawn)
    assert np.isnan(metrics.mean_average_precision(ranked, np.zeros((1, 9)))).all()


def test_the_own_subject_and_study_are_never_ranked_and_never_counted() -> None:
    bar = same_owner(["q0", "q1", "q2"], ["a", None, "z"], ["c0", "q1", "c2"], ["a", "b", None])
    assert bar(slice(0, 3)).tolist() == [[True, False, False], [False, True, False], [False, False, False]]
    assert bar(slice(1, 2)).tolist() == [[False, True, False]]
    archive, scores = sets("IMI", "LVH", "IMI"), np.tile(np.array([0.9, 0.8, 0.7]), (3, 1))
    ranked = judge(sets("IMI", "IMI", "IMI"), archive, bar, lambda rows: scores[rows], 3)
    assert ranked.total.tolist() == [1, 2, 2]
    np.testing.assert_allclose(ranked.gain, [[0, 1, 0], [1, 1, 0], [1, 0, 1]])
    np.testing.assert_allclose(metrics.precision(ranked.take(np.array([0])), 3), [1 / 3])


def test_a_study_named_like_a_subject_is_not_barred() -> None:
    assert not same_owner(["7"], ["a"], ["b"], ["7"])(slice(0, 1)).any()


def test_more_queries_than_a_block(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, archive, scores = rng.random((11, 71)) < 0.1, rng.random((20, 71)) < 0.1, rng.random((11, 20))
    whole = ranked_by(queries, archive, scores, 30)
    monkeypatch.setattr(metrics, "BLOCK", 4)
    parts = ranked_by(queries, archive, scores, 30)
    for name in Ranked.__slots__:
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    assert (whole.gain[:, 20:] == 0).all()


def test_depths_that_were_not_ranked_are_refused(by_hand: Ranked) -> None:
    for metric in (metrics.precision, metrics.recall, metrics.average_precision, metrics.ndcg):
        with pytest.raises(DataError, match=r"k from 1 to the depth that was ranked \(5\), got 6; judge to a depth of 6"):
            metric(by_hand, 6)
        with pytest.raises(DataError, match="got 0"):
            metric(by_hand, 0)
    with pytest.raises(DataError, match="depth of at least 1, got 0"):
        judge(sets("IMI"), sets("IMI"), nobody, lambda rows: np.zeros((1, 1), np.float32), 0)


def test_true_ranks_count_ties_against() -> None:
    similarity = np.array([[0.9, 0.1, 0.5], [0.5, 0.5, 0.1], [0.2, 0.2, 0.2], [0.3, 0.1, np.nan], [0.1, 0.2, 0.3]])
    ranks = metrics.true_ranks(similarity, np.array([0, 0, 1, 2, -1]))
    np.testing.assert_array_equal(ranks, [1, 2, 3, 3, np.nan])
    assert [float(metrics.recall_at(ranks, k)[0]) for k in (1, 2, 3)] == [0.25, 0.5, 1.0]
    assert np.isnan(metrics.recall_at(np.array([np.nan]), 1)).all()


def test_chance_is_that_of_a_random_order(rng: np.random.Generator) -> None:
    assert metrics.chance_at(50, 5) == 0.1
    assert metrics.chance_at(3, 5) == 1
    assert math.isnan(metrics.chance_at(0, 1))
    drawn = metrics.true_ranks(rng.random((20000, 10)), rng.integers(0, 10, 20000))
    assert float(metrics.recall_at(drawn, 3)[0]) == pytest.approx(metrics.chance_at(10, 3), abs=0.02)
