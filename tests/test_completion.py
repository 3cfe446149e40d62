"""What is added to a draft: forgotten findings, what is measured beyond doubt, a rhythm; and what becomes of a normal ECG beside them."""

from __future__ import annotations

import pytest

from regen.data_prep.statements import BY_CODE, CODES
from regen.generators.guards import guard
from regen.generators.judging import Basis
from regen.study import Finding, Hit

LONG_PR = {"pr": 284.0, "rr_cv": 0.02, "p_amplitude": 0.12}


def basis(
    positive: dict[str, float], others: dict[str, float] | None = None, measured: dict[str, float] | None = None, hits: tuple[Hit, ...] = (),
    language: str = "en",
) -> Basis:  # fmt: skip
    """Findings with threshold 0.4: `positive` as said, `others` with a probability of their own, the rest at 0.01."""
    chances = dict.fromkeys(CODES, 0.01) | (others or {}) | positive
    findings = {code: Finding(code, BY_CODE[code].label, p, 0.4, code in positive) for code, p in chances.items()}
    return Basis(findings, frozenset(positive), measured or {}, hits, language=language)


@pytest.mark.parametrize(
    ("axis", "sentence"),
    [
        (-30.0, "Left axis deviation."), (-44.0, "Left axis deviation."), (-52.0, "Marked left axis deviation."), (115.0, "Right axis deviation."),
        (140.0, "Marked right axis deviation."), (-29.0, None), (-5.0, None), (95.0, None), (-120.0, None),
    ],
)  # fmt: skip
def test_a_deviating_axis_is_stated_by_its_measurement(axis: float, sentence: str | None) -> None:
    kept, _, flags = guard("Sinus rhythm.", basis({"SR": 0.9}, measured={"axis": axis}))
    assert [s.text for s in kept[1:]] == ([sentence] if sentence else [])
    if sentence:
        assert (kept[1].status, kept[1].measured) == ("supported", f"frontal axis {axis:.0f} degrees")
        assert flags == [f"measured:{kept[1].finding}"]


def test_a_stated_axis_is_enough_and_a_paced_rhythm_has_none() -> None:
    said = guard("Sinus rhythm. Left axis deviation.", basis({"SR": 0.9}, measured={"axis": -60.0}))[0]
    assert [s.finding for s in said] == ["SR", "LAD"]
    assert [s.finding for s in guard("Paced rhythm.", basis({"PACE": 0.9}, measured={"axis": -60.0}))[0]] == ["PACE"]


def test_left_axis_deviation_where_the_axis_is_only_leftward_is_called_that() -> None:
    case = Hit("l", 0.9, "Left axis deviation.")
    kept, dropped, flags = guard("Sinus rhythm. Left axis deviation.", basis({"SR": 0.9}, measured={"axis": -8.0}, hits=(case,)))
    assert [s.text for s in kept] == ["Sinus rhythm.", "Leftward axis."]
    assert [s.reason for s in dropped] == ["frontal axis -8 degrees"]
    assert flags == ["measured:AXL", "sentences_dropped"]


def test_a_long_pr_interval_is_stated_as_possible_block() -> None:
    kept, _, flags = guard("Sinus rhythm. Abnormal QRS.", basis({"SR": 0.9, "ABQRS": 0.9}, {"1AVB": 0.05}, LONG_PR))
    assert [s.text for s in kept] == ["Sinus rhythm.", "Possible first-degree AV block.", "Abnormal QRS."]
    assert (kept[1].status, kept[1].probability, kept[1].measured) == ("uncertain", 0.05, "PR interval 284 ms")
    assert flags == ["measured:1AVB"]


@pytest.mark.parametrize(
    ("changes", "positive"),
    [
        ({"pr": 245.0}, {"SR": 0.9}),
        ({"rr_cv": 0.2}, {"SR": 0.9}),
        ({"p_amplitude": 0.02}, {"SR": 0.9}),
        ({}, {"AFIB": 0.9}),
        ({}, {"PACE": 0.9}),
        ({}, {"SR": 0.9, "2AVB": 0.9}),
    ],
)
def test_no_block_is_added_on_an_unreliable_pr_interval(changes: dict[str, float], positive: dict[str, float]) -> None:
    """Not long enough for the ruler's error, irregular, P waves hardly seen, a rhythm without them, or another block."""
    kept, _, flags = guard("", basis(positive, measured=LONG_PR | changes))
    assert "1AVB" not in [s.finding for s in kept]
    assert "measured:1AVB" not in flags


