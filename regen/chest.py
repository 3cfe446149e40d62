"""The chest X-ray's way through a bundle: images in, vectors and probabilities, similar cases, drafts out.

seen = see_chest(space, adapter, studies)              one row a study
drafts = draft_chest(space, archive, adapter, studies)
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from regen.data_prep.chexpert import OBSERVATIONS
from regen.data_prep.views import is_lateral
from regen.encoders.adapter import Adapter
from regen.encoders.space import Space
from regen.errors import DataError
from regen.generators.chest_writer import ChestRequest, ChestWriter
from regen.index.archive import Archive
from regen.index.case_index import Asker
from regen.study import Draft, FloatArray, Study

Values = npt.NDArray[np.float64]
UNSET = 0.5
"""Operating point of an observation that no adapter has learned."""


@dataclass(frozen=True, slots=True, eq=False)
class SeenChest:
    """vectors: (n, dim) unit, the mean of the views; probabilities: (n, 14) float64 in the order of OBSERVATIONS, of the first frontal view, NaN
    where nothing measures one; thresholds: (14,) float64, from which on each counts as found."""

    vectors: FloatArray
    probabilities: Values
    thresholds: Values


def see_chest(space: Space, adapter: Adapter | None, studies: Sequence[Study]) -> SeenChest:
    """What the encoder makes of studies with chest X-rays, and what the adapter reads off its features, where the bundle has one.

    With an adapter an observation that it has not learned is NaN; without one all are the encoder's own, uncalibrated.

    Raises:
        DataError: a study without an image.
        ConfigError: an encoder that reads no X-rays.
    """
    for study in studies:
        if not study.cxr:
            raise DataError(f"{study.study_id}: expected a chest X-ray, the study has none; give a study with an image")
    counts = np.array([len(study.cxr) for study in studies])
    views = [view for study in studies for view in sorted(study.cxr, key=lambda view: is_lateral(view.view))]
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    vectors, given, features = space.encode_images([view.pixels for view in views])
    stated, thresholds = given[first].astype(np.float64), np.full(len(OBSERVATIONS), UNSET)
    if adapter is not None:
        stated[:] = np.nan  # the tower's own head may never have seen absent what the adapter could not learn
        learned = adapter.probabilities(features[first])
        for column, (name, point) in enumerate(zip(adapter.names, adapter.points, strict=True)):
            if name in OBSERVATIONS:
                stated[:, OBSERVATIONS.index(name)] = learned[:, column]
                thresholds[OBSERVATIONS.index(name)] = point.threshold
    mean = np.add.reduceat(vectors, first)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True).clip(1e-6)
    return SeenChest(mean, stated, thresholds)


def draft_chest(
    space: Space, archive: Archive, adapter: Adapter | None, studies: Sequence[Study], bundle: str = "", blank_retrieval: bool = False
) -> list[Draft]:
    """A draft a study, in order; without retrieval from the probabilities alone.

    Raises:
        As see_chest; ConfigError where the archive holds no X-rays.
    """
    started = time.perf_counter()
    seen = see_chest(space, adapter, studies)
    encoded = time.perf_counter()
    index = archive.part("cxr")
    writer = ChestWriter(index, seen.thresholds, limit=archive.limits.get("cxr", -1.0), name=bundle)
    askers = [Asker.of(study) for study in studies]
    if blank_retrieval:
        ids, scores = np.zeros((len(studies), 0), np.int64), np.zeros((len(studies), 0), np.float32)
    else:
        ids, scores = index.search(seen.vectors, writer.needs, askers)
    found = time.perf_counter()
    requests = [ChestRequest(s, seen.probabilities[i], ids[i], scores[i], allowed=index.why(askers[i])) for i, s in enumerate(studies)]
    drafts = writer.write(requests)
    each = 1000 / len(studies)
    spent = {"encode": round((encoded - started) * each, 3), "retrieve": round((found - encoded) * each, 3)}
    return [replace(draft, timing_ms=spent | draft.timing_ms) for draft in drafts]
