"""`regen eval llm`: a writer's language model with its LoRA and without, on summarising, coding validity and abstention.

    made = evaluate_llm(Path("data"), "starter", "test", 60, 0, 1000, Path("llm.md"), "auto", False)
    made.rows["with LoRA"]["summary_rouge_l"].interval
    made.change("refused_blanked").interval                 with minus without, on the same draws of patients

Summarising: the prompt holds the nearest reports as text and, as findings, the statements that the study's own report states; neither the
recording nor the cases come as soft tokens. The report is to be written, and nothing is guarded. Its floors copy the nearest report, and word
the same statements as the catalogue does. Coding and abstention: the way that `regen draft` goes, but always in the model's own
words (no witnesses), with both soft prompts; the soft prompts were trained together with the LoRA.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from rich.table import Table

from regen.artifact import check_free_file
from regen.batch import prepared_studies
from regen.data_prep.labeler import statements_in
from regen.data_prep.prepared import Prepared
from regen.data_prep.statements import CODES
from regen.encoders.training import pick_device
from regen.errors import ConfigError
from regen.eval.blocks import INTERVAL, plain_rows
from regen.eval.bootstrap import Resamples, Sampled
from regen.eval.llm_tasks import COLUMNS, TASK_SIZES, Answers, cells, coded, refuses, summary_cells, where
from regen.eval.predictions import References
from regen.eval.table_views import markdown_table, percent, rich_table
from regen.evaluating.ends import check_split, drawn, open_split, write_result
from regen.generators.base import Request
from regen.generators.local_writer import LocalWriter
from regen.generators.plan import Plan
from regen.generators.prompt import plan_report, plan_text, prompt_text, without_comparisons
from regen.generators.rules import unreadable
from regen.pipeline import Pipeline
from regen.progress import bar
from regen.study import Draft

WITH, WITHOUT = "with LoRA", "without LoRA"
NEAREST, CATALOGUE = "nearest report", "catalogue"
_BATCH = 150
NOTES = (
    "Percent, 95 % BCa interval over {draws} bootstrap draws of patients (seed {seed}); {reports} reports of {patients} patients, "
    "{readable} of them with a readable ECG. Refused: flagged as unreadable, or an empty report; the guards decide that by measurement, whatever the "
    "language model writes, which the rows 'language model alone' show. The statements to summarise are the report's own: their F1 says "
    "whether the model keeps to what it is told, not whether it reads the ECG."
)


@dataclass(frozen=True, slots=True, eq=False)
class LlmCard:
    """rows: system -> column of COLUMNS -> value and draws; the floors have the summarising columns only. sizes: reports, studies, readable."""

    bundle: str
    split: str
    sizes: dict[str, int]
    patients: int
    seed: int
    draws: int
    rows: dict[str, dict[str, Sampled]]

    def n(self, column: str) -> int:
        return self.sizes[TASK_SIZES[column.split("_")[0]]]

    def change(self, column: str) -> Sampled:
        """With LoRA minus without, paired."""
        return self.rows[WITH][column].minus(self.rows[WITHOUT][column])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: shares in [0, 1], null where undefined."""
        return {
            "bundle": self.bundle, "split": self.split, "patients": self.patients, "seed": self.seed, "draws": self.draws, "interval": INTERVAL,
            "columns": COLUMNS, "n": {column: self.n(column) for column in COLUMNS}, "systems": plain_rows(self.rows),
            "with_minus_without": {column: self.change(column).plain() for column in COLUMNS},
        }  # fmt: skip


@dataclass(slots=True, eq=False)
class RecordingWriter(LocalWriter):
    """A LocalWriter that keeps what its language model wrote, before the guards."""

    texts: list[str] = field(init=False, default_factory=list)

    @classmethod
    def of(cls, writer: LocalWriter) -> RecordingWriter:
        """The same model in its own words: without witnesses."""
        recipe = writer.recipe.model_copy(update={"witnesses": 0})
        return cls(writer.model, writer.tokenizer, writer.soft, writer.evidence, recipe, writer.index, writer.name)

    def decode(self, prefixes: torch.Tensor, prompts: Sequence[str], plans: Sequence[Plan]) -> list[str]:
        texts = LocalWriter.decode(self, prefixes, prompts, plans)
        self.texts += texts
        return texts


def evaluate_llm(
    studies: Path, bundle: str, split: str, limit: int | None, seed: int, draws: int, out: Path | None, device: str, force: bool
) -> LlmCard:
    """Print the card; with `out`, also write it: Markdown where the name ends in .md, else JSON. limit: studies drawn from the split.

    Raises:
        ConfigError: a split that is none, or the training split; a limit below 1; a device that is not there.
        ArtifactError: `out` exists without force, or a bundle or the prepared folder is damaged.
        DataError: no reported recordings in the split.
    """
    check_split(split)
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit: expected at least 1 study, got {limit}; leave it out for the whole split")
    if out is not None:
        check_free_file(out, force)
    data, rows, _ = open_split(studies, split)
    rng = np.random.default_rng(seed)
    pipeline = Pipeline.from_pretrained(bundle, device)
    made = _card(pipeline, data, drawn(rows, limit, rng), bundle, split, rng, seed, draws, device)
    _print(made)
    write_result(out, made.to_dict(), to_markdown(made))
    return made


