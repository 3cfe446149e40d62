"""The context that a study is drafted with: its events and its subject's earlier reports, from a prepared folder, whole or in part.

    (study,) = with_context(data, [study])          study.events: (Event("TRIAGE//heart_rate", hours=2.4, value=118.0), ...), older first
    only(study, {"triage", "priors"})               the same study with two of PARTS and nothing else

PARTS are those of the ablation tables: what one source of a hospital delivers together, or not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

import polars as pl

from regen.data_prep.context import PRIORS, Context
from regen.data_prep.events import kind_of
from regen.data_prep.prepared import Prepared
from regen.study import Event, Study

PARTS: dict[str, tuple[str, ...]] = {
    "triage": ("triage", "complaint"),
    "vitals": ("vital", "rhythm", "lab", "other"),
    "medications": ("med_home", "med_given", "med_ordered"),
    "indication": ("indication",),
    "history": ("history", "diagnosis"),
    "priors": (),
}
"""Part -> the kinds of its events. Priors are reports, not events."""


def with_context(data: Prepared, studies: Sequence[Study]) -> list[Study]:
    """Studies of a prepared folder with what was charted before them, and with up to PRIORS earlier reports of the same subject and picture.

    A folder without events.parquet has no context: its studies come back as they are.
    """
    if data.events is None:
        return list(studies)
    times = {study.study_id: study.time for study in studies}
    events: dict[str, list[Event]] = {study_id: [] for study_id in times}
    columns = ("study_id", "time", "code", "numeric_value", "text_value")
    for study_id, time, code, value, text in data.context(list(times)).select(columns).iter_rows():
        events[study_id].append(Event(code, _hours(times[study_id], time), value, text))
    reports = _reports(data, [s.subject_id for s in studies if s.subject_id is not None])
    return [replace(study, events=tuple(events[study.study_id]), priors=study.priors or _priors(study, reports)) for study in studies]


def with_patient(study: Study, context: Context) -> Study:
    """The study with one patient's context as regen.data_prep.context.read_context gives it; its notes become flags."""
    rows = context.events.select("time", "code", "numeric_value", "text_value").iter_rows()
    events = tuple(Event(code, _hours(context.time, time), value, text) for time, code, value, text in rows)
    return replace(
        study, events=events, priors=context.priors, time=study.time or context.time, subject_id=study.subject_id or context.subject_id,
        age=study.age if study.age is not None else context.age, sex=study.sex or context.sex,
        flags=(*study.flags, *(f"context:{note}" for note in context.notes)),
    )  # fmt: skip


def only(study: Study, parts: Collection[str]) -> Study:
    """The study with nothing of its context but the given PARTS."""
    kinds = {kind for part in parts for kind in PARTS[part]}
    events = tuple(event for event in study.events if kind_of(event.code) in kinds)
    return replace(study, events=events, priors=study.priors if "priors" in parts else ())


def _hours(study: datetime | None, event: datetime | None) -> float | None:
    return None if study is None or event is None else (study - event).total_seconds() / 3600


def _reports(data: Prepared, subjects: Sequence[str]) -> dict[str, list[tuple[datetime, bool, str]]]:
    """Subject -> (time, whether it is an ECG, report) of all its dated and reported studies, older first."""
    rows = data.studies.filter(pl.col("subject_id").is_in(subjects), pl.col("time").is_not_null(), pl.col("report").fill_null("") != "").sort("time")
    out: dict[str, list[tuple[datetime, bool, str]]] = {}
    for subject, time, ecg, report in rows.select("subject_id", "time", pl.col("ecg_row").is_not_null(), "report").iter_rows():
        out.setdefault(subject, []).append((time, ecg, report))
    return out


def _priors(study: Study, reports: dict[str, list[tuple[datetime, bool, str]]]) -> tuple[str, ...]:
    if study.time is None or study.subject_id is None:
        return ()
    before = [report for time, ecg, report in reports.get(study.subject_id, []) if time < study.time and ecg == (not study.cxr)]
    return tuple(before[-PRIORS:])
