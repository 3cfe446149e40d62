"""`regen eval retrieval` on the tiny bundle, and its rows against brute force."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from regen.batch import prepared_studies
from regen.data_prep.measure import FEATURES
from regen.data_prep.prepared import Prepared
from regen.encoders.head import FeatureScale
from regen.encoders.store import load_towers
from regen.errors import ArtifactError, ConfigError, DataError
from regen.eval.baselines import Views, look
from regen.eval.predictions import References
from regen.evaluating.retrieval import Retrieval, case_scores, compare, evaluate_retrieval, report_ranks
from regen.pipeline import Pipeline

SYSTEMS = ["encoder", "random cases", "nearest raw signal", "nearest hand-made features"]
KS = (1, 5, 10)


@pytest.fixture(scope="module")
def made(tiny_bundle: Path, tiny_data: Prepared, tmp_path_factory: pytest.TempPathFactory) -> tuple[Retrieval, Path]:
    out = tmp_path_factory.mktemp("retrieval") / "retrieval.json"
    return evaluate_retrieval(tiny_data.path, "test", str(tiny_bundle), (10, 1, 5), out, "cpu", 0, False), out


def test_every_row_and_column_has_its_value_and_interval(made: tuple[Retrieval, Path], tiny_data: Prepared) -> None:
    written = json.loads(made[1].read_text())
    rows, train = tiny_data.split("test"), tiny_data.split("train")
    assert written["ks"] == [1, 5, 10]
    assert written["archive"] == len(train)
    assert written["candidates"] == rows["report"].n_unique()
    names = [block["name"] for block in written["blocks"]]
    assert names[:4] == ["all", "new in training", "not NORM", "new and not NORM"]
    assert any(name.startswith("age ") for name in names)
    whole = written["blocks"][0]
    assert whole["n"] == len(rows) >= whole["judged"] > 0
    assert list(whole["cases"]) == SYSTEMS
    assert list(whole["reports"]) == ["encoder", "most frequent first", "random order (computed)"]
    for row in whole["cases"].values():
        assert set(row) == {f"{name}@{k}" for name in ("precision", "recall", "ap", "ndcg") for k in KS} | {"map"}
        for cell in row.values():
            assert 0 <= cell["low"] <= cell["value"] <= cell["high"] <= 1
    assert whole["reports"]["random order (computed)"]["r@1"]["value"] == pytest.approx(1 / written["candidates"], abs=1e-6)
    for k in KS:
        assert whole["reports"]["encoder"]["r@1"]["value"] <= whole["reports"]["encoder"][f"r@{k}"]["value"] <= 1
    difference = whole["cases_differences"]["random cases"]["map"]
    values = [whole["cases"][name]["map"]["value"] for name in ("encoder", "random cases")]
    assert difference["value"] == pytest.approx(values[0] - values[1], abs=2e-6)
    assert difference["low"] <= difference["value"] <= difference["high"]


def test_the_encoder_finds_what_the_product_shows(made: tuple[Retrieval, Path], pipeline: Pipeline, tiny_data: Prepared) -> None:
    """The first case by the pipeline's own search without dates, and whether it shares a statement, study by study."""
    statements = {row["study_id"]: {s["code"] for s in row["statements"]} - {"SR"} for row in tiny_data.studies.to_dicts()}
    undated = tiny_data.split("test").with_columns(time=pl.lit(None, pl.Datetime("us")))
    hit = []
    for study in prepared_studies(tiny_data, undated):
        own = {r["study_id"] for r in tiny_data.split("train").to_dicts() if r["subject_id"] == study.subject_id}
        assert not own, "subjects are split"
        if any(statements[s] & statements[study.study_id] for s in tiny_data.split("train")["study_id"]):
            first = pipeline.search(study, 1)[0].study_id
            hit.append(bool(statements[first] & statements[study.study_id]))
    assert made[0].block("all").judged == len(hit)
    assert made[0].block("all").cases["encoder"]["precision@1"].value == pytest.approx(np.mean(hit), abs=1.5 / len(hit))


def views(rng: np.random.Generator, n: int) -> Views:
    measures = rng.normal(size=(n, FEATURES)).astype(np.float32)
    measures[0, 3] = np.nan
    return Views(rng.normal(size=(n, 3000)).astype(np.float32), measures, rng.normal(size=(n, 16)).astype(np.float32))


