"""The index: unit vectors, the cases behind them, and who may see which.

    index = Archive.open("index").part("ecg")          regen.index.archive reads and writes the folder
    ids, scores = index.search(queries, k=5, askers=[Asker(study_id="00001", subject_id="15709")])

An index is a snapshot and never changes: `add` and `remove` return another one, so that whoever searches the old one is not disturbed.
By default a query never sees its own study, its own subject, or a case dated after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from regen.data_prep.wording import pairs
from regen.encoders.recordings import statement_matrix
from regen.errors import DataError
from regen.index.backends import Ids, make_backend
from regen.index.cases import check_cases, hits_from
from regen.study import FloatArray, Hit, Study

NAMESAKES = 3
"""A file name that more cases share ('ecg') says nothing about which recording it is."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks: a study's ids and time, as far as they are known. own_subject lets its subject's other, earlier studies be seen."""

    study_id: str | None = None
    subject_id: str | None = None
    time: datetime | None = None
    own_subject: bool = False
    records: tuple[str, ...] = ()
    """Names of the recording's files without their endings: a study that is asked about as a file has no other id."""

    @classmethod
    def of(cls, study: Study, own_subject: bool = False) -> Asker:
        files = [*study.source.split("|"), *(view.source for view in study.cxr)]
        stems = tuple(dict.fromkeys(path.stem for path in map(PurePath, files) if path.suffix))
        return cls(study.study_id, study.subject_id, study.time, own_subject, stems)


