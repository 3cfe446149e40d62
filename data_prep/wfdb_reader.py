"""WFDB records in: a fast path for formats 16 and 212 in one signal file, everything else through the wfdb package.

wfdb spends most of its time on the header and never compares the header's checksums; here the header is split once
(`wfdb_header`) and the checksums decide whether the samples are the ones that were written.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regen.data_prep.leads import MILLIVOLTS, lead_of
from regen.data_prep.recording import age_of, sex_of, study_of
from regen.data_prep.wfdb_header import Header, check_inside, parse_header
from regen.errors import DataError
from regen.study import FloatArray, Study

_MISSING = {16: -32768, 212: -2048}
_RESOLUTION = {16: 16, 212: 12}


def read_wfdb(path: str | Path) -> Study:
    """Read one WFDB record into a Study with millivolts in the order of LEADS.

    path: the .hea file, or the record's name without suffix.

    Raises:
        DataError: no such file; a header that does not parse or points outside its folder; a signal file that is short, or
            whose samples do not match the header's checksums; a zero gain; no ECG lead; a rate outside 100 to 1000 Hz; less
            than 2 s.
    """
    header_path = Path(path)
    if header_path.suffix.lower() != ".hea":
        header_path = header_path.with_name(header_path.name + ".hea")
    header = parse_header(header_path)
    check_inside(header, header_path)
    flags: tuple[str, ...] = ()
    names = [c.name for c in header.channels]
    if _fast(header):
        physical = _read_fast(header, header_path)
    else:
        physical, names = _read_through_wfdb(header, header_path)
        flags = ("read_through_wfdb",)
    return study_of(
        physical,
        names,
        header.fs,
        header_path,
        time=header.time,
        age=age_of(header.comments.get("age")),
        sex=sex_of(header.comments.get("sex")),
        flags=flags,
    )


def _fast(header: Header) -> bool:
    if header.segments:
        return False
    kinds = {(c.file, c.format, c.offset) for c in header.channels}
    return len(kinds) == 1 and header.channels[0].format in _MISSING and all(c.plain for c in header.channels)


def _read_fast(header: Header, path: Path) -> FloatArray:
    adc = _adc(header, path)
    _check_gains(header, path)
    return _physical(adc, header)


def _adc(header: Header, path: Path) -> npt.NDArray[np.int16]:
    """(channels, time) int16, length and checksums verified."""
    first, channels = header.channels[0], len(header.channels)
    data_path = path.parent / first.file
    try:
        with open(data_path, "rb", buffering=0) as file:
            file.seek(first.offset)
            raw = np.frombuffer(file.read(), np.uint8)
    except OverflowError as error:
        raise DataError(f"{path}: expected a byte offset inside {first.file!r}, got {first.offset}; correct the header") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: expected its signal file {first.file!r} beside it, found none; copy it there") from error
    except OSError as error:
        raise DataError(f"{data_path}: cannot be read ({error.strerror}); check its rights") from error
    bits = 8 * len(raw)
    held = bits // (_RESOLUTION[first.format] * channels)
    samples = held if header.samples is None else header.samples
    if held < samples or samples == 0:
        raise DataError(
            f"{data_path}: expected {channels} channels x {samples} samples, the file holds {len(raw)} bytes "
            f"({held} samples); it was cut: copy it again, or fix the header's sample count"
        )
    adc = np.ascontiguousarray(_unpack(raw, first.format, samples * channels).reshape(samples, channels).T)
    _check_sums(header, adc.view(np.uint16).sum(axis=1, dtype=np.uint16).tolist(), data_path)
    if held > samples and any(c.checksum is None for c in header.channels):
        raise DataError(
            f"{data_path}: expected {samples} samples, the file holds {held} and the header has no checksums to tell which "
            "are right; fix the header's sample count"
        )
    return adc


def _check_sums(header: Header, sums: list[int], path: Path) -> None:
    for channel, got in zip(header.channels, sums, strict=True):
        if channel.checksum is not None and (channel.checksum & 0xFFFF) != got:
            raise DataError(
                f"{path}: expected checksum {channel.checksum & 0xFFFF} for channel {channel.name or '?'!r}, got {got}; "
                "samples or sample count changed since the header was written: copy the record again"
            )


def _unpack(raw: npt.NDArray[np.uint8], kind: int, count: int) -> npt.NDArray[np.int16]:
    if kind == 16:
        return raw[: 2 * count].view("<i2")
    padded = np.zeros((count + 1) // 2 * 3, np.uint8)
    padded[: min(len(raw), len(padded))] = raw[: len(padded)]
    low, mixed, high = padded.reshape(-1, 3).astype(np.int16).T
    out = np.empty((len(low), 2), np.int16)
    out[:, 0] = low | (mixed & 0x0F) << 8
    out[:, 1] = high | (mixed & 0xF0) << 4
    out[out > 2047] -= 4096
    return out.reshape(-1)[:count]


def _check_gains(header: Header, path: Path) -> None:
    for channel in header.channels:
        if lead_of(channel.name) is None:
            continue
        if channel.gain == 0 or not math.isfinite(channel.gain):
            raise DataError(
                f"{path}: expected a gain in units per millivolt for lead {channel.name}, got {channel.gain:g}: the amplitude is "
                "unknown; write the recorder's gain (often 200 or 1000) into the header"
            )
        if channel.unit.lower() not in MILLIVOLTS:
            raise DataError(
                f"{path}: expected volts for lead {channel.name} ({', '.join(MILLIVOLTS)}), got {channel.unit!r}; correct the unit in the header"
            )


def _physical(adc: npt.NDArray[np.int16], header: Header) -> FloatArray:
    """(channels, time) -> the same in float32 millivolts, the bits of float32(wfdb's float64).

    A quotient of two float32 numbers rounds to the same float32 whether or not it passes through float64 (53 >= 2 x 24 + 2
    bits, Figueroa 1995), so gains that float32 holds exactly take the narrow path.
    """
    gains, baselines, factors = _scales(tuple((c.gain, c.baseline, c.unit) for c in header.channels))
    out: npt.NDArray[Any] = adc.astype(gains.dtype)
    if baselines is not None:
        out -= baselines
    out /= gains
    missing = _MISSING[header.channels[0].format]
    if adc.min() <= missing:
        out[adc == missing] = np.nan
    if out.dtype != np.float32:
        with np.errstate(over="ignore"):  # becomes infinity, which study_of refuses by name
            out = out.astype(np.float32)
    if factors is not None:
        out *= factors
    return out


@lru_cache(maxsize=64)
def _scales(channels: tuple[tuple[float, int, str], ...]) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None, FloatArray | None]:
    """Gains (in the type to divide in), baselines and factors to millivolts, (channels, 1) each; None where they change nothing."""
    gains = np.array([[gain or 1.0] for gain, _, _ in channels])
    baselines = np.array([[baseline] for _, baseline, _ in channels])
    factors = np.array([[MILLIVOLTS.get(unit.lower(), 1.0)] for _, _, unit in channels], np.float32)
    narrow = (gains == gains.astype(np.float32)).all() and (np.abs(baselines) < 2**23).all()
    dtype = np.float32 if narrow else np.float64
    return gains.astype(dtype), baselines.astype(dtype) if baselines.any() else None, factors if (factors != 1).any() else None


def _read_through_wfdb(header: Header, path: Path) -> tuple[FloatArray, list[str]]:
    """Formats and layouts off the fast path: (channels, time) millivolts and channel names, checked as on the fast path."""
    import wfdb

    for name in set(header.segments) - {"~"}:
        part_path = path.with_name(f"{name}.hea")
        part = parse_header(part_path)
        if part.segments:
            raise DataError(f"{path}: expected segments that are records, got {name!r} with segments of its own; write the record as one")
        check_inside(part, part_path)
        _check_gains(part, part_path)
    _check_gains(header, path)
    try:
        record: Any = wfdb.rdrecord(str(path.with_suffix("")), physical=False, smooth_frames=False)
        if not header.segments:
            sums = [int(np.asarray(samples, np.int64).sum()) & 0xFFFF for samples in record.e_d_signal]
            _check_sums(header, sums, path)
        record = wfdb.rdrecord(str(path.with_suffix("")))
        signal = np.ascontiguousarray(record.p_signal.T, dtype=np.float32)
        signal *= np.array([[MILLIVOLTS.get(unit.lower(), 1.0)] for unit in record.units], np.float32)
        return signal, [name or "" for name in record.sig_name]
    except DataError:
        raise
    except Exception as error:  # wfdb lets many kinds through on damaged files
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(f"{path}: the wfdb package could not decode it ({reason}); copy the record again") from error
