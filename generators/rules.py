"""What a ruler says about a statement: where a measurement holds it up, leaves it in doubt, rules it out, or states it by itself.

    supports("SBRAD", {"heart_rate": 48.0})  ->  "heart rate 48 /min"
    doubts("IRBBB", {"qrs": 124.0})          ->  "QRS duration 124 ms"

RULES is the table of criteria, one row a statement, with their source. `supports` and `doubted` follow what is published. `denied` leaves the
ruler's error beside that, or lies beyond the 5th or 95th percentile of the coded PTB-XL training cases, so that a true sentence is not taken
out; `adds` is narrower than `supports` where the ruler errs: it reads 245 ms of PR in the 99th percentile of ECGs that were coded normal.
What cannot be measured, or not reliably, says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from regen.data_prep.measure import UNITS
from regen.data_prep.statements import EXCLUDES

_INF = math.inf
Range = tuple[float, float]
NEVER: Range = (math.nan, math.nan)
ALWAYS: Range = (-_INF, _INF)
_BRANCH = "Surawicz et al., JACC 53:976, 2009"
_QT = "Rautaharju et al., JACC 53:982, 2009"
_RATE = "Kusumoto et al., JACC 74:e51, 2019"
_LVH = "Hancock et al., JACC 53:992, 2009"
_CODED = "coded PTB-XL training cases"


@dataclass(frozen=True, slots=True)
class Rule:
    """One measurement and what its values mean for a statement; both ends of a range belong to it.

    supports: inside, the statement is held up; doubted: outside, it is uncertain at best; denied: outside, it is contradicted; adds:
    inside, the measurement alone states it; source: of `supports` and `doubted`.
    """

    measure: str
    supports: Range = NEVER
    doubted: Range = ALWAYS
    denied: Range = ALWAYS
    adds: Range = NEVER
    source: str = _CODED


RULES: dict[str, Rule] = {
    "SR": Rule("heart_rate", denied=(35, 150)),
    "STACH": Rule("heart_rate", (100, _INF), (100, _INF), denied=(90, _INF), source="usual adult range"),
    "SBRAD": Rule("heart_rate", (-_INF, 60), (-_INF, 60), denied=(-_INF, 66), source="usual adult range"),
    "AFIB": Rule("rr_cv", (0.1, _INF), denied=(0.04, _INF)),
    "SARRH": Rule("rr_sd", (60, _INF)),
    "1AVB": Rule("pr", (200, _INF), (200, _INF), denied=(170, _INF), adds=(250, 400), source=_RATE),
    "LPR": Rule("pr", (200, _INF), (200, _INF), denied=(170, _INF), source=_RATE),
    "LNGQT": Rule("qtc", (460, _INF), (460, _INF), denied=(420, _INF), source=_QT),
    "CLBBB": Rule("qrs", (120, _INF), (120, _INF), denied=(105, _INF), source=_BRANCH),
    "CRBBB": Rule("qrs", (120, _INF), (120, _INF), denied=(100, _INF), source=_BRANCH),
    "IRBBB": Rule("qrs", (110, 119), (-_INF, 119), denied=(-_INF, 132), source=_BRANCH),
    "ILBBB": Rule("qrs", (110, 119), (-_INF, 119), denied=(-_INF, 140), source=_BRANCH),
    "IVCD": Rule("qrs", (110, _INF), source=_BRANCH),
    "LAFB": Rule("axis", (-90, -45), (-90, -45), denied=(-105, -15), source=_BRANCH),
    "LPFB": Rule("axis", (90, 180), (90, 270), denied=(75, 270), source=_BRANCH),
    "LVH": Rule("sokolow", (3.5, _INF), source=_LVH),
    "VCLVH": Rule("sokolow", (3.5, _INF), source=_LVH),
    "NORM": Rule("axis", denied=(-35, 110)),
    "PVC": Rule("early_wide_beats", (1, _INF)),
    "PAC": Rule("premature_beats", (1, _INF)),
    "XB": Rule("ectopic_beats", (1, _INF)),
    "MID": Rule("axis", (-30, 90), (-30, 90), denied=(-30, 110), source=_BRANCH),
    "AXL": Rule("axis", (-30, 0), denied=(-40, 20), adds=(-30, 0), source=_BRANCH),
    "AXR": Rule("axis", (75, 110), denied=(45, 130)),
    "LAD": Rule("axis", (-90, -30), (-90, -30), denied=(-100, -20), adds=(-90, -30), source=_BRANCH),
    "ALAD": Rule("axis", (-90, -45), (-90, -45), denied=(-100, -20), adds=(-90, -45), source=_BRANCH),
    "RAD": Rule("axis", (90, 200), (90, 200), denied=(75, 240), adds=(110, 180), source=_BRANCH),
    "ARAD": Rule("axis", (120, 270), (120, 270), denied=(95, 270), adds=(130, 180), source=_BRANCH),
    "DRIFT": Rule("wander", (0.2, _INF), denied=(0.1, _INF)),
    "STATIC": Rule("noise", (0.009, _INF), denied=(0.003, _INF)),
    "BURST": Rule("noise", (0.009, _INF), denied=(0.003, _INF)),
}
ADDED = ("1AVB", "ALAD", "LAD", "ARAD", "RAD", "AXL")
"""Statements that a measurement can make alone, the narrower before the wider."""
_RIGHT = frozenset({"AXR", "RAD", "ARAD", "LPFB"})
"""Axes that go on beyond 180 degrees: -170 is 190 for them."""
_DEAFENING = 0.08
"""Millivolts of high-frequency noise; the noisiest coded training cases have 0.02."""
_NO_P_WAVES = frozenset({"AFIB", "AFLT", "PACE", "SVTAC", "PSVT", "3AVB"})
_OF_P_WAVES = frozenset({"pr", "p_duration", "p_amplitude", "p_terminal_v1"})
_QTC: Range = (300.0, 600.0)
_QT_SHARE = 0.8
"""Of the RR interval. A longer QT ends in the next P wave; one training recording in 400 is measured so."""
_REGULAR, _P_HEIGHT = 0.15, 0.05
"""Variation of the RR interval below which, and millivolts of the P wave in II from which, one PR interval stands for the recording."""
_MANY = 0.2
"""Share of beats of another shape from which the average beat may not be the patient's own."""
_SLOW, _FAST, _FASTEST = 50.0, 100.0, 130.0
"""Heart rates /min: sinus bradycardia below (Kusumoto et al. 2019), sinus tachycardia above, and from where on it may be another rhythm."""
_WORDS = {
    "heart_rate": "heart rate", "rr_cv": "variation of the RR interval", "rr_sd": "standard deviation of the RR interval", "pr": "PR interval",
    "qtc": "QTc", "qrs": "QRS duration", "axis": "frontal axis", "sokolow": "Sokolow-Lyon voltage", "early_wide_beats": "early wide beats",
    "premature_beats": "premature beats", "ectopic_beats": "ectopic beats", "wander": "baseline wander", "noise": "high-frequency noise",
}  # fmt: skip


