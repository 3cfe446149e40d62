"""`regen prepare mimic-iv-ed | fhir | meds | demos`: the patient's context, joined to the studies of a prepared folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regen.cli_prepare import Force, Out, prepare_app

Studies = Annotated[Path, typer.Option(help="a prepared folder; its studies get the context of their subjects")]


@prepare_app.command("mimic-iv-ed")
def prepare_mimic_ed(
    root: Annotated[Path, typer.Argument(help="the download, with edstays.csv.gz (or the folder above ed/)")],
    studies: Studies,
    out: Out,
    force: Force = False,
) -> None:
    """ED stays beside studies. Example: regen prepare mimic-iv-ed mimic-iv-ed-2.2 --studies data --out with-context"""
    from regen.artifact import check_free
    from regen.data_prep.mimic_ed import prepare
    from regen.data_prep.prepared import Prepared

    check_free(out, force)
    _show(prepare(root, Prepared.open(studies), out, force).lines())


def _show(lines: object) -> None:
    for line in lines:  # type: ignore[attr-defined]
        typer.echo(line)
