"""Predictions of other systems: JSON lines and CSV, columns of any name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from regen.errors import ConfigError, DataError
from regen.eval.imported import parse_columns, read_predictions
from regen.eval.predictions import Predictions, References, read_sets


def test_a_peers_csv_with_other_names_and_line_breaks_in_a_cell(tmp_path: Path) -> None:
    path = tmp_path / "peer.csv"
    path.write_text('dicom,generated,score\n7,"Sinus rhythm.\nNormal, ""ECG"".",0.5\n', encoding="utf-8-sig")
    rows = read_predictions(path, parse_columns("study_id=dicom, report=generated"))
    assert rows == [{"dicom": "7", "generated": 'Sinus rhythm.\nNormal, "ECG".', "score": "0.5", "study_id": "7", "report": rows[0]["generated"]}]


def test_json_lines_keep_their_findings(tmp_path: Path) -> None:
    path = tmp_path / "peer.jsonl"
    path.write_text('{"id": 3, "report": "", "findings": [{"code": "NORM", "probability": 0.5}]}\n\n', encoding="utf-8")
    assert read_predictions(path, {"study_id": "id"})[0]["findings"] == [{"code": "NORM", "probability": 0.5}]
    assert read_predictions(path, {"study_id": "id"})[0]["study_id"] == "3"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "id,report\n1,x\n", "expected the columns study_id, got id, report; name them with --columns"),
        ("a.csv", "study_id,report\n1\n", "line 2: expected 2 cells, got 1"),
        ("a.csv", "study_id,report\n", "the file holds none"),
        ("a.csv", "study_id,report\n1,Sinus rhythm, normal\n", "line 2: expected 2 cells, got 3; put text that holds a comma"),
        ("a.csv", 'study_id,report\n1,"Sinus\n', "expected a CSV table"),
        ("a.csv", "study_id,report,report\n1,a,b\n", "expected every column once"),
        ("a.jsonl", '{"study_id": "1", "report": NaN}\n', "line 1: expected report as text, got nan"),
        ("a.jsonl", '{"study_id": ["1"], "report": "x"}\n', "line 1: expected study_id as text"),
        ("a.jsonl", "[1]\n", "line 1: expected a JSON object"),
        ("a.jsonl", "{\n", "line 1: expected a JSON object"),
        ("a.jsonl", '{"study_id": "1"}\n', "line 1: expected report"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=says):
        read_predictions(tmp_path / name)


def test_no_such_file(tmp_path: Path) -> None:
    for name, says in (("none.csv", "no such file"), ("none.jsonl", "could not read the file")):
        with pytest.raises(DataError, match=says):
            read_predictions(tmp_path / name)


def test_bad_columns() -> None:
    assert parse_columns("") == {}
    with pytest.raises(ConfigError, match="did you mean 'study_id'"):
        parse_columns("study=x")
    with pytest.raises(ConfigError, match="expected FIELD=COLUMN"):
        parse_columns("report")


@pytest.mark.parametrize(
    "findings", [5, "SR", {"SR": 0.5}, ["SR"], [{"code": "SR"}], [{"code": "SR", "probability": 7}], [{"code": "SR", "probability": float("nan")}],
                 [{"code": ["SR"], "probability": 0.5}], [{"code": "SR", "probability": 0.5, "positive": "false"}]],
)  # fmt: skip
def test_findings_are_checked(findings: object) -> None:
    references = References(["1"], [None], ["Sinus rhythm."], ["en"], read_sets(["Sinus rhythm."]), np.ones(1, np.bool_))
    with pytest.raises(DataError, match="peer, 1: expected findings as a list of code, probability from 0 to 1"):
        Predictions.from_drafts("peer", [{"study_id": "1", "report": "x", "findings": findings}], references)


def test_what_is_declared_without_probabilities() -> None:
    references = References(["1"], [None], ["Sinus rhythm."], ["en"], read_sets(["Sinus rhythm."]), np.ones(1, np.bool_))
    made = Predictions.from_drafts("peer", [{"study_id": "1", "report": "x", "declared": ["SR", "nothing"]}], references)
    assert made.declared is not None
    assert (made.declared == references.statements).all()
    assert made.probabilities is None


TWO = References(["1", "2"], [None, None], ["Sinus rhythm."] * 2, ["en", "en"], read_sets(["Sinus rhythm."] * 2), np.ones(2, np.bool_))


def test_sentences_that_are_no_list_are_refused() -> None:
    with pytest.raises(DataError, match="peer, 1: expected sentences as a list of text and status, got abc"):
        Predictions.from_drafts("peer", [{"study_id": "1", "report": "x", "sentences": "abc"}], TWO)


def test_what_is_not_scored_is_said(caplog: pytest.LogCaptureFixture) -> None:
    whole = {"study_id": "1", "report": "x", "findings": [{"code": "NORM", "probability": 0.9}, {"code": "XYZ", "probability": 0.9}]}
    Predictions.from_drafts("peer", [whole, {"study_id": "2", "report": "x", "findings": None}], TWO)
    assert "peer: 1 findings are of codes that are no SCP statements, and not scored: XYZ (1)" in caplog.text
    assert "peer: 1 drafts give no findings, which counts as none found" in caplog.text
    caplog.clear()
    Predictions.from_drafts("peer", [{"study_id": "1", "report": "x"}, {"study_id": "2", "report": "x"}], TWO)
    assert not caplog.text, "a system that declares nothing is no case of it"
