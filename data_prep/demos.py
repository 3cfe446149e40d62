"""All open sources of patient context read once, and what became of every row.

    for tally in read_all("../shared/data"):
        print(*tally.lines(), sep="\\n")

Expects the folders mimic-iv-demo-meds/, icu-demo/, ed-triage/ and fhir/ below the root. Nothing is joined to studies, because none of the sources
has any; duplicates are counted as in a join.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from regen.data_prep.events import MEDS, TWICE, Tally
from regen.data_prep.fhir import read_bundle
from regen.data_prep.icu_demo import eicu, mimic3
from regen.data_prep.ktas import read_ktas
from regen.data_prep.meds import read_rows, scanned
from regen.errors import DataError


def read_all(root: str | Path) -> Iterator[Tally]:
    """One tally a source.

    Raises:
        DataError: none of the folders is there, or a table of one is damaged.
    """
    root = Path(root)
    found = [name for name in SOURCES if (root / SOURCES[name][0]).exists()]
    if not found:
        raise DataError(
            f"{root}: expected at least one of {', '.join(folder for folder, _ in SOURCES.values())}, got none; give the folder of open data"
        )
    for name in found:
        yield read_source(root, name)[1]


def read_source(root: Path, name: str) -> tuple[pl.DataFrame, Tally]:
    """The rows of one source that may be used (MEDS), each once, and the tally."""
    tally = Tally(name)
    folder, read = SOURCES[name]
    rows = read(root / folder, tally).collect(engine="streaming")
    tally.count(rows.lazy())
    good = rows.filter(pl.col("reason").is_null())
    once = good.unique(list(MEDS), keep="first", maintain_order=True)
    before, after = (dict(frame["table"].value_counts().iter_rows()) for frame in (good, once))
    for table, n in before.items():
        tally.refuse_used(table, n - after.get(table, 0), TWICE)
    return once.select(*MEDS), tally


def _bundles(folder: Path, tally: Tally) -> pl.LazyFrame:
    return pl.concat([read_bundle(path, tally)[1] for path in sorted(folder.glob("*.json"))]).lazy()


SOURCES: dict[str, tuple[str, Callable[[Path, Tally], pl.LazyFrame]]] = {
    "MIMIC-IV demo (MEDS)": ("mimic-iv-demo-meds/events.parquet", lambda path, _: read_rows(scanned(path))),
    "eICU demo": ("icu-demo", eicu),
    "MIMIC-III demo": ("icu-demo", mimic3),
    "KTAS visits": ("ed-triage/ktas.csv", read_ktas),
    "Synthea bundles (FHIR)": ("fhir", _bundles),
}
"""Source -> where it lies below the root, and what reads it."""
