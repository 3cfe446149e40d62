"""One patient's context at use: three kinds of file, the guard, budgets, and whose it is."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from regen.data_prep import context as module
from regen.data_prep.context import Context, context_of, read_context
from regen.data_prep.events import MEDS
from regen.errors import DataError

NOON = datetime(2180, 1, 1, 12)
EARLY, LATE = "2180-01-01T11:00:00", "2180-01-01T12:00:00"


def values(context: Context) -> list[tuple[Any, ...]]:
    return context.events.select("code", "numeric_value", "text_value").rows()


def noted(context: Context, text: str) -> bool:
    return any(text in note for note in context.notes)


def test_the_documented_example_reads() -> None:
    doc = (Path(module.__file__).parent / "patient_json.py").read_text().split('"""')[1]
    example = json.loads(doc[doc.index("{") : doc.rindex("}") + 1])
    context = context_of(example, subject_id="10014729")
    assert dict(context.events.schema) == MEDS
    assert (context.age, context.sex, context.time) == (71, "female", datetime(2125, 3, 19, 16))
    assert ("VITAL//temperature", pytest.approx(38.444, abs=1e-3), None) in values(context)
    assert ("MED//given//furosemide", None, "loop diuretic") in values(context)
    assert ("LAB//troponin//ng/ml", pytest.approx(0.4), None) in values(context)
    assert context.priors == ("Sinus rhythm.", "Atrial fibrillation.")
    assert context.notes == ()


def test_every_part_may_be_missing() -> None:
    context = context_of({})
    assert context.events.is_empty()
    assert (context.priors, context.subject_id, context.age, context.time, context.notes) == ((), None, None, None, ())
    assert dict(context.events.schema) == MEDS


def test_vitals_under_other_names_and_acuity_at_triage() -> None:
    context = context_of({"vitals": {"HR": 118, "o2sat": 97, "acuity": 2}, "triage": {"sbp": 90}})
    assert sorted(values(context)) == [
        ("TRIAGE//acuity", 2, None),
        ("TRIAGE//sbp", 90, None),
        ("VITAL//heart_rate", 118, None),
        ("VITAL//spo2", 97, None),
    ]


def test_what_is_measured_at_or_after_the_study_is_left_out() -> None:
    context = context_of({"vitals": {"sbp": [{"value": 86, "time": EARLY}, {"value": 92, "time": LATE}, 99]}}, time=NOON)
    assert values(context) == [("VITAL//sbp", 99, None), ("VITAL//sbp", 86, None)]
    assert noted(context, "at or after the study's time (1)")


def test_without_a_study_time_only_rows_without_one_enter() -> None:
    context = context_of({"vitals": {"sbp": {"value": 86, "time": EARLY}, "dbp": 50}})
    assert values(context) == [("VITAL//dbp", 50, None)]
    assert noted(context, "the study has no time, the row has one (1)")
    with pytest.raises(DataError, match="give the study's time"):
        context_of({"vitals": {"sbp": {"value": 86, "time": EARLY}}})


