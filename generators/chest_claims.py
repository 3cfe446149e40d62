"""What a sentence of a chest X-ray report claims, and what it says that only its own patient's image can show.

    claims("Small left pleural effusion.")      (Claim("Pleural Effusion", 1.0, {"left", "mild"}),)
    claims("The lungs are clear.")              denials of Lung Opacity, Consolidation, Edema ...: the labeler reads none there
    without_numbers("Heart size is normal, cardiothoracic ratio 0.46.")      "Heart size is normal."
    read_report(text).findings                  the sentences before the impression

Observations, their states, sides and grades are regen.data_prep.chest_labeler's. Added here is what a copied sentence can get wrong beside
them: the zone of the lung, words such as 'displaced' or 'loculated', which device it is, numbers, where a tube ends.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from regen.data_prep.chest_labeler import SIDES, mentions
from regen.data_prep.chest_phrases import GRADES as SEVERITIES
from regen.data_prep.chest_phrases import LENGTHS, NUMBER
from regen.data_prep.chexpert import OBSERVATIONS, PATHOLOGIES, SUPPORT_DEVICES
from regen.data_prep.sections import has_headings, parse_sections
from regen.data_prep.sentences import sentence_spans

GRADES = frozenset(SEVERITIES)
ACUTE = ("Lung Opacity", "Edema", "Consolidation", "Pneumonia", "Pneumothorax", "Pleural Effusion")
"""What 'no acute cardiopulmonary abnormality' denies."""


@dataclass(frozen=True, slots=True)
class Claim:
    """observation: of OBSERVATIONS, or in small letters what those have no name for. state: 1.0 present, 0.5 uncertain, 0.0 denied.

    details: sides, grade, zones and qualifying words, which hold or fail one by one. kind: of a device. implied: a denial that names
    nothing ('the lungs are clear').
    """

    observation: str
    state: float
    details: frozenset[str] = frozenset()
    kind: str = ""
    implied: bool = False

    @property
    def measured(self) -> bool:
        """Whether it is of OBSERVATIONS, of which there may be a probability."""
        return self.observation in OBSERVATIONS

    @property
    def sides(self) -> frozenset[str]:
        return self.details & SIDES


def _words(**phrases: str) -> dict[str, re.Pattern[str]]:
    return {name.replace("_", " "): re.compile(rf"(?i)\b(?:{phrase})\b") for name, phrase in phrases.items()}


_ZONES = _words(
    upper=r"upper|apical|apex|apices|biapical", middle=r"mid(?:dle)?|lingula\w*|right heart border|left heart border|minor fissure",
    lower=r"lower|basal|base|bases|\w*basilar|retrocardiac|hemidiaphragm", perihilar=r"\w*hilar|central|batwing",
)  # fmt: skip
_QUALIFIERS = _words(
    displaced="displaced", healed=r"heal(?:ed|ing)|old|chronic|remote", acute="acute", calcified=r"calcifi\w+", spiculated=r"spiculat\w+|irregular",
    cavitary=r"cavit\w+", loculated=r"loculat\w+", tension="tension", subpulmonic="subpulmonic", interstitial=r"interstitial|kerley|septal",
    alveolar=r"alveolar|batwing", linear=r"linear|bandlike|streaky|plate-?like|discoid|subsegmental", multifocal=r"multifocal|multiple|several",
    diffuse=r"diffuse|confluent|extensive", lateral="lateral", posterior="posterior", anterior="anterior", nodule=r"nodul\w+", mass=r"mass(?:es)?",
    layering="layering", lobar="lobar|segmental", apical=r"apical|apex", costophrenic=r"blunt\w*", dual=r"dual|two|both leads", single=r"single|one",
    compressive="compressive", blood=r"hemo\w+|haemo\w+", mid=r"clavic\w+|humer\w+|vertebra\w*|compression",
)  # fmt: skip
_DEVICES = _words(
    pacemaker=r"pacemakers?|pacer|pacing|aicd|icd|defibrillator", endotracheal_tube=r"endotracheal|ett?(?= tube)|tracheostomy",
    gastric_tube=r"(?:naso|oro)gastric|enteric|feeding|dobb?hoff|ng|og", chest_tube=r"chest tubes?|thoracostomy|pigtail|drains?",
    central_line=r"picc|jugular|subclavian|central venous|central line|port|swan-ganz|dialysis|venous catheter", wires=r"sternotomy|sternal|cerclage",
    valve=r"valves?", pump=r"balloon|lvad|impella|iabp",
)  # fmt: skip
_TOPICS = _words(
    hyperinflation=r"hyper(?:inflat|expan)\w+", low_volumes=r"low lung volumes|lung volumes are low|shallow|poor inspir\w+|hypo\w*inflat\w+",
    full_inspiration=r"(?:adequate|good|normal) inspiration|inspiration is (?:adequate|good)|well[- ](?:expanded|inflated|aerated)",
    rotation_left=r"rotat(?:ed|ion) to the left", rotation_right=r"rotat(?:ed|ion) to the right", scoliosis=r"scolio\w+|kyphosis",
    degeneration=r"degenerative|spondyl\w+|osteophytes?", aorta=r"aort\w+", hernia=r"hernia", emphysema=r"emphysema\w*|copd|bullae?",
    surgery=r"status post|s/p|history of|\w+ectomy|cabg|bypass|clips|post-?(?:surgical|operative)|radiation", granuloma=r"granuloma\w*",
)  # fmt: skip
"""What many reports state and none of the 14 observations measures: it stands only where most like cases state it."""
_IMPLIED = {
    re.compile(r"(?i)\blungs?(?: fields?)? (?:\w+ ){0,3}clear\b|\bclear lungs?\b|\bno acute (?:lung|pulmonary) (?:abnormality|process)"): (
        "Lung Opacity", "Consolidation", "Pneumonia", "Edema", "Atelectasis", "Lung Lesion"),
    re.compile(r"(?i)\b(?:bon(?:y|es)|osseous|skelet\w+|ribs?)\b[^.]*\b(?:intact|unremarkable|normal)\b|\bno (?:\w+ ){0,3}(?:osseous|bony)"): (
        "Fracture",),
    re.compile(r"(?i)\bno (?:\w+ ){0,3}(?:cardiopulmonary|cardiothoracic|intrathoracic|chest) "): ACUTE,
    re.compile(r"(?i)\bnormal (?:chest|examination|study|radiograph)\b"): PATHOLOGIES,
    re.compile(r"(?i)\bpleural? (?:surfaces?|spaces?|(?:is|are))\b[^.]*\b(?:clear|normal|unremarkable)\b|\bno pleural abnormality"): (
        "Pleural Effusion", "Pneumothorax", "Pleural Other"),
    re.compile(r"(?i)\bvascula(?:ture|rity) (?:\w+ ){0,2}(?:normal|unremarkable)|\bnormal (?:pulmonary )?vascula"): ("Edema",),
}  # fmt: skip
"""Normality that the labeler leaves unread, and what it denies: it must not stand beside such a finding."""


@lru_cache(maxsize=1 << 16)
def claims(sentence: str) -> tuple[Claim, ...]:
    """What one sentence claims, each observation and kind once; a sentence without any is held to its own words."""
    extra = frozenset(name for table in (_ZONES, _QUALIFIERS) for name, pattern in table.items() if pattern.search(sentence))
    found: dict[tuple[str, str], Claim] = {}

    def add(claim: Claim) -> None:
        key = (claim.observation, claim.kind)
        before = found.get(key, claim)
        found[key] = Claim(*key[:1], max(before.state, claim.state), before.details | claim.details, claim.kind, claim.implied)

    for mention in mentions(sentence):
        own = mention.sides | ({mention.severity} if mention.severity else frozenset())
        details = own | (extra if mention.state > 0 else frozenset())
        kinds = [kind for kind, pattern in _DEVICES.items() if pattern.search(sentence)] if mention.observation == SUPPORT_DEVICES else []
        for kind in kinds or [""]:
            add(Claim(mention.observation, mention.state, details, kind))
    for pattern, denied in _IMPLIED.items():
        for observation in denied if pattern.search(sentence) else ():
            if (observation, "") not in found:
                add(Claim(observation, 0.0, implied=True))
    for topic, pattern in _TOPICS.items():
        if pattern.search(sentence):
            add(Claim(topic, 0.0 if re.search(r"(?i)\b(?:no|not|without)\b", sentence) else 1.0))
    if not found:
        add(Claim(" ".join(re.findall(r"[a-z]+", sentence.lower())), 1.0))
    return tuple(found.values())


_ELSEWHERE = re.compile(
    r"(?i)_{2,}|\bx{3,}\b|\bdr\b|\b(?:discussed|telephone\w*|paged|notified|communicated|recommend\w*|advised|correlat\w+|follow-?up|year[- ]old)\b"
)
_LATERAL = re.compile(r"(?i)\blateral (?:view|projection|film|radiograph|image)|\b(?:two|both) views\b|\bon the lateral\b")
_REFERS = re.compile(
    r"(?i)^(?:this|these|that|those|it|they|the (?:latter|former)|the (?:airspace |adjacent |above )?(?:opacit(?:y|ies)|findings?|abnormality)) "
)


def speaks_of_care(sentence: str) -> bool:
    """Whether it is about another patient's care or identity: whom one called, what is recommended, a blanked name."""
    return _ELSEWHERE.search(sentence) is not None


