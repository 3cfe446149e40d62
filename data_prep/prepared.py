"""The prepared folder: what every later stage reads instead of anybody's raw files.

    data/
      studies.parquet     one row a study: ids, time, split, report, statements, age, sex, language, site, device, signal row
      ecg/00000.parquet   packed signals (regen.data_prep.signal_store)
      failed.csv          the studies that could not be read, and why (only if there are any)
      manifest.json

A source module yields Entry rows; `write` reads their files in worker processes, splits by subject, and publishes the folder whole.
"""

from __future__ import annotations

import csv
import hashlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from regen.artifact import load_manifest, new_artifact
from regen.data_prep.clean import standard
from regen.data_prep.readers import read_study
from regen.data_prep.signal_store import SignalWriter, read_rows
from regen.errors import DataError, did_you_mean
from regen.study import Ecg, FloatArray, Study

SPLITS = ("train", "val", "test")
SECONDS = 10.0
"""Stored length; longer recordings are cut to their first 10 s, shorter ones filled with missing samples."""

SCHEMA: dict[str, Any] = {
    "study_id": pl.String, "subject_id": pl.String, "time": pl.Datetime("us"), "split": pl.String, "report": pl.String,
    "statements": pl.List(pl.Struct({"code": pl.String, "likelihood": pl.Float64})), "language": pl.String, "age": pl.Float64,
    "sex": pl.String, "site": pl.String, "device": pl.String, "source": pl.String, "flags": pl.List(pl.String), "ecg_row": pl.Int64,
}  # fmt: skip
"""Columns of studies.parquet. statements is null where nobody coded the study; ecg_row is null where there is no recording."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a source knows about one study before its file is opened.

    path: the recording; None where the study is a report alone. make: instead of a path, a picklable (function, argument) that
    returns a Study, for cohorts that are computed. split: None lets the subject's hash decide.
    """

    study_id: str
    subject_id: str
    path: str | None = None
    make: tuple[Callable[[Any], Study], Any] | None = None
    time: datetime | None = None
    split: str | None = None
    report: str | None = None
    statements: dict[str, float] | None = None
    language: str | None = None
    age: float | None = None
    sex: str | None = None
    site: str | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A study that could not be read. `reason` is the reader's one line."""

    study_id: str
    path: str
    reason: str


