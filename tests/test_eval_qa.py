"""`regen eval qa`: answers in both file forms, what is refused and counted, the table's files, and the nearest case on a tiny bundle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from regen.data_prep.ecg_qa import Made, Questions, write_questions
from regen.data_prep.prepared import Prepared
from regen.errors import ArtifactError, ConfigError, DataError
from regen.eval.blocks import named
from regen.eval.imported import parse_columns
from regen.eval.qa_answers import FIELDS, read_answers
from regen.eval.qa_metrics import Asked
from regen.evaluating.qa import OTHER, evaluate_qa, nearest_in, to_markdown


def made_question(name: str, split: str, ecgs: Sequence[tuple[str, str]], answer: Sequence[str], asked: str = "1|LVH") -> dict[str, Any]:
    """ecgs: (study, subject)."""
    return {
        "question_id": name, "split": split, "template_id": 1, "question": "Are there signs of LVH?", "question_type": "single-verify",
        "attribute_type": "scp_code", "attribute": ["LVH"], "ecg_ids": [study for study, _ in ecgs], "subject_ids": [who for _, who in ecgs],
        "answer": list(answer), "options": ["no", "not sure", "yes"], "asked": asked,
    }  # fmt: skip


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    rows = [made_question(f"train-{i}", "train", [(f"t{i}", f"s{i}")], ["no" if i else "yes"]) for i in range(3)]
    rows += [made_question(f"test-{i}", "test", [(f"q{i}", f"p{i}")], ["yes" if i % 2 else "no"]) for i in range(4)]
    write_questions(rows, Made(), tmp_path / "questions", {"source": "test"}, {}, False)
    return tmp_path / "questions"


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def test_answers_are_read_from_both_forms(tmp_path: Path) -> None:
    expected = {"a": frozenset({"yes"}), "b": frozenset({"lead I", "lead aVF"})}
    rows = [{"question_id": "a", "answers": ["yes"]}, {"question_id": "b", "answers": "lead I ; lead aVF"}, {"question_id": "c", "answers": []}]
    assert read_answers(jsonl(tmp_path / "mine.jsonl", *rows)) == expected
    (tmp_path / "mine.csv").write_text('id,said\na,yes\nb,"[""lead aVF"", ""lead I""]"\nc,\n')
    assert read_answers(tmp_path / "mine.csv", parse_columns("question_id=id, answers=said", FIELDS)) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "holds none"), ("[1]", "expected a JSON object"), ("{", "could not read"), ('{"question_id": "a"}', "expected answers"),
        ('{"question_id": "a", "answers": [1]}', "list of texts"), ('{"question_id": "a", "answers": {"x": 1}}', "list of texts"),
        ('{"question_id": "a", "answers": "[yes"}', "JSON list"), ('{"question_id": true, "answers": "a"}', "question_id as text"),
        ('{"question_id": "a", "answers": "x"}\n{"question_id": "a", "answers": "y"}', "line 2: expected one row a question"),
    ],
)  # fmt: skip
def test_bad_answers_are_refused_with_their_line(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "mine.jsonl").write_text(text)
    with pytest.raises(DataError, match=reason):
        read_answers(tmp_path / "mine.jsonl")


def test_columns_are_named_as_asked() -> None:
    with pytest.raises(ConfigError, match="did you mean 'answers'"):
        parse_columns("answer=said", FIELDS)
    with pytest.raises(ConfigError, match="FIELD=COLUMN"):
        parse_columns("answers", FIELDS)
    with pytest.raises(DataError, match="no such file"):
        read_answers(Path("nowhere.csv"))


def test_scores_counts_and_files(questions: Path, tmp_path: Path) -> None:
    given = {"test-0": ["no"], "test-1": ["perhaps"], "train-0": "no", "test-3": "yes; not sure"}
    rows = [{"question_id": question, "answers": answers} for question, answers in given.items()]
    mine = jsonl(tmp_path / "mine.jsonl", *rows)
    made = evaluate_qa(mine, questions, out=tmp_path / "qa.json", seed=1, draws=40)
    row = named(made.blocks, "single-verify", "block").rows
    assert row["mine"]["exact"].value == 0.25
    assert row["mine"]["f1"].value == pytest.approx((1 + 0 + 0 + 2 / 3) / 4)
    assert row["majority of the template"]["exact"].value == 0.5
    plain = json.loads((tmp_path / "qa.json").read_text())
    assert plain["systems"]["mine"] == {"missing": 1, "invalid": 1, "fallback": 0}
    assert plain["blocks"][0]["rows"]["mine"]["exact"]["value"] == 0.25
    assert plain["published"]["exact"]["single-verify"] == 74.6
    evaluate_qa(mine, questions, out=tmp_path / "qa.md", seed=1, draws=40, protocol="llm")
    text = (tmp_path / "qa.md").read_text()
    assert "other data size" in OTHER
    assert OTHER in text
    assert "1 questions without an answer" in text
    assert "1 answers hold something that is not among" in text
    assert "options valid for its template" in text
    line = next(line for line in text.splitlines() if line.startswith("| single-verify |"))
    assert line.startswith("| single-verify | 4 | 4 | 25.0 [")
    assert line.endswith("| 74.6 |")
    assert to_markdown(made, "supervised").count("### ") == 2


def test_what_cannot_be_scored_says_why(questions: Path, tmp_path: Path) -> None:
    strange = jsonl(tmp_path / "strange.jsonl", {"question_id": "valid-9", "answers": "no"})
    with pytest.raises(DataError, match="1 others \\('valid-9'\\)"):
        evaluate_qa(strange, questions, draws=10)
    with pytest.raises(DataError, match="expected questions in val"):
        evaluate_qa(None, questions, "val", draws=10)
    with pytest.raises(ConfigError, match="train"):
        evaluate_qa(None, questions, "train", draws=10)
    with pytest.raises(ConfigError, match="--protocol"):
        evaluate_qa(None, questions, protocol="zero-shot", draws=10)
    with pytest.raises(ConfigError, match="both or neither"):
        evaluate_qa(None, questions, bundle="starter", draws=10)
    (tmp_path / "there.md").touch()
    with pytest.raises(ArtifactError, match="exists already"):
        evaluate_qa(None, questions, out=tmp_path / "there.md", draws=10)
    assert evaluate_qa(None, questions, out=tmp_path / "there.md", draws=10, force=True).systems[0].name == "majority of the template"


def test_the_nearest_case_answers_and_never_from_the_same_patient(tiny_data: Prepared, tiny_bundle: Path, tmp_path: Path) -> None:
    ecgs = {split: tiny_data.split(split).head(12).select("study_id", "subject_id").rows() for split in ("train", "test")}
    twin = ecgs["train"][0]
    rows = [made_question(f"train-{i}", "train", [ecg], ["yes" if i % 2 else "no"]) for i, ecg in enumerate(ecgs["train"])]
    rows += [made_question(f"test-{i}", "test", [ecg], ["yes"]) for i, ecg in enumerate(ecgs["test"])]
    rows += [made_question("test-own", "test", [twin], ["no"]), made_question("test-new", "test", [twin], ["no"], asked="1|RVH")]
    write_questions(rows, Made(), tmp_path / "questions", {"source": "test"}, {}, False)
    opened = Questions.open(tmp_path / "questions")
    asked, train = (Asked.from_table(opened.split(name)) for name in ("test", "train"))
    nearest = nearest_in(tiny_data, str(tiny_bundle), "cpu", asked, train)
    subjects = dict(tiny_data.studies.select("study_id", "subject_id").rows())
    assert all(subjects[study] != twin[1] for study in nearest(twin[0]))
    assert nearest("elsewhere") == []
    for study, subject in ecgs["test"]:
        found = nearest(study)
        assert sorted(found) == sorted(name for name, who in ecgs["train"] if who != subject)
    made = evaluate_qa(None, tmp_path / "questions", bundle=str(tiny_bundle), studies=tiny_data.path, draws=20)
    system = made.systems[0]
    assert system.name == "nearest"
    assert system.fallback == 1
    of = {ecg[0]: "yes" if i % 2 else "no" for i, ecg in enumerate(ecgs["train"])}
    assert system.answers[: len(ecgs["test"])] == [frozenset({of[nearest(study)[0]]}) for study, _ in ecgs["test"]]


def test_recordings_of_other_studies_are_refused(tiny_data: Prepared, tiny_bundle: Path, questions: Path) -> None:
    with pytest.raises(DataError, match="got those of 0 of 4 ECGs asked about"):
        evaluate_qa(None, questions, bundle=str(tiny_bundle), studies=tiny_data.path, draws=10)
