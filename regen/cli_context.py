"""`regen prepare mimic-iv-ed | fhir | meds | demos`: the patient's context, joined to the studies of a prepared folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from regen.cli_prepare import prepare_app
from regen.options import Folder, Force

__all__ = ["prepare_app"]

Studies = Annotated[Path, typer.Option(help="a prepared folder; its studies get the context of their subjects")]


@prepare_app.command("mimic-iv-ed")
def prepare_mimic_ed(
    root: Annotated[Path, typer.Argument(help="the download, with edstays.csv.gz (or the folder above ed/)")],
    studies: Studies,
    out: Folder,
    force: Force = False,
) -> None:
    """ED stays beside studies. Example: regen prepare mimic-iv-ed mimic-iv-ed-2.2 --studies data --out with-context"""
    from regen.data_prep.mimic_ed import prepare

    _attach(prepare, root, studies, out, force)


@prepare_app.command("fhir")
def prepare_fhir(
    bundles: Annotated[list[Path], typer.Argument(help="FHIR R4 bundles (.json), or folders of them")],
    studies: Studies,
    out: Folder,
    force: Force = False,
) -> None:
    """FHIR bundles beside studies. Example: regen prepare fhir bundles --studies data --out with-context"""
    from regen.data_prep.fhir import prepare

    tally = _attach(prepare, bundles, studies, out, force)
    raise typer.Exit(1 if tally.refused["Bundle"] else 0)


@prepare_app.command("meds")
def prepare_meds(
    events: Annotated[Path, typer.Argument(help="a MEDS parquet file, or a folder of them")],
    studies: Studies,
    out: Folder,
    force: Force = False,
) -> None:
    """MEDS events beside studies. Example: regen prepare meds events.parquet --studies data --out with-context"""
    from regen.data_prep.meds import prepare

    _attach(prepare, events, studies, out, force)


@prepare_app.command("demos")
def prepare_demos(
    root: Annotated[Path, typer.Argument(help="a folder with mimic-iv-demo-meds/, icu-demo/, ed-triage/, fhir/, or some of them")],
) -> None:
    """Read the open demo tables, write nothing, print rows read, used, refused and why. Example: regen prepare demos ../shared/data"""
    from regen.data_prep.demos import read_all

    for tally in read_all(root):
        _show(tally.lines())


def _attach(prepare: Callable[..., Any], source: Path | list[Path], studies: Path, out: Path, force: bool) -> Any:
    """Join a source to the studies and print its tally, which comes back."""
    from regen.artifact import check_free
    from regen.data_prep.prepared import Prepared

    check_free(out, force)
    tally = prepare(source, Prepared.open(studies), out, force)
    _show(tally.lines())
    return tally


def _show(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line)
