"""`regen eval report` for chest X-rays: drafts beside copies and floors, scored by what a rule labeler reads in them.

    made = evaluate_chest(Path("data"), "test", [], "bundle", None, "cpu", 0, False)
    made.blocks["all"].rows["system"]["micro_f1"].value, .interval

Observations are read in draft and reference by one labeler (regen.data_prep.chest_labeler): present, or uncertain, counts as stated. Floors copy
a training report: at random, the most frequent, of the image nearest by raw pixels, of that nearest in the encoder; the oracle copies the report
whose observations agree best with the truth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from regen.artifact import check_free, check_free_file
from regen.data_prep.chexpert import NO_FINDING, OBSERVATIONS
from regen.data_prep.prepared import Prepared
from regen.errors import ConfigError, DataError
from regen.eval.blocks import INTERVAL, Group, plain_differences
from regen.eval.bootstrap import DRAWS, Resamples, bootstrap
from regen.eval.predictions import References, unsaid
from regen.eval.report_table import Texts, text_cells
from regen.eval.set_metrics import FEW, macro_f1, micro_f1, study_f1
from regen.eval.strata import by_person_or_place, strata
from regen.eval.table_views import markdown_table, percent, rich_table
from regen.evaluating.card import Card, Curves, write_card
from regen.evaluating.chest_systems import Drafted, floors, lines, observations_in, read, references_of, run
from regen.evaluating.ends import FILES, check_split, write_result
from regen.generators.evidence import expected_f1
from regen.pipeline import Pipeline
from regen.progress import console

COLUMNS = {
    "micro_f1": "CheXpert-14 micro-F1", "macro_f1": "CheXpert-14 macro-F1", "rouge_l": "ROUGE-L", "bleu_4": "BLEU-4", "meteor": "METEOR",
    "cider": "CIDEr-D / 10", "side_errors": "wrong side", "grade_errors": "wrong grade", "comparison_errors": "comparison without a prior",
    "number_errors": "wrong number", "supported": "supported sentences", "copies": "exact copies", "constant": "most common draft",
}  # fmt: skip
"""What is printed; BLEU-1..3, ROUGE-1 and -2 are in the JSON too."""
_RANKED = 6
"""Observations whose ROC the card shows: the most frequent ones of which something was learned."""


@dataclass(frozen=True, slots=True, eq=False)
class ChestTable:
    blocks: dict[str, Group]
    missing: dict[str, int]
    seed: int
    draws: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: shares in [0, 1], null where undefined; `differences` are the first system minus each other one."""
        blocks = [{"name": name} | block.to_dict() | {"differences": plain_differences(block.rows)} for name, block in self.blocks.items()]
        return {"seed": self.seed, "draws": self.draws, "interval": INTERVAL, "columns": COLUMNS, "missing_drafts": self.missing, "blocks": blocks}


def evaluate_chest(
    studies: Path, split: str, predictions: Sequence[Path], bundle: str | None, out: Path | None, device: str, seed: int, force: bool,
    columns: Mapping[str, str] | None = None, draws: int = DRAWS,
) -> ChestTable:  # fmt: skip
    """Print the table. With `out`, also write it: as JSON or Markdown where the name ends so, else as a folder with card and predictions.

    predictions: files of drafts, scored in the order given; a bundle drafts the split first, and its encoder makes the nearest-copy floor.

    Raises:
        ConfigError: a split that is none, or the training split, neither drafts nor a bundle, or a bundle that reads no X-rays.
        ArtifactError: `out` exists without force, or a bundle or the prepared folder is damaged.
        DataError: no reported X-rays in train or in the split, or drafts of other studies.
    """
    check_split(split)
    if bundle is None and not predictions:
        raise ConfigError("eval report: expected drafts of chest X-rays to score or a --bundle that drafts them, got neither; give one")
    if out is not None:
        (check_free_file if out.suffix in FILES else check_free)(out, force)
    data = Prepared.open(studies)
    rows, train = (data.split_cxr(name).filter(pl.col("report").fill_null("") != "") for name in (split, "train"))
    if not len(rows) or not len(train):
        raise DataError(f"{studies}: expected reported chest X-rays in train and {split}, got {len(train)} and {len(rows)}; prepare with reports")
    references = references_of(rows)
    pipeline = None if bundle is None else Pipeline.from_pretrained(bundle, device)
    systems: list[Drafted] = []
    if pipeline is not None:
        systems += [run(pipeline, data, rows, "system"), run(pipeline, data, rows, "system, retrieval blanked", blank_retrieval=True)]
    systems += [read(path, columns, references) for path in predictions]
    systems += floors(None if pipeline is None else pipeline.space, data, rows, train, seed)
    twice = [name for name, count in Counter(system.name for system in systems).items() if count > 1]
    if twice:
        raise ConfigError(f"predictions: expected files of different names, none called as a floor, got {twice[0]} twice; rename it")
    known = set(data.split("train", with_ecg=False)["report"].drop_nulls().to_list())
    made = chest_table(rows, references, systems, known, seed, draws)
    _print(made)
    if out is None or out.suffix in FILES:
        write_result(out, made.to_dict() | {"split": split, "bundle": bundle}, to_markdown(made))
    else:
        write_card(chest_card(made, data, rows, references, systems, bundle, split), out, force)
    return made


