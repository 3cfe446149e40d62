"""Many files in one run: what cannot be read is listed and the others go on; drafts reach the disk whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import polars as pl

from regen.artifact import check_free_file
from regen.data_prep.prepare import Failure
from regen.data_prep.prepared import Prepared, study_from
from regen.data_prep.readers import find_files, read_study
from regen.errors import DataError
from regen.study import Draft, Study


@dataclass(slots=True)
class FileStudies:
    """Iterates the studies of files and folders; `failures` fills up while it runs."""

    paths: list[Path]
    failures: list[Failure]

    @classmethod
    def of(cls, given: Iterable[str | Path]) -> FileStudies:
        """Raises DataError where a folder holds no ECG."""
        return cls(list(find_files(given)), [])

    def __iter__(self) -> Iterator[Study]:
        seen: set[str] = set()
        for path in self.paths:
            try:
                study = read_study(path)
            except DataError as error:
                self.failures.append(Failure(path.stem, str(path), str(error)))
                continue
            if study.study_id in seen:
                study = replace(study, study_id=path.with_suffix("").as_posix())
            seen.add(study.study_id)
            yield study


def prepared_studies(data: Prepared, rows: pl.DataFrame) -> Iterator[Study]:
    """The studies of a prepared folder with their signals, in order, read as they are asked for."""
    table = rows.to_dicts()
    for positions, block in data.signals(rows):
        for position, signal in zip(positions, block, strict=True):
            yield study_from(table[int(position)], signal, data.fs)


@contextmanager
def jsonl(path: str | Path, force: bool = False) -> Iterator[TextIO]:
    """A text file that appears under its name only when the body ended without an error.

    Raises:
        ArtifactError: it exists and force is false, or is a folder.
    """
    path = Path(path)
    check_free_file(path, force)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def line(draft: Draft) -> str:
    """A draft as one line of JSON."""
    return json.dumps(draft.to_dict(), ensure_ascii=False, allow_nan=False) + "\n"
