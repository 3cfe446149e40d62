"""Perturbations: what they do to a recording and to retrieved cases, by hand and against other implementations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.signal

from regen.data_prep.clean import remove_baseline, resample, standard
from regen.data_prep.synthetic_cohort import make_study
from regen.errors import ConfigError, DataError
from regen.eval.perturb import (
    NO_RETRIEVAL,
    NOISES,
    PRECORDIAL,
    SNRS,
    UNPERTURBED,
    add_noise,
    borrowed,
    conditions,
    donors,
    drop_leads,
    excerpt,
    gain,
    keep_leads,
    noise_of,
    only_planted,
    power,
    replaced,
    reverse_limbs,
    rng_of,
    through_rate,
    unrelated_rows,
)
from regen.study import LEADS, Ecg


@pytest.fixture(scope="module")
def ecg() -> Ecg:
    """A synthetic recording, 10 s at its own rate, all leads on."""
    made = make_study((7, 3)).ecg
    assert made is not None
    assert made.present.all()
    return made


def at_100(ecg: Ecg) -> Ecg:
    return Ecg(standard(ecg)[0], 100.0)


def lead(ecg: Ecg, name: str) -> np.ndarray:
    return ecg.signal[LEADS.index(name)]


def test_dropped_leads_are_missing_and_the_others_stay(ecg: Ecg) -> None:
    out = drop_leads(ecg, ["V1", "aVR"])
    assert [name for name, on in zip(LEADS, out.present, strict=True) if not on] == ["aVR", "V1"]
    np.testing.assert_array_equal(lead(out, "II"), lead(ecg, "II"))
    assert ecg.present.all(), "the recording given must not change"


def test_kept_leads_are_all_that_is_left(ecg: Ecg) -> None:
    out = keep_leads(ecg, PRECORDIAL)
    assert [name for name, on in zip(LEADS, out.present, strict=True) if on] == ["V1", "V2", "V3", "V4", "V5", "V6"]


def test_a_limb_reversal_is_what_the_electrodes_would_give() -> None:
    """Leads computed from the potentials of the electrodes, before and after two of them change places."""
    rng = np.random.default_rng(0)
    potential = dict(zip(("RA", "LA", "LL", *LEADS[6:]), rng.standard_normal((9, 50)), strict=True))

    def recorded(p: dict[str, np.ndarray]) -> Ecg:
        ra, la, ll = p["RA"], p["LA"], p["LL"]
        limbs = [la - ra, ll - ra, ll - la, ra - (la + ll) / 2, la - (ra + ll) / 2, ll - (ra + la) / 2]
        return Ecg(np.stack([*limbs, *(p[v] - (ra + la + ll) / 3 for v in LEADS[6:])]).astype(np.float32), 100.0)

    for pair in ("LA/LL", "RA/LA"):
        one, other = pair.split("/")
        swapped = recorded(potential | {one: potential[other], other: potential[one]})
        np.testing.assert_allclose(reverse_limbs(recorded(potential), pair).signal, swapped.signal, atol=1e-6)


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("snr", SNRS)
def test_noise_has_the_power_that_its_ratio_says(ecg: Ecg, kind: str, snr: float) -> None:
    """Signal power after scipy's own cleaning, noise power from what was added."""
    noisy = add_noise(ecg, kind, snr, np.random.default_rng(1))
    assert noisy.fs == 500.0
    added = noisy.signal.astype(np.float64) - ecg.signal
    sos = scipy.signal.butter(2, 0.5, "highpass", fs=100.0, output="sos")
    cleaned = scipy.signal.sosfiltfilt(sos, resample(ecg.signal, ecg.fs, 100.0).astype(np.float64), padlen=100)
    np.testing.assert_allclose(10 * np.log10(np.mean(cleaned**2, axis=1) / np.mean(added**2, axis=1)), snr, atol=0.02)
    assert abs(np.corrcoef(added[0], added[7])[0, 1]) < 0.995, "the leads' noises are their own"


