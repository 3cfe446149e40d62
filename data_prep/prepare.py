"""Reading an archive into a prepared folder: entries in, files read in worker processes, one folder out.

    summary = write(entries, "data", "ptb-xl", {"report": "english"}, workers=2)
    summary.written                 {"train": 1903, "val": 304, "test": 326}
    summary.failures                [Failure(study_id="00077", path="...", reason="...: expected 12 leads x 5000 samples, ...")]

A source module yields Entry rows; `write` reads their files, splits by subject, and publishes the folder whole (regen.data_prep.prepared).
"""

from __future__ import annotations

import csv
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from datetime import datetime
from functools import partial
from itertools import accumulate
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import polars as pl

from regen.artifact import new_artifact
from regen.data_prep.clean import standard
from regen.data_prep.image_store import ImageWriter, square
from regen.data_prep.killable import Lost, run_each
from regen.data_prep.prepared import SCHEMA, SECONDS, SPLITS
from regen.data_prep.readers import read_study
from regen.data_prep.recording import age_or_missing
from regen.data_prep.signal_store import SignalWriter
from regen.data_prep.views import join_views
from regen.errors import DataError, RegenError, did_you_mean
from regen.study import Ecg, Study

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
"""Of the subjects, where the source names no split."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a source knows about one study before its file is opened.

    path: the recording; images: the views of a chest X-ray, views: their names, where the source knows them; with none of the two the
    study is a report alone. subject_id: '' where the source does not know it: then the file's own, else the study's id. make: instead of
    a path, a module's function and the argument with which it returns a Study, for cohorts that are computed. split: None lets the
    subject's hash decide. broken: what the source itself found wrong; the study is listed with that reason and none of its files is opened.
    """

    study_id: str
    subject_id: str
    path: str | None = None
    images: tuple[str, ...] = ()
    views: tuple[str | None, ...] = ()
    make: tuple[Callable[[Any], Study], Any] | None = None
    time: datetime | None = None
    split: str | None = None
    report: str | None = None
    sections: dict[str, str] | None = None
    statements: dict[str, float] | None = None
    observations: dict[str, float] | None = None
    language: str | None = None
    age: float | None = None
    sex: str | None = None
    site: str | None = None
    device: str | None = None
    broken: str | None = None
    """Why the source itself gives the study up: it is listed with this line, and none of its files is opened."""


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
    workers: int = 2, force: bool = False, progress: Callable[[Iterable[Any]], Iterable[Any]] = iter, pixels: int = 224,
    beside: Callable[[Path], None] | None = None,
) -> Summary:  # fmt: skip
    """Read every entry and publish the prepared folder. A file that cannot be read, or an id that came before, is listed and left out.

    rate: samples a second of stored recordings; pixels: side of stored images; beside: writes what else belongs into the folder.

    Raises:
        DataError: an unknown split, a subject in two splits, or not one study that could be read.
    """
    summary = Summary()
    config = {"source": source, "rate": rate, "pixels": pixels, "seed": seed, **options}
    with new_artifact(out, "prepare", config, {}, force) as work:
        work.clear()
        signals, images = SignalWriter(work.path / "ecg"), ImageWriter(work.path / "cxr", pixels)
        rows: list[dict[str, Any]] = []
        seen: set[str] = set()
        split_of_subject: dict[str, str] = {}
        for entry, study, reason in progress(_read_all(entries, partial(_read_one, rate=rate, pixels=pixels), workers)):
            if entry.study_id in seen:
                reason = f"{source}: expected each study_id once, got {entry.study_id!r} again; this one was left out: make the ids unique"
            seen.add(entry.study_id)
            if reason is not None:
                summary.failures.append(Failure(entry.study_id, entry.path or "|".join(entry.images), reason))
                continue
            row = _row(entry, study, seed)
            first = split_of_subject.setdefault(row["subject_id"], row["split"])
            if first != row["split"]:
                raise DataError(
                    f"{source}: expected all studies of a subject in one split, got subject {row['subject_id']!r} in {first} and (study "
                    f"{entry.study_id!r}) in {row['split']}; give all of them the same split, or none"
                )
            row["ecg_row"] = signals.add(study.ecg.signal) if study is not None and study.ecg is not None else None
            views = study.cxr if study is not None else ()
            row["cxr_rows"] = [images.add(view.pixels) for view in views] or None
            row["views"] = [view.view for view in views] or None
            rows.append(row)
            summary.written[row["split"]] = summary.written.get(row["split"], 0) + 1
        if not rows:
            why = f": {summary.failures[0].reason}" if summary.failures else ""
            raise DataError(f"{source}: expected at least one readable study, got none of {len(summary.failures)}{why}")
        signals.flush()
        images.flush()
        pl.DataFrame(rows, schema=SCHEMA).write_parquet(work.path / "studies.parquet")
        write_failures(summary.failures, work.path / "failed.csv")
        if beside is not None:
            beside(work.path)
        work.manifest |= {"fs": rate, "pixels": pixels, "studies": len(rows), "failed": len(summary.failures)}
    return summary