def needs_lateral(sentence: str) -> bool:
    return _LATERAL.search(sentence) is not None


def refers_back(sentence: str) -> bool:
    """Whether it means nothing without the sentence before it ('This opacity ...')."""
    return _REFERS.match(sentence) is not None


_SIZE = re.compile(
    rf"(?i)(\b(?:an?|the) )?(?:\(?{NUMBER}(?: ?(?:x|×|by) ?{NUMBER}){{0,2}}[- ]?(?:{'|'.join(LENGTHS.values())})\)?"
    r"|\b\d+(?:st|nd|rd|th))(?: in (?:diameter|size))? (?!above|below|from|at|in|to|of|over|beneath|distal|proximal)(?=[a-z])"
)
_OPENS = re.compile(r",(?!\d)|\bwith\b| \(|\bmeasuring\b")
_CLOSES = re.compile(r"[;,](?!\d)|\)|\.$")
_ENDS = re.compile(
    r"(?i),? (?:(?:with|and) )?(?:(?:its|their|the) )?(?:(?:lead )?tips?|leads) (?!are\b|is\b)[^.;]*(?:\.\d[^.;]*)*"
    r"|,? (?:(?:which|that|and) )?(?:ends?|terminat\w+|project\w+)\b[^.;]*(?:\.\d[^.;]*)*"
)
_STANDS = re.compile(r"(?i)\b(?:is|are|seen|noted|present|in place|identified|ha[sv]e?)\b")
_LOOSE = re.compile(r"(?i)\b(?:is|are|of|in|at|with|the|an?|and|or|to|from|measuring|measures)\.?$")


