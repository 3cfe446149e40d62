"""Classification without a label: an image is asked whether it lies nearer to "there is" or to "there is no".

    zero_shot(space, vectors, ["Pleural Effusion", "hiatal hernia"])       (n, 2) probabilities
    for row in classify(space, images)[0]: print(row.name, row.probability, row.positive, row.how)

Each label has several wordings of presence and of absence; a softmax over the two, at the temperature of the text contrast, is the
probability (CLIP, Radford et al. 2021; with pairs of prompts as in CheXzero, Tiu et al. 2022). Nothing is taken from the other images: one alone
gets what it gets among a thousand. These probabilities rank; they are not calibrated, and their threshold of 0.5 promises nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from regen.artifact import require_partner
from regen.data_prep.chexpert import OBSERVATIONS
from regen.data_prep.image_store import Bytes
from regen.encoders.adapter import MEND, Adapter
from regen.encoders.space import Space
from regen.errors import ConfigError
from regen.study import FloatArray

THRESHOLD = 0.5
Wordings = tuple[tuple[str, ...], tuple[str, ...]]

PROMPTS: dict[str, Wordings] = {
    "No Finding": (
        ("No acute cardiopulmonary abnormality.", "Normal chest radiograph.", "The lungs are clear. Heart size is normal. No effusion."),
        ("Abnormal chest radiograph.", "There is an abnormality of the lungs, the pleura or the heart.", "Pathological findings are present."),
    ),
    "Enlarged Cardiomediastinum": (
        ("The mediastinum is widened.", "Enlarged cardiomediastinal silhouette.", "Widening of the mediastinal contour."),
        ("The mediastinum is not widened.", "Normal cardiomediastinal silhouette.", "Mediastinal contours are normal."),
    ),
    "Cardiomegaly": (
        ("Cardiomegaly.", "The heart is enlarged.", "Enlarged cardiac silhouette."),
        ("No cardiomegaly.", "The heart is normal in size.", "Normal cardiac silhouette."),
    ),
    "Lung Opacity": (
        ("Pulmonary opacity.", "There is an opacity in the lung.", "Patchy airspace opacities."),
        ("No pulmonary opacity.", "The lungs are clear.", "No airspace opacities."),
    ),
    "Lung Lesion": (
        ("Pulmonary nodule.", "There is a mass in the lung.", "A nodular lesion is seen."),
        ("No pulmonary nodule.", "There is no mass in the lung.", "No nodular lesion is seen."),
    ),
    "Edema": (
        ("Pulmonary edema.", "There is interstitial edema with vascular congestion.", "Findings of pulmonary edema."),
        ("No pulmonary edema.", "There is no edema and no vascular congestion.", "Normal pulmonary vasculature."),
    ),
    "Consolidation": (
        ("Consolidation.", "There is a consolidation in the lung.", "Focal consolidation is present."),
        ("No consolidation.", "There is no consolidation in the lung.", "No focal consolidation."),
    ),
    "Pneumonia": (
        ("Pneumonia.", "There is an infectious infiltrate.", "Findings of pneumonia."),
        ("No pneumonia.", "There is no infectious infiltrate.", "No evidence of pneumonia."),
    ),
    "Atelectasis": (
        ("Atelectasis.", "There is atelectasis at the lung base.", "Volume loss with atelectasis."),
        ("No atelectasis.", "There is no atelectasis.", "No volume loss."),
    ),
    "Pneumothorax": (
        ("Pneumothorax.", "There is a pneumothorax.", "A pneumothorax is present."),
        ("No pneumothorax.", "There is no pneumothorax.", "No evidence of pneumothorax."),
    ),
    "Pleural Effusion": (
        ("Pleural effusion.", "There is a pleural effusion.", "Blunted costophrenic angle with pleural fluid."),
        ("No pleural effusion.", "There is no pleural effusion.", "The costophrenic angles are sharp."),
    ),
    "Pleural Other": (
        ("Pleural thickening.", "There are pleural plaques.", "Pleural scarring is present."),
        ("No pleural thickening.", "There are no pleural plaques.", "The pleura is normal."),
    ),
    "Fracture": (
        ("Fracture.", "There is a rib fracture.", "A fractured bone is seen."),
        ("No fracture.", "There is no rib fracture.", "The bones are intact."),
    ),
    "Support Devices": (
        ("Support devices are in place.", "There is a tube or a catheter.", "A pacemaker or a central line is present."),
        ("No support devices.", "There is no tube and no catheter.", "No pacemaker and no central line."),
    ),
}  # fmt: skip
"""Observation -> wordings of presence, of absence: as many of the one as of the other."""


@dataclass(frozen=True, slots=True)
class Row:
    """One label of one image. how: who says so; the threshold of an adapter is its operating point."""

    name: str
    probability: float
    threshold: float
    positive: bool
    how: Literal["zero-shot", "adapter"]


def wordings(name: str) -> Wordings:
    """Of one of the 14 observations, or general ones around any other name.

    Raises:
        ConfigError: an empty name.
    """
    if name in PROMPTS:
        return PROMPTS[name]
    said = " ".join(name.replace("_", " ").lower().split())
    if not said:
        raise ConfigError("labels: expected the name of a finding, got an empty one")
    return (
        (f"{said}.", f"There is {said}.", f"Findings of {said}."),
        (f"No {said}.", f"There is no {said}.", f"No evidence of {said}."),
    )


def zero_shot(space: Space, vectors: FloatArray, names: Sequence[str], best: bool = False, scale: float | None = None) -> FloatArray:
    """Probability that each label is present: (n, dim) unit vectors -> (n, len(names)).

    best: each side speaks by the wording nearest to the image (best prompt, in the manner of MoRE), not by the mean of its wordings.
    scale: inverse temperature, that of the space by default.

    Raises:
        ConfigError: an empty name, or a scale that is not above 0.
    """
    scale = space.scale if scale is None else scale
    if not scale > 0:
        raise ConfigError(f"zero-shot: expected a scale above 0, got {scale:g}")
    sides = [side for name in names for side in wordings(name)]
    if not sides:
        return np.zeros((len(vectors), 0), np.float32)
    texts = space.text.encode([text for side in sides for text in side])
    parts = np.split(texts, np.cumsum([len(side) for side in sides])[:-1])
    near = [(vectors @ part.T).max(1) if best else vectors @ _mean(part) for part in parts]
    apart = scale * (np.stack(near[::2], 1) - np.stack(near[1::2], 1))
    return np.asarray(1 / (1 + np.exp(-apart.astype(np.float64))), np.float32)


def classify(
    space: Space, images: Sequence[FloatArray] | Bytes, labels: str | Sequence[str] = "chexpert", adapter: Adapter | None = None, best: bool = False
) -> list[list[Row]]:
    """What each image shows: a list of rows an image. labels: 'chexpert', the 14 observations, or names.

    A label that the adapter has learned is the adapter's, every other one is asked zero-shot; with 'chexpert' the adapter's own labels beyond the
    14 follow.

    Raises:
        ConfigError: no such set of labels, or a space without images.
        ArtifactError: an adapter of another encoder.
    """
    names = _names(labels, adapter)
    vectors, _, features = space.encode_images(images)
    learned: dict[str, tuple[int, float]] = {}
    if adapter is not None:
        require_partner("adapter", adapter.fingerprint, space.fingerprint, MEND)
        learned = {name: (c, point.threshold) for c, (name, point) in enumerate(zip(adapter.names, adapter.points, strict=True))}
    own = adapter.probabilities(features) if adapter is not None else np.zeros((len(vectors), 0))
    asked = [name for name in names if name not in learned]
    column = {name: c for c, name in enumerate(asked)}
    told = zero_shot(space, vectors, asked, best)

    def row(image: int, name: str) -> Row:
        if name in learned:
            c, threshold = learned[name]
            return Row(name, float(own[image, c]), threshold, bool(own[image, c] >= threshold), "adapter")
        probability = float(told[image, column[name]])
        return Row(name, probability, THRESHOLD, probability >= THRESHOLD, "zero-shot")

    return [[row(image, name) for name in names] for image in range(len(vectors))]


def _names(labels: str | Sequence[str], adapter: Adapter | None) -> list[str]:
    if not isinstance(labels, str):
        return list(dict.fromkeys(labels))
    if labels != "chexpert":
        raise ConfigError(f"labels: expected 'chexpert' or a list of names, got {labels!r}; for one label give a list of one")
    return list(dict.fromkeys([*OBSERVATIONS, *(adapter.names if adapter is not None else ())]))


def _mean(texts: FloatArray) -> FloatArray:
    """(wordings, dim) -> (dim,), of unit length again."""
    mean = texts.mean(0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-6), np.float32)
