"""Two prepared folders of the same people as one, so that what was recorded of one person in both can be trained on as a pair.

    made = join("cxr", "ecg", "both")             mimic-cxr and mimic-iv-ecg: one subject has one number in both
    made.shared, made.written                     53123, {"train": ..., "val": ..., "test": ...}

Nobody can check that a number means the same person in both: whoever joins says so. Recordings and images are copied bit by bit.
The manifest names the archives with a plus between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from regen.artifact import check_free, new_artifact
from regen.data_prep.image_store import ImageWriter
from regen.data_prep.prepared import SCHEMA, SPLITS, Prepared
from regen.data_prep.signal_store import SignalWriter
from regen.errors import ConfigError, DataError, did_you_mean

Splits = Literal["same", "first"]
_RULES: tuple[Splits, Splits] = ("same", "first")


@dataclass(frozen=True, slots=True)
class Joined:
    """shared: subjects that both folders hold; written: studies by split."""

    shared: int
    written: dict[str, int]


def join(first: str | Path, second: str | Path, out: str | Path, splits: str = "same", force: bool = False) -> Joined:
    """Write a prepared folder with the studies of both, the first's before the second's.

    splits: 'same', a subject of both must lie in one split already; 'first', it takes that of the first folder with all of its studies.

    Raises:
        ConfigError: another rule for splits, or stored rates or image sides that differ.
        DataError: a study_id that both have, no subject that both have, or with 'same' a subject in two splits.
        ArtifactError: `out` exists without force, or a folder is none that `regen prepare` wrote.
    """
    if splits not in _RULES:
        raise ConfigError(f"--splits: expected one of {', '.join(_RULES)}, got {splits!r}{did_you_mean(splits, _RULES)}")
    check_free(Path(out), force)
    parts = [Prepared.open(first), Prepared.open(second)]
    fs = _one("rate", "ecg_row", parts, [part.fs for part in parts])
    pixels = _one("pixels", "cxr_rows", parts, [part.pixels for part in parts])
    _no_id_twice(parts)
    studies, shared = _one_split(parts, splits)
    sources = dict.fromkeys(name for part in parts for name in str(part.manifest["config"]["source"]).split("+"))
    config = {"source": "+".join(sources), "rate": fs, "pixels": pixels, "splits": splits}
    with new_artifact(out, "prepare", config, {"first": parts[0].digest, "second": parts[1].digest}, force) as work:
        work.clear()
        signals, images = SignalWriter(work.path / "ecg"), ImageWriter(work.path / "cxr", int(pixels))
        tables = [_copied(part, rows, signals, images) for part, rows in zip(parts, studies, strict=True)]
        signals.flush()
        images.flush()
        table = pl.concat(tables)
        table.write_parquet(work.path / "studies.parquet")
        work.manifest |= {"fs": fs, "pixels": int(pixels), "studies": len(table), "failed": 0}
    counts = dict(table["split"].value_counts().iter_rows())
    return Joined(shared, {split: counts[split] for split in SPLITS if split in counts})


def _one(option: str, column: str, parts: Sequence[Prepared], values: Sequence[float]) -> float:
    """What the folders that hold such recordings are stored with."""
    used = [(part.path, value) for part, value in zip(parts, values, strict=True) if part.studies[column].null_count() < len(part.studies)]
    if len({value for _, value in used}) > 1:
        told = " and ".join(f"{value:g} in {path}" for path, value in used)
        raise ConfigError(f"prepare join: expected one --{option}, got {told}; prepare one of them again with the other's --{option}")
    return used[0][1] if used else values[0]


def _no_id_twice(parts: Sequence[Prepared]) -> None:
    first, second = (part.studies["study_id"] for part in parts)
    twice = second.filter(second.is_in(first.implode())).sort().to_list()
    if twice:
        raise DataError(f"prepare join: expected each study_id in one of the folders, got {_named(twice)} in both; make the ids unique")


def _one_split(parts: Sequence[Prepared], splits: str) -> tuple[list[pl.DataFrame], int]:
    """The tables of both, each subject in one split, and how many subjects they share."""
    first, second = (part.studies.select("subject_id", "split").unique() for part in parts)
    both = first.join(second, on="subject_id", suffix="_second")
    if not len(both):
        raise DataError(
            f"prepare join: expected subjects that {parts[0].path} and {parts[1].path} share, got none of {len(first)} and {len(second)}; "
            "give folders of one archive's patients, under the same subject ids"
        )
    apart = both.filter(pl.col("split") != pl.col("split_second"))
    if len(apart) and splits == "same":
        named = _named([f"{s} ({a}, {b})" for s, a, b in apart.sort("subject_id").iter_rows()])
        raise DataError(
            f"prepare join: expected each subject in one split, got {named} in two; prepare them with one split, or give --splits first, which moves "
            "their studies of the second folder"
        )
    moved = apart.select("subject_id", pl.col("split").alias("_first"))
    table = parts[1].studies.join(moved, on="subject_id", how="left", maintain_order="left")
    table = table.with_columns(pl.coalesce("_first", "split").alias("split")).drop("_first")
    return [parts[0].studies, table], len(both)


def _copied(part: Prepared, rows: pl.DataFrame, signals: SignalWriter, images: ImageWriter) -> pl.DataFrame:
    """The rows with the numbers that their recordings and images have in the new folder."""
    ecg: list[int | None] = [None] * len(rows)
    cxr: list[list[int]] = [[] for _ in range(len(rows))]
    table = rows.with_row_index("_row")
    heard, seen = table.filter(pl.col("ecg_row").is_not_null()), table.filter(pl.col("cxr_rows").is_not_null())
    for positions, block in part.signals(heard) if len(heard) else ():
        for position, signal in zip(positions, block, strict=True):
            ecg[heard["_row"][int(position)]] = signals.add(signal)
    for positions, pixels in part.images(seen, every=True) if len(seen) else ():
        for position, image in zip(positions, pixels, strict=True):
            cxr[seen["_row"][int(position)]].append(images.add(image.astype("float32") / 255))
    numbers = [pl.Series("ecg_row", ecg, pl.Int64), pl.Series("cxr_rows", [each or None for each in cxr], pl.List(pl.Int64))]
    return rows.with_columns(numbers).select(list(SCHEMA))


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
