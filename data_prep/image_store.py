"""Chest X-rays in Parquet: 8-bit squares, differenced along the rows, zstd. One row an image in shards of 256.

    store = ImageWriter(folder, size=224)
    number = store.add(square(pixels, 224))                     pixels in [0, 1]
    for positions, images in read_images(folder, numbers, 224):     (n, 224, 224) uint8, 255 = white

A view of 224 x 224 takes about 25 KB. An image is scaled to fit and padded with black to a square: never stretched, never flipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from regen.data_prep.shards import ShardWriter, read_shards
from regen.errors import ArtifactError
from regen.study import FloatArray

SHARD = 256
Bytes = npt.NDArray[np.uint8]


def square(pixels: FloatArray, size: int) -> FloatArray:
    """(height, width) in [0, 1] -> (size, size): scaled with averaging to fit, centred, padded with 0."""
    from PIL import Image

    height, width = pixels.shape
    scale = size / max(height, width)
    inside = max(1, round(height * scale)), max(1, round(width * scale))
    out = np.zeros((size, size), np.float32)
    top, left = ((size - inside[0]) // 2, (size - inside[1]) // 2)
    if inside == (height, width):
        small = pixels
    else:
        filtered = Image.Resampling.BOX if scale < 0.5 else Image.Resampling.BILINEAR
        small = np.asarray(Image.fromarray(pixels).resize((inside[1], inside[0]), filtered), np.float32)
    out[top : top + inside[0], left : left + inside[1]] = small.clip(0, 1)
    return out


class ImageWriter(ShardWriter):
    """Collect packed images and write a shard whenever one is full."""

    def __init__(self, folder: Path, size: int) -> None:
        super().__init__(folder, "pixels", SHARD, level=6)
        self.size = size

    def add(self, pixels: FloatArray) -> int:
        """Store one image, (size, size) in [0, 1]; returns its number."""
        steps = np.rint(pixels * 255).astype(np.uint8)
        return self.add_row(np.diff(steps, axis=1, prepend=np.uint8(0)).tobytes())


def read_images(folder: Path, rows: npt.NDArray[np.int64], size: int, batch: int = SHARD) -> Iterator[tuple[npt.NDArray[np.int64], Bytes]]:
    """Numbered images, shard by shard: yields (positions in `rows`, (n, size, size) uint8), at most `batch` at a time.

    Raises:
        ArtifactError: a row of another size.
    """
    for shard, part, blocks in read_shards(folder, "pixels", rows, SHARD, batch):
        if any(len(block) != size * size for block in blocks):
            raise ArtifactError(f"{folder}: expected images of {size} x {size}, got another size in shard {shard}; prepare the folder again")
        deltas = np.frombuffer(b"".join(blocks), np.uint8).reshape(len(part), size, size)
        yield part, np.cumsum(deltas, axis=2, dtype=np.uint8)
