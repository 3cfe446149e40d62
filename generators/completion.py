"""What a draft must not leave out, added in the catalogue's words: findings that the text forgot, what is measured beyond doubt, a rhythm.

    flags = complete(kept, dropped, basis)          kept grows in place, in clinical order

  completed:CODE     a finding that the text left out; unstated:CODE where it cannot be said
  measured:CODE      a measurement meets the statement's criterion by itself (see rules.added)
  no_rhythm          no rhythm is stated; the likeliest one is, as a possibility, where its probability allows

A normal ECG that stands beside something that is not normal becomes an otherwise normal one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from regen.data_prep.coding import sentence as catalogue_sentence
from regen.data_prep.comparison import ecg_compares
from regen.data_prep.statements import AXES, BY_CODE, CODES, GROUPS
from regen.generators.context_guards import in_the_light
from regen.generators.judging import Basis, judge
from regen.generators.prompt import states
from regen.generators.rules import added, denies, supports
from regen.study import Sentence

_ORDER = {code: (GROUPS.index(s.group), i) for i, (code, s) in enumerate(BY_CODE.items())}
_NUMBER = re.compile(r"\d{2,}")
_RHYTHMS = tuple(code for code in CODES if BY_CODE[code].group == "rhythm")
_LIKELY_RHYTHM = 0.2
"""Probability from which the likeliest rhythm is stated as a possibility."""
_FORGOTTEN, _POSSIBLE, _OTHERWISE = 0.8, 0.5, 0.8
"""Likelihoods that the catalogue words as 'probable' (without a case that says how sure), 'possible', and 'otherwise normal'."""
_NORMAL = frozenset({"SR", "SARRH", "NORM", "MID", "AXL", "AXR", *(code for code, s in BY_CODE.items() if s.group == "quality")})
"""What does not speak against a normal ECG."""


def complete(kept: list[Sentence], dropped: Sequence[Sentence], basis: Basis) -> list[str]:
    """Add to the sentences kept what they lack. Returns the flags; see the module."""
    return [*_findings(kept, basis), *_measurements(kept, dropped, basis), *_rhythm(kept, basis), *_temper(kept, basis)]


def _findings(kept: list[Sentence], basis: Basis) -> list[str]:
    flags, stated = [], _stated(kept)
    for code in (c for c in CODES if c in basis.positive and c not in stated):
        likelihoods = [h.statements[code] or 1.0 for h in basis.stating(code)]
        text = _worded(code, float(np.mean(likelihoods)) if likelihoods else _FORGOTTEN, basis)
        made = None if text is None else judge(text, basis)
        if made is None or made.status == "contradicted":
            flags.append(f"unstated:{code}")
        else:
            _insert(kept, made if basis.known is None else in_the_light(made, basis.known))
            flags.append(f"completed:{code}")
    return flags


def _measurements(kept: list[Sentence], dropped: Sequence[Sentence], basis: Basis) -> list[str]:
    """A leftward axis is nothing to report, but it takes the place of a left axis deviation that the measurement contradicts."""
    flags = []
    moved = any(s.finding in ("LAD", "ALAD") for s in dropped)
    for code in added(basis.measured, basis.positive):
        stated = _stated(kept)
        if code in stated or (code in AXES and stated & set(AXES)) or (code == "AXL" and not moved):
            continue
        axis = code in AXES
        if (text := _worded(code, 1.0 if axis else _POSSIBLE, basis)) is not None:
            finding = basis.findings.get(code)
            probability = finding.probability if finding else None
            status = "supported" if axis else "uncertain"
            _insert(kept, Sentence(text, status, code, probability, basis.cases(code), supports(code, basis.measured)))
            flags.append(f"measured:{code}")
    return flags


def _rhythm(kept: list[Sentence], basis: Basis) -> list[str]:
    if _stated(kept) & set(_RHYTHMS):
        return []
    known = [f for c, f in basis.findings.items() if c in _RHYTHMS and not denies(c, basis.measured) and basis.excluding(c) is None]
    likeliest = max(known, key=lambda f: f.probability, default=None)
    if likeliest is not None and likeliest.probability >= _LIKELY_RHYTHM:
        code = likeliest.code
        if (text := _worded(code, _POSSIBLE, basis)) is not None:
            _insert(kept, Sentence(text, "uncertain", code, likeliest.probability, basis.cases(code), supports(code, basis.measured)))
    return ["no_rhythm"]


def _temper(kept: list[Sentence], basis: Basis) -> list[str]:
    if basis.language == "en" and _stated(kept) - _NORMAL:
        plain = catalogue_sentence("NORM")
        kept[:] = [replace(s, text=catalogue_sentence("NORM", _OTHERWISE)) if s.text == plain else s for s in kept]
    return []


def _stated(kept: Sequence[Sentence]) -> set[str]:
    return {code for s in kept for code, status in states(s.text) if status != "absent"}


def _worded(code: str, likelihood: float, basis: Basis) -> str | None:
    """The catalogue's sentence in English, the usual words of the retrieved cases in another language; None where they have none."""
    if basis.language == "en":
        return catalogue_sentence(code, likelihood)
    parts = [s for h in basis.stating(code) if h.language in (basis.language, None) for s in basis.parts(h.report)]
    own = [s for s in parts if [c for c, _ in states(s)] == [code] and states(s)[0][1] != "absent"]
    said = Counter(s for s in own if not ecg_compares(s) and not _NUMBER.search(s))
    return said.most_common(1)[0][0] if said else None


def _insert(kept: list[Sentence], added: Sentence) -> None:
    """Before the first sentence that comes later in a report's clinical order."""
    key = _ORDER[added.finding or "NORM"]
    for i, other in enumerate(kept):
        if other.finding is not None and _ORDER[other.finding] > key:
            kept.insert(i, added)
            return
    kept.append(added)
