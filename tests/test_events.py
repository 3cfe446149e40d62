"""Context rows joined to studies: the guard, duplicates, the tally, and the folder that comes out."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from regen.artifact import load_manifest
from regen.data_prep import event_store
from regen.data_prep.event_store import attach
from regen.data_prep.events import (
    EVENTS,
    LATER,
    STUDY_HAS_NO_TIME,
    TWICE,
    Tally,
    candidates,
    code_part,
    code_part_of,
    kind_of,
    parsed_time,
)  # fmt: skip
from regen.data_prep.prepare import Entry, write
from regen.data_prep.prepared import Prepared
from regen.errors import DataError

NOON = datetime(2180, 1, 1, 12)


@pytest.fixture
def studies(tmp_path: Path) -> Prepared:
    """Subject 1 has a study at noon and one a year later, subject 2 one without a time, subject 3 one that nobody has rows for."""
    entries = [
        Entry("a", "1", time=NOON, report="Sinus rhythm.", sections={"indication": " chest pain ", "findings": "clear", "history": ""}),
        Entry("b", "1", time=datetime(2181, 1, 1, 12), report="Sinus rhythm."),
        Entry("c", "2", report="Sinus rhythm."),
        Entry("d", "3", time=NOON, report="Sinus rhythm."),
    ]
    write(entries, tmp_path / "data", "test", {}, workers=0)
    return Prepared.open(tmp_path / "data")


def rows(*items: tuple[str, datetime | None, str, float | None], table: str = "t") -> pl.LazyFrame:
    """CANDIDATE rows of (subject, time, code, value)."""
    frame = pl.DataFrame(
        list(items), schema={"subject_id": pl.String, "time": pl.Datetime("us"), "code": pl.String, "numeric_value": pl.Float32}, orient="row"
    )
    return candidates(frame.lazy().with_columns(pl.lit(table).alias("table")))


def join(frame: pl.LazyFrame, studies: Prepared, out: Path) -> tuple[Prepared, Tally]:
    tally = attach(lambda _: [("t", frame)], studies, out, "test", {}, Tally("test"))
    return Prepared.open(out), tally


def balanced(tally: Tally) -> bool:
    return all(tally.read[t] == tally.used[t] + sum(tally.refused[t].values()) for t in tally.read)


def test_only_rows_before_the_study_enter(studies: Prepared, tmp_path: Path) -> None:
    before, at, after = NOON.replace(hour=11), NOON, datetime(2181, 6, 1)
    joined, tally = join(rows(("1", before, "A", 1), ("1", at, "B", 2), ("1", after, "C", 3), ("1", None, "D", None)), studies, tmp_path / "out")
    assert joined.context(["a"]).filter(pl.col("code") != "INDICATION")["code"].to_list() == ["D", "A"]
    assert joined.context(["b"])["code"].to_list() == ["D", "A", "B"]
    assert tally.used["t"] == 3
    assert dict(tally.refused["t"]) == {LATER: 1}
    assert balanced(tally)


def test_a_study_without_a_time_gets_only_rows_without_one(studies: Prepared, tmp_path: Path) -> None:
    joined, tally = join(rows(("2", datetime(1900, 1, 1), "A", 1), ("2", None, "B", None)), studies, tmp_path / "out")
    assert joined.context(["c"])["code"].to_list() == ["B"]
    assert dict(tally.refused["t"]) == {STUDY_HAS_NO_TIME: 1}


def test_a_row_enters_once_and_rows_of_nobody_are_counted(studies: Prepared, tmp_path: Path) -> None:
    row = ("1", NOON.replace(hour=9), "A", 1.0)
    frame = rows(row, row, row, ("1", NOON.replace(hour=9), "A", 2.0), ("9", NOON, "A", 1.0))
    joined, tally = join(frame, studies, tmp_path / "out")
    assert joined.context(["a"]).filter(pl.col("code") == "A")["numeric_value"].to_list() == [1.0, 2.0]
    assert dict(tally.refused["t"]) == {TWICE: 2, "of a subject without a study": 1}
    assert balanced(tally)


def test_refused_rows_never_enter(studies: Prepared, tmp_path: Path) -> None:
    frame = pl.concat([rows(("1", None, "A", 1)), rows(("1", None, "B", 1)).with_columns(pl.lit("because").alias("reason"))])
    joined, tally = join(frame, studies, tmp_path / "out")
    assert "B" not in joined.context(["a", "b"])["code"].to_list()
    assert dict(tally.refused["t"]) == {"because": 1}


def test_the_studies_own_indication_enters_without_a_time(studies: Prepared, tmp_path: Path) -> None:
    joined, tally = join(rows(("1", None, "A", 1)), studies, tmp_path / "out")
    told = joined.context(["a"]).filter(pl.col("code") == "INDICATION")
    assert told.rows() == [("a", "1", None, "INDICATION", None, "chest pain")]
    assert tally.used["sections of the studies"] == 1


def test_slices_of_any_size_give_the_same_rows(studies: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = rows(*[(str(i % 3 + 1), NOON.replace(hour=i % 12), f"C{i}", float(i)) for i in range(50)], ("2", None, "X", 1))
    whole, _ = join(frame, studies, tmp_path / "whole")
    monkeypatch.setattr(event_store, "STUDIES_AT_ONCE", 1)
    pieces = list(event_store.slices(studies.studies.select("study_id", "subject_id", pl.col("time").alias("at"))))
    assert [piece["study_id"].to_list() for piece in pieces] == [["a", "b"], ["c"], ["d"]]
    parts, tally = join(frame, studies, tmp_path / "parts")
    assert whole.events is not None
    assert parts.events is not None
    order = list(EVENTS)
    assert whole.events.collect().sort(order).equals(parts.events.collect().sort(order))
    assert balanced(tally)


def test_the_folder_is_the_old_one_with_events(studies: Prepared, tmp_path: Path) -> None:
    joined, tally = join(rows(("1", None, "A", 1)), studies, tmp_path / "out")
    assert joined.studies.equals(studies.studies)
    assert joined.digest == studies.digest
    assert os.path.samefile(joined.path / "studies.parquet", studies.path / "studies.parquet")
    manifest = load_manifest(joined.path, "prepare")
    assert manifest["events"]["tables"]["t"] == {"read": 1, "used": 1, "refused": {}, "notes": {}}
    assert manifest["config"]["context"] == {"source": "test"}
    assert manifest["inputs"] == {"studies": studies.digest}
    assert "times without a zone" in "\n".join(tally.lines())
    assert joined.events is not None
    assert dict(joined.events.collect_schema()) == EVENTS
    assert studies.events is None
    assert studies.context(["a"]).is_empty()


def test_a_disk_without_links_gets_copies(studies: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(event_store.os, "link", refuse)
    joined, _ = join(rows(("1", None, "A", 1)), studies, tmp_path / "out")
    assert joined.studies.equals(studies.studies)


def test_what_cannot_be_joined_is_refused_by_name(studies: Prepared, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"got none of 1 \(1 of a subject without a study\)"):
        join(rows(("9", None, "A", 1)), studies, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    joined, _ = join(rows(("1", None, "A", 1)), studies, tmp_path / "once")
    with pytest.raises(DataError, match="without events"):
        join(rows(("1", None, "A", 1)), joined, tmp_path / "again")


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2180-01-01 12:00:00", NOON),
        ("2180-01-01T12:00:00", NOON),
        (" 2180-01-01 12:00 ", NOON),
        ("2180-01-01T14:00:00+02:00", NOON),
        ("2180-01-01T12:00:00Z", NOON),
        ("2180-01-01 12:00:00.500", NOON.replace(microsecond=500000)),
        ("2180-01-01", datetime(2180, 1, 1)),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_times_as_archives_write_them(text: str | None, time: datetime | None) -> None:
    frame = pl.DataFrame({"t": ["2180-01-01 12:00:00", text]}, schema={"t": pl.String})
    assert frame.select(parsed_time("t"))["t"].to_list() == [NOON, time]


def test_names_in_codes() -> None:
    text = "  Metoprolol \t Tartrate//ER "
    assert code_part(text) == "metoprolol tartrate/er"
    assert pl.DataFrame({"n": [text]}).select(code_part_of("n")).item() == code_part(text)


@pytest.mark.parametrize(
    ("code", "kind"),
    [("MED//home//digoxin", "med_home"), ("MED//given//x", "med_given"), ("MED//ordered//x", "med_ordered"), ("MED//odd//x", "other"),
     ("VITAL//sbp", "vital"), ("TRIAGE//sbp", "triage"), ("DX//icd10//i10", "diagnosis"), ("LAB//2345-7//mg/dl", "lab"), ("COMPLAINT", "complaint"),
     ("INDICATION", "indication"), ("HISTORY", "history"), ("RHYTHM", "rhythm"), ("MEDS_BIRTH", "other")],
)  # fmt: skip
def test_kinds(code: str, kind: str) -> None:
    assert kind_of(code) == kind


def test_the_tally_prints_and_merges() -> None:
    one, two = Tally("one"), Tally("two")
    one.add("t", 3)
    one.add("t", 1, "because", "row 7")
    two.add("t", 2, "because", "row 9")
    two.note("t", "converted", 2)
    one.merge(two)
    text = list(one.lines())
    assert text[1].split() == ["t", "6", "3", "3"]
    assert "because (row 7, row 9, ...)" in text[2]
    assert one.to_dict()["tables"]["t"] == {"read": 6, "used": 3, "refused": {"because": 3}, "notes": {"converted": 2}}
    for i in range(20):
        one.add("t", 1, f"reason {i}")
    assert any("for 9 more reasons" in line for line in one.lines())
