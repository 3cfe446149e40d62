"""Answers to questions, scored: exact match of the answer set (ECG-QA's score, Oh et al. 2023) and F1 of the set, with intervals by patient.

    asked, train = Asked.from_table(questions.split("test")), Asked.from_table(questions.split("train"))
    systems = [Answered.aligned("mine", answers, asked), majority(asked, train), random_option(asked, rng)]
    made = qa_table(asked, systems, seed=0)
    named(made.blocks, "all", "block: unknown").rows["mine"]["exact"].value

A question without an answer is wrong: it counts 0 in both. A draw of the bootstrap takes patients; a comparison of two patients counts as often
as both are drawn together (the product of their counts; Owen, Annals of Applied Statistics 1:386, 2007), so its intervals are on the wide side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from regen.errors import DataError
from regen.eval.averages import ratio
from regen.eval.blocks import INTERVAL, plain_differences, plain_rows
from regen.eval.bootstrap import DRAWS, Resamples, Sampled, Values

AnswerSet = frozenset[str]
NO_ANSWER: AnswerSet = frozenset()
TITLES = {"exact": "exact match", "f1": "set F1"}
Nearest = Callable[[str], Sequence[str]]
"""An ECG -> training ECGs, nearest first; never one that the question must not see."""
"""Weights of draws held at once, 8 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """n questions with their reference answers, a list of n each; the fields are the columns of regen.data_prep.ecg_qa.SCHEMA."""

    ids: list[str]
    templates: list[int]
    types: list[str]
    attribute_types: list[str]
    asked: list[str]
    ecgs: list[list[str]]
    subjects: list[list[str]]
    answers: list[AnswerSet]
    options: list[list[str]]

    @classmethod
    def from_table(cls, table: pl.DataFrame) -> Asked:
        names = {"ids": "question_id", "templates": "template_id", "types": "question_type", "attribute_types": "attribute_type", "asked": "asked",
                 "ecgs": "ecg_ids", "subjects": "subject_ids", "options": "options"}  # fmt: skip
        columns = {field: table[name].to_list() for field, name in names.items()}
        return cls(**columns, answers=[frozenset(answer) for answer in table["answer"].to_list()])

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """One system's answer sets, one a question, in the order of the questions.

    missing: questions that it did not answer; invalid: answers that hold something its template does not allow; fallback: questions that a
    baseline answered as another one does.
    """

    name: str
    answers: list[AnswerSet]
    missing: int = 0
    invalid: int = 0
    fallback: int = 0

    @classmethod
    def aligned(cls, name: str, given: Mapping[str, AnswerSet], asked: Asked) -> Answered:
        """given: answer sets by question id; those of other questions are left aside."""
        answers = [given.get(question, NO_ANSWER) for question in asked.ids]
        invalid = sum(not answer <= set(options) for answer, options in zip(answers, asked.options, strict=True))
        return cls(name, answers, sum(question not in given for question in asked.ids), invalid)


def exact(answers: Sequence[AnswerSet], references: Sequence[AnswerSet]) -> Values:
    """(n,) 1 where the two sets are the same and not empty, else 0."""
    return np.array([float(bool(a) and a == b) for a, b in zip(answers, references, strict=True)], np.float64)


def set_f1(answers: Sequence[AnswerSet], references: Sequence[AnswerSet]) -> Values:
    """(n,) 2 * shared / (answered + true); 0 without an answer."""
    return np.array([2 * len(a & b) / (len(a) + len(b)) if a else 0.0 for a, b in zip(answers, references, strict=True)], np.float64)


class ByPatients(Resamples):
    """Draws of patients for questions that have one or two: a question counts as often as its patients' counts multiply to."""

    def __init__(self, subjects: Sequence[Sequence[str]], rng: np.random.Generator, draws: int = DRAWS) -> None:
        """subjects: the one or two patients of each question.

        Raises:
            DataError: a question with none or with more than two.
        """
        for row in subjects:
            if not 1 <= len(row) <= 2:
                raise DataError(f"ByPatients: expected one or two patients a question, got {list(row)[:5]}; prepare the questions again")
        patients = sorted({subject for row in subjects for subject in row})
        super().__init__(patients, rng, draws)
        place = {subject: int(self._patient[i]) for i, subject in enumerate(patients)}
        self.n = len(subjects)
        self._first, self._last = (np.array([place[row[end]] for row in subjects], np.int64) for end in (0, -1))

    def of_studies(self, times: Values) -> Values:
        two, weights = self._first != self._last, times[:, self._first]
        weights[:, two] *= times[:, self._last[two]]
        return weights


def majority(asked: Asked, train: Asked) -> Answered:
    """The training answer set that is most frequent for the template (ties: first by name); no answer for a template without training."""
    best = _most_frequent(train.templates, train.answers)
    answers = [best.get(template, NO_ANSWER) for template in asked.templates]
    return Answered("majority of the template", answers, missing=answers.count(NO_ANSWER))


