"""Measurements that support, deny, or leave nothing to say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from regen.data_prep.statements import BY_CODE, CODES, EXCLUDES
from regen.encoders.recordings import clean_and_measure
from regen.generators.rules import RULES, believable, denies, supports, unreadable


@pytest.mark.parametrize("code", sorted(RULES))
def test_nothing_is_supported_and_denied_at_once(code: str) -> None:
    assert code in BY_CODE
    for value in np.linspace(-180, 600, 2000):
        measured = {RULES[code].measure: float(value)}
        assert not (supports(code, measured) and denies(code, measured)), value


@pytest.mark.parametrize(("code", "axis"), [("ARAD", -170.0), ("ARAD", -120.0), ("RAD", -175.0)])
def test_the_right_axis_goes_on_beyond_180_degrees(code: str, axis: float) -> None:
    assert supports(code, {"axis": axis}) == f"frontal axis {axis:.0f} degrees"
    assert denies(code, {"axis": axis}) is None


def test_what_is_not_measured_says_nothing() -> None:
    for code in RULES:
        assert supports(code, {}) is None
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
