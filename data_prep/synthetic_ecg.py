"""A 12-lead ECG from a moving heart dipole, with the findings it is asked to show.

    synthesize(Coding({"AFIB": 1.0, "CRBBB": 1.0}), rng, fs=500.0, seconds=10.0) -> Ecg

Every beat is a sum of Gaussian waves, each with a direction in space, after ECGSYN (McSharry et al., IEEE TBME 50:289, 2003) and its
dipole form (Sameni et al., EURASIP JASP 2007); Dower's matrix turns the dipole into leads. Space is Frank's: x to the patient's left, y
to the feet, z to the back; amplitudes in mV, times in seconds from the QRS's main deflection. Synthetic, for tests and demonstrations.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from regen.data_prep.coding import Coding
from regen.study import LEADS, Ecg

Array = npt.NDArray[np.float64]
Codes = Collection[str]

_DOWER = np.array(
    [
        [0.632, -0.235, 0.059], [0.235, 1.066, -0.132], [-0.515, 0.157, -0.917], [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277], [1.213, 0.127, -0.601], [1.125, 0.127, -0.086], [0.831, 0.076, 0.230],
    ]
)  # fmt: skip
"""I, II, V1 ... V6 from x, y, z (Dower et al. 1980)."""


@dataclass(frozen=True, slots=True)
class Wave:
    """One Gaussian of a beat: when (s from the QRS), how wide (s), which way (mV along x, y, z)."""

    at: float
    width: float
    vector: tuple[float, float, float]


@dataclass(slots=True)
class Heart:
    """Everything that makes one person's beat, before rhythm. pr: P onset to QRS onset, s; qtc: Bazett, s."""

    pr: float = 0.155
    qtc: float = 0.405
    early: float = 0.035
    """QRS onset to the main deflection, s."""
    p: list[Wave] = field(default_factory=list)
    """Times from P onset."""
    qrs: list[Wave] = field(default_factory=list)
    t: tuple[float, float, float] = (0.24, 0.20, -0.13)
    st: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation: float = 0.0
    """Turn of QRS and T in the frontal plane, degrees, positive towards the feet (right axis)."""
    scale: float = 1.0


def synthesize(coding: Coding, rng: np.random.Generator, fs: float = 500.0, seconds: float = 10.0) -> Ecg:
    """An ECG that shows the coding's statements, axis, stage and noise. (12, fs * seconds) millivolts."""
    heart = _heart(coding, rng)
    time = np.arange(round(fs * seconds)) / fs
    dipole = np.zeros((3, len(time)))
    beats = _beats(coding, rng, seconds)
    for i, (when, kind) in enumerate(beats):
        rr = when - beats[i - 1][0] if i else beats[1][0] - when
        for wave in _beat(heart, kind, float(np.clip(rr, 0.35, 1.4)), rng):
            _add(dipole, time, when, wave)
    codes = coding.statements.keys()
    if "AFIB" in codes:
        dipole += _fibrillation(time, rng)
    if "AFLT" in codes:
        dipole += _flutter(time, rng)
    breath = 1 + 0.05 * np.sin(2 * np.pi * (rng.uniform(0.2, 0.33) * time + rng.random()))
    matrix = _DOWER * rng.normal(1.0, 0.05, _DOWER.shape)
    signal = _twelve(matrix @ (dipole * breath * heart.scale))
    if "PACE" in codes:
        signal += _spikes(beats, time, fs, rng)
    signal += _noise(coding.quality, time, rng)
    return Ecg(signal.astype(np.float32), fs)


def heart_rate(coding: Coding, rng: np.random.Generator, seconds: float = 10.0) -> float:
    """Beats a minute of the ECG that synthesize draws from a generator in this state, without drawing it."""
    _heart(coding, rng)
    times = [when for when, _ in _beats(coding, rng, seconds) if 0 <= when < seconds]
    return 60 * (len(times) - 1) / (times[-1] - times[0])


