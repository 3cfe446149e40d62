"""`regen eval qa`: anyone's answers to the questions of a questions folder, beside what needs no system.

    regen eval qa answers.jsonl --questions questions --out qa.md
    regen eval qa --questions questions --bundle bundle --studies data          baselines and the nearest case alone

Beside the system: the template's majority answer in training, a random option, and, with a bundle and a prepared folder, the annotated answer of
the nearest training ECG about which the same was asked. Published figures are ECG-QA's, from all of PTB-XL: another data size.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from regen.artifact import check_free_file
from regen.data_prep.ecg_qa import TYPES, Questions
from regen.data_prep.prepared import Prepared
from regen.errors import ConfigError, DataError, did_you_mean
from regen.eval.baselines import look
from regen.eval.bootstrap import DRAWS
from regen.eval.nearest import by_cosine, same_owner
from regen.eval.qa_answers import read_answers
from regen.eval.qa_metrics import TITLES, Answered, Asked, Nearest, QaBlock, QaTable, majority, nearest_answer, qa_table, random_option
from regen.eval.table_views import markdown_table, percent, rich_table
from regen.evaluating.ends import check_split, open_towers, write_result
from regen.progress import bar

PROTOCOLS = {
    "supervised": "supervised: a set of answers from the answer classes, exact match of the set",
    "llm": "LLM: question and the options valid for its template in the prompt, temperature 0, exact match of the set of options",
}
"""How answers were made. The score is the same, exact match of the set; what the system was shown is not."""
PUBLISHED = dict(zip(TYPES, (74.6, 57.1, 41.0, 75.5, 20.1, 75.3, 4.2), strict=True))
"""M3AE, supervised, exact match in percent by question type (Oh et al. 2023), noted from memory: look them up before quoting."""
BUILT = "; the questions are built from PTB-XL's annotations, so that published figures are also of other questions"
OTHER = "M3AE, supervised, published (other data size)"
NOTES = (
    "Values in percent with their 95 % BCa interval over {draws} bootstrap draws of patients (seed {seed}). Exact match: the set of answers "
    "is the annotated one. Set F1: 2 shared / (answered + true). Protocol: {protocol}. Published figures are ECG-QA's on all of PTB-XL and its own "
    "split, noted from memory: another data size, to be looked up before they are quoted."
)


def evaluate_qa(
    predictions: Path | None, questions: Path, split: str = "test", out: Path | None = None, bundle: str | None = None, studies: Path | None = None,
    columns: Mapping[str, str] | None = None, protocol: str = "supervised", device: str = "cpu", seed: int = 0, draws: int = DRAWS,
    force: bool = False,
) -> QaTable:  # fmt: skip
    """Print the table; with `out`, also write it as JSON, or as Markdown where the name ends in .md.

    predictions: JSON lines or CSV with question_id and answers, None for the baselines alone. A question without an answer is wrong. bundle and
    studies: given together, they add the row 'nearest'.

    Raises:
        ConfigError: a split that is none, or train; an unknown protocol; a bundle without studies or the other way round.
        ArtifactError: `out` exists without force, or a folder is damaged.
        DataError: no question in the split, answers to questions that the folder does not hold, or none of the ECGs in `studies`.
    """
    check_split(split)
    if protocol not in PROTOCOLS:
        raise ConfigError(f"--protocol: expected {' or '.join(PROTOCOLS)}, got {protocol!r}{did_you_mean(protocol, PROTOCOLS)}")
    if (bundle is None) != (studies is None):
        raise ConfigError("--bundle and --studies: expected both or neither, got one; the nearest case needs an encoder and the recordings")
    if out is not None:
        check_free_file(out, force)
    opened = Questions.open(questions)
    asked, train = (Asked.from_table(opened.split(name)) for name in (split, "train"))
    if not len(asked):
        raise DataError(f"{questions}: expected questions in {split}, got none; prepare the folder with that split")
    systems = [] if predictions is None else [_system(predictions, columns, opened, asked)]
    if bundle is not None and studies is not None:
        systems.append(nearest_answer(asked, train, nearest_in(Prepared.open(studies), bundle, device, asked, train)))
    systems += [majority(asked, train), random_option(asked, np.random.default_rng(seed))]
    made = qa_table(asked, systems, seed, draws)
    how = PROTOCOLS[protocol] + (BUILT if opened.manifest["config"]["source"] == "ecg-qa-build" else "")
    _print(made, how)
    told = {"split": split, "protocol": how, "source": opened.manifest["config"], "published": {"name": OTHER, "exact": PUBLISHED}}
    write_result(out, told | made.to_dict(), to_markdown(made, how))
    return made


def _system(path: Path, columns: Mapping[str, str] | None, opened: Questions, asked: Asked) -> Answered:
    given = read_answers(path, columns)
    known = set(opened.table["question_id"].to_list())
    unknown = [question for question in given if question not in known]
    if unknown:
        raise DataError(
            f"{path}: expected question ids of {opened.path}, got {len(unknown)} others ({unknown[0]!r}); answer the questions of that folder"
        )
    return Answered.aligned(path.stem, given, asked)


def nearest_in(data: Prepared, bundle: str, device: str, asked: Asked, train: Asked) -> Nearest:
    """Ranks the training ECGs that questions are about, by cosine in a bundle's ECG space, without the query's own study and patient.

    An ECG without a recording in `data` is near to none.

    Raises:
        DataError: a prepared folder without one recording of the questions, or of those of training.
    """
    towers = open_towers(bundle, device)
    wanted = [sorted({ecgs[-1] for ecgs in part.ecgs}) for part in (asked, train)]
    rows = [data.studies.filter(data.studies["study_id"].is_in(ids) & data.studies["ecg_row"].is_not_null()) for ids in wanted]
    if not len(rows[0]) or not len(rows[1]):
        held = f"{len(rows[0])} of {len(wanted[0])} ECGs asked about and {len(rows[1])} of {len(wanted[1])} of training questions"
        raise DataError(f"{data.path}: expected the recordings of the questions, got those of {held}; prepare the same PTB-XL")
    embeddings = []
    for part, title in zip(rows, ("questions", "train"), strict=True):
        views = look(data, part, towers, partial(bar, title=title))
        embeddings.append(np.zeros((0, 0), np.float32) if views.embedding is None else views.embedding)
    (query, case), (theirs, ours) = ([part["study_id"].to_list() for part in rows], [part["subject_id"].to_list() for part in rows])
    score, barred = by_cosine(embeddings[0], embeddings[1]), same_owner(query, theirs, case, ours)
    place = {study: i for i, study in enumerate(query)}

    def nearest(ecg: str) -> list[str]:
        if ecg not in place:
            return []
        row = slice(place[ecg], place[ecg] + 1)
        order = np.argsort(-score(row)[0], kind="stable")
        hidden = barred(row)[0]
        return [case[i] for i in order if not hidden[i]]

    return nearest


def to_markdown(made: QaTable, protocol: str) -> str:
    """protocol: how answers were made. All questions and every type beside the published figures, then attribute types, then how to read them."""
    names = [system.name for system in made.systems]
    parts = []
    for column, title in TITLES.items():
        published = [OTHER] if column == "exact" else []
        lines: list[list[object]] = []
        for block in made.blocks:
            cells = [percent(block.rows[name][column]) for name in names]
            lines.append([block.name, block.n, block.patients, *cells, *([_published(block)] if published else [])])
        parts.append(markdown_table(["questions", "n", "patients", *names, *published], lines, title))
    return "\n\n".join([*parts, *_remarks(made, protocol)]) + "\n"


def _published(block: QaBlock) -> str:
    return f"{PUBLISHED[block.name]:.1f}" if block.name in PUBLISHED else "-"


def _remarks(made: QaTable, protocol: str) -> list[str]:
    out = [NOTES.format(draws=made.draws, seed=made.seed, protocol=protocol)]
    for system in made.systems:
        if system.missing:
            out.append(f"{system.name}: {system.missing} questions without an answer, counted as wrong.")
        if system.invalid:
            out.append(f"{system.name}: {system.invalid} answers hold something that is not among the template's options.")
        if system.fallback:
            out.append(f"{system.name}: {system.fallback} questions without a like in training or a recording, answered by the template's majority.")
    return out


def _print(made: QaTable, protocol: str) -> None:
    """Exact match of all questions, by type and by attribute type; the files hold the others as well."""
    from rich.console import Console

    rows = (
        [block.name, block.n, *(percent(block.rows[system.name]["exact"]) for system in made.systems), _published(block)]
        for block in made.blocks if " " not in block.name
    )  # fmt: skip
    table = rich_table("exact match", ["questions", "n", *(system.name for system in made.systems), "published*"], rows)
    wide = Console(width=190)
    wide.print(table)
    for remark in (f"* {OTHER}", *_remarks(made, protocol)):
        wide.print(remark, highlight=False, markup=False)
