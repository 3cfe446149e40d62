"""Anyone's chest X-rays with a table of reports, Hannover's own where they are at hand, and studies that their source gives up."""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from cxr_archives import picture, prepared, table

from regen.data_prep import image_folder
from regen.data_prep.prepare import Entry, write
from regen.data_prep.prepared import Prepared
from regen.errors import DataError
from regen.eval.dicom_samples import write_dicom

# --- anyone's folder ------------------------------------------------------------------------------------------------------------


def clinic(root: Path, rows: str) -> list[Entry]:
    for name in ("a.png", "b.png", "c.jpg"):
        picture(root / "2024" / name)
    return list(image_folder.entries(root, table(root / "reports.csv", rows)))


def test_a_full_study_of_two_views_and_a_bare_one(tmp_path: Path) -> None:
    one, two = clinic(
        tmp_path,
        "image,report,study_id,subject_id,time,age,sex,language,split,view,Edema,Pleural Effusion,Fracture\n"
        '2024/a.png,"FINDINGS: Clear.\nIMPRESSION: Normal.",s1,p17,2024-03-01T08:15:00,61,F,en,val,lateral,-1,0,\n'
        "2024/c,No pneumothorax. The lungs are clear.,,,,,,,,,,,\n"
        "2024/b.png,,s1,p17,,,,,,PA,,,0.5\n",
    )
    assert (one.study_id, one.subject_id, one.time, one.age, one.sex, one.split) == ("s1", "p17", datetime(2024, 3, 1, 8, 15), 61.0, "female", "val")
    assert (one.images, one.views) == ((str(tmp_path / "2024/b.png"), str(tmp_path / "2024/a.png")), ("PA", "LATERAL"))
    assert (one.report, one.sections) == ("Clear. Normal.", {"findings": "Clear.", "impression": "Normal."})
    assert one.observations == {"Edema": 0.5, "Pleural Effusion": 0.0, "Fracture": 0.5}
    assert (two.study_id, two.subject_id, two.images, two.views) == ("2024/c", "", (str(tmp_path / "2024/c.jpg"),), (None,))
    assert (two.report, two.sections, two.language) == ("No pneumothorax. The lungs are clear.", None, "en")
    assert two.observations is not None
    assert two.observations["Pneumothorax"] == 0.0


def test_rows_of_one_study_must_agree(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 3: expected one Edema for study 's1', got '1' after '-1'; make the rows agree"):
        clinic(tmp_path, "image,study_id,Edema\n2024/a.png,s1,-1\n2024/b.png,s1,1\n")


def test_labels_stand_before_what_the_report_says_and_german_is_not_read_as_english(tmp_path: Path) -> None:
    labelled, german, told = clinic(
        tmp_path,
        "image,report,language,Edema\n2024/a.png,The lungs show a pneumothorax.,,0\n"
        "2024/b.png,Kein Pneumothorax in der linken Lunge.,,\n2024/c.jpg,Pneumothorax.,sv,\n",
    )
    assert labelled.observations == {"Edema": 0.0}
    assert (german.language, german.observations) == ("de", None)
    assert (told.language, told.observations) == ("sv", None)


def test_a_clinic_prepares_and_lists_what_is_not_there(tmp_path: Path) -> None:
    rows = "image,report,study_id,view\n2024/a.png,Clear lungs.,s1,PA\n2024/none.png,Clear lungs.,s2,PA\n2024/c.jpg,,s1,LATERAL\n"
    data, failed = prepared(clinic(tmp_path / "in", rows), tmp_path / "data")
    assert data.studies["study_id"].to_list() == ["s1"]
    assert data.studies["views"].to_list() == [["PA", "LATERAL"]]
    assert list(failed) == ["s2"]
    assert "none.png" in failed["s2"]


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ("", "columns image, got an empty file"),
        ("file,report\na,b\n", "columns image, got file, report"),
        ("image,raport\na,b\n", "unknown column 'raport'; did you mean 'report'"),
        ("image,Pleural effusion\na,1\n", "unknown column 'Pleural effusion'; did you mean 'Pleural Effusion'"),
        ("image,report\n,x\n", "line 2: expected a file name in 'image'"),
        ("image,report\na,Clear, no effusion\n", "line 2: expected 2 cells, got 3"),
        ("image,time\na,1.3.2024\n", "line 2: expected a time as 2024-03-01T08:15:00"),
        ("image,age\na,sixty\n", "line 2: expected a number for age"),
        ("image,study_id,age\na,s,\nb,s,old\n", "line 3: expected a number for age, got 'old'"),
        ("image,Edema\na,2\n", "line 2: expected 1, 0, -1, 0.5 or nothing for Edema, got '2'"),
        ("image,Edema\na,yes\n", "line 2: expected a number for Edema, got 'yes'"),
    ],
)
def test_a_broken_table_is_one_data_error(tmp_path: Path, rows: str, named: str) -> None:
    with pytest.raises(DataError, match=named) as caught:
        clinic(tmp_path, rows)
    assert str(tmp_path / "reports.csv") in str(caught.value)


