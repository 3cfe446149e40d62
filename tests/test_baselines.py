"""Predictions and baselines: alignment, one reader for all, own subject never copied, nearest against brute force."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest

from regen.data_prep import prepared
from regen.data_prep.measure import FEATURES
from regen.data_prep.statements import CODES
from regen.encoders.recordings import clean_and_measure
from regen.errors import DataError
from regen.eval import baselines
from regen.eval.baselines import Views
from regen.eval.predictions import Predictions, References, misread, read_sets

NORMAL, LVH, IMI, AFIB = (
    "Sinus rhythm. Normal ECG.",
    "Sinus rhythm. Left ventricular hypertrophy.",
    "Inferior myocardial infarction.",
    "Atrial fibrillation.",
)


def studies(reports: Sequence[str], subjects: Sequence[str | None], languages: Sequence[str | None] | None = None, prefix: str = "s") -> References:
    languages = languages or ["en"] * len(reports)
    ids = [f"{prefix}{i}" for i in range(len(reports))]
    return References(ids, list(subjects), list(reports), list(languages), read_sets(reports), np.ones(len(reports), np.bool_))


def codes_of(row: np.ndarray) -> set[str]:
    return {CODES[c] for c in np.flatnonzero(row)}


# --- references and predictions


def test_references_hold_what_was_coded_and_english_renderings_read_back(cohort: prepared.Prepared) -> None:
    references = References.from_rows(cohort.studies)
    assert len(references) == len(cohort.studies) == 60
    for row, statements in zip(references.statements, cohort.studies["statements"].to_list(), strict=True):
        assert codes_of(row) == {s["code"] for s in statements} & set(CODES)
    assert references.statements.any()
    assert references.coded.all()
    assert misread(references) == []


def test_misread_names_the_study_whose_report_says_something_else() -> None:
    references = studies([NORMAL, LVH], ["a", "b"])
    references.statements[1, CODES.index("LVH")] = False
    assert misread(references) == ["s1"]


def test_a_study_that_nobody_coded_is_read_by_the_labeler(cohort: prepared.Prepared) -> None:
    rows = cohort.studies.head(3).with_columns(statements=pl.lit(None, dtype=prepared.SCHEMA["statements"]), report=pl.lit(LVH))
    references = References.from_rows(rows)
    assert not references.coded.any()
    assert [codes_of(row) for row in references.statements] == [{"SR", "LVH"}] * 3
    with pytest.raises(DataError, match="3 have neither"):
        References.from_rows(rows.with_columns(report=pl.lit(None, dtype=pl.String)))
    with pytest.raises(DataError, match="language, statements missing"):
        References.from_rows(rows.drop("language", "statements"))


def test_drafts_are_aligned_by_study_and_read_from_the_report() -> None:
    references = studies([NORMAL, LVH, IMI], ["a", "b", "c"])
    finding = {"code": "IMI", "probability": 0.8, "positive": True}
    drafts: list[dict[str, Any]] = [
        {"study_id": "elsewhere", "report": NORMAL, "findings": []},
        {"study_id": "s2", "report": AFIB, "findings": [finding, {"code": "no SCP code", "probability": 1.0}]},
        {"study_id": "s0", "report": NORMAL, "findings": [{"code": "NORM", "probability": 0.9}]},
    ]
    made = Predictions.from_drafts("system", drafts, references)
    assert made.reports == [NORMAL, "", AFIB]
    assert made.missing == 1
    assert [codes_of(row) for row in made.statements] == [{"SR", "NORM"}, set(), {"AFIB"}]
    assert made.probabilities is not None
    assert {(i, CODES[c]): round(float(made.probabilities[i, c]), 3) for i, c in np.argwhere(made.probabilities)} == {
        (0, "NORM"): 0.9,
        (2, "IMI"): 0.8,
    }
    assert Predictions.from_drafts("texts", [{"study_id": "s1", "report": LVH}], references).probabilities is None


def test_drafts_that_cannot_be_aligned_are_refused() -> None:
    references = studies([NORMAL], ["a"])
    with pytest.raises(DataError, match="none of them"):
        Predictions.from_drafts("x", [{"study_id": "s9", "report": NORMAL}], references)
    with pytest.raises(DataError, match="second one of s0"):
        Predictions.from_drafts("x", [{"study_id": "s0", "report": NORMAL}] * 2, references)
    with pytest.raises(DataError, match=r"draft 1: .* report missing"):
        Predictions.from_drafts("x", [{"study_id": "s0"}], references)
    with pytest.raises(DataError, match="expected probabilities of shape"):
        Predictions.from_reports("x", [NORMAL], np.zeros((1, 3), np.float32))


# --- baselines that do not look at the ECG


def test_random_report_is_seeded_and_drawn_from_all_others() -> None:
    pool = studies([NORMAL, LVH, IMI, AFIB], ["a", "b", "c", "d"], prefix="t")
    queries = studies([NORMAL] * 200, ["a"] * 200)
    one = baselines.random_report(queries, pool, np.random.default_rng(0))
    assert set(one.reports) == {LVH, IMI, AFIB}
    assert one.reports == baselines.random_report(queries, pool, np.random.default_rng(0)).reports
    assert one.reports != baselines.random_report(queries, pool, np.random.default_rng(1)).reports


def test_most_frequent_leaves_the_own_subject_out() -> None:
    pool = studies([NORMAL, NORMAL, NORMAL, LVH, LVH, IMI], ["a", "a", "b", "c", "d", "e"], prefix="t")
    queries = studies([IMI, IMI], ["z", "a"])
    assert baselines.most_frequent(queries, pool).reports == [NORMAL, LVH]


def test_most_frequent_of_the_language_that_is_declared() -> None:
    german = "sinusrhythmus. normales ekg"
    pool = studies([NORMAL, NORMAL, LVH, german], list("abcd"), ["en", "en", "en", "de"], prefix="t")
    queries = studies([NORMAL] * 4, ["z"] * 4, ["de", "en", "sv", None])
    assert baselines.most_frequent(queries, pool, by_language=True).reports == [german, NORMAL, NORMAL, NORMAL]
    assert baselines.most_frequent(queries, pool).reports == [NORMAL] * 4


# --- baselines that copy a neighbour


def brute_force(queries: References, pool: References, score: np.ndarray) -> list[str]:
    out = []
    for i in range(len(queries)):
        allowed = [j for j in range(len(pool)) if pool.subjects[j] != queries.subjects[i] and pool.study_ids[j] != queries.study_ids[i]]
        out.append(pool.reports[max(allowed, key=lambda j: score[i, j])])
    return out


@pytest.fixture(scope="module")
def crowd() -> tuple[References, References, np.random.Generator]:
    """300 queries, more than are compared at once, and 40 cases of 30 subjects, some of them the queries' own."""
    rng = np.random.default_rng(7)
    pool = studies([f"report {j}" for j in range(40)], [f"p{j % 30}" for j in range(40)], prefix="t")
    queries = studies([NORMAL] * 300, [f"p{i % 50}" for i in range(300)])
    return queries, pool, rng


