"""Questions of all of ECG-QA's types, made from PTB-XL's own annotations by the templates of Oh et al. (2023).

    build_ecg_qa("ptb-xl", "questions", seed=0)                          without numeric features
    build_ecg_qa("ptb-xl", "questions", seed=0, measured=measured_with_ruler)     with them

ECG-QA's: the 70 templates with their types and answers, sets of answers, certain and uncertain statements, consecutive comparisons (two ECGs of
one patient, next to each other in time) and irrelevant ones (of two patients). Ours: the wording, the rules of regen.data_prep.ecg_qa_attributes,
and the balance: for each thing asked, in each split, no answer is drawn more often than the second most frequent one, nor more than `most` times;
where all ECGs give one answer nothing is asked. Splits are PTB-XL's folds, and both ECGs of a comparison lie in one split.

The annotations are the truth of a question and must not be read to answer it. Numeric truths come from a measurement function: with ReGen's own
ruler they test whether a system repeats the ruler, not whether it is right about the heart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from regen.artifact import file_digest
from regen.data_prep.clean import remove_baseline, standard
from regen.data_prep.ecg_qa import Made, Refused, read_patients, write_questions
from regen.data_prep.ecg_qa_attributes import FACETS, Annotated, Names, annotated
from regen.data_prep.ecg_qa_templates import BY_ID, LEFT_OUT, Ask, Template
from regen.data_prep.measure import measure
from regen.data_prep.readers import read_study
from regen.data_prep.tables import read_table, time_of
from regen.errors import ConfigError, DataError

Measured = Callable[[Path], Mapping[str, float]]
"""Header of a recording -> milliseconds by name of NORMAL_RANGES; NaN where unmeasurable."""
Found = list[Names | None]
MOST, ASKS, PAIRS = 10, 60, 4
"""Questions an answer, of one thing asked in one split; things asked a template; irrelevant pairs an ECG."""
_RULER = {"p duration": "p_duration", "pr interval": "pr", "qrs duration": "qrs", "qt corrected": "qtc", "qt interval": "qt"}
_NEEDED = {
    "ecg_id", "patient_id", "strat_fold", "scp_codes", "recording_date", "heart_axis", "infarction_stadium1", "extra_beats", "baseline_drift",
    "static_noise", "burst_noise", "electrodes_problems",
}  # fmt: skip


def build_ecg_qa(
    ptbxl_root: str | Path, out: str | Path, seed: int = 0, force: bool = False, most: int = MOST, measured: Measured | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Made:  # fmt: skip
    """Write a questions folder. ptbxl_root: official layout; recordings are read only where `measured` is given.

    Raises:
        ConfigError: most below 1.
        DataError: no PTB-XL, a damaged table, or nothing to ask.
        ArtifactError: `out` exists and force is false.
    """
    if most < 1:
        raise ConfigError(f"--most: expected at least 1, got {most}")
    root, made = Path(ptbxl_root), Made()
    ecgs = list(read_annotations(root, made, measured, progress))
    rows = [row | {"question_id": f"built{seed}-{row['question_id']}"} for row in build(ecgs, np.random.default_rng(seed), most, made)]
    config = {"source": "ecg-qa-build", "seed": seed, "most": most, "measured": getattr(measured, "__name__", None)}
    return write_questions(rows, made, out, config, {"ptbxl_database.csv": file_digest(root / "ptbxl_database.csv")}, force)


def read_annotations(
    root: Path, made: Made, measured: Measured | None = None, progress: Callable[[Iterable[Any]], Iterable[Any]] = iter
) -> Iterator[Annotated]:
    """Every ECG of ptbxl_database.csv whose row can be read; the others go to `made.refused`. A recording that cannot be read has no ranges."""
    database = root / "ptbxl_database.csv"
    splits = read_patients(database)[1]
    table = read_table(database, _NEEDED | ({"filename_hr"} if measured else set()), "give the folder of PTB-XL 1.0.3, as released")
    for who, row in progress(table):
        try:
            values = measured(root / f"{row['filename_hr']}.hea") if measured else None
        except DataError as error:
            made.refused.append(Refused(who, row["ecg_id"], str(error)))
            values = None
        try:
            yield annotated(row, splits[int(row["ecg_id"])], time_of(row["recording_date"], who), values)
        except DataError as error:
            made.refused.append(Refused(who, row["ecg_id"], str(error)))


def measured_with_ruler(path: Path) -> dict[str, float]:
    """What regen.data_prep.measure reads off a recording, in milliseconds by name of NORMAL_RANGES.

    Raises:
        DataError: a recording that cannot be read.
    """
    study = read_study(path)
    if study.ecg is None:
        raise DataError(f"{path}: expected an ECG, got none; restore the official file")
    raw = standard(study.ecg)[0]
    found = measure(remove_baseline(raw, 100.0))[0]
    return {name: found[key] for name, key in _RULER.items()} | {"rr interval": 60000.0 / found["heart_rate"]}


def build(ecgs: Sequence[Annotated], rng: np.random.Generator, most: int, made: Made) -> Iterator[dict[str, Any]]:
    """Rows of regen.data_prep.ecg_qa.SCHEMA, template by template; templates without a question go to `made.left_out`."""
    made.left_out |= LEFT_OUT
    groups = _groups(ecgs, rng)
    cache: dict[tuple[str, str], Found] = {}
    for number, template in BY_ID.items():
        asks = template.asks
        if len(asks) > ASKS and template.form == "choose":
            asks = tuple(asks[i] for i in np.sort(rng.permutation(len(asks))[:ASKS]))
        count = 0
        for ask in asks:
            where = ask.names[0] if template.form == "value" else ask.where
            if (template.facet, where) not in cache:
                cache[template.facet, where] = [FACETS[template.facet](ecg, where) for ecg in ecgs]
            found = cache[template.facet, where]
            for split, members in groups[_kind(template)].items():
                for members_of, answer in _balanced(template, ask, found, members, rng, most):
                    count += 1
                    yield _row(f"{number:02d}-{count:06d}", split, template, ask, [ecgs[i] for i in members_of], answer)
        if not count:
            why = "no measurement function was given" if template.attribute_type == "numeric_feature" else "no two ECGs give different answers"
            made.left_out[number] = why


def _kind(template: Template) -> str:
    return template.question_type.split("-")[0]


def _groups(ecgs: Sequence[Annotated], rng: np.random.Generator) -> dict[str, dict[str, list[tuple[int, ...]]]]:
    """Kind of question -> split -> what can be asked about: ECGs, or pairs of them."""
    singles: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    of_patient: dict[str, list[int]] = defaultdict(list)
    for i, ecg in enumerate(ecgs):
        singles[ecg.split].append((i,))
        of_patient[ecg.subject_id].append(i)
    consecutive: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    for members in of_patient.values():
        dated = sorted((time, i) for i in members if (time := ecgs[i].time) is not None)
        for (before, i), (after, j) in pairwise(dated):
            if before < after and ecgs[i].split == ecgs[j].split:
                consecutive[ecgs[i].split].append((i, j))
    irrelevant: dict[str, list[tuple[int, ...]]] = {}
    for split in sorted(singles):
        ids = np.array([i for (i,) in singles[split]])
        drawn = rng.choice(ids, (PAIRS * len(ids), 2))
        pairs = dict.fromkeys((int(i), int(j)) for i, j in drawn if ecgs[i].subject_id != ecgs[j].subject_id)
        irrelevant[split] = list(pairs)
    kinds = {"single": singles, "comparison_consecutive": consecutive, "comparison_irrelevant": irrelevant}
    return {kind: {split: group[split] for split in sorted(group)} for kind, group in kinds.items()}


def _balanced(
    template: Template, ask: Ask, found: Found, groups: Sequence[tuple[int, ...]], rng: np.random.Generator, most: int
) -> Iterator[tuple[tuple[int, ...], Names]]:
    """ECGs with their answer, in an order drawn; no answer more often than the second most frequent one, nor more than `most` times."""
    by_answer: dict[tuple[str, ...], list[tuple[int, ...]]] = defaultdict(list)
    for group in groups:
        answer = template.answer([found[i] for i in group], ask)
        if answer is not None:
            by_answer[tuple(sorted(answer))].append(group)
    if len(by_answer) < 2:
        return
    level = min(most, sorted(map(len, by_answer.values()))[-2])
    for answers in sorted(by_answer):
        groups_of = by_answer[answers]
        for i in rng.permutation(len(groups_of))[:level]:
            yield groups_of[i], frozenset(answers)


def _row(number: str, split: str, template: Template, ask: Ask, ecgs: Sequence[Annotated], answer: Names) -> dict[str, Any]:
    attribute = [*ask.names, *([ask.where] if ask.where else [])]
    return {
        "question_id": number, "split": split, "template_id": template.template_id, "question": template.question(ask),
        "question_type": template.question_type, "attribute_type": template.attribute_type, "attribute": attribute,
        "ecg_ids": [ecg.ecg_id for ecg in ecgs], "subject_ids": list(dict.fromkeys(ecg.subject_id for ecg in ecgs)),
        "answer": sorted(answer), "options": list(template.options), "asked": "|".join([str(template.template_id), *attribute]),
    }  # fmt: skip
