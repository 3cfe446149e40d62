"""The case store: what is known of every indexed study, one row each, in the order of the index's vectors.

    study_id  subject_id  time  report                                 statements               age_band  sex     language  source
    20312     9121        null  Sinus rhythm. Left axis deviation.     [{SR 1.0}, {IMI 0.5}]    60-69     female  en        ptb-xl

`record` is the name of the recording's file without its ending (of several views with a bar between): a study that is asked about as a file
has no other id. No waveform, no exact age. `time` is null where the archive shifted its dates patient by patient, because such dates say
nothing about who came first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from regen.data_prep.prepared import Prepared
from regen.errors import DataError
from regen.study import Hit

CASES: dict[str, Any] = {
    "study_id": pl.String, "subject_id": pl.String, "time": pl.Datetime("us"), "report": pl.String,
    "statements": pl.List(pl.Struct({"code": pl.String, "likelihood": pl.Float64})), "age_band": pl.String, "sex": pl.String,
    "language": pl.String, "source": pl.String, "record": pl.String,
    "observations": pl.List(pl.Struct({"code": pl.String, "likelihood": pl.Float64})),
}  # fmt: skip
"""Columns of cases.parquet."""
RECORD = (
    pl.col("source").str.split("|").list.eval(pl.element().str.extract(r"([^/\\]+)\.[A-Za-z]+$")).list.drop_nulls().list.join("|").replace("", None)
)
"""File names of a prepared row's source without their endings, with a bar between those of several views; null where it has none."""
SHIFTED_DATES = frozenset({"ptb-xl", "mimic-iv-ecg", "mimic-cxr"})
"""Archives that moved every patient's dates by an offset of its own."""


def cases_from(data: Prepared, rows: pl.DataFrame) -> pl.DataFrame:
    """Prepared rows as cases. Rows of which nothing is known cannot be evidence and are refused.

    Raises:
        DataError: a row has neither a report nor observations.
    """
    without = rows.filter(pl.col("report").is_null() & pl.col("observations").is_null())
    if len(without):
        raise DataError(f"{data.path}: expected a report for every case, got none for {without['study_id'][0]}; leave such rows out")
    source = str(data.manifest["config"]["source"])
    time = pl.lit(None, pl.Datetime("us")) if SHIFTED_DATES.intersection(source.split("+")) else pl.col("time")
    decade = (pl.col("age").clip(0, 90) // 10 * 10).cast(pl.Int64)
    band = pl.when(decade >= 90).then(pl.lit("90+")).otherwise(pl.format("{}-{}", decade, decade + 9))
    cases = rows.with_columns(
        time=time,
        age_band=pl.when(pl.col("age").is_null()).then(None).otherwise(band),
        source=pl.lit(source),
        record=RECORD,
        report=pl.col("report").fill_null(""),
    )
    return cases.select([pl.col(name).cast(kind) for name, kind in CASES.items()])


def read_cases(path: Path) -> pl.DataFrame:
    """cases.parquet; an archive that was built before a column existed knows nothing of it."""
    cases = pl.read_parquet(path)
    return cases.with_columns(pl.lit(None, kind).alias(name) for name, kind in CASES.items() if name not in cases.columns)


def check_cases(cases: pl.DataFrame) -> None:
    """Columns and ids as the store needs them.

    Raises:
        DataError: a column is missing or of another type, or a study_id occurs twice.
    """
    if dict(cases.schema) != CASES:
        wrong = [name for name, kind in CASES.items() if cases.schema.get(name) != kind]
        raise DataError(f"cases: expected the columns {', '.join(CASES)}, got another type or none for {', '.join(wrong) or 'extra columns'}")
    if cases["study_id"].n_unique() != len(cases):
        twice = cases["study_id"].to_frame().group_by("study_id").len().filter(pl.col("len") > 1)["study_id"].sort()[0]
        raise DataError(f"cases: expected each study_id once, got {twice!r} twice; remove it from the index before adding it again")


def hits_from(
    cases: pl.DataFrame | Mapping[int, dict[str, Any]], ids: Sequence[int], scores: Sequence[float], why: str = "", ranked: bool = True
) -> list[Hit]:
    """Rows of the store as Hits, nearest first; ids below 0 (no such neighbour) are left out. cases: the store, or rows of it by number;
    ranked: number them from 1, else 0."""
    kept = [(int(i), round(float(s), 5)) for i, s in zip(ids, scores, strict=True) if i >= 0]
    if isinstance(cases, pl.DataFrame):
        numbers = [i for i, _ in kept]
        cases = dict(zip(numbers, cases[numbers].to_dicts(), strict=True)) if kept else {}
    return [
        Hit(
            study_id=row["study_id"], score=score, report=row["report"], subject_id=row["subject_id"], rank=rank if ranked else 0, allowed=why,
            statements={s["code"]: s["likelihood"] for s in row["statements"] or ()}, language=row["language"],
            observations={s["code"]: s["likelihood"] for s in row["observations"] or ()},
        )
        for rank, (row, score) in enumerate(((cases[i], score) for i, score in kept), start=1)
    ]  # fmt: skip
