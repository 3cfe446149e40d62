"""The limit below which nothing in the index is near: a quantile worked by hand, and who counts for it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from regen.index.case_index import Asker, CaseIndex
from regen.index.cases import CASES
from regen.index.limits import FEWEST, RARE, nearest_limit
from regen.study import FloatArray


def at(degrees: list[float]) -> FloatArray:
    """(n, 2) unit vectors."""
    turned = np.radians(degrees)
    return np.stack([np.cos(turned), np.sin(turned)], 1).astype(np.float32)


@pytest.fixture
def index() -> CaseIndex:
    """Case a of subject p at 0 degrees, case b of subject q at 90."""
    rows = {name: [None, None] for name in CASES} | {"study_id": ["a", "b"], "subject_id": ["p", "q"], "report": ["A.", "B."]}
    return CaseIndex(pl.DataFrame(rows, schema=CASES), at([0, 90]), at([0, 90]), "f", "torch")


def test_the_limit_is_the_cosine_that_one_in_fifty_lies_below(index: CaseIndex) -> None:
    degrees = [40.0] * 2 + [10.0] * 99
    assert nearest_limit(index, at(degrees), [Asker()] * 101) == pytest.approx(np.cos(np.radians(10)), abs=1e-6)
    degrees = [40.0] * 4 + [10.0] * 97
    assert nearest_limit(index, at(degrees), [Asker()] * 101) == pytest.approx(np.cos(np.radians(40)), abs=1e-6)
    assert RARE == 0.02


def test_who_asks_does_not_see_the_subjects_own_cases(index: CaseIndex) -> None:
    made = nearest_limit(index, at([0.0] * FEWEST), [Asker("new", "p")] * FEWEST)
    assert made == pytest.approx(0, abs=1e-6)


def test_too_few_set_no_limit(index: CaseIndex) -> None:
    assert nearest_limit(index, at([0.0] * (FEWEST - 1)), [Asker()] * (FEWEST - 1)) is None
    assert nearest_limit(index, at([]), []) is None
