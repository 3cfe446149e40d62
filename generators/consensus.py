"""The wording that most of the nearest reports would agree to: minimum Bayes risk over texts (Kumar and Byrne, NAACL 2004).

    text = agreed(draft, draft_agreement, witnesses)

Reports as people write them say one thing in many ways. What was written for like recordings tells which way is usual: a candidate's score is
its mean ROUGE-L to the witnesses, weighed by how near they lie and how well they agree with the plan, plus how well the candidate
itself agrees with it. Candidates are the language model's draft and the witnesses' own reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regen.data_prep.wording import rouge_l, words

TEMPERATURE = 0.2
"""A witness weighs exp(cosine / this)."""
POWER = 2.0
"""... times its agreement with the plan to this power."""
PLAN = 0.25
"""What a candidate's own agreement with the plan weighs beside its mean ROUGE-L."""


@dataclass(frozen=True, slots=True)
class Witness:
    """A retrieved report: its text, its cosine, and the expected F1 of its statements with the study's (see evidence.agreement)."""

    text: str
    score: float
    agreement: float


def agreed(draft: str, draft_agreement: float, witnesses: Sequence[Witness]) -> str:
    """The draft, or the witness's report that would be closer to what is usually written. Without witnesses the draft."""
    if not witnesses:
        return draft
    weights = np.array([np.exp((w.score - witnesses[0].score) / TEMPERATURE) * max(w.agreement, 0.0) ** POWER for w in witnesses])
    if not weights.sum() > 0:
        return draft
    known: dict[str, float] = {}
    for witness, weight in zip(witnesses, weights / weights.sum(), strict=True):
        known[witness.text] = known.get(witness.text, 0.0) + float(weight)
    own = {draft: draft_agreement}
    for witness in witnesses:
        own.setdefault(witness.text, witness.agreement)
    tokens = {text: words(text) for text in own}

    def score(text: str) -> float:
        usual = sum(weight * rouge_l(tokens[text], tokens[other]) for other, weight in known.items())
        return usual + PLAN * own[text]

    return max(own, key=score)
