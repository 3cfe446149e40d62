"""A cohort of made-up patients: latent state, findings, pictures and reports that agree. Synthetic, and every id and source says so.

entries(n=200, seed=0)                           Entry(study_id="synthetic-0-00000", ..., report="Sinus rhythm. Normal axis. Normal ECG.")
entries(n=200, seed=0, modalities=("ecg", "cxr"))    and Entry(study_id="synthetic-0-00000-cxr", ...), hours later, after each of them
latent(seed=0, number=7)                         Latent(patient=..., coding=..., chest=...): what both studies of a visit were drawn from
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from regen.data_prep.coding import Coding, render
from regen.data_prep.prepare import Entry
from regen.data_prep.synthetic_chest import Chest, draw_chest, observations
from regen.data_prep.synthetic_chest_report import report
from regen.data_prep.synthetic_cxr import draw_cxr
from regen.data_prep.synthetic_cxr_layout import draw_build
from regen.data_prep.synthetic_ecg import synthesize
from regen.data_prep.synthetic_patient import Patient, draw_coding, draw_patient
from regen.errors import ConfigError, did_you_mean
from regen.study import Cxr, Study

MODALITIES = ("ecg", "cxr")


@dataclass(frozen=True, slots=True)
class Latent:
    """What one visit's studies were drawn from."""

    patient: Patient
    coding: Coding
    chest: Chest


@dataclass(frozen=True, slots=True)
class Shared:
    """A finding that has one cause in both pictures. exact: each shows it whenever the other does; else they only go together."""

    name: str
    ecg: Callable[[Coding], bool]
    cxr: Callable[[Chest], bool]
    exact: bool = False


def entries(n: int, seed: int, modalities: Sequence[str] = ("ecg",)) -> Iterator[Entry]:
    """n visits of about n / 1.2 patients, a study of each modality at each; the same seed gives the same cohort, whatever the workers.

    Raises:
        ConfigError: no modality, or one that is neither 'ecg' nor 'cxr'.
    """
    for name in modalities:
        if name not in MODALITIES:
            raise ConfigError(f"synthetic cohort: expected modalities of {', '.join(MODALITIES)}, got {name!r}{did_you_mean(name, MODALITIES)}")
    if not modalities:
        raise ConfigError(f"synthetic cohort: expected at least one modality of {', '.join(MODALITIES)}, got none; name one")
    return _entries(n, seed, modalities)


def _entries(n: int, seed: int, modalities: Sequence[str]) -> Iterator[Entry]:
    for number in range(n):
        study, subject = f"synthetic-{seed}-{number:05d}", _subject(number, seed)
        if "ecg" in modalities:
            yield Entry(study_id=study, subject_id=subject, make=(make_study, (seed, number)))
        if "cxr" in modalities:
            yield Entry(study_id=f"{study}-cxr", subject_id=subject, make=(make_cxr_study, (seed, number)))


def make_study(key: tuple[int, int]) -> Study:
    """The ECG study with this number in the cohort of this seed. Every fifth one is a second visit of the patient before."""
    seed, number = key
    patient = _patient(number, seed)
    rng = np.random.default_rng([seed, number, 1])
    coding = draw_coding(patient, rng)
    return Study(
        study_id=f"synthetic-{seed}-{number:05d}",
        subject_id=patient.subject_id,
        time=_time(number),
        ecg=synthesize(coding, rng),
        report=render(coding),
        statements=coding.statements,
        age=patient.age,
        sex=patient.sex,
        language="en",
        source="synthetic",
    )


def make_cxr_study(key: tuple[int, int]) -> Study:
    """The chest X-ray of the same visit, one to five hours after the ECG. report: its findings and impression."""
    seed, number = key
    patient, home = _patient(number, seed), _home(number)
    rng = np.random.default_rng([seed, number, 3])
    chest = draw_chest(patient, rng, np.random.default_rng([seed, home, 2]))
    delay = timedelta(minutes=int(rng.integers(60, 301)))
    sections = report(chest, rng, f"Chest radiograph of {_time(home):%B %Y}" if number != home else None)
    pixels = draw_cxr(chest, rng, build=draw_build(patient, np.random.default_rng([seed, home, 4])))
    return Study(
        study_id=f"synthetic-{seed}-{number:05d}-cxr",
        subject_id=patient.subject_id,
        time=_time(number) + delay,
        cxr=(Cxr(pixels, chest.view, "synthetic"),),
        report=f"{sections['findings']} {sections['impression']}",
        sections=sections,
        observations=observations(chest),
        age=patient.age,
        sex=patient.sex,
        language="en",
        source="synthetic",
    )


def latent(seed: int, number: int) -> Latent:
    """The state behind both studies of a visit, without drawing them."""
    patient = _patient(number, seed)
    lasting = np.random.default_rng([seed, _home(number), 2])
    return Latent(
        patient,
        draw_coding(patient, np.random.default_rng([seed, number, 1])),
        draw_chest(patient, np.random.default_rng([seed, number, 3]), lasting),
    )


def shared_findings() -> tuple[Shared, ...]:
    """What an ECG and a chest X-ray of one patient tell of the same thing."""
    return (
        Shared("pacemaker", lambda e: "PACE" in e.statements, lambda c: c.pacemaker > 0, exact=True),
        Shared("hypertension", lambda e: "LVH" in e.statements, lambda c: c.enlarged),
        Shared("heart failure", lambda e: "LAO/LAE" in e.statements, lambda c: c.edema is not None),
        Shared("coronary disease", lambda e: bool(e.statements.keys() & {"ASMI", "IMI", "LMI", "STD_"}), lambda c: c.wires),
        Shared("copd", lambda e: e.axis == "RAD" or "LVOLT" in e.statements, lambda c: c.hyperinflation),
    )


def only_cxr() -> tuple[str, ...]:
    """Observations that no ECG of the patient tells of: drawn without regard to the conditions."""
    return ("Lung Lesion", "Pneumothorax", "Fracture", "Consolidation", "Pneumonia")


def only_ecg() -> tuple[str, ...]:
    """Statements whose cause changes nothing in the chest. Age stands behind them and behind the chest's, so they are not independent."""
    return ("AFIB", "AFLT", "1AVB", "CLBBB", "CRBBB", "IRBBB", "LAFB", "LNGQT")


def _patient(number: int, seed: int) -> Patient:
    return draw_patient(np.random.default_rng([seed, _home(number), 0]), _subject(number, seed))


def _time(number: int) -> datetime:
    return datetime(2020, 1, 1) + timedelta(hours=8 * number)


def _home(number: int) -> int:
    """The patient's number: that of the first visit."""
    return number - 1 if number % 5 == 4 else number


def _subject(number: int, seed: int) -> str:
    return f"synthetic-{seed}-patient-{_home(number):05d}"
