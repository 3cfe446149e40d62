"""From what the language model wrote to a draft that claims only what it can show.

Every sentence is judged (see judging) and looked at in its context: comparisons with an earlier recording go where none was given; an infarct's
stage or a count of beats goes unless a retrieved case says the very same; a sentence with a number that was not measured here goes, and
so does one that no report of the archive is worded like. What tells of the patient, and what compares, regen.generators.context_guards judges.
What is contradicted is taken out and listed with the reason. What the text forgot is added (see completion).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from regen.data_prep.coding import sentence as catalogue_sentence
from regen.data_prep.comparison import ecg_compares
from regen.data_prep.statements import AXES, BY_CODE
from regen.data_prep.wording import pairs
from regen.generators.completion import complete
from regen.generators.context_guards import in_the_light, miscompared
from regen.generators.judging import Basis, judge
from regen.generators.prompt import states
from regen.study import Sentence

GARBLED = "no report of the archive is worded like that"
"""The reason of a sentence that holds parts of the prompt, or words as nobody puts them together."""
_DETAIL = re.compile(r", stage [IV]+(?:-[IV]+)?| \(\d+\)")
_NUMBER = re.compile(r"(?<![\w(])\d{2,}(?:[.,]\d+)?")
_PROMPT = re.compile(r"\n|findings:|findings-|retrieved:|measured:|report \(")
_COUNT = re.compile(r"(?:: (\d+)(?= of )|(?<=: )(\d+) (?=ventricular|supraventricular))")


def guard(text: str, basis: Basis) -> tuple[list[Sentence], list[Sentence], list[str]]:
    """Sentences kept (in order), sentences dropped, and flags. See the module."""
    kept: list[Sentence] = []
    dropped: list[Sentence] = []
    seen: set[str] = set()
    for part in basis.parts(text):
        judged = _in_context(judge(part, basis), seen, basis)
        judged = in_the_light(judged, basis.known, part) if basis.known is not None else judged
        codes = {code for code, _ in states(part)}
        if codes and codes <= seen and judged.status != "contradicted":
            continue
        seen |= codes if judged.status != "contradicted" else set()
        (dropped if judged.status == "contradicted" else kept).append(judged)
    flags = complete(kept, dropped, basis)
    if dropped:
        flags.append("sentences_dropped")
    return kept, dropped, flags


def _in_context(judged: Sentence, seen: set[str], basis: Basis) -> Sentence:
    """What speaks against a sentence whatever it states: a comparison without a prior, a second axis, a number or words from elsewhere."""
    if _garbled(judged.text, basis.wording):
        return replace(judged, status="contradicted", evidence=(), reason=GARBLED)
    if ecg_compares(judged.text) and not basis.priors:
        return replace(judged, status="contradicted", evidence=(), reason="compares with an earlier recording, and none was given")
    if basis.before is not None and (why := miscompared(judged.text, basis.before)):
        return replace(judged, status="contradicted", evidence=(), reason=why)
    if judged.status == "contradicted":
        return judged
    if judged.finding in AXES and seen & (set(AXES) - {judged.finding}):
        return replace(judged, status="contradicted", reason="another axis was stated before")
    if _DETAIL.search(judged.text) and not any(judged.text in h.report for h in basis.stating(judged.finding or "")):
        judged = replace(judged, text=_DETAIL.sub("", judged.text))
    counted = _COUNT.search(judged.text)
    if counted and float(counted[1] or counted[2]) != basis.measured.get("ectopic_beats"):
        judged = replace(judged, text=_COUNT.sub("", judged.text))
    if number := _foreign_number(judged.text, basis.measured):
        return replace(judged, status="contradicted", evidence=(), reason=f"states the number {number}, which was not measured here")
    return judged


def _garbled(text: str, wording: frozenset[tuple[str, str]] | None) -> bool:
    """Parts of the prompt, or words put together as nobody does: a small model's text falls apart now and then."""
    return bool(_PROMPT.search(text)) or (wording is not None and any(p not in wording and p not in _catalogue_pairs() for p in pairs(text)))


@lru_cache(maxsize=1)
def _catalogue_pairs() -> frozenset[tuple[str, str]]:
    """Of every sentence that the catalogue makes."""
    made = (catalogue_sentence(code, likelihood) for code in BY_CODE for likelihood in (1.0, 0.8, 0.5, 0.15))
    return frozenset(pair for text in made for pair in pairs(text))


def _foreign_number(text: str, measured: Mapping[str, float]) -> str | None:
    """A rate or an interval in the text that no measurement of this study comes near: it was copied from another patient's report."""
    for number in _NUMBER.findall(text):
        if not any(abs(float(number.replace(",", ".")) - abs(value)) <= 0.1 * abs(value) for value in measured.values()):
            return str(number)
    return None
