"""The open demos of eICU-CRD 2.0.1 and MIMIC-III 1.4 as MEDS rows: labs, medications, diagnoses, and eICU's charted vital signs.

    rows = eicu(Path("icu-demo"), tally)      rows: a frame of regen.data_prep.events.CANDIDATE, subject_id = uniquepid
    rows = mimic3(Path("icu-demo"), tally)

eICU gives minutes from the admission to the unit and the year of discharge, no dates: a stay is put on the first of January of that year, at the
hour of its admission. Hours within a stay are right, days between the stays of one patient are made up.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from regen.data_prep.events import NO_TIME, NO_VALUE, Tally, candidates, code_part_of, parsed_time
from regen.data_prep.vitals import checked
from regen.errors import DataError

ENDS_FIRST = "ends before it begins"
_CHARTED = {
    "HR Current": "heart_rate", "Resp Current": "resp_rate", "BP (systolic) Current": "sbp", "BP (diastolic) Current": "dbp",
    "O2 Sat% Current": "spo2",
}  # fmt: skip
_MADE_UP_DAYS = "eICU has no dates: each stay is put on the first of January of its year of discharge"


def eicu(folder: Path, tally: Tally) -> pl.LazyFrame:
    """Labs, medication orders, diagnoses and charted vital signs of the eICU demo. Stays are counted in the tally.

    Raises:
        DataError: a table or a column is missing.
    """
    stays = _table(folder, "eicudemo__patient", "patientunitstayid", "uniquepid", "hospitaldischargeyear", "unitadmittime24", "unitdischargeoffset")
    start = pl.concat_str("hospitaldischargeyear", pl.lit("-01-01 "), "unitadmittime24").str.to_datetime(
        "%Y-%m-%d %H:%M:%S", strict=False, time_unit="us"
    )
    wrong = pl.when(pl.col("unitdischargeoffset").cast(pl.Int64, strict=False) < 0).then(pl.lit(f"the stay {ENDS_FIRST}"))
    known = stays.with_columns(start.alias("start"), wrong.alias("wrong")).collect()
    _count_stays(known, "patientunitstayid", tally)
    tally.remark(_MADE_UP_DAYS)
    parts = [_eicu_labs(folder), _eicu_medications(folder), _eicu_diagnoses(folder), _eicu_vitals(folder)]
    return pl.concat([candidates(_placed(part, known)) for part in parts])


def mimic3(folder: Path, tally: Tally) -> pl.LazyFrame:
    """Prescriptions, diagnoses (at discharge) and the reason for admission of the MIMIC-III demo. Admissions are counted in the tally.

    Raises:
        DataError: a table or a column is missing.
    """
    stays = _table(folder, "mimic3demo__ADMISSIONS", "subject_id", "hadm_id", "admittime", "dischtime", "diagnosis")
    stays = stays.with_columns(parsed_time("admittime"), parsed_time("dischtime"))
    wrong = pl.when(pl.col("dischtime") < pl.col("admittime")).then(pl.lit(f"the stay {ENDS_FIRST}"))
    known = stays.with_columns(wrong.alias("wrong")).collect()
    _count_stays(known, "hadm_id", tally)
    told = known.lazy().filter(pl.col("diagnosis").is_not_null())
    told = told.select("subject_id", pl.col("admittime").alias("time"), pl.lit("COMPLAINT").alias("code"), pl.col("diagnosis").alias("text_value"),
                       pl.lit("admissions").alias("table"), pl.col("wrong").alias("reason"))  # fmt: skip
    return pl.concat([candidates(told), candidates(_prescriptions(folder)), candidates(_icd9(folder, known))])


def _prescriptions(folder: Path) -> pl.LazyFrame:
    rows = _table(folder, "mimic3demo__PRESCRIPTIONS", "subject_id", "startdate", "enddate", "drug")
    start, end = parsed_time("startdate"), parsed_time("enddate")
    nameless = pl.when(pl.col("drug").is_null()).then(pl.lit("no name")).when(start.is_null()).then(pl.lit(NO_TIME))
    code = pl.lit("MED//ordered//") + code_part_of("drug")
    return rows.with_columns(
        pl.lit("prescriptions").alias("table"), start.alias("time"), code.alias("code"), nameless.alias("reason"),
        pl.when(end < start).then(pl.lit(ENDS_FIRST)).alias("note"),
    )  # fmt: skip


def _icd9(folder: Path, stays: pl.DataFrame) -> pl.LazyFrame:
    rows = _table(folder, "mimic3demo__DIAGNOSES_ICD", "subject_id", "hadm_id", "icd9_code")
    rows = rows.join(stays.lazy().select("hadm_id", pl.col("dischtime").alias("time"), "wrong"), on="hadm_id", how="left")
    codeless = pl.when(pl.col("icd9_code").is_null()).then(pl.lit("no code")).when(pl.col("time").is_null()).then(pl.lit(NO_TIME))
    code = pl.lit("DX//icd9//") + pl.col("icd9_code").str.to_lowercase()
    return rows.with_columns(pl.lit("diagnoses_icd").alias("table"), code.alias("code"), pl.coalesce("wrong", codeless).alias("reason"))


def _eicu_labs(folder: Path) -> pl.LazyFrame:
    rows = _table(folder, "eicudemo__lab", "patientunitstayid", "labresultoffset", "labname", "labresult", "labresulttext", "labmeasurenamesystem")
    number = pl.col("labresult").cast(pl.Float32, strict=False)
    unit = pl.when(pl.col("labmeasurenamesystem").is_not_null()).then(pl.lit("//") + code_part_of("labmeasurenamesystem")).otherwise(pl.lit(""))
    return rows.with_columns(
        pl.lit("lab").alias("table"), pl.col("labresultoffset").alias("offset"), (pl.lit("LAB//") + code_part_of("labname") + unit).alias("code"),
        number.alias("numeric_value"), pl.when(number.is_null()).then("labresulttext").alias("text_value"),
        pl.when(number.is_null() & pl.col("labresulttext").is_null()).then(pl.lit(NO_VALUE)).alias("reason"),
    )  # fmt: skip


def _eicu_medications(folder: Path) -> pl.LazyFrame:
    rows = _table(folder, "eicudemo__medication", "patientunitstayid", "drugstartoffset", "drugordercancelled", "drugname")
    void = pl.when(pl.col("drugordercancelled") == "Yes").then(pl.lit("the order was cancelled"))
    nameless = pl.when(pl.col("drugname").is_null()).then(pl.lit("no name"))
    return rows.with_columns(
        pl.lit("medication").alias("table"), pl.col("drugstartoffset").alias("offset"),
        (pl.lit("MED//ordered//") + code_part_of("drugname")).alias("code"), pl.coalesce(void, nameless).alias("reason"),
    )  # fmt: skip


def _eicu_diagnoses(folder: Path) -> pl.LazyFrame:
    """Cells hold an ICD-9 and an ICD-10 code ('253.2, E23.0'): the first is used, without its dot as in MIMIC; without a code the words."""
    rows = _table(folder, "eicudemo__diagnosis", "patientunitstayid", "diagnosisoffset", "diagnosisstring", "icd9code")
    icd = pl.col("icd9code").str.split(",").list.first().str.strip_chars().str.to_lowercase().str.replace(".", "", literal=True)
    system = pl.when(icd.str.contains(r"^(\d|v\d|e\d{3})")).then(pl.lit("DX//icd9//")).otherwise(pl.lit("DX//icd10//"))
    words = pl.lit("DX//text//") + code_part_of(pl.col("diagnosisstring").str.split("|").list.last())
    return rows.with_columns(
        pl.lit("diagnosis").alias("table"), pl.col("diagnosisoffset").alias("offset"), pl.coalesce(system + icd, words).alias("code"),
        pl.col("diagnosisstring").alias("text_value"),
    )  # fmt: skip


def _eicu_vitals(folder: Path) -> pl.LazyFrame:
    rows = _table(folder, "eicudemo__physicalExam", "patientunitstayid", "physicalexamoffset", "physicalexamvalue", "physicalexamtext")
    rows = rows.with_columns(pl.lit("physicalExam").alias("table"), pl.col("physicalexamoffset").alias("offset"))
    code = pl.col("physicalexamvalue").replace_strict(
        list(_CHARTED), [f"VITAL//{v}" for v in _CHARTED.values()], default=None, return_dtype=pl.String
    )
    rows = rows.with_columns(code.alias("code"), pl.col("physicalexamtext").alias("raw"), pl.lit(None, pl.String).alias("unit"))
    other = rows.filter(pl.col("code").is_null()).with_columns(
        pl.lit("no vital sign at its time: an examination's words, a lowest or highest").alias("reason")
    )
    return pl.concat([_with_offset(checked(rows.filter(pl.col("code").is_not_null()))), _with_offset(other)])


def _with_offset(rows: pl.LazyFrame) -> pl.LazyFrame:
    """CANDIDATE columns and the two by which eICU places a row."""
    return pl.concat([candidates(rows), rows.select("patientunitstayid", "offset")], how="horizontal")


def _placed(rows: pl.LazyFrame, stays: pl.DataFrame) -> pl.LazyFrame:
    """Minutes from admission become times, stays their patients."""
    have = rows.collect_schema().names()
    rows = rows.join(stays.lazy().select("patientunitstayid", "uniquepid", "start", "wrong"), on="patientunitstayid", how="left")
    minutes = pl.col("offset").cast(pl.Float64, strict=False)
    where = pl.when(pl.col("uniquepid").is_null()).then(pl.lit("no such stay")).otherwise(pl.col("wrong"))
    when = pl.when(minutes.is_null() | pl.col("start").is_null()).then(pl.lit(NO_TIME))
    return rows.with_columns(
        pl.col("uniquepid").alias("subject_id"), (pl.col("start") + pl.duration(minutes=minutes)).alias("time"),
        pl.coalesce(where, *(["reason"] if "reason" in have else []), when).alias("reason"),
    )  # fmt: skip


def _count_stays(stays: pl.DataFrame, key: str, tally: Tally) -> None:
    for stay, wrong in stays.select(key, "wrong").iter_rows():
        tally.add("stays", 1, wrong, f"stay {stay}")


def _table(folder: Path, name: str, *columns: str) -> pl.LazyFrame:
    path = next((p for p in (folder / f"{name}.csv", folder / f"{name}.csv.gz") if p.is_file()), None)
    if path is None:
        raise DataError(f"{folder}: expected {name}.csv or {name}.csv.gz, got neither; give the folder of the demo's tables")
    rows = pl.read_csv(path, infer_schema=False, null_values=[""])
    missing = sorted(set(columns) - set(rows.columns))
    if missing:
        raise DataError(f"{path}: expected the columns {', '.join(missing)}, got {', '.join(rows.columns)[:200]}; give the demo's own table")
    return rows.select(columns).lazy()
