"""Logistic regressions on frozen features, all labels at once, and the choice of their penalty by cross-validation.

choice, losses = select(x, y, subjects, hidden=(0, 32), rng=rng)         x (n, width) standardised, y (n, labels), NaN where not known
reading = fit_reading(x, y, choice, seed=0)
reading(x)                                                               (n, labels) logits
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

PENALTIES = {False: (3.0, 30.0, 300.0, 3000.0, 30000.0, 300000.0), True: (30.0, 300.0, 3000.0)}
"""Of a reading with (True) or without a hidden layer: half the squared weights count so much against the summed log loss (scikit-learn's 1 / C)."""
FOLDS = 4
_CROSS_VALIDATED = 5000
"""Most cases that cross-validation looks at: whole subjects, drawn. What penalty is best depends little on more."""
_ITERATIONS = 200


@dataclass(frozen=True, slots=True)
class Choice:
    """penalty: see PENALTIES; hidden: width of the layer between, 0 for none."""

    penalty: float
    hidden: int = 0


class Reading(nn.Module):
    """(n, width) -> (n, labels) logits, float64: linear, or with one hidden layer (GELU)."""

    def __init__(self, width: int, labels: int, hidden: int = 0) -> None:
        super().__init__()
        self.between = nn.Linear(width, hidden, dtype=torch.float64) if hidden else None
        self.last = nn.Linear(hidden or width, labels, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x if self.between is None else F.gelu(self.between(x)))

    @property
    def first(self) -> nn.Linear:
        """The layer that sees the features."""
        return self.last if self.between is None else self.between


def fit_reading(x: Tensor, y: Tensor, choice: Choice, seed: int = 0) -> Reading:
    """Minimise summed log loss plus penalty / 2 times the squared weights; shifts are free. Deterministic: linear readings start at 0.

    x: (n, width), y: (n, labels) in {0, 1, NaN}, both double. With more features than cases the fit runs in the space that the cases
    span, where the optimum lies: the result is the same.
    """
    if x.shape[1] <= len(x):
        return _fit(x, y, choice, seed)
    basis = torch.linalg.qr(x.T).Q
    small = _fit(x @ basis, y, choice, seed)
    reading = Reading(x.shape[1], y.shape[1], choice.hidden)
    with torch.no_grad():
        state = small.state_dict()
        name = "last.weight" if small.between is None else "between.weight"
        reading.load_state_dict(state | {name: state[name] @ basis.T})
    return reading


def _fit(x: Tensor, y: Tensor, choice: Choice, seed: int) -> Reading:
    known = ~torch.isnan(y)
    target = torch.nan_to_num(y)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        reading = Reading(x.shape[1], y.shape[1], choice.hidden)
    with torch.no_grad():
        share = ((target * known).sum(0) + 0.5) / (known.sum(0) + 1)
        reading.last.bias.copy_((share / (1 - share)).log())
        reading.last.weight.zero_() if reading.between is None else reading.between.bias.zero_()
    weights = [module.weight for module in reading.modules() if isinstance(module, nn.Linear)]
    optimizer = torch.optim.LBFGS(reading.parameters(), max_iter=_ITERATIONS, history_size=20, line_search_fn="strong_wolfe", tolerance_grad=1e-8)

    def closure() -> Tensor:
        optimizer.zero_grad()
        error = F.binary_cross_entropy_with_logits(reading(x), target, reduction="none")
        loss = ((error * known).sum() + choice.penalty / 2 * torch.stack([w.square().sum() for w in weights]).sum()) / len(x)
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return reading


def select(x: Tensor, y: Tensor, subjects: Sequence[str | None], hidden: Sequence[int], rng: np.random.Generator) -> tuple[Choice, dict[str, float]]:
    """The choice with the lowest log loss over FOLDS folds by subject, mean over the labels, and the loss of every choice.

    A hidden layer must do better than the best linear reading by more than the spread over the folds (its standard error) to be taken.
    With fewer subjects than folds the middle penalty is taken, and no loss is told.
    """
    fold = folds(subjects, rng)
    if fold.max(initial=-1) < FOLDS - 1:
        return Choice(PENALTIES[False][2]), {}
    seen = np.flatnonzero(fold >= 0)
    fold, x, y = fold[seen], x[torch.from_numpy(seen)], y[torch.from_numpy(seen)]
    if x.shape[1] > len(x):
        x = x @ torch.linalg.qr(x.T).Q
    losses: dict[Choice, npt.NDArray[np.float64]] = {}
    for choice in (Choice(penalty, width) for width in sorted(set(hidden)) for penalty in PENALTIES[width > 0]):
        losses[choice] = np.array([_held_out(x, y, torch.from_numpy(fold == number), choice) for number in range(FOLDS)])
    best = min(losses, key=lambda choice: losses[choice].mean())
    linear = [choice for choice in losses if not choice.hidden]
    if best.hidden and linear:
        other = min(linear, key=lambda choice: losses[choice].mean())
        gain = losses[other] - losses[best]
        best = best if gain.mean() > gain.std(ddof=1) / FOLDS**0.5 else other
    return best, {f"hidden {c.hidden}, penalty {c.penalty:g}": round(float(values.mean()), 6) for c, values in losses.items()}


def folds(subjects: Sequence[str | None], rng: np.random.Generator, most: int = _CROSS_VALIDATED) -> npt.NDArray[np.int64]:
    """(n,) fold of each case: all of a subject's in one, None stands alone; -1 where the case is left out because there are more than `most`."""
    names = [f"case:{i}" if s is None else f"subject:{s}" for i, s in enumerate(subjects)]
    unique, inverse, counts = np.unique(np.array(names, dtype=np.str_), return_inverse=True, return_counts=True)
    order = rng.permutation(len(unique))
    number = np.full(len(unique), -1)
    within = order[: max(FOLDS, int((np.cumsum(counts[order]) <= most).sum()))]
    number[within] = np.arange(len(within)) % FOLDS
    return number[inverse]


@torch.no_grad()
def _held_out(x: Tensor, y: Tensor, out: Tensor, choice: Choice) -> float:
    """Log loss of the cases held out, mean over the labels that they know."""
    with torch.enable_grad():
        reading = _fit(x[~out], y[~out], choice, 0)
    known = ~torch.isnan(y[out])
    error = F.binary_cross_entropy_with_logits(reading(x[out]), torch.nan_to_num(y[out]), reduction="none")
    count = known.sum(0)
    return float(((error * known).sum(0)[count > 0] / count[count > 0]).mean())
