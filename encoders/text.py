"""The text tower: report or question -> unit vector in the shared space.

    tower = TextTower.small(reports, dim=256)                    a transformer of a few million weights, trained here
    tower = TextTower.load("sentence-transformers/all-MiniLM-L6-v2", dim=256, mode="lora")      any encoder, by name or folder

Tokens are averaged where they are, padding is not. A sentence-transformers folder is read through the Hugging Face model inside it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regen.encoders.hub import load_pretrained, quiet
from regen.encoders.layers import masked_mean
from regen.errors import ConfigError
from regen.study import FloatArray


class TextTower(nn.Module):
    """model: a Hugging Face encoder; tokenizer: its tokenizer; dim: width of the shared space; length: tokens read."""

    modality = "text"

    def __init__(self, model: nn.Module, tokenizer: Any, dim: int, length: int) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.dim = dim
        self.length = length
        self.project = nn.Linear(int(model.config.hidden_size), dim)  # type: ignore[union-attr, arg-type]

    @classmethod
    def small(cls, texts: Sequence[str], dim: int, width: int = 192, depth: int = 3, length: int = 96, vocabulary: int = 1500) -> TextTower:
        """A BERT-type encoder with a vocabulary made from `texts`, weights random."""
        from transformers import BertConfig, BertModel

        tokenizer = train_tokenizer(texts, vocabulary)
        config = BertConfig(
            vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=depth, num_attention_heads=width // 32,
            intermediate_size=4 * width, max_position_embeddings=length, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        return cls(BertModel(config, add_pooling_layer=False), tokenizer, dim, length)

    @classmethod
    def load(cls, name: str, dim: int, length: int = 96, mode: str = "train") -> TextTower:
        """An encoder by hub name or folder, to be trained whole, through LoRA (r 16, alpha 8, as MoRE does) or not at all.

        Raises:
            ConfigError: nothing by that name here or on the hub, or no encoder.
        """
        source = _transformer_folder(name)
        model: Any = load_pretrained("AutoModel", source, "text", dtype=torch.float32)
        tokenizer = load_pretrained("AutoTokenizer", source, "text")
        if model.config.is_encoder_decoder or tokenizer.pad_token_id is None:
            lacks = "a model that only encodes" if model.config.is_encoder_decoder else "a tokenizer with a padding token"
            raise ConfigError(f"text: expected {lacks}, {name!r} is none; choose a BERT-type or sentence-transformers model")
        if mode == "frozen":
            model.requires_grad_(False)
        elif mode == "lora":
            from peft import LoraConfig, get_peft_model

            with quiet():
                model = get_peft_model(model, LoraConfig(r=16, lora_alpha=8, lora_dropout=0.05, target_modules="all-linear"))
        return cls(model, tokenizer, dim, length)

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Texts -> padded input_ids and attention_mask, on the tower's device."""
        batch = self.tokenizer(list(texts), padding=True, truncation=True, max_length=self.length, return_tensors="pt")
        return {name: batch[name].to(self.project.weight.device) for name in ("input_ids", "attention_mask")}

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(b, n, hidden) token states and (b, n) bool mask."""
        batch = self.tokenize(texts)
        return self.model(**batch).last_hidden_state, batch["attention_mask"].bool()

    def forward(self, texts: Sequence[str]) -> Tensor:
        """(b, dim) unit vectors, float32."""
        states, mask = self.tokens(texts)
        return F.normalize(self.project(masked_mean(states, mask)).float(), dim=1)

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch: int = 256) -> FloatArray:
        """Any number of texts, batch by batch: (n, dim) unit vectors, float32."""
        made = [self(texts[i : i + batch]).cpu().numpy() for i in range(0, len(texts), batch)]
        return np.concatenate(made) if made else np.zeros((0, self.dim), np.float32)

    def save(self, folder: Path) -> None:
        """Model (LoRA merged, for good), tokenizer and projection into a folder; safetensors throughout."""
        from safetensors.torch import save_file

        model: Any = self.model
        if hasattr(model, "merge_and_unload"):
            self.model = model = model.merge_and_unload()
        with quiet():
            model.to(torch.bfloat16).save_pretrained(folder)
        model.float()
        self.tokenizer.save_pretrained(folder)
        save_file({n: v.contiguous() for n, v in self.project.state_dict().items()}, folder / "project.safetensors")
        (folder / "tower.json").write_text(json.dumps({"dim": self.dim, "length": self.length}))

    @classmethod
    def restore(cls, folder: Path) -> TextTower:
        """What `save` wrote."""
        from safetensors.torch import load_file

        shape = json.loads((folder / "tower.json").read_text())
        tower = cls.load(str(folder), **shape)
        tower.project.load_state_dict(load_file(folder / "project.safetensors"))
        return tower.eval()


def _transformer_folder(name: str) -> str:
    """A sentence-transformers folder names its transformer in modules.json; everything else is taken as it is."""
    modules = Path(name) / "modules.json"
    if modules.is_file():
        for module in json.loads(modules.read_text()):
            if module.get("type", "").endswith("Transformer"):
                return str(Path(name) / module["path"])
    return name


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Any:
    """A byte-pair tokenizer (lower case, "▁" where a word begins) learnt from texts, as a Hugging Face fast tokenizer.

    The same texts give the same tokens on every run, which a stopped training relies on; the library's word-piece trainer goes through
    its hash tables in random order and does not.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Metaspace(prepend_scheme="always")])
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=special, show_progress=False))
    cls_id, sep_id = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", cls_id), ("[SEP]", sep_id)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]"
    )
