"""What the tests of models share: the tiny recipes, tiny Hugging Face models, and `regen` in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from regen.config import load
from regen.encoders.recipe import EncoderRecipe
from regen.generators.recipe import WriterRecipe
from regen.index.archive import Archive, Vectors
from regen.index.case_index import CaseIndex
from regen.train_all import train_bundle

CONFIGS = Path(__file__).parent.parent / "configs"
ENCODER = (
    "width=64", "depth=1", "dim=64", "batch=32", "pretrain_epochs=1", "align_epochs=3", "match_weight=0.1", "text_width=32", "text_depth=1",
    "vocabulary=300",
)  # fmt: skip
WRITER = ("base_width=64", "base_depth=2", "base_epochs=3", "epochs=2", "base_vocabulary=400")
CPU = torch.device("cpu")


def plain(items: Iterable[int], title: str) -> Iterable[int]:
    """No progress bar."""
    return items


def as_archive(index: CaseIndex) -> Archive:
    """An archive that holds these ECGs alone."""
    return Archive(index.cases, {"ecg": Vectors(np.arange(len(index)), index.vectors)}, index.report_vectors, index.fingerprint)


def train_tiny(data: Path, out: Path) -> None:
    changes = [*(f"encoder.{change}" for change in ENCODER), *(f"writer.{change}" for change in WRITER)]
    train_bundle(CONFIGS / "starter.yaml", changes, data, out, CPU, False, plain)


def encoder_recipe(*changes: str) -> EncoderRecipe:
    """The recipe of the tiny bundle's encoder."""
    return load(EncoderRecipe, CONFIGS / "ecg.yaml", [*ENCODER, *changes])


def writer_recipe(*changes: str) -> WriterRecipe:
    """The recipe of the tiny bundle's writer."""
    return load(WriterRecipe, CONFIGS / "writer.yaml", [*WRITER, *changes])


def without_bf16(patch: pytest.MonkeyPatch) -> None:
    """Compute in float32, whatever this machine is quick at."""
    for module in ("regen.encoders.training", "regen.encoders.store", "regen.generators.local_writer"):
        patch.setattr(f"{module}.has_fast_bf16", lambda device: False)


def tiny_llama(texts: Sequence[str], **changes: Any) -> tuple[Any, Any]:
    """A Llama with random weights and its tokenizer."""
    from regen.generators.language_model import small_llama

    torch.manual_seed(5)
    shape = {"base_width": 64, "base_depth": 2, "base_heads": 4, "base_vocabulary": 320} | changes
    model, tokenizer = small_llama(texts, WriterRecipe(**shape))
    return model.eval(), tokenizer


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "regen.cli", *map(str, arguments)]


def run(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """`regen ...` in a process of its own."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=300, cwd=cwd, env=os.environ | environment, check=False
    )  # fmt: skip
