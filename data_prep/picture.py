"""PNG and JPEG chest X-rays in: 8 bit as it is, 16 bit kept and windowed by percentiles, as a DICOM image without a window is.

    study = read_picture("patient64741/study1/view1_frontal.jpg")
    study.cxr[0].pixels, study.flags                 (2828, 2320) float32 in [0, 1], ()

A picture says nothing of patient or view. Colour beyond small marks is refused (a photograph, an ECG on pink paper), and so is a page that
is mostly white; `force` reads both with a flag. An EXIF orientation is noted and not applied: archives export X-rays as they hang, every
tool that ignores the tag shows the same image, and four of its eight values would mirror the heart to the other side.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regen.data_prep.dicom_file import brief, kind_of
from regen.data_prep.dicom_pixels import PIXELS
from regen.data_prep.dicom_window import look_up, percentiles
from regen.errors import DataError
from regen.study import Cxr, FloatArray, Study

COLOUR_STEP = 24
"""Of 255; channels that lie further apart are colour. JPEG leaves grey within a few steps."""
COLOUR_SHARE = 0.01
"""Share of coloured pixels up to which they are marks on the image."""
PAGE = (0.9, 0.6)
"""A picture is a page when more than this share (second) is brighter than this (first)."""
_ORIENTATION = 0x0112


def read_picture(path: str | Path, force: bool = False, limit: int = PIXELS) -> Study:
    """Read one PNG or JPEG picture into a Study with one view. limit: most pixels, checked before decoding.

    Raises:
        DataError: another kind of file, too large, damaged, colour, a page, one value in every pixel.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; check the path")
    kind = kind_of(path)
    if kind not in {"PNG", "JPEG"}:
        what, do = ("a DICOM file", "rename it to " + path.with_suffix(".dcm").name) if kind == "DICOM" else ("something else", "export it again")
        raise DataError(f"{path}: expected a PNG or JPEG picture, got {what}; {do}")
    try:
        pixels, flags = _decoded(path, kind, force, limit)
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders have their own kinds, MemoryError among them
        raise DataError(f"{path}: the picture does not decode ({brief(error)}); the file may be damaged: export it again") from error
    if float((pixels >= PAGE[0]).mean()) > PAGE[1]:
        flags += (_refuse(path, "a page that is mostly white (a scan?)", force),)
    return Study(study_id=path.stem, cxr=(Cxr(pixels, None, str(path)),), source=str(path), flags=flags)


def _decoded(path: Path, kind: str, force: bool, limit: int) -> tuple[FloatArray, tuple[str, ...]]:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            picture = Image.open(path, formats=(kind,))
        except Image.DecompressionBombError as error:
            raise DataError(f"{path}: expected at most {limit} pixels, got far more ({brief(error)}); scale it down") from error
    with picture:
        width, height = picture.size
        if width * height > limit:
            raise DataError(f"{path}: expected at most {limit} pixels, got {width} x {height} = {width * height}; scale it down, or raise the limit")
        if picture.mode not in {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "I"}:
            raise DataError(f"{path}: expected a grey picture, got mode {picture.mode}; export it in grey")
        if getattr(picture, "n_frames", 1) > 1:
            raise DataError(f"{path}: expected one picture, got an animation of {getattr(picture, 'n_frames', 0)}; export single images")
        turned = picture.getexif().get(_ORIENTATION, 1)
        flags: tuple[str, ...] = (f"exif_orientation_ignored:{turned}",) if turned in range(2, 9) else ()
        pixels, more = _grey(picture, path, force)
    low, high = pixels.min(), pixels.max()
    if low == high:
        raise DataError(f"{path}: expected an image, got the value {low} in every pixel; check the export")
    if pixels.dtype == np.uint16:
        values = np.arange(65536.0)
        black, white = percentiles(pixels, values)
        return look_up(((values - black) / (white - black)).clip(0, 1).astype(np.float32), pixels), (*flags, *more, "window:percentile")
    return look_up((np.arange(256) / 255).astype(np.float32), pixels), flags + more


def _grey(picture: Any, path: Path, force: bool) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """(height, width) uint8 or uint16; transparent parts black."""
    if picture.mode in {"I;16", "I"}:
        return np.asarray(picture).clip(0, 65535).astype(np.uint16), ()
    if picture.mode in {"1", "L"} and "transparency" not in picture.info:
        return np.asarray(picture.convert("L")), ()
    flags: tuple[str, ...] = ()
    alpha = None
    if picture.mode in {"LA", "PA", "RGBA"} or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        alpha = np.asarray(picture.getchannel("A"))
    colours = np.asarray(picture.convert("RGB"))
    red, green, blue = (colours[..., channel] for channel in range(3))
    apart = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    coloured = float((apart > COLOUR_STEP).mean())
    if coloured > COLOUR_SHARE:
        flags += (_refuse(path, f"colour in {100 * coloured:.0f} % of the pixels (a photograph or a scanned ECG?)", force),)
    elif coloured:
        flags += ("colour_marks",)
    grey = green if not apart.any() else np.asarray(picture.convert("RGB").convert("L"))
    if alpha is not None and alpha.min() < 255:
        grey = (grey.astype(np.uint16) * alpha // 255).astype(np.uint8)
        flags += ("transparent_to_black",)
    return grey, flags


def _refuse(path: Path, what: str, force: bool) -> str:
    """The flag of what is read all the same, or the error."""
    if not force:
        raise DataError(f"{path}: expected a chest X-ray in grey, got {what}; give the original image, or force it")
    return f"forced:{what}"
