"""The latent state of a made-up patient: who they are, what they live with, and what an ECG of them would show.

    patient = draw_patient(rng, "s00012")     Patient(subject_id="s00012", age=71, sex="male", conditions={"hypertension", ...})
    coding = draw_coding(patient, rng)        Coding(statements={"AFIB": 1.0, "LVH": 1.0, "ISC_": 1.0}, axis="LAD")

Conditions cause findings, so that everything drawn from the same patient agrees: the ECG now, and whatever else is drawn from
the state later. The frequencies are plausible, not epidemiology. Synthetic data, for tests and demonstrations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regen.data_prep.coding import Coding

_RISK = {
    "hypertension": (0.10, 0.60), "coronary_disease": (0.03, 0.40), "heart_failure": (0.01, 0.22), "atrial_fibrillation": (0.01, 0.24),
    "copd": (0.03, 0.16), "conduction_disease": (0.03, 0.22), "pacemaker": (0.002, 0.05), "electrolyte_disorder": (0.03, 0.06),
}  # fmt: skip
"""Condition -> probability at 25 and at 85 years."""


@dataclass(frozen=True, slots=True)
class Patient:
    """age in years; sex 'female' or 'male'; conditions: names of _RISK that this patient lives with."""

    subject_id: str
    age: float
    sex: str
    conditions: frozenset[str]


def draw_patient(rng: np.random.Generator, subject_id: str) -> Patient:
    age = float(np.clip(rng.normal(61, 17), 19, 95).round())
    share = np.clip((age - 25) / 60, 0, 1)
    conditions = {name for name, (young, old) in _RISK.items() if rng.random() < young + (old - young) * share}
    if "heart_failure" in conditions and rng.random() < 0.5:
        conditions.add("coronary_disease")
    return Patient(subject_id, age, "female" if rng.random() < 0.5 else "male", frozenset(conditions))


def draw_coding(patient: Patient, rng: np.random.Generator) -> Coding:
    """Findings of one ECG of this patient, in the catalogue's codes."""
    has = patient.conditions.__contains__
    found: dict[str, float] = {}

    def perhaps(probability: float, *codes: str, likelihood: float = 1.0) -> bool:
        if rng.random() < probability:
            found.update(dict.fromkeys(codes, likelihood))
            return True
        return False

    rhythm = _rhythm(patient, rng)
    found[rhythm] = 1.0
    if rhythm == "PACE":
        return Coding(found, axis="ALAD", quality=_quality(rng))
    sinus = rhythm in {"SR", "STACH", "SBRAD", "SARRH"}
    block = _block(patient, rng)
    found |= dict.fromkeys(block, 1.0)
    if sinus:
        perhaps(0.30 if has("conduction_disease") else 0.04, "1AVB")
        perhaps(0.12 if has("heart_failure") or has("hypertension") else 0.01, "LAO/LAE")
    infarct = has("coronary_disease") and "CLBBB" not in found and rng.random() < 0.6
    stage = None
    if infarct:
        stage = "I" if rng.random() < 0.3 else "III"
        for code, weight in (("ASMI", 0.45), ("IMI", 0.45), ("LMI", 0.15)):
            perhaps(weight, code, likelihood=float(rng.choice([1.0, 1.0, 0.5])))
        infarct = bool(found.keys() & {"ASMI", "IMI", "LMI"})
    if has("hypertension") and not found.keys() & {"CLBBB"}:
        perhaps(0.35, "LVH")
    if not infarct and not found.keys() & {"CLBBB"}:
        if has("coronary_disease") or "LVH" in found:
            perhaps(0.6, str(rng.choice(["STD_", "STD_", "INVT"])))
        else:
            perhaps(0.1, str(rng.choice(["INVT", "LOWT"])))
    perhaps(0.5 if has("electrolyte_disorder") else 0.01, "LNGQT")
    if "LVH" not in found:
        perhaps(0.25 if has("copd") else 0.02, "LVOLT")
    perhaps(0.22 if has("heart_failure") or has("coronary_disease") else 0.05, "PVC")
    if sinus:
        perhaps(0.12 if patient.age > 60 else 0.04, "PAC")
    if not found.keys() - {"SR", "STACH", "SBRAD", "SARRH", "PVC", "PAC"} and sinus:
        found["NORM"] = 1.0 if not found.keys() - {"SR"} else 0.8
    return Coding(found, axis=_axis(found, has("copd"), rng), stage=stage if infarct else None, quality=_quality(rng))


def _rhythm(patient: Patient, rng: np.random.Generator) -> str:
    if "pacemaker" in patient.conditions:
        return "PACE"
    if "atrial_fibrillation" in patient.conditions and rng.random() < 0.75:
        return "AFIB" if rng.random() < 0.8 else "AFLT"
    young = float(np.clip((45 - patient.age) / 30, 0, 1))
    weights = {"SR": 0.70, "STACH": 0.10 + 0.1 * ("heart_failure" in patient.conditions), "SBRAD": 0.09, "SARRH": 0.05 + 0.15 * young}
    names = list(weights)
    shares = np.array(list(weights.values()))
    return str(rng.choice(names, p=shares / shares.sum()))


def _block(patient: Patient, rng: np.random.Generator) -> tuple[str, ...]:
    if "conduction_disease" in patient.conditions:
        options: list[tuple[str, ...]] = [("CLBBB",), ("CRBBB",), ("IRBBB",), ("LAFB",), ("CRBBB", "LAFB"), ()]
        return options[int(rng.choice(len(options), p=[0.22, 0.2, 0.13, 0.22, 0.08, 0.15]))]
    return ("IRBBB",) if rng.random() < 0.04 else ()


def _axis(found: dict[str, float], copd: bool, rng: np.random.Generator) -> str:
    if "LAFB" in found:
        return "ALAD"
    if copd and rng.random() < 0.4:
        return "RAD"
    left = 0.5 if found.keys() & {"LVH", "CLBBB"} else 0.18
    return "LAD" if rng.random() < left else "MID"


def _quality(rng: np.random.Generator) -> dict[str, str]:
    noted = {}
    for code, share, leads in (
        ("DRIFT", 0.06, ("V6", "V1", "II, aVF", "all leads")),
        ("STATIC", 0.08, ("I-aVF", "all leads", "I-aVR")),
        ("BURST", 0.04, ("all leads", "I-aVF", "V1, V2")),
        ("ELECTRODE", 0.02, ("V1", "V6", "V4")),
    ):
        if rng.random() < share:
            noted[code] = str(rng.choice(leads))
    return noted
