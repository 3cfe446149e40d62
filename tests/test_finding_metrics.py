"""Metrics of findings against worked cases, scikit-learn, and loops over draws."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, recall_score, roc_auc_score

from regen.data_prep.statements import CODES
from regen.errors import DataError
from regen.eval.bootstrap import Resamples, each_once
from regen.eval.finding_metrics import (
    METRICS,
    average_precision,
    brier,
    delong,
    expected_calibration_error,
    macro,
    sensitivity,
    specificity,
)
from regen.eval.finding_table import TITLES, Answers, finding_table
from regen.eval.predictions import References
from regen.eval.set_metrics import FEW, MEMBERS, auc

RNG = np.random.default_rng(1)
N = 80
TRUTH = RNG.random(N) < 0.3
SCORES = np.round(np.clip(0.2 * TRUTH + 0.8 * RNG.random(N), 0, 1), 1)
WEIGHTS = RNG.integers(0, 4, (6, N)).astype(np.float64)
NONE = np.zeros(0, bool)


def test_average_precision_of_a_worked_case() -> None:
    # ranked: + - + -; precision 1 at recall 1/2, 2/3 at recall 1
    assert average_precision(np.array([0.9, 0.8, 0.7, 0.1]), np.array([1, 0, 1, 0], bool)) == pytest.approx([(1 + 2 / 3) / 2])


def test_tied_scores_are_one_step_whatever_their_order() -> None:
    truth = np.array([1, 0, 0, 1], bool)
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2]):
        assert average_precision(np.full(4, 0.5), truth[order]) == pytest.approx([0.5])


def test_brier_of_a_worked_case() -> None:
    assert brier(np.array([0.9, 0.2]), np.array([1, 0], bool), np.array([[1.0, 1.0], [1.0, 3.0]])) == pytest.approx([0.025, (0.01 + 3 * 0.04) / 4])


def test_calibration_error_of_a_worked_case() -> None:
    # [0.1, 0.2): mean 0.15, share 1/2; [0.9, 1]: mean 0.975, share 1. Two studies each
    p, truth = np.array([0.1, 0.19999, 0.95, 1.0]), np.array([0, 1, 1, 1], bool)
    assert expected_calibration_error(p, truth) == pytest.approx([(0.35 + 0.025) / 2], abs=1e-4)
    assert expected_calibration_error(p, truth, bins=1) == pytest.approx([0.75 - p.mean()])


def test_calibration_error_is_that_of_a_loop_over_bins() -> None:
    """Neighbouring bins err to opposite sides, so that two taken as one would cancel."""
    p = np.linspace(0.005, 0.995, N)
    truth = np.floor(p * 10) % 2 == 0
    expected = 0.0
    for low in np.arange(10) / 10:
        inside = (p >= low) & (p < low + 0.1)
        expected += inside.mean() * abs(p[inside].mean() - truth[inside].mean())
    assert expected_calibration_error(p, truth) == pytest.approx([expected])


def test_calibration_error_counts_the_bins_by_their_studies() -> None:
    p, truth = np.array([0.05, 0.95]), np.array([1, 1], bool)
    assert expected_calibration_error(p, truth, np.array([[3.0, 1.0]])) == pytest.approx([(3 * 0.95 + 0.05) / 4])


def test_sensitivity_and_specificity_of_a_worked_case() -> None:
    said, truth = np.array([1, 0, 1, 0, 0], bool), np.array([1, 1, 0, 0, 0], bool)
    assert sensitivity(said, truth) == pytest.approx([1 / 2])
    assert specificity(said, truth) == pytest.approx([2 / 3])
    assert specificity(said, truth, np.array([[1, 1, 5, 1, 1]], float)) == pytest.approx([2 / 7])


def test_metrics_are_those_of_scikit_learn_in_every_draw() -> None:
    said = SCORES >= 0.4
    for d, weights in enumerate(WEIGHTS):
        assert auc(SCORES, TRUTH, WEIGHTS)[d] == pytest.approx(roc_auc_score(TRUTH, SCORES, sample_weight=weights))
        assert average_precision(SCORES, TRUTH, WEIGHTS)[d] == pytest.approx(average_precision_score(TRUTH, SCORES, sample_weight=weights))
        assert brier(SCORES, TRUTH, WEIGHTS)[d] == pytest.approx(brier_score_loss(TRUTH, SCORES, sample_weight=weights))
        assert sensitivity(said, TRUTH, WEIGHTS)[d] == pytest.approx(recall_score(TRUTH, said, sample_weight=weights))
        assert specificity(said, TRUTH, WEIGHTS)[d] == pytest.approx(recall_score(TRUTH, said, sample_weight=weights, pos_label=0))


@pytest.mark.parametrize("key", METRICS)
def test_a_study_that_counts_twice_is_a_study_given_twice(key: str) -> None:
    metric, decided = METRICS[key]
    given = SCORES >= 0.4 if decided else SCORES
    for weights in WEIGHTS:
        twice = np.repeat(np.arange(N), weights.astype(int))
        assert metric(given, TRUTH, weights[None])[0] == pytest.approx(metric(given[twice], TRUTH[twice], None)[0])


@pytest.mark.parametrize("key", METRICS)
def test_what_is_undefined_is_nan(key: str) -> None:
    metric, decided = METRICS[key]
    given = np.array([0.2, 0.9]) >= 0.5 if decided else np.array([0.2, 0.9])
    undefined = {"auroc": (True, True), "auprc": (True, False), "sensitivity": (True, False), "specificity": (False, True)}
    without_positive, without_negative = undefined.get(key, (False, False))
    assert np.isnan(metric(given, np.zeros(2, bool), None)[0]) == without_positive
    assert np.isnan(metric(given, np.ones(2, bool), None)[0]) == without_negative
    assert np.isnan(metric(given[:0], NONE, None)).all()


def test_macro_covers_the_columns_with_enough_positives_alone() -> None:
    truth = RNG.random((60, 3)) < 0.4
    truth[:, 2] = np.arange(60) < FEW - 1
    p = RNG.random((60, 3))
    assert macro(brier, p, truth) == pytest.approx([(brier(p[:, 0], truth[:, 0])[0] + brier(p[:, 1], truth[:, 1])[0]) / 2])
    truth[FEW - 1, 2] = True
    assert macro(brier, p, truth) == pytest.approx([np.mean([brier(p[:, c], truth[:, c])[0] for c in range(3)])])
    assert np.isnan(macro(brier, p, np.zeros_like(truth)))


def test_macro_leaves_a_column_out_of_a_draw_where_it_is_undefined() -> None:
    truth = np.zeros((20, 2), bool)
    truth[:FEW, 0], truth[FEW : 2 * FEW, 1] = True, True
    p = RNG.random((20, 2))
    weights = np.ones((1, 20))
    weights[:, :FEW] = 0
    assert macro(average_precision, p, truth, weights) == pytest.approx(average_precision(p[:, 1], truth[:, 1], weights))


def test_delong_of_a_worked_case() -> None:
    # positives 3, 2 over negatives 1, 2: wins 1, 1 and 1, 1/2. V10 = V01 = (1, 0.75), variance 1/32 each, so var = 1/64 + 1/64
    value, low, high = delong(np.array([3.0, 2.0, 1.0, 2.0]), np.array([1, 1, 0, 0], bool))
    assert value == pytest.approx(0.875)
    assert low == pytest.approx(0.875 - 1.959964 * math.sqrt(1 / 32), abs=1e-6)
    assert high == 1.0


def slow_delong(scores: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """AUROC and its variance from all pairs."""
    won = np.array([[(p > n) + 0.5 * (p == n) for n in scores[~truth]] for p in scores[truth]])
    return float(won.mean()), float(won.mean(1).var(ddof=1) / len(won) + won.mean(0).var(ddof=1) / won.shape[1])


@pytest.mark.parametrize("level", [0.95, 0.5])
def test_delong_is_that_of_all_pairs(level: float) -> None:
    expected, variance = slow_delong(SCORES, TRUTH)
    value, low, high = delong(SCORES, TRUTH, level)
    assert value == pytest.approx(expected)
    assert value == pytest.approx(auc(SCORES, TRUTH)[0])
    z = {0.95: 1.9599640, 0.5: 0.6744898}[level]
    assert (high - low) / 2 == pytest.approx(z * math.sqrt(variance), abs=1e-7)
    assert (high + low) / 2 == pytest.approx(value)


def test_delong_agrees_with_the_bootstrap_where_every_study_is_a_patient() -> None:
    rng = np.random.default_rng(2)
    truth = rng.random(400) < 0.4
    scores = rng.normal(size=400) + truth
    _, low, high = delong(scores, truth)
    draws = np.concatenate([auc(scores, truth, weights) for weights in Resamples([None] * 400, rng, 2000)])
    assert (low, high) == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.006)


def test_delong_says_where_it_knows_nothing() -> None:
    assert all(math.isnan(x) for x in delong(np.array([0.1, 0.2]), np.ones(2, bool)))
    value, low, high = delong(np.array([0.3, 0.1, 0.2]), np.array([1, 0, 0], bool))
    assert (value, math.isnan(low), math.isnan(high)) == (1.0, True, True)
    with pytest.raises(DataError, match="level between 0 and 1, got 95"):
        delong(SCORES, TRUTH, 95)


def references(statements: np.ndarray) -> References:
    n = len(statements)
    names = [f"s{i}" for i in range(n)]
    return References(names, [f"p{i // 2}" for i in range(n)], ["x"] * n, [None] * n, statements, np.ones(n, bool))


def sets(columns: dict[str, np.ndarray]) -> np.ndarray:
    out = np.zeros((N, len(CODES)), bool)
    for code, values in columns.items():
        out[:, CODES.index(code)] = values
    return out


def test_the_table_holds_what_the_metrics_say() -> None:
    truth = sets({"IMI": TRUTH, "AMI": ~TRUTH & (SCORES > 0.5), "SR": np.arange(N) < 2})
    p = RNG.random(truth.shape)
    one, other = Answers("one", p, p >= 0.95), Answers("other", 1 - p, p >= 0.9, missing=3)
    odd = np.arange(1, N, 2)
    made = finding_table(references(truth), [one, other], [("all", np.arange(N)), ("odd", odd), ("nobody", odd[:0])], seed=4, draws=20)
    block, part, empty = made.blocks
    assert (block.n, block.patients, block.statements, block.superclasses) == (N, N // 2, 2, 1)
    assert (part.n, part.patients, empty.n, empty.statements) == (N // 2, N // 2, 0, 0)
    for (key, (metric, decided)), system in product(METRICS.items(), (one, other)):
        given = system.said if decided else system.probabilities
        assert block.rows[system.name][key].value == pytest.approx(macro(metric, given, truth)[0])
        assert part.rows[system.name][key].value == pytest.approx(macro(metric, given[odd], truth[odd])[0])
        row = made.statements[CODES.index("IMI")]
        assert row.positives == TRUTH.sum()
        assert row.rows[system.name][key].value == pytest.approx(metric(given[:, CODES.index("IMI")], TRUTH, each_once(N))[0])
        assert math.isnan(empty.rows[system.name][key].value)
    heart = next(x for x in made.superclasses if x.code == "MI")
    members = [CODES.index(c) for c in ("IMI", "AMI")]
    assert heart.positives == (truth[:, members].any(axis=1)).sum()
    said, so = one.said[:, MEMBERS[:, 1]].any(axis=1), truth[:, members].any(axis=1)
    assert heart.rows["one"]["sensitivity"].value == pytest.approx((said & so).sum() / so.sum())
    assert heart.rows["one"]["sensitivity"].value == pytest.approx(block.rows["one"]["superclass_sensitivity"].value)
    assert made.missing == {"one": 0, "other": 3}


def test_the_table_as_json_has_ends_differences_and_no_nan() -> None:
    truth = sets({"IMI": TRUTH})
    p = np.tile(SCORES[:, None], len(CODES))
    made = finding_table(references(truth), [Answers("a", p, p >= 0.5), Answers("b", p * 0, p >= 2)], [("all", np.arange(N))], draws=50).to_dict()
    row = made["blocks"][0]["systems"]["a"]["auroc"]
    assert row["low"] < row["value"] < row["high"]
    gap = made["blocks"][0]["differences"]["b"]["auroc"]
    assert gap["value"] == pytest.approx(row["value"] - 0.5, abs=1e-5)
    by_code = {one["code"]: one for one in made["statements"]}
    assert set(by_code) == set(CODES)
    assert by_code["AMI"]["systems"]["a"]["auroc"] == {"value": None, "low": None, "high": None}
    assert by_code["IMI"]["systems"]["a"]["auroc"] == row, "the only statement in the mean, on the same draws of patients"
    assert by_code["IMI"]["auroc_delong"]["a"] == pytest.approx(delong(SCORES, TRUTH)[1:], abs=1e-6)
    assert set(TITLES) | {f"superclass_{key}" for key in TITLES} == set(made["columns"]) == set(made["blocks"][0]["systems"]["b"])


def test_the_same_seed_gives_the_same_intervals() -> None:
    truth, p = sets({"IMI": TRUTH}), RNG.random((N, len(CODES)))
    answers, groups = [Answers("a", p, p >= 0.5)], [("all", np.arange(N))]
    first, again, other = (finding_table(references(truth), answers, groups, seed, 30).to_dict() for seed in (1, 1, 2))
    assert first == again
    assert first["blocks"][0]["systems"] != other["blocks"][0]["systems"]


def test_systems_that_do_not_fit_are_refused() -> None:
    truth = sets({"IMI": TRUTH})
    p = np.zeros(truth.shape)
    for answers in ([], [Answers("a", p, p > 0), Answers("a", p, p > 0)], [Answers("a", p[1:], p[1:] > 0)]):
        with pytest.raises(DataError, match=f"findings: expected systems of different names with {N} studies each"):
            finding_table(references(truth), answers, [("all", np.arange(N))])
