"""Learned text metrics on tiny models that the test saves: against worked cases, slow loops, and weights that must be refused."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from regen.artifact import file_digest
from regen.errors import ConfigError, DataError, MissingExtraError
from regen.eval.bertscore import BertScore, greedy_match
from regen.eval.chexbert import CLASSES, OBSERVATIONS, Chexbert, positive
from regen.eval.learned_metrics import scorers
from regen.eval.radgraph_f1 import radgraph_f1

DRAFTS = ["sinus rhythm .", "left axis deviation , probable lvh", "sinus bradycardia", ""]
REFERENCES = ["normal sinus rhythm .", "left axis deviation", "atrial fibrillation with rapid response", "sinus rhythm ."]
WORDS = sorted({word for text in (*DRAFTS, *REFERENCES) for word in text.split()})


def save_tokenizer(folder: Path) -> int:
    from transformers import BertTokenizer

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return len(vocabulary)


def tiny_bert(words: int) -> Any:
    from transformers import BertConfig, BertModel

    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=words, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, max_position_embeddings=24
    )
    return BertModel(config).eval()


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "bert"
    tiny_bert(save_tokenizer(folder)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def chexbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the published checkpoint is laid out: 'module.bert.*' and 'module.linear_heads.*'."""
    folder = tmp_path_factory.mktemp("models") / "chexbert"
    model = tiny_bert(save_tokenizer(folder))
    model.config.save_pretrained(folder)
    torch.manual_seed(2)
    state = {f"module.bert.{name}": value.clone() for name, value in model.state_dict().items()}
    for i in range(14):
        classes = 2 if i == 13 else 4
        state |= {f"module.linear_heads.{i}.weight": torch.randn(classes, 16), f"module.linear_heads.{i}.bias": torch.randn(classes)}
    save_file(state, folder / "model.safetensors")
    return folder


def test_greedy_match_of_a_worked_case() -> None:
    # draft tokens (1, 0), (0, 1); reference (1, 0), (.6, .8), (-1, 0): best cosines 1, .8 and 1, .8, 0
    draft = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    reference = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]], dtype=torch.float64)
    precision, recall, f1 = greedy_match(draft, reference, torch.ones(2), torch.ones(3))
    assert (precision, recall) == (pytest.approx(0.9), pytest.approx(0.6))
    assert f1 == pytest.approx(2 * 0.9 * 0.6 / 1.5)
    weighted = greedy_match(draft, reference, torch.tensor([1.0, 3.0]), torch.tensor([2.0, 1.0, 0.0]))
    assert weighted[:2] == (pytest.approx((1 + 3 * 0.8) / 4), pytest.approx((2 + 0.8) / 3))
    assert greedy_match(draft, reference, torch.zeros(2), torch.ones(3)) == (0.0, 0.0, 0.0)


