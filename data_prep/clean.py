"""Resampling and baseline removal for whole batches, as two linear operators.

    resample(signal, 500.0, 100.0)      (..., 5000) -> (..., 1000): low-pass at 43 Hz, so 50 and 60 Hz mains are gone
    remove_baseline(signal, 100.0)      (..., 1000): zero-phase Butterworth high-pass at 0.5 Hz

Both are linear, so each is a matrix. The resampling matrix repeats itself along time and is applied in blocks; the high-pass
is identity minus something smooth, whose numerical rank is about thirteen a second, so two thin products replace a square
one. Both give what scipy's `resample_poly` and `sosfiltfilt` give lead by lead (tests hold them to 1e-4 mV).
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np
import scipy.signal

from regen.data_prep.threads import one_thread
from regen.errors import DataError
from regen.study import Ecg, FloatArray

CUTOFF_HZ = 43.0
TRANSITION_HZ = 10.0
BASELINE_HZ = 0.5
BASELINE_ORDER = 2
_BLOCK = 20
"""Output samples a block of the resampling product makes at least."""
_TOGETHER = 192
"""Leads whose baseline is removed at once: about what a core's cache holds."""


@lru_cache(maxsize=32)
def low_pass(up: int, down: int, fs: float) -> FloatArray:
    """(taps,) Kaiser-window low-pass at the rate fs * up, odd length, unit gain: the `window` of scipy's resample_poly."""
    rate = fs * up
    taps, beta = scipy.signal.kaiserord(60.0, TRANSITION_HZ / (rate / 2))
    taps |= 1
    return np.asarray(scipy.signal.firwin(taps, CUTOFF_HZ, window=("kaiser", beta), fs=rate), np.float64)


@lru_cache(maxsize=256)
def ratio(fs: float, to: float) -> tuple[int, int]:
    """Whole numbers (up, down) with fs * up / down = to."""
    fraction = Fraction(to / fs).limit_denominator(1000)
    return fraction.numerator, fraction.denominator


