"""How much the context moved each sentence: the mean log-probability of its tokens with the context, minus that without, teacher-forced.

    (moved,) = moved_by_context(writer, [request], [plan], ["Sinus rhythm. Digitalis effect."], parts)
    moved                                       {"Sinus rhythm.": 0.02, "Digitalis effect.": 1.9}, nats a token

Both prefixes of a draft stand in one batch and differ in the context alone: soft tokens, lines, and the findings that only the chart gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from regen.data_prep.study_context import only
from regen.generators.base import Request
from regen.generators.decode import prompt_inputs
from regen.generators.language_model import positions
from regen.generators.plan import Plan

if TYPE_CHECKING:
    from regen.generators.local_writer import LocalWriter

_TOGETHER = 16
"""Drafts that are scored together, each with and without its context."""


@torch.inference_mode()
def moved_by_context(
    writer: LocalWriter, requests: Sequence[Request], plans: Sequence[Plan], texts: Sequence[str], parts: Sequence[Sequence[str]]
) -> list[dict[str, float]]:
    """For each text its parts -> nats a token; a part that does not stand in the text is left out."""
    out: list[dict[str, float]] = []
    for start in range(0, len(texts), _TOGETHER):
        rows = slice(start, start + _TOGETHER)
        out += _scored(writer, requests[rows], plans[rows], texts[rows], parts[rows])
    return out


def _scored(
    writer: LocalWriter, requests: Sequence[Request], plans: Sequence[Plan], texts: Sequence[str], parts: Sequence[Sequence[str]]
) -> list[dict[str, float]]:
    bare = [replace(request, study=only(request.study, ())) for request in requests]
    blind = [plan.without_chart() for plan in plans]
    asked, planned = [*requests, *bare], [*plans, *blind]
    encoded = [writer.tokenizer(f" {text}", add_special_tokens=False, return_offsets_mapping=True) for text in texts]
    prompts = [writer.tokenizer(writer.prompt(*each), add_special_tokens=False)["input_ids"] for each in zip(asked, planned, strict=True)]
    ids = [e["input_ids"] for e in encoded] * 2
    longest = max(map(len, ids))
    inputs, mask = prompt_inputs(writer.model, writer.tokenizer, writer.prefixes(asked, planned), [p + t for p, t in zip(prompts, ids, strict=True)])
    answer = writer.model(inputs_embeds=inputs, attention_mask=mask, position_ids=positions(mask), logits_to_keep=longest + 1)
    likelihoods = [_log_probabilities(logits, row) for logits, row in zip(answer.logits, ids, strict=True)]
    return [
        _by_part(f" {text}", some, e["offset_mapping"], likelihoods[i] - likelihoods[i + len(texts)])
        for i, (text, some, e) in enumerate(zip(texts, parts, encoded, strict=True))
    ]


def _log_probabilities(logits: Tensor, ids: Sequence[int]) -> Tensor:
    """(n,) of the last n tokens. logits: (m, vocabulary) of the positions that end with the last token."""
    n = len(ids)
    steps = logits[len(logits) - n - 1 : len(logits) - 1].float().log_softmax(-1)
    return steps.gather(1, torch.tensor(ids, device=steps.device).view(-1, 1))[:, 0].cpu()


def _by_part(text: str, parts: Sequence[str], offsets: Sequence[tuple[int, int]], gain: Tensor) -> dict[str, Any]:
    out: dict[str, Any] = {}
    begin = 0
    for part in parts:
        at = text.find(part, begin)
        inside = [i for i, (low, high) in enumerate(offsets) if low < at + len(part) and high > at] if at >= 0 else []
        if inside:
            begin = at + len(part)
            out.setdefault(part, round(float(gain[inside].mean()), 4))
    return out
