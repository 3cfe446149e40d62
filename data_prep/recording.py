"""What every ECG reader checks and records once the samples are decoded, whatever the file was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from regen.data_prep.leads import to_twelve
from regen.errors import DataError
from regen.study import LEADS, Ecg, FloatArray, Study

RATES = (100.0, 1000.0)
"""Lowest and highest sampling rate that is read, Hz."""
SHORTEST = 2.0
"""Seconds; a shorter recording is refused."""


def study_of(millivolts: FloatArray, names: list[str], fs: float, path: Path, flags: tuple[str, ...] = (), **known: Any) -> Study:
    """Check rate, length and leads of what a reader decoded, and wrap it. millivolts: (channels, time) float32."""
    if not RATES[0] <= fs <= RATES[1]:
        raise DataError(
            f"{path}: expected a sampling rate from {RATES[0]:g} to {RATES[1]:g} Hz, got {fs:g}; "
            "correct the header (rate and sample count may be swapped) or resample the recording"
        )
    if millivolts.shape[1] < SHORTEST * fs:
        raise DataError(
            f"{path}: expected at least {SHORTEST:g} s, got {millivolts.shape[1] / fs:.2f} s "
            f"({millivolts.shape[1]} samples at {fs:g} Hz); record longer"
        )
    twelve, lead_flags = to_twelve(millivolts, names, str(path))
    twelve, flat = _drop_flat(twelve, path)
    return Study(
        study_id=known.pop("study_id", path.stem),
        subject_id=known.pop("subject_id", None),
        ecg=Ecg(twelve, float(fs)),
        source=str(path),
        flags=flags + lead_flags + flat,
        **known,
    )


def _drop_flat(twelve: FloatArray, path: Path) -> tuple[FloatArray, tuple[str, ...]]:
    """A lead that never changes was not connected: NaN, and a flag."""
    if not np.isfinite(twelve).any():
        raise DataError(f"{path}: expected samples, got only missing ones in every lead; the recording is empty")
    if np.isinf(twelve).any():
        raise DataError(f"{path}: expected finite millivolts, got infinity; the gain or the samples are wrong")
    with np.errstate(invalid="ignore"):
        low, high = np.fmin.reduce(twelve, axis=1), np.fmax.reduce(twelve, axis=1)
    flat = np.flatnonzero(high == low)
    if not flat.size:
        return twelve, ()
    twelve[flat] = np.nan
    if np.isnan(twelve).all():
        raise DataError(f"{path}: expected an ECG, got a flat line in every lead; check electrodes and export")
    return twelve, tuple(f"lead_flat:{LEADS[i]}" for i in flat)


def age_of(text: str | None) -> float | None:
    try:
        age = float(text) if text else float("nan")
    except ValueError:
        return None
    return age if 0 <= age <= 130 else None


def sex_of(text: str | None) -> str | None:
    return {"f": "female", "m": "male"}.get((text or "?").strip().lower()[:1])
