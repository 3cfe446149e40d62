"""The emergency stay around a made-up patient's studies, drawn from the state that the ECG and the chest X-ray were drawn from.

    stay = draw_stay(visit, known, rng)      Stay(intime=..., outtime=..., acuity=2, complaint="Shortness of breath", episode=("o2sat", 3), ...)

The studies lie between intime and outtime. Consolidation brings fever and fast breathing, water and air in the chest low saturation, shock low
pressure; the heart rate at triage is near the ECG's. Some stays hold an episode: one vital sign that leaves its range at one hour before the
ECG and returns. Some hold nitroglycerin, either within NITRATE_HOURS of the ECG or more than twelve hours before it; these stays are all
long, so that nothing but the time tells the two apart. Synthetic; plausible, not epidemiology.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from regen.data_prep.coding import Coding
from regen.data_prep.synthetic_care import diagnoses, given, treatments
from regen.data_prep.synthetic_chest import GRADES, SIZES, Chest
from regen.data_prep.synthetic_known import Known
from regen.data_prep.synthetic_patient import Patient

EPISODE = 0.5
"""Share of stays that would hold an episode; those whose vital sign is out of range anyway, and those too short, hold none."""
EPISODES = {"sbp": (64.0, 78.0), "o2sat": (74.0, 83.0), "temperature": (102.6, 104.2)}
"""Vital sign -> its range during an episode: mmHg, %, Fahrenheit."""
CALM = {"sbp": (105.0, 220.0), "o2sat": (93.0, 100.0), "temperature": (95.0, 99.6)}
"""Where the vital sign otherwise is in a stay with an episode of it."""
LATE_EPISODE = 0.12
"""Share of stays with an episode in the hour after the ECG, of which no report may tell."""
NITROGLYCERIN, NITRATE_HOURS = 0.28, 2.0
"""Share of first visits with nitroglycerin before the ECG, half of it recent; what counts as recent, in hours."""
LATE_NITROGLYCERIN = 0.08
"""Share of the other stays with nitroglycerin after the ECG."""
UNRECONCILED, REVERSED = 0.07, 0.006
"""Share of stays whose home medications nobody asked for; whose outtime was entered before their intime."""
VITALS = ("temperature", "heartrate", "resprate", "o2sat", "sbp", "dbp")
_SPREAD = {"temperature": 0.25, "heartrate": 4.0, "resprate": 1.2, "o2sat": 0.8, "sbp": 6.0, "dbp": 4.0}


@dataclass(frozen=True, slots=True)
class Visit:
    """What a stay is drawn from. rate: of the ECG, beats/min; again: a second visit, hours after the patient's first."""

    patient: Patient
    coding: Coding
    chest: Chest
    rate: float
    ecg_time: datetime
    cxr_time: datetime
    again: bool


@dataclass(frozen=True, slots=True)
class Charted:
    """One row of vital signs: VITALS -> value (Fahrenheit, /min, /min, %, mmHg, mmHg). kept: the one that no mistake may touch."""

    time: datetime
    vitals: dict[str, float]
    kept: str | None = None


@dataclass(frozen=True, slots=True)
class Stay:
    """One emergency stay as it was, before anybody charted it with gaps and mistakes."""

    intime: datetime
    outtime: datetime
    acuity: int
    """Emergency severity index: 1 is the most urgent, 5 the least."""
    pain: int
    complaint: str
    triage: dict[str, float]
    """VITALS at arrival."""
    series: tuple[Charted, ...]
    given: tuple[tuple[datetime, str], ...]
    """Drugs given in the stay."""
    diagnoses: tuple[tuple[str, str], ...]
    """ICD-10 code and title, as coded after the stay: they tell what the studies showed."""
    ambulance: bool
    admitted: bool
    reconciled: bool
    reversed: bool
    """outtime is charted before intime: the stay cannot be matched to a study."""
    episode: tuple[str, int] | None
    """Vital sign and whole hours before the ECG."""
    nitrate: float | None
    """Hours from the last nitroglycerin to the ECG."""


def draw_stay(visit: Visit, known: Known, rng: np.random.Generator) -> Stay:
    shock = bool(rng.random() < _shock_risk(visit.chest))
    vitals = _arrival(visit, shock, rng)
    nitrate_drawn, recent = bool(rng.random() < NITROGLYCERIN) and not visit.again, bool(rng.random() < 0.5)
    lead = rng.uniform(0.7, 1.9) if visit.again else rng.uniform(13, 18) if nitrate_drawn else rng.uniform(2.5, 9)
    nitrate = (rng.uniform(0.25, NITRATE_HOURS - 0.25) if recent else rng.uniform(12.2, lead - 0.4)) if nitrate_drawn else None
    intime, outtime = visit.ecg_time - timedelta(hours=lead), visit.cxr_time + timedelta(minutes=int(rng.integers(15, 55)))
    episode = _episode(vitals, lead, rng)
    late = str(rng.choice(list(EPISODES))) if rng.random() < LATE_EPISODE else None
    drugs = given(intime, visit.ecg_time, vitals["temperature"] > 100.4, rng)
    drugs += treatments(visit.coding, visit.chest, visit.ecg_time, visit.cxr_time, rng)
    if nitrate is not None:
        drugs.append((visit.ecg_time - timedelta(hours=nitrate), "nitroglycerin"))
    elif rng.random() < LATE_NITROGLYCERIN:
        drugs.append((visit.ecg_time + timedelta(minutes=int(rng.integers(4, 50))), "nitroglycerin"))
    urgent = 1 if shock or vitals["o2sat"] < 86 else 2 if vitals["o2sat"] < 91 or vitals["heartrate"] > 120 else 0
    acuity = urgent or int(rng.choice([2, 3, 4, 5], p=[0.25, 0.52, 0.2, 0.03]))
    return Stay(
        intime=intime,
        outtime=outtime,
        acuity=acuity,
        pain=int(rng.integers(0, 11)),
        complaint=_complaint(visit, rng),
        triage=vitals,
        series=_series(visit, vitals, intime, outtime, episode, late, rng),
        given=tuple(sorted(drugs)),
        diagnoses=diagnoses(visit.patient, visit.coding, visit.chest, known),
        ambulance=bool(rng.random() < (0.7 if acuity <= 2 else 0.3)),
        admitted=bool(rng.random() < (0.85 if acuity <= 2 else 0.35)),
        reconciled=bool(rng.random() >= UNRECONCILED),
        reversed=bool(rng.random() < REVERSED),
        episode=episode,
        nitrate=nitrate,
    )


