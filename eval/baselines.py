"""The floors beside every result: what needs no generator, and what needs no ECG at all.

    pool = References.from_rows(data.split("train"))
    floors(references, pool, np.random.default_rng(0), look(data, test_rows, towers), look(data, train_rows, towers))

random report, most frequent report (overall, and of the declared language), and copies of one training report: of the study nearest in
the raw signal, in hand-made features, in the encoder's embedding, and of the one whose statements agree best with predicted
probabilities. None ever copies from the study itself or its subject; a study for which that leaves nothing gets an empty report. Ties go to
the first study of the pool.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from regen.data_prep.measure import FEATURES
from regen.data_prep.prepared import Prepared
from regen.encoders.recordings import FS, clean_and_measure
from regen.encoders.store import Towers
from regen.errors import DataError
from regen.eval.linear_probe import probe_each
from regen.eval.nearest import BLOCK, Barred, Score, by_cosine, by_measures, same_owner
from regen.eval.predictions import Predictions, References
from regen.study import FloatArray

SIGNAL_HZ = 25.0
ENCODER_FLOORS = ("nearest in the encoder", "highest expected agreement")
"""Names of the baselines that rest on an encoder."""


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """How the copying baselines see n recordings.

    signal: (n, 12 * 250) see `coarse`; measures: (n, FEATURES), NaN where unmeasurable; embedding (n, dim) and
    probabilities (n, 71): the encoder's, None without one.
    """

    signal: FloatArray
    measures: FloatArray
    embedding: FloatArray | None = None
    probabilities: FloatArray | None = None


def look(data: Prepared, rows: pl.DataFrame, towers: Towers | None = None, progress: Callable[[Iterable[Any]], Iterable[Any]] = iter) -> Views:
    """Read, clean and measure the recordings of `rows`, and encode them where an encoder is given. Keeps rows' order."""
    n = len(rows)
    signal, measures = np.zeros((n, 12 * round(10 * SIGNAL_HZ)), np.float32), np.full((n, FEATURES), np.nan, np.float32)
    parts: list[tuple[npt.NDArray[np.int64], FloatArray, FloatArray]] = []
    for positions, raw in progress(data.signals(rows)):
        cleaned, measures[positions] = clean_and_measure(raw, data.fs)
        signal[positions] = coarse(cleaned)
        if towers is not None:
            parts.append((positions, *towers.encode(cleaned, measures[positions])[:2]))
    if towers is None or not parts:
        return Views(signal, measures)
    order = np.argsort(np.concatenate([part[0] for part in parts]))
    embedding, probabilities = (np.concatenate([part[column] for part in parts])[order] for column in (1, 2))
    return Views(signal, measures, embedding, probabilities)


