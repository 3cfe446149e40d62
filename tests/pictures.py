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


def damaged(folder: Path, name: str, whole: bytes, rng: np.random.Generator, header: int, shortest: int) -> list[str]:
    """200 files of `whole` with one to nine bits turned, in three of four cases anywhere, else behind the header; one in five also cut, to
    `shortest` bytes or more."""
    paths = []
    for turn in range(200):
        data = bytearray(whole)
        for at in rng.integers(0 if turn % 4 else header, len(data), size=int(rng.integers(1, 10))):
            data[at] ^= 1 << int(rng.integers(8))
        if turn % 5 == 0:
            del data[int(rng.integers(shortest, len(data))) :]
        paths.append(str(folder / f"{turn}.{name}"))
        Path(paths[-1]).write_bytes(bytes(data))
    return paths


def outcome(path: str) -> str:
    """'' for a picture of finite numbers, else the one line of its DataError."""
    try:
        pixels = read_study(path).cxr[0].pixels
    except DataError as error:
        return str(error)
    return "" if np.isfinite(pixels).all() and 0 <= pixels.min() < pixels.max() <= 1 else "not finite"
