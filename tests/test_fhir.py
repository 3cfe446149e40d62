"""FHIR R4 bundles to rows: codes, units, references, and what is refused by name."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from regen.artifact import load_manifest
from regen.cli import main
from regen.data_prep.events import NO_TIME, NO_VALUE, Tally
from regen.data_prep.fhir import NOT_READ, UTC, Patient, prepare, read_bundle
from regen.data_prep.prepare import Entry, write
from regen.data_prep.prepared import Prepared
from regen.errors import DataError

PATIENT = {"resourceType": "Patient", "id": "p", "gender": "female", "birthDate": "1950-06-01", "identifier": [{"value": "MRN-7"}]}
LOINC = "http://loinc.org"
AT = "2180-01-01T08:00:00"


def bundle(*resources: dict[str, Any], patient: dict[str, Any] | None = PATIENT) -> dict[str, Any]:
    entries = [*([patient] if patient else []), *resources]
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"fullUrl": f"urn:uuid:{r.get('id')}", "resource": r} for r in entries]}


def of(kind: str, **fields: Any) -> dict[str, Any]:
    return {"resourceType": kind, "subject": {"reference": "urn:uuid:p"}, **fields}


def observation(code: str, value: float | str | None, unit: str | None = None, **fields: Any) -> dict[str, Any]:
    quantity = {} if value is None else {"valueQuantity": {"value": value, **({"code": unit} if unit else {})}}
    return of("Observation", code={"coding": [{"system": LOINC, "code": code}]}, **{"effectiveDateTime": AT, **quantity, **fields})


def one(resource: dict[str, Any], *others: dict[str, Any]) -> dict[str, Any]:
    """The row that a resource becomes."""
    _, rows = read_bundle(bundle(resource, *others), Tally("t"))
    return rows.row(0, named=True)


@pytest.mark.parametrize(
    ("resource", "code", "value"),
    [
        (observation("8867-4", 118, "/min"), "VITAL//heart_rate", 118),
        (observation("8310-5", 100.4, "[degF]"), "VITAL//temperature", 38),
        (observation("8480-6", 16, "kPa"), "VITAL//sbp", 120.00987),
        (observation("59408-5", 97, "%"), "VITAL//spo2", 97),
        (observation("2345-7", 5.5, "mmol/L", category=[{"coding": [{"code": "laboratory"}]}]), "LAB//2345-7//mmol/l", 5.5),
        (observation("2345-7", 5.5, "mmol/L"), "LAB//2345-7//mmol/l", 5.5),
    ],
)
def test_observations(resource: dict[str, Any], code: str, value: float) -> None:
    row = one(resource)
    assert (row["code"], row["reason"], row["subject_id"]) == (code, None, "p")
    assert row["numeric_value"] == pytest.approx(value, rel=1e-5)
    assert row["time"] == datetime(2180, 1, 1, 8)


def test_a_blood_pressure_panel_is_its_components() -> None:
    parts = [
        {"code": {"coding": [{"system": LOINC, "code": c}]}, "valueQuantity": {"value": v, "code": "mm[Hg]"}}
        for c, v in (("8480-6", 120), ("8462-4", 80))
    ]
    _, rows = read_bundle(bundle(observation("85354-9", None, component=parts)), Tally("t"))
    assert rows.select("code", "numeric_value").rows() == [("VITAL//sbp", 120), ("VITAL//dbp", 80)]


def test_words_and_comparators_of_a_lab_are_text() -> None:
    lab = [{"coding": [{"code": "laboratory"}]}]
    below = observation("6598-7", None, category=lab, valueQuantity={"value": 0.02, "comparator": "<", "unit": "ng/mL"})
    positive = observation("600-7", None, category=lab, valueCodeableConcept={"text": "Positive"})
    _, rows = read_bundle(bundle(below, positive), Tally("t"))
    assert rows.select("code", "numeric_value", "text_value").rows() == [("LAB//6598-7//ng/ml", None, "<0.02"), ("LAB//600-7", None, "Positive")]


@pytest.mark.parametrize(
    ("resource", "reason"),
    [
        (observation("8867-4", -3, "/min"), "heart_rate: negative"),
        (observation("8867-4", None, valueString="fast"), "heart_rate: text where a number belongs"),
        (observation("8867-4", 80, "mmHg"), "heart_rate: unknown unit mmhg"),
        (observation("8867-4", None), NO_VALUE),
        (observation("8867-4", None, dataAbsentReason={"text": "unknown"}), NO_VALUE),
        (observation("8867-4", 80, status="entered-in-error"), "status entered-in-error"),
        (observation("8867-4", 80, effectiveDateTime=None), NO_TIME),
        (observation("8867-4", 80, effectiveDateTime="soon"), NO_TIME),
        (observation("29463-7", 70, "kg", category=[{"coding": [{"code": "vital-signs"}]}]), "unknown code 29463-7 ()"),
        (observation("8867-4", 80, subject={"reference": "Patient/other"}), "broken reference Patient/other"),
        (observation("8867-4", 80, subject=None), "names no subject"),
        (of("MedicationRequest", authoredOn=AT, medicationReference={"reference": "Medication/none"}), "broken reference Medication/none"),
        (of("MedicationRequest", authoredOn=AT), "no name"),
        (of("MedicationAdministration", status="not-done", effectiveDateTime=AT, medicationCodeableConcept={"text": "x"}), "status not-done"),
        (of("Condition", recordedDate=AT, code={"text": "MI"}, verificationStatus={"coding": [{"code": "refuted"}]}), "status refuted"),
        (of("Condition", recordedDate=AT), "no code"),
        (of("Encounter", period={"start": AT}), "no reason for the encounter"),
        (of("Observation", code="not an object", effectiveDateTime=AT, valueInteger=3), "not laid out as FHIR R4 has it"),
    ],
)
def test_what_is_refused_has_a_reason(resource: dict[str, Any], reason: str) -> None:
    assert one(resource)["reason"] == reason


def test_an_unknown_code_is_read_by_its_words_with_a_note() -> None:
    row = one(observation("", 96) | {"code": {"coding": [{"code": "5087A", "display": "PULSE"}]}})
    assert (row["code"], row["numeric_value"], row["reason"]) == ("VITAL//heart_rate", 96, None)
    assert row["note"] == "read by its words, the code 5087A (PULSE) is unknown"


@pytest.mark.parametrize(
    ("resource", "code"),
    [
        (of("MedicationRequest", authoredOn=AT, medicationCodeableConcept={"text": "Digoxin 0.25 MG"}), "MED//ordered//digoxin 0.25 mg"),
        (of("MedicationStatement", dateAsserted=AT, medicationCodeableConcept={"coding": [{"display": "Warfarin"}]}), "MED//home//warfarin"),
        (of("MedicationAdministration", effectivePeriod={"start": "2179", "end": AT}, medicationReference={"reference": "Medication/m"}),
         "MED//given//heparin"),
        (of("MedicationRequest", authoredOn=AT, medicationReference={"reference": "#in"}, contained=[{"id": "in", "code": {"text": "Inside"}}]),
         "MED//ordered//inside"),
        (of("Condition", recordedDate=AT, code={"coding": [{"system": "http://snomed.info/sct", "code": "49436004"}]}), "DX//snomed//49436004"),
        (of("Condition", recordedDate=AT, code={"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "I48.91"}]}), "DX//icd10//i4891"),
        (of("Condition", recordedDate=AT, code={"text": "Old MI"}), "DX//text//old mi"),
        (of("Encounter", period={"start": AT}, reasonCode=[{"text": "Chest pain"}]), "COMPLAINT"),
    ],
)  # fmt: skip
def test_medications_conditions_and_encounters(resource: dict[str, Any], code: str) -> None:
    row = one(resource, {"resourceType": "Medication", "id": "m", "code": {"text": "Heparin"}})
    assert (row["code"], row["reason"], row["time"]) == (code, None, datetime(2180, 1, 1, 8))


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2180", datetime(2180, 12, 31, 23, 59, 59)),
        ("2180-02", datetime(2180, 2, 29, 23, 59, 59)),
        ("2180-02-03", datetime(2180, 2, 3, 23, 59, 59)),
        ("2180-02-03T10:00:00+02:00", datetime(2180, 2, 3, 8)),
    ],
)
def test_a_day_counts_by_its_last_moment_and_zones_become_utc(text: str, time: datetime) -> None:
    tally = Tally("t")
    _, rows = read_bundle(bundle(observation("8867-4", 80, effectiveDateTime=text)), tally)
    assert rows["time"].to_list() == [time]
    assert (UTC in tally.remarks) == ("+" in text)


def test_patients_and_unread_resources_are_counted() -> None:
    tally = Tally("t")
    patients, rows = read_bundle(bundle({"resourceType": "Claim"}, {"resourceType": "Claim"}), tally)
    assert [p.subject_id for p in patients] == ["p"]
    assert isinstance(patients[0], Patient)
    assert patients[0].names == {"p", "MRN-7"}
    assert patients[0].sex == "female"
    assert rows.is_empty()
    assert tally.refused["Claim"][NOT_READ] == 2


def test_a_bundle_without_its_patient_names_the_subject_by_reference() -> None:
    _, rows = read_bundle(bundle(observation("8867-4", 80, subject={"reference": "Patient/77"}), patient=None), Tally("t"))
    assert rows["subject_id"].to_list() == ["77"]


def test_bundles_join_by_any_name_of_the_patient(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write([Entry("s", "MRN-7", time=datetime(2180, 1, 2), report="Sinus rhythm.")], tmp_path / "data", "test", {}, workers=0)
    folder = tmp_path / "bundles"
    folder.mkdir()
    later = observation("8867-4", 90, effectiveDateTime="2180-01-02")
    (folder / "a.json").write_text(json.dumps(bundle(observation("8867-4", 80), later)))
    (folder / "b.json").write_text("{")
    with pytest.raises(SystemExit) as stopped:
        main(["prepare", "fhir", str(folder), "--studies", str(tmp_path / "data"), "--out", str(tmp_path / "typed")])
    assert stopped.value.code == 1
    assert "b.json" in capsys.readouterr().out
    tally = prepare([folder], Prepared.open(tmp_path / "data"), tmp_path / "out")
    rows = Prepared.open(tmp_path / "out").context(["s"])
    assert rows.select("subject_id", "code", "numeric_value").rows() == [("MRN-7", "VITAL//heart_rate", 80)]
    assert tally.read["Bundle"] == 2
    assert load_manifest(tmp_path / "out")["events"]["tables"]["Patient"]["read"] == 1
    assert "b.json" in tally.names["Bundle", "not read"][0]


@pytest.mark.parametrize("text", ["[]", '{"resourceType": "Patient"}', '{"resourceType": "Bundle", "entry": 3}', "no json"])
def test_what_is_no_bundle_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"x\.json: expected"):
        read_bundle(tmp_path / "x.json", Tally("t"))


@pytest.mark.real_data
def test_the_synthea_bundles_parse(data_root: Path) -> None:
    files = sorted((data_root / "fhir").glob("*.json"))
    if not files:
        pytest.skip(f"no FHIR bundles below {data_root}")
    for file in files:
        patients, rows = read_bundle(file, Tally("t"))
        assert len(patients) == 1
        good = rows.filter(pl.col("reason").is_null())
        assert len(good) > 3
        assert good["time"].null_count() == 0
