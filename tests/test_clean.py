"""Cleaning in batches against scipy, lead by lead."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import scipy.signal

from regen.data_prep.clean import fit_length, low_pass, ratio, remove_baseline, resample, standard
from regen.errors import DataError
from regen.study import Ecg, FloatArray

RATES = [100.0, 128.0, 200.0, 250.0, 256.0, 257.0, 333.3, 360.0, 400.0, 500.0, 512.0, 977.0, 1000.0]
TOLERANCE = 1e-4
"""Millivolts; one step of a recorder is about 5e-3."""


def wandering(rng: np.random.Generator, fs: float, seconds: float, leads: int = 3) -> FloatArray:
    """(leads, time) mV: spikes like an ECG's, a slow wander, noise and an offset."""
    time = np.arange(round(fs * seconds)) / fs
    beats = np.exp(-0.5 * (((time % 0.8) - 0.4) / 0.012) ** 2)
    wander = 0.6 * np.sin(2 * np.pi * 0.21 * time + rng.random((leads, 1)) * 6)
    return (beats * rng.normal(1, 0.3, (leads, 1)) + wander + rng.normal(0, 0.03, (leads, len(time))) + rng.normal(0, 2, (leads, 1))).astype(
        np.float32
    )


def resampled_by_scipy(lead: FloatArray, fs: float, to: float) -> npt.NDArray[np.float64]:
    """One lead: scipy's polyphase filter with edges held; at equal rates scipy skips the filter, so it is a plain convolution."""
    up, down = ratio(fs, to)
    taps = low_pass(up, down, fs)
    if up == down:
        half = len(taps) // 2
        return np.convolve(np.pad(lead.astype(np.float64), half, mode="edge"), taps, mode="valid")
    return np.asarray(scipy.signal.resample_poly(lead.astype(np.float64), up, down, window=taps, padtype="edge"))


def high_passed_by_scipy(lead: FloatArray, fs: float) -> npt.NDArray[np.float64]:
    sos = scipy.signal.butter(2, 0.5, "highpass", fs=fs, output="sos")
    return np.asarray(scipy.signal.sosfiltfilt(sos, lead.astype(np.float64), padlen=min(int(fs), len(lead) - 1)))


@pytest.mark.parametrize("seconds", [2.0, 10.0, 31.7])
@pytest.mark.parametrize("fs", RATES)
def test_resampling_equals_scipy_lead_by_lead(rng: np.random.Generator, fs: float, seconds: float) -> None:
    signal = wandering(rng, fs, seconds)
    got = resample(signal, fs, 100.0)
    for lead, row in zip(signal, got):
        expected = resampled_by_scipy(lead, fs, 100.0)
        assert row.shape == expected.shape
        np.testing.assert_allclose(row, expected, atol=TOLERANCE)
    assert got.dtype == np.float32


@pytest.mark.parametrize("to", [100.0, 125.0, 250.0, 500.0])
def test_other_target_rates_equal_scipy_too(rng: np.random.Generator, to: float) -> None:
    signal = wandering(rng, 500.0, 4.0)
    for lead, row in zip(signal, resample(signal, 500.0, to)):
        np.testing.assert_allclose(row, resampled_by_scipy(lead, 500.0, to), atol=TOLERANCE)


@pytest.mark.parametrize("fs", RATES)
def test_the_ratio_drifts_less_than_a_sample_in_ten_seconds(fs: float) -> None:
    up, down = ratio(fs, 100.0)
    assert abs(fs * up / down - 100.0) * 10 < 1


@pytest.mark.parametrize(("hertz", "low", "high"), [(1.0, 0.99, 1.01), (10.0, 0.99, 1.01), (35.0, 0.9, 1.01), (50.0, 0.0, 0.005), (60.0, 0.0, 0.005)])
def test_the_band_of_an_ecg_passes_and_mains_does_not(hertz: float, low: float, high: float) -> None:
    time = np.arange(5000) / 500
    out = resample(np.sin(2 * np.pi * hertz * time, dtype=np.float32)[None], 500.0)[0, 100:-100]
    assert low <= np.sqrt(2 * np.mean(out**2)) <= high


