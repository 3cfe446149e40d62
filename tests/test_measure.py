"""Measurements on ECGs that are drawn with a ruler: every interval is known because the test drew it."""

from __future__ import annotations

import numpy as np
import pytest

from regen.data_prep.clean import remove_baseline, resample, standard
from regen.data_prep.measure import FEATURES, UNITS, measure, measure_all
from regen.study import LEADS, Ecg, FloatArray

FRONTAL = {"I": 0, "II": 60, "III": 120, "aVR": -150, "aVL": -30, "aVF": 90}
"""Lead -> its direction in the frontal plane, degrees; augmented leads are sqrt(3) / 2 as long."""


def bump(time: np.ndarray, start: float, end: float) -> np.ndarray:
    """A raised cosine of height 1 between two times."""
    inside = (time > start) & (time < end)
    return np.where(inside, 0.5 - 0.5 * np.cos(2 * np.pi * (time - start) / (end - start)), 0.0)


def qrs_shape(time: np.ndarray, start: float, end: float) -> np.ndarray:
    """Q, R and S as straight strokes that fill start to end."""
    corners = start + (end - start) * np.array([0, 0.15, 0.5, 0.85, 1])
    return np.interp(time, corners, [0, -0.15, 1.0, -0.2, 0], left=0, right=0)


def draw(
    rate: float = 60, pr: float = 160, qrs: float = 90, qt: float = 400, axis: float = 45, fs: float = 500, seconds: float = 10,
    times: np.ndarray | None = None, p_wave: float = 0.15, size: float = 1.0, noise: float = 0.0,
) -> FloatArray:  # fmt: skip
    """(12, time) mV. Intervals in ms, axis in degrees; times: onsets of the QRS in s, where they are not regular."""
    time = np.arange(round(fs * seconds)) / fs
    onsets = np.arange(0.45, seconds + 1, 60 / rate) if times is None else times
    p, r, t = np.zeros_like(time), np.zeros_like(time), np.zeros_like(time)
    for onset in onsets:
        p += p_wave * bump(time, onset - pr / 1e3, onset - pr / 1e3 + 0.1)
        r += size * qrs_shape(time, onset, onset + qrs / 1e3)
        t += 0.3 * size * bump(time, onset + qt / 1e3 - 0.2, onset + qt / 1e3)
    out = np.zeros((12, len(time)))
    for row, lead in enumerate(LEADS):
        if lead in FRONTAL:
            length = np.sqrt(3) / 2 if lead.startswith("a") else 1.0
            out[row] = length * np.cos(np.radians(axis - FRONTAL[lead])) * (r + t) + length * np.cos(np.radians(50 - FRONTAL[lead])) * p
        else:
            out[row] = (row - 8.5) / 3 * r + 0.8 * t + 0.4 * p
    return (out + np.random.default_rng(3).normal(0, noise, out.shape)).astype(np.float32)


def measured(signal: FloatArray, fs: float = 500) -> dict[str, float]:
    return measure(remove_baseline(resample(signal, fs, 100.0), 100.0))[0]


@pytest.mark.parametrize("rate", [38, 50, 60, 75, 100, 130, 160])
@pytest.mark.parametrize("fs", [250, 500, 1000])
def test_heart_rate(rate: float, fs: float) -> None:
    assert measured(draw(rate=rate, qt=min(400, 26000 / rate), pr=130, fs=fs), fs)["heart_rate"] == pytest.approx(rate, abs=0.015 * rate)


@pytest.mark.parametrize("pr", [120, 160, 200, 240, 300])
def test_pr_interval(pr: float) -> None:
    assert measured(draw(pr=pr))["pr"] == pytest.approx(pr, abs=16)


@pytest.mark.parametrize("qrs", [80, 100, 120, 150, 180])
def test_qrs_duration(qrs: float) -> None:
    """Strokes with corners, as drawn here, come out about 10 ms longer: the 43 Hz low-pass rounds them off."""
    assert measured(draw(qrs=qrs, qt=450, noise=0.01))["qrs"] == pytest.approx(qrs + 10, abs=12)


@pytest.mark.parametrize(("qt", "rate"), [(340, 60), (400, 60), (440, 60), (480, 60), (360, 80), (420, 80)])
def test_qt_and_its_correction_for_rate(qt: float, rate: float) -> None:
    got = measured(draw(qt=qt, rate=rate))
    assert got["qt"] == pytest.approx(qt, abs=30)
    assert got["qtc"] == pytest.approx(got["qt"] / np.sqrt(60 / got["heart_rate"]), rel=1e-6)


@pytest.mark.parametrize("axis", [-120, -75, -45, -20, 0, 30, 60, 90, 120, 160])
def test_frontal_axis(axis: float) -> None:
    difference = (measured(draw(axis=axis))["axis"] - axis + 180) % 360 - 180
    assert abs(difference) < 6


