"""Intervals by patient: what a draw is, that they cover, that pairing narrows them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from regen.eval import bootstrap as module
from regen.eval.averages import mean
from regen.eval.bootstrap import Resamples, Sampled, Values, bootstrap, each_once, paired


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
    low, high = sampled.interval
    assert (low, high) == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])))


def test_intervals_cover_the_truth() -> None:
    """Patients differ from each other and have one to three studies: 95 % intervals by patient hold the true mean about that often,
    intervals by study hold it too seldom.
    """
    by_patient = by_study = 0
    repeats = 500
    for repeat in range(repeats):
        rng = np.random.default_rng([11, repeat])
        patient = np.repeat(np.arange(60), rng.integers(1, 4, 60))
        values = rng.normal(0.5, 1.0, 60)[patient] + 0.2 * rng.normal(size=len(patient))
        for names, counts in (([str(p) for p in patient], True), ([str(i) for i in range(len(patient))], False)):
            low, high = bootstrap(partial(mean, values), Resamples(names, rng, draws=300)).interval
            by_patient += counts and low <= 0.5 <= high
            by_study += not counts and low <= 0.5 <= high
    assert 0.92 <= by_patient / repeats <= 0.97
    assert by_study / repeats < 0.90


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
