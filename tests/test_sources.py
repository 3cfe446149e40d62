"""Where studies come from: files by their suffix or mark, PTB-XL, MIMIC-IV-ECG in its official layout, anyone's folder with a table of reports."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from records import samples, write_wfdb

from regen.data_prep import mimic_ecg, ptbxl, wfdb_folder
from regen.data_prep.coding import from_ptbxl, render
from regen.data_prep.prepare import Entry, write
from regen.data_prep.prepared import Prepared
from regen.data_prep.readers import find_files, read_study
from regen.errors import ConfigError, DataError


def table(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


# --- files ---------------------------------------------------------------------------------------------------------------------


def test_a_reader_is_chosen_by_suffix_and_mark(tmp_path: Path, rng: np.random.Generator) -> None:
    header = write_wfdb(tmp_path / "a", "r", samples(rng))
    (tmp_path / "note.txt").write_text("no ECG")
    shutil.copy(header, tmp_path / "a" / "R2.HEA")
    assert read_study(header).study_id == read_study(tmp_path / "a" / "r").study_id == "r"
    assert read_study(tmp_path / "a" / "R2.HEA").study_id == "R2"
    assert [p.name for p in find_files([tmp_path])] == ["R2.HEA", "r.hea"]
    for path, named in ((tmp_path / "note.txt", "another kind"), (tmp_path / "none.hea", "no such"), (header.with_suffix(".dat"), "give r.hea")):
        with pytest.raises(DataError, match=named):
            read_study(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="found none"):
        list(find_files([tmp_path / "empty"]))


# --- PTB-XL -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def english(ptbxl_root: Path) -> list[Entry]:
    return list(ptbxl.entries(ptbxl_root, 100, "english"))


@pytest.mark.real_data
def test_ptbxl_english_entries(english: list[Entry], ptbxl_root: Path) -> None:
    with (ptbxl_root / "ptbxl_database.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(english) == len(rows)
    for entry, row in zip(english, rows, strict=True):
        assert entry.study_id == f"{int(row['ecg_id']):05d}"
        assert entry.report == (render(from_ptbxl(row)) or None)
        assert entry.split == ("train" if int(row["strat_fold"]) < 8 else "val" if row["strat_fold"] == "8" else "test")
        assert entry.path == str(ptbxl_root / f"{row['filename_hr']}.hea")
    assert {e.language for e in english} == {"en"}
    assert {e.sex for e in english} == {"male", "female"}
    assert max(e.age for e in english if e.age is not None) <= 90, "PTB-XL writes 300 for 'over 89'"
    assert all(e.statements for e in english)


@pytest.mark.real_data
def test_ptbxl_keeps_no_subject_in_two_splits(english: list[Entry]) -> None:
    split: dict[str, str | None] = {}
    for entry in english:
        assert split.setdefault(entry.subject_id, entry.split) == entry.split


@pytest.mark.real_data
def test_ptbxl_original_reports_are_cleaned_and_tagged(ptbxl_root: Path, data_root: Path) -> None:
    extra = data_root / "ptb-xl" / "ptbxl_reports_only.csv"
    entries = list(ptbxl.entries(ptbxl_root, 500, "original", extra))
    with extra.open(newline="", encoding="utf-8") as file:
        alone = len(list(csv.DictReader(file)))
    assert sum(e.path is None for e in entries) == alone
    reports = [e.report for e in entries if e.report]
    assert len(reports) > 0.95 * len(entries)
    for mark in ("unbestätigter", "4.46", "edit:", "trace only requested", "\n", "  "):
        assert not any(mark in report for report in reports), mark
    shares = {name: np.mean([e.language == name for e in entries]) for name in ("de", "en", "sv")}
    assert shares["de"] > shares["en"] > shares["sv"] > 0.01


@pytest.mark.real_data
def test_ptbxl_prepares_with_its_missing_records_listed(english: list[Entry], ptbxl_records: list[Path], tmp_path: Path) -> None:
    there = {str(path) for path in ptbxl_records}
    chosen = [e for e in english if e.path in there][:12] + [e for e in english if e.path not in there][:3]
    summary = write(chosen, tmp_path / "data", "ptb-xl", {}, workers=1)
    assert [f.study_id for f in summary.failures] == [e.study_id for e in chosen[12:]]
    data = Prepared.open(tmp_path / "data")
    signals = data.load(data.studies)
    assert signals.shape == (12, 12, 1000)
    assert 0.2 < np.nanmax(np.abs(signals)) < 20


@pytest.mark.parametrize(
    ("written", "cleaned"),
    [
        ("Sinusrhythmus. 4.46 unbestätigter Bericht", "sinusrhythmus"),
        ("sinus rhythm. Edit: 2 changed", "sinus rhythm"),
        ("  Linkstyp\r\n  normales   EKG. ", "linkstyp normales ekg"),
        ("trace only requested.", ""),
        ("", ""),
    ],
)
def test_original_reports_lose_their_suffixes(written: str, cleaned: str) -> None:
    assert ptbxl.clean_original(written) == cleaned


PTBXL_HEADER = "ecg_id,patient_id,age,sex,recording_date,report,scp_codes,strat_fold,filename_lr,filename_hr\n"
PTBXL_ROW = "1,15709.0,56.0,1,1984-11-09 09:17:34,sinusrhythmus,{'SR': 0.0},3,records100/a,records500/a\n"


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("strat_fold", "fold", "columns strat_fold"),
        ("{'SR': 0.0}", "{'QQ': 0.0}", "ecg_id 1: .*QQ"),
        ("{'SR': 0.0}", "SR", "ecg_id 1: .*scp_codes"),
        (",3,", ",11,", "line 2: .*fold"),
        (",3,", ",x,", "line 2: .*fold"),
        ("15709.0", "unknown", "line 2: .*ids"),
        ("1984-11-09 09:17:34", "yesterday", "line 2: expected a time .*'yesterday'"),
        ("56.0", "old", "line 2: expected a number for age, got 'old'"),
        (",3,records100/a", "", r"line 2: expected 10 cells, got 8"),
    ],
)
def test_a_broken_ptbxl_table_is_one_data_error(tmp_path: Path, old: str, new: str, named: str) -> None:
    text = PTBXL_HEADER + PTBXL_ROW
    table(tmp_path / "ptbxl_database.csv", text)
    (entry,) = ptbxl.entries(tmp_path, 100, "english")
    assert (entry.report, entry.age, entry.path) == ("Sinus rhythm.", 56.0, str(tmp_path / "records100" / "a.hea"))
    assert old in text
    table(tmp_path / "ptbxl_database.csv", text.replace(old, new))
    with pytest.raises(DataError, match=named):
        list(ptbxl.entries(tmp_path, 100, "english"))


def test_ptbxl_refuses_another_report_and_a_folder_without_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="english or original, got 'german'"):
        list(ptbxl.entries(tmp_path, 100, "german"))
    with pytest.raises(DataError, match=r"ptbxl_database\.csv: no such file"):
        list(ptbxl.entries(tmp_path, 100, "english"))


# --- MIMIC-IV-ECG -----------------------------------------------------------------------------------------------------------


def mimic(root: Path) -> Path:
    """The official layout with three studies of two subjects; the third has no report."""
    rng = np.random.default_rng(0)
    rows = [
        ("10000032", "40689238", "2180-07-23 08:44:00"),
        ("10000032", "44458630", "2180-07-23 09:54:00"),
        ("10000117", "42482044", "2181-11-14 08:15:00"),
    ]
    paths = [f"files/p{subject[:4]}/p{subject}/s{study}/{study}" for subject, study, _ in rows]
    for path, (_, study, _) in zip(paths, rows):
        write_wfdb((root / path).parent, study, samples(rng, 5000), gains="200.0(0)/mV")
    lines = [f"{subject},{study},{study},{when},{path}" for (subject, study, when), path in zip(rows, paths)]
    table(root / "record_list.csv", "subject_id,study_id,file_name,ecg_time,path\n" + "\n".join(lines) + "\n")
    names = ",".join(f"report_{i}" for i in range(18))
    first = "Sinus rhythm,Possible left atrial enlargement.,,Abnormal ECG" + "," * 14
    second = '"Atrial fibrillation, rapid",No LVH' + "," * 16
    reports = [f"{subject},{study},1,{when},{text}" for (subject, study, when), text in zip(rows, (first, second))]
    machine = "\n".join([f"subject_id,study_id,cart_id,ecg_time,{names}", *reports, ""])
    table(root / "machine_measurements.csv", machine)
    return root


def test_mimic_entries_join_their_report_lines_and_read_statements(tmp_path: Path) -> None:
    one, two, three = mimic_ecg.entries(mimic(tmp_path))
    assert one.report == "Sinus rhythm. Possible left atrial enlargement. Abnormal ECG."
    assert one.statements == {"SR": 1.0, "LAO/LAE": 0.5}
    assert (one.subject_id, one.study_id, one.time, one.language) == ("10000032", "40689238", datetime(2180, 7, 23, 8, 44), "en")
    assert two.statements == {"AFIB": 1.0}
    assert (three.report, three.statements, three.language) == (None, None, None)


def test_mimic_prepares_end_to_end(tmp_path: Path) -> None:
    summary = write(mimic_ecg.entries(mimic(tmp_path / "in")), tmp_path / "data", "mimic-iv-ecg", {}, workers=1)
    assert (sum(summary.written.values()), summary.failures) == (3, [])
    data = Prepared.open(tmp_path / "data")
    assert data.load(data.studies).shape == (3, 12, 1000)
    first, second, _ = data.studies["split"].to_list()
    assert first == second, "one subject, one split"


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda r: (r / "record_list.csv").unlink(), r"record_list\.csv: no such file"),
        (lambda r: (r / "machine_measurements.csv").unlink(), r"machine_measurements\.csv: no such file"),
        (lambda r: table(r / "record_list.csv", "subject_id,path\n"), r"record_list\.csv: expected the columns ecg_time, study_id"),
        (lambda r: table(r / "record_list.csv", ""), "an empty file"),
        (lambda r: table(r / "record_list.csv", "subject_id,study_id,ecg_time,path\n1,2,soon,x\n"), r"line 2: expected a time .*'soon'"),
        (lambda r: table(r / "record_list.csv", "subject_id,study_id,ecg_time,path\n1,2\n"), "line 2: expected 4 cells, got 2"),
    ],
)
def test_a_broken_mimic_folder_is_one_data_error(tmp_path: Path, damage: Callable[[Path], object], named: str) -> None:
    damage(mimic(tmp_path))
    with pytest.raises(DataError, match=named):
        list(mimic_ecg.entries(tmp_path))


# --- anyone's folder --------------------------------------------------------------------------------------------------------


def clinic(root: Path, rows: str, encoding: str = "utf-8") -> list[Entry]:
    for name in ("0001", "0002"):
        write_wfdb(root / "clinic", name, samples(np.random.default_rng(1), 5000))
    return list(wfdb_folder.entries(root, table(root / "reports.csv", rows, encoding)))


def test_a_full_row_and_a_bare_one(tmp_path: Path) -> None:
    one, two = clinic(
        tmp_path,
        "record,report,study_id,subject_id,time,age,sex,language,split,statements\n"
        'clinic/0001,"Sinus rhythm, no LVH.",s1,p17,2024-03-01T08:15:00+01:00,61,F,en,val,SR 1AVB\nclinic/0002.hea,Vorhofflimmern,,,,,,,,\n',
    )
    assert (one.study_id, one.subject_id, one.time, one.age, one.sex, one.split) == ("s1", "p17", datetime(2024, 3, 1, 7, 15), 61.0, "female", "val")
    assert one.statements == {"SR": 1.0, "1AVB": 1.0}
    assert one.path == str(tmp_path / "clinic" / "0001.hea")
    assert (two.study_id, two.subject_id, two.language, two.statements) == ("clinic/0002.hea", "", "de", {"AFIB": 1.0})
    assert (two.time, two.age, two.sex, two.split) == (None, None, None, None)


def test_a_table_from_a_spreadsheet_reads(tmp_path: Path) -> None:
    (entry,) = clinic(tmp_path, '\ufeffrecord,report\r\nclinic/0001,"Sinusrhythmus,\r\nkein Infarkt"\r\n')
    assert entry.report == "Sinusrhythmus,\r\nkein Infarkt"
    assert entry.statements == {"SR": 1.0}


def test_a_clinic_prepares_and_lists_what_is_not_there(tmp_path: Path) -> None:
    found = clinic(tmp_path / "in", "record,report\nclinic/0001,Sinus rhythm\nclinic/0003,Sinus rhythm\n")
    summary = write(found, tmp_path / "data", "wfdb", {}, workers=1)
    assert [f.study_id for f in summary.failures] == ["clinic/0003"]
    assert Prepared.open(tmp_path / "data").studies["report"].to_list() == ["Sinus rhythm"]


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ("", "columns record, got an empty file"),
        ("file,report\na,b\n", "columns record, got file, report"),
        ("record;report\na;b\n", "columns record, got record;report"),
        ("record,raport\na,b\n", "unknown column 'raport'; did you mean 'report'"),
        ("record,report\n,x\n", "line 2: expected a file name in 'record'"),
        ("record,report\na,Sinus rhythm, no LVH\n", "line 2: expected 2 cells, got 3; put text that holds a comma"),
        ("record,report\na\n", "line 2: expected 2 cells, got 1"),
        ("record,time\na,1.3.2024\n", "line 2: expected a time as 2024-03-01T08:15:00, got '1.3.2024'"),
        ("record,age\na,sixty\n", "line 2: expected a number for age, got 'sixty'"),
        ("record,age\na,nan\n", "line 2: expected a number for age, got 'nan'"),
        ("record,statements\na,SR LVHH\n", "line 2: unknown statement 'LVHH'; did you mean 'LVH'"),
        ('record,report\na,"open\n', "could not read it"),
    ],
)
def test_a_broken_table_is_one_data_error(tmp_path: Path, rows: str, named: str) -> None:
    with pytest.raises(DataError, match=named) as caught:
        clinic(tmp_path, rows)
    assert str(tmp_path / "reports.csv") in str(caught.value)


def test_a_table_in_another_encoding_a_folder_and_no_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected UTF-8 text, got a byte that is none \(0xf6\)"):
        clinic(tmp_path, "record,report\na,möglich\n", "cp1252")
    with pytest.raises(DataError, match="could not read it"):
        list(wfdb_folder.entries(tmp_path, tmp_path))
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        list(wfdb_folder.entries(tmp_path, tmp_path / "none.csv"))
