"""The page: the trace is to scale, everything is said, nothing is loaded, and hostile text stays text."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import scipy.signal

from regen.data_prep.synthetic_cohort import make_study
from regen.ecg_svg import ecg_svg, level, path_data
from regen.page import write_page
from regen.study import DISCLAIMER, LEADS, Draft, Ecg, Evidence, Finding, FloatArray, Hit, Sentence, Study

HOSTILE = '"><script>alert(1)</script><img src=x onerror="alert(2)">&'


def square(fs: float, seconds: float = 10.0, leads: int = 12) -> Ecg:
    """+1 mV and 0 mV by turns, five times a second."""
    time = np.arange(round(fs * seconds))
    signal = np.full((12, len(time)), np.nan, np.float32)
    signal[:leads] = (time * 10 // fs) % 2 == 0
    return Ecg(signal, fs)


def drawn(svg: str) -> list[tuple[float, float, FloatArray]]:
    """Every lead's window as x, y of its origin on the paper and the points of its path, all in millimetres."""
    out = []
    number = r'"([-\d.]+)"'
    window = rf'class="lead" x={number} y={number} width={number} height={number} viewBox="0 (-?\d+) (\d+) (\d+)".*?<path d="([^"]*)"'
    for x, y, width, height, top, units, tall, path in re.findall(window, svg):
        scale = float(width) / float(units)
        assert scale == pytest.approx(float(height) / float(tall)), "one scale for both axes"
        out.append((float(x), float(y) - float(top) * scale, points(path) * scale))
    return out


def points(path: str) -> FloatArray:
    """(points, 2) of 'M0 0l1 2 3-4', all runs one after another."""
    out = []
    for run in path.split("M")[1:]:
        start, _, steps = run.partition("l")
        pairs = np.array(re.findall(r"-?\d+", start + " " + steps), np.float32).reshape(-1, 2)
        out.append(np.cumsum(pairs, axis=0))
    return np.concatenate(out)


def draft_of(study: Study, **changes: object) -> Draft:
    hits = (Hit("case-a", 0.91, "Sinus rhythm. Normal ECG."), Hit("case-b", 0.84, "Sinusrhythmus.", language="de"))
    kept = (
        Sentence("Sinus rhythm.", "supported", "SR", 0.97, (Evidence("case-a", 0.91),), "heart rate 61 /min"),
        Sentence("Possible ST depression.", "uncertain", "STD_", 0.24, (Evidence("case-c", 0.7),)),
    )
    gone = (Sentence("Unchanged since 2019.", "contradicted", reason="compares with an earlier recording, and none was given"),)
    findings = (
        Finding("SR", "Sinus rhythm", 0.97, 0.4, True),
        Finding("STD_", "ST depression", 0.24, 0.3, False),
        Finding("IMI", "Inferior myocardial infarction", 0.999, 0.3, False),
    )
    measured = {"heart_rate": 61.0, "pr": None, "qrs": 131.0, "qt": float("nan"), "qtc": 420.0, "axis": -42.0}
    draft = Draft(
        study.study_id, study.subject_id, "Sinus rhythm. Possible ST depression.", kept, findings, hits,
        ("low_evidence", "lead_missing:V6", "odd_flag:x"), measured, "starter 1", {"encode": 12.0, "write": 30.0}, gone,
    )  # fmt: skip
    return replace(draft, **changes)  # type: ignore[arg-type]


