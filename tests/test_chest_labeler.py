"""The chest X-ray labeler on sentences as radiologists write them, all hand-written for this file."""

from __future__ import annotations

import re

import pytest

from regen.data_prep.chest_labeler import Mention, label_report, mentions
from regen.data_prep.chexpert import NIH_TO_CHEXPERT, OBSERVATIONS, PARENTS, PATHOLOGIES, ancestors, with_ancestors
from regen.data_prep.sentences import sentence_spans
from regen.errors import DataError

SHORT = {
    "ecm": "Enlarged Cardiomediastinum", "card": "Cardiomegaly", "opac": "Lung Opacity", "les": "Lung Lesion", "edema": "Edema",
    "cons": "Consolidation", "pna": "Pneumonia", "atel": "Atelectasis", "ptx": "Pneumothorax", "eff": "Pleural Effusion",
    "other": "Pleural Other", "frac": "Fracture", "dev": "Support Devices",
}  # fmt: skip
STATE = {"+": 1.0, "?": 0.5, "-": 0.0}

SENTENCES = [
    # plain statements
    ("There is moderate cardiomegaly.", "+card"),
    ("The heart is mildly enlarged.", "+card"),
    ("Enlargement of the cardiac silhouette is unchanged.", "+card"),
    ("The mediastinum is widened.", "+ecm"),
    ("Patchy opacities in both lower lobes.", "+opac"),
    ("Increased interstitial markings throughout.", "+opac"),
    ("A 9 mm nodule projects over the right upper lobe.", "+les"),
    ("Pulmonary vascular congestion with interstitial edema.", "+edema"),
    ("Dense consolidation of the left lower lobe.", "+cons"),
    ("Findings consistent with pneumonia.", "+pna"),
    ("Bibasilar atelectatic changes.", "+atel"),
    ("Left hydropneumothorax.", "+ptx +eff"),
    ("Calcified pleural plaques bilaterally.", "+other"),
    ("Healing fractures of the left seventh and eighth ribs.", "+frac"),
    ("Endotracheal tube terminates 4 cm above the carina.", "+dev"),
    ("A right PICC line ends in the superior vena cava.", "+dev"),
    # normal statements
    ("The heart size is within normal limits.", "-card"),
    ("Heart size is normal.", "-card"),
    ("The cardiomediastinal silhouette is unremarkable.", "-ecm"),
    ("The cardiac, mediastinal and hilar contours are normal.", "-card -ecm"),
    ("The heart is not enlarged.", "-card"),
    ("Costophrenic angles are sharp.", "-eff"),
    ("The lungs are clear.", ""),
    ("Normal lung markings extend to the chest wall.", ""),
    # negation before
    ("No pneumothorax.", "-ptx"),
    ("Lungs are clear without focal consolidation.", "-cons"),
    ("No focal consolidation, pleural effusion, or pneumothorax is seen.", "-cons -eff -ptx"),
    ("No edema, large effusion, or pneumothorax.", "-edema -eff -ptx"),
    ("There is no evidence of pneumonia or heart failure.", "-pna -edema"),
    ("The lungs are free of consolidation and effusion.", "-cons -eff"),
    ("Negative for acute fracture.", "-frac"),
    ("Neither consolidation nor effusion.", "-cons -eff"),
    ("No opacity suspicious for pneumonia.", "-opac -pna"),
    ("No definite rib fractures.", "-frac"),
    ("Interval resolution of the pulmonary edema.", "-edema"),
    ("No pleural or pericardial effusion.", "-eff"),
    # negation after
    ("Pneumothorax is not seen.", "-ptx"),
    ("Pleural effusion or pneumothorax is not identified.", "-eff -ptx"),
    ("Effusion and pneumothorax are not present.", "-eff -ptx"),
    ("There is an opacity and effusion is not seen.", "+opac -eff"),
    ("The previously seen right pneumothorax has resolved.", "-ptx"),
    ("The pleural effusion is no longer visible.", "-eff"),
    ("The chest tube has been removed.", "-dev"),
    # where a negation ends
    ("No pneumothorax but a small left effusion.", "-ptx +eff"),
    ("No effusion; the heart is enlarged.", "-eff +card"),
    ("No pneumothorax is seen, moderate left effusion is present.", "-ptx +eff"),
    ("No acute process except mild atelectasis.", "+atel"),
    ("Cardiomegaly without overt edema.", "+card -edema"),
    ("No consolidation, however there is vascular congestion.", "-cons +edema"),
    ("No pneumothorax, stable cardiomegaly.", "-ptx +card"),
    ("No effusion and the heart is enlarged.", "-eff +card"),
    ("No consolidation. Mild atelectasis at the bases.", "-cons +atel"),
    ("A moderate effusion is present, free air is not seen.", "+eff"),
    # what only looks like a negation
    ("No change in the left pleural effusion.", "+eff"),
    ("No significant interval change in the moderate cardiomegaly.", "+card"),
    ("The effusion has not resolved.", "+eff"),
    ("Atelectasis, not significantly changed.", "+atel"),
    # doubt
    ("Possible pneumonia.", "?pna"),
    ("Opacity at the left base may represent atelectasis or pneumonia.", "+opac ?atel ?pna"),
    ("Bibasilar opacities, likely atelectasis.", "+opac ?atel"),
    ("Left basilar opacity, pneumonia cannot be excluded.", "+opac ?pna"),
    ("A small effusion is not excluded.", "?eff"),
    ("Findings are suspicious for malignancy.", "?les"),
    ("Retrocardiac opacity, atelectasis versus pneumonia.", "+opac ?atel ?pna"),
    ("Atelectasis is favored over consolidation.", "?atel ?cons"),
    ("Cannot exclude a tiny pneumothorax.", "?ptx"),
    ("Borderline cardiomegaly.", "?card"),
    ("The heart is borderline enlarged.", "?card"),
    ("Pneumonia, edema or atelectasis cannot be ruled out.", "?pna ?edema ?atel"),
    ("No effusion, possible mild edema.", "-eff ?edema"),
    ("Blunting of the left costophrenic angle.", "?eff"),
    ("No blunting of the costophrenic angles.", "-eff"),
    ("Concern for developing consolidation, no pneumothorax.", "?cons -ptx"),
    ("It is unclear whether this reflects pneumonia.", "?pna"),
    ("Hazy opacity likely represents effusion and atelectasis.", "+opac ?eff ?atel"),
    ("Bibasilar atelectasis without consolidation, although infection cannot be entirely excluded.", "+atel -cons ?pna"),
    ("Questionable nodule in the left mid lung, not seen on the lateral view.", "?les"),
    ("Right basal opacity, which was not present on the prior study.", "+opac"),
    ("Airspace opacities are seen in both lungs, edema favored over pneumonia.", "+opac ?edema ?pna"),
    ("Normal heart and mediastinum.", "-card -ecm"),
    # words that mean something else
    ("Small pericardial effusion.", ""),
    ("Soft tissue edema of the chest wall.", ""),
    ("No mass effect.", ""),
    ("History of pneumonia.", ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), SENTENCES)
