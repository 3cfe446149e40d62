"""`regen eval robust`: columns by hand, and conditions on the tiny bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from records import write_wfdb

from regen import Pipeline
from regen.data_prep.prepared import Prepared
from regen.data_prep.statements import CODES
from regen.data_prep.synthetic_cohort import make_study
from regen.errors import ArtifactError, ConfigError, DataError
from regen.eval.averages import share
from regen.eval.bootstrap import each_once
from regen.eval.perturb import NO_RETRIEVAL, UNPERTURBED, Condition, conditions
from regen.eval.predictions import Predictions, References
from regen.eval.robustness import COLUMNS, Outcome, Robustness, cosines, distinct, over_reliance, scores
from regen.evaluating.robust import Overheard, Trial, evaluate_robust, to_markdown, to_rich
from regen.index.case_index import Asker

BY_NAME = {row.name: row for row in conditions()}
RUN = (
    "ECG blanked", "cases of another study", "50% of the cases unrelated", "100% of the cases unrelated", "V1 off", "lead I only",
    "white noise, 0 dB", "through 250 Hz, read as 500 Hz", "through 100 Hz, read as 500 Hz", "gain x 2", "first 2.5 s",
)  # fmt: skip
LIMIT = 8


def references(n: int) -> References:
    statements = np.zeros((n, len(CODES)), bool)
    statements[:, CODES.index("NORM")] = True
    return References([f"s{i}" for i in range(n)], [None] * n, ["Normal ECG."] * n, ["en"] * n, statements, np.ones(n, bool))


def outcome(reports: list[str], declared: list[set[str]], planted: list[set[str]]) -> Outcome:
    def sets(rows: list[set[str]]) -> np.ndarray:
        return np.array([[code in row for code in CODES] for row in rows])

    made = replace(Predictions.from_reports("x", reports), declared=sets(declared))
    return Outcome(made, [frozenset()] * len(reports), None, sets(planted))


def test_distinct_is_the_number_of_different_wordings_over_n() -> None:
    values = distinct(["Normal ECG.", "normal ecg", "AF.", ""])
    assert values.tolist() == [0.5, 0.5, 1.0, 1.0]
    assert values.mean() == 3 / 4


def test_cosines_by_hand() -> None:
    a, b = np.array([[1, 0], [1, 1], [0, 0]], np.float32), np.array([[2, 0], [1, -1], [1, 0]], np.float32)
    np.testing.assert_allclose(cosines(a, b), [1.0, 0.0, np.nan], atol=1e-12)


def test_over_reliance_counts_what_only_planted_cases_state() -> None:
    """Four positive findings: AFIB is planted alone; LVH too, but the draft without retrieval has it; NORM is true; 1AVB is not planted."""
    truth = references(2)
    given = outcome(["", ""], [{"AFIB", "NORM"}, {"LVH", "1AVB"}], [{"AFIB", "NORM"}, {"LVH", "CLBBB"}])
    alone = outcome(["", ""], [{"SR"}, {"LVH"}], [set(), set()])
    statistic = over_reliance(given, alone, truth)
    assert statistic is not None
    assert statistic(each_once(2)).tolist() == [0.25]
    assert statistic(np.array([[1.0, 0.0], [0.0, 3.0]])).tolist() == [0.5, 0.0]
    assert np.isnan(share(np.zeros(2), np.zeros(2))).all()
    assert over_reliance(replace(given, drafted=replace(given.drafted, declared=None)), alone, truth) is None


def test_columns_by_hand() -> None:
    plain = outcome(["Normal ECG."] * 4, [set()] * 4, [set()] * 4)
    made = outcome(["Normal ECG.", "Atrial fibrillation.", "Atrial fibrillation.", ""], [set()] * 4, [set()] * 4)
    made = replace(made, flags=[frozenset({"low_evidence"}), frozenset({"padded"}), frozenset(), frozenset({"no_readable_ecg"})])
    values = {name: float(s(each_once(4))[0]) for name, s in scores(made, plain, references(4), ["atrial fibrillation"], None).items()}
    assert values["changed"] == 0.75
    assert values["distinct"] == 0.75
    assert values["copies"] == 0.5
    assert values["warned"] == 0.5
    assert values["rouge_l"] == 0.25
    assert values["micro_f1"] == pytest.approx(2 * 1 / (3 + 4))
    assert set(COLUMNS) - set(values) == {"superclass_auc", "cosine", "over_reliance"}


def test_overheard_notes_and_exchanges(pipeline: Pipeline) -> None:
    queries, askers = pipeline.index.vectors[:3], [Asker(f"s{i}") for i in range(3)]
    ids, values = pipeline.index.search(queries, 5, askers)
    plain = Overheard(pipeline.index)
    for ours, theirs in zip(plain.search(queries, 5, askers), (ids, values), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert plain.languages == pipeline.index.languages
    np.testing.assert_array_equal(plain.embeddings["s2"], queries[2])

    def first_away(row: np.ndarray, asker: Asker) -> np.ndarray:
        return np.array([*row[1:], -1])

    other = Overheard(pipeline.index, first_away)
    given, moved = other.search(queries, 5, askers)
    np.testing.assert_array_equal(given[:, :4], ids[:, 1:])
    np.testing.assert_array_equal(moved[:, :4], values[:, :4])
    assert np.isnan(moved[:, 4]).all()
    np.testing.assert_array_equal(other.found["s1"], ids[1])
    np.testing.assert_array_equal(other.given["s1"], given[1])


@pytest.fixture(scope="module")
def made(tiny_bundle: Path, tiny_data: Prepared, tmp_path_factory: pytest.TempPathFactory) -> tuple[Robustness, dict, str]:
    """Some conditions on the tiny bundle: the table, its JSON, and what was printed."""
    out = tmp_path_factory.mktemp("robust") / "robust.json"
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rich.console.Console.print", lambda self, *a, **k: printed.extend(str(x) for x in a))
        table = evaluate_robust(
            tiny_data.path, "test", str(tiny_bundle), None, out, "cpu", 0, False, LIMIT, [BY_NAME[name] for name in RUN]
        )  # fmt: skip
    return table, json.loads(out.read_text()), "\n".join(printed)


def test_every_condition_is_a_row(made: tuple[Robustness, dict, str]) -> None:
    table, body, printed = made
    names = [row["name"] for row in body["rows"]]
    assert names == [UNPERTURBED.name, *(name for name in RUN if "250" not in name), NO_RETRIEVAL.name]
    assert table.n == LIMIT
    why = body["left_out"]["through 250 Hz, read as 500 Hz"]
    assert why == f"needs 250 Hz; prepared at 100 Hz, and {LIMIT} of {LIMIT} source files are not in their place"
    assert "left out: through 250 Hz" in printed
    for row in table.rows:
        assert set(row.cells) >= set(COLUMNS) - {"cosine", "over_reliance"}


def test_the_unperturbed_row_is_what_the_pipeline_drafts(made: tuple[Robustness, dict, str]) -> None:
    first = made[0].rows[0]
    assert first.cells["changed"].value == 0
    assert first.cells["cosine"].value == pytest.approx(1, abs=1e-6)
    assert made[0].difference(first.name, "micro_f1").interval == (0, 0)
    assert made[1]["rows"][0]["columns"]["micro_f1"]["difference"] == {"value": 0, "low": 0, "high": 0}


def test_what_each_condition_does(made: tuple[Robustness, dict, str]) -> None:
    table = made[0]
    assert table.row("ECG blanked").cells["warned"].value == 1
    assert table.row("ECG blanked").cells["micro_f1"].value == 0
    assert table.row("ECG blanked").flags["no_readable_ecg"] == 1
    assert table.row("retrieval blanked").flags["no_retrieval"] == 1
    assert "cosine" not in table.row("retrieval blanked").cells
    for name in ("cases of another study", "100% of the cases unrelated"):
        assert table.row(name).cells["cosine"].value == pytest.approx(1, abs=1e-6), "the recording is as it was"
        assert 0 <= table.row(name).cells["over_reliance"].value <= 1
    assert table.row("100% of the cases unrelated").cells["changed"].value > 0
    for name in ("V1 off", "lead I only", "white noise, 0 dB", "first 2.5 s"):
        assert table.row(name).cells["cosine"].value < 0.9999
        assert "over_reliance" not in table.row(name).cells
    assert table.row("first 2.5 s").flags["padded"] == 1
    through = table.row("through 100 Hz, read as 500 Hz").cells["cosine"].value
    assert through > table.row("lead I only").cells["cosine"].value


def test_intervals_and_differences_are_on_the_same_draws(made: tuple[Robustness, dict, str]) -> None:
    table = made[0]
    row, first = table.row("gain x 2"), table.rows[0]
    np.testing.assert_array_equal(
        table.difference("gain x 2", "rouge_l").draws, row.cells["rouge_l"].draws - first.cells["rouge_l"].draws
    )  # fmt: skip
    low, high = row.cells["rouge_l"].interval
    assert low <= row.cells["rouge_l"].value <= high
    for name, column in (("V2 of", "rouge_l"), ("V1 off", "rouge")):
        with pytest.raises(DataError, match="did you mean"):
            table.difference(name, column)


def test_the_cases_given_are_unrelated_and_may_be_seen(pipeline: Pipeline, tiny_data: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at through the index that the trial hands to the pipeline."""
    rows = tiny_data.split("test").head(4)
    trial = Trial(pipeline, tiny_data, rows, None, 0)
    seen: list[Overheard] = []
    made_index = Overheard.__init__

    def noted(self: Overheard, *arguments: object) -> None:
        made_index(self, *arguments)  # type: ignore[arg-type]
        seen.append(self)

    monkeypatch.setattr(Overheard, "__init__", noted)
    trial.drafted(UNPERTURBED)
    trial.drafted(Condition("all", unrelated=1.0))
    trial.drafted(Condition("moved", shuffled=True))
    true, unrelated, moved = seen
    index, studies = pipeline.index, rows["study_id"].to_list()
    for i, study in enumerate(studies):
        asker = Asker(study, rows["subject_id"][i], rows["time"][i])
        given = unrelated.given[study][unrelated.given[study] >= 0]
        assert len(given)
        assert not trial.cases[given][:, trial.references.statements[i]].any()
        assert not np.isin(given, index.banned(asker)).any()
        borrowed = moved.given[study][moved.given[study] >= 0]
        assert not np.isin(borrowed, index.banned(asker)).any()
        assert any(set(borrowed) <= set(true.given[other]) for other in studies if other != study)


