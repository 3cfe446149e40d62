"""MIMIC-IV-ED's official layout joined to studies, worked by hand."""

from __future__ import annotations

import gzip
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from regen.cli import main
from regen.data_prep.events import LATER, NO_TIME, TWICE, Tally
from regen.data_prep.mimic_ed import ENDS_FIRST, NO_STAY, OTHERS_STAY, SECOND, prepare
from regen.data_prep.prepare import Entry, write
from regen.data_prep.prepared import Prepared
from regen.errors import DataError

TABLES = {
    "edstays": (
        "subject_id,hadm_id,stay_id,intime,outtime,gender,race,arrival_transport,disposition",
        "1,,11,2180-01-01 08:00:00,2180-01-01 20:00:00,F,WHITE,AMBULANCE,HOME",
        "1,,12,2181-01-01 08:00:00,2181-01-01 20:00:00,F,WHITE,WALK IN,HOME",
        "2,,21,2180-01-01 08:00:00,2180-01-01 07:00:00,M,OTHER,UNKNOWN,HOME",
    ),
    "triage": (
        "subject_id,stay_id,temperature,heartrate,resprate,o2sat,sbp,dbp,pain,acuity,chiefcomplaint",
        '1,11,98.6,118,16,97,86,50,7-8,2,"Chest pain, Dyspnea"',
        "1,12,37.0,-4,900,,,,,,",
        "2,21,,80,,,,,,,Fall",
    ),
    "vitalsign": (
        "subject_id,stay_id,charttime,temperature,heartrate,resprate,o2sat,sbp,dbp,rhythm,pain",
        "1,11,2180-01-01 09:00:00,,110,,,,,Sinus Rhythm,",
        "1,11,2180-01-01 09:00:00,,110,,,,,,",
        "1,11,2180-01-01 10:00:00,,109,,,,,,",
        "1,11,,,108,,,,,,",
        "2,11,2180-01-01 09:00:00,,107,,,,,,",
        "1,99,2180-01-01 09:00:00,,106,,,,,,",
    ),
    "medrecon": (
        "subject_id,stay_id,charttime,name,gsn,ndc,etc_rn,etccode,etcdescription",
        "1,11,2180-01-01 08:30:00,  Digoxin ,1,2,1,3,Digitalis Glycosides",
        "1,11,2180-01-01 08:30:00,Digoxin,1,2,2,4,Inotropes",
    ),
    "pyxis": (
        "subject_id,stay_id,charttime,med_rn,name,gsn_rn,gsn",
        "1,11,2180-01-01 09:30:00,1,Furosemide 40mg,1,7",
        "1,11,2180-01-01 12:00:00,1,Late,1,7",
    ),
    "diagnosis": ("subject_id,stay_id,seq_num,icd_code,icd_version,icd_title", "1,11,1,I4891,10,ATRIAL FIBRILLATION", "1,12,1,4019,9,HYPERTENSION"),
}


@pytest.fixture
def studies(tmp_path: Path) -> Prepared:
    """Subject 1: one study in each stay and one between them; subject 2: one at a stay that ends before it begins."""
    times = {
        "s1": ("1", datetime(2180, 1, 1, 10)),
        "s2": ("1", datetime(2181, 1, 1, 10)),
        "gap": ("1", datetime(2180, 6, 1)),
        "x": ("2", datetime(2180, 1, 1, 8)),
    }
    write([Entry(i, subject, time=time, report="Sinus rhythm.") for i, (subject, time) in times.items()], tmp_path / "data", "test", {}, workers=0)
    return Prepared.open(tmp_path / "data")


