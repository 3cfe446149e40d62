"""Scores of answer sets worked by hand, draws by patient, and the baselines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from regen.data_prep.ecg_qa import SCHEMA, Questions, prepare_ecg_qa
from regen.errors import DataError
from regen.eval.blocks import named
from regen.eval.qa_metrics import (
    NO_ANSWER,
    Answered,
    Asked,
    ByPatients,
    exact,
    majority,
    nearest_answer,
    qa_table,
    random_option,
    set_f1,
)


def table(*rows: tuple[str, int, str, Sequence[str], Sequence[str]], kind: str = "single-verify") -> pl.DataFrame:
    """(id, template, asked, ecgs, answer); the patient of an ECG is its name."""
    return pl.DataFrame(
        [
            {
                "question_id": name, "split": "test", "template_id": template, "question": "?", "question_type": kind, "attribute_type": "noise",
                "attribute": [], "ecg_ids": list(ecgs), "subject_ids": list(dict.fromkeys(ecgs)), "answer": list(answer),
                "options": ["a", "b", "c", "none"], "asked": asked,
            }
            for name, template, asked, ecgs, answer in rows
        ],
        schema=SCHEMA,
    )  # fmt: skip


def sets(*answers: str) -> list[frozenset[str]]:
    return [frozenset(answer) for answer in answers]


def test_exact_match_and_f1_by_hand() -> None:
    answers, references = sets("a", "ab", "ba", "", "c", "abc"), sets("a", "a", "ab", "a", "ab", "ab")
    assert exact(answers, references).tolist() == [1, 0, 1, 0, 0, 0]
    assert set_f1(answers, references) == pytest.approx([1, 2 / 3, 1, 0, 0, 0.8])
    with pytest.raises(ValueError, match="shorter"):
        exact(answers, references[:2])


def test_answers_are_aligned_and_counted() -> None:
    asked = Asked.from_table(table(("q1", 1, "x", ["1"], "a"), ("q2", 1, "x", ["2"], "b"), ("q3", 1, "x", ["3"], "c")))
    made = Answered.aligned("mine", {"q3": frozenset("c"), "q1": frozenset({"a", "z"}), "other": frozenset("a")}, asked)
    assert made.answers == [frozenset({"a", "z"}), NO_ANSWER, frozenset("c")]
    assert (made.missing, made.invalid) == (1, 1)
    block = named(qa_table(asked, [made], draws=50).blocks, "all", "block")
    assert block.rows["mine"]["exact"].value == pytest.approx(1 / 3)
    assert block.rows["mine"]["f1"].value == pytest.approx((2 / 3 + 0 + 1) / 3)


def test_draws_take_patients_with_all_their_questions() -> None:
    draws = ByPatients([["1"], ["2"], ["1"], ["1", "2"], ["2", "1"]], np.random.default_rng(0), 200)
    weights = np.concatenate(list(draws))
    assert draws.patients == 2
    assert weights.shape == (200, 5)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 0] + weights[:, 1] == 2).all()
    assert (weights[:, 3] == weights[:, 0] * weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 4]).all()
    assert weights[:, 0].std() > 0
    for wrong in ([], ["1", "2", "3"]):
        with pytest.raises(DataError, match="one or two patients"):
            ByPatients([wrong], np.random.default_rng(0))


def test_the_table_groups_by_type_and_attribute_and_pairs_the_systems() -> None:
    parts = [
        table(("q1", 1, "x", ["1"], "a"), ("q2", 1, "x", ["2"], "b")),
        table(("q3", 8, "y", ["3", "4"], "c"), kind="comparison_irrelevant-query"),
    ]
    asked = Asked.from_table(pl.concat(parts))
    systems = [Answered("one", sets("a", "a", "c")), Answered("two", sets("a", "b", "c"))]
    made = qa_table(asked, systems, seed=3, draws=100)
    assert [(block.name, block.n, block.patients) for block in made.blocks] == [
        ("all", 3, 4), ("comparison_irrelevant-query", 1, 2), ("single-verify", 2, 2), ("noise", 3, 4),
        ("comparison_irrelevant-query noise", 1, 2), ("single-verify noise", 2, 2),
    ]  # fmt: skip
    rows = named(made.blocks, "single-verify", "block").rows
    assert (rows["one"]["exact"].value, rows["two"]["exact"].value) == (0.5, 1.0)
    assert rows["one"]["exact"].interval == (0.0, 1.0)
    assert rows["two"]["exact"].interval == (1.0, 1.0)
    plain = made.to_dict()["blocks"][0]
    assert plain["differences"]["two"]["exact"]["value"] == pytest.approx(-1 / 3)
    again = qa_table(asked, systems, seed=3, draws=100)
    assert again.to_dict() == made.to_dict()


def test_the_table_refuses_other_numbers_of_answers() -> None:
    asked = Asked.from_table(table(("q1", 1, "x", ["1"], "a")))
    with pytest.raises(DataError, match="expected 1 answers, got 2"):
        qa_table(asked, [Answered("mine", sets("a", "b"))])
    with pytest.raises(DataError, match="mine, mine"):
        qa_table(asked, [Answered("mine", sets("a")), Answered("mine", sets("b"))])
    with pytest.raises(DataError, match="expected questions and systems"):
        qa_table(asked, [])


def test_majority_is_that_of_the_template_and_ties_go_by_name() -> None:
    rows = [
        ("t1", 1, "x", ["1"], "a"),
        ("t2", 1, "y", ["2"], "ab"),
        ("t3", 1, "x", ["3"], "ab"),
        ("t4", 2, "z", ["1"], "c"),
        ("t5", 2, "z", ["2"], "b"),
    ]
    train = Asked.from_table(table(*rows))
    asked = Asked.from_table(table(("q1", 1, "x", ["9"], "a"), ("q2", 2, "z", ["9"], "a"), ("q3", 3, "w", ["9"], "a")))
    made = majority(asked, train)
    assert made.answers == [frozenset("ab"), frozenset("b"), NO_ANSWER]
    assert made.missing == 1


def test_a_random_option_is_an_option_and_follows_the_seed() -> None:
    asked = Asked.from_table(table(*((f"q{i}", 1, "x", ["1"], "a") for i in range(400))))
    first, again = (random_option(asked, np.random.default_rng(5)).answers for _ in range(2))
    assert first == again
    assert {next(iter(answer)) for answer in first} == {"a", "b", "c", "none"}
    assert exact(first, asked.answers).mean() == pytest.approx(0.25, abs=0.08)


def test_the_nearest_case_with_the_same_question_answers() -> None:
    train = Asked.from_table(
        table(
            ("t1", 1, "x", ["1"], "a"),
            ("t2", 1, "y", ["2"], "b"),
            ("t3", 1, "x", ["3"], "c"),
            ("t4", 1, "x", ["4"], "c"),
            ("t5", 1, "p", ["7", "8"], "ab"),
        )
    )
    asked = Asked.from_table(
        table(
            ("q1", 1, "x", ["9"], "a"),
            ("q2", 1, "y", ["9"], "b"),
            ("q3", 1, "new", ["9"], "c"),
            ("q4", 1, "p", ["5", "9"], "ab"),
            ("q5", 1, "x", ["6"], "a"),
        )
    )
    seen: list[str] = []

    def nearest(ecg: str) -> list[str]:
        seen.append(ecg)
        return ["2", "1", "3", "8"] if ecg == "9" else ["2"]

    made = nearest_answer(asked, train, nearest)
    assert made.answers == [frozenset("a"), frozenset("b"), frozenset("c"), frozenset("ab"), frozenset("c")]
    assert made.fallback == 2
    assert seen == ["9", "6"]


@pytest.mark.real_data
def test_majority_on_the_noise_questions_of_the_test_fold(tmp_path: Path, data_root: Path, ptbxl_root: Path) -> None:
    prepare_ecg_qa(data_root / "ecg-qa", ptbxl_root, tmp_path / "out")
    questions = Questions.open(tmp_path / "out")
    asked, train = (Asked.from_table(questions.split(name)) for name in ("test", "train"))
    made = qa_table(asked, [majority(asked, train), random_option(asked, np.random.default_rng(0))], draws=200)
    block = named(made.blocks, "single-verify noise", "block")
    cell = block.rows["majority of the template"]["exact"]
    print(f"majority, single-verify noise: {100 * cell.value:.1f} % {cell.interval} of {block.n} questions, {block.patients} patients")
    assert block.n == 239
    assert 100 * cell.value == pytest.approx(70.3, abs=0.05)