@pytest.mark.parametrize(("kind", "low", "high"), [("wander", 0, 0.6), ("muscle", 19, 151), ("mains", 49, 51), ("white", 0, 250)])
def test_noise_lies_in_its_band(kind: str, low: float, high: float) -> None:
    noise = noise_of(kind, 3, 50_000, 500.0, np.random.default_rng(2))
    at, density = scipy.signal.welch(noise, 500.0, nperseg=20_000)
    inside = (at >= low) & (at <= high)
    assert density[:, inside].sum() > 0.99 * density.sum()
    if kind == "white":
        below = at <= 125
        assert density[:, below].sum() == pytest.approx(0.5 * density.sum(), rel=0.05)


def test_cleaning_takes_out_mains_and_wander_but_not_muscle(ecg: Ecg) -> None:
    def left(kind: str) -> float:
        """Noise that is still there after cleaning, in dB under the signal."""
        noisy = add_noise(at_100(ecg), kind, 0.0, np.random.default_rng(3))
        base = Ecg(resample(standard(ecg)[0], 100.0, 500.0), 500.0)
        clean = [remove_baseline(standard(each)[0], 100.0)[:, 20:-20] for each in (noisy, base)]
        return float(10 * np.log10(np.mean((clean[0] - clean[1]) ** 2) / np.mean(clean[1] ** 2)))

    values = {kind: left(kind) for kind in NOISES}
    assert values["mains"] < -25
    assert values["wander"] < -5
    assert values["muscle"] > -12
    assert values["white"] == pytest.approx(10 * np.log10(43 / 250), abs=1.5)


def test_noise_leaves_leads_off_and_gaps_as_they_are(ecg: Ecg) -> None:
    broken = drop_leads(ecg, ["V3"])
    broken.signal[0, 100:600] = np.nan
    noisy = add_noise(broken, "muscle", 5.0, np.random.default_rng(0))
    np.testing.assert_array_equal(np.isnan(noisy.signal), np.isnan(broken.signal))
    assert power(broken)[LEADS.index("V3")] == 0


def test_a_study_gets_its_own_noise_at_every_level(ecg: Ecg) -> None:
    loud, soft = (add_noise(ecg, "white", snr, rng_of("s1", 0)).signal - ecg.signal for snr in (0.0, 20.0))
    np.testing.assert_allclose(loud, 10 * soft, atol=1e-4)
    other = add_noise(ecg, "white", 0.0, rng_of("s2", 0)).signal - ecg.signal
    assert abs(np.corrcoef(loud[0], other[0])[0, 1]) < 0.1
    assert not np.allclose(loud, add_noise(ecg, "white", 0.0, rng_of("s1", 1)).signal - ecg.signal)


