"""Few-shot probes: which cases they see, what they learn, and one run of `evaluate_fewshot` on the tiny bundle."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from regen.data_prep.measure import FEATURES
from regen.data_prep.prepared import Prepared
from regen.data_prep.statements import CODES
from regen.encoders.recordings import clean_and_measure
from regen.encoders.store import load_towers
from regen.errors import ArtifactError, ConfigError, DataError
from regen.eval import fewshot
from regen.eval.bootstrap import Resamples, bootstrap
from regen.eval.fewshot import few_shot, nested_cases
from regen.eval.linear_probe import STRENGTH, linear_probe, standardised
from regen.eval.set_metrics import auc
from regen.evaluating.fewshot import SYSTEMS, evaluate_fewshot, frozen_features, random_encoder

IMI, AMI, LVH, SR = (CODES.index(code) for code in ("IMI", "AMI", "LVH", "SR"))


def truth(rng: np.random.Generator, n: int, **positives: int) -> np.ndarray:
    out = np.zeros((n, len(CODES)), bool)
    for code, count in positives.items():
        out[rng.permutation(n)[:count], CODES.index(code)] = True
    return out


@pytest.fixture
def case(rng: np.random.Generator) -> tuple[dict[str, fewshot.Pair], np.ndarray, np.ndarray, list[str | None]]:
    """Two systems, one of which sees IMI and AMI through noise; LVH is rare in test, SR in train."""
    train, test = truth(rng, 300, IMI=60, AMI=20, LVH=60, SR=1), truth(rng, 120, IMI=40, AMI=20, LVH=4, SR=30)
    seeing = tuple((part[:, [IMI, AMI]] * 1.5 + rng.normal(size=(len(part), 2))).astype(np.float32) for part in (train, test))
    blind = tuple(rng.normal(size=(len(part), 2)).astype(np.float32) for part in (train, test))
    return {"seeing": standardised(*seeing), "blind": standardised(*blind)}, train, test, [f"p{i // 2}" for i in range(120)]


def test_a_smaller_training_set_lies_inside_a_larger_one_and_is_balanced(rng: np.random.Generator) -> None:
    labels = rng.random(100) < 0.3
    cases = nested_cases(labels, (8, 1, 4, 64), rng)
    assert list(cases) == [1, 4, 8], "64 positives there are not"
    for k, rows in cases.items():
        assert len(set(rows)) == 2 * k
        assert labels[rows].sum() == k
    assert set(cases[1]) < set(cases[4]) < set(cases[8])


def test_the_probe_is_that_of_scikit_learn(rng: np.random.Generator) -> None:
    train, test = rng.normal(size=(40, 3)), rng.normal(size=(10, 3))
    labels = train[:, 0] > 0
    expected = LogisticRegression(C=STRENGTH, max_iter=1000).fit(train, labels).predict_proba(test)[:, 1]
    assert linear_probe(train, labels, test) == pytest.approx(expected)
    assert not np.allclose(linear_probe(train, labels, test, strength=10.0), expected)


def test_a_probe_that_knows_one_class_says_its_share() -> None:
    train, test = np.zeros((4, 2), np.float32), np.zeros((3, 2), np.float32)
    assert linear_probe(train, np.zeros(4, bool), test).tolist() == [0, 0, 0]
    assert linear_probe(train, np.ones(4, bool), test).tolist() == [1, 1, 1]


def test_features_are_standardised_by_the_training_split_alone() -> None:
    train = np.array([[0.0, 5.0], [2.0, np.nan], [4.0, 7.0]], np.float32)
    one, other = standardised(train, np.array([[2.0, np.nan]], np.float32)), standardised(train, np.array([[900.0, 6.0]], np.float32))
    assert one[0] == pytest.approx(other[0])
    assert one[0].mean(axis=0) == pytest.approx([0, 0], abs=1e-6)
    assert one[1] == pytest.approx(np.zeros((1, 2)), abs=1e-6)
    assert other[1][0, 0] < 5, "clipped to what training holds"


def test_a_statement_counts_where_train_and_test_hold_enough_of_it(case: tuple) -> None:
    made = few_shot(*case, shots=(1, 16, 32, 128), draws=10)
    assert [block.shots for block in made.blocks] == [1, 16, 32]
    assert [set(block.statements) for block in made.blocks] == [{"IMI", "AMI", "SR"}, {"IMI", "AMI"}, {"IMI"}]
    assert all(block.same == ["IMI"] for block in made.blocks)
    assert (made.n, made.patients, made.trained_on) == (120, 60, 300)


def test_the_values_are_means_of_probes_trained_one_by_one(case: tuple) -> None:
    features, train, test, subjects = case
    made = few_shot(*case, seed=5, shots=(4,), repeats=2, draws=30)
    resamples = Resamples(subjects, np.random.default_rng(5), 30)
    for name, (x, y) in features.items():
        values = {}
        for c in (IMI, AMI):
            cases = [nested_cases(train[:, c], (4,), np.random.default_rng([5, repeat, c]))[4] for repeat in (0, 1)]
            scores = [linear_probe(x[rows], train[rows, c], y) for rows in cases]
            values[c] = bootstrap(lambda w, s=scores, c=c: (auc(s[0], test[:, c], w) + auc(s[1], test[:, c], w)) / 2, resamples)
        block = made.blocks[0]
        assert block.statements["IMI"][name].interval == pytest.approx(values[IMI].interval)
        assert block.rows[name]["auroc"].value == pytest.approx((values[IMI].value + values[AMI].value) / 2)
        assert block.rows[name]["auroc"].draws == pytest.approx((values[IMI].draws + values[AMI].draws) / 2)
        assert np.mean(block.repeats[name]) == pytest.approx(block.rows[name]["auroc"].value)


def test_features_that_see_beat_blind_ones_and_gain_from_more_examples(case: tuple) -> None:
    made = few_shot(*case, shots=(1, 16), draws=200)
    few, many = (block.rows["seeing"]["auroc_same"].value for block in made.blocks)
    assert few < many
    low, _ = made.blocks[1].rows["seeing"]["auroc"].minus(made.blocks[1].rows["blind"]["auroc"]).interval
    assert low > 0


def test_the_json_is_whole_and_the_seed_decides(case: tuple) -> None:
    first, again, other = (few_shot(*case, seed=seed, shots=(2, 8), draws=20).to_dict() for seed in (1, 1, 2))
    assert first == again != other
    block = first["blocks"][1]
    row = block["systems"]["seeing"]["auroc"]
    assert row["low"] <= row["value"] <= row["high"]
    gap = row["value"] - block["systems"]["blind"]["auroc"]["value"]
    assert block["differences"]["blind"]["auroc"]["value"] == pytest.approx(gap, abs=2e-6)
    assert len(block["repeats"]["blind"]) == fewshot.REPEATS
    json.dumps(first, allow_nan=False)


def test_what_cannot_be_trained_is_said(case: tuple) -> None:
    features, train, test, subjects = case
    for shots, repeats in (((), 3), ((0, 1), 3), ((1,), 0)):
        with pytest.raises(ConfigError, match="few shots: expected numbers of at least 1 and at least one repeat"):
            few_shot(*case, shots=shots, repeats=repeats)
    with pytest.raises(DataError, match="expected a statement with 100 positives"):
        few_shot(*case, shots=(100,))
    with pytest.raises(DataError, match="at least one system"):
        few_shot({}, train, test, subjects)
    with pytest.raises(DataError, match="blind: expected features of 300 training and 120 test studies, got 299 and 120"):
        few_shot(features | {"blind": (features["blind"][0][1:], features["blind"][1])}, train, test, subjects)


@pytest.fixture(scope="module")
def made(tiny_bundle: Path, tiny_data: Prepared, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, fewshot.FewShot, str]:
    """One run: the file, what was returned, and what was printed."""
    out = tmp_path_factory.mktemp("fewshot") / "curve.json"
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rich.console.Console.print", lambda self, *a, **k: printed.extend(str(x) for x in a))
        table = evaluate_fewshot(tiny_data.path, "test", str(tiny_bundle), out, "cpu", 0, False, (1, 8), draws=50)
    return out, table, "\n".join(printed)


def test_one_run_scores_the_encoder_beside_both_floors(made: tuple[Path, fewshot.FewShot, str], tiny_data: Prepared) -> None:
    table = json.loads(made[0].read_text())
    assert (table["split"], table["blocks"][0]["n"]) == ("test", len(tiny_data.split("test")))
    assert [block["shots"] for block in table["blocks"]] == [1, 8]
    for block in table["blocks"]:
        assert list(block["systems"]) == list(SYSTEMS)
        assert block["statements_in_macro"] >= 1
        for row in block["systems"].values():
            assert 0 <= row["auroc"]["low"] <= row["auroc"]["value"] <= row["auroc"]["high"] <= 1
    values = {name: row["auroc_same"]["value"] for name, row in table["blocks"][1]["systems"].items()}
    assert len(set(values.values())) == 3, "three systems, three results"
    assert values["hand-made features"] > 0.6, "8 + 8 synthetic cases are enough for a ruler"
    for other in SYSTEMS[1:]:
        assert f"encoder minus {other}: AUROC k = 1: " in made[2]


def test_markdown_names_every_system_and_k(made: tuple[Path, fewshot.FewShot, str]) -> None:
    from regen.evaluating.fewshot import to_markdown

    text = to_markdown(made[1])
    assert "| system | k = 1 | k = 8 |" in text
    assert all(text.count(f"| {name} |") == 2 for name in SYSTEMS)
    assert "EHRSHOT" in text
    assert "nan" not in text


def test_the_features_are_those_that_the_head_reads(tiny_bundle: Path, tiny_data: Prepared) -> None:
    """One recording by hand, out of an order that is not the stored one."""
    rows = tiny_data.split("test")[::-1][:9]
    towers = load_towers(tiny_bundle / "encoder")
    features, measures = frozen_features(tiny_data, rows, [towers.ecg])
    cleaned, expected = clean_and_measure(tiny_data.load(rows)[4:5], tiny_data.fs)
    with torch.no_grad():
        own = towers.ecg.features(*towers.ecg.tokens(torch.from_numpy(cleaned))).numpy()
    assert features.shape == (9, towers.ecg.feature_width)
    assert features[4] == pytest.approx(own[0], abs=1e-4)
    assert measures.shape == (9, FEATURES)
    np.testing.assert_allclose(measures[4], expected[0], rtol=1e-5)


def test_the_random_encoder_has_the_shape_and_not_the_weights(tiny_bundle: Path) -> None:
    trained = load_towers(tiny_bundle / "encoder").ecg
    state = torch.random.get_rng_state()
    one, again, other = (random_encoder(trained, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert {k: v.shape for k, v in one.items()} == {k: v.shape for k, v in trained.state_dict().items()}
    weight = "patch.weight"
    assert torch.equal(one[weight], again[weight])
    assert not torch.equal(one[weight], other[weight])
    assert not torch.equal(one[weight], trained.state_dict()[weight])


def test_bad_options_are_refused_before_anything_runs(made: tuple[Path, fewshot.FewShot, str], tiny_data: Prepared, tiny_bundle: Path) -> None:
    with pytest.raises(ConfigError, match="--split train"):
        evaluate_fewshot(tiny_data.path, "train", "no such bundle", None, "cpu", 0, False)
    with pytest.raises(ArtifactError, match="exists already"):
        evaluate_fewshot(tiny_data.path, "test", "no such bundle", made[0], "cpu", 0, False)
    with pytest.raises(ArtifactError, match="no such folder"):
        evaluate_fewshot(tiny_data.path, "test", "no such bundle", None, "cpu", 0, False)
    with pytest.raises(ConfigError, match="got shots \\[0\\]"):
        evaluate_fewshot(tiny_data.path, "test", str(tiny_bundle), None, "cpu", 0, False, (0,))
    assert not math.isnan(made[1].blocks[0].rows["encoder"]["auroc"].value)
