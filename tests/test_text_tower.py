"""Text towers: trained here, or any encoder by folder; safetensors alone; no network."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from regen.encoders.text import TextTower, train_tokenizer
from regen.errors import ConfigError

REPORTS = [
    "Sinus rhythm. Normal axis. Normal ECG.", "Atrial fibrillation. Left axis deviation.", "Sinusrhythmus. Linksschenkelblock.",
    "Sinus bradycardia. Inferior myocardial infarction, stage III. Non-specific ST changes in lateral leads.",
]  # fmt: skip


def save_bert(folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    from transformers import BertConfig, BertModel

    torch.manual_seed(7)
    tokenizer = train_tokenizer(REPORTS, 200)
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    BertModel(config).to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"))


def check(tower: TextTower, dim: int) -> None:
    """Unit vectors, and padding that changes nothing."""
    tower.eval()
    with torch.no_grad():
        together, alone = tower(REPORTS), torch.cat([tower([text]) for text in REPORTS])
    assert (together.shape, together.dtype) == ((len(REPORTS), dim), torch.float32)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(len(REPORTS)))
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=0)
    assert float((together @ together.T).fill_diagonal_(-1).max()) < 0.99999, "different reports, different vectors"


def test_the_small_tower_ignores_padding() -> None:
    torch.manual_seed(1)
    tower = TextTower.small(REPORTS, dim=16, width=32, depth=1, vocabulary=200)
    check(tower, 16)
    states, mask = tower.tokens(REPORTS)
    assert states.shape[:2] == mask.shape
    assert mask.sum(1).tolist() == [len(tower.tokenizer(text)["input_ids"]) for text in REPORTS]


def test_the_same_texts_give_the_same_tokens() -> None:
    """A run that was killed makes its tokenizer anew; another vocabulary would not fit the weights of its checkpoint."""
    first = train_tokenizer(REPORTS, 120).get_vocab()
    assert all(train_tokenizer(REPORTS, 120).get_vocab() == first for _ in range(5))


def test_words_that_the_tower_never_saw_are_unknown_and_nothing_breaks() -> None:
    tower = TextTower.small(REPORTS, dim=16, width=32, depth=1, vocabulary=200).eval()
    with torch.no_grad():
        out = tower(["", "漢字", "SINUS rhythm", "sinus rhythm"])
    assert bool(torch.isfinite(out).all())
    torch.testing.assert_close(out[2], out[3])
    assert not torch.equal(out[1], out[3])


def test_a_report_longer_than_the_tower_reads_is_cut() -> None:
    tower = TextTower.small(REPORTS, dim=16, width=32, depth=1, length=12, vocabulary=200).eval()
    states, _ = tower.tokens([" ".join(REPORTS) * 9])
    assert states.shape[1] == 12


def test_a_hugging_face_encoder_by_folder(bert: Path) -> None:
    tower = TextTower.load(str(bert), dim=16)
    check(tower, 16)
    assert all(p.requires_grad for p in tower.model.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_trained_in_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    tower = TextTower.load(str(save_bert(tmp_path / "half", dtype)), dim=16)
    assert {p.dtype for p in tower.parameters()} == {torch.float32}
    check(tower, 16)


def moved(tower: TextTower) -> tuple[dict[str, torch.Tensor], float]:
    """One step of training: which weights moved, and which share of all may."""
    before = {name: p.detach().clone() for name, p in tower.named_parameters()}
    optimizer = torch.optim.SGD([p for p in tower.parameters() if p.requires_grad], lr=0.5)
    tower(REPORTS)[:, 0].sum().backward()
    optimizer.step()
    share = sum(p.numel() for p in tower.parameters() if p.requires_grad) / sum(p.numel() for p in tower.parameters())
    return {name: p for name, p in tower.named_parameters() if not torch.equal(p, before[name])}, share


def test_a_frozen_encoder_trains_its_projection_alone(bert: Path) -> None:
    changed, _ = moved(TextTower.load(str(bert), dim=16, mode="frozen"))
    assert changed.keys() == {"project.weight", "project.bias"}


def test_lora_trains_adapters_and_is_merged_on_disk(bert: Path, tmp_path: Path) -> None:
    tower = TextTower.load(str(bert), dim=16, mode="lora")
    changed, share = moved(tower)
    assert 0 < share < 0.7
    assert {name.split(".")[0] for name in changed} == {"model", "project"}
    assert all("lora_" in name for name in changed if name.startswith("model"))
    tower.eval()
    with torch.no_grad():
        trained = tower(REPORTS)
    tower.save(tmp_path / "text")
    restored = TextTower.restore(tmp_path / "text")
    assert not [name for name, _ in restored.named_parameters() if "lora" in name]
    with torch.no_grad():
        assert float((restored(REPORTS) * trained).sum(1).min()) > 0.999, "bfloat16 on disk rounds, no more"
        assert float((TextTower.load(str(bert), 16).eval()(REPORTS) * trained).sum(1).min()) < 0.999


def test_saving_changes_nothing_but_rounding(tmp_path: Path) -> None:
    torch.manual_seed(2)
    tower = TextTower.small(REPORTS, dim=16, width=32, depth=1, vocabulary=200).eval()
    tower.save(tmp_path / "text")
    restored = TextTower.restore(tmp_path / "text")
    with torch.no_grad():
        torch.testing.assert_close(tower(REPORTS), restored(REPORTS))
    assert {p.dtype for p in tower.parameters()} == {p.dtype for p in restored.parameters()} == {torch.float32}
    assert (restored.dim, restored.length) == (16, 96)


@pytest.mark.parametrize("inner", ["", "0_Transformer"])
def test_a_sentence_transformers_folder(tmp_path: Path, inner: str) -> None:
    """Their layout: modules.json names the parts, the transformer stands in the folder itself or in one of its own."""
    folder = tmp_path / "st"
    save_bert(folder / inner if inner else folder)
    modules: list[dict[str, Any]] = [
        {"idx": 0, "name": "0", "path": inner, "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}))
    check(TextTower.load(str(folder), dim=16), 16)


def nothing(folder: Path) -> None:
    folder.mkdir()


def pickled(folder: Path) -> None:
    """Weights in a pickle are not read, whatever they are."""
    save_bert(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def cut(folder: Path) -> None:
    save_bert(folder)
    os.truncate(folder / "model.safetensors", 1000)


def no_tokenizer(folder: Path) -> None:
    save_bert(folder)
    for path in folder.glob("tokenizer*"):
        path.unlink()


def translator(folder: Path) -> None:
    from transformers import T5Config, T5Model

    T5Model(T5Config(vocab_size=200, d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2)).save_pretrained(folder)
    train_tokenizer(REPORTS, 200).save_pretrained(folder)


@pytest.mark.parametrize("make", [nothing, pickled, cut, no_tokenizer, translator])
def test_a_folder_without_an_encoder_is_one_clear_error(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "model")
    with pytest.raises(ConfigError, match=r"^text: expected .*model") as caught:
        TextTower.load(str(tmp_path / "model"), dim=16)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["no-such-model-here", "nobody/no-such-model", "no body/??", "./nowhere/at/all"])
def test_an_unknown_name_is_one_clear_error(name: str) -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(ConfigError, match=r"^text: expected a Hugging Face name or folder") as caught:
        TextTower.load(name, dim=16)
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)
