"""What can be read off a 12-lead ECG with a ruler: rate, intervals, axis, amplitudes, irregularity, noise.

    measured, features = measure(signal)
    measured == {"heart_rate": 61.1, "pr": 160.0, "qrs": 84.0, "qt": 372.0, "qtc": 376.0, "axis": 52.0, ...}

Every scalar has its unit in UNITS; what cannot be measured is NaN, never zero. `features` holds the same and the shape of the average
beat, time-normalised wave by wave, as one vector for a classifier: (FEATURES,).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from regen.data_prep.beats import LEAD_INDEX, MS, Array, Beats, Waves, delineate, find_beats
from regen.data_prep.threads import one_thread
from regen.study import FloatArray

UNITS = {
    "heart_rate": "/min", "rr_sd": "ms", "rr_rmssd": "ms", "pr": "ms", "qrs": "ms", "qt": "ms", "qtc": "ms", "p_duration": "ms",
    "axis": "degrees", "t_axis": "degrees", "sokolow": "mV", "cornell": "mV", "p_amplitude": "mV", "p_terminal_v1": "mV",
    "beats": "count", "ectopic_beats": "count", "premature_beats": "count", "early_wide_beats": "count",
    "rr_cv": "1", "rr_jump": "1", "rr_longest": "1", "rr_shortest": "1", "noise": "mV", "wander": "mV",
}  # fmt: skip
"""Scalar measurement -> unit (1: a ratio to the usual interval). Intervals are those of the average beat; QTc is Bazett's."""
_QRS_POINTS, _T_POINTS = 26, 12
_AMPLITUDES = 13
_QRS_EDGE, _SLOW_EDGE = 4.0, 8.0
"""Milliseconds that a wave begins before (ends after) the point where its slope passes the detection limit: QRS; P and T."""
FEATURES = len(UNITS) + 12 * (_AMPLITUDES + _QRS_POINTS + _T_POINTS)
"""Length of the feature vector."""


def measure(signal: FloatArray, raw: FloatArray | None = None) -> tuple[dict[str, float], FloatArray]:
    """Scalars and feature vector of one recording.

    signal: (12, time) cleaned at 100 Hz, mV, NaN where missing; raw: the same with its baseline, for `wander`.
    Returns measurements by name, in the units of UNITS, and (FEATURES,) float32; NaN where a thing cannot be measured.
    """
    signal, raw = _recorded(signal, raw)
    beats = find_beats(signal)
    out = dict.fromkeys(UNITS, float("nan"))
    out |= _rhythm(beats) | _noise(signal, raw)
    shape = np.full(FEATURES - len(UNITS), np.nan, np.float32)
    missing = np.isnan(beats.average).all(axis=1)
    if not missing.all():
        rr = float(np.median(beats.rr)) if len(beats.rr) else float("nan")
        waves = delineate(beats.average, rr)
        waves.beat[missing] = np.nan
        amplitudes = _amplitudes(waves)
        out |= _intervals(waves, rr) | _vectors(waves, amplitudes)
        shape = np.concatenate([amplitudes, _shape(waves)], axis=1).ravel().astype(np.float32)
    scalars = np.array(list(out.values()), np.float32)
    return out, np.concatenate([scalars, shape])


@one_thread
def measure_all(signals: FloatArray, raw: FloatArray | None = None) -> tuple[list[dict[str, float]], FloatArray]:
    """The same for a batch: signals (n, 12, time) -> n dicts and (n, FEATURES)."""
    rows = [measure(signal, None if raw is None else raw[i]) for i, signal in enumerate(signals)]
    return [row[0] for row in rows], np.stack([row[1] for row in rows]) if rows else np.zeros((0, FEATURES), np.float32)


def _recorded(signal: FloatArray, raw: FloatArray | None) -> tuple[FloatArray, FloatArray | None]:
    """Without the missing samples that fill a short recording up: silence there would lower the limit that beats must pass."""
    held = np.flatnonzero(~np.isnan(signal).all(axis=0))
    part = slice(int(held[0]), int(held[-1]) + 1) if held.size else slice(None)
    return signal[:, part], None if raw is None else raw[:, part]


def _rhythm(beats: Beats) -> dict[str, float]:
    out = {
        "beats": float(len(beats.peaks)),
        "ectopic_beats": float(beats.ectopic.sum()),
        "premature_beats": float(beats.premature.sum()),
        "early_wide_beats": float((beats.premature & beats.ectopic).sum()),
    }
    if len(beats.rr) >= 2:
        out["heart_rate"] = 60.0 / float(np.median(beats.rr))
        out["rr_sd"] = 1e3 * float(beats.rr.std())
        out["rr_rmssd"] = 1e3 * float(np.sqrt(np.mean(np.diff(beats.rr) ** 2)))
        usual = float(np.median(beats.rr))
        out["rr_cv"], out["rr_jump"] = float(beats.rr.std()) / usual, float(np.median(np.abs(np.diff(beats.rr)))) / usual
        out["rr_longest"], out["rr_shortest"] = float(beats.rr.max()) / usual, float(beats.rr.min()) / usual
    return out


