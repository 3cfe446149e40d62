"""Numbers, sides, sizes and grades in chest X-ray drafts: the witnesses' majority, or nothing. Synthetic."""

from __future__ import annotations

import pytest
from chest_drafts import EFFUSION, LEFT, NORMAL, RIGHT, chances, draft, dropped

from regen.generators.chest_claims import without_numbers


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Heart size is normal, cardiothoracic ratio 0.46.", "Heart size is normal."),
        ("The heart is mildly enlarged, with a cardiothoracic ratio of 0.56.", "The heart is mildly enlarged."),
        ("Low lung volumes with 7 posterior ribs above the diaphragm.", "Low lung volumes."),
        ("A 18 mm nodule projects over the lingula.", "A nodule projects over the lingula."),
        ("An 8 mm nodule in the left lung.", "A nodule in the left lung."),
        ("A 2.5 x 3.0 cm opacity in the left lung.", "An opacity in the left lung."),
        ("Small left pneumothorax, the pleural line 12 mm from the apex.", "Small left pneumothorax."),
        ("Fracture of the left lateral 5th rib.", "Fracture of the left lateral rib."),
        ("The endotracheal tube ends 4.5 cm above the carina.", "The endotracheal tube is in place."),
        ("Right jugular catheter with its tip in the superior vena cava.", "Right jugular catheter is in place."),
        ("The nodule measures 12 mm.", None),
        ("Compression deformity of T12.", None),
    ],
)
def test_numbers_and_tips_are_cut_or_the_sentence_goes(said: str, kept: str | None) -> None:
    assert without_numbers(said) == kept


def test_no_number_of_another_patient_is_kept() -> None:
    told = LEFT.replace("Heart size is normal.", "Heart size is normal, cardiothoracic ratio 0.46.").replace(
        "No pneumothorax.", "No pneumothorax. The aortic arch measures 31 mm."
    )
    out = draft([told] * 3, EFFUSION)
    assert "Heart size is normal. Mediastinal" in out.report
    assert not any(c.isdigit() for c in out.report)
    assert "numbers_cut" in out.flags
    assert "number" in str(dropped(out, "31 mm").reason)


def test_a_number_that_cannot_be_cut_gives_way_to_a_witness_without() -> None:
    first = NORMAL.replace("No focal consolidation.", "No focal consolidation. The nodule in the left upper lobe measures 12 mm.")
    second = NORMAL.replace("No focal consolidation.", "No focal consolidation. Round nodule in the left upper lobe.")
    out = draft([first, second, second], chances(Lung_Lesion=0.9))
    assert "number" in str(dropped(out, "12 mm").reason)
    assert "Round nodule in the left upper lobe." in out.sections["findings"]
    assert not any(c.isdigit() for c in out.report)


def test_the_side_that_most_witnesses_have_replaces_the_nearest_ones() -> None:
    out = draft([LEFT, RIGHT, RIGHT, RIGHT], EFFUSION)
    assert "Small right pleural effusion." in out.sections["findings"]
    assert "left" not in out.report
    assert "'left' is stated by" in str(dropped(out, "left").reason)
    assert out.sections["impression"] == "Small right pleural effusion."
    (finding,) = [s for s in out.sentences[:-1] if s.finding == "Pleural Effusion"]
    assert [e.study_id for e in finding.evidence] == ["case1", "case2", "case3"]


def test_a_side_without_a_majority_is_left_open() -> None:
    out = draft([LEFT, RIGHT, LEFT, RIGHT], EFFUSION, step=0.0)
    assert out.sections["impression"] == "Small pleural effusion."
    assert "left" not in out.report
    assert "right" not in out.report
    weak = draft([LEFT, RIGHT, LEFT, RIGHT, LEFT], EFFUSION, step=0.0)
    assert weak.sections["impression"] == "Small left pleural effusion."
    assert weak.sentences[-1].status == "uncertain"


def test_one_side_of_two_is_not_enough() -> None:
    both = LEFT.replace("Small left pleural effusion", "Small bilateral pleural effusions")
    out = draft([LEFT, both, both, both], EFFUSION)
    assert "Small bilateral pleural effusions." in out.sections["findings"]
    assert "right too" in str(dropped(out, "left").reason)


def test_the_impression_gives_the_sides_of_the_findings() -> None:
    def told(lobe: str) -> str:
        return NORMAL.replace("No focal consolidation.", f"Consolidation in the {lobe}.").replace(
            "No acute cardiopulmonary process.", f"{lobe.capitalize()} consolidation, possibly pneumonia."
        )

    both = told("right upper lobe").replace("Consolidation in the right upper lobe.", "Consolidation in the right upper lobe. Lingula consolidation.")
    out = draft([told("lingula"), both, both, told("right upper lobe")], chances(Consolidation=0.9, Pneumonia=0.8, Lung_Opacity=0.9))
    assert "Bilateral consolidation." in out.sections["findings"]
    assert out.sections["impression"] == "Bilateral consolidation. Possible pneumonia."


def test_a_size_is_said_as_of_a_pleural_finding() -> None:
    told = NORMAL.replace("No pleural effusion or pneumothorax.", "No pleural effusion. Large left pneumothorax, 41 mm from the apex.")
    out = draft([told] * 3, chances(Pneumothorax=0.9))
    assert out.sections["impression"] == "Large left pneumothorax."
    assert "Large left pneumothorax." in out.sections["findings"]


def test_a_grade_that_few_share_is_not_kept() -> None:
    large = LEFT.replace("Small", "Large")
    out = draft([large, LEFT, LEFT, LEFT], EFFUSION)
    assert "Large" not in out.report
    assert "Small left pleural effusion." in out.report
    assert "'severe'" in str(dropped(out, "Large").reason)


def test_details_of_another_patient_need_a_majority() -> None:
    told = LEFT.replace("Small left", "Loculated small left")
    out = draft([told, LEFT, LEFT, LEFT], EFFUSION)
    assert "oculated" not in out.report
    assert dropped(out, "oculated").status == "contradicted"
