"""Guards: a draft claims what it can show, with cases that really say so, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from regen.data_prep.coding import sentence
from regen.data_prep.statements import BY_CODE, CODES
from regen.data_prep.wording import pairs
from regen.generators import guards
from regen.generators.judging import Basis, judge
from regen.generators.prompt import states
from regen.study import Finding, Hit, Sentence


def guard(text: str, basis: Basis) -> tuple[list[Sentence], list[Sentence], list[str]]:
    """Without the flag of a missing rhythm, which tests/test_completion.py is about: most drafts here are too short for one."""
    kept, dropped, flags = guards.guard(text, basis)
    return kept, dropped, [f for f in flags if f != "no_rhythm"]


def basis(
    positive: dict[str, float], others: dict[str, float] | None = None, hits: tuple[Hit, ...] = (), measured: dict[str, float] | None = None,
    priors: bool = False, language: str = "en",
) -> Basis:  # fmt: skip
    """Findings with threshold 0.4: `positive` as said, `others` with a probability of their own, the rest at 0.01."""
    findings = {}
    for code in CODES:
        probability = positive.get(code, (others or {}).get(code, 0.01))
        findings[code] = Finding(code, BY_CODE[code].label, probability, 0.4, code in positive)
    return Basis(findings, frozenset(positive), measured or {}, hits, priors, language)


def hit(study: str, score: float, report: str, *codes: str) -> Hit:
    return Hit(study, score, report, dict.fromkeys(codes, 1.0))


NORMAL = hit("n1", 0.9, "Sinus rhythm. Normal ECG.", "SR", "NORM")
BLOCKED = hit("b1", 0.8, "Sinus rhythm. Complete left bundle branch block.", "SR", "CLBBB")


def test_a_finding_with_a_case_behind_it_is_supported() -> None:
    kept, dropped, flags = guard("Sinus rhythm. Normal ECG.", basis({"SR": 0.55, "NORM": 0.9}, hits=(BLOCKED, NORMAL)))
    assert [(s.text, s.status, s.finding, s.probability) for s in kept] == [
        ("Sinus rhythm.", "supported", "SR", 0.55), ("Normal ECG.", "supported", "NORM", 0.9),
    ]  # fmt: skip
    assert [e.study_id for e in kept[0].evidence] == ["n1", "b1"], "nearest first"
    assert [e.study_id for e in kept[1].evidence] == ["n1"]
    assert (dropped, flags) == ([], [])


@pytest.mark.parametrize("hits", [(), (NORMAL,) * 20])
def test_a_probability_of_a_half_supports_and_less_is_uncertain_however_many_cases_agree(hits: tuple[Hit, ...]) -> None:
    strong, weak = (guard("Normal ECG.", basis({"NORM": p}, hits=hits))[0][0] for p in (0.5, 0.49))
    assert (strong.status, weak.status) == ("supported", "uncertain")
    assert len(strong.evidence) == len(weak.evidence) == min(len(hits), 5)


def test_a_measurement_supports_in_words() -> None:
    (said,), _, _ = guard("Sinus bradycardia.", basis({"SBRAD": 0.45}, measured={"heart_rate": 48.0}))
    assert (said.status, said.measured) == ("supported", "heart rate 48 /min")


def test_near_the_threshold_and_stated_by_a_case_is_uncertain() -> None:
    said = judge("Complete left bundle branch block.", basis({"SR": 0.9}, {"CLBBB": 0.33}, (BLOCKED,)))
    assert (said.status, [e.study_id for e in said.evidence]) == ("uncertain", ["b1"])


@pytest.mark.parametrize(("probability", "hits"), [(0.19, (BLOCKED,)), (0.3, (NORMAL,)), (0.01, ())])
def test_what_nothing_holds_is_contradicted_dropped_and_noted(probability: float, hits: tuple[Hit, ...]) -> None:
    kept, dropped, flags = guard("Sinus rhythm. Complete left bundle branch block.", basis({"SR": 0.9}, {"CLBBB": probability}, hits))
    assert [s.text for s in kept] == ["Sinus rhythm."]
    assert [(s.text, s.status, s.finding) for s in dropped] == [("Complete left bundle branch block.", "contradicted", "CLBBB")]
    assert dropped[0].reason == f"probability {probability:.2f}, under the threshold of 0.40"
    assert flags == ["sentences_dropped"]


def test_a_measurement_contradicts_even_a_finding() -> None:
    kept, dropped, flags = guard("Sinus bradycardia.", basis({"SBRAD": 0.9}, hits=(hit("s", 0.9, "", "SBRAD"),), measured={"heart_rate": 96.0}))
    assert kept == []
    assert (dropped[0].status, dropped[0].reason, dropped[0].probability) == ("contradicted", "heart rate 96 /min", 0.9)
    assert flags == ["unstated:SBRAD", "sentences_dropped"]


def test_an_axis_is_held_against_the_measured_axis_and_the_cases() -> None:
    left = hit("l", 0.7, "Left axis deviation.")
    for axis, hits, status in (
        (-50.0, (left,), "supported"),
        (-50.0, (), "supported"),
        (-30.0, (), "supported"),
        (-25.0, (left,), "uncertain"),
        (-25.0, (), "contradicted"),
        (None, (left,), "uncertain"),
        (-5.0, (left,), "contradicted"),
        (80.0, (left,), "contradicted"),
    ):
        measured = {} if axis is None else {"axis": axis}
        said = judge("Left axis deviation.", basis({"SR": 0.9}, hits=hits, measured=measured))
        assert said.status == status, (axis, hits)
        assert said.probability is None
        if status != "contradicted":
            assert [e.study_id for e in said.evidence] == [h.study_id for h in hits]


def test_denying_what_is_not_there_is_supported_and_what_is_there_contradicted() -> None:
    absent = judge("No left ventricular hypertrophy.", basis({"SR": 0.9}, {"LVH": 0.05}))
    assert (absent.status, absent.finding, absent.probability) == ("supported", "LVH", pytest.approx(0.95))
    kept, dropped, flags = guard("No left ventricular hypertrophy.", basis({"LVH": 0.8}))
    assert [s.text for s in dropped] == ["No left ventricular hypertrophy."]
    assert [states(s.text) for s in kept] == [[("LVH", "uncertain")]], "the finding is added in its place, doubted because no case states it"
    assert flags == ["completed:LVH", "sentences_dropped"]


def test_a_case_that_denies_a_statement_is_no_evidence_for_it() -> None:
    denying = hit("d", 0.95, "No left axis deviation. No LVH.")
    stating = hit("s", 0.5, "Left axis deviation. Left ventricular hypertrophy.", "LVH")
    said, _, _ = guard("Left axis deviation. Left ventricular hypertrophy.", basis({"LVH": 0.9}, hits=(denying, stating), measured={"axis": -45.0}))
    assert [[e.study_id for e in s.evidence] for s in said] == [["s"], ["s"]]


def test_evidence_is_the_five_nearest_that_state_it() -> None:
    hits = tuple(hit(f"h{i}", i / 20, "Normal ECG." if i % 2 else "Sinus rhythm.", "NORM" if i % 2 else "SR") for i in range(20))
    (said,), _, _ = guard("Normal ECG.", basis({"NORM": 0.9}, hits=hits))
    assert [(e.study_id, e.score) for e in said.evidence] == [(f"h{i}", i / 20) for i in (19, 17, 15, 13, 11)]


@pytest.mark.parametrize(
    "phrase", ["Unchanged since the previous ECG.", "Compared with the prior tracing, sinus rhythm.", "Unverändert zum Vor-EKG."]
)
def test_comparisons_need_a_prior(phrase: str) -> None:
    prior = hit("p", 0.9, phrase, "SR")
    kept, dropped, flags = guard(f"Sinus rhythm. {phrase}", basis({"SR": 0.9}, hits=(prior,)))
    assert [s.text for s in kept] == ["Sinus rhythm."]
    assert [(s.text, s.status) for s in dropped] == [(phrase, "contradicted")]
    assert "earlier recording" in str(dropped[0].reason)
    assert flags == ["sentences_dropped"]
    kept, dropped, _ = guard(phrase, basis({"SR": 0.9}, hits=(prior,), priors=True))
    assert phrase in [s.text for s in kept]
    assert dropped == []


def test_said_twice_is_kept_once() -> None:
    kept, dropped, flags = guard("Sinus rhythm. Sinus rhythm. Normal ECG. Sinus rhythm.", basis({"SR": 0.9, "NORM": 0.9}))
    assert [s.text for s in kept] == ["Sinus rhythm.", "Normal ECG."]
    assert (dropped, flags) == ([], [])


def test_a_sentence_is_as_good_as_the_worst_it_states() -> None:
    text = "Sinus rhythm with complete left bundle branch block."
    assert len(states(text)) == 2
    assert judge(text, basis({"SR": 0.9})).status == "contradicted"
    assert judge(text, basis({"SR": 0.9, "CLBBB": 0.9})).status == "supported"


def test_words_outside_the_catalogue_need_a_case_that_has_them() -> None:
    text = "Tracing of good quality."
    assert states(text) == []
    assert judge(text, basis({"SR": 0.9})).status == "contradicted"
    said = judge(text, basis({"SR": 0.9}, hits=(hit("q", 0.4, f"Sinus rhythm. {text}", "SR"), NORMAL)))
    assert (said.status, [e.study_id for e in said.evidence]) == ("uncertain", ["q"])


def test_a_forgotten_finding_is_added_in_its_clinical_place() -> None:
    kept, _, flags = guard("Sinus rhythm. Non-specific ST changes.", basis({"SR": 0.9, "NST_": 0.9, "CLBBB": 0.8}, hits=(BLOCKED,)))
    assert [s.finding for s in kept] == ["SR", "CLBBB", "NST_"]
    assert kept[1].text == sentence("CLBBB", 1.0)
    assert [e.study_id for e in kept[1].evidence] == ["b1"]
    assert flags == ["completed:CLBBB"]


def test_in_another_language_a_forgotten_finding_takes_a_case_s_words_or_is_flagged() -> None:
    german = hit("g", 0.6, "Sinusrhythmus. Linksschenkelblock.", "SR", "CLBBB")
    kept, _, flags = guard("Sinusrhythmus.", basis({"SR": 0.9, "CLBBB": 0.8}, hits=(german,), language="de"))
    assert ([s.text for s in kept], flags) == (["Sinusrhythmus.", "Linksschenkelblock."], ["completed:CLBBB"])
    kept, _, flags = guard("Sinusrhythmus.", basis({"SR": 0.9, "CLBBB": 0.8}, language="de"))
    assert ([s.text for s in kept], flags) == (["Sinusrhythmus."], ["unstated:CLBBB"])


@pytest.mark.parametrize("likelihood", [1.0, 0.5, 0.15])
@pytest.mark.parametrize("code", CODES)
def test_whatever_is_added_reads_back_and_stands(code: str, likelihood: float) -> None:
    """The catalogue's own sentence of every statement, however sure, passes the guard that it was written for."""
    case = Hit("c", 0.9, "", {code: likelihood})
    kept, dropped, flags = guard("", basis({code: 0.9}, hits=(case,)))
    assert [c for c, _ in states(kept[0].text)][:1] == [code], kept[0].text
    assert [(s.status, s.finding, [e.study_id for e in s.evidence]) for s in kept] == [("supported", code, ["c"])]
    assert (dropped, flags) == ([], [f"completed:{code}"])


