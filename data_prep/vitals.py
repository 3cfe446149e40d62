"""The closed table of vital signs: one name, one unit, a plausible range, and what others call them.

    checked(frame)      code 'VITAL//temperature', raw '98.6', unit 'degF'  ->  numeric_value 37.0, reason None, note None
                        raw '-3'   ->  reason 'heart_rate: negative'           raw 'fast'  ->  reason 'heart_rate: text where a number belongs'
                        raw '700'  ->  numeric_value None, note 'heart_rate outside 20 to 300 /min: missing'

A value outside its range is missing (the row stays: something was measured, nobody knows what); negative and textual ones are refused. A unit
that is stated is converted (Fahrenheit, kPa, a fraction of 1). Only temperature is also converted against or without a stated unit, because its
ranges in Celsius and Fahrenheit do not overlap; a pressure without a unit is never taken for kPa: 16 may as well be a mistyped 160.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import polars as pl

Units = dict[str, tuple[float, float]]
"""A unit in lower case -> (scale, offset): canonical = value * scale + offset."""

_PER_MINUTE: Units = dict.fromkeys(("/min", "1/min", "bpm", "{beats}/min", "beats/min", "beats/minute", "{breaths}/min", "breaths/min",
                                    "breaths/minute", "insp/min", "per minute"), (1.0, 0.0))  # fmt: skip
_PRESSURE: Units = dict.fromkeys(("mmhg", "mm[hg]", "mm hg"), (1.0, 0.0)) | {"kpa": (7.500617, 0.0)}
_CELSIUS: Units = dict.fromkeys(("cel", "c", "°c", "degc", "deg c", "celsius"), (1.0, 0.0))
_FAHRENHEIT: Units = dict.fromkeys(("f", "[degf]", "°f", "degf", "deg f", "fahrenheit"), (1 / 1.8, -32 / 1.8))
_PERCENT: Units = dict.fromkeys(("%", "percent"), (1.0, 0.0)) | dict.fromkeys(("1", "fraction"), (100.0, 0.0))
_SCORE: Units = dict.fromkeys(("1", "score", "{score}", "points"), (1.0, 0.0))


@dataclass(frozen=True, slots=True)
class Vital:
    """low, high: plausible range in `unit`, both included. aliases: lower case, blanks for underscores. loinc: the codes that FHIR uses."""

    unit: str
    low: float
    high: float
    units: Units
    aliases: tuple[str, ...]
    loinc: tuple[str, ...] = field(default=())


VITALS: dict[str, Vital] = {
    "heart_rate": Vital("/min", 20, 300, _PER_MINUTE, ("hr", "heartrate", "pulse", "pulse rate"), ("8867-4",)),
    "resp_rate": Vital("/min", 3, 80, _PER_MINUTE, ("rr", "resprate", "respiratory rate", "respiration rate"), ("9279-1",)),
    "sbp": Vital("mmHg", 30, 300, _PRESSURE, ("systolic", "systolic bp", "systolic blood pressure"), ("8480-6",)),
    "dbp": Vital("mmHg", 10, 200, _PRESSURE, ("diastolic", "diastolic bp", "diastolic blood pressure"), ("8462-4",)),
    "spo2": Vital("%", 40, 100, _PERCENT, ("o2sat", "sao2", "o2 saturation", "oxygen saturation", "blood oxygen saturation"), ("2708-6", "59408-5")),
    "temperature": Vital("Cel", 25, 45, _CELSIUS | _FAHRENHEIT, ("temp", "body temperature"), ("8310-5",)),
    "pain": Vital("0-10", 0, 10, _SCORE, ("pain score", "pain severity"), ("72514-3",)),
    "acuity": Vital("1-5", 1, 5, _SCORE, ("esi", "triage acuity"), ("54094-8",)),
}
BY_ALIAS = {name.replace("_", " "): name for name in VITALS} | {alias: name for name, v in VITALS.items() for alias in v.aliases}
BY_LOINC = {code: name for name, v in VITALS.items() for code in v.loinc}
CODES = {f"{prefix}//{name}": at for prefix in ("TRIAGE", "VITAL") for at, name in enumerate(VITALS)}
"""Code -> place of its vital in VITALS."""
_REFUSED = ("text where a number belongs", "negative", "unknown unit")
_SIZED = "temperature without a unit: Fahrenheit by its size"
_OTHER = "temperature not in the unit that is stated: converted by its size"


def vital_of(name: str) -> str | None:
    """'Pulse Rate', 'heart_rate', 'HR' -> 'heart_rate'; None for what is no vital sign of the table."""
    return BY_ALIAS.get(" ".join(name.lower().replace("_", " ").split()))


def checked(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Rows with code (of CODES), raw and unit (text or null) -> the same with numeric_value, reason and note. Streams.

    numeric_value: Float32 in the canonical unit, null where missing. reason: why the row is refused, else null. note: what was done to it.
    """
    number, unit = pl.col("raw").str.strip_chars().cast(pl.Float64, strict=False), pl.col("unit").str.strip_chars().str.to_lowercase()
    vital = pl.col("code").replace_strict(list(CODES), list(CODES.values()), return_dtype=pl.UInt8)
    frame = frame.with_columns(number.alias("_number"), unit.replace({"": None, "unk": None}).alias("_unit"), vital.alias("_vital"))
    frame = frame.with_columns(_stated().alias("_stated"), _refused().alias("_refused"))
    frame = frame.with_columns(_possible().alias("_value"), _each(lambda v: v.low).alias("_low"), _each(lambda v: v.high).alias("_high"))
    frame = frame.with_columns((pl.col("_value").is_between("_low", "_high")).alias("_inside"))
    value = pl.when(pl.col("_inside") & pl.col("_refused").is_null()).then(pl.col("_value")).cast(pl.Float32)
    frame = frame.with_columns(value.alias("numeric_value"), _reason().alias("reason"), _note().alias("note"))
    return frame.drop("_number", "_unit", "_vital", "_stated", "_refused", "_value", "_low", "_high", "_inside")


