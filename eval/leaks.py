"""What must not lie on both sides of a test: people, studies, files, recordings, the future. Pure checks over tables and arrays.

    shared_ids(cases, rows)                     of an index and of the split that is scored
    later_cases(ids, times, shown, cases)       what a search showed that is dated after its query
    twins(ids, others, pairs)                   one recording under two names

Each returns one Leak a study and kind. A kind in INFORMATION is told and counted but is no failure: short reports are said of many ECGs in the
same words. What the checks cannot see: one person under two subject ids; a copy of a recording that starts 10 ms later, is much shorter or
noisier, may lack leads, or has them swapped or turned over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from regen.data_prep.labeler import statements_in
from regen.errors import DataError, did_you_mean
from regen.eval.nearest import BLOCK
from regen.index.case_index import NAMESAKES
from regen.index.cases import RECORD
from regen.study import FloatArray

KINDS: dict[str, str] = {
    "split": "a subject in more than one split of the prepared folder",
    "subject": "a subject on both sides",
    "study": "a study id on both sides",
    "record": "a recording's file name on both sides",
    "signal": "a recording on both sides under two names, by its signal",
    "embedding": "a recording on both sides under two names, by its embedding",
    "time": "a case shown that is dated after the query",
    "report": "an abnormal wording on both sides (information, no leak)",
}
INFORMATION = frozenset({"report"})
LIKE_SIGNAL = 0.99
"""Cosine of the coarse signals from which two recordings are compared in full."""
SAME_SIGNAL = 0.99
"""Correlation of the full signals from which they are one. Of 2533 recordings of PTB-XL, 5 pairs are alike to the last digit (two names of one
file); the next pair has a cosine of 0.78 and a correlation of 0.72. Found of 300 copies: all with another gain, 10 uV of white noise or 5 uV
steps; 80 % with 20 uV of noise, 58 % with aVL off, none shifted by 10 ms or cut to 8 s."""
SAME_EMBEDDING = 0.9999
"""Cosine from which two embeddings are of one recording: encoding PTB-XL's recordings again gives at least 0.99998, other patients' at most
0.995."""
Pairs = list[tuple[int, int, float]]
"""(row of ours, row of theirs, likeness)."""


@dataclass(frozen=True, slots=True)
class Leak:
    """kind: one of KINDS. study_id: of the split that is scored; other: on the far side (a study of the index or of another split)."""

    kind: str
    study_id: str
    other: str
    detail: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DataError(f"Leak: unknown kind {self.kind!r}{did_you_mean(self.kind, KINDS)}")

    @property
    def fails(self) -> bool:
        return self.kind not in INFORMATION


def split_overlaps(studies: pl.DataFrame) -> list[Leak]:
    """Subjects of a prepared folder in more than one split: one leak a subject and further split. studies: study_id, subject_id, split."""
    first: dict[str, dict[str, str]] = {}
    for study, subject, split in studies.select("study_id", "subject_id", "split").iter_rows():
        if subject is not None:
            first.setdefault(subject, {}).setdefault(split, study)
    leaks = []
    for subject, splits in first.items():
        (one, other), *more = splits.items()
        leaks += [Leak("split", study, other, f"subject {subject} is in {one} and in {split}") for split, study in more]
    return leaks


def shared_ids(cases: pl.DataFrame, rows: pl.DataFrame) -> list[Leak]:
    """Study ids, subjects and file names of `rows` (study_id, subject_id, source: a path) that the cases hold as well (study_id,
    subject_id, record, source: an archive's name).

    Ids of two archives may be equal by chance; the case's archive is in the detail so that a reader can judge.
    """
    ids, archives = cases["study_id"].to_list(), cases["source"].to_list()
    theirs, ours = _names(cases["record"].to_list()), _names(records_of(rows))
    common = {name for column in (theirs, ours) for name, times in Counter(n for names in column for n in names).items() if times > NAMESAKES}
    columns = {kind: ([[v] for v in cases[kind]], [[v] for v in rows[kind]]) for kind in ("study_id", "subject_id")} | {"record": (theirs, ours)}
    known = {kind: _first(column) for kind, (column, _) in columns.items()}
    leaks = []
    for i, study in enumerate(rows["study_id"].to_list()):
        for kind, (_, column) in columns.items():
            at, value = next(((known[kind][v], v) for v in column[i] if v in known[kind] and v not in common), (None, None))
            if at is not None:
                word = kind.removesuffix("_id")
                leaks.append(Leak(word, study, ids[at], f"{word} {value}, in the index from {archives[at] or 'an unnamed archive'}"))
    return leaks


def _names(records: Sequence[str | None]) -> list[list[str]]:
    """File names of each study's views."""
    return [names.split("|") if names else [] for names in records]


def records_of(rows: pl.DataFrame) -> list[str | None]:
    """File names without their endings of each row's `source`, None where that is no file: as regen.index.cases names its records."""
    return rows.select(RECORD).to_series().to_list()


def candidates(ours: FloatArray, theirs: FloatArray, least: float) -> Pairs:
    """Pairs whose cosine is at least `least`. ours (n, w), theirs (m, w); a row of zeros (nothing recorded) is like no other."""
    unit = [part / np.where(length > 0, length, 1) for part in (ours, theirs) for length in (np.linalg.norm(part, axis=1, keepdims=True),)]
    pairs: Pairs = []
    for start in range(0, len(ours), BLOCK):
        cosine = unit[0][start : start + BLOCK] @ unit[1].T
        pairs += [(start + int(i), int(j), float(cosine[i, j])) for i, j in np.argwhere(cosine >= least)]
    return pairs


def correlation(one: FloatArray, other: FloatArray) -> float:
    """Pearson correlation of two recordings (12, time), each lead about its own mean, over the samples that both have.

    NaN where they have none in common, or one of them is flat.
    """
    both = ~(np.isnan(one) | np.isnan(other))
    counts = np.maximum(both.sum(axis=1, keepdims=True), 1)
    parts = [np.where(both, signal, 0).astype(np.float64) for signal in (one, other)]
    a, b = (np.where(both, part - part.sum(axis=1, keepdims=True) / counts, 0) for part in parts)
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / scale) if scale > 0 else float("nan")


