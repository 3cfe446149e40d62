"""A linear probe: L2 logistic regression on standardised features, one a statement."""

from __future__ import annotations

import numpy as np
import torch

from regen.encoders.head import FeatureScale
from regen.eval.bootstrap import Values
from regen.eval.set_metrics import Sets
from regen.study import FloatArray

STRENGTH = 0.01
"""Inverse penalty (scikit-learn's C): that of the encoder's own head on measurements. Between 0.001 and 0.1 little depends on it."""
Pair = tuple[FloatArray, FloatArray]
"""Features of the training and of the test split."""


def standardised(train: FloatArray, test: FloatArray) -> Pair:
    """Both (studies, width) in units of the training split's spread, robustly clipped, missing values at its mean. Needs no labels."""
    scale = FeatureScale.fit(train)
    return scale(torch.from_numpy(np.asarray(train, np.float32))).numpy(), scale(torch.from_numpy(np.asarray(test, np.float32))).numpy()


def linear_probe(train: FloatArray, truth: Sets, test: FloatArray, strength: float = STRENGTH) -> Values:
    """Probability of each test row; the share of positives where training knows one class alone.

    train: (n, width), truth: (n,), test: (m, width), standardised. Returns (m,). Deterministic.
    """
    from sklearn.linear_model import LogisticRegression

    if truth.all() or not truth.any():
        return np.full(len(test), truth.mean() if len(truth) else 0.0)
    model = LogisticRegression(C=strength, max_iter=1000).fit(np.asarray(train, np.float64), truth)
    return np.asarray(model.predict_proba(np.asarray(test, np.float64))[:, 1], np.float64)


def probe_each(train: FloatArray, truth: Sets, test: FloatArray) -> FloatArray:
    """Standardise, and probe every statement: (n, width), (n, 71), (m, width) -> (m, 71)."""
    pair = standardised(train, test)
    return np.stack([linear_probe(pair[0], column, pair[1]) for column in truth.T], axis=1).astype(np.float32)
