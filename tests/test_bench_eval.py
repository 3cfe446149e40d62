"""`regen bench eval`: both sides give the same values, and the lines say what was measured."""

from __future__ import annotations

import pytest

from regen.data_prep.prepared import Prepared
from regen.eval import bench_eval


def test_both_sides_agree(tiny_data: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_eval, "_MEMORY_AT", (4, 8))
    result = bench_eval.bench(tiny_data.path, 60, 5, 1)
    assert max(result["apart"].values()) < 1e-6
    assert 0.3 < result["values"]["rouge_l"] < 1, "half of the drafts are another study's"
    assert result["values"]["micro_f1_low"] < result["values"]["micro_f1"] < result["values"]["micro_f1_high"]
    assert list(result["peak_mib"]) == ["4", "8"]
    text = "\n".join(bench_eval.lines(result))
    assert "60 drafts, 5 draws" in text
    assert "8 drafts" in text


def test_drafts_are_half_right(tiny_data: Prepared) -> None:
    references, made = bench_eval.drawn(tiny_data.path, 40)
    assert made.reports[::2] == references.reports[::2]
    assert made.reports[1::2] != references.reports[1::2]
    assert bench_eval.drawn(tiny_data.path, 40)[1].reports == made.reports
