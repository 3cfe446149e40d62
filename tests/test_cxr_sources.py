"""Chest X-ray archives, each in its official layout with made-up images and reports; NIH's and Hannover's own where they are at hand."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from regen.data_prep import image_folder, iu_xray, mimic_cxr, nih_cxr
from regen.data_prep.chexpert import OBSERVATIONS
from regen.data_prep.prepare import Entry, write
from regen.data_prep.prepared import Prepared
from regen.errors import ConfigError, DataError
from regen.eval.dicom_samples import write_dicom


def table(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def picture(path: Path, bright: int = 200) -> Path:
    """A made-up image: a bright square on a slope."""
    pixels = np.tile(np.linspace(0, 90, 40, dtype=np.uint8), (50, 1))
    pixels[10:20, 5:15] = bright
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def prepared(entries: object, out: Path) -> tuple[Prepared, dict[str, str]]:
    summary = write(entries, out, "test", {}, workers=1, pixels=64)  # type: ignore[arg-type]
    return Prepared.open(out), {f.study_id: f.reason for f in summary.failures}


def row(data: Prepared, study_id: str) -> dict[str, object]:
    return data.studies.row(by_predicate=pl.col("study_id") == study_id, named=True)


def likelihoods(data: Prepared, study_id: str) -> dict[str, float]:
    return {item["code"]: item["likelihood"] for item in row(data, study_id)["observations"] or ()}  # type: ignore[attr-defined]


# --- MIMIC-CXR ------------------------------------------------------------------------------------------------------------------

META = "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime"
IMAGES = [  # dicom_id, subject_id, study_id, view, time, split
    ("02aa", "10000032", "50414267", "LATERAL", "213014.531", "train"),
    ("174f", "10000032", "50414267", "PA", "213014.531", "train"),
    ("2a28", "10000032", "53189527", "", "5.0", "train"),
    ("68b5", "10000764", "57375967", "AP", "92557.0", "validate"),
    ("9e1a", "11000764", "57375968", "AP", "92557.0", "test"),
]
REPORT = (
    "                                 FINAL REPORT\n INDICATION:  ___F with cough\n \n FINDINGS: \n \n Clear lungs.\n \n IMPRESSION: \n \n Normal.\n"
)


def mimic(root: Path, packed: bool = False, suffix: str = ".jpg") -> Path:
    """MIMIC-CXR-JPG with its reports beside the images."""
    end = ".csv.gz" if packed else ".csv"
    images = [f"{d},{p},{s},CHEST (PA AND LAT),{view},50,40,21800506,{time}" for d, p, s, view, time, _ in IMAGES]
    table(root / f"mimic-cxr-2.0.0-metadata{end}", "\n".join([META, *images, ""]))
    splits = [f"{d},{s},{p},{split}" for d, p, s, _, _, split in reversed(IMAGES)]
    table(root / f"mimic-cxr-2.0.0-split{end}", "\n".join(["dicom_id,study_id,subject_id,split", *splits, ""]))
    names = sorted(OBSERVATIONS)
    header = ",".join(["subject_id", "study_id", *names])
    for tool, edema in (("chexpert", "-1.0"), ("negbio", "1.0")):
        cells = {"Edema": edema, "Pneumothorax": "0.0", "Support Devices": "1.0"}
        first = ",".join(["10000032", "50414267", *(cells.get(name, "") for name in names)])
        blank = ",".join(["10000764", "57375967", *("" for _ in names)])
        table(root / f"mimic-cxr-2.0.0-{tool}{end}", "\n".join([header, blank, first, ""]))
    for dicom, subject, study, *_ in IMAGES:
        folder = root / "files" / f"p{subject[:2]}" / f"p{subject}"
        if suffix == ".jpg":
            picture(folder / f"s{study}" / f"{dicom}.jpg")
        else:
            table(folder / f"s{study}" / f"{dicom}{suffix}", "")
        table(folder / f"s{study}.txt", REPORT)
    return root


@pytest.mark.parametrize("packed", [False, True])
def test_mimic_prepares_end_to_end(tmp_path: Path, packed: bool) -> None:
    data, failed = prepared(mimic_cxr.entries(mimic(tmp_path / "in", packed)), tmp_path / "data")
    assert failed == {}
    assert dict(zip(data.studies["study_id"], data.studies["split"], strict=True)) == {
        "50414267": "train", "53189527": "train", "57375967": "val", "57375968": "test",
    }  # fmt: skip
    first = row(data, "50414267")
    assert (first["subject_id"], first["views"], first["report"], first["language"]) == ("10000032", ["PA", "LATERAL"], "Clear lungs. Normal.", "en")
    assert first["sections"] == [
        {"name": "findings", "text": "Clear lungs."}, {"name": "impression", "text": "Normal."}, {"name": "indication", "text": "___F with cough"}
    ]  # fmt: skip
    assert first["time"] == datetime(2180, 5, 6, 21, 30, 14, 531000)
    assert row(data, "53189527")["time"] == datetime(2180, 5, 6, 0, 0, 5), "leading zeros are lost in the table"
    assert row(data, "57375967")["time"] == datetime(2180, 5, 6, 9, 25, 57)
    assert likelihoods(data, "50414267") == {"Edema": 0.5, "Pneumothorax": 0.0, "Support Devices": 1.0}
    assert row(data, "57375967")["observations"] is None, "a blank row labels nothing"
    assert row(data, "57375968")["observations"] is None, "nor does a row that is not there"
    _, images = next(data.images(data.studies))
    assert images.shape == (4, 64, 64)
    assert images.max() > 180


def test_mimic_takes_negbio_no_labels_dicom_and_reports_from_elsewhere(tmp_path: Path) -> None:
    root = mimic(tmp_path / "dicom", suffix=".dcm")
    (entry, *_) = mimic_cxr.entries(root, labels="negbio")
    assert entry.observations == {"Edema": 1.0, "Pneumothorax": 0.0, "Support Devices": 1.0}
    assert [Path(path).name for path in entry.images] == ["174f.dcm", "02aa.dcm"]
    (root / "mimic-cxr-2.0.0-chexpert.csv").unlink()
    (entry, *_) = mimic_cxr.entries(root, labels="none")
    assert entry.observations is None
    for text in list(root.rglob("s*.txt")):
        table(tmp_path / "mimic-cxr-reports" / text.relative_to(root), "Elsewhere.")
        text.unlink()
    assert {e.report for e in mimic_cxr.entries(root, tmp_path, "none")} == {"Elsewhere."}
    assert {e.report for e in mimic_cxr.entries(root, tmp_path / "mimic-cxr-reports", "none")} == {"Elsewhere."}
    assert {e.report for e in mimic_cxr.entries(root, tmp_path / "mimic-cxr-reports" / "files", "none")} == {"Elsewhere."}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda r: (r / "files/p10/p10000032/s50414267/02aa.jpg").unlink(), r"s50414267/02aa: expected a \.jpg or \.dcm"),
        (lambda r: (r / "files/p10/p10000032/s50414267").rename(r / "gone"), "s50414267: expected the study's images"),
        (lambda r: (r / "files/p10/p10000032/s50414267.txt").unlink(), r"s50414267\.txt: expected the study's report"),
        (lambda r: edit(r / "mimic-cxr-2.0.0-split.csv", "02aa,50414267,10000032,train\n", ""), "s50414267: expected one split .* got none, train"),
        (lambda r: edit(r / "mimic-cxr-2.0.0-split.csv", "02aa,50414267,10000032,train", "02aa,50414267,10000032,tst"), "got train, tst"),
        (lambda r: edit(r / "mimic-cxr-2.0.0-split.csv", "174f,50414267,10000032,train\n", ""), "s50414267: expected one split .* got none, train"),
        (lambda r: edit(r / "mimic-cxr-2.0.0-split.csv", "174f,50414267,10000032,train", "174f,50414267,10000032,test"), "got test, train"),
        (lambda r: edit(r / "mimic-cxr-2.0.0-chexpert.csv", "-1.0", "3"), "s50414267: expected 1, 0, -1, 0.5 or nothing for Edema, got '3'"),
        (lambda r: edit(r / "mimic-cxr-2.0.0-metadata.csv", "21800506,213014.531", "May,213014.531"), "s50414267: expected StudyDate .* 'May'"),
        (lambda r: picture(r / "files/p10/p10000032/s50414267/02aa.jpg").write_bytes(b"\xff\xd8cut"), r"02aa\.jpg"),
    ],
)
def test_a_broken_mimic_study_is_listed_and_the_rest_goes_on(tmp_path: Path, damage: Callable[[Path], object], named: str) -> None:
    damage(mimic(tmp_path / "in"))
    data, failed = prepared(mimic_cxr.entries(tmp_path / "in"), tmp_path / "data")
    assert sorted(data.studies["study_id"]) == ["53189527", "57375967", "57375968"]
    assert list(failed) == ["50414267"]
    with pytest.raises(DataError, match=named):
        raise DataError(failed["50414267"])
    with (tmp_path / "data" / "failed.csv").open(encoding="utf-8") as file:
        assert [r["study_id"] for r in csv.DictReader(file)] == ["50414267"]


def test_a_labelled_mimic_study_without_images_is_listed(tmp_path: Path) -> None:
    root = mimic(tmp_path / "in")
    path = root / "mimic-cxr-2.0.0-chexpert.csv"
    path.write_text(path.read_text() + "19999999,59999999" + "," * len(OBSERVATIONS) + "\n")
    data, failed = prepared(mimic_cxr.entries(root), tmp_path / "data")
    assert len(data.studies) == 4
    assert failed == {"59999999": "s59999999: expected images in the metadata table, got none"}


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda r: (r / "mimic-cxr-2.0.0-split.csv").unlink(), r"expected mimic-cxr-2\.0\.0-split\.csv\.gz or .*split\.csv, got neither"),
        (lambda r: (r / "mimic-cxr-2.0.0-chexpert.csv").unlink(), r"chexpert\.csv\.gz"),
        (lambda r: table(r / "mimic-cxr-2.0.0-metadata.csv", "dicom_id,study_id\na,b\n"), "expected the columns subject_id, ViewPosition, StudyDate"),
        (lambda r: table(r / "mimic-cxr-2.0.0-split.csv", ""), r"split\.csv: expected a CSV table"),
        (lambda r: table(r / "mimic-cxr-2.0.0-split.csv", 'dicom_id,split\na,"b\n' * 3), "could not read one"),
        (lambda r: [p.unlink() for p in r.rglob("s*.txt")], "expected reports as files/p10/.* got none"),
        (lambda r: [table(r / "mimic-cxr-reports.zip", ""), *(p.unlink() for p in r.rglob("s*.txt"))], r"only mimic-cxr-reports\.zip; unpack it"),
    ],
)
def test_a_broken_mimic_folder_is_one_data_error(tmp_path: Path, damage: Callable[[Path], object], named: str) -> None:
    damage(mimic(tmp_path))
    with pytest.raises(DataError, match=named):
        list(mimic_cxr.entries(tmp_path))


def test_a_cut_gzip_and_unknown_labels_are_refused(tmp_path: Path) -> None:
    path = mimic(tmp_path, packed=True) / "mimic-cxr-2.0.0-split.csv.gz"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match="download"):
        list(mimic_cxr.entries(tmp_path))
    with pytest.raises(ConfigError, match="'chexprt'; did you mean 'chexpert'"):
        list(mimic_cxr.entries(tmp_path, labels="chexprt"))


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