def test_rates_gain_and_excerpts(ecg: Ecg) -> None:
    there = through_rate(ecg, 250.0)
    assert (there.fs, there.signal.shape) == (500.0, (12, 5000))
    inner = slice(5, -5)
    np.testing.assert_allclose(standard(there)[0][:, inner], standard(ecg)[0][:, inner], atol=0.02)
    np.testing.assert_allclose(gain(ecg, 0.5).signal, ecg.signal / 2, atol=1e-6)
    short = excerpt(ecg, 2.5)
    assert short.seconds == 2.5
    np.testing.assert_array_equal(short.signal, ecg.signal[:, : round(2.5 * ecg.fs)])
    assert excerpt(ecg, 60.0).seconds == ecg.seconds


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: drop_leads(e, ["aVX"]), "unknown lead 'aVX'; did you mean 'aV"),
        (lambda e: keep_leads(e, ["X"]), "unknown lead 'X'; known"),
        (lambda e: gain(e, 0.0), "expected a factor above 0, got 0"),
        (lambda e: excerpt(e, 0.0), "expected at least one sample"),
        (lambda e: reverse_limbs(e, "RA/RL"), "unknown pair 'RA/RL'; did you mean 'RA/LA'"),
        (lambda e: add_noise(e, "musle", 1.0, np.random.default_rng(0)), "did you mean 'muscle'"),
        (lambda e: add_noise(e, "white", float("nan"), np.random.default_rng(0)), "ratio in dB, got nan"),
        (lambda e: replaced(np.arange(3), np.arange(3), 1.5, np.random.default_rng(0)), "a share from 0 to 1, got 1.5"),
    ],
)
def test_what_cannot_be_is_refused(ecg: Ecg, call: Callable[[Ecg], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call(ecg)


def test_replaced_cases_by_share() -> None:
    ids, unrelated = np.array([5, 3, 8, 1, -1]), np.arange(100, 200)
    half = replaced(ids, unrelated, 0.5, np.random.default_rng(4))
    assert (half >= 100).sum() == 2
    assert half[4] == -1
    assert all(half[i] in (ids[i], *unrelated) for i in range(5))
    np.testing.assert_array_equal(replaced(ids, unrelated, 0.0, np.random.default_rng(4)), ids)
    whole = replaced(ids, unrelated, 1.0, np.random.default_rng(4))
    assert (whole[:4] >= 100).all()
    most = replaced(ids, unrelated, 0.75, np.random.default_rng(4))
    assert set(np.flatnonzero(half >= 100)) < set(np.flatnonzero(most >= 100)), "the places of half are among those of three quarters"
    shown = replaced(np.arange(6), np.arange(6), 0.5, np.random.default_rng(4))
    assert len(set(shown.tolist())) == 6, "cases that keep their place are not shown twice"
    few = replaced(ids, np.array([100]), 1.0, np.random.default_rng(4))
    assert sorted(few.tolist()) == [-1, -1, -1, -1, 100]


def test_a_circle_of_donors_gives_nobody_their_own() -> None:
    names = [f"s{i}" for i in range(20)]
    made = donors(names, np.random.default_rng(0))
    assert sorted(made) == sorted(made.values()) == sorted(names)
    assert all(study != donor for study, donor in made.items())
    for bad in (["a"], ["a", "a"]):
        with pytest.raises(DataError, match="two studies or more"):
            donors(bad, np.random.default_rng(0))


def test_borrowed_cases_are_those_that_may_be_seen() -> None:
    assert borrowed(np.array([4, 7, -1, 9]), np.array([7, 2])).tolist() == [4, 9, -1, -1]


def test_unrelated_and_planted_statements_by_hand() -> None:
    cases = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 0], [1, 0, 1]], bool)
    own = np.array([1, 0, 0], bool)
    assert unrelated_rows(cases, own, np.array([2])).tolist() == [1]
    assert unrelated_rows(cases, own, np.array([], np.int64)).tolist() == [1, 2], "a case that states nothing is none"
    assert only_planted(cases, np.array([0, 1, 4]), np.array([0, 2, -1])).tolist() == [False, True, True]
    assert only_planted(cases, np.array([4, 1, 0]), np.array([4, 2, -1])).tolist() == [False, True, False], "the kept case states the third"
    assert only_planted(cases, np.array([0, 1]), np.array([1, 0])).tolist() == [True, True, False], "what was found further down is planted too"
    assert not only_planted(cases, np.array([0, 1]), np.array([0, -1])).any()


def test_every_condition_has_its_own_name_and_keeps_the_shape(ecg: Ecg) -> None:
    rows = conditions()
    names = [row.name for row in rows]
    assert rows[0] == UNPERTURBED
    assert NO_RETRIEVAL in rows
    assert len(set(names)) == len(names) == 8 + 12 + 3 + 16 + 2 + 2 + 2 + 2
    changed = {}
    for row in rows:
        if row.change is not None:
            out = row.change(at_100(ecg), rng_of("s", 0))
            changed[row.name] = standard(out)[0].tobytes()
    assert len(set(changed.values())) == len(changed), "two conditions do the same"
    assert [row.unrelated for row in rows if row.unrelated] == [0.25, 0.5, 0.75, 1.0]
