"""Training material: all recordings of a split, cleaned and measured once, then cut and disturbed batch by batch.

Signals and measurements lie in memory maps in the stage's scratch folder, so that an archive larger than memory trains as well.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from regen.data_prep.clean import remove_baseline, resample
from regen.data_prep.measure import FEATURES, measure_all
from regen.data_prep.prepared import Prepared
from regen.data_prep.statements import CODES
from regen.study import FloatArray

logger = logging.getLogger(__name__)
FS = 100.0
"""Encoders read signals at 100 Hz."""


@dataclass(frozen=True, slots=True, eq=False)
class Recordings:
    """signals: (n, 12, 1000) float16 mV, cleaned; measures: (n, FEATURES) float32; labels: (n, 71) float32, NaN rows where nobody coded.

    reports: n texts, empty where there is none.
    """

    rows: pl.DataFrame
    signals: npt.NDArray[np.float16]
    measures: FloatArray
    labels: FloatArray
    reports: list[str]

    def __len__(self) -> int:
        return len(self.reports)

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
        """A random order in full batches; a set smaller than a batch is one batch."""
        order = rng.permutation(len(self))
        size = min(size, len(self))
        for start in range(0, len(self) - size + 1, size):
            yield order[start : start + size]

    def crops(self, rows: npt.NDArray[np.int64], length: int, patch: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """A random window of each row. Returns (b, 12, length) float32 and the patch nearest to where each begins, (b,)."""
        starts = rng.integers(0, self.signals.shape[2] - length + 1, len(rows))
        cut = np.stack([self.signals[row, :, s : s + length] for row, s in zip(rows, starts, strict=True)])
        return torch.from_numpy(cut.astype(np.float32)), torch.from_numpy(starts // patch)


def load_recordings(data: Prepared, rows: pl.DataFrame, scratch: Path, name: str) -> Recordings:
    """Clean and measure the recordings of `rows` into scratch/name.*, or take what a run before left there."""
    signals = memory_map(scratch / f"{name}.signals", (len(rows), 12, 1000), np.float16)
    measures = memory_map(scratch / f"{name}.measures", (len(rows), FEATURES), np.float32)
    done = scratch / f"{name}.done"
    if not done.exists():
        logger.info("cleaning and measuring %d recordings (%s)", len(rows), name)
        for positions, raw in data.signals(rows):
            cleaned, values = clean_and_measure(raw, data.fs)
            signals[positions] = cleaned
            measures[positions] = values
        done.touch()
    return Recordings(rows, signals, measures, labels_of(rows), [text or "" for text in rows["report"].to_list()])


def clean_and_measure(raw: FloatArray, fs: float) -> tuple[FloatArray, FloatArray]:
    """(n, 12, time) mV at fs with its baseline -> cleaned at 100 Hz, and (n, FEATURES)."""
    at_rate = raw if fs == FS else resample(raw, fs, FS)
    cleaned = remove_baseline(at_rate, FS)
    return cleaned, measure_all(cleaned, at_rate)[1]


def statement_matrix(rows: pl.DataFrame) -> npt.NDArray[np.float32]:
    """(n, 71) likelihood of every statement, in the order of CODES; 1 for 'stated without a likelihood', NaN rows where nobody coded."""
    column = {code: i for i, code in enumerate(CODES)}
    out = np.zeros((len(rows), len(CODES)), np.float32)
    for i, statements in enumerate(rows["statements"].to_list()):
        if statements is None:
            out[i] = np.nan
            continue
        for statement in statements:
            if statement["code"] in column:
                out[i, column[statement["code"]]] = statement["likelihood"] or 1.0
    return out


def labels_of(rows: pl.DataFrame) -> FloatArray:
    """(n, 71) 1 where a statement is coded with any likelihood; a row of NaN where the study was not coded."""
    return np.sign(statement_matrix(rows))


def memory_map(path: Path, shape: tuple[int, ...], dtype: type) -> npt.NDArray:
    """An array in a file, kept from a run before if that had the same size."""
    if 0 in shape:
        return np.zeros(shape, dtype)
    mode = "r+" if path.exists() and path.stat().st_size == int(np.prod(shape)) * np.dtype(dtype).itemsize else "w+"
    return np.memmap(path, dtype=dtype, mode=mode, shape=shape)  # type: ignore[call-overload]


def disturb(signal: Tensor) -> Tensor:
    """What electrodes and recorders do: gain, lead gain, noise, wander, a lead off. signal: (b, 12, time) mV; NaN where a lead is off."""
    b, leads, time = signal.shape
    out = signal * torch.exp(0.1 * torch.randn(b, 1, 1)) * torch.exp(0.05 * torch.randn(b, leads, 1))
    out = out + torch.randn_like(out) * (0.02 * torch.rand(b, 1, 1))
    seconds = torch.arange(time) / FS
    phase = torch.rand(b, 1, 1) * 0.5 * seconds + torch.rand(b, leads, 1)
    out = out + 0.04 * torch.rand(b, leads, 1) * torch.sin(2 * torch.pi * phase)
    off = (torch.rand(b, leads, 1) < 0.1) & (torch.rand(b, 1, 1) < 0.5)
    return out.masked_fill(off, float("nan"))
