"""`regen eval report` on the tiny bundle: the system, its parts hidden, and the floors, in one table."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from regen.artifact import check_free_file
from regen.cli import main
from regen.data_prep.prepared import Prepared
from regen.errors import ArtifactError, ConfigError, DataError
from regen.evaluating.ends import check_split
from regen.evaluating.report import evaluate

ROWS = (
    "system", "system, ECG blanked", "system, retrieval blanked", "nearest in the encoder, not pre-trained", "peer", "random report",
)  # fmt: skip
COLUMNS = {"micro_f1", "macro_f1", "superclass_f1", "superclass_auc", "statement_auc", "bleu_1", "bleu_4", "rouge_l", "meteor", "copies"}


@pytest.fixture(scope="module")
def made(tiny_bundle: Path, tiny_data: Prepared, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The command run once: what it printed, and the JSON that it wrote."""
    folder = tmp_path_factory.mktemp("report")
    peer, out = folder / "peer.jsonl", folder / "table.json"
    rows = tiny_data.split("test").to_dicts()
    peer.write_text("".join(json.dumps({"study_id": r["study_id"], "report": "Sinus rhythm. Normal ECG."}) + "\n" for r in rows))
    words: list[str | Path] = [
        "eval",
        "report",
        peer,
        "--studies",
        tiny_data.path,
        "--split",
        "test",
        "--bundle",
        tiny_bundle,
        "--random-init",
        tiny_bundle / "encoder",
    ]
    words += ["--out", out, "--device", "cpu"]
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rich.console.Console.print", lambda self, *a, **k: printed.extend(str(x) for x in a))
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
    assert ended.value.code == 0
    return {"printed": "\n".join(printed), "json": out.read_text(), "path": str(out)}


def test_every_row_and_column_is_there(made: dict[str, str], tiny_data: Prepared) -> None:
    table = json.loads(made["json"])
    block = next(b for b in table["blocks"] if b["name"] == "all")
    assert block["n"] == len(tiny_data.split("test"))
    names = list(block["systems"])
    assert set(ROWS) <= set(names)
    floors = [name for name in names if name not in ROWS[:5]]
    assert len(floors) >= 7, floors
    for row in block["systems"].values():
        assert set(row) >= COLUMNS - {"superclass_auc", "statement_auc"}
    assert set(block["systems"]["system"]) >= COLUMNS
    system = block["systems"]["system"]["micro_f1"]
    assert 0 <= system["low"] <= system["value"] <= system["high"] <= 1


def test_the_same_encoder_twice_scores_the_same(made: dict[str, str]) -> None:
    """The encoder that stands in for the one without pre-training here is the system's own."""
    rows = json.loads(made["json"])["blocks"][0]["systems"]
    values = [rows[name]["rouge_l"]["value"] for name in ("nearest in the encoder", "nearest in the encoder, not pre-trained")]
    assert values[0] == values[1]
    assert not math.isnan(values[0])


def test_hiding_a_part_changes_the_score(made: dict[str, str]) -> None:
    rows = json.loads(made["json"])["blocks"][0]["systems"]
    values = {name: rows[name]["statement_auc"]["value"] for name in ROWS[:3]}
    assert values["system, ECG blanked"] < values["system"]
    assert 0 <= values["system, retrieval blanked"] <= 1


def test_the_comparison_with_each_floor_is_printed(made: dict[str, str]) -> None:
    for name in ("system, ECG blanked", "system, retrieval blanked", "random report", "peer"):
        assert f"system minus {name}: set micro-F1" in made["printed"]
    assert "reference reports do not read back" in made["printed"]


def test_the_training_split_is_refused(tiny_bundle: Path, tiny_data: Prepared) -> None:
    with pytest.raises(ConfigError, match="--split train: the index holds those studies; expected val or test"):
        evaluate(tiny_data.path, "train", [], str(tiny_bundle), None, None, None, "cpu", 0, False)
    with pytest.raises(ConfigError, match=r"tset.*did you mean 'test'"):
        check_split("tset")


def test_an_output_that_exists_is_refused_before_anything_runs(made: dict[str, str], tiny_data: Prepared) -> None:
    path = Path(made["path"])
    with pytest.raises(ArtifactError, match="exists already"):
        evaluate(tiny_data.path, "test", [], "no such bundle", None, None, path, "cpu", 0, False)
    check_free_file(path, force=True)


def test_drafts_that_are_not_there_are_said(tiny_bundle: Path, tiny_data: Prepared, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl: expected predictions as JSON lines or CSV"):
        evaluate(tiny_data.path, "test", [tmp_path / "none.jsonl"], str(tiny_bundle), None, None, None, "cpu", 0, False)


def test_a_folder_holds_metrics_predictions_and_a_card(tiny_bundle: Path, tiny_data: Prepared, tmp_path: Path) -> None:
    peer, out = tmp_path / "peer.csv", tmp_path / "card"
    rows = tiny_data.split("test").to_dicts()
    peer.write_text("id,text\n" + "".join(f"{r['study_id']},Sinus rhythm.\n" for r in rows))
    names = {"study_id": "id", "report": "text"}
    first = evaluate(tiny_data.path, "test", [peer], str(tiny_bundle), None, None, out, "cpu", 0, False, names)
    assert first.systems[0] == "system"
    assert first.systems[3] == "peer"
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics == json.loads(json.dumps(first.to_dict())) | {"split": "test", "bundle": str(tiny_bundle)}
    page = (out / "card.html").read_text()
    assert page.count("<svg") >= 3 + 3
    assert "Drawn at random" in page
    assert not re.findall(r"(?:src|href)=.https?:", page)
    kept = sorted((out / "predictions").iterdir())
    assert len(kept) == len(first.systems)
    again = evaluate(tiny_data.path, "test", kept[:1], None, None, None, tmp_path / "again.json", "cpu", 0, False)
    before, after = first.block("all").rows["system"], again.block("all").rows[kept[0].stem]
    assert {c: v.value for c, v in after.items()} == pytest.approx({c: v.value for c, v in before.items()}, abs=1e-4, nan_ok=True)
    with pytest.raises(ArtifactError, match="exists"):
        evaluate(tiny_data.path, "test", [peer], None, None, None, out, "cpu", 0, False, names)
