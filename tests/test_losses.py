"""Losses against loops that nobody could get wrong."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from models import CPU, encoder_recipe, plain
from torch import Tensor

from regen.data_prep.measure import FEATURES
from regen.data_prep.statements import CODES
from regen.encoders import align as alignment
from regen.encoders.ecg import EcgEncoder
from regen.encoders.head import StatementHead
from regen.encoders.losses import info_nce, masked_patches, masked_regression, match_loss
from regen.encoders.recordings import Recordings
from regen.encoders.text import TextTower


def unit(rows: int, dim: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)


def unicl_by_loops(query: Tensor, key: Tensor, scale: float, positive: Tensor) -> float:
    """The mean over rows, then over columns, of -log softmax, averaged over a row's positives."""
    n = len(query)
    cosines = [[scale * sum(float(a * b) for a, b in zip(query[i], key[j], strict=True)) for j in range(n)] for i in range(n)]
    total = 0.0
    for one_way in (cosines, [list(column) for column in zip(*cosines, strict=True)]):
        mates = positive if one_way is cosines else positive.T
        for i, row in enumerate(one_way):
            normaliser = math.log(sum(math.exp(value) for value in row))
            told = [normaliser - row[j] for j in range(n) if mates[i, j]]
            total += sum(told) / len(told) / n / 2
    return total


@pytest.mark.parametrize("seed", range(4))
def test_info_nce_is_unicl(seed: int) -> None:
    labels = torch.randint(0, 3, (7,), generator=torch.Generator().manual_seed(seed))
    positive = labels[:, None] == labels[None]
    query, key = unit(7, 5, seed), unit(7, 5, seed + 100)
    expected = unicl_by_loops(query, key, 6.5, positive)
    assert float(info_nce(query, key, scale=6.5, positive=positive)) == pytest.approx(expected, rel=1e-9)


def test_info_nce_with_uneven_positives_counts_rows_and_columns_apart() -> None:
    positive = torch.eye(5, dtype=torch.bool)
    positive[0, 1:4] = True
    query, key = unit(5, 4, 1), unit(5, 4, 2)
    assert float(info_nce(query, key, scale=3.0, positive=positive)) == pytest.approx(unicl_by_loops(query, key, 3.0, positive), rel=1e-9)


def test_info_nce_without_positives_is_clip() -> None:
    query, key = unit(6, 4, 3), unit(6, 4, 4)
    logits = 10 * query @ key.T
    expected = (F.cross_entropy(logits, torch.arange(6)) + F.cross_entropy(logits.T, torch.arange(6))) / 2
    torch.testing.assert_close(info_nce(query, key, scale=10.0), expected)


def test_a_second_normal_ecg_is_no_negative() -> None:
    """Two alike pairs: as negatives of each other they cost ln 2, as positives nothing more than their target's entropy."""
    same = F.normalize(torch.ones(2, 4), dim=1)
    apart = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]])
    all_positive = torch.ones(2, 2, dtype=torch.bool)
    assert info_nce(same, same, scale=50.0, positive=all_positive) < info_nce(apart, apart, scale=50.0, positive=all_positive)
    assert info_nce(same, same, scale=50.0) > info_nce(apart, apart, scale=50.0)


def test_masked_patches_counts_what_was_hidden_and_heard(rng: np.random.Generator) -> None:
    b, n, patch = 2, 3, 4
    signal = rng.normal(0, 3, (b, 12, n * patch))
    signal[0, 4] = np.nan
    signal[1, :, 7] = np.nan
    predicted = rng.normal(0, 1, (b, n, 12 * patch))
    hidden = np.array([[True, False, True], [False, True, False]])
    errors = []
    for i in range(b):
        for j in range(n):
            for lead in range(12):
                for t in range(patch):
                    true = signal[i, lead, j * patch + t]
                    if hidden[i, j] and not math.isnan(true):
                        errors.append(min(25.0, (predicted[i, j, lead * patch + t] - true) ** 2))
    got = masked_patches(torch.from_numpy(predicted), torch.from_numpy(signal), torch.from_numpy(hidden))
    assert float(got) == pytest.approx(sum(errors) / len(errors), rel=1e-9)
    assert max(errors) == 25.0, "the limit was never reached: the test does not test it"


