"""The small JSON in which a user writes a patient's context by hand.

    {"subject_id": "10014729", "age": 71, "sex": "female", "time": "2125-03-19T16:00:00",
     "vitals": {"heart_rate": 118, "temperature": {"value": 101.2, "unit": "F"}, "sbp": [{"value": 86, "time": "2125-03-19T15:10:00"}, 92]},
     "triage": {"acuity": 2, "pain": 7}, "labs": {"troponin": {"value": 0.4, "unit": "ng/mL"}},
     "medications": ["digoxin", {"name": "furosemide", "when": "given", "time": "2125-03-19T15:30:00", "class": "loop diuretic"}],
     "chief_complaint": "Chest pain", "indication": "rule out ischemia", "history": ["atrial fibrillation"],
     "priors": ["Sinus rhythm.", {"report": "Atrial fibrillation.", "time": "2125-01-02T09:00:00"}]}

Every key may be left out. time: of the study. A reading or a medication without a time is a fixed fact. when: home (default), given, ordered.
priors: earlier reports, older first. Vital signs also go by their usual other names (hr, pulse, spo2, o2sat ...).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from regen.data_prep.events import CANDIDATE, candidates, code_part
from regen.data_prep.recording import sex_of
from regen.data_prep.tables import time_of
from regen.data_prep.vitals import BY_ALIAS, checked, vital_of
from regen.errors import DataError, did_you_mean

KEYS = ("subject_id", "age", "sex", "time", "vitals", "triage", "labs", "medications", "chief_complaint", "indication", "history", "priors")
_WHEN = ("home", "given", "ordered")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PatientFile:
    """rows: CANDIDATE; priors: (report, its time or None) as given."""

    rows: pl.DataFrame
    priors: tuple[tuple[str, datetime | None], ...]
    subject_id: str | None
    age: float | None
    sex: str | None
    time: datetime | None


def read_patient(data: dict[str, Any], who: str) -> PatientFile:
    """Check the whole object and turn it into rows.

    Raises:
        DataError: unknown keys, vital signs or values of the wrong kind: all of them in one message.
    """
    reader = _Reader(who)
    for key in data.keys() - set(KEYS):
        reader.problems.append(f"unknown key {key!r}{did_you_mean(key, KEYS)}")
    for prefix, key in (("VITAL", "vitals"), ("TRIAGE", "triage"), ("LAB", "labs")):
        reader.readings(prefix, key, data.get(key))
    for item in reader.items("medications", data.get("medications")):
        reader.medication(item)
    for code, key in (("COMPLAINT", "chief_complaint"), ("INDICATION", "indication"), ("HISTORY", "history")):
        for item in reader.items(key, data.get(key)):
            text = reader.text(key, item)
            if text:
                reader.rows.append({"table": key, "code": code, "text_value": text})
    priors = tuple(prior for item in reader.items("priors", data.get("priors")) if (prior := reader.prior(item)) is not None)
    age, sex, time = reader.age(data.get("age")), reader.sex(data.get("sex")), reader.time("time", data.get("time"))
    subject = data.get("subject_id")
    if reader.problems:
        raise DataError(f"{who}: {'; '.join(sorted(reader.problems))}; {len(reader.problems)} problem{'s' if len(reader.problems) > 1 else ''}")
    return PatientFile(reader.frame(), priors, None if subject is None else str(subject), age, sex, time)


class _Reader:
    """Collects rows and problems."""

    def __init__(self, who: str) -> None:
        self.who = who
        self.rows: list[Row] = []
        self.problems: list[str] = []

    def readings(self, prefix: str, key: str, values: Any) -> None:
        """`vitals`, `triage` and `labs`: a number, an object or a list of them by name."""
        if values is None:
            return
        if not isinstance(values, dict):
            self.problems.append(f"{key}: expected an object of name and value, got {_shown(values)}")
            return
        for name, value in values.items():
            vital = vital_of(name) if prefix != "LAB" else name
            if vital is None:
                self.problems.append(f"{key}: unknown vital sign {name!r}{did_you_mean(name.lower(), BY_ALIAS)}")
                continue
            for item in value if isinstance(value, list) else [value]:
                reading = self.object(f"{key}.{name}", item, "value", ("value", "unit", "time"))
                if reading is not None and reading["value"] is not None:
                    self._reading(prefix, key, vital, reading)

    def _reading(self, prefix: str, key: str, name: str, reading: Row) -> None:
        value, unit = reading["value"], reading.get("unit")
        raw = str(value).lower() if isinstance(value, bool) else str(value)
        row = {"table": key, "time": self.time(f"{key}.{name}", reading.get("time"))}
        if prefix != "LAB":
            self.rows.append({**row, "code": f"{'TRIAGE' if name == 'acuity' else prefix}//{name}", "raw": raw, "unit": unit and str(unit)})
            return
        number = isinstance(value, int | float) and not isinstance(value, bool)
        code = "//".join(["LAB", code_part(name), *([code_part(str(unit))] if unit else [])])
        self.rows.append({**row, "code": code, "numeric_value": float(value) if number else None, "text_value": None if number else raw})

    def medication(self, item: Any) -> None:
        found = self.object("medications", item, "name", ("name", "class", "when", "time"))
        if found is None:
            return
        name, when = self.text("medications", found["name"]), found.get("when", "home")
        if when not in _WHEN:
            self.problems.append(f"medications: expected when to be {', '.join(_WHEN)}, got {_shown(when)}")
        elif name:
            drug_class = found.get("class")
            self.rows.append({"table": "medications", "time": self.time("medications", found.get("time")), "code": f"MED//{when}//{code_part(name)}",
                              "text_value": str(drug_class).lower() if drug_class else None})  # fmt: skip

    def prior(self, item: Any) -> tuple[str, datetime | None] | None:
        found = self.object("priors", item, "report", ("report", "time"))
        text = self.text("priors", found["report"]) if found is not None else ""
        return (text, self.time("priors", found.get("time"))) if found is not None and text else None

    def object(self, key: str, item: Any, main: str, known: tuple[str, ...]) -> Row | None:
        """A bare value as {main: value}; an object with unknown or without its main key is a problem."""
        if not isinstance(item, dict):
            return {main: item}
        unknown = sorted(item.keys() - set(known))
        self.problems.extend(f"{key}: unknown key {name!r}{did_you_mean(name, known)}" for name in unknown)
        if main not in item:
            self.problems.append(f"{key}: expected {main!r}, got {_shown(item)}")
        return item if main in item and not unknown else None

    def items(self, key: str, value: Any) -> list[Any]:
        return [] if value is None else value if isinstance(value, list) else [value]

    def text(self, key: str, value: Any) -> str:
        if not isinstance(value, str):
            self.problems.append(f"{key}: expected text, got {_shown(value)}")
            return ""
        return value.strip()

    def time(self, key: str, value: Any) -> datetime | None:
        try:
            return time_of(None if value is None else str(value), key)
        except DataError as error:
            self.problems.append(str(error))
            return None

    def age(self, value: Any) -> float | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 130:
            self.problems.append(f"age: expected years from 0 to 130, got {_shown(value)}")
            return None
        return float(value)

    def sex(self, value: Any) -> str | None:
        sex = sex_of(str(value)) if value is not None else None
        if value is not None and sex is None:
            self.problems.append(f"sex: expected female or male, got {_shown(value)}")
        return sex

    def frame(self) -> pl.DataFrame:
        schema = CANDIDATE | {"raw": pl.String, "unit": pl.String}
        rows = pl.DataFrame([{name: row.get(name) for name in schema} for row in self.rows], schema=schema).lazy()
        measured = rows.filter(pl.col("raw").is_not_null())
        return pl.concat([candidates(rows.filter(pl.col("raw").is_null())), candidates(checked(measured))]).collect()


def _shown(value: Any) -> str:
    return repr(value)[:60]
