"""The six tables of a made-up emergency stay in MIMIC-IV-ED 2.2's layout, with the gaps and mistakes that real ones have.

    rows = chart(stay, known, patient, rhythm, stay_id, rng)
      -> {"edstays": [["synthetic-0-patient-00007", None, "synthetic-0-00007-stay", ...]], "triage": ...}
    write_tables(folder, [rows, ...])        edstays.csv.gz, triage.csv.gz, ...: the same bytes for the same rows

Subject and stay ids are the cohort's own strings, where MIMIC's are integers; gsn, ndc and etccode are made up. Temperatures are Fahrenheit,
pressures mmHg, saturations %; the mistakes are CELSIUS, KILOPASCAL and IMPLAUSIBLE, each rate the share of rows that hold it. Where a row tells
of an episode, the vital sign that does is neither missing nor mistaken.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from regen.data_prep.synthetic_known import CLASSES, Known
from regen.data_prep.synthetic_patient import Patient
from regen.data_prep.synthetic_stay import VITALS, Stay

COLUMNS = {
    "edstays": ["subject_id", "hadm_id", "stay_id", "intime", "outtime", "gender", "race", "arrival_transport", "disposition"],
    "triage": ["subject_id", "stay_id", "temperature", "heartrate", "resprate", "o2sat", "sbp", "dbp", "pain", "acuity", "chiefcomplaint"],
    "vitalsign": ["subject_id", "stay_id", "charttime", "temperature", "heartrate", "resprate", "o2sat", "sbp", "dbp", "rhythm", "pain"],
    "medrecon": ["subject_id", "stay_id", "charttime", "name", "gsn", "ndc", "etc_rn", "etccode", "etcdescription"],
    "pyxis": ["subject_id", "stay_id", "charttime", "med_rn", "name", "gsn_rn", "gsn"],
    "diagnosis": ["subject_id", "stay_id", "seq_num", "icd_code", "icd_version", "icd_title"],
}
"""Table -> its columns, as MIMIC-IV-ED 2.2 orders them."""
MISSING = {"temperature": 0.06, "heartrate": 0.04, "resprate": 0.05, "o2sat": 0.05, "sbp": 0.04, "dbp": 0.04, "pain": 0.07, "acuity": 0.02}
"""Field of triage -> share of stays of acuity 3 to 5 without it."""
MISSING_LATER = {"temperature": 0.30, "heartrate": 0.05, "resprate": 0.08, "o2sat": 0.08, "sbp": 0.06, "dbp": 0.06, "pain": 0.25}
"""Field of vitalsign -> the same, of rows."""
RUSHED = 2.0
"""How much more often a field is missing at acuity 1 and 2, where there was no time."""
CELSIUS, KILOPASCAL, IMPLAUSIBLE = 0.03, 0.01, 0.015
"""Share of rows of vital signs with the temperature in Celsius; with the pressures in kPa; with a slip of the keys."""
PAIN_TEXT, RHYTHM, DUPLICATE = 0.12, 0.06, 0.02
"""Share of pain scores that are words; of vital sign rows with a rhythm; of rows of vitalsign, medrecon and pyxis that come twice."""
_PAIN = ("unable", "UA", "critical", "sleeping", "o")
_RHYTHMS = {"AFIB": "Atrial Fibrillation", "AFLT": "Atrial Flutter", "STACH": "Sinus Tachycardia", "SBRAD": "Sinus Bradycardia", "PACE": "Paced"}
_CLASS_NUMBERS = {name: i for i, name in enumerate(dict.fromkeys(CLASSES.values()), 1)}
Row = list[str | None]
Rows = dict[str, list[Row]]


def chart(stay: Stay, known: Known, patient: Patient, rhythm: str, stay_id: str, rng: np.random.Generator) -> Rows:
    """The rows of one stay by table, in the order of COLUMNS; None is an empty cell. rhythm: the SCP code of the ECG's."""
    who: Row = [patient.subject_id, stay_id]
    out = stay.intime - timedelta(hours=float(rng.uniform(1, 6))) if stay.reversed else stay.outtime
    admission = f"{stay_id}-admission" if stay.admitted else None
    way, end = "AMBULANCE" if stay.ambulance else "WALK IN", "ADMITTED" if stay.admitted else "HOME"
    person: Row = ["F" if patient.sex == "female" else "M", known.race]
    rows: Rows = {
        "edstays": [[who[0], admission, stay_id, _stamp(stay.intime), _stamp(out), *person, way, end]],
        "triage": [[*who, *_triage(stay, rng)]],
        "vitalsign": [[*who, *row] for row in _vitalsigns(stay, rhythm, rng)],
        "medrecon": [],
        "pyxis": [],
        "diagnosis": [[*who, str(i), code, "10", title.upper()] for i, (code, title) in enumerate(stay.diagnoses, 1)],
    }
    asked = _stamp(stay.intime + timedelta(minutes=int(rng.integers(5, 25))))
    for name in known.medications if stay.reconciled else ():
        rows["medrecon"].append([*who, asked, name, _gsn(name), f"999000{_gsn(name)}", "1", f"{_CLASS_NUMBERS[CLASSES[name]]:08d}", CLASSES[name]])
    for number, (time, name) in enumerate(stay.given, 1):
        rows["pyxis"].append([*who, _stamp(time), str(number), name, "1", _gsn(name)])
    for table in ("vitalsign", "medrecon", "pyxis"):
        rows[table] = [row for row in rows[table] for _ in range(1 + bool(rng.random() < DUPLICATE))]
    return rows


