"""`regen eval text`: trained metrics over files of drafts, with the weights named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_learned_metrics import bert  # noqa: F401

from regen.artifact import file_digest
from regen.data_prep.prepared import Prepared
from regen.errors import ConfigError, DataError
from regen.evaluating.learned import evaluate_text


def write(path: Path, drafts: dict[str, str]) -> Path:
    path.write_text("".join(json.dumps({"study_id": study, "report": text}) + "\n" for study, text in drafts.items()))
    return path


def test_gold_scores_one_and_files_are_compared(bert: Path, tiny_data: Prepared, tmp_path: Path) -> None:  # noqa: F811
    rows = tiny_data.split("test")
    truth = dict(zip(rows["study_id"], rows["report"], strict=True))
    gold, short = write(tmp_path / "gold.jsonl", truth), write(tmp_path / "short.jsonl", dict(list(truth.items())[:3]))
    out = tmp_path / "t.json"
    made = evaluate_text([gold, short], tiny_data.path, "test", [f"bertscore={bert}"], None, out, "cpu", 0, False, draws=20)
    assert made.rows["gold"]["bertscore"].value == pytest.approx(1, abs=1e-5)
    assert made.rows["short"]["bertscore"].value == pytest.approx(3 / len(truth), abs=1e-5)
    assert made.missing == {"gold": 0, "short": len(truth) - 3}
    stored = json.loads(out.read_text())
    assert stored["weights"]["bertscore"]["model.safetensors"] == file_digest(bert / "model.safetensors")
    assert stored["n"] == len(truth)


def test_what_is_wrong_is_said(tiny_data: Prepared, tmp_path: Path) -> None:
    foreign = write(tmp_path / "x.jsonl", {"nobody": "x"})
    with pytest.raises(ConfigError, match="expected at least one"):
        evaluate_text([foreign], tiny_data.path, "test", [], None, None, "cpu", 0, False)
    green = tmp_path / "g.csv"
    green.write_text("reference,predictions,green\na,b,0.5\n")
    with pytest.raises(DataError, match="got none of them"):
        evaluate_text([foreign], tiny_data.path, "test", [f"green={green}"], None, None, "cpu", 0, False)
    with pytest.raises(ConfigError, match="different names"):
        evaluate_text([foreign, foreign], tiny_data.path, "test", [f"green={green}"], None, None, "cpu", 0, False)
