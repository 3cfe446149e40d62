"""Which leads and seconds moved a statement: an encoder that hears two known cells, a page that shows them, and the command that checks them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_page import checked, draft_of

from regen.data_prep.prepared import Prepared
from regen.data_prep.statements import CODES
from regen.data_prep.synthetic_cohort import make_study
from regen.draft_maps import denied, draft_maps
from regen.ecg_marks import grid, leads_of, shade
from regen.encoders.ecg_map import hiding_check, statement_maps
from regen.errors import ConfigError, DataError
from regen.evaluating.maps import evaluate_maps
from regen.page import write_page
from regen.pipeline import Pipeline
from regen.study import FloatArray, Sentence

ONES = np.ones((12, 1000), np.float32)
NONE = np.zeros(3, np.float32)


class Listens:
    """AFIB rises by the mean of V2's fourth second, LVH falls by that of lead I's first, SR never moves."""

    ecg = SimpleNamespace(config=SimpleNamespace(fs=100.0))

    def encode(self, signals: FloatArray, measures: FloatArray) -> tuple[Any, FloatArray, Any]:
        assert len(measures) == len(signals)
        heard = np.nan_to_num(signals)
        odds = np.zeros((len(signals), len(CODES)))
        odds[:, CODES.index("AFIB")] = heard[:, 7, 300:400].mean(1)
        odds[:, CODES.index("LVH")] = -heard[:, 0, :100].mean(1)
        return None, (1 / (1 + np.exp(-odds))).astype(np.float32), torch.zeros(0)


HEARS: Any = Listens()


def test_a_map_shows_lead_and_second_and_what_was_not_recorded() -> None:
    signal = ONES.copy()
    signal[11] = np.nan
    signal[3, :150] = np.nan
    before = signal.copy()
    maps = statement_maps(HEARS, signal, NONE, ["AFIB", "LVH", "SR"])
    np.testing.assert_array_equal(signal, before)
    assert (maps.shape, maps.dtype) == ((3, 12, 10), np.float32)
    assert [np.argwhere(heat == 1).tolist() for heat in maps] == [[[7, 3]], [], []]
    silent = np.zeros((12, 10), np.bool_)
    silent[11], silent[3, 0] = True, True
    assert (np.isnan(maps) == silent).all()
    assert np.nansum(maps) == 1
    assert statement_maps(HEARS, signal, NONE, []).shape == (0, 12, 10)


def test_of_what_is_denied_the_map_shows_what_speaks_against_it() -> None:
    maps = statement_maps(HEARS, ONES, NONE, ["AFIB", "LVH"], [True, True])
    assert [np.argwhere(heat == 1).tolist() for heat in maps] == [[], [[0, 0]]]


def test_what_is_no_recording_or_no_statement_is_refused() -> None:
    for shape in ((11, 1000), (12, 1050), (1000,), (12, 0)):
        with pytest.raises(DataError, match="expected \\(12, 100 x seconds\\)"):
            statement_maps(HEARS, np.ones(shape, np.float32), NONE, ["AFIB"])
    with pytest.raises(ConfigError, match="did you mean 'AFIB'"):
        statement_maps(HEARS, ONES, NONE, ["AFIBB"])
    with pytest.raises(DataError, match="expected maps of"):
        hiding_check(HEARS, ONES, NONE, ["AFIB"], np.zeros((1, 12, 9), np.float32), np.random.default_rng(0))


def test_the_check_by_hand() -> None:
    """Hiding V2's fourth second costs one logit. Two draws, one on the spot, one elsewhere: half a logit is left of it."""
    right = np.zeros((1, 12, 10), np.float32)
    right[0, 7, 3] = 1
    steps = iter([np.array([0, 2]), np.array([0, 1])])
    rng: Any = SimpleNamespace(integers=lambda low, high, n: next(steps))
    assert hiding_check(HEARS, ONES, NONE, ["AFIB"], right, rng, draws=2)[0] == pytest.approx(0.5, abs=1e-6)


