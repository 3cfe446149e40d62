"""The chest X-ray encoder: a trunk of any origin, one unit vector of the shared space, its tokens, and what the image shows.

    encoder = CxrEncoder(trunk, dim=256)
    tokens = encoder.tokens(images)            images (b, s, s) in [0, 1], 0 = black -> (b, n, width), the patches row by row
    embedding = encoder(images)                (b, 256), unit length, float32
    logits = encoder.observations(encoder.features(tokens))     (b, 14), in the order of OBSERVATIONS

A trunk may be trained whole, through LoRA, or not at all.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regen.data_prep.chexpert import OBSERVATIONS
from regen.encoders.image_trunks import Trunk


class CxrEncoder(nn.Module):
    """See the module. Seams as in the ECG encoder: `tokens`, `features`, `embed`, `forward`; `modality` and `dim`."""

    modality = "cxr"

    def __init__(self, trunk: Trunk, dim: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.dim = dim
        self.last = nn.LayerNorm(2 * trunk.width)
        self.project = nn.Linear(2 * trunk.width, dim)
        self.observations = nn.Linear(2 * trunk.width, len(OBSERVATIONS))

    @property
    def feature_width(self) -> int:
        return 2 * self.trunk.width

    def tokens(self, images: Tensor) -> Tensor:
        """(b, s, s) in [0, 1] -> (b, n, width)"""
        return self.trunk(images)

    def features(self, tokens: Tensor) -> Tensor:
        """Mean and maximum over the patches, normalised: (b, 2 * width)."""
        return self.last(torch.cat([tokens.mean(1), tokens.amax(1)], 1).float())

    def embed(self, features: Tensor) -> Tensor:
        """(b, 2 * width) -> (b, dim), unit length, float32."""
        return F.normalize(self.project(features).float(), dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """(b, s, s) in [0, 1] -> (b, dim) unit vectors, float32."""
        return self.embed(self.features(self.tokens(images)))


def adapt_trunk(trunk: Trunk, mode: str) -> None:
    """'train' leaves it as it is, 'frozen' stops its gradients, 'lora' trains low-rank updates of its linear layers (r 16, alpha 8)."""
    if mode == "frozen":
        trunk.requires_grad_(False)
    elif mode == "lora":
        from peft import LoraConfig, inject_adapter_in_model

        names = [name for name, module in trunk.model.named_modules() if type(module) is nn.Linear]
        trunk.requires_grad_(False)
        inject_adapter_in_model(LoraConfig(r=16, lora_alpha=8, lora_dropout=0.05, target_modules=names), trunk.model)


def merge_adapters(module: nn.Module) -> None:
    """Put the low-rank updates into the weights, for good."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, child in list(module.named_children()):
        if isinstance(child, BaseTunerLayer):
            child.merge()
            setattr(module, name, child.get_base_layer())
        else:
            merge_adapters(child)


def disturb_images(images: Tensor) -> Tensor:
    """What positioning and exposure do: small turns, shifts and scales, gain, gamma, noise, and a patch erased in one of four.

    images: (b, s, s) in [0, 1], on the CPU. Never a flip: left is a finding (MedImageInsight erases and does not flip either).
    """
    b, size, _ = images.shape
    turn = (torch.rand(b) - 0.5) * math.radians(12)
    scale = 1 + (torch.rand(b) - 0.5) * 0.2
    shift = (torch.rand(b, 2) - 0.5) * 0.12
    across, along = turn.cos() * scale, turn.sin() * scale
    place = torch.stack([torch.stack([across, -along, shift[:, 0]], 1), torch.stack([along, across, shift[:, 1]], 1)], 1)
    grid = F.affine_grid(place, [b, 1, size, size], align_corners=False)
    out = F.grid_sample(images[:, None], grid, mode="bilinear", align_corners=False)[:, 0]
    gamma, gain = (torch.exp((torch.rand(b, 1, 1) - 0.5) * spread) for spread in (0.5, 0.3))
    out = (out.clamp_min(1e-6) ** gamma * gain + torch.randn_like(out) * (0.03 * torch.rand(b, 1, 1))).clamp(0, 1)
    return _erase(out, 0.25)


def _erase(images: Tensor, share: float) -> Tensor:
    """Noise in a rectangle of 2 to 15 % of the area of some images (random erasing, Zhong et al. 2020)."""
    b, size, _ = images.shape
    area, ratio = 0.02 + 0.13 * torch.rand(b), torch.exp((torch.rand(b) - 0.5) * 1.4)
    sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], 1).clamp(max=0.9)
    first = torch.rand(b, 2) * (1 - sides)
    at = (torch.arange(size) + 0.5) / size
    inside = ((at[None, None] >= first[..., None]) & (at[None, None] < (first + sides)[..., None])).float()
    box = (inside[:, 0, :, None] * inside[:, 1, None]).bool() & (torch.rand(b, 1, 1) < share)
    return torch.where(box, torch.rand_like(images), images)
