"""Averages that leave out what is undefined: the last step of nearly every metric.

`weights` (d, n) says how often each of n things counts in each of d draws (regen.eval.bootstrap); None means once each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from regen.eval.bootstrap import Sampled, Values, each_once, undefined


def ratio(above: Values, below: Values) -> Values:
    """above / below, NaN where below is 0."""
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)


def mean(values: Values, weights: Values | None = None) -> Values:
    """Weighted mean of what is not NaN; NaN in a draw that holds none of it. values (n,) -> (d,)."""
    weights = each_once(len(values)) if weights is None else weights
    known = ~np.isnan(values)
    return ratio(weights[:, known] @ values[known], weights[:, known].sum(axis=1))


def share(part: Values, whole: Values, weights: Values | None = None) -> Values:
    """Sum of part over sum of whole, (n,) each; NaN where whole is 0. Returns (d,)."""
    weights = each_once(len(whole)) if weights is None else weights
    return ratio(weights @ part, weights @ whole)


def mean_known(values: Values) -> Values:
    """(d, columns) -> (d,): the mean of what is not NaN; NaN where all is."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1).astype(np.float64))


def mean_of(cells: Sequence[Sampled], draws: int) -> Sampled:
    """The mean of what is defined, draw by draw. All must come from one Resamples, of `draws` draws."""
    if not cells:
        return undefined(draws)
    value, every, left_out = (
        mean_known(np.stack(part, axis=1)) for part in ([np.array([c.value]) for c in cells], [c.draws for c in cells], [c.left_out for c in cells])
    )
    return Sampled(float(value[0]), every, left_out, cells[0].patients)
