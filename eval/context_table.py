"""What the patient's context is worth: recall of facts that only it reveals, and statements that the signal shows, for every part of it.

    row = context_row("+ triage", reports, references, resamples)
    row.cells["recall"].value, .interval              of the facts that the reference reports tell and no recording shows

Facts are those of regen.data_prep.synthetic_told, found by their words in both reports; statements are read by the labeler, without those that no
trace shows. Timed facts take the time of a row and not the row alone, so they are scored by F1: without times they are told too often as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from regen.data_prep.statements import CODES
from regen.data_prep.synthetic_told import FACTS, stated
from regen.eval.averages import share
from regen.eval.bootstrap import Resamples, Sampled, bootstrap
from regen.eval.predictions import References, read_sets
from regen.eval.set_metrics import Sets, micro_f1
from regen.eval.table_views import percent

TOLD = ("DIG",)
"""Statements that no trace shows: they are context facts, and no part of the signal's score."""
COLUMNS = {
    "recall": "facts recall", "precision": "facts precision", "timed_f1": "timed facts F1", "signal_f1": "signal statements F1",
}  # fmt: skip
_NAMES = [fact.name for fact in FACTS]
_TIMED = np.array([fact.timed for fact in FACTS])
_SIGNAL = np.array([code not in TOLD for code in CODES])


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One condition. cells: of COLUMNS; by_fact: name -> (told and in the draft, told)."""

    name: str
    cells: dict[str, Sampled]
    by_fact: dict[str, tuple[int, int]]

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "cells": {name: cell.plain() for name, cell in self.cells.items()}, "by_fact": self.by_fact}


def fact_sets(reports: Sequence[str]) -> Sets:
    """(n, facts) bool, in the order of FACTS: which each report tells."""
    told = [stated(report) for report in reports]
    return np.array([[name in facts for name in _NAMES] for facts in told], np.bool_).reshape(len(reports), len(_NAMES))


def context_row(name: str, reports: Sequence[str], references: References, resamples: Resamples) -> Row:
    """Drafted reports against the references, in the same order."""
    drafted, written = fact_sets(reports), fact_sets(references.reports)
    both = (drafted & written).sum(axis=1).astype(np.float64)
    said = np.asarray(read_sets(reports), np.bool_)[:, _SIGNAL]
    statistics = {
        "recall": partial(share, both, written.sum(axis=1).astype(np.float64)),
        "precision": partial(share, both, drafted.sum(axis=1).astype(np.float64)),
        "timed_f1": partial(micro_f1, drafted[:, _TIMED], written[:, _TIMED]),
        "signal_f1": partial(micro_f1, said, references.statements[:, _SIGNAL]),
    }
    cells = {column: bootstrap(statistic, resamples) for column, statistic in statistics.items()}
    counts = zip(_NAMES, (drafted & written).sum(axis=0).tolist(), written.sum(axis=0).tolist(), strict=True)
    return Row(name, cells, {fact: (hit, n) for fact, hit, n in counts if n})


def recall(reports: Sequence[str], references: References) -> float:
    """Share of the told facts that the drafts tell, NaN where none is told."""
    drafted, written = fact_sets(reports), fact_sets(references.reports)
    return float((drafted & written).sum() / written.sum()) if written.any() else float("nan")


def to_markdown(rows: Sequence[Row], more: Sequence[str]) -> str:
    """The ablation table, recall fact by fact, and further lines."""
    lines = ["| context | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "---|" * len(COLUMNS)]
    lines += [f"| {row.name} | " + " | ".join(percent(row.cells[column]) for column in COLUMNS) + " |" for row in rows]
    facts = list(rows[0].by_fact)
    lines += ["", "| facts told, and in the draft | " + " | ".join(facts) + " |", "|---|" + "---|" * len(facts)]
    lines += [f"| {row.name} | " + " | ".join(f"{hit} of {n}" for hit, n in row.by_fact.values()) + " |" for row in rows]
    return "\n".join([*lines, "", *more]) + "\n"
