"""One patient's context at use: a small JSON (regen.data_prep.patient_json), a FHIR bundle or a MEDS parquet file -> Context.

    context = read_context("patient.json", subject_id=study.subject_id, time=study.time)
    context.events        MEDS rows that may enter, older first, rows without a time before all
    context.priors        ("Sinus rhythm.",)  at most two earlier reports, older first
    context.notes         ("vitals: heart_rate: text where a number belongs (1)",)  for the user: what was left out and what was done

Which of the three a file is, its content says, not its name. The guard is that of regen.data_prep.events: with a study's time, rows at or after it
are left out; without one, only rows without a time enter. Another patient's file is refused.

Budgets: MEDICATIONS rows of medications, EVENTS rows in all, PRIORS earlier reports; of more the latest are kept (of those without a time the first)
and a note says how many were not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from regen.data_prep.event_store import OUTCOMES, judged
from regen.data_prep.events import MEDS, Tally
from regen.data_prep.fhir import Patient, read_bundle
from regen.data_prep.meds import read_rows, scanned
from regen.data_prep.patient_json import read_patient
from regen.errors import DataError

PRIORS = 2
MEDICATIONS = 100
EVENTS = 1000
OTHERS_ROW = "of another patient"
_NOBODY_CHECKED = "the study names no subject: nobody checked that this is its patient"
_REMEDY = "give a patient.json, a FHIR bundle (JSON) or a MEDS parquet file"


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What is known of a patient before a study. events: columns of regen.data_prep.events.MEDS; empty where nothing is known."""

    events: pl.DataFrame
    priors: tuple[str, ...] = ()
    subject_id: str | None = None
    age: float | None = None
    sex: str | None = None
    time: datetime | None = None
    """Of the study, as used for the guard."""
    notes: tuple[str, ...] = ()