def test_nothing_written_still_gives_a_report() -> None:
    kept, dropped, flags = guard("", basis({"AFIB": 0.7}))
    assert [s.finding for s in kept] == ["AFIB"]
    assert (dropped, flags) == ([], ["completed:AFIB"])


def test_a_finding_keeps_out_what_it_excludes() -> None:
    kept, dropped, _ = guard("Sinus rhythm. Atrial fibrillation.", basis({"SR": 0.9}, {"AFIB": 0.39}, (hit("a", 0.9, "", "AFIB"),)))
    assert [s.finding for s in kept] == ["SR"]
    assert [(s.finding, s.reason) for s in dropped] == [("AFIB", "excluded by the finding sinus rhythm")]


def test_one_axis_is_enough() -> None:
    hits = (hit("m", 0.9, "Normal axis. Left axis deviation."),)
    kept, dropped, _ = guard("Normal axis. Left axis deviation.", basis({"SR": 0.9}, hits=hits, measured={"axis": -25.0}))
    assert [s.finding for s in kept if s.finding != "SR"] == ["MID"]
    assert [(s.finding, s.reason) for s in dropped] == [("LAD", "another axis was stated before")]


@pytest.mark.parametrize(
    ("text", "code", "measured"), [("No sinus tachycardia.", "STACH", {"heart_rate": 130.0}), ("No left axis deviation.", "LAD", {"axis": -40.0})]
)
def test_a_measurement_refutes_a_denial(text: str, code: str, measured: dict[str, float]) -> None:
    said = judge(text, basis({"SR": 0.9}, {"STACH": 0.05}, (hit("l", 0.9, "Left axis deviation."),), measured))
    assert (said.status, said.finding, said.evidence) == ("contradicted", code, ())


