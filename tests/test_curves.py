"""The points of the card's plots, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from regen.eval.curves import reliability, risk_coverage, roc


def test_roc_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    scores, truth = rng.integers(0, 20, 300) / 20, rng.random(300) < 0.3
    ours = roc(scores, truth)
    theirs = roc_curve(truth, scores, drop_intermediate=False)
    assert np.allclose(ours[0], theirs[0])
    assert np.allclose(ours[1], theirs[1])


def test_reliability_by_hand() -> None:
    mean, share, count = reliability(np.array([[0.05, 0.07], [0.95, 1.0]]), np.array([[False, True], [True, True]]))
    assert mean.tolist() == pytest.approx([0.06, 0.975])
    assert share.tolist() == [0.5, 1.0]
    assert count.tolist() == [2, 2]


def test_risk_over_coverage_by_hand() -> None:
    cover, risk = risk_coverage(np.array([0.2, 0.9, 0.5]), np.array([1.0, 0.0, 0.5]))
    assert cover.tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert risk.tolist() == pytest.approx([0, 0.25, 0.5])
