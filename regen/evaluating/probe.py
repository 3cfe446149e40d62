"""`regen eval probe`: what a logistic regression reads off a frozen image encoder, and whether images of one patient lie together.

    made = evaluate_probe(Path("data"), "bundle", None, 5, "test", None, "cpu", 0, False)
    made.labels["Pleural Effusion"].rows["encoder"]["auc"].interval
    made.patients.rows["raw pixels"]["r@1"].value

Labels are the prepared folder's observations, or those of a CSV. With folds, every image is scored by a probe that saw no image of its patient;
without (folds 0: for an encoder that was trained on the folder's training split) the probe learns on train and is scored on one split. Beside
the encoder stand the same encoder with random weights, and raw pixels (32 x 32).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from rich.table import Table

from regen.artifact import check_free_file
from regen.data_prep.chexpert import OBSERVATIONS, SUPPORT_DEVICES
from regen.data_prep.label_table import read_label_table
from regen.data_prep.prepared import Prepared
from regen.encoders.images import known_observations
from regen.encoders.space import Space
from regen.errors import ConfigError, DataError
from regen.eval.averages import mean_of
from regen.eval.blocks import INTERVAL, Group
from regen.eval.bootstrap import DRAWS, Resamples, Sampled, bootstrap
from regen.eval.linear_probe import standardised
from regen.eval.probed import Pairs, Parts, log_odds, nearest_cases, read_off, scored, spaces
from regen.eval.retrieval_metrics import judged, precision, recall_at, shared_ranks
from regen.eval.set_metrics import auc
from regen.eval.table_views import markdown_table, percent, rich_table
from regen.evaluating.ends import check_split, open_images, write_result
from regen.evaluating.space import raw_pixels, untrained
from regen.progress import console
from regen.study import FloatArray

FIRST, PROBED = "encoder", ", probed"
AT = (1, 5, 10)
FEW = 10
"""Positives, and negatives, that a label must have among the scored images to be in the table."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored(Group):
    """Images or queries, so many of them positive."""

    positive: int


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """labels: name -> AUROC; macro: their mean; similar: do the nearest images of others share a label, in the features and in what the probe
    reads off them; patients: is the nearest other image of the same patient; folds: 0 for train against a split."""

    labels: dict[str, Scored]
    macro: dict[str, Sampled]
    similar: Group
    patients: Group
    folds: int
    seed: int
    draws: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: shares in [0, 1], null where undefined."""
        labels = {name: scored.to_dict(positive=scored.positive) for name, scored in self.labels.items()}
        macro = {name: cell.plain() for name, cell in self.macro.items()}
        apart = {f"{FIRST} minus {name}": cell.plain() for name, cell in self.differences().items()}
        return {
            "seed": self.seed, "draws": self.draws, "interval": INTERVAL, "folds": self.folds, "labels": labels, "macro": macro,
            "macro_differences": apart, "similar": self.similar.to_dict(), "patients": self.patients.to_dict(),
        }  # fmt: skip

    def differences(self) -> dict[str, Sampled]:
        """The encoder's mean AUROC minus each other one's, on the same draws."""
        return {name: self.macro[FIRST].minus(cell) for name, cell in self.macro.items() if name != FIRST}


def evaluate_probe(
    studies: Path, bundle: str, labels: Path | None, folds: int, split: str, out: Path | None, device: str, seed: int, force: bool, draws: int = DRAWS
) -> Probe:
    """Print the table; with `out`, also write it as JSON, or as Markdown where the name ends in .md.

    Raises:
        ConfigError: one fold, a split that is none, or a bundle that reads no X-rays.
        DataError: no chest X-rays, or no label with FEW positives and negatives.
    """
    if folds == 1 or folds < 0:
        raise ConfigError(f"--folds: expected 2 or more, or 0 to learn on train and score --split, got {folds}")
    if folds == 0:
        check_split(split)
    if out is not None:
        check_free_file(out, force)
    data, space = open_images(studies, bundle, device)
    rows = data.studies.filter(pl.col("cxr_rows").is_not_null())
    names, truth, rows = _labelled(rows, labels, studies)
    features = {FIRST: _features(data, rows, space), "encoder, random weights": _features(data, rows, untrained(space))}
    features["raw pixels"] = raw_pixels(data, rows)
    parts = _parts(rows, folds, split, seed)
    made = _scores(names, truth, features, rows, parts, folds, seed, draws)
    if not made.labels:
        raise DataError(f"{studies}: expected a label with at least {FEW} positives and {FEW} negatives among the scored images, got none")
    console.print(to_rich(made))
    write_result(out, ({} if folds else {"split": split}) | made.to_dict(), to_markdown(made))
    return made


def _labelled(rows: pl.DataFrame, labels: Path | None, studies: Path) -> tuple[tuple[str, ...], FloatArray, pl.DataFrame]:
    """Label names, (n, labels) 1, 0 or NaN, and the rows that are labelled."""
    if labels is None:
        return OBSERVATIONS, known_observations(rows), rows
    table = read_label_table(labels)
    at = {study: i for i, study in enumerate(table.study_ids)}
    if len(at) < len(table):
        raise DataError(f"{labels}: expected one row a study, got several of one; join them")
    known = rows.filter(pl.col("study_id").is_in(list(at)))
    if not len(known):
        raise DataError(f"{labels}: expected study ids of {studies}, got none of them (for instance {table.study_ids[0]!r}); check the table")
    return table.names, table.labels[[at[study] for study in known["study_id"]]], known


def _features(data: Prepared, rows: pl.DataFrame, space: Space) -> FloatArray:
    """(n, 2 * width): of first views."""
    out = np.zeros((len(rows), space.image_tower().feature_width), np.float32)
    for positions, images in data.images(rows):
        out[positions] = space.encode_images(images)[2]
    return out


def _parts(rows: pl.DataFrame, folds: int, split: str, seed: int) -> Parts:
    """(learned on, scored) row numbers; no patient on both sides."""
    if folds == 0:
        return [(np.flatnonzero((rows["split"] == "train").to_numpy()), np.flatnonzero((rows["split"] == split).to_numpy()))]
    patients = rows["subject_id"].n_unique()
    if folds > patients:
        raise ConfigError(f"--folds: expected at most one a patient ({patients}), got {folds}")
    subjects, number = np.unique(rows["subject_id"].to_numpy().astype(str), return_inverse=True)
    fold = np.random.default_rng([seed, 3]).permutation(len(subjects))[number] % folds
    return [(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(folds)]


def _scores(
    names: Sequence[str], truth: FloatArray, features: dict[str, FloatArray], rows: pl.DataFrame, parts: Parts, folds: int, seed: int, draws: int
) -> Probe:  # fmt: skip
    subjects = rows["subject_id"].to_list()
    tested = np.sort(np.concatenate([test for _, test in parts]))
    whole = Resamples([subjects[i] for i in tested], np.random.default_rng(seed), draws)
    plain = {name: spaces(made, parts) for name, made in features.items()}
    read = {name: read_off(space, truth, parts) for name, space in plain.items()}
    labels: dict[str, Scored] = {}
    for column, label in enumerate(names):
        known = np.flatnonzero(~np.isnan(truth[tested, column]))
        positive = truth[tested[known], column] == 1
        if min(positive.sum(), (~positive).sum()) < FEW:
            continue
        cells = {}
        for name, pairs in read.items():
            p = scored(pairs, parts)[known, column]
            statistic = lambda weights, p=p, positive=positive, known=known: auc(p, positive, weights[:, known])  # noqa: E731
            cells[name] = {"auc": bootstrap(statistic, whole)}
        labels[label] = Scored(len(known), len({subjects[tested[i]] for i in known}), cells, int(positive.sum()))
    macro = {name: mean_of([label.rows[name]["auc"] for label in labels.values()], draws) for name in features if labels}
    return Probe(
        labels, macro, _similar(truth, names, plain, read, rows, parts, whole), _same_patient(features, subjects, tested, seed, draws),
        folds, seed, draws,
    )  # fmt: skip


def _similar(
    truth: FloatArray, names: Sequence[str], plain: dict[str, Pairs], read: dict[str, Pairs], rows: pl.DataFrame, parts: Parts, whole: Resamples
) -> Group:
    """Of the nearest labelled images of other patients: the share with a label in common, in the features and in what the probe reads off."""
    ids, subjects = rows["study_id"].to_list(), rows["subject_id"].to_list()
    counted = np.array([name != SUPPORT_DEVICES for name in names])
    out = {}
    for system, space in (plain | {f"{name}{PROBED}": log_odds(pairs) for name, pairs in read.items()}).items():
        ranked = nearest_cases(space, truth, ids, subjects, parts, max(AT), counted)
        out[system] = {f"p@{k}": bootstrap(partial(precision, ranked, k), whole) for k in AT}
    return Group(judged(ranked), whole.patients, out)


def _same_patient(
    features: dict[str, FloatArray], subjects: Sequence[str | None], scored: npt.NDArray[np.int64], seed: int, draws: int
) -> Group:  # fmt: skip
    """Is the nearest other image of the same patient? Patients with one image alone are candidates, not queries."""
    number = np.unique(np.array([subjects[i] or f"\0{i}" for i in scored]), return_inverse=True)[1].astype(np.int64)
    queries = np.flatnonzero(np.bincount(number)[number] > 1)
    resamples = Resamples([subjects[scored[i]] for i in queries], np.random.default_rng(seed), draws)
    rows = {}
    for name, made in features.items():
        part = standardised(made[scored], made[scored])[0]
        part = part / np.linalg.norm(part, axis=1, keepdims=True).clip(1e-6)
        similarity = part[queries] @ part.T
        similarity[np.arange(len(queries)), queries] = np.nan
        ranks = shared_ranks(similarity, number[queries], number)
        rows[name] = {f"r@{k}": bootstrap(partial(recall_at, ranks, k), resamples) for k in (1, 5)}
    return Group(len(queries), resamples.patients, rows)


def to_markdown(made: Probe) -> str:
    """One table, then how to read it."""
    how = f"{made.folds} folds by patient" if made.folds else "probe learned on train"
    note = f"Percent with 95 % BCa intervals over {made.draws} draws of patients (seed {made.seed}); {how}."
    return f"{markdown_table(*_table(made))}\n\n{note}\n"


def to_rich(made: Probe) -> Table:
    return rich_table("AUROC of a linear probe, by label; images of one patient", *_table(made))


def _table(made: Probe) -> tuple[list[str], list[list[str]]]:
    systems = list(made.macro)
    lines = [
        [label, str(s.n), str(s.positive), str(s.patients), *(percent(s.rows[name]["auc"]) for name in systems)] for label, s in made.labels.items()
    ]
    lines.append([f"mean of {len(made.labels)} labels", "", "", "", *(percent(made.macro[name]) for name in systems)])
    apart = made.differences()
    lines.append([f"{FIRST} minus this", "", "", "", *(percent(apart.get(name)) for name in systems)])
    near = made.similar
    for how, suffix in (("", ""), (", in what the probe reads", PROBED)):
        for k in AT:
            cells = (percent(near.rows[f"{name}{suffix}"][f"p@{k}"]) for name in systems)
            lines.append([f"a label in common{how}, P@{k}", str(near.n), "", str(near.patients), *cells])
    same = made.patients
    lines += [
        [f"same patient, R@{k}", str(same.n), "", str(same.patients), *(percent(same.rows[name][f"r@{k}"]) for name in systems)] for k in (1, 5)
    ]
    return ["", "n", "positive", "patients", *systems], lines
