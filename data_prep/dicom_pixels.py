"""The stored pixels of a DICOM image as bit patterns: sizes checked first, then one decoder per transfer syntax.

    image = stored_image(dataset, path)
    image.pixels, image.values         (2500, 2000) uint16 patterns, (65536,) float64: what each pattern stands for

imagecodecs decodes where it is installed (the extra [dicom]): lossless JPEG 3 to 6 times as fast as pydicom's default plug-in, RLE in C.
Else pydicom's own plug-ins do. Damaged lossless JPEG can crash any of them: read many files through regen.data_prep.killable.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regen.errors import DataError, MissingExtraError

PIXELS = 100_000_000
"""Rows x columns; a larger image is refused before it is decoded. A chest X-ray has 4 to 20 million."""
CODECS = {
    "1.2.840.10008.1.2.5": "dicomrle", "1.2.840.10008.1.2.4.50": "jpeg8", "1.2.840.10008.1.2.4.51": "jpeg8",
    "1.2.840.10008.1.2.4.57": "jpeg8", "1.2.840.10008.1.2.4.70": "jpeg8", "1.2.840.10008.1.2.4.80": "jpegls",
    "1.2.840.10008.1.2.4.81": "jpegls", "1.2.840.10008.1.2.4.90": "jpeg2k", "1.2.840.10008.1.2.4.91": "jpeg2k",
}  # fmt: skip
"""Transfer syntax -> imagecodecs decoder: RLE; JPEG baseline, extended, lossless, lossless SV1; JPEG-LS (both); JPEG 2000 (both)."""
_RLE = "1.2.840.10008.1.2.5"

Patterns = npt.NDArray[Any]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stored:
    """pixels: (rows, columns) uint8 or uint16 bit patterns; values: (256 or 65536,) the number that each pattern stands for."""

    pixels: Patterns
    values: Values
    flags: tuple[str, ...] = ()


def stored_image(dataset: Any, path: Path, limit: int = PIXELS) -> Stored:
    """Decode the one grey frame of an image.

    Raises:
        DataError: colour, several frames, more than `limit` pixels, missing, cut or surplus pixel data, an unknown transfer syntax.
        MissingExtraError: no decoder is installed for the transfer syntax.
    """
    rows, columns, allocated = _shape(dataset, path, limit)
    syntax: Any = dataset.file_meta.get("TransferSyntaxUID")
    if not syntax:
        raise DataError(f"{path}: expected a transfer syntax, got none: the pixels cannot be told apart; export the image again")
    if syntax.is_private or not syntax.is_transfer_syntax:
        raise DataError(f"{path}: unknown transfer syntax {str(syntax)[:64]!r}; export the image uncompressed")
    flags: tuple[str, ...] = ()
    data = dataset.get("PixelData")
    if not data:
        raise DataError(f"{path}: expected pixel data, got none; export the image again, with its pixels")
    if syntax.is_compressed and not syntax.is_deflated:
        pixels = _decoded(dataset, str(syntax), rows, columns, path)
    else:
        pixels, flags = _native(dataset, data, (rows, columns, allocated), syntax, path)
    signed = pixels.dtype.kind == "i" or dataset.get("PixelRepresentation") == 1
    pattern = np.dtype(f"u{min(pixels.dtype.itemsize, 2)}")
    if pixels.dtype.itemsize > 2 or pixels.shape != (rows, columns):
        raise DataError(f"{path}: expected {rows} x {columns} pixels of at most 16 bits, got {pixels.shape} {pixels.dtype} decoded; export it again")
    return Stored(pixels.view(pattern), _values(dataset, 8 * pattern.itemsize, signed), flags)


def _shape(dataset: Any, path: Path, limit: int) -> tuple[int, int, int]:
    """Rows, columns and bits allocated of what can be read; everything else is refused by name, before anything is decoded."""
    missing = [name for name in ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation") if not dataset.get(name)]
    if missing:
        raise DataError(f"{path}: expected an image, got no {', '.join(missing)}; export the image again")
    rows, columns, allocated = int(dataset.Rows), int(dataset.Columns), int(dataset.BitsAllocated)
    photometric, samples, frames = str(dataset.PhotometricInterpretation)[:16], dataset.get("SamplesPerPixel", 1), dataset.get("NumberOfFrames")
    if photometric not in {"MONOCHROME1", "MONOCHROME2"} or int(samples or 1) != 1:
        raise DataError(
            f"{path}: expected grey pixels (MONOCHROME1 or 2), got {photometric} with {samples} samples a pixel; give the radiograph itself"
        )
    if int(frames or 1) != 1:
        raise DataError(f"{path}: expected one image, got a multi-frame object of {frames} frames; export single images")
    if rows * columns > limit:
        raise DataError(f"{path}: expected at most {limit} pixels, got {rows} x {columns} = {rows * columns}; check the header or raise the limit")
    if allocated not in {8, 16}:
        raise DataError(f"{path}: expected 8 or 16 bits allocated a pixel, got {allocated}; export the image again")
    return rows, columns, allocated


def _native(dataset: Any, data: bytes, shape: tuple[int, int, int], syntax: Any, path: Path) -> tuple[Patterns, tuple[str, ...]]:
    rows, columns, allocated = shape
    expected = rows * columns * allocated // 8
    surplus = len(data) - expected - (expected & 1)
    if len(data) < expected or surplus >= columns * allocated // 8:
        raise DataError(f"{path}: expected {expected} bytes of pixel data ({rows} x {columns} x {allocated} bits), got {len(data)}; export it again")
    pixels: Patterns
    if allocated == 16:
        pixels = np.frombuffer(data, "<u2" if syntax.is_little_endian else ">u2", rows * columns).astype(np.uint16, copy=False)
    elif syntax.is_little_endian or dataset["PixelData"].VR != "OW":
        pixels = np.frombuffer(data, np.uint8, rows * columns)
    else:
        pixels = np.frombuffer(data, ">u2").astype("<u2").view(np.uint8)[: rows * columns]
    return pixels.reshape(rows, columns), ("pixel_data_longer",) if surplus > 0 else ()


def _decoded(dataset: Any, syntax: str, rows: int, columns: int, path: Path) -> Patterns:
    """Decode a compressed frame whose own header agrees with the DICOM header. Unsigned or signed, 8 or 16 bits."""
    from pydicom.encaps import generate_frames
    from pydicom.pixels.decoders.base import get_decoder

    codec = CODECS.get(syntax)
    module = _imagecodecs() if codec else None
    try:
        decoder = get_decoder(syntax)
    except RuntimeError as error:
        raise DataError(f"{path}: transfer syntax {dataset.file_meta.TransferSyntaxUID.name} is no image codec; export it uncompressed") from error
    if module is None and not decoder.is_available:
        raise MissingExtraError(f"{path}: no decoder for {dataset.file_meta.TransferSyntaxUID.name} is installed; pip install 'regen-ecg[dicom]'")
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1), b"")
    if syntax == _RLE:
        segments = struct.unpack_from("<I", frame)[0] if len(frame) >= 64 else 0
        if 8 * segments != dataset.BitsAllocated:
            raise DataError(f"{path}: expected {dataset.BitsAllocated // 8} RLE segments, got {segments}; the file is damaged: export it again")
    else:
        _check_frame(frame, rows, columns, path)
    if codec and module is not None:
        if codec != "dicomrle":
            return np.asarray(getattr(module, f"{codec}_decode")(frame))
        kind = np.dtype(f"u{dataset.BitsAllocated // 8}")
        flat = np.frombuffer(module.dicomrle_decode(frame, kind, out=np.zeros(rows * columns * kind.itemsize, np.uint8)), kind)
        if flat.size != rows * columns:
            raise DataError(f"{path}: expected {rows} x {columns} pixels, the RLE data hold {flat.size}; the file was cut: export it again")
        return flat.reshape(rows, columns)
    pixels: Patterns = decoder.as_array(dataset, index=0, raw=True)[0]
    return pixels


def _imagecodecs() -> Any:
    try:
        import imagecodecs
    except ImportError:
        return None
    return imagecodecs


def _check_frame(frame: bytes, rows: int, columns: int, path: Path) -> None:
    """JPEG, JPEG-LS and JPEG 2000 streams say how large they are: an image that is not as announced is never decoded."""
    size = _jpeg_size(frame) if frame[:2] == b"\xff\xd8" else _jpeg_2000_size(frame)
    if size is None:
        raise DataError(f"{path}: expected a compressed image, the pixel data hold {len(frame)} bytes without a frame header; export it again")
    if size != (rows, columns, 1):
        raise DataError(
            f"{path}: expected {rows} x {columns} grey pixels, the compressed image says {size[0]} x {size[1]} x {size[2]}; export it again"
        )
    if b"\xff\xd9" not in frame[-16:]:
        raise DataError(f"{path}: the compressed image has no end mark; the file was cut: export it again")


def _jpeg_size(frame: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and components of the first frame header (SOF0 to SOF15, SOF55)."""
    at = 2
    while at + 10 <= len(frame) and frame[at] == 0xFF:
        mark = frame[at + 1]
        if mark == 0xF7 or (0xC0 <= mark <= 0xCF and mark not in {0xC4, 0xC8, 0xCC}):
            _, rows, columns, components = struct.unpack_from(">BHHB", frame, at + 4)
            return rows, columns, components
        at += 1 if mark == 0xFF else 2 + struct.unpack_from(">H", frame, at + 2)[0]
    return None


