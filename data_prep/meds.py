"""MEDS archives (Medical Event Data Standard): event rows as they are, with MIMIC's item numbers read as what they measure.

    prepare("events.parquet", Prepared.open("data"), "with-context")

A file, or a folder of parquet files, with subject_id, time, code and, where there are any, numeric_value (or value) and text_value. Codes stay
as they are, except MIMIC-IV's:

    LAB//220045//bpm                            VITAL//heart_rate, in the unit of the code; the item numbers are in ITEMS
    DIAGNOSIS//ICD//9//4019                     DX//icd9//4019
    MEDICATION//START//X, MEDICATION//X//Administered      MED//ordered//x, MED//given//x
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from regen.data_prep.event_store import attach
from regen.data_prep.events import NO_VALUE, Tally, candidates, code_part_of
from regen.data_prep.prepared import Prepared
from regen.data_prep.vitals import CODES, checked
from regen.errors import DataError

ITEMS = {
    "220045": "heart_rate", "220210": "resp_rate", "224690": "resp_rate", "220277": "spo2", "223761": "temperature", "223762": "temperature",
    "220179": "sbp", "220050": "sbp", "225309": "sbp", "224167": "sbp", "227243": "sbp",
    "220180": "dbp", "220051": "dbp", "225310": "dbp", "223791": "pain",
}  # fmt: skip
"""MIMIC-IV item number -> vital: cuff, arterial line and ART pressures, left and right arm, respiratory rate and its total, either temperature."""
_REMEDY = "give a MEDS parquet file with subject_id, time, code"


def prepare(events: str | Path, studies: Prepared, out: str | Path, force: bool = False) -> Tally:
    """Join a MEDS archive to studies of the same subjects.

    Raises:
        DataError: no such file, no MEDS columns, or nothing that joins.
    """
    rows = read_rows(scanned(Path(events)))
    return attach(lambda _: [(str(events), rows)], studies, out, "meds", {}, Tally("meds"), None, force)


def scanned(path: Path) -> pl.LazyFrame:
    """subject_id (text), time, code, numeric_value, text_value of a MEDS file or folder, lazily.

    Raises:
        DataError: nothing there, no parquet, a column missing or of another type.
    """
    if not path.exists() or (path.is_dir() and not any(path.rglob("*.parquet"))):
        raise DataError(f"{path}: expected a parquet file or a folder of them, got {'an empty folder' if path.exists() else 'nothing'}; {_REMEDY}")
    rows = pl.scan_parquet(path / "**/*.parquet" if path.is_dir() else path)
    try:
        schema = rows.collect_schema()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: expected a parquet file, could not read it ({str(error).splitlines()[0][:100]}); {_REMEDY}") from error
    missing = sorted({"subject_id", "time", "code"} - set(schema))
    if missing or schema["time"].base_type() != pl.Datetime:
        got = f"time as {schema['time']}" if not missing else ", ".join(schema)[:200]
        raise DataError(f"{path}: expected the columns {', '.join(missing) or 'time as timestamps'}, got {got}; {_REMEDY}")
    zone = getattr(schema["time"], "time_zone", None)
    time = pl.col("time").dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zone else pl.col("time")
    value = next((name for name in ("numeric_value", "value") if name in schema), None)
    return rows.select(
        pl.col("subject_id").cast(pl.String), time.cast(pl.Datetime("us")), pl.col("code").cast(pl.String),
        (pl.col(value) if value else pl.lit(None)).cast(pl.Float32).alias("numeric_value"),
        (pl.col("text_value") if "text_value" in schema else pl.lit(None)).cast(pl.String).alias("text_value"),
    )  # fmt: skip


def read_rows(rows: pl.LazyFrame) -> pl.LazyFrame:
    """CANDIDATE rows of a MEDS frame, in the codes of regen.data_prep.events where MIMIC's are known. table: the first part of the code."""
    parts = pl.col("code").str.split("//")
    item = pl.when(parts.list.first() == "LAB").then(parts.list.get(1, null_on_oob=True))
    vital = item.replace_strict(list(ITEMS), [f"VITAL//{name}" for name in ITEMS.values()], default=None, return_dtype=pl.String)
    rows = rows.with_columns(
        pl.coalesce(vital, pl.when(pl.col("code").is_in(list(CODES))).then(pl.col("code"))).alias("vital"),
        pl.col("code").is_in(list(CODES)).alias("ours"),
        parts.list.first().fill_null("").alias("table"), parts.list.get(2, null_on_oob=True).alias("unit"),
    )  # fmt: skip
    nameless = pl.when(pl.col("code").is_null() | (pl.col("code") == "")).then(pl.lit("no code"))
    plain = rows.filter(pl.col("vital").is_null()).with_columns(_code().alias("code"), nameless.alias("reason"))
    number = pl.col("numeric_value").cast(pl.Float64).cast(pl.String)
    measured = rows.filter(pl.col("vital").is_not_null()).with_columns(pl.col("vital").alias("code"), pl.coalesce(number, "text_value").alias("raw"))
    reason = pl.when(pl.col("raw").is_not_null()).then(pl.col("reason")).when(~pl.col("ours")).then(pl.lit(NO_VALUE))
    measured = checked(measured).with_columns(reason.alias("reason"), pl.lit(None, pl.String).alias("text_value"))
    return pl.concat([candidates(plain), candidates(measured)])


def _code() -> pl.Expr:
    """A code as regen.data_prep.events has it, or as it is."""
    code = pl.col("code")
    start, given = "MEDICATION//START//", code.str.strip_prefix("MEDICATION//").str.strip_suffix("//Administered")
    return (
        pl.when(code.str.starts_with("DIAGNOSIS//ICD//")).then(pl.lit("DX//icd") + code.str.strip_prefix("DIAGNOSIS//ICD//").str.to_lowercase())
        .when(code.str.starts_with(start)).then(pl.lit("MED//ordered//") + code_part_of(code.str.strip_prefix(start)))
        .when(code.str.starts_with("MEDICATION//") & code.str.ends_with("//Administered")).then(pl.lit("MED//given//") + code_part_of(given))
        .otherwise(code)
    )  # fmt: skip
