"""What probes read off features: on rows they did not learn from, in order, and a space in which like labels lie together."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from regen.eval.linear_probe import STRENGTH, standardised
from regen.eval.probed import log_odds, nearest_cases, read_off, scored, spaces
from regen.eval.retrieval_metrics import precision

N = 240
BOTH = np.array([True, True])


@pytest.fixture
def material() -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Two labels, each told by one of forty features, which are otherwise loud noise; three parts in mixed order."""
    rng = np.random.default_rng(0)
    truth = (rng.random((N, 2)) < 0.3).astype(np.float32)
    features = rng.normal(size=(N, 40)).astype(np.float32)
    features[:, :2] += 3 * truth
    truth[:12, 1] = np.nan
    fold = rng.integers(0, 3, N)
    return features, truth, [(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(3)]


def test_every_row_is_read_by_a_probe_that_did_not_see_it(material: tuple) -> None:
    features, truth, parts = material
    read = scored(read_off(spaces(features, parts), truth, parts), parts)
    assert read.shape == (N, 2)
    learn, test = parts[1]
    own, other = standardised(features[learn], features[test])
    known = ~np.isnan(truth[learn, 1])
    expected = LogisticRegression(C=STRENGTH, max_iter=1000).fit(own[known].astype(float), truth[learn, 1][known] == 1).predict_proba(other)[:, 1]
    assert read[test, 1] == pytest.approx(expected, abs=1e-5)


def test_like_labels_lie_nearer_in_what_is_read_than_in_the_features(material: tuple) -> None:
    features, truth, parts = material
    ids = [str(i) for i in range(N)]
    found = [
        float(precision(nearest_cases(space, truth, ids, ids, parts, 5, BOTH), 5)[0])
        for space in (spaces(features, parts), log_odds(read_off(spaces(features, parts), truth, parts)))
    ]
    assert found[1] > found[0] + 0.2
    assert found[1] > 0.6


def test_the_same_patient_is_no_case_and_an_uncounted_label_no_match(material: tuple) -> None:
    features, truth, parts = material
    ids = [str(i) for i in range(N)]
    space = spaces(features, parts)
    assert nearest_cases(space, truth, ids, ["one"] * N, parts, 5, BOTH).total.max() == 0
    one = nearest_cases(space, truth, ids, ids, parts, 5, np.array([True, False]))
    assert ((one.total > 0) == (truth[:, 0] == 1)).all(), "in the order of the rows"


def test_a_label_that_nobody_has_is_nothing_in_the_space(material: tuple) -> None:
    features, truth, parts = material
    truth = np.concatenate([truth, np.zeros((N, 1), np.float32), np.full((N, 1), np.nan, np.float32)], 1)
    space = log_odds(read_off(spaces(features, parts), truth, parts))
    assert all((part[:, 2:] == 0).all() for pair in space for part in pair)
    assert all(pair[0][:, :2].std(0) == pytest.approx([1, 1], abs=1e-3) for pair in space)
