"""The joint stage: X-ray, ECG and report text meet in one space, with any of the three missing in any batch.

Text is the anchor (MoRE): each modality is contrasted with its own report. Where X-ray and ECG of one subject lie near in time, they are
contrasted with each other as well (the edge of MEDBind). Reports or finding sets that are the same are positives (UniCL, as MedImageInsight
uses it). Two disturbed views of one image may be contrasted too (SimCLR, Chen et al. 2020), for archives without reports. What the images
show and what the ECG states are learned beside it, from the same features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regen.encoders.align import SCALE_LIMITS, positive_groups
from regen.encoders.cxr import CxrEncoder, disturb_images
from regen.encoders.ecg import PATCH, EcgEncoder
from regen.encoders.grad_cache import Outputs, cached_backward
from regen.encoders.head import StatementHead
from regen.encoders.images import Images
from regen.encoders.losses import info_nce
from regen.encoders.ranks import Ranks
from regen.encoders.recordings import Recordings, disturb
from regen.encoders.shared_recipe import SharedRecipe
from regen.encoders.text import TextTower
from regen.encoders.training import Checkpoint, Curve, Ema, autocast, clip_and_step, epoch_seed, make_optimizer, one_cycle, seeded
from regen.errors import ConfigError

Rows = npt.NDArray[np.int64]
_EDGES = ("ecg_text", "cxr_text", "cxr_ecg", "cxr_cxr")


class Scales(nn.Module):
    """A learnable inverse temperature for each pair of modalities, as a logarithm."""

    def __init__(self) -> None:
        super().__init__()
        self.logs = nn.ParameterDict({name: nn.Parameter(torch.tensor(float(np.log(1 / 0.07)))) for name in _EDGES})

    def forward(self, name: str) -> Tensor:
        return self.logs[name].clamp(*SCALE_LIMITS).exp()


@dataclass(slots=True, eq=False)
class Joint:
    """What is trained, and on what. units: (n, 2) rows of recordings and of images, -1 where a unit has none.

    recordings, ecg and head are None where the space has no ECGs.
    """

    cxr: CxrEncoder
    text: TextTower
    images: Images
    units: Rows
    ecg: EcgEncoder | None = None
    head: StatementHead | None = None
    recordings: Recordings | None = None
    scale: float = 1 / 0.07
    """Inverse temperature at which images and texts were contrasted, once trained."""

    def modules(self) -> dict[str, nn.Module]:
        parts: dict[str, nn.Module] = {"cxr": self.cxr, "text": self.text}
        if self.ecg is not None and self.head is not None:
            parts |= {"ecg": self.ecg, "learned": self.head.learned}
        return parts


def train_joint(
    joint: Joint, recipe: SharedRecipe, scratch: Path, device: torch.device, progress: Callable[[Iterable[int], str], Iterable[int]],
    ranks: Ranks,
) -> Curve:  # fmt: skip
    """Train all towers in place for recipe.align_epochs; they end with their moving averages."""
    scales = Scales().to(device)
    modules = joint.modules() | {"scales": scales}
    optimizer = make_optimizer(modules, recipe.weight_decay)
    together = nn.ModuleDict(joint.modules())
    ema = Ema(together, recipe.ema)
    checkpoint = Checkpoint(scratch / "joint.safetensors", modules, optimizer, ema)
    if ranks.world > 1 and checkpoint.path.exists():
        raise ConfigError(f"{checkpoint.path}: a stopped run goes on in one process alone, got {ranks.world}; remove the folder to begin anew")
    start = checkpoint.load()
    curve = Curve(scratch / "joint.jsonl", start)
    criterion = Criterion(joint, recipe, scales, ranks)
    parameters = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
    size = min(recipe.batch, len(joint.units))
    per_epoch = len(joint.units) // size
    for epoch in progress(range(start, recipe.align_epochs), "joint training"):
        together.train()
        total = 0.0
        with seeded(epoch_seed(recipe.seed, "joint", epoch)) as rng:
            order = rng.permutation(len(joint.units))
            torch.manual_seed(epoch_seed(recipe.seed, f"joint/{ranks.rank}", epoch) % 2**63)
            for i in range(per_epoch):
                mine = joint.units[order[i * size : (i + 1) * size]][ranks.rank :: ranks.world]
                chunks = [mine[s : s + (recipe.chunk or len(mine))] for s in range(0, len(mine), recipe.chunk or len(mine))]
                optimizer.zero_grad(set_to_none=True)
                total += cached_backward(lambda units: forward(joint, units, recipe, device), chunks, criterion.of(mine))
                ranks.average(parameters)
                clip_and_step(optimizer, one_cycle(epoch * per_epoch + i, recipe.align_epochs * per_epoch, recipe.align_rate))
                ema.update(together)
        curve.add(joint=total / per_epoch)
        if ranks.rank == 0:
            checkpoint.save(epoch + 1)
    ema.apply(together)
    joint.scale = float(scales("cxr_text").detach())
    return curve


def forward(joint: Joint, units: Rows, recipe: SharedRecipe, device: torch.device) -> Outputs:
    """Units through the towers. Names are left out where no unit has the modality.

    ecg, cxr: unit vectors of the units that have it; cxr_again: of another view of the same images, where recipe.image_weight asks for it;
    ecg_text, cxr_text: of those that have it with a report; statements, observations: logits.
    """
    out: Outputs = {}
    rows, texts = {}, {}
    for column, (name, part) in enumerate((("ecg", joint.recordings), ("cxr", joint.images))):
        rows[name] = units[units[:, column] >= 0, column]
        texts[name] = [part.reports[row] for row in rows[name] if part.reports[row]] if part is not None else []
    if len(rows["ecg"]) and joint.ecg is not None and joint.head is not None and joint.recordings is not None:
        crop, first = joint.recordings.crops(rows["ecg"], recipe.crop, PATCH, np.random.default_rng(int(torch.randint(2**31, ()))))
        with autocast(device):
            features = joint.ecg.features(*joint.ecg.tokens(disturb(crop).to(device), first.to(device)))
            out["statements"] = joint.head.learned(F.dropout(features, recipe.dropout)).float()
        out["ecg"] = joint.ecg.embed(features)
    if len(rows["cxr"]):
        images = disturb_images(joint.images.take(rows["cxr"]))
        with autocast(device):
            seen = joint.cxr.features(joint.cxr.tokens(images.to(device)))
            out["observations"] = joint.cxr.observations(F.dropout(seen, recipe.dropout)).float()
        out["cxr"] = joint.cxr.embed(seen)
        if recipe.image_weight:
            other = disturb_images(joint.images.take(rows["cxr"]))
            with autocast(device):
                out["cxr_again"] = joint.cxr.embed(joint.cxr.features(joint.cxr.tokens(other.to(device))))
    for name, told in texts.items():
        if told:
            with autocast(device):
                out[f"{name}_text"] = joint.text(told)
    return out


class Criterion:
    """The loss of a batch of units from what `forward` gave for all of it."""

    def __init__(self, joint: Joint, recipe: SharedRecipe, scales: Scales, ranks: Ranks) -> None:
        self.joint, self.recipe, self.scales, self.ranks = joint, recipe, scales, ranks
        self.groups = {"cxr": finding_groups(joint.images.reports, joint.images.labels, recipe.positives == "findings")}
        self.reports = {"cxr": np.array([bool(r) for r in joint.images.reports])}
        if joint.recordings is not None:
            self.groups["ecg"] = positive_groups(joint.recordings)
            self.reports["ecg"] = np.array([bool(r) for r in joint.recordings.reports])

    def of(self, units: Rows) -> Callable[[Outputs], Tensor]:
        """The loss of these units, as a function of their outputs."""
        return lambda outputs: self._loss(units, outputs)

    def _loss(self, units: Rows, outputs: Outputs) -> Tensor:
        recipe = self.recipe
        total = torch.stack([value.sum() * 0 for value in outputs.values()]).sum()
        for column, name in enumerate(("ecg", "cxr")):
            rows = units[units[:, column] >= 0, column]
            if name not in outputs:
                vectors, texts, groups = None, None, np.zeros((0, 2), np.int64)
            else:
                told = np.flatnonzero(self.reports[name][rows])
                vectors, texts, groups = outputs[name][torch.from_numpy(told)], outputs.get(f"{name}_text"), self.groups[name][rows[told]]
            total = total + recipe.text_weight * self._contrast(f"{name}_text", texts, vectors, groups, total)
        if recipe.image_weight:
            groups = self.groups["cxr"][units[units[:, 1] >= 0, 1]]
            total = total + recipe.image_weight * self._contrast("cxr_cxr", outputs.get("cxr_again"), outputs.get("cxr"), groups, total)
        both = units[(units >= 0).all(1)]
        if self.joint.recordings is not None:
            pairs = [self._of_pairs(units, outputs, column, name) for column, name in ((1, "cxr"), (0, "ecg"))]
            owners = self._owners(both)
            total = total + recipe.edge_weight * self._contrast("cxr_ecg", pairs[0], pairs[1], owners, total)
        return total + self._stated(units, outputs)

    def _of_pairs(self, units: Rows, outputs: Outputs, column: int, name: str) -> Tensor | None:
        """Rows of outputs[name] whose unit has both."""
        if name not in outputs:
            return None
        return outputs[name][torch.from_numpy((units[units[:, column] >= 0] >= 0).all(1))]

    def _owners(self, both: Rows) -> Rows:
        """(n, 2) numbers of the subjects: two visits of one subject are no negatives of each other."""
        subjects = self.joint.images.rows["subject_id"].rank("dense").to_numpy().astype(np.int64)[both[:, 1]]
        return np.stack([subjects, subjects], 1)

    def _contrast(self, edge: str, query: Tensor | None, key: Tensor | None, groups: Rows, like: Tensor) -> Tensor:
        """InfoNCE over the rows of all ranks; 0 where fewer than two have both sides."""
        width = self.joint.cxr.dim
        query, key = (part if part is not None else torch.zeros(0, width, device=like.device) for part in (query, key))
        numbers = self.ranks.gather(torch.from_numpy(groups.astype(np.float64)).to(like.device))
        query, key = self.ranks.gather(query), self.ranks.gather(key)
        if len(query) < 2:
            return like * 0
        positive = (numbers[:, None] == numbers[None]).any(-1)
        return info_nce(query, key, scale=self.scales(edge), positive=positive)

    def _stated(self, units: Rows, outputs: Outputs) -> Tensor:
        parts: list[Tensor] = []
        recordings = self.joint.recordings
        if "statements" in outputs and recordings is not None:
            labels = recordings.labels[units[units[:, 0] >= 0, 0]]
            parts.append(self.recipe.statement_weight * _known_bce(outputs["statements"], labels, self.recipe.label_smoothing))
        if "observations" in outputs:
            labels = self.joint.images.labels[units[units[:, 1] >= 0, 1]]
            parts.append(self.recipe.observation_weight * _known_bce(outputs["observations"], labels, self.recipe.label_smoothing))
        return torch.stack(parts).sum() if parts else next(iter(outputs.values())).sum() * 0


def _known_bce(logits: Tensor, labels: npt.NDArray[np.float32], smoothing: float) -> Tensor:
    """Binary cross-entropy over the labels that are not NaN."""
    target = torch.from_numpy(labels).to(logits.device)
    known = ~torch.isnan(target)
    smooth = torch.nan_to_num(target) * (1 - smoothing) + smoothing / 4
    error = F.binary_cross_entropy_with_logits(logits, smooth, reduction="none")
    return (error * known).sum() / known.sum().clamp_min(1)


def finding_groups(reports: Sequence[str], labels: npt.NDArray[np.float32], by_findings: bool = True) -> Rows:
    """(n, 2) numbers: rows that share the first have the same report, rows that share the second the same observations that are present.

    A study that nobody labelled shares observations with none; without by_findings nobody does.
    """
    texts: dict[str, int] = {}
    sets: dict[bytes, int] = {}
    out = np.zeros((len(reports), 2), np.int64)
    for i, report in enumerate(reports):
        labelled = by_findings and not np.isnan(labels[i]).all()
        key = np.nan_to_num(labels[i]).tobytes() if labelled else str(i).encode()
        out[i] = texts.setdefault(report or f"\0{i}", len(texts)), sets.setdefault(key, len(sets))
    return out
