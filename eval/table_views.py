"""Tables as people read them: Markdown for a file, rich for a terminal. Percent, interval behind the value.

    markdown_table(["system", "n"], [["a | b", 3]], "All")      "### All\\n\\n| system | n |\\n|---|---|\\n| a \\| b | 3 |"
    console.print(rich_table("All", ["system", "n"], [["a", 3]]))

The rest shows the Table of regen.eval.report_table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import rich.table
from rich.text import Text

from regen.eval.bootstrap import Sampled
from regen.eval.report_table import COLUMNS, Block, Table

_SHORT = {
    "micro_f1": "micro\nF1", "macro_f1": "macro\nF1", "superclass_f1": "super\nF1", "declared_f1": "decl.\nF1",
    "superclass_auc": "super\nAUC", "statement_auc": "stmt\nAUC",
    "bleu_4": "BLEU\n4", "rouge_l": "ROUGE\nL", "meteor": "METE\nOR", "cider": "CIDEr\n/ 10", "copies": "cop-\nies", "constant": "most\nused",
}  # fmt: skip
"""What a terminal shows, and its headings; BLEU-1..3 and ROUGE-1 and -2 are in the Markdown and the JSON."""
NOTES = (
    "Values in percent with their 95 % BCa interval over {draws} bootstrap draws of patients (seed {seed}). Statement sets are read in "
    "the report by one labeler for every system. Macro averages cover statements with at least 5 positives in the block. Text is compared in "
    "lower case without punctuation; METEOR without synonyms. 'Exact copies': drafts that occur word for word in training. 'Most common "
    "draft': share of the most frequent output, 100 where the output is constant."
)


def percent(cell: Sampled | None, sign: bool = False, between: str = " ") -> str:
    """'67.3 [64.0, 70.9]'; '-' where there is no value. sign: '+3.1 [+1.2, +4.9]'."""
    if cell is None or math.isnan(cell.value):
        return "-"
    form = "{:+.1f}" if sign else "{:.1f}"
    value, low, high = (form.format(100 * v) if not math.isnan(v) else "-" for v in (cell.value, *cell.interval))
    return f"{value}{between}[{low}, {high}]"


def markdown_table(head: Sequence[object], rows: Iterable[Sequence[object]], title: str = "") -> str:
    """Lines of cells, under a title of the third level where there is one."""
    lines = [_line(head), "|" + "---|" * len(head), *map(_line, rows)]
    return "\n".join([f"### {title}", "", *lines] if title else lines)


def rich_table(
    title: str, head: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1, gap: int = 1, wrap: bool = True, title_left: bool = False
) -> rich.table.Table:
    """The same for a terminal, cells as they are (no markup).

    left: columns on the left that hold words; the others hold values, which wrap=False never breaks. gap: blanks between columns.
    """
    out = rich.table.Table(
        title=Text(title, "table.title"),
        box=None,
        padding=(0, gap, 0, 0),
        header_style="bold underline",
        title_justify="left" if title_left else "center",
    )
    for i, name in enumerate(head):
        out.add_column(Text(name), justify="left" if i < left else "right", overflow="fold", no_wrap=i >= left and not wrap)
    for row in rows:
        out.add_row(*(Text(str(cell)) for cell in row))
    return out


def heading(block: Block) -> str:
    """'new in training: n = 120, 118 patients, 17 statements in macro averages'."""
    return f"{block.name}: n = {block.n}, {block.patients} patients, {block.statements} statements in macro averages"


def differences(made: Table, column: str = "micro_f1", block: str = "all") -> list[str]:
    """'starter minus random report: set micro-F1 +36.5 [+33.0, +39.9]', the first system against every other one."""
    first, *others = made.systems
    return [f"{first} minus {other}: {COLUMNS[column]} {percent(made.difference(first, other, column, block), sign=True)}" for other in others]


def to_markdown(made: Table) -> str:
    """Every block as a table of all columns, then the paired differences in micro-F1, then how to read them."""
    parts = []
    for block in made.blocks:
        rows = ([name, block.n, *(percent(row.get(column)) for column in COLUMNS)] for name, row in block.rows.items())
        lines = [markdown_table(["system", "n", *COLUMNS.values()], rows, heading(block)), ""]
        lines += [f"- {_cell(line)}" for line in differences(made, block=block.name)]
        parts.append("\n".join(lines).rstrip())
    return "\n\n".join([*parts, *remarks(made)]) + "\n"


def to_rich(made: Table, block: str = "all") -> rich.table.Table:
    """One block for a terminal: a line of values, a line of intervals under it."""
    chosen = made.block(block)
    caption = "percent, below it the 95 % interval by patient\ncopies: word for word from training; most used: share of the commonest draft"
    out = rich.table.Table(title=heading(chosen), caption=caption, box=None, padding=(0, 1, 0, 0), header_style="bold underline")
    out.add_column("system", min_width=15, overflow="fold")
    for title in _SHORT.values():
        out.add_column(title, justify="right", no_wrap=True)
    for name, row in chosen.rows.items():
        out.add_row(name, *(_two_lines(row.get(column)) for column in _SHORT))
    return out


def _two_lines(cell: Sampled | None) -> str:
    """'67.3' over '64-71'; one number below where both ends round to it, nothing where there is no interval."""
    if cell is None or math.isnan(cell.value):
        return "-"
    ends = list(dict.fromkeys(f"{100 * end:.0f}" for end in cell.interval if not math.isnan(end)))
    return f"{100 * cell.value:.1f}" + (f"\n[dim]{'-'.join(ends)}[/dim]" if ends else "")


def remarks(made: Table) -> list[str]:
    """How the table is to be read, and what is missing from it."""
    out = [NOTES.format(draws=made.draws, seed=made.seed)]
    out += [f"{name}: {count} studies without a draft or with an empty one." for name, count in made.missing.items() if count]
    if made.uncoded:
        out.append(f"{made.uncoded} references were coded by nobody; their statements are those that the labeler reads in the report.")
    return out


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(_cell(str(cell)) for cell in cells)} |"


def _cell(text: str) -> str:
    """A name that holds a bar must not open a column."""
    return text.replace("|", "\\|")
