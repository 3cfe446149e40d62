"""Reading pictures that the tests damage or make: the first view of a file, and what became of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from regen.data_prep.readers import read_study
from regen.errors import DataError
from regen.study import FloatArray

ROWS, COLUMNS = 90, 70
"""Of the fixture `pixels`."""


def grey(path: Path) -> FloatArray:
    return read_study(path).cxr[0].pixels


def outcome(path: str) -> str:
    """'' for a picture of finite numbers, else the one line of its DataError."""
    try:
        pixels = read_study(path).cxr[0].pixels
    except DataError as error:
        return str(error)
    return "" if np.isfinite(pixels).all() and 0 <= pixels.min() < pixels.max() <= 1 else "not finite"
