"""`regen eval compare`: two files of drafts, paired by patient."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from regen.data_prep.prepared import Prepared
from regen.errors import ArtifactError, ConfigError, DataError
from regen.eval.bootstrap import Resamples, paired
from regen.eval.predictions import Predictions, References
from regen.eval.report_table import COLUMNS
from regen.eval.set_metrics import micro_f1
from regen.evaluating.compare import FEWEST, Comparison, _compared, compare, remarks, to_markdown, to_rich

Drafts = list[dict[str, Any]]
NORMAL, BLOCK = "Sinus rhythm. Normal ECG.", "Sinus rhythm. Left bundle branch block."


def studies(n: int, subjects: Iterable[str] | None = None) -> pl.DataFrame:
    """n reported studies, normal and left bundle branch block in turn; female and male."""
    codes = [["SR", "NORM"], ["SR", "CLBBB"]]
    return pl.DataFrame(
        {
            "study_id": [f"s{i}" for i in range(n)],
            "subject_id": list(subjects or (f"p{i}" for i in range(n))),
            "report": [(NORMAL, BLOCK)[i % 2] for i in range(n)],
            "statements": [[{"code": c, "likelihood": 1.0} for c in codes[i % 2]] for i in range(n)],
            "language": ["en"] * n,
            "sex": [("female", "male")[i % 2] for i in range(n)],
        }
    )


def drafts(n: int, report: Callable[[int], str]) -> Drafts:
    return [{"study_id": f"s{i}", "report": report(i)} for i in range(n)]


def right(i: int) -> str:
    return (NORMAL, BLOCK)[i % 2]


def compared(a: Drafts, b: Drafts, rows: pl.DataFrame, seed: int = 0) -> Comparison:
    return _compared((Path("a.jsonl"), Path("b.jsonl")), (a, b), rows, [], "test", seed)


def test_a_right_and_a_constant_system_differ_by_hand() -> None:
    """b says NORM of all 40: of its 80 statements 60 are right, of 80 in the reference. a is right everywhere."""
    made = compared(drafts(40, right), drafts(40, lambda i: NORMAL), studies(40))
    cell = made.cell("all", "micro_f1")
    assert (cell.a.value, cell.b.value) == (1.0, 0.75)
    assert cell.difference.value == pytest.approx(0.25)
    assert cell.differs is True
    assert made.cell("sex female", "micro_f1").differs is False, "both are right of the women"
    assert made.cell("sex male", "micro_f1").difference.value == pytest.approx(0.5)
    assert made.cell("sex male", "micro_f1").differs is True
    assert made.cell("not NORM", "rouge_l").difference.value > 0


def test_the_difference_is_that_of_the_paired_bootstrap_by_patient() -> None:
    rows = studies(60, (f"p{i // 3}" for i in range(60)))
    a, b = drafts(60, lambda i: right(i + (i % 5 == 0))), drafts(60, lambda i: right(i + (i % 3 == 0)))
    cell = compared(a, b, rows, seed=4).cell("all", "micro_f1")
    references = References.from_rows(rows)
    sets = [Predictions.from_drafts("x", each, references).statements for each in (a, b)]
    resamples = Resamples(references.subjects, np.random.default_rng([4, 0]))
    assert resamples.patients == 20
    oracle = paired(*(lambda w, s=s: micro_f1(s, references.statements, w) for s in sets), resamples)
    assert cell.difference.value == pytest.approx(oracle.value)
    assert cell.difference.interval == pytest.approx(oracle.interval)


def test_the_other_way_round_the_signs_turn() -> None:
    a, b, rows = drafts(30, right), drafts(30, lambda i: NORMAL), studies(30)
    there, back = compared(a, b, rows), compared(b, a, rows)
    for column in COLUMNS:
        low, high = there.cell("all", column).difference.interval
        np.testing.assert_allclose(back.cell("all", column).difference.interval, (-high, -low), atol=1e-12)


def test_a_file_against_itself_never_leaves_0_out() -> None:
    same = drafts(40, lambda i: right(i // 2))
    made = compared(same, same, studies(40))
    assert made.differing == 0
    assert made.tested > 50
    assert made.by_chance == pytest.approx(0.05 * made.tested)
    assert f"0 of {made.tested} differences leave 0 out" in remarks(made)[-1]


def test_columns_that_one_of_them_lacks_are_not_tested() -> None:
    finding = {"code": "CLBBB", "probability": 0.7, "positive": True}
    with_findings = [draft | {"findings": [finding]} for draft in drafts(40, right)]
    cell = compared(with_findings, drafts(40, right), studies(40)).cell("all", "statement_auc")
    assert cell.a.value == 0.5
    assert np.isnan(cell.b.value)
    assert np.isnan(cell.difference.value)
    assert cell.differs is None


def test_studies_that_only_one_file_has_are_counted_and_left_out() -> None:
    a = [{"study_id": f"s{i}", "report": right(i)} for i in range(0, 30)]
    b = [{"study_id": f"s{i}", "report": NORMAL} for i in range(20, 36)] + [{"study_id": "elsewhere", "report": NORMAL}]
    made = compared(a, b, studies(40))
    assert (made.table.block("all").n, made.only_a, made.only_b, made.neither, made.outside) == (10, 20, 6, 4, (0, 1))
    told = "\n".join(remarks(made))
    assert "10 studies of test are in both files and are compared; left out: 20 only in a, 6 only in b, 4 in neither" in told
    assert "b: 1 drafts are of no reported study of test" in told
    assert "a: 0" not in told


def test_a_group_of_few_patients_gets_no_verdict() -> None:
    """Five patients, all alike: every draw gives the same difference, which says nothing of another patient."""
    few = FEWEST - 5
    made = compared(drafts(few, right), drafts(few, lambda i: ""), studies(few))
    cell = made.cell("all", "micro_f1")
    assert cell.difference.interval == (1.0, 1.0)
    assert cell.differs is None
    assert made.tested == 0
    assert f"fewer than {FEWEST} patients, not tested: all" in "\n".join(remarks(made))


def test_views_show_every_group_and_column() -> None:
    made = compared(drafts(40, right), drafts(40, lambda i: NORMAL), studies(40))
    text = to_markdown(made)
    assert text.count("| set micro-F1 |") == len(made.groups)
    for title in COLUMNS.values():
        assert f"| {title} |" in text
    assert "| set micro-F1 | 100.0 [100.0, 100.0] | 75.0" in text
    columns, groups = to_rich(made)
    assert (columns.row_count, groups.row_count) == (len(COLUMNS), len(made.groups))
    body = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert body["groups"][0]["columns"]["micro_f1"]["difference"] == 0.25
    assert body["groups"][0]["columns"]["statement_auc"]["differs"] is None
    assert body["studies"] == {"both": 40, "only_a": 0, "only_b": 0, "neither": 0}


def test_no_study_in_common_is_said() -> None:
    with pytest.raises(DataError, match=r"a study of test that both files have, got none .*a\.jsonl: 5 of 5 and b\.jsonl: 0 of 1\); check"):
        compared(drafts(5, right), [{"study_id": "x", "report": ""}], studies(5))


@pytest.fixture(scope="module")
def files(cohort: Prepared, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Drafts of the cohort's test split: every report as it stands, and one report for all."""
    folder = tmp_path_factory.mktemp("compare")
    rows = cohort.split("test").to_dicts()
    paths = folder / "a.jsonl", folder / "b.jsonl"
    for path, report in zip(paths, (None, NORMAL), strict=True):
        path.write_text("".join(json.dumps({"study_id": r["study_id"], "report": report or r["report"]}) + "\n" for r in rows))
    return paths