def test_a_stage_or_a_count_stands_only_where_a_case_says_the_very_same() -> None:
    text = "Inferior myocardial infarction, stage I. Ventricular premature complexes (7)."
    same = hit("i", 0.9, "Inferior myocardial infarction, stage I.", "IMI")
    kept, _, _ = guard(text, basis({"IMI": 0.9, "PVC": 0.9}, hits=(same, hit("p", 0.8, "Ventricular premature complexes (2).", "PVC"))))
    assert [s.text for s in kept] == ["Inferior myocardial infarction, stage I.", "Ventricular premature complexes."]


@pytest.mark.parametrize(
    ("code", "text", "measured", "status", "why"),
    [
        ("IRBBB", "Incomplete right bundle branch block.", {"qrs": 114.0}, "supported", None),
        ("IRBBB", "Incomplete right bundle branch block.", {"qrs": 124.0}, "uncertain", "QRS duration 124 ms misses the criterion"),
        ("IRBBB", "Incomplete right bundle branch block.", {"qrs": 140.0}, "contradicted", "QRS duration 140 ms"),
        ("LAFB", "Left anterior fascicular block.", {"axis": -38.0}, "uncertain", "frontal axis -38 degrees misses the criterion"),
        ("1AVB", "First-degree AV block.", {"pr": 190.0}, "uncertain", "PR interval 190 ms misses the criterion"),
        ("1AVB", "First-degree AV block.", {}, "supported", None),
    ],
)
def test_a_missed_criterion_makes_the_likeliest_finding_uncertain(
    code: str, text: str, measured: dict[str, float], status: str, why: str | None
) -> None:
    said = judge(text, basis({code: 0.9}, measured=measured))
    assert (said.status, said.reason) == (status, why)


