"""Which leads and which seconds of an ECG moved a statement.

    maps = statement_maps(towers, signal, measures, ["AFIB", "LVH"])                   (2, 12, 10): leads x seconds, 1 where it counts most
    differences = hiding_check(towers, signal, measures, codes, maps, rng)             (2,), above 0 where the map beats places drawn at random

The score of a statement is its log-odds as the encoder and its head give them; of what was measured with a ruler nothing is hidden. A cell is
one second of one lead. It is hidden by making it missing, as in a lead that is off (occlusion: Zeiler and Fergus, ECCV 2014).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from regen.data_prep.statements import CODES
from regen.encoders.heatmap import top_tenth
from regen.encoders.store import Towers
from regen.errors import ConfigError, DataError, did_you_mean
from regen.study import LEADS, FloatArray

_LEAST = 1e-2
"""Log-odds; a statement that no cell moves by more is not spread over the whole range: it may be rounding."""
_CERTAIN = 1e-6

Values = npt.NDArray[np.float64]


def statement_maps(towers: Towers, signal: FloatArray, measures: FloatArray, codes: Sequence[str], absent: Sequence[bool] = ()) -> FloatArray:
    """(len(codes), 12, seconds) in [0, 1]: how far each statement falls when a second of a lead is hidden. NaN where there was nothing to hide.

    signal: (12, time) mV and measures: (FEATURES,), of one recording, as `clean_and_measure` leaves them. absent: of each code whether it is
    denied; then what speaks against it is shown. A map in which nothing speaks for its statement is zero.

    Raises:
        ConfigError: a code that is none.
        DataError: a signal of another shape.
    """
    heard = _heard(towers, signal)
    hidden = [np.arange(heard.size).reshape(heard.shape) == cell for cell in range(heard.size)]
    scores = _log_odds(towers, _variants(towers, signal, hidden), measures, codes)
    falls = (scores[0] - scores[1:]) * np.where(np.array(absent or [False] * len(codes), np.bool_), -1, 1)
    falls = falls.clip(0).T.reshape(len(codes), *heard.shape)
    highest = np.where(heard, falls, 0).max((1, 2), keepdims=True, initial=0)
    return np.where(heard, falls / highest.clip(_LEAST), np.nan).astype(np.float32)


def hiding_check(
    towers: Towers, signal: FloatArray, measures: FloatArray, codes: Sequence[str], maps: FloatArray, rng: np.random.Generator, draws: int = 8
) -> Values:
    """(len(codes),): fall of the log-odds when a map's top tenth is hidden, less its mean fall when the same shape, moved at random, is hidden.

    The shape is moved around the edges, over the leads that were recorded. NaN where the map is zero everywhere: nothing was claimed.

    Raises:
        DataError: not a map a code, or of another shape.
    """
    heard = _heard(towers, signal)
    if maps.shape != (len(codes), *heard.shape):
        raise DataError(f"hiding_check: expected maps of {(len(codes), *heard.shape)}, got {maps.shape}; take them from statement_maps")
    leads = np.flatnonzero(heard.any(1))
    out = np.full(len(codes), np.nan)
    for i, (code, heat) in enumerate(zip(codes, maps, strict=True)):
        top = top_tenth(heat)
        if not top.any():
            continue
        shifts = [(0, 0), *zip(rng.integers(0, len(leads), draws), rng.integers(0, heard.shape[1], draws), strict=True)]
        hidden = [np.zeros_like(top) for _ in shifts]
        for cells, shift in zip(hidden, shifts, strict=True):
            cells[leads] = np.roll(top[leads], shift, (0, 1))
        scores = _log_odds(towers, _variants(towers, signal, hidden), measures, [code])[:, 0]
        out[i] = (scores[0] - scores[1]) - (scores[0] - scores[2:]).mean()
    return out


def _heard(towers: Towers, signal: FloatArray) -> npt.NDArray[np.bool_]:
    """(12, seconds): something was recorded there."""
    rate = round(towers.ecg.config.fs)
    if signal.ndim != 2 or len(signal) != len(LEADS) or signal.shape[1] % rate or not signal.size:
        raise DataError(f"ECG map: expected (12, {rate} x seconds) millivolts, got {signal.shape}; clean it with clean_and_measure")
    return np.asarray(~np.isnan(signal.reshape(len(LEADS), -1, rate)).all(2), np.bool_)


def _variants(towers: Towers, signal: FloatArray, hidden: Sequence[npt.NDArray[np.bool_]]) -> FloatArray:
    """(1 + len(hidden), 12, time): the recording, then with these cells missing, each (12, seconds)."""
    rate = round(towers.ecg.config.fs)
    out = np.repeat(np.asarray(signal, np.float32)[None], 1 + len(hidden), 0)
    for variant, cells in zip(out[1:], hidden, strict=True):
        variant[np.repeat(cells, rate, 1)] = np.nan
    return out


def _log_odds(towers: Towers, signals: FloatArray, measures: FloatArray, codes: Sequence[str]) -> Values:
    """(n, len(codes))."""
    for code in codes:
        if code not in CODES:
            raise ConfigError(f"ECG map: expected a statement of the catalogue, got {code!r}{did_you_mean(code, CODES)}")
    _, stated, _ = towers.encode(signals, np.repeat(measures[None], len(signals), 0))
    p = stated[:, [CODES.index(code) for code in codes]].astype(np.float64).clip(_CERTAIN, 1 - _CERTAIN)
    return np.log(p / (1 - p))
