"""The encoder folder on disk: weights, recipe, fingerprint.

encoder/
  encoder.safetensors  head.safetensors  text/  recipe.json  curves.png  manifest.json (fingerprint)
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from regen.artifact import file_digest, load_manifest
from regen.data_prep.statements import CODES
from regen.encoders.ecg import EcgEncoder
from regen.encoders.head import StatementHead
from regen.encoders.inference import FastEcg
from regen.encoders.recipe import EncoderRecipe
from regen.encoders.text import TextTower
from regen.encoders.training import autocast, has_fast_bf16
from regen.errors import ArtifactError
from regen.study import FloatArray


@dataclass(slots=True, eq=False)
class Towers:
    """Everything that maps a study into the shared space, ready to use (eval mode). fast: the ECG encoder's copy for CPUs with bfloat16."""

    ecg: EcgEncoder
    head: StatementHead
    text: TextTower
    recipe: EncoderRecipe
    fingerprint: str
    fast: FastEcg | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.device.type == "cpu" and has_fast_bf16(self.device):
            self.fast = FastEcg(self.ecg)

    @property
    def device(self) -> torch.device:
        return self.ecg.position.device

    @torch.no_grad()
    def encode(self, signals: FloatArray, measures: FloatArray, batch: int = 64) -> tuple[FloatArray, FloatArray, Tensor]:
        """signals: (n, 12, 1000) cleaned mV, NaN where missing; measures: (n, FEATURES).

        Returns embeddings (n, dim) unit, probabilities (n, 71), and tokens (n, t, width) as a bfloat16 tensor.
        """
        embeddings, probabilities, tokens = [], [], []
        for start in range(0, len(signals), batch):
            signal = torch.from_numpy(np.asarray(signals[start : start + batch], np.float32)).to(self.device)
            measured = torch.from_numpy(np.asarray(measures[start : start + batch], np.float32)).to(self.device)
            states, mask = self._tokens(signal)
            features = self.ecg.features(states, mask)
            embeddings.append(self.ecg.embed(features).cpu().numpy())
            probabilities.append(self.head.probabilities(features, measured).cpu().numpy())
            tokens.append(states.masked_fill(~mask[..., None], 0).to(torch.bfloat16).cpu())
        return np.concatenate(embeddings), np.concatenate(probabilities), torch.cat(tokens)

    def _tokens(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        if self.fast is not None:
            states, mask = self.fast.tokens(signal)
        else:
            with autocast(self.device):
                states, mask = self.ecg.tokens(signal)
        return states.float(), mask


def save_towers(folder: Path, ecg: EcgEncoder, head: StatementHead, text: TextTower, recipe: EncoderRecipe) -> str:
    """Write the parts; returns the fingerprint: a hash of every weight and of the recipe."""
    save_file(compact(ecg), folder / "encoder.safetensors")
    save_file(compact(head), folder / "head.safetensors")
    text.save(folder / "text")
    (folder / "recipe.json").write_text(json.dumps({"recipe": recipe.model_dump(), "codes": CODES}, indent=1))
    return fingerprint(folder)


def fingerprint(folder: Path) -> str:
    """A hash of every weight and of the recipe of an encoder folder that is being made."""
    parts = sorted(p for p in folder.rglob("*") if p.suffix == ".safetensors" and "scratch" not in p.parts)
    return hashlib.sha256("".join(file_digest(p) for p in [*parts, folder / "recipe.json"]).encode()).hexdigest()


def load_towers(folder: str | Path, device: torch.device | str = "cpu") -> Towers:
    """Read and check an encoder folder.

    Raises:
        ArtifactError: not an encoder folder, damaged, or made for another catalogue of statements.
    """
    folder = Path(folder)
    manifest = load_manifest(folder, "encoder")
    stored: dict[str, Any] = json.loads((folder / "recipe.json").read_text())
    if tuple(stored["codes"]) != CODES:
        raise ArtifactError(f"{folder}: was trained for another statement catalogue; train it again with this version of regen")
    recipe = EncoderRecipe(**{name: value for name, value in stored["recipe"].items() if name in EncoderRecipe.model_fields})
    ecg = EcgEncoder(recipe.ecg())
    head = StatementHead(ecg.feature_width)
    fill(ecg, folder / "encoder.safetensors")
    fill(head, folder / "head.safetensors")
    text = TextTower.restore(folder / "text")
    return Towers(ecg.to(device).eval(), head.to(device).eval(), text.to(device).eval(), recipe, manifest["fingerprint"])


def compact(module: nn.Module) -> dict[str, Tensor]:
    """Weights for disk: matrices as bfloat16 (they are used so), vectors and statistics as they are."""
    out = {}
    for name, value in module.state_dict().items():
        small = value.is_floating_point() and value.ndim > 1
        out[name] = (value.to(torch.bfloat16) if small else value).detach().cpu().contiguous()
    return out


def fill(module: nn.Module, path: Path) -> None:
    """Put the weights of a file into a module of the same shape.

    Raises:
        ArtifactError: other weights.
    """
    state = load_file(path)
    try:
        module.load_state_dict({n: v.float() if v.is_floating_point() else v for n, v in state.items()})
    except RuntimeError as error:
        raise ArtifactError(f"{path}: expected the weights of its recipe, got others; rebuild the encoder") from error
