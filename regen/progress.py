"""Progress bars and the console of the command line. Both write to standard error: standard output belongs to results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
T = TypeVar("T")


def bar(items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a bar: title, count, time spent and time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    if total is None:
        total = len(items) if hasattr(items, "__len__") else None  # type: ignore[arg-type]
    with Progress(*columns, console=console, transient=False) as progress:
        yield from progress.track(items, total=total, description=title)