def test_the_check_tells_a_right_map_from_a_wrong_one_and_leaves_unrecorded_leads_out() -> None:
    signal = ONES.copy()
    signal[8:] = np.nan
    right, wrong = np.zeros((2, 12, 10), np.float32)
    right[7, 3] = wrong[2, 2] = 1
    maps = np.stack([right, wrong, 0 * right])
    made = hiding_check(HEARS, signal, NONE, ["AFIB"] * 3, maps, np.random.default_rng(1))
    assert made[0] > 0
    assert made[1] <= 0
    assert np.isnan(made[2]), "nothing was claimed"
    seen: list[int] = []
    rng: Any = SimpleNamespace(integers=lambda low, high, n: seen.append(high) or np.zeros(n, int))
    hiding_check(HEARS, signal, NONE, ["AFIB"], maps[:1], rng)
    assert seen == [8, 10]


def test_shades_stand_where_the_paper_shows_the_second() -> None:
    heat = np.zeros((12, 10), np.float32)
    heat[6, 5], heat[6, 7], heat[6, 9] = 1.0, 0.5, 1.0
    made = shade(heat, ("V1", 5.0, 7.5), 140.0, 30, 25.0)
    assert made.count("<rect") == 2
    assert '<rect x="140" y="18" width="25"' in made
    assert '<rect x="190" y="18" width="12.5"' in made
    assert shade(heat, ("V2", 5.0, 7.5), 140.0, 30, 25.0) == ""
    heat[1] = np.nan
    assert grid(heat).count("<rect") == 3 + 1
    assert grid(heat).count("l1 1") == 10


def test_leads_are_named_until_half_of_the_map_is_told() -> None:
    heat = np.zeros((12, 10), np.float32)
    heat[0, 0], heat[7, :3], heat[8, 1] = 1, 1, 0.5
    assert leads_of(heat) == "V2"
    heat[0, :2], heat[8, :2] = 1, 0.75
    heat[11] = np.nan
    assert leads_of(heat) == "V2, I"


def test_the_page_shows_the_maps_of_the_sentences_that_have_one(tmp_path: Path) -> None:
    study = make_study((1, 0))
    draft = draft_of(study)
    maps = np.zeros((len(draft.sentences), 12, 10), np.float32)
    maps[1, 7, 5] = 1
    html, checker = checked(write_page([(study, draft)], tmp_path, "t", "n", {study.study_id: [maps]}))
    assert html.count('class="heat m1"') == 1
    assert 'class="heat m0"' not in html
    assert html.count('class="cells"') == 1
    assert "moved most by V2" in checker.text
    assert "img-src" not in html
    plain, _ = checked(write_page([(study, draft)], tmp_path / "plain", "t", "n"))
    assert "heat" not in plain
    assert 'class="cells"' not in plain


def test_a_draft_has_maps_where_a_probability_measures_the_sentence(pipeline: Pipeline) -> None:
    study = make_study((1, 0))
    draft = pipeline.draft(study)
    said = (
        Sentence("Sinus rhythm.", "supported", "SR", 0.9),
        Sentence("Electronic pacemaker.", "uncertain"),
        Sentence("No left ventricular hypertrophy.", "supported", "LVH", 0.9),
    )
    assert [denied(s) for s in said] == [False, False, True]
    (maps,) = draft_maps(pipeline.space, study, replace(draft, sentences=said))
    assert maps.shape == (3, 12, 10)
    assert not maps[1].any()
    assert draft_maps(pipeline.space, study, replace(draft, sentences=said[1:2])) == []
    assert draft_maps(pipeline.space, study, replace(draft, sentences=())) == []


def test_eval_maps_takes_ecgs(tiny_data: Prepared, tiny_bundle: Path, tmp_path: Path) -> None:
    made = [evaluate_maps(tiny_data.path, "test", str(tiny_bundle), 5, tmp_path / f"{i}.json", "cpu", 0, False, draws=20) for i in range(2)]
    assert (tmp_path / "0.json").read_text() == (tmp_path / "1.json").read_text()
    assert json.loads((tmp_path / "0.json").read_text())["modality"] == "ecg"
    assert made[0].n > 0
    assert 0 < made[0].patients <= 5
    with pytest.raises(ConfigError, match="--modality cxr"):
        evaluate_maps(tiny_data.path, "test", str(tiny_bundle), 5, None, "cpu", 0, False, modality="cxr")
