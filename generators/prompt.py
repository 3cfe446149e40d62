"""The words around a report: what the language model reads before it writes.

    <soft tokens: study, retrieved cases>
    retrieved: Sinus rhythm. Left axis deviation. | Sinus bradycardia. Otherwise normal ECG.
    complaint: Chest pain
    prior: Sinus rhythm.
    measured: rate 61, pr 160, qrs 84, qtc 410, axis -41
    findings: sinus rhythm; left anterior fascicular block
    report (en): Sinus rhythm. Left axis deviation. Left anterior fascicular block.

The findings are the plan: the statements whose calibrated probability passed its threshold. Retrieved text stands before the plan, because
where it stands decides what it does (ECG-Bench); a part that is missing leaves its line out. The last line is the task's (regen.generators.tasks).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from regen.data_prep.coding import Coding, render
from regen.data_prep.comparison import ecg_compares
from regen.data_prep.labeler import fold, read
from regen.data_prep.sentences import split_sentences
from regen.data_prep.statements import BY_CODE
from regen.generators.tasks import TASKS

_SHOWN = ("heart_rate", "pr", "qrs", "qtc", "axis")
_NAMES = {"heart_rate": "rate"}


def plan_text(codes: Iterable[str]) -> str:
    """Statement codes in clinical order -> 'sinus rhythm; left anterior fascicular block'."""
    return "; ".join(BY_CODE[code].label.lower() for code in codes)


def plan_report(codes: Iterable[str]) -> str:
    """The same as the catalogue would word it, in English: near to what a writer makes of it."""
    return render(Coding(dict.fromkeys(codes, 1.0)))


def measured_text(measured: Mapping[str, float]) -> str:
    """'rate 61, pr 160, qrs 84, qtc 410, axis -41' of what could be measured: ms, /min, degrees."""
    known = [(name, measured.get(name, math.nan)) for name in _SHOWN]
    return ", ".join(f"{_NAMES.get(name, name)} {value:.0f}" for name, value in known if value == value)


def prompt_text(retrieved: Sequence[str], measured: str, plan: str, language: str, told: Sequence[str] = (), task: str = "draft") -> str:
    """Everything before the report; ends where the report begins. told: lines of the patient's context (regen.generators.context_lines)."""
    lines = [f"retrieved: {' | '.join(retrieved)}"] if retrieved else []
    lines += told
    lines += [f"measured: {measured}"] if measured else []
    lines += [f"findings: {plan}", TASKS[task].line.format(language=language)]
    return "\n".join(lines)


def split_clauses(sentence: str) -> list[str]:
    """A sentence that states several things without a stop between them, as German and Swedish reports do, cut before each statement.

    'sinusrhythmus linkstyp inferiorer infarkt möglich' -> ['sinusrhythmus', 'linkstyp', 'inferiorer infarkt möglich']. A cut is made only
    where both sides still read as they do together: what goes before a statement or after it ('wahrscheinlich') stays with it.
    """
    mentions = read(sentence)
    if len(fold(sentence)) != len(sentence):
        return [sentence]
    parts, begin = [], 0
    for before, after in pairwise(mentions):
        for cut in (after.start, before.end) if after.start >= before.end else ():
            left, right = sentence[begin:cut].strip(), sentence[cut:].strip()
            done = [(m.code, m.status) for m in mentions if begin <= m.start < cut]
            rest = [(m.code, m.status) for m in mentions if m.start >= cut]
            if [(m.code, m.status) for m in read(left)] == done and [(m.code, m.status) for m in read(right)] == rest:
                parts.append(left)
                begin = cut
                break
    return [*parts, sentence[begin:].strip()]


def without_comparisons(report: str) -> str:
    """A retrieved report without its comparisons: they speak of another patient's past (RA-RRG drops them too)."""
    return " ".join(s for s in split_sentences(report) if not ecg_compares(s))


def states(sentence: str) -> list[tuple[str, str]]:
    """(code, status) of what a sentence says, once each, in order; status 'present', 'uncertain' or 'absent'."""
    seen: dict[str, str] = {}
    for mention in read(sentence):
        seen.setdefault(mention.code, mention.status)
    return list(seen.items())
