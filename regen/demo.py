"""`regen demo`: a real ECG and some synthetic ones through the starter, offline, on the CPU, into a table and a page."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from rich.table import Table

from regen.artifact import check_free_file
from regen.batch import jsonl, line
from regen.data_prep.readers import read_study
from regen.data_prep.synthetic_cohort import make_study
from regen.errors import DataError
from regen.page import write_page
from regen.pipeline import Pipeline
from regen.progress import console
from regen.study import DISCLAIMER, Draft, Study

_SYNTHETIC_SEED = 11
_SYNTHETIC = 7
_NOTE = (
    "One real 12-lead ECG (waveform_ecg.dcm, which ships with pydicom; nobody's report of it is known) and synthetic ones: computed from a "
    "dipole model with known findings, no patient. Research software, not a medical device."
)


def run_demo(out: Path, bundle: str, force: bool) -> None:
    """Write out/index.html and out/drafts.jsonl and print a table.

    Raises:
        ArtifactError: drafts or page exist and force is false, or the bundle is damaged.
    """
    started = time.perf_counter()
    for name in ("drafts.jsonl", "index.html"):
        check_free_file(out / name, force)
    studies = demo_studies()
    pipeline = Pipeline.from_pretrained(bundle, "cpu")
    drafts = pipeline.draft(studies)
    with jsonl(out / "drafts.jsonl", force) as file:
        file.writelines(line(draft) for draft in drafts)
    page = write_page(list(zip(studies, drafts, strict=True)), out, "ReGen: drafted ECG reports", _NOTE)
    _print(studies, drafts)
    console.print(f"{page} and {out / 'drafts.jsonl'}: {len(drafts)} drafts in {time.perf_counter() - started:.1f} s")
    console.print(DISCLAIMER)


def demo_studies() -> list[Study]:
    """The real recording first, then synthetic ones that differ in their findings."""
    from pydicom.data import get_testdata_file

    real = get_testdata_file("waveform_ecg.dcm", download=False)
    if real is None:
        raise DataError("waveform_ecg.dcm: expected it among pydicom's test files, it is not there; reinstall pydicom")
    studies = [replace(read_study(str(real)), study_id="real-waveform_ecg")]
    seen: set[str | None] = set()
    number = 0
    while len(studies) <= _SYNTHETIC:
        study = make_study((_SYNTHETIC_SEED, number))
        number += 1
        if study.report not in seen:
            seen.add(study.report)
            studies.append(study)
    return studies


def _print(studies: list[Study], drafts: list[Draft]) -> None:
    table = Table(title="drafts, most of them of synthetic ECGs", show_lines=True)
    for column in ("study", "draft", "supported", "case that agrees best", "what was put into the synthetic ECG"):
        table.add_column(column)
    for study, draft in zip(studies, drafts, strict=True):
        supported = f"{sum(s.status == 'supported' for s in draft.sentences)} of {len(draft.sentences)}"
        agreeing = f"{draft.neighbours[0].study_id} ({draft.neighbours[0].score:.2f})" if draft.neighbours else "none"
        table.add_row(draft.study_id, draft.report, supported, agreeing, study.report or "(real ECG, no report)")
    from rich.console import Console

    Console().print(table)
