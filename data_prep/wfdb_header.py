"""The header of a WFDB record, split once, with everything that it promises about the samples.

00001_hr 12 500 5000                                    record, channels, Hz, samples
00001_hr.dat 16 1000.0(0)/mV 16 0 -119 1508 0 I         file, format, gain(baseline)/unit, ..., first, checksum, -, name
"""

from __future__ import annotations

import os
import re
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from regen.errors import DataError

_FORMAT = re.compile(r"(?P<format>\d+)(?:x(?P<per_frame>\d+))?(?::(?P<skew>\d+))?(?:\+(?P<offset>\d+))?$")
_GAIN = re.compile(r"(?P<gain>[-+\d.eE]+)(?:\((?P<baseline>[-+]?\d+)\))?(?:/(?P<unit>\S+))?$")


class Channel(NamedTuple):
    """One line of the header. plain: one sample a frame, no skew; first, checksum: None where the line does not say."""

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


class Header(NamedTuple):
    """segments: names of the records that a multi-segment record is put together from; empty in an ordinary one."""

    fs: float
    samples: int | None
    channels: tuple[Channel, ...]
    segments: tuple[str, ...]
    time: datetime | None
    comments: dict[str, str]


def parse_header(path: Path) -> Header:
    """Read and split a header.

    Raises:
        DataError: no such file, it cannot be read, is empty, or a line does not parse.
    """
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8", "replace")
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


def _parse_lines(lines: list[str], comments: dict[str, str]) -> Header:
    name, *fields = lines[0].split()
    segments = int(name.split("/")[1]) if "/" in name else 1
    count = int(fields[0])
    fs = float(re.split(r"[/(]", fields[1])[0]) if len(fields) > 1 else 250.0
    samples = int(fields[2]) if len(fields) > 2 and int(fields[2]) > 0 else None
    if "/" in name:
        if len(lines) < 1 + segments or segments < 1:
            raise ValueError(f"{segments} segments announced, {len(lines) - 1} described")
        return Header(fs, samples, (), tuple(x.split()[0] for x in lines[1 : 1 + segments]), _clock(fields[3:]), comments)
    if len(lines) < 1 + count or count < 1:
        raise ValueError(f"{count} channels announced, {len(lines) - 1} described")
    return Header(fs, samples, tuple(_channel(x) for x in lines[1 : 1 + count]), (), _clock(fields[3:]), comments)


def _channel(line: str) -> Channel:
    file, kind, *rest = line.split(None, 8)
    known = len(rest)
    gain, baseline, unit = _scale(rest[0] if known else "200")
    if baseline is None:
        baseline = int(rest[2]) if known > 2 else 0
    return Channel(
        file, *_layout(kind), gain, baseline, unit, int(rest[3]) if known > 3 else None, int(rest[4]) if known > 4 else None,
        rest[6] if known > 6 else "",
    )  # fmt: skip


@lru_cache(maxsize=256)
def _layout(kind: str) -> tuple[int, bool, int]:
    """'16+24' -> format, whether it is plain, byte offset."""
    match = _FORMAT.match(kind)
    if not match:
        raise ValueError(f"format {kind!r}")
    return int(match["format"]), match["per_frame"] in (None, "1") and match["skew"] in (None, "0"), int(match["offset"] or 0)


@lru_cache(maxsize=4096)
def _scale(text: str) -> tuple[float, int | None, str]:
    """'1000.0(0)/mV' -> gain, baseline where given, unit."""
    match = _GAIN.match(text)
    if not match:
        raise ValueError(f"gain {text!r}")
    return float(match["gain"]), int(match["baseline"]) if match["baseline"] else None, match["unit"] or "mV"


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


def check_inside(header: Header, path: Path) -> None:
    """A header names files beside itself, nothing else: '../../etc/passwd' or 's3://...' is refused before it is opened."""
    for file in {*(c.file for c in header.channels), *header.segments}:
        plain = not any(mark in file for mark in "/\\:\0") and file not in {".", ".."}
        if not plain or _leads_away(path.parent / file):
            raise DataError(
                f"{path}: expected its signal files in the same folder, got {file!r}; put the file beside the header and name it there without a path"
            )


def _leads_away(path: Path) -> bool:
    """Whether it is a link to a file in another folder."""
    return os.path.islink(path) and path.resolve().parent != path.parent.resolve()
