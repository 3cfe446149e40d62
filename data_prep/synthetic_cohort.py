"""A cohort of made-up patients: latent state, findings, pictures and reports that agree. Synthetic, and every id and source says so.

entries(n=200, seed=0)                           Entry(study_id="synthetic-0-00000", ..., report="Sinus rhythm. Normal axis. Normal ECG.")
entries(n=200, seed=0, modalities=("ecg", "cxr"))    and Entry(study_id="synthetic-0-00000-cxr", ...), hours later, after each of them
entries(n=200, seed=0, modalities=("ecg", "ed"))     the same traces; their reports also tell what an emergency stay's chart reveals
latent(seed=0, number=7)                         Latent(patient=..., coding=..., chest=...): what both studies of a visit were drawn from
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from regen.data_prep.coding import Coding, render
from regen.data_prep.prepare import Entry
from regen.data_prep.sections import report_of
from regen.data_prep.synthetic_chest import Chest, draw_chest, observations
from regen.data_prep.synthetic_chest_report import report
from regen.data_prep.synthetic_cxr import draw_cxr
from regen.data_prep.synthetic_cxr_layout import draw_build
from regen.data_prep.synthetic_ecg import heart_rate, synthesize
from regen.data_prep.synthetic_known import Known, draw_known
from regen.data_prep.synthetic_patient import Patient, draw_coding, draw_patient
from regen.data_prep.synthetic_stay import Stay, Visit, draw_stay
from regen.data_prep.synthetic_told import told_cxr, told_ecg
from regen.errors import ConfigError, did_you_mean
from regen.study import Cxr, Study

MODALITIES = ("ecg", "cxr", "ed")


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

    'ed' adds no study: the pictures stay as they are, and their reports also tell what the emergency stays of
    regen.data_prep.synthetic_ed.write_ed(folder, n, seed) reveal.

    Raises:
        ConfigError: neither 'ecg' nor 'cxr', or a modality that is none of MODALITIES.
    """
    for name in modalities:
        if name not in MODALITIES:
            raise ConfigError(f"synthetic cohort: expected modalities of {', '.join(MODALITIES)}, got {name!r}{did_you_mean(name, MODALITIES)}")
    if not set(modalities) - {"ed"}:
        raise ConfigError(
            f"synthetic cohort: expected at least one modality of ecg, cxr, got {', '.join(modalities) or 'none'}; name one, 'ed' only goes with it"
        )
    return _entries(n, seed, modalities)


def _entries(n: int, seed: int, modalities: Sequence[str]) -> Iterator[Entry]:
    ecg, cxr = (make_told_study, make_told_cxr_study) if "ed" in modalities else (make_study, make_cxr_study)
    for number in range(n):
        study, subject = f"synthetic-{seed}-{number:05d}", _subject(number, seed)
        if "ecg" in modalities:
            yield Entry(study_id=study, subject_id=subject, make=(ecg, (seed, number)))
        if "cxr" in modalities:
            yield Entry(study_id=f"{study}-cxr", subject_id=subject, make=(cxr, (seed, number)))


def make_study(key: tuple[int, int]) -> Study:
    """The ECG study with this number in the cohort of this seed. Every fifth one is a second visit of the patient before."""
    seed, number = key
    patient = _patient(number, seed)
    coding, rng = _coding(seed, number)
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
    patient = _patient(number, seed)
    chest, delay, sections, rng = _film(seed, number)
    pixels = draw_cxr(chest, rng, build=draw_build(patient, np.random.default_rng([seed, _home(number), 4])))
    return Study(
        study_id=f"synthetic-{seed}-{number:05d}-cxr",
        subject_id=patient.subject_id,
        time=_time(number) + delay,
        cxr=(Cxr(pixels, chest.view, "synthetic"),),
        report=report_of(sections),
        sections=sections,
        observations=observations(chest),
        age=patient.age,
        sex=patient.sex,
        language="en",
        source="synthetic",
    )


def make_told_study(key: tuple[int, int]) -> Study:
    """The ECG of make_study, its report with what the emergency stay and the prior report tell; the digoxin effect is coded too."""
    seed, number = key
    (coding, text), home = _ecg_written(seed, number), _home(number)
    priors = (_ecg_written(seed, home)[1],) if number != home else ()
    return replace(make_study(key), report=text, statements=coding.statements, sections=_background(seed, number), priors=priors)


