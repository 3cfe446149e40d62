"""Three readers of one vocabulary of comparison: what they share, and where they differ on purpose."""

from __future__ import annotations

import pytest

from regen.data_prep.comparison import chest_compares, ecg_compares, says_gone, says_new, speaks_of_change


@pytest.mark.parametrize(
    ("sentence", "ecg", "chest", "counted"),
    [
        ("Unchanged cardiomegaly.", True, True, True),
        ("No significant change.", True, True, True),
        ("No changes.", True, True, True),
        ("Compared with the prior study the rate is lower.", True, True, True),
        ("The opacity is no longer seen.", True, True, True),
        ("Persistent left effusion.", True, True, True),
        ("Evolving infarct.", True, False, True),
        ("ST elevation as before.", True, False, True),
        ("Unverändert.", True, False, True),
        ("Re-demonstrated opacity.", False, True, True),
        ("The lungs, when compared, are alike.", False, True, True),
        ("Stable cardiomegaly.", False, True, True),
        ("Interval placement of a chest tube.", False, True, True),
        ("The effusion has increased.", False, True, True),
        ("Increasing left effusion.", False, True, True),
        ("The effusion is larger than on the frontal film.", False, True, True),
        ("The heart remains enlarged.", False, True, False),
        ("The left effusion is smaller.", False, True, False),
        ("A tube is still in place.", False, True, False),
        ("PR interval 160 ms.", False, True, False),
        ("Increased left effusion.", False, False, True),
        ("The edema has cleared.", False, False, True),
        ("Increased interstitial markings.", False, False, False),
        ("No prior studies available for comparison.", True, True, False),
        ("Patient with previous CABG.", True, True, False),
        ("Small left effusion.", False, False, False),
        ("Renewed attempt at inspiration.", False, False, False),
    ],
)
def test_who_reads_what_as_a_comparison(sentence: str, ecg: bool, chest: bool, counted: bool) -> None:
    assert (ecg_compares(sentence), chest_compares(sentence), speaks_of_change(sentence)) == (ecg, chest, counted)


def test_what_is_counted_of_a_chest_draft_is_more_than_the_words_of_an_ecg_report() -> None:
    """Every comparison of an ECG report counts as an error, unless it says that there is nothing to compare with."""
    for sentence in ("Compared to 2019.", "New T wave inversion.", "Oförändrat.", "AF has resolved.", "Again noted."):
        assert ecg_compares(sentence)
        assert speaks_of_change(sentence)


@pytest.mark.parametrize(
    ("said", "new", "gone"),
    [("LBBB is new since the prior ECG.", True, False), ("LVH is no longer seen.", False, True), ("Edema has resolved.", False, True),
     ("Unchanged since the prior ECG.", False, False), ("Renewed ischaemia, known before.", False, False)],
)  # fmt: skip
def test_what_a_comparison_says(said: str, new: bool, gone: bool) -> None:
    assert (says_new(said), says_gone(said)) == (new, gone)
