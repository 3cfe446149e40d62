"""The words of a report, and how much of one report's wording is in another."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

_NO_WORD = re.compile(r"[\W_]+")


def words(text: str) -> list[str]:
    """'Probable LVH, stage II-III.' -> ['probable', 'lvh', 'stage', 'ii', 'iii']; umlauts stay."""
    return list(_words(text))


@lru_cache(maxsize=65536)
def _words(text: str) -> tuple[str, ...]:
    return tuple(_NO_WORD.sub(" ", unicodedata.normalize("NFC", text).lower()).split())


def pairs(text: str) -> set[tuple[str, str]]:
    """Every two words that stand side by side, numbers made one: what a wording is made of."""
    tokens = ["0" if word.isdigit() else word for word in words(text)]
    return set(pairwise(tokens))


def rouge_l(draft: Sequence[str], reference: Sequence[str]) -> float:
    """ROUGE-L F1 (Lin, ACL workshop 2004, beta 1): twice the longest common subsequence over the words of both. 0 where one is empty."""
    if not draft or not reference:
        return 0.0
    return 2 * common_subsequence(draft, reference) / (len(draft) + len(reference))


def common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, one machine addition a word of b (Hyyrö, AWOCA 2004): bit i of `open_` is unset once
    the i-th word of a has lengthened the subsequence.
    """
    at: dict[str, int] = {}
    for i, word in enumerate(a):
        at[word] = at.get(word, 0) | 1 << i
    full = (1 << len(a)) - 1
    open_ = full
    for word in b:
        hit = open_ & at.get(word, 0)
        open_ = ((open_ + hit) | (open_ - hit)) & full
    return len(a) - open_.bit_count()
