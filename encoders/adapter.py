"""A small supervised adapter on the frozen features of an image tower: any labels, calibrated, each with an operating point.

    adapter = fit_adapter(["Cardiomegaly", "Hernia"], train, val, Aim("sensitivity", 0.95), fingerprint=space.fingerprint)
    adapter.probabilities(features)                        (n, 2), float64
    adapter.probabilities(features) >= adapter.thresholds  (n, 2) bool, at or above the operating points
    adapter.points[0].holds, adapter.left_out              False, {"Hernia": "2 positive in train, 5 needed"}

One L2 logistic regression a label on standardised features, all fitted at once (L-BFGS, float64), missing labels left out of the loss. The
penalty, and whether a small hidden layer goes between, are chosen by cross-validated log loss inside the training split, by subject. The
validation split serves Platt's calibration (1999) and the operating points alone: scores that a choice was tuned on are no longer like new
ones, and the guarantee of regen.encoders.operating_points would be void. To adapt a frozen image encoder so is MedImageInsight's way.

adapter/
  adapter.safetensors  adapter.json  manifest.json (the encoder's fingerprint)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from regen.artifact import load_manifest, require_partner
from regen.encoders.head import FeatureScale
from regen.encoders.operating_points import WEAK, Aim, OperatingPoint, Scores, auroc_at_most, choose
from regen.encoders.reading import Reading, fit_reading, select
from regen.errors import ArtifactError, DataError
from regen.study import FloatArray

STAGE = "adapter"
FEW = 5
"""Positives, and negatives, that a label must have in training."""
MEND = "regen adapt --bundle B --labels FILE.csv --images FOLDER --out ADAPTER"
_PULL = 4.0
"""Platt's slope and shift are pulled towards 1 and 0 as by this many imagined cases."""


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """features: (n, width); labels: (n, labels) 1 present, 0 absent, NaN not known; subjects: n patients, None where not known."""

    features: FloatArray
    labels: FloatArray
    subjects: Sequence[str | None]

    def __post_init__(self) -> None:
        if not (self.features.ndim == self.labels.ndim == 2 and len(self.features) == len(self.labels) == len(self.subjects)):
            raise DataError(
                f"adapter: expected (n, width) features, (n, labels) labels and n subjects, got {self.features.shape}, {self.labels.shape} and "
                f"{len(self.subjects)}"
            )
        if not np.isin(self.labels[~np.isnan(self.labels)], (0, 1)).all():
            raise DataError("adapter: expected labels of 1, 0 or NaN, got others; leave uncertain ones out as NaN")
        if not np.isfinite(self.features).all():
            raise DataError("adapter: expected finite features, got NaN or infinite ones; check the images")


