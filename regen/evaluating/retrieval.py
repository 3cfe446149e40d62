"""`regen eval retrieval`: do the cases that a bundle's encoder finds fit the query, and does a recording find its own report?

    made = evaluate_retrieval(Path("data"), "test", "bundle", (1, 5, 10), None, "cpu", 0, False)
    made.block("all").cases["encoder"]["map"].value, .interval
    made.block("not NORM").reports["encoder"]["r@5"].value

Queries are the reported recordings of the split; the archive is those of the training split of the same prepared folder, without the query's
subject (dates are not compared). Relevance and gain: regen.eval.retrieval_metrics. ECG -> report ranks the distinct reports of the whole
split for every query, whatever group it is in.
"""

from __future__ import annotations

from collections import Counter
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
from regen.encoders.store import Towers
from regen.errors import ConfigError, DataError
from regen.eval import retrieval_metrics as metrics
from regen.eval.baselines import Views, look
from regen.eval.blocks import INTERVAL, named, plain_differences, plain_rows
from regen.eval.bootstrap import DRAWS, Resamples, Sampled, Statistic, Values, bootstrap
from regen.eval.nearest import Score, by_cosine, by_measures, same_owner
from regen.eval.predictions import References
from regen.eval.retrieval_metrics import Ranked
from regen.eval.strata import strata
from regen.eval.table_views import markdown_table, percent, rich_table
from regen.evaluating.ends import check_split, open_split, open_towers, train_reports, write_result
from regen.progress import bar
from regen.study import FloatArray

Row = dict[str, Sampled]
SYSTEM = "encoder"
NOTES = (
    "Values in percent with their 95 % BCa interval over {draws} bootstrap draws of patients (seed {seed}). Relevant: shares a statement "
    "other than sinus rhythm (an abnormal one, or both are NORM); gain in nDCG: F1 of the two sets without sinus rhythm. Queries to which no case "
    "is relevant are left out (judged: those that remain). R@k: own report text among the {candidates} distinct reports of the split, ties "
    "counted against; 'most frequent first' ranks them by how often they occur in training, without looking at the ECG."
)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One group: n queries, patients, judged: queries to which a case is relevant; cases, reports: system -> column -> value and draws."""

    name: str
    n: int
    patients: int
    judged: int
    cases: dict[str, Row]
    reports: dict[str, Row]


@dataclass(frozen=True, slots=True, eq=False)
class Retrieval:
    """archive: cases searched; candidates: distinct reports ranked; ks: ascending."""

    blocks: tuple[Block, ...]
    ks: tuple[int, ...]
    archive: int
    candidates: int
    seed: int
    draws: int

    def block(self, name: str) -> Block:
        return named(self.blocks, name, "retrieval: unknown group")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: shares in [0, 1], null where undefined; `differences` are the encoder minus each other system, on the same draws."""
        kept = {name: getattr(self, name) for name in ("ks", "archive", "candidates", "seed", "draws")}
        return kept | {"interval": INTERVAL, "blocks": [_block_dict(block) for block in self.blocks]}


def evaluate_retrieval(studies: Path, split: str, bundle: str, ks: Sequence[int], out: Path | None, device: str, seed: int, force: bool) -> Retrieval:
    """Print the tables; with `out`, also write them as JSON, or as Markdown where the name ends in .md.

    Raises:
        ConfigError: a split that is none or the training split, or k below 1.
        ArtifactError: `out` exists without force, or a bundle or the prepared folder is damaged.
        DataError: no reported recordings in the split or in training.
    """
    check_split(split)
    if not ks or min(ks) < 1:
        raise ConfigError(f"-k: expected at least one k, each of at least 1, got {', '.join(map(str, ks)) or 'none'}; for example -k 1 -k 5 -k 10")
    if out is not None:
        check_free_file(out, force)
    data, rows, train = open_split(studies, split)
    towers = open_towers(bundle, device)
    views = [look(data, part, towers, partial(bar, title=name)) for part, name in ((rows, split), (train, "train"))]
    known = train_reports(data)
    made = compare(rows, References.from_rows(rows), References.from_rows(train), (views[0], views[1]), towers, known, ks, seed)
    _print(made)
    write_result(out, made.to_dict(), to_markdown(made))
    return made


def compare(
    rows: pl.DataFrame, references: References, pool: References, views: tuple[Views, Views], towers: Towers, train_reports: Sequence[str],
    ks: Sequence[int], seed: int = 0, draws: int = DRAWS,
) -> Retrieval:  # fmt: skip
    """rows: of the prepared folder, those of `references`; views: of the queries and of the pool; train_reports: for the groups and the order
    by frequency.
    """
    ks = tuple(sorted(set(ks)))
    barred = same_owner(references.study_ids, references.subjects, pool.study_ids, pool.subjects)
    scores = case_scores(*views, seed)
    ranked = {name: metrics.judge(references.statements, pool.statements, barred, score, ks[-1]) for name, score in scores.items()}
    texts = sorted({text for text in references.reports if text})
    own = np.array([texts.index(text) if text else -1 for text in references.reports], np.int64)
    ranks = report_ranks(views[0], texts, own, towers, Counter(train_reports))
    blocks = []
    for number, (name, chosen) in enumerate(strata(rows, references, train_reports)):
        resamples = Resamples([references.subjects[i] for i in chosen], np.random.default_rng([seed, number]), draws)
        parts = {system: made.take(chosen) for system, made in ranked.items()}
        cases = {system: _measure(_case_columns(part, ks), resamples) for system, part in parts.items()}
        reports = {system: _measure({f"r@{k}": partial(metrics.recall_at, r[chosen], k) for k in ks}, resamples) for system, r in ranks.items()}
        reports["random order (computed)"] = {f"r@{k}": _constant(metrics.chance_at(len(texts), k), draws) for k in ks}
        blocks.append(Block(name, len(chosen), resamples.patients, metrics.judged(parts[SYSTEM]), cases, reports))
    return Retrieval(tuple(blocks), ks, len(pool), len(texts), seed, draws)


