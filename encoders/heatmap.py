"""What in a chest X-ray moved a sentence; of an ECG regen.encoders.ecg_map says it.

    maps = sentence_maps(space, image, ["Small left pleural effusion.", "The heart is enlarged."])    (2, h, w), 1 where it counts most
    differences = occlusion_check(space, images, texts, maps, rng)           (n,), above 0 where the map beats places drawn at random

A map shows where this encoder looked, not where a disease is: what the score would lose without the place. The score of a sentence is the
cosine of image and sentence. Maps have the image's shape, scaled so that the longer side is space.side.
Only what speaks for the sentence is shown; a map in which nothing does is zero.

'gradient', the default, takes eight steps; 'occlusion' hides one place after the other, takes several times as long and is its oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor

from regen.data_prep.image_store import Bytes, square
from regen.encoders.space import Space
from regen.errors import ConfigError, DataError, did_you_mean
from regen.study import FloatArray

Method = Literal["occlusion", "gradient"]
Read = Callable[[Tensor], Tensor]
"""(b, feature_width) -> (b, k): the scores of k sentences."""
_STEP, _PATCH = 12, 2
"""The grey patch moves by a twelfth of the side and is two such steps wide."""
_LEAST = 1e-5
"""A score that changes by less than this everywhere is not spread over the whole range: it may be rounding."""
_BATCH, _PATH = 64, 8
"""Images that go through the tower at once; steps from the blurred image to the image."""


def sentence_maps(space: Space, image: FloatArray | Bytes, texts: Sequence[str], method: Method = "gradient") -> FloatArray:
    """(len(texts), h, w) in [0, 1]: where the cosine between the image and each sentence comes from.

    image: (height, width), float in [0, 1] or uint8.

    Raises:
        ConfigError: the space has no image tower, or another method.
    """
    read = _sentences(space, texts)
    ways = {"occlusion": occlusion_grid, "gradient": gradient_grid}
    if method not in ways:
        raise ConfigError(f"heat map: expected 'occlusion' or 'gradient', got {method!r}{did_you_mean(method, ways)}")
    rows, columns = _place(image.shape, space.side)
    if not texts:
        return np.zeros((0, rows.stop - rows.start, columns.stop - columns.start), np.float32)
    grid = ways[method](space, torch.from_numpy(_seen(image, space.side)).to(space.device), read)
    full = F.interpolate(grid[:, None], size=(space.side, space.side), mode="bilinear", align_corners=False)[:, 0]
    part = full[:, rows, columns].clamp_min(0)
    return (part / part.amax((1, 2), keepdim=True).clamp_min(_LEAST)).cpu().numpy()


def _sentences(space: Space, texts: Sequence[str]) -> Read:
    tower = space.image_tower()
    vectors = torch.from_numpy(space.text.encode(list(texts))).to(space.device)
    return lambda features: tower.embed(features) @ vectors.T


@torch.no_grad()
def occlusion_grid(space: Space, seen: Tensor, read: Read) -> Tensor:
    """(k, _STEP, _STEP): mean fall of each score over the grey patches that hide a cell (Zeiler and Fergus, ECCV 2014), all in one pass."""
    edges = [round(i * space.side / _STEP) for i in range(_STEP + 1)]
    places = _STEP - _PATCH + 1
    hidden = seen.repeat(1 + places * places, 1, 1)
    grey = seen.mean()
    for i in range(places):
        for j in range(places):
            hidden[1 + i * places + j, edges[i] : edges[i + _PATCH], edges[j] : edges[j + _PATCH]] = grey
    scores = _scores(space, hidden, read)
    falls = (scores[0] - scores[1:]).T.reshape(-1, 1, places, places)
    window = torch.ones(1, 1, _PATCH, _PATCH, device=falls.device)
    total, count = (F.conv2d(each, window, padding=_PATCH - 1) for each in (falls, torch.ones_like(falls[:1])))
    return (total / count)[:, 0]


def gradient_grid(space: Space, seen: Tensor, read: Read) -> Tensor:
    """(k, _STEP, _STEP): integrated gradients of each score (Sundararajan et al., ICML 2017) from the blurred image to it, in sum over a cell."""
    tower = space.image_tower()
    blurred = torch.from_numpy(_blurred(seen.cpu().numpy())).to(seen.device)
    shares = (torch.arange(_PATH, device=seen.device) + 0.5) / _PATH
    path = (blurred + shares[:, None, None] * (seen - blurred)).requires_grad_(True)
    with torch.enable_grad():
        scores = read(tower.features(tower.tokens(path))).mean(0)
        slopes = [torch.autograd.grad(score, path, retain_graph=True)[0].sum(0) for score in scores]
    return F.adaptive_avg_pool2d(torch.stack(slopes) * (seen - blurred), _STEP) * (space.side / _STEP) ** 2


def occlusion_check(
    space: Space, images: Sequence[FloatArray] | Bytes, texts: Sequence[str], maps: Sequence[FloatArray], rng: np.random.Generator, draws: int = 8
) -> npt.NDArray[np.float64]:
    """(n,): fall of the cosine when the map's top tenth is blurred, less its mean fall when the same shape, moved at random, is blurred.

    images, texts, maps: one of each; a map as `sentence_maps` gives it. The random places are the top tenth itself, shifted around the edges,
    so that number and shape of the blurred pixels are the same. NaN where the map is zero everywhere: nothing was claimed.

    Raises:
        DataError: different numbers, or a map of another shape than its image's.
    """
    if not len(images) == len(texts) == len(maps):
        raise DataError(f"occlusion_check: expected as many texts and maps as images, got {len(images)}, {len(texts)}, {len(maps)}")
    out = np.full(len(texts), np.nan)
    read = _sentences(space, texts) if texts else None
    for i, (image, heat) in enumerate(zip(images, maps, strict=True)):
        rows, columns = _place(image.shape, space.side)
        shape = rows.stop - rows.start, columns.stop - columns.start
        if heat.shape != shape:
            raise DataError(f"occlusion_check: expected a map of {shape} for image {i}, got {heat.shape}; take it from sentence_maps")
        if read is None or not heat.any():
            continue
        seen = _seen(image, space.side)
        blurred = _blurred(seen)
        top = top_tenth(heat)
        shifts = [(0, 0), *zip(rng.integers(0, shape[0], draws), rng.integers(0, shape[1], draws), strict=True)]
        variants = np.repeat(seen[None], 2 + draws, 0)
        for variant, shift in zip(variants[1:], shifts, strict=True):
            hidden = np.roll(top, shift, (0, 1))
            variant[rows, columns][hidden] = blurred[rows, columns][hidden]
        scores = _scores(space, torch.from_numpy(variants).to(space.device), read)[:, i].cpu().numpy().astype(np.float64)
        out[i] = (scores[0] - scores[1]) - (scores[0] - scores[2:]).mean()
    return out


def top_tenth(heat: FloatArray) -> npt.NDArray[np.bool_]:
    """The tenth of the pixels where a map is highest; fewer where fewer are above zero."""
    kept = np.zeros(heat.size, np.bool_)
    kept[np.argsort(-heat, axis=None, kind="stable")[: max(1, heat.size // 10)]] = True
    return kept.reshape(heat.shape) & (heat > 0)


@torch.no_grad()
def _scores(space: Space, images: Tensor, read: Read) -> Tensor:
    """(b, side, side) -> (b, k), in float32: the differences are small."""
    tower = space.image_tower()
    return torch.cat([read(tower.features(tower.tokens(batch))) for batch in images.split(_BATCH)])


def _seen(image: FloatArray | Bytes, side: int) -> FloatArray:
    """(side, side) in [0, 1], as the tower sees it."""
    return square(np.asarray(image, np.float32) / np.float32(255 if image.dtype == np.uint8 else 1), side)


def _blurred(seen: FloatArray) -> FloatArray:
    """The local mean: a Gaussian of a tenth of the side."""
    return np.asarray(gaussian_filter(seen, len(seen) / 10), np.float32)


def _place(shape: tuple[int, ...], side: int) -> tuple[slice, slice]:
    """Rows and columns of the tower's square that an image of this shape takes (regen.data_prep.image_store.square)."""
    if len(shape) != 2:
        raise DataError(f"heat map: expected an image of (height, width), got {shape}")
    height, width = (max(1, round(n * side / max(shape))) for n in shape)
    top, left = (side - height) // 2, (side - width) // 2
    return slice(top, top + height), slice(left, left + width)
