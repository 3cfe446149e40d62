"""The statement head: ridge regression against Newton's method, calibration, thresholds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from regen.data_prep.statements import CODES
from regen.encoders.head import FeatureScale, StatementHead, best_thresholds, calibrate, fit_measured
from regen.study import FloatArray

N = len(CODES)
Doubles = npt.NDArray[np.float64]


def toy(rng: np.random.Generator, rows: int = 240, features: int = 4) -> tuple[FloatArray, FloatArray]:
    """Measurements, and labels of which three columns depend on them and the others are empty."""
    x = rng.normal(0, 1, (rows, features)).astype(np.float32)
    labels = np.zeros((rows, N), np.float32)
    for j in range(3):
        labels[:, j] = rng.random(rows) < 1 / (1 + np.exp(-(x @ rng.normal(0, 1.5, features) - 0.5)))
    return x, labels


def newton(x: Doubles, y: Doubles, penalty: float) -> Doubles:
    """Ridge logistic regression of one column, intercept free: weights, then intercept."""
    design = np.column_stack([x, np.ones(len(x))])
    ridge = penalty * np.diag([1.0] * x.shape[1] + [0.0])
    beta = np.zeros(design.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ beta))
        gradient = design.T @ (p - y) + ridge @ beta
        beta -= np.linalg.solve(design.T @ (design * (p * (1 - p))[:, None]) + ridge, gradient)
    return beta


def log_loss(p: FloatArray, y: FloatArray) -> float:
    p = p.clip(1e-7, 1 - 1e-7)
    return float(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean())


def test_fit_measured_is_ridge_regression(rng: np.random.Generator) -> None:
    x, labels = toy(rng)
    head = StatementHead(8, features=4)
    fit_measured(head, x, labels, penalty=5.0)
    scaled = head.scale(torch.from_numpy(x)).double().numpy()
    for j in range(3):
        expected = newton(scaled, labels[:, j].astype(np.float64), 5.0)
        got = np.append(head.measured.weight[j].detach().numpy(), float(head.measured.bias[j].detach()))
        np.testing.assert_allclose(got, expected, atol=2e-3)


def test_a_statement_that_training_never_showed_is_never_found(rng: np.random.Generator) -> None:
    x, labels = toy(rng)
    labels[:2, 10] = 1
    head = StatementHead(8, features=4)
    fit_measured(head, x, labels)
    with torch.no_grad():
        readings = head.readings(torch.zeros(1, 8), torch.from_numpy(x[:1]))[0, 1]
    assert float(torch.sigmoid(readings[3:]).max()) < 0.001


def test_uncoded_studies_teach_the_head_nothing(rng: np.random.Generator) -> None:
    x, labels = toy(rng)
    head, other = StatementHead(8, features=4), StatementHead(8, features=4)
    fit_measured(head, x, labels)
    fit_measured(other, np.concatenate([x, x[:20]]), np.concatenate([labels, np.full((20, N), np.nan, np.float32)]))
    other.scale.load_state_dict(head.scale.state_dict())
    torch.testing.assert_close(head.measured.weight, other.measured.weight, atol=0.05, rtol=0)


def overconfident(rng: np.random.Generator, rows: int) -> tuple[StatementHead, torch.Tensor, torch.Tensor, FloatArray]:
    """A head whose learned reading is three times too sure and two logits too high, and knows nothing from measurements."""
    torch.manual_seed(3)
    head = StatementHead(6, features=4)
    features = torch.from_numpy(rng.normal(0, 1, (rows, 6)).astype(np.float32))
    with torch.no_grad():
        head.measured.weight.zero_()
        head.measured.bias.zero_()
        true = head.learned(features) * 2 - 1.5
        head.learned.weight.mul_(6)
        head.learned.bias.mul_(6).sub_(2.5)
    labels = (rng.random((rows, N)) < torch.sigmoid(true).numpy()).astype(np.float32)
    return head, features, torch.zeros(rows, 4), labels


def test_calibration_lowers_the_log_loss_on_studies_it_never_saw(rng: np.random.Generator) -> None:
    head, features, measures, labels = overconfident(rng, 800)
    fold, rest = slice(0, 400), slice(400, 800)

    def loss() -> float:
        with torch.no_grad():
            return log_loss(head.probabilities(features[rest], measures[rest]).numpy(), labels[rest])

    before = loss()
    calibrate(head, features[fold], measures[fold], labels[fold])
    assert loss() < 0.8 * before
    assert float(head.mix[0]) == pytest.approx(1 / 3, abs=0.05), "three times too sure: a third of the weight"
    assert bool((head.thresholds >= 0.1).all() and (head.thresholds <= 0.6).all())


def test_calibration_ignores_uncoded_studies_and_never_weighs_against_a_reading(rng: np.random.Generator) -> None:
    head, features, measures, labels = overconfident(rng, 200)
    labels[150:] = np.nan
    calibrate(head, features, measures, labels)
    assert bool((head.mix >= 0).all())
    assert bool(torch.isfinite(head.shift).all() and torch.isfinite(head.thresholds).all())


def test_a_reading_that_misleads_is_left_out(rng: np.random.Generator) -> None:
    """Not weighed against, and the shifts are those that fit without it."""
    plain, features, nothing, labels = overconfident(rng, 300)
    head = StatementHead(6, features=N)
    head.learned.load_state_dict(plain.learned.state_dict())
    with torch.no_grad():
        head.measured.weight.copy_(torch.eye(N))
        head.measured.bias.zero_()
        head.scale.low.fill_(-9.0)
        head.scale.high.fill_(9.0)
    calibrate(head, features, torch.from_numpy((0.5 - labels + rng.normal(0, 1, labels.shape)).astype(np.float32)), labels)
    calibrate(plain, features, nothing, labels)
    assert float(head.mix[1]) == 0.0
    torch.testing.assert_close(head.mix[0], plain.mix[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(head.shift, plain.shift, atol=1e-3, rtol=0)


def thresholds_by_loops(probabilities: Doubles, labels: FloatArray, pull: float) -> list[float]:
    grid = [0.1 + 0.01 * i for i in range(51)]

    def f1(columns: list[int], t: float) -> float:
        hits = sum(probabilities[i, j] >= t and labels[i, j] == 1 for j in columns for i in range(len(labels)))
        said = sum(probabilities[i, j] >= t for j in columns for i in range(len(labels)))
        true = sum(labels[i, j] == 1 for j in columns for i in range(len(labels)))
        return 2 * hits / max(said + true, 1)

    everything = list(range(labels.shape[1]))
    overall = max(f1(everything, t) for t in grid)
    out = []
    for j in everything:
        positive = labels[:, j].sum()
        reached = (positive * max(f1([j], t) for t in grid) + pull * overall) / (positive + pull)
        out.append(min(max(reached / 2, 0.1), 0.6))
    return out


def test_thresholds_against_loops(rng: np.random.Generator) -> None:
    probabilities = rng.random((30, 5))
    labels = (rng.random((30, 5)) < probabilities).astype(np.float32)
    labels[:, 4] = 0
    np.testing.assert_allclose(best_thresholds(probabilities, labels), thresholds_by_loops(probabilities, labels, 25.0), atol=1e-6)


def test_a_clear_statement_gets_the_threshold_half_its_f1() -> None:
    labels = np.zeros((400, 2), np.float32)
    labels[:200] = 1
    got = best_thresholds(labels.astype(np.float64) * 0.98, labels)
    np.testing.assert_allclose(got, 0.5, atol=1e-6)


def test_missing_measurements_stand_at_the_mean() -> None:
    values = np.array([[1.0, np.nan, 5.0], [3.0, np.nan, np.nan], [2.0, np.nan, 5.0]], np.float32)
    scale = FeatureScale.fit(values)
    out = scale(torch.from_numpy(values))
    assert bool(torch.isfinite(out).all()), "a column that nobody measured, and one that never varies"
    assert float(out[1, 2]) == 0.0
    assert abs(float(out[:, 0].mean())) < 1e-6
    kept = scale(torch.from_numpy(values), keep_missing=True)
    assert torch.equal(torch.isnan(kept), torch.from_numpy(np.isnan(values)))


def test_an_outlier_is_drawn_in() -> None:
    values = np.concatenate([np.linspace(0, 1, 1000), [1e6]]).astype(np.float32)[:, None]
    scale = FeatureScale.fit(values)
    assert float(scale(torch.tensor([[1e6]]))) < 3
