"""Rows of patients joined to studies: the one code path from any source of context to a prepared folder with events.parquet.

    tally = attach(tables, Prepared.open("data"), "with-context", "mimic-iv-ed", {}, tally, stays)
    print(*tally.lines(), sep="\\n")

`tables` is called with a scratch folder and yields names and lazy frames of regen.data_prep.events.CANDIDATE. Each is run once, streaming, into a
file; the studies are then taken in slices of whole subjects, so that memory does not grow with the archive. The new folder holds the old one's files
as hard links (a copy on another disk), events.parquet, and the tally in its manifest.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from regen.artifact import MANIFEST, Work, new_artifact
from regen.data_prep.events import EVENTS, LATER, LOCAL_TIME, STUDY_HAS_NO_TIME, TWICE, Tally
from regen.data_prep.prepared import EVENTS_FILE, Prepared
from regen.errors import DataError

STUDIES_AT_ONCE = 20_000
"""Studies whose rows are in memory together."""
_OF_NOBODY = {True: "of a stay in which no study was made", False: "of a subject without a study"}
"""By whether the row is bound to a stay."""
OUTCOMES = (None, TWICE, LATER, STUDY_HAS_NO_TIME)
"""Of a pair (study, row), best first; a row counts by its best pair."""
Tables = Callable[[Path], Iterable[tuple[str, pl.LazyFrame]]]


def attach(
    tables: Tables, studies: Prepared, out: str | Path, source: str, options: dict[str, Any], tally: Tally, stays: pl.DataFrame | None = None,
    force: bool = False,
) -> Tally:  # fmt: skip
    """Join a source's rows to the studies and publish the folder with both.

    stays: stay_id, subject_id, intime, outtime; rows with a stay_id enter the studies of their subject made within the stay, other rows all
    studies of their subject; both only before the study. options: what the manifest says of the source besides its name.

    Raises:
        DataError: the folder has events already, a table that cannot be read, or not one row joins a study.
    """
    if studies.events is not None:
        raise DataError(
            f"{studies.path}: expected a prepared folder without events, got one that has {EVENTS_FILE}; give the folder it was made from"
        )
    config = {key: value for key, value in studies.manifest["config"].items() if key != "context"}
    with new_artifact(out, "prepare", {**config, "context": {"source": source, **options}}, {"studies": studies.digest}, force) as work:
        work.clear()
        link_files(studies, work.path)
        files = _run(tables(work.scratch), work.scratch, tally, source)
        parts = list(_joined(files, studies.studies, stays, work.scratch, tally))
        if not any(pl.scan_parquet(part).select(pl.len()).collect().item() for part in parts):
            raise DataError(f"{source}: expected rows that join a study of {studies.path}, got none of {tally.read.total()} ({_why(tally)})")
        pl.concat([pl.scan_parquet(part) for part in [*parts, *_sections(studies.studies, work, tally)]]).sink_parquet(work.path / EVENTS_FILE)
        tally.remark(LOCAL_TIME)
        kept = ("fs", "pixels", "studies", "failed")
        work.manifest |= {k: studies.manifest[k] for k in kept if k in studies.manifest} | {"events": tally.to_dict()}
    return tally


def link_files(studies: Prepared, folder: Path) -> None:
    """The prepared folder's own files into another folder: hard links, or copies where the disk has none."""
    for name in studies.manifest["files"]:
        if name == MANIFEST:
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(studies.path / name, target)
        except OSError:
            shutil.copyfile(studies.path / name, target)


def _run(tables: Iterable[tuple[str, pl.LazyFrame]], scratch: Path, tally: Tally, source: str) -> list[Path]:
    """Every table read once, streaming, into a file of CANDIDATE rows; the refused ones are counted and left out of what follows."""
    files = []
    for at, (name, frame) in enumerate(tables):
        path = scratch / f"rows{at:05d}.parquet"
        try:
            frame.sink_parquet(path, compression="lz4")
        except pl.exceptions.PolarsError as error:
            why = str(error).splitlines()[0]
            raise DataError(
                f"{source}, {name}: expected UTF-8 text and as many cells a row as its header has, got: {why}; export it again"
            ) from error
        tally.count(pl.scan_parquet(path))
        files.append(path)
    return files


def _joined(files: list[Path], studies: pl.DataFrame, stays: pl.DataFrame | None, scratch: Path, tally: Tally) -> Iterator[Path]:
    """One file of EVENTS rows a slice of the studies."""
    matched: dict[tuple[str, bool], int] = {}
    for at, some in enumerate(slices(studies.select("study_id", "subject_id", pl.col("time").alias("at")))):
        some = some.sort("study_id").with_row_index("no")
        links = {"subject_id": some} | ({} if stays is None else {"stay_id": in_stays(some, stays)})
        pairs = judged(pl.concat([_pairs(path, file, key, link) for file, path in enumerate(files) for key, link in links.items()]))
        best = pairs.group_by("row").agg(pl.col("table").first(), pl.col("key").first(), pl.col("outcome").min())
        for table, key, outcome, n in best.group_by("table", "key", "outcome").len().iter_rows():
            matched[table, key] = matched.get((table, key), 0) + n
            if OUTCOMES[outcome] is not None:
                tally.refuse_used(table, n, str(OUTCOMES[outcome]))
        path = scratch / f"joined{at:05d}.parquet"
        pairs.filter(pl.col("outcome") == 0).select(*EVENTS).write_parquet(path, compression="lz4")
        yield path
    _count_unmatched(files, matched, tally)


