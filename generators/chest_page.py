"""A chest X-ray draft while it is written: a frame, what is taken out of it, what is added, and the impression.

    page = Page(basis)
    page.write()
    page.findings, page.impression, page.dropped, page.flags

Every sentence passes regen.generators.chest_guards before it is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from regen.data_prep.chest_labeler import SIDES
from regen.data_prep.chexpert import NO_FINDING, PARENTS, SUPPORT_DEVICES
from regen.generators.chest_claims import ACUTE, GRADES, Claim, claims, refers_back, without_numbers
from regen.generators.chest_guards import MAJORITY, RANK, Basis
from regen.study import Sentence

PLAIN: dict[str, str] = {
    "Enlarged Cardiomediastinum": "widened mediastinum", "Cardiomegaly": "cardiomegaly", "Lung Opacity": "lung opacity",
    "Lung Lesion": "lung nodule or mass", "Edema": "pulmonary edema", "Consolidation": "consolidation", "Pneumonia": "possible pneumonia",
    "Atelectasis": "atelectasis", "Pneumothorax": "pneumothorax", "Pleural Effusion": "pleural effusion", "Pleural Other": "pleural thickening",
    "Fracture": "fracture", SUPPORT_DEVICES: "support devices are present",
}  # fmt: skip
"""What a finding is called where no witness has a sentence that fits."""
ABSENT: dict[str, str] = {
    "Cardiomegaly": "Heart size is normal.", "Edema": "No pulmonary edema.", "Consolidation": "No focal consolidation.",
    "Pleural Effusion": "No pleural effusion.", "Pneumothorax": "No pneumothorax.",
}  # fmt: skip
"""The absences that a report states as a matter of course."""
_SIDELESS = frozenset({"Cardiomegaly", "Enlarged Cardiomediastinum", "Edema"})
NORMAL = "No acute cardiopulmonary abnormality."
_ORDER = {name: i for i, name in enumerate((
    SUPPORT_DEVICES, "Cardiomegaly", "Enlarged Cardiomediastinum", "Edema", "Lung Opacity", "Consolidation", "Pneumonia", "Lung Lesion",
    "Atelectasis", "Pleural Effusion", "Pneumothorax", "Pleural Other", "Fracture", NO_FINDING,
))}  # fmt: skip


class Page:
    """A draft while it is written. findings, impression: the sentences kept; dropped: those taken out, with their reasons; flags."""

    def __init__(self, basis: Basis) -> None:
        self.basis = basis
        self.findings: list[Sentence] = []
        self.impression: list[Sentence] = []
        self.dropped: list[Sentence] = []
        self.flags: list[str] = []
        self._known: dict[tuple[str, str, bool], frozenset[str]] = {}

    def write(self) -> None:
        self._frame()
        self._one_sided()
        self._complete()
        self._deny()
        self._sum_up()
        if self.dropped:
            self.flags.append("sentences_dropped")

    def _frame(self) -> None:
        """The findings of the heaviest witness with a report, sentence by sentence."""
        reported = [w for w in self.basis.witnesses if w.hit.report.strip()]
        if not reported:
            return
        told = max(reported, key=lambda w: w.weight).told
        sentences = told.findings or told.impression
        stands = True
        for text in sentences:
            stands = self._consider(text, stands)

    def _consider(self, text: str, before: bool) -> bool:
        """Keep a sentence of the frame, or list it with the reason. Returns whether the next one may refer back to it."""
        if refers_back(text) and not before:
            self.dropped.append(Sentence(text, "contradicted", reason="refers to a sentence that was taken out"))
            return False
        cut = without_numbers(text)
        if cut is None:
            self.dropped.append(Sentence(text, "contradicted", reason="states a number that was measured on another patient"))
            return False
        judged = self.basis.judge(cut)
        if judged.status == "contradicted":
            self.dropped.append(replace(judged, text=text))
            return False
        if refers_back(text):
            judged = replace(judged, status="uncertain")
        if cut != text:
            self.flags.append("numbers_cut")
        if not self._restates(cut):
            self._keep(judged, self.findings)
        return True

    def _one_sided(self) -> None:
        """Takes out what gives a finding fewer sides than most like cases with it have, and what refers back to it."""
        sides: dict[tuple[str, str], frozenset[str]] = {}
        for claim in (c for s in self.findings for c in claims(s.text) if c.state > 0):
            sides[claim.observation, claim.kind] = sides.get((claim.observation, claim.kind), frozenset()) | claim.sides
        lacking = {key: min(more - given) for key, given in sides.items() if given and (more := self._sides(*key)) > given}
        kept, self.findings, self._known, gone = self.findings, [], {}, False
        for sentence in kept:
            side = next((lacking[c.observation, c.kind] for c in claims(sentence.text) if c.state > 0 and (c.observation, c.kind) in lacking), None)
            gone = side is not None or (gone and refers_back(sentence.text))
            if gone:
                reason = f"most like cases with it have it on the {side} too" if side else "refers to a sentence that was taken out"
                self.dropped.append(replace(sentence, status="contradicted", evidence=(), reason=reason))
            else:
                self._keep(sentence, self.findings)

    def _sides(self, name: str, kind: str = "") -> frozenset[str]:
        """Those that most witnesses give a finding; none for what has no side."""
        return frozenset() if name in _SIDELESS else self.basis.agreed(name, kind) & SIDES

    def _complete(self) -> None:
        """Findings that the frame left out. Pneumonia is a conclusion: it stands in the impression."""
        for name in sorted(self.basis.positive - {NO_FINDING, "Pneumonia"}, key=lambda n: (n == "Lung Opacity", _ORDER[n])):
            kinds = self.basis.kinds() if name == SUPPORT_DEVICES else ()
            for kind in kinds or ("",):
                if self._said(name, kind):
                    continue
                best = self._best(name, kind)
                if best or not self._said(name):
                    self._insert(best or self._plain(name))
                    self.flags.append(f"completed:{name}")

    def _said(self, name: str, kind: str = "") -> bool:
        """Whether a finding is stated, by itself or by one that is a case of it."""
        return any(
            stated and (own == name or PARENTS.get(own) == name == "Lung Opacity") and kind in ("", own_kind) for own, own_kind, stated in self._known
        )

    def _deny(self) -> None:
        """Routine absences that are clear and that most witnesses state, several in one sentence where the witnesses have one."""
        open_ = [name for name in ABSENT if (name, "", False) not in self._known and self._clearly_absent(name)]
        while open_:
            said: dict[str, float] = {}
            for text, weight in self._sentences(impression=False):
                stated = claims(text)
                if all(c.state == 0 and not c.sides and c.observation in open_ for c in stated) and self.basis.judge(text).status == "supported":
                    said[text] = said.get(text, 0.0) + weight
            text = max(said, key=lambda t: (len(claims(t)), said[t])) if said else ABSENT[open_[0]]
            self._insert(self.basis.judge(text))
            open_ = [name for name in open_ if (name, "", False) not in self._known]

    def _clearly_absent(self, name: str) -> bool:
        denial = Claim(name, 0.0)
        agreed = not self.basis.witnesses or self.basis.share(denial) > MAJORITY
        return agreed and self.basis.judge(ABSENT[name]).status == "supported"

    def _sum_up(self) -> None:
        """The impression: findings but devices, the likeliest first; else that there is nothing acute."""
        findings = self.basis.findings
        named = [n for n in self.basis.positive - {NO_FINDING, SUPPORT_DEVICES} if not (n == "Lung Opacity" and self._said_below(n))]
        self._known = {}
        for name in sorted(named, key=lambda n: (-findings[n].probability, _ORDER[n])):
            if not self._said(name):
                self._keep(self._best(name, impression=True) or self._plain(name), self.impression)
        if not named:
            self._conclude_normal()

    def _conclude_normal(self) -> None:
        """That there is nothing acute, no more than uncertain where not all of that is measured, and unsaid where none is."""
        denied = [claim for name in ACUTE if self.basis.measures(claim := Claim(name, 0.0))]
        if not denied:
            self.flags.append("no_impression")
            return
        judged = self.basis.judge(NORMAL, tuple(denied))
        known = self.basis.findings.get(NO_FINDING)
        status = judged.status if len(denied) == len(ACUTE) else min(judged.status, "uncertain", key=RANK.__getitem__)
        probability = known.probability if known else None
        self._keep(replace(judged, status=status, finding=NO_FINDING, probability=probability, evidence=self.basis.unremarkable()), self.impression)

    def _said_below(self, name: str) -> bool:
        return any(PARENTS.get(own) == name for own in self.basis.positive)

    def _best(self, name: str, kind: str = "", impression: bool = False) -> Sentence | None:
        """The sentence for a finding that gives most of what the witnesses agree on, then the one that says least else and is used most."""
        said: dict[str, float] = {}
        details: dict[frozenset[str], float] = {}
        for text, weight in self._sentences(impression):
            own = next((c for c in claims(text) if (c.observation, c.kind) == (name, kind) and c.state > 0), None)
            if own is not None and not refers_back(text):
                said[text] = said.get(text, 0.0) + weight
                details[own.details] = details.get(own.details, 0.0) + weight
        sides = self._sides(name, kind)
        fitting = [judged for text in said if self._whole(text, name) and (judged := self.basis.judge(text)).status != "contradicted"]

        def rank(judged: Sentence) -> tuple[int, int, float, float]:
            stated = claims(judged.text)
            own = next(c for c in stated if (c.observation, c.kind) == (name, kind) and c.state > 0)
            return len(own.sides & sides), -len(stated), details[own.details], said[judged.text]

        best = max(fitting, key=rank, default=None)
        return best if best and rank(best)[0] == len(sides) else None

    def _whole(self, text: str, name: str) -> bool:
        """Whether a sentence says nothing else again, and gives all sides of what it gives a side."""
        stated = claims(text)
        again = any(_key(c) in self._known for c in stated if c.observation != name and c.state > 0)
        return not again and all(c.state == 0 or not c.sides or c.sides >= self._sides(c.observation, c.kind) for c in stated)

    def _sentences(self, impression: bool) -> Iterable[tuple[str, float]]:
        """Of the witnesses, without numbers, with the weight of their witness."""
        for witness in self.basis.witnesses:
            for sentence in witness.told.impression if impression else witness.told.findings:
                if text := without_numbers(sentence):
                    yield text, witness.weight

    def _plain(self, name: str) -> Sentence:
        """A finding in the words of PLAIN, with the side and the grade that the witnesses agree on."""
        agreed = self.basis.agreed(name) if name != SUPPORT_DEVICES else frozenset[str]()
        sides, grades = self._sides(name) & agreed, agreed & GRADES
        kinds = agreed & {"nodule", "mass"} if name == "Lung Lesion" else frozenset[str]()
        side = "bilateral" if len(sides) == 2 else next(iter(sides), "")
        text = " ".join(part for part in (next(iter(grades), ""), side, f"lung {min(kinds)}" if len(kinds) == 1 else PLAIN[name]) if part)
        if name == "Fracture" and sides:
            text = text.replace(side, "bilateral" if len(sides) == 2 else f"{side}-sided")
        if name in ("Pleural Effusion", "Pneumothorax"):
            text = text.replace("mild", "small").replace("severe", "large")
        if name == "Pleural Effusion" and len(sides) == 2:
            text += "s"
        return self.basis.judge(f"{text[0].upper()}{text[1:]}.", (Claim(name, 1.0, sides | grades | kinds),))

    def _restates(self, text: str) -> bool:
        return all(_key(c) in self._known and c.details <= self._known[_key(c)] for c in claims(text))

    def _keep(self, sentence: Sentence, section: list[Sentence], at: int | None = None) -> None:
        for claim in claims(sentence.text):
            self._known[_key(claim)] = self._known.get(_key(claim), frozenset()) | claim.details
        section.insert(len(section) if at is None else at, sentence)

    def _insert(self, sentence: Sentence) -> None:
        """Before the first finding that comes later in a report."""
        place = _ORDER[sentence.finding or NO_FINDING]
        later = (i for i, other in enumerate(self.findings) if other.finding is not None and _ORDER[other.finding] > place)
        self._keep(sentence, self.findings, next(later, None))


def _key(claim: Claim) -> tuple[str, str, bool]:
    return claim.observation, claim.kind, claim.state > 0


def joined(sentences: Iterable[Sentence]) -> str:
    return " ".join(s.text for s in sentences)