def test_nearest_by_cosine_agrees_with_brute_force(crowd: tuple[References, References, np.random.Generator]) -> None:
    queries, pool, rng = crowd
    query, cases = rng.normal(size=(300, 8)).astype(np.float32), rng.normal(size=(40, 8)).astype(np.float32)
    cosine = (query @ cases.T) / np.linalg.norm(query, axis=1)[:, None] / np.linalg.norm(cases, axis=1)
    expected = brute_force(queries, pool, cosine)
    assert baselines.nearest_embedding(queries, pool, query, cases).reports == expected
    assert baselines.nearest_signal(queries, pool, query, cases).reports == expected
    free = [pool.reports[j] for j in cosine.argmax(axis=1)]
    assert free != expected  # some query's own subject would have been nearest


def test_nearest_measures_are_standardised_and_may_be_missing(crowd: tuple[References, References, np.random.Generator]) -> None:
    queries, pool, rng = crowd
    spread = np.array([1e-3, 1.0, 1e3])
    cases = (rng.normal(size=(40, 3)) * spread).astype(np.float32)
    query = (rng.normal(size=(300, 3)) * spread).astype(np.float32)
    query[0, 1] = cases[3, 2] = np.nan
    low, high = np.nanquantile(cases.astype(float), [0.005, 0.995], axis=0)
    clipped = np.clip(cases.astype(float), low, high)
    centre, sd = np.nanmean(clipped, axis=0), np.nanstd(clipped, axis=0)
    ours, theirs = (np.nan_to_num((np.clip(part.astype(float), low, high) - centre) / sd) for part in (query, cases))
    distance = ((ours[:, None] - theirs[None]) ** 2).sum(axis=2)
    got = baselines.nearest_measures(queries, pool, query, cases).reports
    assert np.mean([a == b for a, b in zip(got, brute_force(queries, pool, -distance), strict=True)]) > 0.99


