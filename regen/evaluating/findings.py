"""`regen eval findings`: are a bundle's probabilities any good, statement by statement, and for whom.

    regen eval findings --studies data --bundle bundle --out findings.json
    regen eval findings drafts.jsonl --studies data --out findings.md

Beside the system: hand-made features and logistic regression, trained on the same training split. Every stratum gets macro averages over
the statements, and over the superclasses, that have at least FEW positives in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.table import Table

from regen.artifact import check_free_file
from regen.batch import prepared_studies
from regen.data_prep.prepared import Prepared
from regen.data_prep.statements import CODES
from regen.encoders.head import best_thresholds
from regen.errors import ConfigError, DataError
from regen.eval.baselines import look
from regen.eval.bootstrap import DRAWS, Sampled
from regen.eval.finding_metrics import BINS
from regen.eval.finding_table import TITLES, Answers, FindingTable, finding_table
from regen.eval.imported import read_predictions
from regen.eval.linear_probe import probe_each
from regen.eval.predictions import Predictions, References
from regen.eval.set_metrics import FEW
from regen.eval.strata import strata
from regen.eval.table_views import markdown_table, percent, rich_table
from regen.evaluating.ends import check_split, stated, train_reports, write_result
from regen.pipeline import Pipeline
from regen.progress import bar

BASELINE = "hand-made features"
NOTES = (
    "Values in percent with their 95 % BCa interval over {draws} bootstrap draws of patients (seed {seed}). Means cover statements, or "
    "superclasses, with at least {few} positives among the studies named. Of Brier score and calibration error (expected calibration error, "
    "{bins} equal-width bins) lower is better; with few studies the calibration error is too high, in the draws more than in the value, which "
    "may then lie below its interval. AUPRC of a guess is the share of positives. Sensitivity and specificity are those at the thresholds that "
    "come with the findings; the hand-made features' are set on the validation split. A superclass has the noisy-or of its statements' "
    "probabilities and is said where one of them is."
)


def evaluate_findings(
    studies: Path, split: str, bundle: str, predictions: Path | None, language: str | None, out: Path | None, device: str, seed: int, force: bool,
    draws: int = DRAWS,
) -> FindingTable:  # fmt: skip
    """Print the tables; with `out`, also write them as JSON, or as Markdown where the name ends in .md.

    predictions: drafts that `regen draft` wrote (then no bundle is read); None drafts the split with the bundle. Studies that nobody coded
    and that have no report are left out.

    Raises:
        ConfigError: a split that is none, or the training split; a language for drafts that are written already.
        ArtifactError: `out` exists without force, or the bundle or the prepared folder is damaged.
        DataError: nothing to score or to train on; drafts of other studies, without findings, or with damaged ones.
    """
    check_split(split)
    if out is not None:
        check_free_file(out, force)
    if predictions is not None and language is not None:
        raise ConfigError(f"--language {language}: the drafts of {predictions} are written already; leave one of the two out")
    data = Prepared.open(studies)
    (rows, references), (train_rows, train) = (stated(data, name) for name in (split, "train"))
    if predictions is not None:
        system = from_drafts(predictions.stem, read_predictions(predictions), references)
    else:
        drafts = Pipeline.from_pretrained(bundle, device).drafts(prepared_studies(data, rows), language)
        system = from_drafts("system", [draft.to_dict() for draft in bar(drafts, "system", len(rows))], references)
    known = train_reports(data)
    groups = strata(rows, references, known)
    made = finding_table(references, [system, hand_made(data, rows, train_rows, train)], groups, seed, draws)
    _print(made)
    write_result(out, {"split": split} | made.to_dict(), to_markdown(made))
    return made


def from_drafts(name: str, drafts: Sequence[Mapping[str, Any]], references: References) -> Answers:
    """Draft objects in any order. A finding counts as said at or above its threshold; without a threshold, where it is called positive.

    A study without a draft and a statement that a draft does not name have probability 0.

    Raises:
        DataError: as Predictions.from_drafts; no draft with findings; a finding without code, probability, and threshold or positive.
    """
    aligned = Predictions.from_drafts(name, drafts, references)
    if aligned.probabilities is None:
        raise DataError(f"{name}: expected findings with probabilities in the drafts, got none; give drafts that regen draft wrote")
    row, column = ({key: i for i, key in enumerate(keys)} for keys in (references.study_ids, CODES))
    said = np.zeros(aligned.probabilities.shape, np.bool_)
    for draft in drafts:
        for finding in draft.get("findings") or ():
            positive = _said(f"{name}, {draft['study_id']}", finding)
            if draft["study_id"] in row and finding["code"] in column:
                said[row[draft["study_id"]], column[finding["code"]]] = positive
    return Answers(name, aligned.probabilities, said, aligned.missing)


def hand_made(data: Prepared, rows: pl.DataFrame, train_rows: pl.DataFrame, train: References) -> Answers:
    """Logistic regression of every statement on what a ruler reads off the ECG, thresholds by best_thresholds on the validation split.

    Where the prepared folder has no validation split the thresholds come from the training split.
    """
    val_rows, val = stated(data, "val") if len(data.split("val")) else (train_rows, train)
    measures, *others = (look(data, part).measures for part in (train_rows, val_rows, rows))
    probabilities = [probe_each(measures, train.statements, other) for other in others]
    limits = best_thresholds(probabilities[0].astype(np.float32), val.statements.astype(np.float32))
    return Answers(BASELINE, probabilities[1], probabilities[1] >= limits)


def to_markdown(made: FindingTable) -> str:
    """Every stratum, every superclass and every statement that occurs, then how to read them."""
    parts = []
    for grouped, title in ((False, "Mean over statements"), (True, "Mean over superclasses")):
        lines: list[list[object]] = []
        for block in made.blocks:
            covered = block.superclasses if grouped else block.statements
            for name, row in block.rows.items():
                cells = [percent(row[("superclass_" if grouped else "") + key]) for key in TITLES]
                lines.append([block.name, block.n, block.patients, covered, name, *cells])
        parts.append(markdown_table(["studies", "n", "patients", "covered", "system", *TITLES.values()], lines, title))
    for title, each in (("Superclasses", made.superclasses), ("Statements", made.statements)):
        lines = [
            [one.code, one.label, one.n, one.positives, name, *(percent(row[key]) for key in TITLES)]
            for one in each if one.positives for name, row in one.rows.items()
        ]  # fmt: skip
        parts.append(markdown_table(["code", "what", "n", "positives", "system", *TITLES.values()], lines, title))
    return "\n\n".join([*parts, *_remarks(made)]) + "\n"


def _remarks(made: FindingTable) -> list[str]:
    out = [NOTES.format(few=FEW, bins=BINS, draws=made.draws, seed=made.seed)]
    out += [f"{name}: {count} studies without a draft, scored as probability 0." for name, count in made.missing.items() if count]
    if made.uncoded:
        out.append(f"{made.uncoded} studies were coded by nobody; their statements are those that the labeler reads in the report.")
    return out


def _rich(title: str, what: Sequence[str], rows: Iterable[tuple[Sequence[object], Mapping[str, Sampled], str]]) -> Table:
    """rows: what stands before the values, the cells, and the prefix of their keys."""
    lines = ([*before, *(percent(cells[prefix + key]) for key in TITLES)] for before, cells, prefix in rows)
    return rich_table(title, [*what, *TITLES.values()], lines, left=len(what), wrap=False)


def _print(made: FindingTable) -> None:
    """Strata, superclasses, and the statements that the averages cover; the Markdown and the JSON hold the others as well."""
    from rich.console import Console

    wide = Console(width=190)
    for prefix, title in (("", "Mean over statements"), ("superclass_", "Mean over superclasses")):
        rows = [((b.name, b.n, b.superclasses if prefix else b.statements, name), row, prefix) for b in made.blocks for name, row in b.rows.items()]
        wide.print(_rich(title, ("studies", "n", "covered", "system"), rows))
        wide.print()
    for title, each in (("Superclasses", made.superclasses), ("Statements", made.statements)):
        ones = [((one.code, one.positives, name), row, "") for one in each if one.positives >= FEW for name, row in one.rows.items()]
        wide.print(_rich(title, ("code", "positives", "system"), ones))
        wide.print()
    first, *others = made.systems
    for other in others:
        rows_of = made.blocks[0].rows
        gaps = (f"{title} {percent(rows_of[first][key].minus(rows_of[other][key]), sign=True)}" for key, title in TITLES.items())
        wide.print(f"{first} minus {other}, {made.blocks[0].name}: {', '.join(gaps)}", highlight=False, markup=False)
    for remark in _remarks(made):
        wide.print(remark, highlight=False, markup=False)


def _said(who: str, finding: Mapping[str, Any]) -> bool:
    """Raises DataError where neither a threshold in [0, 1] nor `positive` tells."""
    threshold = finding.get("threshold")
    if threshold is None and "positive" not in finding:
        raise DataError(f"{who}, {finding['code']}: expected a threshold or positive, got neither; add one, so that sensitivity is defined")
    if threshold is None:
        return bool(finding["positive"])
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
        raise DataError(f"{who}, {finding['code']}: expected a threshold in [0, 1], got {threshold!r}; give probabilities, not scores or percent")
    return bool(finding["probability"] >= threshold)
