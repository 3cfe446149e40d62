"""The details a draft gets wrong: side, grade, comparison with an earlier study, numbers. Chest X-ray and ECG text alike.

    errors = detail_errors(["Small right effusion, unchanged."], ["Moderate left effusion."])
    errors.laterality, errors.severity, errors.comparison      array([1.]), array([1.]), array([1.])
    mean(errors.laterality, draws)                             errors a report, one value a draw (regen.eval.averages)
    share(errors.laterality, errors.sides, draws)              of what both sides gave a side for

What is wrong here is a detail of something that both texts state; a finding that only one of them states is the finding metrics' business.
Counts are per report, so that a bootstrap reweighs reports. A study without a reference text is NaN throughout; an empty draft makes no error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regen.data_prep.chest_labeler import SIDES, Mention, mentions
from regen.data_prep.chest_phrases import LENGTHS, NUMBER
from regen.data_prep.comparison import speaks_of_change
from regen.data_prep.labeler import read
from regen.data_prep.sentences import sentence_spans, split_sentences
from regen.errors import DataError
from regen.eval.bootstrap import Values

Rows = npt.NDArray[np.int64] | npt.NDArray[np.bool_]

MIRRORED: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "bundle branch block": (frozenset({"CLBBB", "ILBBB"}), frozenset({"CRBBB", "IRBBB"})),
    "axis": (frozenset({"AXL", "LAD", "ALAD"}), frozenset({"AXR", "RAD", "ARAD"})),
    "ventricular hypertrophy": (frozenset({"LVH", "VCLVH"}), frozenset({"RVH"})),
    "atrial enlargement": (frozenset({"LAO/LAE"}), frozenset({"RAO/RAE"})),
}
"""ECG finding -> its statement codes on the left and on the right."""
GRADED: dict[str, tuple[str, ...]] = {
    "AV block": ("1AVB", "2AVB", "3AVB"), "left bundle branch block": ("ILBBB", "CLBBB"), "right bundle branch block": ("IRBBB", "CRBBB"),
    "left axis": ("AXL", "LAD", "ALAD"), "right axis": ("AXR", "RAD", "ARAD"),
}  # fmt: skip
"""ECG finding -> its statement codes, one a grade. LAD and AXL are two grades because the catalogue holds two statements."""

TOLERANCE: dict[str, float] = {
    "heart_rate": 5.0, "pr": 20.0, "qrs": 10.0, "qt": 20.0, "qtc": 20.0, "interval": 20.0, "axis": 15.0, "size": 2.0, "voltage": 0.1,
}  # fmt: skip
"""Quantity -> how far a number may be off: /min, ms (five), degrees, mm, mV. About what two readers of one tracing differ by: a choice."""
_KEY = re.compile(
    r"(?i)\b(?:(?P<heart_rate>(?:heart |ventricular )?rate|hr|hf|(?:herz)?frequenz|(?:hjärt)?frekvens)|(?P<pr>p[rq])|(?P<qrs>qrs)"
    r"|(?P<qtc>qtc[bf]?)|(?P<qt>qt)"
    r"|(?P<axis>axis|achse|axel))(?![a-z])"
)
_FILLER = re.compile(r"(?i)(?:[- ]?(?:interval|intervall|duration|dauer|zeit|tid|width|is|of|was|at|about|approximately|ca\.?)){0,4} ?[:=]? ?")
_NUMBER = re.compile(rf"(?:(?<![\w-])[-−])?(?<![\w.,]){NUMBER}(?![\w]*/\d)")
_UNIT = re.compile(
    rf"(?i)(?: ?[x×] ?{NUMBER}){{0,2}}[ -]?(?:(?P<rate>bpm|beats (?:per|a) minute|/ ?min|pro minute)|(?P<ms>ms|msec|milliseconds?)|(?P<s>s"
    r"|sec|seconds?)"
    rf"|(?P<mm>{LENGTHS['mm']})|(?P<cm>{LENGTHS['cm']})|(?P<degrees>degrees?|deg|°|grad)|(?P<mv>mv))(?!\w)"
)
_FIXED = {"rate": "heart_rate", "mm": "size", "cm": "size", "degrees": "axis", "mv": "voltage"}
_DURATIONS = frozenset({"pr", "qrs", "qt", "qtc"})
_NEAR = 40
"""Characters before a number in which the quantity's name is looked for."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with its name in TOLERANCE, in that unit. of: for a size, the observation beside it ('' where there is none)."""

    name: str
    value: float
    of: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class DetailErrors:
    """Of n pairs, (n,) each: errors of four kinds, and how much there was to get wrong.

    laterality: findings on the other side. severity: findings of another grade. comparison: sentences that compare with an earlier study
    where none is known. number: numbers that are off from the nearest that the reference gives of the same quantity.
    sides, grades: findings for which both texts give one. sentences: of the draft. numbers: numbers with a quantity in the draft.
    """

    laterality: Values
    severity: Values
    comparison: Values
    number: Values
    sides: Values
    grades: Values
    sentences: Values
    numbers: Values

    def take(self, rows: Rows) -> DetailErrors:
        """The same for some of the reports."""
        return DetailErrors(*(getattr(self, name)[rows] for name in self.__slots__))


