"""One sentence of a draft held against what is known of the study: its status, and what stands behind it.

    judge("Left axis deviation.", basis)  ->  Sentence(..., status="supported", measured="frontal axis -52 degrees")

Sentences are read back with the statement catalogue. A sentence is
  supported      its statement is a finding of this study with a measurement behind it or a probability of a half, and no criterion is missed; or
                 it is an axis, and measured
  uncertain      a finding without that, a statement just under its threshold, or one that retrieved cases make and nothing measures
  contradicted   none of that, a measurement speaks against it, or a finding excludes it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from regen.data_prep.comparison import ecg_compares
from regen.data_prep.sentences import split_sentences
from regen.data_prep.statements import AXES, BY_CODE, CODES, EXCLUDES
from regen.generators.context_guards import Known, tells
from regen.generators.prompt import split_clauses, states
from regen.generators.rules import denies, doubts, supports
from regen.study import Evidence, Finding, Hit, Sentence

_NEAR = 0.8
"""Share of its threshold from which a statement that retrieved cases make is kept as uncertain."""
_HALF = 0.5
"""Probability that supports a finding. Of the validation fold's findings below it, 39 of 100 were coded, whether or not the nearest cases state
them (n = 131), and 60 of 100 where a measurement stands behind them."""
_NOTHING = "nothing retrieved or measured says so"
_SHOWN = 5
"""Cases listed behind a sentence, nearest first."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What sentences are held against: the study's findings (with `positive` decided), its measurements, the retrieved cases.

    hits: every case that may be cited.
    """

    findings: Mapping[str, Finding]
    positive: frozenset[str]
    measured: Mapping[str, float]
    hits: Sequence[Hit]
    priors: bool = False
    language: str = "en"
    known: Known | None = None
    """Of the patient, beside the recording; None for a writer that reads no context."""
    before: frozenset[str] | None = None
    """Statements of the prior reports; None where nobody read them."""
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

    def excluding(self, code: str) -> str | None:
        """A finding of this study that rules the statement out."""
        return next((other for other in sorted(self.positive) if other in EXCLUDES.get(code, ())), None)


def judge(part: str, basis: Basis) -> Sentence:
    """One sentence with its status and evidence. A sentence that states several things is as good as the worst of them."""
    verdicts = [_judge_statement(part, code, status, basis) for code, status in states(part)]
    if not verdicts:
        same = tuple(Evidence(h.study_id, h.score) for h in basis.hits if part in h.report)[:_SHOWN]
        if ecg_compares(part) or (basis.known is not None and basis.known.given and tells(part, basis.known.medications)):
            return Sentence(part, "uncertain", evidence=same if basis.known is not None else ())
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
    missed = doubts(code, basis.measured)
    doubt = f"{missed} misses the criterion" if missed else None
    if finding is None:
        status = "supported" if behind and (cases or code in AXES) else "uncertain" if behind or cases else "contradicted"
        return Sentence(part, status, code, None, cases, behind, doubt if behind or cases else _NOTHING)
    if code in basis.positive:
        sure = finding.probability >= finding.threshold and (behind or finding.probability >= _HALF)
        return Sentence(part, "supported" if sure and not doubt else "uncertain", code, probability, cases, behind, doubt)
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


def _said(report: str) -> set[tuple[str, bool]]:
    """(code, whether it is stated) of a retrieved report."""
    return {(code, status != "absent") for code, status in states(report)}
