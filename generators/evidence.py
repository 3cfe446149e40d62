"""From what the head sees and what the nearest cases state to one calibrated probability a statement, and to the findings of a draft.

    evidence = EvidenceModel.fit(head, votes, labels, priors, nearest)
    probabilities = evidence.probabilities(head, votes)          (b, 71)
    positive = evidence.decide(probabilities)                    (b, 71) bool

The log-odds of the head and the log-odds that the neighbours' votes add to the prevalence are weighed by two weights that all statements
share, and shifted statement by statement; all fitted on the validation split, where the neighbours are training cases. The same is
fitted for the head alone, for a study without retrieval, and for what a chart adds (regen.generators.chart_evidence): what is missing is left
out, not taken for a vote against.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file, save_file

from regen.data_prep.statements import CODES, EXCLUDES
from regen.encoders.head import best_thresholds
from regen.generators.chart_evidence import LEAST, ChartEvidence
from regen.study import FloatArray

Flags = bool | npt.NDArray[np.bool_]
_CERTAIN = 1e-4
_PULL = 12.0
"""The shift of a statement is pulled to zero as by this many imagined cases."""
_SMOOTH = 0.1
"""Weight of the prevalence among the votes (which sum to 1)."""
_LENIENT = 0.85
"""Share of its stored threshold from which a statement is found: as stored, drafts state 2.5 of the 2.8 statements that the validation fold's
cardiologists coded. Cross-fitted there (four times five folds by patient), this leaves micro-F1 where it is (68.8) and adds 2 to macro-F1."""
_ACCORD = 0.68
"""The 3rd percentile of the starter's validation studies, for bundles that were fitted before the limit was stored."""
_DECLARED = np.array([[b in EXCLUDES.get(a, ()) for b in CODES] for a in CODES])


