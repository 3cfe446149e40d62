"""The groups that every score is also given for: a mean over all hides whom a system fails.

    for name, rows in strata(table, references, train_reports): ...

All; abnormal only; the report not seen in training; both; by sex, age band, language, site and device, where the studies name more
than one. A group keeps its place in the list when it is empty, so that its n of 0 is seen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

from regen.data_prep.statements import CODES
from regen.eval.predictions import References
from regen.eval.text_metrics import copies

Rows = npt.NDArray[np.int64]
_KINDS = ("sex", "site", "device", "age")
MOST, LEAST = 6, 20
"""Groups of one kind that are shown, the larger ones (PTB-XL names 50 sites), and the studies that a group of site or device must have: an
interval over fewer says nothing."""
AGE_BAND = 20
"""Years."""


def strata(
    table: pl.DataFrame, references: References, train_reports: Collection[str], normal: npt.NDArray[np.bool_] | None = None, word: str = "NORM"
) -> list[tuple[str, Rows]]:
    """(name, rows) of every group, 'all' first.

    table: the rows of the prepared folder that `references` was made from, in the same order; its columns sex, age, language, site and
    device are used where they are there. train_reports: every report of the training split.
    normal: (n,) bool, by default the ECGs that are coded NORM; word: what the groups' names call them.
    """
    new = np.array([bool(text) for text in references.reports], np.bool_) & (copies(references.reports, train_reports) == 0)
    abnormal = ~(references.statements[:, CODES.index("NORM")] if normal is None else normal)
    everybody = np.ones(len(references), np.bool_)
    masks = {"all": everybody, "new in training": new, f"not {word}": abnormal, f"new and not {word}": new & abnormal}
    for kind, values in _groups(table, references):
        masks |= _masks(kind, values)
    return [(name, np.flatnonzero(mask)) for name, mask in masks.items()]


def by_person_or_place(name: str) -> bool:
    """Whether a group is one of sex, age, site or device: of those there are too many for a terminal."""
    return name.partition(" ")[0] in _KINDS


def _groups(table: pl.DataFrame, references: References) -> Iterator[tuple[str, list[str | None]]]:
    yield "language", references.languages
    for kind in _KINDS[:3]:
        if kind in table.columns:
            yield kind, table[kind].to_list()
    if "age" in table.columns:
        bands = [None if age is None or age != age else int(age // AGE_BAND) * AGE_BAND for age in table["age"].to_list()]
        yield "age", [None if low is None else f"{low}-{low + AGE_BAND - 1}" if low < 80 else "80+" for low in bands]


def _masks(kind: str, values: list[str | None]) -> dict[str, npt.NDArray[np.bool_]]:
    """One mask a value, by name; none where all studies have the same."""
    column = np.array([value or "" for value in values])
    names, counts = np.unique(column, return_counts=True)
    if len(names) < 2:
        return {}
    if kind in ("site", "device"):
        names, counts = names[counts >= LEAST], counts[counts >= LEAST]
    shown = sorted(names[np.argsort(-counts, kind="stable")][:MOST].tolist())
    return {f"{kind} {name or 'unknown'}": column == name for name in shown}
