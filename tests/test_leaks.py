"""Leaks: each kind planted and found, a clean pair without one, and what is no leak left alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from models import as_archive

from regen.artifact import load_manifest, new_artifact
from regen.bundle import make_bundle
from regen.data_prep.prepared import SCHEMA, Prepared
from regen.encoders.store import load_towers
from regen.errors import ArtifactError, ConfigError, DataError
from regen.eval import leaks as checks
from regen.eval.baselines import coarse, look
from regen.eval.leaks import Leak
from regen.evaluating.leak import check_leaks, find_leaks
from regen.index.archive import Archive
from regen.index.build import build_index
from regen.index.case_index import CaseIndex
from regen.index.cases import CASES
from regen.study import FloatArray

IMI, NORMAL = "Inferior myocardial infarction.", "Sinus rhythm. Normal ECG."


def table(schema: dict[str, Any], *rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([dict.fromkeys(schema) | row for row in rows], schema=schema)


def cases(*rows: dict[str, Any]) -> pl.DataFrame:
    return table(CASES, *rows)


def studies(*rows: dict[str, Any]) -> pl.DataFrame:
    return table(SCHEMA, *rows)


def found(leaks: Sequence[Leak]) -> list[tuple[str, str, str]]:
    return [(leak.kind, leak.study_id, leak.other) for leak in leaks]


# --- ids, wordings, dates


def test_a_subject_in_two_splits() -> None:
    rows = [("a1", "a", "train"), ("b1", "b", "train"), ("a2", "a", "test"), ("a3", "a", "test"), ("a4", "a", "val"), ("b2", "b", "train")]
    clean = [("x1", None, "train"), ("x2", None, "test"), ("c1", "c", "test")]
    plain = [{"study_id": study, "subject_id": subject, "split": split} for study, subject, split in rows + clean]
    assert found(checks.split_overlaps(studies(*plain))) == [("split", "a2", "a1"), ("split", "a4", "a1")]
    assert "train and in test" in checks.split_overlaps(studies(*plain))[0].detail
    assert checks.split_overlaps(studies(*plain[1:2], *plain[5:])) == []


def test_subjects_studies_and_file_names_on_both_sides() -> None:
    index = cases(
        {"study_id": "1", "subject_id": "a", "record": "rec1", "source": "ptb-xl"},
        {"study_id": "2", "subject_id": None, "record": None},
        {"study_id": "3", "subject_id": "c", "record": "rec3"},
    )
    rows = studies(
        {"study_id": "1", "subject_id": "z", "source": "dir/other.hea"},
        {"study_id": "q2", "subject_id": "c", "source": ""},
        {"study_id": "q3", "subject_id": None, "source": "elsewhere/rec1.hea"},
        {"study_id": "q4", "subject_id": "y", "source": "rec3"},
    )
    leaks = checks.shared_ids(index, rows)
    assert found(leaks) == [("study", "1", "1"), ("subject", "q2", "3"), ("record", "q3", "1")]
    assert "from ptb-xl" in leaks[0].detail
    assert "an unnamed archive" in leaks[1].detail


def test_a_file_name_that_many_share_accuses_nobody() -> None:
    four = [{"study_id": f"c{i}", "record": "ecg"} for i in range(4)]
    one, many = studies({"study_id": "q", "source": "x/ecg.dcm"}), studies(*({"study_id": f"q{i}", "source": "x/ecg.dcm"} for i in range(4)))
    assert found(checks.shared_ids(cases(*four[:3]), one)) == [("record", "q", "c0")]
    assert checks.shared_ids(cases(*four), one) == []
    assert checks.shared_ids(cases(four[0]), many) == []


def test_an_abnormal_wording_on_both_sides_is_told_but_is_no_failure() -> None:
    index = cases(*({"study_id": f"c{i}", "report": text} for i, text in enumerate([NORMAL, IMI, IMI, "Atrial fibrillation."])))
    rows = studies(*({"study_id": f"q{i}", "report": text} for i, text in enumerate([NORMAL, IMI, "Left bundle branch block.", None])))
    leaks = checks.shared_wordings(index, rows)
    assert found(leaks) == [("report", "q1", "c1")]
    assert leaks[0].detail == f"1 x in the split, 2 x in the index: {IMI}"
    assert not leaks[0].fails
    assert all(Leak(kind, "", "", "").fails for kind in checks.KINDS if kind != "report")


def test_a_later_case_that_was_shown() -> None:
    index = cases({"study_id": "undated"}, {"study_id": "early", "time": datetime(2020, 1, 1)}, {"study_id": "late", "time": datetime(2021, 1, 1)})
    ids = np.array([[0, 1, 2], [0, 1, 2], [1, -1, -1], [2, -1, -1]])
    times = [datetime(2020, 6, 1), None, datetime(2020, 1, 1), datetime(2021, 1, 1)]
    leaks = checks.later_cases(["q0", "q1", "q2", "q3"], times, ids, index)
    assert found(leaks) == [("time", "q0", "late")]


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(DataError, match=r"unknown kind 'signals'; did you mean 'signal'"):
        Leak("signals", "", "", "")


# --- recordings


def exported(signal: FloatArray, rng: np.random.Generator) -> FloatArray:
    """The recording as another export of it might be: another gain, a little noise."""
    return np.asarray(1.3 * signal + rng.normal(0, 0.003, signal.shape), np.float32)


def test_a_copy_of_a_recording_is_found_by_both_steps(tiny_data: Prepared, rng: np.random.Generator) -> None:
    signals = tiny_data.load(tiny_data.studies.head(40))
    signals -= np.nanmean(signals, axis=2, keepdims=True)
    there, copy = signals[:30], exported(signals[7], rng)
    ours = np.stack([*signals[30:], copy])
    ids, others = [f"q{i}" for i in range(11)], [f"c{i}" for i in range(30)]
    pairs = checks.candidates(coarse(ours), coarse(there), checks.LIKE_SIGNAL)
    checked = [(i, j, cosine, checks.correlation(ours[i], there[j])) for i, j, cosine in pairs]
    assert (10, 7) in [(i, j) for i, j, _, _ in checked]
    assert found(checks.twins(ids, others, checked)) == [("signal", "q10", "c7")]
    assert checks.twins(["same"], ["same"], [(0, 0, 1.0, 1.0)]) == []
    assert checks.twins(["q"], ["c"], [(0, 0, 1.0, 0.98), (0, 0, 1.0, float("nan"))]) == []


def test_candidates_against_brute_force(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = (rng.normal(size=(n, 4)).astype(np.float32) for n in (23, 17))
    ours[3] = 0
    monkeypatch.setattr(checks, "BLOCK", 5)
    expected = [
        (i, j)
        for i in range(23)
        for j in range(17)
        if ours[i].any() and ours[i] @ theirs[j] / np.linalg.norm(ours[i]) / np.linalg.norm(theirs[j]) >= 0.8
    ]
    with np.errstate(divide="raise", invalid="raise"):
        assert [(i, j) for i, j, _ in checks.candidates(ours, theirs, 0.8)] == expected
    assert 5 < len(expected) < 200


def test_correlation(rng: np.random.Generator) -> None:
    one, other = (rng.normal(size=(12, 200)).astype(np.float32) for _ in range(2))
    centred = [x - x.mean(axis=1, keepdims=True) for x in (one, other)]
    assert checks.correlation(one, other) == pytest.approx(np.corrcoef(*(x.ravel() for x in centred))[0, 1], abs=1e-6)
    assert checks.correlation(one, 2 * one + 3) == pytest.approx(1)
    assert checks.correlation(one, -one) == pytest.approx(-1)
    cut = one.copy()
    cut[:, 100:] = np.nan
    assert checks.correlation(one, cut) == pytest.approx(1)
    shared = [x[:, :100] - x[:, :100].mean(axis=1, keepdims=True) for x in (cut, other)]
    assert checks.correlation(cut + 3, other + 3) == pytest.approx(np.corrcoef(*(x.ravel() for x in shared))[0, 1], abs=1e-5)
    other[:, :100] = np.nan
    assert np.isnan(checks.correlation(cut, other))
    assert np.isnan(checks.correlation(one, np.ones_like(one)))


def test_embeddings_that_are_equal_but_for_rounding(rng: np.random.Generator) -> None:
    theirs = rng.normal(size=(6, 32)).astype(np.float32)
    ours = theirs[[2, 4, 5]] + 1e-3 * rng.normal(size=(3, 32)).astype(np.float32)
    ours[1] = rng.normal(size=32)
    leaks = checks.embedded_twins(["q0", "q1", "c5"], [f"c{i}" for i in range(6)], ours, theirs)
    assert found(leaks) == [("embedding", "q0", "c2")]


# --- end to end


def altered(data: Prepared, out: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Path:
    """The prepared folder with another table of studies."""
    with new_artifact(out, "prepare", data.manifest["config"], {}) as work:
        shutil.copytree(data.path / "ecg", work.path / "ecg")
        change(data.studies).write_parquet(work.path / "studies.parquet")
        work.manifest |= {"fs": data.fs, "studies": len(data.studies), "failed": 0}
    return out


def put(column: str, study: str, value: Any) -> pl.Expr:
    return pl.when(pl.col("study_id") == study).then(pl.lit(value, SCHEMA[column])).otherwise(pl.col(column)).alias(column)


def rebundled(bundle: Path, out: Path, change: Callable[[CaseIndex], CaseIndex]) -> Path:
    """The bundle with another index."""
    manifest = load_manifest(bundle / "index", "index")
    with new_artifact(out / "index", "index", manifest["config"], manifest["inputs"]) as work:
        as_archive(change(Archive.open(bundle / "index", "torch").part("ecg"))).save(work.path)
        work.manifest |= {"fingerprint": manifest["fingerprint"]}
    make_bundle(bundle / "encoder", out / "index", bundle / "generator", out / "bundle")
    return out / "bundle"


def firsts(data: Prepared) -> tuple[dict[str, Any], dict[str, Any]]:
    """A study of the test split and one of training."""
    return data.split("test").row(0, named=True), data.split("train").row(0, named=True)


def leaks_of(bundle: Path, path: Path) -> set[tuple[str, str, str]]:
    return set(found([leak for leak in find_leaks(str(bundle), path, "test", "cpu") if leak.fails]))


def test_a_clean_pair_has_none_and_the_command_ends_with_0(tiny_bundle: Path, tiny_data: Prepared, tmp_path: Path) -> None:
    out = tmp_path / "leaks.json"
    assert check_leaks(str(tiny_bundle), tiny_data.path, "test", out, "cpu") == 0
    made = json.loads(out.read_text())
    assert set(made["counts"]) == set(checks.KINDS)
    assert not any(leak["fails"] for leak in made["leaks"])
    assert sum(made["counts"].values()) == made["counts"]["report"] == len(made["leaks"])
    assert check_leaks(str(tiny_bundle), tiny_data.path, "val", None, "cpu") == 0


def test_planted_ids_are_found_and_the_command_ends_with_1(
    tiny_bundle: Path, tiny_data: Prepared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query, case = firsts(tiny_data)
    path = altered(tiny_data, tmp_path / "data", lambda t: t.with_columns(put("subject_id", query["study_id"], case["subject_id"])))
    assert {("split", query["study_id"], case["study_id"]), ("subject", query["study_id"], case["study_id"])} <= leaks_of(tiny_bundle, path)
    out = tmp_path / "leaks.json"
    assert check_leaks(str(tiny_bundle), path, "test", out, "cpu") == 1
    assert {leak["kind"] for leak in json.loads(out.read_text())["leaks"] if leak["fails"]} >= {"split", "subject"}
    assert f"subject: {query['study_id']} and {case['study_id']}" in capsys.readouterr().out


def test_an_index_of_the_split_itself_is_found(tiny_bundle: Path, tiny_data: Prepared, tmp_path: Path) -> None:
    query, _ = firsts(tiny_data)
    build_index(tiny_data.path, tiny_bundle / "encoder", tmp_path / "index", torch.device("cpu"), "test")
    make_bundle(tiny_bundle / "encoder", tmp_path / "index", tiny_bundle / "generator", tmp_path / "bundle")
    leaks = leaks_of(tmp_path / "bundle", tiny_data.path)
    rows = tiny_data.split("test").filter(pl.col("report").is_not_null())
    assert {("study", study, study) for study in rows["study_id"]} <= leaks
    assert ("subject", query["study_id"], query["study_id"]) in leaks
    assert not {kind for kind, _, _ in leaks} & {"signal", "embedding", "split", "time"}


def test_a_file_name_of_the_index_is_found(tiny_bundle: Path, tiny_data: Prepared, tmp_path: Path) -> None:
    query, case = firsts(tiny_data)

    def named(index: CaseIndex) -> CaseIndex:
        record = pl.when(pl.col("study_id") == case["study_id"]).then(pl.lit("rec_hr")).alias("record")
        return CaseIndex(index.cases.with_columns(record), index.vectors, index.report_vectors, index.fingerprint, "torch")

    bundle = rebundled(tiny_bundle, tmp_path, named)
    path = altered(tiny_data, tmp_path / "data", lambda t: t.with_columns(put("source", query["study_id"], "a/rec_hr.hea")))
    assert ("record", query["study_id"], case["study_id"]) in leaks_of(bundle, path)


def test_a_recording_under_two_names_is_found_by_signal_and_by_embedding(tiny_bundle: Path, tiny_data: Prepared, tmp_path: Path) -> None:
    query, case = firsts(tiny_data)
    path = altered(tiny_data, tmp_path / "data", lambda t: t.with_columns(put("ecg_row", query["study_id"], case["ecg_row"])))
    leaks = leaks_of(tiny_bundle, path)
    assert [leak for leak in leaks if leak[0] == "signal"] == [("signal", query["study_id"], case["study_id"])]
    assert ("embedding", query["study_id"], case["study_id"]) in leaks


def test_a_recording_added_to_the_index_under_another_name_is_found(tiny_bundle: Path, tiny_data: Prepared, tmp_path: Path) -> None:
    """The folder's digest is the index's, but this case is not in the folder: only its embedding can tell."""
    query, _ = firsts(tiny_data)
    rows = tiny_data.studies.filter(pl.col("study_id") == query["study_id"])
    embedding = look(tiny_data, rows, load_towers(tiny_bundle / "encoder")).embedding
    assert embedding is not None

    def more(index: CaseIndex) -> CaseIndex:
        return index.add(cases({"study_id": "disguised", "subject_id": "somebody", "report": NORMAL}), embedding, index.report_vectors[:1])

    assert ("embedding", query["study_id"], "disguised") in leaks_of(rebundled(tiny_bundle, tmp_path, more), tiny_data.path)


def test_a_guard_that_lets_the_future_through_is_found(tiny_bundle: Path, tiny_data: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CaseIndex, "banned", lambda self, asker: np.zeros(0, np.int64))
    leaks = leaks_of(tiny_bundle, tiny_data.path)
    when = dict(tiny_data.studies.select("study_id", "time").iter_rows())
    late = {(study, other) for kind, study, other in leaks if kind == "time"}
    assert late
    assert all(when[other] > when[study] for study, other in late)
    assert {kind for kind, _, _ in leaks} == {"time"}


def test_bad_input(tiny_bundle: Path, tiny_data: Prepared, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--split train"):
        find_leaks(str(tiny_bundle), tiny_data.path, "train", "cpu")
    with pytest.raises(ArtifactError, match="no such folder"):
        find_leaks(str(tiny_bundle), tmp_path / "none", "test", "cpu")
    path = altered(tiny_data, tmp_path / "data", lambda t: t.filter(pl.col("split") != "val"))
    with pytest.raises(DataError, match="expected studies in the val split, got none"):
        find_leaks(str(tiny_bundle), path, "val", "cpu")
    taken = tmp_path / "taken.json"
    taken.write_text("{}")
    with pytest.raises(ArtifactError, match="exists already"):
        check_leaks("no such bundle", tiny_data.path, "test", taken, "cpu")
