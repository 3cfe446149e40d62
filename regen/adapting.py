"""`regen adapt`: labels and images in, an adapter folder and its scores on held-out studies out.

    adapted = adapt("bundle/encoder", "adapter", labels="labels.csv", images="images", aim=Aim("sensitivity", 0.95))
    for line in adapted.lines(): print(line)

Labels come from a table (regen.data_prep.label_table), over a folder of images or a prepared folder, or from the prepared folder's observations.

OUT/
  adapter.safetensors  adapter.json  manifest.json (the encoder's fingerprint)
  metrics.json         every label: AUROC, sensitivity and specificity at its operating point, calibration error, with intervals; by sex and age
  curves.json, .png    ROC and reliability of every label, test split
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from regen.artifact import check_free, file_digest, new_artifact
from regen.batch import read_images
from regen.bundle import find_bundle, make_bundle
from regen.data_prep.chexpert import OBSERVATIONS
from regen.data_prep.image_folder import locate_image
from regen.data_prep.killable import Lost
from regen.data_prep.label_table import LabelTable, assign_splits, read_label_table
from regen.data_prep.prepare import Failure
from regen.data_prep.prepared import SPLITS, Prepared
from regen.encoders.adapter import STAGE, Adapter, Cases, fit_adapter
from regen.encoders.images import known_observations
from regen.encoders.operating_points import Aim
from regen.encoders.space import Space, load_space
from regen.errors import ConfigError, DataError
from regen.eval.adapter_curves import curves_of, draw
from regen.eval.adapter_table import FEW, GroupScore, Rate, adapter_table, groups_of
from regen.eval.bootstrap import DRAWS, Sampled
from regen.index.archive import Archive
from regen.index.case_index import Asker, CaseIndex
from regen.index.limits import nearest_limit
from regen.study import FloatArray

Progress = Callable[[Iterable[int], str], Iterable[int]]
_BATCH = 64


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """n images with labels (n, len(names)), 1, 0 or NaN, and features (n, width); inputs: digests for the manifest; studies: n ids."""

    names: tuple[str, ...]
    subjects: list[str]
    splits: list[str]
    sex: list[str | None]
    ages: list[float | None]
    labels: FloatArray
    features: FloatArray
    failures: list[Failure] = field(default_factory=list)
    inputs: dict[str, str] = field(default_factory=dict)
    studies: list[str] = field(default_factory=list)

    def rows(self, split: str) -> npt.NDArray[np.int64]:
        return np.flatnonzero(np.array(self.splits) == split)

    def cases(self, split: str) -> Cases:
        rows = self.rows(split)
        return Cases(self.features[rows], self.labels[rows], [self.subjects[i] for i in rows])


@dataclass(frozen=True, slots=True, eq=False)
class Adapted:
    """What `adapt` made. groups: scores on the test split, 'all' first; counts: images a split; failures: files that could not be read;
    limit: below which cosine nothing in the index is near (regen.index.limits), where there was an index to ask."""

    out: Path
    adapter: Adapter
    groups: list[GroupScore]
    counts: dict[str, int]
    failures: list[Failure]
    limit: float | None = None

    def lines(self) -> Iterator[str]:
        """The result for people."""
        whole = self.groups[0]
        yield f"images: {', '.join(f'{n} {split}' for split, n in self.counts.items())}; aim: {self.adapter.aim}"
        for name, why in self.adapter.left_out.items():
            yield f"  {name}: left out, {why}"
        yield f"test: {whole.n} images of {whole.patients} patients; 95 % intervals by patient"
        for score, point in zip(whole.labels, self.adapter.points, strict=True):
            held = "" if point.confidence is None else f"; {'holds' if point.holds else 'does not hold'}, confidence {point.confidence:.3f}"
            yield (
                f"  {score.name}: n {score.n} ({score.positives} positive), AUROC {_shown(score.auroc)}, sensitivity {_shown(score.sensitivity)}, "
                f"specificity {_shown(score.specificity)}, ECE {_shown(score.ece)}; threshold {point.threshold:.4f} ({point.method}{held})"
            )
        for group in self.groups:
            yield f"  {group.name}: n {group.n}, macro AUROC {_shown(group.macro_auroc)} over {group.in_macro} labels with {FEW} positives or more"


def adapt(
    encoder: str | Path, out: str | Path, labels: str | Path | None = None, images: str | Path | None = None, studies: str | Path | None = None,
    aim: Aim | None = None, seed: int = 0, device: torch.device | str = "cpu", force: bool = False, progress: Progress = lambda items, _: items,
    draws: int = DRAWS, index: CaseIndex | None = None,
) -> Adapted:  # fmt: skip
    """Fit an adapter on the train split, set its operating points on val, score it on test, write the folder `out`.

    encoder: an encoder folder that reads chest X-rays; labels: a CSV; images: the folder its images lie in; studies: a prepared folder, whose
    observations are the labels where no CSV is given. seed: of the split by subject, the folds and the draws. index: of X-rays, whose limit val sets.

    Raises:
        ConfigError: neither or both of images and studies, images without labels, or an encoder without X-rays.
        DataError: a table that is wrong, no image that reads, an empty split, or no label that can be learned.
        ArtifactError: `out` exists without force, or an input is damaged.
    """
    if (images is None) == (studies is None):
        raise ConfigError("regen adapt: expected --images FOLDER or --studies PREPARED, got both or none; give one of them")
    if images is not None and labels is None:
        raise ConfigError("regen adapt: expected --labels FILE.csv beside --images, got none; give the table of labels")
    aim = aim or Aim()
    check_free(Path(out), force)
    space = load_space(encoder, device)
    space.image_tower()
    table = None if labels is None else read_label_table(labels)
    if images is not None and table is not None:
        material = from_folder(space, table, Path(images), seed, progress)
    else:
        material = from_prepared(space, Prepared.open(str(studies)), table)
    inputs = material.inputs | {"encoder": space.fingerprint} | ({} if labels is None else {"labels": file_digest(Path(labels))})
    config = {"aim": str(aim), "seed": seed}
    with new_artifact(out, STAGE, config, inputs, force) as work:
        work.clear()
        adapter, groups = fit_and_score(material, aim, seed, space.fingerprint, work.path, draws)
        work.manifest["fingerprint"] = space.fingerprint
    counts = {split: len(material.rows(split)) for split in SPLITS}
    return Adapted(Path(out), adapter, groups, counts, material.failures, None if index is None else _limit(material, space, index))


@torch.no_grad()
def _limit(material: Material, space: Space, index: CaseIndex) -> float | None:
    """Of the studies of val, by the vectors that belong to their features."""
    rows = material.rows("val")
    features = torch.from_numpy(material.features[rows]).to(space.device)
    askers = [Asker(material.studies[i], material.subjects[i]) for i in rows]
    return nearest_limit(index, space.image_tower().embed(features).cpu().numpy(), askers)


def from_folder(space: Space, table: LabelTable, folder: Path, seed: int = 0, progress: Progress = lambda items, _: items) -> Material:
    """Read and encode the images of a table. One that cannot be read is listed and left out.

    Raises:
        DataError: no such folder, a subject in two splits, or not one image that reads.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: expected the folder of the images, got none; check --images")
    splits = assign_splits(table.subjects, table.splits, seed)
    features, kept, failures = [], [], []
    paths = [locate_image(folder, image) for image in table.images]
    read = read_images(paths, space.side)
    for start in progress(range(0, len(table), _BATCH), "encoding"):
        pixels: list[FloatArray] = []
        for i, result in zip(range(start, min(start + _BATCH, len(table))), read, strict=False):
            if isinstance(result, Lost):
                failures.append(Failure(table.study_ids[i], str(paths[i]), result.reason))
            elif not result.cxr:
                failures.append(Failure(table.study_ids[i], str(paths[i]), f"{paths[i]}: expected a chest X-ray, got a recording; take it out"))
            else:
                pixels.append(result.cxr[0].pixels)
                kept.append(i)
        features.append(space.encode_images(pixels)[2])
    if not kept:
        raise DataError(f"{folder}: expected chest X-rays that read, got none of {len(table)} ({failures[0].reason})")
    return Material(
        table.names, [table.subjects[i] for i in kept], [splits[i] for i in kept], [table.sex[i] for i in kept], [table.ages[i] for i in kept],
        table.labels[kept], np.concatenate(features), failures, studies=[table.study_ids[i] for i in kept],
    )  # fmt: skip