def _noise(signal: FloatArray, raw: FloatArray | None) -> dict[str, float]:
    """noise: robust level of the second difference, median over leads; wander: standard deviation of what cleaning removed, worst lead."""
    fast = np.abs(signal[:, 2:] - 2 * signal[:, 1:-1] + signal[:, :-2])
    middle = fast.shape[1] // 2
    levels = np.partition(np.nan_to_num(fast), middle, axis=1)[:, middle] * (1.4826 / np.sqrt(6.0))
    present = ~np.isnan(signal[:, 0])
    out = {"noise": float(np.median(levels[present])) if present.any() else float("nan")}
    if raw is not None:
        removed = np.nan_to_num(raw - signal)
        out["wander"] = float(removed.std(axis=1).max())
    return out


def _intervals(waves: Waves, rr: float) -> dict[str, float]:
    out = {"qrs": (waves.s_off - waves.q_on) / MS + 2 * _QRS_EDGE}
    if waves.t_end > 0:
        out["qt"] = (waves.t_end - waves.q_on) / MS + _QRS_EDGE + _SLOW_EDGE
        out["qtc"] = out["qt"] / np.sqrt(rr) if np.isfinite(rr) and rr > 0 else float("nan")
    if waves.p_on > 0:
        out["pr"] = (waves.q_on - waves.p_on) / MS - _QRS_EDGE + _SLOW_EDGE
        out["p_duration"] = (waves.p_off - waves.p_on) / MS
        v1, two = LEAD_INDEX["V1"], LEAD_INDEX["II"]
        out["p_amplitude"] = float(waves.beat[two, waves.p_on : waves.p_off + 1].max())
        out["p_terminal_v1"] = float(waves.beat[v1, (waves.p_on + waves.p_off) // 2 : waves.p_off + 1].min())
    return out


def _amplitudes(waves: Waves) -> Array:
    """(12, _AMPLITUDES): R, S, first 40 ms low, net area, positive share of the QRS, J, J + 40 ms, J + 80 ms, T high, T low, T at its
    peak, high and low of the 260 ms before the QRS (P). Millivolts but for the area (mV ms / 100) and the share.
    """
    beat, q_on, s_off = waves.beat, waves.q_on, waves.s_off
    last = beat.shape[1] - 1
    qrs = beat[:, q_on : s_off + 1]
    t_stop = max(waves.t_end, s_off + round(160 * MS))
    t_wave = beat[:, min(s_off + round(60 * MS), last - 1) : min(t_stop, last) + 1]
    before = beat[:, max(q_on - round(280 * MS), 0) : max(q_on - round(20 * MS), 1)]
    columns = [qrs.max(axis=1), qrs.min(axis=1), qrs[:, : round(40 * MS)].min(axis=1), qrs.sum(axis=1) / MS / 100, (qrs > 0.03).mean(axis=1)]
    columns += [beat[:, min(s_off + round(ms * MS), last)] for ms in (0, 40, 80)]
    columns += [t_wave.max(axis=1), t_wave.min(axis=1), beat[:, waves.t_peak if waves.t_peak > 0 else min(s_off + round(200 * MS), last)]]
    columns += [before.max(axis=1), before.min(axis=1)]
    return np.stack(columns, axis=1)


def _vectors(waves: Waves, amplitudes: Array) -> dict[str, float]:
    high, low, area = amplitudes[:, 0], amplitudes[:, 1], amplitudes[:, 3]
    lead = LEAD_INDEX
    out = {
        "axis": _axis(area),
        "sokolow": float(np.fmax(high[lead["V5"]], high[lead["V6"]]) - low[lead["V1"]]),
        "cornell": float(high[lead["aVL"]] - low[lead["V3"]]),
    }
    if waves.t_end > 0:
        out["t_axis"] = _axis(waves.beat[:, waves.s_off + round(60 * MS) : waves.t_end].sum(axis=1))
    return out


def _axis(area: npt.NDArray[np.float64]) -> float:
    """Frontal axis in degrees from the net areas in I and aVF (aVF scaled to Einthoven's triangle)."""
    return float(np.degrees(np.arctan2(area[LEAD_INDEX["aVF"]] * 2 / np.sqrt(3), area[LEAD_INDEX["I"]])))


def _shape(waves: Waves) -> Array:
    """(12, points): QRS at fixed times and ST-T stretched to a fixed number of samples, so that rate and QT do not shift them."""
    t_end = waves.t_end if waves.t_end > 0 else waves.s_off + round(320 * MS)
    at = np.concatenate(
        [
            np.linspace(waves.q_on - 20 * MS, waves.q_on + 180 * MS, _QRS_POINTS),
            np.linspace(waves.s_off, t_end, _T_POINTS),
        ]
    )
    return waves.beat[:, np.clip(at.round().astype(int), 0, waves.beat.shape[1] - 1)]