def read_context(path: str | Path, subject_id: str | None = None, time: datetime | None = None) -> Context:
    """Read a file of any of the three kinds for a study of `subject_id` made at `time` (None: what the file says of it, if anything).

    Raises:
        DataError: no such file, none of the kinds, unknown keys, another patient, several patients and nobody says which, or rows with times for
            a study without one and nothing else.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            parquet = file.read(4) == b"PAR1"
    except OSError as error:
        raise DataError(f"{path}: expected a file with a patient's context, could not read it ({error.strerror}); {_REMEDY}") from error
    if parquet:
        return _from_meds(path, subject_id, time)
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected JSON or parquet, could not read it ({str(error)[:100]}); {_REMEDY}") from error
    return context_of(data, str(path), subject_id, time)


def context_of(data: Any, who: str = "context", subject_id: str | None = None, time: datetime | None = None) -> Context:
    """The same for an object that is in memory: a FHIR bundle or the small JSON."""
    if not isinstance(data, dict):
        raise DataError(f"{who}: expected a JSON object, got {type(data).__name__}; {_REMEDY}")
    if "resourceType" in data:
        return _from_fhir(data, who, subject_id, time)
    file = read_patient(data, who)
    _check_subject(who, file.subject_id, {file.subject_id} if file.subject_id else set(), subject_id)
    if time is not None and file.time is not None and time != file.time:
        raise DataError(f"{who}: expected the study's time {time}, the file says {file.time}; give the file of this study, or take its time away")
    tally = Tally(who)
    context = Context(file.rows, (), file.subject_id or subject_id, file.age, file.sex, time or file.time)
    priors, told = _priors(file.priors, context.time)
    return replace(_guarded(context, tally, who), priors=priors, notes=(*_unchecked(file.subject_id, subject_id), *told, *_notes(tally)))


def _from_fhir(data: dict[str, Any], who: str, subject_id: str | None, time: datetime | None) -> Context:
    tally = Tally(who)
    patients, rows = read_bundle(data, tally)
    patient = _the_patient(patients, rows, who, subject_id)
    other = pl.col("reason").is_null() & (pl.col("subject_id") != patient.subject_id)
    rows = rows.with_columns(pl.when(other).then(pl.lit(OTHERS_ROW)).otherwise(pl.col("reason")).alias("reason"))
    context = Context(rows, (), subject_id or patient.subject_id, _age(patient.born, time), patient.sex, time)
    context = _guarded(context, tally, who)
    return replace(context, notes=(*_unchecked(patient.subject_id, subject_id), *_notes(tally)))


def _the_patient(patients: list[Patient], rows: pl.DataFrame, who: str, subject_id: str | None) -> Patient:
    if not patients:
        ids = [str(i) for i in rows["subject_id"].drop_nulls().unique().sort()]
        patients = [Patient(i, frozenset({i}), None, None) for i in ids]
    meant = [p for p in patients if subject_id is None or subject_id in p.names]
    if len(meant) == 1:
        return meant[0]
    ids = [p.subject_id for p in patients]
    if meant:
        raise DataError(f"{who}: expected one patient, got {len(meant)} ({', '.join(ids[:5])}); say whose study it is, or give one patient's bundle")
    _check_subject(who, ", ".join(ids[:5]) or None, set(), subject_id)
    raise DataError(f"{who}: expected a patient, got a bundle without one; {_REMEDY}")


def _from_meds(path: Path, subject_id: str | None, time: datetime | None) -> Context:
    tally = Tally(str(path))
    rows = scanned(path)
    subjects = [str(s) for s in rows.select(pl.col("subject_id").unique().sort()).collect().to_series().drop_nulls()]
    if subject_id is None and len(subjects) != 1:
        raise DataError(f"{path}: expected one patient's rows, got {len(subjects)} patients; say whose study it is, or give one patient's file")
    _check_subject(str(path), ", ".join(subjects[:5]), set(subjects), subject_id)
    own = subject_id or subjects[0]
    context = Context(read_rows(rows.filter(pl.col("subject_id") == own)).collect(), (), own, None, None, time)
    context = _guarded(context, tally, str(path))
    return replace(context, notes=(*_unchecked(own, subject_id), *_notes(tally)))


def _check_subject(who: str, said: str | None, names: set[str], subject_id: str | None) -> None:
    if subject_id is not None and said is not None and subject_id not in names:
        raise DataError(f"{who}: expected the context of subject {subject_id}, got that of {said}; give the file of the study's own patient")


def _unchecked(said: str | None, subject_id: str | None) -> tuple[str, ...]:
    return (_NOBODY_CHECKED,) if said is not None and subject_id is None else ()


def _guarded(context: Context, tally: Tally, who: str) -> Context:
    """Count the rows, keep those that may enter (by the guard, once each, within the budgets), as MEDS."""
    tally.count(context.events.lazy())
    good = context.events.filter(pl.col("reason").is_null())
    pairs = good.with_row_index("row").with_columns(
        pl.lit("").alias("study_id"), pl.lit(context.time, pl.Datetime("us")).alias("at"), pl.lit(0).alias("no")
    )
    rows = judged(pairs)
    for table, outcome, n in rows.group_by("table", "outcome").len().sort("table", "outcome").iter_rows():
        if OUTCOMES[outcome] is not None:
            tally.refuse_used(table, n, str(OUTCOMES[outcome]))
    early = rows.filter(pl.col("outcome") == 0)
    if len(good) and early.is_empty() and context.time is None:
        raise DataError(
            f"{who}: expected rows that came before the study, got {len(good)} with a time and a study without one; give the study's time"
        )
    medication = pl.col("code").str.starts_with("MED//")
    kept = _latest(early, medication, MEDICATIONS, "medications", tally)
    kept = _latest(kept, pl.lit(True), EVENTS, "rows", tally)
    subject = pl.lit(context.subject_id, pl.String).alias("subject_id")
    return replace(context, events=kept.sort("time", "row", nulls_last=False).with_columns(subject).select(*MEDS))


def _latest(rows: pl.DataFrame, which: pl.Expr, most: int, what: str, tally: Tally) -> pl.DataFrame:
    some, rest = rows.filter(which), rows.filter(~which)
    if len(some) <= most:
        return rows
    kept = some.sort([pl.col("time"), pl.col("row")], descending=[True, False], nulls_last=True).head(most)
    tally.remark(f"{len(some)} {what}, the budget is {most}: the {most} latest are used, of those without a time the first given")
    for table, n in some.join(kept, on="row", how="anti").group_by("table").len().iter_rows():
        tally.refuse_used(table, n, f"over the budget of {most} {what}")
    return pl.concat([rest, kept])


def _priors(given: tuple[tuple[str, datetime | None], ...], time: datetime | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """At most PRIORS reports, older first, and what is to be said of it. Those without a time stand as given, before those with one."""
    notes = []
    early = [prior for prior in given if prior[1] is None or (time is not None and prior[1] < time)]
    if len(early) < len(given):
        notes.append(f"priors: {len(given) - len(early)} left out: not before the study, or the study has no time")
    ordered = sorted(early, key=lambda prior: prior[1] or datetime.min)
    if len(ordered) > PRIORS:
        notes.append(f"priors: {len(ordered)} given, the {PRIORS} latest are used")
    return tuple(text for text, _ in ordered[-PRIORS:]), tuple(notes)


def _age(born: date | None, time: datetime | None) -> float | None:
    return None if born is None or time is None else round((time.date() - born).days / 365.25, 1)


def _notes(tally: Tally) -> tuple[str, ...]:
    counted = [
        f"{table}: {reason} ({n})"
        for counts in (tally.refused, tally.notes) for table in sorted(counts) for reason, n in counts[table].most_common()
    ]  # fmt: skip
    return (*tally.remarks, *counted)
