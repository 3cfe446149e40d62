"""The writer: any causal language model as its base, soft prompts and retrieved text that can be left out, and parts that are missing."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import CPU, tiny_llama, writer_recipe

from regen import Pipeline
from regen.artifact import load_manifest
from regen.batch import prepared_studies
from regen.data_prep.measure import UNITS
from regen.data_prep.prepared import Prepared
from regen.data_prep.statements import CODES
from regen.errors import ConfigError
from regen.generators.base import Request
from regen.generators.language_model import byte_pair_tokenizer, load_base
from regen.generators.local_writer import LocalWriter
from regen.generators.recipe import WriterRecipe
from regen.generators.soft_prompt import SoftPrompt
from regen.generators.train import train_writer
from regen.index.archive import Archive
from regen.study import Study


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory, tiny_data: Prepared) -> Path:
    """A GPT-2 with random weights and a tokenizer without a padding token: of another family than the writer's own model."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("base") / "gpt"
    tokenizer = byte_pair_tokenizer(tiny_data.split("train")["report"].to_list(), 350)
    tokenizer.pad_token = None
    torch.manual_seed(2)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2, n_positions=600, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def train(base: Path | str, bundle: Path, data: Prepared, out: Path, *changes: str) -> LocalWriter:
    recipe = writer_recipe("epochs=1", "report_length=16", f"base={base}", *changes)
    train_writer(recipe, data.path, bundle / "encoder", bundle / "index", out, CPU)
    return LocalWriter.open(out, Archive.open(bundle / "index").part("ecg"))


