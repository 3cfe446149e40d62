"""Records that the tests write themselves: WFDB through a few lines of their own, so that any mistake can be put in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from regen.study import LEADS


def samples(rng: np.random.Generator, time: int = 2000, channels: int = 12, limit: int = 2000) -> npt.NDArray[np.int16]:
    """(time, channels) random steps between -limit and limit."""
    return rng.integers(-limit, limit + 1, (time, channels), dtype=np.int16)


def encode(adc: npt.NDArray[np.int16], kind: int) -> bytes:
    """Samples as WFDB format 16, or as 212 put together bit by bit: two 12-bit numbers in three bytes."""
    if kind == 16:
        return adc.astype("<i2").tobytes()
    out = bytearray()
    flat = [int(value) & 0xFFF for value in adc.ravel()]
    for i in range(0, len(flat), 2):
        low, high = flat[i], flat[i + 1] if i + 1 < len(flat) else 0
        out += bytes([low & 0xFF, (low >> 8) | (high >> 8) << 4, high & 0xFF])
    return bytes(out[: -(-3 * len(flat) // 2)])


def write_wfdb(
    folder: Path, name: str, adc: npt.NDArray[np.int16], fs: float = 500, kind: int = 16, gains: Sequence[str] | str = "1000(0)/mV",
    names: Sequence[str] = LEADS, comments: Sequence[str] = (), stamp: str = "",
) -> Path:  # fmt: skip
    """Write name.dat and name.hea with right checksums; returns the header's path."""
    folder.mkdir(parents=True, exist_ok=True)
    time, channels = adc.shape
    (folder / f"{name}.dat").write_bytes(encode(adc, kind))
    gains = [gains] * channels if isinstance(gains, str) else list(gains)
    lines = [f"{name} {channels} {fs:g} {time} {stamp}".strip()]
    for column in range(channels):
        checksum = int(adc[:, column].astype(np.int64).sum()) & 0xFFFF
        lines.append(f"{name}.dat {kind} {gains[column]} {16 if kind == 16 else 12} 0 {adc[0, column]} {checksum} 0 {names[column]}")
    header = folder / f"{name}.hea"
    header.write_text("\n".join([*lines, *(f"# {text}" for text in comments)]) + "\n")
    return header


def edit(header: Path, old: str, new: str, count: int = 1) -> Path:
    """Replace text in a header, and insist that it was there."""
    text = header.read_text()
    assert old in text, f"{old!r} is not in {header}"
    header.write_text(text.replace(old, new, count))
    return header
