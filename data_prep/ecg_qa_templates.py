"""The question templates of ECG-QA (Oh et al. 2023) as rules: which facet of an ECG each asks about, and how.

    BY_ID[26].asks[0]                    Ask("lead I", ("baseline drift",))
    BY_ID[26].truth([ecg], ask)          frozenset({"no"})
    BY_ID[26].question(ask)              "Is there baseline drift in lead I?"

Numbers, types, attribute types and answers are ECG-QA's; the wording is ours. Templates 17-19 (form-related symptoms by lead) are left out:
PTB-XL's annotations do not say in which lead a form statement holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from regen.data_prep.ecg_qa_attributes import (
    AXES,
    DIAGNOSTIC,
    FACETS,
    FORM,
    LEAD_NAMES,
    NO_INFARCTION,
    NOISES,
    NORMAL_RANGES,
    RANGES,
    RHYTHM,
    STAGES,
    SUPERCLASSES,
    SYMPTOMS,
    SYSTOLES,
    UNKNOWN_STAGE,
    Annotated,
    Names,
)

LEFT_OUT = {number: "PTB-XL's annotations name no lead for form-related symptoms" for number in (17, 18, 19)}
"""Templates without a truth in ptbxl_database.csv."""
_NONE = frozenset({"none"})
_YES, _NO = frozenset({"yes"}), frozenset({"no"})
_EXTREME = "extreme axis deviation"
_CHANGES = {"resolved": (True, False), "new": (False, True), "still": (True, True), "never": (False, False)}
"""What became of a name from the first ECG to the second: (in the first, in the second)."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What fills a template: where to look, and the names that it puts up (none for a query)."""

    where: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Template:
    """form: verify (is `names[0]` there), any (is anything), choose (which of two), query (which), value (what the facet says).

    wording: with {where}, {0} and {1}. change: for two ECGs, a key of _CHANGES. options: the answers that the template allows.
    """

    template_id: int
    question_type: str
    attribute_type: str
    wording: str
    form: str
    facet: str
    asks: tuple[Ask, ...]
    options: tuple[str, ...]
    change: str = ""

    def question(self, ask: Ask) -> str:
        return self.wording.format(*ask.names, where=ask.where)

    def truth(self, ecgs: Sequence[Annotated], ask: Ask) -> Names | None:
        """The set of answers, None where the annotations do not tell. ecgs: one, or the earlier and the later."""
        facet = FACETS[self.facet]
        return self.answer([facet(ecg, ask.names[0] if self.form == "value" and ask.names else ask.where) for ecg in ecgs], ask)

    def answer(self, found: Sequence[Names | None], ask: Ask) -> Names | None:
        """The answers, from what the facet finds in each ECG."""
        known = [names for names in found if names is not None]
        if len(known) < len(found):
            return None
        if self.form == "value":
            return known[0]
        if self.change:
            if self.form == "verify":
                return _YES if tuple(ask.names[0] in names for names in known) == _CHANGES[self.change] else _NO
            first, second = known
            names = {"resolved": first - second, "new": second - first, "still": first & second}[self.change]
        else:
            names = known[0]
        if self.form in ("verify", "any"):
            return _YES if (ask.names[0] in names if self.form == "verify" else names) else _NO
        return (names & frozenset(ask.names) if self.form == "choose" else names) or _NONE


def _sorted(*names: str) -> tuple[str, ...]:
    return tuple(sorted(names))


_YES_NO = ("no", "yes")
_EACH = tuple(Ask("", (name,)) for name in SYMPTOMS)


def _pairs(names: Sequence[str], wheres: Sequence[str] = ("",)) -> tuple[Ask, ...]:
    return tuple(Ask(where, pair) for where in wheres for pair in combinations(sorted(names), 2))