def _card(
    pipeline: Pipeline, data: Prepared, rows: pl.DataFrame, bundle: str, split: str, rng: np.random.Generator, seed: int, draws: int, device: str
) -> LlmCard:
    references = References.from_rows(rows)
    resamples = Resamples(references.subjects, rng, draws)
    writer = pipeline.writer
    if not isinstance(writer, LocalWriter):
        raise ConfigError(f"{bundle}: expected a bundle with a local writer, got {type(writer).__name__}; only its language model can be judged")
    requests, blanked = (_requests(pipeline, data, rows, blank) for blank in (False, True))
    after = _answers(RecordingWriter.of(writer), requests, blanked, references.reports, WITH)
    base = LocalWriter.open(pipeline.folder / "generator", pipeline.index, pick_device(device), adapter=False)
    before = _answers(RecordingWriter.of(base), requests, blanked, references.reports, WITHOUT)
    systems = {name: cells(answers, references, resamples) for name, answers in ((WITH, after), (WITHOUT, before))}
    nearest = [next(iter(_nearest(writer, request, 1)), "") for request in requests]
    catalogue = [plan_report(_ordered(report)) for report in references.reports]
    systems |= {name: summary_cells(texts, references, resamples) for name, texts in ((NEAREST, nearest), (CATALOGUE, catalogue))}
    readable = int((~np.isnan(after.refused)).sum())
    sizes = {"reports": len(references), "studies": len(references), "readable": readable}
    return LlmCard(bundle, split, sizes, resamples.patients, seed, draws, systems)


def _requests(pipeline: Pipeline, data: Prepared, rows: pl.DataFrame, blank: bool) -> list[Request]:
    """What the writer would be asked about every study, in order."""
    studies = iter(bar(prepared_studies(data, rows), "encoding, blanked" if blank else "encoding", len(rows)))
    made: list[Request] = []
    while batch := list(islice(studies, _BATCH)):
        made += pipeline.requests(batch, blank_ecg=blank)[0]
    return made


def _answers(writer: RecordingWriter, requests: list[Request], blanked: list[Request], reports: list[str], title: str) -> Answers:
    summaries = [text for part in _parts(len(requests), f"{title}: summarising") for text in summarise(writer, requests[part], reports[part])]
    drafts, texts = _write(writer, requests, f"{title}: drafting")
    blank_drafts, blank_texts = _write(writer, blanked, f"{title}: ECG blanked")
    readable = np.array([unreadable(request.measured) is None for request in requests], np.bool_)
    asked = zip(texts, drafts, requests, strict=True)
    return Answers(
        summaries,
        [coded(text, draft, request.language or writer.index.language) for text, draft, request in asked],
        *(where(readable, [refuses(draft) for draft in each]) for each in (drafts, blank_drafts)),
        *(where(readable, [not text for text in each]) for each in (texts, blank_texts)),
    )


def _write(writer: RecordingWriter, requests: list[Request], title: str) -> tuple[list[Draft], list[str]]:
    """Drafts, and the texts that they were made from."""
    writer.texts.clear()
    drafts = [draft for part in _parts(len(requests), title) for draft in writer.write(requests[part])]
    return drafts, list(writer.texts)


def _parts(n: int, title: str) -> Iterator[slice]:
    return bar([slice(start, start + _BATCH) for start in range(0, n, _BATCH)], title)


def summarise(writer: LocalWriter, requests: Sequence[Request], reports: Sequence[str]) -> list[str]:
    """The language model's text for what each report states, from the nearest reports as text alone; see the module."""
    told = [_nearest(writer, request, writer.recipe.retrieved_texts) for request in requests]
    plans = [_plan(writer, report) for report in reports]
    deaf = [replace(request, tokens=torch.zeros_like(request.tokens)) for request in requests]
    with torch.no_grad():
        prefixes = writer.prefixes(deaf, plans)
    prompts = [
        prompt_text(near, "", plan_text(_ordered(report)), request.language or writer.index.language)
        for near, report, request in zip(told, reports, requests, strict=True)
    ]
    return LocalWriter.decode(writer, prefixes, prompts, plans)


def _plan(writer: LocalWriter, report: str) -> Plan:
    """The report's own statements as findings, and no case."""
    none = np.full(writer.recipe.neighbours, -1, np.int64), np.full(writer.recipe.neighbours, np.nan, np.float32)
    positive = frozenset(_ordered(report))
    return Plan(np.isin(CODES, list(positive)).astype(np.float32), positive, False, *none)


def _ordered(report: str) -> list[str]:
    """Codes of what a report states, in the catalogue's order."""
    stated = statements_in(report)
    return [code for code in CODES if code in stated]


def _nearest(writer: LocalWriter, request: Request, k: int) -> list[str]:
    """Reports of the k nearest cases by cosine, each wording once, without their comparisons."""
    rows = request.ids[request.ids >= 0][:k].tolist()
    return list(dict.fromkeys(without_comparisons(text) for text in writer.index.cases["report"][rows].to_list())) if rows else []


def to_rich(made: LlmCard) -> Table:
    """For a terminal."""
    return rich_table(f"language model of {made.bundle} on {made.split}", _heads(made), _lines(made), gap=2, wrap=False)


def to_markdown(made: LlmCard) -> str:
    """One row a column of the card, systems across, then how to read it."""
    title = f"## Language model of {made.bundle} on {made.split}"
    return "\n\n".join([title, markdown_table(_heads(made), _lines(made)), _notes(made)]) + "\n"


def _heads(made: LlmCard) -> list[str]:
    return ["task", "n", *made.rows, f"{WITH} minus {WITHOUT.split()[0]}"]


def _lines(made: LlmCard) -> Iterator[list[str]]:
    for column, title in COLUMNS.items():
        yield [title, str(made.n(column)), *(percent(row.get(column)) for row in made.rows.values()), percent(made.change(column), sign=True)]


def _notes(made: LlmCard) -> str:
    return NOTES.format(draws=made.draws, seed=made.seed, patients=made.patients, **{k: made.sizes[k] for k in ("reports", "readable")})


def _print(made: LlmCard) -> None:
    from rich.console import Console

    wide = Console(width=200)
    wide.print(to_rich(made))
    wide.print(_notes(made), highlight=False, markup=False)