def write_tables(folder: str | Path, stays: Iterable[Rows]) -> None:
    """Six .csv.gz in a folder, which is made where it is missing; gzip's time is 0, so that equal rows give equal bytes."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {table: io.StringIO() for table in COLUMNS}
    writers = {table: csv.writer(text, lineterminator="\n") for table, text in texts.items()}
    for table, columns in COLUMNS.items():
        writers[table].writerow(columns)
    for rows in stays:
        for table in COLUMNS:
            writers[table].writerows(rows[table])
    for table, text in texts.items():
        (folder / f"{table}.csv.gz").write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def _stamp(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}"


def _gsn(name: str) -> str:
    return f"9{zlib.crc32(name.encode()) % 100000:05d}"


def _triage(stay: Stay, rng: np.random.Generator) -> Row:
    vitals = _mistaken(stay.triage, None, rng)
    cells = {name: _number(value) for name, value in vitals.items()} | {"pain": _pain(stay.pain, rng), "acuity": f"{stay.acuity}.0"}
    return [*_with_gaps(cells, MISSING, stay.acuity, None, rng), stay.complaint]


def _vitalsigns(stay: Stay, rhythm: str, rng: np.random.Generator) -> Iterable[Row]:
    for row in stay.series:
        vitals = _mistaken(row.vitals, row.kept, rng)
        cells = {name: _number(value) for name, value in vitals.items()} | {"pain": _pain(stay.pain, rng)}
        *six, pain = _with_gaps(cells, MISSING_LATER, stay.acuity, row.kept, rng)
        seen = _RHYTHMS.get(rhythm, "Normal Sinus Rhythm") if rng.random() < RHYTHM else None
        yield [_stamp(row.time), *six, seen, pain]


def _with_gaps(cells: dict[str, str], rates: dict[str, float], acuity: int, kept: str | None, rng: np.random.Generator) -> Row:
    more = RUSHED if acuity <= 2 else 1.0
    lost = {name: rng.random() < rate * more for name, rate in rates.items()}
    return [None if lost[name] and name != kept else text for name, text in cells.items()]


def _mistaken(vitals: dict[str, float], kept: str | None, rng: np.random.Generator) -> dict[str, float]:
    """The vital signs as somebody typed them. Every row draws the same numbers, whatever happens in it."""
    celsius, pascal, slip = rng.random(3) < (CELSIUS, KILOPASCAL, IMPLAUSIBLE)
    kind = int(rng.integers(4))
    typed = {name: float(round(vitals[name], 1) if name == "temperature" else round(vitals[name])) for name in VITALS}
    if kept is not None:
        return typed
    if celsius:
        typed["temperature"] = round((typed["temperature"] - 32) / 1.8, 1)
    if pascal:
        typed |= {name: round(typed[name] / 7.50062, 1) for name in ("sbp", "dbp")}
    if slip:
        wrong = (
            {"o2sat": 10 * typed["o2sat"] + 8}, {"sbp": typed["dbp"], "dbp": typed["sbp"]}, {"resprate": 10 * typed["resprate"]}, {"heartrate": -1.0},
        )  # fmt: skip
        typed |= wrong[kind]
    return typed


def _number(value: float) -> str:
    return f"{value:.1f}"


def _pain(score: int, rng: np.random.Generator) -> str:
    word, which = rng.random(), int(rng.integers(len(_PAIN)))
    return _PAIN[which] if word < PAIN_TEXT else str(score)