def _jpeg_2000_size(frame: bytes) -> tuple[int, int, int] | None:
    """The same of the SIZ segment, which follows the start of the code stream."""
    at = frame.find(b"\xff\x4f\xff\x51", 0, 512) + 8
    if at < 8 or at + 34 > len(frame):
        return None
    width, height, left, top = struct.unpack_from(">4I", frame, at)
    return height - top, width - left, struct.unpack_from(">H", frame, at + 32)[0]


def _values(dataset: Any, bits: int, signed: bool) -> Values:
    """What each pattern of `bits` bits stands for: overlay bits masked, sign extended, lossy overshoot clipped."""
    stored = min(int(dataset.get("BitsStored") or bits), bits)
    pattern = np.arange(2**bits)
    shift = int(dataset.get("HighBit", stored - 1)) + 1 - stored
    if 0 < shift <= bits - stored:
        pattern >>= shift
    mask = (1 << stored) - 1
    if any(dataset.get((group, 0x0102)) is not None and dataset[group, 0x0102].value for group in range(0x6000, 0x6020, 2)):
        pattern &= mask
    if not signed:
        return pattern.clip(0, mask).astype(np.float64)
    half = 1 << (stored - 1)
    within = (pattern ^ half) - half
    beyond = pattern - (pattern >= 2 ** (bits - 1)) * 2**bits
    return np.where(pattern <= mask, within, beyond).clip(-half, half - 1).astype(np.float64)
