"""Small matrix products on one thread.

numpy's BLAS wakes a thread a core for products that take 50 microseconds, and waits for all of them: on a machine that is busy with
anything else that costs milliseconds a call. The products of cleaning and measuring are that small; work is spread by batches elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def one_thread(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: numpy's BLAS computes on one thread while the function runs."""

    @wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        libraries = _blas()
        before = [library.num_threads for library in libraries]
        for library in libraries:
            library.set_num_threads(1)
        try:
            return function(*args, **kwargs)
        finally:
            for library, threads in zip(libraries, before, strict=True):
                library.set_num_threads(threads)

    return limited


@lru_cache(maxsize=1)
def _blas() -> tuple[Any, ...]:
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().select(user_api="blas").lib_controllers
    return tuple(library for library in found if "numpy" in library.filepath) or tuple(found)
