"""What every ECG reader checks and records once the samples are decoded, whatever the file was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from regen.data_prep.leads import lead_of, to_twelve
from regen.errors import DataError
from regen.study import LEADS, Ecg, FloatArray, Study

RATES = (100.0, 1000.0)
"""Lowest and highest sampling rate that is read, Hz."""
OLDEST = 130.0
"""Years."""
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
    millivolts, flat = _drop_flat(millivolts, names, path)
    twelve, lead_flags = to_twelve(millivolts, names, str(path))
    if np.isnan(twelve[:, 0]).all() and np.isnan(twelve).all():
        what = "a flat line" if flat else "only missing samples"
        raise DataError(f"{path}: expected an ECG, got {what} in every lead; check electrodes and export")
    return Study(
        study_id=known.pop("study_id", path.stem),
        subject_id=known.pop("subject_id", None),
        ecg=Ecg(twelve, float(fs)),
        source=str(path),
        flags=flags + lead_flags + flat,
        **known,
    )


def _drop_flat(millivolts: FloatArray, names: list[str], path: Path) -> tuple[FloatArray, tuple[str, ...]]:
    """A lead that never changes was not connected: NaN, before other leads are derived from it, and a flag."""
    leads = {row: lead for row, name in enumerate(names) if (lead := lead_of(name))}
    low, high = millivolts.min(axis=1), millivolts.max(axis=1)
    if np.isnan(low).any():
        low, high = np.fmin.reduce(millivolts, axis=1), np.fmax.reduce(millivolts, axis=1)
    rows = np.array(list(leads), int)
    if np.isinf(low[rows]).any() or np.isinf(high[rows]).any():
        raise DataError(f"{path}: expected finite millivolts, got infinity; the gain or the samples are wrong")
    flat = rows[low[rows] == high[rows]]
    if not flat.size:
        return millivolts, ()
    millivolts = millivolts.copy()
    millivolts[flat] = np.nan
    return millivolts, tuple(f"lead_flat:{leads[row]}" for row in sorted(flat.tolist(), key=lambda row: LEADS.index(leads[row])))


def age_of(text: str | None) -> float | None:
    """Years as the file has them; None where it holds no number."""
    try:
        age = float(text) if text else float("nan")
    except ValueError:
        return None
    return age if np.isfinite(age) else None


def age_or_missing(age: float | None) -> tuple[float | None, tuple[str, ...]]:
    """An age that a person can have; any other is missing, with a flag 'age_implausible:999'."""
    if age is None or 0 <= age <= OLDEST:
        return age, ()
    return None, (f"age_implausible:{age:g}",)


def sex_of(text: str | None) -> str | None:
    return {"f": "female", "m": "male"}.get((text or "?").strip().lower()[:1])
