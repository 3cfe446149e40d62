"""The shared space at use: whatever an encoder folder holds, as one object that maps ECGs, images and texts to unit vectors.

    space = load_space("encoder")
    space.modalities                                   ("cxr", "ecg", "text")
    space.encode_images(images)                        vectors (n, dim), the observations' probabilities (n, 14), features (n, 2 * width)
    space.text.encode(["right pleural effusion"])      (n, dim)

encoder/                                               an ECG encoder's folder (regen.encoders.store), and for X-rays
  cxr.safetensors  text/  recipe.json  curves.png  manifest.json
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from regen.artifact import load_manifest
from regen.data_prep.chexpert import OBSERVATIONS
from regen.data_prep.image_store import Bytes, square
from regen.data_prep.statements import CODES
from regen.encoders.cxr import CxrEncoder
from regen.encoders.ecg import EcgEncoder
from regen.encoders.head import StatementHead
from regen.encoders.image_trunks import TrunkPlan, build_trunk
from regen.encoders.shared_recipe import SharedRecipe
from regen.encoders.store import Towers, compact, fill, fingerprint, load_towers
from regen.encoders.text import TextTower
from regen.encoders.training import autocast
from regen.errors import ArtifactError, ConfigError
from regen.study import FloatArray


@dataclass(slots=True, eq=False)
class Space:
    """ecg: the towers of an ECG encoder, where the folder has one; cxr: the image tower, where it has one; side: of its images in pixels;
    scale: inverse temperature at which images and texts were contrasted.
    """

    text: TextTower
    fingerprint: str
    ecg: Towers | None = None
    cxr: CxrEncoder | None = None
    side: int = 0
    scale: float = 1 / 0.07

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(name for name, part in (("cxr", self.cxr), ("ecg", self.ecg), ("text", self.text)) if part is not None)

    @property
    def device(self) -> torch.device:
        return self.text.project.weight.device

    def image_tower(self) -> CxrEncoder:
        """Raises ConfigError where the space has none."""
        if self.cxr is None:
            raise ConfigError(
                f"expected an encoder that reads chest X-rays, this one reads {', '.join(self.modalities)}; train one: configs/cxr.yaml"
            )
        return self.cxr

    @torch.no_grad()
    def encode_images(self, images: Sequence[FloatArray] | Bytes, batch: int = 64) -> tuple[FloatArray, FloatArray, FloatArray]:
        """images: n of any size in [0, 1], or (n, s, s) uint8. Returns unit vectors (n, dim), probabilities (n, 14), features (n, 2 * width)."""
        tower = self.image_tower()
        vectors, stated, kept = [], [], []
        for start in range(0, len(images), batch):
            with autocast(self.device):
                features = tower.features(tower.tokens(self.batch(images[start : start + batch])))
            vectors.append(tower.embed(features).cpu().numpy())
            stated.append(torch.sigmoid(tower.observations(features).float()).cpu().numpy())
            kept.append(features.float().cpu().numpy())
        if not vectors:
            return tuple(np.zeros((0, width), np.float32) for width in (tower.dim, len(OBSERVATIONS), tower.feature_width))  # type: ignore[return-value]
        return np.concatenate(vectors), np.concatenate(stated), np.concatenate(kept)

    def batch(self, images: Sequence[FloatArray] | Bytes) -> Tensor:
        """As the tower sees them: (n, side, side) float32 in [0, 1]."""
        if isinstance(images, np.ndarray) and images.dtype == np.uint8:
            return torch.from_numpy(images.astype(np.float32) / 255).to(self.device)
        return torch.from_numpy(np.stack([square(np.asarray(image, np.float32), self.side) for image in images])).to(self.device)


def save_space(
    folder: Path,
    recipe: SharedRecipe,
    text: TextTower,
    cxr: CxrEncoder,
    side: int,
    scale: float,
    ecg: EcgEncoder | None = None,
    head: StatementHead | None = None,
) -> str:
    """Write the parts; returns the fingerprint: a hash of every weight and of the recipe. scale: inverse temperature of image and text."""
    if ecg is not None and head is not None:
        save_file(compact(ecg), folder / "encoder.safetensors")
        save_file(compact(head), folder / "head.safetensors")
    save_file(compact(cxr), folder / "cxr.safetensors")
    text.save(folder / "text")
    stored = {"recipe": recipe.model_dump(), "codes": CODES, "observations": OBSERVATIONS, "trunk": cxr.trunk.plan.to_dict(), "side": side}
    stored |= {"scale": scale}
    (folder / "recipe.json").write_text(json.dumps(stored, indent=1))
    return fingerprint(folder)


def load_space(folder: str | Path, device: torch.device | str = "cpu") -> Space:
    """Read and check an encoder folder, of ECGs, of X-rays, or of both.

    Raises:
        ArtifactError: not an encoder folder, damaged, or made for another catalogue.
    """
    folder = Path(folder)
    manifest = load_manifest(folder, "encoder")
    stored: dict[str, Any] = json.loads((folder / "recipe.json").read_text())
    if "trunk" not in stored:
        towers = load_towers(folder, device)
        return Space(towers.text, towers.fingerprint, towers)
    if tuple(stored["observations"]) != OBSERVATIONS:
        raise ArtifactError(f"{folder}: was trained for another list of observations; train it again with this version of regen")
    recipe = SharedRecipe(**stored["recipe"])
    plan = TrunkPlan.from_dict(stored["trunk"])
    cxr = CxrEncoder(build_trunk(plan), recipe.dim)
    fill(cxr, folder / "cxr.safetensors")
    ecg = load_towers(folder, device) if recipe.ecg_tower else None
    text = ecg.text if ecg is not None else TextTower.restore(folder / "text").to(device).eval()
    return Space(text, manifest["fingerprint"], ecg, cxr.to(device).eval(), int(stored["side"]), float(stored.get("scale", 1 / 0.07)))
