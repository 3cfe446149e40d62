"""`regen eval` and `regen bench`."""

from __future__ import annotations

import typer

eval_app = typer.Typer(no_args_is_help=True, help="Score drafts, with floors beside them.")
bench_app = typer.Typer(no_args_is_help=True, help="Measure speed against stock parts, side by side in one run.")
