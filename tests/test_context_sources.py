"""MEDS archives, the open demo tables, the benchmark: hand-worked rows, and all the real ones."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from regen.cli import main
from regen.data_prep.demos import SOURCES, read_source
from regen.data_prep.events import NO_TIME, NO_VALUE, TWICE, Tally
from regen.data_prep.icu_demo import eicu, mimic3
from regen.data_prep.ktas import read_ktas
from regen.data_prep.meds import ITEMS, prepare, read_rows, scanned
from regen.data_prep.prepare import Entry, write
from regen.data_prep.prepared import Prepared
from regen.data_prep.vitals import VITALS
from regen.errors import DataError
from regen.eval import bench_context

DAY = datetime(2180, 1, 1)


def meds(path: Path, *rows: tuple[str, float | None, str | None], column: str = "numeric_value") -> Path:
    frame = pl.DataFrame(list(rows), schema={"code": pl.String, column: pl.Float32, "text_value": pl.String}, orient="row")
    frame.with_columns(pl.lit(1).alias("subject_id"), pl.lit(DAY, pl.Datetime("us")).alias("time")).write_parquet(path)
    return path


@pytest.mark.parametrize("column", ["numeric_value", "value"])
def test_mimics_items_become_vital_signs(tmp_path: Path, column: str) -> None:
    path = meds(tmp_path / "e.parquet", ("LAB//223761//°F", 98.6, None), ("LAB//223762//°C", 99.0, None), ("LAB//220045//bpm", 0.0, None),
                ("LAB//223791//UNK", None, None), ("LAB//51087//UNK", 3.0, None), column=column)  # fmt: skip
    rows = read_rows(scanned(path)).collect().sort("code", "numeric_value", nulls_last=True)
    assert rows.select("code", "reason").rows() == [
        ("LAB//51087//UNK", None), ("VITAL//heart_rate", None), ("VITAL//pain", NO_VALUE), ("VITAL//temperature", None), ("VITAL//temperature", None),
    ]  # fmt: skip
    assert rows["numeric_value"].to_list() == [3.0, None, None, pytest.approx(37.0), pytest.approx(37.222, abs=1e-3)]
    assert rows["note"].drop_nulls().sort().to_list() == [
        "heart_rate outside 20 to 300 /min: missing", "temperature not in the unit that is stated: converted by its size",
    ]  # fmt: skip
    assert set(ITEMS.values()) <= set(VITALS)


@pytest.mark.parametrize(
    ("code", "as_ours"),
    [
        ("DIAGNOSIS//ICD//9//4019", "DX//icd9//4019"), ("DIAGNOSIS//ICD//10//I4891", "DX//icd10//i4891"),
        ("MEDICATION//START//Insulin  Glargine", "MED//ordered//insulin glargine"), ("MEDICATION//Heparin//Administered", "MED//given//heparin"),
        ("MEDICATION//Heparin//Not Given", "MEDICATION//Heparin//Not Given"), ("TRIAGE//sbp", "TRIAGE//sbp"), ("HISTORY", "HISTORY"),
    ],
)  # fmt: skip
def test_codes_of_meds(tmp_path: Path, code: str, as_ours: str) -> None:
    rows = read_rows(scanned(meds(tmp_path / "e.parquet", (code, 90.0, None)))).collect()
    assert rows.select("code", "reason", "numeric_value").rows() == [(as_ours, None, 90.0)]


def test_our_own_missing_values_stay_missing(tmp_path: Path) -> None:
    rows = read_rows(scanned(meds(tmp_path / "e.parquet", ("VITAL//sbp", None, None)))).collect()
    assert rows.select("numeric_value", "reason").rows() == [(None, None)]


def test_meds_join_a_folder(tmp_path: Path) -> None:
    write([Entry("s", "1", time=datetime(2180, 1, 2), report="Sinus rhythm.")], tmp_path / "data", "test", {}, workers=0)
    tally = prepare(meds(tmp_path / "e.parquet", ("A", 1.0, None), ("A", 1.0, None)), Prepared.open(tmp_path / "data"), tmp_path / "out")
    assert dict(tally.refused["A"]) == {TWICE: 1}
    assert Prepared.open(tmp_path / "out").context(["s"])["code"].to_list() == ["A"]


def test_what_is_no_meds_is_refused(tmp_path: Path) -> None:
    pl.DataFrame({"subject_id": [1], "code": ["A"]}).write_parquet(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_text("no parquet")
    (tmp_path / "empty").mkdir()
    pl.DataFrame({"subject_id": [1], "code": ["A"], "time": ["2180"]}).write_parquet(tmp_path / "c.parquet")
    for name, message in (
        ("a.parquet", "columns time"),
        ("b.parquet", "could not read"),
        ("empty", "empty folder"),
        ("no", "nothing"),
        ("c.parquet", "String"),
    ):
        with pytest.raises(DataError, match=message):
            scanned(tmp_path / name)


def test_ktas_with_semicolons_and_odd_cells(tmp_path: Path) -> None:
    text = "Chief_complain;Pain;SBP;BT;KTAS_expert;Diagnosis in ED\nCrohn’s pain;1;??;36,6;3;Crohn\n;0;-5;hot;Emergency;\n"
    (tmp_path / "k.csv").write_bytes(text.encode("cp1252"))
    tally = Tally("k")
    rows = read_ktas(tmp_path / "k.csv", tally).collect().sort("subject_id", "code")
    assert rows.select("subject_id", "code", "numeric_value", "text_value", "reason").rows() == [
        ("0", "COMPLAINT", None, "Crohn’s pain", None), ("0", "DX//text//crohn", None, "Crohn", NO_TIME), ("0", "TRIAGE//acuity", 3, None, None),
        ("0", "TRIAGE//temperature", pytest.approx(36.6), None, None), ("1", "TRIAGE//sbp", None, None, "sbp: negative"),
        ("1", "TRIAGE//temperature", None, None, "temperature: text where a number belongs"),
    ]  # fmt: skip
    assert tally.refused["ktas"]["sbp: written as unknown"] == 1
    assert "Windows-1252" in tally.remarks[0]
    (tmp_path / "no.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="expected the KTAS table"):
        read_ktas(tmp_path / "no.csv", tally)


def table(folder: Path, name: str, *lines: str) -> None:
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")


def test_eicu_by_hand(tmp_path: Path) -> None:
    table(tmp_path, "eicudemo__patient", "patientunitstayid,uniquepid,hospitaldischargeyear,unitadmittime24,unitdischargeoffset",
          "7,002-1,2015,13:00:00,90", "8,002-1,2015,13:00:00,-5")  # fmt: skip
    table(tmp_path, "eicudemo__lab", "patientunitstayid,labresultoffset,labname,labresult,labresulttext,labmeasurenamesystem",
          "7,-60,BUN,31.0,31,mg/dL", "7,10,troponin - I,,<0.02,ng/mL", "8,10,BUN,3,3,mg/dL", "9,10,BUN,3,3,mg/dL", "7,10,BUN,,,")  # fmt: skip
    table(
        tmp_path,
        "eicudemo__medication",
        "patientunitstayid,drugstartoffset,drugordercancelled,drugname",
        "7,5,No,WARFARIN  5 MG",
        "7,5,Yes,X",
        "7,5,No,",
    )
    table(
        tmp_path,
        "eicudemo__diagnosis",
        "patientunitstayid,diagnosisoffset,diagnosisstring,icd9code",
        '7,20,a|b,"427.31, I48.0"',
        "7,20,a|Big,",
        "7,,a|b,I50.9",
    )
    table(
        tmp_path,
        "eicudemo__physicalExam",
        "patientunitstayid,physicalexamoffset,physicalexamvalue,physicalexamtext",
        "7,14,HR Current,88",
        "7,14,HR Lowest,60",
    )
    tally = Tally("eicu")
    rows = eicu(tmp_path, tally).collect()
    good = rows.filter(pl.col("reason").is_null()).sort("code").select("subject_id", "time", "code", "numeric_value", "text_value")
    noon = datetime(2015, 1, 1, 13)
    assert set(good["subject_id"]) == {"002-1"}
    assert good.drop("subject_id").rows() == [
        (noon.replace(minute=20), "DX//icd9//42731", None, "a|b"),
        (noon.replace(minute=20), "DX//text//big", None, "a|Big"),
        (noon.replace(hour=12), "LAB//bun//mg/dl", 31, None),
        (noon.replace(minute=10), "LAB//troponin - i//ng/ml", None, "<0.02"),
        (noon.replace(minute=5), "MED//ordered//warfarin 5 mg", None, None),
        (noon.replace(minute=14), "VITAL//heart_rate", 88, None),
    ]
    assert sorted(rows["reason"].drop_nulls()) == [
        "no name", "no such stay", NO_TIME, NO_VALUE, "no vital sign at its time: an examination's words, a lowest or highest",
        "the order was cancelled", "the stay ends before it begins",
    ]  # fmt: skip
    assert tally.names["stays", "the stay ends before it begins"] == ["stay 8"]
    with pytest.raises(DataError, match="mimic3demo__ADMISSIONS"):
        mimic3(tmp_path, tally)


def test_mimic3_by_hand(tmp_path: Path) -> None:
    stays = ("1,10,2164-10-23 21:09:00,2164-11-01 17:15:00,SEPSIS", "2,20,2164-10-23 21:09:00,2164-10-01 17:15:00,FALL")
    table(tmp_path, "mimic3demo__ADMISSIONS", "subject_id,hadm_id,admittime,dischtime,diagnosis", *stays)
    table(
        tmp_path, "mimic3demo__PRESCRIPTIONS", "subject_id,startdate,enddate,drug", "1,2164-10-24 00:00:00,2164-10-22 00:00:00,Bisacodyl", "1,,,Senna"
    )
    table(tmp_path, "mimic3demo__DIAGNOSES_ICD", "subject_id,hadm_id,icd9_code", "1,10,99591", "1,99,4019", "2,20,E8120")
    rows = mimic3(tmp_path, Tally("m")).collect().select("subject_id", "time", "code", "reason", "note")
    assert rows.filter(pl.col("reason").is_null()).sort("code").rows() == [
        ("1", datetime(2164, 10, 23, 21, 9), "COMPLAINT", None, None), ("1", datetime(2164, 11, 1, 17, 15), "DX//icd9//99591", None, None),
        ("1", datetime(2164, 10, 24), "MED//ordered//bisacodyl", None, "ends before it begins"),
    ]  # fmt: skip
    assert sorted(rows["reason"].drop_nulls()) == [NO_TIME, NO_TIME, "the stay ends before it begins", "the stay ends before it begins"]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "least"),
    [("MIMIC-IV demo (MEDS)", 800_000), ("eICU demo", 30_000), ("MIMIC-III demo", 9_000), ("KTAS visits", 5_900), ("Synthea bundles (FHIR)", 50)],
)
def test_every_open_source_parses_and_every_row_is_accounted_for(data_root: Path, name: str, least: int) -> None:
    if not (data_root / SOURCES[name][0]).exists():
        pytest.skip(f"no {name} below {data_root}")
    rows, tally = read_source(data_root, name)
    assert len(rows) >= least
    assert all(tally.read[t] == tally.used[t] + sum(tally.refused[t].values()) for t in tally.read)
    assert not rows.is_duplicated().any()
    for vital, limits in VITALS.items():
        values = rows.filter(pl.col("code").is_in([f"VITAL//{vital}", f"TRIAGE//{vital}"]))["numeric_value"].drop_nulls()
        assert values.is_between(limits.low - 1e-4, limits.high + 1e-4).all()


def test_a_root_without_any_source_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["prepare", "demos", str(tmp_path)])
    assert stopped.value.code == 2
    assert "expected at least one of mimic-iv-demo-meds" in capsys.readouterr().err


def test_product_and_pandas_write_the_same_rows(tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="no pandas to compare with")
    pytest.importorskip("pyarrow", reason="pandas needs pyarrow to write parquet")
    rows = bench_context.make(tmp_path, 300)
    assert rows == 300 * 2 + sum(round(300 * n) for n in (3.7, 7.0, 3.7, 2.1))
    bench_context.run_product(tmp_path)
    bench_context.run_peer(tmp_path)
    assert bench_context._same(tmp_path)
    theirs = pl.read_parquet(tmp_path / "peer.parquet")
    theirs.filter(pl.int_range(pl.len()) > 0).write_parquet(tmp_path / "peer.parquet")
    assert not bench_context._same(tmp_path)