def test_frontal_views_come_first_and_keep_their_order() -> None:
    views = ["LL", None, "Lateral", "AP", "PA LLD", "", "FRONTAL", "XTABLE LATERAL", "LPO"]
    _, ordered = image_folder.frontal_first([str(i) for i in range(9)], views)
    assert ordered == ("AP", "PA LLD", "FRONTAL", None, None, "LL", "LATERAL", "XTABLE LATERAL", "LPO")


def hannover(root: Path, out: Path) -> Path:
    """The table of the COVID-19 Image Repository as one of image_folder."""
    with (root / "data.csv").open(newline="", encoding="utf-8") as file, out.open("w", newline="", encoding="utf-8") as made:
        writer = csv.writer(made)
        writer.writerow(["image", "study_id", "subject_id", "age", "sex", "view", "split"])
        for r in csv.DictReader(file):
            writer.writerow([f"png/{r['image_id']}", r["image_id"], r["patient_id"], r["age"], r["sex"], r["projection"], r["split"]])
    return out


@pytest.mark.real_data
def test_hannover_reads_as_anyones_folder(data_root: Path, tmp_path: Path) -> None:
    root = data_root / "mhh-cxr"
    if not root.is_dir():
        pytest.skip("no mhh-cxr among the open data")
    data, failed = prepared(image_folder.entries(root, hannover(root, tmp_path / "table.csv")), tmp_path / "data")
    assert failed == {}
    assert (len(data.studies), data.studies["subject_id"].n_unique()) == (173, 50)
    assert data.studies.group_by("subject_id").agg(pl.col("split").n_unique())["split"].max() == 1
    assert set(data.studies["views"].explode()) == {"AP", "PA"}


# --- a study that the source gives up --------------------------------------------------------------------------------------------


def test_a_study_that_its_source_calls_broken_is_listed_unopened(tmp_path: Path) -> None:
    (good,) = clinic(tmp_path, "image\n2024/a.png\n")
    _, failed = prepared([good, replace(good, study_id="s2", broken="s2: expected a report, got none")], tmp_path / "data")
    assert failed == {"s2": "s2: expected a report, got none"}


def test_a_dicoms_own_patient_is_the_subject_where_the_table_names_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "scans"
    folder.mkdir()
    for name, patient in (("a", " P7 "), ("b", "P7"), ("c", "")):
        write_dicom(folder / f"{name}.dcm", rng.integers(0, 4000, (64, 60)).astype(np.uint16), PatientID=patient)
    table = tmp_path / "t.csv"
    table.write_text("image,report\na.dcm,Clear lungs.\nb.dcm,Clear lungs.\nc.dcm,Clear lungs.\n")
    made = write(image_folder.entries(folder, table), tmp_path / "data", "images", {}, workers=0, pixels=32)
    assert not made.failures
    rows = Prepared.open(tmp_path / "data").studies
    assert dict(zip(rows["study_id"], rows["subject_id"], strict=True)) == {"a.dcm": "P7", "b.dcm": "P7", "c.dcm": "c.dcm"}
    assert rows.filter(pl.col("subject_id") == "P7")["split"].n_unique() == 1
