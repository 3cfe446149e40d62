"""Studies in, drafts out: what a draft holds, and that no way in or batch size changes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from records import write_wfdb

from regen import Pipeline
from regen.batch import FileStudies, line, prepared_studies
from regen.data_prep.prepare import Entry, write
from regen.data_prep.prepared import Prepared
from regen.data_prep.readers import read_study
from regen.data_prep.statements import CODES
from regen.data_prep.synthetic_cohort import make_study
from regen.errors import DataError
from regen.index.case_index import Asker, CaseIndex
from regen.study import Draft, Ecg, Study


@pytest.fixture(scope="module")
def studies(tiny_data: Prepared) -> list[Study]:
    return list(prepared_studies(tiny_data, tiny_data.split("test")))


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic ECG at 500 Hz as a WFDB record."""
    ecg = make_study((91, 4)).ecg
    assert ecg is not None
    samples = np.round(np.nan_to_num(ecg.signal.T) * 1000).astype(np.int16)
    return write_wfdb(tmp_path_factory.mktemp("record"), "rec", samples, fs=ecg.fs)


def alike(a: Draft, b: Draft, tolerance: float = 1e-4) -> None:
    """The same text, findings and cases; probabilities and scores to rounding."""
    assert a.report == b.report
    assert [(s.text, s.status, s.finding) for s in a.sentences] == [(s.text, s.status, s.finding) for s in b.sentences]
    assert {f.code for f in a.findings if f.positive} == {f.code for f in b.findings if f.positive}
    ours, theirs = ({f.code: f.probability for f in d.findings} for d in (a, b))
    assert ours == pytest.approx(theirs, abs=tolerance)
    assert [h.study_id for h in a.neighbours] == [h.study_id for h in b.neighbours]
    assert [h.score for h in a.neighbours] == pytest.approx([h.score for h in b.neighbours], abs=tolerance)


KEYS = {
    "study_id": str, "subject_id": (str, type(None)), "report": str, "sentences": list, "findings": list, "neighbours": list, "flags": list,
    "measured": dict, "bundle": str, "timing_ms": dict,
}  # fmt: skip


def test_a_draft_as_json_is_what_the_documentation_says(pipeline: Pipeline, studies: list[Study]) -> None:
    times = pipeline.index.cases["time"]
    for study, draft in zip(studies, pipeline.draft(studies), strict=True):
        row = json.loads(line(draft))
        assert all(isinstance(row[key], kind) for key, kind in KEYS.items())
        assert set(row) - set(KEYS) == {"dropped", "disclaimer", "sections"}
        assert row["report"] == " ".join(s["text"] for s in row["sentences"])
        for sentence in row["sentences"]:
            assert sentence["status"] in {"supported", "uncertain"}
            assert set(sentence) == {"text", "status", "finding", "probability", "evidence", "measured", "reason"}
            assert all(set(e) == {"study_id", "score"} for e in sentence["evidence"])
        assert all(s["status"] == "contradicted" and s["reason"] for s in row["dropped"])
        assert {f["code"] for f in row["findings"]} == set(CODES)
        assert all(set(f) == {"code", "label", "probability", "threshold", "positive"} and 0 <= f["probability"] <= 1 for f in row["findings"])
        assert any(f["positive"] for f in row["findings"])
        assert all(set(n) == {"study_id", "score", "report"} and -1 <= n["score"] <= 1 for n in row["neighbours"])
        assert len(row["neighbours"]) >= min(5, int((times <= study.time).sum())), "as many as there are from before"
        cited = {e["study_id"] for s in row["sentences"] for e in s["evidence"]}
        assert cited <= {n["study_id"] for n in row["neighbours"]}, "every case that is cited can be looked up"
        assert row["measured"]["heart_rate"] is None or 20 < row["measured"]["heart_rate"] < 300
        assert set(row["timing_ms"]) == {"encode", "retrieve", "write"}
        assert "not a medical device" in row["disclaimer"]