def test_masked_regression_leaves_missing_targets_out(rng: np.random.Generator) -> None:
    predicted, target = rng.normal(0, 2, (2, 5, 6))
    target[rng.random((5, 6)) < 0.4] = np.nan
    errors = []
    for p, t in zip(predicted.ravel(), target.ravel(), strict=True):
        gap = abs(p - t)
        if not math.isnan(gap):
            errors.append(gap**2 / 2 if gap < 1 else gap - 0.5)
    got = masked_regression(torch.from_numpy(predicted), torch.from_numpy(target))
    assert 0 < len(errors) < 30
    assert float(got) == pytest.approx(sum(errors) / len(errors), rel=1e-9)


def test_nothing_known_costs_nothing_and_breaks_no_gradient() -> None:
    predicted = torch.zeros(2, 3, requires_grad=True)
    loss = masked_regression(predicted, torch.full((2, 3), float("nan")))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert predicted.grad is not None
    assert bool(torch.isfinite(predicted.grad).all())


def test_match_loss_wants_the_first_half() -> None:
    logits = [2.0, -1.0, 0.5, -3.0]
    expected = sum(math.log1p(math.exp(-x)) for x in logits[:2]) + sum(math.log1p(math.exp(x)) for x in logits[2:])
    assert float(match_loss(torch.tensor(logits))) == pytest.approx(expected / 4, rel=1e-6)


def test_the_temperature_is_clamped() -> None:
    meeting = alignment.Meeting(8)
    assert float(meeting.scale().detach()) == pytest.approx(1 / 0.07, rel=1e-5)
    for value, expected in ((50.0, 100.0), (-50.0, 1.0)):
        with torch.no_grad():
            meeting.log_scale.fill_(value)
        assert float(meeting.scale().detach()) == pytest.approx(expected, rel=1e-5)


def few_recordings(rng: np.random.Generator, n: int = 12) -> Recordings:
    labels = (rng.random((n, len(CODES))) < 0.05).astype(np.float32)
    reports = [f"Sinus rhythm. Rate {i % 4}." for i in range(n)]
    return Recordings(
        pl.DataFrame({"i": range(n)}), rng.normal(0, 0.3, (n, 12, 1000)).astype(np.float16), np.zeros((n, FEATURES), np.float32), labels, reports
    )


def test_the_temperature_is_in_the_optimiser_and_moves(rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = encoder_recipe("align_epochs=1", "batch=6", "contrast_weight=1.0")
    meetings: list[alignment.Meeting] = []
    optimizers: list[torch.optim.AdamW] = []
    make_meeting, make_optimizer = alignment.Meeting, alignment.make_optimizer
    monkeypatch.setattr(alignment, "Meeting", lambda dim: meetings.append(make_meeting(dim)) or meetings[-1])
    monkeypatch.setattr(alignment, "make_optimizer", lambda *a: optimizers.append(make_optimizer(*a)) or optimizers[-1])
    recordings = few_recordings(rng)
    encoder = EcgEncoder(recipe.ecg())
    tower = TextTower.small(recordings.reports, recipe.dim, 32, 1, vocabulary=100)
    curve = alignment.align(encoder, StatementHead(encoder.feature_width), tower, recordings, recipe, tmp_path, CPU, plain)
    (meeting,), (optimizer,) = meetings, optimizers
    assert any(p is meeting.log_scale for group in optimizer.param_groups for p in group["params"])
    assert float(meeting.log_scale.detach()) != pytest.approx(math.log(1 / 0.07), abs=1e-6)
    assert set(curve.rows[0]) == {"statements", "contrast", "matching"}
    assert all(math.isfinite(value) for value in curve.rows[0].values())


def test_positive_groups_join_same_reports_and_same_statements() -> None:
    labels = np.zeros((5, len(CODES)), np.float32)
    labels[0, 1] = labels[2, 1] = 1
    labels[3:] = np.nan
    rows = Recordings(pl.DataFrame(), np.zeros((5, 12, 1), np.float16), np.zeros((5, 1), np.float32), labels, ["a", "a", "b", "", ""])
    groups = alignment.positive_groups(rows)
    together = (groups[:, None] == groups[None]).any(-1)
    pairs = {(i, j) for i in range(5) for j in range(i) if together[i, j]}
    assert pairs == {(1, 0), (2, 0)}, "same report; same statements; neither an absent report nor absent codes join"


def test_hard_negatives_are_never_positives() -> None:
    positive = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    torch.manual_seed(0)
    for _ in range(50):
        other = alignment._hard_negatives(torch.rand(3, 3), positive)
        assert not any(positive[i, j] for i, j in enumerate(other.tolist()))
