"""How close a draft's words come to the report's: BLEU-1..4, ROUGE-1, -2, -L, METEOR (CIDEr: regen.eval.cider).

    scores = text_scores(["sinus rhythm normal ecg"], ["Sinus rhythm. Normal ECG."])
    bleu(scores, 4)            corpus BLEU-4, (1,)
    mean(scores.rouge_l)       mean ROUGE-L F1, (1,)

All three read words: lower case, every character that is neither letter nor digit a blank. What is kept is per report, so that a
bootstrap reweighs reports instead of reading them again: `weights` (d, n) says how often each report counts in each of d draws, and every
metric then has d values. None means each report once.

A study without a reference text has nothing to compare with: its values are NaN and no mean counts it. An empty draft scores 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from nltk.stem.porter import PorterStemmer
from nltk.translate.meteor_score import single_meteor_score

from regen.data_prep.wording import rouge_l, words
from regen.errors import DataError
from regen.eval.bootstrap import Values, each_once

Rows = npt.NDArray[np.int64] | npt.NDArray[np.bool_]
ORDERS = 4
"""BLEU counts runs of one to four words."""


@dataclass(frozen=True, slots=True, eq=False)
class TextScores:
    """Of n reports: matched, total (n, 4): runs of 1-4 words that match, and that the draft has; lengths (n, 2): draft, reference.

    rouge_l, meteor: (n,), NaN where there is no reference text (the counts of such a row are zero).
    """

    matched: Values
    total: Values
    lengths: Values
    rouge_l: Values
    meteor: Values

    def take(self, rows: Rows) -> TextScores:
        """The same for some of the reports."""
        return TextScores(self.matched[rows], self.total[rows], self.lengths[rows], self.rouge_l[rows], self.meteor[rows])


def text_scores(drafts: Sequence[str], references: Sequence[str]) -> TextScores:
    """Compare n drafts with n references, row by row. A pair that comes twice is compared once.

    Raises:
        DataError: more or fewer drafts than references.
    """
    if len(drafts) != len(references):
        raise DataError(f"text_scores: expected a draft a reference, got {len(drafts)} drafts and {len(references)} references")
    n = len(drafts)
    matched, total, lengths = np.zeros((n, ORDERS)), np.zeros((n, ORDERS)), np.zeros((n, 2))
    rouge, meteor = np.full(n, np.nan), np.full(n, np.nan)
    seen: dict[tuple[str, str], int] = {}
    for i, pair in enumerate(zip(drafts, references, strict=True)):
        first = seen.setdefault(pair, i)
        if first < i:
            for array in (matched, total, lengths, rouge, meteor):
                array[i] = array[first]
            continue
        draft, reference = words(pair[0]), words(pair[1])
        if not reference:
            continue
        lengths[i] = len(draft), len(reference)
        matched[i], total[i] = matched_runs(draft, reference)
        rouge[i], meteor[i] = rouge_l(draft, reference), meteor_score(draft, reference)
    return TextScores(matched, total, lengths, rouge, meteor)


def matched_runs(draft: list[str], reference: list[str]) -> tuple[list[int], list[int]]:
    """Runs of 1 to 4 words: how many of the draft's occur in the reference (clipped to its count), and how many the draft has."""
    matched, total = [], []
    for order in range(1, ORDERS + 1):
        ours, theirs = _runs(draft, order), _runs(reference, order)
        matched.append(sum(min(count, theirs[run]) for run, count in ours.items()))
        total.append(sum(ours.values()))
    return matched, total


def _runs(tokens: list[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[start:] for start in range(order)), strict=False))


def bleu(scores: TextScores, order: int = 4, weights: Values | None = None) -> Values:
    """Corpus BLEU (Papineni et al., ACL 2002): geometric mean of the precisions of runs of 1 .. order words, times the brevity penalty.

    One reference a draft, counts summed over the corpus before they are divided, uniform weights, no smoothing: 0 as soon as no run of
    some length matches. A draft of fewer words than `order` adds no run of that length (as sacrebleu counts, nltk adds one). NaN where no
    row has a reference. Returns (d,) in [0, 1].
    """
    weights = each_once(len(scores.matched)) if weights is None else weights
    matched, total = weights @ scores.matched[:, :order], weights @ scores.total[:, :order]
    ours, theirs = (weights @ scores.lengths).T
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.exp(np.log(matched / np.maximum(total, 1)).mean(axis=1))
        penalty = np.exp(np.minimum(1 - theirs / np.maximum(ours, 1), 0))
    return np.where(theirs > 0, np.where(ours > 0, precision * penalty, 0.0), np.nan)


class _Stemmer(PorterStemmer):
    """Porter's stemmer, each word once."""

    def stem(self, word: str, to_lowercase: bool = True) -> str:
        return _stem(word)


@lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    return PorterStemmer().stem(word)


class _NoSynonyms:
    """Stands where nltk would ask WordNet, which is a download."""

    def synsets(self, word: str) -> tuple[()]:
        return ()


_STEMMER = _Stemmer()
_NO_SYNONYMS: Any = _NoSynonyms()


def meteor_score(draft: list[str], reference: list[str]) -> float:
    """METEOR (Banerjee and Lavie, ACL workshop 2005) as nltk computes it, with its alpha .9, beta 3, gamma .5; exact and stem matches only.

    Synonyms need WordNet, which is a download, and are left out: values lie at or below those of a METEOR with synonyms. Porter's
    stemmer is English; other languages match whole words in the main. A perfect draft of m words scores 1 - .5 / m^3. 0 where one is
    empty.
    """
    if not draft or not reference:
        return 0.0
    return float(single_meteor_score(reference, draft, stemmer=_STEMMER, wordnet=_NO_SYNONYMS))


def rouge_n(scores: TextScores, order: int) -> Values:
    """ROUGE-1 or -2 F1 of every row (Lin, ACL workshop 2004): twice the matching runs over the runs of both. Returns (n,)."""
    theirs = np.maximum(scores.lengths[:, 1] - order + 1, 0)
    either = scores.total[:, order - 1] + theirs
    value = np.divide(2 * scores.matched[:, order - 1], either, out=np.zeros(len(either)), where=either > 0)
    return np.where(scores.lengths[:, 1] > 0, value, np.nan)


def copies(drafts: Iterable[str], training: Iterable[str]) -> Values:
    """(n,) 1 where a draft's words are, in order, those of a training report; an empty draft copies nothing."""
    known = {" ".join(words(text)) for text in set(training)} - {""}
    return np.array([" ".join(words(text)) in known for text in drafts], np.float64)


def most_common(drafts: Sequence[str]) -> Values:
    """(n,) 1 where the draft is the sample's most common one; its mean, the constant-output ratio, is 1 / n where all drafts differ and 1
    where the output is constant. Which draft that is stays fixed in a bootstrap: the maximum of a resample leans upwards.
    """
    texts = [" ".join(words(text)) for text in drafts]
    counts = Counter(texts)
    usual = max(counts, key=lambda text: counts[text], default="")
    return np.array([text == usual for text in texts], np.float64)
