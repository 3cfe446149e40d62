"""The index: exact, never shows a study to itself, its subject or its past, and gives k where k exist."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from models import as_archive

from regen.artifact import new_artifact
from regen.data_prep.prepared import Prepared
from regen.errors import ArtifactError, ConfigError, DataError, MissingExtraError
from regen.index.archive import Archive
from regen.index.backends import BACKENDS, has_faiss, import_faiss, make_backend
from regen.index.build import build_index
from regen.index.case_index import Asker, CaseIndex
from regen.index.cases import CASES, cases_from
from regen.study import FloatArray

N, DIM = 400, 12
START = datetime(2020, 1, 1)


def unit(rng: np.random.Generator, rows: int) -> FloatArray:
    out = rng.normal(size=(rows, DIM)).astype(np.float32)
    return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True), np.float32)


def make_cases(numbers: range, dated: bool = True) -> pl.DataFrame:
    """Three studies a subject, one a day."""
    rows = [
        {
            "study_id": f"s{i}", "subject_id": f"p{i // 3}", "time": START + timedelta(days=i) if dated else None, "report": f"Report {i}.",
            "statements": [{"code": "NORM", "likelihood": 1.0}], "age_band": "60-69", "sex": "female", "language": "en", "source": "test",
            "record": None,
        }
        for i in numbers
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=CASES)


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "faiss" and not has_faiss():
        pytest.skip("faiss is not installed")
    return str(request.param)


@pytest.fixture
def index(rng: np.random.Generator, backend: str) -> CaseIndex:
    return CaseIndex(make_cases(range(N)), unit(rng, N), unit(rng, N), "f" * 64, backend)


def by_force(vectors: FloatArray, query: FloatArray, k: int, banned: set[int]) -> tuple[list[int], list[float]]:
    scored = sorted(((float(v @ query), i) for i, v in enumerate(vectors) if i not in banned), reverse=True)[:k]
    return [i for _, i in scored], [score for score, _ in scored]


@pytest.mark.parametrize("k", [1, 5, 60])
def test_search_is_exact_whatever_is_banned(index: CaseIndex, rng: np.random.Generator, k: int) -> None:
    queries = unit(rng, 40)
    banned: list[npt.NDArray[np.int64]] = [np.sort(rng.choice(N, size, replace=False)) for size in rng.choice([0, 1, 7, 70, 300, 395], 40)]
    ids, scores = make_backend(index._options[0], index.vectors).search(queries, k, banned)
    assert (ids.shape, scores.shape, scores.dtype) == ((40, k), (40, k), np.float32)
    for i in range(40):
        expected, cosines = by_force(index.vectors, queries[i], k, set(banned[i].tolist()))
        there = len(expected)
        assert there == min(k, N - len(banned[i]))
        assert ids[i, :there].tolist() == expected
        np.testing.assert_allclose(scores[i, :there], cosines, atol=1e-5)
        assert (ids[i, there:] == -1).all()
        assert np.isnan(scores[i, there:]).all()


def test_k_come_back_where_the_nearest_hundreds_are_banned(rng: np.random.Generator, backend: str) -> None:
    """The nearest 300 all belong to the asker."""
    query = unit(rng, 1)
    vectors = unit(rng, N)
    nearest = np.argsort(-(vectors @ query[0]))[:300]
    cases = make_cases(range(N)).with_row_index()
    cases = cases.with_columns(subject_id=pl.when(pl.col("index").is_in(nearest.tolist())).then(pl.lit("me")).otherwise(pl.col("subject_id")))
    index = CaseIndex(cases.drop("index"), vectors, unit(rng, N), "f", backend)
    ids, scores = index.search(query, 10, [Asker("q", "me")])
    expected, _ = by_force(vectors, query[0], 10, set(nearest.tolist()))
    assert ids[0].tolist() == expected
    assert (np.diff(scores[0]) <= 0).all()


def test_scores_are_cosines(index: CaseIndex) -> None:
    ids, scores = index.search(index.vectors[:5], 3, [Asker()] * 5)
    assert ids[:, 0].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(scores[:, 0], 1, atol=1e-5)
    opposite, lowest = index.search(-index.vectors[:1], N, [Asker()])
    assert opposite[0, -1] == 0
    assert lowest[0, -1] == pytest.approx(-1, abs=1e-5)


def found(index: CaseIndex, row: int, asker: Asker) -> set[str]:
    ids, _ = index.search(index.vectors[row : row + 1], N, [asker])
    return set(index.cases["study_id"][[i for i in ids[0].tolist() if i >= 0]].to_list())


def test_what_an_asker_may_see(index: CaseIndex) -> None:
    everything = {f"s{i}" for i in range(N)}
    time = START + timedelta(days=100)
    assert found(index, 100, Asker()) == everything
    assert found(index, 100, Asker("s100")) == everything - {"s100"}
    assert found(index, 100, Asker("s100", "p33")) == everything - {"s99", "s100", "s101"}
    earlier = {f"s{i}" for i in range(101)}
    assert found(index, 100, Asker("s100", "p33", time)) == earlier - {"s99", "s100"}
    assert found(index, 100, Asker("s100", "p33", time, own_subject=True)) == earlier - {"s100"}, "the study itself never, later ones never"
    assert found(index, 100, Asker("new", "nobody", START - timedelta(days=1))) == set()


def test_hits_say_why_they_were_allowed(index: CaseIndex) -> None:
    hits = index.hits(index.vectors[9], 4, Asker("s9", "p3", START + timedelta(days=9)))
    assert [h.rank for h in hits] == [1, 2, 3, 4]
    assert all(h.allowed == "another study id; another subject; not dated after the query" for h in hits)
    assert all(h.report == f"Report {h.study_id[1:]}." and h.statements == {"NORM": 1.0} for h in hits)
    assert "subject of the query unknown" in index.why(Asker())
    assert "subject of the query unknown" in index.why(Asker("s9", "s9")), "what prepare writes where it knows no subject"
    assert index.why(Asker("s9", records=("rec",))).startswith("another study id and file name;")
    assert "time of the query unknown" in index.why(Asker("s1", "p0"))


def test_shifted_dates_are_not_compared(rng: np.random.Generator) -> None:
    index = CaseIndex(make_cases(range(5), dated=False), unit(rng, 5), unit(rng, 5), "f", "torch")
    assert found(index, 0, Asker("q", "q", START - timedelta(days=9))) == {f"s{i}" for i in range(5)}
    assert "no comparable dates" in index.why(Asker("q", "q", START))


def test_queries_are_checked(index: CaseIndex) -> None:
    for queries, askers, k, message in (
        (index.vectors[:2] * 1.5, 2, 3, "expected unit vectors, got length 1.500 in row 0"),
        (np.full((1, DIM), np.nan, np.float32), 1, 3, "expected unit vectors, got length nan"),
        (index.vectors[:2, :5], 2, 3, r"expected shape \(2, 12\), got \(2, 5\)"),
        (index.vectors[:2], 1, 3, "one asker a query, got 1 for 2"),
        (index.vectors[:2], 2, 0, "k of at least 1, got 0"),
    ):
        with pytest.raises(DataError, match=message):
            index.search(queries, k, [Asker()] * askers)


def test_adding_and_removing_give_a_new_index_or_nothing(index: CaseIndex, rng: np.random.Generator) -> None:
    before = (len(index), index.vectors.copy(), index.cases.clone())
    more = unit(rng, 2)
    bigger = index.add(make_cases(range(N, N + 2)), more, more)
    assert len(bigger) == N + 2
    assert found(bigger, N + 1, Asker()) - found(index, 0, Asker()) == {f"s{N}", f"s{N + 1}"}
    smaller = bigger.remove(["s0", f"s{N}"])
    assert len(smaller) == N
    assert not {"s0", f"s{N}"} & found(smaller, 0, Asker())
    np.testing.assert_array_equal(smaller.vectors[-1], more[1])
    for cases, vectors, message in (
        (make_cases(range(5, 7)), more, "got 's5' twice"),
        (make_cases(range(N, N + 2)), more * 2, "unit vectors, got length 2"),
        (make_cases(range(N, N + 3)), more, "expected shape"),
        (make_cases(range(N, N + 2)).drop("report"), more, "expected the columns"),
    ):
        with pytest.raises(DataError, match=message):
            index.add(cases, vectors, vectors)
    with pytest.raises(DataError, match="remove: expected study ids of the index, got nobody"):
        index.remove(["s1", "nobody"])
    assert len(index) == before[0]
    np.testing.assert_array_equal(index.vectors, before[1])
    assert index.cases.equals(before[2])


def test_an_emptied_index_answers_with_nothing(index: CaseIndex) -> None:
    empty = index.remove([f"s{i}" for i in range(N)])
    ids, scores = empty.search(index.vectors[:2], 3, [Asker("s1"), Asker()])
    assert (ids == -1).all()
    assert np.isnan(scores).all()


def test_saved_and_opened_again(index: CaseIndex, tmp_path: Path) -> None:
    with new_artifact(tmp_path / "index", "index", {}, {}) as work:
        as_archive(index).save(work.path)
        work.manifest["fingerprint"] = index.fingerprint
    again = Archive.open(tmp_path / "index", index._options[0]).part("ecg")
    assert again.fingerprint == index.fingerprint
    assert again.cases.equals(index.cases)
    np.testing.assert_array_equal(again.vectors, index.vectors)
    np.testing.assert_allclose(again.report_vectors, index.report_vectors, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(again.report_vectors, axis=1), 1, atol=1e-5)
    asker = [Asker("s7", "p2")]
    assert again.search(index.vectors[7:8], 9, asker)[0].tolist() == index.search(index.vectors[7:8], 9, asker)[0].tolist()


def test_an_index_whose_parts_differ_in_number_is_refused(index: CaseIndex, tmp_path: Path) -> None:
    with new_artifact(tmp_path / "index", "index", {}, {}) as work:
        as_archive(index).save(work.path)
        index.cases[:-1].write_parquet(work.path / "cases.parquet")
        work.manifest["fingerprint"] = "f"
    with pytest.raises(ArtifactError, match=r"vectors: expected shape \(399"):
        Archive.open(tmp_path / "index")


def test_an_index_of_another_encoder_is_refused_with_the_command_that_mends_it(tiny_bundle: Path, tiny_data: Prepared, tmp_path: Path) -> None:
    from models import CPU, writer_recipe

    from regen.generators.train import train_writer

    index = Archive.open(tiny_bundle / "index").part("ecg")
    with new_artifact(tmp_path / "index", "index", {}, {}) as work:
        as_archive(index).save(work.path)
        work.manifest["fingerprint"] = "77c1" * 16
    with pytest.raises(ArtifactError, match=r"built with encoder 77c177c1, this one is .*; rebuild: regen index build"):
        train_writer(writer_recipe(), tiny_data.path, tiny_bundle / "encoder", tmp_path / "index", tmp_path / "out", CPU)
    assert not (tmp_path / "out").exists()


def test_building_an_index_takes_the_training_split_alone(tiny_bundle: Path, tiny_data: Prepared, tmp_path: Path) -> None:
    index = Archive.open(tiny_bundle / "index").part("ecg")
    assert index.cases["study_id"].to_list() == tiny_data.split("train")["study_id"].to_list()
    manifest = json.loads((tiny_bundle / "index" / "manifest.json").read_text())
    assert manifest["cases"] == len(index)
    with pytest.raises(ConfigError, match="expected one of train, val, test, got 'dev'"):
        build_index(tiny_data.path, tiny_bundle / "encoder", tmp_path / "out", split="dev")
    with new_artifact(tmp_path / "empty", "prepare", {}, {}) as work:
        tiny_data.studies.filter(pl.col("split") == "train").write_parquet(work.path / "studies.parquet")
        work.manifest |= {name: tiny_data.manifest[name] for name in ("fs", "pixels")}
    with pytest.raises(DataError, match="got none"):
        build_index(tmp_path / "empty", tiny_bundle / "encoder", tmp_path / "out", split="test")
    assert not (tmp_path / "out").exists()


def test_cases_hold_bands_instead_of_ages(tiny_data: Prepared) -> None:
    rows = tiny_data.studies[:4].with_columns(age=pl.Series([67.0, 93.0, None, 7.0]))
    cases = cases_from(tiny_data, rows)
    assert cases["age_band"].to_list() == ["60-69", "90+", None, "0-9"]
    assert cases.columns == list(CASES)
    with pytest.raises(DataError, match="expected a report for every case"):
        cases_from(tiny_data, rows.with_columns(report=pl.lit(None, pl.String)))


def test_without_faiss_the_pip_line_is_named_and_torch_searches(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'regen-ecg\[cpu\]'"):
        import_faiss()
    with pytest.raises(MissingExtraError, match="pip install"):
        make_backend("faiss", unit(rng, 3))
    assert type(make_backend("auto", unit(rng, 3))) is BACKENDS["torch"]
    with pytest.raises(ConfigError, match=r"got 'fais'; did you mean 'faiss'\?"):
        make_backend("fais", unit(rng, 3))