def twins(rows: Sequence[str], others: Sequence[str], pairs: Iterable[tuple[int, int, float, float]]) -> list[Leak]:
    """Pairs of recordings (row, other row, cosine, correlation) that are one: study ids on either side. Equal ids are another check's."""
    return [
        Leak("signal", rows[i], others[j], f"cosine {cosine:.4f} at 25 Hz, correlation {full:.4f} at 100 Hz")
        for i, j, cosine, full in pairs
        if full >= SAME_SIGNAL and rows[i] != others[j]
    ]


def embedded_twins(rows: Sequence[str], others: Sequence[str], ours: FloatArray, theirs: FloatArray) -> list[Leak]:
    """Recordings whose unit embeddings are equal but for rounding, for an index whose signals are not at hand."""
    pairs = candidates(ours, theirs, SAME_EMBEDDING)
    return [Leak("embedding", rows[i], others[j], f"cosine of embeddings {cosine:.5f}") for i, j, cosine in pairs if rows[i] != others[j]]


def later_cases(rows: Sequence[str], times: Sequence[Any], ids: npt.NDArray[np.int64], cases: pl.DataFrame) -> list[Leak]:
    """What a search showed from after the query's time. ids: (n, k) rows of `cases`, -1 for none; a time that is unknown accuses nobody."""
    others, dated = cases["study_id"].to_list(), cases["time"].to_list()
    return [
        Leak("time", study, others[j], f"dated {dated[j]}, the query {time}")
        for study, time, shown in zip(rows, times, ids.tolist(), strict=True)
        for j in shown
        if j >= 0 and time is not None and dated[j] is not None and dated[j] > time
    ]


def shared_wordings(cases: pl.DataFrame, rows: pl.DataFrame) -> list[Leak]:
    """Reports that occur word for word on both sides and are not read as normal: one a wording, with how often it is there."""
    theirs, ours = (Counter(text for text in table["report"].to_list() if text) for table in (cases, rows))
    first, other = (_first([[text] for text in part["report"]]) for part in (rows, cases))
    ids, others = rows["study_id"].to_list(), cases["study_id"].to_list()
    return [
        Leak("report", ids[first[text]], others[other[text]], f"{ours[text]} x in the split, {theirs[text]} x in the index: {text}")
        for text in _abnormal(ours.keys() & theirs.keys())
    ]


def _abnormal(texts: Collection[str]) -> Iterator[str]:
    return (text for text in sorted(texts) if "NORM" not in statements_in(text))


def _first(column: Sequence[Sequence[str | None]]) -> dict[str, int]:
    """Value -> the first row that holds it; None is no value."""
    out: dict[str, int] = {}
    for i, values in enumerate(column):
        for value in values:
            if value is not None:
                out.setdefault(value, i)
    return out
