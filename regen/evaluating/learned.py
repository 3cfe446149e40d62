"""`regen eval text`: what trained metrics say of drafts, each with the weights that were used. ECG and chest X-ray reports alike.

made = evaluate_text([Path("a.jsonl")], Path("data"), "test", ["bertscore=/models/roberta-large"], None, None, "cpu", 0, False)
made.rows["a"]["bertscore"].value, made.rows["a"]["bertscore"].interval
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

from regen.artifact import check_free_file
from regen.data_prep.prepared import Prepared
from regen.errors import ConfigError, DataError
from regen.eval.averages import mean
from regen.eval.blocks import INTERVAL, plain_differences, plain_rows
from regen.eval.bootstrap import DRAWS, Resamples, Sampled, bootstrap
from regen.eval.imported import read_predictions
from regen.eval.learned_metrics import scorers
from regen.eval.table_views import markdown_table, percent, rich_table
from regen.evaluating.ends import check_split, write_result
from regen.progress import console


@dataclass(frozen=True, slots=True, eq=False)
class TextScores:
    """n reported studies of so many patients; rows: file -> metric -> value and draws; weights: metric -> what it was computed with."""

    n: int
    patients: int
    rows: dict[str, dict[str, Sampled]]
    missing: dict[str, int]
    weights: dict[str, dict[str, str]]
    seed: int
    draws: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; `differences` are the first file minus each other one, on the same draws."""
        kept = {name: getattr(self, name) for name in ("n", "patients", "missing", "weights", "seed", "draws")}
        return kept | {"interval": INTERVAL, "systems": plain_rows(self.rows), "differences": plain_differences(self.rows)}


def evaluate_text(
    predictions: Sequence[Path], studies: Path, split: str, metrics: Sequence[str], columns: Mapping[str, str] | None, out: Path | None, device: str,
    seed: int, force: bool, draws: int = DRAWS,
) -> TextScores:  # fmt: skip
    """Print a table; with `out`, also write it as JSON, or as Markdown where the name ends in .md. metrics: regen.eval.learned_metrics.scorers.

    Raises:
        ConfigError: no metric, an unknown one, weights that cannot be read without unpickling, two files of one name, or no such split.
        DataError: no reported studies in the split, or a file without any of them.
    """
    check_split(split)
    if not metrics:
        raise ConfigError("--metric: expected at least one, for instance --metric bertscore=FOLDER; regen eval report needs no weights")
    twice = [name for name, count in Counter(path.stem for path in predictions).items() if count > 1]
    if twice:
        raise ConfigError(f"predictions: expected files of different names, got {twice[0]} twice; rename one, its name is the system's")
    if out is not None:
        check_free_file(out, force)
    chosen = scorers(metrics, device)
    rows = Prepared.open(studies).split(split, with_ecg=False).filter(pl.col("report").fill_null("") != "")
    if not len(rows):
        raise DataError(f"{studies}: expected reported studies in the {split} split, got none; prepare with reports")
    files = {path.stem: {str(draft["study_id"]): str(draft["report"] or "") for draft in read_predictions(path, columns)} for path in predictions}
    references, ids = rows["report"].to_list(), rows["study_id"].to_list()
    for name, texts in files.items():
        if not texts.keys() & set(ids):
            raise DataError(f"{name}: expected drafts of the studies to score, got none of them; check the split")
    resamples = Resamples(rows["subject_id"].to_list(), np.random.default_rng(seed), draws)
    cells = {
        name: {m.name: bootstrap(partial(mean, m.score([texts.get(study, "") for study in ids], references)), resamples) for m in chosen}
        for name, texts in files.items()
    }
    missing = {name: sum(study not in texts for study in ids) for name, texts in files.items()}
    made = TextScores(len(rows), resamples.patients, cells, missing, {m.name: m.weights for m in chosen}, seed, draws)
    _print(made)
    write_result(out, {"split": split} | made.to_dict(), to_markdown(made))
    return made


def to_markdown(made: TextScores) -> str:
    """The table, and which weights it rests on."""
    metrics = list(made.weights)
    used = [f"- {name}: " + ", ".join(f"{key} {value}" for key, value in weights.items()) for name, weights in made.weights.items()]
    body = markdown_table(["system", *metrics], ([name, *(percent(row[m]) for m in metrics)] for name, row in made.rows.items()))
    note = f"n = {made.n} studies of {made.patients} patients; 95 % bootstrap by patient, {made.draws} draws, seed {made.seed}."
    return "\n\n".join([body, note, "\n".join(["Weights:", *used])]) + "\n"


def _print(made: TextScores) -> None:
    rows = ([name, *(percent(row[m]) for m in made.weights), made.missing[name]] for name, row in made.rows.items())
    console.print(rich_table(f"n = {made.n} studies of {made.patients} patients", ["system", *made.weights, "without a draft"], rows))
    for name, weights in made.weights.items():
        console.print(f"{name}: " + ", ".join(f"{key} {value[:16]}" for key, value in weights.items()))
