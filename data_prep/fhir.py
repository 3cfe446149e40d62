"""FHIR R4 bundles: Patient, Encounter, Observation, MedicationRequest / Statement / Administration, Condition -> MEDS rows.

    tally = Tally("fhir")
    patients, rows = read_bundle(Path("patient.json"), tally)     rows: a frame of regen.data_prep.events.CANDIDATE

    Observation, a vital sign by LOINC (blood pressure by its components)   VITAL//...     at effective[x], else issued
    Observation of category laboratory, or a quantity without a category    LAB//<LOINC>[//<unit>]
    MedicationRequest, Statement, Administration   MED//ordered, MED//home, MED//given   at authoredOn, effective[x] or dateAsserted, effective[x]
    Condition                                      DX//<snomed, icd10, icd9, other>//<code> at recordedDate, else onset, else the encounter's end
    Encounter.reasonCode                           COMPLAINT                                at period.start

An unknown code whose words are a vital sign's name, with a quantity, is read by its words, with a note. Everything else is refused by the name of
its code. A day or a month without an hour counts as its last moment, so that nothing enters a study that may have come after it; a period counts by
its end. Times with a zone become UTC.
"""

from __future__ import annotations

import json
import re
from calendar import monthrange
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from regen.data_prep.event_store import attach
from regen.data_prep.events import CANDIDATE, NO_TIME, NO_VALUE, Tally, candidates, code_part
from regen.data_prep.fhir_resources import References, coding, concept_text, medication_name, quantity
from regen.data_prep.prepared import Prepared
from regen.data_prep.recording import sex_of
from regen.data_prep.tables import time_of
from regen.data_prep.vitals import BY_LOINC, checked, vital_of
from regen.errors import DataError

_REMEDY = "export a FHIR R4 Bundle as JSON"
NOT_READ = "this kind of resource is not read"
UTC = "times with a zone are turned into UTC: the studies' times must be UTC too"
_VOID = {"entered-in-error", "cancelled", "not-done", "not-taken", "draft", "refuted", "registered"}
_SYSTEMS = {"http://snomed.info/sct": "snomed", "http://hl7.org/fhir/sid/icd-10": "icd10", "http://hl7.org/fhir/sid/icd-10-cm": "icd10",
            "http://hl7.org/fhir/sid/icd-9-cm": "icd9"}  # fmt: skip
_ROWS_AT_ONCE = 200_000
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Patient:
    """subject_id: the resource's id; names: it and the identifiers, by any of which a study may know the patient."""

    subject_id: str
    names: frozenset[str]
    sex: str | None
    born: date | None


