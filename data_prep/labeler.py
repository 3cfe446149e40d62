"""Report text -> statements, with negation and uncertainty, in English, German and Swedish.

    read("Sinus rhythm. No LVH. Possible inferior infarct.")
      -> Mention("SR", "present"), Mention("LVH", "absent"), Mention("IMI", "uncertain")

The catalogue's patterns find the statements, the longest match wins ("incomplete right bundle branch block" is no complete one), and
cue words in the same clause decide whether it is stated, doubted or denied.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from regen.data_prep.statements import BY_CODE, STATEMENTS

_PATTERNS = tuple((s.code, re.compile(s.pattern)) for s in STATEMENTS if s.pattern)
_NO = (
    r"(?:\bno(?: definite| acute| clear| significant| longer| ecg)?(?: evidence| signs?)?(?: of| for)?|\bwithout|\bnot|\babsence of|\bnegative for|\brules? out|\bfree of"
    r"|\bkeine?r?(?: hinweise?| anhalt| zeichen)?(?: auf| für)?|\bohne|\bnicht|\binga|\bingen|\binget|\bej)"
)
_DENIED_BEFORE = re.compile(_NO + r"(?:(?: \w+){0,3}| \w+(?:, \w+| \w+)*(?:,? (?:or|nor|oder)| and| und))? $")
_DENIED_LIST = re.compile(_NO + r"(?: [\w-]+)+(?:, [\w -]+)*, $"), re.compile(r"(?:,? [\w-]+)*?,? (?:or|nor|oder) ")
"""Before and after a finding in the middle of a denied list: 'no lvh, lbbb or atrial fibrillation'."""
_NOT_RULED_OUT = re.compile(r"\b(?:can ?not|could not|not) (?:be )?(?:exclude|rule out)\b[^.;]{0,60}$")
_DENIED_AFTER = re.compile(
    r"^ ?(?:\b\w+ ){0,2}?(?:(?:is|are|was|were) )?(?:not (?:present|seen|evident|identified|excluded\b(?<!excluded)|demonstrated)|no longer (?:present|seen|evident)|absent|resolved|nicht nachweisbar|ausgeschlossen)"
)
_DOUBT_BEFORE = re.compile(
    r"\b(?:possibl[ey]|probabl[ey]|likely|suspect\w*|suggest\w*|consider|cannot (?:exclude|rule out)|can ?not (?:exclude|rule out)|may(?: be)?|might be|borderline|question\w*|consistent with"
    r"|compatible with|verdacht auf|v\. ?a\.|wahrscheinlich|möglich\w*|mögl\.|moeglich\w*|vermutlich|sannolikt?|möjlig\w*|fraglich\w*)\b[^.;]{0,60}$"
)
_DOUBT_AFTER = re.compile(
    r"^,?(?: \w+){0,4}?,? ?(?:(?:is|are|may be|could be) )?(?:possible|probable|likely|cannot be (?:entirely )?(?:excluded|ruled out)|not (?:entirely )?(?:excluded|ruled out)|should be considered|is not excluded"
    r"|möglich\b|mögl\.|moeglich|wahrscheinlich(?! alt)|nicht auszuschl\w+|kan ej uteslutas|bör övervägas|sannolikt?\b|\?)"
)
_CLAUSE = re.compile(r"[.;:](?!\d)|\bbut\b|\bhowever\b|\baber\b|\n")

_LANGUAGES = {
    "de": re.compile(r"\b(?:sinusrhythmus|sinustachykardie|sinusbradykardie|vorhof\w*|ekg|lagetyp|\w*linkstyp|rechtstyp|abnorm\w*|infarkt|ableitung\w*|und|oder|normales|verdacht|schrittmacher|niederspannung|\w*schenkelblock)\b"),
    "en": re.compile(r"\b(?:rhythm|ecg|waves?|the|is|are|in|with|left|right|axis|of|branch|otherwise|normal|infarction|tachycardia|bradycardia|atrial|premature|trace)\b"),
    "sv": re.compile(r"\b(?:sinusrytm|sinusbradykardi|sinustakykardi|förmaks\w*|vänster\w*|höger\w*|skänkelblock|normalt|eljest|avvikande|ospecifik|möjlig\w*|sannolikt|ålder|såsom|kammar\w*|ischemi|hög)\b"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mention:
    """One statement found in a text. status: 'present', 'uncertain' or 'absent'; start, end: where, in the folded text."""

    code: str
    status: str
    start: int
    end: int


@lru_cache(maxsize=65536)
def read(text: str) -> tuple[Mention, ...]:
    """Every statement a report mentions, in order of appearance. A statement found twice is kept twice."""
    folded = fold(text)
    found: list[tuple[int, int, str]] = []
    for code, pattern in _PATTERNS:
        found += [(m.start(), m.end(), code) for m in pattern.finditer(folded) if m.end() > m.start()]
    mentions = []
    kept = _longest(found)
    starts, ends = {start for start, _, _ in kept}, {end for _, end, _ in kept}
    for start, end, code in kept:
        status = _status(folded, start, end, end + 1 in starts, start - 1 in ends)
        mentions.append(Mention(code, status, start, end))
        mentions += [Mention(other, status, start, end) for other in BY_CODE[code].implies]
    return tuple(sorted(mentions, key=lambda m: m.start))


def statements_in(text: str) -> set[str]:
    """SCP codes that a report states or doubts; denied ones are left out."""
    return {m.code for m in read(text) if m.status != "absent" and BY_CODE[m.code].scp}


def fold(text: str) -> str:
    """Lower case, one space between words, umlauts composed; PTB-XL's stray upper-case ones ('STÖRUNG') become regular."""
    return re.sub(r"[^\S\n]+", " ", unicodedata.normalize("NFC", text).lower()).strip()


def language_of(text: str) -> str | None:
    """'en', 'de' or 'sv' by the words that tell them apart; None where none occurs."""
    folded = fold(text)
    counts = {name: len(pattern.findall(folded)) for name, pattern in _LANGUAGES.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else None


def _longest(found: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Of overlapping matches keep the longest; of equally long ones all (one phrase may state two things)."""
    kept: list[tuple[int, int, str]] = []
    for start, end, code in sorted(found, key=lambda f: (f[0] - f[1], f[0])):
        if all(end <= s or start >= e or (start == s and end == e) for s, e, _ in kept):
            kept.append((start, end, code))
    return kept


def _status(folded: str, start: int, end: int, followed: bool, preceded: bool) -> str:
    """followed, preceded: another statement stands right beside this one, as in reports without stops; a word of doubt is then its own."""
    before = _CLAUSE.split(folded[:start])[-1]
    after = _CLAUSE.split(folded[end:])[0]
    if _DOUBT_AFTER.match(after) and not followed:
        return "uncertain"
    if _DENIED_AFTER.match(after):
        return "absent"
    if _NOT_RULED_OUT.search(before):
        return "uncertain"
    if _DENIED_BEFORE.search(before if before.endswith(" ") or not before else before + " "):
        return "absent"
    if _DENIED_LIST[1].match(after) and _DENIED_LIST[0].search(before):
        return "absent"
    return "uncertain" if _DOUBT_BEFORE.search(before) and not preceded else "present"


def coded(text: str) -> dict[str, float]:
    """SCP codes of a report with a likelihood: 1.0 where it is stated, 0.5 where it is doubted."""
    out: dict[str, float] = {}
    for mention in read(text):
        if BY_CODE[mention.code].scp and mention.status != "absent":
            out[mention.code] = max(out.get(mention.code, 0.0), 1.0 if mention.status == "present" else 0.5)
    return out
