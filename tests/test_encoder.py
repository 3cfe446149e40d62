"""The ECG encoder: shapes, unit length, what missing leads and missing time do, and one by one as in a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from regen.encoders.ecg import PATCH, EcgConfig, EcgEncoder
from regen.encoders.layers import Block, masked_max, masked_mean
from regen.encoders.recordings import disturb


@pytest.fixture(scope="module")
def encoder() -> EcgEncoder:
    torch.manual_seed(1)
    made = EcgEncoder(EcgConfig(width=64, depth=2, dim=32))
    made.train()
    with torch.no_grad():
        for _ in range(3):
            made(torch.randn(8, 12, 1000) * 0.4)
    return made.eval()


@pytest.fixture
def signal() -> Tensor:
    return torch.randn(4, 12, 1000, generator=torch.Generator().manual_seed(2)) * 0.4


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a, b).min())


@torch.no_grad()
def test_shapes_and_unit_length(encoder: EcgEncoder, signal: Tensor) -> None:
    tokens, mask = encoder.tokens(signal)
    assert tokens.shape == (4, 63, 64), "1000 samples in patches of 16, the last one half full"
    assert mask.shape == (4, 63)
    assert mask.all()
    assert encoder.features(tokens, mask).shape == (4, encoder.feature_width)
    out = encoder(signal)
    assert (out.shape, out.dtype) == ((4, encoder.dim), torch.float32)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(4))
    assert encoder.modality == "ecg"


@torch.no_grad()
def test_one_by_one_as_in_a_batch(encoder: EcgEncoder, signal: Tensor) -> None:
    signal[1, 3] = torch.nan
    signal[2, :, 700:] = torch.nan
    together = encoder(signal)
    alone = torch.cat([encoder(signal[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_missing_lead_is_not_a_flat_one(encoder: EcgEncoder, signal: Tensor) -> None:
    missing, flat = signal.clone(), signal.clone()
    missing[:, 5], flat[:, 5] = torch.nan, 0.0
    assert cosine(encoder(missing), encoder(flat)) < 0.9999
    assert cosine(encoder(missing), encoder(signal)) < 0.9999
    assert bool(torch.isfinite(encoder(missing)).all())


@torch.no_grad()
def test_the_lead_mask_says_how_much_of_the_heard_time_a_lead_was_there(encoder: EcgEncoder, signal: Tensor) -> None:
    """A recording that stops early has all its leads: its mask is that of a whole one."""
    half = signal.clone()
    half[:, 2, 500:] = torch.nan
    silent = signal.clone()
    silent[:, 2, 500:] = 0.0
    assert cosine(encoder(half), encoder(silent)) < 0.9999
    seen: list[Tensor] = []
    hook = encoder.leads.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    stopped = signal.clone()
    stopped[:, :, 600:] = torch.nan
    encoder(stopped)
    encoder(half)
    hook.remove()
    torch.testing.assert_close(seen[0], torch.ones(4, 12))
    assert seen[1][:, 2].tolist() == pytest.approx([0.5] * 4)


@torch.no_grad()
def test_padding_hardly_changes_the_embedding(encoder: EcgEncoder, signal: Tensor) -> None:
    short = signal[:, :, : 40 * PATCH]
    padded = torch.full((4, 12, 1000), torch.nan)
    padded[:, :, : 40 * PATCH] = short
    tokens, mask = encoder.tokens(padded)
    assert mask.sum(1).tolist() == [40] * 4
    bare, _ = encoder.tokens(short)
    inner = slice(0, 36)
    assert cosine(tokens[:, inner].flatten(1), bare[:, inner].flatten(1)) > 0.995, "only the last tokens hear the edge"
    assert cosine(encoder(padded), encoder(short)) > 0.98
    assert cosine(encoder(signal), encoder(short)) < cosine(encoder(padded), encoder(short)), "real signal there does change it"


@torch.no_grad()
def test_what_stands_behind_the_mask_never_reaches_the_embedding(encoder: EcgEncoder, signal: Tensor) -> None:
    tokens, mask = encoder.tokens(signal)
    mask[:, 50:] = False
    other = tokens.clone()
    other[:, 50:] = 1e3
    torch.testing.assert_close(encoder.features(tokens, mask), encoder.features(other, mask))


@torch.no_grad()
def test_a_patch_with_one_heard_sample_counts(encoder: EcgEncoder) -> None:
    signal = torch.full((1, 12, 1000), torch.nan)
    signal[0, 7, 3 * PATCH + 5] = 0.3
    _, mask = encoder.tokens(signal)
    assert mask[0].nonzero().flatten().tolist() == [3]


@torch.no_grad()
def test_a_recording_of_nothing_is_harmless(encoder: EcgEncoder) -> None:
    """Zero features, so that no head runs into its ends because nothing was heard."""
    tokens, mask = encoder.tokens(torch.full((2, 12, 1000), torch.nan))
    assert not mask.any()
    assert encoder.features(tokens, mask).abs().max() == 0
    out = encoder.embed(encoder.features(tokens, mask))
    torch.testing.assert_close(out.norm(dim=1), torch.ones(2))


@torch.no_grad()
def test_a_window_knows_where_it_begins(encoder: EcgEncoder, signal: Tensor) -> None:
    window = signal[:, :, 160 : 160 + 608]
    start, later = (encoder.tokens(window, torch.full((4,), at))[0] for at in (0, 10))
    torch.testing.assert_close(start, encoder.tokens(window)[0])
    assert cosine(start.flatten(1), later.flatten(1)) < 0.9999


@torch.no_grad()
def test_an_artefact_of_volts_is_clipped(encoder: EcgEncoder, signal: Tensor) -> None:
    wild, wilder = signal.clone(), signal.clone()
    wild[:, 0, 100], wilder[:, 0, 100] = 6.0, 6000.0
    torch.testing.assert_close(encoder(wild), encoder(wilder))


def test_pooling_against_loops() -> None:
    x = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(3))
    mask = torch.tensor([[1, 1, 0, 0, 1], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0]], dtype=torch.bool)
    mean, most = masked_mean(x, mask), masked_max(x, mask)
    for i in range(3):
        kept = [x[i, j] for j in range(5) if mask[i, j]]
        expected_mean = sum(kept, torch.zeros(4)) / max(len(kept), 1)
        expected_most = torch.stack(kept).amax(0) if kept else torch.zeros(4)
        torch.testing.assert_close(mean[i], expected_mean)
        torch.testing.assert_close(most[i], expected_most)


@torch.no_grad()
def test_a_masked_token_is_as_good_as_absent() -> None:
    torch.manual_seed(4)
    block = Block(32, 4).eval()
    x = torch.randn(2, 9, 32)
    mask = torch.arange(9)[None].expand(2, -1) < 6
    torch.testing.assert_close(block(x, mask)[:, :6], block(x[:, :6]))


def test_disturbing_takes_whole_leads_off_and_keeps_what_was_missing() -> None:
    torch.manual_seed(0)
    signal = torch.randn(64, 12, 200)
    signal[:, 3] = torch.nan
    out = disturb(signal)
    lost = torch.isnan(out).all(2)
    assert lost[:, 3].all()
    assert torch.equal(lost, torch.isnan(out).any(2)), "a lead is off whole or not at all"
    others = np.delete(lost.numpy(), 3, axis=1)
    assert 0 < others.mean() < 0.15
