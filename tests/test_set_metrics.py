"""Set metrics and AUC against loops over studies and pairs."""

from __future__ import annotations

import numpy as np
import pytest

from regen.data_prep.statements import CODES, SUPERCLASS_OF, SUPERCLASSES
from regen.eval.set_metrics import (
    FEW,
    MEMBERS,
    auc,
    frequent,
    macro_auc,
    macro_f1,
    micro_f1,
    superclass_auc,
    superclass_f1,
    superclass_probabilities,
    superclasses,
)

RNG = np.random.default_rng(0)
N = 60
REFERENCE = RNG.random((N, len(CODES))) < np.linspace(0.02, 0.5, len(CODES))
PREDICTED = REFERENCE ^ (RNG.random(REFERENCE.shape) < 0.1)
PROBABILITIES = np.round(np.clip(REFERENCE * 0.3 + RNG.random(REFERENCE.shape) * 0.7, 0, 1), 1)


def sets(*rows: str) -> np.ndarray:
    out = np.zeros((len(rows), len(CODES)), bool)
    for i, row in enumerate(rows):
        out[i, [CODES.index(code) for code in row.split()]] = True
    return out


def slow_f1(predicted: np.ndarray, reference: np.ndarray) -> float:
    hit = sum(p and r for p, r in zip(predicted, reference, strict=True))
    wrong = sum(p != r for p, r in zip(predicted, reference, strict=True))
    return 2 * hit / (2 * hit + wrong) if hit + wrong else float("nan")


def slow_auc(scores: np.ndarray, truth: np.ndarray) -> float:
    """Count the pairs."""
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[truth] for n in scores[~truth]]
    return float(np.mean(pairs)) if pairs else float("nan")


def test_micro_f1_of_a_worked_case() -> None:
    # TP 2 (SR, IMI), FP 1 (NORM), FN 1 (LVH)
    value = micro_f1(sets("SR NORM", "IMI"), sets("SR LVH", "IMI"))
    assert value == pytest.approx([2 * 2 / (2 * 2 + 1 + 1)])


def test_micro_f1_is_that_of_all_pairs() -> None:
    assert micro_f1(PREDICTED, REFERENCE)[0] == pytest.approx(slow_f1(PREDICTED.ravel(), REFERENCE.ravel()))


def test_macro_f1_is_the_mean_over_frequent_statements() -> None:
    columns = np.flatnonzero(frequent(REFERENCE))
    assert 0 < len(columns) < len(CODES)
    expected = np.mean([slow_f1(PREDICTED[:, c], REFERENCE[:, c]) for c in columns])
    assert macro_f1(PREDICTED, REFERENCE)[0] == pytest.approx(expected)


def test_frequent_counts_positives_of_the_reference() -> None:
    reference = sets(*["SR"] * FEW, *["LVH"] * (FEW - 1))
    assert [CODES[c] for c in np.flatnonzero(frequent(reference))] == ["SR"]


def test_a_statement_that_nobody_predicts_scores_zero() -> None:
    reference = sets(*["SR LVH"] * FEW)
    assert macro_f1(sets(*["SR"] * FEW), reference)[0] == pytest.approx(0.5)


def test_superclass_matrix_holds_the_catalogue() -> None:
    assert MEMBERS.sum() == len(SUPERCLASS_OF)
    assert MEMBERS[CODES.index("AMI"), SUPERCLASSES.index("MI")]
    assert not MEMBERS[CODES.index("SR")].any()


def test_superclass_f1_is_the_mean_of_those_in_the_reference() -> None:
    # MI: right though the statement differs; CD: missed; HYP: not in the reference, so not averaged
    value = superclass_f1(sets("IMI", "LVH SR"), sets("AMI", "LAFB SR"))
    assert value == pytest.approx([0.5])


def test_superclasses_and_noisy_or() -> None:
    for row, got in zip(REFERENCE, superclasses(REFERENCE), strict=True):
        assert {SUPERCLASSES[k] for k in np.flatnonzero(got)} == {SUPERCLASS_OF[CODES[c]] for c in np.flatnonzero(row) if CODES[c] in SUPERCLASS_OF}
    p = np.zeros((1, len(CODES)))
    p[0, CODES.index("IMI")], p[0, CODES.index("AMI")], p[0, CODES.index("SR")] = 0.5, 0.4, 0.9
    expected = np.zeros(5)
    expected[SUPERCLASSES.index("MI")] = 1 - 0.5 * 0.6
    np.testing.assert_allclose(superclass_probabilities(p), [expected])


def test_auc_counts_pairs_and_halves_ties() -> None:
    assert auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))[0] == pytest.approx((1 + 0.5 + 2) / 4)
    for column in range(0, len(CODES), 7):
        scores, truth = PROBABILITIES[:, column], REFERENCE[:, column]
        assert auc(scores, truth)[0] == pytest.approx(slow_auc(scores, truth), nan_ok=True)


def test_macro_auc_and_superclass_auc_are_means() -> None:
    columns = np.flatnonzero(frequent(REFERENCE))
    expected = np.mean([slow_auc(PROBABILITIES[:, c], REFERENCE[:, c]) for c in columns])
    assert macro_auc(PROBABILITIES, REFERENCE)[0] == pytest.approx(expected)
    truth, scores = superclasses(REFERENCE), superclass_probabilities(PROBABILITIES)
    mixed = [k for k in range(5) if 0 < truth[:, k].sum() < N]
    assert mixed
    expected = np.mean([slow_auc(scores[:, k], truth[:, k]) for k in mixed])
    assert superclass_auc(PROBABILITIES, REFERENCE)[0] == pytest.approx(expected)


def test_weights_are_the_studies_repeated() -> None:
    times = np.random.default_rng(1).integers(0, 3, (6, N))
    weights = times.astype(float)
    columns = frequent(REFERENCE)
    for draw, row in enumerate(times):
        again = np.repeat(np.arange(N), row)
        predicted, reference, scores = PREDICTED[again], REFERENCE[again], PROBABILITIES[again]
        assert micro_f1(PREDICTED, REFERENCE, weights)[draw] == pytest.approx(micro_f1(predicted, reference)[0])
        single = [slow_f1(predicted[:, c], reference[:, c]) for c in np.flatnonzero(columns)]
        assert macro_f1(PREDICTED, REFERENCE, weights)[draw] == pytest.approx(np.nanmean(single))
        ranked = [slow_auc(scores[:, c], reference[:, c]) for c in np.flatnonzero(columns)]
        assert macro_auc(PROBABILITIES, REFERENCE, weights)[draw] == pytest.approx(np.nanmean(ranked))


def test_nothing_to_average_is_nan_not_zero() -> None:
    nothing = sets("", "")
    assert np.isnan(micro_f1(nothing, nothing)[0])
    assert np.isnan(macro_f1(sets("SR"), sets("SR"))[0])  # one positive is fewer than FEW
    assert np.isnan(superclass_f1(sets("SR"), sets("SR"))[0])
    assert np.isnan(auc(np.array([0.2, 0.7]), np.array([True, True]))[0])
    assert np.isnan(auc(np.zeros(0), np.zeros(0, bool))[0])
    assert np.isnan(macro_auc(np.zeros((2, len(CODES))), nothing)[0])


def test_an_empty_prediction_scores_zero_where_something_is_stated() -> None:
    assert micro_f1(sets("", ""), sets("SR", "LVH"))[0] == 0.0
    assert superclass_f1(sets("", ""), sets("IMI", "LVH"))[0] == 0.0
