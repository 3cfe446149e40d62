"""The wording that the nearest reports agree to."""

from __future__ import annotations

from regen.generators.consensus import Witness, agreed

USUAL = "Sinusrhythmus. Linkstyp. Normales EKG."
RARE = "sinusrhythmus lagetyp normal normales ekg"


def test_the_usual_wording_wins_over_the_draft() -> None:
    witnesses = [Witness(USUAL, 0.9, 0.9), Witness(USUAL, 0.8, 0.9), Witness(RARE, 0.85, 0.9)]
    assert agreed("Normal ECG.", 0.9, witnesses) == USUAL


def test_what_lies_far_or_disagrees_weighs_less() -> None:
    near = [Witness(RARE, 0.95, 0.9), Witness(USUAL, 0.1, 0.9), Witness(USUAL, 0.1, 0.9)]
    assert agreed("", 0.0, near) == RARE
    agreeing = [Witness(RARE, 0.9, 0.95), Witness(USUAL, 0.9, 0.1), Witness(USUAL, 0.9, 0.1)]
    assert agreed("", 0.0, agreeing) == RARE


def test_a_draft_that_agrees_with_the_plan_stands_among_equals() -> None:
    witnesses = [Witness("a b c d", 0.9, 0.5), Witness("a b e f", 0.9, 0.5)]
    assert agreed("a b c e", 0.9, witnesses) == "a b c e"
    assert agreed("a b c e", 0.0, witnesses) != "a b c e"


def test_without_a_witness_the_draft_stays() -> None:
    assert agreed("Normal ECG.", 0.1, []) == "Normal ECG."
    assert agreed("Normal ECG.", 0.1, [Witness(USUAL, 0.9, 0.0), Witness(RARE, 0.9, -1.0)]) == "Normal ECG."
