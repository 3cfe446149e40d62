"""What goes wrong with a recording, and with retrieval, made on purpose: pure functions, for `regen eval robust`.

    drop_leads(ecg, ["V1"])                                   NaN where the electrode is off
    add_noise(ecg, "white", 10.0, rng_of(study.study_id, 0))  10 dB below the cleaned signal, lead by lead
    replaced(ids, unrelated, 0.5, rng)                        half of the retrieved cases exchanged

What is random depends on the seed and the study's id alone: a study gets the same noise at every level, and the places where half of its
cases are exchanged are among those where three quarters are.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from regen.data_prep.clean import remove_baseline, resample, standard
from regen.errors import ConfigError, DataError, did_you_mean
from regen.index.backends import Ids
from regen.study import LEADS, Ecg

LIMB = LEADS[:6]
PRECORDIAL = LEADS[6:]
MAINS_HZ = 50.0
BANDS: dict[str, tuple[float, float]] = {"wander": (0.05, 0.5), "muscle": (20.0, 150.0), "white": (0.0, np.inf)}
"""Hz. Gaussian noise of this band; 'mains' is a sine of 50 Hz instead."""
NOISES = (*BANDS, "mains")
NOISE_HZ = 500.0
"""Noise is added at this rate or the recording's own, whichever is higher: 100 Hz hold neither the mains nor what muscles add."""
REVERSALS: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "LA/LL": (("II", "I", "III", "aVR", "aVF", "aVL"), (1, 1, -1, 1, 1, 1)),
    "RA/LA": (("I", "III", "II", "aVL", "aVR", "aVF"), (-1, 1, 1, 1, 1, 1)),
}
"""Electrodes swapped -> which true lead each limb lead then shows, and its sign. Precordial leads stay: their reference is the mean of all
three limbs."""


def rng_of(study_id: str, seed: int) -> np.random.Generator:
    """A study's own generator, whatever stands before it in its batch."""
    return np.random.default_rng([seed, zlib.crc32(study_id.encode())])


def drop_leads(ecg: Ecg, leads: Collection[str]) -> Ecg:
    """These leads off: NaN.

    Raises:
        ConfigError: a lead that is none of the twelve.
    """
    for lead in leads:
        if lead not in LEADS:
            raise ConfigError(f"drop_leads: unknown lead {lead!r}{did_you_mean(lead, LEADS)}")
    signal = ecg.signal.copy()
    signal[[LEADS.index(lead) for lead in leads]] = np.nan
    return Ecg(signal, ecg.fs)


def keep_leads(ecg: Ecg, leads: Collection[str]) -> Ecg:
    """All but these leads off. Raises ConfigError as drop_leads does."""
    drop_leads(ecg, leads)
    return drop_leads(ecg, [lead for lead in LEADS if lead not in leads])


def gain(ecg: Ecg, factor: float) -> Ecg:
    """Amplitudes times `factor`: a recording whose gain is wrong in its header."""
    if not 0 < factor < np.inf:
        raise ConfigError(f"gain: expected a factor above 0, got {factor}")
    return Ecg(ecg.signal * np.float32(factor), ecg.fs)


def excerpt(ecg: Ecg, seconds: float) -> Ecg:
    """The first seconds; a shorter recording stays as it is.

    Raises:
        ConfigError: less than one sample.
    """
    samples = round(seconds * ecg.fs) if seconds > 0 else 0
    if samples < 1:
        raise ConfigError(f"excerpt: expected at least one sample ({1 / ecg.fs:g} s), got {seconds} s")
    return Ecg(ecg.signal[:, :samples], ecg.fs)


def reverse_limbs(ecg: Ecg, electrodes: str = "LA/LL") -> Ecg:
    """Two limb electrodes swapped: LA/LL exchanges leads I and II, aVL and aVF and turns III over; RA/LA turns I over (Batchvarov, Malik
    and Camm, Europace 2007).

    Raises:
        ConfigError: another pair.
    """
    if electrodes not in REVERSALS:
        raise ConfigError(f"reverse_limbs: unknown pair {electrodes!r}{did_you_mean(electrodes, REVERSALS)}")
    shown, signs = REVERSALS[electrodes]
    signal = ecg.signal.copy()
    signal[: len(LIMB)] = ecg.signal[[LEADS.index(lead) for lead in shown]] * np.array(signs, np.float32)[:, None]
    return Ecg(signal, ecg.fs)


