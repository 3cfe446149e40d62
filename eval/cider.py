"""CIDEr-D: agreement of runs of words, each weighed by how rare it is among the references (Vedantam et al., CVPR 2015).

    values = cider(drafts, references)          (n,) in [0, 10], NaN where there is no reference text

Runs of 1 to 4 words; tf-idf with the references as documents; cosine with the draft's counts clipped at the reference's; a Gaussian penalty on
the difference in length; ten times the mean over the four orders. Rarity is fixed on the whole set of references, so that a bootstrap
reweighs studies and not what a word is worth. With fewer than two different references every rarity is zero, and so is the score.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from regen.data_prep.wording import words
from regen.errors import DataError
from regen.eval.bootstrap import Values

ORDERS = 4
SIGMA = 6.0
"""Words of difference in length at which the penalty is exp(-1/2)."""

Runs = tuple[Counter[tuple[str, ...]], ...]
Vector = tuple[dict[tuple[str, ...], float], float]


def cider(drafts: Sequence[str], references: Sequence[str]) -> Values:
    """One value a pair. A pair that comes twice is compared once.

    Raises:
        DataError: more or fewer drafts than references.
    """
    if len(drafts) != len(references):
        raise DataError(f"cider: expected a draft a reference, got {len(drafts)} drafts and {len(references)} references")
    counted = {text: _runs(text) for text in {*drafts, *references}}
    documents = Counter(text for text in references if words(text))
    seen: Counter[tuple[str, ...]] = Counter()
    for text, times in documents.items():
        for runs in counted[text]:
            for run in runs:
                seen[run] += times
    total = math.log(max(documents.total(), 1))
    weighed = {text: [_weigh(runs, seen, total) for runs in counted[text]] for text in counted}
    values: dict[tuple[str, str], float] = {}
    for pair in zip(drafts, references, strict=True):
        if pair not in values:
            values[pair] = _one(weighed[pair[0]], weighed[pair[1]], _length(counted[pair[0]]) - _length(counted[pair[1]]))
    return np.array([values[pair] if documents[pair[1]] else np.nan for pair in zip(drafts, references, strict=True)], np.float64)


def _runs(text: str) -> Runs:
    tokens = words(text)
    return tuple(Counter(zip(*(tokens[start:] for start in range(order)), strict=False)) for order in range(1, ORDERS + 1))


def _length(runs: Runs) -> int:
    return runs[0].total()


def _weigh(runs: Counter[tuple[str, ...]], seen: Counter[tuple[str, ...]], total: float) -> Vector:
    """tf-idf of each run, and the length of the vector."""
    vector = {run: count * (total - math.log(max(seen[run], 1))) for run, count in runs.items()}
    return vector, math.sqrt(sum(value * value for value in vector.values()))


def _one(draft: Sequence[Vector], reference: Sequence[Vector], longer: int) -> float:
    penalty = math.exp(-(longer**2) / (2 * SIGMA**2))
    total = 0.0
    for (ours, our_length), (theirs, their_length) in zip(draft, reference, strict=True):
        both = sum(min(value, theirs[run]) * theirs[run] for run, value in ours.items() if run in theirs)
        if our_length and their_length:
            total += penalty * both / (our_length * their_length)
    return 10 * total / ORDERS