def test_any_causal_model_is_a_base_by_folder(
    gpt: Path, tiny_bundle: Path, tiny_data: Prepared, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name relative to where it was trained is found from anywhere; the base stays where it is and is not copied."""
    monkeypatch.chdir(gpt.parent)
    writer = train(gpt.name, tiny_bundle, tiny_data, tmp_path / "generator")
    assert not (tmp_path / "generator" / "base").exists()
    assert any(name.startswith("adapter/") for name in load_manifest(tmp_path / "generator", "writer")["files"])
    monkeypatch.chdir(tmp_path)
    writer = LocalWriter.open(tmp_path / "generator", writer.index)
    studies = list(prepared_studies(tiny_data, tiny_data.split("test")))[:4]
    other = replace(pipeline, ecg_writer=writer)
    assert [d.study_id for d in other.draft(studies)] == [s.study_id for s in studies]
    assert all(d.report for d in other.draft(studies))
    stored = json.loads((tmp_path / "generator" / "recipe.json").read_text())["recipe"]["base"]
    assert stored == str(gpt)


def test_a_base_that_is_gone_is_one_clear_error(gpt: Path, tmp_path: Path) -> None:
    for name, make in (("gone", None), ("empty", Path.mkdir)):
        if make:
            make(tmp_path / name)
        with pytest.raises(ConfigError, match=r"^base: expected a Hugging Face name or folder"):
            load_base(tmp_path / name)
    endless = tmp_path / "endless"
    shutil.copytree(gpt, endless)
    for path in endless.glob("tokenizer_config.json"):
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "eos_token"}))
    with pytest.raises(ConfigError, match="base: expected a tokenizer with an end-of-sequence token"):
        load_base(endless)


@pytest.mark.parametrize(
    ("changes", "length"),
    [
        (("study_tokens=0", "neighbour_tokens=0", "retrieved_texts=0"), 0),
        (("study_tokens=0",), 10),
        (("neighbours=0",), 8),
    ],
)
def test_parts_that_the_recipe_switches_off(
    gpt: Path, tiny_bundle: Path, tiny_data: Prepared, pipeline: Pipeline, tmp_path: Path, changes: tuple[str, ...], length: int
) -> None:
    writer = train(gpt, tiny_bundle, tiny_data, tmp_path / "generator", *changes)
    assert writer.soft.length == length
    other = replace(pipeline, ecg_writer=writer)
    studies = list(prepared_studies(tiny_data, tiny_data.split("test")))[-3:]
    drafts = other.draft(studies)
    assert all(d.report for d in drafts)
    if "neighbours=0" in changes:
        assert all(d.neighbours == () and "no_retrieval" in d.flags and not any(s.evidence for s in d.sentences) for d in drafts)
    else:
        assert all(len(d.neighbours) >= 5 for d in drafts)
    seen = other.see(studies)
    ids, scores = other.index.search(seen.embeddings, writer.needs, [_asker(s) for s in studies])
    requests = [Request(s, seen.tokens[i], seen.probabilities[i], {}, ids[i], scores[i], "en") for i, s in enumerate(studies)]
    prompts = [writer.prompt(r, p) for r, p in zip(requests, writer.plan(requests), strict=True)]
    assert all(("retrieved:" in p) == (changes == ("study_tokens=0",)) for p in prompts)


def _asker(study: Study) -> Any:
    from regen.index.case_index import Asker

    return Asker.of(study)


def request(pipeline: Pipeline, study: Study, **changes: Any) -> Request:
    seen = pipeline.see([study])
    ids, scores = pipeline.index.search(seen.embeddings, pipeline.writer.needs, [_asker(study)])
    measured = dict(zip(UNITS, seen.measures[0].tolist(), strict=False))
    made = Request(study, seen.tokens[0], seen.probabilities[0], measured, ids[0], scores[0], "en")
    return replace(made, **changes)


NONE: dict[str, Any] = {"ids": np.zeros(0, np.int64), "scores": np.zeros(0, np.float32)}


@pytest.fixture
def study(tiny_data: Prepared) -> Study:
    return next(prepared_studies(tiny_data, tiny_data.split("test")))


def test_what_is_missing_is_said_and_the_draft_still_comes(exact: Pipeline, study: Study) -> None:
    """With and without cases and ECG tokens in one batch: each as it is alone."""
    whole = request(exact, study)
    deaf, unmeasured = replace(whole, tokens=torch.zeros_like(whole.tokens)), replace(whole, measured=dict.fromkeys(UNITS, math.nan))
    requests = [whole, request(exact, study, **NONE), deaf, unmeasured]
    together = exact.writer.write(requests)
    for one, draft in zip(requests, together, strict=True):
        alone = exact.writer.write([one])[0]
        assert (draft.report, draft.flags, draft.neighbours) == (alone.report, alone.flags, alone.neighbours)
    assert ["no_retrieval" in d.flags for d in together] == [False, True, False, False]
    assert together[1].neighbours == ()
    assert not any(s.evidence for s in together[1].sentences)
    assert together[3].measured == dict.fromkeys(UNITS, None)
    assert exact.writer.write([]) == []


def test_a_far_study_is_flagged(exact: Pipeline, study: Study) -> None:
    writer = exact.writer
    assert isinstance(writer, LocalWriter)
    near = request(exact, study)
    limit = float(writer.evidence.limit[0])
    for top, flagged in ((limit + 0.01, False), (limit - 0.01, True)):
        scores = np.minimum(near.scores, top).astype(np.float32)
        scores[0] = top
        draft = writer.write([replace(near, scores=scores)])[0]
        assert ("low_evidence" in draft.flags) is flagged


def test_cases_that_disagree_are_flagged_and_do_not_vote(exact: Pipeline, study: Study) -> None:
    writer = exact.writer
    assert isinstance(writer, LocalWriter)
    asked, limit = request(exact, study), writer.evidence.accord_limit
    try:
        for value, heard in ((0.0, True), (1.1, False)):
            writer.evidence.accord_limit = np.array([value], np.float32)
            plan, draft = writer.plan([asked])[0], writer.write([asked])[0]
            assert (plan.heard, "low_evidence:cases_disagree" in draft.flags) == (heard, not heard)
            alone = writer.plan([replace(asked, **NONE)])[0]
            assert heard or np.array_equal(plan.probabilities, alone.probabilities)
            assert heard or plan.positive == alone.positive
            shown = {f.code: f.threshold for f in draft.findings}
            assert shown["SR"] == pytest.approx(float(writer.evidence.limits(heard)[0]), abs=1e-5)
            assert draft.neighbours, "they stay in sight"
    finally:
        writer.evidence.accord_limit = limit


def test_an_unreliable_qt_is_withheld_and_flagged(exact: Pipeline, study: Study) -> None:
    asked = request(exact, study)
    for qtc, gone in ((420.0, False), (733.0, True)):
        draft = exact.writer.write([replace(asked, measured=asked.measured | {"qt": 300.0, "qtc": qtc, "heart_rate": 70.0})])[0]
        assert (draft.measured["qtc"] is None, "unreliable:qtc" in draft.flags) == (gone, gone)


def test_training_and_use_compose_the_same_prompt(exact: Pipeline, study: Study) -> None:
    from regen.encoders.recordings import Recordings
    from regen.generators.train import _pair

    writer = exact.writer
    assert isinstance(writer, LocalWriter)
    one = request(exact, study)
    plan = writer.plan([one])[0]
    labels = np.array([[code in plan.positive for code in CODES]], np.float32)
    rows = Recordings(None, None, None, labels, ["Report."])  # type: ignore[arg-type]
    quiet = writer.recipe.model_copy(update={"plan_noise": 0.0})
    calm = LocalWriter(writer.model, writer.tokenizer, writer.soft, writer.evidence, quiet, writer.index)
    ids, start = _pair(calm, one, plan, rows, 0, np.random.default_rng(0))
    assert writer.tokenizer.decode(ids[:start]) == writer.prompt(one, plan)


def soft(**changes: int) -> SoftPrompt:
    torch.manual_seed(4)
    return SoftPrompt(32, 16, 24, WriterRecipe(**({"study_tokens": 3, "neighbours": 4, "neighbour_tokens": 2} | changes)), 0.5).eval()  # type: ignore[arg-type]


@torch.no_grad()
def test_soft_prompts_of_what_is_missing() -> None:
    prompt = soft()
    tokens, reports, scores = torch.randn(3, 9, 32), torch.randn(3, 4, 16), torch.rand(3, 4)
    out = prompt(tokens, reports, scores)
    assert out.shape == (3, prompt.length, 24) == (3, 11, 24)
    heard = tokens.clone()
    heard[0, 5:] = 0
    torch.testing.assert_close(prompt(heard, reports, scores)[0], prompt(tokens[:1, :5], reports[:1], scores[:1])[0])
    heard[1] = 0
    silent = prompt(heard, reports, scores)
    torch.testing.assert_close(silent[1, :3], prompt(torch.zeros(1, 4, 32), reports[:1], scores[:1])[0, :3])
    assert not torch.allclose(silent[1, :3], silent[2, :3])
    few = scores.clone()
    few[0, 2:] = torch.nan
    torch.testing.assert_close(prompt(tokens, reports, few)[0], prompt(tokens[:1], reports[:1, :2], scores[:1, :2])[0])
    torch.testing.assert_close(prompt(tokens, reports[:, :0], scores[:, :0]), prompt(tokens, reports, torch.full((3, 4), torch.nan)))
    assert bool(torch.isfinite(prompt(torch.zeros(1, 9, 32), reports[:1, :0], scores[:1, :0])).all())


@torch.no_grad()
def test_soft_prompts_know_rank_and_score() -> None:
    prompt = soft()
    tokens, reports = torch.randn(1, 9, 32), torch.randn(1, 1, 16).expand(1, 4, 16)
    near, far = (prompt(tokens, reports, torch.full((1, 4), s))[0, 3:].unflatten(0, (4, 2)) for s in (0.9, 0.1))
    assert not torch.allclose(near[0], near[1])
    assert not torch.allclose(near, far)


def test_soft_prompts_that_are_off() -> None:
    tokens, reports, scores = torch.randn(2, 9, 32), torch.randn(2, 4, 16), torch.rand(2, 4)
    for changes, length in (
        ({"study_tokens": 0}, 8),
        ({"neighbour_tokens": 0}, 3),
        ({"neighbours": 0}, 3),
        ({"study_tokens": 0, "neighbours": 0}, 0),
    ):
        assert soft(**changes)(tokens, reports, scores).shape == (2, length, 24)


def test_the_small_base_is_a_llama_whose_tokenizer_knows_every_character() -> None:
    model, tokenizer = tiny_llama(["Sinus rhythm. Normal ECG."] * 4)
    assert model.config.model_type == "llama"
    for text in ("Förmaksflimmer, vänster – 漢", " report (de): T-Negativierung 12 °"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    assert tokenizer("12", add_special_tokens=False)["input_ids"] == [
        *tokenizer("1", add_special_tokens=False)["input_ids"], *tokenizer("2", add_special_tokens=False)["input_ids"],
    ]  # fmt: skip