@dataclass(slots=True)
class Summary:
    """What `write` did: studies written by split, and what failed."""

    written: dict[str, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


def write(
    entries: Iterable[Entry], out: str | Path, source: str, options: dict[str, Any], rate: float = 100.0, seed: int = 0,
    workers: int = 2, force: bool = False, progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Summary:  # fmt: skip
    """Read every entry and publish the prepared folder. A file that cannot be read is listed and left out; the rest goes on.

    Raises:
        DataError: two entries with one study_id, an unknown split, a subject in two splits, or not one study that could be read.
    """
    summary = Summary()
    config = {"source": source, "rate": rate, "seed": seed, **options}
    with new_artifact(out, "prepare", config, {}, force) as work:
        work.clear()
        store = SignalWriter(work.path / "ecg")
        rows: list[dict[str, Any]] = []
        seen: set[str] = set()
        split_of_subject: dict[str, str] = {}
        for entry, study, reason in progress(_read_all(entries, rate, workers)):
            if entry.study_id in seen:
                raise DataError(f"{source}: expected each study_id once, got {entry.study_id!r} twice; make the ids unique")
            seen.add(entry.study_id)
            if reason is not None:
                summary.failures.append(Failure(entry.study_id, entry.path or "", reason))
                continue
            row = _row(entry, study, seed)
            first = split_of_subject.setdefault(entry.subject_id, row["split"])
            if first != row["split"]:
                raise DataError(
                    f"{source}: expected all studies of a subject in one split, got subject {entry.subject_id!r} in {first} and (study "
                    f"{entry.study_id!r}) in {row['split']}; give all of them the same split, or none"
                )
            row["ecg_row"] = store.add(study.ecg.signal) if study is not None and study.ecg is not None else None
            rows.append(row)
            summary.written[row["split"]] = summary.written.get(row["split"], 0) + 1
        if not rows:
            why = f": {summary.failures[0].reason}" if summary.failures else ""
            raise DataError(f"{source}: expected at least one readable study, got none of {len(summary.failures)}{why}")
        store.flush()
        pl.DataFrame(rows, schema=SCHEMA).write_parquet(work.path / "studies.parquet")
        _write_failures(summary.failures, work.path / "failed.csv")
        work.manifest |= {"fs": rate, "studies": len(rows), "failed": len(summary.failures)}
    return summary


def _read_all(entries: Iterable[Entry], rate: float, workers: int) -> Iterator[tuple[Entry, Study | None, str | None]]:
    entries = iter(entries)
    if workers <= 1:
        for entry in entries:
            yield entry, *_read_one((entry, rate))
        return
    with ProcessPoolExecutor(workers, initializer=_end_with_parent) as pool:
        while chunk := list(islice(entries, 2048)):
            results = pool.map(_read_one, [(entry, rate) for entry in chunk], chunksize=32)
            for entry, result in zip(chunk, results, strict=True):
                yield entry, *result


def _end_with_parent() -> None:
    """In a worker: end when the main process is killed, instead of waiting for work for ever with its locks held."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def _exit_after(process: multiprocessing.process.BaseProcess) -> None:
    process.join()
    os._exit(1)


def _read_one(job: tuple[Entry, float]) -> tuple[Study | None, str | None]:
    entry, rate = job
    try:
        if entry.make is not None:
            study = entry.make[0](entry.make[1])
        elif entry.path is not None:
            study = read_study(entry.path)
        else:
            return None, None
    except DataError as error:
        return None, str(error)
    if study.ecg is None:
        return study, None
    signal, flags = standard(study.ecg, rate, SECONDS)
    return replace(study, ecg=Ecg(signal, rate), flags=study.flags + flags), None


def _row(entry: Entry, study: Study | None, seed: int) -> dict[str, Any]:
    """Entry first, then what the file itself knew."""
    split = entry.split or split_of(entry.subject_id, seed)
    if split not in SPLITS:
        raise DataError(f"{entry.study_id}: expected a split of {', '.join(SPLITS)}, got {split!r}{did_you_mean(split, SPLITS)}")

    def known(name: str) -> Any:
        value = getattr(entry, name)
        return getattr(study, name, None) if value is None else value

    statements = known("statements")
    return {
        "study_id": entry.study_id, "subject_id": entry.subject_id, "time": known("time"), "split": split, "report": known("report"),
        "statements": None if statements is None else [{"code": c, "likelihood": v} for c, v in statements.items()],
        "language": known("language"), "age": known("age"), "sex": known("sex"), "site": entry.site, "device": entry.device,
        "source": entry.path or (study.source if study else ""), "flags": list(study.flags) if study else [],
    }  # fmt: skip


def split_of(subject_id: str, seed: int) -> str:
    """80 / 10 / 10 by a hash of the subject: all of a subject's studies fall together, and stay there when the archive grows."""
    share = int.from_bytes(hashlib.sha256(f"{seed}:{subject_id}".encode()).digest()[:4], "big") / 2**32
    return "train" if share < 0.8 else "val" if share < 0.9 else "test"


def _write_failures(failures: Sequence[Failure], path: Path) -> None:
    if not failures:
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["study_id", "path", "reason"])
        writer.writerows([f.study_id, f.path, f.reason] for f in failures)


class Prepared:
    """A prepared folder, opened and checked. `studies` is a polars table of SCHEMA; signals are read when asked for."""

    def __init__(self, path: str | Path, studies: pl.DataFrame, manifest: dict[str, Any]) -> None:
        self.path = Path(path)
        self.studies = studies
        self.manifest = manifest
        self.fs = float(manifest["fs"])

    @classmethod
    def open(cls, path: str | Path) -> Prepared:
        """Open a prepared folder, or the studies.parquet in it.

        Raises:
            ArtifactError: not a prepared folder, or one with a damaged file.
        """
        path = Path(path)
        folder = path.parent if path.name == "studies.parquet" else path
        manifest = load_manifest(folder, "prepare")
        return cls(folder, pl.read_parquet(folder / "studies.parquet"), manifest)

    @property
    def digest(self) -> str:
        """SHA-256 of studies.parquet, for the manifests of what is made from it."""
        return str(self.manifest["files"]["studies.parquet"]["sha256"])

    def split(self, name: str, with_ecg: bool = True) -> pl.DataFrame:
        """Rows of one split, in stored order; with_ecg leaves out studies that are a report alone."""
        rows = self.studies.filter(pl.col("split") == name)
        return rows.filter(pl.col("ecg_row").is_not_null()) if with_ecg else rows

    def signals(self, rows: pl.DataFrame, batch: int = 512) -> Iterator[tuple[npt.NDArray[np.int64], FloatArray]]:
        """Signals of the given rows: yields (positions in `rows`, (n, 12, time) mV at self.fs), shard by shard."""
        yield from read_rows(self.path / "ecg", rows["ecg_row"].to_numpy().astype(np.int64), batch)

    def load(self, rows: pl.DataFrame) -> FloatArray:
        """All signals of the given rows at once: (n, 12, time) float32 millivolts."""
        out = np.zeros((len(rows), 12, round(self.fs * SECONDS)), np.float32)
        for positions, block in self.signals(rows):
            out[positions] = block
        return out


def study_from(row: dict[str, Any], signal: FloatArray | None, fs: float) -> Study:
    """A row of studies.parquet (as a dict) and its signal as a Study."""
    statements = row["statements"]
    return Study(
        study_id=row["study_id"], subject_id=row["subject_id"], time=row["time"], report=row["report"],
        statements=None if statements is None else {s["code"]: s["likelihood"] for s in statements},
        ecg=None if signal is None else Ecg(signal, fs), age=row["age"], sex=row["sex"], language=row["language"],
        source=row["source"], flags=tuple(row["flags"] or ()),
    )  # fmt: skip