def _single() -> Iterator[Template]:
    code, verify, choose, query = "scp_code", "single-verify", "single-choose", "single-query"
    none = (Ask(""),)
    yield Template(1, verify, code, "Are there signs of {0} in this ECG?", "value", "statement", _EACH, ("no", "not sure", "yes"))
    yield Template(2, verify, code, "Is this ECG normal?", "any", "normal", none, _YES_NO)
    kinds = (
        (3, "superclass", "Which group of findings is seen in this ECG, {0} or {1}?", SUPERCLASSES),
        (4, "diagnostic", "Which diagnosis does this ECG show, {0} or {1}, uncertain ones included?", DIAGNOSTIC),
        (5, "certain", "Which diagnosis does this ECG show, {0} or {1}, uncertain ones left aside?", DIAGNOSTIC),
        (6, "form", "Which change of form does this ECG show, {0} or {1}?", FORM),
        (7, "rhythm", "Which rhythm does this ECG show, {0} or {1}?", RHYTHM),
    )
    for number, facet, wording, names in kinds:
        yield Template(number, choose, code, wording, "choose", facet, _pairs(list(names)), _sorted(*names, "none"))
    queries = (
        (8, "diagnostic", "Which diagnoses does this ECG show, uncertain ones included?", DIAGNOSTIC),
        (9, "certain", "Which diagnoses does this ECG show, uncertain ones left aside?", DIAGNOSTIC),
        (10, "rhythm", "Which rhythm statements hold for this ECG?", RHYTHM),
        (11, "form", "Which changes of form does this ECG show?", FORM),
    )
    for number, facet, wording, names in queries:
        yield Template(number, query, code, wording, "query", facet, none, _sorted(*names, "none"))
    anys = (
        (12, "abnormal", "Is anything abnormal in this ECG?"),
        (13, "diagnostic", "Does this ECG support any diagnosis, uncertain ones included?"),
        (14, "certain", "Does this ECG support any diagnosis, uncertain ones left aside?"),
        (15, "form", "Is there any change of form in this ECG?"),
        (16, "rhythm", "Does any rhythm statement hold for this ECG?"),
    )
    for number, facet, wording in anys:
        yield Template(number, verify, code, wording, "any", facet, none, _YES_NO)
    axes = _sorted(*AXES, _EXTREME)
    about = "heart_axis"
    yield Template(20, verify, about, "Is there a {0} in this ECG?", "verify", "axis", tuple(Ask("", (name,)) for name in AXES), _YES_NO)
    yield Template(21, choose, about, "Which axis does this ECG have, {0} or {1}?", "choose", "axis", _pairs(list(AXES)), _sorted(*axes, "none"))
    yield Template(22, query, about, "Where does the axis of this ECG point?", "query", "axis", none, axes)
    stages = sorted({name for names in STAGES.values() for name in names})
    about = "stage_of_infarction"
    yield Template(23, verify, about, "Is an {0} seen in this ECG?", "verify", "stage", tuple(Ask("", (name,)) for name in stages), _YES_NO)
    yield Template(24, choose, about, "Which stage does this ECG show, {0} or {1}?", "choose", "stage", _pairs(stages), _sorted(*stages, "none"))
    yield Template(25, query, about, "What is the stage of infarction in this ECG?", "query", "stage answer", none,
                   _sorted(*stages, NO_INFARCTION, UNKNOWN_STAGE))  # fmt: skip
    yield from _noises()
    systoles = _sorted(*SYSTOLES, "none")
    about = "extra_systole"
    yield Template(35, verify, about, "Are there extra systoles of any kind in this ECG?", "any", "systole", none, _YES_NO)
    yield Template(36, verify, about, "Are there {0} in this ECG?", "verify", "systole", tuple(Ask("", (name,)) for name in SYSTOLES), _YES_NO)
    yield Template(37, choose, about, "Which extra systoles does this ECG show, {0} or {1}?", "choose", "systole", _pairs(list(SYSTOLES)), systoles)
    yield Template(38, query, about, "Which kinds of extra systoles does this ECG show?", "query", "systole", none, systoles)
    about = "numeric_feature"
    features = tuple(NORMAL_RANGES)
    ranges = tuple(Ask(feature, (name,)) for feature in features for name in RANGES)
    yield Template(39, verify, about, "Is the {where} of this ECG {0}?", "verify", "range", ranges, _YES_NO)
    yield Template(40, choose, about, "Is the {where} of this ECG {0} or {1}?", "choose", "range", _pairs(RANGES, features), _sorted(*RANGES, "none"))
    yield Template(41, query, about, "In which range is the {where} of this ECG?", "query", "range", tuple(Ask(f) for f in features), RANGES)
    yield Template(42, query, about, "Which measurements of this ECG are {where}?", "query", "features", tuple(Ask(name) for name in RANGES),
                   _sorted(*features, "none"))  # fmt: skip


