"""Values on the wire: the same again, nothing else, and damaged bytes are one error."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regen.data_prep.wire import WireError, pack, unpack
from regen.study import Cxr, Ecg, Hit, Study


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, Ecg | Cxr | Study):
        return type(a) is type(b) and all(same(getattr(a, name), getattr(b, name)) for name in a.__slots__)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and repr(a) == repr(b)


SIGNAL = np.random.default_rng(0).normal(size=(12, 300)).astype(np.float32)
STUDY = Study(
    "00001", "p", datetime(2020, 1, 2, 3, 4, 5, 6), Ecg(SIGNAL, 100.0), (Cxr(np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4), "PA"),),
    report="ö\udcff", sections={"findings": "x"}, statements={"NORM": 1.0}, age=61.5, priors=("a", "b"), flags=("cropped",),
)  # fmt: skip
VALUES: list[Any] = [
    None, True, 3, -(10**30), 0.1, float("inf"), float("nan"), "", "a\udc80\n\0", b"", b"\0\xff", [], (), {}, [(), [()]], {"tuple": 1},
    {1: "x", (2, "y"): [None]}, {"array": ["<f4", 3]}, datetime(2020, 1, 1), datetime(2020, 1, 1, tzinfo=UTC), Path("a/b c"),
    np.zeros(0, np.float32), np.zeros((2, 0, 3), np.uint8), np.array(3.5), np.array([True, False]), np.arange(6).reshape(2, 3)[:, ::-1],
    np.arange(5, dtype=">i2"), np.asfortranarray(np.arange(6.0).reshape(2, 3)), STUDY, [STUDY, (STUDY.ecg, np.ones(3, np.int8))],
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_is_packed_comes_back(value: Any) -> None:
    assert same(value, unpack(pack(value)))


def test_numbers_of_numpy_come_back_as_pythons_and_arrays_can_be_written() -> None:
    assert same([1, 0.5, True], unpack(pack([np.int64(1), np.float32(0.5), np.bool_(True)])))
    array = unpack(pack(np.zeros(3)))
    array[0] = 1


@pytest.mark.parametrize(
    "value", [{1}, len, lambda: None, Study, object(), np.array([None]), np.array(["a"]), np.datetime64("2020"), Hit("x", 0.5, ""), 1j]
)
def test_other_kinds_are_refused(value: object) -> None:
    with pytest.raises(WireError, match="expected a study, an array or plain values, got"):
        pack(["x", value])


def text(plain: str, arrays: bytes = b"") -> bytes:
    return len(plain).to_bytes(8, "little") + plain.encode() + arrays


DAMAGED = {
    "empty": b"", "short": b"\1\0", "length beyond the end": b"\xff" * 8 + b"null", "no JSON": text("{"), "not text": text("\0"),
    "two kinds": text('{"tuple": [], "dict": []}'), "unknown kind": text('{"Hit": ["x", 0.5, ""]}'), "name of code": text('{"os.system": ["ls"]}'),
    "array beyond the end": text('{"array": ["<f4", 3]}', b"\0" * 8), "negative shape": text('{"array": ["<f4", -3]}', b"\0" * 12),
    "huge": text('{"array": ["<f4", 4611686018427387904, 4]}'), "objects": text('{"array": ["|O", 1]}', b"\0" * 8),
    "bytes after the end": text("null", b"x"), "no date": text('{"time": "yesterday"}'), "no study": text('{"Study": []}'),
    "nine leads": text('{"Ecg": [{"array": ["<f4", 9, 2]}, 100.0]}', b"\0" * 72), "deep": text("[" * 100_000), "a pickle": b"\x80\x05X\x01\0\0\0x.",
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_what_pack_does_not_write_is_one_error(case: str) -> None:
    with pytest.raises(WireError, match="expected a packed value"):
        unpack(DAMAGED[case])


def test_every_cut_and_random_damage_is_an_error_or_a_value() -> None:
    whole = pack(STUDY)
    for end in range(0, len(whole), 97):
        with pytest.raises(WireError):
            unpack(whole[:end])
    rng = np.random.default_rng(0)
    for _ in range(2000):
        data = bytearray(whole[:400] + whole[-20:])
        data[int(rng.integers(len(data)))] = int(rng.integers(256))
        try:
            value = unpack(bytes(data))
        except WireError:
            continue
        assert same(value, unpack(pack(value)))