def slices(studies: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The studies in pieces of about STUDIES_AT_ONCE; all of a subject's are in one."""
    first = pl.col("at_row").min().over("subject_id")
    rows = studies.sort("subject_id", "study_id").with_row_index("at_row").with_columns((first // STUDIES_AT_ONCE).alias("piece"))
    for some in rows.partition_by("piece", maintain_order=True):
        yield some.drop("at_row", "piece")


def in_stays(studies: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """study_id, subject_id, at and the stay_id with intime < at < outtime; of two such stays the one that began last."""
    inside = studies.join(stays, on="subject_id").filter((pl.col("intime") < pl.col("at")) & (pl.col("at") < pl.col("outtime")))
    return inside.sort("intime", "stay_id").group_by("study_id", maintain_order=True).last().select(*studies.columns, "stay_id")


def _pairs(path: Path, file: int, key: str, links: pl.DataFrame) -> pl.DataFrame:
    """Every (study, row) of a file whose keys agree. Rows of a stay go by stay and subject, the others by subject. row: unique over all files."""
    rows = pl.scan_parquet(path, row_index_name="row").filter(pl.col("reason").is_null(), pl.col("stay_id").is_not_null() == (key == "stay_id"))
    on = ["stay_id", "subject_id"] if key == "stay_id" else ["subject_id"]
    out = rows.join(links.lazy(), on=on).with_columns(pl.col("row").cast(pl.UInt64) + (file << 40), pl.lit(key == "stay_id").alias("key"))
    return out.select("row", "table", "key", "at", "no", *EVENTS).collect(engine="streaming")


def judged(pairs: pl.DataFrame) -> pl.DataFrame:
    """The pairs with `outcome`, the place of each in OUTCOMES; those that may enter first, by study and time."""
    outcome = (
        pl.when(pl.col("at").is_null() & pl.col("time").is_not_null()).then(OUTCOMES.index(STUDY_HAS_NO_TIME))
        .when(pl.col("time") >= pl.col("at")).then(OUTCOMES.index(LATER))
        .otherwise(0)
    )  # fmt: skip
    pairs = pairs.with_columns(outcome.alias("outcome").cast(pl.UInt8))
    early, late = pairs.filter(pl.col("outcome") == 0), pairs.filter(pl.col("outcome") > 0)
    same = ["no", "time", "code", "text_value", "numeric_value"]
    early = early.sort(*same, "row")
    again = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(1)) for name in same) & (pl.int_range(pl.len()) > 0)
    return pl.concat([early.with_columns(again.cast(pl.UInt8).alias("outcome") * OUTCOMES.index(TWICE)), late])


def _count_unmatched(files: list[Path], matched: dict[tuple[str, bool], int], tally: Tally) -> None:
    totals: dict[tuple[str, bool], int] = {}
    for path in files:
        rows = pl.scan_parquet(path).filter(pl.col("reason").is_null())
        for table, of_stay, n in rows.group_by("table", pl.col("stay_id").is_not_null().alias("key")).len().collect().iter_rows():
            totals[table, of_stay] = totals.get((table, of_stay), 0) + n
    for (table, of_stay), n in sorted(totals.items()):
        tally.refuse_used(table, n - matched.get((table, of_stay), 0), _OF_NOBODY[of_stay])


def _sections(studies: pl.DataFrame, work: Work, tally: Tally) -> Iterator[Path]:
    """What a study's own report says of why it was made: its indication and history, known before anybody read it, so without a time."""
    codes = {"indication": "INDICATION", "history": "HISTORY"}
    told = studies.select("study_id", "subject_id", "sections").explode("sections").drop_nulls("sections").unnest("sections")
    told = told.filter(pl.col("name").is_in(list(codes)), pl.col("text").str.strip_chars() != "")
    if told.is_empty():
        return
    rows = told.select("study_id", "subject_id", pl.lit(None, pl.Datetime("us")).alias("time"), pl.col("name").replace_strict(codes).alias("code"),
                       pl.lit(None, pl.Float32).alias("numeric_value"), pl.col("text").str.strip_chars().alias("text_value"))  # fmt: skip
    tally.add("sections of the studies", len(rows))
    path = work.scratch / "sections.parquet"
    rows.write_parquet(path)
    yield path


def _why(tally: Tally) -> str:
    reasons = [
        f"{n} {reason}" + (f" ({names[0]})" if (names := tally.names.get((table, reason))) else "")
        for table, counts in tally.refused.items() for reason, n in counts.most_common(2)
    ]  # fmt: skip
    return "; ".join(reasons[:4]) or "no table held a row"
