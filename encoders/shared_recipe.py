"""The recipe of a space that chest X-rays share: `regen train encoder` with a YAML that says `cxr:`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from regen.config import load, read_yaml
from regen.encoders.recipe import EncoderRecipe


class SharedRecipe(EncoderRecipe):
    """Everything an ECG encoder's recipe says, and how images, text and ECGs meet. Rates are peak learning rates.

    The epochs, rate and weights of the alignment are those of the joint stage; `text_weight` takes the place of `contrast_weight`.
    """

    cxr: str = Field("small", description="'small', timm:NAME, open_clip:NAME or hf:NAME; a hub id or a folder in place of the name")
    cxr_weights: Literal["random", "pretrained"] = "random"
    cxr_mode: Literal["train", "lora", "frozen"] = "train"
    cxr_width: int = Field(192, gt=0, multiple_of=32, description="of 'small'")
    cxr_depth: int = Field(4, ge=1)
    cxr_heads: int = Field(4, ge=1)
    pixels: int = Field(0, ge=0, description="side of the images the encoder sees; 0: as prepared")
    drop_key: float = Field(0.1, ge=0, lt=1, description="share of keys hidden from each query while training (MoRE: 0.3)")
    checkpointing: bool = Field(False, description="recompute activations of the image trunk instead of keeping them")

    ecg_tower: bool = Field(False, description="train the ECG tower too")
    start: str = Field("", description="an encoder's folder whose towers go on from there, as far as this recipe has them")
    window_days: float = Field(60.0, ge=0, description="an X-ray and an ECG of one subject this near in time are a pair (MoRE: 60)")

    text_weight: float = Field(1.0, ge=0, description="contrast of each modality with its report")
    image_weight: float = Field(0.0, ge=0, description="contrast of two views of each image: what archives without reports learn from")
    edge_weight: float = Field(0.5, ge=0, description="contrast between X-ray and ECG of a pair (MEDBind)")
    positives: Literal["findings", "report"] = Field("findings", description="whose equality makes two X-rays positives")
    observation_weight: float = Field(1.0, ge=0, description="binary cross-entropy of the chest observations")
    chunk: int = Field(0, ge=0, description="studies that go through the towers at once; 0: the whole batch")


def load_encoder_recipe(path: str | Path, overrides: Sequence[str] = ()) -> EncoderRecipe:
    """A SharedRecipe where the YAML or an override says `cxr`, else an EncoderRecipe of ECGs alone.

    Raises:
        ConfigError: everything that is wrong with it.
    """
    shared = "cxr" in read_yaml(path) or any(change.partition("=")[0].strip() == "cxr" for change in overrides)
    return load(SharedRecipe if shared else EncoderRecipe, path, overrides)