def archive(folder: Path, packed: bool = False, **tables: tuple[str, ...]) -> Path:
    folder.mkdir(parents=True)
    for name, lines in (TABLES | tables).items():
        text = "\n".join(lines) + "\n"
        if packed:
            (folder / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
        elif lines:
            (folder / f"{name}.csv").write_text(text)
    return folder


@pytest.fixture
def joined(studies: Prepared, tmp_path: Path) -> tuple[Prepared, Tally]:
    tally = prepare(archive(tmp_path / "ed"), studies, tmp_path / "out")
    return Prepared.open(tmp_path / "out"), tally


def test_a_study_gets_what_its_stay_knew_before_it(joined: tuple[Prepared, Tally]) -> None:
    rows = joined[0].context(["s1"]).select("time", "code", "numeric_value", "text_value").rows()
    intime = datetime(2180, 1, 1, 8)
    assert rows == [
        (intime, "COMPLAINT", None, "Chest pain, Dyspnea"),
        (intime, "TRIAGE//acuity", 2, None),
        (intime, "TRIAGE//dbp", 50, None),
        (intime, "TRIAGE//heart_rate", 118, None),
        (intime, "TRIAGE//resp_rate", 16, None),
        (intime, "TRIAGE//sbp", 86, None),
        (intime, "TRIAGE//spo2", 97, None),
        (intime, "TRIAGE//temperature", pytest.approx(37.0), None),
        (datetime(2180, 1, 1, 8, 30), "MED//home//digoxin", None, "digitalis glycosides"),
        (datetime(2180, 1, 1, 9), "RHYTHM", None, "Sinus Rhythm"),
        (datetime(2180, 1, 1, 9), "VITAL//heart_rate", 110, None),
        (datetime(2180, 1, 1, 9, 30), "MED//given//furosemide 40mg", None, None),
    ]


def test_a_diagnosis_enters_later_stays_only(joined: tuple[Prepared, Tally]) -> None:
    def diagnoses(study: str) -> list[str]:
        return joined[0].context([study]).filter(pl.col("code").str.starts_with("DX"))["code"].to_list()

    assert diagnoses("s1") == []
    assert diagnoses("gap") == diagnoses("s2") == ["DX//icd10//i4891"]
    assert joined[1].refused["diagnosis"][LATER] == 1


def test_a_study_between_stays_has_no_vital_signs(joined: tuple[Prepared, Tally]) -> None:
    assert joined[0].context(["gap"])["code"].to_list() == ["DX//icd10//i4891"]
    assert joined[0].context(["x"]).is_empty()


def test_every_row_is_accounted_for(joined: tuple[Prepared, Tally]) -> None:
    tally = joined[1]
    assert all(tally.read[t] == tally.used[t] + sum(tally.refused[t].values()) for t in tally.read)
    assert dict(tally.refused["edstays"]) == {ENDS_FIRST: 1}
    assert tally.names["edstays", ENDS_FIRST] == ["stay 21"]
    assert dict(tally.refused["triage"]) == {"pain: text where a number belongs": 1, "heart_rate: negative": 1, ENDS_FIRST: 2}
    assert dict(tally.notes["triage"]) == {
        "resp_rate outside 3 to 80 /min: missing": 1, "temperature not in the unit that is stated: converted by its size": 1,
    }  # fmt: skip
    assert dict(tally.refused["vitalsign"]) == {TWICE: 1, LATER: 1, NO_TIME: 1, OTHERS_STAY: 1, NO_STAY: 1}
    assert dict(tally.refused["medrecon"]) == {SECOND: 1}
    assert dict(tally.refused["pyxis"]) == {LATER: 1}


def test_an_implausible_value_stays_as_missing(joined: tuple[Prepared, Tally]) -> None:
    rows = joined[0].context(["s2"]).filter(pl.col("code") == "TRIAGE//resp_rate")
    assert rows["numeric_value"].to_list() == [None]


def test_compressed_tables_below_ed_give_the_same(studies: Prepared, tmp_path: Path, joined: tuple[Prepared, Tally]) -> None:
    archive(tmp_path / "root" / "ed", packed=True)
    prepare(tmp_path / "root", studies, tmp_path / "packed")
    ids = ["s1", "s2", "gap", "x"]
    assert Prepared.open(tmp_path / "packed").context(ids).equals(joined[0].context(ids))


def test_of_two_stays_at_once_the_later_one_counts(studies: Prepared, tmp_path: Path) -> None:
    stays = (*TABLES["edstays"][:2], "1,,13,2180-01-01 09:30:00,2180-01-01 20:00:00,F,W,W,HOME")
    triage = (*TABLES["triage"][:2], "1,13,,77,,,,,,,")
    prepare(archive(tmp_path / "ed", edstays=stays, triage=triage, diagnosis=()), studies, tmp_path / "out")
    assert Prepared.open(tmp_path / "out").context(["s1"]).select("code", "numeric_value").rows() == [("TRIAGE//heart_rate", 77)]


def test_a_missing_table_is_said_and_the_rest_is_used(studies: Prepared, tmp_path: Path) -> None:
    tally = prepare(archive(tmp_path / "ed", pyxis=(), medrecon=()), studies, tmp_path / "out")
    assert any("no table medrecon, pyxis" in text for text in tally.remarks)
    assert tally.used["triage"] > 0


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"edstays": ()}, "expected edstays.csv or edstays.csv.gz, got neither"),
        (dict.fromkeys(list(TABLES)[1:], ()), "expected at least one of triage"),
        ({"triage": ("subject_id,stay_id,heartrate", "1,11,80")}, "expected the columns acuity, chiefcomplaint"),
    ],
)
def test_a_broken_archive_is_refused(studies: Prepared, tmp_path: Path, tables: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare(archive(tmp_path / "ed", **tables), studies, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_archive_is_refused(studies: Prepared, tmp_path: Path) -> None:
    folder = archive(tmp_path / "ed", packed=True)
    (folder / "triage.csv.gz").write_bytes((folder / "triage.csv.gz").read_bytes()[:40])
    with pytest.raises(DataError, match=r"triage\.csv\.gz: expected a CSV table"):
        prepare(folder, studies, tmp_path / "out")


@pytest.mark.parametrize("row", [b"1,11,2180-01-01 09:30:00,1,a,1,7,8,9\n", b"1,11,2180-01-01 09:30:00,1,\xff\xfe,1,7\n"])
def test_rows_with_too_many_cells_or_no_text_are_refused(studies: Prepared, tmp_path: Path, row: bytes) -> None:
    folder = archive(tmp_path / "ed")
    (folder / "pyxis.csv").write_bytes(TABLES["pyxis"][0].encode() + b"\n" + row)
    with pytest.raises(DataError, match="mimic-iv-ed, pyxis: expected UTF-8 text and as many cells"):
        prepare(folder, studies, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_prints_the_table(studies: Prepared, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive(tmp_path / "ed")
    with pytest.raises(SystemExit) as stopped:
        main(["prepare", "mimic-iv-ed", str(tmp_path / "ed"), "--studies", str(studies.path), "--out", str(tmp_path / "out")])
    assert not stopped.value.code
    printed = capsys.readouterr().out
    assert "the stay ends before it begins (stay 21)" in printed
    assert "diagnosis" in printed