def test_a_sentence(text: str, expected: str) -> None:
    wanted = {SHORT[word[1:]]: STATE[word[0]] for word in expected.split()}
    labels = label_report(text)
    labels.pop("No Finding", None)
    assert labels == wanted


def test_there_are_enough_sentences_for_every_observation() -> None:
    said = " ".join(expected for _, expected in SENTENCES)
    assert len(SENTENCES) >= 40
    assert all(name in said for name in SHORT)
    assert set(SHORT.values()) == {*OBSERVATIONS} - {"No Finding"}


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("Small left pleural effusion.", ["left"]),
        ("Effusion on the right.", ["right"]),
        ("Bilateral effusions.", ["bilateral"]),
        ("Left greater than right pleural effusions.", ["bilateral"]),
        ("Small right and moderate left pleural effusions.", ["bilateral"]),
        ("Pleural effusions, right greater than left.", ["bilateral"]),
        ("Opacity in the right upper lobe and left pneumothorax.", ["right", "left"]),
        ("Left pleural effusion with atelectasis.", ["left", None]),
        ("Left pleural effusion and adjacent atelectasis.", ["left", "left"]),
        ("Consolidation in the lingula.", ["left"]),
        ("Right lung is clear, left effusion.", ["left"]),
        ("Right heart enlarged, cardiomegaly.", [None, None]),
        ("Nodule.", [None]),
        ("Opacities in the right and left lower lobes.", ["bilateral"]),
        ("Atelectasis at the left base and right effusion.", ["left", "right"]),
    ],
)
def test_side(text: str, sides: list[str | None]) -> None:
    assert [m.side for m in mentions(text)] == sides


