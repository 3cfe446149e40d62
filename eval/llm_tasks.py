"""Three questions about a writer's language model, after CLUE (Dada et al. 2024): does it summarise, is what it codes valid, does it abstain?

    made = cells(answers, references, Resamples(references.subjects, rng))
    made["summary_rouge_l"].value, made["summary_rouge_l"].interval

What is kept is per study, so that every value has an interval by patient. A sentence is what the guards judge one by one (in other languages
than English a statement). It is valid where the labeler reads a statement of the catalogue in it, denied ones too, and garbled where the
guards find it worded as nobody words a report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from regen.eval.averages import mean, share
from regen.eval.bootstrap import Resamples, Sampled, Values, bootstrap
from regen.eval.predictions import References, read_sets
from regen.eval.set_metrics import micro_f1
from regen.eval.text_metrics import bleu, text_scores
from regen.generators.guards import GARBLED
from regen.generators.judging import Basis
from regen.generators.prompt import states
from regen.study import Draft

COLUMNS = {
    "summary_rouge_l": "summarising: ROUGE-L",
    "summary_bleu_4": "summarising: BLEU-4",
    "summary_f1": "summarising: statement micro-F1",
    "valid_sentences": "coding: sentences that read as a statement",
    "valid_drafts": "coding: drafts of valid sentences only, none garbled",
    "kept_sentences": "coding: sentences that the guards keep",
    "refused_readable": "abstention: refused, ECG readable",
    "refused_blanked": "abstention: refused, same ECG blanked",
    "silent_readable": "abstention: language model alone writes nothing, ECG readable",
    "silent_blanked": "abstention: language model alone writes nothing, ECG blanked",
}
TASK_SIZES = {"summary": "reports", "valid": "studies", "kept": "studies", "refused": "readable", "silent": "readable"}
"""What a column is a value of: by the first word of its name, the entry of the card's sizes."""
NO_ECG = "no_readable_ecg"
"""The flag of a draft that refuses begins so."""


@dataclass(frozen=True, slots=True)
class Coded:
    """Of one text of the language model: how many sentences it has, how many read as a statement, are garbled, and are kept."""

    sentences: int
    valid: int
    garbled: int
    kept: int


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What one language model did with n studies.

    summaries: n texts; coded: n; refused, silent, and the same with the ECG blanked: (n,) 0 or 1, NaN where the ECG as recorded is unreadable.
    """

    summaries: list[str]
    coded: list[Coded]
    refused: Values
    refused_blanked: Values
    silent: Values
    silent_blanked: Values


def coded(text: str, draft: Draft, language: str) -> Coded:
    """text: as the language model wrote it; draft: what the guards made of it. A statement that comes a second time is not kept.

    A sentence that the guards added is not the model's and does not count.
    """
    parts = Basis({}, frozenset(), {}, (), language=language).parts(text)
    added = sum(flag.startswith("completed:") for flag in draft.flags)
    garbled = sum(sentence.reason == GARBLED for sentence in draft.dropped)
    return Coded(len(parts), sum(bool(states(part)) for part in parts), garbled, len(draft.sentences) - added)


def refuses(draft: Draft) -> bool:
    """It says that the ECG is unreadable, or nothing at all."""
    return not draft.report or any(flag.startswith(NO_ECG) for flag in draft.flags)


def where(known: npt.NDArray[np.bool_], values: Sequence[bool]) -> Values:
    """(n,) 0 or 1, NaN where not known."""
    return np.where(known, np.asarray(values, np.float64), np.nan)


def summary_cells(texts: Sequence[str], references: References, resamples: Resamples) -> dict[str, Sampled]:
    """How well n texts reproduce n reports. Statements are read in both by one labeler, so that a perfect copy has an F1 of 1."""
    scores = text_scores(texts, references.reports)
    said, meant = read_sets(texts), read_sets(references.reports)
    return {
        "summary_rouge_l": bootstrap(partial(mean, scores.rouge_l), resamples),
        "summary_bleu_4": bootstrap(partial(bleu, scores, 4), resamples),
        "summary_f1": bootstrap(partial(micro_f1, said, meant), resamples),
    }


def cells(answers: Answers, references: References, resamples: Resamples) -> dict[str, Sampled]:
    """Every column of COLUMNS: shares in [0, 1]. A text without a sentence is no valid draft, and adds none to the shares of sentences."""
    sentences, valid, garbled, kept = np.array([[c.sentences, c.valid, c.garbled, c.kept] for c in answers.coded], np.float64).reshape(-1, 4).T
    whole = ((sentences > 0) & (valid == sentences) & (garbled == 0)).astype(np.float64)
    return summary_cells(answers.summaries, references, resamples) | {
        "valid_sentences": bootstrap(partial(share, valid, sentences), resamples),
        "valid_drafts": bootstrap(partial(mean, whole), resamples),
        "kept_sentences": bootstrap(partial(share, kept, sentences), resamples),
        "refused_readable": bootstrap(partial(mean, answers.refused), resamples),
        "refused_blanked": bootstrap(partial(mean, answers.refused_blanked), resamples),
        "silent_readable": bootstrap(partial(mean, answers.silent), resamples),
        "silent_blanked": bootstrap(partial(mean, answers.silent_blanked), resamples),
    }
