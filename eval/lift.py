"""Does one modality find the other's findings? Of X-rays that show something, what share of the nearest ECGs belong to patients who have it.

found = Found.of(nearest_others(similarity, own, 10), own, has)      has: (n,) bool, of query and candidate i alike: the halves of one visit
lift(found)                                               array([3.1]): 3.1 times as often as in all candidates; 1 is chance
by_chance(nearest, has, found, 1000, rng)                 (0.4, 2.1): how far chance alone strays from 1
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regen.eval.averages import mean, ratio
from regen.eval.bootstrap import Values
from regen.eval.set_metrics import Sets


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """share (n,): of each query's nearest, those whose visit has the finding; base (n,): of all it may see; NaN where it has it not itself."""

    share: Values
    base: Values

    @classmethod
    def of(cls, nearest: npt.NDArray[np.int64], own: Sets, has: Sets) -> Found:
        """nearest: (n, k) candidates, -1 where there is none; own: (n, m) True where a candidate is the query's subject's; has: (n,)."""
        there = nearest >= 0
        share = ratio((has[np.maximum(nearest, 0)] & there).sum(axis=1).astype(float), there.sum(axis=1).astype(float))
        base = ratio((~own & has).sum(axis=1).astype(float), (~own).sum(axis=1).astype(float))
        return cls(np.where(has, share, np.nan), np.where(has, base, np.nan))


def nearest_others(similarity: npt.NDArray, own: Sets, depth: int) -> npt.NDArray[np.int64]:
    """(n, m), (n, m) -> (n, depth) the closest candidates that are not the query's own subject's, -1 where there are fewer."""
    order = np.argsort(np.where(own, np.inf, -similarity), axis=1, kind="stable")[:, :depth]
    return np.where(np.take_along_axis(own, order, axis=1), -1, order)


def lift(found: Found, weights: Values | None = None) -> Values:
    """Mean share over mean base; NaN where no query has the finding. Returns (d,)."""
    return ratio(mean(found.share, weights), mean(found.base, weights))


def by_chance(nearest: npt.NDArray[np.int64], has: Sets, found: Found, draws: int, rng: np.random.Generator) -> tuple[float, float]:
    """Where 95 % of the lifts lie when the finding is dealt anew to the candidates, `draws` times, and the queries keep theirs.

    Queries that look alike find the same few candidates, so that chance alone can give 0.3 or 3. An interval over the queries takes those
    candidates as given and does not show it. NaN where no query has the finding.
    """
    asked = nearest[has]
    times = np.bincount(asked[asked >= 0], minlength=len(has)).astype(float)
    base = float(mean(found.base)[0])
    if not times.sum() or not base > 0:
        return float("nan"), float("nan")
    lifts = [times @ rng.permutation(has) / times.sum() / base for _ in range(draws)]
    low, high = np.quantile(lifts, [0.025, 0.975])
    return float(low), float(high)
