"""Both ends of every command of `regen eval`: what is read before anything is scored, and how a result reaches its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from regen.artifact import load_manifest, write_text
from regen.bundle import find_bundle, open_space
from regen.data_prep.prepared import SPLITS, Prepared
from regen.encoders.space import Space
from regen.encoders.store import Towers, load_towers
from regen.encoders.training import pick_device
from regen.errors import ConfigError, DataError, did_you_mean
from regen.eval.predictions import References

FILES = {".json", ".md"}
"""Endings of an output that is one file; any other name is a folder's."""


def check_split(split: str) -> None:
    """Raises ConfigError for a split that is none, or that nobody should score by mistake."""
    if split not in SPLITS:
        raise ConfigError(f"--split: expected val or test, got {split!r}{did_you_mean(split, ('val', 'test'))}")
    if split == "train":
        raise ConfigError("--split train: the index holds those studies; expected val or test")


def open_split(studies: Path, split: str) -> tuple[Prepared, pl.DataFrame, pl.DataFrame]:
    """A prepared folder, the reported recordings of a split, and those of train.

    Raises:
        DataError: one of the two has none.
    """
    data = Prepared.open(studies)
    rows, train = (data.split(name).filter(pl.col("report").is_not_null()) for name in (split, "train"))
    if not len(rows) or not len(train):
        raise DataError(f"{studies}: expected reported recordings in train and {split}, got {len(train)} and {len(rows)}; prepare with reports")
    return data, rows, train


def stated(data: Prepared, split: str) -> tuple[pl.DataFrame, References]:
    """The recordings of a split of which it is known what they show: coded ones, and reported ones as the labeler reads them.

    Raises:
        DataError: there is none.
    """
    rows = data.split(split).filter((pl.col("report").fill_null("") != "") | pl.col("statements").is_not_null())
    if not len(rows):
        raise DataError(f"{data.path}: expected coded or reported recordings in {split}, got none; prepare with statements or reports")
    return rows, References.from_rows(rows)


def train_reports(data: Prepared) -> list[str]:
    """Every report of the training split, with or without a recording: what a system may have read."""
    return [report for report in data.split("train", with_ecg=False)["report"].to_list() if report]


def open_towers(bundle: str, device: str) -> Towers:
    """A bundle's encoder, without its index and writer.

    Raises:
        ArtifactError: no such bundle, or a damaged one.
    """
    folder = find_bundle(bundle)
    load_manifest(folder, "bundle")
    return load_towers(folder / "encoder", pick_device(device))


def open_images(studies: Path, bundle: str, device: str) -> tuple[Prepared, Space]:
    """A prepared folder, and a bundle's encoder, which must read X-rays.

    Raises:
        ArtifactError: no such bundle or folder, or a damaged one.
        ConfigError: no such device, or a bundle that reads no X-rays.
    """
    _, space = open_space(bundle, device)
    space.image_tower()
    return Prepared.open(studies), space


def drawn(rows: pl.DataFrame, limit: int | None, rng: np.random.Generator) -> pl.DataFrame:
    """`limit` of the rows, in their order; all where there are no more, or without a limit."""
    if limit is None or limit >= len(rows):
        return rows
    return rows[np.sort(rng.choice(len(rows), limit, replace=False)).tolist()]


def write_result(out: Path | None, plain: dict[str, Any], markdown: str) -> None:
    """As Markdown where the name ends in .md, else as JSON; nothing without a name."""
    if out is not None:
        write_text(out, markdown if out.suffix == ".md" else json.dumps(plain, indent=1) + "\n")
