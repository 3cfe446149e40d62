"""Packed rows in numbered Parquet files: what stores of signals and of images have in common.

writer = ShardWriter(folder, "pixels", 256, level=6)
number = writer.add_row(packed)                                          bytes
writer.flush()
for shard, positions, packed in read_shards(folder, "pixels", numbers, 256, 64): ...      packed[i] is row numbers[positions[i]]
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl


class ShardWriter:
    """Collect packed rows and write a file of `size` rows whenever it is full. level: of zstd."""

    def __init__(self, folder: Path, column: str, size: int, level: int) -> None:
        self.folder, self.column, self.shard, self.level = folder, column, size, level
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rows: list[bytes] = []
        self.count = 0

    def add_row(self, row: bytes) -> int:
        """Store one row; returns its number."""
        self.rows.append(row)
        self.count += 1
        if len(self.rows) == self.shard:
            self.flush()
        return self.count - 1

    def flush(self) -> None:
        if self.rows:
            path = _path(self.folder, (self.count - 1) // self.shard)
            pl.DataFrame({self.column: self.rows}).write_parquet(path, compression="zstd", compression_level=self.level)
            self.rows = []


def read_shards(
    folder: Path, column: str, rows: npt.NDArray[np.int64], size: int, batch: int
) -> Iterator[tuple[int, npt.NDArray[np.int64], list[bytes]]]:
    """Numbered rows, file by file: yields (file, positions in `rows`, packed rows), at most `batch` at a time."""
    order = np.argsort(rows, kind="stable")
    for shard in np.unique(rows // size):
        here = order[rows[order] // size == shard]
        table = pl.read_parquet(_path(folder, int(shard)))[column]
        for start in range(0, len(here), batch):
            part = here[start : start + batch]
            yield int(shard), part, table.gather((rows[part] % size).tolist()).to_list()


def _path(folder: Path, shard: int) -> Path:
    return folder / f"{shard:05d}.parquet"