def slow_bertscore(folder: Path, draft: str, reference: str, layer: int, weigh: dict[int, float]) -> tuple[float, float, float]:
    """Token by token, text by text, without batches or padding."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    def look(text: str) -> tuple[list[int], list[torch.Tensor]]:
        ids = tokenizer(text)["input_ids"]
        with torch.no_grad():
            states = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0]
        return ids, [row / row.norm() for row in states]

    def best(these: tuple[list[int], list[torch.Tensor]], those: tuple[list[int], list[torch.Tensor]]) -> float:
        weights = [0.0 if i in (2, 3) else weigh.get(i, 1.0) for i in these[0]]
        return sum(w * max(float(v @ u) for u in those[1]) for w, v in zip(weights, these[1], strict=True)) / sum(weights)

    a, b = look(draft), look(reference)
    precision, recall = best(a, b), best(b, a)
    return precision, recall, 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize(("layer", "idf"), [(0, False), (2, False), (3, True)])
def test_bertscore_agrees_with_a_slow_loop(bert: Path, layer: int, idf: bool) -> None:
    scorer = BertScore.open(bert, layer, idf)
    weigh: dict[int, float] = {}
    if idf:
        rows = [set(scorer.tokenizer(text)["input_ids"]) for text in REFERENCES[:3]]
        weigh = {i: math.log(4 / (1 + sum(i in row for row in rows))) for i in range(len(WORDS) + 5)}
    made = scorer.match(DRAFTS[:3], REFERENCES[:3])
    for i in range(3):
        assert made[i] == pytest.approx(slow_bertscore(bert, DRAFTS[i], REFERENCES[i], layer, weigh), abs=1e-5)
    assert len(set(made[:, 2].round(6))) == 3


def test_bertscore_through_its_spec(bert: Path) -> None:
    (metric,) = scorers([f"bertscore={bert},layer=2"])
    values = metric.score([*DRAFTS, "lvh", DRAFTS[0]], [*REFERENCES, "", DRAFTS[0]])
    assert values[:3] == pytest.approx(BertScore.open(bert, 2).match(DRAFTS[:3], REFERENCES[:3])[:, 2])
    assert values.dtype == np.float64
    assert values[3] == 0.0  # an empty draft
    assert math.isnan(values[4])  # no reference
    assert values[5] == pytest.approx(1.0)
    assert metric.weights == {"folder": "bert", "model.safetensors": file_digest(bert / "model.safetensors"), "layer": "2", "idf": "false"}
    assert scorers([f"bertscore={bert}"])[0].weights["layer"] == "3"  # of an unknown depth the last
    with pytest.raises(DataError, match="1 drafts and 2 references"):
        metric.score(["a"], ["a", "b"])


def test_long_texts_are_cut_where_the_model_ends(bert: Path) -> None:
    """24 positions: the opening token, 22 words, the closing one."""
    scorer, long = BertScore.open(bert, 2), ["sinus rhythm axis deviation"] * 15
    assert scorer.match([" ".join(long)], REFERENCES[:1]) == pytest.approx(scorer.match([" ".join(" ".join(long).split()[:22])], REFERENCES[:1]))


def test_bertscore_of_a_roberta(tmp_path: Path) -> None:
    """Its positions begin behind the padding token's, and its words with a blank."""
    from transformers import RobertaConfig, RobertaModel

    from regen.generators.language_model import byte_pair_tokenizer

    tokenizer = byte_pair_tokenizer([*DRAFTS, *REFERENCES] * 5, 300)
    torch.manual_seed(4)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 20}
    RobertaModel(RobertaConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **shape)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (metric,) = scorers([f"bertscore={tmp_path}"])
    values = metric.score([" ".join(DRAFTS * 4), "sinus rhythm"], ["left axis deviation", "a sinus rhythm"])
    assert 0 < values[0] < 1
    scorer = BertScore.open(tmp_path)
    ids, longer = (scorer.tokenizer(text)["input_ids"] for text in (" sinus rhythm", " a sinus rhythm"))
    assert longer[-len(ids) :] == ids  # the first word is the same piece wherever it stands
    assert scorer._encode(["sinus rhythm"]) == [ids]


def test_nothing_reaches_for_the_network(bert: Path, chexbert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    asked: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: asked.append(a))
    monkeypatch.setattr(socket.socket, "connect", lambda self, to: asked.append(to))
    for metric in scorers([f"bertscore={bert}", f"chexbert={chexbert}"]):
        metric.score(DRAFTS, REFERENCES)
    assert asked == []


def test_weights_that_are_incomplete_are_refused(bert: Path, tmp_path: Path) -> None:
    """transformers would fill them with random numbers and go on."""
    for path in bert.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    state = {k: v for k, v in load_file(bert / "model.safetensors").items() if "layer.1.attention.self.query" not in k}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"expected all weights of bert .*query.* missing \(2 in all\)"):
        scorers([f"bertscore={tmp_path}"])


def test_chexbert_against_its_heads_one_by_one(chexbert: Path) -> None:
    from transformers import BertConfig, BertModel, BertTokenizer

    state = load_file(chexbert / "model.safetensors")
    model = BertModel(BertConfig.from_json_file(chexbert / "config.json")).eval()
    model.load_state_dict({k.removeprefix("module.bert."): v for k, v in state.items() if ".bert." in k})
    tokenizer = BertTokenizer.from_pretrained(chexbert)
    labeler = Chexbert.open(chexbert)
    made = labeler.classes(DRAFTS)
    for i, text in enumerate(DRAFTS[:3]):
        with torch.no_grad():
            first = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 0]
        logits = [state[f"module.linear_heads.{j}.weight"] @ first + state[f"module.linear_heads.{j}.bias"] for j in range(14)]
        assert made[i].tolist() == [int(x.argmax()) for x in logits]
    assert made.shape == (4, len(OBSERVATIONS))
    assert made[3].tolist() == [0] * 14  # nothing written, nothing said
    assert made.max() < len(CLASSES)
    assert made[:, 13].max() < 2


