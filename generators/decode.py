"""Batched greedy decoding over soft prompts: one prefill, a key-value cache, and rows that are done leave the batch.

    texts = decode(model, tokenizer, prefixes, prompts, longest=128)

Deterministic: the likeliest token each step. Rows are sorted by prompt length and leave in groups, so that little work is spent on padding
and on drafts that have ended. A FastLlama in the model's place does the same its own way. `generate` of transformers, one study at a
time, is the slow twin in the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from regen.generators.fast_llama import TOGETHER, FastLlama
from regen.generators.language_model import positions

_BATCH = 64
"""Rows at once for a model of transformers."""
_LEAVE = 0.25
"""Finished rows are taken out of the batch when they are this share of it."""


@torch.inference_mode()
def decode(
    model: Any, tokenizer: Any, prefixes: Tensor, prompts: Sequence[str], longest: int, batch: int | None = None, guesses: Sequence[str] | None = None
) -> list[str]:
    """prefixes: (n, soft, width); prompts: n texts; guesses: what the reports may be, which changes how fast a FastLlama writes and nothing
    else. Returns n reports, stripped, in the given order."""
    encoded = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    out = [""] * len(encoded)
    batch = batch or (TOGETHER if isinstance(model, FastLlama) else _BATCH)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        asked = [encoded[i] for i in rows]
        if isinstance(model, FastLlama):
            hints = [_hints(tokenizer, guesses[i] if guesses else "", encoded[i]) for i in rows]
            written = model.greedy(*prompt_inputs(model, tokenizer, prefixes[rows], asked), longest, tokenizer.eos_token_id, hints)
        else:
            written = _greedy(model, tokenizer, prefixes[rows], asked, longest)
        for row, ids in zip(rows, written, strict=True):
            out[row] = tokenizer.decode(ids, skip_special_tokens=True).strip()
    return out


def _hints(tokenizer: Any, guess: str, prompt: Sequence[int]) -> list[int]:
    """Where the next words may stand already: in the guess, then in the prompt."""
    guessed = [*tokenizer(f" {guess}", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id] if guess else []
    return [*guessed, *prompt]


def prompt_inputs(model: Any, tokenizer: Any, prefixes: Tensor, encoded: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Embeddings [padding, begin, soft tokens, prompt] and their mask: (b, n, width), (b, n)."""
    device, dtype = model.device, model.dtype
    embed = model.get_input_embeddings()
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    first = embed(torch.tensor([begin], device=device)).to(dtype)
    words = embed(torch.tensor([i for ids in encoded for i in ids], dtype=torch.long, device=device)).to(dtype).split([len(ids) for ids in encoded])
    rows = [torch.cat([first, soft, text]) for soft, text in zip(prefixes.to(device, dtype), words, strict=True)]
    there = [torch.ones(len(row), dtype=torch.long, device=device) for row in rows]
    return pad_sequence(rows, True, padding_side="left"), pad_sequence(there, True, padding_side="left")


def _greedy(model: Any, tokenizer: Any, prefixes: Tensor, encoded: Sequence[Sequence[int]], longest: int) -> list[list[int]]:
    from transformers import DynamicCache

    inputs, mask = prompt_inputs(model, tokenizer, prefixes, encoded)
    end = tokenizer.eos_token_id
    cache: Any = DynamicCache(config=model.config)
    out: list[list[int]] = [[] for _ in encoded]
    alive = list(range(len(encoded)))
    answer = model(inputs_embeds=inputs, attention_mask=mask, position_ids=positions(mask), past_key_values=cache, use_cache=True, logits_to_keep=1)
    at = mask.sum(1, keepdim=True)
    token = answer.logits[:, -1].argmax(-1)
    done = torch.zeros(len(alive), dtype=torch.bool, device=token.device)
    for _ in range(longest):
        done |= token == end
        for row, value, ended in zip(alive, token.tolist(), done.tolist(), strict=True):
            if not ended:
                out[row].append(value)
        if bool(done.all()):
            break
        if done.sum() > _LEAVE * len(alive):
            keep = torch.nonzero(~done)[:, 0]
            cache.batch_select_indices(keep)
            alive = [alive[i] for i in keep.tolist()]
            mask, at, token, done = mask[keep], at[keep], token[keep], done[keep]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        answer = model(input_ids=token[:, None], attention_mask=mask, position_ids=at, past_key_values=cache, use_cache=True)
        at = at + 1
        token = answer.logits[:, -1].argmax(-1)
    return out