def make_told_cxr_study(key: tuple[int, int]) -> Study:
    """The X-ray of make_cxr_study, its report with what the emergency stay and the prior report tell."""
    seed, number = key
    sections, home = _cxr_sections(seed, number), _home(number)
    priors = (report_of(_cxr_sections(seed, home)),) if number != home else ()
    return replace(make_cxr_study(key), report=report_of(sections), sections=sections, priors=priors)


def latent(seed: int, number: int) -> Latent:
    """The state behind both studies of a visit, without drawing them."""
    return Latent(_patient(number, seed), _coding(seed, number)[0], _film(seed, number)[0])


def visit(seed: int, number: int) -> Visit:
    """The same state, with when the studies are made and how fast the heart beats in the ECG: what an emergency stay is drawn from."""
    coding, rng = _coding(seed, number)
    chest, delay, _, _ = _film(seed, number)
    again = number != _home(number)
    return Visit(_patient(number, seed), coding, chest, heart_rate(coding, rng), _time(number), _time(number) + delay, again)


def emergency(seed: int, number: int) -> tuple[Stay, Known]:
    """The emergency stay of a visit, and what is known of its patient."""
    known = draw_known(_patient(number, seed), np.random.default_rng([seed, _home(number), 5]))
    return draw_stay(visit(seed, number), known, np.random.default_rng([seed, number, 6])), known


def told(seed: int, number: int) -> tuple[dict[str, str], dict[str, str]]:
    """What the ECG's report and the X-ray's tell that their pictures do not show: fact -> sentence."""
    state, home = visit(seed, number), _home(number)
    before = latent(seed, home) if number != home else None
    stay, known = emergency(seed, number)
    rng = np.random.default_rng([seed, number, 7])
    ecg = told_ecg(stay, known, state.coding, before.coding if before else None, rng)
    return ecg, told_cxr(stay, known, state.chest, before.chest if before else None, rng)


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


def _coding(seed: int, number: int) -> tuple[Coding, np.random.Generator]:
    """Of the ECG, and the generator that goes on to draw it."""
    rng = np.random.default_rng([seed, number, 1])
    return draw_coding(_patient(number, seed), rng), rng


def _film(seed: int, number: int) -> tuple[Chest, timedelta, dict[str, str], np.random.Generator]:
    """The chest, how long after the ECG, its report by sections, and the generator that goes on to draw it."""
    home = _home(number)
    rng = np.random.default_rng([seed, number, 3])
    chest = draw_chest(_patient(number, seed), rng, np.random.default_rng([seed, home, 2]))
    delay = timedelta(minutes=int(rng.integers(60, 301)))
    return chest, delay, report(chest, rng, f"Chest radiograph of {_time(home):%B %Y}" if number != home else None), rng


def _ecg_written(seed: int, number: int) -> tuple[Coding, str]:
    """What the told report of the ECG codes, and its text."""
    (coding, _), (ecg, _) = _coding(seed, number), told(seed, number)
    if "digoxin effect" in ecg:
        coding = replace(coding, statements=coding.statements | {"DIG": 1.0})
    return coding, " ".join([render(coding), *(text for name, text in ecg.items() if name != "digoxin effect")])


def _cxr_sections(seed: int, number: int) -> dict[str, str]:
    _, cxr = told(seed, number)
    sections = _film(seed, number)[2]
    return sections | {"impression": " ".join([sections["impression"], *cxr.values()])} | _background(seed, number)


def _background(seed: int, number: int) -> dict[str, str]:
    """Why the patient came, and the history: sections of either report."""
    stay, known = emergency(seed, number)
    history = ", ".join(known.history)
    return {"indication": f"{stay.complaint}."} | ({"history": f"{history[0].upper()}{history[1:]}."} if history else {})


def _patient(number: int, seed: int) -> Patient:
    return draw_patient(np.random.default_rng([seed, _home(number), 0]), _subject(number, seed))


def _time(number: int) -> datetime:
    return datetime(2020, 1, 1) + timedelta(hours=8 * number)


def _home(number: int) -> int:
    """The patient's number: that of the first visit."""
    return number - 1 if number % 5 == 4 else number


def _subject(number: int, seed: int) -> str:
    return f"synthetic-{seed}-patient-{_home(number):05d}"
