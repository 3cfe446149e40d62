"""The chest X-ray reader against broken and hostile files: one clear error each, and never a crash, a hang or NaN."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pictures import COLUMNS, ROWS, damaged, grey, outcome

from regen.data_prep import dicom_file
from regen.data_prep.dicom_cxr import read_dicom_cxr
from regen.data_prep.killable import Lost, run_each
from regen.data_prep.readers import read_study
from regen.errors import DataError
from regen.eval.dicom_samples import SYNTAXES, encodable, write_dicom


def cut(dataset: Any) -> None:
    dataset.PixelData = dataset.PixelData[:-100]


def shifted(dataset: Any) -> None:
    dataset.PixelData = dataset.PixelData + bytes(2 * COLUMNS)


def tag(**values: Any) -> Callable[[Any], None]:
    def change(dataset: Any) -> None:
        for name, value in values.items():
            setattr(dataset, name, value)

    return change


BROKEN: dict[str, tuple[str, Callable[[Any], object], str]] = {
    "no pixels": ("explicit", lambda d: delattr(d, "PixelData"), "expected pixel data, got none"),
    "cut": ("explicit", cut, "expected 12600 bytes of pixel data"),
    "too long": ("explicit", shifted, "expected 12600 bytes of pixel data"),
    "no rows": ("explicit", lambda d: delattr(d, "Rows"), "got no Rows"),
    "bomb": ("explicit", tag(Rows=65535, Columns=65535), "at most 100000000 pixels"),
    "colour": ("explicit", tag(PhotometricInterpretation="RGB", SamplesPerPixel=3), "got RGB with 3 samples"),
    "palette": ("explicit", tag(PhotometricInterpretation="PALETTE COLOR"), "got PALETTE COLOR"),
    "cine": ("explicit", tag(NumberOfFrames=12), "multi-frame object of 12 frames"),
    "32 bits": ("explicit", tag(BitsAllocated=32), "8 or 16 bits allocated"),
    "constant": ("explicit", lambda d: setattr(d, "PixelData", bytes(len(d.PixelData))), "the value 0 in every pixel"),
    "cut J2K": ("jpeg_2000", cut, "a.dcm"),
    "another size inside": ("jpeg_ls", tag(Rows=ROWS + 2), "the compressed image says 90 x 70"),
    "unknown syntax": ("explicit", lambda d: setattr(d.file_meta, "TransferSyntaxUID", "1.2.3.4"), "transfer syntax"),
    "video": ("jpeg_ls", lambda d: setattr(d.file_meta, "TransferSyntaxUID", "1.2.840.10008.1.2.4.102"), "no image codec"),
    "wrong segments": ("rle", tag(BitsAllocated=8, BitsStored=8, HighBit=7), "RLE segments"),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.filterwarnings("ignore")
def test_a_broken_file_is_one_clear_data_error(tmp_path: Path, pixels: Any, case: str) -> None:
    syntax, change, expected = BROKEN[case]
    if syntax not in encodable():
        pytest.skip(f"{syntax} cannot be encoded here: install imagecodecs")
    path = write_dicom(tmp_path / "a.dcm", pixels, syntax)
    dataset: Any = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path, implicit_vr=False, little_endian=True)
    with pytest.raises(DataError, match=expected) as caught:
        read_study(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_but_padding_beside_one_value(tmp_path: Path, pixels: Any) -> None:
    flat = np.where(np.arange(COLUMNS) < 20, 7, 900).astype(np.uint16) + np.zeros_like(pixels)
    path = write_dicom(tmp_path / "a.dcm", flat, PixelPaddingValue=7, WindowCenter=None, WindowWidth=None)
    with pytest.raises(DataError, match="one value in every pixel that is no padding"):
        read_study(path)


def test_pixels_that_are_not_compressed_as_announced(tmp_path: Path, pixels: Any) -> None:
    path = write_dicom(tmp_path / "a.dcm", pixels)
    for announced in (b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.9.9.9\0"):
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", announced))
        with pytest.raises(DataError, match=r"a\.dcm: .*(decode|transfer syntax)"):
            read_study(path)
        write_dicom(path, pixels)


def test_the_limit_can_be_set(tmp_path: Path, pixels: Any) -> None:
    path = write_dicom(tmp_path / "a.dcm", pixels)
    with pytest.raises(DataError, match="at most 6299 pixels, got 90 x 70 = 6300"):
        read_dicom_cxr(path, limit=ROWS * COLUMNS - 1)
    assert read_dicom_cxr(path, limit=ROWS * COLUMNS)


def test_a_compressed_frame_that_announces_a_giant_is_not_decoded(tmp_path: Path, pixels: Any) -> None:
    if "jpeg_lossless" not in encodable():
        pytest.skip("lossless JPEG cannot be encoded here: install imagecodecs")
    path = write_dicom(tmp_path / "a.dcm", pixels, "jpeg_lossless")
    header = struct.pack(">HH", ROWS, COLUMNS)
    data = path.read_bytes()
    at = data.index(header, data.index(b"\xff\xc3"))
    path.write_bytes(data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :])
    with pytest.raises(DataError, match="says 65535 x 65535"):
        read_study(path)


def test_a_deflate_bomb_stops_at_the_limit(tmp_path: Path, pixels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_file, "LARGEST", 2**20)
    path = write_dicom(tmp_path / "a.dcm", pixels, "deflated")
    assert grey(path).shape == (ROWS, COLUMNS)
    data = path.read_bytes()
    start = 144 + struct.unpack_from("<I", data, 140)[0]
    packer = zlib.compressobj(wbits=-15)
    path.write_bytes(data[:start] + packer.compress(bytes(2**24)) + packer.flush())
    with pytest.raises(DataError, match="at most 1 MiB of data, the deflated part holds more"):
        read_study(path)
    path.write_bytes(data[:-40])
    with pytest.raises(DataError, match="the file was cut"):
        read_study(path)
    path.write_bytes(bytes(2**20 + 1))
    with pytest.raises(DataError, match="expected a file of at most 1 MiB"):
        read_study(path)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_damage_is_read_or_is_one_clear_error(tmp_path: Path, pixels: Any, syntax: str) -> None:
    if syntax not in encodable():
        pytest.skip(f"{syntax} cannot be encoded here: install imagecodecs")
    rng = np.random.default_rng(list(SYNTAXES).index(syntax))
    whole = write_dicom(tmp_path / "whole.dcm", pixels, syntax).read_bytes()
    results = list(run_each(outcome, damaged(tmp_path, "dcm", whole, rng, 132, 100), workers=1, seconds=20))
    crashed = [r.reason for r in results if isinstance(r, Lost)]
    said = [r for r in results if isinstance(r, str) and r]
    assert len(results) == 200
    assert all("crashed" in reason for reason in crashed), "a decoder may crash its worker, and nothing else may go wrong"
    assert len(crashed) <= 10
    assert len(said) >= 20
    assert all(f"{tmp_path}" in line and "\n" not in line and len(line) < 800 for line in said)