@dataclass(slots=True)
class EvidenceModel:
    """weights: (2,) of head and votes; shift, thresholds, priors: (71,); the same for the head alone; limit: the cosine of the nearest
    case below which a study is unlike what was indexed; exclusive: (71, 71) bool, pairs that no training case states together, beside those
    that the catalogue declares; accord_limit: the accord below which the cases found are no evidence for a study."""

    weights: FloatArray
    shift: FloatArray
    thresholds: FloatArray
    alone_weight: FloatArray
    alone_shift: FloatArray
    alone_thresholds: FloatArray
    priors: FloatArray
    limit: FloatArray
    exclusive: npt.NDArray[np.bool_]
    accord_limit: FloatArray = field(default_factory=lambda: np.array([_ACCORD], np.float32))
    chart: ChartEvidence | None = None
    """What a chart adds; None for a writer that reads none."""

    @classmethod
    def fit(
        cls, head: FloatArray, votes: FloatArray, labels: FloatArray, training: FloatArray, nearest: FloatArray, rare: float = 0.02,
        odd: float = 0.03, chart: FloatArray | None = None,
    ) -> EvidenceModel:  # fmt: skip
        """head, votes, labels: (n, 71) of the validation split; training: (m, 71) labels of the indexed cases, NaN rows left out;
        nearest: (n,) cosine of each validation study's nearest case; rare: share of validation studies to fall under `limit`; odd: under
        `accord_limit`; chart: (n, 71) logits that the charts alone suggest, NaN rows without a chart."""
        known = training[~np.isnan(training).any(axis=1)] > 0
        priors = ((known.sum(axis=0) + 0.5) / (len(known) + 1)).astype(np.float32)
        use = ~np.isnan(labels).any(axis=1)
        seen, said = _logit(head[use]), _evidence(votes[use], priors)
        weights, shift = _calibrate(np.stack([seen, said], -1), labels[use])
        alone_weight, alone_shift = _calibrate(seen[..., None], labels[use])
        out = cls(
            weights, shift, np.zeros(len(CODES), np.float32), alone_weight, alone_shift, np.zeros(len(CODES), np.float32), priors,
            np.array([np.quantile(nearest, rare)], np.float32), _exclusive(known),
        )  # fmt: skip
        out.thresholds = best_thresholds(out.probabilities(head[use], votes[use]).astype(np.float64), labels[use])
        out.alone_thresholds = best_thresholds(out.probabilities(head[use], None).astype(np.float64), labels[use])
        out.accord_limit = np.array([np.quantile(out.accord(head, votes), odd)], np.float32)
        if chart is not None and (charted := use & ~np.isnan(chart).any(axis=1)).sum() >= LEAST:
            odds = _logit(head[charted]), _evidence(votes[charted], priors), _over(chart[charted], priors)
            out.chart = ChartEvidence.fit(*odds, labels[charted])
        return out

    def probabilities(self, head: FloatArray, votes: FloatArray | None) -> FloatArray:
        """head: (b, 71) probabilities; votes: (b, 71) shares, or None without retrieval. Returns (b, 71) calibrated."""
        if votes is None:
            logits = _logit(head) * self.alone_weight[0] + self.alone_shift
        else:
            logits = _logit(head) * self.weights[0] + _evidence(votes, self.priors) * self.weights[1] + self.shift
        return (0.5 + 0.5 * np.tanh(logits / 2)).astype(np.float32)

    def accord(self, head: FloatArray, votes: FloatArray) -> FloatArray:
        """(b,) in [0, 1]: how far the cases state what the head alone sees, 2 sum min(p, vote) / (sum p + sum votes): Dice's coefficient of
        two sets, softened."""
        alone = self.probabilities(head, None)
        whole = np.maximum(alone.sum(axis=1) + votes.sum(axis=1), 1e-9)
        return np.asarray(2 * np.minimum(alone, votes).sum(axis=1) / whole, np.float32)

    def charted(self, head: FloatArray, votes: FloatArray | None, chart: FloatArray) -> FloatArray:
        """`probabilities` of studies with a chart. chart: (b, 71) logits; the same as without it where the model was fitted without charts."""
        if self.chart is None:
            return self.probabilities(head, votes)
        said = None if votes is None else _evidence(votes, self.priors)
        return self.chart.probabilities(_logit(head), said, _over(chart, self.priors)).astype(np.float32)

    def limits(self, retrieved: Flags = True, charted: bool = False) -> FloatArray:
        """Probabilities from which a statement is found, as fitted for studies with or without retrieval and chart. (71,), or (b, 71) where
        `retrieved` is (b,)."""
        model = self.chart if charted and self.chart is not None else self
        return np.asarray(_LENIENT * np.where(np.asarray(retrieved)[..., None], model.thresholds, model.alone_thresholds), np.float32)

    def decide(
        self, probabilities: FloatArray, retrieved: Flags = True, denied: npt.NDArray[np.bool_] | None = None, charted: bool = False
    ) -> npt.NDArray[np.bool_]:
        """(b, 71) bool: at or above its limit, and of two statements that exclude each other the likelier (measured against its limit).

        retrieved: of all, or (b,); denied: (b, 71) bool, what a measurement rules out. A study with none gets the one that comes nearest, so
        that no draft is empty.
        """
        ratio = probabilities / self.limits(retrieved, charted)
        if denied is not None:
            ratio = np.where(denied, 0.0, ratio)
        positive = ratio >= 1
        positive[np.arange(len(ratio)), ratio.argmax(axis=1)] = True
        stand = ~self.ruled_out
        for row, odds in zip(positive, ratio, strict=True):
            for code in np.argsort(-odds):
                if row[code]:
                    row &= stand[code]
        return positive

    @property
    def ruled_out(self) -> npt.NDArray[np.bool_]:
        """(71, 71) bool: row rules out column, learnt or declared."""
        out: npt.NDArray[np.bool_] = self.exclusive | _DECLARED
        return out

    def save(self, path: Path) -> None:
        own = {f.name: np.ascontiguousarray(getattr(self, f.name)) for f in fields(self) if f.name != "chart"}
        save_file(own | (self.chart.stored() if self.chart is not None else {}), path)

    @classmethod
    def load(cls, path: Path) -> EvidenceModel:
        stored = load_file(path)
        chart = ChartEvidence.restored(stored)
        return cls(**stored, chart=chart)


