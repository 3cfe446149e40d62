"""Training material of the chest X-ray encoder: the images of a split in a memory map, their reports, and what they show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from regen.data_prep.chexpert import OBSERVATIONS
from regen.data_prep.image_store import Bytes
from regen.data_prep.prepared import Prepared
from regen.encoders.recordings import memory_map
from regen.study import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """pixels: (n, s, s) uint8, the first view of each study; labels: (n, 14) 1 present, 0 absent, NaN where not known (known_observations).

    reports: n texts, empty where there is none.
    """

    rows: pl.DataFrame
    pixels: Bytes
    labels: FloatArray
    reports: list[str]

    def __len__(self) -> int:
        return len(self.reports)

    def take(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """(b, s, s) float32 in [0, 1]"""
        return torch.from_numpy(self.pixels[rows].astype(np.float32) / 255)


def load_images(data: Prepared, rows: pl.DataFrame, scratch: Path, name: str) -> Images:
    """First views of `rows` into scratch/name.pixels, or what a run before left there."""
    pixels = memory_map(scratch / f"{name}.pixels", (len(rows), data.pixels, data.pixels), np.uint8)
    done = scratch / f"{name}.pixels.done"
    if not done.exists():
        for positions, block in data.images(rows):
            pixels[positions] = block
        done.touch()
    return Images(rows, pixels, known_observations(rows), [text or "" for text in rows["report"].to_list()])


def observation_matrix(rows: pl.DataFrame) -> FloatArray:
    """(n, 14) in the order of OBSERVATIONS: 1 present, 0.5 uncertain, 0 absent, NaN where it is not mentioned.

    'No Finding' rules out all but the devices: what is not mentioned beside it is absent.
    """
    column = {name: i for i, name in enumerate(OBSERVATIONS)}
    out = np.full((len(rows), len(OBSERVATIONS)), np.nan, np.float32)
    free = [i for name, i in column.items() if name not in ("No Finding", "Support Devices")]
    for i, stated in enumerate(rows["observations"].to_list()):
        for each in stated or ():
            if each["code"] in column:
                out[i, column[each["code"]]] = each["likelihood"]
        if out[i, column["No Finding"]] == 1:
            out[i, free] = np.where(np.isnan(out[i, free]), 0.0, out[i, free])
        elif (np.nan_to_num(out[i, free]) > 0).any():
            out[i, column["No Finding"]] = 0.0
    return out


def known_observations(rows: pl.DataFrame) -> FloatArray:
    """(n, 14) 1 present, 0 absent; NaN where it is uncertain, and where nobody labels it.

    What a labelled study does not mention is absent (Irvin et al. 2019 train so): reports mention what is there more often than what is
    not, and to learn from mentions alone would make every finding look frequent. 'No Finding' is more than silence. An observation that no
    study of `rows` mentions is not labelled in this archive, and stays unknown.
    """
    labels = observation_matrix(rows)
    known = np.asarray(~np.isnan(labels), np.bool_)
    silent = np.outer(known.any(axis=1), known.any(axis=0)) & ~known
    silent[:, OBSERVATIONS.index("No Finding")] = False
    return np.where(silent, 0, np.where(labels == 0.5, np.nan, labels)).astype(np.float32)