class Adapter(nn.Module):
    """See the module. slope, shift: (labels,) Platt's; points: one a label; fingerprint: of the encoder whose features it reads.

    left_out: label -> why it could not be learned; made: how it was fitted.
    """

    slope: Tensor
    shift: Tensor

    def __init__(self, names: Sequence[str], width: int, hidden: int = 0, fingerprint: str = "") -> None:
        super().__init__()
        self.names = tuple(names)
        self.width, self.hidden, self.fingerprint = width, hidden, fingerprint
        self.scale = FeatureScale(width)
        self.reading = Reading(width, len(self.names), hidden)
        self.register_buffer("slope", torch.ones(len(self.names), dtype=torch.float64))
        self.register_buffer("shift", torch.zeros(len(self.names), dtype=torch.float64))
        self.aim = Aim()
        self.points: tuple[OperatingPoint, ...] = ()
        self.left_out: dict[str, str] = {}
        self.made: dict[str, Any] = {}

    @property
    def thresholds(self) -> Scores:
        """(labels,)"""
        return np.array([point.threshold for point in self.points])

    def forward(self, features: Tensor) -> Tensor:
        """(b, width) -> (b, labels) calibrated probabilities, float64."""
        return torch.sigmoid(self.reading(self.scale(features.double())) * self.slope + self.shift)

    @torch.no_grad()
    def probabilities(self, features: FloatArray, batch: int = 4096) -> Scores:
        """(n, width) -> (n, labels).

        Raises:
            DataError: features of another width.
        """
        if features.ndim != 2 or features.shape[1] != self.width:
            raise DataError(f"adapter: expected features (n, {self.width}), got {features.shape}; give those of the encoder it was fitted with")
        made = [self(torch.from_numpy(np.asarray(features[i : i + batch], np.float32))).numpy() for i in range(0, len(features), batch)]
        return np.concatenate(made) if made else np.zeros((0, len(self.names)))

    def only(self, columns: Sequence[int]) -> Adapter:
        """The same for some of its labels, without operating points."""
        small = Adapter([self.names[c] for c in columns], self.width, self.hidden, self.fingerprint)
        chosen = ("reading.last.weight", "reading.last.bias", "slope", "shift")
        small.load_state_dict({name: value[list(columns)] if name in chosen else value for name, value in self.state_dict().items()})
        return small.eval().requires_grad_(False)

    def save(self, folder: Path) -> None:
        """Into a folder that is being made (regen.artifact.new_artifact, stage STAGE), whose manifest gets the fingerprint."""
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, folder / "adapter.safetensors")
        stored = {
            "names": self.names, "width": self.width, "hidden": self.hidden, "fingerprint": self.fingerprint, "aim": _plain_aim(self.aim),
            "points": [point.to_dict() for point in self.points], "left_out": self.left_out, "made": self.made,
        }  # fmt: skip
        (folder / "adapter.json").write_text(json.dumps(stored, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, fingerprint: str | None = None) -> Adapter:
        """Read and check an adapter folder. fingerprint: of the encoder it shall work with.

        Raises:
            ArtifactError: not an adapter, damaged, or fitted on another encoder's features.
        """
        folder = Path(folder)
        manifest = load_manifest(folder, STAGE)
        stored = json.loads((folder / "adapter.json").read_text(encoding="utf-8"))
        if fingerprint is not None:
            require_partner(str(folder), manifest.get("fingerprint", ""), fingerprint, MEND)
        adapter = cls(stored["names"], stored["width"], stored["hidden"], stored["fingerprint"])
        try:
            adapter.load_state_dict(load_file(folder / "adapter.safetensors"))
        except RuntimeError as error:
            raise ArtifactError(f"{folder}: expected the weights of adapter.json, got others; fit it again: {MEND}") from error
        adapter.aim = Aim(**{name: value for name, value in stored["aim"].items() if value is not None})
        adapter.points = tuple(OperatingPoint(**point) for point in stored["points"])
        adapter.left_out, adapter.made = stored["left_out"], stored["made"]
        return adapter.eval()


def fit_adapter(
    names: Sequence[str], train: Cases, val: Cases, aim: Aim, seed: int = 0, fingerprint: str = "", hidden: Sequence[int] = (0, 32)
) -> Adapter:
    """Fit, calibrate, and set the operating points. hidden: widths of the layer between to choose from, 0 for none.

    Labels with fewer than FEW positives or negatives in train, or none in val, are left out (adapter.left_out says why), and so are those
    that val shows the features not to tell: called from a threshold, they would be found in everybody or in nobody.

    Raises:
        DataError: names that do not fit the labels or stand twice, a subject in both splits, or no label that can be learned.
    """
    _check(names, train, val)
    left_out = {name: why for i, name in enumerate(names) if (why := _lacking(train.labels[:, i], val.labels[:, i]))}
    kept = _kept(names, left_out)
    scale = FeatureScale.fit(train.features)
    x, y = scale(torch.from_numpy(train.features).double()), torch.from_numpy(train.labels[:, kept]).double()
    choice, losses = select(x, y, train.subjects, hidden, np.random.default_rng([seed, 0]))
    adapter = Adapter([names[i] for i in kept], train.features.shape[1], choice.hidden, fingerprint)
    adapter.scale = scale
    adapter.reading = fit_reading(x, y, choice, seed)
    labels = val.labels[:, kept]
    with torch.no_grad():
        logits = adapter.reading(scale(torch.from_numpy(val.features).double()))
    slope, shift = platt(logits, torch.from_numpy(labels).double())
    adapter.slope.copy_(slope)
    adapter.shift.copy_(shift)
    stated = adapter.eval().requires_grad_(False).probabilities(val.features)
    left_out |= {name: why for c, name in enumerate(adapter.names) if (why := _weak(stated[:, c], labels[:, c]))}
    told = _kept(adapter.names, left_out)
    adapter, stated, labels = adapter.only(told), stated[:, told], labels[:, told]
    adapter.points = tuple(_point(stated[:, c], labels[:, c], val.subjects, aim, np.random.default_rng([seed, 1, c])) for c in range(len(told)))
    adapter.aim, adapter.left_out = aim, left_out
    adapter.made = {"train": len(train.labels), "val": len(val.labels), "penalty": choice.penalty, "seed": seed, "cross_validated_loss": losses}
    return adapter


def platt(logits: Tensor, labels: Tensor, pull: float = _PULL) -> tuple[Tensor, Tensor]:
    """A slope above 0 and a shift a label (Platt 1999, with his smoothed targets). logits, labels: (n, labels), NaN where not known.

    The slope keeps its sign, so that the order of the cases, and with it what an operating point promises, is that of the logits.
    """
    known = ~torch.isnan(labels)
    y = torch.nan_to_num(labels)
    positive = (y * known).sum(0)
    target = torch.where(y > 0, (positive + 1) / (positive + 2), 1 / (known.sum(0) - positive + 2))
    log_slope, shift = (torch.zeros(labels.shape[1], dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.LBFGS([log_slope, shift], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        error = F.binary_cross_entropy_with_logits(logits * log_slope.exp() + shift, target, reduction="none")
        loss = (error * known).sum() + pull / 2 * log_slope.square().sum() + pull / 8 * shift.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return log_slope.detach().exp(), shift.detach()


def _point(p: Scores, labels: npt.NDArray[np.float32], subjects: Sequence[str | None], aim: Aim, rng: np.random.Generator) -> OperatingPoint:
    known = np.flatnonzero(~np.isnan(labels))
    return choose(p[known], labels[known] == 1, [subjects[i] for i in known.tolist()], aim, rng)


def _check(names: Sequence[str], train: Cases, val: Cases) -> None:
    if len(set(names)) < len(names) or {len(names)} != {part.labels.shape[1] for part in (train, val)}:
        raise DataError(f"adapter: expected {train.labels.shape[1]} different names, one a column of labels, got {', '.join(names) or 'none'}")
    both = sorted({s for s in train.subjects if s is not None} & {s for s in val.subjects if s is not None})
    if both:
        raise DataError(f"adapter: expected no subject in both train and val, got {len(both)} ({both[0]!r}); split by subject")


def _lacking(train: npt.NDArray[np.float32], val: npt.NDArray[np.float32]) -> str:
    for split, labels, needed in (("train", train, FEW), ("val", val, 1)):
        for kind, value in (("positive", 1), ("negative", 0)):
            count = int((labels == value).sum())
            if count < needed:
                return f"{count} {kind} in {split}, {needed} needed"
    return ""


def _kept(names: Sequence[str], left_out: dict[str, str]) -> list[int]:
    """Columns of the labels that stay."""
    kept = [i for i, name in enumerate(names) if name not in left_out]
    if not kept:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(left_out.items())[:3])
        raise DataError(f"adapter: expected a label that can be learned, got none ({reasons}); label more studies")
    return kept


def _weak(p: Scores, labels: npt.NDArray[np.float32]) -> str:
    known = ~np.isnan(labels)
    area, most = auroc_at_most(p[known], labels[known] == 1)
    return f"AUROC {area:.2f} in val, {most:.2f} at most (95 %): no better than {WEAK:g}" if most < WEAK else ""


def _plain_aim(aim: Aim) -> dict[str, Any]:
    return asdict(aim) | ({} if aim.promises else {"value": None})
