"""What a writer is asked and what it answers: the seam between retrieval and language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from regen.study import Draft, FloatArray, Study


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One study to write about, and all that was seen and found.

    tokens: (t, width) of the encoder, zero rows where nothing was heard; head: (71,) statement probabilities of the encoder's head;
    measured: by name, NaN where it cannot be measured; ids, scores: rows of the writer's index and their cosines, nearest first;
    language: of the report to write, None for the index's most frequent one; allowed: why the retrieved cases may be seen; task: one of
    regen.generators.tasks.
    """

    study: Study
    tokens: Tensor
    head: FloatArray
    measured: dict[str, float]
    ids: npt.NDArray[np.int64]
    scores: FloatArray
    language: str | None = None
    allowed: str = ""
    task: str = "draft"


class Writer(Protocol):
    """Requests in, drafts out, in the same order. `needs` is how many nearest cases a request should carry."""

    @property
    def needs(self) -> int: ...

    def write(self, requests: Sequence[Request]) -> list[Draft]: ...