def _each(of: Callable[[Vital], Any]) -> pl.Expr:
    """A value by vital sign, without looking any text up."""
    out = pl.lit(None)
    for at, vital in enumerate(VITALS.values()):
        out = pl.when(pl.col("_vital") == at).then(of(vital)).otherwise(out)
    return out


def _stated() -> pl.Expr:
    """The number in the canonical unit, if its unit is what it says it is."""
    number, out = pl.col("_number"), pl.col("_number")
    for at, vital in enumerate(VITALS.values()):
        for pair in sorted(set(vital.units.values()) - {(1.0, 0.0)}):
            named = pl.col("_unit").is_in([unit for unit, p in vital.units.items() if p == pair])
            out = pl.when((pl.col("_vital") == at) & named.fill_null(False)).then(number * pair[0] + pair[1]).otherwise(out)
    return out


def _refused() -> pl.Expr:
    """The place in _REFUSED, null where nothing is wrong."""
    number, unknown = pl.col("_number"), _each(lambda v: ~pl.col("_unit").is_in(list(v.units)))
    return (
        pl.when(number.is_null() | ~number.is_finite()).then(pl.lit(0, pl.UInt8))
        .when(number < 0).then(pl.lit(1, pl.UInt8))
        .when(pl.col("_unit").is_not_null() & unknown).then(pl.lit(2, pl.UInt8))
    )  # fmt: skip


def _possible() -> pl.Expr:
    """The stated value; a temperature that cannot be is taken in the unit in which it can."""
    number, stated, vital = pl.col("_number"), pl.col("_stated"), VITALS["temperature"]
    fahrenheit = (number - 32) / 1.8
    return (
        pl.when((pl.col("_vital") != list(VITALS).index("temperature")) | stated.is_between(vital.low, vital.high)).then(stated)
        .when(number.is_between(vital.low, vital.high)).then(number)
        .when(fahrenheit.is_between(vital.low, vital.high)).then(fahrenheit)
        .otherwise(stated)
    )  # fmt: skip


def _reason() -> pl.Expr:
    names = {at * 8 + v: f"{name}: {what}" for v, name in enumerate(VITALS) for at, what in enumerate(_REFUSED)}
    text = (pl.col("_refused") * 8 + pl.col("_vital")).replace_strict(list(names), list(names.values()), default=None, return_dtype=pl.String)
    return pl.when(pl.col("_refused") == 2).then(text + " " + pl.col("_unit")).otherwise(text)


def _note() -> pl.Expr:
    size = pl.when(pl.col("_unit").is_null()).then(pl.lit(len(VITALS), pl.UInt8)).otherwise(pl.lit(len(VITALS) + 1, pl.UInt8))
    what = (
        pl.when(pl.col("_refused").is_not_null()).then(pl.lit(None, pl.UInt8))
        .when(~pl.col("_inside")).then(pl.col("_vital"))
        .when((pl.col("_value") - pl.col("_stated")).abs() > 1e-9).then(size)
    )  # fmt: skip
    outside = [f"{name} outside {v.low:g} to {v.high:g} {v.unit}: missing" for name, v in VITALS.items()]
    return what.replace_strict(list(range(len(VITALS) + 2)), [*outside, _SIZED, _OTHER], default=None, return_dtype=pl.String)
