"""The words around a report, and the sentences it is taken apart into."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from regen.data_prep.comparison import ecg_compares
from regen.data_prep.prepared import Prepared
from regen.data_prep.sentences import split_sentences
from regen.data_prep.statements import CODES
from regen.generators.examples import Told, noisy, ordered, text_examples, told_from
from regen.generators.prompt import measured_text, plan_text, prompt_text, split_clauses, states, without_comparisons
from regen.generators.rules import RULES, denies, supports


def test_a_prompt_word_for_word() -> None:
    measured = {"heart_rate": 61.2, "pr": 160.0, "qrs": 84.0, "qtc": math.nan, "axis": -41.4, "noise": 0.1}
    assert prompt_text(["Sinus rhythm.", "Normal ECG."], measured_text(measured), plan_text(["SR", "LAFB"]), "en") == (
        "retrieved: Sinus rhythm. | Normal ECG.\nmeasured: rate 61, pr 160, qrs 84, axis -41\n"
        "findings: sinus rhythm; left anterior fascicular block\nreport (en):"
    )


def test_a_part_that_is_missing_leaves_its_line_out() -> None:
    assert prompt_text([], measured_text({"heart_rate": math.nan}), plan_text(["NORM"]), "de") == "findings: normal ecg\nreport (de):"


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ("Sinus rhythm. Normal ECG.", ["Sinus rhythm.", "Normal ECG."]),
        ("PVC: 2. beats at 4.46 mV. Done", ["PVC: 2. beats at 4.46 mV.", "Done"]),
        ("V.a. Linkshypertrophie. Sinusrhythmus", ["V.a. Linkshypertrophie.", "Sinusrhythmus"]),
        ("", []),
        (" . ", []),
        ("One; two! Three?", ["One;", "two!", "Three?"]),
    ],
)
def test_sentences(report: str, expected: list[str]) -> None:
    assert split_sentences(report) == expected


@pytest.mark.parametrize(
    "sentence",
    [
        "Unchanged since the previous ECG.", "No significant change.", "Compared to the prior tracing the rate is lower.", "AF no longer present.",
        "ST changes have resolved.", "Im Vergleich zum Vorbefund keine Änderung.", "Unverändert.", "Jämfört med tidigare EKG.",
        "As before.", "Left bundle branch block is now present.",
    ],
)  # fmt: skip
def test_comparisons_are_known(sentence: str) -> None:
    assert ecg_compares(sentence)
    assert without_comparisons(f"Sinus rhythm. {sentence} Normal axis.") == "Sinus rhythm. Normal axis."


@pytest.mark.parametrize("sentence", ["Sinus rhythm.", "ST changes in lateral leads.", "Anterior infarction, stage III.", "Prolonged QT interval."])
def test_plain_findings_are_no_comparisons(sentence: str) -> None:
    assert not ecg_compares(sentence)


def test_no_rendered_report_compares(tiny_data: Prepared) -> None:
    reports = [r for r in tiny_data.studies["report"].to_list() if r]
    assert len(reports) > 100
    assert not [r for r in reports if ecg_compares(r)]


def test_what_a_sentence_states() -> None:
    assert states("No left ventricular hypertrophy but possible inferior infarct.") == [("LVH", "absent"), ("IMI", "uncertain")]
    assert states("Sinus rhythm, sinus rhythm.") == [("SR", "present")]


def test_rules_speak_only_of_what_was_measured() -> None:
    assert supports("SBRAD", {"heart_rate": 48.0}) == "heart rate 48 /min"
    assert denies("SBRAD", {"heart_rate": 96.0}) == "heart rate 96 /min"
    for code in RULES:
        assert supports(code, {}) is None
        assert denies(code, {RULES[code].measure: math.nan}) is None
    assert supports("DIG", {"heart_rate": 60.0}) is None


@pytest.mark.parametrize("code", sorted(RULES))
def test_no_measurement_both_supports_and_denies(code: str) -> None:
    name = RULES[code].measure
    for value in np.linspace(-200, 300, 1001):
        assert supports(code, {name: float(value)}) is None or denies(code, {name: float(value)}) is None


def told() -> list[Told]:
    return [Told(f"Report {i}.", ordered({"SR", CODES[20 + i % 3]}), "en") for i in range(12)]


def test_a_noisy_plan_loses_and_gains(rng: np.random.Generator) -> None:
    codes = ordered({"SR", "LVH", "NDT"})
    drawn = [set(noisy(codes, ["PVC"], 0.3, rng)) for _ in range(400)]
    assert 0.2 < np.mean(["LVH" not in d for d in drawn]) < 0.4
    assert 0.08 < np.mean(["PVC" in d for d in drawn]) < 0.25
    assert all(drawn)
    assert noisy(codes, ["PVC"], 0.0, rng) == codes


def test_an_example_never_shows_its_own_report(rng: np.random.Generator) -> None:
    examples = text_examples(told(), 3, 0.1, rng)
    assert [report for _, report in examples] == [t.report for t in told()]
    assert not [report for prompt, report in examples if report in prompt]
    assert any("retrieved:" in prompt for prompt, _ in examples)


def test_told_reads_what_nobody_coded(tiny_data: Prepared) -> None:
    rows = tiny_data.split("train")[:20]
    coded = {t.report: t.codes for t in told_from(rows)}
    read = {t.report: t.codes for t in told_from(rows.with_columns(statements=rows["statements"].clear(20)))}
    assert coded.keys() == read.keys() == set(rows["report"].to_list())
    assert coded == read


def test_the_module_says_what_it_does() -> None:
    """The example in the docstring is what the functions give."""
    import regen.generators.prompt as module

    text = Path(str(module.__file__)).read_text()
    assert "findings: " + plan_text(["SR", "LAFB"]) in text


@pytest.mark.parametrize(
    ("sentence", "parts"),
    [
        ("sinusrhythmus linkstyp inferiorer infarkt wahrscheinlich alt", ["sinusrhythmus", "linkstyp", "inferiorer infarkt wahrscheinlich alt"]),
        ("linkstyp st & t abnorm, wahrscheinlich anterolaterale ischämie", ["linkstyp", "st & t abnorm, wahrscheinlich anterolaterale ischämie"]),
        ("sinusrytm extrem vänster el-axel", ["sinusrytm", "extrem vänster el-axel"]),
        ("sinusrhythmus linkstyp inferiorer infarkt möglich", ["sinusrhythmus", "linkstyp", "inferiorer infarkt möglich"]),
        ("verdacht auf linkshypertrophie vorhofflimmern", ["verdacht auf linkshypertrophie", "vorhofflimmern"]),
        ("kein infarkt", ["kein infarkt"]),
        ("", [""]),
    ],
)
def test_clauses_are_cut_where_both_sides_still_read_the_same(sentence: str, parts: list[str]) -> None:
    assert split_clauses(sentence) == parts