def from_prepared(space: Space, data: Prepared, table: LabelTable | None = None) -> Material:
    """Encode the first view of the prepared studies that have a label, in the folder's own splits.

    An encoder that was trained on this folder's train split knows those images: the adapter may lean on its features more than it
    should, and loses by it on val and test, whose figures stay honest.

    Raises:
        DataError: no such study, or the table names one that the folder does not have.
    """
    rows = data.studies.filter(data.studies["cxr_rows"].is_not_null())
    labels = known_observations(rows)
    if table is not None:
        place = {study: i for i, study in enumerate(rows["study_id"].to_list())}
        unknown = [study for study in table.study_ids if study not in place]
        if unknown:
            raise DataError(
                f"labels: expected study_ids of {data.path} with a chest X-ray, got {len(unknown)} others ({unknown[0]!r}); take them out"
            )
        if len(set(table.study_ids)) < len(table):
            raise DataError(f"labels: expected one row a study of {data.path}, got several of one; join them")
        labels = np.full((len(rows), len(table.names)), np.nan, np.float32)
        labels[[place[study] for study in table.study_ids]] = table.labels
    known = np.flatnonzero(~np.isnan(labels).all(1))
    if not len(known):
        raise DataError(f"{data.path}: expected chest X-rays with labels, got none; give --labels, or prepare with observations")
    rows, labels = rows[known.tolist()], labels[known]
    features = np.zeros((len(rows), space.image_tower().feature_width), np.float32)
    for positions, block in data.images(rows):
        features[positions] = space.encode_images(block if data.pixels == space.side else [image.astype(np.float32) / 255 for image in block])[2]
    subjects = [subject or f"study:{study}" for subject, study in zip(rows["subject_id"].to_list(), rows["study_id"].to_list(), strict=True)]
    names = OBSERVATIONS if table is None else table.names
    return Material(
        names, subjects, rows["split"].to_list(), rows["sex"].to_list(), rows["age"].to_list(), labels, features,
        inputs={"studies": data.digest}, studies=rows["study_id"].to_list(),
    )  # fmt: skip