def random_option(asked: Asked, rng: np.random.Generator) -> Answered:
    """One of the template's options, drawn evenly."""
    return Answered("random option", [frozenset({options[int(rng.integers(len(options)))]}) for options in asked.options])


def nearest_answer(asked: Asked, train: Asked, nearest: Nearest) -> Answered:
    """The training answer to the same question (`asked`) about the nearest training ECG that it was put about; else the template's majority.

    Of a comparison the later ECG counts, on both sides; of several training answers the first in stored order.
    """
    known: dict[tuple[str, str], AnswerSet] = {}
    for what, ecgs, answer in zip(train.asked, train.ecgs, train.answers, strict=True):
        known.setdefault((what, ecgs[-1]), answer)
    put = set(train.asked)
    floor = majority(asked, train)
    ranked: dict[str, Sequence[str]] = {}
    answers, fallback = [], 0
    for what, ecgs, other in zip(asked.asked, asked.ecgs, floor.answers, strict=True):
        found: AnswerSet | None = None
        if what in put:
            if ecgs[-1] not in ranked:
                ranked[ecgs[-1]] = nearest(ecgs[-1])
            found = next((known[what, case] for case in ranked[ecgs[-1]] if (what, case) in known), None)
        fallback += found is None
        answers.append(other if found is None else found)
    return Answered("nearest", answers, missing=answers.count(NO_ANSWER), fallback=fallback)


def _most_frequent(keys: Sequence[int], answers: Sequence[AnswerSet]) -> dict[int, AnswerSet]:
    counts: dict[int, Counter[AnswerSet]] = {}
    for key, answer in zip(keys, answers, strict=True):
        counts.setdefault(key, Counter())[answer] += 1
    return {key: min(count, key=lambda answer: (-count[answer], sorted(answer))) for key, count in counts.items()}


@dataclass(frozen=True, slots=True, eq=False)
class QaBlock:
    """One group of questions: all, one question_type, one attribute_type, or one of both. rows: system -> column of TITLES -> cell."""

    name: str
    n: int
    patients: int
    rows: dict[str, dict[str, Sampled]]


@dataclass(frozen=True, slots=True, eq=False)
class QaTable:
    """The first system is compared with each other one."""

    blocks: list[QaBlock]
    systems: list[Answered]
    seed: int
    draws: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "interval": INTERVAL, "draws": self.draws, "seed": self.seed,
            "systems": {s.name: {"missing": s.missing, "invalid": s.invalid, "fallback": s.fallback} for s in self.systems},
            "blocks": [
                {"name": b.name, "n": b.n, "patients": b.patients, "rows": plain_rows(b.rows), "differences": plain_differences(b.rows)}
                for b in self.blocks
            ],
        }  # fmt: skip


def qa_table(asked: Asked, systems: Sequence[Answered], seed: int = 0, draws: int = DRAWS) -> QaTable:
    """Every group of questions that occurs. Each group is drawn anew from the same seed, so that its systems are paired.

    Raises:
        DataError: no question, no system, two of one name, or one with another number of answers.
    """
    if not len(asked) or not systems:
        raise DataError(f"qa_table: expected questions and systems, got {len(asked)} and {len(systems)}; check the split")
    names = [system.name for system in systems]
    if len(set(names)) < len(names):
        raise DataError(f"qa_table: expected every system's name once, got {', '.join(names)}; give the file of answers another name")
    for system in systems:
        if len(system.answers) != len(asked):
            raise DataError(f"{system.name}: expected {len(asked)} answers, got {len(system.answers)}; align them with Answered.aligned")
    scores = np.stack([metric(system.answers, asked.answers) for system in systems for metric in (exact, set_f1)], axis=1)
    groups: dict[str, list[int]] = {"all": list(range(len(asked)))}
    for kinds in (asked.types, asked.attribute_types, [" ".join(pair) for pair in zip(asked.types, asked.attribute_types, strict=True)]):
        for name in sorted(set(kinds)):
            groups[name] = [i for i, kind in enumerate(kinds) if kind == name]
    blocks = []
    for name, rows in groups.items():
        resamples = ByPatients([asked.subjects[i] for i in rows], np.random.default_rng(seed), draws)
        cells = iter(_means(scores[rows], resamples))
        blocks.append(QaBlock(name, len(rows), resamples.patients, {system.name: {column: next(cells) for column in TITLES} for system in systems}))
    return QaTable(blocks, list(systems), seed, draws)


def _means(values: Values, resamples: ByPatients) -> list[Sampled]:
    """(n, columns) -> the mean of each column with its draws; one pass over the draws for all of them."""

    def averaged(each: Iterable[Values]) -> Values:
        rows = [ratio(weights @ values, np.repeat(weights.sum(axis=1, keepdims=True), values.shape[1], axis=1)) for weights in each]
        return np.concatenate(rows) if rows else np.full((0, values.shape[1]), np.nan)

    spread, left_out = averaged(resamples), averaged(resamples.left_out())
    return [Sampled(float(value), spread[:, i], left_out[:, i], resamples.patients) for i, value in enumerate(values.mean(axis=0))]
