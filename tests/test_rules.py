"""Measurements that support, deny, or leave nothing to say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from regen.data_prep.statements import BY_CODE, CODES, EXCLUDES
from regen.encoders.recordings import clean_and_measure
from regen.generators.plan import by_rate
from regen.generators.rules import NEVER, RULES, added, believable, denies, doubts, rate_name, supports, unreadable, unreliable


@pytest.mark.parametrize("code", sorted(RULES))
def test_nothing_is_supported_and_denied_at_once(code: str) -> None:
    assert code in BY_CODE
    for value in np.linspace(-180, 600, 2000):
        measured = {RULES[code].measure: float(value)}
        assert not (supports(code, measured) and (denies(code, measured) or doubts(code, measured))), value
        assert doubts(code, measured) or RULES[code].doubted == (-math.inf, math.inf) or not denies(code, measured) or code == "AXL", value


@pytest.mark.parametrize(("code", "axis"), [("ARAD", -170.0), ("ARAD", -120.0), ("RAD", -175.0)])
def test_the_right_axis_goes_on_beyond_180_degrees(code: str, axis: float) -> None:
    assert supports(code, {"axis": axis}) == f"frontal axis {axis:.0f} degrees"
    assert denies(code, {"axis": axis}) is None


@pytest.mark.parametrize(
    ("code", "value", "verdict"),
    [
        ("LAD", -29.0, "doubts"), ("LAD", -30.0, "supports"), ("LAD", -90.0, "supports"), ("LAD", -3.0, "denies"), ("ALAD", -40.0, "doubts"),
        ("ALAD", -45.0, "supports"), ("LAFB", -44.0, "doubts"), ("LAFB", -45.0, "supports"), ("LAFB", 0.0, "denies"), ("MID", -30.0, "supports"),
        ("MID", -31.0, "denies"), ("RAD", 89.0, "doubts"), ("RAD", 90.0, "supports"), ("AXL", -10.0, "supports"), ("IRBBB", 109.0, None),
        ("IRBBB", 110.0, "supports"), ("IRBBB", 120.0, "doubts"), ("CRBBB", 119.0, "doubts"), ("CRBBB", 120.0, "supports"), ("CLBBB", 99.0, "denies"),
        ("1AVB", 199.0, "doubts"), ("1AVB", 201.0, "supports"), ("1AVB", 160.0, "denies"), ("STACH", 99.0, "doubts"), ("SBRAD", 48.0, "supports"),
        ("LNGQT", 450.0, "doubts"), ("LNGQT", 460.0, "supports"), ("NORM", -34.0, None), ("NORM", -36.0, "denies"), ("NORM", 0.0, None),
        ("SR", 70.0, None), ("SR", 160.0, "denies"), ("LVH", 3.6, "supports"), ("LVH", 2.0, None),
    ],
)  # fmt: skip
def test_the_criteria_by_hand(code: str, value: float, verdict: str | None) -> None:
    """At, under and over what is published; a rate alone does not tell a sinus rhythm, nor a low voltage that there is no hypertrophy."""
    measured = {RULES[code].measure: value}
    said = {"supports": supports(code, measured), "denies": denies(code, measured), "doubts": doubts(code, measured)}
    assert next((name for name, words in said.items() if words), None) == verdict


def test_every_criterion_names_its_source() -> None:
    assert all(rule.source for rule in RULES.values())
    assert {code for code, rule in RULES.items() if rule.adds != NEVER} == {"1AVB", "ALAD", "LAD", "ARAD", "RAD", "AXL"}


def test_what_a_measurement_adds() -> None:
    assert list(added({"axis": -60.0}, {"SR"})) == ["ALAD", "LAD"]
    assert list(added({"axis": -60.0}, {"PACE"})) == []
    assert list(added({"axis": -60.0, "beats": 10.0, "ectopic_beats": 2.0}, {"SR"})) == ["ALAD", "LAD"]
    assert list(added({"axis": -60.0, "beats": 10.0, "ectopic_beats": 3.0}, {"SR"})) == [], "the average beat may be an ectopic one"
    assert list(added({"axis": 50.0, "pr": 260.0, "rr_cv": 0.02, "p_amplitude": 0.1}, {"SR"})) == ["1AVB"]
    assert list(added({"pr": 260.0}, {"SR"})) == [], "nothing is known of rhythm and P waves"
    assert list(added({"axis": math.nan}, {"SR"})) == []


@pytest.mark.parametrize(
    ("measured", "wrong"),
    [
        ({"qtc": 420.0, "qt": 400.0, "heart_rate": 66.0}, False),
        ({"qtc": 601.0, "qt": 470.0, "heart_rate": 98.0}, True),
        ({"qtc": 299.0, "qt": 280.0, "heart_rate": 68.0}, True),
        ({"qtc": 560.0, "qt": 406.0, "heart_rate": 119.0}, True),
        ({"qtc": math.nan, "qt": math.nan, "heart_rate": 70.0}, False),
        ({}, False),
    ],
)
def test_a_qt_interval_that_no_heart_has_is_withheld(measured: dict[str, float], wrong: bool) -> None:
    """Too long, too short, or 406 of the 504 ms between two beats."""
    assert unreliable(measured) is wrong
    kept = believable(measured, {"SR"})
    assert kept.keys() == measured.keys()
    assert kept.get("heart_rate") == measured.get("heart_rate")
    if wrong:
        assert math.isnan(kept["qtc"])
        assert math.isnan(kept["qt"])
        assert supports("LNGQT", kept) is None


@pytest.mark.parametrize(
    ("rate", "variation", "name"),
    [(49.0, 0.02, "SBRAD"), (50.0, 0.02, None), (100.0, 0.02, None), (101.0, 0.02, "STACH"), (140.0, 0.02, None), (45.0, 0.3, None)],
)
def test_the_rate_names_a_regular_sinus_rhythm(rate: float, variation: float, name: str | None) -> None:
    measured = {"heart_rate": rate, "rr_cv": variation}
    assert rate_name(measured) == name
    assert rate_name({"heart_rate": rate}) is None
    seen = np.full(len(CODES), 0.05, np.float32)
    seen[CODES.index("SR")], seen[CODES.index("AFIB")] = 0.75, 0.2
    out = by_rate(seen, measured)
    if name is None:
        np.testing.assert_array_equal(out, seen)
        return
    changed = {CODES[i]: round(float(out[i]), 3) for i in np.flatnonzero(out != seen)}
    assert changed == {name: 0.72, "SR": 0.08}, "0.9 and 0.1 of 0.75 + 0.05"
    assert seen[CODES.index("SR")] == np.float32(0.75), "the input stays as it is"


def test_what_is_not_measured_says_nothing() -> None:
    for code in RULES:
        assert supports(code, {}) is None
        assert doubts(code, {}) is None
        assert denies(code, {RULES[code].measure: math.nan}) is None


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        ({"heart_rate": 70.0, "beats": 11.0, "noise": 0.005}, None),
        ({"heart_rate": math.nan, "beats": 0.0, "noise": 0.005}, "no heart beats"),
        ({}, "no heart beats"),
        ({"heart_rate": 340.0, "beats": 50.0, "noise": 0.005}, "no heart's"),
        ({"heart_rate": 70.0, "beats": 11.0, "noise": 0.3}, "drowns"),
    ],
)
def test_unreadable(measured: dict[str, float], reason: str | None) -> None:
    said = unreadable(measured)
    assert said is None if reason is None else reason in str(said)


def test_a_recording_of_nothing_is_unreadable() -> None:
    from regen.data_prep.measure import UNITS

    _, measures = clean_and_measure(np.full((1, 12, 1000), np.nan, np.float32), 100.0)
    assert unreadable(dict(zip(UNITS, measures[0].tolist(), strict=False))) == "no heart beats were found"


def test_no_p_wave_is_measured_where_there_is_none() -> None:
    measured = {"pr": 160.0, "qrs": 90.0}
    assert believable(measured, {"SR"}) == measured
    gone = believable(measured, {"AFIB"})
    assert math.isnan(gone["pr"])
    assert gone["qrs"] == 90.0


def test_exclusion_is_mutual_and_within_the_catalogue() -> None:
    assert EXCLUDES.keys() <= set(CODES)
    for code, others in EXCLUDES.items():
        assert code not in others
        assert all(code in EXCLUDES[other] for other in others)
    assert "AFIB" in EXCLUDES["SR"]
    assert "IMI" in EXCLUDES["NORM"]
    assert "SBRAD" not in EXCLUDES["SARRH"]
    assert "VCLVH" in EXCLUDES["LVH"]
    assert {"LAFB", "CLBBB", "CRBBB", "1AVB"} <= EXCLUDES["PACE"]
    assert "SR" not in EXCLUDES["PACE"], "an atrial rhythm and a pacemaker go together"
