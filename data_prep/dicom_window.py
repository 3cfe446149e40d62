"""From stored pixels to grey in [0, 1]: one table does it all, because there are at most 65,536 different pixels.

    grey, flags = windowed(dataset, stored)          (2500, 2000) float32, ("window:LINEAR",)

Modality LUT or rescale, then VOI LUT or window, else a percentile window, then MONOCHROME1 inverted and padding black: DICOM PS3.3
C.11.1, C.11.2 and C.7.5.1.1.2, worked out once for each pattern and looked up for each pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from regen.data_prep.dicom_pixels import Patterns, Stored, Values
from regen.study import FloatArray

PERCENTILES = (0.5, 99.5)
"""Black and white where an image says nothing of a window; taken over about SAMPLE pixels without padding."""
SAMPLE = 1_000_000
_STRIP = 32


def windowed(dataset: Any, image: Stored) -> tuple[FloatArray, tuple[str, ...]]:
    """(rows, columns) float32 in [0, 1], 0 = black, and how it was windowed. Constant only where the pixels are."""
    padding = _padding(dataset, image.values)
    values, flags = _modality(dataset, image.values)
    grey, how = _voi(dataset, values)
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    if grey is not None:
        out = look_up(_table(grey, inverted, padding), image.pixels)
        if out.min() < out.max():
            return out, (*flags, *how)
        how = ("window_unusable",)
    low, high = percentiles(image.pixels, values, padding)
    grey = ((values - low) / max(high - low, 1e-12)).clip(0, 1)
    return look_up(_table(grey, inverted, padding), image.pixels), (*flags, *how, "window:percentile")


def look_up(table: FloatArray, pixels: Patterns) -> FloatArray:
    """table[pixels], a few rows at a time: the index array that numpy makes then stays in the cache, which halves the time."""
    out = np.empty(pixels.shape, np.float32)
    for row in range(0, len(pixels), _STRIP):
        np.take(table, pixels[row : row + _STRIP], out=out[row : row + _STRIP], mode="clip")
    return out


def percentiles(pixels: Patterns, values: Values, padding: npt.NDArray[np.bool_] | None = None) -> tuple[float, float]:
    """The values at PERCENTILES, by a histogram of every n-th row and column. The extremes where the two are the same."""
    step = max(1, round((pixels.size / SAMPLE) ** 0.5))
    for chosen in (pixels[::step, ::step], pixels):
        counts = np.bincount(chosen.ravel(), minlength=len(values))
        if padding is not None:
            counts[padding] = 0
        present = np.flatnonzero(counts)
        if not len(present):
            return 0.0, 0.0
        order = present[np.argsort(values[present], kind="stable")]
        share = np.cumsum(counts[order]) / counts.sum() * 100
        low, high = (float(values[order[min(int(np.searchsorted(share, p)), len(order) - 1)]]) for p in PERCENTILES)
        if low < high:
            return low, high
    return float(values[order[0]]), float(values[order[-1]])


def _table(grey: Values, inverted: bool, padding: npt.NDArray[np.bool_]) -> FloatArray:
    table = (1 - grey if inverted else grey).astype(np.float32)
    table[padding] = 0
    return table


def _padding(dataset: Any, values: Values) -> npt.NDArray[np.bool_]:
    """Patterns between PixelPaddingValue and PixelPaddingRangeLimit."""
    first = dataset.get("PixelPaddingValue")
    if first is None or first == "":
        return np.zeros(len(values), np.bool_)
    last = dataset.get("PixelPaddingRangeLimit")
    ends = [_as_stored(int(end), values) for end in (first, first if last in (None, "") else last)]
    return np.asarray((values >= min(ends)) & (values <= max(ends)), np.bool_)


def _as_stored(number: int, values: Values) -> int:
    """An unsigned number in a signed image, and the reverse: writers mix the two up."""
    if number > values.max() and values.min() < 0:
        return number - 65536
    return number + 65536 if number < 0 <= values.min() else number


def _modality(dataset: Any, values: Values) -> tuple[Values, tuple[str, ...]]:
    if dataset.get("ModalityLUTSequence"):
        return _lut(dataset, dataset.ModalityLUTSequence[0], values)[0], ()
    slope, intercept = number_of(dataset, "RescaleSlope"), number_of(dataset, "RescaleIntercept")
    if slope is None and intercept is None:
        return values, ()
    if slope == 0:
        return values, ("rescale_unusable",)
    return values * (1.0 if slope is None else slope) + (intercept or 0.0), ()


def _voi(dataset: Any, values: Values) -> tuple[Values | None, tuple[str, ...]]:
    """values -> [0, 1] by the first VOI LUT or window, None without one that can be used."""
    if dataset.get("VOILUTSequence"):
        entries, top = _lut(dataset, dataset.VOILUTSequence[0], values)
        return (entries / top).clip(0, 1), ("window:LUT",)
    center, width = number_of(dataset, "WindowCenter"), number_of(dataset, "WindowWidth")
    if center is None or width is None:
        return None, ()
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    if function not in {"LINEAR", "LINEAR_EXACT", "SIGMOID"} or width <= 0 or (function == "LINEAR" and width < 1):
        return None, ("window_unusable",)
    flags: tuple[str, ...] = (f"window:{function}",)
    if dataset["WindowCenter"].VM > 1:
        flags += (f"window_first_of:{dataset['WindowCenter'].VM}",)
    if function == "SIGMOID":
        return 1 / (1 + np.exp((-4 * (values - center) / width).clip(-60, 60))), flags
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if width == 0:
        return (values > center).astype(np.float64), flags
    return ((values - center) / width + 0.5).clip(0, 1), flags


def _lut(dataset: Any, item: Any, values: Values) -> tuple[Values, float]:
    """Look every value up: outside the table its first or last entry. Returns entries and the largest that its bits allow."""
    length, first, bits = (int(number) for number in item.LUTDescriptor)
    length = length or 65536
    if values.min() < 0 and first > 32767:
        first -= 65536
    data = item.LUTData
    if isinstance(data, bytes):
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        entries = np.frombuffer(data, np.uint8 if len(data) < 2 * length else f"{order}u2")[:length]
    else:
        entries = np.atleast_1d(np.asarray(data))[:length]
    if len(entries) < length:
        raise ValueError(f"a look-up table of {length} entries holds {len(entries)}")
    top = max(2.0**bits - 1, float(entries.max()), 1.0)
    index = (np.rint(values) - first).clip(0, length - 1).astype(np.int64)
    return entries[index].astype(np.float64), top


def number_of(dataset: Any, name: str) -> float | None:
    """The first value of a decimal element; None where it is absent, empty or not finite."""
    value = dataset.get(name)
    if value is not None and not isinstance(value, (str, int, float)) and hasattr(value, "__len__"):
        value = value[0] if len(value) else None
    if value is None or value == "":
        return None
    return float(value) if np.isfinite(float(value)) else None