def through_rate(ecg: Ecg, via: float, to: float = 500.0) -> Ecg:
    """Stored at `via` Hz, read back as `to` Hz: what passes is what both rates hold, below 43 Hz."""
    there = ecg.signal if via == ecg.fs else resample(ecg.signal, ecg.fs, via)
    return Ecg(resample(there, via, to), to)


def add_noise(ecg: Ecg, kind: str, snr: float, rng: np.random.Generator) -> Ecg:
    """Noise of one of NOISES, independent from lead to lead, at a signal-to-noise ratio in dB.

    Signal power is the mean square of the lead after cleaning (100 Hz, baseline removed), noise power the mean square of what is added, in
    its whole band: of white noise at 500 Hz the cleaning then takes out five sixths. Leads that are off stay off, flat ones flat.

    Raises:
        ConfigError: an unknown kind, or a ratio that is no number.
    """
    if kind not in NOISES:
        raise ConfigError(f"add_noise: unknown kind {kind!r}{did_you_mean(kind, NOISES)}")
    if not np.isfinite(snr):
        raise ConfigError(f"add_noise: expected a signal-to-noise ratio in dB, got {snr}")
    if ecg.fs < NOISE_HZ:
        ecg = Ecg(resample(ecg.signal, ecg.fs, NOISE_HZ), NOISE_HZ)
    noise = noise_of(kind, len(LEADS), ecg.signal.shape[1], ecg.fs, rng)
    wanted = power(ecg) / 10 ** (snr / 10)
    scale = np.sqrt(wanted / np.mean(noise**2, axis=1))
    return Ecg((ecg.signal + scale[:, None] * noise).astype(np.float32), ecg.fs)


def power(ecg: Ecg) -> npt.NDArray[np.float64]:
    """(12,) mean square of each lead after cleaning, mV^2; 0 where the lead is off."""
    cleaned = remove_baseline(standard(ecg)[0], 100.0).astype(np.float64)
    return np.asarray(np.nansum(cleaned**2, axis=1) / np.maximum((~np.isnan(cleaned)).sum(axis=1), 1), np.float64)