class Checker(HTMLParser):
    """Collects tags, attributes and the text that a reader sees; complains about what is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += "" if self.open and self.open[-1] == "style" else data


def checked(path: Path) -> tuple[str, Checker]:
    html = path.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    return html, checker


@pytest.mark.parametrize("fs", [100.0, 250.0, 500.0, 1000.0])
def test_the_trace_is_to_scale(fs: float) -> None:
    svg = ecg_svg(square(fs))
    width, height = (float(x) for x in re.search(r'width="([\d.]+)mm" height="([\d.]+)mm"', svg).groups())  # type: ignore[union-attr]
    assert f'viewBox="0 0 {width:g} {height:g}"' in svg, "a unit of the outer drawing is a millimetre"
    leads = drawn(svg)
    assert len(leads) == 13
    for _, _, mm in leads:
        jumps = np.flatnonzero(np.abs(np.diff(mm[:, 1])) > 9)
        assert np.abs(np.diff(mm[:, 1]))[jumps] == pytest.approx(10.0, abs=0.15)  # 1 mV; the wander moves by less within a sample
        assert np.diff(mm[jumps, 0]) == pytest.approx(2.5, abs=0.051)  # a change every 0.1 s
    strip = leads[-1][2]
    assert strip[-1, 0] - strip[0, 0] == pytest.approx(250.0, abs=25 / fs + 0.05)
    assert {x for x, _, _ in leads} == {15.0, 77.5, 140.0, 202.5}


def test_path_data_is_exact_where_the_signal_is() -> None:
    one = np.repeat(np.array([0, 1, 0], np.float32), 500)
    assert path_data(one, 500.0) == "M0 0l499 0 1-200 499 0 1 200 499 0"
    assert path_data(np.array([np.nan, 0, 0, np.nan, 1], np.float32), 100.0) == "M5 0l5 0M20-200l0 0"
    assert path_data(np.full(5, np.nan, np.float32), 100.0) == ""


def test_thinning_keeps_the_line_within_half_a_unit() -> None:
    ecg = make_study((0, 16)).ecg
    assert ecg is not None
    signal = level(ecg)
    for lead in signal:
        mm = points(path_data(lead, ecg.fs)) / 20
        at = np.arange(len(lead)) / ecg.fs * 25
        steep = np.abs(np.gradient(lead)).max() * 10 / 2 * 0.5  # half a unit sideways, on the steepest slope
        assert np.interp(at, mm[:, 0], -mm[:, 1]) == pytest.approx(lead * 10, abs=0.051 + float(steep))


def test_level_is_the_zero_phase_high_pass_away_from_the_ends() -> None:
    for number in (0, 12, 23):
        ecg = make_study((0, number)).ecg
        assert ecg is not None
        sos = scipy.signal.butter(2, 0.5, "highpass", fs=ecg.fs, output="sos")
        oracle = scipy.signal.sosfiltfilt(sos, ecg.signal, axis=1, padlen=int(ecg.fs))
        inside = slice(int(2 * ecg.fs), -int(2 * ecg.fs))
        assert level(ecg)[:, inside] == pytest.approx(oracle[:, inside], abs=0.03)


def test_level_keeps_the_line_where_a_recording_ends_within_a_beat() -> None:
    for number in (0, 5, 16):
        ecg = make_study((0, number)).ecg
        assert ecg is not None
        steepest = 3700 + int(np.abs(np.diff(ecg.signal[:, 3700:4200], axis=1)).sum(axis=0).argmax())
        short = level(Ecg(ecg.signal[:, :steepest], ecg.fs))
        assert np.abs(short - level(ecg)[:, :steepest]).max() < 0.25, "a plain filter turns on the last sample and is off by up to 2 mV"


def test_missing_leads_say_so() -> None:
    svg = ecg_svg(square(500.0, leads=11))
    assert "V6 not recorded" in svg
    assert "not recorded: V6" in svg
    assert len(drawn(svg)) == 12


def test_without_lead_two_the_strip_shows_another() -> None:
    ecg = square(500.0)
    ecg.signal[1] = np.nan
    svg = ecg_svg(ecg)
    assert "II not recorded" in svg
    assert svg.count(">V1</text>") == 2


def test_no_lead_at_all_still_draws() -> None:
    svg = ecg_svg(Ecg(np.full((12, 5000), np.nan, np.float32), 500.0))
    assert svg.count("not recorded</text>") == 13
    assert drawn(svg) == []


def test_a_short_recording_begins_in_every_column() -> None:
    svg = ecg_svg(square(500.0, seconds=2.0))
    assert "every column begins at 0 s" in svg
    for _, _, mm in drawn(svg):
        assert mm[-1, 0] == pytest.approx(49.95, abs=0.1)


def test_a_long_recording_shows_its_first_ten_seconds() -> None:
    svg = ecg_svg(square(500.0, seconds=30.0))
    assert "first 10.0 s of 30.0 s" in svg
    assert max(mm[:, 0].max() for _, _, mm in drawn(svg)) <= 250.05


def test_tall_leads_get_room_and_stay_on_the_paper() -> None:
    ecg = make_study((0, 22)).ecg
    assert ecg is not None
    big = ecg_svg(Ecg(ecg.signal * 4, ecg.fs))
    rows = sorted({round(y) for _, y, _ in drawn(big)})
    assert len(rows) == 4
    assert min(np.diff(rows)) >= 25
    assert max(np.diff(rows)) <= 40
    assert 'overflow="hidden"' in big
    assert "cut beyond ±3.5 mV" in big
    assert "cut beyond" not in ecg_svg(ecg)


def test_everything_is_on_the_page(tmp_path: Path) -> None:
    study = replace(make_study((0, 5)), flags=("lead_missing:V6",))
    draft = draft_of(study)
    path = write_page([(study, draft), (replace(study, study_id="second", source="/data/here/rec.hea"), draft)], tmp_path / "site", "Title", "Note")
    assert path == tmp_path / "site" / "index.html"
    html, page = checked(path)
    for sentence in (*draft.sentences, *draft.dropped):
        assert page.text.count(sentence.text) >= 2
    assert html.count("<del>Unchanged since 2019.</del>") == 2
    for words in (
        "Supported", "Uncertain", "Dropped", "Compares with an earlier recording", "heart rate 61 /min", "calibrated probability 0.97", "(0.70)",
        "not measurable", "−42°", "61 /min", "131 ms", "high", "low", "Low evidence", "Lead V6 was not recorded.", "Odd flag: x.",
        "ruled out by a likelier finding", "Synthetic", "Real recording", "read from rec.hea", "encode 12 ms", "starter 1", "Title", "Note",
        "Report on file", "25 mm/s", "10 mm/mV",
    ):  # fmt: skip
        assert words in page.text, words
    assert page.text.count(DISCLAIMER) >= 3
    assert "/data/here" not in html
    assert html.count("case-1-hit-1") == 2
    assert page.tags.count("h1") == 1
    assert page.tags.count("h2") == 2
    assert page.tags.count("caption") == page.tags.count("table")
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]*)"', html)) <= set(ids)


def test_nothing_is_loaded_and_no_script_runs(tmp_path: Path) -> None:
    study = make_study((0, 2))
    html, page = checked(write_page([(study, draft_of(study))], tmp_path, "Title", "Note"))
    assert not re.search(r"https?:|//[a-z]|url\(|@import|src=", html)
    assert not {"script", "link", "img", "iframe", "object", "image", "use"} & set(page.tags)
    assert all((value or "").startswith("#") for name, value in page.attributes if name == "href")


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    study = Study(
        HOSTILE, HOSTILE, ecg=make_study((0, 2)).ecg, report=HOSTILE, source=HOSTILE, sex=HOSTILE, flags=(HOSTILE, f"lead_missing:{HOSTILE}")
    )
    draft = draft_of(
        study, report=HOSTILE, sentences=(Sentence(HOSTILE, HOSTILE, HOSTILE, 0.5, (Evidence(HOSTILE, 0.9),), HOSTILE),),
        dropped=(Sentence(HOSTILE, "contradicted", reason=HOSTILE),), findings=(Finding(HOSTILE, HOSTILE, 0.6, 0.5, True),),
        neighbours=(Hit(HOSTILE, 0.9, HOSTILE, language=HOSTILE, allowed=HOSTILE),), flags=(HOSTILE,), bundle=HOSTILE, timing_ms={HOSTILE: 1.0},
        disclaimer=HOSTILE,
    )  # fmt: skip
    html, page = checked(write_page([(study, draft)], tmp_path, HOSTILE, HOSTILE))
    assert not {"script", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert HOSTILE not in html
    assert HOSTILE in unescape(html)


def test_a_name_that_is_not_text_does_not_stop_the_page(tmp_path: Path) -> None:
    study = replace(make_study((0, 2)), study_id="rec\udcff")
    assert "rec?" in write_page([(study, draft_of(study))], tmp_path, "Title", "Note").read_text(encoding="utf-8")


def test_empty_parts_say_that_they_are_empty(tmp_path: Path) -> None:
    study = Study("bare")
    draft = Draft("bare", None, "", (), (), (), (), {}, "starter 1", {})
    _, page = checked(write_page([(study, draft)], tmp_path / "one", "Title", "Note"))
    for words in ("no ECG", "No sentence was kept", "No finding was scored", "No case was retrieved", "not measurable", "Source not stated"):
        assert words in page.text
    _, page = checked(write_page([], tmp_path / "none", "Title", "Note"))
    assert "No case was drafted" in page.text


def test_a_case_is_small_and_the_page_is_written_anew(tmp_path: Path) -> None:
    studies = [make_study((0, number)) for number in range(8)]
    path = write_page([(study, draft_of(study)) for study in studies], tmp_path, "Title", "Note")
    assert path.stat().st_size < 8 * 150_000
    write_page([(studies[0], draft_of(studies[0]))], tmp_path, "Title", "Note")
    assert path.stat().st_size < 150_000
    assert [p.name for p in tmp_path.iterdir()] == ["index.html"]
    assert all(lead in path.read_text(encoding="utf-8") for lead in LEADS)