def supports(code: str, measured: Mapping[str, float]) -> str | None:
    """The measurement in words where it agrees with the statement; None where it does not, or where nothing measures it."""
    rule = RULES.get(code)
    return said(rule.measure, measured[rule.measure]) if rule and _inside(code, rule.supports, measured) else None


def doubts(code: str, measured: Mapping[str, float]) -> str | None:
    """The measurement in words where it misses the statement's criterion; None otherwise."""
    rule = RULES.get(code)
    return said(rule.measure, measured[rule.measure]) if rule and _inside(code, rule.doubted, measured) is False else None


def denies(code: str, measured: Mapping[str, float]) -> str | None:
    """The measurement in words where it speaks against the statement; None otherwise."""
    rule = RULES.get(code)
    return said(rule.measure, measured[rule.measure]) if rule and _inside(code, rule.denied, measured) is False else None


def added(measured: Mapping[str, float], positive: Collection[str]) -> Iterator[str]:
    """What the measurements state by themselves, beside the findings: a deviating axis, a long PR interval where P waves are found reliably.

    Nothing that a finding excludes, and no axis of a paced rhythm or of one where many beats differ from the usual.
    """
    for code in ADDED:
        measure = RULES[code].measure
        reliable = _one_pr(measured) if measure == "pr" else _one_axis(measured) and "PACE" not in positive
        if reliable and _inside(code, RULES[code].adds, measured) and not EXCLUDES.get(code, frozenset()) & set(positive):
            yield code


def rate_name(measured: Mapping[str, float]) -> str | None:
    """What a regular rhythm of this rate is called if it is a sinus rhythm: SBRAD or STACH; None for the usual rate, or an irregular rhythm."""
    rate = measured.get("heart_rate", math.nan)
    if not measured.get("rr_cv", math.nan) < _REGULAR:
        return None
    return "SBRAD" if rate < _SLOW else "STACH" if _FAST < rate < _FASTEST else None


def _one_pr(measured: Mapping[str, float]) -> bool:
    return measured.get("rr_cv", math.nan) < _REGULAR and measured.get("p_amplitude", math.nan) >= _P_HEIGHT


def _one_axis(measured: Mapping[str, float]) -> bool:
    return not measured.get("ectopic_beats", math.nan) > _MANY * measured.get("beats", math.nan)


def _inside(code: str, span: Range, measured: Mapping[str, float]) -> bool | None:
    """None where it is not measured."""
    value = measured.get(RULES[code].measure, math.nan)
    if math.isnan(value):
        return None
    return span[0] <= (value + 360 if code in _RIGHT and value < -90 else value) <= span[1]


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


def unreliable(measured: Mapping[str, float]) -> bool:
    """Whether the QT interval was measured as no heart has it: QTc outside 300 to 600 ms, or most of the RR interval."""
    qtc, qt, rate = (measured.get(name, math.nan) for name in ("qtc", "qt", "heart_rate"))
    return qtc < _QTC[0] or qtc > _QTC[1] or qt * rate > _QT_SHARE * 60_000


def believable(measured: Mapping[str, float], positive: Collection[str]) -> dict[str, float]:
    """The measurements without those of P waves where a finding says that there are none to measure, and without an unreliable QT: NaN, as for
    whatever is unmeasurable."""
    gone = (_OF_P_WAVES if _NO_P_WAVES & set(positive) else frozenset()) | ({"qt", "qtc"} if unreliable(measured) else set())
    return {name: math.nan if name in gone else value for name, value in measured.items()}


def said(measure: str, value: float) -> str:
    """'frontal axis -52 degrees'."""
    unit = {"1": "", "count": ""}.get(UNITS[measure], f" {UNITS[measure]}")
    digits = 0 if UNITS[measure] in {"/min", "ms", "degrees", "count"} else 3 if measure == "noise" else 2
    return f"{_WORDS[measure]} {value:.{digits}f}{unit}"
