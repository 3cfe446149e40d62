"""Where the beats are, and the median beat with its waves found.

    beats = find_beats(signal)                 positions, RR intervals, which beats look unlike the others
    waves = delineate(beats.average, rr)       P, QRS and T of the usual beat, at 500 Hz

Beats are peaks of the spatial velocity (all leads together), aligned by correlation and averaged; waves are delineated on the average,
where noise is small and every lead agrees on one onset. One recording takes about a millisecond.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.signal
from scipy.interpolate import CubicSpline

from regen.study import LEADS, FloatArray

Array = npt.NDArray[np.float64]

FS = 100.0
"""Rate of the signals measured here, Hz."""
FINE = 5
"""The average beat is interpolated to FINE * FS."""
MS = FS * FINE / 1000
"""Samples of the fine beat a millisecond."""
BEFORE, AFTER = 40, 60
"""Samples of the average beat before and after the fiducial point, at FS."""
CENTRE = BEFORE * FINE

_SPAN = np.arange(-BEFORE, AFTER)
_CORE = np.arange(-9, 13)
_SHIFTS = np.arange(-4, 5)
_KERNEL = np.hanning(9)[1:-1] / np.hanning(9).sum()
_INTERPOLATE = CubicSpline(np.arange(BEFORE + AFTER), np.eye(BEFORE + AFTER), axis=0)(np.arange(0, BEFORE + AFTER - 1 + 1e-9, 1 / FINE)).T
"""(100, 496): a spline is linear in its values, so interpolation is a product."""


@dataclass(frozen=True, slots=True, eq=False)
class Beats:
    """peaks: (beats,) sample positions at FS; rr: (beats - 1,) s; ectopic: (beats,) another shape than most; premature: (beats,) early.

    average: (12, 100) float32 mV, mean of the usual beats, fiducial point at sample BEFORE, NaN in missing leads or without beats.
    spread: (12,) root mean square deviation of the usual beats from it, mV.
    """

    peaks: npt.NDArray[np.int64]
    rr: Array
    ectopic: npt.NDArray[np.bool_]
    premature: npt.NDArray[np.bool_]
    average: FloatArray
    spread: Array


@dataclass(frozen=True, slots=True, eq=False)
class Waves:
    """The delineated average beat, (12, 496) mV at 500 Hz with the PR segment at zero. Positions are its samples, -1 where not found."""

    beat: Array
    p_on: int
    p_off: int
    q_on: int
    s_off: int
    t_peak: int
    t_end: int


def find_beats(signal: FloatArray) -> Beats:
    """signal: (12, time) cleaned, at FS, mV, NaN where missing."""
    filled = np.nan_to_num(signal)
    velocity = _velocity(filled)
    window = int(1.5 * FS)
    tops = [velocity[i : i + window].max() for i in range(0, max(1, len(velocity) - window // 2), window)]
    height = max(0.3 * float(np.median(tops)), 1e-6)
    peaks, _ = scipy.signal.find_peaks(velocity, height=height, distance=int(0.25 * FS))
    whole = _whole(peaks, len(velocity))
    if not whole.any():
        none = np.zeros(len(peaks), bool)
        return Beats(peaks, np.diff(peaks) / FS, none, none, np.full((12, len(_SPAN)), np.nan, np.float32), np.full(12, np.nan))
    peaks, scores = _align(filled, peaks, whole)
    whole = _whole(peaks, len(velocity))
    usual = whole & (scores > 0.75)
    chosen = usual if usual.any() else whole if whole.any() else np.ones(len(peaks), bool)
    cut = filled[:, np.clip(peaks[chosen, None] + _SPAN, 0, len(velocity) - 1)]
    average = _middle(cut)
    spread = np.sqrt(((cut - average[:, None]) ** 2).mean(axis=(1, 2)))
    average[np.isnan(signal).all(axis=1)] = np.nan
    rr = np.diff(peaks) / FS
    premature = np.zeros(len(peaks), bool)
    premature[1:] = rr < 0.8 * (np.median(rr) if len(rr) else 0)
    return Beats(peaks, rr, scores < 0.75, premature, average.astype(np.float32), spread.astype(np.float64))


def _whole(peaks: npt.NDArray[np.int64], time: int) -> npt.NDArray[np.bool_]:
    """Beats whose window lies inside the recording."""
    return (peaks >= BEFORE) & (peaks < time - AFTER)


def _velocity(filled: FloatArray) -> Array:
    slope = filled[:, 2:] - filled[:, :-2]
    magnitude = np.sqrt(np.einsum("lt,lt->t", slope, slope))
    return np.convolve(_held(magnitude), _KERNEL, mode="same").astype(np.float64)


def _held(values: npt.NDArray) -> npt.NDArray:
    """The same with its first and last value once more."""
    return np.concatenate([values[:1], values, values[-1:]])


def _middle(cut: FloatArray) -> FloatArray:
    """np.median over axis 1 of what holds no NaN, without its detours. cut: (12, beats, time)."""
    ordered = np.sort(cut, axis=1)
    half = cut.shape[1] // 2
    return ordered[:, half] if cut.shape[1] % 2 else (ordered[:, half - 1] + ordered[:, half]) / np.float32(2)


def _align(filled: FloatArray, peaks: npt.NDArray[np.int64], whole: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], Array]:
    """Shift every beat to where it matches the usual QRS best. Returns the positions and each beat's correlation with it."""
    last = filled.shape[1] - 1
    columns = peaks[:, None, None] + _SHIFTS[None, :, None] + _CORE
    cut = filled[:, np.clip(columns, 0, last)]
    cut = cut - cut.mean(axis=-1, keepdims=True)
    norms = np.sqrt(np.einsum("lbsk,lbsk->bs", cut, cut)) + 1e-9
    at = np.full(len(peaks), len(_SHIFTS) // 2)
    chosen = whole
    scores = np.ones(len(peaks))
    for _ in range(2):
        template = cut[:, chosen, at[chosen]].mean(axis=1)
        match = np.einsum("lbsk,lk->bs", cut, template, optimize=True) / (norms * (np.linalg.norm(template) + 1e-9))
        at = match.argmax(axis=1)
        scores = match[np.arange(len(peaks)), at]
        similar = whole & (scores > 0.75)
        chosen = similar if similar.any() else whole
    return peaks + _SHIFTS[at], scores.astype(np.float64)


def delineate(average: FloatArray, rr: float) -> Waves:
    """Find P, QRS and T of an average beat. average: (12, 100) mV at FS; rr: the usual interval, s."""
    beat = np.nan_to_num(average).astype(np.float64) @ _INTERPOLATE
    slope = beat[:, 2:] - beat[:, :-2]
    speed = _held(np.sqrt(np.einsum("lt,lt->t", slope, slope)))
    top = speed[CENTRE - round(80 * MS) : CENTRE + round(80 * MS)].max()
    quiet = np.quantile(speed[CENTRE - round(180 * MS) : CENTRE + round(320 * MS)], 0.15)
    limit = quiet + 0.07 * (top - quiet)
    q_on = _leave(speed, -1, limit, round(12 * MS), round(120 * MS))
    s_off = _leave(speed, +1, limit, round(14 * MS), round(160 * MS))
    beat = beat - beat[:, max(q_on - round(14 * MS), 0) : max(q_on - round(4 * MS), 1)].mean(axis=1, keepdims=True)
    t_peak, t_end = _t_wave(beat, s_off, rr)
    p_on, p_off = _p_wave(beat, q_on, rr)
    return Waves(beat, p_on, p_off, q_on, s_off, t_peak, t_end)


def _leave(speed: Array, step: int, limit: float, quiet: int, reach: int) -> int:
    """Walk out of the QRS until it is slow for `quiet` samples; begin at the steepest point, for the fiducial may sit in a notch."""
    side = speed[CENTRE : CENTRE + reach // 2] if step > 0 else speed[CENTRE - reach // 2 : CENTRE + 1][::-1]
    at = last = CENTRE + step * int(side.argmax())
    below = 0
    while 0 < at < len(speed) - 1 and abs(at - CENTRE) < reach:
        below = below + 1 if speed[at] < limit else 0
        if below == 0:
            last = at
        if below >= quiet:
            break
        at += step
    return last


def _t_wave(beat: Array, s_off: int, rr: float) -> tuple[int, int]:
    """Peak of the spatial magnitude after the QRS; its end where the steepest descent meets the floor (Lepeschkin's tangent)."""
    begin = s_off + round(60 * MS)
    longest = 620 * (rr if np.isfinite(rr) else 0.9)
    stop = min(CENTRE + round(min(longest, 560.0) * MS), beat.shape[1] - 2)
    if stop - begin < round(60 * MS):
        return -1, -1
    tail = np.sqrt(np.einsum("lt,lt->t", beat[:, begin:], beat[:, begin:]))
    peak = int(tail[: stop - begin].argmax())
    fall = np.gradient(tail[peak:]) if len(tail) - peak >= 4 else np.zeros(1)
    steepest = int(fall[: round(160 * MS)].argmin())
    if fall[steepest] >= 0:
        return begin + peak, -1
    after = tail[peak + steepest :]
    floor = after[: round(140 * MS)].min()
    end = begin + peak + steepest + round((after[0] - floor) / -fall[steepest])
    return begin + peak, min(end, beat.shape[1] - 1)


def _p_wave(beat: Array, q_on: int, rr: float) -> tuple[int, int]:
    """The largest bump between the previous T wave and the QRS; none where nothing rises above 0.05 mV."""
    early = 450 * rr if np.isfinite(rr) else 340
    begin = max(CENTRE - round(min(early, 380.0) * MS), 0)
    stop = q_on - round(12 * MS)
    if stop - begin < round(60 * MS):
        return -1, -1
    segment = beat[:, begin:stop]
    ramp = np.linspace(0, 1, stop - begin)
    segment = segment - segment[:, :1] - ramp * (segment[:, -1:] - segment[:, :1])
    bump = np.sqrt(np.einsum("lt,lt->t", segment, segment))
    peak = int(bump.argmax())
    if bump[peak] < 0.05:
        return -1, -1
    valley = np.r_[False, (bump[1:-1] <= bump[:-2]) & (bump[1:-1] <= bump[2:]), False]
    low = (bump < 0.2 * bump[peak]) | (valley & (bump < 0.5 * bump[peak]))
    left = np.flatnonzero(low[:peak])
    right = np.flatnonzero(low[peak:])
    return begin + (int(left[-1]) if left.size else 0), begin + (peak + int(right[0]) if right.size else len(bump) - 1)


LEAD_INDEX = {name: i for i, name in enumerate(LEADS)}
