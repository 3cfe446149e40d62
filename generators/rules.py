"""What a ruler says about a statement: the measurements that hold a sentence up, and the few that speak against it.

    supports("SBRAD", {"heart_rate": 48.0})  ->  "heart rate 48 /min"

The ranges that support follow clinical convention; those that contradict lie beyond the 5th or 95th percentile of the coded PTB-XL training
cases, so that a measuring error does not take out a true sentence. They annotate, they do not diagnose.
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
    "SR": Rule("heart_rate", 50, 105, deny_low=35, deny_high=150),
    "STACH": Rule("heart_rate", 100, deny_low=90),
    "SBRAD": Rule("heart_rate", high=60, deny_high=66),
    "AFIB": Rule("rr_cv", 0.1, deny_low=0.04),
    "SARRH": Rule("rr_sd", 60),
    "1AVB": Rule("pr", 200, deny_low=170),
    "LPR": Rule("pr", 200, deny_low=170),
    "LNGQT": Rule("qtc", 460, deny_low=420),
    "CLBBB": Rule("qrs", 120, deny_low=105),
    "CRBBB": Rule("qrs", 118, deny_low=100),
    "IVCD": Rule("qrs", 110),
    "LAFB": Rule("axis", -120, -30, deny_low=-150, deny_high=15),
    "LVH": Rule("sokolow", 3.5),
    "VCLVH": Rule("sokolow", 3.5),
    "PVC": Rule("early_wide_beats", 1),
    "PAC": Rule("premature_beats", 1),
    "XB": Rule("ectopic_beats", 1),
    "MID": Rule("axis", -10, 95, deny_low=-35, deny_high=115),
    "AXL": Rule("axis", -45, 0, deny_low=-75, deny_high=35),
    "AXR": Rule("axis", 75, 120, deny_low=45, deny_high=150),
    "LAD": Rule("axis", -75, 0, deny_low=-95, deny_high=30),
    "ALAD": Rule("axis", -100, -30, deny_low=-120, deny_high=-10),
    "RAD": Rule("axis", 90, 200, deny_low=60, deny_high=240),
    "ARAD": Rule("axis", 110, 270, deny_low=75, deny_high=270),
    "DRIFT": Rule("wander", 0.2, deny_low=0.1),
    "STATIC": Rule("noise", 0.009, deny_low=0.003),
    "BURST": Rule("noise", 0.009, deny_low=0.003),
}
_RIGHT = frozenset({"AXR", "RAD", "ARAD"})
"""Axes that go on beyond 180 degrees: -170 is 190 for them."""
_DEAFENING = 0.08
"""Millivolts of high-frequency noise; the noisiest coded training cases have 0.02."""
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
    if rule is None or not rule.low <= _value(code, rule, measured) <= rule.high:
        return None
    return said(rule.measure, measured[rule.measure])


def denies(code: str, measured: Mapping[str, float]) -> str | None:
    """The measurement in words where it speaks against the statement; None otherwise."""
    rule = RULES.get(code)
    value = math.nan if rule is None else _value(code, rule, measured)
    if rule is None or not (value < rule.deny_low or value > rule.deny_high):
        return None
    return said(rule.measure, measured[rule.measure])


def _value(code: str, rule: Rule, measured: Mapping[str, float]) -> float:
    value = measured.get(rule.measure, math.nan)
    return value + 360 if code in _RIGHT and value < -90 else value


def unreadable(measured: Mapping[str, float]) -> str | None:
    """Why nothing can be said about a recording: no beats, a rate no heart has, or noise as high as a QRS. None where one can."""
    rate, beats, noise = (measured.get(name, math.nan) for name in ("heart_rate", "beats", "noise"))
    if not beats >= 2 or math.isnan(rate):
        return "no heart beats were found"
    if not 15 <= rate <= 300:
        return f"{said('heart_rate', rate)} is no heart's"
    if noise > _DEAFENING:
        return f"{said('noise', noise)} drowns the signal"
    return None


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