def test_from_files_to_json_and_markdown(
    files: tuple[Path, Path], cohort: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    printed: list[str] = []
    monkeypatch.setattr("rich.console.Console.print", lambda self, *a, **k: printed.extend(str(x) for x in a))
    made = compare(*files, cohort.path, "test", tmp_path / "c.json", 0, False)
    assert made.cell("all", "rouge_l").a.value == 1.0
    body = json.loads((tmp_path / "c.json").read_text())
    assert body["studies"]["both"] == len(cohort.split("test"))
    assert f"differences leave 0 out; if a and b were equally good everywhere, about {made.by_chance:.0f} would" in "\n".join(printed)
    again = compare(*files, cohort.path, "test", tmp_path / "c.md", 0, False)
    assert again.to_dict() == made.to_dict()
    assert (tmp_path / "c.md").read_text().startswith("## a - b, paired by patient")
    with pytest.raises(ArtifactError, match="exists already"):
        compare(*files, cohort.path, "test", tmp_path / "c.md", 0, False)


def test_bad_input_is_said(files: tuple[Path, Path], cohort: Prepared, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--split train"):
        compare(*files, cohort.path, "train", None, 0, False)
    with pytest.raises(DataError, match=r"none\.jsonl: expected predictions as JSON lines"):
        compare(files[0], tmp_path / "none.jsonl", cohort.path, "test", None, 0, False)
    twice = tmp_path / "twice.jsonl"
    twice.write_text(files[0].read_text() * 2)
    with pytest.raises(DataError, match="got a second one of"):
        compare(twice, files[1], cohort.path, "test", None, 0, False)
