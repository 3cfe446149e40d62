"""From what the language model wrote to a draft that claims only what it can show.

Every sentence is read back with the statement catalogue and tied to its evidence: the calibrated probability of what it states, the
retrieved cases that state the same, the measurement that agrees. Then it is
  supported      its statement is a finding of this study, and a measurement, a probability of a half, or a fair share of the nearest cases
                 stands behind it
  uncertain      a finding without that, a statement just under its threshold, or one that retrieved cases make and nothing measures
  contradicted   none of that, a measurement speaks against it, or a finding excludes it: taken out and listed with the reason
Findings that the text forgot are added in the catalogue's words; comparisons with an earlier recording go where none was given; an infarct's
stage or a count of beats goes unless a retrieved case says the very same; a sentence with a number that was not measured here goes, and
so does one that no report of the archive is worded like.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from regen.data_prep.coding import sentence as catalogue_sentence
from regen.data_prep.comparison import ecg_compares
from regen.data_prep.sentences import split_sentences
from regen.data_prep.statements import AXES, BY_CODE, CODES, EXCLUDES, GROUPS
from regen.data_prep.wording import pairs
from regen.generators.prompt import split_clauses, states
from regen.generators.rules import denies, supports
from regen.study import Evidence, Finding, Hit, Sentence

_ORDER = {code: (GROUPS.index(s.group), i) for i, (code, s) in enumerate(BY_CODE.items())}
_NEAR = 0.8
"""Share of its threshold from which a statement that retrieved cases make is kept as uncertain."""
_NOTHING = "nothing retrieved or measured says so"
GARBLED = "no report of the archive is worded like that"
"""The reason of a sentence that holds parts of the prompt, or words as nobody puts them together."""
_SHARE = 0.2
"""Share of the nearest cases, by cosine, that must state a finding to support it."""
_DETAIL = re.compile(r", stage [IV]+(?:-[IV]+)?| \(\d+\)")
_NUMBER = re.compile(r"(?<![\w(])\d{2,}(?:[.,]\d+)?")
_PROMPT = re.compile(r"\n|findings:|findings-|retrieved:|measured:|report \(")
_COUNT = re.compile(r"(?:: (\d+)(?= of )|(?<=: )(\d+) (?=ventricular|supraventricular))")
_SHOWN = 5
"""Cases listed behind a sentence, nearest first."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What sentences are held against: the study's findings (with `positive` decided), its measurements, the retrieved cases.

    hits: every case that may be cited; nearest: how many of them, the nearest by cosine, count for support.
    """

    findings: Mapping[str, Finding]
    positive: frozenset[str]
    measured: Mapping[str, float]
    hits: Sequence[Hit]
    priors: bool = False
    language: str = "en"
    nearest: int = 20
    wording: frozenset[tuple[str, str]] | None = None
    """Every two words that stand side by side in the archive, for a model that knows no others; None for one that may word freely."""
    stated: dict[str, list[Hit]] = field(default_factory=dict)

    def parts(self, report: str) -> list[str]:
        """What is judged one by one: sentences; in other languages than English, whose reports have few stops, the statements in them."""
        sentences = split_sentences(report)
        return sentences if self.language == "en" else [clause for sentence in sentences for clause in split_clauses(sentence)]

    def stating(self, code: str) -> list[Hit]:
        """The retrieved cases that state a code, nearest first."""
        if code not in self.stated:
            said = [h for h in self.hits if code in h.statements or (code not in CODES and (code, True) in _said(h.report))]
            self.stated[code] = sorted(said, key=lambda h: -h.score)
        return self.stated[code]

    def cases(self, code: str) -> tuple[Evidence, ...]:
        """The nearest of them, as evidence."""
        return tuple(Evidence(h.study_id, h.score) for h in self.stating(code)[:_SHOWN])

    def shared(self, code: str) -> bool:
        """Whether enough of the nearest cases state it."""
        near = sorted(self.hits, key=lambda h: -h.score)[: self.nearest]
        ids = {h.study_id for h in self.stating(code)}
        return bool(near) and sum(h.study_id in ids for h in near) >= _SHARE * len(near)

    def excluding(self, code: str) -> str | None:
        """A finding of this study that rules the statement out."""
        return next((other for other in sorted(self.positive) if other in EXCLUDES.get(code, ())), None)


def guard(text: str, basis: Basis) -> tuple[list[Sentence], list[Sentence], list[str]]:
    """Sentences kept (in order), sentences dropped, and flags. See the module."""
    kept: list[Sentence] = []
    dropped: list[Sentence] = []
    flags: list[str] = []
    seen: set[str] = set()
    for part in basis.parts(text):
        judged = _in_context(judge(part, basis), seen, basis)
        codes = {code for code, _ in states(part)}
        if codes and codes <= seen and judged.status != "contradicted":
            continue
        seen |= codes if judged.status != "contradicted" else set()
        (dropped if judged.status == "contradicted" else kept).append(judged)
    for code in CODES:
        if code in basis.positive and code not in seen:
            added = _complete(code, basis)
            if added is None:
                flags.append(f"unstated:{code}")
                continue
            _insert(kept, added)
            flags.append(f"completed:{code}")
    if dropped:
        flags.append("sentences_dropped")
    return kept, dropped, flags


def _in_context(judged: Sentence, seen: set[str], basis: Basis) -> Sentence:
    """What speaks against a sentence whatever it states: a comparison without a prior, a second axis, a number or words from elsewhere."""
    if _garbled(judged.text, basis.wording):
        return replace(judged, status="contradicted", evidence=(), reason=GARBLED)
    if ecg_compares(judged.text) and not basis.priors:
        return replace(judged, status="contradicted", evidence=(), reason="compares with an earlier recording, and none was given")
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


def judge(part: str, basis: Basis) -> Sentence:
    """One sentence with its status and evidence. A sentence that states several things is as good as the worst of them."""
    verdicts = [_judge_statement(part, code, status, basis) for code, status in states(part)]
    if not verdicts:
        same = tuple(Evidence(h.study_id, h.score) for h in basis.hits if part in h.report)[:_SHOWN]
        if ecg_compares(part):
            return Sentence(part, "uncertain")
        return Sentence(part, "uncertain" if same else "contradicted", evidence=same, reason=None if same else _NOTHING)
    rank = {"contradicted": 0, "uncertain": 1, "supported": 2}
    return min(verdicts, key=lambda v: rank[v.status])


def _judge_statement(part: str, code: str, said: str, basis: Basis) -> Sentence:
    if said == "absent":
        return _judge_denial(part, code, basis)
    finding = basis.findings.get(code)
    probability = finding.probability if finding else None
    behind, cases = supports(code, basis.measured), basis.cases(code)
    against, other = denies(code, basis.measured), basis.excluding(code)
    if against or other:
        reason = against or f"excluded by the finding {BY_CODE[str(other)].label.lower()}"
        return Sentence(part, "contradicted", code, probability, () if against else cases, reason=reason)
    if finding is None:
        status = "supported" if behind and cases else "uncertain" if behind or cases else "contradicted"
        return Sentence(part, status, code, None, cases, behind, None if behind or cases else _NOTHING)
    if code in basis.positive:
        sure = finding.probability >= finding.threshold and (behind or finding.probability >= 0.5 or basis.shared(code))
        return Sentence(part, "supported" if sure else "uncertain", code, probability, cases, behind)
    if finding.probability >= finding.threshold:
        return Sentence(part, "contradicted", code, probability, cases, reason="a likelier finding rules it out")
    if finding.probability >= _NEAR * finding.threshold and cases and code != "NORM":
        return Sentence(part, "uncertain", code, probability, cases, behind)
    reason = f"probability {finding.probability:.2f}, under the threshold of {finding.threshold:.2f}"
    return Sentence(part, "contradicted", code, probability, cases, behind, reason)


def _judge_denial(part: str, code: str, basis: Basis) -> Sentence:
    """'No left ventricular hypertrophy.': probability is that it is not there."""
    finding = basis.findings.get(code)
    probability = None if finding is None else round(1 - finding.probability, 5)
    against = supports(code, basis.measured)
    if against or code in basis.positive:
        return Sentence(part, "contradicted", code, probability, reason=against or "it is a finding of this study")
    behind = denies(code, basis.measured)
    sure = behind or (finding is not None and finding.probability < finding.threshold / 2)
    return Sentence(part, "supported" if sure else "uncertain", code, probability, measured=behind)


def _complete(code: str, basis: Basis) -> Sentence | None:
    """A sentence for a finding that the text left out: the catalogue's in English, the usual words of the retrieved cases in another language."""
    likelihoods = [h.statements[code] or 1.0 for h in basis.stating(code)]
    text = catalogue_sentence(code, float(np.mean(likelihoods)) if likelihoods else 0.8)
    if basis.language != "en":
        parts = [s for h in basis.stating(code) if h.language in (basis.language, None) for s in basis.parts(h.report)]
        own = [s for s in parts if [c for c, _ in states(s)] == [code] and states(s)[0][1] != "absent"]
        said = Counter(s for s in own if not ecg_compares(s) and not _NUMBER.search(s))
        if not said:
            return None
        text = said.most_common(1)[0][0]
    added = judge(text, basis)
    return None if added.status == "contradicted" else added


def _said(report: str) -> set[tuple[str, bool]]:
    """(code, whether it is stated) of a retrieved report."""
    return {(code, status != "absent") for code, status in states(report)}


def _insert(kept: list[Sentence], added: Sentence) -> None:
    """Before the first sentence that comes later in a report's clinical order."""
    key = _ORDER[added.finding or "NORM"]
    for i, other in enumerate(kept):
        if other.finding is not None and _ORDER[other.finding] > key:
            kept.insert(i, added)
            return
    kept.append(added)