def chest_card(
    made: ChestTable, data: Prepared, rows: pl.DataFrame, references: References, systems: Sequence[Drafted], bundle: str | None, split: str
) -> Card:
    """made: the table of the systems, in their order; rows: of the prepared folder, in the order of the references."""
    first, truth = systems[0], observations_in(references.reports)
    said = observations_in(first.reports)
    curves = None
    if first.probabilities is not None:
        learned = np.ptp(first.probabilities, axis=0) > 0
        common = [c for c in np.argsort(-truth.sum(axis=0), kind="stable") if truth[:, c].sum() >= FEW and learned[c]][:_RANKED]
        ranked = {OBSERVATIONS[c]: (first.probabilities[:, c], truth[:, c]) for c in common}
        curves = Curves(ranked, first.probabilities, truth, expected_f1(said, first.probabilities))
    return Card(
        data, rows, bundle or "none", split, [s.name for s in systems], [lines(s, references) for s in systems], COLUMNS,
        {heading(name, block): block.rows for name, block in made.blocks.items()}, remarks(made), made.to_dict(), to_markdown(made),
        references.reports, first.reports, study_f1(said, truth), curves,
    )  # fmt: skip


def chest_table(
    rows: pl.DataFrame, references: References, systems: Sequence[Drafted], known: set[str], seed: int = 0, draws: int = DRAWS
) -> ChestTable:
    """rows: of the prepared folder, in the order of the references; known: the reports of training."""
    truth = observations_in(references.reports)
    normal = truth[:, OBSERVATIONS.index(NO_FINDING)]
    seen = {s.name: (observations_in(s.reports), Texts.of(s.reports, references.reports, known)) for s in systems}
    blocks = {}
    for number, (name, chosen) in enumerate(strata(rows, references, known, normal, "No Finding")):
        resamples = Resamples([references.subjects[i] for i in chosen], np.random.default_rng([seed, number]), draws)
        made = {}
        for system in systems:
            said, texts = seen[system.name]
            cells = {"micro_f1": partial(micro_f1, said[chosen], truth[chosen]), "macro_f1": partial(macro_f1, said[chosen], truth[chosen])}
            sentences = None if system.sentences is None else system.sentences[chosen]
            cells |= text_cells([system.reports[i] for i in chosen], texts.take(chosen), sentences)  # type: ignore[arg-type]
            made[system.name] = {column: bootstrap(statistic, resamples) for column, statistic in cells.items()}
        blocks[name] = Group(len(chosen), resamples.patients, made)
    return ChestTable(blocks, {s.name: unsaid(s.reports) for s in systems}, seed, draws)


def to_markdown(made: ChestTable) -> str:
    """Every group as a table, then how to read them."""
    parts = []
    for name, block in made.blocks.items():
        rows = ([system, *(percent(row.get(column)) for column in COLUMNS)] for system, row in block.rows.items())
        parts.append(markdown_table(["system", *COLUMNS.values()], rows, heading(name, block)))
    return "\n\n".join([*parts, *remarks(made)]) + "\n"


def heading(name: str, block: Group) -> str:
    """'abnormal only: n = 520, 431 patients'."""
    return f"{name}: n = {block.n}, {block.patients} patients"


def remarks(made: ChestTable) -> list[str]:
    """How the table is to be read, and what is missing from it."""
    notes = (
        f"Percent with 95 % BCa intervals over {made.draws} bootstrap draws of patients (seed {made.seed}). Observations are read in "
        "draft and reference by one rule labeler; uncertain counts as stated; macro averages cover what has at least 5 positives in the group."
    )
    return [
        notes,
        *(f"{name}: {count} studies without a draft or with an empty one." for name, count in made.missing.items() if count),
    ]


def _print(made: ChestTable) -> None:
    for name, block in made.blocks.items():
        if by_person_or_place(name):
            continue
        rows = ([system, *(percent(row.get(column), between="\n") for column in COLUMNS)] for system, row in block.rows.items())
        console.print(rich_table(heading(name, block), ["system", *COLUMNS.values()], rows))
    console.print("further groups (sex, age, site, device) are in the files: --out FILE")
