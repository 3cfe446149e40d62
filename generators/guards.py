"""From what the language model wrote to a draft that claims only what it can show.

Every sentence is read back with the statement catalogue and tied to its evidence: the calibrated probability of what it states, the
retrieved cases that state the same, the measurement that agrees. Then it is
  supported      its statement is a finding of this study, and a retrieved case, a measurement or a probability of a half stands behind it
  uncertain      just under its threshold, or nothing measures it but retrieved cases say it
  contradicted   none of that, or a measurement speaks against it: taken out of the report and listed with the reason
Findings that the text forgot are added in the catalogue's words, and comparisons with an earlier recording go where none was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from regen.data_prep.coding import sentence as catalogue_sentence
from regen.data_prep.statements import BY_CODE, CODES, GROUPS
from regen.generators.prompt import compares, split_sentences, states
from regen.generators.rules import denies, supports
from regen.study import Evidence, Finding, Hit, Sentence

_ORDER = {code: (GROUPS.index(s.group), i) for i, (code, s) in enumerate(BY_CODE.items())}
_NEAR = 0.8
"""Share of its threshold from which a statement that retrieved cases make is kept as uncertain."""
_NOTHING = "nothing retrieved or measured says so"
_SHOWN = 5
"""Cases listed behind a sentence, nearest first."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What sentences are held against: the study's findings (with `positive` decided), its measurements, the retrieved cases."""

    findings: Mapping[str, Finding]
    positive: frozenset[str]
    measured: Mapping[str, float]
    hits: Sequence[Hit]
    priors: bool = False
    language: str = "en"
    stated: dict[str, tuple[Evidence, ...]] = field(default_factory=dict)

    def cases(self, code: str) -> tuple[Evidence, ...]:
        """The retrieved cases that state a code, nearest first."""
        if code not in self.stated:
            said = [h for h in self.hits if code in h.statements or (code not in CODES and code in {c for c, s in states(h.report) if s != "absent"})]
            said.sort(key=lambda h: -h.score)
            self.stated[code] = tuple(Evidence(h.study_id, h.score) for h in said[:_SHOWN])
        return self.stated[code]


def guard(text: str, basis: Basis) -> tuple[list[Sentence], list[Sentence], list[str]]:
    """Sentences kept (in order), sentences dropped, and flags. See the module."""
    kept: list[Sentence] = []
    dropped: list[Sentence] = []
    flags: list[str] = []
    seen: set[str] = set()
    for part in split_sentences(text):
        if compares(part) and not basis.priors:
            dropped.append(Sentence(part, "contradicted", reason="compares with an earlier recording, and none was given"))
            continue
        judged = judge(part, basis)
        codes = {code for code, _ in states(part)}
        if codes and codes <= seen:
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


def judge(part: str, basis: Basis) -> Sentence:
    """One sentence with its status and evidence. A sentence that states several things is as good as the worst of them."""
    verdicts = [_judge_statement(part, code, status, basis) for code, status in states(part)]
    if not verdicts:
        same = tuple(Evidence(h.study_id, h.score) for h in basis.hits if part in h.report)[:_SHOWN]
        return Sentence(
            part, "uncertain" if same else "contradicted", evidence=same, reason=None if same else _NOTHING
        )
    rank = {"contradicted": 0, "uncertain": 1, "supported": 2}
    return min(verdicts, key=lambda v: rank[v.status])


def _judge_statement(part: str, code: str, said: str, basis: Basis) -> Sentence:
    finding = basis.findings.get(code)
    against = denies(code, basis.measured)
    if against and said != "absent":
        return Sentence(part, "contradicted", code, finding.probability if finding else None, reason=against)
    behind = supports(code, basis.measured)
    cases = basis.cases(code)
    if finding is None:
        status = "supported" if behind and cases else "uncertain" if behind or cases else "contradicted"
        return Sentence(part, status, code, None, cases, behind, None if behind or cases else _NOTHING)
    if said == "absent":
        status = "contradicted" if code in basis.positive else "supported"
        reason = f"probability {finding.probability:.2f} that it is there" if status == "contradicted" else None
        return Sentence(part, status, code, round(1 - finding.probability, 5), (), behind, reason)
    if code in basis.positive:
        status = "supported" if cases or behind or finding.probability >= 0.5 else "uncertain"
        return Sentence(part, status, code, finding.probability, cases, behind)
    if finding.probability >= _NEAR * finding.threshold and cases:
        return Sentence(part, "uncertain", code, finding.probability, cases, behind)
    reason = f"probability {finding.probability:.2f}, under the threshold of {finding.threshold:.2f}"
    return Sentence(part, "contradicted", code, finding.probability, cases, behind, reason)


def _complete(code: str, basis: Basis) -> Sentence | None:
    """A sentence for a finding that the text left out: the catalogue's in English, a retrieved case's own in another language."""
    if denies(code, basis.measured):
        return None
    likelihoods = [h.statements[code] or 1.0 for h in basis.hits if code in h.statements]
    text = catalogue_sentence(code, float(np.mean(likelihoods)) if likelihoods else 0.8)
    if basis.language != "en":
        said = [s for h in basis.hits for s in split_sentences(h.report) if [c for c, _ in states(s)] == [code]]
        if not said:
            return None
        text = said[0]
    return replace(judge(text, basis), text=text)


def _insert(kept: list[Sentence], added: Sentence) -> None:
    """Before the first sentence that comes later in a report's clinical order."""
    key = _ORDER[added.finding or "NORM"]
    for i, other in enumerate(kept):
        if other.finding is not None and _ORDER[other.finding] > key:
            kept.insert(i, added)
            return
    kept.append(added)
