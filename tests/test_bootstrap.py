"""Intervals by patient: what a draw is, that they cover, that pairing narrows them."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import norm, t

from regen.errors import ConfigError
from regen.eval import bootstrap as module
from regen.eval.averages import mean, mean_of
from regen.eval.bootstrap import Resamples, Sampled, Values, bca_levels, bootstrap, each_once, paired
from regen.eval.coverage import DIFFERENCE, bench, coverage, lines


def all_weights(resamples: Resamples) -> Values:
    return np.concatenate(list(resamples))


def test_a_draw_takes_as_many_patients_with_all_of_their_studies() -> None:
    subjects = ["a", "b", "a", "c", "a", "b"]
    weights = all_weights(Resamples(subjects, np.random.default_rng(0), draws=50))
    assert weights.shape == (50, 6)
    for group in ([0, 2, 4], [1, 5]):
        assert (weights[:, group] == weights[:, group[:1]]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert weights.std(axis=0).min() > 0


def test_a_study_without_patient_is_a_patient_of_its_own() -> None:
    resamples = Resamples([None, None, "None", "0"], np.random.default_rng(0), draws=200)
    assert resamples.patients == 4
    weights = all_weights(resamples)
    assert np.abs(np.corrcoef(weights.T) - np.eye(4)).max() < 0.9


def test_the_same_seed_gives_the_same_draws_and_another_does_not() -> None:
    subjects = [str(i) for i in range(30)]
    one, same, other = (all_weights(Resamples(subjects, np.random.default_rng(seed), draws=20)) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(40)
    resamples = Resamples([str(i // 2) for i in range(40)], np.random.default_rng(5), draws=100)
    whole = bootstrap(partial(mean, values), resamples)
    monkeypatch.setattr(module, "_CHUNK", 7 * 40)
    assert len(list(resamples)) == 15
    chunked = bootstrap(partial(mean, values), resamples)
    np.testing.assert_allclose(chunked.draws, whole.draws, rtol=1e-12)
    assert chunked.value == whole.value == pytest.approx(values.mean())


def test_draws_are_the_statistic_of_the_repeated_sample() -> None:
    values, subjects = np.arange(9.0), list("aabbccdde")
    resamples = Resamples(subjects, np.random.default_rng(2), draws=25)
    sampled = bootstrap(partial(mean, values), resamples)
    slow = [np.repeat(values, row.astype(int)).mean() for row in all_weights(resamples)]
    np.testing.assert_allclose(sampled.draws, slow)
    assert (sampled.value, sampled.patients) == (4, 5)
    np.testing.assert_allclose(sampled.left_out, [np.delete(values, gone).mean() for gone in ([0, 1], [2, 3], [4, 5], [6, 7], [8])])


def test_the_interval_is_that_of_scipy_at_the_expanded_level() -> None:
    """scipy.stats.bootstrap, BCa, given the same draws; it knows no clusters, so every study is a patient here."""
    rng = np.random.default_rng(4)
    values = rng.exponential(size=40)
    sampled = bootstrap(partial(mean, values), Resamples([None] * 40, rng, draws=700))
    level = 1 - 2 * norm.sf(t.ppf(0.975, 39) * np.sqrt(40 / 39))
    assert level == pytest.approx(0.959, abs=1e-3)
    known = SimpleNamespace(bootstrap_distribution=sampled.draws)
    reference = scipy_bootstrap((values,), np.mean, n_resamples=0, bootstrap_result=known, confidence_level=level, method="BCa")
    assert sampled.interval == pytest.approx(tuple(reference.confidence_interval), rel=1e-12)
    assert sampled.interval[0] > np.percentile(sampled.draws, 100 * (1 - level) / 2), "skewed to the right: so is the interval"


def test_groups_stand_for_patients_where_there_are_many() -> None:
    values = np.random.default_rng(6).exponential(size=3000)
    sampled = bootstrap(partial(mean, values), Resamples([None] * 3000, np.random.default_rng(6), draws=1000))
    assert sampled.left_out.shape == (module.GROUPS,)
    assert np.concatenate(list(Resamples(list("abc") * 90, np.random.default_rng(0), draws=2).left_out())).sum(axis=1).tolist() == [180] * 3
    away = values - values.mean()
    exact = np.sum(away**3) / (6 * np.sum(away**2) ** 1.5)
    groups = sampled.left_out.mean() - sampled.left_out
    assert np.sum(groups**3) / (6 * np.sum(groups**2) ** 1.5) == pytest.approx(exact, abs=0.01)


def test_levels_stay_where_the_draws_are() -> None:
    """One patient, two of them, a statistic that no draw reaches, and one that is the same on every draw."""
    draws = np.linspace(0, 1, 101)
    np.testing.assert_allclose(bca_levels(0.5, draws), [0.025, 0.975], atol=1e-6)
    for value, patients in ((0.5, 1), (0.5, 2), (-1.0, 30), (2.0, 30)):
        low, high = bca_levels(value, draws, np.arange(30.0) ** 4, patients)
        assert 0 <= low <= high <= 1
    assert bca_levels(-1.0, draws)[1] < 0.01
    assert bca_levels(2.0, draws)[0] > 0.99
    same = bootstrap(partial(mean, np.ones(5)), Resamples([None] * 5, np.random.default_rng(0), draws=50))
    assert same.interval == (1, 1)


def test_a_mean_of_cells_is_that_of_the_means() -> None:
    resamples = Resamples([None] * 30, np.random.default_rng(8), draws=60)
    one, two = np.random.default_rng(8).random((2, 30))
    made = mean_of([bootstrap(partial(mean, values), resamples) for values in (one, two)], 60)
    whole = bootstrap(partial(mean, (one + two) / 2), resamples)
    assert made.value == pytest.approx(whole.value)
    assert made.interval == pytest.approx(whole.interval)
    assert np.isnan(mean_of([], 60).value)
    assert mean_of([], 60).draws.shape == (60,)


def test_intervals_cover_the_truth() -> None:
    """Patients differ from each other and have one to three studies: 95 % intervals by patient hold the true mean about that often,
    intervals by study hold it too seldom.
    """
    by_patient = by_study = 0
    repeats = 1000
    for repeat in range(repeats):
        rng = np.random.default_rng([11, repeat])
        patient = np.repeat(np.arange(60), rng.integers(1, 4, 60))
        values = rng.normal(0.5, 1.0, 60)[patient] + 0.2 * rng.normal(size=len(patient))
        for names, counts in (([str(p) for p in patient], True), ([str(i) for i in range(len(patient))], False)):
            low, high = bootstrap(partial(mean, values), Resamples(names, rng, draws=200)).interval
            by_patient += counts and low <= 0.5 <= high
            by_study += not counts and low <= 0.5 <= high
    assert 0.93 <= by_patient / repeats <= 0.97
    assert by_study / repeats < 0.90


def test_intervals_of_rare_and_skewed_statistics_cover_the_truth() -> None:
    """What plain percentiles miss too often: `regen bench coverage` with few repeats. Its lines name the figures."""
    made = bench([80], repeats=300, draws=300, seed=0)
    for name in ("micro-F1", DIFFERENCE, "share of a 10 % finding", "AUROC of a 10 % finding"):
        row = made["patients"]["80"][name]
        assert 0.92 <= row["bca"] <= 0.98, name
        assert row["bca"] + row["below"] + row["above"] == pytest.approx(1)
    rare = made["patients"]["80"]["AUROC of a 10 % finding"]
    assert rare["percentile"] < rare["bca"] - 0.02
    text = "\n".join(lines(made))
    assert "300 simulated samples" in text
    assert f"{100 * rare['bca']:.1f}" in text
    with pytest.raises(ConfigError, match="at least 2 patients"):
        coverage(1)


def test_pairing_sees_what_two_intervals_hide() -> None:
    rng = np.random.default_rng(3)
    hard = rng.normal(size=80)
    system, other = hard + 0.2 + 0.1 * rng.normal(size=80), hard
    resamples = Resamples([str(i) for i in range(80)], rng, draws=500)
    one, two = bootstrap(partial(mean, system), resamples), bootstrap(partial(mean, other), resamples)
    assert one.interval[0] < two.interval[1]  # they overlap
    difference = paired(partial(mean, system), partial(mean, other), resamples)
    assert difference.value == pytest.approx(one.value - two.value)
    assert 0 < difference.interval[0] < 0.2 < difference.interval[1] + 0.05
    np.testing.assert_array_equal(difference.draws, one.minus(two).draws)


def test_undefined_draws_are_left_out_and_nothing_gives_nan() -> None:
    assert Sampled(0.5, np.array([0.5, np.nan, 0.5])).interval == (0.5, 0.5)
    assert np.isnan(Sampled(float("nan"), np.full(3, np.nan)).interval).all()
    empty = bootstrap(partial(mean, np.zeros(0)), Resamples([], np.random.default_rng(0), draws=10))
    assert np.isnan(empty.value)
    assert empty.draws.shape == (10,)


def test_each_once_is_the_sample() -> None:
    assert each_once(3).tolist() == [[1.0, 1.0, 1.0]]
