"""Charts as arrays and as tokens: hand-worked columns, missing never zero, times that arrive, charts that are too long."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from regen.encoders.chart import SOURCES, ChartVocabulary
from regen.encoders.chart_encoder import ChartBatch, ChartEncoder, tensors
from regen.encoders.chart_losses import Fusion, consistency, hidden_events, masked_events, subset
from regen.encoders.context_recipe import ContextRecipe
from regen.errors import ArtifactError
from regen.study import Event

VISIT = (
    Event("VITAL//sbp", 3.0, 70.0), Event("VITAL//heart_rate", 3.0, 110.0), Event("TRIAGE//sbp", 5.0, 130.0), Event("RHYTHM", 3.0, None, "Paced"),
    Event("MED//home//digoxin", None, None, "digitalis glycosides"), Event("MED//given//digoxin", 1.0), Event("COMPLAINT", 5.0, None, "Chest pain"),
)  # fmt: skip
OTHER = (Event("VITAL//sbp", 1.0, 110.0), Event("VITAL//heart_rate", 1.0, 90.0), Event("MED//home//aspirin"), Event("LAB//troponin//ng/l", 2.0, 14.0))
RECIPE = ContextRecipe(width=16, depth=1, heads=2, events=8)


@pytest.fixture
def vocabulary() -> ChartVocabulary:
    return ChartVocabulary.fit([VISIT, OTHER], least=1)


@pytest.fixture
def encoder(vocabulary: ChartVocabulary) -> ChartEncoder:
    torch.manual_seed(3)
    return ChartEncoder(vocabulary, RECIPE, 24).eval()


def batch(vocabulary: ChartVocabulary, *charts: tuple[Event, ...]) -> ChartBatch:
    return tensors(vocabulary.charts(charts, 8))


def test_a_vocabulary_by_hand(vocabulary: ChartVocabulary) -> None:
    assert vocabulary.numeric["sbp"] == (pytest.approx((70 + 130 + 110) / 3), pytest.approx(np.std([70, 130, 110])))
    assert vocabulary.numeric["heart_rate"] == (100.0, 10.0)
    assert vocabulary.numeric["LAB//troponin//ng/l"] == (14.0, 1e-3)
    assert vocabulary.categories == ("unknown", "class//digitalis glycosides", "med//aspirin", "med//digoxin", "rhythm//paced")
    assert vocabulary.medications == {"aspirin", "digoxin"}
    rare = ChartVocabulary.fit([VISIT, OTHER], least=2)
    assert (set(rare.numeric), rare.categories) == ({"sbp", "heart_rate"}, ("unknown",))


def test_a_chart_by_hand(vocabulary: ChartVocabulary) -> None:
    charts = vocabulary.charts([VISIT, OTHER, ()], 8)
    assert [SOURCES[i] for i in charts.source[0, :4]] == ["med_home", "triage", "vital", "med_given"], "without a time first, then older first"
    np.testing.assert_array_equal(charts.hours[0, :4], [np.nan, 5, 3, 1])
    names = list(vocabulary.numeric)
    vital = dict(zip(names, charts.values[0, 2], strict=True))
    assert vital["heart_rate"] == pytest.approx(1.0)
    assert charts.present[0, 2].tolist() == [name in ("sbp", "heart_rate") for name in names]
    assert {vocabulary.categories[i] for i in np.flatnonzero(charts.categories[0, 2])} == {"rhythm//paced"}
    assert {vocabulary.categories[i] for i in np.flatnonzero(charts.categories[0, 0])} == {"med//digoxin", "class//digitalis glycosides"}
    assert (charts.source[2] == -1).all()
    assert charts.cut.tolist() == [False] * 3


def test_what_training_never_saw_is_unknown(vocabulary: ChartVocabulary) -> None:
    charts = vocabulary.charts([(Event("MED//home//novel"), Event("VITAL//pain", 1.0, 3.0))], 8)
    assert charts.categories[0, :2, 0].all()
    assert not charts.present.any()


def test_the_newest_and_the_timeless_are_kept(vocabulary: ChartVocabulary) -> None:
    long = (Event("MED//home//digoxin"), *(Event("VITAL//sbp", float(hour), 100.0) for hour in range(1, 12)))
    charts = vocabulary.charts([long, OTHER], 4)
    np.testing.assert_array_equal(charts.hours[0], [np.nan, 3, 2, 1])
    assert charts.cut.tolist() == [True, False]


def test_a_missing_value_is_no_zero(vocabulary: ChartVocabulary, encoder: ChartEncoder) -> None:
    given = batch(vocabulary, VISIT)
    garbage = replace(given, values=torch.where(given.present > 0, given.values, torch.tensor(77.0)))
    torch.testing.assert_close(encoder(garbage).tokens, encoder(given).tokens, rtol=0, atol=0)
    mean = vocabulary.numeric["sbp"][0]
    at_mean, missing = (batch(vocabulary, (Event("VITAL//sbp", 1.0, value),)) for value in (mean, None))
    assert at_mean.values.abs().max() < 1e-6
    assert (encoder(at_mean).vector - encoder(missing).vector).abs().max() > 1e-4, "the mean and nothing measured are told apart"
    nan = batch(vocabulary, (Event("VITAL//sbp", 1.0, math.nan),))
    torch.testing.assert_close(encoder(nan).vector, encoder(missing).vector)


def test_times_arrive(vocabulary: ChartVocabulary, encoder: ChartEncoder) -> None:
    tokens = [encoder(batch(vocabulary, (Event("MED//given//digoxin", hours),))).tokens for hours in (0.5, 12.0, None)]
    apart = [(a - b).abs().max() for i, a in enumerate(tokens) for b in tokens[:i]]
    assert min(apart) > 1e-4
    embedding = encoder.embed(batch(vocabulary, (Event("MED//given//digoxin", 3.0),)))[0, 0]
    given = batch(vocabulary, (Event("MED//given//digoxin", 3.0),))
    content = torch.cat([given.values, given.present, given.categories], -1)[0, 0]
    parts = encoder.embed.content(content) + encoder.embed.source.weight[SOURCES.index("med_given")] + encoder.embed.time(torch.tensor([0.5]))
    torch.testing.assert_close(embedding, parts)


def test_padding_changes_nothing_and_vectors_are_unit(vocabulary: ChartVocabulary, encoder: ChartEncoder) -> None:
    alone, together = encoder(batch(vocabulary, OTHER)), encoder(batch(vocabulary, OTHER, VISIT, ()))
    torch.testing.assert_close(together.vector[:1], alone.vector)
    torch.testing.assert_close(together.logits[:1], alone.logits)
    torch.testing.assert_close(together.vector.norm(dim=1), torch.ones(3))
    assert (together.tokens[2] == 0).all()


def test_a_dropped_source_is_as_if_never_charted(vocabulary: ChartVocabulary, encoder: ChartEncoder) -> None:
    given = batch(vocabulary, VISIT)
    less = given.without(given.source == SOURCES.index("triage"))
    without = batch(vocabulary, tuple(e for e in VISIT if not e.code.startswith("TRIAGE")))
    torch.testing.assert_close(encoder(less).vector, encoder(without).vector)


def test_every_subset_is_drawn(vocabulary: ChartVocabulary, rng: np.random.Generator) -> None:
    given = batch(vocabulary, *[VISIT] * 400)
    some, deaf = subset(given, rng)
    kinds = [(tuple(row.tolist()), bool(d)) for row, d in zip(some.there[:, :4], deaf, strict=True)]
    assert len(set(kinds)) == 2**5


def test_masked_events_against_loops(vocabulary: ChartVocabulary, rng: np.random.Generator) -> None:
    given = batch(vocabulary, VISIT, OTHER)
    hide = hidden_events(given, 0.6, rng)
    assert hide.any()
    assert not (hide & ~given.there).any()
    values, logits = torch.randn(given.values.shape), torch.randn(given.categories.shape)
    error, entropy = masked_events(values, logits, given, hide)
    squares, sums = [], []
    for i, j in torch.nonzero(hide).tolist():
        squares += [float((values[i, j, k] - given.values[i, j, k]) ** 2) for k in range(values.shape[2]) if given.present[i, j, k]]
        p = torch.sigmoid(logits[i, j])
        sums.append(float(-(given.categories[i, j] * p.log() + (1 - given.categories[i, j]) * (1 - p).log()).mean()))
    assert float(error) == pytest.approx(np.mean(squares), rel=1e-4)
    assert float(entropy) == pytest.approx(np.mean(sums), rel=1e-4)


def test_consistency_stops_the_gradient_and_hidden_parts_do_not_count() -> None:
    torch.manual_seed(0)
    fusion, x, yes, no = Fusion(8), torch.randn(4, 8), torch.ones(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool)
    fusion.predict = torch.nn.Identity()  # type: ignore[assignment]
    assert float(consistency(fusion, x, x)) == pytest.approx(-1.0)
    assert float(consistency(fusion, x, -x)) == pytest.approx(1.0)
    whole = torch.randn(4, 8, requires_grad=True)
    part = torch.randn(4, 8, requires_grad=True)
    fusion.predict = torch.nn.Linear(8, 8)  # type: ignore[assignment]
    consistency(fusion, whole, part).backward()
    expected = torch.autograd.grad(-torch.cosine_similarity(fusion.predict(whole), part.detach(), dim=-1).mean() / 2, whole)[0]
    torch.testing.assert_close(whole.grad, expected)
    torch.testing.assert_close(fusion(x, x, no, yes), fusion(x + 5, x, no, yes))
    assert not torch.allclose(fusion(x, x, yes, yes), fusion(x + 5, x, yes, yes))


def test_a_vocabulary_survives_the_disk(vocabulary: ChartVocabulary, tmp_path: Path) -> None:
    vocabulary.save(tmp_path / "v.json")
    assert ChartVocabulary.load(tmp_path / "v.json") == vocabulary
    (tmp_path / "v.json").write_text("{}")
    with pytest.raises(ArtifactError, match="regen train context"):
        ChartVocabulary.load(tmp_path / "v.json")