def prepare(paths: Iterable[str | Path], studies: Prepared, out: str | Path, force: bool = False) -> Tally:
    """Join bundles (files, or folders of .json files) to studies of the same subjects; a file that is no bundle is named in the tally.

    Raises:
        DataError: no file at all, or nothing that joins.
    """
    files = [file for path in map(Path, paths) for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    if not files:
        raise DataError(f"regen prepare fhir: expected .json files or folders of them, got none; {_REMEDY}")
    tally, known = Tally("fhir"), set(studies.studies["subject_id"])
    return attach(lambda _: _tables(files, known, tally), studies, out, "fhir", {"bundles": len(files)}, tally, None, force)


def _tables(files: list[Path], known: set[str], tally: Tally) -> Iterator[tuple[str, pl.LazyFrame]]:
    frames: list[pl.DataFrame] = []
    for file in files:
        try:
            patients, rows = read_bundle(file, tally)
            frames.append(_renamed(rows, patients, known, file))
            tally.add("Bundle")
        except DataError as error:
            tally.add("Bundle", 1, "not read", str(error))
        if sum(map(len, frames)) >= _ROWS_AT_ONCE:
            yield "bundles", pl.concat(frames).lazy()
            frames = []
    yield "bundles", pl.concat([pl.DataFrame(schema=CANDIDATE), *frames]).lazy()


def _renamed(rows: pl.DataFrame, patients: list[Patient], known: set[str], file: Path) -> pl.DataFrame:
    """Subjects under the names that the studies use."""
    names = {}
    for patient in patients:
        found = sorted(patient.names & known)
        if len(found) > 1:
            raise DataError(f"{file}: expected one subject for Patient {patient.subject_id}, the studies know {', '.join(found)}; make the ids agree")
        names[patient.subject_id] = found[0] if found else patient.subject_id
    return rows.with_columns(pl.col("subject_id").replace(names))


def read_bundle(source: Path | dict[str, Any], tally: Tally) -> tuple[list[Patient], pl.DataFrame]:
    """A bundle's patients and its rows (CANDIDATE, those that are refused too). Resources that give no row are counted in the tally.

    Raises:
        DataError: no file, no JSON, or no Bundle.
    """
    who = str(source) if isinstance(source, Path) else "bundle"
    resources = References.of(_bundle(source, who))
    reader = _Reader(resources, tally)
    for resource in resources.entries:
        reader.read(resource)
    return reader.patients, reader.frame()


def _bundle(source: Path | dict[str, Any], who: str) -> dict[str, Any]:
    if isinstance(source, Path):
        try:
            source = json.loads(source.read_text(encoding="utf-8-sig"))
        except FileNotFoundError as error:
            raise DataError(f"{who}: no such file; {_REMEDY}") from error
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{who}: expected JSON, could not read it ({str(error)[:100]}); {_REMEDY}") from error
    kind = source.get("resourceType") if isinstance(source, dict) else type(source).__name__
    if not isinstance(source, dict) or kind != "Bundle" or not isinstance(source.get("entry", []), list):
        raise DataError(f"{who}: expected a FHIR Bundle with entries, got {kind!r}; {_REMEDY}")
    return source


class _Reader:
    """One bundle's resources turned into rows, one method a kind."""

    def __init__(self, resources: References, tally: Tally) -> None:
        self.resources = resources
        self.tally = tally
        self.rows: list[Row] = []
        self.patients: list[Patient] = []

    def read(self, resource: dict[str, Any]) -> None:
        kind = str(resource.get("resourceType"))
        methods = {
            "Observation": self._observation, "Condition": self._condition, "Encounter": self._encounter, "Patient": self._patient,
            "MedicationRequest": self._medication, "MedicationStatement": self._medication, "MedicationAdministration": self._medication,
        }  # fmt: skip
        if kind == "Medication":
            self.tally.add(kind)
        elif kind not in methods:
            self.tally.add(kind, 1, NOT_READ)
        else:
            try:
                methods[kind](resource)
            except (AttributeError, TypeError, KeyError, IndexError, ValueError):
                self._refuse(resource, "not laid out as FHIR R4 has it")

    def frame(self) -> pl.DataFrame:
        """All rows; vital signs are checked here."""
        schema = CANDIDATE | {"raw": pl.String, "unit": pl.String}
        rows = pl.DataFrame([{name: row.get(name) for name in schema} for row in self.rows], schema=schema).lazy()
        plain = rows.filter(pl.col("raw").is_null())
        vitals = checked(rows.filter(pl.col("raw").is_not_null()).rename({"reason": "first", "note": "before"}))
        vitals = vitals.with_columns(pl.coalesce("first", "reason").alias("reason"), pl.coalesce("note", "before").alias("note"))
        return pl.concat([candidates(plain), candidates(vitals)]).collect()

    def _add(self, resource: dict[str, Any], time: datetime | None, code: str, timed: bool = True, **values: Any) -> None:
        subject, reason = self.resources.subject(resource)
        reason = reason or values.pop("reason", None) or _void(resource) or (NO_TIME if timed and time is None else None)
        self.rows.append({"table": resource["resourceType"], "subject_id": subject, "time": time, "code": code, "reason": reason, **values})

    def _refuse(self, resource: dict[str, Any], reason: str) -> None:
        self.rows.append({"table": str(resource.get("resourceType")), "code": "", "reason": reason})

    def _patient(self, resource: dict[str, Any]) -> None:
        self.patients.append(_patient_of(resource))
        self.tally.add("Patient")

    def _observation(self, resource: dict[str, Any]) -> None:
        time = self._moment(_effective(resource) or resource.get("issued"))
        parts = [p for p in resource.get("component", []) if any(k.startswith("value") for k in p)]
        own = any(k.startswith("value") for k in resource)
        for part in [*([resource] if own else []), *parts]:
            self._measured(resource, part, time)
        if not own and not parts:
            self._add(resource, time, "", reason=NO_VALUE)

    def _measured(self, resource: dict[str, Any], part: dict[str, Any], time: datetime | None) -> None:
        number, unit, words = quantity(part)
        code, name = coding(part.get("code"), "http://loinc.org")
        vital = BY_LOINC.get(code)
        by_words = None if vital or number is None else vital_of(name)
        if vital or by_words:
            note = f"read by its words, the code {code[:20]} ({name}) is unknown" if by_words else None
            raw = number if number is not None else words
            self._add(resource, time, f"VITAL//{vital or by_words}", raw=raw or "", unit=unit, note=note)
        elif "laboratory" in _categories(resource) or (not _categories(resource) and number is not None):
            label = code_part(code or name)
            value = None if number is None or words else float(number)
            text = None if value is not None else words or number
            self._add(resource, time, "//".join(["LAB", label, *([code_part(unit)] if unit else [])]), numeric_value=value, text_value=text,
                      reason=None if label else "no code")  # fmt: skip
        else:
            self._add(resource, time, "", reason=f"unknown code {code or 'none'} ({name})")

    def _medication(self, resource: dict[str, Any]) -> None:
        kind = resource["resourceType"]
        when = {"MedicationRequest": resource.get("authoredOn"), "MedicationStatement": _effective(resource) or resource.get("dateAsserted"),
                "MedicationAdministration": _effective(resource)}[kind]  # fmt: skip
        part = {"MedicationRequest": "ordered", "MedicationStatement": "home", "MedicationAdministration": "given"}[kind]
        name, reason = medication_name(resource, self.resources)
        self._add(resource, self._moment(when), f"MED//{part}//{code_part(name)}", reason=reason)

    def _condition(self, resource: dict[str, Any]) -> None:
        codings = resource.get("code", {}).get("coding", [])
        best = next((c for c in codings if c.get("system") in _SYSTEMS), codings[0] if codings else {})
        title = resource.get("code", {}).get("text") or best.get("display")
        encounter = self.resources.find(resource.get("encounter", {}).get("reference")) or {}
        onset = resource.get("onsetDateTime") or resource.get("onsetPeriod", {}).get("start")
        time = self._moment(resource.get("recordedDate") or onset or encounter.get("period", {}).get("end"))
        system, code = _SYSTEMS.get(best.get("system", ""), "other"), code_part(str(best.get("code") or ""))
        code = code.replace(".", "") if system.startswith("icd") else code
        whole = f"DX//{system}//{code}" if code else f"DX//text//{code_part(title or '')}"
        self._add(resource, time, whole, text_value=title, reason=None if code or title else "no code")

    def _encounter(self, resource: dict[str, Any]) -> None:
        reasons = [text for reason in resource.get("reasonCode", []) if (text := concept_text(reason))]
        for text in reasons:
            self._add(resource, self._moment(resource.get("period", {}).get("start")), "COMPLAINT", text_value=text)
        if not reasons:
            self._refuse(resource, "no reason for the encounter")

    def _moment(self, text: str | None) -> datetime | None:
        """A FHIR dateTime; one without an hour is the last moment of its day, month or year. None where it is none or cannot be read."""
        text = (text or "").strip()
        if not text:
            return None
        if part := re.fullmatch(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?", text):
            year, month, day = int(part[1]), int(part[2] or 12), part[3]
            return datetime(year, month, int(day) if day else monthrange(year, month)[1], 23, 59, 59)
        if re.search(r"(Z|[+-]\d\d:?\d\d)$", text):
            self.tally.remark(UTC)
        try:
            return time_of(text, "FHIR")
        except DataError:
            return None


def _patient_of(resource: dict[str, Any]) -> Patient:
    names = [resource.get("id"), *(identifier.get("value") for identifier in resource.get("identifier", []))]
    born = str(resource.get("birthDate") or "")
    return Patient(str(resource.get("id") or ""), frozenset(str(name) for name in names if name), sex_of(resource.get("gender")),
                   date.fromisoformat(born) if re.fullmatch(r"\d{4}-\d\d-\d\d", born) else None)  # fmt: skip


def _void(resource: dict[str, Any]) -> str | None:
    status = resource.get("status") or coding(resource.get("verificationStatus"))[0]
    return f"status {status}" if status in _VOID else None


def _effective(resource: dict[str, Any]) -> str | None:
    period = resource.get("effectivePeriod", {})
    return resource.get("effectiveDateTime") or resource.get("effectiveInstant") or period.get("end") or period.get("start")


def _categories(resource: dict[str, Any]) -> set[str]:
    return {c.get("code", "") for category in resource.get("category", []) for c in category.get("coding", [])}