def case_scores(query: Views, cases: Views, seed: int) -> dict[str, Score]:
    """Each system's scores of a block of queries against all cases. The encoder first, then what any of it must beat."""
    if query.embedding is None or cases.embedding is None:
        raise DataError("case_scores: expected views with embeddings, got none; look at the recordings with towers")
    n = len(cases.signal)

    def chance(rows: slice) -> FloatArray:
        return np.random.default_rng([seed, rows.start]).random((rows.stop - rows.start, n), np.float32)

    return {
        SYSTEM: by_cosine(query.embedding, cases.embedding),
        "random cases": chance,
        "nearest raw signal": by_cosine(query.signal, cases.signal),
        "nearest hand-made features": by_measures(query.measures, cases.measures),
    }


def report_ranks(query: Views, texts: Sequence[str], own: npt.NDArray[np.int64], towers: Towers, frequency: Counter[str]) -> dict[str, Values]:
    """System -> rank of each query's own report among `texts`; own: its place there, -1 where the query has none."""
    vectors = towers.text.encode(list(texts))
    embedding = np.zeros((len(own), vectors.shape[1]), np.float32) if query.embedding is None else query.embedding
    counts = np.tile(np.array([frequency[text] for text in texts], np.float64), (len(own), 1))
    return {SYSTEM: metrics.true_ranks(embedding @ vectors.T, own), "most frequent first": metrics.true_ranks(counts, own)}


def _case_columns(ranked: Ranked, ks: Sequence[int]) -> dict[str, Statistic]:
    per_k = {"precision": metrics.precision, "recall": metrics.recall, "ap": metrics.average_precision, "ndcg": metrics.ndcg}
    columns: dict[str, Statistic] = {f"{name}@{k}": partial(metric, ranked, k) for name, metric in per_k.items() for k in ks}
    return columns | {"map": partial(metrics.mean_average_precision, ranked)}


def _measure(columns: dict[str, Statistic], resamples: Resamples) -> Row:
    return {name: bootstrap(statistic, resamples) for name, statistic in columns.items()}


def _constant(value: float, draws: int) -> Sampled:
    return Sampled(value, np.full(draws, value))


def _block_dict(block: Block) -> dict[str, Any]:
    kept: dict[str, Any] = {name: getattr(block, name) for name in ("name", "n", "patients", "judged")}
    for part, rows in (("cases", block.cases), ("reports", block.reports)):
        kept[part], kept[f"{part}_differences"] = plain_rows(rows), plain_differences(rows)
    return kept


def to_markdown(made: Retrieval) -> str:
    """Every group: cases, then ECG -> report; then how to read them."""
    parts = []
    for block in made.blocks:
        parts.append(f"### {_heading(block)}")
        for rows in (block.cases, block.reports):
            columns = list(rows[SYSTEM])
            parts.append(markdown_table(["system", *columns], ([system, *(percent(row[c]) for c in columns)] for system, row in rows.items())))
    return "\n\n".join([*parts, NOTES.format(**made.to_dict())]) + "\n"


def _heading(block: Block) -> str:
    return f"{block.name}: n = {block.n}, {block.patients} patients, {block.judged} judged"


def _print(made: Retrieval) -> None:
    from rich.console import Console

    wide, whole, most = Console(width=190), made.blocks[0], made.ks[-1]
    wide.print(_table(f"cases, {_heading(whole)}; archive of {made.archive}", whole.cases, "system"))
    wide.print(_table(f"ECG -> report among {made.candidates} distinct reports, {_heading(whole)}", whole.reports, "system"))
    groups = {}
    for block in made.blocks:
        cells = {f"nDCG@{most}, {system}": row[f"ndcg@{most}"] for system, row in block.cases.items()}
        reports = {f"R@{most}, {system}": row[f"r@{most}"] for system, row in block.reports.items() if system != "random order (computed)"}
        groups[_heading(block).replace(": ", "\n", 1)] = cells | {f"mAP, {SYSTEM}": block.cases[SYSTEM]["map"]} | reports
    wide.print(_table("by group", groups, "group"))
    wide.print(NOTES.format(**made.to_dict()), highlight=False)


def _table(title: str, rows: dict[str, Row], first: str) -> Table:
    columns = list(next(iter(rows.values())))
    lines = ([name, *(percent(row[column], between="\n") for column in columns)] for name, row in rows.items())
    return rich_table(title, [first, *columns], lines, title_left=True)
