"""BERTScore (Zhang et al., ICLR 2020): every word piece of one text is matched with the most similar one of the other, in context.

    scorer = BertScore.open(Path("roberta-large"), layer=17)
    scorer.match(["Sinus rhythm."], ["Normal sinus rhythm."])      (1, 3): precision, recall, F1

As the authors' package computes it: the tokens that open and close a text may be matched but do not count; without rescaling to a baseline.
With idf a piece weighs log((n + 1) / (df + 1)) over the n references of the call.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regen.encoders.hub import load_pretrained
from regen.errors import ConfigError
from regen.eval.bootstrap import Values

LAYERS = {
    ("roberta", 24): 17, ("roberta", 12): 10, ("bert", 24): 18, ("bert", 12): 9, ("distilbert", 6): 5, ("deberta", 48): 40,
}  # fmt: skip
"""(model type, depth) -> the layer that the authors chose on WMT16; other models give their last one unless `layer` says which."""
_BATCH = 32
_LONGEST = 512
"""Tokens of a text, for a model that does not say how many it can read."""
_OFFSET = frozenset({"roberta", "xlm-roberta", "camembert"})
"""Their positions begin behind the padding token's."""


@dataclass(frozen=True, slots=True, eq=False)
class BertScore:
    """layer: whose output is compared, 0 the embeddings; idf: rare pieces weigh more."""

    model: Any
    tokenizer: Any
    layer: int
    idf: bool = False

    @classmethod
    def open(cls, folder: Path, layer: int | None = None, idf: bool = False, device: str = "cpu") -> BertScore:
        """Load an encoder from a Hugging Face folder.

        Raises:
            ConfigError: no encoder there, parts of it missing, or a layer that it does not have.
        """
        options = {"output_loading_info": True, "dtype": torch.float32, "trust_remote_code": False}
        model, report = load_pretrained("AutoModel", folder, "bertscore", **options)
        missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
        if missing:
            lacking = f"{missing[0]} missing ({len(missing)} in all)"
            raise ConfigError(f"bertscore: expected all weights of {model.config.model_type} in {folder}, {lacking}; copy the folder again")
        if model.config.is_encoder_decoder:
            raise ConfigError(
                f"bertscore: expected an encoder such as BERT or RoBERTa, got {model.config.model_type} in {folder}; choose another model"
            )
        depth = model.config.num_hidden_layers
        layer = LAYERS.get((model.config.model_type, depth), depth) if layer is None else layer
        if not 0 <= layer <= depth:
            raise ConfigError(f"bertscore: expected a layer from 0 to {depth}, got {layer}; {folder} has {depth} layers")
        tokenizer = load_pretrained("AutoTokenizer", folder, "bertscore", trust_remote_code=False)
        return cls(model.to(device).eval(), tokenizer, layer, idf)

    def match(self, drafts: Sequence[str], references: Sequence[str]) -> Values:
        """(n, 3) precision, recall and F1 of n pairs; 0 where a text has no word piece."""
        texts = list(dict.fromkeys([*drafts, *references]))
        ids = dict(zip(texts, self._encode(texts), strict=True))
        vectors = dict(zip(texts, self._embed(list(ids.values())), strict=True))
        weigh = self._weights([ids[text] for text in references])
        weights = {text: torch.tensor([weigh(i) for i in row], dtype=torch.float64) for text, row in ids.items()}
        pairs = zip(drafts, references, strict=True)
        return np.array([greedy_match(vectors[a], vectors[b], weights[a], weights[b]) for a, b in pairs], np.float64).reshape(-1, 3)

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        config = self.model.config
        begin = config.pad_token_id + 1 if config.model_type in _OFFSET else 0
        longest = min(self.tokenizer.model_max_length, getattr(config, "max_position_embeddings", _LONGEST) - begin)
        before = " " if config.model_type in _OFFSET else ""
        asked = [before + text.strip() for text in texts]
        return self.tokenizer(asked, truncation=True, max_length=longest)["input_ids"] if asked else []

    @torch.inference_mode()
    def _embed(self, rows: Sequence[Sequence[int]]) -> list[Tensor]:
        """Unit vectors of every token, (length, width) float64 each; texts of like length share a batch."""
        out: list[Tensor] = [torch.empty(0)] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            padded = self.tokenizer.pad({"input_ids": [rows[i] for i in chosen]}, padding_side="right", return_tensors="pt").to(self.model.device)
            states = self.model(**padded, output_hidden_states=True).hidden_states[self.layer].double().cpu()
            for i, state in zip(chosen, torch.nn.functional.normalize(states, dim=-1), strict=True):
                out[i] = state[: len(rows[i])]
        return out

    def _weights(self, references: Sequence[Sequence[int]]) -> Any:
        """Token id -> weight; 0 for those that open or close a text."""
        special = {i for i in (self.tokenizer.cls_token_id, self.tokenizer.sep_token_id) if i is not None}
        if not self.idf:
            return lambda token: 0.0 if token in special else 1.0
        found = Counter(token for row in references for token in set(row))
        n = len(references)
        return lambda token: 0.0 if token in special else math.log((n + 1) / (found[token] + 1))


def greedy_match(draft: Tensor, reference: Tensor, draft_weights: Tensor, reference_weights: Tensor) -> tuple[float, float, float]:
    """Precision, recall, F1 of two token lists. draft (m, width), reference (k, width): unit vectors; weights (m,), (k,).

    Precision is the weighted mean over the draft's tokens of the cosine to the likest of the reference, recall the other way round. All
    are 0 where a side has no weight.
    """
    if not (draft_weights.sum() > 0 and reference_weights.sum() > 0):
        return 0.0, 0.0, 0.0
    cosine = draft @ reference.T
    precision = float((cosine.max(dim=1).values * draft_weights).sum() / draft_weights.sum())
    recall = float((cosine.max(dim=0).values * reference_weights).sum() / reference_weights.sum())
    return precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0
