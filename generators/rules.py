"""What a ruler says about a statement: the measurements that hold a sentence up, and the few that speak against it.

    supports("SBRAD", {"heart_rate": 48.0})  ->  "heart rate 48 /min"

The ranges are those in which the bulk of the coded PTB-XL training cases lie; they annotate, they do not diagnose. Only the frontal axis,
the rate of a named sinus rhythm and the wander behind a 'baseline drift' are measured well enough to contradict a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from regen.data_prep.measure import UNITS

_INF = math.inf


@dataclass(frozen=True, slots=True)
class Rule:
    """A statement is supported where low <= measure <= high, and contradicted below `deny_low` or above `deny_high`."""

    measure: str
    low: float = -_INF
    high: float = _INF
    deny_low: float = -_INF
    deny_high: float = _INF


RULES: dict[str, Rule] = {
    "SR": Rule("heart_rate", 50, 105),
    "STACH": Rule("heart_rate", 95, deny_low=85),
    "SBRAD": Rule("heart_rate", high=62, deny_high=70),
    "AFIB": Rule("rr_cv", 0.08),
    "SARRH": Rule("rr_sd", 50),
    "1AVB": Rule("pr", 200),
    "LPR": Rule("pr", 200),
    "LNGQT": Rule("qtc", 450),
    "CLBBB": Rule("qrs", 120),
    "CRBBB": Rule("qrs", 115),
    "IVCD": Rule("qrs", 105),
    "LAFB": Rule("axis", high=-30),
    "LVH": Rule("sokolow", 3.5),
    "VCLVH": Rule("sokolow", 3.5),
    "PVC": Rule("early_wide_beats", 1),
    "PAC": Rule("premature_beats", 1),
    "XB": Rule("ectopic_beats", 1),
    "MID": Rule("axis", -10, 95, deny_low=-35, deny_high=115),
    "AXL": Rule("axis", -45, 10, deny_low=-75, deny_high=35),
    "AXR": Rule("axis", 60, 120, deny_low=35, deny_high=150),
    "LAD": Rule("axis", -75, 5, deny_low=-95, deny_high=30),
    "ALAD": Rule("axis", -100, -25, deny_low=-120, deny_high=-5),
    "RAD": Rule("axis", 85, 180, deny_low=45),
    "ARAD": Rule("axis", 110, 180, deny_low=60),
    "DRIFT": Rule("wander", 0.15, deny_low=0.1),
    "STATIC": Rule("noise", 0.006),
    "BURST": Rule("noise", 0.006),
}
_NO_P_WAVES = frozenset({"AFIB", "AFLT", "PACE", "SVTAC", "PSVT", "3AVB"})
_OF_P_WAVES = frozenset({"pr", "p_duration", "p_amplitude", "p_terminal_v1"})
_WORDS = {
    "heart_rate": "heart rate", "rr_cv": "variation of the RR interval", "rr_sd": "standard deviation of the RR interval", "pr": "PR interval",
    "qtc": "QTc", "qrs": "QRS duration", "axis": "frontal axis", "sokolow": "Sokolow-Lyon voltage", "early_wide_beats": "early wide beats",
    "premature_beats": "premature beats", "ectopic_beats": "ectopic beats", "wander": "baseline wander", "noise": "high-frequency noise",
}  # fmt: skip


def supports(code: str, measured: Mapping[str, float]) -> str | None:
    """The measurement in words where it agrees with the statement; None where it does not, or where nothing measures it."""
    rule = RULES.get(code)
    value = math.nan if rule is None else measured.get(rule.measure, math.nan)
    if rule is None or not rule.low <= value <= rule.high:
        return None
    return said(rule.measure, value)


def denies(code: str, measured: Mapping[str, float]) -> str | None:
    """The measurement in words where it speaks against the statement; None otherwise."""
    rule = RULES.get(code)
    value = math.nan if rule is None else measured.get(rule.measure, math.nan)
    if rule is None or not (value < rule.deny_low or value > rule.deny_high):
        return None
    return said(rule.measure, value)


def believable(measured: Mapping[str, float], positive: Collection[str]) -> dict[str, float]:
    """The measurements without those of P waves where a finding says that there are none to measure: NaN, as for whatever is unmeasurable."""
    if not _NO_P_WAVES & set(positive):
        return dict(measured)
    return {name: math.nan if name in _OF_P_WAVES else value for name, value in measured.items()}


def said(measure: str, value: float) -> str:
    """'frontal axis -52 degrees'."""
    unit = {"1": "", "count": ""}.get(UNITS[measure], f" {UNITS[measure]}")
    digits = 0 if UNITS[measure] in {"/min", "ms", "degrees", "count"} else 3 if measure == "noise" else 2
    return f"{_WORDS[measure]} {value:.{digits}f}{unit}"