def test_text_negative_and_implausible_vitals_are_noted() -> None:
    context = context_of({"vitals": {"heart_rate": "fast", "dbp": -4, "resp_rate": 400, "spo2": True}})
    assert values(context) == [("VITAL//resp_rate", None, None)]
    for text in ("heart_rate: text where", "dbp: negative", "resp_rate outside 3 to 80 /min: missing", "spo2: text where"):
        assert noted(context, text)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"vitlas": {}}, "unknown key 'vitlas'; did you mean 'vitals'"),
        ({"vitals": {"hart rate": 3}}, "unknown vital sign 'hart rate'; did you mean 'heart rate'"),
        ({"vitals": {"sbp": {"value": 3, "units": "kPa"}}}, "unknown key 'units'; did you mean 'unit'"),
        ({"vitals": {"sbp": {"unit": "kPa"}}}, "vitals.sbp: expected 'value'"),
        ({"vitals": [118]}, "vitals: expected an object"),
        ({"vitals": {"sbp": {"value": 3, "time": "noon"}}}, "vitals.sbp: expected a time"),
        ({"medications": [{"name": "x", "when": "later"}]}, "expected when to be home, given, ordered"),
        ({"medications": [7]}, "medications: expected text, got 7"),
        ({"history": {"af": True}}, "history: expected text"),
        ({"age": "old", "sex": "?"}, "age: expected years.*sex: expected female or male.*2 problems"),
        ([], "expected a JSON object"),
        ({"resourceType": "Patient"}, "expected a FHIR Bundle"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_remedy(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        context_of(data)


def test_another_patient_is_refused() -> None:
    with pytest.raises(DataError, match="expected the context of subject 2, got that of 1"):
        context_of({"subject_id": 1}, subject_id="2")
    assert context_of({"subject_id": 1}, subject_id="1").subject_id == "1"
    assert noted(context_of({"subject_id": 1}), "nobody checked")
    assert context_of({"history": ["AF"]}, subject_id="2").events["subject_id"].to_list() == ["2"]


def test_a_file_of_another_study_is_refused() -> None:
    with pytest.raises(DataError, match="the file says 2180-01-01 12:00"):
        context_of({"time": LATE}, time=NOON + timedelta(hours=1))


def test_the_two_latest_priors_are_kept() -> None:
    priors = [{"report": "c", "time": "2179-03-01"}, "a", {"report": "b", "time": "2179-01-01"}, {"report": "now", "time": LATE}]
    context = context_of({"priors": priors}, time=NOON)
    assert context.priors == ("b", "c")
    assert noted(context, "3 given, the 2 latest are used")
    assert noted(context, "1 left out: not before the study")


def test_two_hundred_medications_fit_the_budget_with_a_note() -> None:
    timed = [{"name": f"late {i}", "time": f"2180-01-01T{i // 60:02d}:{i % 60:02d}:00"} for i in range(60)]
    context = context_of({"medications": [*(f"drug {i}" for i in range(140)), *timed], "history": ["AF"]}, time=NOON)
    codes = [code for code, _, _ in values(context) if code.startswith("MED//")]
    assert len(codes) == module.MEDICATIONS == 100
    assert codes[:40] == [f"MED//home//drug {i}" for i in range(40)]
    assert sum("late" in code for code in codes) == 60
    assert noted(context, "200 medications, the budget is 100")
    assert ("HISTORY", None, "AF") in values(context)


def test_rows_beyond_the_budget_are_the_oldest() -> None:
    readings = [{"value": 50 + i % 100, "time": (NOON - timedelta(minutes=i + 1)).isoformat()} for i in range(module.EVENTS + 5)]
    context = context_of({"vitals": {"heart_rate": readings}}, time=NOON)
    assert len(context.events) == module.EVENTS
    assert context.events["time"].min() == NOON - timedelta(minutes=module.EVENTS)
    assert context.events["time"].is_sorted()
    assert noted(context, f"over the budget of {module.EVENTS} rows (5)")


def bundle(*patients: str) -> dict[str, Any]:
    def heart_rate(subject: str, time: str) -> dict[str, Any]:
        return {"resourceType": "Observation", "subject": {"reference": f"Patient/{subject}"}, "effectiveDateTime": time,
                "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}, "valueQuantity": {"value": 80}}  # fmt: skip

    resources = [{"resourceType": "Patient", "id": p, "birthDate": "2130-01-01"} for p in patients]
    return {"resourceType": "Bundle", "entry": [{"resource": r} for r in [*resources, *(heart_rate(p, t) for p in patients for t in (EARLY, LATE))]]}


def test_a_bundle_is_told_by_its_content_and_guarded(tmp_path: Path) -> None:
    path = tmp_path / "anything.txt"
    path.write_text(json.dumps(bundle("p")))
    context = read_context(path, "p", NOON)
    assert values(context) == [("VITAL//heart_rate", 80, None)]
    assert context.age == pytest.approx(50, abs=0.1)
    assert noted(context, "at or after the study's time (1)")
    with pytest.raises(DataError, match="give the study's time"):
        read_context(path, "p")


def test_a_bundle_of_another_patient_is_refused() -> None:
    with pytest.raises(DataError, match="expected the context of subject q, got that of p"):
        context_of(bundle("p"), subject_id="q", time=NOON)
    with pytest.raises(DataError, match="expected one patient, got 2"):
        context_of(bundle("p", "q"), time=NOON)
    context = context_of(bundle("p", "q"), subject_id="q", time=NOON)
    assert context.events["subject_id"].to_list() == ["q"]
    assert noted(context, "of another patient (2)")


def test_a_meds_file(tmp_path: Path) -> None:
    rows = {"subject_id": [1, 1, 1, 2], "time": [NOON - timedelta(hours=1), NOON, None, NOON], "code": ["LAB//220045//bpm", "A", "GENDER//F", "B"],
            "numeric_value": [90.0, 1, None, 2]}  # fmt: skip
    frame = pl.DataFrame(rows)
    frame.write_parquet(tmp_path / "meds.bin")
    assert values(read_context(tmp_path / "meds.bin", "1", NOON)) == [("GENDER//F", None, None), ("VITAL//heart_rate", 90, None)]
    with pytest.raises(DataError, match="expected one patient's rows, got 2"):
        read_context(tmp_path / "meds.bin", time=NOON)
    with pytest.raises(DataError, match="expected the context of subject 3"):
        read_context(tmp_path / "meds.bin", "3", NOON)


def test_files_that_are_nothing_of_the_kind(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "x", tmp_path / "none", tmp_path):
        with pytest.raises(DataError, match="expected"):
            read_context(path)