def test_positive_counts_uncertain_only_where_asked() -> None:
    classes = np.array([[0, 1, 2, 3]])
    assert positive(classes).tolist() == [[False, True, False, True]]
    assert positive(classes, uncertain=False).tolist() == [[False, True, False, False]]


def test_chexbert_score_is_the_f1_of_positive_observations(chexbert: Path) -> None:
    (metric,) = scorers([f"chexbert={chexbert}"])
    labeler = Chexbert.open(chexbert)
    ours, theirs = positive(labeler.classes(DRAFTS[:3])), positive(labeler.classes(REFERENCES[:3]))
    expected = [2 * (a & b).sum() / (a.sum() + b.sum()) if (a | b).any() else 1.0 for a, b in zip(ours, theirs, strict=True)]
    assert metric.score(DRAFTS[:3], REFERENCES[:3]) == pytest.approx(expected)
    assert metric.score(["sinus"], ["sinus"])[0] == 1.0
    assert set(metric.weights) == {"folder", "model.safetensors"}


def test_chexbert_needs_all_its_heads(chexbert: Path, tmp_path: Path) -> None:
    for path in chexbert.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    state = load_file(chexbert / "model.safetensors")
    save_file({k: v for k, v in state.items() if "linear_heads.5" not in k}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"linear_heads.5.bias is missing"):
        scorers([f"chexbert={tmp_path}"])
    save_file(state | {"module.linear_heads.13.weight": torch.randn(4, 16)}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="BERT with 14 heads"):
        scorers([f"chexbert={tmp_path}"])


class Bomb:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, (f"open({str(self.path)!r}, 'w').close()",))


@pytest.mark.parametrize("metric", ["bertscore", "chexbert"])
def test_pickles_are_refused_unread(bert: Path, tmp_path: Path, metric: str) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    for path in bert.iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    torch.save(Bomb(tmp_path / "boom"), folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"got pytorch_model.bin, and pickles are never read; convert: python -c .*weights_only=True"):
        scorers([f"{metric}={folder}"])
    assert not (tmp_path / "boom").exists()


def test_the_conversion_that_is_offered_works(chexbert: Path, tmp_path: Path) -> None:
    from regen.eval.local_weights import CONVERT

    state = load_file(chexbert / "model.safetensors")
    torch.save({"model_state_dict": state}, tmp_path / "chexbert.pth")
    command = CONVERT.format(name="chexbert.pth").replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    made = load_file(tmp_path / "model.safetensors")
    assert set(made) == {name.removeprefix("module.") for name in state}
    assert torch.equal(made["linear_heads.0.bias"], state["module.linear_heads.0.bias"])


def entity(tokens: str, label: str, *relations: tuple[str, str]) -> dict[str, Any]:
    return {"tokens": tokens, "label": label, "start_ix": 0, "end_ix": 0, "relations": [list(r) for r in relations]}


OURS = {"entities": {"1": entity("Effusion", "OBS-DP", ("located_at", "2")), "2": entity("left", "ANAT-DP"), "3": entity("edema", "OBS-DA")}}
THEIRS = {
    "entities": {
        "1": entity("Effusion", "OBS-DP"), "2": entity("left", "ANAT-DP"), "3": entity("edema", "OBS-DP"), "4": entity("edema", "OBS-DP")
    }
}  # fmt: skip


def test_radgraph_f1_of_worked_cases() -> None:
    # three facts on either side (edema twice counts once); simple: effusion and left agree; partial: only left, for one effusion has a relation
    assert radgraph_f1(OURS, THEIRS, "simple") == pytest.approx(4 / 6)
    assert radgraph_f1(OURS, THEIRS) == pytest.approx(2 / 6)
    assert radgraph_f1(OURS, THEIRS, "complete") == pytest.approx(2 / 6)
    elsewhere = {"entities": OURS["entities"] | {"2": entity("right", "ANAT-DP")}}
    assert radgraph_f1(OURS, elsewhere) == pytest.approx(4 / 6)  # partial does not look at where the relation leads
    assert radgraph_f1(OURS, elsewhere, "complete") == pytest.approx(2 / 6)
    assert radgraph_f1(OURS, OURS) == 1.0
    assert radgraph_f1(OURS, {"entities": {}}) == 0.0


