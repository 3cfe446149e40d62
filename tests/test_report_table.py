"""The table: blocks, cells against the metrics called by hand, paired differences, three renderings."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from regen.data_prep.statements import CODES
from regen.errors import DataError
from regen.eval import set_metrics
from regen.eval.bootstrap import Sampled
from regen.eval.predictions import Predictions, References, read_sets
from regen.eval.report_table import COLUMNS, Table, table
from regen.eval.table_views import differences, percent, to_markdown, to_rich
from regen.eval.text_metrics import bleu, text_scores

FINDINGS = (
    "Normal ECG.",
    "Left ventricular hypertrophy.",
    "Inferior myocardial infarction.",
    "Atrial fibrillation.",
    "Left anterior fascicular block.",
)
N = 60
RNG = np.random.default_rng(0)
REPORTS = [" ".join(["Sinus rhythm.", *(FINDINGS[k] for k in np.flatnonzero(RNG.random(5) < 0.3))]) for _ in range(N)]
TRAINING = ["sinus rhythm, normal ecg", "Sinus rhythm.", "Sinus rhythm. Left ventricular hypertrophy."]
CONSTANT = "Sinus rhythm. Normal ECG."


def references(languages: list[str | None] | None = None) -> References:
    ids, subjects = [f"s{i}" for i in range(N)], [f"p{i // 2}" for i in range(N)]
    return References(ids, list(subjects), list(REPORTS), languages or ["en"] * N, read_sets(REPORTS), np.ones(N, np.bool_))


def predictions() -> list[Predictions]:
    gold = read_sets(REPORTS).astype(np.float32)
    noisy = (0.5 * gold + 0.5 * np.random.default_rng(1).random(gold.shape)).astype(np.float32)
    other = [REPORTS[i] if i % 3 else REPORTS[(i + 7) % N] for i in range(N)]
    return [
        Predictions.from_reports("gold", REPORTS, noisy),
        Predictions.from_reports("a | peer", other),
        Predictions.from_reports("constant", [CONSTANT] * N),
        Predictions.from_reports("silent", [""] * N),
    ]


@pytest.fixture(scope="module")
def made() -> Table:
    return table(references(), predictions(), TRAINING, seed=0, draws=200)


def test_blocks_are_the_studies_they_say(made: Table) -> None:
    new = [r not in {"Sinus rhythm. Normal ECG.", "Sinus rhythm.", "Sinus rhythm. Left ventricular hypertrophy."} for r in REPORTS]
    abnormal = ["Normal ECG" not in r for r in REPORTS]
    expected = {"all": N, "new in training": sum(new), "not NORM": sum(abnormal), "new and not NORM": sum(a and b for a, b in zip(new, abnormal))}
    assert {block.name: block.n for block in made.blocks} == expected
    assert 0 < expected["new and not NORM"] < expected["not NORM"] < N
    assert made.block("all").patients == N // 2
    assert made.block("all").statements == int((read_sets(REPORTS).sum(axis=0) >= 5).sum())


def test_languages_are_blocks_where_there_are_several(made: Table) -> None:
    mixed = references(["de" if i < 10 else "en" if i < 40 else None for i in range(N)])
    blocks = {block.name: block.n for block in table(mixed, predictions()[:1], TRAINING, draws=10).blocks}
    assert blocks["language de"] == 10
    assert blocks["language en"] == 30
    assert not [block.name for block in made.blocks if block.name.startswith("language")]


def test_gold_is_perfect_silence_scores_nothing_and_constancy_shows(made: Table) -> None:
    rows = made.block("all").rows
    for column in ("micro_f1", "macro_f1", "superclass_f1", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l"):
        assert rows["gold"][column].value == 1.0
        assert rows["silent"][column].value == 0.0
    assert rows["gold"]["meteor"].value > 0.9
    assert rows["constant"]["constant"].value == rows["constant"]["copies"].value == 1.0
    assert rows["silent"]["copies"].value == 0.0
    assert rows["gold"]["constant"].value == max(REPORTS.count(r) for r in REPORTS) / N
    assert 0 < rows["gold"]["copies"].value < 1
    for column in ("side_errors", "grade_errors", "comparison_errors", "number_errors"):
        assert rows["gold"][column].value in (0.0, pytest.approx(np.nan, nan_ok=True))


def test_cells_are_the_metrics_of_the_block(made: Table) -> None:
    rows = np.flatnonzero(~references().statements[:, CODES.index("NORM")])
    gold, peer = predictions()[:2]
    cells = made.block("not NORM").rows
    truth = references().statements[rows]
    assert cells["a | peer"]["micro_f1"].value == set_metrics.micro_f1(peer.statements[rows], truth)[0]
    assert cells["a | peer"]["macro_f1"].value == set_metrics.macro_f1(peer.statements[rows], truth)[0]
    assert gold.probabilities is not None
    assert cells["gold"]["statement_auc"].value == set_metrics.macro_auc(gold.probabilities[rows], truth)[0]
    assert cells["gold"]["superclass_auc"].value == set_metrics.superclass_auc(gold.probabilities[rows], truth)[0]
    texts = text_scores([peer.reports[i] for i in rows], [REPORTS[i] for i in rows])
    assert cells["a | peer"]["bleu_4"].value == pytest.approx(bleu(texts, 4)[0])
    assert 0 < cells["a | peer"]["bleu_4"].value < 1


def test_every_column_has_an_interval_around_its_value(made: Table) -> None:
    rows = made.block("all").rows
    assert list(rows["gold"]) == [column for column in COLUMNS if column not in ("declared_f1", "supported")]
    assert set(COLUMNS) - rows["a | peer"].keys() == {"declared_f1", "superclass_auc", "statement_auc", "supported"}
    for cells in rows.values():
        for column, cell in cells.items():
            low, high = cell.interval
            if column.endswith("_errors") and np.isnan(cell.value):
                continue  # neither text says anything of the kind
            assert low - 0.01 <= cell.value <= high + 0.01
    low, high = rows["a | peer"]["micro_f1"].interval
    assert 0 < high - low < 0.3


def test_differences_are_paired(made: Table) -> None:
    cells = made.block("all").rows
    difference = made.difference("gold", "a | peer")
    np.testing.assert_array_equal(difference.draws, cells["gold"]["micro_f1"].draws - cells["a | peer"]["micro_f1"].draws)
    assert difference.interval[0] > 0
    assert made.difference("a | peer", "gold").value == -difference.value
    assert np.isnan(made.difference("gold", "a | peer", "statement_auc").value)
    for arguments, message in ((("gould", "silent"), "did you mean 'gold'"), (("gold", "silent", "bleu4"), "did you mean 'bleu_4'")):
        with pytest.raises(DataError, match=message):
            made.difference(*arguments)
    with pytest.raises(DataError, match="unknown block 'al'; did you mean 'all'"):
        made.block("al")


def test_the_same_seed_gives_the_same_json_and_a_change_stays_where_it_is(made: Table) -> None:
    first = json.dumps(made.to_dict(), allow_nan=False)
    assert first == json.dumps(table(references(), predictions(), TRAINING, seed=0, draws=200).to_dict(), allow_nan=False)
    other = table(references(), predictions(), TRAINING, seed=1, draws=200)
    assert other.block("all").rows["a | peer"]["micro_f1"].value == made.block("all").rows["a | peer"]["micro_f1"].value
    assert other.block("all").rows["a | peer"]["micro_f1"].interval != made.block("all").rows["a | peer"]["micro_f1"].interval
    changed = predictions()
    changed[2] = Predictions.from_reports("constant", [CONSTANT] * (N - 1) + ["Atrial fibrillation."])
    again = table(references(), changed, TRAINING, seed=0, draws=200).to_dict()
    for before, after in zip(made.to_dict()["blocks"], again["blocks"], strict=True):
        same = {name for name in before["systems"] if before["systems"][name] == after["systems"][name]}
        assert same >= {"gold", "a | peer", "silent"}
    assert again["blocks"][0]["systems"]["constant"] != made.to_dict()["blocks"][0]["systems"]["constant"]


def test_json_says_what_it_is(made: Table) -> None:
    out = made.to_dict()
    assert (out["seed"], out["draws"], out["uncoded_references"]) == (0, 200, 0)
    block = out["blocks"][0]
    assert (block["name"], block["n"]) == ("all", N)
    assert block["systems"]["gold"]["micro_f1"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert block["differences"]["constant"]["micro_f1"]["value"] == pytest.approx(1 - block["systems"]["constant"]["micro_f1"]["value"], abs=1e-6)
    assert "gold" not in block["differences"]


def test_an_empty_block_has_no_values_and_says_n_0() -> None:
    rows = np.array([i for i, r in enumerate(REPORTS) if r == CONSTANT])
    assert len(rows)
    normal = references().take(rows)
    made = table(normal, [Predictions.from_reports("x", [CONSTANT] * len(rows))], TRAINING, draws=5)
    assert made.block("not NORM").n == 0
    assert made.to_dict()["blocks"][2]["systems"]["x"]["micro_f1"] == {"value": None, "low": None, "high": None}
    assert "not NORM: n = 0" in to_markdown(made)


def test_what_was_missing_is_said() -> None:
    drafts = [{"study_id": f"s{i}", "report": REPORTS[i]} for i in range(N - 4)]
    made = table(references(), [Predictions.from_drafts("half", drafts, references())], TRAINING, draws=5)
    assert made.to_dict()["missing_drafts"] == {"half": 4}
    assert "half: 4 studies without a draft" in to_markdown(made)


def test_systems_that_cannot_be_compared_are_refused() -> None:
    one = predictions()[0]
    with pytest.raises(DataError, match="each name once"):
        table(references(), [one, one], TRAINING)
    with pytest.raises(DataError, match="each name once"):
        table(references(), [], TRAINING)
    with pytest.raises(DataError, match=r"a prediction a reference \(60\), got 2"):
        table(references(), [Predictions.from_reports("short", ["a", "b"])], TRAINING)


def test_percent() -> None:
    cell = Sampled(0.031, np.linspace(0.012, 0.049, 1001))
    assert percent(cell) == "3.1 [1.3, 4.8]"
    assert percent(cell, sign=True) == "+3.1 [+1.3, +4.8]"
    assert percent(None) == percent(Sampled(float("nan"), np.zeros(2))) == "-"


def test_markdown_has_a_row_a_system_and_as_many_cells_as_columns(made: Table) -> None:
    text = to_markdown(made)
    assert text.count("### ") == 4
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 4 * (1 + 4)
    for row in rows:
        assert row.replace("\\|", "").count("|") == 2 + len(COLUMNS) + 1
    assert "- gold minus constant: set micro-F1 +" in text
    assert "200 bootstrap draws of patients (seed 0)" in text


def test_difference_lines(made: Table) -> None:
    lines = differences(made, "rouge_l", "not NORM")
    assert [line.split(":")[0] for line in lines] == ["gold minus a | peer", "gold minus constant", "gold minus silent"]
    assert lines[2].endswith("ROUGE-L +100.0 [+100.0, +100.0]")


def test_the_terminal_table_fits_eighty_columns(made: Table) -> None:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(to_rich(made, "all"))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert "n = 60, 30 patients" in shown
    value = made.block("all").rows["a | peer"]["micro_f1"].value
    assert f"{100 * value:.1f}" in shown
    assert "…" not in shown


def test_the_share_of_supported_sentences_is_that_of_the_drafts() -> None:
    truth = references()
    statuses = [["supported", "uncertain"], ["supported"]] + [["supported"] * 3] * (N - 2)
    drafts = [
        {"study_id": study, "report": "Sinus rhythm.", "sentences": [{"text": "x", "status": s} for s in each]}
        for study, each in zip(truth.study_ids, statuses, strict=True)
    ]
    made = table(truth, [Predictions.from_drafts("told", drafts, truth), *predictions()[:1]], TRAINING, draws=10).block("all").rows
    total = sum(map(len, statuses))
    assert made["told"]["supported"].value == pytest.approx((total - 1) / total)
    assert "supported" not in made["gold"]


def test_wrong_sides_grades_and_numbers_are_shares_of_what_both_state() -> None:
    truth = replace(references(), reports=["Small left pleural effusion."] * 2 + ["Ventricular rate 70 bpm."] * 2 + ["Clear."] * (N - 4))
    wrong = ["Large right pleural effusion.", "Small left pleural effusion.", "Ventricular rate 90 bpm.", "Ventricular rate 70 bpm."] + [""] * (N - 4)
    cells = table(truth, [Predictions.from_reports("x", wrong)], TRAINING, draws=10).block("all").rows["x"]
    assert [cells[name].value for name in ("side_errors", "grade_errors", "number_errors")] == [0.5, 0.5, 0.5]
    assert cells["comparison_errors"].value == 0


def test_what_is_declared_is_scored_beside_what_is_said() -> None:
    drafts = [{"study_id": s, "report": "", "findings": [{"code": "NORM", "probability": 0.9, "positive": "Normal" in r}]} for s, r in zip(
        references().study_ids, REPORTS, strict=True)]  # fmt: skip
    made = table(references(), [Predictions.from_drafts("mute", drafts, references())], TRAINING, draws=5)
    cells = made.block("all").rows["mute"]
    assert cells["micro_f1"].value == 0
    both = sum("Normal" in r for r in REPORTS)
    assert cells["declared_f1"].value == pytest.approx(2 * both / (both + references().statements.sum()))


def test_groups_come_from_the_prepared_rows() -> None:
    rows = pl.DataFrame({"sex": ["female"] * 20 + ["male"] * (N - 20), "age": [79.5, 90.0] + [None] * (N - 2), "site": ["one"] * N})
    blocks = {block.name: block.n for block in table(references(), predictions()[:1], TRAINING, draws=2, rows=rows).blocks}
    assert (blocks["sex female"], blocks["sex male"]) == (20, N - 20)
    assert (blocks["age 60-79"], blocks["age 80+"], blocks["age unknown"]) == (1, 1, N - 2)
    assert not [name for name in blocks if name.startswith(("site", "language"))]
