"""Agreement with given labels: hand-worked tables, kappa by its definition, and the labelled samples of the open data."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from regen.data_prep.chexpert import OBSERVATIONS
from regen.errors import DataError
from regen.eval.labeler_agreement import ALL, Agreement, agreement, agreement_of, f1, kappa, lines, read_labelled


def row_of(rows: list[Agreement], name: str) -> Agreement:
    return next(row for row in rows if row.observation == name)


def test_one_observation_worked_by_hand() -> None:
    # ours + + - ? .   theirs + - - + .   both present 1, ours present 2, theirs present 2; both denied 1, ours denied 1, theirs denied 2
    ours = [{"Edema": 1.0}, {"Edema": 1.0}, {"Edema": 0.0}, {"Edema": 0.5}, {}]
    theirs = [{"Edema": 1.0}, {"Edema": 0.0}, {"Edema": 0.0}, {"Edema": 1.0}, {}]
    row = row_of(agreement_of(ours, theirs), "Edema")
    assert (row.n, row.positive, row.negative, row.uncertain) == (5, 2, 2, 0)
    assert row.f1_positive == pytest.approx(2 * 1 / (2 + 2))
    assert row.f1_negative == pytest.approx(2 * 1 / (1 + 2))
    assert row.f1_uncertain == 0.0
    # agree 3/5; chance: present 2/5*2/5, denied 1/5*2/5, uncertain 1/5*0, not mentioned 1/5*1/5 = 7/25
    assert row.kappa == pytest.approx((3 / 5 - 7 / 25) / (1 - 7 / 25))


def test_the_last_row_holds_all_pairs() -> None:
    rows = agreement_of([{"Edema": 1.0}, {"Fracture": 0.0}], [{"Edema": 1.0}, {"Fracture": 1.0}])
    assert [row.observation for row in rows] == [*OBSERVATIONS, ALL]
    assert rows[-1].n == 2 * 14
    assert rows[-1].f1_positive == pytest.approx(2 * 1 / (1 + 2))
    assert rows[-1].f1_negative == 0.0


def test_what_nobody_states_is_undefined_and_never_zero() -> None:
    row = row_of(agreement_of([{}], [{}]), "Fracture")
    assert all(math.isnan(value) for value in (row.f1_positive, row.f1_negative, row.f1_uncertain, row.kappa))
    assert all(row.n == 0 and math.isnan(row.kappa) for row in agreement([], []))


def test_kappa_against_the_pairs_counted_one_by_one(rng: np.random.Generator) -> None:
    ours, theirs = rng.integers(0, 4, (2, 40))
    seen = np.mean([a == b for a, b in zip(ours, theirs, strict=True)])
    chance = np.mean([a == b for a in ours for b in theirs])
    assert kappa(ours, theirs) == pytest.approx((seen - chance) / (1 - chance))
    assert kappa(ours, ours) == pytest.approx(1.0)


def test_f1_of_masks() -> None:
    assert f1(np.array([True, True, False]), np.array([True, False, False])) == pytest.approx(2 / 3)


def test_reports_are_labelled_on_the_way() -> None:
    rows = agreement(["No edema.", "Left effusion."], [{"Edema": 0.0, "No Finding": 1.0}, {"Pleural Effusion": 0.0}])
    assert row_of(rows, "Edema").f1_negative == 1.0
    assert row_of(rows, "Pleural Effusion").f1_positive == 0.0


def test_a_disagreeing_label_lowers_kappa() -> None:
    truth = [{"Edema": 1.0}, {"Edema": 0.0}, {"Edema": 1.0}]
    assert row_of(agreement(["Edema.", "No edema.", "No edema."], truth), "Edema").kappa < 1


@pytest.mark.parametrize(
    ("truth", "said"),
    [([], "1 reports and 0 rows"), ([{"Oedema": 1.0}], "did you mean 'Edema'"), ([{"Edema": -1.0}], "write -1 as 0.5")],
)
def test_bad_truth_is_refused(truth: list[dict[str, float]], said: str) -> None:
    with pytest.raises(DataError, match=said):
        agreement(["x"], truth)
    with pytest.raises(DataError):
        agreement_of([{}], truth)


def write(path: Path, cell: str, text: str = "Reports") -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([[text, *OBSERVATIONS], ["Edema,\nsaid twice", cell, "", "0.0", "-1.0", *[""] * 10]])
    return path


def test_a_table_is_read_with_its_blanks_and_minus_ones(tmp_path: Path) -> None:
    reports, truth = read_labelled(write(tmp_path / "a.csv", "1.0"))
    assert reports == ["Edema,\nsaid twice"]
    assert truth == [{"No Finding": 1.0, "Cardiomegaly": 0.0, "Lung Opacity": 0.5}]


@pytest.mark.parametrize(("cell", "text", "said"), [("2", "Reports", "got 2"), ("yes", "Reports", "got 'yes'"), ("1", "words", "rename it")])
def test_a_broken_table_is_refused(tmp_path: Path, cell: str, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_labelled(write(tmp_path / "a.csv", cell, text))


def test_a_table_without_the_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Reports\nx\n")
    with pytest.raises(DataError, match="expected the columns"):
        read_labelled(tmp_path / "a.csv")


def test_the_table_as_text_shows_what_is_undefined() -> None:
    shown = lines(agreement(["No edema."], [{"Edema": 0.0}]))
    assert len(shown) == 1 + 14 + 1
    assert next(line for line in shown if line.startswith("Edema")).split()[1:] == ["1", "0", "1", "0", "-", "1.000", "-", "-"]


@pytest.mark.real_data
def test_the_labelled_samples_agree(data_root: Path) -> None:
    """Four reports: a smoke test, not an estimate; they were at hand when the rules were written."""
    path = data_root / "vocab" / "chexpert_labeler" / "labeled_reports.csv"
    if not path.exists():
        pytest.skip(f"no labelled samples at {path}")
    reports, truth = read_labelled(path)
    assert len(reports) == 4
    row = agreement(reports, truth)[-1]
    assert (row.positive, row.negative, row.uncertain) == (6, 5, 2)
    assert row.f1_positive >= 0.9
    assert row.f1_negative >= 0.9
    assert row.kappa >= 0.9