def _add(dipole: Array, time: Array, when: float, wave: Wave) -> None:
    centre = when + wave.at
    low, high = np.searchsorted(time, [centre - 4 * wave.width, centre + 4 * wave.width])
    shape = np.exp(-0.5 * ((time[low:high] - centre) / wave.width) ** 2)
    dipole[:, low:high] += np.asarray(wave.vector)[:, None] * shape


def _twelve(eight: Array) -> Array:
    one, two, *chest = eight
    return np.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2, *chest])


# --- the beat -----------------------------------------------------------------------------------------------------------


def _heart(coding: Coding, rng: np.random.Generator) -> Heart:
    codes = coding.statements.keys()
    heart = Heart(pr=rng.normal(0.155, 0.015), qtc=rng.normal(0.405, 0.012), scale=float(rng.lognormal(0, 0.12)))
    heart.p = [Wave(0.036, 0.017, (0.035, 0.075, -0.035)), Wave(0.062, 0.019, (0.055, 0.055, 0.030))]
    heart.qrs = [
        Wave(-0.022, 0.0075, (-0.13, 0.02, -0.22)),
        Wave(-0.007, 0.010, (0.42, 0.34, -0.38)),
        Wave(0.004, 0.0105, (0.80, 0.62, 0.62)),
        Wave(0.023, 0.009, (-0.16, -0.16, 0.30)),
    ]
    _conduction(heart, codes, rng)
    _hypertrophy(heart, codes, rng)
    _infarction(heart, codes, coding.stage, rng)
    _repolarisation(heart, codes, rng)
    turns = {"MID": 0.0, "LAD": -55.0, "ALAD": -85.0, "RAD": 62.0, "ARAD": 110.0, "AXL": -30.0, "AXR": 30.0}
    heart.rotation = rng.normal(0, 7) + (0.0 if "PACE" in codes else turns.get(coding.axis or "MID", 0.0))
    heart.qrs = [replace(w, vector=_jitter(w.vector, rng), width=w.width * rng.normal(1, 0.04)) for w in heart.qrs]
    heart.p = [replace(w, vector=_jitter(w.vector, rng)) for w in heart.p]
    heart.t = _jitter(heart.t, rng)
    return heart


def _jitter(vector: tuple[float, float, float], rng: np.random.Generator) -> tuple[float, float, float]:
    x, y, z = np.asarray(vector) * rng.lognormal(0, 0.12) + rng.normal(0, 0.04 * np.linalg.norm(vector), 3)
    return float(x), float(y), float(z)


def _conduction(heart: Heart, codes: Codes, rng: np.random.Generator) -> None:
    if "1AVB" in codes:
        heart.pr = rng.uniform(0.225, 0.31)
    if "CLBBB" in codes:
        heart.early = 0.055
        heart.qrs = [Wave(-0.022, 0.011, (0.22, 0.10, 0.10)), Wave(0.000, 0.0165, (0.62, 0.38, 0.85)), Wave(0.034, 0.0165, (0.78, 0.22, 0.62))]
        heart.t = (-0.26, -0.10, -0.42)
        heart.st = (-0.06, -0.02, -0.12)
    if "PACE" in codes:
        heart.early = 0.060
        heart.qrs = [Wave(-0.024, 0.012, (0.18, -0.25, 0.12)), Wave(0.004, 0.019, (0.35, -0.80, 0.90)), Wave(0.042, 0.0185, (0.45, -0.62, 0.55))]
        heart.t = (-0.14, 0.34, -0.42)
    if "CRBBB" in codes:
        heart.qrs.append(Wave(0.052, 0.0155, (-0.55, 0.05, -0.72)))
        heart.t = (0.24, 0.16, 0.10)
    elif "IRBBB" in codes:
        heart.qrs.append(Wave(0.036, 0.0095, (-0.26, -0.02, -0.42)))
    if "LAFB" in codes:
        heart.qrs.insert(1, Wave(-0.018, 0.008, (-0.05, 0.35, -0.05)))


