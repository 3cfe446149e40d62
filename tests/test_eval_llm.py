"""`regen eval llm`: worked cases of its three questions, and the whole card on the tiny bundle."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from regen import Pipeline
from regen.batch import prepared_studies
from regen.data_prep.labeler import statements_in
from regen.data_prep.prepared import Prepared
from regen.errors import ArtifactError, ConfigError
from regen.eval.bootstrap import Resamples
from regen.eval.llm_tasks import COLUMNS, GARBLED, Answers, Coded, cells, coded, refuses, where
from regen.eval.predictions import References, read_sets
from regen.evaluating import llm
from regen.evaluating.llm import CATALOGUE, NEAREST, WITH, WITHOUT, LlmCard, RecordingWriter, evaluate_llm, summarise
from regen.generators.guards import guard
from regen.generators.judging import Basis
from regen.generators.local_writer import LocalWriter
from regen.study import Draft, Sentence

DRAFT = Draft("1", "p", "Sinus rhythm.", (Sentence("Sinus rhythm.", "supported", "SR"),), (), (), (), {}, "", {})


def references(reports: list[str]) -> References:
    n = len(reports)
    return References([str(i) for i in range(n)], [f"p{i}" for i in range(n)], reports, [None] * n, read_sets(reports), np.zeros(n, np.bool_))


def test_sentences_of_a_worked_draft() -> None:
    # five sentences: two read as a statement (one of them denied), one is garbled and dropped; one kept sentence was added by the guards
    text = "Sinus rhythm. No left ventricular hypertrophy. Fine weather. Rhythm is the of. Cheerful."
    kept = (Sentence("Sinus rhythm.", "supported", "SR"), Sentence("No left ventricular hypertrophy.", "supported", "LVH"))
    dropped = (Sentence("Rhythm is the of.", "contradicted", reason=GARBLED), Sentence("Cheerful.", "contradicted", reason="nothing says so"))
    draft = replace(DRAFT, sentences=(*kept, Sentence("Left axis deviation.", "supported", "LAD")), dropped=dropped, flags=("completed:LAD",))
    assert coded(text, draft, "en") == Coded(sentences=5, valid=2, garbled=1, kept=2)
    assert coded("", replace(DRAFT, sentences=()), "en") == Coded(0, 0, 0, 0)


def test_other_languages_are_cut_into_statements() -> None:
    text = "sinusrhythmus linkstyp"
    assert coded(text, replace(DRAFT, sentences=()), "de").sentences == 2
    assert coded(text, replace(DRAFT, sentences=()), "en").sentences == 1


def test_the_reason_is_the_one_that_the_guards_give() -> None:
    _, dropped, _ = guard("findings: sinus rhythm", Basis({}, frozenset(), {}, ()))
    assert [sentence.reason for sentence in dropped] == [GARBLED]


def test_what_refusing_is() -> None:
    assert not refuses(DRAFT)
    assert refuses(replace(DRAFT, report=""))
    assert refuses(replace(DRAFT, flags=("no_readable_ecg:no heart beats were found",)))
    assert not refuses(replace(DRAFT, flags=("low_evidence",)))


def test_cells_of_a_worked_case() -> None:
    known = np.array([True, True, True, False])
    answers = Answers(
        summaries=["Sinus rhythm.", "Atrial fibrillation.", "Sinus rhythm.", "Sinus rhythm."],
        coded=[Coded(2, 2, 0, 2), Coded(4, 3, 0, 1), Coded(2, 2, 1, 1), Coded(0, 0, 0, 0)],
        refused=where(known, [True, False, False, True]),
        refused_blanked=where(known, [True, True, False, False]),
        silent=where(known, [False, False, False, True]),
        silent_blanked=where(known, [False, True, True, True]),
    )
    truth = references(["Sinus rhythm.", "Sinus rhythm.", "Sinus bradycardia.", "Sinus rhythm."])
    made = cells(answers, truth, Resamples(truth.subjects, np.random.default_rng(0), 50))
    assert set(made) == set(COLUMNS)
    value = {name: cell.value for name, cell in made.items()}
    assert value["summary_f1"] == pytest.approx(2 * 2 / (4 + 4))  # two of four statements said and meant
    assert value["summary_rouge_l"] == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert value["valid_sentences"] == pytest.approx(7 / 8)
    assert value["valid_drafts"] == pytest.approx(1 / 4)  # the third is garbled, the fourth empty
    assert value["kept_sentences"] == pytest.approx(4 / 8)
    assert value["refused_readable"] == pytest.approx(1 / 3)  # the unreadable fourth does not count
    assert value["refused_blanked"] == pytest.approx(2 / 3)
    assert (value["silent_readable"], value["silent_blanked"]) == (0.0, pytest.approx(2 / 3))
    low, high = made["refused_blanked"].interval
    assert low < 2 / 3 < high


def test_without_the_adapter_the_base_writes(tiny_bundle: Path, pipeline: Pipeline) -> None:
    from regen.generators.language_model import load_base

    folder = tiny_bundle / "generator"
    base = load_base(folder / "base")[0].state_dict()
    plain = LocalWriter.open(folder, pipeline.index, adapter=False)
    merged = LocalWriter.open(folder, pipeline.index)
    same = [torch.allclose(value.float(), base[name], atol=1e-2) for name, value in plain.model.state_dict().items()]
    assert all(same)
    assert not any("lora" in name for name in plain.model.state_dict())
    moved = [name for name, value in merged.model.state_dict().items() if not torch.equal(value, plain.model.state_dict()[name])]
    assert moved
    for mine, other in zip(plain.soft.parameters(), merged.soft.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.fixture(scope="module")
def made(tiny_bundle: Path, tiny_data: Prepared, tmp_path_factory: pytest.TempPathFactory) -> tuple[LlmCard, Path]:
    out = tmp_path_factory.mktemp("llm") / "card.json"
    return evaluate_llm(tiny_data.path, str(tiny_bundle), "test", None, 0, 100, out, "cpu", False), out


def test_the_card_of_the_tiny_bundle(made: tuple[LlmCard, Path], tiny_data: Prepared) -> None:
    card, out = made
    n = len(tiny_data.split("test"))
    plain = json.loads(out.read_text())
    assert list(card.rows) == [WITH, WITHOUT, NEAREST, CATALOGUE]
    assert plain["n"]["summary_f1"] == n
    assert 0 < plain["n"]["refused_blanked"] <= n
    for name in (WITH, WITHOUT):
        row = plain["systems"][name]
        assert set(row) == set(COLUMNS)
        assert row["refused_blanked"]["value"] == 1.0
        assert row["refused_readable"]["value"] < 1.0
        assert all(0 <= row[column]["value"] <= 1 for column in COLUMNS)
    assert set(plain["systems"][NEAREST]) == {"summary_rouge_l", "summary_bleu_4", "summary_f1"}
    assert plain["systems"][CATALOGUE]["summary_f1"]["value"] == 1.0  # the tiny cohort's reports are the catalogue's words
    for column in COLUMNS:
        difference = plain["with_minus_without"][column]["value"]
        values = [plain["systems"][name][column]["value"] for name in (WITH, WITHOUT)]
        assert difference == pytest.approx(values[0] - values[1], abs=2e-6)
    assert any(plain["with_minus_without"][column]["value"] for column in COLUMNS)


def test_markdown_says_everything(made: tuple[LlmCard, Path]) -> None:
    text = llm.to_markdown(made[0])
    assert all(title in text for title in COLUMNS.values())
    assert f"{made[0].patients} patients" in text
    assert "100 bootstrap draws" in text


def test_same_seed_same_card(made: tuple[LlmCard, Path], tiny_bundle: Path, tiny_data: Prepared, tmp_path: Path) -> None:
    out = tmp_path / "card.json"
    few = [evaluate_llm(tiny_data.path, str(tiny_bundle), "test", 4, seed, 20, out, "cpu", True).to_dict() for seed in (1, 1)]
    assert few[0] == few[1]
    assert few[0]["n"]["valid_drafts"] == 4
    again = evaluate_llm(tiny_data.path, str(tiny_bundle), "test", None, 0, 100, None, "cpu", False)
    assert again.to_dict() == made[0].to_dict()


def requests_of(pipeline: Pipeline, data: Prepared, blank: bool = False) -> list:
    return llm._requests(pipeline, data, data.split("test"), blank)


def test_what_is_recorded_is_what_is_drafted(pipeline: Pipeline, tiny_data: Prepared) -> None:
    writer = RecordingWriter.of(pipeline.writer)
    assert writer.recipe.witnesses == 0
    drafts, texts = llm._write(writer, requests_of(pipeline, tiny_data), "drafting")
    usual = list(replace(pipeline, ecg_writer=writer).drafts(prepared_studies(tiny_data, tiny_data.split("test"))))
    assert [d.report for d in drafts] == [d.report for d in usual]
    assert len(texts) == len(drafts)
    for text, draft in zip(texts, drafts, strict=True):
        made = coded(text, draft, "en")
        parts = [part for part in text.replace("; ", ";\n").replace(". ", ".\n").split("\n") if part.strip(" .;")]
        assert made.sentences == len(parts)
        own = [s for s in draft.sentences if f"completed:{s.finding}" not in draft.flags]
        assert made.kept >= len(own)
        assert made.kept <= made.sentences


def test_a_summary_is_written_from_text_alone(pipeline: Pipeline, tiny_data: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """No measurement, no soft token of this recording or its cases; the report's own statements are the findings."""
    seen: list[tuple[torch.Tensor, list[str]]] = []

    def overheard(writer: LocalWriter, prefixes: torch.Tensor, prompts: list[str], plans: list) -> list[str]:
        seen.append((prefixes, prompts))
        return ["" for _ in prompts]

    monkeypatch.setattr(LocalWriter, "decode", overheard)
    rows = tiny_data.split("test")
    requests, reports = requests_of(pipeline, tiny_data), rows["report"].to_list()
    summarise(pipeline.writer, requests, reports)
    ((prefixes, prompts),) = seen
    assert all(torch.equal(prefix, prefixes[0]) for prefix in prefixes)
    train = set(tiny_data.split("train", with_ecg=False)["report"].to_list())
    for prompt, report in zip(prompts, reports, strict=True):
        lines = dict(line.split(":", 1) for line in prompt.split("\n"))
        assert set(lines) == {"retrieved", "findings", "report (en)"}
        assert lines["report (en)"] == ""
        assert statements_in(report) == statements_in(lines["findings"].replace(";", "."))
        assert all(text.strip() in train for text in lines["retrieved"].split("|"))


def test_bad_input(tiny_bundle: Path, tiny_data: Prepared, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected at least 1 study, got 0"):
        evaluate_llm(tiny_data.path, str(tiny_bundle), "test", 0, 0, 10, None, "cpu", False)
    with pytest.raises(ConfigError, match="--split train"):
        evaluate_llm(tiny_data.path, str(tiny_bundle), "train", None, 0, 10, None, "cpu", False)
    there = tmp_path / "card.md"
    there.write_text("mine")
    with pytest.raises(ArtifactError, match="exists already"):
        evaluate_llm(tiny_data.path, str(tiny_bundle), "test", None, 0, 10, there, "cpu", False)
    assert there.read_text() == "mine"
    assert math.isnan(where(np.array([False]), [True])[0])
