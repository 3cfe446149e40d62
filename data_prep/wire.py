"""Values as bytes between the main process and its workers: JSON and the bytes of arrays, nothing that runs.

    unpack(pack(("00001", Study("00001", ecg=Ecg(signal, 500.0)))))        the same again

A worker that a hostile file has taken over can send numbers, text, arrays and studies, and no more: the kinds are listed here, names of
code are not among them, and what does not fit raises WireError.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from regen.errors import RegenError
from regen.study import Cxr, Ecg, Study

RECORDS = {kind.__name__: kind for kind in (Study, Ecg, Cxr)}
_LENGTH = 8
"""Bytes before the JSON that tell its length."""
_NUMBERS = "biuf"
"""Kinds of arrays: truth values, whole and real numbers."""


class WireError(ValueError):
    """A value of a kind that is not sent, or bytes that hold none."""


def pack(value: object) -> bytes:
    """None, truth values, numbers, text, paths, datetimes, arrays of numbers, the RECORDS, and lists, tuples and dicts of them.

    Raises:
        WireError: anything else.
    """
    arrays: list[npt.NDArray[Any]] = []
    text = json.dumps(_plain(value, arrays)).encode()
    return b"".join([len(text).to_bytes(_LENGTH, "little"), text, *(array.tobytes() for array in arrays)])


def unpack(message: bytes) -> Any:
    """What was packed; arrays are writable copies, numbers of numpy come back as Python's.

    Raises:
        WireError: the bytes are cut, too long, or hold something that pack does not write.
    """
    end = _LENGTH + int.from_bytes(message[:_LENGTH], "little")
    if end > len(message):
        raise WireError(f"expected a packed value of {end} bytes or more, got {len(message)}")
    try:
        arrays = _Arrays(memoryview(message)[end:])
        value = _value(json.loads(message[_LENGTH:end]), arrays)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, RegenError) as error:
        raise WireError(f"expected a packed value, got {len(message)} bytes that are none ({error})") from error
    if len(arrays.left):
        raise WireError(f"expected a packed value, got {len(arrays.left)} bytes after its end")
    return value


def _plain(value: object, arrays: list[npt.NDArray[Any]]) -> Any:
    """The value in JSON's kinds; every object is {kind: content}, and arrays are put aside in order."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list():
            return [_plain(each, arrays) for each in value]
        case tuple():
            return {"tuple": [_plain(each, arrays) for each in value]}
        case dict():
            return {"dict": [[_plain(key, arrays), _plain(each, arrays)] for key, each in value.items()]}
        case datetime():
            return {"time": value.isoformat()}
        case PurePath():
            return {"path": str(value)}
        case bytes():
            arrays.append(np.frombuffer(value, np.uint8))
            return {"bytes": len(value)}
        case np.generic() if value.dtype.kind in _NUMBERS:
            return value.item()
        case np.ndarray() if value.dtype.kind in _NUMBERS:
            arrays.append(value)
            return {"array": [value.dtype.str, *value.shape]}
    if type(value) in RECORDS.values():
        return {type(value).__name__: [_plain(getattr(value, field.name), arrays) for field in dataclasses.fields(value)]}  # type: ignore[arg-type]
    raise WireError(f"expected a study, an array or plain values, got {type(value).__name__}")


class _Arrays:
    """The arrays' bytes, taken from the front."""

    def __init__(self, data: memoryview) -> None:
        self.left = data

    def take(self, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        kind = np.dtype(dtype)
        size = kind.itemsize
        for length in shape:
            size *= length
        if kind.kind not in _NUMBERS or min(shape, default=0) < 0 or not 0 <= size <= len(self.left):
            raise WireError(f"an array of {kind} {shape} in {len(self.left)} bytes")
        part, self.left = self.left[:size], self.left[size:]
        return np.frombuffer(part, kind).reshape(shape).copy()


def _value(plain: Any, arrays: _Arrays) -> Any:
    if isinstance(plain, list):
        return list(_values(plain, arrays))
    if not isinstance(plain, dict):
        return plain
    ((kind, content),) = plain.items()
    match kind:
        case "tuple":
            return tuple(_values(content, arrays))
        case "dict":
            return {_value(key, arrays): _value(each, arrays) for key, each in content}
        case "time":
            return datetime.fromisoformat(content)
        case "path":
            return Path(content)
        case "bytes":
            return arrays.take(np.uint8, (content,)).tobytes()
        case "array":
            return arrays.take(content[0], tuple(content[1:]))
    return RECORDS[kind](*_values(content, arrays))


def _values(plain: list[Any], arrays: _Arrays) -> Iterator[Any]:
    return (_value(each, arrays) for each in plain)
