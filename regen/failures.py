"""What a run over many files says about those that could not be read."""

from __future__ import annotations

from collections.abc import Sequence

from regen.data_prep.prepare import Failure
from regen.progress import console


def report_failures(failures: Sequence[Failure]) -> int:
    """List what could not be read; 1 if there was any."""
    if failures:
        console.print(f"{len(failures)} could not be read:")
        for failure in failures:
            console.print(f"  {failure.reason}")
    return 1 if failures else 0
