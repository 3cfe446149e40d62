"""The recipe of `regen train context`: one flat YAML file."""

from __future__ import annotations

from pydantic import Field

from regen.config import Config


class ContextRecipe(Config):
    """The chart encoder: vocabulary, architecture, losses. Rates are peak learning rates; shares lie in [0, 1)."""

    seed: int = 0
    least: int = Field(5, ge=1, description="training studies that must chart a value or a category, else it is unknown")
    events: int = Field(32, ge=1, description="events of a chart that are read, the newest")
    width: int = Field(128, gt=0, multiple_of=8)
    depth: int = Field(2, ge=1)
    heads: int = Field(4, ge=1)
    drop_path: float = Field(0.1, ge=0, lt=1)
    epochs: int = Field(30, ge=1)
    batch: int = Field(64, ge=2)
    rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.02, ge=0)
    ema: float = Field(0.995, ge=0, lt=1)
    mask_share: float = Field(0.25, gt=0, lt=1, description="events that are hidden and to be told from the others")
    value_weight: float = Field(0.5, ge=0, description="mean squared error of hidden values")
    category_weight: float = Field(5.0, ge=0, description="binary cross-entropy of hidden categories, mean over the vocabulary")
    contrast_weight: float = Field(0.2, ge=0, description="contrast between chart and report")
    statement_weight: float = Field(5.0, ge=0, description="binary cross-entropy of the statements, mean over the catalogue")
    consistency_weight: float = Field(0.2, ge=0, description="the fused view with parts masked agrees with the whole (LANISTR)")