def votes_of(statements: FloatArray, ids: npt.NDArray[np.int64], scores: FloatArray, temperature: float) -> FloatArray:
    """Share of the neighbours' weight that states each code. statements: (n, 71) likelihoods of the index, NaN rows uncoded.

    ids: (b, k), -1 for none; scores: (b, k) cosines. A neighbour weighs exp(cosine / temperature); uncoded ones do not vote.
    """
    there = (ids >= 0) & ~np.isnan(statements[:, 0])[ids]
    cosine = np.where(there, scores, -np.inf).astype(np.float64)
    best = cosine.max(axis=1, keepdims=True, initial=-1.0)
    weight = np.exp((cosine - best) / temperature)
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)
    said = np.nan_to_num(statements)[ids] > 0
    return np.einsum("bk,bkc->bc", weight, said).astype(np.float32)


def expected_f1(said: npt.NDArray[Any], probabilities: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Expected F1 between sets of statements and what a study probably shows: 2 sum_S p / (|S| + sum p). (..., 71) both -> (...)."""
    p = np.asarray(probabilities, np.float64)
    return 2 * (said * p).sum(axis=-1) / np.maximum(said.sum(axis=-1) + p.sum(axis=-1), 1e-9)


def agreement(statements: FloatArray, ids: npt.NDArray[np.int64], probabilities: FloatArray) -> FloatArray:
    """Expected F1 of what each retrieved case states, (b, k); -1 where there is no case, or nobody coded it."""
    said = np.nan_to_num(statements)[ids] > 0
    coded = (ids >= 0) & ~np.isnan(statements[:, 0])[ids]
    return np.where(coded, expected_f1(said, probabilities[:, None]), -1.0).astype(np.float32)


def _logit(probability: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    p = np.clip(probability.astype(np.float64), _CERTAIN, 1 - _CERTAIN)
    return np.log(p / (1 - p))


def _evidence(votes: FloatArray, priors: FloatArray) -> npt.NDArray[np.float64]:
    """Log-odds that the votes add to the prevalence, (b, 71)."""
    share = (votes + _SMOOTH * priors) / (1 + _SMOOTH)
    return _logit(share) - _logit(priors)


def _over(logits: FloatArray, priors: FloatArray) -> npt.NDArray[np.float64]:
    """Log-odds that a chart adds to the prevalence, (b, 71), no surer than _CERTAIN."""
    return np.asarray(np.clip(logits.astype(np.float64), _logit(np.array(_CERTAIN)), -_logit(np.array(_CERTAIN))) - _logit(priors), np.float64)


def _calibrate(inputs: npt.NDArray[np.float64], labels: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Logistic regression with weights that all statements share and a shift each. inputs: (n, 71, m). Returns (m,), (71,).

    An input whose weight would be negative is left out, and the rest fitted without it.
    """
    x, y = torch.from_numpy(inputs), torch.from_numpy(labels).double()
    weights = torch.full((x.shape[2],), 1 / max(1, x.shape[2]), dtype=torch.float64, requires_grad=True)
    shift = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, shift], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(x @ weights + shift, y, reduction="sum") + _PULL / 8 * shift.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    out = weights.detach().float().numpy()
    if (out < 0).any():
        kept, without = _calibrate(inputs[..., out >= 0], labels)
        out[out >= 0], out[out < 0] = kept, 0.0
        return out, without
    return out, shift.detach().float().numpy()


def _exclusive(known: npt.NDArray[np.bool_], expected: float = 4.0) -> npt.NDArray[np.bool_]:
    """Pairs that chance alone would bring together `expected` times or more in the training cases, and that at most one case states."""
    counts = known.T.astype(np.float64) @ known
    single = np.diag(counts)
    chance = np.outer(single, single) / max(1, len(known))
    out: npt.NDArray[np.bool_] = (chance >= expected) & (counts <= 1)
    np.fill_diagonal(out, False)
    return out
