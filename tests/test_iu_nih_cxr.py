"""IU X-ray and NIH ChestX-ray14 in their official layouts with made-up images and reports; NIH's own where it is at hand."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from cxr_archives import edit, likelihoods, picture, prepared, row, table

from regen.data_prep import iu_xray, nih_cxr
from regen.errors import DataError

# --- IU X-ray -------------------------------------------------------------------------------------------------------------------

XML = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR{n}"/><MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">None.</AbstractText><AbstractText Label="INDICATION">XXXX-year-old with
 cough</AbstractText><AbstractText Label="FINDINGS">No pleural effusion &amp; no pneumothorax.</AbstractText>
<AbstractText Label="IMPRESSION">{impression}</AbstractText></Abstract></Article></MedlineCitation>{images}</eCitation>"""


def iu_official(root: Path) -> Path:
    for n, names in ((1, ["CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001"]), (2, ["CXR2_IM-0652-1001"]), (10, [])):
        parents = "".join(f'<parentImage id="{name}"><figureId>F1</figureId></parentImage>' for name in names)
        table(root / "ecgen-radiology" / f"{n}.xml", XML.format(n=n, impression="Cardiomegaly.", images=parents))
        for name in names:
            picture(root / "NLMCXR_png" / f"{name}.png")
    return root


def iu_kaggle(root: Path) -> Path:
    table(
        root / "indiana_reports.csv",
        "uid,MeSH,Problems,image,indication,comparison,findings,impression\n"
        "1,normal,normal,Xray Chest PA and Lateral,XXXX-year-old with cough,None.,No pleural effusion & no pneumothorax.,Cardiomegaly.\n"
        "10,normal,normal,,,,,\n",
    )
    table(root / "indiana_projections.csv", "uid,filename,projection\n1,1_IM-0001-4001.dcm.png,Lateral\n1,1_IM-0001-3001.dcm.png,Frontal\n")
    for name in ("1_IM-0001-4001", "1_IM-0001-3001"):
        picture(root / "images" / "images_normalized" / f"{name}.dcm.png")
    return root


@pytest.mark.parametrize("layout", [iu_official, iu_kaggle])
def test_iu_prepares_end_to_end(tmp_path: Path, layout: Callable[[Path], Path]) -> None:
    data, failed = prepared(iu_xray.entries(layout(tmp_path / "in")), tmp_path / "data")
    assert failed == {}
    first = row(data, "CXR1")
    assert (first["subject_id"], first["report"]) == ("CXR1", "No pleural effusion & no pneumothorax. Cardiomegaly.")
    assert {s["name"]: s["text"] for s in first["sections"]} == {  # type: ignore[attr-defined]
        "findings": "No pleural effusion & no pneumothorax.", "impression": "Cardiomegaly.", "comparison": "None.",
        "indication": "XXXX-year-old with cough",
    }  # fmt: skip
    assert likelihoods(data, "CXR1").items() >= {"Pleural Effusion": 0.0, "Pneumothorax": 0.0, "Cardiomegaly": 1.0}.items()
    assert len(first["cxr_rows"]) == 2  # type: ignore[arg-type]
    assert (first["views"] == ["FRONTAL", "LATERAL"]) == (layout is iu_kaggle), "only Kaggle's table names the views"
    alone = row(data, "CXR10")
    assert alone["cxr_rows"] is None
    assert (alone["report"] is None) == (layout is iu_kaggle)


def test_iu_reports_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    assert [e.study_id for e in iu_xray.entries(iu_official(tmp_path))] == ["CXR1", "CXR2", "CXR10"]
    (tmp_path / "NLMCXR_reports").mkdir()
    (tmp_path / "ecgen-radiology").rename(tmp_path / "NLMCXR_reports" / "ecgen-radiology")
    assert [e.study_id for e in iu_xray.entries(tmp_path)] == ["CXR1", "CXR2", "CXR10"]


