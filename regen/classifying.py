"""`regen classify`: what chest X-rays show, by a bundle's adapter where it has learned a label, else zero-shot."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer

from regen.batch import FileStudies
from regen.bundle import open_space
from regen.data_prep.prepare import Failure
from regen.data_prep.views import frontal_rank
from regen.encoders.adapter import Adapter
from regen.encoders.zero_shot import classify
from regen.failures import report_failures


def classify_files(files: list[Path], bundle: str, labels: str, best_prompt: bool, as_json: bool, any_image: bool, device: str) -> int:
    """Print a table or a JSON object a study, of its first frontal view, as an adapter learns them.

    Returns the exit code: 1 if some files could not be read.

    Raises:
        ArtifactError: no such bundle, or a damaged one.
        ConfigError: a bundle that reads no X-rays, or no label.
    """
    folder, space = open_space(bundle, device)
    space.image_tower()
    adapter = Adapter.load(folder / "adapter", space.fingerprint) if (folder / "adapter").is_dir() else None
    names = labels if labels == "chexpert" else [name.strip() for name in labels.split(",")]
    found = FileStudies.of(files, any_image, space.side)
    failures: list[Failure] = []
    for study in found:
        if not study.cxr:
            failures.append(Failure(study.study_id, study.source, f"{study.source}: expected a chest X-ray, got an ECG; draft it instead"))
            continue
        view, count = min(study.cxr, key=lambda view: frontal_rank(view.view)), len(study.cxr)
        (rows,) = classify(space, [view.pixels], names, adapter, best_prompt)
        if as_json:
            known = {"study_id": study.study_id, "view": view.view, "views": count, "flags": study.flags}
            typer.echo(json.dumps(known | {"findings": [asdict(row) for row in rows]}))
            continue
        typer.echo(study.study_id + (f", {view.view or 'the first'} of {count} views" if count > 1 else ""))
        for row in sorted(rows, key=lambda row: -row.probability):
            typer.echo(f"  {'+' if row.positive else ' '} {row.probability:5.2f}  (from {row.threshold:.2f})  {row.name}  [{row.how}]")
    return report_failures([*found.failures, *failures])