def coarse(signals: FloatArray) -> FloatArray:
    """(n, 12, time) cleaned mV at 100 Hz -> (n, 12 * time / 4) at 25 Hz: means of four samples, missing ones 0, leads end to end."""
    step = round(FS / SIGNAL_HZ)
    whole = signals[..., : signals.shape[-1] // step * step]
    return np.nan_to_num(whole).reshape(len(signals), -1, step).mean(axis=2)


def random_report(queries: References, pool: References, rng: np.random.Generator) -> Predictions:
    """A training report drawn evenly, without looking at the ECG."""
    picks, barred = [], _barred(queries, pool)
    for i in range(len(queries)):
        allowed = np.flatnonzero(~barred(slice(i, i + 1))[0])
        picks.append(int(rng.choice(allowed)) if len(allowed) else -1)
    return _copied("random report", pool, picks)


def most_frequent(queries: References, pool: References, by_language: bool = False) -> Predictions:
    """The training report that occurs most often; by_language: among those in the language that the study declares (among all where
    it declares none, or the pool has none in it). Neither looks at the ECG.
    """
    spoken = set(pool.languages) - {None}
    heard = [language if by_language and language in spoken else None for language in queries.languages]
    counts = {name: Counter(r for r, spoke in zip(pool.reports, pool.languages, strict=True) if name in (None, spoke)) for name in set(heard)}
    texts, barred = [], _barred(queries, pool)
    for i, language in enumerate(heard):
        left = counts[language].copy()
        left.subtract(pool.reports[j] for j in np.flatnonzero(barred(slice(i, i + 1))[0]) if language in (None, pool.languages[j]))
        best = max(left, key=lambda report: left[report], default="")
        texts.append(best if left[best] > 0 else "")
    return Predictions.from_reports("most frequent report" + (" of the language" if by_language else ""), texts)


def nearest_signal(queries: References, pool: References, query: FloatArray, cases: FloatArray) -> Predictions:
    """The report of the nearest raw signal by cosine. query, cases: (n, samples), see `coarse`."""
    return _copied("nearest raw signal", pool, _best(queries, pool, by_cosine(query, cases)))


def nearest_measures(queries: References, pool: References, query: FloatArray, cases: FloatArray) -> Predictions:
    """The report of the study nearest in hand-made features: standardised on the pool, missing ones at the mean, Euclidean.

    query, cases: (n, FEATURES), see regen.data_prep.measure.
    """
    return _copied("nearest hand-made features", pool, _best(queries, pool, by_measures(query, cases)))


def nearest_embedding(queries: References, pool: References, query: FloatArray, cases: FloatArray) -> Predictions:
    """The report of the study nearest in the encoder's space by cosine. query, cases: (n, dim)."""
    return _copied(ENCODER_FLOORS[0], pool, _best(queries, pool, by_cosine(query, cases)))


def expected_agreement(queries: References, pool: References, probabilities: FloatArray, name: str = ENCODER_FLOORS[1]) -> Predictions:
    """The training report whose statements S have the highest expected F1 against the predicted probabilities p (n, 71).

    With independent statements E[F1] is about 2 * sum of p over S / (|S| + sum of p), the ratio of the expectations; S is what was coded
    for the report. A report without a statement scores 0.
    """
    sets = pool.statements.astype(np.float32)
    sizes = sets.sum(axis=1)

    def score(rows: slice) -> FloatArray:
        p = probabilities[rows]
        return np.asarray(2 * p @ sets.T / np.maximum(sizes + p.sum(axis=1, keepdims=True), 1e-9), np.float32)

    return _copied(name, pool, _best(queries, pool, score))


def hand_features(queries: References, pool: References, query: FloatArray, cases: FloatArray) -> Predictions:
    """The training report with the highest expected agreement with what logistic regression on hand-made features predicts.

    query, cases: (n, FEATURES). One regression a statement, see regen.eval.linear_probe.
    """
    probabilities = probe_each(cases, pool.statements, query)
    return replace(expected_agreement(queries, pool, probabilities, "hand features + logistic regression"), probabilities=probabilities)


def oracle(queries: References, pool: References) -> Predictions:
    """The training report whose statements agree best with the truth (F1): how far copying can go. Not a floor: it sees the answer."""
    return expected_agreement(queries, pool, queries.statements.astype(np.float32), "oracle: nearest statement set")


def floors(queries: References, pool: References, rng: np.random.Generator, query: Views, cases: Views) -> list[Predictions]:
    """Every baseline that the views allow; the two that need an encoder are left out where there is none.

    Raises:
        DataError: views of other studies than the references.
    """
    for name, studies, views in (("queries", queries, query), ("pool", pool, cases)):
        if len(studies) != len(views.signal):
            raise DataError(f"floors, {name}: expected one recording a study, got {len(views.signal)} for {len(studies)} studies; use the same rows")
    out = [
        random_report(queries, pool, rng),
        most_frequent(queries, pool),
        most_frequent(queries, pool, by_language=True),
        nearest_signal(queries, pool, query.signal, cases.signal),
        nearest_measures(queries, pool, query.measures, cases.measures),
        hand_features(queries, pool, query.measures, cases.measures),
    ]
    return [*out, *encoder_floors(queries, pool, query, cases), oracle(queries, pool)]


def encoder_floors(queries: References, pool: References, query: Views, cases: Views) -> list[Predictions]:
    """Those of ENCODER_FLOORS that the views allow."""
    out = []
    if query.embedding is not None and cases.embedding is not None:
        out.append(nearest_embedding(queries, pool, query.embedding, cases.embedding))
    if query.probabilities is not None:
        out.append(expected_agreement(queries, pool, query.probabilities))
    return out


def _barred(queries: References, pool: References) -> Barred:
    """The pool rows that a query must not copy: its own study, its own subject's, and those without a report."""
    owner = same_owner(queries.study_ids, queries.subjects, pool.study_ids, pool.subjects)
    blank = np.array([not report for report in pool.reports], np.bool_)
    return lambda rows: owner(rows) | blank


def _best(queries: References, pool: References, score: Score) -> list[int]:
    """Of each query the allowed pool row with the highest score, -1 where none is allowed."""
    barred = _barred(queries, pool)
    picks: list[int] = []
    for start in range(0, len(queries) if len(pool) else 0, BLOCK):
        rows = slice(start, min(start + BLOCK, len(queries)))
        values = np.where(barred(rows), -np.inf, score(rows))
        best = values.argmax(axis=1)
        picks += np.where(values[np.arange(len(best)), best] > -np.inf, best, -1).tolist()
    return picks or [-1] * len(queries)


def _copied(name: str, pool: References, picks: list[int]) -> Predictions:
    made = Predictions.from_reports(name, [pool.reports[pick] if pick >= 0 else "" for pick in picks])
    return replace(made, declared=pool.statements[picks] & (np.asarray(picks) >= 0)[:, None])
