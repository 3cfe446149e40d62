"""Batched greedy decoding against transformers' own `generate`, one prompt at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from models import tiny_llama
from torch import Tensor

from regen.generators.decode import decode, prompt_inputs
from regen.generators.language_model import encode_pair, length_batches, next_token_loss, pad_left, positions

TEXTS = ["findings: sinus rhythm; normal ecg\nreport (en): Sinus rhythm. Normal ECG.", "retrieved: Atrial fibrillation. | Left axis 12 34."] * 8
PROMPTS = [
    "findings: normal ecg\nreport (en):", "retrieved: Sinus rhythm. | Atrial fibrillation.\nmeasured: rate 61\nfindings: sinus\nreport (en):",
    "a", "findings: sinus rhythm; normal ecg; atrial fibrillation; left axis\nreport (en):", "report", "12 34 56 78 90", "retrieved: x | y | z",
]  # fmt: skip
SOFT = 3


@pytest.fixture(scope="module")
def llama() -> tuple[Any, Any]:
    """A tiny Llama with large random weights and an output of its own, so that it does not say one word over and over."""
    model, tokenizer = tiny_llama(TEXTS)
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(50)
        for layer in model.model.layers:
            for weight in (p for p in layer.parameters() if p.ndim > 1):
                weight.mul_(12)
    return model, tokenizer


@pytest.fixture(scope="module")
def prefixes(llama: tuple[Any, Any]) -> Tensor:
    return torch.randn(len(PROMPTS), SOFT, 64, generator=torch.Generator().manual_seed(8))


@torch.no_grad()
def one_at_a_time(model: Any, tokenizer: Any, prefix: Tensor, prompt: str, longest: int) -> str:
    """Stock: begin token, soft tokens and prompt as embeddings into `generate`, no padding."""
    embed = model.get_input_embeddings()
    ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
    begin = embed(torch.tensor([[tokenizer.bos_token_id]]))
    inputs = torch.cat([begin, prefix[None], embed(ids)], 1)
    out = model.generate(
        inputs_embeds=inputs, attention_mask=torch.ones(inputs.shape[:2], dtype=torch.long), max_new_tokens=longest, do_sample=False,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    written = out[0].tolist()
    if tokenizer.eos_token_id in written:
        written = written[: written.index(tokenizer.eos_token_id)]
    return str(tokenizer.decode(written, skip_special_tokens=True).strip())


@pytest.fixture(scope="module")
def expected(llama: tuple[Any, Any], prefixes: Tensor) -> list[str]:
    return [one_at_a_time(*llama, prefixes[i], prompt, 24) for i, prompt in enumerate(PROMPTS)]


@pytest.mark.parametrize("batch", [64, 3, 1])
def test_batched_is_one_at_a_time(llama: tuple[Any, Any], prefixes: Tensor, expected: list[str], batch: int) -> None:
    assert decode(*llama, prefixes, PROMPTS, 24, batch) == expected
    assert len(set(expected)) == len(PROMPTS), "seven prompts that all give the same would show nothing"


def test_rows_that_end_leave_the_batch_and_the_others_do_not_notice(llama: tuple[Any, Any], prefixes: Tensor) -> None:
    """The fifth token of each row in turn is made the end token: rows end at different steps, in groups and alone."""
    model, tokenizer = llama
    true_end = tokenizer.eos_token
    fifth = [
        tokenizer(decode(model, tokenizer, prefixes[i : i + 1], [p], 5)[0], add_special_tokens=False)["input_ids"][-1] for i, p in enumerate(PROMPTS)
    ]
    lengths: set[tuple[int, ...]] = set()
    try:
        for end in fifth:
            tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
            wanted = [one_at_a_time(model, tokenizer, prefixes[i], prompt, 24) for i, prompt in enumerate(PROMPTS)]
            assert decode(model, tokenizer, prefixes, PROMPTS, 24) == wanted
            lengths.add(tuple(len(text) for text in wanted))
            tokenizer.eos_token = true_end
    finally:
        tokenizer.eos_token = true_end
    assert len(lengths) > 1, "no row ever ended early"


def test_order_is_kept_and_nothing_is_random(llama: tuple[Any, Any], prefixes: Tensor, expected: list[str]) -> None:
    order = [4, 0, 6, 2, 5, 1, 3]
    assert decode(*llama, prefixes[order], [PROMPTS[i] for i in order], 24) == [expected[i] for i in order]
    torch.manual_seed(99)
    assert decode(*llama, prefixes, PROMPTS, 24) == expected


def test_the_soft_prompt_is_read(llama: tuple[Any, Any], prefixes: Tensor, expected: list[str]) -> None:
    other = decode(*llama, prefixes.flip(0), PROMPTS, 24)
    assert sum(a != b for a, b in zip(other, expected, strict=True)) >= 4


def test_no_more_tokens_than_asked_for(llama: tuple[Any, Any], prefixes: Tensor) -> None:
    short, long = (decode(*llama, prefixes, PROMPTS, n) for n in (5, 24))
    assert all(full.startswith(part.rstrip("\ufffd")) for part, full in zip(short, long, strict=True))
    assert decode(*llama, prefixes[:0], [], 5) == []


@torch.no_grad()
def test_the_layout_is_padding_begin_soft_prompt(llama: tuple[Any, Any], prefixes: Tensor) -> None:
    model, tokenizer = llama
    encoded = [tokenizer(p, add_special_tokens=False)["input_ids"] for p in PROMPTS]
    inputs, mask = prompt_inputs(model, tokenizer, prefixes, encoded)
    embed = model.get_input_embeddings()
    longest = max(map(len, encoded))
    assert inputs.shape == (len(PROMPTS), 1 + SOFT + longest, 64)
    for i, ids in enumerate(encoded):
        empty = longest - len(ids)
        assert mask[i].tolist() == [0] * empty + [1] * (1 + SOFT + len(ids))
        torch.testing.assert_close(inputs[i, empty], embed(torch.tensor(tokenizer.bos_token_id)))
        torch.testing.assert_close(inputs[i, empty + 1 : empty + 1 + SOFT], prefixes[i])
        torch.testing.assert_close(inputs[i, empty + 1 + SOFT :], embed(torch.tensor(ids)))


def test_positions_begin_where_the_filling_ends() -> None:
    assert positions(torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])).tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]


def test_left_filling() -> None:
    ids, mask = pad_left([[5, 6], [7, 8, 9], []], 0)
    assert ids.tolist() == [[0, 5, 6], [7, 8, 9], [0, 0, 0]]
    assert mask.tolist() == [[0, 1, 1], [1, 1, 1], [0, 0, 0]]


def test_a_long_prompt_loses_its_beginning_and_the_report_never_its_end_token(llama: tuple[Any, Any]) -> None:
    _, tokenizer = llama
    report = tokenizer(" Sinus rhythm.", add_special_tokens=False)["input_ids"]
    prompt = tokenizer(PROMPTS[1], add_special_tokens=False)["input_ids"]
    whole, start = encode_pair(tokenizer, PROMPTS[1], "Sinus rhythm.", 500)
    assert whole == [*prompt, *report, tokenizer.eos_token_id]
    assert start == len(prompt)
    cut, start = encode_pair(tokenizer, PROMPTS[1], "Sinus rhythm.", len(report) + 6)
    assert (cut, start) == ([*prompt[-5:], *report, tokenizer.eos_token_id], 5)
    only, start = encode_pair(tokenizer, PROMPTS[1], "Sinus rhythm. " * 30, 9)
    assert (len(only), only[-1], start) == (9, tokenizer.eos_token_id, 0)


def test_next_token_loss_against_loops() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, ids = torch.randn(2, 5, 7, generator=generator), torch.randint(0, 7, (2, 5), generator=generator)
    counted = torch.tensor([[0, 0, 1, 1, 1], [1, 0, 0, 1, 0]], dtype=torch.bool)
    losses = [float(-logits[i, t - 1].log_softmax(0)[ids[i, t]]) for i in range(2) for t in range(1, 5) if counted[i, t]]
    assert len(losses) == 4, "the first token is never predicted"
    assert float(next_token_loss(logits, ids, counted)) == pytest.approx(sum(losses) / 4, rel=1e-5)


def test_batches_are_of_like_length_and_hold_every_row(rng: Any) -> None:
    lengths = rng.integers(1, 300, 205).tolist()
    batches = length_batches(lengths, 16, rng)
    assert sorted(i for rows in batches for i in rows) == list(range(205))
    assert max(len(rows) for rows in batches) == 16
    spread = [max(lengths[i] for i in rows) - min(lengths[i] for i in rows) for rows in batches]
    assert sorted(spread)[len(spread) // 2] < 60
