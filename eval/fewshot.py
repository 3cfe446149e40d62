"""How few examples of a statement frozen features need: a linear probe on k positives and k negatives, for growing k.

    features = {"encoder": (train, test), "hand-made features": (train, test)}      each (studies, width), standardised
    made = few_shot(features, train_truth, test_truth, subjects, seed=0)
    made.blocks[3].rows["encoder"]["auroc"].value, .interval                       0.856, (0.83, 0.88) at the fourth number of shots

The protocol of EHRSHOT (Wornow et al., NeurIPS 2023): frozen features, L2 logistic regression on k positives and k negatives, AUROC on the
whole test split, mean over tasks and repeats. It differs in three things: the tasks are SCP statements; a repeat's training sets are nested
(those of 4 shots hold those of 2), so that a curve shows what more examples add; and the strength of the penalty is fixed, not tuned on
k + k further cases. Every system is trained on the same cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from regen.data_prep.statements import CODES
from regen.errors import ConfigError, DataError
from regen.eval.averages import mean_known, mean_of
from regen.eval.blocks import INTERVAL, plain_differences, plain_rows
from regen.eval.bootstrap import DRAWS, Resamples, Sampled, Values, bootstrap
from regen.eval.linear_probe import STRENGTH, Pair, linear_probe
from regen.eval.set_metrics import FEW, Sets, auc

SHOTS = (1, 2, 4, 8, 16, 32, 64, 128)
REPEATS = 3
"""Draws of training cases. EHRSHOT takes five."""
COLUMNS = {"auroc": "AUROC, mean over the statements with k positives", "auroc_same": "AUROC, mean over the statements with the most positives"}
"""auroc: a mean over fewer statements as k grows; auroc_same: over those that can be trained at every k, so that a curve compares like with like."""


def nested_cases(truth: Sets, shots: Sequence[int], rng: np.random.Generator) -> dict[int, npt.NDArray[np.int64]]:
    """Rows of k positives and k negatives for every k that the truth (n,) has enough of; a smaller set lies inside every larger one."""
    positive, negative = rng.permutation(np.flatnonzero(truth)), rng.permutation(np.flatnonzero(~truth))
    return {k: np.concatenate([positive[:k], negative[:k]]) for k in sorted(shots) if k <= min(len(positive), len(negative))}


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One k. statements: code -> system -> AUROC, mean over the repeats; rows: system -> column -> value and draws; same: codes of auroc_same.

    repeats: system -> AUROC of each repeat alone: how much depends on which cases were drawn for training.
    """

    shots: int
    statements: dict[str, dict[str, Sampled]]
    same: list[str]
    rows: dict[str, dict[str, Sampled]]
    repeats: dict[str, list[float]]


