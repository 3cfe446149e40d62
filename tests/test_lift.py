"""Lifts from one modality to the other: by hand, and how far chance strays where queries find the same few candidates."""

from __future__ import annotations

import numpy as np
import pytest

from regen.eval.lift import Found, by_chance, lift, nearest_others


def test_by_hand() -> None:
    similarity = np.array([[0.9, 0.8, 0.1, 0.2], [0.9, 0.8, 0.7, 0.1], [0.1, 0.2, 0.9, 0.8], [0.1, 0.9, 0.2, 0.8]])
    own, has = np.eye(4, dtype=bool), np.array([True, True, False, False])
    nearest = nearest_others(similarity, own, 2)
    np.testing.assert_array_equal(nearest, [[1, 3], [0, 2], [3, 1], [1, 2]])
    found = Found.of(nearest, own, has)
    np.testing.assert_allclose(found.share, [0.5, 0.5, np.nan, np.nan])
    np.testing.assert_allclose(found.base, [1 / 3, 1 / 3, np.nan, np.nan])
    assert lift(found) == pytest.approx([1.5])
    assert np.isnan(lift(Found.of(nearest, own, np.zeros(4, bool)))).all()


def test_a_subject_with_few_others_has_fewer_neighbours() -> None:
    own = np.array([[True, True, False], [True, True, False], [False, False, True]])
    np.testing.assert_array_equal(nearest_others(np.zeros((3, 3)), own, 2), [[2, -1], [2, -1], [0, 1]])


def test_chance_holds_a_lift_of_nothing_and_is_wide_where_all_find_the_same() -> None:
    rng, n = np.random.default_rng(0), 300
    own, outside = np.eye(n, dtype=bool), {}
    for name, alike in (("alike", True), ("apart", False)):
        ends, beyond = [], 0
        for _ in range(60):
            has = rng.random(n) < 0.1
            similarity = np.broadcast_to(rng.random(n), (n, n)) if alike else rng.random((n, n))
            nearest = nearest_others(similarity, own, 10)
            found = Found.of(nearest, own, has)
            low, high = by_chance(nearest, has, found, 200, rng)
            beyond += not low <= float(lift(found)[0]) <= high
            ends.append(high - low)
        outside[name] = np.mean(ends)
        assert beyond <= 8, "about one in twenty"
    assert outside["alike"] > 2 * outside["apart"]
    has = np.arange(n) < 30
    told = nearest_others((has[:, None] == has).astype(float), own, 10)
    found = Found.of(told, own, has)
    assert float(lift(found)[0]) > by_chance(told, has, found, 200, rng)[1]
    nobody = np.zeros(n, bool)
    assert np.isnan(by_chance(told, nobody, Found.of(told, own, nobody), 10, rng)).all()
