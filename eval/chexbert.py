"""CheXbert (Smit et al., EMNLP 2020): a BERT with 14 heads that says of each observation what a chest X-ray report says about it.

    labeler = Chexbert.open(Path("chexbert"))
    classes = labeler.classes(["No pneumothorax. Cardiomegaly."])      (1, 14) int: 0 blank, 1 positive, 2 negative, 3 uncertain
    micro_f1(positive(classes), positive(other))                       regen.eval.set_metrics

The folder holds config.json and vocab.txt of bert-base-uncased, and the published checkpoint as model.safetensors (regen.eval.local_weights
says how it is converted). For English reports of chest X-rays; what it reads in an ECG's report means nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from regen.encoders.hub import load_pretrained
from regen.errors import ConfigError
from regen.eval.set_metrics import Sets

OBSERVATIONS = (
    "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis",
    "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices", "No Finding",
)  # fmt: skip
"""In the order of the heads. The last has two classes, blank and positive; the others four."""
CLASSES = ("blank", "positive", "negative", "uncertain")
_BATCH = 32
_UNUSED = ("pooler", "position_ids")


class _Heads(nn.Module):
    def __init__(self, bert: Any) -> None:
        super().__init__()
        self.bert = bert
        width = bert.config.hidden_size
        self.linear_heads = nn.ModuleList(nn.Linear(width, 2 if name == "No Finding" else 4) for name in OBSERVATIONS)

    def forward(self, **inputs: Tensor) -> Tensor:
        """(n, 14) class of each observation."""
        first = self.bert(**inputs).last_hidden_state[:, 0]
        return torch.stack([head(first).argmax(dim=1) for head in self.linear_heads], dim=1)


@dataclass(frozen=True, slots=True, eq=False)
class Chexbert:
    """See the module."""

    model: _Heads
    tokenizer: Any

    @classmethod
    def open(cls, folder: Path, device: str = "cpu") -> Chexbert:
        """Load config.json, the tokenizer and the one safetensors file of a folder.

        Raises:
            ConfigError: a file is missing or unreadable, or its weights are not those of a BERT with these 14 heads.
        """
        from transformers import BertConfig, BertModel

        try:
            model = _Heads(BertModel(BertConfig.from_json_file(folder / "config.json")))
            state = load_file(folder / "model.safetensors")
            lacking = model.load_state_dict({name.removeprefix("module."): value for name, value in state.items()}, strict=False)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
            raise ConfigError(f"chexbert: expected config.json and model.safetensors of a BERT with 14 heads in {folder}, got: {reason}") from error
        wrong = sorted(name for name in (*lacking.missing_keys, *lacking.unexpected_keys) if not any(part in name for part in _UNUSED))
        if wrong:
            raise ConfigError(f"chexbert: expected bert.* and linear_heads.0 to .13 in {folder}, {wrong[0]} is missing or foreign; convert it again")
        return cls(model.to(device).eval(), load_pretrained("AutoTokenizer", folder, "chexbert", trust_remote_code=False))

    @torch.inference_mode()
    def classes(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """(n, 14), an index into CLASSES; an empty report is blank throughout."""
        out = np.zeros((len(texts), len(OBSERVATIONS)), np.int64)
        clean = [" ".join(text.split()) for text in texts]
        order = sorted((i for i, text in enumerate(clean) if text), key=lambda i: len(clean[i]))
        longest = self.model.bert.config.max_position_embeddings
        device = self.model.bert.device
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            inputs = self.tokenizer([clean[i] for i in rows], truncation=True, max_length=longest, padding=True, return_tensors="pt").to(device)
            out[rows] = self.model(**inputs).cpu().numpy()
        return out


def positive(classes: npt.NDArray[np.int64], uncertain: bool = True) -> Sets:
    """(n, 14) bool: positive, and where `uncertain` counts (as report-generation papers do) uncertain too."""
    return np.asarray((classes == 1) | ((classes == 3) & uncertain), np.bool_)
