"""`regen eval report` for chest X-rays: drafts beside copies and floors, scored by what a rule labeler reads in them.

    made = evaluate_chest(Path("data"), "test", [], "bundle", None, "cpu", 0, False)
    made.blocks["all"].rows["system"]["micro_f1"].value, .interval

Observations are read in draft and reference by one labeler (regen.data_prep.chest_labeler): present, or uncertain, counts as stated. Floors copy
a training report: at random, the most frequent, of the image nearest by raw pixels, of that nearest in the encoder; the oracle copies the report
whose observations agree best with the truth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import rich.table

from regen.artifact import check_free_file
from regen.batch import prepared_studies
from regen.data_prep.chest_labeler import label_report
from regen.data_prep.chexpert import NO_FINDING, OBSERVATIONS
from regen.data_prep.prepared import Prepared
from regen.data_prep.statements import CODES
from regen.errors import ConfigError, DataError
from regen.eval.blocks import INTERVAL, plain_differences, plain_rows
from regen.eval.bootstrap import DRAWS, Resamples, Sampled, Values, bootstrap
from regen.eval.imported import read_predictions
from regen.eval.nearest import Score, by_cosine, same_owner
from regen.eval.predictions import References, supported
from regen.eval.report_table import Texts, text_cells
from regen.eval.set_metrics import Sets, macro_f1, micro_f1, study_f1
from regen.eval.strata import by_person_or_place, strata
from regen.eval.table_views import percent
from regen.evaluating.ends import check_split, write_result
from regen.evaluating.space import raw_pixels
from regen.index.build import encode_views
from regen.pipeline import Pipeline
from regen.progress import bar, console

COLUMNS = {
    "micro_f1": "CheXpert-14 micro-F1", "macro_f1": "CheXpert-14 macro-F1", "rouge_l": "ROUGE-L", "bleu_4": "BLEU-4", "meteor": "METEOR",
    "cider": "CIDEr-D / 10", "side_errors": "wrong side", "grade_errors": "wrong grade", "comparison_errors": "comparison without a prior",
    "number_errors": "wrong number", "supported": "supported sentences", "copies": "exact copies", "constant": "most common draft",
}  # fmt: skip
"""What is printed; BLEU-1..3, ROUGE-1 and -2 are in the JSON too."""


@dataclass(frozen=True, slots=True, eq=False)
class Drafted:
    """One system's texts, n in the order of the references; sentences: (n, 2) supported and all, None where they do not say."""

    name: str
    reports: list[str]
    sentences: Values | None = None
    missing: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class ChestBlock:
    """One group of studies: n of so many patients; system -> column -> value and draws."""

    n: int
    patients: int
    rows: dict[str, dict[str, Sampled]]