def test_the_scores_order_cases_as_their_names_say(rng: np.random.Generator) -> None:
    query, cases = views(rng, 5), views(rng, 30)
    scores = case_scores(query, cases, 3)
    assert list(scores) == SYSTEMS

    def unit(part: np.ndarray) -> np.ndarray:
        return np.asarray(part / np.linalg.norm(part, axis=1, keepdims=True))

    assert query.embedding is not None
    assert cases.embedding is not None
    scale = FeatureScale.fit(cases.measures)
    ours, theirs = (scale(torch.from_numpy(part)).numpy() for part in (query.measures, cases.measures))
    expected = {
        "encoder": unit(query.embedding) @ unit(cases.embedding).T,
        "nearest raw signal": unit(query.signal) @ unit(cases.signal).T,
        "nearest hand-made features": -np.linalg.norm(ours[:, None] - theirs[None], axis=2),
    }
    for name, slow in expected.items():
        fast = np.concatenate([scores[name](slice(0, 2)), scores[name](slice(2, 5))])
        np.testing.assert_array_equal(fast.argsort(axis=1), slow.argsort(axis=1))
    chance = scores["random cases"](slice(0, 5))
    np.testing.assert_array_equal(chance, case_scores(query, cases, 3)["random cases"](slice(0, 5)))
    assert (chance != case_scores(query, cases, 4)["random cases"](slice(0, 5))).all()
    with pytest.raises(DataError, match="expected views with embeddings"):
        case_scores(Views(query.signal, query.measures), cases, 0)


def test_own_report_is_ranked_among_the_distinct_ones(tiny_bundle: Path) -> None:
    towers = load_towers(tiny_bundle / "encoder")
    texts = ["Atrial fibrillation.", "Sinus rhythm. Normal ECG.", "Left bundle branch block."]
    vectors = towers.text.encode(texts)
    query = Views(np.zeros((3, 3000), np.float32), np.zeros((3, FEATURES), np.float32), vectors[[1, 0, 0]])
    own = np.array([1, 2, -1])
    ranks = report_ranks(query, texts, own, towers, Counter({texts[1]: 5, texts[0]: 2}))
    assert ranks["encoder"][0] == 1
    assert ranks["encoder"][1] > 1
    assert np.isnan(ranks["encoder"][2])
    np.testing.assert_array_equal(ranks["most frequent first"], [1, 3, np.nan])


def test_the_own_subject_is_left_out_and_the_seed_decides(tiny_bundle: Path, tiny_data: Prepared) -> None:
    """Training against itself: with subjects each study must not find itself, without them it would."""
    train = tiny_data.split("train").head(40)
    towers = load_towers(tiny_bundle / "encoder")
    seen, references = look(tiny_data, train, towers), References.from_rows(train)

    def run(names: References, seed: int) -> Retrieval:
        return compare(train, names, references, (seen, seen), towers, [], (1,), seed, 50)

    barred = run(references, 0).block("all").cases["encoder"]["precision@1"].value
    disguised = replace(references, study_ids=[f"x{i}" for i in range(40)], subjects=[None] * 40)
    assert run(disguised, 0).block("all").cases["encoder"]["precision@1"].value == 1
    assert barred < 1
    random = [run(references, seed).block("all").cases["random cases"]["map"].value for seed in (0, 0, 1)]
    assert random[0] == random[1] != random[2]


def test_markdown_holds_every_group(made: tuple[Retrieval, Path], tiny_bundle: Path, tiny_data: Prepared, tmp_path: Path) -> None:
    out = tmp_path / "retrieval.md"
    evaluate_retrieval(tiny_data.path, "test", str(tiny_bundle), KS, out, "cpu", 0, False)
    text = out.read_text()
    assert text.count("\n### ") + text.startswith("### ") == len(made[0].blocks)
    assert f"| encoder | {100 * made[0].block('all').cases['encoder']['precision@1'].value:.1f} [" in text
    assert "distinct reports of the split" in text


def test_bad_input(made: tuple[Retrieval, Path], tiny_bundle: Path, tiny_data: Prepared) -> None:
    def run(split: str = "test", ks: tuple[int, ...] = KS, out: Path | None = None, bundle: str = str(tiny_bundle)) -> None:
        evaluate_retrieval(tiny_data.path, split, bundle, ks, out, "cpu", 0, False)

    with pytest.raises(ConfigError, match="--split train"):
        run(split="train")
    with pytest.raises(ConfigError, match=r"-k: expected at least one k, each of at least 1, got 0, 5"):
        run(ks=(0, 5))
    with pytest.raises(ConfigError, match="got none"):
        run(ks=())
    with pytest.raises(ArtifactError, match="exists already"):
        run(out=made[1], bundle="no such bundle")
    with pytest.raises(DataError, match=r"unknown group 'not NORN'; did you mean 'not NORM'"):
        made[0].block("not NORN")