def test_in_another_language_no_denial_is_taken_for_a_finding() -> None:
    denying = hit("g", 0.6, "Kein AV-Block I.", "1AVB")
    kept, _, flags = guard("Sinusrhythmus.", basis({"SR": 0.9, "1AVB": 0.8}, hits=(denying,), language="de"))
    assert ([s.text for s in kept], flags) == (["Sinusrhythmus."], ["unstated:1AVB"])


def test_reports_without_stops_are_judged_statement_by_statement() -> None:
    case = Hit("d1", 0.9, "sinusrhythmus linksschenkelblock", {"SR": 1.0, "CLBBB": 1.0}, language="de")
    english = Hit("e1", 0.95, "Left bundle branch block", {"CLBBB": 1.0}, language="en")
    given = basis({"SR": 0.9, "CLBBB": 0.9}, hits=(english, case), language="de")
    kept, dropped, flags = guard("sinusrhythmus inferiorer infarkt wahrscheinlich alt", given)
    assert [s.text for s in kept] == ["sinusrhythmus", "linksschenkelblock"], "the case's own words, in the language asked for"
    assert [s.text for s in dropped] == ["inferiorer infarkt wahrscheinlich alt"]
    assert "completed:CLBBB" in flags


@pytest.mark.parametrize(("text", "said"), [("vorhofflattern 180", None), ("Atrial flutter, rate 92.", 90.0), ("Atrial flutter in v4-6, 1.", None)])
def test_a_number_stands_only_where_it_was_measured(text: str, said: float | None) -> None:
    code = "AFLT"
    given = basis({code: 0.9}, measured={"heart_rate": said or 75.0}, language="de" if text.startswith("v") else "en")
    kept, dropped, _ = guard(text, given)
    assert (text in [s.text for s in dropped]) == ("180" in text)
    if dropped:
        assert dropped[0].reason == "states the number 180, which was not measured here"
    assert not [s for s in kept if "180" in s.text]