def noise_of(kind: str, leads: int, samples: int, fs: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """(leads, samples) of noise at any amplitude. Longer than wanted and cut, so that the slowest of a band fit in."""
    if kind == "mains":
        phase = rng.uniform(0, 2 * np.pi, (leads, 1))
        return np.asarray(np.sin(2 * np.pi * MAINS_HZ / fs * np.arange(samples) + phase), np.float64)
    low, high = BANDS[kind]
    length = samples + round(20 * fs)
    spectrum = np.fft.rfft(rng.standard_normal((leads, length)))
    at = np.fft.rfftfreq(length, 1 / fs)
    spectrum[:, (at < low) | (at > high)] = 0
    return np.fft.irfft(spectrum, length)[:, :samples]


def donors(study_ids: Sequence[str], rng: np.random.Generator) -> dict[str, str]:
    """Each study -> another one, each once: one circle through all of them.

    Raises:
        DataError: fewer than two studies, or one twice.
    """
    if len(study_ids) < 2 or len(set(study_ids)) < len(study_ids):
        raise DataError(f"donors: expected two studies or more, each once, got {len(study_ids)} ({len(set(study_ids))} different); raise --limit")
    order = [study_ids[i] for i in rng.permutation(len(study_ids))]
    return dict(zip(order, [*order[1:], order[0]], strict=True))


def borrowed(ids: Ids, banned: Ids) -> Ids:
    """Another study's cases for an asker: those that it may see, in order; -1 in the places that this leaves. ids: (k,) rows of the index."""
    kept = ids[(ids >= 0) & ~np.isin(ids, banned)]
    return np.concatenate([kept, np.full(len(ids) - len(kept), -1, np.int64)])


def replaced(ids: Ids, unrelated: Ids, share: float, rng: np.random.Generator) -> Ids:
    """A share of the cases, in random places, exchanged for unrelated ones that are not shown already; -1 where there are not so many.

    ids: (k,) rows of the index, -1 where there is none; unrelated: (m,) rows that may be shown.

    Raises:
        ConfigError: a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"replaced: expected a share from 0 to 1, got {share}")
    places = rng.permutation(np.flatnonzero(ids >= 0))
    places = places[: round(share * len(places))]
    out = ids.copy()
    out[places] = -1
    planted = rng.permutation(np.setdiff1d(unrelated, out))[: len(places)]
    out[places[: len(planted)]] = planted
    return out


def unrelated_rows(cases: npt.NDArray[np.bool_], own: npt.NDArray[np.bool_], banned: Ids) -> Ids:
    """Rows of the index that state something and share no statement with the study, without those that it must not see.

    cases: (n, 71) what each case states; own: (71,) what the study does.
    """
    rows = np.flatnonzero(cases.any(axis=1) & ~(cases & own).any(axis=1))
    return np.setdiff1d(rows, banned)


def only_planted(cases: npt.NDArray[np.bool_], found: Ids, given: Ids) -> npt.NDArray[np.bool_]:
    """(71,) what cases state that stand where others were found, and none that stands where it was found. found, given: (k,), -1 for none."""
    planted, kept = given[(given >= 0) & (given != found)], given[(given >= 0) & (given == found)]
    return np.asarray(cases[planted].any(axis=0) & ~cases[kept].any(axis=0), np.bool_)


@dataclass(frozen=True, slots=True)
class Condition:
    """One row of the table. change: of each recording; shuffled: cases of another study; unrelated: share of cases exchanged; blank_ecg,
    blank_retrieval: the whole part hidden; rate: Hz that the recording must be held at for the row to mean anything."""

    name: str
    change: Callable[[Ecg, np.random.Generator], Ecg] | None = None
    shuffled: bool = False
    unrelated: float = 0.0
    blank_ecg: bool = False
    blank_retrieval: bool = False
    rate: float = 0.0

    @property
    def plants(self) -> bool:
        """Whether cases are shown that the search did not find."""
        return self.shuffled or self.unrelated > 0


UNPERTURBED = Condition("nothing")
NO_RETRIEVAL = Condition("retrieval blanked", blank_retrieval=True)
SNRS = (20.0, 10.0, 5.0, 0.0)
"""dB."""


def conditions() -> list[Condition]:
    """Every row of `regen eval robust`, `UNPERTURBED` first."""
    out = [UNPERTURBED, Condition("ECG blanked", blank_ecg=True), NO_RETRIEVAL, Condition("cases of another study", shuffled=True)]
    out += [Condition(f"{share:.0%} of the cases unrelated", unrelated=share) for share in (0.25, 0.5, 0.75, 1.0)]
    out += [Condition(f"{lead} off", _fixed(drop_leads, [lead])) for lead in LEADS]
    kept = {"limb leads": LIMB, "precordial leads": PRECORDIAL, "lead I": ("I",)}
    out += [Condition(f"{name} only", _fixed(keep_leads, leads)) for name, leads in kept.items()]
    named = {"white": "white noise", "wander": "baseline wander", "mains": "mains hum of 50 Hz", "muscle": "muscle noise"}
    out += [Condition(f"{name}, {snr:g} dB", partial(_noisy, kind, snr)) for kind, name in named.items() for snr in SNRS]
    out += [Condition(f"through {via:g} Hz, read as 500 Hz", _fixed(through_rate, via), rate=via) for via in (250.0, 100.0)]
    out += [Condition(f"gain x {factor:g}", _fixed(gain, factor)) for factor in (0.5, 2.0)]
    out += [Condition(f"first {seconds:g} s", _fixed(excerpt, seconds)) for seconds in (5.0, 2.5)]
    swaps = {"LA/LL": "left arm and left leg swapped (I and II)", "RA/LA": "arms swapped"}
    return out + [Condition(name, _fixed(reverse_limbs, electrodes)) for electrodes, name in swaps.items()]


def _fixed(function: Callable[..., Ecg], *arguments: Any) -> Callable[[Ecg, np.random.Generator], Ecg]:
    """A change that is not random."""
    return lambda ecg, rng: function(ecg, *arguments)


def _noisy(kind: str, snr: float, ecg: Ecg, rng: np.random.Generator) -> Ecg:
    return add_noise(ecg, kind, snr, rng)