def _shock_risk(chest: Chest) -> float:
    tension = chest.pneumothorax is not None and chest.pneumothorax[1] >= 40
    return 0.01 + 0.25 * bool(chest.consolidations) + 0.25 * (chest.edema == "severe") + 0.4 * tension


def _arrival(visit: Visit, shock: bool, rng: np.random.Generator) -> dict[str, float]:
    """Vital signs at triage. In shock the pressure is low; else hypertension raises it, and in nobody else is it low."""
    chest, has = visit.chest, visit.patient.conditions.__contains__
    water = (1 + GRADES.index(chest.edema)) if chest.edema else 0
    fluid = sum(1 + SIZES.index(size) for size in chest.effusions.values())
    air = chest.pneumothorax[1] / 12 if chest.pneumothorax else 0.0
    infected = bool(chest.consolidations)
    sbp = rng.normal(76, 5) if shock else max(107.0, rng.normal(122, 10) + 24 * has("hypertension"))
    fever = rng.uniform(0.8, 4.5) if infected and rng.random() < 0.8 else 0.0
    saturation = 98.2 + rng.normal(0, 0.9) - 2.3 * water - 1.1 * fluid - air - 3.5 * has("copd") - 2.5 * infected
    return {
        "temperature": float(rng.normal(98.2, 0.45) + fever),
        "heartrate": float(visit.rate + rng.normal(0, 4)),
        "resprate": float(np.clip(rng.normal(16.5, 1.6) + 2.2 * water + 5.5 * infected + air + 1.5 * has("copd"), 9, 44)),
        "o2sat": float(np.clip(saturation, 72, 100)),
        "sbp": float(sbp),
        "dbp": float(0.5 * sbp + rng.normal(12, 4)),
    }


def _episode(vitals: dict[str, float], lead: float, rng: np.random.Generator) -> tuple[str, int] | None:
    wanted, name, share = rng.random() < EPISODE, str(rng.choice(list(EPISODES))), rng.random()
    latest = min(6, int(lead - 0.15))
    low, high = CALM[name]
    return (name, 1 + int(share * latest)) if wanted and latest >= 1 and low <= vitals[name] <= high else None


def _series(
    visit: Visit, arrival: dict[str, float], intime: datetime, outtime: datetime, episode: tuple[str, int] | None, late: str | None,
    rng: np.random.Generator,
) -> tuple[Charted, ...]:  # fmt: skip
    """A row about every whole hour before and after the ECG, none nearer to it than fifty minutes."""
    rows = []
    for hour in range(-18, 7):
        time = visit.ecg_time - timedelta(hours=hour, minutes=int(rng.integers(-6, 7)))
        noise = np.clip(rng.normal(size=len(VITALS)), -2, 2)
        share = float(rng.random())
        if hour == 0 or not intime < time < outtime:
            continue
        vitals = {name: arrival[name] + _SPREAD[name] * float(z) for name, z in zip(VITALS, noise, strict=True)}
        vitals["o2sat"] = min(100.0, vitals["o2sat"])
        kept = episode[0] if episode and episode[1] == hour else late if hour == -1 else None
        if kept:
            low, high = EPISODES[kept]
            vitals[kept] = low + (high - low) * share
        vitals["dbp"] = min(vitals["dbp"], vitals["sbp"] - 15)
        rows.append(Charted(time, vitals, kept))
    return tuple(sorted(rows, key=lambda row: row.time))


def _complaint(visit: Visit, rng: np.random.Generator) -> str:
    """What brought the patient: from what the studies will show, or something else."""
    codes, chest = visit.coding.statements.keys(), visit.chest
    reasons = []
    if codes & {"AFIB", "AFLT", "PVC", "PAC", "STACH"}:
        reasons.append("Palpitations")
    if codes & {"ASMI", "IMI", "LMI", "STD_"}:
        reasons.append("Chest pain")
    if chest.edema or chest.effusions:
        reasons += ["Shortness of breath", "Dyspnea on exertion"]
    if chest.consolidations:
        reasons += ["Fever, Cough", "Cough"]
    if chest.pneumothorax:
        reasons.append("Pleuritic chest pain")
    if chest.fracture:
        reasons += ["s/p Fall"] * 3
    if codes & {"SBRAD", "1AVB", "CLBBB"}:
        reasons += ["Syncope", "Dizziness"]
    other = ["Weakness", "Chest pain", "Abd pain", "Dizziness", "Dyspnea", "Headache"]
    return str(rng.choice(reasons if reasons and rng.random() < 0.75 else other))