def _noises() -> Iterator[Template]:
    verify, choose, query, about = "single-verify", "single-choose", "single-query", "noise"
    options, none = _sorted(*NOISES, "none"), (Ask(""),)
    by_lead = tuple(Ask(lead, (name,)) for name in NOISES for lead in LEAD_NAMES)
    leads = tuple(Ask(lead) for lead in LEAD_NAMES)
    yield Template(26, verify, about, "Is there {0} in {where}?", "verify", "noise", by_lead, _YES_NO)
    yield Template(27, verify, about, "Is there {0} in this ECG?", "verify", "noise", tuple(Ask("", (name,)) for name in NOISES), _YES_NO)
    yield Template(28, verify, about, "Is there noise of any kind in {where}?", "any", "noise", leads, _YES_NO)
    yield Template(29, verify, about, "Is there noise of any kind in this ECG?", "any", "noise", none, _YES_NO)
    yield Template(30, choose, about, "Which noise is in this ECG, {0} or {1}?", "choose", "noise", _pairs(list(NOISES)), options)
    yield Template(31, choose, about, "Which noise is in {where}, {0} or {1}?", "choose", "noise", _pairs(list(NOISES), LEAD_NAMES), options)
    yield Template(32, query, about, "Which kinds of noise are in this ECG?", "query", "noise", none, options)
    yield Template(33, query, about, "Which kinds of noise are in {where}?", "query", "noise", leads, options)
    yield Template(34, query, about, "Which leads have {where}?", "query", "noisy leads", tuple(Ask(name) for name in NOISES),
                   _sorted(*LEAD_NAMES, "none"))  # fmt: skip


def _comparisons() -> Iterator[Template]:
    features = tuple(Ask("abnormal", (name,)) for name in NORMAL_RANGES)
    symptoms, measurements = _sorted(*SYMPTOMS, "none"), _sorted(*NORMAL_RANGES, "none")
    for start, kind, first, second in ((43, "consecutive", "previous tracing", "recent tracing"), (57, "irrelevant", "first ECG", "second ECG")):
        verify, query = (f"comparison_{kind}-{form}" for form in ("verify", "query"))
        against = f"Against the {first}, "
        wordings = (
            ("resolved", f"{against}has {{0}} gone in the {second}?", f"{against}has the {{0}} of the {second} become normal?"),
            ("new", f"{against}is {{0}} new in the {second}?", f"{against}has the {{0}} of the {second} become abnormal?"),
            ("still", f"{against}does {{0}} persist in the {second}?", f"{against}is the {{0}} of the {second} abnormal as before?"),
            ("never", f"{against}is {{0}} absent from the {second} as before?", f"{against}is the {{0}} of the {second} normal as before?"),
        )
        asked = {"resolved": ("are gone", "have become normal"), "new": ("are new", "have become abnormal"),
                 "still": ("persist", "are abnormal as before")}  # fmt: skip
        for i, (change, of_symptom, of_feature) in enumerate(wordings):
            yield Template(start + i, verify, "scp_code", of_symptom, "verify", "symptom", _EACH, _YES_NO, change)
            yield Template(start + 7 + i, verify, "numeric_feature", of_feature, "verify", "features", features, _YES_NO, change)
        for i, (change, (of_symptom, of_feature)) in enumerate(asked.items()):
            yield Template(start + 4 + i, query, "scp_code", f"{against}which findings {of_symptom} in the {second}?", "query", "symptom",
                           (Ask(""),), symptoms, change)  # fmt: skip
            yield Template(start + 11 + i, query, "numeric_feature", f"{against}which measurements {of_feature} in the {second}?", "query",
                           "features", (Ask("abnormal"),), measurements, change)  # fmt: skip


BY_ID: dict[int, Template] = {t.template_id: t for t in sorted([*_single(), *_comparisons()], key=lambda t: t.template_id)}
"""Template number -> rule; all of 1-70 but those of LEFT_OUT."""
