"""What every training loop shares: learning-rate schedule, mixed precision, moving averages, checkpoints, the loss curve.

A run is a sequence of epochs, each with a seed of its own (`epoch_seed`), so that a run that was killed goes on from its last
checkpoint and ends with the weights it would have had.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from regen.artifact import write_text
from regen.errors import ConfigError

logger = logging.getLogger(__name__)


def pick_device(name: str) -> torch.device:
    """'cpu', 'cuda', or 'auto' for whichever is there.

    Raises:
        ConfigError: another word, or cuda was asked for and torch sees none, or none of that number.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise ConfigError(f"--device: expected cpu, cuda, cuda:1 or auto, got {name!r}")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {name}: torch sees no such GPU; run `regen doctor`, or leave the option out to use the CPU")
    return torch.device(name)


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 products are faster than float32 ones: GPUs from Ampere, CPUs with AMX or AVX-512 BF16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    capability: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capability.get("amx_bf16") or capability.get("avx512_bf16")) or torch.cpu._is_amx_tile_supported()


def autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 autocast where it pays, nothing elsewhere."""
    if has_fast_bf16(device):
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


def epoch_seed(seed: int, stage: str, epoch: int) -> int:
    """A seed for one epoch of one stage, the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{stage}/{epoch}".encode()).digest()[:6], "big")


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[np.random.Generator]:
    """Seed torch's global generator (first weights and dropout draw from it) for one epoch and hand out a numpy one."""
    torch.manual_seed(seed % 2**63)
    yield np.random.default_rng(seed)


def one_cycle(step: int, total: int, peak: float, warm: float = 0.2) -> float:
    """Learning rate at a step: cosine up over the first share `warm`, cosine down to a thousandth (Smith 2018)."""
    rise = max(1, int(total * warm))
    if step < rise:
        return peak * (0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * step / rise)))
    share = (step - rise) / max(1, total - rise)
    return peak * (0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


def make_optimizer(modules: Mapping[str, nn.Module], weight_decay: float) -> torch.optim.AdamW:
    """AdamW with decay on matrices only: not on biases, norms, embeddings of one dimension, or scalars."""
    parameters = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=0.0, fused=True)


def take_step(optimizer: torch.optim.AdamW, loss: Tensor, rate: float, clip: float = 1.0) -> None:
    """One update at the given learning rate, gradients clipped by norm."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    clip_and_step(optimizer, rate, clip)


def clip_and_step(optimizer: torch.optim.AdamW, rate: float, clip: float = 1.0) -> None:
    """The same from gradients that are there already."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], clip)
    optimizer.step()


class Ema:
    """Moving average of a module's weights (and copies of its buffers), for evaluation. decay: share kept a step, warmed up."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.state = {name: value.detach().clone().float() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        state = module.state_dict()
        floating = [name for name in state if state[name].is_floating_point() and "running_" not in name]
        torch._foreach_lerp_([self.state[n] for n in floating], [state[n].float() for n in floating], 1 - decay)
        for name in state.keys() - set(floating):
            self.state[name].copy_(state[name])

    def apply(self, module: nn.Module) -> None:
        """Put the averaged weights into the module."""
        module.load_state_dict(self.state)


class Checkpoint:
    """Epochs done, weights and optimiser in one safetensors file that is replaced as a whole. Nothing is pickled."""

    def __init__(self, path: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.AdamW, ema: Ema | None = None) -> None:
        self.path = path
        self.modules = dict(modules)
        self.optimizer = optimizer
        self.ema = ema

    def save(self, epochs_done: int) -> None:
        tensors = {f"{k}|{n}": v for k, m in self.modules.items() for n, v in m.state_dict().items()}
        for i, parameter in enumerate(self._parameters()):
            tensors |= {f"optimizer|{i}|{n}": v for n, v in self.optimizer.state[parameter].items() if isinstance(v, Tensor)}
        if self.ema is not None:
            tensors |= {f"ema|{n}": v for n, v in self.ema.state.items()}
        meta = {"epochs": str(epochs_done), "ema_steps": str(self.ema.steps if self.ema else 0)}
        temporary = self.path.with_suffix(".tmp")
        save_file({n: v.detach().cpu().contiguous().clone() for n, v in tensors.items()}, temporary, metadata=meta)
        temporary.replace(self.path)

    def load(self) -> int:
        """Restore everything; returns the epochs that are done, 0 where there is no checkpoint."""
        if not self.path.exists():
            return 0
        from safetensors import safe_open

        tensors = load_file(self.path)
        with safe_open(self.path, "pt") as file:
            meta = file.metadata()
        for key, module in self.modules.items():
            module.load_state_dict({n.removeprefix(f"{key}|"): v for n, v in tensors.items() if n.startswith(f"{key}|")})
        for i, parameter in enumerate(self._parameters()):
            prefix = f"optimizer|{i}|"
            state = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
            self.optimizer.state[parameter] = {n: v.to(parameter.device) for n, v in state.items()}
        if self.ema is not None:
            self.ema.state = {n: tensors[f"ema|{n}"].to(v.device) for n, v in self.ema.state.items()}
            self.ema.steps = int(meta["ema_steps"])
        logger.info("resumed %s after %s epochs", self.path.stem, meta["epochs"])
        return int(meta["epochs"])

    def _parameters(self) -> list[nn.Parameter]:
        return [p for g in self.optimizer.param_groups for p in g["params"]]


class Curve:
    """Losses by epoch, kept as JSON lines in the work folder and drawn as a PNG at the end."""

    def __init__(self, path: Path, epochs_done: int) -> None:
        self.path = path
        lines = path.read_text().splitlines()[:epochs_done] if path.exists() else []
        self.rows: list[dict[str, float]] = [json.loads(line) for line in lines]

    def add(self, **losses: float) -> None:
        self.rows.append(losses)
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in self.rows))


def draw_curves(curves: Mapping[str, Curve], path: Path) -> None:
    """One panel a stage, one line a loss."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = {title: curve for title, curve in curves.items() if curve.rows}
    if not shown:
        return
    figure, axes = plt.subplots(1, len(shown), figsize=(5 * len(shown), 3.5), squeeze=False)
    for axis, (title, curve) in zip(axes[0], shown.items(), strict=True):
        for name in curve.rows[0]:
            axis.plot(range(1, len(curve.rows) + 1), [row[name] for row in curve.rows], label=name)
        axis.set(title=title, xlabel="epoch", ylabel="loss")
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
