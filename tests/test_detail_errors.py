"""Side, grade, comparison and number errors, each on pairs whose count is plain."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from regen.data_prep.comparison import speaks_of_change
from regen.errors import DataError
from regen.eval.averages import mean, share
from regen.eval.detail_errors import GRADED, MIRRORED, TOLERANCE, DetailErrors, Quantity, detail_errors, quantities

KINDS = ("laterality", "severity", "comparison", "number")


def counts(draft: str, reference: str, prior: bool = False) -> dict[str, float]:
    errors = detail_errors([draft], [reference], [prior])
    return {kind: getattr(errors, kind)[0] for kind in KINDS if getattr(errors, kind)[0]}


@pytest.mark.parametrize(
    ("draft", "reference", "expected"),
    [
        ("Left pleural effusion.", "Right pleural effusion.", 1),
        ("Left pleural effusion.", "Left pleural effusion.", 0),
        ("Left pleural effusion.", "Bilateral pleural effusions.", 0),
        ("Left pleural effusion.", "Pleural effusion.", 0),
        ("No left pleural effusion.", "Right pleural effusion.", 0),
        ("Left pneumothorax.", "Right pleural effusion.", 0),
        ("Left effusion. Right pneumothorax.", "Right effusion. Left pneumothorax.", 2),
        ("Possible opacity in the left base.", "Opacity in the right base.", 1),
        ("Complete right bundle branch block.", "Left bundle branch block.", 1),
        ("Left axis deviation.", "Right axis deviation.", 1),
        ("No left axis deviation.", "Right axis deviation.", 0),
        ("Right ventricular hypertrophy.", "Left ventricular hypertrophy.", 1),
        ("Left atrial enlargement.", "Left atrial enlargement.", 0),
    ],
)
def test_laterality(draft: str, reference: str, expected: int) -> None:
    assert counts(draft, reference).get("laterality", 0) == expected


@pytest.mark.parametrize(
    ("draft", "reference", "expected"),
    [
        ("Small left effusion.", "Large left effusion.", 1),
        ("Mild cardiomegaly.", "The heart is mildly enlarged.", 0),
        ("Mild cardiomegaly.", "Cardiomegaly.", 0),
        ("Trace effusion.", "Small effusion.", 0),
        ("Small left effusion. Large right effusion.", "Large left effusion. Small right effusion.", 1),
        ("Small left effusion. Large right effusion.", "Small left effusion. Small right effusion.", 1),
        ("Severe edema. Mild cardiomegaly.", "Mild edema. Severe cardiomegaly.", 2),
        ("No large effusion.", "Small effusion.", 0),
        ("First degree AV block.", "Second degree AV block.", 1),
        ("Incomplete right bundle branch block.", "Complete right bundle branch block.", 1),
        ("Complete right bundle branch block.", "Complete right bundle branch block.", 0),
    ],
)
def test_severity(draft: str, reference: str, expected: int) -> None:
    assert counts(draft, reference).get("severity", 0) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Unchanged cardiomegaly.", True),
        ("Compared to the prior study, the effusion is smaller.", True),
        ("New left opacity.", True),
        ("The effusion has increased.", True),
        ("Increased left effusion.", True),
        ("Stable mild cardiomegaly.", True),
        ("Interval placement of a chest tube.", True),
        ("Since the previous tracing, T waves are flatter.", True),
        ("Small left effusion.", False),
        ("PR interval 160 ms.", False),
        ("Increased interstitial markings.", False),
        ("Poor R wave progression.", False),
        ("No prior studies available for comparison.", False),
        ("Patient with previous CABG.", False),
    ],
)
def test_words_of_change(sentence: str, expected: bool) -> None:
    assert speaks_of_change(sentence) is expected


def test_a_comparison_is_an_error_only_where_nothing_allows_it() -> None:
    draft = "Unchanged cardiomegaly. New left opacity. No edema."
    assert counts(draft, "Cardiomegaly.") == {"comparison": 2}
    assert counts(draft, "Cardiomegaly, stable since the prior study.") == {}
    assert counts(draft, "Cardiomegaly.", prior=True) == {}
    assert counts(draft, "Cardiomegaly. No prior study for comparison.") == {"comparison": 2}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Heart rate 61 bpm, PR 160 ms, QRS 84, QTc: 410 ms, axis -41 degrees.",
            [("heart_rate", 61), ("pr", 160), ("qrs", 84), ("qtc", 410), ("axis", -41)],
        ),
        ("The QRS is wide at 140 ms.", [("qrs", 140)]),
        ("PR interval of 0.24 seconds.", [("pr", 240)]),
        ("QRS-Dauer 0,12 s, Frequenz 72/min.", [("qrs", 120), ("heart_rate", 72)]),
        ("Rate 80-100 bpm.", [("heart_rate", 80), ("heart_rate", 100)]),
        ("Seen in V1-V3 on 12 May 2019, age 71.", []),
        ("QRS-Achse 4.46 unbestaetigter bericht", []),
    ],
)
def test_quantities(text: str, expected: list[tuple[str, float]]) -> None:
    assert [(q.name, q.value) for q in quantities(text)] == [(name, pytest.approx(value)) for name, value in expected]


def test_sizes_belong_to_the_observation_beside_them() -> None:
    text = "A 2 x 3.5 cm nodule in the right upper lobe, and the endotracheal tube ends 40 mm above the carina."
    assert quantities(text) == [Quantity("size", 20, "Lung Lesion"), Quantity("size", 35, "Lung Lesion"), Quantity("size", 40, "Support Devices")]
    assert quantities("It measures 4 mm.") == [Quantity("size", 4)]


@pytest.mark.parametrize(
    ("draft", "reference", "expected"),
    [
        ("Rate 70 bpm.", "Rate 75 bpm.", {}),
        ("Rate 70 bpm.", "Rate 76 bpm.", {"number": 1}),
        ("QRS 120 ms.", "QRS 140 ms.", {"number": 1}),
        ("QRS 120 ms.", "PR 200 ms.", {}),
        ("QRS 120 ms.", "Normal ECG.", {}),
        ("Normal ECG.", "QRS 120 ms.", {}),
        ("Axis -40 degrees.", "Axis 40 degrees.", {"number": 1}),
        ("1.2 cm nodule.", "12 mm nodule.", {}),
        ("1.5 cm nodule.", "12 mm nodule.", {"number": 1}),
        ("15 mm nodule.", "Chest tube 12 mm from the apex.", {}),
        ("PR 0.20 s, QTc 500 ms.", "PR 200 ms, QTc 400 ms.", {"number": 1}),
    ],
)
def test_numbers(draft: str, reference: str, expected: dict[str, float]) -> None:
    assert counts(draft, reference) == expected


def test_the_tolerance_can_be_set() -> None:
    pair = ["Rate 70 bpm."], ["Rate 76 bpm."]
    assert detail_errors(*pair).number[0] == 1
    assert detail_errors(*pair, tolerance=TOLERANCE | {"heart_rate": 6.0}).number[0] == 0


def test_what_there_was_to_get_wrong_is_counted_too() -> None:
    errors = detail_errors(["Small left effusion. Moderate edema. Rate 70."], ["Large left effusion. Moderate edema."])
    assert [getattr(errors, name)[0] for name in ("sides", "grades", "sentences", "numbers")] == [1, 2, 3, 1]
    assert errors.severity[0] == 1


def test_edges_of_missing_text() -> None:
    errors = detail_errors(["", "Left effusion."], ["Left effusion.", " "])
    assert all(getattr(errors, name)[0] == 0 for name in DetailErrors.__slots__)
    assert all(np.isnan(getattr(errors, name)[1]) for name in DetailErrors.__slots__)
    assert all(getattr(detail_errors([], []), name).shape == (0,) for name in DetailErrors.__slots__)


def test_a_bootstrap_reweighs_the_rows() -> None:
    errors = detail_errors(["Left effusion.", "Left effusion.", "x"], ["Right effusion.", "Left effusion.", ""])
    weights = np.array([[1.0, 1, 1], [2, 0, 5]])
    assert mean(errors.laterality, weights) == pytest.approx([0.5, 1.0])
    kept = errors.take(np.array([0, 1]))
    assert share(kept.laterality, kept.sides) == pytest.approx([0.5])


def test_pairs_that_come_twice_are_the_same_unless_their_priors_differ() -> None:
    errors = detail_errors(["Stable."] * 3, ["Clear."] * 3, [False, True, False])
    assert errors.comparison.tolist() == [1, 0, 1]


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match="2 drafts, 1 references"):
        detail_errors(["a", "b"], ["a"])
    with pytest.raises(DataError, match="0 priors"):
        detail_errors(["a"], ["a"], [])
    with pytest.raises(DataError, match="got none for qrs"):
        detail_errors(["a"], ["a"], tolerance={name: 1.0 for name in TOLERANCE if name != "qrs"})
    with pytest.raises(DataError, match="heart_rate"):
        detail_errors(["a"], ["a"], tolerance=TOLERANCE | {"heart_rate": float("nan")})


def test_the_codes_are_the_catalogues() -> None:
    from regen.data_prep.statements import BY_CODE

    assert {code for pair in MIRRORED.values() for side in pair for code in side} <= set(BY_CODE)
    assert {code for family in GRADED.values() for code in family} <= set(BY_CODE)


@pytest.mark.real_data
def test_a_report_held_against_itself_has_no_error(data_root: Path) -> None:
    path = data_root / "ptb-xl" / "ptbxl_reports_only.csv"
    if not path.exists():
        pytest.skip(f"no PTB-XL reports at {path}")
    with path.open(encoding="utf-8") as file:
        texts = [row["report"] for row, _ in zip(csv.DictReader(file), range(500), strict=False) if row["report"].strip()]
    errors = detail_errors(texts, texts)
    assert errors.sides.sum() > 100
    for kind in KINDS:
        assert getattr(errors, kind).sum() == 0, kind
