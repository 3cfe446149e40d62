"""The X-ray's piece of the page: its pixels are the study's, each sentence has its own map over each view, hostile text stays text."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html import unescape
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_page import HOSTILE, checked, draft_of

from regen.cxr_page import cxr_card, similar_page
from regen.data_prep.synthetic_cohort import make_cxr_study, make_study
from regen.page import write_page
from regen.study import DISCLAIMER, Cxr, Draft, Finding, FloatArray, Hit, Sentence, Study

HITS = (
    Hit("near", 0.91, "Small left pleural effusion.", observations={"Pleural Effusion": 1.0, "Edema": 0.5, "Fracture": 0.0}),
    Hit("synthetic-1", 0.62, "Clear lungs."),
)
THUMBS = {"near": np.full((96, 96), 77, np.uint8)}


def ramp(height: int = 30, width: int = 20) -> FloatArray:
    return np.linspace(0, 1, height * width, dtype=np.float32).reshape(height, width)


def study_of(*views: str | None) -> Study:
    return Study("one", "p", cxr=tuple(Cxr(ramp(), view) for view in views), source="/archive/x.dcm")


def draft(*texts: str) -> Draft:
    return replace(
        draft_of(Study("one", "p")), sentences=tuple(Sentence(text, "supported", probability=0.8) for text in texts), report=" ".join(texts),
        neighbours=HITS, findings=(Finding("Edema", "Edema", 0.8, 0.4, True),), flags=(), measured={},
    )  # fmt: skip


def pictures(html: str) -> dict[str, Image.Image]:
    """The custom properties that hold pictures."""
    found = re.findall(r"(--[vm][\d-]+):url\(data:image/png;base64,([^)]*)\)", html)
    assert len(found) == len(dict(found)), "each picture is there once"
    return {name: Image.open(BytesIO(base64.b64decode(data))) for name, data in found}


def maps(*heights: float) -> FloatArray:
    return np.stack([np.full((6, 4), height, np.float32) for height in heights])


def test_the_image_is_the_study_s() -> None:
    shown = pictures(cxr_card(study_of("PA"), draft("Normal.")))["--v0"]
    assert shown.mode == "L"
    assert np.asarray(shown).tolist() == np.rint(ramp() * 255).astype(int).tolist()


def test_a_large_image_is_reduced_and_says_so() -> None:
    html = cxr_card(replace(study_of(), cxr=(Cxr(ramp(1600, 1200), "PA"),)), draft("Normal."))
    assert pictures(html)["--v0"].size == (480, 640)
    assert "aspect-ratio:1200/1600" in html
    assert "reduced to 640 of 1600 pixels: not for diagnosis" in html
    assert "reduced" not in cxr_card(study_of("PA"), draft("Normal."))


@pytest.mark.parametrize(("view", "said"), [("PA", True), ("ap", True), ("LATERAL", False), (None, True)])
def test_sides_are_said_of_frontal_views(view: str | None, said: bool) -> None:
    assert ("right is on the left" in unescape(cxr_card(study_of(view), draft("Normal.")))) == said


def test_each_sentence_has_its_own_map_over_each_view() -> None:
    html = cxr_card(study_of("PA", "LATERAL"), draft("One.", "Two.", "Three."), [maps(1, 0, 0), maps(0.5, 0, 1)])
    found = pictures(html)
    assert set(found) == {"--v0", "--v1", "--m0-0", "--m1-0", "--m0-2", "--m1-2"}, "nothing speaks for the second sentence"
    opaque = {name: np.asarray(found[name].convert("RGBA"))[..., 3] for name in found if name[2] == "m"}
    assert opaque["--m0-0"].shape == (6, 4)
    assert {name: int(values.max()) for name, values in opaque.items()} == {
        "--m0-0": 184, "--m1-0": pytest.approx(92, abs=4), "--m0-2": 0, "--m1-2": 184,
    }  # fmt: skip
    items = re.findall(r"<li[^>]*>", html)
    assert items[:3] == ['<li class="mapped s0">', "<li>", '<li class="mapped s2">']
    assert html.count('<div class="heat m2"') == 2
    assert html.count('name="map-1"') == 3, "two sentences and none"
    assert "image 2 of 2" in html


def test_without_maps_nothing_asks_to_be_pointed_at() -> None:
    for given in ((), [maps(0)]):
        html = cxr_card(study_of("PA"), draft("One."), given)
        assert "radio" not in html
        assert set(pictures(html)) == {"--v0"}


def test_maps_that_hardly_differ_are_said_to() -> None:
    one, other = np.eye(4, dtype=np.float32), np.fliplr(np.eye(4, dtype=np.float32))
    for second, alike in ((other, False), (one * 0.5, True)):
        html = cxr_card(study_of("PA"), draft("One.", "Two."), [np.stack([one, second])])
        assert ("nearly the same" in html) == alike
    assert "nearly the same" not in cxr_card(study_of("PA"), draft("One.", "One."), [np.stack([one, one])])
    assert "nearly the same" not in cxr_card(study_of("PA"), draft("One.", "Two."), [np.stack([one, 0 * one])])


def test_more_sentences_than_slots_are_all_said() -> None:
    html = cxr_card(study_of("PA"), draft(*(f"Sentence {i}." for i in range(70))), [maps(*[1] * 70)])
    assert all(f"Sentence {i}." in html for i in range(70))
    assert "--m0-59:" in html
    assert "--m0-60:" not in html


def test_sentences_stand_under_their_sections() -> None:
    plain = draft("Clear.", "Small effusion.", "Unplaced.", "Small effusion.")
    sections = {"findings": "Clear. Small effusion.", "impression": "Small effusion."}
    html = cxr_card(study_of("PA"), replace(plain, sections=sections))
    order = re.findall(r'class="part">(\w+)<|<span>([\w ]+\.)</span>', html)
    assert ["".join(each) for each in order] == ["findings", "Clear.", "Small effusion.", "Unplaced.", "impression", "Small effusion."]
    assert 'class="part"' not in cxr_card(study_of("PA"), plain)


def test_status_probability_evidence_and_what_was_taken_out_are_said() -> None:
    study = study_of("PA")
    full = replace(draft_of(study), neighbours=(Hit("case-a", 0.91, "Same."),))
    html = cxr_card(study, full, [maps(1, 1)])
    for words in ("Supported", "Uncertain", "calibrated probability 0.97", 'href="#case-1-hit-1"', "Taken out", "Low evidence", DISCLAIMER):
        assert words in html
    assert 'id="case-1-hit-1"' in html
    assert "threshold 0.40" in html


def test_similar_cases_show_image_score_report_and_labels() -> None:
    html = cxr_card(study_of("PA"), draft("One."), thumbnails=THUMBS)
    near, made = re.findall(r'<li id="case-1-hit-\d+">.*?</li>', html)
    picture = re.search(r'src="data:image/png;base64,([^"]*)"', near)
    assert picture
    assert np.asarray(Image.open(BytesIO(base64.b64decode(picture[1])))).tolist() == THUMBS["near"].tolist()
    for words in ("score 0.91", "Small left pleural effusion.", "Pleural Effusion</span>", "Edema</span> uncertain"):
        assert words in near.replace(" uncertain</span>", "</span> uncertain")
    assert "Fracture" not in near
    assert "Synthetic" not in near
    assert "Synthetic" in made
    assert "no image kept" in made


def test_the_page_holds_both_kinds_and_loads_nothing(tmp_path: Path) -> None:
    ecg, cxr = make_study((0, 1)), make_cxr_study((0, 1))
    cases = [(ecg, draft_of(ecg)), (cxr, replace(draft("One.", "Two."), study_id=cxr.study_id))]
    html, page = checked(write_page(cases, tmp_path, "Title", "Note", {cxr.study_id: [maps(1, 1)]}, THUMBS))
    assert "img-src data:" in html
    assert "script" not in page.tags
    assert not [value for name, value in page.attributes if name in ("src", "href") and not (value or "").startswith(("#", "data:image/png;base64,"))]
    assert not re.findall(r"url\((?!data:image/png;base64,)", html)
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert html.count(">Synthetic</span>") == 3, "two headings and a retrieved case"
    assert 'class="ecg"' in html
    assert 'id="case-2"' in html


def test_pages_of_ecgs_alone_allow_no_images(tmp_path: Path) -> None:
    study = make_study((0, 1))
    html, _ = checked(write_page([(study, draft_of(study))], tmp_path, "Title", "Note"))
    assert "img-src" not in html
    assert ".heat" not in html


def test_a_study_of_both_shows_both() -> None:
    ecg = make_study((0, 1))
    html = cxr_card(replace(ecg, cxr=(Cxr(ramp(), "PA"),)), draft("One."))
    assert 'class="ecg"' in html
    assert "Measurements" in html
    assert "Measurements" not in cxr_card(study_of("PA"), draft("One."))


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    study = Study(HOSTILE, HOSTILE, cxr=(Cxr(ramp(), HOSTILE),), report=HOSTILE, sections={HOSTILE: HOSTILE}, source=HOSTILE, flags=(HOSTILE,))
    hit = Hit(HOSTILE, 0.5, HOSTILE, language=HOSTILE, observations={HOSTILE: 1.0}, allowed=HOSTILE)
    made = replace(draft(HOSTILE), neighbours=(hit,), bundle=HOSTILE, disclaimer=HOSTILE)
    thumbs = {HOSTILE: THUMBS["near"]}
    for path in (
        write_page([(study, made)], tmp_path / "a", HOSTILE, HOSTILE, {HOSTILE: [maps(1)]}, thumbs),
        similar_page(study, [hit], thumbs, tmp_path / "b"),
    ):
        html, page = checked(path)
        assert "script" not in page.tags
        assert not [name for name, _ in page.attributes if name.startswith("on")]
        assert HOSTILE not in html
        assert HOSTILE in unescape(html)


def test_similar_page_shows_query_and_hits(tmp_path: Path) -> None:
    html, page = checked(similar_page(study_of("PA", "LATERAL"), HITS, THUMBS, tmp_path))
    assert set(pictures(html)) == {"--v0", "--v1"}
    assert DISCLAIMER in page.text
    assert page.text.index("near") < page.text.index("synthetic-1")
    assert "No case was retrieved" in checked(similar_page(study_of("PA"), [], {}, tmp_path / "none"))[1].text