def _hypertrophy(heart: Heart, codes: Codes, rng: np.random.Generator) -> None:
    if "LVH" in codes:
        heart.qrs = [replace(w, vector=(1.75 * w.vector[0], 1.2 * w.vector[1], 1.9 * w.vector[2]), width=1.12 * w.width) for w in heart.qrs]
    if "VCLVH" in codes:
        heart.scale *= 1.5
    if "LVOLT" in codes:
        heart.scale *= rng.uniform(0.28, 0.4)
    if "LAO/LAE" in codes:
        heart.p = [heart.p[0], Wave(0.088, 0.021, (0.085, 0.05, 0.110))]


def _infarction(heart: Heart, codes: Codes, stage: str | None, rng: np.random.Generator) -> None:
    acute = stage in {"I", "I-II"}
    away = {
        "ASMI": (0.02, 0.0, 0.62),
        "AMI": (0.0, 0.0, 0.6),
        "IMI": (0.06, -0.62, 0.0),
        "LMI": (-0.62, 0.08, 0.0),
        "ALMI": (-0.4, 0.0, 0.45),
        "ILMI": (-0.3, -0.5, 0.0),
    }
    for code, (x, y, z) in away.items():
        if code not in codes:
            continue
        size = rng.uniform(0.85, 1.2)
        heart.qrs.insert(0, Wave(-0.016, 0.0125, (x * size, y * size, z * size)))
        tx, ty, tz = heart.t
        sx, sy, sz = heart.st
        lift = -0.42 * rng.uniform(0.8, 1.3)
        if acute:
            heart.st = (sx + lift * x, sy + lift * y, sz + lift * z)
            heart.t = (tx - 0.3 * x, ty - 0.3 * y, tz - 0.3 * z)
        else:
            heart.t = (tx + 0.62 * x, ty + 0.62 * y, tz + 0.45 * z)


def _repolarisation(heart: Heart, codes: Codes, rng: np.random.Generator) -> None:
    if "LNGQT" in codes:
        heart.qtc = rng.uniform(0.49, 0.57)
    if "STD_" in codes or "ISC_" in codes or "ISCAL" in codes:
        deep = rng.uniform(0.9, 1.5)
        heart.st = (heart.st[0] - 0.11 * deep, heart.st[1] - 0.08 * deep, heart.st[2] + 0.03)
        heart.t = (0.35 * heart.t[0] - 0.04, 0.35 * heart.t[1] - 0.02, heart.t[2] * 0.4)
    if "INVT" in codes:
        heart.t = (-0.85 * heart.t[0], -0.45 * heart.t[1], heart.t[2] * 0.3 + 0.06)
    if "LOWT" in codes:
        heart.t = (0.22 * heart.t[0], 0.22 * heart.t[1], 0.25 * heart.t[2])


def _beat(heart: Heart, kind: str, rr: float, rng: np.random.Generator) -> list[Wave]:
    """The waves of one beat. kind: 'sinus', 'conducted' (no P of its own), 'pac' or 'pvc'."""
    if kind == "pvc":
        side = 1.0 if rng.random() < 0.5 else -1.0
        vectors = [(0.5 * side, 0.35, 0.55 * side), (1.05 * side, 0.75, 1.05 * side), (0.55 * side, 0.3, 0.5 * side)]
        qrs = [Wave(at, 0.026, v) for at, v in zip((-0.03, 0.01, 0.05), vectors, strict=True)]
        return [*qrs, Wave(0.285, 0.055, (-0.42 * side, -0.25, -0.42 * side))]
    waves = [_turn(w, heart.rotation) for w in heart.qrs]
    if kind in {"sinus", "pac"}:
        start = -heart.early - heart.pr * (0.9 if kind == "pac" else 1.0)
        flip = -0.6 if kind == "pac" else 1.0
        waves += [Wave(start + w.at, w.width, (w.vector[0] * flip, w.vector[1] * flip, w.vector[2])) for w in heart.p]
    qt = heart.qtc * np.sqrt(rr) - heart.early
    width = 0.040 * np.sqrt(rr) + 0.008
    peak = qt - 2.1 * width
    turn = 0.6 * heart.rotation
    waves.append(_turn(Wave(peak, width, heart.t), turn))
    waves.append(_turn(Wave(peak - 1.3 * width, 1.35 * width, tuple(0.28 * c for c in heart.t)), turn))  # type: ignore[arg-type]
    if any(heart.st):
        for at in np.linspace(0.055, peak - 0.5 * width, 4):
            waves.append(_turn(Wave(float(at), 0.035, tuple(0.75 * c for c in heart.st)), 0.0))  # type: ignore[arg-type]
    return waves


