"""MIMIC-IV-ED, official layout: edstays, triage, vitalsign, medrecon, pyxis, diagnosis as csv or csv.gz (Johnson et al., PhysioNet 2023).

    prepare(root, Prepared.open("data"), "with-context")

A study belongs to the stay of its subject with intime < time < outtime. Of that stay it gets triage (timed at intime, the table has no time of its
own), vital signs, home medications (medrecon) and dispensed ones (pyxis) charted before it. Diagnoses are written at discharge: they are timed at
outtime, so those of the study's own stay never enter and those of earlier stays do.

Of medications with several classes (etc_rn) or codes (gsn_rn) the first is used. Columns that are not named below are not read.
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from regen.data_prep.event_store import attach
from regen.data_prep.events import NO_TIME, Tally, candidates, code_part_of, parsed_time
from regen.data_prep.prepared import Prepared
from regen.data_prep.vitals import checked
from regen.errors import DataError

_VITALS = {"temperature": "temperature", "heartrate": "heart_rate", "resprate": "resp_rate", "o2sat": "spo2", "sbp": "sbp", "dbp": "dbp",
           "pain": "pain", "acuity": "acuity"}  # fmt: skip
COLUMNS = {
    "edstays": ("subject_id", "stay_id", "intime", "outtime"),
    "triage": ("subject_id", "stay_id", *_VITALS, "chiefcomplaint"),
    "vitalsign": ("subject_id", "stay_id", "charttime", *(c for c in _VITALS if c != "acuity"), "rhythm"),
    "medrecon": ("subject_id", "stay_id", "charttime", "name", "etc_rn", "etcdescription"),
    "pyxis": ("subject_id", "stay_id", "charttime", "name", "gsn_rn"),
    "diagnosis": ("subject_id", "stay_id", "icd_code", "icd_version", "icd_title"),
}
"""The columns that are read of each table."""
_REMEDY = "give the folder of the official release, with edstays.csv or edstays.csv.gz (or the folder above ed/)"
ENDS_FIRST = "the stay ends before it begins"
NO_STAY = "no such stay in edstays"
OTHERS_STAY = "the stay is another subject's"
SECOND = "a second class or code of the same medication"
BAD_TIME = "a time that cannot be read"


def prepare(root: str | Path, studies: Prepared, out: str | Path, force: bool = False) -> Tally:
    """Join an ED archive to studies of the same subjects and publish the folder with both; the tally of rows.

    Raises:
        DataError: no edstays table, none of the others, a column missing, a table that cannot be read, or nothing that joins.
    """
    tally = Tally("mimic-iv-ed")
    folder = _folder(Path(root))
    stays: list[pl.DataFrame] = []

    def tables(scratch: Path) -> Iterator[tuple[str, pl.LazyFrame]]:
        for table in COLUMNS:
            if table != "edstays" and (rows := scanned(folder, table, scratch)) is not None:
                yield table, read_table(table, rows, stays[0])

    if not any(_path(folder, table) for table in COLUMNS if table != "edstays"):
        raise DataError(f"{folder}: expected at least one of {', '.join(list(COLUMNS)[1:])}, got none; {_REMEDY}")
    stays.append(read_stays(folder, tally))
    usable = stays[0].filter(pl.col("wrong").is_null()).drop("wrong")
    missing = [table for table in COLUMNS if _path(folder, table) is None]
    if missing:
        tally.remark(f"no table {', '.join(missing)}: that part of the context is missing everywhere")
    return attach(tables, studies, out, "mimic-iv-ed", {"tables": [t for t in COLUMNS if t not in missing]}, tally, usable, force)


def read_stays(folder: Path, tally: Tally) -> pl.DataFrame:
    """stay_id, subject_id, intime, outtime and `wrong`: why no study can be in it (null: one can). Each stay that cannot is named in the tally."""
    with tempfile.TemporaryDirectory() as scratch:
        rows = scanned(folder, "edstays", Path(scratch))
        if rows is None:
            raise DataError(f"{folder}: expected edstays.csv or edstays.csv.gz, got neither; {_REMEDY}")
        times = rows.with_columns(parsed_time("intime"), parsed_time("outtime"))
        wrong = (
            pl.when(pl.col("intime").is_null() | pl.col("outtime").is_null()).then(pl.lit(BAD_TIME))
            .when(pl.col("outtime") < pl.col("intime")).then(pl.lit(ENDS_FIRST))
            .when(~pl.col("stay_id").is_first_distinct()).then(pl.lit("the same stay twice"))
        )  # fmt: skip
        stays = _collected(times.with_columns(wrong.alias("wrong")), folder)
    for stay, reason in stays.filter(pl.col("wrong").is_not_null()).select("stay_id", "wrong").iter_rows():
        tally.add("edstays", 1, reason, f"stay {stay}")
    tally.add("edstays", stays["wrong"].null_count())
    return stays.filter(pl.col("wrong").is_null() | (pl.col("wrong") != "the same stay twice"))


def scanned(folder: Path, table: str, scratch: Path) -> pl.LazyFrame | None:
    """A table's columns as text, lazily; None where the folder has no such table. A compressed one is unpacked to `scratch` first.

    Raises:
        DataError: a column is missing, or the file is no CSV table.
    """
    path = _path(folder, table)
    if path is None:
        return None
    source = path
    try:
        if path.suffix == ".gz":
            source = scratch / f"{table}.csv"
            with gzip.open(path, "rb") as packed, source.open("wb") as plain:
                shutil.copyfileobj(packed, plain, 1 << 20)
        rows = pl.scan_csv(source, infer_schema=False, null_values=[""])
        have = rows.collect_schema().names()
    except (OSError, EOFError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: expected a CSV table, could not read it ({str(error).splitlines()[0][:120]}); download it again") from error
    missing = sorted(set(COLUMNS[table]) - set(have))
    if missing:
        raise DataError(f"{path}: expected the columns {', '.join(missing)}, got {', '.join(have)[:200]}; {_REMEDY}")
    # Asking every column for a value drops blank lines and, more to the point, makes polars see a row with more cells than the header.
    return rows.filter(pl.any_horizontal(pl.all().is_not_null())).select(COLUMNS[table])


def read_table(table: str, rows: pl.LazyFrame, stays: pl.DataFrame) -> pl.LazyFrame:
    """CANDIDATE rows of one table. rows: its COLUMNS as text; stays: of `read_stays`."""
    known = stays.lazy().select("stay_id", pl.col("subject_id").alias("owner"), "intime", "outtime", "wrong")
    rows = rows.join(known, on="stay_id", how="left")
    of_stay = (
        pl.when(pl.col("owner").is_null()).then(pl.lit(NO_STAY))
        .when(pl.col("owner") != pl.col("subject_id")).then(pl.lit(OTHERS_STAY))
        .otherwise(pl.col("wrong"))
    )  # fmt: skip
    if table == "triage":
        rows = rows.with_columns(pl.col("intime").alias("time"), of_stay.alias("wrong"))
    elif table == "diagnosis":
        rows = rows.with_columns(pl.col("outtime").alias("time"), of_stay.alias("wrong"))
    else:
        timeless = pl.when(pl.col("charttime").is_null()).then(pl.lit(NO_TIME)).when(pl.col("time").is_null()).then(pl.lit(BAD_TIME))
        rows = rows.with_columns(parsed_time("charttime").alias("time")).with_columns(pl.coalesce(of_stay, timeless).alias("wrong"))
    parts = _medications(rows, table) if table in ("medrecon", "pyxis") else _diagnoses(rows) if table == "diagnosis" else _charted(rows, table)
    return candidates(parts.with_columns(pl.lit(table).alias("table")))


def _charted(rows: pl.LazyFrame, table: str) -> pl.LazyFrame:
    """Vital signs, a row for each filled cell, and the complaint or the rhythm."""
    names = {column: name for column, name in _VITALS.items() if column in COLUMNS[table]}
    prefix, words, code = ("TRIAGE//", "chiefcomplaint", "COMPLAINT") if table == "triage" else ("VITAL//", "rhythm", "RHYTHM")
    keys = ("subject_id", "stay_id", "time", "wrong")
    values = rows.unpivot(list(names), index=list(keys), variable_name="column", value_name="raw").filter(_filled("raw"))
    of_column = pl.col("column").replace_strict(list(names), [prefix + name for name in names.values()], return_dtype=pl.String)
    degrees = pl.when(pl.col("column") == "temperature").then(pl.lit("f"))
    vitals = checked(values.with_columns(of_column.alias("code"), degrees.alias("unit")))
    vitals = vitals.with_columns(pl.coalesce("wrong", "reason").alias("reason"))
    told = rows.filter(_filled(words)).select(
        *keys[:3], pl.lit(code).alias("code"), pl.col(words).str.strip_chars().alias("text_value"), pl.col("wrong").alias("reason")
    )
    return pl.concat([candidates(vitals), candidates(told)])


def _medications(rows: pl.LazyFrame, table: str) -> pl.LazyFrame:
    prefix, rank, drug_class = ("MED//home//", "etc_rn", "etcdescription") if table == "medrecon" else ("MED//given//", "gsn_rn", None)
    later = pl.when(pl.col(rank).cast(pl.Float64, strict=False) > 1).then(pl.lit(SECOND)).when(~_filled("name")).then(pl.lit("no name"))
    text = pl.col(drug_class).str.to_lowercase().str.strip_chars() if drug_class else pl.lit(None, pl.String)
    return rows.with_columns((prefix + code_part_of("name")).alias("code"), text.alias("text_value"), pl.coalesce("wrong", later).alias("reason"))


def _diagnoses(rows: pl.LazyFrame) -> pl.LazyFrame:
    system = pl.col("icd_version").replace_strict({"9": "icd9", "10": "icd10"}, default="other", return_dtype=pl.String)
    nameless = pl.when(~_filled("icd_code")).then(pl.lit("no code"))
    return rows.with_columns(
        pl.lit(None, pl.String).alias("stay_id"), pl.concat_str(pl.lit("DX//"), system, pl.lit("//"), code_part_of("icd_code")).alias("code"),
        pl.col("icd_title").alias("text_value"), pl.coalesce("wrong", nameless).alias("reason"),
    )  # fmt: skip


def _filled(column: str) -> pl.Expr:
    return pl.col(column).is_not_null() & (pl.col(column).str.strip_chars() != "")


def _folder(root: Path) -> Path:
    return next((folder for folder in (root, root / "ed") if _path(folder, "edstays")), root)


def _path(folder: Path, table: str) -> Path | None:
    return next((path for name in (f"{table}.csv", f"{table}.csv.gz") if (path := folder / name).is_file()), None)


def _collected(rows: pl.LazyFrame, folder: Path) -> pl.DataFrame:
    try:
        return rows.collect(engine="streaming")
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{folder}: expected tables that can be read, got: {str(error).splitlines()[0]}; download them again") from error
