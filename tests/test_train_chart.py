"""Training the chart encoder: it learns what only the chart tells, goes on where it stopped, and says what it cannot use."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from models import CPU

from regen.artifact import load_manifest
from regen.data_prep.prepared import Prepared, study_from
from regen.data_prep.study_context import only, with_context
from regen.encoders.chart import ChartVocabulary
from regen.encoders.chart_encoder import ChartEncoder, load_chart
from regen.encoders.chart_losses import Fusion
from regen.encoders.context_recipe import ContextRecipe
from regen.encoders.space import load_space
from regen.encoders.train_chart import LOSSES, fit, load_material, train_context
from regen.errors import ArtifactError, DataError

RECIPE = ContextRecipe(width=32, depth=1, heads=2, events=16, epochs=4, batch=16, least=3, rate=3e-3, ema=0.9)


@pytest.fixture(scope="module")
def context_folder(ed_data: Prepared, ed_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("context") / "context"
    train_context(RECIPE, ed_data.path, ed_encoder, out, CPU)
    return out


def test_studies_get_events_and_priors_from_before_them(ed_data: Prepared) -> None:
    rows = ed_data.studies.sort("time")
    studies = with_context(ed_data, [study_from(row, None, ed_data.fs) for row in rows.to_dicts()])
    charted = [s for s in studies if s.events]
    assert len(charted) > 100
    assert all(e.hours is None or e.hours > 0 for s in charted for e in s.events)
    by_subject: dict[str | None, list[str]] = {}
    for study in studies:
        assert list(study.priors) == by_subject.get(study.subject_id, [])[-2:]
        by_subject.setdefault(study.subject_id, []).append(study.report or "")
    assert sum(bool(s.priors) for s in studies) >= 20
    least = only(charted[0], ())
    assert (least.events, least.priors, least.ecg) == ((), (), charted[0].ecg)
    assert {e.code.split("//")[0] for e in only(charted[0], {"triage"}).events} == {"TRIAGE", "COMPLAINT"}


def test_the_folder_says_what_it_is_and_loads(context_folder: Path, ed_encoder: Path) -> None:
    encoder, fingerprint = load_chart(context_folder)
    assert fingerprint == load_manifest(ed_encoder, "encoder")["fingerprint"]
    assert {"chart.safetensors", "vocabulary.json", "chart.json", "curves.png"} <= set(load_manifest(context_folder, "context")["files"])
    assert "digoxin" in encoder.vocabulary.medications
    assert not encoder.training
    with pytest.raises(ArtifactError):
        load_chart(ed_encoder)


def test_it_learns(ed_data: Prepared, ed_encoder: Path) -> None:
    """Every loss falls below what a chart encoder that ignores the chart reaches at its start."""
    towers = load_space(ed_encoder).ecg
    assert towers is not None
    train = load_material(ed_data, "train", towers, ed_encoder.parent)
    torch.manual_seed(1)
    vocabulary = ChartVocabulary.fit(train.events, 3)
    encoder, fusion = ChartEncoder(vocabulary, RECIPE, 64), Fusion(64)
    curve = fit(encoder, fusion, train, train, RECIPE, ed_encoder.parent, CPU, lambda items, title: items)
    first, last = curve.rows[0], curve.rows[-1]
    assert all(last[name] < first[name] for name in ("categories", "contrast", "statements", "consistency", "validation_statements"))


class _Stopped(Exception):
    pass


def test_a_stopped_training_ends_with_the_same_weights(ed_data: Prepared, ed_encoder: Path, context_folder: Path, tmp_path: Path) -> None:
    def stopping(items: Iterable[int], title: str) -> Iterable[int]:
        for item in items:
            if item == 2:
                raise _Stopped
            yield item

    with pytest.raises(_Stopped):
        train_context(RECIPE, ed_data.path, ed_encoder, tmp_path / "c", CPU, progress=stopping)
    lines = [json.loads(line) for line in (tmp_path / ".c.partial" / "scratch" / "context.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert set(lines[0]) == {*LOSSES, "validation_statements"}
    train_context(RECIPE, ed_data.path, ed_encoder, tmp_path / "c", CPU)
    assert (tmp_path / "c" / "chart.safetensors").read_bytes() == (context_folder / "chart.safetensors").read_bytes()


def test_a_folder_without_events_is_refused(tiny_data: Prepared, ed_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a prepared folder with events"):
        train_context(RECIPE, tiny_data.path, ed_encoder, tmp_path / "c", CPU)
