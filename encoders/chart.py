"""The patient's chart as arrays: one source at one time is one event, its values beside a mask of which are there, its categories multi-hot.

    vocabulary = ChartVocabulary.fit(train_events, least=5)      what training charted, with the mean and spread of every value
    charts = vocabulary.charts([study.events, ...], most=32)     Charts: (studies, events, columns), padded; .cut where a chart was longer

Older events come first; of a longer chart the newest are kept, and those without a time. Whatever is rarer than `least` studies is the category
'unknown'. A missing value is 0 with its mask off: no model ever sees the 0 without the mask. Free text (complaint, indication, history) is no
event: it goes to the writer as words. Grouping after CXRMate-ED (Nicolson et al., 2024).
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from regen.data_prep.events import kind_of
from regen.errors import ArtifactError
from regen.study import Event, FloatArray

SOURCES = ("triage", "vital", "lab", "med_given", "med_home", "diagnosis", "other")
_SOURCE = {name: i for i, name in enumerate(SOURCES)} | {"rhythm": SOURCES.index("vital"), "med_ordered": SOURCES.index("med_given")}
UNKNOWN = "unknown"
_FARTHEST = 6.0
"""Standard deviations at which a value is clipped."""


@dataclass(frozen=True, slots=True, eq=False)
class Charts:
    """n charts of up to e events. values, present: (n, e, numeric), z-scored, 0 where the mask is off; categories: (n, e, categories) bool.

    source: (n, e) index into SOURCES, -1 where there is no event; hours: (n, e) before the study, NaN where the time is missing; cut: (n,).
    """

    values: FloatArray
    present: npt.NDArray[np.bool_]
    categories: npt.NDArray[np.bool_]
    source: npt.NDArray[np.int64]
    hours: FloatArray
    cut: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class ChartVocabulary:
    """numeric: name -> (mean, standard deviation); categories: their names, 'unknown' first."""

    numeric: dict[str, tuple[float, float]]
    categories: tuple[str, ...] = (UNKNOWN,)
    _places: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", {name: i for i, name in enumerate(self.categories)})

    @classmethod
    def fit(cls, charts: Iterable[Sequence[Event]], least: int = 5) -> ChartVocabulary:
        """charts: the events of every training study; least: studies in which a value or a category must occur."""
        values: dict[str, list[float]] = defaultdict(list)
        measured, named = Counter[str](), Counter[str]()
        for events in charts:
            columns = [(*columns_of(event), event.value) for event in events]
            there = [(name, float(value or 0.0)) for name, _, value in columns if name and _there(value)]
            for name, value in there:
                values[name].append(value)
            measured.update({name for name, _ in there})
            named.update({category for _, categories, _ in columns for category in categories})
        numeric = {name: (float(np.mean(v)), max(float(np.std(v)), 1e-3)) for name, v in sorted(values.items()) if measured[name] >= least}
        return cls(numeric, (UNKNOWN, *sorted(name for name, n in named.items() if n >= least)))

    def charts(self, charts: Sequence[Sequence[Event]], most: int) -> Charts:
        """The events of each study as arrays of at most `most` events."""
        grouped = [_grouped(events) for events in charts]
        kept = [_newest(groups, most) for groups in grouped]
        n, e = len(kept), max(1, max(map(len, kept), default=0))
        values, hours = np.zeros((n, e, len(self.numeric)), np.float32), np.full((n, e), np.nan, np.float32)
        present, categories = np.zeros(values.shape, np.bool_), np.zeros((n, e, len(self.categories)), np.bool_)
        source = np.full((n, e), -1, np.int64)
        for i, groups in enumerate(kept):
            for j, (kind, time, events) in enumerate(groups):
                source[i, j], hours[i, j] = kind, np.nan if time is None else time
                for event in events:
                    self._put(event, values[i, j], present[i, j], categories[i, j])
        return Charts(values, present, categories, source, hours, np.array([len(g) > len(k) for g, k in zip(grouped, kept, strict=True)], np.bool_))

    @staticmethod
    def is_longer(events: Sequence[Event], most: int) -> bool:
        """Whether a chart holds more events than are read."""
        return len(_grouped(events)) > most

    def _put(self, event: Event, values: FloatArray, present: npt.NDArray[np.bool_], categories: npt.NDArray[np.bool_]) -> None:
        name, named = columns_of(event)
        if name is not None and name in self._columns:
            if _there(event.value):
                (mean, spread), column = self.numeric[name], self._columns[name]
                values[column] = np.clip((float(event.value or 0.0) - mean) / spread, -_FARTHEST, _FARTHEST)
                present[column] = True
            return
        for category in named or (UNKNOWN,):
            categories[self._places.get(category, 0)] = True

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.numeric)}

    @property
    def medications(self) -> frozenset[str]:
        """Names of the medications that training knows."""
        return frozenset(name.removeprefix("med//") for name in self.categories if name.startswith("med//"))

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"numeric": self.numeric, "categories": self.categories}, indent=1))

    @classmethod
    def load(cls, path: Path) -> ChartVocabulary:
        """Raises ArtifactError where the file is no vocabulary."""
        try:
            stored = json.loads(path.read_text())
            return cls({name: (float(mean), float(spread)) for name, (mean, spread) in stored["numeric"].items()}, tuple(stored["categories"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{path}: expected the chart vocabulary that regen train context wrote, could not read it; train it again") from error


def columns_of(event: Event) -> tuple[str | None, tuple[str, ...]]:
    """(name of its value or None, its categories). 'TRIAGE//sbp' and 'VITAL//sbp' are one column; so is a drug taken at home or given here."""
    return _columns_of(event.code, event.text, _there(event.value))


@lru_cache(maxsize=65536)
def _columns_of(code: str, words: str | None, there: bool) -> tuple[str | None, tuple[str, ...]]:
    kind, parts = kind_of(code), code.split("//")
    if kind not in _SOURCE:
        return None, ()
    text = " ".join((words or "").lower().split())
    if kind in ("triage", "vital"):
        return parts[-1], ()
    if kind.startswith("med_"):
        return None, (f"med//{'//'.join(parts[2:])}", *([f"class//{text}"] if text else []))
    if kind == "diagnosis":
        return None, (code.lower(),)
    if there or (kind == "lab" and not text):
        return code, ()
    return None, (f"{code.lower()}//{text}" if text else code.lower(),)


def source_of(event: Event) -> str | None:
    """The one of SOURCES that an event belongs to; None for free text."""
    place = _source_place(event.code)
    return None if place is None else SOURCES[place]


@lru_cache(maxsize=65536)
def _source_place(code: str) -> int | None:
    return _SOURCE.get(kind_of(code))


def _there(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


Group = tuple[int, float | None, list[Event]]


def _grouped(events: Sequence[Event]) -> list[Group]:
    """(source, hours, events) of one chart: first those without a time, then older before newer."""
    groups: dict[tuple[int, float | None], list[Event]] = {}
    for event in events:
        source = _source_place(event.code)
        if source is not None:
            groups.setdefault((source, event.hours), []).append(event)
    ordered = sorted(groups, key=lambda key: (key[1] is not None, -(key[1] or 0.0), key[0]))
    return [(source, hours, groups[source, hours]) for source, hours in ordered]


def _newest(groups: list[Group], most: int) -> list[Group]:
    """At most `most`: those without a time (one a source) and the newest of the others."""
    timeless = sum(hours is None for _, hours, _ in groups)
    drop = max(0, len(groups) - most)
    return groups[:timeless][:most] + groups[timeless + drop :]
