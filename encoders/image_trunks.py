"""The eye of the chest X-ray encoder: a small one trained here, or the vision model of timm, open_clip or Hugging Face behind one face.

trunk = build_trunk(plan)                          random weights; regen.encoders.image_sources makes the plan and fills it
tokens = trunk(images)                             (b, s, s) in [0, 1] -> (b, n, trunk.width), the patches row by row
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regen.encoders.hub import quiet
from regen.encoders.layers import Block, keys_seen
from regen.errors import ConfigError

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True, slots=True)
class TrunkPlan:
    """All that rebuilds a trunk without a network: kind and library's configuration, side of the image it reads, normalisation.

    weights: the file, or for 'hf' the folder or hub name, of its pretrained weights; None where they are random, or where the trunk is
    filled later.
    """

    kind: str
    config: dict[str, Any]
    size: int
    mean: tuple[float, ...] = HALF[0]
    std: tuple[float, ...] = HALF[1]
    weights: str | None = field(default=None, compare=False)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> TrunkPlan:
        """What `to_dict` gave, after JSON."""
        return cls(**stored | {name: tuple(stored[name]) for name in ("mean", "std")})

    def to_dict(self) -> dict[str, Any]:
        """For recipe.json; where the weights were found is of no use there."""
        return asdict(self) | {"weights": None}


class Trunk(nn.Module):
    """model: the library's; width: of its tokens. Grey images are repeated to three channels and normalised as the model was trained."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, plan: TrunkPlan) -> None:
        super().__init__()
        self.model = model
        self.plan = plan
        self.register_buffer("mean", torch.tensor(plan.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(plan.std).view(1, 3, 1, 1), persistent=False)
        training = model.training
        with torch.no_grad():
            self.width = self.eval()(torch.zeros(1, plan.size, plan.size)).shape[2]
        self.train(training)

    def forward(self, images: Tensor) -> Tensor:
        """(b, s, s) in [0, 1], of any s -> (b, n, width), the patches row by row."""
        x = images[:, None]
        if x.shape[-1] != self.plan.size:
            x = F.interpolate(x, size=(self.plan.size, self.plan.size), mode="bilinear", antialias=True, align_corners=False)
        if self.plan.kind == "small":
            return self.model((x - 0.5) * 2)
        return self.patches((x - self.mean) / self.std)

    def patches(self, x: Tensor) -> Tensor:
        """(b, 3, size, size) normalised -> (b, n, width), without class and register tokens."""
        if self.plan.kind == "timm":
            out = self.model.forward_features(x)  # type: ignore[operator]
            return _as_tokens(out, int(getattr(self.model, "num_prefix_tokens", 0)), int(self.model.num_features))  # type: ignore[arg-type]
        if self.plan.kind == "open_clip":
            trunk = getattr(self.model, "trunk", None)
            if trunk is not None:
                return _as_tokens(trunk.forward_features(x), int(getattr(trunk, "num_prefix_tokens", 0)), int(trunk.num_features))
            made = self.model.forward_intermediates(x, indices=1, normalize_intermediates=True, intermediates_only=True)  # type: ignore[operator]
            return _as_tokens(made["image_intermediates"][-1], 0, None)
        states = self.model(pixel_values=x).last_hidden_state
        config = self.model.config
        special = 0
        if states.ndim == 3:
            patch = getattr(config, "patch_size", None)
            grid = (self.plan.size // patch) ** 2 if isinstance(patch, int) else states.shape[1]
            special = max(0, states.shape[1] - grid)
        return _as_tokens(states, special, None)

    def checkpointing(self) -> None:
        """Recompute the activations of the blocks in the backward pass instead of keeping them."""
        for module in (self.model, getattr(self.model, "trunk", None), getattr(self.model, "transformer", None)):
            for name in ("set_grad_checkpointing", "gradient_checkpointing_enable"):
                if module is not None and hasattr(module, name):
                    getattr(module, name)()
                    return
        raise ConfigError(f"checkpointing: the {self.plan.kind} model of cxr cannot; set checkpointing=false")

    def drop_keys(self, share: float) -> None:
        """DropKey in every attention of a small or a timm transformer.

        Raises:
            ConfigError: another kind of model.
        """
        if self.plan.kind == "small":
            for block in self.model.blocks:  # type: ignore[union-attr]
                block.drop_key = share  # type: ignore[union-attr, assignment]
            return
        from timm.layers.attention import Attention

        layers = [m for m in self.model.modules() if isinstance(m, Attention)]
        if not layers:
            raise ConfigError(f"drop_key: works in 'small' and in timm's transformers, cxr is of kind {self.plan.kind}; set drop_key=0")

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            if not module.training:
                return None
            b, n, _ = args[0].shape
            return args, kwargs | {"attn_mask": keys_seen((b, 1, n, n), share, args[0].device)}

        for layer in layers:
            layer.register_forward_pre_hook(hook, with_kwargs=True)


class SmallTrunk(nn.Module):
    """Strided convolutions to patches of 16 pixels, then transformer blocks. Normalised by group: a batch may hold one image."""

    def __init__(self, size: int, width: int, depth: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.grad_checkpointing = False
        self.stem = nn.Sequential(
            *_convolved(1, 48, 7, 4), *_convolved(48, 96, 3, 2), *_convolved(96, 96, 3, 1), nn.Conv2d(96, width, 3, 2, 1)
        )  # fmt: skip
        side = -(-size // 16)
        self.position = nn.Parameter(torch.randn(side * side, width) * 0.02)
        paths = torch.linspace(0, drop_path, depth).tolist()
        self.blocks = nn.ModuleList([Block(width, heads, path) for path in paths])
        self.last = nn.LayerNorm(width)

    def set_grad_checkpointing(self) -> None:
        self.grad_checkpointing = True

    def forward(self, x: Tensor) -> Tensor:
        """(b, 1, size, size) -> (b, n, width)"""
        from torch.utils.checkpoint import checkpoint

        x = self.stem(x).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.grad_checkpointing and self.training else block(x)
        return self.last(x)


def _convolved(inside: int, outside: int, taps: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inside, outside, taps, stride, taps // 2, bias=False), nn.GroupNorm(outside // 16, outside), nn.ReLU(inplace=True)


def _as_tokens(out: Tensor, special: int, channels: int | None) -> Tensor:
    """What a library's model returns -> (b, n, width): tokens without the first `special`, or a feature map of either layout."""
    if out.ndim == 3:
        return out[:, special:]
    if out.ndim == 4 and channels is not None and out.shape[1] != channels and out.shape[-1] == channels:
        return out.flatten(1, 2)
    return out.flatten(2).transpose(1, 2)


def build_trunk(plan: TrunkPlan) -> Trunk:
    """The trunk of a plan with random weights. Nothing is read and no network is used."""
    config = dict(plan.config)
    if plan.kind == "small":
        return Trunk(SmallTrunk(**config), plan)
    if plan.kind == "timm":
        import timm

        return Trunk(timm.create_model(config["architecture"], pretrained=False, num_classes=0, **config["args"]), plan)
    if plan.kind == "open_clip":
        from open_clip.model import _build_vision_tower

        vision = config["vision"] | ({"timm_model_pretrained": False} if config["vision"].get("timm_model_name") else {})
        return Trunk(_build_vision_tower(config["embed_dim"], vision, config["quick_gelu"]), plan)
    import transformers

    with quiet():
        made = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**config))
    return Trunk(vision_part(made), plan)


def vision_part(model: nn.Module) -> nn.Module:
    """Of a Hugging Face model of images and text, the tower that sees."""
    return getattr(model, "vision_model", model)
