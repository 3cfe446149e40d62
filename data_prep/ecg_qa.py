"""ECG-QA (Oh, Lee, Bae, Kwon and Choi, NeurIPS 2023): questions about ECGs, checked row by row, as one table.

    counts = prepare_ecg_qa("ecg-qa", "ptb-xl", "questions", force=False)
    questions = Questions.open("questions")
    questions.split("test")["question"][0]          "Is there any static noise in lead V2 according to this ECG?"

Reads the official layout (paraphrased/ or template/ with train, valid and test, beside answers_for_each_template.csv) and one JSON list
of questions (ecgqa.json). A question without a split of its own takes that of its ECGs by PTB-XL's folds, as `regen prepare ptb-xl` does.
ECG-QA's own split does not follow those folds: an encoder trained on folds 1-7 has seen ECGs of ECG-QA's test split; splits="folds"
sorts them anew. Where the two ECGs of a comparison lie in different folds the question is in no split that is trained or scored ("mixed").
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from regen.artifact import file_digest, load_manifest, new_artifact
from regen.data_prep.prepare import write_failures
from regen.data_prep.ptbxl import SPLIT_OF_FOLD
from regen.data_prep.tables import read_table
from regen.errors import ConfigError, DataError, did_you_mean

STAGE = "questions"
TYPES = (
    "single-verify", "single-choose", "single-query", "comparison_consecutive-verify", "comparison_consecutive-query",
    "comparison_irrelevant-verify", "comparison_irrelevant-query",
)  # fmt: skip
ATTRIBUTE_TYPES = ("scp_code", "noise", "stage_of_infarction", "extra_systole", "heart_axis", "numeric_feature")
MIXED = "mixed"
"""Split of a comparison whose ECGs lie in two splits: kept, but neither trained on nor scored."""
SPLITS = ("auto", "given", "folds")
VARIANTS = ("paraphrased", "template")
SCHEMA: dict[str, Any] = {
    "question_id": pl.String, "split": pl.String, "template_id": pl.Int64, "question": pl.String, "question_type": pl.String,
    "attribute_type": pl.String, "attribute": pl.List(pl.String), "ecg_ids": pl.List(pl.String), "subject_ids": pl.List(pl.String),
    "answer": pl.List(pl.String), "options": pl.List(pl.String), "asked": pl.String,
}  # fmt: skip
"""Columns of questions.parquet. ecg_ids are study ids of the prepared PTB-XL ('00046'), the earlier ECG first; subject_ids their patients,
each once. attribute: what is asked about, with the lead where the question names one. asked: the same for all ECGs and paraphrases."""
_LEAD = re.compile(r"\blead (III|II|I|aVR|aVL|aVF|V[1-6])\b")
_LAYOUT = "give the folder of ECG-QA 1.0.2 that holds answers_for_each_template.csv, as released"
_SPLIT_NAMES = {"train": "train", "valid": "val", "val": "val", "test": "test"}


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that was left out, and why."""

    where: str
    question_id: str
    reason: str


@dataclass(slots=True)
class Made:
    """What was written: questions by split, what was refused, and templates that were left out with the reason."""

    written: dict[str, int] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)
    left_out: dict[int, str] = field(default_factory=dict)


class Questions:
    """A questions folder, opened and checked. `table` has the columns of SCHEMA."""

    def __init__(self, path: Path, table: pl.DataFrame, manifest: dict[str, Any]) -> None:
        self.path, self.table, self.manifest = path, table, manifest

    @classmethod
    def open(cls, path: str | Path) -> Questions:
        """Raises ArtifactError: no folder of questions, or one with a damaged file."""
        manifest = load_manifest(path, STAGE)
        return cls(Path(path), pl.read_parquet(Path(path) / "questions.parquet"), manifest)

    @property
    def digest(self) -> str:
        """SHA-256 of questions.parquet, for the manifests of what is made from it."""
        return str(self.manifest["files"]["questions.parquet"]["sha256"])

    def split(self, name: str) -> pl.DataFrame:
        """Rows of one split, in stored order."""
        return self.table.filter(pl.col("split") == name)


@dataclass(frozen=True, slots=True)
class _Archive:
    """What a question is checked against: PTB-XL's patient and split of every ECG, and the options of every template."""

    patients: Mapping[int, str]
    splits: Mapping[int, str]
    options: Mapping[int, list[str]]


