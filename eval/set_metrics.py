"""How well sets of statements agree, and how well probabilities rank: F1 micro and macro, superclass F1, macro-AUC.

    predicted, reference: (n, 71) bool, columns in the order of CODES; probabilities: (n, 71)
    micro_f1(predicted, reference)                    array([0.673])
    macro_f1(predicted, reference, weights=draws)     (d,): one value a draw of a bootstrap

`weights` (d, n) says how often each study counts in each of d draws; None means once each. Which statements a macro average covers is
decided on the reference as a whole (at least FEW positives), never draw by draw.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from regen.data_prep.statements import CODES, SUPERCLASS_OF, SUPERCLASSES
from regen.eval.averages import mean_known, ratio
from regen.eval.bootstrap import Values, each_once

Sets = npt.NDArray[np.bool_]
FEW = 5
"""A statement with fewer positives in the reference is left out of macro averages: its value would be noise. 31 remain on PTB-XL's fold 9."""
MEMBERS: Sets = np.array([[SUPERCLASS_OF.get(code) == name for name in SUPERCLASSES] for code in CODES])
"""(71, 5): the statement belongs to the superclass. Rhythms and forms that PTB-XL does not call diagnostic belong to none."""


def frequent(reference: Sets, few: int = FEW) -> Sets:
    """(columns,) bool: at least `few` positives in the reference."""
    return np.asarray(reference.sum(axis=0) >= few, np.bool_)


def superclasses(sets: Sets) -> Sets:
    """(n, 71) statements -> (n, 5) superclasses: one holds where any of its statements does."""
    return np.asarray(sets.astype(np.int64) @ MEMBERS.astype(np.int64) > 0, np.bool_)


def superclass_probabilities(probabilities: npt.NDArray) -> Values:
    """(n, 71) -> (n, 5) by noisy-or: 1 - product of (1 - p) over the superclass's statements, as if they were independent."""
    p = np.clip(np.asarray(probabilities, np.float64), 0, 1)
    return np.stack([1 - np.prod(1 - p[:, members], axis=1) for members in MEMBERS.T], axis=1)


def micro_f1(predicted: Sets, reference: Sets, weights: Values | None = None) -> Values:
    """F1 over all (study, statement) pairs: 2 TP / (2 TP + FP + FN). NaN where nothing is stated on either side. Returns (d,)."""
    weights = each_once(len(reference)) if weights is None else weights
    both = weights @ (predicted & reference).sum(axis=1)
    either = weights @ (predicted.sum(axis=1) + reference.sum(axis=1))
    return ratio(2 * both, either)


def macro_f1(predicted: Sets, reference: Sets, weights: Values | None = None, few: int = FEW) -> Values:
    """Mean F1 of the statements with at least `few` positives in the reference; a statement that nobody predicts scores 0.

    NaN where no statement has that many. In a draw that holds a statement on neither side, its F1 is undefined and left out of the
    mean. Returns (d,).
    """
    weights = each_once(len(reference)) if weights is None else weights
    columns = frequent(reference, few)
    predicted, reference = predicted[:, columns], reference[:, columns]
    both = weights @ (predicted & reference).astype(np.float64)
    either = weights @ (predicted.astype(np.float64) + reference)
    return mean_known(ratio(2 * both, either))


def superclass_f1(predicted: Sets, reference: Sets, weights: Values | None = None) -> Values:
    """Mean F1 of the superclasses that occur in the reference (all five on PTB-XL's folds; not NORM among abnormal ECGs). (d,)."""
    return macro_f1(superclasses(predicted), superclasses(reference), weights, few=1)


def auc(scores: npt.NDArray, truth: Sets, weights: Values | None = None) -> Values:
    """Area under the ROC curve: the chance that a positive outranks a negative, ties one half (Hanley and McNeil, Radiology 1982).

    scores, truth: (n,). NaN where a draw holds only positives or only negatives. Returns (d,).
    """
    weights = each_once(len(truth)) if weights is None else weights
    scores, positive, negative = np.asarray(scores), np.flatnonzero(truth), np.flatnonzero(~truth)
    negative = negative[np.argsort(scores[negative], kind="stable")]
    up_to = np.zeros((len(weights), len(negative) + 1))
    np.cumsum(weights[:, negative], axis=1, out=up_to[:, 1:])
    below, with_ties = (np.searchsorted(scores[negative], scores[positive], side) for side in ("left", "right"))
    counted = weights[:, positive]
    won = (counted * (up_to[:, below] + up_to[:, with_ties])).sum(axis=1) / 2
    return ratio(won, counted.sum(axis=1) * up_to[:, -1])


def macro_auc(probabilities: npt.NDArray, reference: Sets, weights: Values | None = None, few: int = FEW) -> Values:
    """Mean AUC of the statements with at least `few` positives in the reference; those without a negative are left out.

    NaN where none is left. Returns (d,).
    """
    weights = each_once(len(reference)) if weights is None else weights
    columns = np.flatnonzero(frequent(reference, few))
    values = [auc(probabilities[:, c], reference[:, c], weights) for c in columns]
    return mean_known(np.stack(values, axis=1) if values else np.zeros((len(weights), 0)))


def superclass_auc(probabilities: npt.NDArray, reference: Sets, weights: Values | None = None) -> Values:
    """Mean AUC of the superclasses that occur in the reference, from noisy-or probabilities. Returns (d,)."""
    return macro_auc(superclass_probabilities(probabilities), superclasses(reference), weights, few=1)


def study_f1(predicted: Sets, reference: Sets) -> Values:
    """(n,) F1 of each study's set; 1 where nothing is stated on either side."""
    both = (predicted & reference).sum(axis=1)
    either = predicted.sum(axis=1) + reference.sum(axis=1)
    return np.where(either > 0, 2 * both / np.maximum(either, 1), 1.0)
