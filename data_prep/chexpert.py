"""The vocabulary of chest X-ray labels: CheXpert's 14 observations, what lies below what, and where NIH ChestX-ray14's names belong.

    ancestors("Pneumonia")                ("Consolidation", "Lung Opacity")
    NIH_TO_CHEXPERT["Infiltration"]       "Lung Opacity"

Names and hierarchy: Irvin et al., AAAI 2019 (CheXpert); spelling as in the label table of MIMIC-CXR-JPG (Johnson et al., 2019).
NIH names: Wang et al., CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Mapping

from regen.errors import DataError, did_you_mean

OBSERVATIONS: tuple[str, ...] = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia",
    "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
NO_FINDING, SUPPORT_DEVICES = "No Finding", "Support Devices"
PATHOLOGIES: tuple[str, ...] = tuple(name for name in OBSERVATIONS if name not in (NO_FINDING, SUPPORT_DEVICES))
"""The 12 observations of which any, present or uncertain, ends 'No Finding'."""

CELLS: dict[float, float] = {1.0: 1.0, 0.0: 0.0, -1.0: 0.5, 0.5: 0.5}
"""What a cell of a label table holds -> present 1, uncertain 0.5, absent 0. A blank cell is not mentioned."""

PARENTS: dict[str, str] = {
    "Cardiomegaly": "Enlarged Cardiomediastinum", "Edema": "Lung Opacity", "Consolidation": "Lung Opacity", "Pneumonia": "Consolidation",
    "Lung Lesion": "Lung Opacity", "Atelectasis": "Lung Opacity",
}  # fmt: skip
"""Observation -> the one directly above it. What is not listed stands at the top."""

NIH_TO_CHEXPERT: dict[str, str | None] = {
    "Atelectasis": "Atelectasis", "Cardiomegaly": "Cardiomegaly", "Effusion": "Pleural Effusion", "Infiltration": "Lung Opacity",
    "Mass": "Lung Lesion", "Nodule": "Lung Lesion", "Pneumonia": "Pneumonia", "Pneumothorax": "Pneumothorax",
    "Consolidation": "Consolidation", "Edema": "Edema", "Emphysema": None, "Fibrosis": None, "Pleural_Thickening": "Pleural Other",
    "Hernia": None, "No Finding": "No Finding",
}  # fmt: skip
"""NIH ChestX-ray14 name -> observation; None where CheXpert has none (an image with only these is no 'No Finding' either)."""


def ancestors(observation: str) -> tuple[str, ...]:
    """Everything above an observation, nearest first.

    Raises:
        DataError: not one of the 14.
    """
    _check(observation)
    above: list[str] = []
    while observation in PARENTS:
        observation = PARENTS[observation]
        above.append(observation)
    return tuple(above)


def with_ancestors(labels: Mapping[str, float]) -> dict[str, float]:
    """Labels (1.0, 0.5, 0.0) where whatever is present or uncertain makes all above it at least as certain; an absence stays where it is.

    Raises:
        DataError: a name that is not one of the 14.
    """
    out = dict(labels)
    for name, value in labels.items():
        for above in ancestors(name):
            if value > 0:
                out[above] = max(out.get(above, 0.0), value)
    return out


def _check(observation: str) -> None:
    if observation not in OBSERVATIONS:
        raise DataError(f"CheXpert: expected one of the 14 observations, got {observation!r}{did_you_mean(observation, OBSERVATIONS)}")
