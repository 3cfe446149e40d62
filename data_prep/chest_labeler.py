"""Chest X-ray report text -> the CheXpert observations, each present (1.0), uncertain (0.5) or denied (0.0), by rules.

    label_report("Heart size is normal. Small left pleural effusion, possible atelectasis. No pneumothorax.")
      -> {"Cardiomegaly": 0.0, "Atelectasis": 0.5, "Pneumothorax": 0.0, "Pleural Effusion": 1.0}
    mentions("Small left pleural effusion.")
      -> [Mention("Pleural Effusion", 1.0, "left", "mild", 0, 27, 0)]

Give it findings and impression, not the indication: 'rule out pneumonia' there reads as doubt. A sentence is read once from left to
right: a cue ('no', 'possible', 'is not seen') reaches every observation of its list until a word ends its scope ('but', 'with', 'there
is'; after NegEx, Chapman et al., J Biomed Inform 2001). Time is linear in the text. English only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, cast

from regen.data_prep import chest_phrases as say
from regen.data_prep.chexpert import NO_FINDING, OBSERVATIONS, PATHOLOGIES, SUPPORT_DEVICES
from regen.data_prep.sentences import sentence_spans

Side = Literal["left", "right", "bilateral"]
Severity = Literal["mild", "moderate", "severe"]
SIDES = frozenset({"left", "right"})
PRESENT, UNCERTAIN, ABSENT = 1.0, 0.5, 0.0
_REACH = 80
"""Characters over which a cue behind an observation ('... is not seen') reaches back to it."""
_ASIDE = 60
"""Characters beside an observation in which its side and grade are looked for."""
_MIDLINE = frozenset({"Cardiomegaly", "Enlarged Cardiomediastinum"})


def _whole(phrase: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-])(?:{phrase})(?![\w-])")


_NAMES = [(name, "named", _whole(phrase)) for name, phrase in say.FINDINGS.items()]
_NAMES += [(name, "normal", _whole(phrase)) for name, phrase in say.NORMALS.items()]
_NAMES += [(name, "hint", _whole(phrase)) for name, phrase in say.HINTS.items()]
_NAMES += [("", "other", _whole(say.NOT_MEANT))]
_CUE = re.compile(
    "|".join(
        [rf"(?P<{kind}>(?<![\w-])(?:{phrase})(?![\w-]))" for kind, phrase in say.CUES.items()]
        + [f"(?P<{kind}>{mark})" for kind, mark in say.MARKS.items()]
    )
)
_ENDS = frozenset({"end", "mark", "pause", "stated"})


@dataclass(frozen=True, slots=True)
class Mention:
    """One observation named in a report.

    state: 1.0 present, 0.5 uncertain, 0.0 denied. side: of the observation, None where none is given (always for the heart and the
    mediastinum). severity: the word of size or grade beside it. start, end: characters of the text. sentence: number from 0.
    """

    observation: str
    state: float
    side: Side | None
    severity: Severity | None
    start: int
    end: int
    sentence: int

    @property
    def sides(self) -> frozenset[str]:
        """Both of SIDES where it is bilateral; none where no side is given."""
        return SIDES if self.side == "bilateral" else frozenset({self.side} if self.side else ())


@dataclass(slots=True)
class _Found:
    """An observation in a folded sentence; how: 'named', 'normal', 'hint', 'other'."""

    name: str
    how: str
    start: int
    end: int
    state: float | None = PRESENT
    side: Side | None = None
    severity: Severity | None = None


def label_report(text: str) -> dict[str, float]:
    """Observation -> 1.0 present, 0.5 uncertain, 0.0 denied, in the order of OBSERVATIONS; what is not mentioned is left out.

    Of several mentions the most certain counts: present before uncertain before denied. 'No Finding' is 1.0 where a text with words in
    it states none of the 12 pathologies as present or uncertain, and is otherwise left out. Blank text gives {}.
    """
    labels: dict[str, float] = {}
    for mention in mentions(text):
        labels[mention.observation] = max(labels.get(mention.observation, ABSENT), mention.state)
    if re.search(r"\w", text) and not any(labels.get(name, ABSENT) > ABSENT for name in PATHOLOGIES):
        labels[NO_FINDING] = PRESENT
    return {name: labels[name] for name in OBSERVATIONS if name in labels}


def mentions(text: str) -> list[Mention]:
    """Every observation a report names, in order of appearance; one that is named twice comes twice."""
    out = []
    for number, (begin, end) in enumerate(sentence_spans(text)):
        folded, at = _fold(text, begin, end)
        for found in _read(folded):
            if found.state is not None:
                span = at[found.start], at[found.end - 1] + 1
                out.append(Mention(found.name, found.state, found.side, found.severity, *span, number))
    return out


def _fold(text: str, begin: int, end: int) -> tuple[str, list[int]]:
    """Lower case with single spaces, and where each character stood in the text."""
    letters: list[str] = []
    at: list[int] = []
    for i in range(begin, end):
        letter = text[i].lower()
        if letter.isspace():
            if not letters or letters[-1] == " ":
                continue
            letter = " "
        letters.append(letter if len(letter) == 1 else letter[0])
        at.append(i)
    return "".join(letters), at


def _read(folded: str) -> list[_Found]:
    found = _find(folded)
    if found:
        cues = _cues(folded)
        _look_ahead(found, cues)
        _look_back(folded, found, cues)
        _describe(folded, found)
    return [f for f in found if f.how != "other"]


def _find(folded: str) -> list[_Found]:
    """Observations from left to right; of overlapping phrases the earlier, then the longer one; one span may state two things."""
    matches = [(m.start(), -m.end(), name, how) for name, how, pattern in _NAMES for m in pattern.finditer(folded)]
    kept: list[_Found] = []
    for start, minus_end, name, how in sorted(matches, key=lambda m: m[:2]):
        again = bool(kept) and (start, -minus_end) == (kept[-1].start, kept[-1].end)
        if not kept or start >= kept[-1].end or (again and name != kept[-1].name):
            kept.append(_Found(name, how, start, -minus_end))
    return kept


@dataclass(slots=True)
class _Cue:
    """A cue word. plural: begins with a plural verb; fresh: opens a new thought; both: doubts what stands before it too."""

    kind: str
    start: int
    end: int
    plural: bool
    fresh: bool
    both: bool


def _cues(folded: str) -> list[_Cue]:
    """Cue words from left to right, without the pauses whose clause goes on with 'or'."""
    cues: list[_Cue] = []
    for match in _CUE.finditer(folded):
        kind, start = str(match.lastgroup), match.start()
        fresh = say.FRESH.search(folded[max(0, start - 12) : start]) is not None
        kind = "doubt" if kind == "query" else kind
        cues.append(_Cue(kind, start, match.end(), say.PLURAL.match(match[0]) is not None, fresh, say.BOTH_WAYS.match(match[0]) is not None))
    kept, listed = [], False
    for cue in reversed(cues):
        listed = cue.kind == "or" or (listed and cue.kind not in ("end", "mark"))
        if cue.kind not in ("or", "skip") and not (cue.kind == "pause" and listed):
            kept.append(cue)
    return kept[::-1]


def _look_ahead(found: list[_Found], cues: list[_Cue]) -> None:
    """Scope to the right: what the last cue before the observation (or inside it) says."""
    mode, i = "", 0
    for item in found:
        while i < len(cues) and cues[i].end <= item.end:
            cue, i = cues[i], i + 1
            if cue.kind in _ENDS:
                mode = ""
            elif cue.kind in ("deny", "history"):
                mode = cue.kind
            elif cue.both or (cue.kind == "doubt" and (mode != "deny" or cue.fresh)):
                mode = "doubt"
        if item.how == "normal":
            item.state = UNCERTAIN if mode == "doubt" else ABSENT
        elif mode == "history":
            item.state = None
        else:
            certain = UNCERTAIN if item.how == "hint" else PRESENT
            item.state = {"deny": ABSENT, "doubt": UNCERTAIN}.get(mode, certain)


def _look_back(folded: str, found: list[_Found], cues: list[_Cue]) -> None:
    """Scope to the left: 'effusion or pneumothorax is not seen', 'atelectasis versus pneumonia'."""
    last, wall = -1, 0
    for cue in cues:
        while last + 1 < len(found) and found[last + 1].end <= cue.start:
            last += 1
        if cue.kind in ("deny_after", "doubt_after") or cue.both:
            _apply(folded, found, last, cue, wall)
        if cue.kind in ("end", "mark", "stated", "deny_after", "doubt_after"):
            wall = cue.end


def _apply(folded: str, found: list[_Found], last: int, cue: _Cue, wall: int) -> None:
    """To the observation before the cue, and to the list it closes; nothing before `wall`."""
    joined = False
    follower = cue.start
    while last >= 0 and wall <= found[last].start and follower - found[last].end <= _REACH:
        gap = folded[found[last].end : follower]
        if follower != cue.start:
            listed = say.LIST_GAP.fullmatch(gap) and (say.JOINED.match(gap) or (say.AND.match(gap) and cue.plural) or joined)
            if not listed and (found[last].start, found[last].end) != (found[last + 1].start, found[last + 1].end):
                return
            joined = True
        if found[last].how == "named" and found[last].state:
            found[last].state = ABSENT if cue.kind == "deny_after" else UNCERTAIN
        follower, last = found[last].start, last - 1
        if cue.both:
            return


def _describe(folded: str, found: list[_Found]) -> None:
    """Side and severity of each observation, from the words beside it; in a list the side of the first goes for those without one."""
    taken = 0
    for before, item in pairwise([None, *found]):
        assert item is not None
        lead = folded[max(taken, item.start - _ASIDE) : item.end]
        tail = folded[item.end : item.end + _ASIDE]
        after = say.SIDE_AFTER.match(tail)
        if item.name not in _MIDLINE:
            item.side = _side(lead) or (_side(after[0]) if after else None)
            if item.side is None and before is not None and before.name not in _MIDLINE and _and_gap(folded[before.end : item.start]):
                item.side = before.side
        if item.name != SUPPORT_DEVICES:
            item.severity = _severity(folded[max(taken, item.start - _ASIDE) : item.start], folded[item.start : item.end], tail)
        taken = item.end + (after.end() if after else 0)


def _and_gap(gap: str) -> bool:
    return re.fullmatch(r",? ?(?:and/or|and|or) (?:(?:adjacent|associated|overlying|compressive|subjacent) )?", gap) is not None


def _side(words: str) -> Side | None:
    """The side named last; 'bilateral' where the two are joined ('left and right', 'right greater than left')."""
    said = list(say.SIDE.finditer(words))
    if not said:
        return None
    last = said[-1][0]
    if last not in say.LEFT_WORDS | say.RIGHT_WORDS:
        return "bilateral"
    if (
        len(said) > 1
        and (said[-2][0] in say.LEFT_WORDS) != (last in say.LEFT_WORDS)
        and say.SIDES_JOINED.fullmatch(words, said[-2].end(), said[-1].start())
    ):
        return "bilateral"
    return "left" if last in say.LEFT_WORDS else "right"


def _severity(before: str, named: str, after: str) -> Severity | None:
    """The last grade of the words right before it ('mild to moderate' is moderate), inside it, or behind a verb ('effusion is small')."""
    near = say.GRADE_BREAK.split(before)[-1]
    behind = say.GRADE_AFTER.match(after)
    for words in (named.removesuffix(" large"), " ".join(near.split()[-6:]), behind[0] if behind else ""):
        grades = [cast(Severity, match.lastgroup) for match in say.GRADE.finditer(words)]
        if grades:
            return grades[-1]
    return None
