"""Vital signs: every conversion, range and refusal, worked by hand."""

from __future__ import annotations

import polars as pl
import pytest

from regen.data_prep.vitals import BY_LOINC, CODES, VITALS, checked, vital_of


def check(name: str, raw: str, unit: str | None = None) -> tuple[float | None, str | None, str | None]:
    """(numeric_value, reason, note) of one reading."""
    rows = pl.LazyFrame({"code": [f"VITAL//{name}"], "raw": [raw], "unit": [unit]}, schema={"code": pl.String, "raw": pl.String, "unit": pl.String})
    return checked(rows).select("numeric_value", "reason", "note").collect().row(0)


@pytest.mark.parametrize(
    ("name", "raw", "unit", "value"),
    [
        ("heart_rate", " 118 ", None, 118),
        ("heart_rate", "118", "{beats}/min", 118),
        ("temperature", "98.6", "[degF]", 37.0),
        ("temperature", "38.2", "Cel", 38.2),
        ("sbp", "16", "kPa", 120.00987),
        ("dbp", "80", "mm[Hg]", 80),
        ("spo2", "0.97", "1", 97),
        ("spo2", "97", "%", 97),
        ("pain", "0", None, 0),
        ("acuity", "3", "", 3),
        ("resp_rate", "18", "UNK", 18),
    ],
)
def test_a_value_comes_in_the_canonical_unit(name: str, raw: str, unit: str | None, value: float) -> None:
    got, reason, note = check(name, raw, unit)
    assert got == pytest.approx(value, rel=1e-5)
    assert (reason, note) == (None, None)


@pytest.mark.parametrize(
    ("raw", "unit", "value", "note"),
    [
        ("98.6", None, 37.0, "temperature without a unit: Fahrenheit by its size"),
        ("37.0", None, 37.0, None),
        ("37.0", "f", 37.0, "temperature not in the unit that is stated: converted by its size"),
        ("99", "C", 37.22222, "temperature not in the unit that is stated: converted by its size"),
        ("60", "f", None, "temperature outside 25 to 45 Cel: missing"),
    ],
)
def test_a_temperature_is_taken_in_the_unit_in_which_it_can_be(raw: str, unit: str | None, value: float | None, note: str | None) -> None:
    got, reason, said = check("temperature", raw, unit)
    assert got == (None if value is None else pytest.approx(value, abs=1e-4))
    assert (reason, said) == (None, note)


def test_fahrenheit_and_celsius_cannot_be_mistaken_for_each_other() -> None:
    vital = VITALS["temperature"]
    assert vital.high < vital.low * 1.8 + 32


@pytest.mark.parametrize(
    ("name", "raw", "unit", "reason"),
    [
        ("heart_rate", "-3", None, "heart_rate: negative"),
        ("sbp", "-12", "mmHg", "sbp: negative"),
        ("heart_rate", "fast", None, "heart_rate: text where a number belongs"),
        ("pain", "7-8", None, "pain: text where a number belongs"),
        ("sbp", "120/80", None, "sbp: text where a number belongs"),
        ("spo2", "nan", None, "spo2: text where a number belongs"),
        ("spo2", "inf", None, "spo2: text where a number belongs"),
        ("heart_rate", "80", "mmHg", "heart_rate: unknown unit mmhg"),
    ],
)
def test_text_negative_values_and_unknown_units_are_refused(name: str, raw: str, unit: str | None, reason: str) -> None:
    assert check(name, raw, unit) == (None, reason, None)


@pytest.mark.parametrize("name", VITALS)
def test_both_limits_are_inside_and_beyond_is_missing_with_a_note(name: str) -> None:
    vital = VITALS[name]
    for edge in (vital.low, vital.high):
        assert check(name, str(edge)) == (pytest.approx(edge), None, None)
    value, reason, note = check(name, "999")
    assert (value, reason) == (None, None)
    assert note is not None
    assert note.startswith(f"{name} outside")
    assert note.endswith("missing")


def test_a_pressure_without_a_unit_is_never_taken_for_kilopascal() -> None:
    assert check("sbp", "16")[0] is None


@pytest.mark.parametrize(
    ("words", "name"), [("Pulse Rate", "heart_rate"), ("HR", "heart_rate"), ("o2sat", "spo2"), ("systolic_bp", "sbp"), ("weight", None)]
)
def test_other_names(words: str, name: str | None) -> None:
    assert vital_of(words) == name


def test_the_tables_agree() -> None:
    aliases = [alias for v in VITALS.values() for alias in v.aliases]
    assert len(aliases) == len(set(aliases))
    assert all(alias == alias.lower() for alias in aliases)
    assert len(CODES) == 2 * len(VITALS)
    assert sum(len(v.loinc) for v in VITALS.values()) == len(BY_LOINC)