def prepare_ecg_qa(
    root: str | Path, ptbxl_root: str | Path, out: str | Path, force: bool = False, variant: str = "paraphrased", splits: str = "auto"
) -> Made:
    """Check every question and publish the folder; a bad row is listed in failed.csv and the rest goes on.

    root: ECG-QA; ptbxl_root: holds ptbxl_database.csv. variant: of the official layout, paraphrased or template wording. splits: 'given'
    by ECG-QA, by PTB-XL's 'folds', or 'auto': given by the official layout's folders or a key `split`, else folds.

    Raises:
        ConfigError: an unknown variant or kind of split.
        DataError: no ECG-QA or PTB-XL, a damaged file, or not one good question.
        ArtifactError: `out` exists and force is false.
    """
    for name, value, known in (("--variant", variant, VARIANTS), ("--splits", splits, SPLITS)):
        if value not in known:
            raise ConfigError(f"{name}: expected {' or '.join(known)}, got {value!r}{did_you_mean(value, known)}")
    home, database = _home(Path(root)), Path(ptbxl_root) / "ptbxl_database.csv"
    archive = _Archive(*read_patients(database), read_options(home))
    made, rows = Made(), []
    for where, given, row in _read(home, variant):
        try:
            rows.append(_row(row, given, splits, archive))
        except (DataError, TypeError, ValueError, KeyError) as error:
            what = str(error) if isinstance(error, DataError) else f"expected the keys of ECG-QA with their types, got {error!r}"
            named = str(row.get("sample_id", "")) if isinstance(row, dict) else ""
            made.refused.append(Refused(where, named, what))
    config = {"source": "ecg-qa", "variant": variant, "splits": splits}
    inputs = {"ptbxl_database.csv": file_digest(database), "answers_for_each_template.csv": file_digest(home / "answers_for_each_template.csv")}
    return write_questions(rows, made, out, config, inputs, force)


def write_questions(
    rows: Sequence[dict[str, Any]], made: Made, out: str | Path, config: Mapping[str, Any], inputs: Mapping[str, str], force: bool
) -> Made:
    """Publish rows of SCHEMA as a questions folder; a question_id that comes again is refused. Returns `made`, filled in.

    Raises:
        DataError: not one row.
    """
    ids: set[str] = set()
    kept = []
    for row in rows:
        if row["question_id"] in ids:
            made.refused.append(Refused(row["split"], row["question_id"], "expected every question once, this id came before"))
            continue
        ids.add(row["question_id"])
        kept.append(row)
    if not kept:
        why = f": {made.refused[0].reason}" if made.refused else ""
        raise DataError(f"{config['source']}: expected at least one good question, got none of {len(made.refused)}{why}")
    made.written = dict(sorted(Counter(row["split"] for row in kept).items()))
    with new_artifact(out, STAGE, config, inputs, force) as work:
        work.clear()
        pl.DataFrame(kept, schema=SCHEMA).write_parquet(work.path / "questions.parquet")
        write_failures(made.refused, work.path / "failed.csv")
        left_out = {str(template): reason for template, reason in made.left_out.items()}
        work.manifest |= {"questions": len(kept), "splits": made.written, "failed": len(made.refused), "left_out": left_out}
    return made


def read_patients(database: Path) -> tuple[dict[int, str], dict[int, str]]:
    """ptbxl_database.csv: patient and split by ecg_id.

    Raises:
        DataError: no such table, or ids and folds that are no numbers.
    """
    patients, splits = {}, {}
    for who, row in read_table(database, {"ecg_id", "patient_id", "strat_fold"}, "give the folder of PTB-XL 1.0.3, as released"):
        try:
            ecg = int(row["ecg_id"])
            patients[ecg], splits[ecg] = str(int(float(row["patient_id"]))), SPLIT_OF_FOLD[int(row["strat_fold"])]
        except (ValueError, KeyError, OverflowError) as error:
            raise DataError(f"{who}: expected ids and a fold from 1 to 10 as numbers, got {error}; restore the official file") from error
    return patients, splits


def read_options(home: Path) -> dict[int, list[str]]:
    """answers_for_each_template.csv: the answers that each template allows.

    Raises:
        DataError: no such table, a damaged row, or an answer that answers.csv (where it is there) does not list.
    """
    known = {row["class"] for _, row in read_table(home / "answers.csv", {"class"}, _LAYOUT)} if (home / "answers.csv").is_file() else None
    out: dict[int, list[str]] = {}
    for who, row in read_table(home / "answers_for_each_template.csv", {"template_id", "classes"}, _LAYOUT):
        try:
            classes = [str(name) for name in ast.literal_eval(row["classes"])]
            out[int(row["template_id"])] = classes
        except (ValueError, SyntaxError, TypeError) as error:
            raise DataError(f"{who}: expected a template_id and a list of answers, got {row['classes'][:40]!r}; {_LAYOUT}") from error
        strange = [name for name in classes if known is not None and name not in known]
        if strange:
            raise DataError(f"{who}: expected answers of answers.csv, got {strange[0]!r}; take both tables from one release")
    return out