BOMB = '<?xml version="1.0"?><!DOCTYPE e [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><eCitation><uId id="CXR2"/>&b;</eCitation>'


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (BOMB.encode(), "DOCTYPE"),
        (BOMB.replace("<?xml", "\ufeff<?xml").encode("utf-16-le"), "DOCTYPE"),
        (b'<!DOCTYPE e SYSTEM "file:///etc/passwd"><eCitation/>', "DOCTYPE"),
        (b"<eCitation>&a;</eCitation>", "undefined entity"),
        (b"<eCitation>", "no element found"),
        (b"", "no element found"),
        (b'<?xml version="1.0" encoding="no-such"?><e/>', "unknown encoding"),
    ],
)
def test_an_iu_report_that_is_no_plain_xml_is_listed(tmp_path: Path, content: bytes, named: str) -> None:
    root = iu_official(tmp_path / "in")
    (root / "ecgen-radiology" / "2.xml").write_bytes(content)
    data, failed = prepared(iu_xray.entries(root), tmp_path / "data")
    assert sorted(data.studies["study_id"]) == ["CXR1", "CXR10"]
    assert named in failed["CXR2"]


def test_an_iu_image_that_is_not_there_is_listed_and_an_empty_folder_refused(tmp_path: Path) -> None:
    root = iu_official(tmp_path / "in")
    (root / "NLMCXR_png" / "CXR2_IM-0652-1001.png").unlink()
    _, failed = prepared(iu_xray.entries(root), tmp_path / "data")
    assert failed == {"CXR2": "CXR2_IM-0652-1001.png: expected this image of report CXR2, got none; unpack NLMCXR_png.tgz"}
    (tmp_path / "none" / "ecgen-radiology").mkdir(parents=True)
    with pytest.raises(DataError, match="unpack NLMCXR_reports"):
        list(iu_xray.entries(tmp_path / "none"))
    with pytest.raises(DataError, match=r"indiana_projections\.csv: no such file; give the folder with ecgen-radiology"):
        list(iu_xray.entries(tmp_path))


# --- NIH ChestX-ray14 -----------------------------------------------------------------------------------------------------------

NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],"
    "OriginalImagePixelSpacing[x,y],\n"
)
NIH_ROWS = [
    ("00000001_000.png", "Cardiomegaly|Emphysema", "1", "058Y", "M", "PA"),
    ("00000001_001.png", "Consolidation", "1", "60", "M", "AP"),
    ("00000002_000.png", "No Finding", "2", "413", "F", "PA"),
    ("00000003_000.png", "Hernia", "3", "018M", "F", ""),
]


def nih(root: Path, table_name: str = "Data_Entry_2017.csv", lists: bool = True) -> Path:
    lines = [f"{name},{labels},0,{who},{age},{sex},{view},2682,2749,0.143,0.143,\n" for name, labels, who, age, sex, view in NIH_ROWS]
    table(root / table_name, NIH_HEADER + "".join(lines))
    for number, (name, *_) in enumerate(NIH_ROWS):
        picture(root / f"images_00{1 + number // 2}" / "images" / name)
    if lists:
        table(root / "train_val_list.txt", "00000001_000.png\n00000001_001.png\n")
        table(root / "test_list.txt", "00000002_000.png\n00000003_000.png\n")
    return root


def test_nih_prepares_end_to_end(tmp_path: Path) -> None:
    data, failed = prepared(nih_cxr.entries(nih(tmp_path / "in")), tmp_path / "data")
    assert failed == {}
    assert data.studies["subject_id"].to_list() == ["1", "1", "2", "3"]
    assert data.studies["age"].to_list() == [58.0, 60.0, None, 1.5]
    assert data.studies["sex"].to_list() == ["male", "male", "female", "female"]
    assert data.studies["views"].to_list() == [["PA"], ["AP"], ["PA"], [None]]
    assert data.studies["split"].to_list()[2:] == ["test", "test"]
    assert set(data.studies["split"].to_list()[:2]) <= {"train", "val"}
    assert data.studies["time"].null_count() == data.studies["report"].null_count() == 4
    cardiomegaly = likelihoods(data, "00000001_000")
    assert [name for name, value in cardiomegaly.items() if value] == ["Cardiomegaly"]
    assert cardiomegaly["Pneumothorax"] == cardiomegaly["No Finding"] == 0.0
    assert not set(cardiomegaly) & {"Fracture", "Support Devices", "Enlarged Cardiomediastinum"}, "NIH labels none of these"
    assert likelihoods(data, "00000001_001")["Lung Opacity"] == 1.0, "a consolidation is an opacity"
    assert [name for name, value in likelihoods(data, "00000002_000").items() if value] == ["No Finding"]
    assert not any(likelihoods(data, "00000003_000").values()), "a hernia has no observation, and is no 'No Finding'"


