"""The fast copies that a CPU computes with, against the modules they were made from: the ECG encoder and the small Llama."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from models import tiny_llama
from torch import Tensor, nn

from regen import Pipeline
from regen.data_prep.prepared import Prepared
from regen.encoders.ecg import EcgConfig, EcgEncoder
from regen.encoders.fused import available
from regen.encoders.inference import FastEcg
from regen.encoders.recordings import clean_and_measure
from regen.encoders.training import has_fast_bf16
from regen.generators.decode import _greedy, prompt_inputs
from regen.generators.fast_llama import FastLlama
from regen.study import FloatArray

SMALL = EcgConfig(width=64, depth=2, heads=4, channels=(16, 32, 48), dim=32)
TEXTS = ["findings: sinus rhythm; normal ecg\nreport (en): Sinus rhythm. Normal ECG.", "retrieved: Atrial fibrillation. | Left axis 12 34."] * 8
PROMPTS = ["findings: sinus", "a", "retrieved: Sinus rhythm. | Left axis.\nreport (en):", "12 34 56 " * 15, "report", "findings: " * 9]


@pytest.fixture
def encoder() -> EcgEncoder:
    """Random weights, and batch norms that have seen something: folding one that does nothing would prove nothing."""
    torch.manual_seed(4)
    model = EcgEncoder(SMALL).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            for value, low, high in (
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.3, 2.0),
                (module.weight, 0.5, 1.5),
                (module.bias, -0.3, 0.3),
            ):
                assert value is not None
                nn.init.uniform_(value.data, low, high)
    return model


def signals(samples: int = 1000) -> dict[str, Tensor]:
    whole = 0.5 * torch.randn(3, 12, samples, generator=torch.Generator().manual_seed(1))
    lead, tail, nothing, spike = (whole.clone() for _ in range(4))
    lead[:, 4] = float("nan")
    tail[1, :, samples // 2 :] = float("nan")
    nothing[2] = float("nan")
    spike[0, 3, 100] = 40.0
    return {"whole": whole, "a lead off": lead, "a short one": tail, "an empty one": nothing, "a spike": spike}


@torch.no_grad()
def embedded(model: EcgEncoder, tokens: Tensor, mask: Tensor) -> Tensor:
    return model.embed(model.features(tokens.float(), mask))


@pytest.mark.parametrize("samples", [1000, 992, 608, 200])
@pytest.mark.parametrize("kind", list(signals()))
@torch.no_grad()
def test_the_fast_encoder_is_the_encoder(encoder: EcgEncoder, kind: str, samples: int) -> None:
    signal = signals(samples)[kind]
    tokens, mask = encoder.tokens(signal)
    expected = embedded(encoder, tokens, mask)
    for dtype, least, apart in ((torch.float32, 0.99999, 5e-3), (torch.bfloat16, 0.999, 0.1)):
        got, heard = FastEcg(encoder, dtype).tokens(signal)
        assert got.dtype == dtype
        assert got.shape == tokens.shape
        torch.testing.assert_close(heard, mask)
        assert (got.float() - tokens)[mask].abs().max() < apart
        assert (embedded(encoder, got, heard) * expected).sum(1).min() > least


@torch.no_grad()
def test_without_fused_calls_the_plain_ones_give_the_same(encoder: EcgEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    signal, fast = signals()["whole"], FastEcg(encoder)
    usual = fast.tokens(signal)[0].float()
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", lambda *_: (_ for _ in ()).throw(RuntimeError("gone")))
    available.cache_clear()
    try:
        assert not available()
        torch.testing.assert_close(fast.tokens(signal)[0].float(), usual, rtol=0.05, atol=0.1)
    finally:
        monkeypatch.undo()
        available.cache_clear()


def test_the_fast_encoder_leaves_its_input_and_its_model_alone(encoder: EcgEncoder) -> None:
    signal = signals()["a lead off"]
    before, weights = signal.clone(), {name: value.clone() for name, value in encoder.state_dict().items()}
    FastEcg(encoder).tokens(signal)
    torch.testing.assert_close(signal, before, equal_nan=True)
    torch.testing.assert_close(dict(encoder.state_dict()), weights)


def cleaned(data: Prepared, count: int = 64) -> tuple[FloatArray, FloatArray]:
    _, raw = next(data.signals(data.studies.filter(data.studies["ecg_row"].is_not_null())[:count]))
    raw = raw.copy()
    raw[3, 5] = np.nan
    raw[4, :, 600:] = np.nan
    return clean_and_measure(raw, data.fs)


def test_a_trained_encoder_keeps_its_embeddings_and_probabilities(pipeline: Pipeline, exact: Pipeline, tiny_data: Prepared) -> None:
    """Where bfloat16 is fast, `Towers.encode` goes through the copy; cosine and probabilities stay within what the design allows."""
    inputs = cleaned(tiny_data)
    assert exact.towers.fast is None
    vectors, probabilities, tokens = exact.towers.encode(*inputs)
    for batch in (64, 5):
        got = pipeline.towers.encode(*inputs, batch)
        assert (got[0] * vectors).sum(axis=1).min() > 0.9999
        assert np.abs(got[1] - probabilities).max() < 0.01
        assert got[2].shape == tokens.shape
        np.testing.assert_array_equal((got[2] == 0).all(-1).numpy(), (tokens == 0).all(-1).numpy())


def test_the_copy_is_made_where_it_pays(pipeline: Pipeline) -> None:
    assert (pipeline.towers.fast is not None) == has_fast_bf16(torch.device("cpu"))
    assert isinstance(pipeline.writer.fast, FastLlama)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def llama() -> tuple[Any, Any]:
    """A tiny Llama with large random weights and norms, so that every part of it can be seen in what it says."""
    model, tokenizer = tiny_llama(TEXTS)
    model.lm_head.weight = nn.Parameter(torch.randn_like(model.lm_head.weight))
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(50)
        for layer in model.model.layers:
            for weight in layer.parameters():
                weight.mul_(12) if weight.ndim > 1 else weight.uniform_(0.5, 1.5)
    return model, tokenizer


def asked(model: Any, tokenizer: Any, prompts: list[str]) -> tuple[Tensor, list[list[int]]]:
    prefixes = torch.randn(len(prompts), 3, 64, generator=torch.Generator().manual_seed(8))
    return prefixes, [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]


@pytest.mark.parametrize(("together", "group"), [(32, 16), (4, 2), (1, 1)])
@pytest.mark.parametrize("longest", [1, 40])
def test_the_fast_llama_writes_what_transformers_writes(
    llama: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, longest: int, together: int, group: int
) -> None:
    monkeypatch.setattr("regen.generators.fast_llama.TOGETHER", together)
    monkeypatch.setattr("regen.generators.fast_llama._GROUP", group)
    model, tokenizer = llama
    prefixes, encoded = asked(model, tokenizer, PROMPTS)
    fast = FastLlama.of(model)
    assert fast is not None
    with torch.inference_mode():
        expected = _greedy(model, tokenizer, prefixes, encoded, longest)
    got = fast.greedy(*prompt_inputs(model, tokenizer, prefixes, encoded), longest, tokenizer.eos_token_id)
    assert got == expected
    assert len({tuple(row) for row in got}) > 2 or longest == 1
    for hints in (encoded, [[*row, tokenizer.eos_token_id, *row[::-1]] for row in got], [[3, 4, 5] * 9] * len(got)):
        hinted = fast.greedy(*prompt_inputs(model, tokenizer, prefixes, encoded), longest, tokenizer.eos_token_id, hints)
        assert hinted == expected


def test_rows_end_at_their_end_token(llama: tuple[Any, Any]) -> None:
    """Tokens that rows say early are made the end token in turn: rows leave one by one, and the others do not notice."""
    model, tokenizer = llama
    prefixes, encoded = asked(model, tokenizer, PROMPTS)
    fast = FastLlama.of(model)
    assert fast is not None
    inputs = prompt_inputs(model, tokenizer, prefixes, encoded)
    endless = fast.greedy(*inputs, 40, -1)
    assert all(len(row) == 40 for row in endless)
    for end in {row[step] for row in endless for step in (0, 3, 20)}:
        expected = [row[: row.index(end)] if end in row else row for row in endless]
        assert fast.greedy(*inputs, 40, end) == expected


def test_what_is_no_plain_llama_is_left_to_transformers(llama: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    def other(**changes: Any) -> Any:
        shape = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
        return LlamaForCausalLM(LlamaConfig(**(shape | {"num_key_value_heads": 4} | changes)))

    assert FastLlama.of(other()) is not None
    turned = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    for changes in (
        {"num_key_value_heads": 2},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"hidden_act": "gelu"},
        {"head_dim": 16},
        {"rope_parameters": turned},
    ):
        assert FastLlama.of(other(**changes)) is None, changes
    assert FastLlama.of(GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=32, n_layer=1, n_head=4))) is None
    monkeypatch.setattr("regen.generators.fast_llama._LARGEST", 10)
    assert FastLlama.of(llama[0]) is None
