"""Several files of one chest X-ray study are one study, frontal first; a damaged one costs itself, wherever it is read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regen import batch
from regen.batch import FileStudies, read_studies
from regen.data_prep.readers import read_study
from regen.data_prep.study_files import group_files
from regen.data_prep.views import frontal_rank, join_views
from regen.errors import DataError
from regen.eval.dicom_samples import phantom, write_dicom
from regen.pipeline import Pipeline
from regen.study import Cxr, Study


@pytest.fixture
def dicoms(tmp_path: Path, rng: np.random.Generator) -> Path:
    """a and c are views of one study of one patient; b has another study, d another patient, e names no study."""
    pixels = phantom(60, 50, rng)
    for name, tags in (
        ("a", {"StudyInstanceUID": "1.2.3", "ViewPosition": "LL"}),
        ("b", {"StudyInstanceUID": "1.2.9"}),
        ("c", {"StudyInstanceUID": "1.2.3", "ViewPosition": "PA"}),
        ("d", {"StudyInstanceUID": "1.2.3", "PatientID": "another"}),
        ("e", {"StudyInstanceUID": None}),
    ):
        write_dicom(tmp_path / f"{name}.dcm", pixels, **tags)
    return tmp_path


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 32), np.uint8)).save(path)
    return path


def names(groups: list[list[Path]]) -> list[list[str]]:
    return [[path.name for path in group] for group in groups]


def test_dicom_files_of_one_study_and_patient_belong_together(dicoms: Path) -> None:
    files = sorted(dicoms.glob("*.dcm"))
    assert names(group_files(files)) == [["a.dcm", "c.dcm"], ["b.dcm"], ["d.dcm"], ["e.dcm"]]
    assert names(group_files([files[2], files[0], files[2]])) == [["c.dcm", "a.dcm"]]
    (dicoms / "c.dcm").write_bytes((dicoms / "c.dcm").read_bytes()[:200])
    assert names(group_files(files))[:2] == [["a.dcm"], ["b.dcm"]], "a header that does not read stands alone"


def test_pictures_belong_together_in_a_folder_that_is_named_as_a_study(tmp_path: Path) -> None:
    for name in ("s50414267/x.jpg", "s50414267/y.jpg", "study1/v1.png", "study1/v2.png", "scans/1.png", "scans/2.png", "s12/1.png", "s12/2.png"):
        picture(tmp_path / name)
    together = [group for group in names(group_files(sorted(tmp_path.rglob("*.*")))) if len(group) > 1]
    assert together == [["x.jpg", "y.jpg"], ["v1.png", "v2.png"]]
    same = picture(tmp_path / "again.png")
    assert names(group_files([same, same])) == [["again.png"], ["again.png"]]
    found = list(FileStudies.of([tmp_path / "s50414267", tmp_path / "study1"]))
    assert [(study.study_id, len(study.cxr)) for study in found] == [("s50414267", 2), ("study1", 2)]


def test_two_folders_of_one_name_keep_two_ids(tmp_path: Path) -> None:
    for name in ("p1/study1/a.png", "p1/study1/b.png", "p2/study1/a.png", "p2/study1/b.png"):
        picture(tmp_path / name)
    assert [study.study_id for study in FileStudies.of([tmp_path])] == ["study1", (tmp_path / "p2" / "study1").as_posix()]


def test_frontal_views_come_first_and_the_first_file_tells_of_the_patient() -> None:
    views = ["LATERAL", None, "AP", "LL", "PA"]
    assert sorted(views, key=frontal_rank) == ["AP", "PA", None, "LATERAL", "LL"]
    pixels = np.eye(4, dtype=np.float32)
    parts = [Study(str(i), age=float(i), cxr=(Cxr(pixels, view, f"{i}.png"),), flags=("one", f"f{i}")) for i, view in enumerate(views)]
    joined = join_views(parts)
    assert [view.source for view in joined.cxr] == ["2.png", "4.png", "1.png", "0.png", "3.png"]
    assert (joined.study_id, joined.age, joined.flags) == ("0", 0.0, ("one", "f0", "f1", "f2", "f3", "f4"))


def test_a_view_that_does_not_read_costs_itself(dicoms: Path) -> None:
    whole = (dicoms / "c.dcm").read_bytes()
    (dicoms / "c.dcm").write_bytes(whole[:-3000])
    found = FileStudies.of([dicoms / "a.dcm", dicoms / "c.dcm"])
    (study,) = found
    assert [view.view for view in study.cxr] == ["LATERAL"]
    assert "view_unreadable:c.dcm" in study.flags
    assert [(failure.study_id, "c.dcm" in failure.reason) for failure in found.failures] == [("c", True)]


def test_an_empty_folder_is_listed_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    image = picture(tmp_path / "chest.png")
    found = FileStudies.of([tmp_path / "empty", image])
    assert [study.study_id for study in found] == ["chest"]
    assert ["empty" in failure.reason for failure in found.failures] == [True]
    with pytest.raises(DataError, match="found none"):
        FileStudies.of([tmp_path / "empty"])


def test_one_source_is_one_study(dicoms: Path) -> None:
    ready = Study("ready")
    views = picture(dicoms / "study7" / "a.png").parent
    picture(views / "b.png", 1)
    made = list(read_studies([dicoms / "b.dcm", ready, views, str(dicoms / "c.dcm")]))
    assert [study.study_id for study in made] == ["1.2.9", "ready", "study7", "1.2.3"]
    assert [len(study.cxr) for study in made] == [1, 0, 2, 1]
    with pytest.raises(DataError, match="expected one study, got a folder with 5"):
        next(read_studies([dicoms]))
    with pytest.raises(DataError, match="no such file"):
        next(read_studies([dicoms / "none.png"]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the crash is put in by forking")
def test_a_file_that_crashes_its_decoder_is_an_error_for_every_way_in(
    dicoms: Path, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    def crash(job: object) -> Study:
        os._exit(7)

    monkeypatch.setattr(batch, "_read_image", crash)
    for way in (pipeline.draft, pipeline.search):
        with pytest.raises(DataError, match=r"b\.dcm: the worker ended \(exit code 7\)"):
            way(dicoms / "b.dcm")
    with pytest.raises(DataError, match="exit code 7"):
        pipeline.draft([dicoms / "b.dcm"])


@pytest.mark.parametrize(
    ("shape", "fits"), [((400, 1), False), ((1, 400), False), ((15, 15), False), ((16, 16), True), ((20, 90), False), ((20, 80), True)]
)
def test_what_is_tiny_or_long_is_no_chest(tmp_path: Path, shape: tuple[int, int], fits: bool, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 4096, shape).astype(np.uint16)
    Image.fromarray((pixels >> 4).astype(np.uint8)).save(tmp_path / "a.png")
    for path in (tmp_path / "a.png", write_dicom(tmp_path / "a.dcm", pixels)):
        if fits:
            assert read_study(path).cxr[0].pixels.shape == shape
        else:
            with pytest.raises(DataError, match=f"at least 16 pixels a side.*got {shape[1]} x {shape[0]}"):
                read_study(path)


def test_a_file_with_an_age_that_nobody_has_says_so(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = phantom(40, 40, rng)
    study = read_study(write_dicom(tmp_path / "a.dcm", pixels, PatientAge="999Y"))
    assert (study.age, "age_implausible:999" in study.flags) == (None, True)
    study = read_study(write_dicom(tmp_path / "a.dcm", pixels, PatientBirthDate="20250101", StudyDate="20200101"))
    assert (study.age, any(flag.startswith("age_implausible:-5") for flag in study.flags)) == (None, True)
    assert read_study(write_dicom(tmp_path / "a.dcm", pixels, PatientAge="061Y")).age == 61