def test_expected_agreement_maximises_the_ratio_of_expectations() -> None:
    rng = np.random.default_rng(1)
    pool = studies([NORMAL, LVH, IMI, AFIB, f"{LVH} {IMI}"], list("abcde"), prefix="t")
    queries = studies([NORMAL] * 30, ["z"] * 30)
    p = rng.random((30, len(CODES))).astype(np.float32) ** 3
    expected = []
    for row in p:
        scores = [2 * sum(row[c] for c in np.flatnonzero(own)) / (own.sum() + row.sum()) for own in pool.statements]
        expected.append(pool.reports[int(np.argmax(scores))])
    assert len(set(expected)) > 1
    assert baselines.expected_agreement(queries, pool, p).reports == expected


def test_the_oracle_finds_the_same_statements_where_they_exist() -> None:
    pool = studies([NORMAL, LVH, IMI], list("abc"), prefix="t")
    queries = studies([IMI, NORMAL, f"{LVH} {AFIB}"], list("xyz"))
    assert baselines.oracle(queries, pool).reports == [IMI, NORMAL, LVH]


def test_own_study_subject_and_blank_reports_are_never_copied() -> None:
    pool = studies([NORMAL, "", LVH, IMI], ["a", "b", None, None])
    query = References(["s2"], ["a"], [NORMAL], ["en"], read_sets([NORMAL]), np.ones(1, np.bool_))  # study s2, subject a: only IMI is left
    vectors = np.eye(4, dtype=np.float32)
    for row in range(4):
        assert baselines.nearest_embedding(query, pool, vectors[row : row + 1], vectors).reports == [IMI]
    assert baselines.random_report(query, pool, np.random.default_rng(0)).reports == [IMI]
    assert baselines.most_frequent(query, pool).reports == [IMI]
    alone = studies([NORMAL, NORMAL], ["a", "a"])
    assert baselines.nearest_embedding(query, alone, vectors[:1], vectors[:2]).reports == [""]
    assert baselines.random_report(query, alone, np.random.default_rng(0)).reports == [""]
    assert baselines.most_frequent(query, alone).reports == [""]


# --- recordings


def test_look_keeps_the_order_and_floors_find_the_disturbed_copy(cohort: prepared.Prepared) -> None:
    rows = cohort.studies.sort("report").head(40)
    views = baselines.look(cohort, rows)
    assert views.signal.shape == (40, 12 * 250)
    assert views.measures.shape == (40, FEATURES)
    assert views.embedding is None
    cleaned, measured = clean_and_measure(cohort.load(rows[7:8]), cohort.fs)
    np.testing.assert_allclose(views.signal[7], np.nan_to_num(cleaned).reshape(12, 250, 4).mean(axis=2).ravel(), atol=1e-5)
    np.testing.assert_allclose(views.measures[7], measured[0], rtol=1e-3, atol=1e-4)

    pool = References.from_rows(rows)
    queries = References([f"q{i}" for i in range(40)], [None] * 40, pool.reports, pool.languages, pool.statements, pool.coded)
    noise = np.random.default_rng(0).normal(0, 0.01, views.signal.shape).astype(np.float32)
    query = Views(views.signal + noise, views.measures * np.float32(1.001))
    made = {p.name: p for p in baselines.floors(queries, pool, np.random.default_rng(0), query, views)}
    assert list(made) == [
        "random report", "most frequent report", "most frequent report of the language", "nearest raw signal", "nearest hand-made features",
        "hand features + logistic regression", "oracle: nearest statement set",
    ]  # fmt: skip
    assert (made["oracle: nearest statement set"].statements == read_sets(pool.reports)).all()
    assert made["hand features + logistic regression"].probabilities is not None
    assert made["nearest raw signal"].reports == pool.reports
    assert made["nearest hand-made features"].reports == pool.reports


