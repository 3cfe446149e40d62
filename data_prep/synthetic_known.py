"""What is known of a made-up patient before any picture is taken: history, home medications, race. The same at every visit.

    known = draw_known(patient, rng)     Known(history=("hypertension", "leadless pacemaker"), medications=("lisinopril", "digoxin"), race="WHITE")

Digoxin, the leadless pacemaker and the heart failure under furosemide are drawn without regard to the conditions: no ECG and no film of the
cohort shows them, so a report that names them was told. The generic names are real; the codes beside them (gsn, ndc, etccode) are made up.
Synthetic; the frequencies are chosen so that a few hundred visits hold each fact, not epidemiology.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regen.data_prep.synthetic_patient import Patient

DIGOXIN, KNOWN_HEART_FAILURE, LEADLESS_PACEMAKER, PAROXYSMAL = 0.18, 0.14, 0.13, 0.11
"""Share of patients on digoxin; with heart failure in the history; with a leadless pacemaker, of those without another; with atrial fibrillation
in the history, of those whose state has none."""
TOLD = 0.85
"""Share of a patient's conditions that the history names."""
AF, HEART_FAILURE, LEADLESS = "paroxysmal atrial fibrillation", "heart failure", "leadless pacemaker"

_HISTORY = {
    "hypertension": "hypertension", "coronary_disease": "coronary artery disease", "copd": "COPD", "conduction_disease": "conduction disease",
    "pacemaker": "dual-chamber pacemaker", "electrolyte_disorder": "electrolyte disorder",
}  # fmt: skip
_TREATED = {
    "hypertension": ("lisinopril", "amlodipine", "hydrochlorothiazide"), "coronary_disease": ("aspirin", "atorvastatin", "metoprolol succinate"),
    "heart_failure": ("carvedilol", "spironolactone"), "copd": ("tiotropium", "albuterol"), "electrolyte_disorder": ("potassium chloride",),
}  # fmt: skip
_ANYONE = ("levothyroxine", "omeprazole", "metformin", "gabapentin", "sertraline", "multivitamin")
_RACES = {"WHITE": 0.58, "BLACK/AFRICAN AMERICAN": 0.19, "HISPANIC/LATINO - PUERTO RICAN": 0.08, "ASIAN": 0.05, "OTHER": 0.06, "UNKNOWN": 0.04}
CLASSES = {
    "lisinopril": "ACE Inhibitors", "amlodipine": "Calcium Channel Blockers - Dihydropyridines", "hydrochlorothiazide": "Thiazide Diuretics",
    "aspirin": "Platelet Aggregation Inhibitors", "atorvastatin": "Statins", "metoprolol succinate": "Beta Blockers", "carvedilol": "Beta Blockers",
    "spironolactone": "Potassium-Sparing Diuretics", "tiotropium": "Anticholinergic Bronchodilators", "albuterol": "Beta-2 Adrenergics, Inhaled",
    "potassium chloride": "Potassium", "levothyroxine": "Thyroid Hormones", "omeprazole": "Proton Pump Inhibitors", "metformin": "Biguanides",
    "gabapentin": "Anticonvulsants", "sertraline": "SSRIs", "multivitamin": "Multivitamins", "digoxin": "Digitalis Glycosides",
    "furosemide": "Loop Diuretics", "apixaban": "Factor Xa Inhibitors", "warfarin": "Coumarin Anticoagulants",
}  # fmt: skip
"""Home medication -> its therapeutic class."""


@dataclass(frozen=True, slots=True)
class Known:
    """history: conditions in words; medications: generic names, keys of CLASSES; race: as MIMIC-IV-ED writes it."""

    history: tuple[str, ...]
    medications: tuple[str, ...]
    race: str

    @property
    def anticoagulant(self) -> str | None:
        return next((name for name in ("apixaban", "warfarin") if name in self.medications), None)


def draw_known(patient: Patient, rng: np.random.Generator) -> Known:
    has = patient.conditions.__contains__
    history = [words for condition, words in _HISTORY.items() if has(condition) and rng.random() < TOLD]
    medications = [name for condition, names in _TREATED.items() if has(condition) for name in names if rng.random() < 0.6]
    medications += [name for name in _ANYONE if rng.random() < 0.15]
    fibrillating, failing, leadless, digoxin = rng.random(4)
    if fibrillating < (TOLD if has("atrial_fibrillation") else PAROXYSMAL):
        history.append(AF)
        medications.append(str(rng.choice(["apixaban", "warfarin"], p=[0.7, 0.3])))
    if failing < KNOWN_HEART_FAILURE:
        history.append(HEART_FAILURE)
        medications.append("furosemide")
    if leadless < LEADLESS_PACEMAKER and not has("pacemaker"):
        history.append(LEADLESS)
    if digoxin < DIGOXIN:
        medications.append("digoxin")
    order = rng.permutation(len(medications))
    race = str(rng.choice(list(_RACES), p=list(_RACES.values())))
    return Known(tuple(history), tuple(medications[i] for i in order), race)
