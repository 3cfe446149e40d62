"""WFDB records in: a fast path for formats 16 and 212 in one signal file, everything else through the wfdb package.

    00001_hr 12 500 5000                                    record, channels, Hz, samples
    00001_hr.dat 16 1000.0(0)/mV 16 0 -119 1508 0 I         file, format, gain(baseline)/unit, ..., first, checksum, -, name

wfdb spends most of its time on the header and never compares the header's checksums; here the header is split once and the
checksums decide whether the samples are the ones that were written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regen.data_prep.leads import MILLIVOLTS, lead_of
from regen.data_prep.recording import age_of, sex_of, study_of
from regen.errors import DataError
from regen.study import FloatArray, Study

_FORMAT = re.compile(r"(?P<format>\d+)(?:x(?P<per_frame>\d+))?(?::(?P<skew>\d+))?(?:\+(?P<offset>\d+))?$")
_GAIN = re.compile(r"(?P<gain>[-+\d.eE]+)(?:\((?P<baseline>[-+]?\d+)\))?(?:/(?P<unit>\S+))?$")
_MISSING = {16: -32768, 212: -2048}
_RESOLUTION = {16: 16, 212: 12}


@dataclass(frozen=True, slots=True)
class _Channel:
    file: str
    format: int
    plain: bool
    offset: int
    gain: float
    baseline: int
    unit: str
    first: int | None
    checksum: int | None
    name: str


@dataclass(frozen=True, slots=True)
class _Header:
    fs: float
    samples: int | None
    channels: tuple[_Channel, ...]
    segments: tuple[str, ...]
    """Names of the records that a multi-segment record is put together from; empty in an ordinary one."""
    time: datetime | None
    comments: dict[str, str]


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
    header = _parse_header(header_path)
    _check_inside(header, header_path)
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


def _parse_header(path: Path) -> _Header:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such WFDB header; give the .hea file of the record") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its rights") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    comments = {}
    for line in lines:
        if line.startswith("#") and ":" in line:
            key, value = line.lstrip("# ").split(":", 1)
            comments[key.strip().lower()] = value.strip()
    lines = [line for line in lines if not line.startswith("#")]
    if not lines:
        raise DataError(f"{path}: expected a WFDB header, got an empty file; copy the record again")
    try:
        return _parse_lines(lines, comments)
    except (ValueError, IndexError) as error:
        raise DataError(f"{path}: expected a WFDB header, got a line that does not parse ({error}); copy the record again") from error


def _parse_lines(lines: list[str], comments: dict[str, str]) -> _Header:
    name, *fields = lines[0].split()
    segments = int(name.split("/")[1]) if "/" in name else 1
    count = int(fields[0])
    fs = float(re.split(r"[/(]", fields[1])[0]) if len(fields) > 1 else 250.0
    samples = int(fields[2]) if len(fields) > 2 and int(fields[2]) > 0 else None
    if "/" in name:
        if len(lines) < 1 + segments or segments < 1:
            raise ValueError(f"{segments} segments announced, {len(lines) - 1} described")
        return _Header(fs, samples, (), tuple(x.split()[0] for x in lines[1 : 1 + segments]), _clock(fields[3:]), comments)
    if len(lines) < 1 + count or count < 1:
        raise ValueError(f"{count} channels announced, {len(lines) - 1} described")
    return _Header(fs, samples, tuple(_channel(x) for x in lines[1 : 1 + count]), (), _clock(fields[3:]), comments)


def _channel(line: str) -> _Channel:
    file, kind, *rest = line.split(None, 8)
    match = _FORMAT.match(kind)
    if not match:
        raise ValueError(f"format {kind!r}")
    gain = _GAIN.match(rest[0]) if rest else _GAIN.match("200")
    if not gain:
        raise ValueError(f"gain {rest[0]!r}")
    zero = int(rest[2]) if len(rest) > 2 else 0
    return _Channel(
        file=file,
        format=int(match["format"]),
        plain=match["per_frame"] in (None, "1") and match["skew"] in (None, "0"),
        offset=int(match["offset"] or 0),
        gain=float(gain["gain"]),
        baseline=int(gain["baseline"]) if gain["baseline"] else zero,
        unit=gain["unit"] or "mV",
        first=int(rest[3]) if len(rest) > 3 else None,
        checksum=int(rest[4]) if len(rest) > 4 else None,
        name=rest[6] if len(rest) > 6 else "",
    )


def _clock(fields: list[str]) -> datetime | None:
    """Base time and base date of the record line; None unless both are there: a time without its day orders nothing."""
    if len(fields) < 2:
        return None
    for date in ("%d/%m/%Y", "%d-%b-%Y"):
        for clock in ("%H:%M:%S", "%H:%M:%S.%f", "%H:%M"):
            try:
                return datetime.strptime(f"{fields[1]} {fields[0]}", f"{date} {clock}")
            except ValueError:
                try:
                    return datetime.strptime(f"{fields[0]} {fields[1]}", f"{date} {clock}")
                except ValueError:
                    continue
    return None


def _check_inside(header: _Header, path: Path) -> None:
    """A header names files beside itself, nothing else: '../../etc/passwd' or 's3://...' is refused before it is opened."""
    folder = path.parent.resolve()
    for file in {*(c.file for c in header.channels), *header.segments}:
        plain = not any(mark in file for mark in "/\\:\0") and file not in {".", ".."}
        if not plain or (path.parent / file).resolve().parent != folder:
            raise DataError(
                f"{path}: expected its signal files in the same folder, got {file!r}; put the file beside the header and name it there without a path"
            )


def _fast(header: _Header) -> bool:
    if header.segments:
        return False
    kinds = {(c.file, c.format, c.offset) for c in header.channels}
    return len(kinds) == 1 and header.channels[0].format in _MISSING and all(c.plain for c in header.channels)


def _read_fast(header: _Header, path: Path) -> FloatArray:
    adc = _adc(header, path)
    first = header.channels[0]
    _check_gains(header, path)
    missing = adc == _MISSING[first.format]
    return _physical(adc, missing, header, path)


def _adc(header: _Header, path: Path) -> npt.NDArray[np.int16]:
    """(time, channels) int16, length and checksums verified."""
    first, channels = header.channels[0], len(header.channels)
    data_path = path.parent / first.file
    try:
        raw = np.fromfile(data_path, np.uint8, offset=first.offset)
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
    adc = _unpack(raw, first.format, samples * channels).reshape(samples, channels)
    _check_sums(header, (adc.sum(axis=0, dtype=np.int64) & 0xFFFF).tolist(), data_path)
    if held > samples and any(c.checksum is None for c in header.channels):
        raise DataError(
            f"{data_path}: expected {samples} samples, the file holds {held} and the header has no checksums to tell which "
            "are right; fix the header's sample count"
        )
    return adc


def _check_sums(header: _Header, sums: list[int], path: Path) -> None:
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


def _check_gains(header: _Header, path: Path) -> None:
    for channel in header.channels:
        if lead_of(channel.name) is None:
            continue
        if channel.gain == 0 or not np.isfinite(channel.gain):
            raise DataError(
                f"{path}: expected a gain in units per millivolt for lead {channel.name}, got {channel.gain:g}: the amplitude is "
                "unknown; write the recorder's gain (often 200 or 1000) into the header"
            )
        if channel.unit.lower() not in MILLIVOLTS:
            raise DataError(
                f"{path}: expected volts for lead {channel.name} ({', '.join(MILLIVOLTS)}), got {channel.unit!r}; correct the unit in the header"
            )


def _physical(adc: npt.NDArray[np.int16], missing: npt.NDArray[np.bool_], header: _Header, path: Path) -> FloatArray:
    """(channels, time) float32 millivolts, the bits of float32(wfdb's float64).

    A quotient of two float32 numbers rounds to the same float32 whether or not it passes through float64 (53 >= 2 x 24 + 2
    bits, Figueroa 1995), so gains that float32 holds exactly take the narrow path.
    """
    gains = np.array([c.gain or 1.0 for c in header.channels])
    baselines = np.array([c.baseline for c in header.channels])
    narrow = (gains == gains.astype(np.float32)).all() and (np.abs(baselines) < 2**23).all()
    dtype = np.float32 if narrow else np.float64
    out: npt.NDArray[Any] = np.ascontiguousarray(adc.T).astype(dtype)
    if baselines.any():
        np.subtract(out, baselines[:, None].astype(dtype), out=out)
    np.divide(out, gains[:, None].astype(dtype), out=out)
    if missing.any():
        out[missing.T] = np.nan
    with np.errstate(over="ignore"):  # becomes infinity, which study_of refuses by name
        out = out.astype(np.float32, copy=False)
    return _to_millivolts(out, [c.unit for c in header.channels])


def _to_millivolts(out: FloatArray, units: list[str]) -> FloatArray:
    factors = np.array([MILLIVOLTS.get(unit.lower(), 1.0) for unit in units], np.float32)
    if (factors != 1).any():
        out *= factors[:, None]
    return out


def _read_through_wfdb(header: _Header, path: Path) -> tuple[FloatArray, list[str]]:
    """Formats and layouts off the fast path: (channels, time) millivolts and channel names, checked as on the fast path."""
    import wfdb

    for name in set(header.segments) - {"~"}:
        part_path = path.with_name(f"{name}.hea")
        part = _parse_header(part_path)
        if part.segments:
            raise DataError(f"{path}: expected segments that are records, got {name!r} with segments of its own; write the record as one")
        _check_inside(part, part_path)
        _check_gains(part, part_path)
    _check_gains(header, path)
    try:
        record: Any = wfdb.rdrecord(str(path.with_suffix("")), physical=False, smooth_frames=False)
        if not header.segments:
            sums = [int(np.asarray(samples, np.int64).sum()) & 0xFFFF for samples in record.e_d_signal]
            _check_sums(header, sums, path)
        record = wfdb.rdrecord(str(path.with_suffix("")))
        signal = np.ascontiguousarray(record.p_signal.T, dtype=np.float32)
        return _to_millivolts(signal, list(record.units)), [name or "" for name in record.sig_name]
    except DataError:
        raise
    except Exception as error:  # wfdb lets many kinds through on damaged files
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(f"{path}: the wfdb package could not decode it ({reason}); copy the record again") from error
