"""ECG signals in Parquet: 16-bit steps of 5 microvolts, differenced along time, low and high bytes apart, zstd.

One row a study in shards of 512; a PTB-XL recording at 100 Hz takes about 9 KB. Reads back to the nearest step, NaN kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from regen.data_prep.shards import ShardWriter, read_shards
from regen.errors import ArtifactError
from regen.study import FloatArray

STEP = 0.005
"""Millivolts a step; 16 bits hold +-163 mV."""
SHARD = 512
_MISSING = -32768


def pack(signal: FloatArray) -> bytes:
    """(12, time) millivolts -> bytes."""
    steps = np.where(np.isnan(signal), _MISSING, np.clip(np.rint(np.nan_to_num(signal) / STEP), -32767, 32767)).astype(np.int16)
    deltas = np.diff(steps, axis=1, prepend=np.int16(0)).astype(np.int16)
    coded = ((deltas << 1) ^ (deltas >> 15)).astype(np.uint16)
    return (coded & 0xFF).astype(np.uint8).tobytes() + (coded >> 8).astype(np.uint8).tobytes()


def unpack(rows: Iterable[bytes]) -> FloatArray:
    """Rows of one length -> (n, 12, time) millivolts float32."""
    blocks = [np.frombuffer(row, np.uint8) for row in rows]
    sizes = {len(block) for block in blocks}
    if len(sizes) != 1:
        raise ArtifactError(f"ecg shard: expected rows of one length, got {sorted(sizes)}; prepare the folder again")
    planes = np.stack(blocks).reshape(len(blocks), 2, 12, -1).astype(np.uint16)
    coded = planes[:, 1] << 8 | planes[:, 0]
    deltas = ((coded >> 1) ^ (-(coded & 1).astype(np.int16)).view(np.uint16)).view(np.int16)
    steps: npt.NDArray[np.int16] = np.cumsum(deltas, axis=-1, dtype=np.int16)
    signal = steps.astype(np.float32) * np.float32(STEP)
    signal[steps == _MISSING] = np.nan
    return signal


class SignalWriter(ShardWriter):
    """Collect packed recordings and write a shard whenever one is full."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "signal", SHARD, level=9)

    def add(self, signal: FloatArray) -> int:
        """Store one recording; returns its number."""
        return self.add_row(pack(signal))


def read_rows(folder: Path, rows: npt.NDArray[np.int64], batch: int = SHARD) -> Iterator[tuple[npt.NDArray[np.int64], FloatArray]]:
    """Signals of numbered rows, shard by shard: yields (positions in `rows`, (n, 12, time)), at most `batch` at a time."""
    for _, part, packed in read_shards(folder, "signal", rows, SHARD, batch):
        yield part, unpack(packed)
