"""Drafts with the patient's context: lines, tokens, evidence, guards, any subset, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from models import CPU, run, writer_recipe
from records import write_wfdb

from regen import Pipeline
from regen.batch import prepared_studies
from regen.bundle import make_bundle
from regen.config import load
from regen.data_prep.context import context_of
from regen.data_prep.prepared import Prepared
from regen.data_prep.statements import CODES
from regen.data_prep.study_context import PARTS, only, with_patient
from regen.encoders.context_recipe import ContextRecipe
from regen.encoders.train_chart import train_context
from regen.errors import ConfigError, DataError
from regen.evaluating.context import evaluate_context
from regen.generators.chart_evidence import ChartEvidence
from regen.generators.context_guards import Known, in_the_light, miscompared, tells
from regen.generators.context_lines import context_lines, dropped, said
from regen.generators.guards import guard
from regen.generators.judging import Basis
from regen.generators.language_model import byte_pair_tokenizer
from regen.generators.local_writer import LocalWriter
from regen.generators.recipe import WriterRecipe
from regen.generators.train import train_writer
from regen.index.build import build_index
from regen.page import write_page
from regen.study import Event, Finding, Sentence, Study

CONTEXT = ("context_tokens=3", "line_tokens=8", "prior_tokens=16", "tasks=[draft, acuity]")


@pytest.fixture(scope="module")
def bundle(ed_data: Prepared, ed_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("context_bundle")
    recipe = ContextRecipe(width=32, depth=1, heads=4, events=16, epochs=2, batch=16, least=3)
    train_context(recipe, ed_data.path, ed_encoder, folder / "context", CPU)
    build_index(ed_data.path, ed_encoder, folder / "index", CPU)
    arguments = (ed_data.path, ed_encoder, folder / "index", folder / "generator", CPU)
    train_writer(writer_recipe("base_epochs=1", "epochs=1", "report_length=48", *CONTEXT), *arguments, context_path=folder / "context")
    make_bundle(ed_encoder, folder / "index", folder / "generator", folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="module")
def pipe(bundle: Path) -> Pipeline:
    return Pipeline.from_pretrained(bundle, "cpu")


@pytest.fixture(scope="module")
def studies(ed_data: Prepared) -> list[Study]:
    rows = ed_data.split("test") if len(ed_data.split("test")) >= 3 else ed_data.split("train")
    return list(prepared_studies(ed_data, rows))[:3]


def test_every_subset_drafts(pipe: Pipeline, studies: list[Study]) -> None:
    writer = pipe.writer
    assert isinstance(writer, LocalWriter)
    assert all(study.events for study in studies)
    requests, _ = pipe.requests(studies[:1])
    subsets = [parts for size in range(len(PARTS) + 1) for parts in combinations(PARTS, size)]
    assert len(subsets) == 64
    drafts = writer.write([replace(requests[0], study=only(studies[0], parts)) for parts in subsets])
    assert all(f.probability == f.probability for d in drafts for f in d.findings)
    assert not any(s.told is not None for s in drafts[0].sentences), "nothing is moved by nothing"
    assert any(s.told is not None for d in drafts[1:] for s in (*d.sentences, *d.dropped))


def test_context_reaches_the_prefix_and_the_prompt(pipe: Pipeline, studies: list[Study]) -> None:
    writer = pipe.writer
    assert isinstance(writer, LocalWriter)
    (request,), _ = pipe.requests(studies[:1])
    late = replace(request, study=replace(request.study, events=tuple(replace(e, hours=0.0) for e in request.study.events)))
    bare = replace(request, study=only(request.study, ()))
    plans = writer.plan([request, late, bare])
    with torch.no_grad():
        prefixes = writer.prefixes([request, late, bare], plans)
    assert (prefixes[0] - prefixes[1]).abs().max() > 1e-6, "times arrive"
    torch.testing.assert_close(prefixes[0, :-3], prefixes[2, :-3])
    assert (prefixes[0, -3:] - prefixes[2, -3:]).abs().max() > 1e-6
    assert "complaint:" in writer.prompt(request, plans[0])
    assert "complaint:" not in writer.prompt(bare, plans[2])
    assert plans[2].blind is None
    assert plans[2].positive == plans[0].without_chart().positive


def test_a_chart_that_is_cut_says_so(pipe: Pipeline, studies: list[Study]) -> None:
    many = tuple(Event("VITAL//sbp", hours / 10, 100.0) for hours in range(1, 40))
    long, short = pipe.draft([replace(studies[0], events=many), replace(studies[0], events=many[:3])])
    assert "chart_cut" in long.flags
    assert "chart_cut" not in short.flags


def test_another_task(pipe: Pipeline, studies: list[Study]) -> None:
    writer = pipe.writer
    assert isinstance(writer, LocalWriter)
    requests, _ = pipe.requests(studies)
    assert len(writer.answer(requests, "acuity")) == len(studies)
    asked = replace(requests[0], task="acuity")
    assert writer.prompt(asked, writer.plan([asked])[0]).endswith("\nacuity:")
    with pytest.raises(ConfigError, match="expected one that the writer learnt"):
        writer.answer(requests, "impression")


def test_a_study_of_nothing_but_context_is_refused(pipe: Pipeline, studies: list[Study]) -> None:
    with pytest.raises(DataError, match="nothing but the patient's context"):
        pipe.draft(replace(studies[0], ecg=None))


def test_a_patient_file_at_the_command_line(bundle: Path, ed_data: Prepared, tmp_path: Path) -> None:
    (signal,) = ed_data.load(ed_data.split("test")[:1])
    record = write_wfdb(tmp_path, "rec", (signal.T * 1000).round().astype("int16"), fs=100)
    (tmp_path / "patient.json").write_text(json.dumps({"vitals": {"heart_rate": 118, "sbp": 86}, "medications": ["digoxin"]}))
    done = run("draft", record, "--bundle", bundle, "--context", tmp_path / "patient.json", "--out", tmp_path / "d.jsonl", "--html", tmp_path / "h")
    assert done.returncode == 0, done.stderr
    assert "digoxin" in (tmp_path / "h" / "index.html").read_text()
    done = run("draft", record, "--context", tmp_path / "patient.json", "--out", tmp_path / "e.jsonl")
    assert done.returncode == 2
    assert "reads none" in done.stderr


def test_another_patient_is_refused(studies: list[Study]) -> None:
    with pytest.raises(DataError, match="expected the context of subject"):
        context_of({"subject_id": "somebody else", "medications": ["digoxin"]}, "p.json", studies[0].subject_id, studies[0].time)
    context = context_of({"medications": ["digoxin"], "priors": ["Sinus rhythm."]}, "p.json", studies[0].subject_id, studies[0].time)
    given = with_patient(studies[0], context)
    assert [e.code for e in given.events] == ["MED//home//digoxin"]
    assert given.priors == ("Sinus rhythm.",)


def test_the_page_shows_what_was_told(pipe: Pipeline, studies: list[Study], tmp_path: Path) -> None:
    drafts = pipe.draft(studies[:1])
    page = write_page([(studies[0], drafts[0])], tmp_path, "t", "n").read_text()
    assert 'class="timeline"' in page
    assert "nats a token" in page
    bare = write_page([(only(studies[0], ()), replace(drafts[0], sentences=(Sentence("A.", "supported"),)))], tmp_path / "b", "t", "n").read_text()
    assert 'class="timeline"' not in bare


def test_the_table(bundle: Path, ed_data: Prepared) -> None:
    split = "test" if len(ed_data.split("test")) >= 2 else "val"
    made = evaluate_context(ed_data.path, str(bundle), split, 4, 1, None, "cpu", 0, False, draws=20)
    assert [row.name for row in made.rows][:3] == ["none", "+ triage", "+ vitals"]
    assert {k: n for k, (_, n) in made.subsets.items()} == {0: 1, 1: 6, 2: 15, 3: 20, 4: 15, 5: 6, 6: 1}
    assert made.to_dict()["n"] == made.n


def test_a_bundle_from_before_reads_no_context_and_its_drafts_say_nothing_of_it(pipeline: Pipeline, tiny_data: Prepared) -> None:
    writer = pipeline.writer
    assert isinstance(writer, LocalWriter)
    assert (writer.chart, writer.evidence.chart, writer.soft.context, pipeline.reads_context) == (None, None, None, False)
    (study,) = prepared_studies(tiny_data, tiny_data.split("test")[:1])
    charted = replace(study, events=(Event("TRIAGE//sbp", 1.0, 60.0), Event("HISTORY", None, None, "Leadless pacemaker")))
    plain, other = (replace(draft, timing_ms={}).to_dict() for draft in pipeline.draft([study, charted]))
    assert plain == other
    assert not any({"told", "only_told"} & set(s) for s in plain["sentences"] + plain["dropped"])


# What follows needs no model.


def test_lines_have_their_budget() -> None:
    tokenizer = byte_pair_tokenizer(["Chest pain and a long history of everything else."] * 3, 300)
    study = Study(
        "s",
        events=(
            Event("COMPLAINT", 1.0, None, "Chest pain"),
            Event("INDICATION", None, None, "Chest pain."),
            Event("HISTORY", None, None, "a long history of everything"),
        ),
        priors=("A.", "B.", "C."),
    )
    assert said(study) == [("complaint", "Chest pain"), ("history", "a long history of everything"), ("prior", "B."), ("prior", "C.")]
    lines = context_lines(study, tokenizer, WriterRecipe(line_tokens=4, prior_tokens=0))
    assert [line.split(":")[0] for line in lines] == ["complaint", "history"]
    assert all(len(tokenizer(line.split(": ", 1)[1])["input_ids"]) <= 4 for line in lines)
    assert context_lines(study, tokenizer, WriterRecipe()) == []


def test_training_drops_every_part_on_its_own(rng: np.random.Generator) -> None:
    study = Study("s", events=(Event("TRIAGE//sbp", 1.0, 90.0), Event("HISTORY", None, None, "x")), priors=("A.",))
    recipe = WriterRecipe(drop_context=0.5, drop_all_context=0.2)
    seen = {(len(d.events), bool(d.priors)) for d in (dropped(study, recipe, rng) for _ in range(200))}
    assert seen == {(n, p) for n in (0, 1, 2) for p in (False, True)}


def test_a_chart_decides_what_no_signal_shows(rng: np.random.Generator) -> None:
    labels = np.zeros((300, len(CODES)), np.float32)
    labels[:, 0], labels[:, 1] = rng.random((2, 300)) < 0.4
    head, votes, chart = (np.zeros((300, len(CODES))) - 3 for _ in range(3))
    head[:, 0] = np.where(labels[:, 0] > 0, 2, -2) + rng.normal(0, 1, 300)
    votes[:] = 0
    chart[:] = rng.normal(0, 1, chart.shape)
    chart[:, 1] = np.where(labels[:, 1] > 0, 2.5, -2.5) + rng.normal(0, 1, 300)
    made = ChartEvidence.fit(head, votes, chart, labels)
    assert made.weights[2] + made.own[1] > made.weights[2] + made.own[0] + 0.3
    p = made.probabilities(head, votes, chart)
    assert p[labels[:, 1] > 0, 1].mean() > p[labels[:, 1] == 0, 1].mean() + 0.5
    again = ChartEvidence.restored(dict(made.stored()))  # type: ignore[arg-type]
    assert again is not None
    np.testing.assert_array_equal(again.own, made.own)
    assert ChartEvidence.restored({}) is None


@pytest.mark.parametrize(
    ("sentence", "tells_of_patient"),
    [
        ("Recorded after an episode of hypotension.", True), ("Recorded shortly after nitroglycerin.", True), ("Sinus rhythm.", False),
        ("Leadless pacemaker present by history, not pacing in this trace.", True), ("On apixaban.", True), ("Left axis deviation.", False),
    ],
)  # fmt: skip
def test_sentences_that_tell_of_the_patient(sentence: str, tells_of_patient: bool) -> None:
    assert tells(sentence, frozenset({"apixaban"})) == tells_of_patient


def test_the_guard_by_hand() -> None:
    text = "Recorded after an episode of fever."
    for given, moved, kept in ((False, 0.9, False), (True, 0.9, True), (True, -0.1, False), (True, None, False)):
        known = Known(given, {} if moved is None else {text: moved})
        findings = {"SR": Finding("SR", "Sinus rhythm", 0.9, 0.5, True)}
        basis = Basis(findings, frozenset({"SR"}), {"heart_rate": 70.0}, [], known=known)
        sentences, gone, _ = guard(f"Sinus rhythm. {text}", basis)
        assert (text in [s.text for s in sentences]) == kept
        assert (text in [s.text for s in gone]) != kept
        told = next(s for s in (*sentences, *gone) if s.text == text)
        assert told.only_told == kept
        assert not next(s for s in sentences if s.text == "Sinus rhythm.").only_told


def test_a_finding_of_the_chart_alone_says_so() -> None:
    sentence = Sentence("Digitalis effect.", "supported", "DIG", 0.8)
    made = in_the_light(sentence, Known(True, {"DIG": 1.5}, frozenset({"DIG"})))
    assert (made.told, made.only_told, made.status) == (1.5, True, "supported")


@pytest.mark.parametrize(
    ("sentence", "before", "right"),
    [
        ("Left bundle branch block is unchanged since the prior ECG.", {"CLBBB"}, True),
        ("Left bundle branch block is unchanged since the prior ECG.", {"SR"}, False),
        ("Left bundle branch block is new since the prior ECG.", {"SR"}, True),
        ("Left bundle branch block is new since the prior ECG.", {"CLBBB"}, False),
        ("Atrial fibrillation is no longer seen, compared with the prior ECG.", {"AFIB"}, True),
        ("Atrial fibrillation is no longer seen, compared with the prior ECG.", {"SR"}, False), ("Sinus rhythm.", set(), True),
    ],
)  # fmt: skip
def test_comparisons_are_about_what_the_prior_says(sentence: str, before: set[str], right: bool) -> None:
    assert (miscompared(sentence, frozenset(before)) is None) == right


def test_recipes_say_what_is_wrong(tiny_bundle: Path, tiny_data: Prepared, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'acuity'"):
        load(WriterRecipe, None, ["tasks=[draft, acuty]"])
    with pytest.raises(ConfigError, match="expected a folder of regen train context"):
        train_writer(WriterRecipe(context_tokens=4), tiny_data.path, tiny_bundle / "encoder", tiny_bundle / "index", tmp_path / "g", CPU)
