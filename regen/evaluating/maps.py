"""`regen eval maps`: does hiding what a heat map marks change the sentence's score more than hiding as much elsewhere?

    made = evaluate_maps(Path("data"), "test", "bundle", 60, None, "cpu", 0, False)
    made.share.value, made.share.interval                 of the sentences that state a finding

A map passes where hiding its top tenth moves the sentence's score further down than hiding the same shape at random places does: blurred in an
X-ray, whose score is the cosine of image and sentence; missing in an ECG, whose score is the log-odds of what the sentence states. That says what
moved the encoder, not that the finding lies there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from regen.artifact import check_free_file
from regen.bundle import open_space
from regen.data_prep.chest_labeler import mentions
from regen.data_prep.prepared import Prepared
from regen.data_prep.sentences import sentence_spans, split_sentences
from regen.data_prep.statements import CODES
from regen.encoders.ecg_map import hiding_check, statement_maps
from regen.encoders.heatmap import occlusion_check, sentence_maps
from regen.encoders.recordings import clean_and_measure
from regen.encoders.space import Space
from regen.errors import ConfigError, DataError
from regen.eval.averages import mean
from regen.eval.blocks import INTERVAL
from regen.eval.bootstrap import DRAWS, Resamples, Sampled, bootstrap
from regen.eval.table_views import percent
from regen.evaluating.ends import check_split, write_result
from regen.evaluating.space import modality_of
from regen.generators.prompt import states
from regen.progress import bar, console


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """modality: 'cxr' or 'ecg'; n sentences of so many patients; empty: maps that mark nothing, left out; share: of those that pass."""

    modality: str
    n: int
    patients: int
    empty: int
    share: Sampled
    seed: int
    draws: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        kept = {name: getattr(self, name) for name in ("modality", "n", "patients", "empty", "seed", "draws")}
        return kept | {"interval": INTERVAL, "share": self.share.plain()}


def evaluate_maps(
    studies: Path, split: str, bundle: str, limit: int | None, out: Path | None, device: str, seed: int, force: bool, draws: int = DRAWS,
    modality: str | None = None,
) -> Maps:  # fmt: skip
    """Print the share; with `out`, also write it as JSON, or as Markdown where the name ends in .md. limit: studies drawn by the seed.

    modality: 'ecg' or 'cxr' where both are there (regen.evaluating.space.modality_of).

    Raises:
        ConfigError: no such split or modality, or a bundle that does not read it.
        DataError: no reported study in the split states a finding.
    """
    check_split(split)
    if out is not None:
        check_free_file(out, force)
    chosen = modality_of(studies, bundle, modality)
    _, space = open_space(bundle, device)
    data = Prepared.open(studies)
    rows = (data.split_cxr(split) if chosen == "cxr" else data.split(split)).filter(pl.col("report").fill_null("") != "")
    rng = np.random.default_rng(seed)
    if limit is not None and limit < len(rows):
        rows = rows[np.sort(rng.permutation(len(rows))[:limit]).tolist()]
    found = (_images if chosen == "cxr" else _recordings)(space, data, rows, rng)
    changes = np.array([change for each in found for change in each], np.float64)
    subjects = [subject for subject, each in zip(rows["subject_id"], found, strict=True) for _ in each]
    if not (~np.isnan(changes)).any():
        raise DataError(f"{studies}: expected reports of {split} that state a finding, got none; choose another --split")
    resamples = Resamples(subjects, np.random.default_rng(seed), draws)
    passed = np.where(np.isnan(changes), np.nan, changes > 0)
    made = Maps(chosen, len(changes), resamples.patients, int(np.isnan(changes).sum()), bootstrap(partial(mean, passed), resamples), seed, draws)
    console.print(_line(made))
    write_result(out, {"split": split} | made.to_dict(), _line(made) + "\n")
    return made


def _images(space: Space, data: Prepared, rows: pl.DataFrame, rng: np.random.Generator) -> list[list[float]]:
    """Of each X-ray the changes of the sentences of its report that state a finding."""
    space.image_tower()
    images = np.zeros((len(rows), data.pixels, data.pixels), np.float32)
    for positions, block in data.images(rows) if len(rows) else ():
        images[positions] = block / np.float32(255)
    found = []
    for image, report in zip(images, bar(rows["report"].to_list(), "maps", len(rows)), strict=True):
        stated = {mention.sentence for mention in mentions(report) if mention.state == 1.0}
        texts = [report[a:b] for number, (a, b) in enumerate(sentence_spans(report)) if number in stated]
        marked = sentence_maps(space, image, texts)
        found.append(occlusion_check(space, [image] * len(texts), texts, list(marked), rng).tolist())
    return found


def _recordings(space: Space, data: Prepared, rows: pl.DataFrame, rng: np.random.Generator) -> list[list[float]]:
    """Of each ECG the changes of the statements of its report, a sentence as often as it states one."""
    if space.ecg is None:
        raise ConfigError(f"expected a bundle that reads ECGs, this one reads {', '.join(space.modalities)}; choose another --bundle")
    raw = data.load(rows)
    found = []
    for signal, report in zip(raw, bar(rows["report"].to_list(), "maps", len(rows)), strict=True):
        codes = [code for text in split_sentences(report) for code, status in states(text) if status != "absent" and code in CODES]
        cleaned, measures = clean_and_measure(signal[None], data.fs)
        marked = statement_maps(space.ecg, cleaned[0], measures[0], codes)
        found.append(hiding_check(space.ecg, cleaned[0], measures[0], codes, marked, rng).tolist())
    return found


def _line(made: Maps) -> str:
    return (
        f"{percent(made.share)} % of {made.n} finding sentences of {made.patients} patients: hiding the map's top tenth lowers the score more than "
        f"hiding as much elsewhere ({made.empty} empty maps left out)"
    )