@pytest.mark.parametrize(
    ("text", "severity"),
    [
        ("Trace left effusion.", "mild"),
        ("Mild to moderate pulmonary edema.", "moderate"),
        ("Moderate-to-large right effusion.", "severe"),
        ("The heart is markedly enlarged.", "severe"),
        ("The effusion is small.", "mild"),
        ("Severe scoliosis and atelectasis.", None),
        ("Small amount of pleural fluid.", "mild"),
        ("Large-bore chest tube.", None),
        ("Consolidation.", None),
        ("The effusion is slightly larger.", None),
        ("No more than moderate cardiomegaly.", "moderate"),
    ],
)
def test_severity(text: str, severity: str | None) -> None:
    assert [m.severity for m in mentions(text)] == [severity]


def test_a_mention_says_where_it_stands_in_the_text() -> None:
    text = "FINDINGS:  Heart size is normal.\n  Small  left pleural\n effusion."
    found = mentions(text)
    assert found[1] == Mention("Pleural Effusion", 1.0, "left", "mild", text.index("pleural"), len(text) - 1, 1)
    assert re.sub(r"\s+", " ", text[found[1].start : found[1].end]) == "pleural effusion"


def test_letters_that_grow_in_lower_case_do_not_shift_the_place() -> None:
    text = "İİİ noted. Left pneumothorax."
    (found,) = mentions(text)
    assert text[found.start : found.end] == "pneumothorax"


def test_sentences_survive_abbreviations_numbers_and_lists() -> None:
    text = "Discussed with Dr. Smith at 5 p.m. today. A 2.5 cm nodule vs. artifact.\n1. No edema.\n2. Stable.\n\nIMPRESSION: clear\n\n \nok"
    assert [text[a:b].strip() for a, b in sentence_spans(text)] == [
        "Discussed with Dr. Smith at 5 p.m. today.", "A 2.5 cm nodule vs. artifact.", "1. No edema.", "2. Stable.", "IMPRESSION: clear", "ok",
    ]  # fmt: skip


def test_the_most_certain_mention_counts() -> None:
    assert label_report("No effusion on the right. Possible effusion on the left.")["Pleural Effusion"] == 0.5
    assert label_report("Possible effusion on the left. Small right effusion. No effusion.")["Pleural Effusion"] == 1.0


def test_no_finding_stands_where_nothing_but_devices_is_left() -> None:
    assert label_report("Lungs are clear. Left chest tube in place.") == {"No Finding": 1.0, "Support Devices": 1.0}
    assert label_report("Normal chest.") == {"No Finding": 1.0}
    assert "No Finding" not in label_report("Possible fracture.")
    assert label_report(" \n") == {}
    assert label_report("...") == {}


def test_labels_come_in_the_order_of_the_observations() -> None:
    labels = label_report("Chest tube. Rib fracture. Cardiomegaly. Widened mediastinum.")
    assert list(labels) == [name for name in OBSERVATIONS if name in labels]


JUNK = [
    "a",
    "is ",
    "no new ",
    "heart is ",
    "\n \t",
    "pleural ",
    "effusion, ",
    "pneumonia versus ",
    "left and ",
    "enlargement of the ",
    "interstitial ",
    "A.",
    "cannot be ",
    ", ",
]


@pytest.mark.parametrize("unit", JUNK)
def test_a_hundred_kilobytes_of_junk_read_like_a_line_of_it(unit: str) -> None:
    """Quadratic or exponential matching would take hours here; linear work takes a fraction of a second."""
    text = unit * (100_000 // len(unit))
    assert label_report(text) == label_report(unit * 20)


def test_vocabulary() -> None:
    assert len(OBSERVATIONS) == len(set(OBSERVATIONS)) == 14
    assert len(PATHOLOGIES) == 12
    assert {*PARENTS, *PARENTS.values()} <= set(OBSERVATIONS)
    assert ancestors("Pneumonia") == ("Consolidation", "Lung Opacity")
    assert ancestors("Fracture") == ()
    assert len(NIH_TO_CHEXPERT) == 15
    assert {name for name in NIH_TO_CHEXPERT.values() if name} <= set(OBSERVATIONS)
    with pytest.raises(DataError, match="did you mean 'Pneumonia'"):
        ancestors("Pneumonai")


def test_what_is_present_makes_its_ancestors_present() -> None:
    assert with_ancestors({"Pneumonia": 0.5, "Edema": 0.0, "Consolidation": 0.0}) == {
        "Pneumonia": 0.5, "Edema": 0.0, "Consolidation": 0.5, "Lung Opacity": 0.5,
    }  # fmt: skip
    assert with_ancestors({"Cardiomegaly": 0.0}) == {"Cardiomegaly": 0.0}
