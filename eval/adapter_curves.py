"""The curves of an adapter's labels: ROC with the operating points, and reliability.

curves = curves_of(adapter.names, probabilities, labels)      label -> points, plain lists for JSON
draw(curves, [(score.specificity, score.sensitivity) for score in group.labels], Path("curves.png"))
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from regen.eval.adapter_table import Rate
from regen.eval.curves import reliability, roc
from regen.study import FloatArray


def curves_of(names: Sequence[str], probabilities: npt.NDArray, labels: FloatArray) -> dict[str, dict[str, list[float]]]:
    """Label -> points of its ROC curve and of its reliability diagram. A label with one class alone has no curve."""
    out = {}
    for c, name in enumerate(names):
        known = ~np.isnan(labels[:, c])
        p, truth = probabilities[known, c], labels[known, c] == 1
        if truth.any() and not truth.all():
            false, true = roc(p, truth)
            mean, share, count = reliability(p, truth)
            values = {"false_positive_rate": false, "true_positive_rate": true, "stated": mean, "observed": share, "count": count}
            out[name] = {key: np.round(value, 6).tolist() for key, value in values.items()}
    return out


def draw(curves: dict[str, dict[str, list[float]]], points: Sequence[tuple[Rate, Rate]], path: Path) -> None:
    """ROC with the operating points, and reliability, one line a label."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8))
    for axis in (left, right):
        axis.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    for name, curve in curves.items():
        left.plot(curve["false_positive_rate"], curve["true_positive_rate"], label=name, linewidth=1.2)
        right.plot(curve["stated"], curve["observed"], marker="o", markersize=3, linewidth=1.2)
    left.scatter([1 - kept.value for kept, _ in points], [found.value for _, found in points], color="black", s=12, zorder=3)
    left.set(title="ROC, operating points black", xlabel="1 - specificity", ylabel="sensitivity")
    right.set(title="reliability", xlabel="stated probability", ylabel="observed share")
    if curves:
        left.legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
