"""What the card of ECG drafts holds: regen.evaluating.card writes it.

write_card(ecg_card(made, data, rows, references, systems, "starter", "test"), Path("card"))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl

from regen.data_prep.prepared import Prepared
from regen.data_prep.statements import CODES, SUPERCLASSES
from regen.eval.predictions import Predictions, References
from regen.eval.report_table import COLUMNS, Table
from regen.eval.set_metrics import study_f1, superclass_probabilities, superclasses
from regen.eval.table_views import heading, remarks, to_markdown
from regen.evaluating.card import Card, Curves, judged
from regen.generators.evidence import expected_f1


def ecg_card(
    made: Table, data: Prepared, rows: pl.DataFrame, references: References, systems: Sequence[Predictions], bundle: str, split: str
) -> Card:
    """made: the table of the systems, in their order; rows: of the prepared folder, in the order of the references."""
    first = systems[0]
    return Card(
        data, rows, bundle, split, [s.name for s in systems], [_lines(s, references) for s in systems], COLUMNS,
        {heading(block): block.rows for block in made.blocks}, remarks(made), made.to_dict(), to_markdown(made), references.reports, first.reports,
        study_f1(first.statements, references.statements), _curves(first, references),
    )  # fmt: skip


def _curves(system: Predictions, references: References) -> Curves | None:
    """None without probabilities."""
    if system.probabilities is None or not len(references):
        return None
    truth, probabilities = superclasses(references.statements), superclass_probabilities(system.probabilities)
    ranked = {name: (probabilities[:, column], truth[:, column]) for column, name in enumerate(SUPERCLASSES)}
    return Curves(ranked, system.probabilities, references.statements, expected_f1(system.statements, system.probabilities))


def _lines(system: Predictions, references: References) -> Iterator[dict[str, Any]]:
    for row, study in enumerate(references.study_ids):
        draft: dict[str, Any] = {"study_id": study, "system": system.name, "report": system.reports[row]}
        if system.probabilities is not None:
            said = system.declared if system.declared is not None else system.statements
            draft["findings"] = [
                {"code": code, "probability": round(float(p), 5), "positive": bool(yes)}
                for code, p, yes in zip(CODES, system.probabilities[row], said[row], strict=True)
            ]
        elif system.declared is not None:
            draft["declared"] = [CODES[column] for column in np.flatnonzero(system.declared[row])]
        if system.sentences is not None:
            draft["sentences"] = judged(system.sentences, row)
        yield draft