def detail_errors(
    drafts: Sequence[str], references: Sequence[str], priors: Sequence[bool] | None = None, tolerance: Mapping[str, float] = TOLERANCE
) -> DetailErrors:
    """Compare n drafts with n references, row by row. A pair that comes twice is compared once.

    priors: whether an earlier study was given to the writer; such a draft may compare. Without them only a reference that compares itself
    allows it. tolerance: quantity -> how far a number may be off, in the quantity's unit.

    Raises:
        DataError: lengths differ, a quantity without a tolerance, or a tolerance below zero.
    """
    known = [False] * len(drafts) if priors is None else list(priors)
    if not len(drafts) == len(references) == len(known):
        raise DataError(
            f"detail_errors: expected a draft and a prior a reference, got {len(drafts)} drafts, {len(references)} references, {len(known)} priors"
        )
    bad = sorted(name for name in TOLERANCE if not tolerance.get(name, -1.0) >= 0)
    if bad:
        raise DataError(f"detail_errors: expected a tolerance of at least 0 for every quantity, got none for {', '.join(bad)}; start from TOLERANCE")
    table = np.full((len(drafts), len(DetailErrors.__slots__)), np.nan)
    seen: dict[tuple[str, str, bool], tuple[float, ...]] = {}
    for i, row in enumerate(zip(drafts, references, known, strict=True)):
        if not row[1].strip():
            continue
        if row not in seen:
            seen[row] = _counts(*row, tolerance)
        table[i] = seen[row]
    return DetailErrors(*table.T.copy())


def _counts(draft: str, reference: str, prior: bool, tolerance: Mapping[str, float]) -> tuple[float, ...]:
    ours, theirs = _stated(draft), _stated(reference)
    codes, their_codes = _codes(draft), _codes(reference)
    sides = [(a, b) for name in ours.keys() & theirs.keys() if (a := _sides(ours[name])) and (b := _sides(theirs[name]))]
    sides += [(a, b) for pair in MIRRORED.values() if (a := _places(codes, pair)) and (b := _places(their_codes, pair))]
    grades = [_other_grade(ours[name], theirs[name]) for name in ours.keys() & theirs.keys()]
    grades += [codes.isdisjoint(their_codes & set(f)) for f in GRADED.values() if codes & set(f) and their_codes & set(f)]
    judged = [differs for differs in grades if differs is not None]
    sentences = split_sentences(draft)
    allowed = prior or any(speaks_of_change(s) for s in split_sentences(reference))
    compared = 0 if allowed else sum(speaks_of_change(s) for s in sentences)
    wrong, numbers = _numbers(draft, reference, tolerance)
    laterality = sum(not a & b for a, b in sides)
    return laterality, sum(judged), compared, wrong, len(sides), len(judged), len(sentences), numbers


def _stated(text: str) -> dict[str, list[Mention]]:
    """Observation -> its mentions that are present or uncertain."""
    stated: dict[str, list[Mention]] = {}
    for mention in mentions(text):
        if mention.state > 0:
            stated.setdefault(mention.observation, []).append(mention)
    return stated


def _codes(text: str) -> set[str]:
    """ECG statements, axes too, that a text states or doubts."""
    return {mention.code for mention in read(text) if mention.status != "absent"}


def _sides(said: Sequence[Mention]) -> set[str]:
    """{'left'}, {'right'}, both, or nothing where no mention gives a side."""
    return {side for mention in said for side in mention.sides}


def _places(codes: set[str], pair: tuple[frozenset[str], frozenset[str]]) -> set[str]:
    return {side for side, names in zip(("left", "right"), pair, strict=True) if codes & names}


def _other_grade(ours: Sequence[Mention], theirs: Sequence[Mention]) -> bool | None:
    """Whether no grade is shared: side by side where both texts grade one side, else over all; None where one text gives no grade."""
    by_side = [
        ({m.severity for m in ours if m.severity and side in m.sides}, {m.severity for m in theirs if m.severity and side in m.sides})
        for side in sorted(SIDES)
    ]
    pairs = [(a, b) for a, b in by_side if a and b]
    if not pairs:
        pairs = [({m.severity for m in ours if m.severity}, {m.severity for m in theirs if m.severity})]
    if not all(a and b for a, b in pairs):
        return None
    return any(not a & b for a, b in pairs)


def _numbers(draft: str, reference: str, tolerance: Mapping[str, float]) -> tuple[int, int]:
    """Numbers of the draft that are off from a counterpart, and all."""
    ours, theirs = quantities(draft), quantities(reference)
    wrong = 0
    for quantity in ours:
        near = [abs(quantity.value - other.value) for other in theirs if (other.name, other.of) == (quantity.name, quantity.of)]
        wrong += bool(near) and min(near) > tolerance[quantity.name]
    return wrong, len(ours)


def quantities(text: str) -> list[Quantity]:
    """Numbers of a report that have a unit, or follow the name of an ECG measurement ('QRS 84'). 2 x 3 cm are two sizes of 20 and 30 mm."""
    out = []
    for begin, end in sentence_spans(text):
        sentence = text[begin:end]
        named = mentions(sentence)
        done = 0
        for match in _NUMBER.finditer(sentence):
            before = sentence[max(done, match.start() - _NEAR) : match.start()]
            found = _quantity(match, _UNIT.match(sentence, match.end()), before)
            if found is not None:
                name, value = found
                beside = min(named, key=lambda m: max(m.start - match.end(), match.start() - m.end), default=None) if name == "size" else None
                out.append(Quantity(name, value, beside.observation if beside else ""))
            done = match.end()
    return out


def _quantity(number: re.Match[str], unit: re.Match[str] | None, before: str) -> tuple[str, float] | None:
    value = float(number[0].replace(",", ".").replace("−", "-"))
    key = next(reversed(list(_KEY.finditer(before))), None)
    name = key.lastgroup if key else None
    if unit is None:
        return (name, value) if key and name and value.is_integer() and _FILLER.fullmatch(before, key.end()) else None
    kind = str(unit.lastgroup)
    if kind in _FIXED:
        return _FIXED[kind], value * (10 if kind == "cm" else 1)
    if kind == "s":
        return (name, 1000 * value) if name in _DURATIONS else None
    return name if name in _DURATIONS else "interval", value
