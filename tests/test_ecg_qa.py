"""ECG-QA in both layouts: what is read, what is refused, and what the open part holds."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from regen.data_prep.ecg_qa import MIXED, SCHEMA, Questions, prepare_ecg_qa, read_options
from regen.errors import ArtifactError, ConfigError, DataError

PATIENTS = {1: (100, 1), 2: (100, 1), 3: (101, 8), 4: (102, 9), 5: (103, 10)}
"""ecg_id -> patient, fold."""


def question(sample: int, **changes: Any) -> dict[str, Any]:
    return {
        "template_id": 26, "question_id": 900, "sample_id": sample, "question_type": "single-verify", "attribute_type": "noise",
        "question": "Is there static noise in lead aVF of this ECG?", "answer": ["no"], "ecg_id": [1], "attribute": ["static noise"],
    } | changes  # fmt: skip


def comparison(sample: int, ecgs: list[int], **changes: Any) -> dict[str, Any]:
    kind = "comparison_irrelevant-query"
    words = "Which numeric features are new in the second ECG?"
    return question(
        sample, template_id=69, question_type=kind, attribute_type="numeric_feature", question=words, answer=["qt interval", "pr interval"],
        ecg_id=ecgs, attribute=None,
    ) | changes  # fmt: skip


@pytest.fixture
def ptbxl(tmp_path: Path) -> Path:
    root = tmp_path / "ptbxl"
    root.mkdir()
    rows = [f"{ecg},{patient}.0,{fold}" for ecg, (patient, fold) in PATIENTS.items()]
    (root / "ptbxl_database.csv").write_text("\n".join(["ecg_id,patient_id,strat_fold", *rows]) + "\n")
    return root


def options(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "answers.csv").write_text("index,class\n0,no\n1,yes\n2,none\n3,qt interval\n4,pr interval\n")
    rows = """template_id,classes\n26,"['no', 'yes']"\n69,"['none', 'pr interval', 'qt interval']"\n"""
    (folder / "answers_for_each_template.csv").write_text(rows)
    return folder


def official(root: Path, **splits: list[dict[str, Any]]) -> Path:
    home = options(root / "output" / "ptbxl")
    for variant in ("paraphrased", "template"):
        for split, rows in splits.items():
            folder = home / variant / split
            folder.mkdir(parents=True)
            written = [row | {"question": row["question"].strip() and f"{variant}: {row['question']}"} for row in rows]
            (folder / "00000.json").write_text(json.dumps(written[:1]))
            (folder / "10000.json").write_text(json.dumps(written[1:]))
    return root


def test_the_official_layout_keeps_its_splits_and_joins_its_files(tmp_path: Path, ptbxl: Path) -> None:
    root = official(tmp_path / "qa", train=[question(0), question(1, answer=["yes"])], valid=[question(0, ecg_id=[4])], test=[comparison(0, [1, 3])])
    made = prepare_ecg_qa(root, ptbxl, tmp_path / "out")
    assert made.written == {"test": 1, "train": 2, "val": 1}
    assert not made.refused
    assert not (tmp_path / "out" / "failed.csv").exists()
    opened = Questions.open(tmp_path / "out")
    assert opened.table.schema == pl.Schema(SCHEMA)
    assert opened.table["question_id"].to_list() == ["train-0", "train-1", "valid-0", "test-0"]
    assert opened.table.row(0, named=True) == {
        "question_id": "train-0", "split": "train", "template_id": 26, "question": "paraphrased: Is there static noise in lead aVF of this ECG?",
        "question_type": "single-verify", "attribute_type": "noise", "attribute": ["static noise", "lead aVF"], "ecg_ids": ["00001"],
        "subject_ids": ["100"], "answer": ["no"], "options": ["no", "yes"], "asked": "26|900|lead aVF",
    }  # fmt: skip
    test = opened.split("test").row(0, named=True)
    assert test["ecg_ids"] == ["00001", "00003"]
    assert test["subject_ids"] == ["100", "101"]
    assert test["attribute"] == []
    assert opened.manifest["splits"] == made.written
    prepare_ecg_qa(root, ptbxl, tmp_path / "plain", variant="template")
    assert Questions.open(tmp_path / "plain").table["question"][0].startswith("template: ")


def test_folds_sort_the_questions_anew_and_keep_apart_what_lies_in_two(tmp_path: Path, ptbxl: Path) -> None:
    rows = [question(0), question(1, ecg_id=[3]), question(2, ecg_id=[4]), comparison(3, [1, 3]), comparison(4, [4, 5])]
    root = official(tmp_path / "qa", train=rows)
    prepare_ecg_qa(root, ptbxl, tmp_path / "out", splits="folds")
    assert Questions.open(tmp_path / "out").table["split"].to_list() == ["train", "val", "test", MIXED, "test"]


def test_one_list_of_questions_takes_the_folds_unless_it_gives_a_split(tmp_path: Path, ptbxl: Path) -> None:
    home = options(tmp_path / "qa")
    rows = [question(7, ecgqa_split="train", ecg_id=[4]), question(8, ecg_id=[1]), question(9, ecg_id=[1], split="test")]
    (home / "ecgqa.json").write_text(json.dumps(rows))
    prepare_ecg_qa(home, ptbxl, tmp_path / "out")
    table = Questions.open(tmp_path / "out").table
    assert table["question_id"].to_list() == ["train-7", "8", "test-9"]
    assert table["split"].to_list() == ["test", "train", "test"]
    made = prepare_ecg_qa(home, ptbxl, tmp_path / "given", splits="given")
    assert Questions.open(tmp_path / "given").table["split"].to_list() == ["train", "test"]
    assert [r.question_id for r in made.refused] == ["8"]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "template": ({"template_id": 99}, "got 99"),
    "ecg": ({"ecg_id": [77]}, "has no 77"),
    "answer": ({"answer": ["maybe"]}, "maybe"),
    "no answer": ({"answer": []}, "answers of template 26"),
    "question": ({"question": "  "}, "expected a question"),
    "two ecgs": ({"ecg_id": [1, 3]}, "expected one ECG"),
    "type": ({"question_type": "single-guess"}, "single-guess"),
    "attribute type": ({"attribute_type": "colour"}, "colour"),
    "no ecg": ({"ecg_id": None}, "keys of ECG-QA"),
    "template word": ({"template_id": "x"}, "keys of ECG-QA"),
    "twice": ({"sample_id": 0}, "came before"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_listed_and_the_rest_goes_on(tmp_path: Path, ptbxl: Path, case: str) -> None:
    changes, reason = BAD[case]
    root = official(tmp_path / "qa", train=[question(0), question(1) | changes, question(2)])
    made = prepare_ecg_qa(root, ptbxl, tmp_path / "out")
    assert made.written == {"train": 2}
    with (tmp_path / "out" / "failed.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert len(listed) == 1
    assert reason in listed[0]["reason"]


def test_rows_that_are_no_objects_are_bad_rows(tmp_path: Path, ptbxl: Path) -> None:
    home = options(tmp_path / "qa")
    (home / "ecgqa.json").write_text(json.dumps([question(0), 5, ["x"], {}]))
    assert len(prepare_ecg_qa(home, ptbxl, tmp_path / "out").refused) == 3


def test_what_cannot_be_prepared_says_why(tmp_path: Path, ptbxl: Path) -> None:
    with pytest.raises(DataError, match=r"answers_for_each_template\.csv"):
        prepare_ecg_qa(tmp_path / "nowhere", ptbxl, tmp_path / "out")
    home = options(tmp_path / "qa")
    with pytest.raises(DataError, match="found neither"):
        prepare_ecg_qa(home, ptbxl, tmp_path / "out")
    (home / "ecgqa.json").write_text("[{")
    with pytest.raises(DataError, match="copy the file again"):
        prepare_ecg_qa(home, ptbxl, tmp_path / "out")
    (home / "ecgqa.json").write_text("{}")
    with pytest.raises(DataError, match="got dict"):
        prepare_ecg_qa(home, ptbxl, tmp_path / "out")
    (home / "ecgqa.json").write_text(json.dumps([question(0, ecg_id=[77])]))
    with pytest.raises(DataError, match="got none of 1"):
        prepare_ecg_qa(home, ptbxl, tmp_path / "out")
    (home / "ecgqa.json").write_text(json.dumps([question(0)]))
    with pytest.raises(DataError, match="PTB-XL"):
        prepare_ecg_qa(home, tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(ConfigError, match="did you mean 'folds'"):
        prepare_ecg_qa(home, ptbxl, tmp_path / "out", splits="fold")
    prepare_ecg_qa(home, ptbxl, tmp_path / "out")
    with pytest.raises(ArtifactError, match="exists already"):
        prepare_ecg_qa(home, ptbxl, tmp_path / "out")
    prepare_ecg_qa(home, ptbxl, tmp_path / "out", force=True)
    (home / "answers.csv").write_text("index,class\n0,no\n")
    with pytest.raises(DataError, match="'yes'"):
        read_options(home)
    (home / "answers_for_each_template.csv").write_text("template_id,classes\n26,__import__('os')\n")
    with pytest.raises(DataError, match="list of answers"):
        read_options(home)


@pytest.mark.real_data
def test_the_open_part_is_read_whole(tmp_path: Path, data_root: Path, ptbxl_root: Path) -> None:
    made = prepare_ecg_qa(data_root / "ecg-qa", ptbxl_root, tmp_path / "out")
    table = Questions.open(tmp_path / "out").table
    assert not made.refused
    assert len(table) == 1651
    assert len(read_options(data_root / "ecg-qa")) == 70
    noise = table.filter(pl.col("attribute_type") == "noise")
    assert noise["split"].value_counts(sort=True).rows() == [("train", 829), ("test", 239), ("val", 127)]