def _turn(wave: Wave, degrees: float) -> Wave:
    """Rotate in the frontal plane: positive towards the feet and the right."""
    angle = np.radians(degrees)
    x, y, z = wave.vector
    return replace(wave, vector=(x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle), z))


# --- the rhythm ---------------------------------------------------------------------------------------------------------


def _beats(coding: Coding, rng: np.random.Generator, seconds: float) -> list[tuple[float, str]]:
    """(time of the main deflection, kind) from before the recording's start to after its end."""
    codes = coding.statements.keys()
    if "PACE" in codes:
        intervals, kind = np.full(60, 60 / rng.uniform(60, 75)), "conducted"
    elif "AFIB" in codes:
        rate = rng.uniform(62, 125)
        intervals, kind = np.maximum(60 / rate * rng.gamma(18, 1 / 18, 80), 0.33), "conducted"
    elif "AFLT" in codes:
        wave = 1 / rng.uniform(4.6, 5.2)
        ratios = np.full(80, 2) if rng.random() < 0.4 else rng.choice([2, 3, 4, 4], 80)
        intervals, kind = wave * ratios, "conducted"
    else:
        intervals, kind = _sinus(codes, rng), "sinus"
    times = -intervals[0] * rng.random() - intervals[0] + np.concatenate([[0.0], np.cumsum(intervals)])
    beats = [(float(t), kind) for t in times if t < seconds + 0.6]
    if "PVC" in codes:
        beats = _premature(beats, rng, "pvc", 0.48, pause=True, every=2 if "BIGU" in codes else None)
    if "PAC" in codes:
        beats = _premature(beats, rng, "pac", 0.66, pause=False, every=None)
    return beats


def _sinus(codes: Codes, rng: np.random.Generator) -> Array:
    rate = rng.uniform(103, 138) if "STACH" in codes else rng.uniform(42, 57) if "SBRAD" in codes else rng.uniform(62, 94)
    swing = rng.uniform(0.14, 0.22) if "SARRH" in codes else rng.uniform(0.005, 0.03)
    breath, phase = rng.uniform(0.18, 0.28), rng.random()
    times, out = 0.0, []
    for _ in range(80):
        rr = 60 / rate * (1 + swing * np.sin(2 * np.pi * (breath * times + phase)) + rng.normal(0, 0.006))
        out.append(rr)
        times += rr
    return np.array(out)


