"""Many files in one run: what cannot be read is listed and the others go on; drafts reach the disk whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, count
from pathlib import Path
from typing import TextIO

import numpy as np
import polars as pl

from regen.artifact import check_free_file
from regen.data_prep.image_store import Bytes, square
from regen.data_prep.killable import Lost, run_each
from regen.data_prep.prepare import Failure
from regen.data_prep.prepared import Prepared, study_from
from regen.data_prep.readers import find_files, is_image, read_study
from regen.errors import RegenError
from regen.study import Cxr, Draft, Study


@dataclass(slots=True)
class FileStudies:
    """Iterates the studies of files and folders; `failures` fills up while it runs. Images are decoded in a process that can be killed."""

    paths: list[Path]
    failures: list[Failure]
    force: bool = False
    """Read images that do not look like a chest X-ray too (regen.data_prep.readers.read_study)."""
    pixels: int | None = None
    """Side of the square that images are scaled to where they are decoded; None keeps them as large as they are."""

    @classmethod
    def of(cls, given: Iterable[str | Path], force: bool = False, pixels: int | None = None) -> FileStudies:
        """Raises DataError where a folder holds no file that is read."""
        return cls(list(find_files(given)), [], force, pixels)

    def __iter__(self) -> Iterator[Study]:
        seen: set[str] = set()
        for path, study in self._read():
            if study is None:
                continue
            names = chain([study.study_id, path.with_suffix("").as_posix(), path.as_posix()], (f"{path.as_posix()}#{n}" for n in count(2)))
            study = replace(study, study_id=next(name for name in names if name not in seen))
            seen.add(study.study_id)
            yield study

    def _read(self) -> Iterator[tuple[Path, Study | None]]:
        """Every path with its study, None where it failed."""
        image = cache(is_image)
        decoded = read_images((path for path in self.paths if image(path)), self.pixels, self.force)
        try:
            for path in self.paths:
                try:
                    result = next(decoded) if image(path) else read_study(path, self.force)
                except RegenError as error:
                    result = Lost(str(error))
                if isinstance(result, Lost):
                    reason = result.reason if str(path) in result.reason else f"{path}: {result.reason}"
                    self.failures.append(Failure(path.stem, str(path), reason))
                yield path, None if isinstance(result, Lost) else result
        finally:
            decoded.close()


def read_images(paths: Iterable[Path], pixels: int | None, force: bool = False) -> Generator[Study | Lost]:
    """Studies of image files, in order, decoded in a process that can be killed; what fails is Lost with its reason."""
    return run_each(_read_image, ((path, force, pixels) for path in paths), workers=1, chunk=1)


def _read_image(job: tuple[Path, bool, int | None]) -> Study:
    path, force, pixels = job
    study = read_study(path, force)
    if pixels is None:
        return study
    return replace(study, cxr=tuple(replace(view, pixels=square(view.pixels, pixels)) for view in study.cxr))


def prepared_studies(data: Prepared, rows: pl.DataFrame) -> Iterator[Study]:
    """The studies of a prepared folder with their recordings or images, read as they are asked for: ECGs in order, then X-rays in order."""
    hearts, chests = rows.filter(pl.col("ecg_row").is_not_null()), rows.filter(pl.col("ecg_row").is_null() & pl.col("cxr_rows").is_not_null())
    table = hearts.to_dicts()
    for positions, block in data.signals(hearts) if table else ():
        for position, signal in zip(positions, block, strict=True):
            yield study_from(table[int(position)], signal, data.fs)
    for start in range(0, len(chests), 256):
        part = chests[start : start + 256]
        views: list[list[Bytes]] = [[] for _ in range(len(part))]
        for positions, images in data.images(part, every=True):
            for position, image in zip(positions, images, strict=True):
                views[int(position)].append(image)
        for row, images_of in zip(part.to_dicts(), views, strict=True):
            cxr = tuple(Cxr(image.astype(np.float32) / np.float32(255), name) for image, name in zip(images_of, row["views"], strict=True))
            yield replace(study_from(row, None, data.fs), cxr=cxr)


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