class Mirror:
    """Stands for the encoder: its embedding is the first measurements, its probabilities the fifth sample of each lead."""

    def encode(self, signals: np.ndarray, measures: np.ndarray) -> tuple[np.ndarray, np.ndarray, None]:
        return measures[:, :4].copy(), signals[:, :, 4].copy(), None


def test_look_encodes_every_recording_in_its_place(cohort: prepared.Prepared) -> None:
    rows = cohort.studies.sort("report").head(12)
    towers: Any = Mirror()
    views = baselines.look(cohort, rows, towers)
    one_by_one = [baselines.look(cohort, rows[i : i + 1], towers) for i in range(len(rows))]
    for name in ("signal", "measures", "embedding", "probabilities"):
        np.testing.assert_allclose(getattr(views, name), np.concatenate([getattr(v, name) for v in one_by_one]), rtol=1e-3, atol=1e-4)
    assert not np.allclose(views.signal[0], views.signal[1], atol=1e-2)


def test_floors_add_the_encoder_where_there_is_one_and_refuse_other_rows() -> None:
    pool = studies([NORMAL, LVH, IMI], list("abc"), prefix="t")
    queries = studies([IMI, NORMAL], list("xy"))
    cases = Views(np.eye(3, 12, dtype=np.float32), np.random.default_rng(0).random((3, 4)).astype(np.float32), np.eye(3, dtype=np.float32))
    query = Views(cases.signal[:2], cases.measures[:2], np.eye(3, dtype=np.float32)[[2, 0]], queries.statements.astype(np.float32))
    made = baselines.floors(queries, pool, np.random.default_rng(0), query, cases)
    assert [(p.name, p.reports) for p in made[6:]] == [
        ("nearest in the encoder", [IMI, NORMAL]), ("highest expected agreement", [IMI, NORMAL]), ("oracle: nearest statement set", [IMI, NORMAL])
    ]  # fmt: skip
    assert made[6].declared is not None
    assert (made[6].declared == queries.statements).all()
    with pytest.raises(DataError, match="got 2 for 3 studies"):
        baselines.floors(queries, pool, np.random.default_rng(0), query, query)


def test_coarse_is_the_mean_of_four_with_gaps_at_zero() -> None:
    signal = np.arange(2 * 12 * 9, dtype=np.float32).reshape(2, 12, 9)
    signal[1, 3] = np.nan
    got = baselines.coarse(signal).reshape(2, 12, 2)
    assert got[0, 1, 1] == np.mean(signal[0, 1, 4:8])
    assert (got[1, 3] == 0).all()


def test_logistic_regression_learns_what_one_feature_says() -> None:
    rng = np.random.default_rng(0)
    reports = [IMI, NORMAL] * 1000
    pool, queries = studies(reports, [f"p{i}" for i in range(2000)], prefix="t"), studies([IMI, NORMAL] * 5, [f"q{i}" for i in range(10)])
    cases, query = (rng.normal(0, 0.1, (n, 6)).astype(np.float32) for n in (2000, 10))
    cases[::2, 2] += 5
    query[::2, 2] += 5
    assert baselines.hand_features(queries, pool, query, cases).reports == queries.reports
    assert baselines.hand_features(queries, pool, -query, cases).reports != queries.reports
