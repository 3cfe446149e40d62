"""A cohort of made-up patients: latent state, findings, ECG and report that agree. Synthetic, and every id and source says so.

entries(n=200, seed=0)      Entry(study_id="synthetic-0-00000", ..., report="Sinus rhythm. Normal axis. Normal ECG.")
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np

from regen.data_prep.coding import render
from regen.data_prep.prepare import Entry
from regen.data_prep.synthetic_ecg import synthesize
from regen.data_prep.synthetic_patient import draw_coding, draw_patient
from regen.study import Study


def entries(n: int, seed: int) -> Iterator[Entry]:
    """n studies of about n / 1.2 patients; the same seed gives the same cohort, whatever the number of workers."""
    for number in range(n):
        yield Entry(study_id=f"synthetic-{seed}-{number:05d}", subject_id=_subject(number, seed), make=(make_study, (seed, number)))


def make_study(key: tuple[int, int]) -> Study:
    """The study with this number in the cohort of this seed. Every fifth one is a second visit of the patient before."""
    seed, number = key
    subject = _subject(number, seed)
    patient = draw_patient(np.random.default_rng([seed, int(subject.rsplit("-", 1)[1]), 0]), subject)
    rng = np.random.default_rng([seed, number, 1])
    coding = draw_coding(patient, rng)
    return Study(
        study_id=f"synthetic-{seed}-{number:05d}",
        subject_id=subject,
        time=datetime(2020, 1, 1) + timedelta(hours=8 * number),
        ecg=synthesize(coding, rng),
        report=render(coding),
        statements=coding.statements,
        age=patient.age,
        sex=patient.sex,
        language="en",
        source="synthetic",
    )


def _subject(number: int, seed: int) -> str:
    return f"synthetic-{seed}-patient-{number - 1 if number % 5 == 4 else number:05d}"
