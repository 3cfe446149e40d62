"""The prepared folder: what goes in comes out, what cannot be read is listed, and no subject is in two splits."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from records import samples, write_wfdb

from regen.data_prep import synthetic_cohort
from regen.data_prep.clean import standard
from regen.data_prep.prepare import Entry, split_of, write
from regen.data_prep.prepared import SCHEMA, SPLITS, Prepared, study_from
from regen.data_prep.readers import read_study
from regen.data_prep.signal_store import SHARD, STEP, SignalWriter, pack, read_rows, unpack
from regen.errors import ArtifactError, DataError
from regen.study import FloatArray


def walk(rng: np.random.Generator, time: int = 1000) -> FloatArray:
    """(12, time) mV, a random walk with gaps."""
    signal = rng.normal(0, 0.2, (12, time)).cumsum(axis=1).astype(np.float32)
    signal[3, 100:200] = np.nan
    signal[7] = np.nan
    return signal


@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0])
def test_packed_signals_come_back_to_the_nearest_step(rng: np.random.Generator, scale: float) -> None:
    signal = np.clip(walk(rng) * np.float32(scale), -160, 160)
    (back,) = unpack([pack(signal)])
    assert np.nanmax(np.abs(back - signal)) <= STEP / 2 + 1e-5
    np.testing.assert_array_equal(np.isnan(back), np.isnan(signal))


def test_packing_holds_its_range_and_clips_beyond() -> None:
    signal = np.zeros((12, 6), np.float32)
    signal[0] = [163, -163, 163, -163, 1e6, -1e6]
    (back,) = unpack([pack(signal)])
    np.testing.assert_allclose(back[0], [163, -163, 163, -163, 163.835, -163.835], atol=STEP)


def test_rows_of_two_lengths_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ArtifactError, match="rows of one length"):
        unpack([pack(walk(rng)), pack(walk(rng, 900))])


@pytest.mark.parametrize("count", [1, SHARD - 1, SHARD, SHARD + 3])
def test_the_store_finds_any_rows_in_any_order(tmp_path: Path, rng: np.random.Generator, count: int) -> None:
    store = SignalWriter(tmp_path)
    assert [store.add(np.full((12, 20), i / 100, np.float32)) for i in range(count)] == list(range(count))
    store.flush()
    assert len(list(tmp_path.glob("*.parquet"))) == -(-count // SHARD)
    wanted = rng.permutation(count)[: min(count, 40)]
    seen = np.full(len(wanted), np.nan)
    for positions, block in read_rows(tmp_path, wanted, batch=7):
        assert len(positions) <= 7
        seen[positions] = block[:, 0, 0]
    np.testing.assert_allclose(seen, wanted / 100, atol=STEP)


def entries(folder: Path, count: int = 6) -> list[Entry]:
    """Records on disk, two a subject."""
    rng = np.random.default_rng(1)
    out = []
    for i in range(count):
        header = write_wfdb(folder, f"r{i}", samples(rng, 5000))
        out.append(
            Entry(
                f"s{i}",
                f"p{i // 2}",
                str(header),
                time=datetime(2020, 1, 1 + i),
                report=f"Report {i}.",
                statements={"SR": 1.0, "LVH": 0.5},
                age=40.0 + i,
            )
        )
    return out


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_written_is_what_opens(tmp_path: Path, workers: int) -> None:
    given = entries(tmp_path / "in")
    summary = write(given, tmp_path / "data", "test", {"a": 1}, workers=workers)
    data = Prepared.open(tmp_path / "data")
    assert data.studies.schema == pl.Schema(SCHEMA)
    assert sum(summary.written.values()) == len(given) == len(data.studies)
    assert (data.fs, data.manifest["config"]["a"], data.manifest["failed"]) == (100.0, 1, 0)
    signals = data.load(data.studies)
    for entry, row, stored in zip(given, data.studies.to_dicts(), signals, strict=True):
        study = study_from(row, stored, data.fs)
        assert (study.study_id, study.subject_id, study.time, study.report) == (entry.study_id, entry.subject_id, entry.time, entry.report)
        assert (study.statements, study.age, study.source) == (entry.statements, entry.age, entry.path)
        ecg = read_study(entry.path or "").ecg
        assert ecg is not None
        assert np.abs(standard(ecg)[0] - stored).max() <= STEP
    assert Prepared.open(tmp_path / "data" / "studies.parquet").digest == data.digest


def test_a_part_of_the_rows_loads_the_same_signals(cohort: Prepared) -> None:
    whole = cohort.load(cohort.studies)
    some = cohort.studies.sample(20, shuffle=True, seed=1)
    np.testing.assert_array_equal(cohort.load(some), whole[some["ecg_row"].to_numpy()])


def test_splits_hold_every_study_once_and_no_subject_twice(cohort: Prepared) -> None:
    parts = [cohort.split(name) for name in SPLITS]
    assert sum(map(len, parts)) == len(cohort.studies) == 60
    subjects = [set(part["subject_id"]) for part in parts]
    assert not subjects[0] & subjects[1] | subjects[0] & subjects[2] | subjects[1] & subjects[2]
    assert sum(map(len, subjects)) == 48


def test_the_hash_splits_eighty_ten_ten_and_stays() -> None:
    counts = {name: sum(split_of(f"p{i}", 0) == name for i in range(5000)) for name in SPLITS}
    assert counts["train"] == pytest.approx(4000, abs=120)
    assert counts["val"] == pytest.approx(500, abs=90)
    assert [split_of(p, 0) for p in ("p1", "p2", "p3")] == [split_of(p, 0) for p in ("p1", "p2", "p3")]
    assert [split_of(f"p{i}", 0) for i in range(50)] != [split_of(f"p{i}", 1) for i in range(50)]


def test_studies_that_do_not_read_are_listed_and_the_rest_goes_on(tmp_path: Path) -> None:
    given = entries(tmp_path / "in")
    Path(given[1].path or "").with_suffix(".dat").write_bytes(b"cut")
    Path(given[4].path or "").unlink()
    given.append(Entry("report only", "p9", report="No recording."))
    summary = write(given, tmp_path / "data", "test", {})
    assert [(f.study_id, f.path) for f in summary.failures] == [("s1", given[1].path), ("s4", given[4].path)]
    data = Prepared.open(tmp_path / "data")
    assert data.studies["study_id"].to_list() == ["s0", "s2", "s3", "s5", "report only"]
    assert data.manifest["failed"] == 2
    with (tmp_path / "data" / "failed.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert [row["study_id"] for row in listed] == ["s1", "s4"]
    assert "the file holds 3 bytes" in listed[0]["reason"]
    assert "no such WFDB header" in listed[1]["reason"]
    kept = data.studies.filter(pl.col("study_id") == "report only")
    assert kept["ecg_row"].to_list() == [None]
    assert all(len(data.split(name)) == len(data.split(name, with_ecg=False).filter(pl.col("ecg_row").is_not_null())) for name in SPLITS)


Change = Callable[[list[Entry]], list[Entry]]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda e: [replace(e[0], split="trian"), *e[1:]], r"s0: expected a split of train, val, test, got 'trian'; did you mean 'train'"),
        (lambda e: [replace(e[0], split="train"), replace(e[1], split="test")], r"one split, got subject 'p0' in train and \(study 's1'\) in test"),
        (lambda e: [replace(e[0], path="gone.hea")], r"at least one readable study, got none of 1: gone\.hea"),
        (lambda e: [], r"at least one readable study, got none of 0"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_cohort_that_contradicts_itself_is_refused_whole(tmp_path: Path, change: Change, named: str, workers: int) -> None:
    with pytest.raises(DataError, match=named):
        write(change(entries(tmp_path / "in")), tmp_path / "data", "test", {}, workers=workers)
    assert not (tmp_path / "data").exists()


def test_an_id_that_came_before_costs_the_second_one(tmp_path: Path) -> None:
    given = entries(tmp_path / "in")
    made = write([*given, given[2]], tmp_path / "data", "test", {}, workers=1)
    assert [(failure.study_id, "got 's2' again" in failure.reason) for failure in made.failures] == [("s2", True)]
    assert sorted(Prepared.open(tmp_path / "data").studies["study_id"]) == sorted(entry.study_id for entry in given)


@pytest.mark.parametrize(("age", "kept"), [(-5.0, None), (999.0, None), (0.0, 0.0), (104.0, 104.0)])
def test_an_age_that_nobody_has_is_missing_and_said(tmp_path: Path, age: float, kept: float | None) -> None:
    given = entries(tmp_path / "in")
    write([replace(given[0], age=age), *given[1:]], tmp_path / "data", "test", {}, workers=1)
    (row,) = Prepared.open(tmp_path / "data").studies.filter(pl.col("study_id") == given[0].study_id).to_dicts()
    assert row["age"] == kept
    assert [flag for flag in row["flags"] if flag.startswith("age")] == ([] if kept is not None else [f"age_implausible:{age:g}"])


def test_a_stopped_run_leaves_nothing_behind_for_the_next(tmp_path: Path) -> None:
    given = entries(tmp_path / "in")

    def breaks() -> Iterator[Entry]:
        yield from given
        raise DataError("line 7: broken")

    with pytest.raises(DataError, match="line 7"):
        write(breaks(), tmp_path / "data", "test", {}, workers=1)
    partial = tmp_path / ".data.partial"
    assert not partial.exists(), "a failure leaves nothing"
    (partial / "ecg").mkdir(parents=True)  # as a run that was killed does
    (partial / "failed.csv").write_text("stale")
    (partial / "ecg" / "00009.parquet").write_text("stale")
    write(given, tmp_path / "data", "test", {}, workers=1)
    assert Prepared.open(tmp_path / "data").manifest["files"].keys() == {"studies.parquet", "ecg/00000.parquet"}
    with pytest.raises(ArtifactError, match="--force"):
        write(given, tmp_path / "data", "test", {}, workers=1)


KILLED = textwrap.dedent("""
    import sys, time
    from regen.data_prep.prepare import Entry, write
    def told(rows):
        for row in rows:
            print("now", flush=True)
            time.sleep(60)
            yield row
    if __name__ == "__main__":
        write([Entry(f"s{i}", f"p{i}", report="Sinus rhythm.") for i in range(64)], sys.argv[1], "test", {}, workers=2, progress=told)
""")


def test_kill_9_of_a_run_with_workers_leaves_no_folder_no_worker_and_no_lock(tmp_path: Path) -> None:
    out = tmp_path / "data"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(out)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    workers = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    assert len(workers) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    until = time.monotonic() + 20
    while any(alive(pid) for pid in workers) and time.monotonic() < until:
        time.sleep(0.05)
    assert not [pid for pid in workers if alive(pid)], "workers outlive the run"
    assert not out.exists()
    write(synthetic_cohort.entries(4, 1), out, "synthetic", {}, workers=1)
    assert len(Prepared.open(out).studies) == 4


def alive(pid: int) -> bool:
    """Running, and no zombie that nobody waited for."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_damaged_prepared_folder_is_refused(tmp_path: Path) -> None:
    write(entries(tmp_path / "in", 2), tmp_path / "data", "test", {}, workers=1)
    shard = tmp_path / "data" / "ecg" / "00000.parquet"
    os.truncate(shard, 100)
    with pytest.raises(ArtifactError, match=r"00000\.parquet: expected \d+ bytes, got 100"):
        Prepared.open(tmp_path / "data")
    with pytest.raises(ArtifactError, match="no such folder"):
        Prepared.open(tmp_path / "nothing")
