"""`regen draft`: files or a prepared split through a pipeline into JSON lines and, if wanted, a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from regen.artifact import check_free_file
from regen.batch import FileStudies, jsonl, line, prepared_studies
from regen.data_prep.context import read_context
from regen.data_prep.prepare import Failure
from regen.data_prep.prepared import SPLITS, Prepared
from regen.data_prep.study_context import with_patient
from regen.errors import ConfigError, did_you_mean
from regen.failures import report_failures
from regen.pipeline import Pipeline, set_threads
from regen.progress import bar, console
from regen.study import Draft, Study

_SHOWN_SIDE = 640
"""Images are scaled to this side where they are decoded: what a page shows, and more than an encoder reads."""
_ON_PAGE = 50
"""Studies that a page holds, about 100 KB each; the JSON lines hold all."""


def draft_files(
    files: list[Path], bundle: str, studies: Path | None, split: str, out: Path, html: Path | None, language: str | None, device: str,
    threads: int, force: bool, any_image: bool = False, context: Path | None = None,
) -> int:  # fmt: skip
    """context: one patient's (regen.data_prep.context), for one file.

    Returns the exit code: 0, or 1 if some files could not be read (they are listed with their reasons)."""
    if bool(files) == (studies is not None):
        raise ConfigError("regen draft: expected files, or --studies with a prepared folder, got " + ("both" if files else "neither"))
    check_free_file(out, force)
    if html is not None:
        check_free_file(html / "index.html", force)
    if threads:
        set_threads(threads)
    pipeline = Pipeline.from_pretrained(bundle, device)
    source, total, failures = _source(files, studies, split, any_image, pipeline)
    if context is not None:
        source = _given(source, total, context, studies, pipeline)
    shown: list[tuple[Study, Draft]] = []
    done = 0
    with jsonl(out, force) as file:
        for study, draft in bar(_pairs(pipeline, source, language), "drafting", total):
            file.write(line(draft))
            done += 1
            if html is not None and len(shown) < _ON_PAGE:
                shown.append((study, draft))
    if html is not None and shown:
        from regen.draft_maps import draft_maps
        from regen.page import write_page

        maps = {study.study_id: draft_maps(pipeline.space, study, draft) for study, draft in shown}
        thumbnails = pipeline.archive.thumbnails(hit.study_id for _, draft in shown for hit in draft.neighbours)
        page = write_page(shown, html, "Drafted reports", f"Bundle: {bundle}", maps, thumbnails)
        console.print(f"page with the first {len(shown)} of {done}: {page}")
    console.print(f"{done} drafts in {out}")
    return report_failures(failures)


def _source(files: list[Path], studies: Path | None, split: str, any_image: bool, pipeline: Pipeline) -> tuple[Iterable[Study], int, list[Failure]]:
    if studies is None:
        found = FileStudies.of(files, any_image, _SHOWN_SIDE)
        return _draftable(found, pipeline, found.failures), len(found.groups), found.failures
    if split not in SPLITS:
        raise ConfigError(f"--split: expected one of {', '.join(SPLITS)}, got {split!r}{did_you_mean(split, SPLITS)}")
    data = Prepared.open(studies)
    reads = [pl.col("ecg_row").is_not_null()] if pipeline.ecg_writer is not None else []
    reads += [pl.col("cxr_rows").is_not_null()] if pipeline.space.cxr is not None else []
    rows = data.split(split, with_ecg=False).filter(pl.any_horizontal(reads))
    if not len(rows):
        raise ConfigError(f"{studies}: expected studies in the {split} split that the bundle drafts reports of, got none; choose another --split")
    return prepared_studies(data, rows), len(rows), []


def _given(source: Iterable[Study], total: int, path: Path, studies: Path | None, pipeline: Pipeline) -> Iterator[Study]:
    """The study of the one file, with its patient's context.

    Raises:
        ConfigError: several files, a prepared folder, or a bundle whose writer reads no context.
        DataError: a context that cannot be read, or another patient's.
    """
    if studies is not None or total != 1:
        got = "a prepared folder, whose own context is used" if studies is not None else f"{total} files"
        raise ConfigError(f"--context: expected the one file of the patient it is of, got {got}")
    if not pipeline.reads_context:
        raise ConfigError(f"--context: expected a bundle whose writer reads context, {pipeline.name} reads none; train one with context_tokens")
    return (with_patient(study, read_context(path, study.subject_id, study.time)) for study in source)


def _draftable(studies: Iterable[Study], pipeline: Pipeline, failures: list[Failure]) -> Iterator[Study]:
    """Studies that the bundle writes about; the others are listed."""
    for study in studies:
        kind = "ECG" if study.ecg is not None else "chest X-ray"
        able = pipeline.ecg_writer is not None if study.ecg is not None else pipeline.space.cxr is not None and "cxr" in pipeline.archive.modalities
        if able:
            yield study
        else:
            reason = f"{study.source or study.study_id}: expected a study that {pipeline.name} drafts reports of, got {kind}; choose another --bundle"
            failures.append(Failure(study.study_id, study.source, reason))


def _pairs(pipeline: Pipeline, studies: Iterable[Study], language: str | None) -> Iterator[tuple[Study, Draft]]:
    """Each study beside its draft, without holding more than a batch."""
    waiting: list[Study] = []

    def passing() -> Iterator[Study]:
        for study in studies:
            waiting.append(study)
            yield study

    for draft in pipeline.drafts(passing(), language):
        yield waiting.pop(0), draft