def _premature(
    beats: list[tuple[float, str]], rng: np.random.Generator, name: str, coupling: float, pause: bool, every: int | None
) -> list[tuple[float, str]]:
    """Bring some beats forward. After a ventricular one the sinus keeps its time (full pause); after an atrial one it is reset."""
    inside = [i for i, (t, kind) in enumerate(beats) if 1.2 < t < 8.6 and kind in {"sinus", "conducted"}]
    if every:
        chosen = set(inside[::every])
    else:
        count = int(rng.integers(1, 3 if len(inside) < 8 else 4))
        spaced = inside[:: max(2, len(inside) // 4)]
        chosen = set(rng.choice(spaced, min(count, len(spaced)), replace=False).tolist())
    out: list[tuple[float, str]] = []
    shift = 0.0
    for i, (when, kind) in enumerate(beats):
        if i in chosen:
            rr = when - beats[i - 1][0]
            early = rr * (1 - coupling * rng.uniform(0.95, 1.1))
            out.append((when + shift - early, name))
            shift -= 0.0 if pause else early * 0.85
        else:
            out.append((when + shift, kind))
    return out


def _fibrillation(time: Array, rng: np.random.Generator) -> Array:
    direction = np.array([0.02, 0.035, -0.06]) * rng.uniform(0.7, 1.6)
    total = np.zeros_like(time)
    for _ in range(4):
        drift = 0.3 * np.cumsum(rng.normal(0, 1, len(time))) * np.sqrt(time[1])
        total += rng.uniform(0.4, 1) * np.sin(2 * np.pi * (rng.uniform(4.8, 7.6) * time + rng.random()) + drift)
    return direction[:, None] * total / 1.5


def _flutter(time: Array, rng: np.random.Generator) -> Array:
    phase = (rng.uniform(4.6, 5.2) * time + rng.random()) % 1.0
    saw = np.where(phase < 0.72, phase / 0.72, (1 - phase) / 0.28) - 0.5
    return np.array([-0.01, -0.28, -0.06])[:, None] * rng.uniform(0.8, 1.2) * saw


# --- the recorder -------------------------------------------------------------------------------------------------------


def _spikes(beats: list[tuple[float, str]], time: Array, fs: float, rng: np.random.Generator) -> Array:
    out = np.zeros((len(LEADS), len(time)))
    size = _twelve((_DOWER @ np.array([0.5, -1.0, 0.4])) * rng.uniform(1.2, 2.0))
    for when, _ in beats:
        at = round((when - 0.072) * fs)
        if 0 <= at < len(time) - 2:
            out[:, at : at + max(1, round(0.002 * fs))] += size[:, None]
    return out


def _noise(quality: dict[str, str], time: Array, rng: np.random.Generator) -> Array:
    """Muscle, mains and wandering baseline in every recording; much more where the coding notes it. (12, time) mV."""
    shape = (len(LEADS), len(time))
    fs = 1 / time[1]
    muscle = _band(rng.normal(0, 1, shape), fs)
    out = muscle * rng.uniform(0.004, 0.012)
    out += rng.uniform(0, 0.006) * np.sin(2 * np.pi * (rng.choice([50.0, 60.0]) * time + rng.random((len(LEADS), 1))))
    out += _wander(time, rng) * rng.uniform(0.01, 0.04)
    if "DRIFT" in quality:
        out += _rows(quality["DRIFT"])[:, None] * _wander(time, rng) * rng.uniform(0.25, 0.5)
    if "STATIC" in quality:
        out += _rows(quality["STATIC"])[:, None] * muscle * rng.uniform(0.04, 0.07)
    if "BURST" in quality:
        start = rng.uniform(0.5, time[-1] - 2.5)
        window = ((time > start) & (time < start + rng.uniform(0.8, 2.0))).astype(float)
        out += _rows(quality["BURST"])[:, None] * window * muscle * rng.uniform(0.15, 0.3)
    if "ELECTRODE" in quality:
        steps = np.cumsum((rng.random(len(time)) < 1.2 / fs) * rng.normal(0, 1.2, len(time)))
        out += _rows(quality["ELECTRODE"])[:, None] * (steps + 0.15 * muscle)
    return out


def _band(white: Array, fs: float) -> Array:
    """Muscle noise: white with the slow part taken out, unit standard deviation."""
    spectrum = np.fft.rfft(white, axis=1)
    frequency = np.fft.rfftfreq(white.shape[1], 1 / fs)
    shaped = np.fft.irfft(spectrum * np.clip((frequency - 10) / 25, 0, 1), white.shape[1], axis=1)
    return shaped / (shaped.std() + 1e-12)


def _wander(time: Array, rng: np.random.Generator) -> Array:
    rates, phases = rng.uniform(0.08, 0.4, (12, 3, 1)), rng.random((12, 3, 1))
    return (np.sin(2 * np.pi * (rates * time + phases)) * rng.uniform(0.3, 1, (12, 3, 1))).sum(axis=1)


def _rows(leads: str) -> Array:
    """(12,) 1 for the leads that are named: 'V6', 'II, aVF', 'I-aVF', 'all leads'."""
    out = np.zeros(len(LEADS))
    for part in leads.split(","):
        part = part.strip()
        if part in {"all leads", ""}:
            return np.ones(len(LEADS))
        first, _, last = part.partition("-")
        out[LEADS.index(first) : LEADS.index(last or first) + 1] = 1
    return out
