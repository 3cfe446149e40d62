"""MIMIC-CXR in its official layout with made-up images and reports."""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from cxr_archives import edit, likelihoods, picture, prepared, row, table

from regen.data_prep import mimic_cxr
from regen.data_prep.chexpert import OBSERVATIONS
from regen.errors import ConfigError, DataError

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
