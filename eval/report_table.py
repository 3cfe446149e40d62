"""The table of `regen eval report`: every system beside every baseline, each value with n and a 95 % interval by patient.

    made = table(references, [system, *floors(...)], train_reports, seed=0)
    made.block("all").rows["starter"]["micro_f1"].value, .interval
    made.difference("starter", "most frequent report", "micro_f1")      paired, on the same draws

Blocks are the groups of regen.eval.strata. Within a block all systems and columns share their draws. Views: regen.eval.table_views.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from regen.errors import DataError, did_you_mean
from regen.eval import set_metrics, text_metrics
from regen.eval.averages import mean, share
from regen.eval.blocks import INTERVAL, named, plain_differences, plain_rows
from regen.eval.bootstrap import DRAWS, Resamples, Sampled, Statistic, Values, bootstrap, undefined
from regen.eval.cider import cider
from regen.eval.detail_errors import DetailErrors, detail_errors
from regen.eval.predictions import Predictions, References, unsaid
from regen.eval.set_metrics import frequent
from regen.eval.strata import strata
from regen.eval.text_metrics import TextScores, copies, most_common, text_scores

COLUMNS: dict[str, str] = {
    "micro_f1": "set micro-F1", "macro_f1": "set macro-F1", "superclass_f1": "superclass macro-F1",
    "declared_f1": "micro-F1 of declared findings", "superclass_auc": "superclass AUC", "statement_auc": "statement AUC",
    "bleu_1": "BLEU-1", "bleu_2": "BLEU-2", "bleu_3": "BLEU-3", "bleu_4": "BLEU-4", "rouge_1": "ROUGE-1", "rouge_2": "ROUGE-2", "rouge_l": "ROUGE-L",
    "meteor": "METEOR", "cider": "CIDEr-D / 10",
    "side_errors": "wrong side", "grade_errors": "wrong grade", "comparison_errors": "comparison without a prior", "number_errors": "wrong number",
    "supported": "supported sentences",
    "copies": "exact copies of training reports", "constant": "most common draft",
}  # fmt: skip
"""Key -> heading. All are shares, printed in percent; the two AUC columns are empty for a system that gives no probabilities,
`supported` for one whose drafts do not say what supports their sentences. Errors are shares of what both texts speak of (eval.detail_errors)."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One set of studies: n, patients, how many statements its macro averages cover, and system -> column -> value and draws."""

    name: str
    n: int
    patients: int
    statements: int
    rows: dict[str, dict[str, Sampled]]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """systems: in the order given; missing: system -> studies without a draft or with an empty one.

    uncoded: references whose set the labeler read.
    """

    blocks: tuple[Block, ...]
    systems: tuple[str, ...]
    missing: dict[str, int]
    uncoded: int
    seed: int
    draws: int

    def block(self, name: str) -> Block:
        return named(self.blocks, name, "table: unknown block")

    def difference(self, system: str, other: str, column: str = "micro_f1", block: str = "all") -> Sampled:
        """system - other on the same draws. NaN where one of them has no such value."""
        rows = self.block(block).rows
        for name in (system, other):
            if name not in rows:
                raise DataError(f"table: unknown system {name!r}{did_you_mean(name, rows)}")
        if column not in COLUMNS:
            raise DataError(f"table: unknown column {column!r}{did_you_mean(column, COLUMNS)}")
        nothing = undefined(self.draws)
        return rows[system].get(column, nothing).minus(rows[other].get(column, nothing))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: shares in [0, 1], null where undefined; `differences` are the first system minus each other one."""
        return {
            "seed": self.seed,
            "draws": self.draws,
            "interval": INTERVAL,
            "columns": COLUMNS,
            "missing_drafts": self.missing,
            "uncoded_references": self.uncoded,
            "blocks": [_block_dict(block) for block in self.blocks],
        }


def _block_dict(block: Block) -> dict[str, Any]:
    return {
        "name": block.name,
        "n": block.n,
        "patients": block.patients,
        "statements_in_macro": block.statements,
        "systems": plain_rows(block.rows),
        "differences": plain_differences(block.rows),
    }


def table(
    references: References, predictions: Sequence[Predictions], train_reports: Iterable[str], seed: int = 0, draws: int = DRAWS,
    rows: pl.DataFrame | None = None,
) -> Table:  # fmt: skip
    """Score every system on every block. The first of `predictions` is the system, the others what it is compared with.

    train_reports: the reports of the training split, for 'new in training' and for exact copies; rows: of the prepared folder, in the
    order of the references, for the blocks by sex, age band, site and device.

    Raises:
        DataError: no predictions, two with one name, or one of another length than the references.
    """
    _check(references, predictions)
    known = set(train_reports)
    blocks = []
    read = {p.name: Texts.of(p.reports, references.reports, known) for p in predictions}
    for number, (name, chosen) in enumerate(strata(pl.DataFrame() if rows is None else rows, references, known)):
        part = references.take(chosen)
        resamples = Resamples(part.subjects, np.random.default_rng([seed, number]), draws)
        values = {p.name: _score(part, _part(p, chosen), read[p.name].take(chosen), resamples) for p in predictions}
        blocks.append(Block(name, len(chosen), resamples.patients, int(frequent(part.statements).sum()), values))
    missing = {p.name: unsaid(p.reports) for p in predictions}
    return Table(tuple(blocks), tuple(p.name for p in predictions), missing, int((~references.coded).sum()), seed, draws)


def _check(references: References, predictions: Sequence[Predictions]) -> None:
    names = [p.name for p in predictions]
    if not names or len(set(names)) < len(names):
        raise DataError(f"table: expected at least one system and each name once, got {names}")
    for p in predictions:
        if len(p.reports) != len(references) or len(p.statements) != len(references):
            raise DataError(f"table, {p.name}: expected a prediction a reference ({len(references)}), got {len(p.reports)}; align them by study_id")


def _part(p: Predictions, rows: npt.NDArray[np.int64]) -> Predictions:
    probabilities = None if p.probabilities is None else p.probabilities[rows]
    declared = None if p.declared is None else p.declared[rows]
    sentences = None if p.sentences is None else p.sentences[rows]
    return replace(
        p, reports=[p.reports[i] for i in rows], statements=p.statements[rows], probabilities=probabilities, declared=declared, sentences=sentences
    )


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """What is counted once for all blocks: overlap with the references, CIDEr-D, wrong details, and which drafts are copies; (n,) each."""

    overlap: TextScores
    rarities: Values
    details: DetailErrors
    copied: Values

    @classmethod
    def of(cls, drafts: Sequence[str], references: Sequence[str], known: set[str]) -> Texts:
        return cls(text_scores(drafts, references), cider(drafts, references), detail_errors(drafts, references), copies(drafts, known))

    def take(self, rows: npt.NDArray[np.int64]) -> Texts:
        return Texts(self.overlap.take(rows), self.rarities[rows], self.details.take(rows), self.copied[rows])


def _score(references: References, p: Predictions, read: Texts, resamples: Resamples) -> dict[str, Sampled]:
    """Every column of one system on one block, in the order of COLUMNS."""
    sets = (p.statements, references.statements)
    made: dict[str, Statistic] = {
        "micro_f1": partial(set_metrics.micro_f1, *sets),
        "macro_f1": partial(set_metrics.macro_f1, *sets),
        "superclass_f1": partial(set_metrics.superclass_f1, *sets),
    }
    if p.declared is not None:
        made["declared_f1"] = partial(set_metrics.micro_f1, p.declared, references.statements)
    if p.probabilities is not None:
        ranked = (p.probabilities, references.statements)
        made |= {"superclass_auc": partial(set_metrics.superclass_auc, *ranked), "statement_auc": partial(set_metrics.macro_auc, *ranked)}
    return {column: bootstrap(statistic, resamples) for column, statistic in (made | text_cells(p.reports, read, p.sentences)).items()}


def text_cells(drafts: Sequence[str], read: Texts, sentences: Values | None) -> dict[str, Statistic]:
    """The columns that look at the text alone, of any modality. sentences: (n, 2) supported and all, None where the drafts do not say."""
    texts = read.overlap
    made: dict[str, Statistic] = {f"bleu_{order}": partial(text_metrics.bleu, texts, order) for order in range(1, text_metrics.ORDERS + 1)}
    made |= {
        "rouge_1": partial(mean, text_metrics.rouge_n(texts, 1)),
        "rouge_2": partial(mean, text_metrics.rouge_n(texts, 2)),
        "rouge_l": partial(mean, texts.rouge_l),
        "meteor": partial(mean, texts.meteor),
        "cider": partial(mean, read.rarities / 10),
    } | _details(read.details)
    if sentences is not None:
        made["supported"] = partial(share, sentences[:, 0], sentences[:, 1])
    made |= {
        "copies": partial(mean, read.copied),
        "constant": partial(mean, most_common(drafts)),
    }
    return made


def _details(errors: DetailErrors) -> dict[str, Statistic]:
    """Wrong sides, grades, comparisons and numbers as shares of those that can be judged; a reference without text judges none."""
    pairs = {
        "side_errors": (errors.laterality, errors.sides), "grade_errors": (errors.severity, errors.grades),
        "comparison_errors": (errors.comparison, errors.sentences), "number_errors": (errors.number, errors.numbers),
    }  # fmt: skip
    return {name: partial(share, np.nan_to_num(wrong), np.nan_to_num(judged)) for name, (wrong, judged) in pairs.items()}
