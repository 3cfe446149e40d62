"""The language model under a writer: a small Llama made and pre-trained here, or any Hugging Face causal LM.

model, tokenizer = small_llama(texts, recipe)
pretrain(model, tokenizer, examples, recipe, ...)        examples: (prompt, report) pairs, no ECG and no soft prompt
model, tokenizer = load_base("folder or hub name")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from regen.encoders.hub import load_pretrained, quiet
from regen.encoders.training import Checkpoint, Curve, autocast, epoch_seed, make_optimizer, one_cycle, seeded, take_step
from regen.errors import ConfigError
from regen.generators.recipe import WriterRecipe

_IGNORED = -100


def small_llama(texts: Sequence[str], recipe: WriterRecipe) -> tuple[Any, Any]:
    """A Llama with random weights and a byte-pair tokenizer made from `texts`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_pair_tokenizer(texts, recipe.base_vocabulary)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=recipe.base_width, intermediate_size=recipe.base_width * 11 // 4,
        num_hidden_layers=recipe.base_depth, num_attention_heads=recipe.base_heads, num_key_value_heads=recipe.base_heads,
        max_position_embeddings=1024, tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    config._attn_implementation = "eager"
    return LlamaForCausalLM(config), tokenizer


def byte_pair_tokenizer(texts: Sequence[str], vocabulary: int) -> Any:
    """Byte-level byte pairs, so that no character of any language is unknown; digits stand alone."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\d"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def load_base(name: str | Path, device: torch.device | str = "cpu") -> tuple[Any, Any]:
    """A causal language model and its tokenizer by hub name or folder; on a CPU with plain attention, which is the faster one there.

    Raises:
        ConfigError: nothing by that name, no causal LM, or a tokenizer without an end token.
    """
    attention = "eager" if torch.device(device).type == "cpu" else "sdpa"
    model = load_pretrained("AutoModelForCausalLM", name, "base", dtype=torch.float32, attn_implementation=attention).to(device)
    tokenizer = load_pretrained("AutoTokenizer", name, "base")
    if tokenizer.eos_token_id is None:
        raise ConfigError(f"base: expected a tokenizer with an end-of-sequence token, {str(name)!r} has none; choose another model")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def save_base(model: Any, tokenizer: Any, folder: Path) -> None:
    """Weights as bfloat16 safetensors, config and tokenizer."""
    with quiet():
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    model.float()


def encode_pair(tokenizer: Any, prompt: str, report: str, length: int) -> tuple[list[int], int]:
    """Token ids of prompt and report with its end token, at most `length` (the prompt loses its beginning first); the report's start."""
    asked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    told = [*tokenizer(f" {report}", add_special_tokens=False)["input_ids"][: length - 1], tokenizer.eos_token_id]
    asked = asked[max(0, len(asked) + len(told) - length) :]
    return asked + told, len(asked)


def pad_left(rows: Sequence[Sequence[int]], fill: int) -> tuple[Tensor, Tensor]:
    """Token id lists -> (b, n) ids filled on the left and (b, n) mask."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), fill, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        if row:
            ids[i, longest - len(row) :] = torch.tensor(row)
            mask[i, longest - len(row) :] = 1
    return ids, mask


def next_token_loss(logits: Tensor, ids: Tensor, counted: Tensor) -> Tensor:
    """Mean cross-entropy of each token given those before it, where `counted`. logits: (b, n, v); ids, counted: (b, n). Nats."""
    target = ids[:, 1:].masked_fill(~counted[:, 1:].bool(), _IGNORED)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), target.flatten(), ignore_index=_IGNORED)


def pretrain(
    model: Any, tokenizer: Any, make_examples: Callable[[np.random.Generator], list[tuple[str, str]]], recipe: WriterRecipe,
    scratch: Path, device: torch.device, progress: Callable[[Iterable[int], str], Iterable[int]],
) -> Curve:  # fmt: skip
    """Train the small Llama in place on (prompt, report) pairs, drawn anew every epoch; prompt and report both count."""
    model.to(device).train()
    modules = {"base": model}
    optimizer = make_optimizer(modules, recipe.weight_decay)
    checkpoint = Checkpoint(scratch / "base.safetensors", modules, optimizer)
    start = checkpoint.load()
    curve = Curve(scratch / "base.jsonl", start)
    for epoch in progress(range(start, recipe.base_epochs), "base language model"):
        total = 0.0
        with seeded(epoch_seed(recipe.seed, "base", epoch)) as rng:
            pairs = [encode_pair(tokenizer, *pair, recipe.text_length)[0] for pair in make_examples(rng)]
            batches = length_batches([len(p) for p in pairs], recipe.batch, rng)
            for i, rows in enumerate(batches):
                ids, mask = (x.to(device) for x in pad_left([pairs[r] for r in rows], tokenizer.pad_token_id))
                with autocast(device):
                    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions(mask)).logits
                loss = next_token_loss(logits, ids, mask)
                take_step(optimizer, loss, one_cycle(epoch * len(batches) + i, recipe.base_epochs * len(batches), recipe.base_rate, 0.1))
                total += float(loss.detach())
        curve.add(next_token=total / len(batches))
        checkpoint.save(epoch + 1)
    return curve


def positions(mask: Tensor) -> Tensor:
    """Position of every token when those on the left are filling. (b, n) -> (b, n)."""
    return (mask.cumsum(1) - 1).clamp_min(0)


def length_batches(lengths: Sequence[int], size: int, rng: np.random.Generator) -> list[list[int]]:
    """Batches of rows of like length (little padding), in random order."""
    noisy = np.asarray(lengths) + rng.uniform(0, 8, len(lengths))
    order = np.argsort(noisy)
    batches = [order[i : i + size].tolist() for i in range(0, len(order), size)]
    return [batches[i] for i in rng.permutation(len(batches))]