@lru_cache(maxsize=1 << 16)
def without_numbers(sentence: str) -> str | None:
    """The sentence without its measurements and without where a device ends; None where nothing would stand without them."""
    text = sentence
    devices = [c for c in claims(sentence) if c.observation == SUPPORT_DEVICES and c.state > 0]
    if devices and (cut := _ENDS.sub("", text)) != text:
        text = _closed(cut)
        if not _STANDS.search(text):
            text = f"{text.rstrip('.')} is in place."
    text = _SIZE.sub(lambda m: _article(m[1], text[m.end() :]), text)
    for opening in reversed(list(_OPENS.finditer(text))):
        close = _CLOSES.search(text, opening.end())
        end = close.start() + (close[0] == ")") if close else len(text)
        if re.search(r"\d", text[opening.start() : end]):
            text = f"{text[: opening.start()].rstrip()}{text[end:]}"
    text = _closed(text)
    if text == sentence:
        return None if re.search(r"\d", text) else text
    same = {(c.observation, c.kind, c.state) for c in claims(text) if c.measured} == {
        (c.observation, c.kind, c.state) for c in claims(sentence) if c.measured}  # fmt: skip
    if re.search(r"\d", text) or not same or _LOOSE.search(text) or len(text.split()) < 2:
        return None
    return text[0].upper() + text[1:]


def _article(article: str | None, after: str) -> str:
    if article is None or article.lower().startswith("the"):
        return article or ""
    right = "an " if after[:1].lower() in "aeiou" else "a "
    return right.capitalize() if article[0].isupper() else right


def _closed(text: str) -> str:
    return f"{' '.join(text.split()).rstrip(' ,.;')}."


@dataclass(frozen=True, slots=True)
class Told:
    """A report by sentences, and all that it claims."""

    findings: tuple[str, ...]
    impression: tuple[str, ...]
    claims: tuple[Claim, ...]


_SUMMARY = re.compile(
    r"(?i)^(?:no|without) (?:evidence of )?(?:acute|active|significant) (?:cardio\w+|intrathoracic|chest|pulmonary|disease|process|findings)"
    r"|^normal (?:chest|examination|study)"
)


@lru_cache(maxsize=1 << 15)
def read_report(text: str) -> Told:
    """Sections by their headings; where there are none, the sentences at the end that repeat findings or sum up are the impression."""
    if has_headings(text):
        sections = parse_sections(text)
        findings, impression = (_sentences(sections.get(name, "")) for name in ("findings", "impression"))
    else:
        every = _sentences(text)
        cut = _impression_begins(every)
        findings, impression = every[:cut], every[cut:]
    return Told(findings, impression, tuple({c: None for s in (*findings, *impression) for c in claims(without_numbers(s) or s)}))


def _sentences(text: str) -> tuple[str, ...]:
    return tuple(_closed(text[begin:end]) for begin, end in sentence_spans(text))


def _impression_begins(sentences: tuple[str, ...]) -> int:
    cut = len(sentences)
    while cut > 1:
        here = {c.observation for c in claims(sentences[cut - 1]) if c.state > 0}
        before = {c.observation for s in sentences[: cut - 1] for c in claims(s) if c.state > 0}
        if not (here & before or _SUMMARY.match(sentences[cut - 1])) or refers_back(sentences[cut - 1]):
            break
        cut -= 1
    return cut