class CaseIndex:
    """See the module. vectors, report_vectors: (n, dim) unit rows in the order of `cases`; fingerprint: of the encoder that made them."""

    def __init__(
        self, cases: pl.DataFrame, vectors: FloatArray, report_vectors: FloatArray, fingerprint: str, backend: str = "auto", gpu: bool = False
    ) -> None:
        check_cases(cases)
        for name, rows in (("vectors", vectors), ("report vectors", report_vectors)):
            _check_vectors(name, rows, len(cases))
        self.cases = cases
        self.vectors = np.ascontiguousarray(vectors, np.float32)
        self.report_vectors = np.ascontiguousarray(report_vectors, np.float32)
        self.fingerprint = fingerprint
        self._options = (backend, gpu)
        self._backend = make_backend(backend, self.vectors, gpu)

    def __len__(self) -> int:
        return len(self.cases)

    @cached_property
    def statements(self) -> npt.NDArray[np.float32]:
        """(n, 71) likelihoods of the cases' statements; NaN rows where nobody coded."""
        return statement_matrix(self.cases)

    @cached_property
    def language_of_case(self) -> npt.NDArray[np.str_]:
        """(n,) of each case's report; '' where it is unknown or there is no report."""
        spoken = self.cases.select(pl.when(pl.col("report") != "").then("language").fill_null("")).to_series()
        return np.asarray(spoken.to_list(), np.str_)

    @cached_property
    def word_pairs(self) -> frozenset[tuple[str, str]]:
        """Every two words that stand side by side in a case's report."""
        return frozenset(pair for report in set(self.cases["report"].drop_nulls().to_list()) for pair in pairs(report))

    @cached_property
    def languages(self) -> frozenset[str]:
        """Those that the cases' reports are written in."""
        return frozenset(self.cases["language"].drop_nulls())

    @cached_property
    def language(self) -> str:
        """The most frequent language of the cases' reports; 'en' where none is known."""
        known = self.cases["language"].drop_nulls()
        return str(known.mode().sort()[0]) if len(known) else "en"

    def rows(self, ids: Iterable[int]) -> dict[int, dict[str, Any]]:
        """What is known of these cases, by row number; ids below 0 are left out. One look-up for a batch is as long as one for a case."""
        wanted = sorted({int(i) for i in ids if i >= 0})
        return dict(zip(wanted, self.cases[wanted].to_dicts(), strict=True)) if wanted else {}

    def search(self, queries: FloatArray, k: int, askers: Sequence[Asker]) -> tuple[Ids, FloatArray]:
        """Nearest allowed cases. queries: (b, dim) unit vectors. Returns row numbers (b, k), -1 where fewer exist, and cosines (b, k).

        Raises:
            DataError: queries of another width or not of unit length, k below 1, or not one asker a query.
        """
        if k < 1:
            raise DataError(f"search: expected k of at least 1, got {k}")
        if len(askers) != len(queries):
            raise DataError(f"search: expected one asker a query, got {len(askers)} for {len(queries)} queries")
        _check_vectors("queries", queries, len(queries), self.vectors.shape[1])
        return self._backend.search(queries, k, [self.banned(asker) for asker in askers])

    def hits(self, query: FloatArray, k: int, asker: Asker) -> list[Hit]:
        """The same for one query, (dim,), as Hits that say why they were allowed."""
        ids, scores = self.search(query[None], k, [asker])
        return hits_from(self.cases, ids[0].tolist(), scores[0].tolist(), self.why(asker))

    def banned(self, asker: Asker) -> Ids:
        """Sorted row numbers that the asker must not see."""
        rows: list[int] = list(self._rows_of_study.get(asker.study_id or "", ()))
        for record in asker.records:
            same = self._rows_of_record.get(record, ())
            if len(same) <= NAMESAKES:
                rows += same
        if asker.subject_id is not None and not asker.own_subject:
            rows += self._rows_of_subject.get(asker.subject_id, ())
        if asker.time is not None and self._times is not None:
            rows += np.flatnonzero(self._times > np.datetime64(asker.time, "us")).tolist()
        return np.unique(np.asarray(rows, np.int64))

    def why(self, asker: Asker) -> str:
        """In words, what a case had to pass to be shown to this asker, and what could not be compared."""
        names = [name for name in asker.records if len(self._rows_of_record.get(name, ())) <= NAMESAKES]
        study = f"another study id{' and file name' if names else ''}" if asker.study_id else "study unknown"
        subjects, undated = self._known_subjects, self.cases["time"].null_count()
        if asker.subject_id in (None, asker.study_id):
            subject = "subject of the query unknown, not filtered"
        elif asker.own_subject:
            subject = "the subject's own studies allowed"
        elif not subjects:
            subject = "subject not compared: the archive names none"
        else:
            subject = "another subject" + (f", or one of {len(self) - subjects} cases whose subject is unknown" if subjects < len(self) else "")
        if self._times is None:
            time = "time not compared: the archive has no comparable dates"
        elif asker.time is None:
            time = "time of the query unknown, not filtered"
        else:
            time = "not dated after the query" + (f", or one of {undated} undated cases" if undated else "")
        return f"{study}; {subject}; {time}"

    def add(self, cases: pl.DataFrame, vectors: FloatArray, report_vectors: FloatArray) -> CaseIndex:
        """A new index with these cases at its end. Nothing changes if anything about them is wrong.

        Raises:
            DataError: a study_id that is there already, vectors of another shape or not of unit length.
        """
        check_cases(cases)
        _check_vectors("vectors", vectors, len(cases), self.vectors.shape[1])
        _check_vectors("report vectors", report_vectors, len(cases), self.report_vectors.shape[1])
        return CaseIndex(
            pl.concat([self.cases, cases]), np.concatenate([self.vectors, vectors]),
            np.concatenate([self.report_vectors, report_vectors]), self.fingerprint, *self._options,
        )  # fmt: skip

    def remove(self, study_ids: Iterable[str]) -> CaseIndex:
        """A new index without these studies.

        Raises:
            DataError: a study_id that is not there.
        """
        gone = set(study_ids)
        unknown = sorted(gone - self._rows_of_study.keys())
        if unknown:
            raise DataError(f"remove: expected study ids of the index, got {', '.join(unknown[:5])}")
        keep = np.flatnonzero(~self.cases["study_id"].is_in(list(gone)).to_numpy())
        return CaseIndex(self.cases[keep.tolist()], self.vectors[keep], self.report_vectors[keep], self.fingerprint, *self._options)

    @cached_property
    def _known_subjects(self) -> int:
        """Cases whose subject is known: one that is called like its study is what `prepare` writes where it is not."""
        return int((self.cases["subject_id"] != self.cases["study_id"]).sum())

    @cached_property
    def _rows_of_study(self) -> dict[str, list[int]]:
        return {study: [i] for i, study in enumerate(self.cases["study_id"].to_list())}

    @cached_property
    def _rows_of_record(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for i, names in enumerate(self.cases["record"].to_list()):
            for name in names.split("|") if names else ():
                rows.setdefault(name, []).append(i)
        return rows

    @cached_property
    def _rows_of_subject(self) -> dict[str, list[int]]:
        return _rows_by(self.cases["subject_id"])

    @cached_property
    def _times(self) -> npt.NDArray[np.datetime64] | None:
        times = self.cases["time"]
        return None if times.null_count() == len(times) else times.to_numpy()


def _rows_by(column: pl.Series) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for i, value in enumerate(column.to_list()):
        if value is not None:
            rows.setdefault(value, []).append(i)
    return rows


def _check_vectors(name: str, rows: FloatArray, count: int, dim: int | None = None) -> None:
    if rows.ndim != 2 or len(rows) != count or (dim is not None and rows.shape[1] != dim):
        raise DataError(f"{name}: expected shape ({count}, {dim or 'dim'}), got {rows.shape}")
    lengths = np.linalg.norm(rows, axis=1)
    bad = np.flatnonzero(~(np.abs(lengths - 1) < 1e-2))
    if bad.size:
        raise DataError(f"{name}: expected unit vectors, got length {lengths[bad[0]]:.3f} in row {bad[0]}; the encoder's output is normalised")