@pytest.mark.parametrize("seconds", [0.5, 2.0, 2.37, 10.0, 13.0])
def test_baseline_removal_equals_scipy_lead_by_lead(rng: np.random.Generator, seconds: float) -> None:
    signal = wandering(rng, 100.0, seconds)
    got = remove_baseline(signal, 100.0)
    for lead, row in zip(signal, got):
        np.testing.assert_allclose(row, high_passed_by_scipy(lead, 100.0), atol=TOLERANCE)


@pytest.mark.parametrize("fs", [125.0, 200.0])
def test_baseline_removal_at_other_rates(rng: np.random.Generator, fs: float) -> None:
    signal = wandering(rng, fs, 4.0)
    np.testing.assert_allclose(remove_baseline(signal, fs)[1], high_passed_by_scipy(signal[1], fs), atol=TOLERANCE)


def test_a_batch_is_what_its_recordings_are_one_by_one(rng: np.random.Generator) -> None:
    batch = np.stack([wandering(rng, 500.0, 10.0, 12) for _ in range(3)])
    untouched = batch.copy()
    for whole, one in ((resample(batch, 500.0), lambda x: resample(x, 500.0)), (remove_baseline(batch[..., ::5], 100.0), None)):
        singles = [one(x) if one else remove_baseline(x[..., ::5], 100.0) for x in batch]
        np.testing.assert_allclose(whole, np.stack(singles), atol=1e-5)
    np.testing.assert_array_equal(batch, untouched)


def test_a_gap_is_bridged_by_a_line_and_comes_back_missing(rng: np.random.Generator) -> None:
    signal = wandering(rng, 500.0, 6.0)
    whole = signal.copy()
    signal[1, 1000:1500] = np.nan
    got = resample(signal, 500.0)
    assert np.flatnonzero(np.isnan(got[1])).tolist() == list(range(200, 300))
    bridged = whole[1].copy()
    bridged[999:1501] = np.linspace(whole[1, 999], whole[1, 1500], 502)
    there = ~np.isnan(got[1])
    np.testing.assert_allclose(got[1, there], resampled_by_scipy(bridged, 500.0, 100.0)[there], atol=TOLERANCE)
    np.testing.assert_array_equal(got[[0, 2]], resample(whole, 500.0)[[0, 2]])


def test_a_missing_lead_stays_missing_and_alone(rng: np.random.Generator) -> None:
    signal = wandering(rng, 100.0, 10.0)
    whole = remove_baseline(signal, 100.0)
    signal[0] = np.nan
    got = remove_baseline(resample(signal, 100.0), 100.0)
    assert np.isnan(got[0]).all()
    np.testing.assert_array_equal(remove_baseline(signal, 100.0)[1:], whole[1:])


def test_a_target_rate_below_the_band_is_refused() -> None:
    with pytest.raises(DataError, match="at least 91 Hz, got 90"):
        resample(np.zeros((12, 1000), np.float32), 500.0, 90.0)


@pytest.mark.parametrize(("time", "flags"), [(900, ("padded",)), (1000, ()), (1100, ("cropped",))])
def test_fit_length(time: int, flags: tuple[str, ...]) -> None:
    signal = np.arange(12 * time, dtype=np.float32).reshape(12, time)
    out, got = fit_length(signal, 1000)
    assert (out.shape, got) == ((12, 1000), flags)
    np.testing.assert_array_equal(out[:, : min(time, 1000)], signal[:, :1000])
    assert np.isnan(out[:, time:]).all()


@pytest.mark.parametrize(("seconds", "flags"), [(2.0, ("padded",)), (10.0, ()), (10.5, ("cropped",)), (12.0, ("cropped",)), (60.0, ("cropped",))])
@pytest.mark.parametrize("fs", [100.0, 250.0, 500.0, 1000.0])
def test_standard_holds_ten_seconds_whatever_came_in(rng: np.random.Generator, fs: float, seconds: float, flags: tuple[str, ...]) -> None:
    signal = wandering(rng, fs, seconds, 12)
    out, got = standard(Ecg(signal, fs))
    assert (out.shape, got) == ((12, 1000), flags)
    held = min(round(seconds * 100), 1000)
    assert not np.isnan(out[:, :held]).any()
    assert np.isnan(out[:, held:]).all()
    inner = slice(0, held if seconds <= 10 else 950)
    np.testing.assert_allclose(out[4, inner], resampled_by_scipy(signal[4], fs, 100.0)[:1000][inner], atol=TOLERANCE)
