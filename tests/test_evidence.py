"""The evidence model: votes and agreement against loops, a fit that helps, decisions that hold together."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from regen.data_prep.statements import CODES
from regen.generators.evidence import EvidenceModel, agreement, votes_of
from regen.study import FloatArray

N = len(CODES)


def cohort(rng: np.random.Generator, cases: int = 300) -> FloatArray:
    """Labels in which the first two statements exclude each other, the third and fourth are independent, the rest absent."""
    labels = np.zeros((cases, N), np.float32)
    first = rng.random(cases) < 0.5
    labels[:, 0], labels[:, 1] = first, ~first
    labels[:, 2:4] = rng.random((cases, 2)) < 0.3
    return labels


def seen(labels: FloatArray, rng: np.random.Generator, noise: float, scale: float = 2.0) -> FloatArray:
    """Probabilities of a head that is right with noise, and too sure."""
    logits = scale * (2 * (labels * 2 - 1) + rng.normal(0, noise, labels.shape))
    return np.asarray(1 / (1 + np.exp(-logits)), np.float32)


def log_loss(p: FloatArray, y: FloatArray) -> float:
    p = p.astype(np.float64).clip(1e-7, 1 - 1e-7)
    return float(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean())


def shares(labels: FloatArray, rng: np.random.Generator) -> FloatArray:
    """What 20 neighbours say, of whom most are like the study."""
    chance = 0.7 * labels + 0.3 * labels.mean(axis=0)
    return np.asarray(rng.binomial(20, chance) / 20, np.float32)


@pytest.fixture
def fitted(rng: np.random.Generator) -> tuple[EvidenceModel, FloatArray, FloatArray, FloatArray]:
    """A model, and head, votes and labels of studies that it was not fitted on."""
    training, labels = cohort(rng), cohort(rng)
    head, votes = seen(labels, rng, 3.0), shares(labels, rng)
    nearest = rng.uniform(0.5, 1, len(labels)).astype(np.float32)
    half = slice(0, 150)
    model = EvidenceModel.fit(head[half], votes[half], labels[half], training, nearest[half])
    return model, head[150:], votes[150:], labels[150:]


def test_votes_against_loops(rng: np.random.Generator) -> None:
    statements = (rng.random((20, N)) < 0.2).astype(np.float32) * rng.uniform(0.1, 1, (20, N)).astype(np.float32)
    statements[3] = statements[8] = np.nan
    ids = rng.integers(0, 20, (6, 7))
    scores = np.sort(rng.uniform(-1, 1, (6, 7)).astype(np.float32))[:, ::-1].copy()
    ids[0, 4:], scores[0, 4:] = -1, np.nan
    ids[1], scores[1] = -1, np.nan
    got = votes_of(statements, ids, scores, 0.2)
    for i in range(6):
        weights = [0.0 if j < 0 or j in (3, 8) else math.exp(s / 0.2) for j, s in zip(ids[i], scores[i], strict=True)]
        for code in range(N):
            said = sum(w for w, j in zip(weights, ids[i], strict=True) if w and statements[j, code] > 0)
            assert got[i, code] == pytest.approx(said / sum(weights) if sum(weights) else 0.0, abs=1e-5)


@pytest.mark.parametrize("temperature", [0.005, 0.1, 5.0])
def test_distant_neighbours_still_have_all_the_votes(temperature: float) -> None:
    statements = np.zeros((2, N), np.float32)
    statements[:, 4] = 1
    got = votes_of(statements, np.array([[0, 1]]), np.array([[-0.6, -0.7]], np.float32), temperature)
    assert got[0, 4] == pytest.approx(1.0)


def test_agreement_against_loops(rng: np.random.Generator) -> None:
    statements = (rng.random((9, N)) < 0.1).astype(np.float32)
    statements[2] = np.nan
    ids = np.array([[0, 1, 2, -1], [5, 5, 8, 3]])
    probabilities = rng.random((2, N)).astype(np.float32)
    got = agreement(statements, ids, probabilities)
    for i in range(2):
        for j, case in enumerate(ids[i]):
            if case in (-1, 2):
                assert got[i, j] == -1
                continue
            shared = sum(float(p) for p, s in zip(probabilities[i], statements[case], strict=True) if s > 0)
            assert got[i, j] == pytest.approx(2 * shared / (statements[case].sum() + probabilities[i].sum()), rel=1e-5)


def test_fitting_lowers_the_log_loss_and_neighbours_lower_it_further(fitted: tuple[EvidenceModel, FloatArray, FloatArray, FloatArray]) -> None:
    model, head, votes, labels = fitted
    raw, alone = log_loss(head, labels), log_loss(model.probabilities(head, None), labels)
    both = log_loss(model.probabilities(head, votes), labels)
    assert alone < 0.9 * raw
    assert both < 0.95 * alone
    assert (model.weights > 0).all()


def test_votes_that_mislead_are_left_out(rng: np.random.Generator) -> None:
    """Not weighed against, and the shifts are those that fit without them."""
    training, labels = cohort(rng), cohort(rng)
    head = seen(labels, rng, 3.0)
    votes = shares(1 - labels, rng)
    model = EvidenceModel.fit(head, votes, labels, training, np.ones(len(labels), np.float32))
    assert model.weights[1] == 0
    np.testing.assert_allclose(model.probabilities(head, votes), model.probabilities(head, None), atol=1e-3)


def test_uncoded_studies_and_cases_are_left_out_of_the_fit(rng: np.random.Generator) -> None:
    training, labels = cohort(rng, 80), cohort(rng, 80)
    head, votes, nearest = seen(labels, rng, 3.0), shares(labels, rng), np.linspace(0, 1, 80, dtype=np.float32)
    plain = EvidenceModel.fit(head, votes, labels, training, nearest)
    holes = np.full((10, N), np.nan, np.float32)
    more = EvidenceModel.fit(
        np.concatenate([head, head[:10]]), np.concatenate([votes, votes[:10]]), np.concatenate([labels, holes]),
        np.concatenate([training, holes]), np.concatenate([nearest, nearest[:10]]),
    )  # fmt: skip
    np.testing.assert_allclose(more.probabilities(head, votes), plain.probabilities(head, votes), atol=1e-5)
    np.testing.assert_array_equal(more.exclusive, plain.exclusive)


def test_a_decision_is_never_empty_and_never_holds_two_that_exclude_each_other(
    fitted: tuple[EvidenceModel, FloatArray, FloatArray, FloatArray], rng: np.random.Generator
) -> None:
    model, *_ = fitted
    assert model.exclusive[0, 1]
    assert model.exclusive[1, 0]
    assert not model.exclusive[2, 3]
    assert not model.exclusive.diagonal().any()
    for scale in (0.001, 0.3, 1.0):
        probabilities = (rng.random((200, N)) * scale).astype(np.float32)
        for retrieved in (True, False):
            positive = model.decide(probabilities, retrieved)
            assert positive.any(axis=1).all()
            assert not (positive[:, 0] & positive[:, 1]).any()


def test_of_two_that_exclude_each_other_the_likelier_stays(fitted: tuple[EvidenceModel, FloatArray, FloatArray, FloatArray]) -> None:
    model, *_ = fitted
    probabilities = np.zeros((2, N), np.float32)
    free = CODES.index("PVC")
    probabilities[:, 0], probabilities[:, 1], probabilities[:, free] = [0.9, 0.7], [0.7, 0.9], 0.95
    model.thresholds[[0, 1, free]] = 0.5
    positive = model.decide(probabilities)
    assert [np.flatnonzero(row).tolist() for row in positive] == [[0, free], [1, free]]


def test_the_limit_is_undercut_by_the_share_that_was_asked_for(rng: np.random.Generator) -> None:
    labels = cohort(rng, 200)
    nearest = rng.uniform(0, 1, 200).astype(np.float32)
    model = EvidenceModel.fit(labels * 0.9 + 0.05, labels * 0.9, labels, labels, nearest, rare=0.1)
    assert (nearest < model.limit[0]).sum() == 20


def test_accord_by_hand(rng: np.random.Generator) -> None:
    """The head alone sees 0.5, 0.5, 0, 0; two sets of cases state 1, 0, 0, 0 and 0, 0, 1, 1: 2 x 0.5 / (1 + 1), and nothing."""
    model = EvidenceModel.fit(cohort(rng), cohort(rng), cohort(rng), cohort(rng), np.ones(300, np.float32))
    head = np.full((2, N), 0.0, np.float32)
    head[:, :2] = 0.5
    model.alone_weight, model.alone_shift = np.ones(1, np.float32), np.zeros(N, np.float32)
    votes = np.zeros((2, N), np.float32)
    votes[0, 0], votes[1, 2:4] = 1.0, 1.0
    np.testing.assert_allclose(model.accord(head, votes), [0.5, 0.0], atol=0.02)
    np.testing.assert_allclose(model.accord(head, model.probabilities(head, None)), 1.0, atol=1e-6)


def test_few_of_the_studies_it_was_fitted_on_are_out_of_accord(rng: np.random.Generator) -> None:
    training, labels = cohort(rng), cohort(rng)
    head, votes = seen(labels, rng, 1.0), shares(labels, rng)
    model = EvidenceModel.fit(head, votes, labels, training, np.ones(len(labels), np.float32), odd=0.03)
    assert (model.accord(head, votes) < model.accord_limit[0]).sum() == 9
    assert (model.accord(head, shares(1 - labels, rng)) < model.accord_limit[0]).mean() > 0.9


def test_what_a_measurement_denies_is_not_found_and_rules_nothing_out(fitted: tuple[EvidenceModel, FloatArray, FloatArray, FloatArray]) -> None:
    model, *_ = fitted
    probabilities = np.zeros((1, N), np.float32)
    probabilities[0, :2] = [0.9, 0.7]
    denied = np.zeros((1, N), np.bool_)
    assert np.flatnonzero(model.decide(probabilities)[0]).tolist() == [0]
    denied[0, 0] = True
    assert np.flatnonzero(model.decide(probabilities, True, denied)[0]).tolist() == [1]


def test_limits_are_a_little_below_the_stored_thresholds(fitted: tuple[EvidenceModel, FloatArray, FloatArray, FloatArray]) -> None:
    model, *_ = fitted
    for retrieved, stored in ((True, model.thresholds), (False, model.alone_thresholds)):
        np.testing.assert_allclose(model.limits(retrieved), 0.85 * stored, rtol=1e-6)
        for share, found in ((0.84, False), (0.86, True)):
            probabilities = np.zeros((1, N), np.float32)
            probabilities[0, 2], probabilities[0, 3] = share * stored[2], 0.9
            assert model.decide(probabilities, retrieved)[0, 2] == found


def test_a_model_stored_without_its_accord_limit_gets_the_starters(
    fitted: tuple[EvidenceModel, FloatArray, FloatArray, FloatArray], tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    fitted[0].save(tmp_path / "new.safetensors")
    held = load_file(tmp_path / "new.safetensors")
    assert held.pop("accord_limit") == fitted[0].accord_limit
    save_file(held, tmp_path / "old.safetensors")
    assert EvidenceModel.load(tmp_path / "old.safetensors").accord_limit == np.float32(0.68)


def test_saved_and_loaded_again(fitted: tuple[EvidenceModel, FloatArray, FloatArray, FloatArray], tmp_path: Path) -> None:
    model, head, votes, _ = fitted
    model.save(tmp_path / "evidence.safetensors")
    again = EvidenceModel.load(tmp_path / "evidence.safetensors")
    np.testing.assert_array_equal(again.probabilities(head, votes), model.probabilities(head, votes))
    np.testing.assert_array_equal(again.decide(head), model.decide(head))
    assert again.exclusive.dtype == np.bool_