@dataclass(frozen=True, slots=True, eq=False)
class FewShot:
    """One block a k, in rising order. systems: in the order given, the first is compared with each other one."""

    blocks: tuple[Block, ...]
    systems: tuple[str, ...]
    n: int
    patients: int
    trained_on: int
    seed: int
    draws: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON in the shape of report_table.Table: AUROC in [0, 1], null where undefined; the first system minus each other one."""
        return {
            "seed": self.seed,
            "draws": self.draws,
            "interval": f"{INTERVAL} of the test split; the training cases are held fixed",
            "columns": COLUMNS,
            "strength": STRENGTH,
            "training_studies": self.trained_on,
            "blocks": [self._block_dict(block) for block in self.blocks],
        }

    def _block_dict(self, block: Block) -> dict[str, Any]:
        return {
            "name": f"{block.shots} shots",
            "shots": block.shots,
            "n": self.n,
            "patients": self.patients,
            "statements_in_macro": len(block.statements),
            "statements_in_same": block.same,
            "systems": plain_rows(block.rows),
            "repeats": {name: [None if np.isnan(value) else round(value, 6) for value in values] for name, values in block.repeats.items()},
            "differences": plain_differences(block.rows),
            "statements": plain_rows(block.statements),
        }


def few_shot(
    features: Mapping[str, Pair], train_truth: Sets, test_truth: Sets, subjects: Sequence[str | None], seed: int = 0,
    shots: Sequence[int] = SHOTS, repeats: int = REPEATS, draws: int = DRAWS,
) -> FewShot:  # fmt: skip
    """Train and score a probe for every k, statement, repeat and system.

    features: name -> standardised (train, test); train_truth: (n, 71), test_truth: (m, 71); subjects: of each test study its patient.
    A statement counts at k with at least k positives and k negatives in training, FEW positives and one negative in the test split.

    Raises:
        ConfigError: no shots, or fewer than one; no repeats.
        DataError: no system, features of other studies than the truth, or no statement that can be trained and scored.
    """
    shots = _checked(features, train_truth, test_truth, shots, repeats)
    resamples = Resamples(subjects, np.random.default_rng(seed), draws)
    scored = [c for c in range(test_truth.shape[1]) if test_truth[:, c].sum() >= FEW and not test_truth[:, c].all()]
    cases = {c: [nested_cases(train_truth[:, c], shots, np.random.default_rng([seed, repeat, c])) for repeat in range(repeats)] for c in scored}
    reached = max((k for drawn in cases.values() for k in drawn[0]), default=0)
    if not reached:
        raise DataError(
            f"few shots: expected a statement with {min(shots)} positives and negatives in train and {FEW} positives in the split to score, "
            f"none of {len(scored)} has; take fewer shots or a larger split"
        )
    same = [CODES[c] for c in scored if reached in cases[c][0]]
    blocks = []
    for k in (k for k in shots if k <= reached):
        statements: dict[str, dict[str, Sampled]] = {}
        alone: dict[str, list[Values]] = {name: [] for name in features}
        for c in (c for c in scored if k in cases[c][0]):
            row = {}
            for name, (train, test) in features.items():
                scores = [linear_probe(train[drawn[k]], train_truth[drawn[k], c], test) for drawn in cases[c]]
                row[name] = bootstrap(lambda weights, scores=scores, c=c: _mean_auc(scores, test_truth[:, c], weights), resamples)  # type: ignore[misc]
                alone[name].append(np.array([auc(score, test_truth[:, c])[0] for score in scores]))
            statements[CODES[c]] = row
        rows = {name: _means(name, statements, same, draws) for name in features}
        blocks.append(Block(k, statements, same, rows, {name: np.mean(values, axis=0).tolist() for name, values in alone.items()}))
    return FewShot(tuple(blocks), tuple(features), len(test_truth), resamples.patients, len(train_truth), seed, draws)


def _mean_auc(scores: Sequence[Values], truth: Sets, weights: Values) -> Values:
    return mean_known(np.stack([auc(score, truth, weights) for score in scores], axis=1))


def _means(name: str, statements: Mapping[str, Mapping[str, Sampled]], same: Sequence[str], draws: int) -> dict[str, Sampled]:
    cells = {code: row[name] for code, row in statements.items()}
    return {"auroc": mean_of(list(cells.values()), draws), "auroc_same": mean_of([cells[code] for code in same], draws)}


def _checked(features: Mapping[str, Pair], train_truth: Sets, test_truth: Sets, shots: Sequence[int], repeats: int) -> list[int]:
    """The shots in rising order, each once."""
    if not shots or min(shots) < 1 or repeats < 1:
        raise ConfigError(f"few shots: expected numbers of at least 1 and at least one repeat, got shots {list(shots)} and repeats {repeats}")
    if not features:
        raise DataError("few shots: expected the features of at least one system, got none")
    for name, (train, test) in features.items():
        if len(train) != len(train_truth) or len(test) != len(test_truth):
            raise DataError(
                f"few shots, {name}: expected features of {len(train_truth)} training and {len(test_truth)} test studies, got {len(train)} and "
                f"{len(test)}; use the same rows"
            )
    return sorted(set(shots))
