"""The recipe of `regen train encoder`: one flat YAML file. Every figure that shapes a trained encoder is here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from regen.config import Config
from regen.encoders.ecg import PATCH, EcgConfig


class EncoderRecipe(Config):
    """Architecture, pre-training, alignment. Lengths in samples at 100 Hz, rates are peak learning rates."""

    seed: int = 0
    width: int = Field(256, gt=0, multiple_of=32, description="token width")
    depth: int = Field(3, ge=1, description="transformer blocks")
    heads: int = Field(4, ge=1)
    dim: int = Field(256, gt=0, description="width of the shared space")
    drop_path: float = Field(0.1, ge=0, lt=1)
    crop: int = Field(608, ge=2 * PATCH, le=992, multiple_of=PATCH, description="samples a training window holds")
    batch: int = Field(32, ge=2)
    weight_decay: float = Field(0.05, ge=0)

    synthetic: int = Field(0, ge=0, description="synthetic recordings added to pre-training (never to alignment)")
    pretrain_epochs: int = Field(40, ge=0)
    pretrain_rate: float = Field(1e-3, gt=0)
    mask_share: float = Field(0.5, ge=0, lt=1)
    mask_weight: float = Field(0.5, ge=0)
    view_weight: float = Field(0.1, ge=0)
    measure_weight: float = Field(3.0, ge=0)

    align_epochs: int = Field(24, ge=1)
    align_rate: float = Field(1e-3, gt=0)
    statement_weight: float = Field(1.0, ge=0, description="binary cross-entropy, mean over the statements")
    contrast_weight: float = Field(0.02, ge=0, description="contrast between ECG and report")
    match_weight: float = Field(0.0, ge=0, description="ECG-text matching")
    label_smoothing: float = Field(0.02, ge=0, lt=0.5)
    dropout: float = Field(0.3, ge=0, lt=1, description="before the statement head")
    ema: float = Field(0.998, ge=0, lt=1)

    text: str = Field("small", description="'small': a transformer trained here; else a sentence-transformers or Hugging Face name or folder")
    text_mode: Literal["train", "lora", "frozen"] = "train"
    text_width: int = Field(192, gt=0, multiple_of=32)
    text_depth: int = Field(3, ge=1)
    text_length: int = Field(96, ge=8, description="tokens of a report that are read")
    vocabulary: int = Field(1500, ge=64)

    def ecg(self) -> EcgConfig:
        return EcgConfig(width=self.width, depth=self.depth, heads=self.heads, dim=self.dim, drop_path=self.drop_path)