@pytest.mark.parametrize("size", [0.4, 1.0, 2.0])
def test_voltages_scale(size: float) -> None:
    """V5 rises to 0.5, V6 to 0.83 and V1 falls to -0.83 of the R wave's size."""
    assert measured(draw(size=size))["sokolow"] == pytest.approx(2 * 2.5 / 3 * size, rel=0.15)


def test_intervals_survive_noise() -> None:
    clean, noisy = measured(draw()), measured(draw(noise=0.05))
    assert noisy["noise"] > 3 * clean["noise"]
    for name, within in (("heart_rate", 1), ("pr", 25), ("qrs", 20), ("qt", 30), ("axis", 6)):
        assert noisy[name] == pytest.approx(clean[name], abs=within), name


def test_without_a_p_wave_there_is_no_pr() -> None:
    got = measured(draw(p_wave=0.0))
    assert np.isnan(got["pr"])
    assert np.isnan(got["p_duration"])
    assert got["heart_rate"] == pytest.approx(60, abs=1)


def test_irregularity_tells_a_regular_rhythm_from_an_irregular_one() -> None:
    intervals = np.random.default_rng(1).uniform(0.5, 1.1, 20)
    irregular = measured(draw(times=0.45 + np.cumsum(intervals), p_wave=0.0, qt=330))
    regular = measured(draw())
    assert regular["rr_cv"] < 0.02
    assert irregular["rr_cv"] > 0.12
    assert regular["rr_longest"] == pytest.approx(1, abs=0.03)
    assert regular["premature_beats"] == 0


def test_one_early_beat_is_counted() -> None:
    onsets = np.array([0.45, 1.25, 2.05, 2.85, 3.35, 4.45, 5.25, 6.05, 6.85, 7.65, 8.45])
    got = measured(draw(times=onsets, qt=360, pr=120))
    assert got["premature_beats"] == 1
    assert got["beats"] == len(onsets)


@pytest.mark.parametrize("seconds", [2.5, 4.0, 6.0, 10.0])
def test_a_short_recording_that_was_filled_up_has_the_same_rate(seconds: float) -> None:
    signal, flags = standard(Ecg(draw(rate=75, qt=360, seconds=seconds), 500.0))
    got = measure(remove_baseline(signal, 100.0))[0]
    assert flags == (() if seconds == 10 else ("padded",))
    assert got["heart_rate"] == pytest.approx(75, abs=2)
    assert got["noise"] == pytest.approx(measured(draw(rate=75, qt=360))["noise"], rel=0.5)


@pytest.mark.parametrize("lost", [("V1",), ("I",), ("V4", "V5", "V6"), ("III", "aVR", "aVL", "aVF")])
def test_missing_leads_leave_the_rest_measured(lost: tuple[str, ...]) -> None:
    signal = draw()
    signal[[LEADS.index(lead) for lead in lost]] = np.nan
    got, features = measure(remove_baseline(resample(signal, 500.0), 100.0))
    assert got["heart_rate"] == pytest.approx(60, abs=1)
    assert got["qrs"] == pytest.approx(90, abs=16)
    assert np.isnan(got["axis"]) == bool({"I", "aVF"} & set(lost))
    assert np.isnan(got["sokolow"]) == bool("V1" in lost or {"V5", "V6"} <= set(lost))
    assert np.isnan(features).any()


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_nothing_is_measured_where_nothing_is(value: float) -> None:
    got, features = measure(np.full((12, 1000), value, np.float32))
    for name in ("heart_rate", "pr", "qrs", "qt", "qtc", "axis"):
        assert np.isnan(got[name]), name
    assert got["beats"] == 0
    assert features.shape == (FEATURES,)


def test_a_batch_is_its_rows_and_every_scalar_has_a_unit(rng: np.random.Generator) -> None:
    batch = np.stack([remove_baseline(resample(draw(rate=rate, noise=0.01), 500.0), 100.0) for rate in (50, 80)])
    rows, features = measure_all(batch)
    for i, signal in enumerate(batch):
        alone, vector = measure(signal)
        assert rows[i].keys() == alone.keys() == UNITS.keys()
        np.testing.assert_array_equal(features[i], vector)
    assert measure_all(batch[:0])[1].shape == (0, FEATURES)


def test_wander_is_what_cleaning_took_out() -> None:
    signal = draw()
    slow = signal + 0.5 * np.sin(2 * np.pi * 0.2 * np.arange(5000) / 500).astype(np.float32)
    raw = resample(slow, 500.0)
    assert measure(remove_baseline(raw, 100.0), raw)[0]["wander"] == pytest.approx(0.5 / np.sqrt(2), rel=0.2)
