"""`evaluate_findings` on the tiny bundle, and how drafts become answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from regen.data_prep.prepared import Prepared
from regen.data_prep.statements import CODES
from regen.errors import ArtifactError, ConfigError, DataError
from regen.eval.finding_table import TITLES, FindingTable
from regen.eval.predictions import References
from regen.eval.set_metrics import FEW, macro_auc
from regen.evaluating.ends import stated
from regen.evaluating.findings import BASELINE, evaluate_findings, from_drafts, hand_made, to_markdown
from regen.pipeline import Pipeline

IMI, SR = CODES.index("IMI"), CODES.index("SR")


def finding(code: str, probability: Any, **more: Any) -> dict[str, Any]:
    return {"code": code, "probability": probability} | more


def draft(study: str, *findings: Any) -> dict[str, Any]:
    return {"study_id": study, "report": "", "findings": list(findings)}


@pytest.fixture
def three() -> References:
    return References(["a", "b", "c"], ["p"] * 3, [""] * 3, [None] * 3, np.zeros((3, len(CODES)), bool), np.ones(3, bool))


def test_a_finding_is_said_at_its_own_threshold(three: References) -> None:
    drafts = [
        draft("b", finding("IMI", 0.3, threshold=0.3, positive=False), finding("SR", 0.29, threshold=0.3, positive=True)),
        draft("a", finding("IMI", 0.1, positive=True), finding("SR", 0.9, positive=False), finding("not ours", 0.5, threshold=0.1)),
        draft("elsewhere", finding("IMI", 1.0, threshold=0.1)),
    ]
    made = from_drafts("peer", drafts, three)
    assert made.said[:, IMI].tolist() == [True, True, False]
    assert made.said[:, SR].tolist() == [False, False, False]
    assert made.probabilities[:, SR].tolist() == pytest.approx([0.9, 0.29, 0.0])
    assert (made.said.sum(), made.missing, made.name) == (2, 1, "peer")


FORM = "expected findings as a list of code, probability from 0 to 1 and positive"


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"code": "IMI"}, f"{FORM}.*got {{'code': 'IMI'}}"),
        ("IMI", f"{FORM}.*got IMI"),
        (finding("IMI", 0.4), "expected a threshold or positive, got neither"),
        (finding("IMI", 40, threshold=0.5), f"{FORM}.*got .*'probability': 40"),
        (finding("IMI", float("nan"), threshold=0.5), f"{FORM}.*got .*'probability': nan"),
        (finding("IMI", "0.4", positive=True), f"{FORM}.*got .*'probability': '0.4'"),
        (finding("IMI", True, positive=True), f"{FORM}.*got .*'probability': True"),
        (finding("IMI", 0.4, threshold=-1), r"expected a threshold in \[0, 1\], got -1"),
    ],
)
def test_a_damaged_finding_is_refused_with_its_study(three: References, found: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"peer, b.*{message}"):
        from_drafts("peer", [draft("b", found)], three)


def test_drafts_without_findings_or_of_other_studies_are_refused(three: References) -> None:
    with pytest.raises(DataError, match="peer: expected findings with probabilities in the drafts, got none"):
        from_drafts("peer", [draft("a"), {"study_id": "b", "report": "Sinus rhythm."}], three)
    with pytest.raises(DataError, match="peer: expected drafts of the studies to score"):
        from_drafts("peer", [draft("x", finding("SR", 0.5, positive=True))], three)


def run(data: Path, bundle: str, predictions: Path | None, out: Path | None, **more: Any) -> tuple[FindingTable, str]:
    """The function with what it printed."""
    printed: list[str] = []

    def keep(self: Any, *items: Any, **options: Any) -> None:
        for item in items:
            columns = getattr(item, "columns", None)
            printed.append(str(item) if columns is None else f"{item.title}\n" + "\n".join(" ".join(map(str, column.cells)) for column in columns))

    options = {"split": "test", "language": None, "device": "cpu", "seed": 0, "force": False, "draws": 40} | more
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rich.console.Console.print", keep)
        made = evaluate_findings(data, bundle=bundle, predictions=predictions, out=out, **options)
    return made, "\n".join(printed)


@pytest.fixture(scope="module")
def made(tiny_bundle: Path, tiny_data: Prepared, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FindingTable, str]:
    out = tmp_path_factory.mktemp("findings") / "table.json"
    return out, *run(tiny_data.path, str(tiny_bundle), None, out)


def test_every_stratum_statement_and_metric_is_there(made: tuple[Path, FindingTable, str], tiny_data: Prepared) -> None:
    table = json.loads(made[0].read_text())
    rows = tiny_data.split("test")
    block = table["blocks"][0]
    assert (table["split"], block["name"], block["n"]) == ("test", "all", len(rows))
    assert block["patients"] == rows["subject_id"].n_unique()
    names = [b["name"] for b in table["blocks"]]
    assert {"new in training", "not NORM", "new and not NORM", "sex female", "sex male"} <= set(names)
    assert sum(b["n"] for b in table["blocks"] if b["name"].startswith("sex ")) == len(rows)
    assert list(block["systems"]) == ["system", BASELINE]
    for row in block["systems"].values():
        assert set(row) == set(TITLES) | {f"superclass_{key}" for key in TITLES}
        assert 0 <= row["auroc"]["low"] <= row["auroc"]["value"] <= row["auroc"]["high"] <= 1
    assert [one["code"] for one in table["statements"]] == list(CODES)
    positives = [one["positives"] for one in table["statements"]]
    assert block["statements_in_macro"] == sum(count >= FEW for count in positives) > 0


def test_the_floor_is_not_one_to_fall_under(made: tuple[Path, FindingTable, str]) -> None:
    """Synthetic recordings are drawn from their statements: a ruler must see them."""
    row = made[1].blocks[0].rows[BASELINE]
    assert row["auroc"].value > 0.7
    assert row["specificity"].value > 0.5


def test_drafts_of_the_bundle_score_as_the_bundle_itself(
    made: tuple[Path, FindingTable, str], pipeline: Pipeline, tiny_data: Prepared, tmp_path: Path
) -> None:
    from regen.batch import line, prepared_studies

    rows, references = stated(tiny_data, "test")
    drafts = list(pipeline.drafts(prepared_studies(tiny_data, rows)))
    path, out = tmp_path / "mine.jsonl", tmp_path / "table.md"
    path.write_text("".join(line(each) for each in reversed(drafts)))
    again, _ = run(tiny_data.path, "no such bundle", path, out)
    assert again.systems == ("mine", BASELINE)
    for key in TITLES:
        assert again.blocks[0].rows["mine"][key].value == pytest.approx(made[1].blocks[0].rows["system"][key].value, nan_ok=True)
    probabilities = np.zeros(references.statements.shape)
    for i, each in enumerate(drafts):
        for f in each.findings:
            probabilities[i, CODES.index(f.code)] = f.probability
    assert again.blocks[0].rows["mine"]["auroc"].value == pytest.approx(macro_auc(probabilities, references.statements)[0], abs=1e-6)
    text = out.read_text()
    assert "| studies | n | patients | covered | system | AUROC | AUPRC |" in text
    assert "| all | " in text
    assert "nan" not in text


def test_what_is_printed_names_strata_and_the_gap(made: tuple[Path, FindingTable, str]) -> None:
    printed = made[2]
    assert f"system minus {BASELINE}, all: AUROC " in printed
    for words in ("Mean over statements", "Mean over superclasses", "not NORM", "expected calibration error, 10 equal-width bins"):
        assert words in printed
    assert to_markdown(made[1]).count("### ") == 4


def test_the_hand_made_floor_answers_every_row_and_uses_the_training_split(tiny_data: Prepared) -> None:
    (rows, references), (train_rows, train) = stated(tiny_data, "test"), stated(tiny_data, "train")
    answers = hand_made(tiny_data, rows, train_rows, train)
    assert answers.probabilities.shape == references.statements.shape
    absent = ~train.statements.any(axis=0)
    assert absent.any()
    assert (answers.probabilities[:, absent] == 0).all(), "a statement that training never showed"
    backwards = hand_made(tiny_data, rows[::-1], train_rows, train)
    assert backwards.probabilities[::-1] == pytest.approx(answers.probabilities, abs=1e-6)


def test_bad_options_are_refused_before_anything_runs(made: tuple[Path, FindingTable, str], tiny_data: Prepared, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--split train"):
        run(tiny_data.path, "no such bundle", None, None, split="train")
    with pytest.raises(ArtifactError, match="exists already"):
        run(tiny_data.path, "no such bundle", None, made[0])
    with pytest.raises(ConfigError, match=r"--language en: the drafts of .* are written already"):
        run(tiny_data.path, "no such bundle", tmp_path / "drafts.jsonl", None, language="en")
    with pytest.raises(DataError, match=r"none\.jsonl: expected predictions as JSON lines"):
        run(tiny_data.path, "no such bundle", tmp_path / "none.jsonl", None)
    with pytest.raises(ArtifactError, match="no such folder"):
        run(tiny_data.path, "no such bundle", None, None)


def test_a_split_of_which_nothing_is_known_is_refused(tiny_data: Prepared) -> None:
    class Bare:
        path = tiny_data.path

        def split(self, name: str) -> pl.DataFrame:
            rows = tiny_data.split(name)
            return rows.with_columns(pl.lit(None, rows.schema["statements"]).alias("statements"), pl.lit("").alias("report"))

    with pytest.raises(DataError, match="expected coded or reported recordings in val, got none"):
        stated(Bare(), "val")  # type: ignore[arg-type]
