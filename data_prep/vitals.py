"""The closed table of vital signs: one name, one unit, a plausible range, and what others call them.

    checked(frame)      code 'VITAL//temperature', raw '98.6', unit 'degF'  ->  numeric_value 37.0, reason None, note None
                        raw '-3'   ->  reason 'heart_rate: negative'           raw 'fast'  ->  reason 'heart_rate: text where a number belongs'
                        raw '700'  ->  numeric_value None, note 'heart_rate outside 20 to 300 /min: missing'

A value outside its range is missing (the row stays: something was measured, nobody knows what); negative and textual ones are refused. A unit
that is stated is converted (Fahrenheit, kPa, a fraction of 1). Only temperature is also converted against or without a stated unit, because its
ranges in Celsius and Fahrenheit do not overlap; a pressure without a unit is never taken for kPa: 16 may as well be a mistyped 160.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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
_TEMPERATURE = VITALS["temperature"]
_BY_UNIT = {f"{name}|{unit}": pair for name, vital in VITALS.items() for unit, pair in vital.units.items()}


def vital_of(name: str) -> str | None:
    """'Pulse Rate', 'heart_rate', 'HR' -> 'heart_rate'; None for what is no vital sign of the table."""
    return BY_ALIAS.get(" ".join(name.lower().replace("_", " ").split()))


def checked(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Rows with code ('VITAL//...' or 'TRIAGE//...' of the table), raw and unit (text or null) -> the same with numeric_value, reason, note.

    numeric_value: Float32 in the canonical unit, null where missing. reason: why the row is refused, else null. note: what was done to it.
    """
    name = pl.col("code").str.split("//").list.last()
    number = pl.col("raw").str.strip_chars().cast(pl.Float64, strict=False)
    unit = pl.col("unit").str.strip_chars().str.to_lowercase().replace({"": None, "unk": None})
    key = name + "|" + unit

    def of(which: int) -> pl.Expr:
        table = {k: pair[which] for k, pair in _BY_UNIT.items()}
        return key.replace_strict(list(table), list(table.values()), default=None, return_dtype=pl.Float64)

    def limit(which: str) -> pl.Expr:
        return name.replace_strict(list(VITALS), [float(getattr(v, which)) for v in VITALS.values()], return_dtype=pl.Float64)

    frame = frame.with_columns(name.alias("_name"), number.alias("_number"), unit.alias("_unit"), of(0).fill_null(1.0).alias("_scale"),
                               of(1).fill_null(0.0).alias("_offset"), of(0).is_not_null().alias("_known"), limit("low").alias("_low"),
                               limit("high").alias("_high"))  # fmt: skip
    frame = frame.with_columns((pl.col("_number") * pl.col("_scale") + pl.col("_offset")).alias("_value"))
    frame = frame.with_columns(_reason().alias("reason"), _temperature().alias("_value"))
    inside = pl.col("_value").is_between(pl.col("_low"), pl.col("_high"))
    frame = frame.with_columns(
        pl.when(inside & pl.col("reason").is_null()).then(pl.col("_value")).cast(pl.Float32).alias("numeric_value"), _note(inside).alias("note")
    )
    return frame.drop(c for c in ("_name", "_number", "_unit", "_scale", "_offset", "_known", "_low", "_high", "_value"))


def _reason() -> pl.Expr:
    name, number = pl.col("_name"), pl.col("_number")
    return (
        pl.when(number.is_null() | ~number.is_finite()).then(name + ": text where a number belongs")
        .when(number < 0).then(name + ": negative")
        .when(pl.col("_unit").is_not_null() & ~pl.col("_known")).then(name + ": unknown unit " + pl.col("_unit"))
    )  # fmt: skip


def _temperature() -> pl.Expr:
    """The value as stated where that is possible, else in whichever unit is."""
    number, value, vital = pl.col("_number"), pl.col("_value"), _TEMPERATURE
    fahrenheit = (number - 32) / 1.8
    return (
        pl.when((pl.col("_name") != "temperature") | value.is_between(vital.low, vital.high)).then(value)
        .when(number.is_between(vital.low, vital.high)).then(number)
        .when(fahrenheit.is_between(vital.low, vital.high)).then(fahrenheit)
        .otherwise(value)
    )  # fmt: skip


def _note(inside: pl.Expr) -> pl.Expr:
    as_stated = pl.col("_number") * pl.col("_scale") + pl.col("_offset")
    ranges = [f" outside {v.low:g} to {v.high:g} {v.unit}: missing" for v in VITALS.values()]
    return (
        pl.when(pl.col("reason").is_not_null()).then(None)
        .when(~inside).then(pl.col("_name") + pl.col("_name").replace_strict(list(VITALS), ranges, return_dtype=pl.String))
        .when((pl.col("_value") - as_stated).abs() < 1e-9).then(None)
        .when(pl.col("_unit").is_null()).then(pl.lit("temperature without a unit: Fahrenheit by its size"))
        .otherwise(pl.lit("temperature not in the unit that is stated: converted by its size"))
    )  # fmt: skip