_Job = tuple[str | None, tuple[str, ...], tuple[str | None, ...], str, Any]
"""What a worker is told of an entry: path, images, views, and the name and the argument of the function that makes it."""
_Read = Callable[[_Job], tuple[Study | None, str | None]]


def _read_all(entries: Iterable[Entry], read: _Read, workers: int) -> Iterator[tuple[Entry, Study | None, str | None]]:
    """Every entry with its study, or with the reason why there is none; a report alone has neither."""
    sent: deque[Entry] = deque()

    def jobs() -> Iterator[_Job]:
        for entry in entries:
            sent.append(entry)
            yield _job(entry) if entry.broken is None else (None, (), (), "", None)

    for result in map(read, jobs()) if workers < 1 else run_each(read, jobs(), workers, chunk=32):
        entry = sent.popleft()
        if entry.broken is not None:
            yield entry, None, entry.broken
        elif isinstance(result, Lost):
            where = entry.path or "|".join(entry.images) or entry.study_id
            yield entry, None, f"{where}: {result.reason}"
        else:
            yield entry, *result


def _job(entry: Entry) -> _Job:
    function, argument = entry.make or (None, None)
    return entry.path, entry.images, entry.views, f"{function.__module__}:{function.__qualname__}" if function else "", argument


def _read_one(job: _Job, rate: float, pixels: int) -> tuple[Study | None, str | None]:
    path, images, views, maker, argument = job
    try:
        if maker:
            study = resolve_name(maker)(argument)
        elif path is not None:
            study = read_study(path)
        elif images:
            study = _read_views(images, views)
        else:
            return None, None
        study = replace(study, cxr=tuple(replace(view, pixels=square(view.pixels, pixels)) for view in study.cxr))
    except RegenError as error:
        return None, str(error)
    if study.ecg is None:
        return study, None
    signal, flags = standard(study.ecg, rate, SECONDS)
    return replace(study, ecg=Ecg(signal, rate), flags=study.flags + flags), None


def _read_views(images: Sequence[str], views: Sequence[str | None]) -> Study:
    """All images of a study as one. Views that the source names keep that name."""
    named = views or (None,) * len(images)
    studies = [read_study(path) for path in images]
    without = [path for path, study in zip(images, studies, strict=True) if not study.cxr]
    if without:
        raise DataError(f"{without[0]}: expected a chest X-ray, got another kind of recording; leave it out of the study")
    pairs = zip(named, studies, strict=True)
    return join_views([replace(study, cxr=tuple(replace(v, view=name or v.view) for v in study.cxr)) for name, study in pairs])


def _row(entry: Entry, study: Study | None, seed: int) -> dict[str, Any]:
    """Entry first, then what the file itself knew."""
    subject = entry.subject_id or (study.subject_id if study is not None else None) or entry.study_id
    split = entry.split or split_of(subject, seed)
    if split not in SPLITS:
        raise DataError(f"{entry.study_id}: expected a split of {', '.join(SPLITS)}, got {split!r}{did_you_mean(split, SPLITS)}")

    def known(name: str) -> Any:
        value = getattr(entry, name)
        return getattr(study, name, None) if value is None else value

    age, notes = age_or_missing(known("age"))
    statements, observations, sections = known("statements"), known("observations"), known("sections")
    return {
        "study_id": entry.study_id, "subject_id": subject, "time": known("time"), "split": split, "report": known("report"),
        "statements": None if statements is None else [{"code": c, "likelihood": v} for c, v in statements.items()],
        "language": known("language"), "age": age, "sex": known("sex"), "site": entry.site, "device": entry.device,
        "source": entry.path or "|".join(entry.images) or (study.source if study else ""), "flags": [*(study.flags if study else ()), *notes],
        "observations": None if observations is None else [{"code": c, "likelihood": v} for c, v in observations.items()],
        "sections": None if sections is None else [{"name": n, "text": t} for n, t in sections.items()],
    }  # fmt: skip


def split_of(subject_id: str, seed: int, shares: Mapping[str, float] = SHARES) -> str:
    """By a hash of the subject: all of a subject's studies fall together, and stay there when the archive grows. shares: they sum to 1."""
    at = int.from_bytes(hashlib.sha256(f"{seed}:{subject_id}".encode()).digest()[:4], "big") / 2**32
    ends = zip(shares, accumulate(shares.values()), strict=True)
    return next((split for split, end in ends if at < end), list(shares)[-1])


def write_failures(failures: Sequence[Any], path: Path) -> None:
    """One line a failure, of any dataclass, under the names of its fields; no file where there is none."""
    if not failures:
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([column.name for column in fields(failures[0])])
        writer.writerows(astuple(failure) for failure in failures)
