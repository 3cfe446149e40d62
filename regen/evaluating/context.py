"""`regen eval context`: the ablation table of the patient's context, every subset of it, contexts shuffled, times zeroed, and what it costs.

Each study is encoded and retrieved for once and drafted under every condition; nothing but its context changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from regen.artifact import check_free_file
from regen.batch import prepared_studies
from regen.data_prep.study_context import PARTS, only
from regen.errors import ConfigError, DataError
from regen.eval.bootstrap import DRAWS, Resamples
from regen.eval.context_table import Row, context_row, recall, to_markdown
from regen.eval.predictions import References
from regen.eval.table_views import percent
from regen.evaluating.ends import check_split, open_split, write_result
from regen.generators.base import Request
from regen.generators.local_writer import LocalWriter
from regen.pipeline import Pipeline
from regen.progress import bar, console
from regen.study import Study

_TOGETHER = 150
Change = Callable[[Study], Study]


@dataclass(frozen=True, slots=True, eq=False)
class ContextTable:
    """rows: conditions; subsets: number of parts -> (mean recall, drafts); slower: added share of the time of a draft: tokens, all."""

    rows: tuple[Row, ...]
    n: int
    patients: int
    subsets: dict[int, tuple[float, int]]
    slower: dict[str, float]
    seed: int
    draws: int

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    def lines(self) -> list[str]:
        """What stands below the table."""
        full, bare = self.row("all"), self.row("none")
        out = [f"n = {self.n} studies of {self.patients} patients; 95 % BCa intervals over {self.draws} draws of patients (seed {self.seed})."]
        out += [f"all minus none: {c} {percent(full.cells[c].minus(bare.cells[c]), sign=True)}" for c in ("recall", "signal_f1")]
        out += [
            f"all minus {name}: {c} {percent(full.cells[c].minus(self.row(name).cells[c]), sign=True)}"
            for name, c in (("shuffled between patients", "recall"), ("times zeroed", "timed_f1"))
        ]
        counts = ", ".join(f"{k}: {value:.3f} (n = {n})" for k, (value, n) in self.subsets.items())
        out.append(f"facts recall by number of parts, every subset drafted: {counts}")
        return [*out, "time of a draft, all against none: " + ", ".join(f"{name} {100 * share:+.1f} %" for name, share in self.slower.items())]

    def to_dict(self) -> dict[str, Any]:
        subsets = {str(k): {"recall": value, "drafts": n} for k, (value, n) in self.subsets.items()}
        return {
            "n": self.n, "patients": self.patients, "seed": self.seed, "draws": self.draws, "rows": [row.to_dict() for row in self.rows],
            "subsets": subsets, "slower": self.slower,
        }  # fmt: skip


def evaluate_context(
    studies: Path, bundle: str, split: str, limit: int | None, subset_studies: int, out: Path | None, device: str, seed: int, force: bool,
    draws: int = DRAWS,
) -> ContextTable:  # fmt: skip
    """Print the table; with `out`, also write it: Markdown where the name ends in .md, else JSON. limit: studies, drawn by the seed;
    subset_studies: of those, how many are drafted with every subset of the parts.

    Raises:
        ConfigError: a split that is none or the training split, or a bundle whose writer reads no context.
        DataError: no reported recordings in the split, or a folder without events.
    """
    check_split(split)
    if out is not None:
        check_free_file(out, force)
    data, rows, _ = open_split(studies, split)
    if data.events is None:
        raise DataError(f"{studies}: expected a prepared folder with events, got one without; join them first: regen prepare mimic-iv-ed")
    if limit is not None and limit < len(rows):
        rows = rows[np.sort(np.random.default_rng([seed, 1]).choice(len(rows), limit, replace=False)).tolist()]
    pipeline = Pipeline.from_pretrained(bundle, device)
    writer = pipeline.writer
    if not isinstance(writer, LocalWriter) or not writer.recipe.context:
        raise ConfigError(f"--bundle: expected one whose writer reads context, {bundle} reads none; train one with context_tokens")
    by_id = {study.study_id: study for study in prepared_studies(data, rows)}
    ordered = [by_id[study_id] for study_id in rows["study_id"]]
    asked = [pipeline.requests(ordered[i : i + _TOGETHER]) for i in range(0, len(ordered), _TOGETHER)]
    requests, before = [request for some, _ in asked for request in some], min(sum(spent.values()) for _, spent in asked)
    made = compare(writer, requests, References.from_rows(rows), subset_studies, seed, draws, before)
    text = to_markdown(made.rows, made.lines())
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    write_result(out, made.to_dict(), text)
    return made


def compare(
    writer: LocalWriter, requests: Sequence[Request], references: References, subset_studies: int, seed: int, draws: int, before: float = 0.0
) -> ContextTable:
    """Every condition on the same requests, whose studies have all of their context; references: in the same order; before: milliseconds that
    encoding and retrieving took a study, the same under every condition."""
    resamples = Resamples(references.subjects, np.random.default_rng([seed, 0]), draws)
    shuffled = _shuffled([r.study for r in requests], np.random.default_rng([seed, 2]))
    conditions: dict[str, list[Request]] = {
        "none": _with(requests, partial(only, parts=())),
        **{f"+ {part}": _with(requests, partial(only, parts=(part,))) for part in PARTS},
        "all": list(requests),
        "shuffled between patients": [replace(r, study=study) for r, study in zip(requests, shuffled, strict=True)],
        "times zeroed": _with(requests, _zeroed),
    }
    rows = [context_row(name, drafted(writer, conditions[name]), references, resamples) for name in bar(conditions, "conditions", len(conditions))]
    few = np.random.default_rng([seed, 3]).permutation(len(requests))[:subset_studies]
    subsets = _subsets(writer, [requests[i] for i in few], references.take(few)) if len(few) else {}
    slower = _slower(writer, conditions["none"][:_TOGETHER], conditions["all"][:_TOGETHER], before)
    return ContextTable(tuple(rows), len(requests), resamples.patients, subsets, slower, seed, draws)


def drafted(writer: LocalWriter, requests: Sequence[Request]) -> list[str]:
    """The reports of the drafts."""
    return [d.report for i in range(0, len(requests), _TOGETHER) for d in writer.write(requests[i : i + _TOGETHER])]


def _with(requests: Sequence[Request], change: Change) -> list[Request]:
    return [replace(request, study=change(request.study)) for request in requests]


def _zeroed(study: Study) -> Study:
    return replace(study, events=tuple(replace(e, hours=None if e.hours is None else 0.0) for e in study.events))


def _shuffled(studies: Sequence[Study], rng: np.random.Generator) -> list[Study]:
    """Each study with the context of another patient, where there is one."""
    order = rng.permutation(len(studies))
    out = list(studies)
    for i, j in zip(order, np.roll(order, 1), strict=True):
        other = studies[j]
        if other.subject_id is None or other.subject_id != studies[i].subject_id:
            out[i] = replace(studies[i], events=other.events, priors=other.priors)
        else:
            out[i] = only(studies[i], ())
    return out


def _subsets(writer: LocalWriter, requests: Sequence[Request], references: References) -> dict[int, tuple[float, int]]:
    """Number of parts -> mean recall over all subsets of that size, and drafts."""
    out = {}
    for size in bar(range(len(PARTS) + 1), "subsets", len(PARTS) + 1):
        values = [recall(drafted(writer, _with(requests, partial(only, parts=parts))), references) for parts in combinations(PARTS, size)]
        out[size] = (float(np.mean(values)), len(values) * len(requests))
    return out


def _slower(writer: LocalWriter, bare: Sequence[Request], full: Sequence[Request], before: float, repeats: int = 3) -> dict[str, float]:
    """Added share of the time of a draft, encoding and retrieving included, by the least of some runs side by side.

    'tokens': reading the context; 'with the bars': and how much it moved each sentence.
    """
    spent: dict[str, list[float]] = {"none": [], "all": [], "tokens": []}
    for _ in range(repeats):
        for name, requests in (("none", bare), ("all", full)):
            started = time.perf_counter()
            drafts = writer.write(requests)
            spent[name].append(time.perf_counter() - started)
            if name == "all":
                spent["tokens"].append(spent[name][-1] - len(requests) * drafts[0].timing_ms.get("told", 0.0) / 1000)
    least = {name: min(values) + len(bare) * before / 1000 for name, values in spent.items()}
    return {"tokens": least["tokens"] / least["none"] - 1, "with the bars": least["all"] / least["none"] - 1}