def _home(root: Path) -> Path:
    for folder in (root, root / "output" / "ptbxl", root / "ecgqa" / "ptbxl", root / "ptbxl"):
        if (folder / "answers_for_each_template.csv").is_file():
            return folder
    raise DataError(f"{root}: expected answers_for_each_template.csv here or in output/ptbxl, found none; {_LAYOUT}")


def _read(home: Path, variant: str) -> Iterator[tuple[str, str | None, Any]]:
    """(where, split or None, row) of every question."""
    official = [(path, name) for name in ("train", "valid", "test") for path in sorted((home / variant / name).glob("*.json"))]
    files = [*official] if official else [(path, None) for path in sorted(home.glob("*.json"))]
    if not files:
        raise DataError(f"{home}: expected {variant}/train/*.json or one list of questions as .json, found neither; {_LAYOUT}")
    for path, split in files:
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: expected a JSON list of questions, could not read it ({error}); copy the file again") from error
        if not isinstance(rows, list):
            raise DataError(f"{path}: expected a JSON list of questions, got {type(rows).__name__}; {_LAYOUT}")
        for number, row in enumerate(rows):
            yield f"{path.relative_to(home)}, question {number}", split, row


def _row(row: Any, given: str | None, splits: str, archive: _Archive) -> dict[str, Any]:
    """One row of SCHEMA. Raises DataError where the question does not hold; TypeError, KeyError or ValueError where it is malformed."""
    template, ecgs = int(row["template_id"]), [int(ecg) for ecg in row["ecg_id"]]
    if template not in archive.options:
        raise DataError(f"expected a template of answers_for_each_template.csv, got {template}")
    kind, about = row["question_type"], row["attribute_type"]
    if kind not in TYPES or about not in ATTRIBUTE_TYPES:
        raise DataError(f"expected a question_type and an attribute_type of ECG-QA, got {kind!r} and {about!r}")
    if len(ecgs) != (2 if kind.startswith("comparison") else 1):
        raise DataError(f"expected {'two ECGs' if kind.startswith('comparison') else 'one ECG'} for {kind}, got {len(ecgs)}")
    missing = [ecg for ecg in ecgs if ecg not in archive.patients]
    if missing:
        raise DataError(f"expected ECGs of ptbxl_database.csv, it has no {missing[0]}")
    question, answer, options = str(row["question"]).strip(), list(dict.fromkeys(row["answer"])), archive.options[template]
    wrong = [name for name in answer if name not in options]
    if not question or not answer or wrong:
        raise DataError(f"expected a question with answers of template {template}, got {str(wrong or answer)[:80]} for {question[:60]!r}")
    lead = _LEAD.search(question)
    leads = [f"lead {lead[1]}"] if lead and not kind.startswith("comparison") else []
    own = given or row.get("split") or (row.get("ecgqa_split") if splits == "given" else None)
    name = given or row.get("ecgqa_split") or row.get("split")
    return {
        "question_id": f"{name}-{row['sample_id']}" if name else str(row["sample_id"]),
        "split": _split(own, ecgs, splits, archive.splits),
        "template_id": template, "question": question, "question_type": kind, "attribute_type": about,
        "attribute": [str(part) for part in row.get("attribute") or ()] + leads,
        "ecg_ids": [f"{ecg:05d}" for ecg in ecgs], "subject_ids": list(dict.fromkeys(archive.patients[ecg] for ecg in ecgs)),
        "answer": answer, "options": options, "asked": "|".join([str(template), str(row["question_id"]), *leads]),
    }  # fmt: skip


def _split(own: str | None, ecgs: Sequence[int], splits: str, folds: Mapping[int, str]) -> str:
    if splits != "folds" and own is not None:
        if own not in _SPLIT_NAMES:
            raise DataError(f"expected the split train, valid or test, got {own!r}")
        return _SPLIT_NAMES[own]
    if splits == "given":
        raise DataError("expected a split with every question, got none; use --splits folds")
    names = {folds[ecg] for ecg in ecgs}
    return names.pop() if len(names) == 1 else MIXED