def test_a_writer_that_believes_its_cases_over_relies(pipeline: Pipeline, tiny_data: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """The votes of the cases weigh thirty times what the recording does, then nothing."""
    trial = Trial(pipeline, tiny_data, tiny_data.split("test").head(LIMIT), None, 0)

    def reliance(*weights: float) -> float:
        monkeypatch.setattr(pipeline.writer.evidence, "weights", np.array(weights, np.float32))  # type: ignore[attr-defined]
        row = trial.run("tiny", [BY_NAME["100% of the cases unrelated"]], [], draws=10).row("100% of the cases unrelated")
        return row.cells["over_reliance"].value

    assert reliance(0.1, 3.0) > 0.2
    assert reliance(1.0, 0.0) == 0


def test_where_the_files_are_in_place_their_own_rate_is_read(pipeline: Pipeline, tiny_data: Prepared, tmp_path: Path) -> None:
    rows = tiny_data.split("test").head(3)
    headers = []
    for study in rows["study_id"].to_list():
        ecg = make_study((3, int(study.rsplit("-", 1)[1]))).ecg
        assert ecg is not None
        headers.append(str(write_wfdb(tmp_path, study, np.round(ecg.signal.T * 1000).astype(np.int16), fs=ecg.fs)))
    trial = Trial(pipeline, tiny_data, rows.with_columns(source=pl.Series(headers)), None, 0)
    through, plain = BY_NAME["through 250 Hz, read as 500 Hz"], Condition("as the file has it", rate=250)
    assert trial.unfit(through) is None
    read = {study.study_id: study.ecg for study in trial._studies(plain)}
    assert all(ecg is not None and ecg.fs == 500 for ecg in read.values())
    made = trial.run("tiny", [through], [], draws=10)
    assert made.left_out == {}
    assert made.row(through.name).cells["cosine"].value > 0.99
    assert "needs 501 Hz, the source files hold fewer" in str(trial.unfit(Condition("more", rate=501)))


def test_the_same_seed_gives_the_same_table(tiny_bundle: Path, tiny_data: Prepared) -> None:
    chosen = [BY_NAME["muscle noise, 0 dB"], BY_NAME["50% of the cases unrelated"]]
    one, two = (evaluate_robust(tiny_data.path, "test", str(tiny_bundle), None, None, "cpu", 3, False, 4, chosen) for _ in range(2))
    assert one.to_dict() == two.to_dict()


def test_views(made: tuple[Robustness, dict, str]) -> None:
    table = made[0]
    text = to_markdown(table)
    assert text.count("| V1 off | 8 |") == 2
    assert to_rich(table).row_count == len(table.rows)
    assert "8 studies of " in made[2]
    for title in COLUMNS.values():
        assert title in text


def test_bad_options_are_said(tiny_bundle: Path, tiny_data: Prepared, tmp_path: Path) -> None:
    def call(split: str, out: Path | None, limit: int | None) -> Robustness:
        return evaluate_robust(tiny_data.path, split, str(tiny_bundle), None, out, "cpu", 0, False, limit, [])

    with pytest.raises(ConfigError, match="--split train"):
        call("train", None, None)
    with pytest.raises(ConfigError, match="--limit: expected at least 2 studies, got 1"):
        call("test", None, 1)
    there = tmp_path / "there.md"
    there.write_text("")
    with pytest.raises(ArtifactError, match="exists already"):
        call("test", there, None)
