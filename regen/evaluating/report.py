"""`regen eval report`: anyone's drafts, or a bundle's with parts of it hidden, beside every floor in one table; outputs stay on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from regen.artifact import check_free, check_free_file
from regen.batch import prepared_studies
from regen.data_prep.prepared import Prepared
from regen.encoders.store import load_towers
from regen.encoders.training import pick_device
from regen.errors import ConfigError
from regen.eval.baselines import ENCODER_FLOORS, Views, encoder_floors, floors, look
from regen.eval.imported import read_predictions
from regen.eval.predictions import Predictions, References, misread
from regen.eval.report_table import Table, table
from regen.eval.strata import by_person_or_place
from regen.eval.table_views import differences, to_markdown, to_rich
from regen.evaluating.card import write_card
from regen.evaluating.ecg_card import ecg_card
from regen.evaluating.ends import FILES, check_split, open_split, open_towers, train_reports, write_result
from regen.pipeline import Pipeline
from regen.progress import bar, console

_FEW = 10
"""Patients below which a word of warning is printed."""


def evaluate(
    studies: Path, split: str, predictions: Sequence[Path], bundle: str | None, random_init: Path | None, language: str | None, out: Path | None,
    device: str, seed: int, force: bool, columns: Mapping[str, str] | None = None,
) -> Table:  # fmt: skip
    """Print the table. With `out`, also write it: as JSON or Markdown where the name ends so, else as a folder with card and predictions.

    predictions: files of drafts, scored in the order given; without any, and where `bundle` is named, the bundle drafts the split first.
    random_init: an encoder folder, aligned without pre-training; columns: what the files call study_id and report.

    Raises:
        ConfigError: a split that is none, or the training split.
        ArtifactError: `out` exists without force, or a bundle or the prepared folder is damaged.
        DataError: no reported recordings in the split, or drafts of other studies.
    """
    check_split(split)
    twice = [name for name, count in Counter(path.stem for path in predictions).items() if count > 1]
    if twice:
        raise ConfigError(f"predictions: expected files of different names, got {twice[0]} twice; rename one, its name is the system's")
    if out is not None:
        (check_free_file if out.suffix in FILES else check_free)(out, force)
    data, rows, train = open_split(studies, split)
    references, pool = References.from_rows(rows), References.from_rows(train)
    peers = [_read(path, columns, references) for path in predictions]
    own: list[Predictions] = []
    if bundle or not peers:
        pipeline = Pipeline.from_pretrained(bundle or "starter", device)
        own, towers = _own(pipeline, data, rows, references, language), pipeline.towers
    else:
        towers = open_towers("starter", device)
    query, cases = look(data, rows, towers), look(data, train, towers)
    systems = [*own, *peers, *(_with_probabilities(p, query) for p in floors(references, pool, np.random.default_rng(seed), query, cases))]
    if random_init is not None:
        systems += _not_pretrained(random_init, data, rows, train, references, pool, device)
    known = train_reports(data)
    made = table(references, systems, known, seed, rows=rows)
    show(made, len(misread(references)))
    if out is not None:
        named = bundle or "starter"
        if out.suffix in FILES:
            write_result(out, made.to_dict() | {"split": split, "bundle": named}, to_markdown(made))
        else:
            write_card(ecg_card(made, data, rows, references, systems, named, split), out, force)
    return made


def _read(path: Path, columns: Mapping[str, str] | None, references: References) -> Predictions:
    drafts = read_predictions(path, columns)
    made = Predictions.from_drafts(path.stem, drafts, references)
    beside = len(drafts) - (len(references) - made.missing)
    if beside:
        console.print(f"{path}: {beside} of {len(drafts)} drafts are not scored: another split, or a study without recording or report")
    return made


def _own(pipeline: Pipeline, data: Prepared, rows: pl.DataFrame, references: References, language: str | None) -> list[Predictions]:
    """The bundle as it is, and with the recording or the cases hidden."""
    return [
        _run(pipeline, data, rows, references, language, "system"),
        _run(pipeline, data, rows, references, language, "system, ECG blanked", blank_ecg=True),
        _run(pipeline, data, rows, references, language, "system, retrieval blanked", blank_retrieval=True),
    ]


def _not_pretrained(
    encoder: Path, data: Prepared, rows: pl.DataFrame, train: pl.DataFrame, references: References, pool: References, device: str
) -> list[Predictions]:
    """The two baselines that an encoder makes, with one that was aligned from random weights."""
    towers = load_towers(encoder, pick_device(device))
    query, cases = look(data, rows, towers), look(data, train, towers)
    made = encoder_floors(references, pool, query, cases)
    return [replace(_with_probabilities(p, query), name=f"{p.name}, not pre-trained") for p in made]


def _with_probabilities(made: Predictions, seen: Views) -> Predictions:
    """A baseline that an encoder makes carries the probabilities of that encoder's head, so that its AUC is in the table."""
    return replace(made, probabilities=seen.probabilities) if made.name in ENCODER_FLOORS else made


def _run(
    pipeline: Pipeline, data: Prepared, rows: pl.DataFrame, references: References, language: str | None, name: str, **hidden: bool
) -> Predictions:
    drafts = pipeline.drafts(prepared_studies(data, rows), language, **hidden)
    return Predictions.from_drafts(name, [d.to_dict() for d in bar(drafts, name, len(rows))], references)


def show(made: Table, unread: int) -> None:
    """Print the main blocks, and the first system against every other one; all of them are in the files."""
    from rich.console import Console

    wide = Console(width=200)
    if made.blocks[0].patients < _FEW:
        console.print(f"only {made.blocks[0].patients} patients: what the intervals say about others is next to nothing")
    shown = [block for block in made.blocks if not by_person_or_place(block.name)]
    if len(shown) < len(made.blocks):
        console.print(f"{len(made.blocks) - len(shown)} further groups (sex, age, site, device) are in the files: --out FOLDER")
    for block in shown:
        wide.print(to_rich(made, block.name))
        for text in differences(made, block=block.name):
            wide.print(text, highlight=False)
        wide.print()
    console.print(f"{unread} reference reports do not read back to exactly what was coded")