def test_radgraph_from_annotations(tmp_path: Path) -> None:
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps({"0": OURS | {"text": "Left effusion , no edema ."}, "1": THEIRS | {"text": "Effusion . Edema ."}}))
    for path in (file, tmp_path):
        (metric,) = scorers([f"radgraph={path},level=simple"])
        assert metric.score(["Left effusion, no edema.", ""], ["Effusion. Edema.", "Effusion. Edema."]) == pytest.approx([4 / 6, 0])
        assert metric.weights["annotations.json"] == file_digest(file)
    with pytest.raises(DataError, match=r"none of 'Pneumothorax\.'"):
        metric.score(["Pneumothorax."], ["Effusion. Edema."])
    file.write_text(json.dumps({"0": {"text": "x", "entities": {"1": {"tokens": "x", "label": "y", "relations": [["located_at", "9"]]}}}}))
    with pytest.raises(DataError, match="expected text, and entities"):
        scorers([f"radgraph={file}"])
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.th").write_bytes(b"pickle")
    with pytest.raises(ConfigError, match=r"with weights.th; RadGraph's weights are pickled"):
        scorers([f"radgraph={tmp_path / 'model'}"])


def test_green_from_its_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "results_green.csv"
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([["reference", "predictions", "green"], ["No edema.", "Edema,\nmild.", 0.25], ["Clear.", "Clear.", 1.0]])
    (metric,) = scorers([f"green={file}"])
    assert metric.score(["Clear.", "Edema,\nmild."], ["Clear.", "No edema."]).tolist() == [1.0, 0.25]
    with pytest.raises(DataError, match="1 are missing"):
        metric.score(["Clear."], ["No edema."])
    with pytest.raises(MissingExtraError, match=r"pip install git\+https"):
        scorers([f"green={tmp_path}"])
    file.write_text("reference,predictions,green\na,b,7\n")
    with pytest.raises(DataError, match=r"from 0 to 1, got 7.0"):
        scorers([f"green={file}"])


def test_ratescore_is_called_with_local_folders(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package itself is stood in for: what is tested is how it is called, offline and with which folders."""
    from huggingface_hub import constants

    for part in ("ner", "synonyms"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "model.safetensors").write_bytes((bert / "model.safetensors").read_bytes())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("regen.eval.learned_metrics.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install RaTEScore medspacy"):
        scorers([f"ratescore={tmp_path}"])

    class Package:
        def __init__(self, bert_model: str, eval_model: str, use_gpu: bool) -> None:
            assert (bert_model, eval_model, use_gpu) == (str(tmp_path / "ner"), str(tmp_path / "synonyms"), False)

        def compute_score(self, drafts: list[str], references: list[str]) -> list[float]:
            assert constants.HF_HUB_OFFLINE
            return [float(len(a) > len(b)) for a, b in zip(drafts, references, strict=True)]

    monkeypatch.setattr("regen.eval.learned_metrics.find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "RaTEScore", types.SimpleNamespace(RaTEScore=Package))
    (metric,) = scorers([f"ratescore={tmp_path}"])
    assert metric.score(["longer", "a", ""], ["short", "bb", "c"]).tolist() == [1.0, 0.0, 0.0]
    assert not constants.HF_HUB_OFFLINE
    assert set(metric.weights) == {"folder", "ner/model.safetensors", "synonyms/model.safetensors"}


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["bertscor=/x"], "did you mean 'bertscore'"),
        (["bertscore"], "expected name=path"),
        (["bertscore={bert},depth=2"], "unknown option 'depth=2'; known: layer=..., idf=..."),
        (["bertscore={bert},layer=two"], "expected layer=<number>"),
        (["bertscore={bert},layer=9"], "expected a layer from 0 to 3, got 9"),
        (["bertscore={bert}", "bertscore={bert}"], "got bertscore twice"),
        (["bertscore=roberta-large"], "expected a folder with the model on this disk, got 'roberta-large'"),
        (["chexbert={bert}/none"], "expected a folder"),
        (["radgraph={bert}/a.json,level=some"], "unknown level 'some'"),
    ],
)
def test_bad_specs(bert: Path, specs: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        scorers([spec.format(bert=bert) for spec in specs])
    assert message in str(caught.value)
