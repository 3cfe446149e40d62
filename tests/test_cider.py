"""CIDEr-D against a hand-worked case, and the bounds it must keep."""

from __future__ import annotations

import math

import numpy as np
import pytest

from regen.errors import DataError
from regen.eval.cider import cider


def test_a_hand_worked_case() -> None:
    """Two one-word references, so only the first order counts: idf of each word is ln 2."""
    values = cider(["alpha", "alpha", "alpha beta"], ["alpha", "beta", "alpha"])
    idf = {"alpha": math.log(3 / 2), "beta": math.log(3)}
    assert values[0] == pytest.approx(10 / 4)
    assert values[1] == 0
    vector = math.hypot(idf["alpha"], idf["beta"])
    assert values[2] == pytest.approx(10 / 4 * math.exp(-1 / 72) * idf["alpha"] / vector)


def test_a_repeated_word_is_clipped() -> None:
    once, twice = cider(["a b", "a a"], ["a b", "c d"])
    assert once > 0
    assert twice == 0
    clipped = cider(["a a a a", "c d"], ["a b c d", "c d"])
    assert clipped[0] < cider(["a b c d", "c d"], ["a b c d", "c d"])[0]


def test_perfect_drafts_of_four_words_score_ten_and_empty_ones_zero() -> None:
    references = ["sinus rhythm normal ecg", "atrial fibrillation rapid response", "left axis deviation seen"]
    assert cider(references, references) == pytest.approx(10.0)
    assert (cider([""] * 3, references) == 0).all()


def test_no_reference_is_no_value() -> None:
    assert np.isnan(cider(["a"], [""])[0])
    with pytest.raises(DataError, match="expected a draft a reference, got 1 drafts and 2"):
        cider(["a"], ["a", "b"])


def test_with_one_kind_of_reference_nothing_is_rare() -> None:
    assert (cider(["a b c d"] * 2, ["a b c d"] * 2) == 0).all()
