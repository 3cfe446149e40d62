"""`regen eval maps`: does hiding what a heat map marks change the sentence's score more than hiding as much elsewhere?

    made = evaluate_maps(Path("data"), "test", "bundle", 60, None, "cpu", 0, False)
    made.share.value, made.share.interval                 of the sentences that state a finding

A map passes where blurring its top tenth moves the sentence's score further down than blurring the same shape at random places. That says
what moved the encoder, not that the finding lies there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from regen.artifact import check_free_file
from regen.data_prep.chest_labeler import mentions
from regen.data_prep.sentences import sentence_spans
from regen.encoders.heatmap import occlusion_check, sentence_maps
from regen.errors import DataError
from regen.eval.averages import mean
from regen.eval.blocks import INTERVAL
from regen.eval.bootstrap import DRAWS, Resamples, Sampled, bootstrap
from regen.eval.table_views import percent
from regen.evaluating.ends import check_split, open_images, write_result
from regen.progress import bar, console


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """n sentences of so many patients; empty: maps that mark nothing, left out; share: of those that pass."""

    n: int
    patients: int
    empty: int
    share: Sampled
    seed: int
    draws: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        kept = {name: getattr(self, name) for name in ("n", "patients", "empty", "seed", "draws")}
        return kept | {"interval": INTERVAL, "share": self.share.plain()}


def evaluate_maps(
    studies: Path, split: str, bundle: str, limit: int | None, out: Path | None, device: str, seed: int, force: bool, draws: int = DRAWS
) -> Maps:
    """Print the share; with `out`, also write it as JSON, or as Markdown where the name ends in .md. limit: studies drawn by the seed.

    Raises:
        ConfigError: no such split, or a bundle that reads no X-rays.
        DataError: no reported X-ray in the split states a finding.
    """
    check_split(split)
    if out is not None:
        check_free_file(out, force)
    data, space = open_images(studies, bundle, device)
    rows = data.split_cxr(split).filter(pl.col("report").fill_null("") != "")
    rng = np.random.default_rng(seed)
    if limit is not None and limit < len(rows):
        rows = rows[np.sort(rng.permutation(len(rows))[:limit]).tolist()]
    images = np.zeros((len(rows), data.pixels, data.pixels), np.float32)
    for positions, block in data.images(rows) if len(rows) else ():
        images[positions] = block / np.float32(255)
    found, subjects = [], []
    for i, report in enumerate(bar(rows["report"].to_list(), "maps", len(rows))):
        stated = {mention.sentence for mention in mentions(report) if mention.state == 1.0}
        texts = [report[a:b] for number, (a, b) in enumerate(sentence_spans(report)) if number in stated]
        if texts:
            marked = sentence_maps(space, images[i], texts)
            found += occlusion_check(space, [images[i]] * len(texts), texts, list(marked), rng).tolist()
            subjects += [rows["subject_id"][i]] * len(texts)
    changes = np.array(found, np.float64)
    if not (~np.isnan(changes)).any():
        raise DataError(f"{studies}: expected reports of {split} that state a finding, got none; choose another --split")
    resamples = Resamples(subjects, np.random.default_rng(seed), draws)
    passed = np.where(np.isnan(changes), np.nan, changes > 0)
    made = Maps(len(changes), resamples.patients, int(np.isnan(changes).sum()), bootstrap(partial(mean, passed), resamples), seed, draws)
    console.print(_line(made))
    write_result(out, {"split": split} | made.to_dict(), _line(made) + "\n")
    return made


def _line(made: Maps) -> str:
    return (
        f"{percent(made.share)} % of {made.n} finding sentences of {made.patients} patients: hiding the map's top tenth lowers the score more than "
        f"hiding as much elsewhere ({made.empty} empty maps left out)"
    )
