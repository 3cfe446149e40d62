"""The table of `regen eval findings`: every stratum, every statement and every superclass, each value with its interval by patient.

made = finding_table(references, [system, other], strata)
made.blocks[0].rows["system"]["auroc"].value, .interval
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from regen.data_prep.statements import BY_CODE, CODES, SUPERCLASSES
from regen.errors import DataError
from regen.eval.blocks import INTERVAL, plain_differences, plain_rows
from regen.eval.bootstrap import DRAWS, Resamples, Sampled, bootstrap
from regen.eval.finding_metrics import BINS, METRICS, delong, macro
from regen.eval.predictions import References
from regen.eval.set_metrics import Sets, frequent, superclass_probabilities, superclasses

TITLES = {
    "auroc": "AUROC", "auprc": "AUPRC", "brier": "Brier score", "ece": "calibration error", "sensitivity": "sensitivity",
    "specificity": "specificity",
}  # fmt: skip
COLUMNS = TITLES | {f"superclass_{key}": f"superclass {title}" for key, title in TITLES.items()}
"""Key -> heading. Of Brier score and calibration error lower is better, of the others higher."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What one system says of n studies: probabilities (n, 71), and said (n, 71) bool, at or above the threshold. missing: without a draft."""

    name: str
    probabilities: npt.NDArray
    said: Sets
    missing: int = 0

    def given(self, rows: npt.NDArray[np.int64], at_threshold: bool, grouped: bool) -> npt.NDArray:
        """What a metric takes, (rows, 71), or (rows, 5) superclasses: noisy-or probabilities, or whether any of its statements was said."""
        if at_threshold:
            return superclasses(self.said[rows]) if grouped else self.said[rows]
        return superclass_probabilities(self.probabilities[rows]) if grouped else self.probabilities[rows]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One stratum. statements, superclasses: how many its macro averages cover; rows: system -> column -> value and draws."""

    name: str
    n: int
    patients: int
    statements: int
    superclasses: int
    rows: dict[str, dict[str, Sampled]]


@dataclass(frozen=True, slots=True, eq=False)
class One:
    """One statement or superclass over all studies. rows: system -> metric -> value and draws; delong: system -> AUROC's interval."""

    code: str
    label: str
    n: int
    positives: int
    rows: dict[str, dict[str, Sampled]]
    delong: dict[str, tuple[float, float]]

    def to_dict(self) -> dict[str, Any]:
        ends = {name: [None if math.isnan(end) else round(end, 6) for end in pair] for name, pair in self.delong.items()}
        kept = {name: getattr(self, name) for name in ("code", "label", "n", "positives")}
        return kept | {"systems": plain_rows(self.rows), "auroc_delong": ends}


@dataclass(frozen=True, slots=True, eq=False)
class FindingTable:
    """Strata, 'all' first; then every statement and every superclass over all studies. The first system is compared with each other one."""

    blocks: tuple[Block, ...]
    statements: tuple[One, ...]
    superclasses: tuple[One, ...]
    systems: tuple[str, ...]
    missing: dict[str, int]
    uncoded: int
    seed: int
    draws: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON in the shape of report_table.Table: shares in [0, 1], null where undefined."""
        return {
            "seed": self.seed, "draws": self.draws, "interval": INTERVAL, "columns": COLUMNS,
            "calibration_bins": BINS, "missing_drafts": self.missing, "uncoded_references": self.uncoded,
            "blocks": [_block_dict(block) for block in self.blocks],
            "statements": [one.to_dict() for one in self.statements], "superclasses": [one.to_dict() for one in self.superclasses],
        }  # fmt: skip


def _block_dict(block: Block) -> dict[str, Any]:
    return {
        "name": block.name, "n": block.n, "patients": block.patients, "statements_in_macro": block.statements,
        "superclasses_in_macro": block.superclasses,
        "systems": plain_rows(block.rows), "differences": plain_differences(block.rows),
    }  # fmt: skip


def finding_table(
    references: References, answers: Sequence[Answers], groups: Sequence[tuple[str, npt.NDArray[np.int64]]], seed: int = 0, draws: int = DRAWS
) -> FindingTable:
    """Score every system on every stratum and on every statement. groups: (name, rows), see regen.eval.strata; 'all' first.

    Raises:
        DataError: two systems with one name, none, or one of another length than the references.
    """
    names = tuple(each.name for each in answers)
    if not names or len(set(names)) < len(names) or any(len(each.said) != len(references) for each in answers):
        raise DataError(f"findings: expected systems of different names with {len(references)} studies each, got {', '.join(names) or 'none'}")
    return FindingTable(
        tuple(_block(references, answers, name, rows, np.random.default_rng([seed, number]), draws) for number, (name, rows) in enumerate(groups)),
        _each(references, answers, False, seed, draws), _each(references, answers, True, seed, draws), names,
        {each.name: each.missing for each in answers}, int((~references.coded).sum()), seed, draws,
    )  # fmt: skip


def _block(references: References, answers: Sequence[Answers], name: str, rows: npt.NDArray[np.int64], rng: np.random.Generator, draws: int) -> Block:
    part = references.take(rows)
    resamples = Resamples(part.subjects, rng, draws)
    truths = {False: part.statements, True: superclasses(part.statements)}
    cells = {
        each.name: {
            ("superclass_" if grouped else "") + key: bootstrap(partial(macro, metric, each.given(rows, decided, grouped), truth), resamples)
            for grouped, truth in truths.items()
            for key, (metric, decided) in METRICS.items()
        }
        for each in answers
    }
    covered = [int(frequent(truth).sum()) for truth in truths.values()]
    return Block(name, len(rows), resamples.patients, covered[0], covered[1], cells)


def _each(references: References, answers: Sequence[Answers], grouped: bool, seed: int, draws: int) -> tuple[One, ...]:
    """Every statement, or superclass, over all studies; all share the draws of the first stratum."""
    rows = np.arange(len(references))
    resamples = Resamples(references.subjects, np.random.default_rng([seed, 0]), draws)
    truth = superclasses(references.statements) if grouped else references.statements
    given = {(each.name, decided): each.given(rows, decided, grouped) for each in answers for decided in (False, True)}
    out = []
    for c, code in enumerate(SUPERCLASSES if grouped else CODES):
        so = truth[:, c]
        cells = {
            each.name: {key: bootstrap(partial(metric, given[each.name, decided][:, c], so), resamples) for key, (metric, decided) in METRICS.items()}
            for each in answers
        }
        ends = {each.name: delong(given[each.name, False][:, c], so)[1:] for each in answers}
        out.append(One(code, code if grouped else BY_CODE[code].label, len(rows), int(so.sum()), cells, ends))
    return tuple(out)