def fit_and_score(material: Material, aim: Aim, seed: int, fingerprint: str, folder: Path, draws: int = DRAWS) -> tuple[Adapter, list[GroupScore]]:
    """The adapter of train and val, its scores on test, and all files of both into a folder that is being made.

    Raises:
        DataError: an empty split, or no label that can be learned.
    """
    empty = [split for split in SPLITS if not len(material.rows(split))]
    if empty:
        raise DataError(f"regen adapt: expected labelled images in train, val and test, got none in {', '.join(empty)}; label more subjects")
    adapter = fit_adapter(material.names, material.cases("train"), material.cases("val"), aim, seed, fingerprint)
    rows, test = material.rows("test"), material.cases("test")
    labels = test.labels[:, [material.names.index(name) for name in adapter.names]]
    stated = adapter.probabilities(test.features)
    groups = groups_of([material.sex[i] for i in rows], [material.ages[i] for i in rows])
    scores = adapter_table(adapter.names, stated, adapter.thresholds, labels, test.subjects, groups, seed, draws)
    adapter.save(folder)
    points = [{"name": name, **point.to_dict()} for name, point in zip(adapter.names, adapter.points, strict=True)]
    plain: dict[str, Any] = {"aim": str(aim), "split": "test", "seed": seed, "draws": draws, "operating_points": points, "left_out": adapter.left_out}
    plain |= {"groups": [group.to_dict() for group in scores], "failures": len(material.failures)}
    (folder / "metrics.json").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    curves = curves_of(adapter.names, stated, labels)
    (folder / "curves.json").write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")
    draw(curves, [(score.specificity, score.sensitivity) for score in scores[0].labels], folder / "curves.png")
    return adapter, scores


def _shown(value: Sampled | Rate) -> str:
    low, high = value.interval if isinstance(value, Sampled) else (value.low, value.high)
    return "-" if np.isnan(value.value) else f"{value.value:.3f} [{low:.3f}, {high:.3f}]"


def adapt_bundle(
    bundle: str | Path, out: str | Path, labels: Path | None, images: Path | None, studies: Path | None, aim: Aim, seed: int,
    device: torch.device | str, force: bool, progress: Progress,
) -> Adapted:  # fmt: skip
    """Adapt a bundle's encoder and write a copy of the bundle that holds the adapter, whole or not at all.

    Where the index was built without a limit for X-rays (regen.index.limits), val sets one, which the copy's manifest holds.

    Raises:
        As `adapt`, and ArtifactError where `out` exists without force.
    """
    check_free(Path(out), force)
    folder = find_bundle(bundle)
    with tempfile.TemporaryDirectory() as scratch:
        archive = Archive.open(folder / "index")
        unset = "cxr" in archive.modalities and "cxr" not in archive.limits
        index = archive.part("cxr") if unset else None
        made = adapt(folder / "encoder", Path(scratch) / "adapter", labels, images, studies, aim, seed, device, progress=progress, index=index)
        generator = folder / "generator" if (folder / "generator").is_dir() else None
        limits = {} if made.limit is None else {"cxr": made.limit}
        make_bundle(folder / "encoder", folder / "index", generator, out, folder / "MODEL_CARD.md", force, made.out, limits)
    return replace(made, out=Path(out) / "adapter")
