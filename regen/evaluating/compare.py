"""`regen eval compare`: two files of drafts on the studies that both have, column by column and group by group, paired by patient.

    made = compare(Path("new.jsonl"), Path("old.jsonl"), Path("data"), "test", Path("compare.md"), 0, False)
    made.cell("all", "micro_f1").difference.interval      of a - b, on the same draws of patients
    made.tested, made.differing, made.by_chance           225, 31, 11.25

A difference leaves 0 out where its 95 % interval lies on one side of it. Of many that are tested at once, one in twenty does by chance alone
where nothing differs; columns and groups overlap, so that such chances come in bunches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import rich.table

from regen.artifact import check_free_file
from regen.errors import DataError
from regen.eval.blocks import INTERVAL
from regen.eval.bootstrap import Sampled
from regen.eval.imported import read_predictions
from regen.eval.predictions import Predictions, References
from regen.eval.report_table import COLUMNS, Table, table
from regen.eval.table_views import markdown_table, percent, rich_table
from regen.evaluating.ends import check_split, open_split, train_reports, write_result

_HEAD = ("column", "a", "b", "a - b")
FEWEST = 10
"""Patients that a group needs for a verdict: among fewer, the draws say little of the spread (of one patient they are all alike)."""
CHANCE = 0.05
_SHOWN = ("micro_f1", "macro_f1", "statement_auc", "rouge_l", "bleu_4", "copies")
"""Columns that a terminal shows for every group."""
_A, _B = "a", "b"


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One column in one group: both values, and a - b. differs: its interval leaves 0 out; None where that was not tested."""

    a: Sampled
    b: Sampled
    difference: Sampled
    differs: bool | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """paths: of a and b; only_a, only_b, neither: reported studies of the split that were left out, because one file or both lack them;
    outside: drafts of a and of b that are of no such study; table: both systems as `a` and `b`."""

    paths: tuple[Path, Path]
    split: str
    only_a: int
    only_b: int
    neither: int
    outside: tuple[int, int]
    table: Table

    def cell(self, group: str, column: str) -> Cell:
        """Raises DataError for an unknown group or column."""
        block, difference = self.table.block(group), self.table.difference(_A, _B, column, group)
        missing = Sampled(math.nan, difference.draws)
        low, high = difference.interval
        tested = block.patients >= FEWEST and not (math.isnan(difference.value) or math.isnan(low))
        a, b = (block.rows[name].get(column, missing) for name in (_A, _B))
        return Cell(a, b, difference, bool(low > 0 or high < 0) if tested else None)

    @property
    def groups(self) -> list[str]:
        return [block.name for block in self.table.blocks]

    @cached_property
    def verdicts(self) -> dict[tuple[str, str], bool]:
        """(group, column) -> whether the difference leaves 0 out, for all that were tested."""
        cells = {(group, column): self.cell(group, column).differs for group in self.groups for column in COLUMNS}
        return {key: differs for key, differs in cells.items() if differs is not None}

    @property
    def tested(self) -> int:
        return len(self.verdicts)

    @property
    def differing(self) -> int:
        return sum(self.verdicts.values())

    @property
    def by_chance(self) -> float:
        """How many would leave 0 out if a and b were equally good in every one."""
        return CHANCE * self.tested

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: shares in [0, 1], null where undefined or not tested."""
        return {
            "a": str(self.paths[0]),
            "b": str(self.paths[1]),
            "split": self.split,
            "studies": {"both": self.table.block("all").n, "only_a": self.only_a, "only_b": self.only_b, "neither": self.neither},
            "drafts_outside": {"a": self.outside[0], "b": self.outside[1]},
            "seed": self.table.seed,
            "draws": self.table.draws,
            "interval": f"{INTERVAL}, paired",
            "columns": COLUMNS,
            "tested": self.tested,
            "differing": self.differing,
            "by_chance": round(self.by_chance, 2),
            "groups": [
                {"name": b.name, "n": b.n, "patients": b.patients, "columns": {column: _plain(self.cell(b.name, column)) for column in COLUMNS}}
                for b in self.table.blocks
            ],
        }


def compare(a: Path, b: Path, studies: Path, split: str, out: Path | None, seed: int, force: bool) -> Comparison:
    """Print how two files of drafts (JSON lines of `regen draft`) differ; with `out`, also write it: Markdown where the name ends in .md,
    else JSON.

    Raises:
        ConfigError: a split that is none, or the training split.
        ArtifactError: `out` exists without force, or the prepared folder is damaged.
        DataError: a file that cannot be read, two drafts of one study, or no study of the split that both files have.
    """
    check_split(split)
    if out is not None:
        check_free_file(out, force)
    drafts = (read_predictions(a), read_predictions(b))
    data, rows, _ = open_split(studies, split)
    train = train_reports(data)
    made = _compared((a, b), drafts, rows, train, split, seed)
    _print(made)
    write_result(out, made.to_dict(), to_markdown(made))
    return made


def _compared(
    paths: tuple[Path, Path], drafts: tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]], rows: pl.DataFrame,
    train: Sequence[str], split: str, seed: int,
) -> Comparison:  # fmt: skip
    """rows: the reported studies of the split."""
    reported = set(rows["study_id"].to_list())
    ids_a, ids_b = ({draft["study_id"] for draft in each} for each in drafts)
    both = reported & ids_a & ids_b
    if not both:
        counts = " and ".join(f"{path}: {len(ids & reported)} of {len(ids)}" for path, ids in zip(paths, (ids_a, ids_b), strict=True))
        raise DataError(f"compare: expected a study of {split} that both files have, got none (drafts of {split} in {counts}); check the split")
    used = rows.filter(pl.col("study_id").is_in(list(both)))
    references = References.from_rows(used)
    systems = [Predictions.from_drafts(name, each, references) for name, each in zip((_A, _B), drafts, strict=True)]
    in_a, in_b = ids_a & reported, ids_b & reported
    return Comparison(
        paths, split, len(in_a - in_b), len(in_b - in_a), len(reported - in_a - in_b), (len(ids_a - reported), len(ids_b - reported)),
        table(references, systems, train, seed, rows=used),
    )  # fmt: skip


def remarks(made: Comparison) -> list[str]:
    """What was compared, what was left out, and how many differences chance alone would make."""
    a, b = made.paths
    few = [block.name for block in made.table.blocks if block.patients < FEWEST]
    return [
        f"a: {a}",
        f"b: {b}",
        f"{made.table.block('all').n} studies of {made.split} are in both files and are compared; left out: {made.only_a} only in a, "
        f"{made.only_b} only in b, {made.neither} in neither",
        *(f"{name}: {count} drafts are of no reported study of {made.split}" for name, count in zip((_A, _B), made.outside, strict=True) if count),
        *([f"fewer than {FEWEST} patients, not tested: {', '.join(few)}"] if few else []),
        f"{made.differing} of {made.tested} differences leave 0 out; if a and b were equally good everywhere, about {made.by_chance:.0f} would by "
        f"chance ({CHANCE:.0%}), in bunches, because groups and columns overlap",
    ]


def to_rich(made: Comparison) -> tuple[rich.table.Table, rich.table.Table]:
    """For a terminal: every column over all studies; the most telling columns by group."""
    block = made.table.block("all")
    groups = ([b.name, b.n, b.patients, *(_difference(made.cell(b.name, column)) for column in _SHOWN)] for b in made.table.blocks)
    return (
        rich_table(f"all: n = {block.n}, {block.patients} patients", _HEAD, _lines(made, "all"), gap=2, wrap=False),
        rich_table("a - b by group; * leaves 0 out", ["group", "n", "patients", *(COLUMNS[column] for column in _SHOWN)], groups, gap=2),
    )


def to_markdown(made: Comparison) -> str:
    """One table a group, every column in it, then the remarks."""
    parts = ["## a - b, paired by patient\n"]
    for block in made.table.blocks:
        parts.append(markdown_table(_HEAD, _lines(made, block.name), f"{block.name}: n = {block.n}, {block.patients} patients"))
        parts.append("")
    notes = "Percent, 95 % BCa interval over {} draws of patients (seed {}). * leaves 0 out."
    return "\n".join([*parts, notes.format(made.table.draws, made.table.seed), "", *(f"- {line}" for line in remarks(made))]) + "\n"


def _lines(made: Comparison, group: str) -> Iterator[list[str]]:
    for column, title in COLUMNS.items():
        cell = made.cell(group, column)
        yield [title, percent(cell.a), percent(cell.b), _difference(cell)]


def _difference(cell: Cell) -> str:
    return percent(cell.difference, sign=True) + (" *" if cell.differs else "")


def _print(made: Comparison) -> None:
    from rich.console import Console

    wide = Console(width=200)
    for part in (*to_rich(made), *remarks(made)):
        wide.print(part, highlight=False, markup=False)


def _plain(cell: Cell) -> dict[str, float | bool | None]:
    values = (cell.a.value, cell.b.value, cell.difference.value, *cell.difference.interval)
    named = zip(("a", "b", "difference", "low", "high"), values, strict=True)
    return {**{name: None if math.isnan(value) else round(value, 6) for name, value in named}, "differs": cell.differs}