@dataclass(frozen=True, slots=True, eq=False)
class ChestTable:
    blocks: dict[str, ChestBlock]
    missing: dict[str, int]
    seed: int
    draws: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: shares in [0, 1], null where undefined; `differences` are the first system minus each other one."""
        blocks = [
            {"name": name, "n": b.n, "patients": b.patients, "systems": plain_rows(b.rows), "differences": plain_differences(b.rows)}
            for name, b in self.blocks.items()
        ]
        return {"seed": self.seed, "draws": self.draws, "interval": INTERVAL, "columns": COLUMNS, "missing_drafts": self.missing, "blocks": blocks}


def evaluate_chest(
    studies: Path, split: str, predictions: Sequence[Path], bundle: str, out: Path | None, device: str, seed: int, force: bool,
    columns: Mapping[str, str] | None = None, draws: int = DRAWS,
) -> ChestTable:  # fmt: skip
    """Print the table; with `out`, also write it as JSON, or as Markdown where the name ends in .md.

    predictions: files of drafts; without any the bundle drafts the split. The bundle's encoder makes the nearest-copy floor either way.

    Raises:
        ConfigError: a split that is none, or the training split, or a bundle that reads no X-rays.
        DataError: no reported X-rays in train or in the split, or drafts of other studies.
    """
    check_split(split)
    if out is not None:
        check_free_file(out, force)
    data = Prepared.open(studies)
    rows, train = (data.split_cxr(name).filter(pl.col("report").fill_null("") != "") for name in (split, "train"))
    if not len(rows) or not len(train):
        raise DataError(f"{studies}: expected reported chest X-rays in train and {split}, got {len(train)} and {len(rows)}; prepare with reports")
    pipeline = Pipeline.from_pretrained(bundle, device)
    references = _references(rows)
    systems = [_read(path, columns, references) for path in predictions] or [
        _run(pipeline, data, rows, "system"), _run(pipeline, data, rows, "system, retrieval blanked", blank_retrieval=True)
    ]  # fmt: skip
    systems += _floors(pipeline, data, rows, train, seed)
    twice = [name for name, count in Counter(system.name for system in systems).items() if count > 1]
    if twice:
        raise ConfigError(f"predictions: expected files of different names, none called as a floor, got {twice[0]} twice; rename it")
    known = set(data.split("train", with_ecg=False)["report"].drop_nulls().to_list())
    made = chest_table(rows, references, systems, known, seed, draws)
    _print(made)
    write_result(out, {"split": split} | made.to_dict(), to_markdown(made))
    return made


def observations_in(reports: Sequence[str]) -> Sets:
    """(n, 14) bool: present or uncertain in the text."""
    read = cache(label_report)
    return np.array([[read(text).get(name, 0.0) > 0 for name in OBSERVATIONS] for text in reports], np.bool_).reshape(-1, len(OBSERVATIONS))


def chest_table(
    rows: pl.DataFrame, references: References, systems: Sequence[Drafted], known: set[str], seed: int = 0, draws: int = DRAWS
) -> ChestTable:
    """rows: of the prepared folder, in the order of the references; known: the reports of training."""
    truth = observations_in(references.reports)
    normal = truth[:, OBSERVATIONS.index(NO_FINDING)]
    read = {s.name: (observations_in(s.reports), Texts.of(s.reports, references.reports, known)) for s in systems}
    blocks = {}
    for number, (name, chosen) in enumerate(strata(rows, references, known, normal, "No Finding")):
        resamples = Resamples([references.subjects[i] for i in chosen], np.random.default_rng([seed, number]), draws)
        made = {}
        for system in systems:
            said, texts = read[system.name]
            cells = {"micro_f1": partial(micro_f1, said[chosen], truth[chosen]), "macro_f1": partial(macro_f1, said[chosen], truth[chosen])}
            sentences = None if system.sentences is None else system.sentences[chosen]
            cells |= text_cells([system.reports[i] for i in chosen], texts.take(chosen), sentences)  # type: ignore[arg-type]
            made[system.name] = {column: bootstrap(statistic, resamples) for column, statistic in cells.items()}
        blocks[name] = ChestBlock(len(chosen), resamples.patients, made)
    return ChestTable(blocks, {s.name: s.missing for s in systems}, seed, draws)


def _references(rows: pl.DataFrame) -> References:
    """As strata and readers of drafts need them; ECG statements have no part in it."""
    none = np.zeros((len(rows), len(CODES)), np.bool_)
    ids, subjects, reports, languages = (rows[name].to_list() for name in ("study_id", "subject_id", "report", "language"))
    return References(ids, subjects, reports, languages, none, np.zeros(len(rows), np.bool_))


def _run(pipeline: Pipeline, data: Prepared, rows: pl.DataFrame, name: str, blank_retrieval: bool = False) -> Drafted:
    made = {draft.study_id: draft for draft in bar(pipeline.drafts(prepared_studies(data, rows), blank_retrieval=blank_retrieval), name, len(rows))}
    drafts = [made[study] for study in rows["study_id"]]
    sentences = np.array([supported([{"status": s.status} for s in draft.sentences]) for draft in drafts])
    return Drafted(name, [draft.report for draft in drafts], sentences)


def _read(path: Path, columns: Mapping[str, str] | None, references: References) -> Drafted:
    drafts_given = read_predictions(path, columns)
    found = {str(draft["study_id"]): draft for draft in drafts_given}
    if len(found) < len(drafts_given):
        raise DataError(f"{path}: expected one draft a study, got several of one; remove all but one")
    if not found.keys() & set(references.study_ids):
        raise DataError(
            f"{path}: expected drafts of the studies to score, got none of them (for instance {next(iter(found), 'none')}); check the split"
        )
    drafts = [found.get(study, {}) for study in references.study_ids]
    told = any(draft.get("sentences") for draft in drafts)
    sentences = np.array([supported(draft.get("sentences")) for draft in drafts]) if told else None
    return Drafted(path.stem, [str(draft.get("report") or "") for draft in drafts], sentences, sum(not draft for draft in drafts))


def _floors(pipeline: Pipeline, data: Prepared, rows: pl.DataFrame, train: pl.DataFrame, seed: int) -> list[Drafted]:
    texts = train["report"].to_list()
    barred = same_owner(rows["study_id"].to_list(), rows["subject_id"].to_list(), train["study_id"].to_list(), train["subject_id"].to_list())
    rng = np.random.default_rng([seed, 4])
    truth, archive = observations_in(rows["report"].to_list()), observations_in(texts)
    agreement: Score = lambda part: np.stack([study_f1(archive, np.broadcast_to(row, archive.shape)) for row in truth[part]]).astype(np.float32)  # noqa: E731
    scores: dict[str, Score] = {
        "random report": lambda part: rng.random((part.stop - part.start, len(train))).astype(np.float32),
        "nearest raw pixels": by_cosine(raw_pixels(data, rows), raw_pixels(data, train)),
        "nearest in the encoder": by_cosine(encode_views(data, rows, pipeline.space), encode_views(data, train, pipeline.space)),
        "oracle: nearest observations": agreement,
    }
    made = [Drafted(name, _copied(score, barred, len(rows), texts)) for name, score in scores.items()]
    common = Counter(texts).most_common(1)[0][0]
    return [made[0], Drafted("most frequent report", [common] * len(rows)), *made[1:]]


def _copied(score: Score, barred: Callable[[slice], Sets], n: int, texts: Sequence[str]) -> list[str]:
    out: list[str] = []
    for start in range(0, n, 256):
        part = slice(start, min(start + 256, n))
        forbidden = barred(part)
        best = np.where(forbidden, -np.inf, score(part)).argmax(axis=1)
        out += ["" if forbidden[i].all() else texts[row] for i, row in enumerate(best)]
    return out


def to_markdown(made: ChestTable) -> str:
    """Every group as a table, then how to read them."""
    parts = []
    for name, block in made.blocks.items():
        lines = [["system", *COLUMNS.values()], ["---"] * (len(COLUMNS) + 1)]
        lines += [[system, *(percent(row.get(column)) for column in COLUMNS)] for system, row in block.rows.items()]
        body = ["| " + " | ".join(cells) + " |" for cells in lines]
        parts.append("\n".join([f"### {name}: n = {block.n}, {block.patients} patients", "", *body]))
    notes = (
        f"Percent with 95 % BCa intervals over {made.draws} bootstrap draws of patients (seed {made.seed}). Observations are read in "
        "draft and reference by one rule labeler; uncertain counts as stated; macro averages cover what has at least 5 positives in the group."
    )
    missing = [f"{name}: {count} studies without a draft, scored as empty ones." for name, count in made.missing.items() if count]
    return "\n\n".join([*parts, notes, *missing]) + "\n"


def _print(made: ChestTable) -> None:
    for name, block in made.blocks.items():
        if by_person_or_place(name):
            continue
        table = rich.table.Table(title=f"{name}: n = {block.n}, {block.patients} patients", box=None, header_style="bold underline")
        for head in ("system", *COLUMNS.values()):
            table.add_column(head, overflow="fold")
        for system, row in block.rows.items():
            table.add_row(system, *(percent(row.get(column), between="\n") for column in COLUMNS))
        console.print(table)
    console.print("further groups (sex, age, site, device) are in the files: --out FILE")