def test_evidence_points_to_cases_of_the_index_that_say_so(pipeline: Pipeline, studies: list[Study]) -> None:
    stated = {row["study_id"]: {s["code"] for s in row["statements"]} for row in pipeline.index.cases.to_dicts()}
    pairs = [(s.finding, e.study_id) for d in pipeline.draft(studies) for s in d.sentences for e in s.evidence if s.finding in CODES]
    assert len(pairs) > 20
    assert all(code in stated[study] for code, study in pairs)


def test_a_batch_is_its_studies_one_by_one(exact: Pipeline, studies: list[Study]) -> None:
    together = exact.draft(studies)
    assert [d.study_id for d in together] == [s.study_id for s in studies]
    assert len({d.report for d in together}) > 1
    for study, draft in zip(studies, together, strict=True):
        alike(draft, exact.draft(study))


def test_the_same_twice(pipeline: Pipeline, studies: list[Study]) -> None:
    first, second = ([replace(d, timing_ms={}) for d in pipeline.draft(studies)] for _ in range(2))
    assert first == second


def test_a_path_a_study_and_a_list_give_the_same(exact: Pipeline, record: Path) -> None:
    by_path, by_text, by_study = exact.draft(record), exact.draft(str(record)), exact.draft(read_study(record))
    assert isinstance(by_path, Draft)
    (listed,) = exact.draft([record])
    for other in (by_text, by_study, listed):
        assert replace(other, timing_ms={}) == replace(by_path, timing_ms={})


@pytest.mark.parametrize("rate", [100.0, 500.0])
def test_a_prepared_study_gives_what_its_file_gives(exact: Pipeline, record: Path, tmp_path: Path, rate: float) -> None:
    write([Entry("rec", "p", path=str(record), split="test")], tmp_path / "data", "test", {}, rate, workers=1)
    data = Prepared.open(tmp_path / "data")
    (study,) = prepared_studies(data, data.split("test"))
    alike(exact.draft(replace(study, subject_id=None)), exact.draft(record), 0.02)


def test_drafts_are_made_as_they_are_asked_for(pipeline: Pipeline, studies: list[Study]) -> None:
    asked = 0

    def endless() -> Iterator[Study]:
        nonlocal asked
        while True:
            asked += 1
            yield replace(studies[asked % len(studies)], study_id=str(asked))

    drafts = pipeline.drafts(endless())
    assert asked == 0
    assert next(drafts).study_id == "1"
    assert asked == 150
    for _ in range(149):
        next(drafts)
    assert asked == 150
    drafts.close()


def test_blank_parts_change_the_draft_and_are_said(pipeline: Pipeline, studies: list[Study]) -> None:
    plain = pipeline.draft(studies)
    deaf = list(pipeline.drafts(studies, blank_ecg=True))
    alone = list(pipeline.drafts(studies, blank_retrieval=True))
    assert [d.study_id for d in deaf] == [d.study_id for d in alone] == [s.study_id for s in studies]
    assert all(d.measured[name] is None for d in deaf for name in ("heart_rate", "pr", "qrs", "qtc", "axis", "noise"))
    assert all("no_retrieval" in d.flags and d.neighbours == () and d.report for d in alone)
    assert [d.report for d in plain] != [d.report for d in deaf]


def test_a_blank_recording_makes_no_statement_certain(exact: Pipeline, studies: list[Study]) -> None:
    seen = exact.see(studies[:2], blank=True)
    np.testing.assert_allclose(seen.probabilities[0], seen.probabilities[1], atol=1e-6)
    assert np.isfinite(seen.embeddings).all()
    assert seen.probabilities.max() < 0.99
    assert (seen.tokens == 0).all()


