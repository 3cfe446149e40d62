"""What PTB-XL's annotations say about one ECG, in ECG-QA's words: the truth of built questions, never an input to anything.

    ecg = annotated(row)                 a row of ptbxl_database.csv
    FACETS["certain"](ecg, "")           frozenset({"myocardial infarction in inferior leads"}), None where it cannot be told
    FACETS["noise"](ecg, "lead V2")      frozenset({"static noise"})

The names are ECG-QA's answers. How annotations become names is ours where the paper and the files do not tell: likelihood 0 ('stated without
one') and 1 are certain, everything between is not; an ECG with a statement that has no name in ECG-QA (WPW, RVH, 2nd degree block ...) is left
out where all statements of its kind are asked for; stadium I is early, II middle, III old, and I-II or II-III both; axis codes AXL, AXR and SAG are
left out, so that no ECG has an extreme axis; noise whose leads cannot be read is left out where leads are asked for; normal ranges as below.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from regen.data_prep.coding import from_ptbxl
from regen.data_prep.statements import SUPERCLASS_OF
from regen.study import LEADS

_BOTH = {
    "non-diagnostic t abnormalities": "NDT", "non-specific st changes": "NST_", "digitalis effect": "DIG", "long qt-interval": "LNGQT",
}  # fmt: skip
"""PTB-XL counts these as diagnostic and as form."""
_REGIONS = {"anterior": "AN", "anterolateral": "AL", "anteroseptal": "AS", "inferior": "IN", "inferolateral": "IL", "lateral": "LA"}
_INFARCTS = {
    "anterior": "AMI", "anterolateral": "ALMI", "anteroseptal": "ASMI", "inferior": "IMI", "inferolateral": "ILMI", "inferoposterior": "IPMI",
    "inferoposterolateral": "IPLMI", "lateral": "LMI", "posterior": "PMI",
}  # fmt: skip
DIAGNOSTIC: dict[str, str] = _BOTH | {
    "complete left bundle branch block": "CLBBB", "complete right bundle branch block": "CRBBB", "first degree av block": "1AVB",
    "incomplete left bundle branch block": "ILBBB", "incomplete right bundle branch block": "IRBBB", "left anterior fascicular block": "LAFB",
    "left atrial overload/enlargement": "LAO/LAE", "left posterior fascicular block": "LPFB", "left ventricular hypertrophy": "LVH",
    "non-specific intraventricular conduction disturbance (block)": "IVCD", "non-specific ischemic": "ISC_",
    "right atrial overload/enlargement": "RAO/RAE",
    **{f"ischemic in {region} leads": f"ISC{short}" for region, short in _REGIONS.items()},
    **{f"myocardial infarction in {region} leads": code for region, code in _INFARCTS.items()},
    **{f"subendocardial injury in {region} leads": f"INJ{short}" for region, short in _REGIONS.items() if region != "anterior"},
}  # fmt: skip
FORM: dict[str, str] = _BOTH | {
    "abnormal qrs": "ABQRS", "atrial premature complex": "PAC", "high qrs voltage": "HVOLT", "inverted t-waves": "INVT",
    "low amplitude t-wave": "LOWT", "low qrs voltages in the frontal and horizontal leads": "LVOLT", "non-specific st depression": "STD_",
    "non-specific st elevation": "STE_", "non-specific t-wave changes": "NT_", "prolonged pr interval": "LPR", "q waves present": "QWAVE",
    "t-wave abnormality": "TAB_", "ventricular premature complex": "PVC", "voltage criteria (qrs) for left ventricular hypertrophy": "VCLVH",
}  # fmt: skip
RHYTHM: dict[str, str] = {
    "atrial fibrillation": "AFIB", "atrial flutter": "AFLT", "bigeminal pattern (unknown origin, supraventricular, or ventricular)": "BIGU",
    "normal functioning artificial pacemaker": "PACE", "sinus arrhythmia": "SARRH", "sinus bradycardia": "SBRAD", "sinus rhythm": "SR",
    "sinus tachycardia": "STACH", "supraventricular tachycardia": "SVTAC",
}  # fmt: skip
SYMPTOMS: dict[str, str] = DIAGNOSTIC | FORM | RHYTHM
SUPERCLASSES = {"conduction disturbance": "CD", "hypertrophy": "HYP", "myocardial infarction": "MI", "st/t change": "STTC"}
_UNNAMED = {
    "diagnostic": frozenset(SUPERCLASS_OF) - {"NORM"} - set(DIAGNOSTIC.values()),
    "form": frozenset({"PRC(S)"}),
    "rhythm": frozenset({"SVARR", "PSVT", "TRIGU"}),
}
AXES = {"normal heart axis": ("MID",), "left axis deviation": ("LAD", "ALAD"), "right axis deviation": ("RAD", "ARAD")}
_STAGES = ("early stage of myocardial infarction", "middle stage of myocardial infarction", "old stage of myocardial infarction")
STAGES: dict[str, frozenset[str]] = {
    "I": frozenset(_STAGES[:1]), "II": frozenset(_STAGES[1:2]), "III": frozenset(_STAGES[2:]),
    "I-II": frozenset(_STAGES[:2]), "II-III": frozenset(_STAGES[1:]),
}  # fmt: skip
NO_INFARCTION, UNKNOWN_STAGE = "none of myocardial infarction", "unknown stage of myocardial infarction"
NOISES = {"baseline drift": "baseline_drift", "burst noise": "burst_noise", "electrodes problems": "electrodes_problems",
          "static noise": "static_noise"}  # fmt: skip
SYSTOLES = {"extrasystoles": r"(?<![A-Z])ES|^\d+(?:,|$)", "supraventricular extrasystoles": "SVES", "ventricular extrasystoles": r"(?<!S)VES"}
NORMAL_RANGES: dict[str, tuple[float, float]] = {
    "p duration": (0.0, 120.0), "pr interval": (120.0, 200.0), "qrs duration": (60.0, 120.0), "qt corrected": (350.0, 450.0),
    "qt interval": (330.0, 440.0), "rr interval": (600.0, 1000.0),
}  # fmt: skip
"""Milliseconds, both ends normal. Common adult limits, ours: with our ruler that of the RR interval agrees with ECG-QA's answers in the open part on
98.6 % of 215 ECGs, the other five on 46-67 %."""
RANGES = ("above the normal range", "below the normal range", "within the normal range")
LEAD_NAMES = tuple(f"lead {lead}" for lead in LEADS)
_ORDER = [lead.upper() for lead in LEADS]
_LEAD = r"AV[RLF]|V?[1-6]|I{1,3}"
_PART = re.compile(rf"({_LEAD})(?:-({_LEAD}))?")
_WORDS = re.compile(r"LEICHT|MITTEL|STARK|NOISY ?RECORDING|NOISE|\?|KONTAKTPROBLEME")


@dataclass(frozen=True, slots=True)
class Annotated:
    """One ECG. noises: noise -> leads, empty where there is none, None where it is noted without readable leads.

    axis: one of AXES or None; stage_known: False where an infarction is coded and its stage is not; ranges: numeric feature -> one of RANGES.
    """

    ecg_id: str
    subject_id: str
    split: str
    time: datetime | None
    statements: Mapping[str, float]
    noises: Mapping[str, frozenset[str] | None]
    axis: str | None
    stages: frozenset[str]
    infarction: bool
    systoles: frozenset[str]
    ranges: Mapping[str, str]


def annotated(row: Mapping[str, str], split: str, time: datetime | None, measured: Mapping[str, float] | None = None) -> Annotated:
    """measured: milliseconds by name of NORMAL_RANGES; what is not in it, or NaN, is not asked for.

    Raises:
        DataError: scp_codes that cannot be read, or unknown codes.
    """
    coding = from_ptbxl(dict(row))
    noted = (row.get("infarction_stadium1") or "").removeprefix("Stadium").strip()
    beats = (row.get("extra_beats") or "").upper()
    return Annotated(
        ecg_id=f"{int(row['ecg_id']):05d}", subject_id=str(int(float(row["patient_id"]))), split=split, time=time,
        statements=coding.statements,
        noises={name: leads_of(row.get(column) or "") for name, column in NOISES.items()},
        axis=next((name for name, codes in AXES.items() if coding.axis in codes), None),
        stages=STAGES.get(noted, frozenset()),
        infarction=bool(noted) or any(code in coding.statements for code in _INFARCTS.values()),
        systoles=frozenset(name for name, pattern in SYSTOLES.items() if re.search(pattern, beats)),
        ranges={name: _range(name, value) for name, value in (measured or {}).items() if value == value},
    )  # fmt: skip


def leads_of(noted: str) -> frozenset[str] | None:
    """' , I-AVR,V2,3 ' -> lead I, II, III, aVR, V2, V3; 'alles' all; '' none; None where something else is noted and no lead."""
    text = _WORDS.sub("", noted.upper())
    if "ALLES" in text:
        return frozenset(LEAD_NAMES)
    found: set[str] = set()
    text = re.sub(r"\s+", "", text)
    for match in _PART.finditer(text):
        first, last = (_place(name) for name in (match[1], match[2] or match[1]))
        found.update(LEAD_NAMES[first : last + 1])
    return frozenset(found) if found or not noted.strip(" ,") else None


def _place(name: str) -> int:
    return _ORDER.index(f"V{name}" if name.isdigit() else name)


def _range(name: str, value: float) -> str:
    low, high = NORMAL_RANGES[name]
    return RANGES[0] if value > high else RANGES[1] if value < low else RANGES[2]


Names = frozenset[str]
Facet = Callable[[Annotated, str], Names | None]
"""An ECG, and where to look (a lead, a noise, a feature, a range, or '') -> the names that hold there; None where that cannot be told."""


def _certain(likelihood: float) -> bool:
    return likelihood <= 0 or likelihood >= 1


def _named(ecg: Annotated, names: Mapping[str, str], *kinds: str, certain: bool = False) -> Names | None:
    if any(code in ecg.statements for kind in kinds for code in _UNNAMED[kind]):
        return None
    return frozenset(n for n, code in names.items() if code in ecg.statements and (not certain or _certain(ecg.statements[code])))


def _classes(ecg: Annotated, _: str) -> Names:
    held = {SUPERCLASS_OF.get(code) for code in ecg.statements}
    return frozenset(name for name, short in SUPERCLASSES.items() if short in held)


def _normal(ecg: Annotated, _: str) -> Names | None:
    likelihood = ecg.statements.get("NORM")
    return frozenset() if likelihood is None else frozenset({"normal ecg"}) if _certain(likelihood) else None


def _one_statement(ecg: Annotated, name: str) -> Names:
    likelihood = ecg.statements.get(SYMPTOMS[name])
    return frozenset({"no" if likelihood is None else "yes" if _certain(likelihood) else "not sure"})


def _noise(ecg: Annotated, lead: str) -> Names | None:
    if not lead:
        return frozenset(name for name, leads in ecg.noises.items() if leads is None or leads)
    if None in ecg.noises.values():
        return None
    return frozenset(name for name, leads in ecg.noises.items() if leads and lead in leads)


def _stages(ecg: Annotated, _: str) -> Names | None:
    return None if ecg.infarction and not ecg.stages else ecg.stages


def _stage_answer(ecg: Annotated, _: str) -> Names:
    return ecg.stages or frozenset({UNKNOWN_STAGE if ecg.infarction else NO_INFARCTION})


def _in_range(ecg: Annotated, wanted: str) -> Names | None:
    """Features in a range; wanted 'abnormal': above or below. None unless all six were measured."""
    if ecg.ranges.keys() != NORMAL_RANGES.keys():
        return None
    return frozenset(n for n, found in ecg.ranges.items() if (found != RANGES[2] if wanted == "abnormal" else found == wanted))


FACETS: dict[str, Facet] = {
    "statement": _one_statement,
    "normal": _normal,
    "abnormal": lambda ecg, _: frozenset(ecg.statements.keys() - {"NORM", "SR"}),
    "superclass": _classes,
    "diagnostic": lambda ecg, _: _named(ecg, DIAGNOSTIC, "diagnostic"),
    "certain": lambda ecg, _: _named(ecg, DIAGNOSTIC, "diagnostic", certain=True),
    "form": lambda ecg, _: _named(ecg, FORM, "form"),
    "rhythm": lambda ecg, _: _named(ecg, RHYTHM, "rhythm"),
    "symptom": lambda ecg, _: _named(ecg, SYMPTOMS, "diagnostic", "form", "rhythm"),
    "axis": lambda ecg, _: None if ecg.axis is None else frozenset({ecg.axis}),
    "stage": _stages,
    "stage answer": _stage_answer,
    "noise": _noise,
    "noisy leads": lambda ecg, noise: ecg.noises[noise],
    "systole": lambda ecg, _: ecg.systoles,
    "range": lambda ecg, feature: frozenset({ecg.ranges[feature]}) if feature in ecg.ranges else None,
    "features": _in_range,
}