@one_thread
def resample(signal: FloatArray, fs: float, to: float = 100.0) -> FloatArray:
    """Low-pass at 43 Hz and change the rate; edges are held. A lead with gaps is bridged and the gaps return as NaN.

    signal: (..., time) float32 at fs Hz. Returns (..., ceil(time * to / fs)) float32.
    """
    if to < 2 * CUTOFF_HZ + TRANSITION_HZ / 2:
        raise DataError(f"resample: expected a target rate of at least {2 * CUTOFF_HZ + TRANSITION_HZ / 2:g} Hz, got {to:g}")
    signal, gaps = _bridge(signal)
    up, down = ratio(fs, to)
    matrix = _block(up, down, fs)
    step, outputs = len(matrix), matrix.shape[2]
    shape, time = signal.shape[:-1], signal.shape[-1]
    wanted = -(-time * up // down)
    count = -(-wanted // outputs)
    rows = signal.reshape(-1, time)
    if count * step != time:
        rows = np.pad(rows, ((0, 0), (0, max(0, count * step - time))), mode="edge")[:, : count * step]
    out = _overlap_add(rows.reshape(-1, step), matrix, count, rows[:, :1], rows[:, -1:])[:, :wanted].reshape(*shape, wanted)
    if gaps is not None:
        source = np.minimum((np.arange(wanted) * down / up).round().astype(int), time - 1)
        out[gaps[..., source]] = np.nan
    return out


def _overlap_add(blocks: FloatArray, matrix: FloatArray, count: int, first: FloatArray, last: FloatArray) -> FloatArray:
    """blocks: (rows * count, step); matrix: (step, 3, outputs); first, last: (rows, 1), held beyond the edges. Returns (rows, count * outputs).

    A block's product is [for the block before | its own | for the one after], so the three that meet in a block lie 2 * outputs apart
    when the products are written one after the other: two sums of whole arrays, and every third part is an output.
    """
    outputs = matrix.shape[2]
    held = np.empty(blocks.shape[0] * 3 * outputs + 4 * outputs, np.float32)
    held[: 2 * outputs] = held[-2 * outputs :] = 0
    product = held[2 * outputs : -2 * outputs].reshape(-1, 3 * outputs)
    np.matmul(blocks, matrix.reshape(len(matrix), -1), out=product)
    parts = product.reshape(-1, count, 3, outputs)
    parts[:, 0, 1] += first * matrix[:, 2].sum(axis=0)
    parts[:, -1, 1] += last * matrix[:, 0].sum(axis=0)
    parts[:, 0, 0] = parts[:, -1, 2] = 0
    length = len(held) - 4 * outputs
    added = held[outputs : outputs + length] + held[3 * outputs : 3 * outputs + length]
    added[:-outputs] += held[5 * outputs :]
    return added.reshape(-1, 3, outputs)[:, 0].reshape(-1, count * outputs)


@lru_cache(maxsize=32)
def _block(up: int, down: int, fs: float) -> FloatArray:
    """The repeating part of the resampling matrix, (step, 3, outputs): what each of a block's samples gives to the outputs of the block
    before, to its own, and to those of the block after; the filter reaches no further."""
    taps = low_pass(up, down, fs) * up
    half = len(taps) // 2
    reach = half // up + 1
    repeat = max(-(-_BLOCK // up), -(-reach // down))
    outputs, step = up * repeat, down * repeat
    source = np.arange(step)[:, None]
    tap = half + np.arange(-outputs, 2 * outputs)[None, :] * down - source * up
    inside = (tap >= 0) & (tap < len(taps))
    matrix = np.where(inside, taps[np.clip(tap, 0, len(taps) - 1)], 0.0)
    return np.ascontiguousarray(matrix, dtype=np.float32).reshape(step, 3, outputs)


@one_thread
def remove_baseline(signal: FloatArray, fs: float) -> FloatArray:
    """Take out what wanders slower than 0.5 Hz (zero-phase). signal: (..., time) at fs Hz; the same shape comes back, gaps stay NaN."""
    signal, gaps = _bridge(signal)
    left, right = _wander(signal.shape[-1], fs)
    rows = signal.reshape(-1, signal.shape[-1])
    cleaned = np.empty_like(rows)
    for start in range(0, len(rows), _TOGETHER):
        part = rows[start : start + _TOGETHER]
        centred = np.subtract(part, part.mean(axis=1, keepdims=True), out=cleaned[start : start + _TOGETHER])
        centred -= (centred @ left) @ right
    out = cleaned.reshape(signal.shape)
    if gaps is not None:
        out[gaps] = np.nan
    return out


@lru_cache(maxsize=64)
def _wander(time: int, fs: float) -> tuple[FloatArray, FloatArray]:
    """Thin factors (time, rank), (rank, time) of identity minus the high-pass, to 1e-5."""
    sos = scipy.signal.butter(BASELINE_ORDER, BASELINE_HZ, "highpass", fs=fs, output="sos")
    padding = min(int(fs), time - 1)
    smooth = np.eye(time) - scipy.signal.sosfiltfilt(sos, np.eye(time), axis=0, padlen=padding).T
    sketch = smooth @ np.random.default_rng(0).standard_normal((time, min(time, 40 + int(12 * time / fs))))
    basis, _ = np.linalg.qr(sketch)
    inner, values, outer = np.linalg.svd(basis.T @ smooth, full_matrices=False)
    rank = max(1, int((values > 8e-6 * values[0]).sum()))
    return (basis @ inner[:, :rank] * values[:rank]).astype(np.float32), outer[:rank].astype(np.float32)


def _bridge(signal: FloatArray) -> tuple[FloatArray, np.ndarray | None]:
    """Draw a straight line through gaps (zero where a whole lead is missing). Returns the filled signal and the gap mask, if any."""
    if not np.isnan(signal.min(initial=np.inf)):
        return signal, None
    gaps = np.isnan(signal)
    filled = signal.copy()
    rows, mask = filled.reshape(-1, signal.shape[-1]), gaps.reshape(-1, signal.shape[-1])
    at = np.arange(signal.shape[-1])
    for row in np.flatnonzero(mask.any(axis=1)):
        good = ~mask[row]
        rows[row] = np.interp(at, at[good], rows[row][good]) if good.any() else 0.0
    return filled, gaps


def fit_length(signal: FloatArray, samples: int) -> tuple[FloatArray, tuple[str, ...]]:
    """The first `samples` of a longer recording; a shorter one is filled up with missing samples, which the encoder masks.

    signal: (12, time). Returns (12, samples) and the flag 'cropped' or 'padded', if any.
    """
    time = signal.shape[-1]
    if time > samples:
        return signal[..., :samples], ("cropped",)
    if time < samples:
        return np.pad(signal, ((0, 0), (0, samples - time)), constant_values=np.nan), ("padded",)
    return signal, ()


def standard(ecg: Ecg, fs: float = 100.0, seconds: float = 10.0) -> tuple[FloatArray, tuple[str, ...]]:
    """One recording at the rate and length that prepared folders and encoders hold, baseline still in it. (12, fs * seconds)."""
    keep = int(np.ceil(seconds * ecg.fs)) + int(ecg.fs)
    signal = ecg.signal[:, :keep]
    if ecg.fs != fs or fs == 100.0:
        signal = resample(signal, ecg.fs, fs)
    signal, flags = fit_length(signal, round(fs * seconds))
    if not flags and ecg.seconds > seconds + 1 / fs:
        flags = ("cropped",)
    return signal, flags