@pytest.mark.parametrize(
    "text",
    ["sinus rhythm, rate 180, otherwise fine", "sinus rhythm 180bpm", "Sinus rhythm, rate 180-190.", "sinus rhythm 99,5", "12.05.2001 sinus rhythm"],
)
def test_no_number_of_another_patient_gets_through(text: str) -> None:
    kept, dropped, _ = guard(text, basis({"SR": 0.9}, measured={"heart_rate": 72.0}))
    assert text in [s.text for s in dropped], kept
    near = text.replace("180-190", "72-75").replace("180", "72").replace("99,5", "72,4").replace("12.05.2001 ", "")
    assert near in [s.text for s in guard(near, basis({"SR": 0.9}, measured={"heart_rate": 72.0}))[0]]


def test_parts_of_the_prompt_and_words_that_nobody_says_go() -> None:
    given = basis({"SR": 0.9, "STATIC": 0.9}, measured={"noise": 0.5})
    kept, dropped, _ = guard("Sinus rhythm. Extra beats: 1 offindings: sinus rhythm;;", given)
    assert [s.text for s in kept if "findings" in s.text] == []
    assert dropped[0].reason == "no report of the archive is worded like that"
    known = replace(given, wording=frozenset(pairs("Sinus rhythm. Static noise in I-aVF. First-degree AV block.")))
    kept, dropped, _ = guard("Sinus rhythm. Static noise in I-degree AV block.", known)
    assert [s.reason for s in dropped] == ["no report of the archive is worded like that"]
    assert kept[0].text == "Sinus rhythm."


def test_a_likelier_finding_rules_normal_out() -> None:
    given = basis({"NDT": 0.9}, {"NORM": 0.65})
    _, dropped, _ = guard("Non-diagnostic T-wave abnormality. Normal ECG.", given)
    assert [s.reason for s in dropped] == ["a likelier finding rules it out"]


def test_a_count_of_beats_is_the_measured_one_or_none() -> None:
    for measured, text in ((1.0, "Extra beats: 1 of unspecified origin."), (9.0, "Extra beats of unspecified origin.")):
        said = guard(
            "Extra beats: 1 of unspecified origin.",
            basis({"SR": 0.9}, measured={"ectopic_beats": measured}, hits=(hit("x", 0.9, "Extra beats: 1 of unspecified origin."),)),
        )[0]
        assert text in [s.text for s in said]
