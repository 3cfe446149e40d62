"""`regen eval robust`: what the drafts of a bundle are worth when the recording or the retrieval is not what it should be.

    made = evaluate_robust(Path("data"), "test", "bundle", None, Path("robust.md"), "auto", 0, False, 200)
    made.row("white noise, 10 dB").cells["micro_f1"].value, .interval
    made.difference("white noise, 10 dB", "micro_f1").interval      to the row 'nothing', on the same draws of patients

Over-reliance: of the findings that the drafts call positive, the share that only planted cases state: no other case shown does, nor does the
reference, and the draft without retrieval has it not. Empty where no case was planted. A planted case has the cosine of the one whose
place it takes, so that retrieval seems as sure as ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
from rich.table import Table

from regen.artifact import check_free_file
from regen.batch import prepared_studies
from regen.data_prep.prepared import Prepared
from regen.data_prep.readers import read_study
from regen.errors import ConfigError
from regen.eval import perturb
from regen.eval.bootstrap import DRAWS, Resamples, bootstrap
from regen.eval.perturb import NO_RETRIEVAL, UNPERTURBED, Condition, conditions
from regen.eval.predictions import Predictions, References, read_sets
from regen.eval.robustness import COLUMNS, WARNINGS, Outcome, Robustness, Row, over_reliance, scores
from regen.eval.set_metrics import Sets
from regen.eval.table_views import markdown_table, percent, rich_table
from regen.evaluating.ends import check_split, drawn, open_split, train_reports, write_result
from regen.index.backends import Ids
from regen.index.case_index import Asker, CaseIndex
from regen.pipeline import Pipeline
from regen.progress import bar
from regen.study import FloatArray, Study

_SHORT = ("micro\nF1", "macro\nF1", "ROUGE\nL", "super\nAUC", "cosine", "chan-\nged", "dis-\ntinct", "cop-\nies", "warned", "over-\nreliance")


class Overheard:
    """A case index that notes what was asked and found, and may show other cases than were found. Each study is asked about once."""

    def __init__(self, index: CaseIndex, exchange: Callable[[Ids, Asker], Ids] | None = None) -> None:
        self._index, self._exchange = index, exchange
        self.embeddings: dict[str, FloatArray] = {}
        self.found: dict[str, Ids] = {}
        self.given: dict[str, Ids] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    def search(self, queries: FloatArray, k: int, askers: Sequence[Asker]) -> tuple[Ids, FloatArray]:
        """As CaseIndex.search; scores stay in their places."""
        ids, scores = self._index.search(queries, k, askers)
        given = ids if self._exchange is None else np.stack([self._exchange(row, asker) for row, asker in zip(ids, askers, strict=True)])
        for i, asker in enumerate(askers):
            study = asker.study_id or ""
            self.embeddings[study], self.found[study], self.given[study] = queries[i], ids[i], given[i]
        return given, np.where(given >= 0, scores, np.nan).astype(np.float32)


def evaluate_robust(
    studies: Path, split: str, bundle: str, language: str | None, out: Path | None, device: str, seed: int, force: bool, limit: int | None,
    chosen: Sequence[Condition] | None = None,
) -> Robustness:  # fmt: skip
    """Draft a split under every condition and print one row for each; with `out`, also write it: Markdown where the name ends in .md, else
    JSON.

    limit: studies, drawn by the seed; chosen: conditions beside 'nothing' and 'retrieval blanked', which are always run; all by default.

    Raises:
        ConfigError: a split that is none, the training split, or a limit below 2.
        ArtifactError: `out` exists without force, or a bundle or the prepared folder is damaged.
        DataError: no reported recordings in the split.
    """
    check_split(split)
    if limit is not None and limit < 2:
        raise ConfigError(f"--limit: expected at least 2 studies, got {limit}")
    if out is not None:
        check_free_file(out, force)
    data, rows, _ = open_split(studies, split)
    rows = drawn(rows, limit, np.random.default_rng([seed, 1]))
    trial = Trial(Pipeline.from_pretrained(bundle, device), data, rows, language, seed)
    train = train_reports(data)
    made = trial.run(bundle, conditions() if chosen is None else chosen, train)
    _print(made)
    write_result(out, made.to_dict(), to_markdown(made))
    return made


class Trial:
    """One bundle and the studies that it drafts again and again. rows: of the prepared folder, each with a recording and a report."""

    def __init__(self, pipeline: Pipeline, data: Prepared, rows: pl.DataFrame, language: str | None, seed: int) -> None:
        self.pipeline, self.data, self.rows, self.language, self.seed = pipeline, data, rows, language, seed
        self.references = References.from_rows(rows)
        self.own = dict(zip(self.references.study_ids, self.references.statements, strict=True))
        self.cases = _stated(pipeline.index)
        self.found: dict[str, Ids] = {}

    def run(self, bundle: str, chosen: Sequence[Condition], train: Sequence[str], draws: int = DRAWS) -> Robustness:
        """Every condition that the recordings allow, scored; train: reports of the training split."""
        resamples = Resamples(self.references.subjects, np.random.default_rng([self.seed, 0]), draws)
        plain = self.drafted(UNPERTURBED)
        alone = self.drafted(NO_RETRIEVAL)
        known = {UNPERTURBED.name: plain, NO_RETRIEVAL.name: alone}
        left_out: dict[str, str] = {}
        made: list[Row] = []
        for condition in dict.fromkeys([UNPERTURBED, *chosen, NO_RETRIEVAL]):
            if why := self.unfit(condition):
                left_out[condition.name] = why
                continue
            outcome = known.get(condition.name) or self.drafted(condition)
            reliance = over_reliance(outcome, alone, self.references) if condition.plants else None
            cells = scores(outcome, plain, self.references, train, reliance)
            counts = Counter(flag for flags in outcome.flags for flag in flags)
            shares = {flag: round(count / len(self.references), 6) for flag, count in sorted(counts.items())}
            made.append(Row(condition.name, {column: bootstrap(statistic, resamples) for column, statistic in cells.items()}, shares))
        return Robustness(bundle, len(self.references), resamples.patients, tuple(made), left_out, self.seed, draws)

    def drafted(self, condition: Condition) -> Outcome:
        """The drafts of every study under one condition. Cases of another study are those that the last unperturbed run found."""
        index = Overheard(self.pipeline.index, self._exchange(condition))
        pipeline = replace(self.pipeline, archive=self.pipeline.archive.with_part("ecg", cast(CaseIndex, index)))
        drafts = pipeline.drafts(
            self._studies(condition), self.language, blank_ecg=condition.blank_ecg, blank_retrieval=condition.blank_retrieval
        )  # fmt: skip
        ids = self.references.study_ids
        made = {draft.study_id: draft for draft in bar(drafts, condition.name, len(ids))}
        if condition == UNPERTURBED:
            self.found = index.found
        planted = np.zeros((len(ids), self.cases.shape[1]), np.bool_)
        for i, study in enumerate(ids if condition.plants else ()):
            planted[i] = perturb.only_planted(self.cases, index.found[study], index.given[study])
        return Outcome(
            Predictions.from_drafts(condition.name, [draft.to_dict() for draft in made.values()], self.references),
            [frozenset(flag.partition(":")[0] for flag in made[study].flags) for study in ids],
            np.stack([index.embeddings[study] for study in ids]) if index.embeddings else None,
            planted,
        )

    def unfit(self, condition: Condition) -> str | None:
        """Why a condition cannot be run on these recordings, if it cannot."""
        if condition.shuffled and len(self.references) < 2:
            return "needs two studies or more"
        if condition.rate <= self.data.fs:
            return None
        gone = sum(not Path(source or "").is_file() for source in self.rows["source"].to_list())
        if gone:
            return f"needs {condition.rate:g} Hz; prepared at {self.data.fs:g} Hz, and {gone} of {len(self.rows)} source files are not in their place"
        first = read_study(self.rows["source"][0]).ecg
        return None if first is not None and first.fs >= condition.rate else f"needs {condition.rate:g} Hz, the source files hold fewer"

    def _studies(self, condition: Condition) -> Iterator[Study]:
        for study in prepared_studies(self.data, self.rows):
            ecg = study.ecg if condition.rate <= self.data.fs else read_study(study.source).ecg
            if condition.change is not None and ecg is not None:
                ecg = condition.change(ecg, perturb.rng_of(study.study_id, self.seed))
            yield replace(study, ecg=ecg)

    def _exchange(self, condition: Condition) -> Callable[[Ids, Asker], Ids] | None:
        index = self.pipeline.index
        if condition.shuffled:
            donors = perturb.donors(self.references.study_ids, np.random.default_rng([self.seed, 2]))
            return lambda ids, asker: perturb.borrowed(self.found[donors[asker.study_id or ""]], index.banned(asker))
        if condition.unrelated:
            return partial(self._unrelated, condition.unrelated)
        return None

    def _unrelated(self, share: float, ids: Ids, asker: Asker) -> Ids:
        study = asker.study_id or ""
        rows = perturb.unrelated_rows(self.cases, self.own[study], self.pipeline.index.banned(asker))
        return perturb.replaced(ids, rows, share, perturb.rng_of(study, self.seed))


def _stated(index: CaseIndex) -> Sets:
    """(n, 71) what every case of the index states; where nobody coded it, what the labeler reads in its report."""
    coded = ~np.isnan(index.statements[:, 0])
    out = np.asarray(np.nan_to_num(index.statements) > 0, np.bool_)
    out[~coded] = read_sets(text or "" for text, known in zip(index.cases["report"].to_list(), coded, strict=True) if not known)
    return out


def remarks(made: Robustness) -> list[str]:
    """How the table is to be read, and what is missing from it."""
    return [
        f"{made.bundle}: {made.n} studies of {made.patients} patients under every condition. Percent, 95 % BCa interval over {made.draws} "
        f"draws of patients (seed {made.seed}); differences are paired, to the row 'nothing'.",
        "Noise: ratio of a lead's power after cleaning to that of what was added, at 500 Hz or the recording's own rate before cleaning.",
        f"Warning: one of the flags {', '.join(WARNINGS)}. Over-reliance: share of positive findings that only planted cases state.",
        *(f"left out: {name} ({why})" for name, why in made.left_out.items()),
    ]


def to_rich(made: Robustness) -> Table:
    """For a terminal: values, the difference in micro-F1 to 'nothing' behind them."""
    head = ["condition", *_SHORT, "micro-F1 minus\nunperturbed", "ROUGE-L minus\nunperturbed"]
    lines = []
    for row in made.rows:
        values = [percent(row.cells.get(column)).partition(" ")[0] for column in COLUMNS]
        lines.append([row.name, *values, *(percent(made.difference(row.name, column), sign=True) for column in ("micro_f1", "rouge_l"))])
    return rich_table(f"robustness: n = {made.n}, {made.patients} patients", head, lines, gap=2, wrap=False)


def to_markdown(made: Robustness) -> str:
    """Values with their intervals, then the paired differences, then the remarks."""
    parts = [f"## Robustness: n = {made.n}, {made.patients} patients"]
    for title, cell in (
        ("value", lambda row, column: percent(row.cells.get(column))),
        ("minus 'nothing'", lambda row, column: percent(made.difference(row.name, column), sign=True)),
    ):
        lines = ([row.name, made.n, *(cell(row, column) for column in COLUMNS)] for row in made.rows)
        parts.append(markdown_table(["condition", "n", *COLUMNS.values()], lines, title))
    return "\n\n".join([*parts, *remarks(made)]) + "\n"


def _print(made: Robustness) -> None:
    from rich.console import Console

    wide = Console(width=200)
    for part in (to_rich(made), *remarks(made)):
        wide.print(part, highlight=False, markup=False)