def test_search_never_shows_the_study_its_subject_or_what_came_later(pipeline: Pipeline, tiny_data: Prepared) -> None:
    train = tiny_data.split("train")
    twice = train.filter(train["subject_id"].is_duplicated())
    assert len(twice) >= 4, "the cohort holds no patient with two visits"
    times = dict(zip(train["study_id"].to_list(), train["time"].to_list(), strict=True))
    for study in prepared_studies(tiny_data, twice):
        hits = pipeline.search(study, k=len(train))
        assert study.time is not None
        assert [h.rank for h in hits] == list(range(1, len(hits) + 1))
        assert not [h for h in hits if h.study_id == study.study_id or h.subject_id == study.subject_id]
        assert {h.study_id for h in hits} == {s for s, t in times.items() if t <= study.time} - set(
            train.filter(train["subject_id"] == study.subject_id)["study_id"].to_list()
        )
        own = pipeline.search(study, k=len(train), own_subject=True)
        assert study.study_id not in {h.study_id for h in own}
        assert all(h.allowed.endswith("not dated after the query") for h in hits)


def test_a_training_study_never_reads_its_own_report(pipeline: Pipeline, tiny_data: Prepared) -> None:
    studies = list(prepared_studies(tiny_data, tiny_data.split("train")))[-20:]
    for study, draft in zip(studies, pipeline.draft(studies), strict=True):
        shown = {h.study_id for h in draft.neighbours} | {e.study_id for s in draft.sentences for e in s.evidence}
        assert study.study_id not in shown
        assert len(shown) >= 5


def test_a_study_without_an_ecg_is_one_clear_error(pipeline: Pipeline, studies: list[Study]) -> None:
    with pytest.raises(DataError, match=f"{studies[0].study_id}: expected an ECG or a chest X-ray, the study has none"):
        pipeline.draft(replace(studies[0], ecg=None))
    with pytest.raises(DataError, match="expected an ECG"):
        pipeline.draft("nowhere.xyz")


def test_leads_and_seconds_may_be_missing(pipeline: Pipeline, studies: list[Study]) -> None:
    ecg = studies[0].ecg
    assert ecg is not None
    few = ecg.signal.copy()
    few[[1, 4, 7, 8]] = np.nan
    short = replace(ecg, signal=ecg.signal[:, : round(3 * ecg.fs)])
    drafts = pipeline.draft([replace(studies[0], ecg=replace(ecg, signal=few)), replace(studies[0], ecg=short)])
    assert all(d.report for d in drafts)
    assert "padded" in drafts[1].flags


def test_priors_allow_comparisons_into_the_draft(pipeline: Pipeline, studies: list[Study]) -> None:
    draft = pipeline.draft(replace(studies[0], priors=("Sinus rhythm.",)))
    assert draft.report


def test_two_files_of_one_name_keep_two_ids(record: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for part in (record, record.with_suffix(".dat")):
            (tmp_path / name / part.name).write_bytes(part.read_bytes())
    found = FileStudies.of([tmp_path])
    ids = [study.study_id for study in found]
    assert ids == ["rec", (tmp_path / "b" / "rec").as_posix()]
    assert found.failures == []


def test_a_file_does_not_find_its_own_case_under_another_id(pipeline: Pipeline) -> None:
    """An archive's id and the name of its file differ ('00001' and '00001_hr'); the case store knows both."""
    cases = pipeline.index.cases.with_columns(record=pl.lit("rec_") + pl.col("study_id"))
    index = CaseIndex(cases, pipeline.index.vectors, pipeline.index.report_vectors, pipeline.index.fingerprint)
    own = cases["study_id"][3]
    asked = Asker.of(Study("rec_" + own, None, source=f"/somewhere/rec_{own}.hea"))
    assert own not in [h.study_id for h in index.hits(index.vectors[3], 5, asked)]
    assert own in [h.study_id for h in index.hits(index.vectors[3], 5, Asker("another name"))]


def test_a_recording_of_noise_is_not_drafted(pipeline: Pipeline) -> None:
    noise = np.random.default_rng(0).normal(0, 0.5, (12, 1000)).astype(np.float32)
    draft = pipeline.draft(Study("noise", None, ecg=Ecg(noise, 100.0)))
    assert (draft.report, draft.sentences) == ("", ())
    assert any(flag.startswith("no_readable_ecg") for flag in draft.flags)
    assert not any(finding.positive for finding in draft.findings)