@pytest.mark.parametrize(("probability", "text"), [(0.3, "Possible atrial fibrillation."), (0.2, "Possible atrial fibrillation."), (0.19, None)])
def test_without_a_rhythm_the_likeliest_is_stated_as_possible_and_flagged(probability: float, text: str | None) -> None:
    kept, _, flags = guard("Abnormal QRS.", basis({"ABQRS": 0.9}, {"AFIB": probability, "SR": 0.1}))
    assert [s.text for s in kept] == ([text] if text else []) + ["Abnormal QRS."]
    assert flags == ["no_rhythm"]
    if text:
        assert (kept[0].status, kept[0].probability) == ("uncertain", probability)


def test_no_rhythm_is_guessed_that_a_measurement_or_a_finding_speaks_against() -> None:
    kept, _, flags = guard("", basis({"ABQRS": 0.9}, {"SR": 0.35, "AFIB": 0.3}, {"heart_rate": 167.0}))
    assert [s.text for s in kept] == ["Possible atrial fibrillation.", "Probable abnormal QRS."]
    assert "no_rhythm" in flags
    kept, _, _ = guard("", basis({"NORM": 0.9}, {"AFIB": 0.3}))
    assert [s.finding for s in kept] == ["NORM"]


def test_a_stated_rhythm_is_not_flagged() -> None:
    for code in ("SR", "SARRH", "PACE", "AFLT"):
        assert "no_rhythm" not in guard("", basis({code: 0.9}))[2]


@pytest.mark.parametrize(
    ("text", "positive", "last"),
    [
        ("Sinus rhythm. Normal ECG.", ("SR",), "Normal ECG."),
        ("Sinus rhythm. Normal axis. Normal ECG.", ("SR",), "Normal ECG."),
        ("Sinus bradycardia. Normal ECG.", ("SBRAD",), "Otherwise normal ECG."),
        ("Sinus rhythm. Non-specific ST changes. Normal ECG.", ("SR", "NST_"), "Otherwise normal ECG."),
        ("Sinus rhythm. Non-specific ST changes. Possibly normal ECG.", ("SR", "NST_"), "Possibly normal ECG."),
    ],
)
def test_a_normal_ecg_beside_something_else_is_otherwise_normal(text: str, positive: tuple[str, ...], last: str) -> None:
    case = Hit("a", 0.9, "Normal axis.", dict.fromkeys(positive, 1.0))
    kept, _, _ = guard(text, basis(dict.fromkeys((*positive, "NORM"), 0.9), measured={"axis": 40.0}, hits=(case,)))
    assert kept[-1].text == last
    assert kept[-1].finding == "NORM"


def test_a_measured_axis_makes_normal_otherwise_normal_or_rules_it_out() -> None:
    kept, _, _ = guard("Sinus rhythm. Normal ECG.", basis({"SR": 0.9, "NORM": 0.9}, measured={"axis": -33.0}))
    assert [s.text for s in kept] == ["Sinus rhythm.", "Left axis deviation.", "Otherwise normal ECG."]
    kept, dropped, _ = guard("Sinus rhythm. Normal ECG.", basis({"SR": 0.9}, {"NORM": 0.9}, {"axis": -44.0}))
    assert [s.text for s in kept] == ["Sinus rhythm.", "Left axis deviation."]
    assert [s.reason for s in dropped] == ["frontal axis -44 degrees"]


def test_in_another_language_the_cases_words_are_taken_or_none() -> None:
    german = Hit("g", 0.6, "Sinusrhythmus. Überdrehter Linkstyp.", {"SR": 1.0}, language="de")
    kept, _, flags = guard("Sinusrhythmus.", basis({"SR": 0.9}, measured={"axis": -60.0}, hits=(german,), language="de"))
    assert ([s.text for s in kept], flags) == (["Sinusrhythmus.", "Überdrehter Linkstyp."], ["measured:ALAD"])
    kept, _, flags = guard("Sinusrhythmus.", basis({"SR": 0.9}, measured={"axis": -60.0}, language="de"))
    assert ([s.text for s in kept], flags) == (["Sinusrhythmus."], [])
