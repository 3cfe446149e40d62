"""Sections of chest X-ray reports. Every report here is made up, in the manner of MIMIC-CXR's, and its sections worked out by hand."""

from __future__ import annotations

import string

import pytest

from regen.data_prep.sections import SECTIONS, has_headings, parse_sections, report_of

TITLE = "                                 FINAL REPORT\n"
RULER = " " + "_" * 78 + "\n"

REPORTS: dict[str, tuple[str, dict[str, str]]] = {
    "the usual six headings": (
        TITLE + " EXAMINATION:  CHEST (PA AND LAT)\n \n INDICATION:  ___F with cough  // eval for pneumonia\n \n TECHNIQUE:  Chest PA and lateral\n"
        " \n COMPARISON:  ___\n \n FINDINGS: \n \n The lungs are clear.  There is no effusion\n or pneumothorax.\n \n IMPRESSION: \n \n"
        " No acute cardiopulmonary process.\n",
        {
            "findings": "The lungs are clear. There is no effusion or pneumothorax.",
            "impression": "No acute cardiopulmonary process.",
            "indication": "___F with cough // eval for pneumonia",
            "comparison": "___",
            "technique": "CHEST (PA AND LAT) Chest PA and lateral",
        },
    ),
    "clinical history": (
        TITLE + " CLINICAL HISTORY:  Dyspnea.\n \n COMPARISON:  None.\n \n FINDINGS:  Heart size is normal.\n \n IMPRESSION:  Normal.\n",
        {"findings": "Heart size is normal.", "impression": "Normal.", "comparison": "None.", "history": "Dyspnea."},
    ),
    "reason for exam, and a conclusion": (
        TITLE + " REASON FOR EXAM:  Fever.\n \n FINDINGS:  No consolidation.\n \n CONCLUSION:  No pneumonia.\n",
        {"findings": "No consolidation.", "impression": "No pneumonia.", "indication": "Fever."},
    ),
    "reason for examination": (
        TITLE + " REASON FOR EXAMINATION:  Followup of CHF.\n \n IMPRESSION:  Mild edema.\n",
        {"impression": "Mild edema.", "indication": "Followup of CHF."},
    ),
    "findings and impression are the impression": (
        TITLE + " HISTORY:  Fall.\n \n FINDINGS AND IMPRESSION:  No fracture.\n",
        {"impression": "No fracture.", "history": "Fall."},
    ),
    "the same with a slash": (TITLE + " FINDINGS/IMPRESSION: No fracture.\n", {"impression": "No fracture."}),
    "a wet read gives way to the final report": (
        " WET READ: ___ ___ ___ 9:31 PM\n  Possible pneumonia.\n" + RULER + TITLE + " INDICATION:  Cough.\n \n IMPRESSION:  No pneumonia.\n",
        {"impression": "No pneumonia.", "indication": "Cough."},
    ),
    "a wet read alone stands": (
        " WET READ:\n  ET tube in good position.\n",
        {"impression": "ET tube in good position."},
    ),
    "provisional findings are a wet read": (
        " PROVISIONAL FINDINGS IMPRESSION (PFI): ___ 4:01 PM\n  Larger effusion.\n" + RULER + TITLE + " FINDINGS:  Effusion is unchanged.\n",
        {"findings": "Effusion is unchanged."},
    ),
    "an addendum closes the impression": (
        " ADDENDUM:  The nodule is on the left.\n" + RULER + TITLE + " IMPRESSION:  Nodule on the right.\n",
        {"impression": "Nodule on the right. The nodule is on the left."},
    ),
    "headings inside a line": (
        "FINAL REPORT INDICATION: Cough. COMPARISON: None. FINDINGS: Clear lungs. IMPRESSION: Normal.",
        {"findings": "Clear lungs.", "impression": "Normal.", "indication": "Cough.", "comparison": "None."},
    ),
    "an examination and its headings in one line": (
        "FINAL REPORT EXAMINATION: CHEST (PA AND LAT) INDICATION: ___M with fever TECHNIQUE: PA and lateral IMPRESSION: Normal.",
        {"impression": "Normal.", "indication": "___M with fever", "technique": "CHEST (PA AND LAT) PA and lateral"},
    ),
    "no headings: a title, then the report": (
        TITLE + " PORTABLE CHEST ___\n \n Lines are unchanged.\n \n Heart size is normal.\n \n Low lung volumes.\n",
        {"findings": "Lines are unchanged. Heart size is normal.", "impression": "Low lung volumes."},
    ),
    "no headings, one paragraph": ("The lungs are clear.\nNo effusion.", {"impression": "The lungs are clear. No effusion."}),
    "no headings, no title": ("The lungs are clear.\n\nNo acute process.", {"findings": "The lungs are clear.", "impression": "No acute process."}),
    "neither findings nor impression: behind the first paragraph of the last section": (
        TITLE + " REASON FOR EXAMINATION:  Chest tube removal.\n \n Portable AP radiograph was compared to ___.\n \n There is no pneumothorax.\n",
        {"findings": "Portable AP radiograph was compared to ___.", "impression": "There is no pneumothorax.", "indication": "Chest tube removal."},
    ),
    "whom one telephoned does not hide the report": (
        " COMPARISON:  ___.\n \n New right effusion.\n \n NOTIFICATION:  Dr. ___ was told by telephone.\n",
        {"impression": "New right effusion.", "comparison": "___."},
    ),
    "a comparison alone is no report": (" COMPARISON:  ___.\n", {"comparison": "___."}),
    "views open the findings": (
        TITLE + " HISTORY:  Cough.\n \n FRONTAL AND LATERAL VIEWS OF THE CHEST:  The lungs are clear.\n \n IMPRESSION:  Normal.\n",
        {"findings": "The lungs are clear.", "impression": "Normal.", "history": "Cough."},
    ),
    "a title with a colon opens nothing": (
        TITLE + " CHEST, TWO VIEWS: ___\n \n INDICATION:  Cough.\n \n FINDINGS:  Clear.\n \n IMPRESSION:  Normal.\n",
        {"findings": "Clear.", "impression": "Normal.", "indication": "Cough."},
    ),
    "organs stay in the findings": (
        " FINDINGS:\n LUNGS: Clear.\n HEART: Normal size.\n \n IMPRESSION:\n 1. No change.\n 2. LINES AND TUBES: as above.\n",
        {"findings": "LUNGS: Clear. HEART: Normal size.", "impression": "1. No change. 2. LINES AND TUBES: as above."},
    ),
    "organs open the findings": (
        " TECHNIQUE:  Portable AP.\n \n LUNGS:  Clear.\n HEART:  Normal.\n",
        {"findings": "LUNGS: Clear. HEART: Normal.", "technique": "Portable AP."},
    ),
    "slips of the pen": (
        " IDICATION:  Cough.\n \n COMPARISION:  None.\n \n FINDNGS:  Clear.\n \n IMPRESSON:  Normal.\n",
        {"findings": "Clear.", "impression": "Normal.", "indication": "Cough.", "comparison": "None."},
    ),
    "an unknown heading stays in its section": (
        " FINDINGS:  Clear.\n DEVICES IN PLACE:  none.\n \n IMPRESSION:  Normal.\n",
        {"findings": "Clear. DEVICES IN PLACE: none.", "impression": "Normal."},
    ),
    "small letters at the start of a line": (
        "Indication: cough\nFindings: clear lungs\nImpression: normal. See findings: clear.",
        {"findings": "clear lungs", "impression": "normal. See findings: clear.", "indication": "cough"},
    ),
    "a heading alone on its line": ("FINDINGS\nClear lungs.\n\nIMPRESSION\nNormal.", {"findings": "Clear lungs.", "impression": "Normal."}),
    "recommendations belong to the impression": (
        " IMPRESSION:  Nodule.\n \n RECOMMENDATION(S):  CT of the chest.\n \n NOTIFICATION:  Told to Dr. ___.\n",
        {"impression": "Nodule. CT of the chest."},
    ),
    "two exams in one report": (
        " FINDINGS:  At 5:00 clear.\n \n IMPRESSION:  Normal.\n \n FINDINGS:  At 9:00 an effusion.\n \n IMPRESSION:  New effusion.\n",
        {"findings": "At 5:00 clear. At 9:00 an effusion.", "impression": "Normal. New effusion."},
    ),
    "all in capitals": (
        " INDICATION: COUGH. NO FEVER.\n FINDINGS: HEART NORMAL. LUNGS CLEAR.\n NO EFFUSION. IMPRESSION: NORMAL.\n",
        {"findings": "HEART NORMAL. LUNGS CLEAR. NO EFFUSION.", "impression": "NORMAL.", "indication": "COUGH. NO FEVER."},
    ),
    "an empty heading": (" FINDINGS:\n \n IMPRESSION:\n \n Normal.\n", {"impression": "Normal."}),
    "line ends of Windows": ("FINDINGS:\r\nClear.\r\n\r\nIMPRESSION:\r\nNormal.\r\n", {"findings": "Clear.", "impression": "Normal."}),
    "no space behind the colon": ("FINDINGS:Clear.\nIMPRESSION:Normal.", {"findings": "Clear.", "impression": "Normal."}),
    "older requests": (
        " UNDERLYING MEDICAL CONDITION:\n  ___ year old man with CHF\n REASON FOR THIS EXAMINATION:\n  r/o edema\n" + RULER + " IMPRESSION: Edema.\n",
        {"impression": "Edema.", "indication": "r/o edema", "history": "___ year old man with CHF"},
    ),
    "nothing": ("", {}),
    "blanks": (" \n \n", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", REPORTS)
def test_sections_worked_out_by_hand(name: str) -> None:
    text, expected = REPORTS[name]
    found = parse_sections(text)
    assert found == expected
    assert list(found) == [section for section in SECTIONS if section in found]


def test_a_report_is_findings_then_impression() -> None:
    assert report_of({"impression": "Normal.", "indication": "Cough.", "findings": "Clear."}) == "Clear. Normal."
    assert report_of({"impression": "Normal.", "findings": "Clear"}) == "Clear. Normal.", "two sections never run into one sentence"
    assert report_of({"impression": "Normal."}) == "Normal."
    assert report_of({"findings": "Clear"}) == "Clear"
    assert report_of({"history": "Cough."}) == report_of({}) == ""


def test_headings_are_told_from_none() -> None:
    assert has_headings("Findings: clear")
    assert has_headings("Chest. IMPRESSION: normal")
    assert not has_headings("                FINAL REPORT\n The lungs are clear.")
    assert not has_headings("The impression: is normal.")


def test_no_word_is_made_up_and_whitespace_is_joined() -> None:
    for text, _ in REPORTS.values():
        for section in parse_sections(text).values():
            assert section == " ".join(section.split())
            assert set(section.split()) <= set(text.split()) | set(text.replace(":", ": ").split())


@pytest.mark.parametrize("unit", ["A ", "A", "AB:", "FINDINGS:", "FINDINGS: x\n", " \n", "( ", "IMPRESSION ", "Findings:", "\n\n x", ". A", "_ "])
def test_half_a_megabyte_of_anything_comes_back(unit: str) -> None:
    """A step that is quadratic in the text would not end here."""
    assert set(parse_sections(unit * (500_000 // len(unit)))) <= set(SECTIONS)


def test_any_text_gives_sections_of_known_names() -> None:
    for letter in string.printable:
        assert set(parse_sections(f"{letter}: x {letter * 3}\n FINDINGS{letter} y")) <= set(SECTIONS)
