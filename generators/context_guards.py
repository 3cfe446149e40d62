"""Sentences that tell of the patient and not of the trace, and comparisons: what the study's own context must hold for them to stay.

A medication, a history, what happened before the recording: nothing in a trace shows that, so it is taken out unless this study has context and
the writer finds the sentence likelier with the context than without it (regen.generators.told). A comparison needs a prior report, and is only
about what that report states, or about what is new since.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from regen.data_prep.comparison import ecg_compares, says_gone, says_new
from regen.generators.prompt import states
from regen.study import Sentence

_TELLS = re.compile(
    r"(?i)\b(?:known|history|histories|by history|s/p|status post|episodes? of|shortly (?:after|before)|(?:was|were|been) given|preceded th(?:is|e)"
    r"|(?:on|taking|under|after) (?:therapy|treatment|medication)|(?:digitalis|digoxin|drug) effect|presented with|complain\w*|bekannte?r?"
    r"|anamnes\w+)\b"
)
_NO_CONTEXT = "tells of the patient, and no context was given"
_UNMOVED = "tells of the patient, and the context given does not make it likelier"


@dataclass(frozen=True, slots=True)
class Known:
    """What of the patient is known beside the recording, for a writer that reads context.

    given: whether there is any; moved: part, or code of a finding that was not written -> nats a token by which the context moved it;
    only_chart: findings that are none without the chart; medications: every name that training knows.
    """

    given: bool
    moved: Mapping[str, float]
    only_chart: frozenset[str] = frozenset()
    medications: frozenset[str] = frozenset()


def tells(part: str, medications: frozenset[str] = frozenset()) -> bool:
    """Whether a sentence tells of the patient rather than of the trace."""
    return bool(_TELLS.search(part)) or bool(medications and _named(medications).search(part.lower()))


def in_the_light(judged: Sentence, known: Known, part: str | None = None) -> Sentence:
    """A judged sentence with how much the context moved it; contradicted where it tells what the context does not.

    part: as the writer wrote it; None for a finding's own sentence, which stands in known.moved under its code.
    """
    moved = known.moved.get(str(judged.finding) if part is None else part)
    told = tells(judged.text, known.medications)
    only = judged.status != "contradicted" and (judged.finding in known.only_chart or (told and judged.finding is None))
    judged = replace(judged, told=moved, only_told=only)
    if not told or judged.status == "contradicted":
        return judged
    if not known.given:
        return replace(judged, status="contradicted", only_told=False, evidence=(), reason=_NO_CONTEXT)
    if judged.finding not in known.only_chart and not (moved or 0.0) > 0:
        return replace(judged, status="contradicted", only_told=False, reason=_UNMOVED)
    return judged


def miscompared(part: str, before: frozenset[str]) -> str | None:
    """Why a comparison cannot be one with the prior reports, of which `before` are the statements. None where it can, or states nothing."""
    if not ecg_compares(part):
        return None
    for code, status in states(part):
        was = code in before
        if status == "absent" or says_gone(part):
            if not was:
                return "says that something went which no prior report states"
        elif says_new(part):
            if was:
                return "calls new what a prior report states"
        elif not was:
            return "compares what no prior report states"
    return None


@lru_cache(maxsize=8)
def _named(medications: frozenset[str]) -> re.Pattern[str]:
    return re.compile(r"\b(?:" + "|".join(re.escape(name) for name in sorted(medications, key=len, reverse=True)) + r")\b")
