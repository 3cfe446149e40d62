"""The contracts that flow between the stages."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from regen.errors import DataError
from regen.study import DISCLAIMER, LEADS, Draft, Ecg, Evidence, Finding, Hit, Sentence, Study


def zeros(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("signal", "fs", "named"),
    [
        (zeros(1000, 12), 500.0, r"\(12, time\).*\(1000, 12\).*to_twelve"),
        (zeros(12), 500.0, r"\(12,\)"),
        (zeros(2, 12, 9), 500.0, r"\(2, 12, 9\)"),
        (zeros(12, 9, dtype="float64"), 500.0, "float32.*float64"),
        (zeros(12, 9, dtype="int16"), 500.0, "float32.*int16"),
        (zeros(12, 9), 0.0, "above 0 Hz, got 0"),
        (zeros(12, 9), -500.0, "above 0 Hz, got -500"),
        (zeros(12, 9), float("nan"), "above 0 Hz, got nan"),
        (zeros(12, 9), float("inf"), "above 0 Hz, got inf"),
    ],
)
def test_ecg_refuses_another_shape_unit_or_rate(signal: np.ndarray, fs: float, named: str) -> None:
    with pytest.raises(DataError, match=named):
        Ecg(signal, fs)


def test_ecg_knows_its_length_and_which_leads_are_there() -> None:
    signal = zeros(12, 5000)
    signal[3] = np.nan
    signal[5, :4999] = np.nan
    ecg = Ecg(signal, 500.0)
    assert ecg.seconds == 10.0
    assert [lead for lead, there in zip(LEADS, ecg.present) if not there] == ["aVR"]


def test_studies_are_frozen_and_missing_is_none() -> None:
    study = Study("s1")
    assert (study.subject_id, study.ecg, study.report, study.statements, study.age) == (None,) * 5
    with pytest.raises(FrozenInstanceError):
        study.report = "x"  # type: ignore[misc]


def test_a_draft_is_plain_json_with_the_documented_keys() -> None:
    draft = Draft(
        study_id="s1",
        subject_id=None,
        report="Sinus rhythm.",
        sentences=(Sentence("Sinus rhythm.", "supported", "SR", 0.97, (Evidence("s2", 0.9),)),),
        findings=(Finding("SR", "Sinus rhythm", 0.97, 0.5, True),),
        neighbours=(Hit("s2", 0.9, "Sinus rhythm.", statements={"SR": 1.0}, subject_id="p2", rank=1),),
        flags=("lead_missing:V6",),
        measured={"heart_rate": 61.0, "pr": None},
        bundle="starter",
        timing_ms={"read": 1.5},
    )
    out = json.loads(json.dumps(draft.to_dict(), allow_nan=False))
    assert {"study_id", "subject_id", "report", "sentences", "findings", "neighbours", "flags", "measured", "bundle", "timing_ms"} <= out.keys()
    assert out["findings"] == [{"code": "SR", "label": "Sinus rhythm", "probability": 0.97, "threshold": 0.5, "positive": True}]
    assert out["sentences"][0]["evidence"] == [{"study_id": "s2", "score": 0.9}]
    assert out["neighbours"] == [{"study_id": "s2", "score": 0.9, "report": "Sinus rhythm."}]
    assert out["disclaimer"] == DISCLAIMER
    assert "physician" in out["disclaimer"]
