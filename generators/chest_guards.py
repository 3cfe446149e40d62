"""What a sentence of a chest X-ray draft is held against: the study's probabilities, and what the reports of like cases state.

  basis = Basis.of(findings, witnesses, priors=False, lateral=False)
  basis.judge("Small left pleural effusion.")     Sentence(status="supported", finding="Pleural Effusion", probability=0.91, evidence=...)
  basis.judge("No pneumothorax.")                 contradicted where the probability of a pneumothorax reaches its threshold

supported      what it claims is measured, the probability stands clearly on its side or a fair share of the like cases does
uncertain      that is not so clear, or nothing measures it and most like cases state it
contradicted   a probability speaks against it, its side or another detail is not what most like cases with the finding have, or nothing
               measures it and few state it. Such a sentence is never kept
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from regen.data_prep.chest_labeler import SIDES
from regen.data_prep.chexpert import PARENTS, PATHOLOGIES, SUPPORT_DEVICES, ancestors
from regen.data_prep.comparison import chest_compares as compares
from regen.generators.chest_claims import GRADES, Claim, Told, claims, needs_lateral, speaks_of_care
from regen.study import Evidence, Finding, Hit, Sentence

MAJORITY = 0.5
"""Share of the weight of like cases above which a detail, or a statement that nothing measures, stands."""
CLEAR = 0.7
"""Share from which a detail, or which device it is, counts as clear."""
FEW = 3
"""Like cases with a finding below which they settle none of its details."""
FAIR = 0.2
"""Share of the weight of like cases that must state a finding to support it."""
NEAR = 0.8
"""Share of its threshold from which a finding that a sentence only suspects is kept as uncertain."""
FAR = 0.5
"""Share of its threshold below which a finding is clearly denied."""
SHOWN = 5
"""Cases listed behind a sentence, nearest first."""
RANK = {"contradicted": 0, "uncertain": 1, "supported": 2}
_OPACITIES = tuple(name for name in PARENTS if "Lung Opacity" in ancestors(name) and name != "Pneumonia")


@dataclass(frozen=True, slots=True, eq=False)
class Witness:
    """A like case: what its report tells, what it claims (from its labels where it has no report), and its share of the weight."""

    hit: Hit
    told: Told
    weight: float

    def states(self, claim: Claim) -> bool:
        """Whether its report claims the same: presence or absence, of the same kind, on the same sides where sides are given."""
        same = [own for own in self.told.claims if own.observation == claim.observation and own.kind == claim.kind]
        if claim.state > 0:
            return any(own.state > 0 and claim.sides <= own.sides for own in same)
        present = [own for own in same if own.state > 0 and (not claim.sides or not own.sides or own.sides & claim.sides)]
        denied = [own for own in same if own.state == 0 and (claim.implied or not own.implied)]
        return not present and any(not own.sides or claim.sides & own.sides for own in denied)


@dataclass(frozen=True, eq=False)
class Basis:
    """findings: by name those of OBSERVATIONS that are measured, `positive` decided; witnesses: nearest first; priors: an earlier report is
    known; lateral: there is a lateral view."""

    findings: Mapping[str, Finding]
    witnesses: Sequence[Witness]
    priors: bool = False
    lateral: bool = False
    _details: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)

    @cached_property
    def positive(self) -> frozenset[str]:
        return frozenset(name for name, finding in self.findings.items() if finding.positive)

    def holds(self, observation: str) -> bool:
        """A finding of this study, or for a lung opacity any finding that is one."""
        return observation in self.positive or (observation == "Lung Opacity" and any(o in self.positive for o in _OPACITIES))

    def measures(self, claim: Claim) -> bool:
        """Whether a probability stands behind it."""
        return claim.observation in self.findings

    def share(self, claim: Claim) -> float:
        """Share of the weight of like cases that claim the same."""
        return sum(w.weight for w in self.witnesses if w.states(claim))

    def shares(self, observation: str, kind: str = "") -> dict[str, float]:
        """Detail -> share among the like cases with the finding; of sides and grades among those that give one."""
        key = (observation, kind)
        if key not in self._details:
            told = [(w.weight, d) for w in self.witnesses if (d := _details(w, observation, kind)) is not None]
            out = {}
            for detail in sorted({d for _, details in told for d in details}):
                group = SIDES if detail in SIDES else GRADES if detail in GRADES else frozenset[str]()
                asked = [(weight, details) for weight, details in told if not group or details & group]
                out[detail] = sum(weight for weight, details in asked if detail in details) / sum(weight for weight, _ in asked)
            self._details[key] = out
        return self._details[key]

    def agreed(self, observation: str, kind: str = "") -> frozenset[str]:
        """The details that most like cases with the finding share."""
        return frozenset(detail for detail, share in self.shares(observation, kind).items() if share > MAJORITY)

    def kinds(self) -> tuple[str, ...]:
        """The devices that most like cases with any device have, the most frequent first."""
        shares = self._kind_shares()
        return tuple(sorted((kind for kind, share in shares.items() if kind and share > MAJORITY), key=lambda kind: -shares[kind]))

    def _kind_shares(self) -> dict[str, float]:
        """Kind of device -> share among the like cases with any device."""
        told = [(w.weight, {c.kind for c in w.told.claims if c.observation == SUPPORT_DEVICES and c.state > 0}) for w in self.witnesses]
        told = [(weight, kinds) for weight, kinds in told if kinds]
        total = sum(weight for weight, _ in told)
        return {kind: sum(weight for weight, kinds in told if kind in kinds) / total for kind in sorted({k for _, ks in told for k in ks})}

    def evidence(self, *stated: Claim) -> tuple[Evidence, ...]:
        """The nearest like cases whose reports claim all of it."""
        found = [w for w in self.witnesses if all(w.states(claim) for claim in stated)]
        return tuple(Evidence(w.hit.study_id, w.hit.score) for w in found[:SHOWN])

    def unremarkable(self) -> tuple[Evidence, ...]:
        """The nearest like cases in which no pathology is stated."""
        found = [w for w in self.witnesses if not any(c.state > 0 and c.observation in PATHOLOGIES for c in w.told.claims)]
        return tuple(Evidence(w.hit.study_id, w.hit.score) for w in found[:SHOWN])

    def judge(self, text: str, stated: tuple[Claim, ...] | None = None) -> Sentence:
        """One sentence with its status, as good as the worst of its claims. stated: its claims, where its words say less than they name."""
        stated = claims(text) if stated is None else stated
        foreign = self._foreign(text)
        if foreign:
            return Sentence(text, "contradicted", next((c.observation for c in stated if c.measured), None), None, reason=foreign)
        verdicts = [(claim, *self._judge_claim(claim)) for claim in stated]
        worst, status, reason = min(verdicts, key=lambda v: (RANK[v[1]], not v[0].measured))
        if status == "supported" and compares(text):
            status = "uncertain"
        chances = [p for claim in stated if (p := self.probability(claim)) is not None]
        probability = self.probability(worst) if status == "contradicted" else min(chances, default=None)
        named = worst if worst.measured else next((c for c in stated if c.measured), worst)
        return Sentence(text, status, named.observation if named.measured else None, probability, self.evidence(*stated), reason=reason)

    def _foreign(self, text: str) -> str | None:
        if compares(text) and not self.priors:
            return "compares with an earlier study, and none was given"
        if speaks_of_care(text):
            return "speaks of another patient's identity or care"
        if needs_lateral(text) and not self.lateral:
            return "speaks of a lateral view, and none was given"
        return None

    def probability(self, claim: Claim) -> float | None:
        """Of what is claimed, calibrated; None where nothing measures it: no observation, or the absence on one side only."""
        if not self.measures(claim) or (claim.state == 0 and claim.sides and self.holds(claim.observation)):
            return None
        p = self.findings[claim.observation].probability
        if claim.observation == "Lung Opacity":
            p = max([p, *(self.findings[o].probability for o in _OPACITIES if o in self.positive)])
        return p if claim.state > 0 else round(1 - p, 5)

    def _judge_claim(self, claim: Claim) -> tuple[str, str | None]:
        """(status, why it is contradicted)"""
        if not self.measures(claim):
            if claim.state == 0 and self.holds(claim.observation):
                return "contradicted", "another finding of this study is one"
            share = self.share(claim)
            return ("uncertain", None) if share > MAJORITY else ("contradicted", f"nothing measures it, and {share:.0%} of the like cases say so")
        return self._judge_denial(claim) if claim.state == 0 else self._judge_finding(claim)

    def _judge_finding(self, claim: Claim) -> tuple[str, str | None]:
        finding = self.findings[claim.observation]
        p = self.probability(claim) or 0.0
        if not self.holds(claim.observation):
            if claim.state == 0.5 and p >= NEAR * finding.threshold and self.share(claim) > 0:
                return "uncertain", None
            return "contradicted", f"probability {p:.2f}, under the threshold of {finding.threshold:.2f}"
        if claim.kind and claim.kind not in self.kinds():
            return "contradicted", f"few of the like cases with a device have this one ({claim.kind})"
        shares = self.shares(claim.observation, claim.kind)
        for detail in sorted(claim.details):
            if shares.get(detail, 0.0) <= MAJORITY:
                return "contradicted", f"'{detail}' is stated by {shares.get(detail, 0.0):.0%} of the like cases with it"
        same = Claim(claim.observation, 1.0, kind=claim.kind)
        clear = all(shares[detail] >= CLEAR for detail in claim.details) and (not claim.kind or self._kind_shares()[claim.kind] >= CLEAR)
        settled = not (claim.details or claim.kind) or sum(w.states(same) for w in self.witnesses) >= FEW
        seen = claim.observation != "Pneumonia" or self.holds("Lung Opacity")
        fair = p >= 0.5 or self.share(same) >= FAIR
        return ("supported" if clear and settled and fair and seen else "uncertain"), None

    def _judge_denial(self, claim: Claim) -> tuple[str, str | None]:
        finding = self.findings[claim.observation]
        if self.holds(claim.observation):
            if claim.kind and claim.kind not in self.kinds():
                return "uncertain", None
            sides = self.agreed(claim.observation) & SIDES
            if claim.sides and sides and not claim.sides & sides:
                return "uncertain", None
            return "contradicted", f"the finding has probability {finding.probability:.2f}, at or above its threshold of {finding.threshold:.2f}"
        if claim.sides:
            return "contradicted", "denies one side alone, and the other is no finding"
        stated = self.share(Claim(claim.observation, 1.0))
        return ("supported" if finding.probability < FAR * finding.threshold and stated <= MAJORITY else "uncertain"), None


def _details(witness: Witness, observation: str, kind: str) -> frozenset[str] | None:
    """All details that its report gives of a finding; None where it does not state it."""
    own = [c.details for c in witness.told.claims if c.observation == observation and c.kind == kind and c.state > 0]
    return frozenset().union(*own) if own else None