def test_nih_splits_official_subjects_into_train_and_val_and_others_by_hash(tmp_path: Path) -> None:
    root = nih(tmp_path, "Data_Entry_2017_v2020.csv", lists=False)
    assert {e.split for e in nih_cxr.entries(root)} == {None}
    subjects = [str(n) for n in range(2000)]
    splits = [nih_cxr._split("train_val", subject, 0) for subject in subjects]
    assert set(splits) == {"train", "val"}
    assert 0.07 < splits.count("val") / 2000 < 0.13
    assert splits != [nih_cxr._split("train_val", subject, 1) for subject in subjects]


def test_nih_lists_what_is_not_there(tmp_path: Path) -> None:
    root = nih(tmp_path / "in")
    (root / "images_001" / "images" / "00000001_001.png").unlink()
    table(root / "test_list.txt", "00000002_000.png\n")
    _, failed = prepared(nih_cxr.entries(root), tmp_path / "data")
    assert set(failed) == {"00000001_001", "00000003_000"}
    assert "unpack all images" in failed["00000001_001"]
    assert "train_val_list.txt or test_list.txt, got neither" in failed["00000003_000"]


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda r: (r / "Data_Entry_2017.csv").unlink(), r"Data_Entry_2017\.csv: no such file; give the folder"),
        (lambda r: (r / "test_list.txt").unlink(), r"got train_val_list\.txt alone"),
        (lambda r: edit(r / "Data_Entry_2017.csv", "Hernia", "Hernai"), "line 5: unknown label 'Hernai'; did you mean 'Hernia'"),
        (lambda r: edit(r / "Data_Entry_2017.csv", "058Y", "old"), "line 2: expected an age as 58 or 058Y, got 'old'"),
        (lambda r: edit(r / "Data_Entry_2017.csv", "Patient ID", "Patient"), "expected the columns Patient ID"),
    ],
)
def test_a_broken_nih_folder_is_one_data_error(tmp_path: Path, damage: Callable[[Path], object], named: str) -> None:
    damage(nih(tmp_path))
    with pytest.raises(DataError, match=named):
        list(nih_cxr.entries(tmp_path))


@pytest.mark.real_data
def test_nih_as_published(data_root: Path, tmp_path: Path) -> None:
    if not (data_root / "nih-cxr-64").is_dir():
        pytest.skip("no nih-cxr-64 among the open data")
    data, failed = prepared(nih_cxr.entries(data_root / "nih-cxr-64"), tmp_path / "data")
    assert failed == {}
    studies = data.studies
    assert (len(studies), studies["subject_id"].n_unique()) == (831, 216)
    assert studies.group_by("subject_id").agg(pl.col("split").n_unique())["split"].max() == 1
    assert studies["split"].n_unique() == 3
    counts = {
        name: sum(likelihoods(data, study)[name] for study in studies["study_id"]) for name in ("No Finding", "Pleural Effusion", "Cardiomegaly")
    }
    with (data_root / "nih-cxr-64" / "Data_Entry_2017.csv").open(encoding="utf-8") as file:
        labels = [r["Finding Labels"].split("|") for r in csv.DictReader(file)]
    assert counts == {
        "No Finding": sum("No Finding" in here for here in labels), "Pleural Effusion": sum("Effusion" in here for here in labels),
        "Cardiomegaly": sum("Cardiomegaly" in here for here in labels),
    }  # fmt: skip
