"""Any lead names in any order -> the twelve rows of regen.study.LEADS, in millivolts.

    to_twelve(signal, ["V1", "MDC_ECG_LEAD_II", "Lead I (Einthoven)"]) -> (12, time), flags

The six limb leads are linear in I and II (Einthoven, Goldberger), so two independent ones give the other four exactly.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from regen.errors import DataError
from regen.study import LEADS, FloatArray

_PLAIN = {lead.lower(): lead for lead in LEADS} | {"mlii": "II"}
_NOISE_WORDS = re.compile(r"mdc_ecg_lead_|\blead\b|\becg\b|\(.*?\)|[\s_\-.:]")
_LIMB = np.array([[1, 0], [0, 1], [-1, 1], [-0.5, -0.5], [1, -0.5], [-0.5, 1]], dtype=np.float64)
"""(6, 2): I, II, III, aVR, aVL, aVF as combinations of I and II."""

MILLIVOLTS = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "nv": 1e-6, "v": 1e3}
"""Unit (lower case) -> factor to millivolts."""


@lru_cache(maxsize=4096)
def lead_of(name: str) -> str | None:
    """'MDC_ECG_LEAD_AVR', 'avr', 'Lead I (Einthoven)' -> the name in LEADS; None for anything else (V3R, PLETH, x)."""
    return _PLAIN.get(_NOISE_WORDS.sub("", name.lower()))


def to_twelve(signal: FloatArray, names: Sequence[str], who: str) -> tuple[FloatArray, tuple[str, ...]]:
    """Put rows into the order of LEADS, fill limb leads that two others determine, leave the rest NaN.

    signal: (channels, time) float32 millivolts; names: one a channel; who: the file, for messages.
    Returns (12, time) float32 and flags 'lead_derived:aVL', 'lead_missing:V6'.
    """
    rows: dict[str, int] = {}
    for row, name in enumerate(names):
        lead = lead_of(name)
        if lead is None:
            continue
        if lead in rows:
            raise DataError(f"{who}: expected each lead once, got {lead} as channel {rows[lead]} and as channel {row}; keep one of them in the file")
        rows[lead] = row
    if not rows:
        raise DataError(
            f"{who}: expected ECG leads ({', '.join(LEADS)}), got channels {', '.join(map(repr, names))}; "
            "rename the channels in the header to the standard lead names"
        )
    if [*rows] == [*LEADS] and len(names) == len(LEADS):
        return np.ascontiguousarray(signal, np.float32), ()
    out = np.full((len(LEADS), signal.shape[1]), np.nan, np.float32)
    for lead, row in rows.items():
        out[LEADS.index(lead)] = signal[row]
    derived = _derive_limb(out, [lead in rows for lead in LEADS[:6]])
    missing = [lead for lead in LEADS if lead not in rows and lead not in derived]
    return out, tuple(f"lead_derived:{n}" for n in derived) + tuple(f"lead_missing:{n}" for n in missing)


def _derive_limb(out: FloatArray, present: list[bool]) -> list[str]:
    known = np.array(present)
    if known.sum() < 2 or known.all():
        return []
    to_base = np.linalg.pinv(_LIMB[known])
    absent = np.flatnonzero(~known)
    out[absent] = (_LIMB[absent] @ (to_base @ out[:6][known].astype(np.float64))).astype(np.float32)
    return [LEADS[i] for i in absent]
