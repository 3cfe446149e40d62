"""`regen eval` and `regen bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

eval_app = typer.Typer(no_args_is_help=True, help="Score drafts, with floors beside them.")
bench_app = typer.Typer(no_args_is_help=True, help="Measure speed against stock parts, side by side in one run.")


@eval_app.callback()
def _eval() -> None:
    pass


@eval_app.command("report")
def report(
    studies: Annotated[Path, typer.Option(help="a prepared folder")],
    bundle: Annotated[str, typer.Option(help="a bundle's folder, a hub id, or 'starter'")] = "starter",
    split: Annotated[str, typer.Option(help="val or test")] = "test",
    random_init: Annotated[str | None, typer.Option(help="a bundle whose encoder was aligned without pre-training")] = None,
    drafts: Annotated[list[Path] | None, typer.Option(help="drafts of another system, JSON lines; may be given several times")] = None,
    language: Annotated[str | None, typer.Option(help="of the drafts; by default what each study declares")] = None,
    out: Annotated[Path | None, typer.Option(help="also write the table: .json or .md")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto")] = "auto",
    seed: Annotated[int, typer.Option(help="of the bootstrap and of the random report")] = 0,
    force: Annotated[bool, typer.Option("--force", help="replace an output that exists")] = False,
) -> None:
    """One table: system, parts hidden, every floor; n and 95 % intervals. Example: regen eval report --studies data --bundle bundle"""
    from regen.evaluating import evaluate

    evaluate(studies, split, bundle, random_init, drafts or [], language, out, device, seed, force)
