"""What is done in a made-up emergency stay: drugs given before anybody knows, drugs given because of what a study showed, final diagnoses.

    treatments(coding, chest, ecg_time, cxr_time, rng)      [(2020-01-01 09:12, "diltiazem"), ...]: each after the study that called for it
    diagnoses(patient, coding, chest, known)                (("I4891", "Unspecified atrial fibrillation"), ...)

Both tell what the studies show, and both come after them: a reader that lets them into a study's context leaks, and shows it. Synthetic.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np

from regen.data_prep.coding import Coding
from regen.data_prep.synthetic_chest import Chest
from regen.data_prep.synthetic_known import AF, HEART_FAILURE, LEADLESS, Known
from regen.data_prep.synthetic_patient import Patient

TREATED = 0.8
"""Share of findings that are treated within the stay."""
GIVEN = ("acetaminophen", "ondansetron", "sodium chloride 0.9%", "ketorolac", "morphine", "aspirin")
_FOR_ECG = {
    "AFIB": "diltiazem", "AFLT": "diltiazem", "STD_": "heparin", "ASMI": "ticagrelor", "IMI": "ticagrelor", "LMI": "ticagrelor",
    "SBRAD": "atropine", "LNGQT": "magnesium sulfate",
}  # fmt: skip
_BY_CODE = {
    "AFIB": ("I4891", "Unspecified atrial fibrillation"), "AFLT": ("I4892", "Unspecified atrial flutter"),
    "CLBBB": ("I447", "Left bundle-branch block, unspecified"), "CRBBB": ("I4510", "Unspecified right bundle-branch block"),
    "ASMI": ("I2102", "STEMI involving left anterior descending coronary artery"), "IMI": ("I2119", "STEMI involving other coronary artery"),
    "LNGQT": ("I4581", "Long QT syndrome"), "PVC": ("I493", "Ventricular premature depolarization"),
}  # fmt: skip
_BY_CONDITION = {
    "hypertension": ("I10", "Essential (primary) hypertension"), "coronary_disease": ("I2510", "Atherosclerotic heart disease"),
    "copd": ("J449", "Chronic obstructive pulmonary disease, unspecified"), "pacemaker": ("Z950", "Presence of cardiac pacemaker"),
}  # fmt: skip
_BY_HISTORY = {
    AF: ("I480", "Paroxysmal atrial fibrillation"), HEART_FAILURE: ("I5032", "Chronic diastolic (congestive) heart failure"),
    LEADLESS: ("Z950", "Presence of cardiac pacemaker"),
}  # fmt: skip


def given(intime: datetime, study: datetime, fever: bool, rng: np.random.Generator) -> list[tuple[datetime, str]]:
    """Drugs for the complaint, between arrival and the first study."""
    chosen = [name for name in GIVEN if rng.random() < (0.7 if fever and name == "acetaminophen" else 0.13)]
    return [(intime + (study - intime) * rng.uniform(0.1, 0.95), name) for name in chosen]


def treatments(coding: Coding, chest: Chest, ecg_time: datetime, cxr_time: datetime, rng: np.random.Generator) -> list[tuple[datetime, str]]:
    """Drugs for what the ECG and the X-ray show, 5 to 14 minutes after each."""
    of_ecg = list(dict.fromkeys(drug for code, drug in _FOR_ECG.items() if code in coding.statements))
    of_chest = [
        *(["furosemide"] if chest.edema else []),
        *(["ceftriaxone", "azithromycin"] if chest.consolidations else []),
        *(["lidocaine 1%"] if chest.pneumothorax else []),
    ]
    wanted = [(ecg_time, name) for name in of_ecg] + [(cxr_time, name) for name in of_chest]
    return [(seen + timedelta(minutes=int(rng.integers(5, 15))), name) for seen, name in wanted if rng.random() < TREATED]


def diagnoses(patient: Patient, coding: Coding, chest: Chest, known: Known) -> tuple[tuple[str, str], ...]:
    """ICD-10 code without its dot, and title, each once; 'Chest pain, unspecified' where there is nothing else."""
    found = [row for code, row in _BY_CODE.items() if code in coding.statements]
    found += [("J189", "Pneumonia, unspecified organism")] * bool(chest.consolidations)
    found += [("J810", "Acute pulmonary edema")] * bool(chest.edema)
    found += [("J90", "Pleural effusion, not elsewhere classified")] * bool(chest.effusions)
    found += [("J939", "Pneumothorax, unspecified")] * (chest.pneumothorax is not None)
    found += [row for name, row in _BY_CONDITION.items() if name in patient.conditions]
    found += [row for name, row in _BY_HISTORY.items() if name in known.history]
    return tuple(dict.fromkeys(found)) or (("R079", "Chest pain, unspecified"),)
