"""Many files in one run: what cannot be read is listed and the others go on; drafts reach the disk whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, count, islice
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
from regen.data_prep.study_context import with_context
from regen.data_prep.study_files import group_files, study_folder
from regen.data_prep.views import join_views
from regen.errors import DataError, RegenError
from regen.study import Cxr, Draft, Study


@dataclass(slots=True)
class FileStudies:
    """Iterates the studies of files and folders; `failures` fills up while it runs. Images are decoded in a process that can be killed.

    groups: the files of each study, several where they are views of one chest X-ray (regen.data_prep.study_files). A view that cannot be
    read costs itself: the study goes on without it, with a flag 'view_unreadable:NAME'.
    """

    groups: list[list[Path]]
    failures: list[Failure]
    force: bool = False
    """Read images that do not look like a chest X-ray too (regen.data_prep.readers.read_study)."""
    pixels: int | None = None
    """Side of the square that images are scaled to where they are decoded; None keeps them as large as they are."""

    @classmethod
    def of(cls, given: Iterable[str | Path], force: bool = False, pixels: int | None = None) -> FileStudies:
        """A folder that holds no file that is read is listed. Raises DataError where nothing else is given."""
        paths: list[Path] = []
        failures: list[Failure] = []
        for each in map(Path, given):
            try:
                paths += find_files([each])
            except DataError as error:
                failures.append(Failure(each.name, str(each), str(error)))
        if failures and not paths:
            raise DataError(failures[0].reason)
        return cls(group_files(paths), failures, force, pixels)

    def __iter__(self) -> Iterator[Study]:
        seen: set[str] = set()
        for paths, study in self.read():
            if study is None:
                continue
            place = paths[0] if len(paths) == 1 else paths[0].parent
            names = chain([study.study_id, place.with_suffix("").as_posix(), place.as_posix()], (f"{place.as_posix()}#{n}" for n in count(2)))
            study = replace(study, study_id=next(name for name in names if name not in seen))
            seen.add(study.study_id)
            yield study

    def read(self) -> Iterator[tuple[list[Path], Study | None]]:
        """Every group with its study, None where none of its files could be read."""
        image = cache(is_image)
        decoded = read_images((path for group in self.groups for path in group if image(path)), self.pixels, self.force)
        try:
            for group in self.groups:
                found: list[Study] = []
                lost: list[str] = []
                for path in group:
                    try:
                        result = next(decoded) if image(path) else read_study(path, self.force)
                    except RegenError as error:
                        result = Lost(str(error))
                    if isinstance(result, Lost):
                        reason = result.reason if str(path) in result.reason else f"{path}: {result.reason}"
                        self.failures.append(Failure(path.stem, str(path), reason))
                        lost.append(f"view_unreadable:{path.name}")
                    else:
                        found.append(result)
                yield group, _joined(group, found, tuple(lost)) if found else None
        finally:
            decoded.close()


def _joined(group: Sequence[Path], found: Sequence[Study], lost: tuple[str, ...]) -> Study:
    if len(group) == 1:
        return found[0]
    study = join_views(found)
    folder = study_folder(group[0])
    return replace(study, study_id=study.study_id if folder is None else folder.name, flags=study.flags + lost)


def read_studies(sources: Iterable[str | Path | Study]) -> Iterator[Study]:
    """One study a source, in order: itself, a file's, or that of a folder with the views of one chest X-ray.

    Raises:
        DataError: a source that cannot be read, or a folder with several studies.
    """
    sources = list(sources)
    groups = []
    for source in sources:
        if not isinstance(source, Study):
            found = FileStudies.of([source]).groups
            if len(found) > 1:
                raise DataError(f"{source}: expected one study, got a folder with {len(found)}; give its files, or a folder with the views of one")
            groups += found
    files = FileStudies(groups, [])
    read = files.read()
    for source in sources:
        if isinstance(source, Study):
            yield source
            continue
        _, study = next(read)
        if study is None:
            raise DataError(files.failures[-1].reason)
        yield study


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
    """The studies of a prepared folder with their recordings or images, read as they are asked for: ECGs in order, then X-rays in order.

    Where the folder has events, each study comes with its context (regen.data_prep.study_context).
    """
    studies = _recorded(data, rows)
    while batch := list(islice(studies, 256)) if data.events is not None else []:
        yield from with_context(data, batch)
    yield from studies


def _recorded(data: Prepared, rows: pl.DataFrame) -> Iterator[Study]:
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
