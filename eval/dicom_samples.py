"""Synthetic chest radiographs as DICOM files, in every transfer syntax that this installation can encode. For benchmarks and tests.

pixels = phantom(2500, 2000, rng)                                     (2500, 2000) uint16, 12 bits: two dark lungs and noise
for name in encodable():
    write_dicom(folder / f"{name}.dcm", pixels, name, ViewPosition="AP")
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regen.errors import ConfigError, did_you_mean

Pixels = npt.NDArray[Any]
BITS = 12

SYNTAXES = {
    "implicit": "1.2.840.10008.1.2", "explicit": "1.2.840.10008.1.2.1", "big_endian": "1.2.840.10008.1.2.2",
    "deflated": "1.2.840.10008.1.2.1.99", "rle": "1.2.840.10008.1.2.5", "jpeg_baseline": "1.2.840.10008.1.2.4.50",
    "jpeg_extended": "1.2.840.10008.1.2.4.51", "jpeg_lossless": "1.2.840.10008.1.2.4.57", "jpeg_lossless_sv1": "1.2.840.10008.1.2.4.70",
    "jpeg_ls": "1.2.840.10008.1.2.4.80", "jpeg_ls_near": "1.2.840.10008.1.2.4.81", "jpeg_2000_lossless": "1.2.840.10008.1.2.4.90",
    "jpeg_2000": "1.2.840.10008.1.2.4.91",
}  # fmt: skip
LOSSY = {"jpeg_baseline", "jpeg_extended", "jpeg_ls_near", "jpeg_2000"}
_ENCODERS: dict[str, Callable[[Any, Pixels], bytes]] = {
    "jpeg_baseline": lambda codecs, pixels: codecs.jpeg8_encode(pixels, level=95),
    "jpeg_extended": lambda codecs, pixels: codecs.jpeg8_encode(pixels, level=95, bitspersample=BITS),
    "jpeg_lossless": lambda codecs, pixels: codecs.jpeg8_encode(pixels, lossless=True, predictor=6, bitspersample=BITS),
    "jpeg_lossless_sv1": lambda codecs, pixels: codecs.jpeg8_encode(pixels, lossless=True, predictor=1, bitspersample=BITS),
    "jpeg_ls": lambda codecs, pixels: codecs.jpegls_encode(pixels),
    "jpeg_ls_near": lambda codecs, pixels: codecs.jpegls_encode(pixels, level=2),
    "jpeg_2000_lossless": lambda codecs, pixels: codecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat="j2k", bitspersample=BITS),
    "jpeg_2000": lambda codecs, pixels: codecs.jpeg2k_encode(pixels, level=60, reversible=False, codecformat="j2k", bitspersample=BITS),
}


def encodable() -> list[str]:
    """Names of SYNTAXES; without imagecodecs only what pydicom writes itself."""
    there = importlib.util.find_spec("imagecodecs") is not None
    return [name for name in SYNTAXES if there or name not in _ENCODERS]


def phantom(rows: int, columns: int, rng: np.random.Generator) -> Pixels:
    """(rows, columns) uint16 of 12 bits: two dark ovals in a bright body, slow shading, and noise of 12 steps. Synthetic."""
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j].astype(np.float32)
    lungs = sum(np.exp(-((((x - side) / 0.3) ** 2 + (y / 0.6) ** 2) ** 2)) for side in (-0.45, 0.45))
    clean = 2600 - 1600 * lungs + 300 * np.sin(9 * y) * np.cos(5 * x) - 900 * (x**2 + y**2)
    return np.clip(clean + rng.normal(0, 12, clean.shape), 0, 4095).astype(np.uint16)


def write_dicom(path: Path, pixels: Pixels, syntax: str = "explicit", **tags: Any) -> Path:
    """A CR chest image of these 12-bit (or 8-bit) pixels; jpeg_baseline keeps their upper 8 bits. tags: further elements, None removes one.

    Raises:
        ConfigError: an unknown syntax.
    """
    import pydicom
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID, generate_uid

    if syntax not in SYNTAXES:
        raise ConfigError(f"unknown transfer syntax {syntax!r}{did_you_mean(syntax, SYNTAXES)}")
    if syntax == "jpeg_baseline" and pixels.dtype.itemsize == 2:
        pixels = (pixels >> (BITS - 8)).astype(np.uint8)
    bits = 8 * pixels.dtype.itemsize
    dataset: Any = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(SYNTAXES[syntax])
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1")
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["study", str(path)])
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition, dataset.PatientID = "CR", "CHEST", "PA", "synthetic"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.PixelRepresentation = bits, min(bits, BITS), int(pixels.dtype.kind == "i")
    dataset.HighBit = dataset.BitsStored - 1
    dataset.WindowCenter, dataset.WindowWidth = (128, 256) if bits == 8 else (2048, 4096)
    if syntax in _ENCODERS:
        import imagecodecs

        dataset.PixelData = encapsulate([bytes(_ENCODERS[syntax](imagecodecs, pixels))])
        dataset["PixelData"].VR = "OB"
    else:
        body = pixels.astype(pixels.dtype.newbyteorder(">" if syntax == "big_endian" else "<")).tobytes()
        dataset.PixelData = body + b"\0" * (len(body) % 2)
        dataset["PixelData"].VR = "OW"
    if syntax == "rle":
        dataset.file_meta.TransferSyntaxUID = UID(SYNTAXES["explicit"])
        dataset.compress(UID(SYNTAXES["rle"]), generate_instance_uid=False)
    for name, value in tags.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path
