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

from regen.generators.fast_llama import FastLlama
from regen.generators.language_model import pad_left, positions

_LEAVE = 0.25
"""Finished rows are taken out of the batch when they are this share of it."""


@torch.inference_mode()
def decode(model: Any, tokenizer: Any, prefixes: Tensor, prompts: Sequence[str], longest: int, batch: int = 64) -> list[str]:
    """prefixes: (n, soft, width); prompts: n texts. Returns n reports, stripped, in the given order."""
    encoded = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    out = [""] * len(encoded)
    write = _fast if isinstance(model, FastLlama) else _greedy
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        for row, ids in zip(rows, write(model, tokenizer, prefixes[rows], [encoded[i] for i in rows], longest), strict=True):
            out[row] = tokenizer.decode(ids, skip_special_tokens=True).strip()
    return out


def prompt_inputs(model: Any, tokenizer: Any, prefixes: Tensor, encoded: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Embeddings [padding, begin, soft tokens, prompt] and their mask: (b, n, width), (b, n)."""
    device, dtype = model.device, model.dtype
    ids, mask = (x.to(device) for x in pad_left(encoded, tokenizer.pad_token_id))
    embed = model.get_input_embeddings()
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    head = torch.cat([embed(torch.full((len(ids), 1), begin, device=device)), prefixes.to(device, dtype)], 1)
    padding = ids.shape[1] - mask.sum(1)
    inputs = torch.cat([head, embed(ids)], 1).to(dtype)
    full = torch.cat([torch.ones(len(ids), head.shape[1], dtype=mask.dtype, device=device), mask], 1)
    if bool((padding == 0).all()):
        return inputs, full
    source = torch.arange(inputs.shape[1], device=device)[None].expand(len(ids), -1) - padding[:, None]
    text = source >= head.shape[1]
    at = torch.where(source < 0, head.shape[1], torch.where(text, source + padding[:, None], source))
    return inputs.gather(1, at[..., None].expand(-1, -1, inputs.shape[2])), (source >= 0).to(mask.dtype)


def _fast(model: FastLlama, tokenizer: Any, prefixes: Tensor, encoded: Sequence[Sequence[int]], longest: int) -> list[list[int]]:
    return model.greedy(*prompt_inputs(model, tokenizer, prefixes, encoded), longest, tokenizer.eos_token_id, encoded)


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
