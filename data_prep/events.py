"""The patient's context as MEDS rows: what a row is, which codes there are, and the tally of rows read, used and refused.

    subject_id   time                 code                     numeric_value  text_value
    10014729     2125-03-19 13:22:00  TRIAGE//heart_rate       118.0          null
    10014729     2125-03-19 13:22:00  COMPLAINT                null           Chest pain
    10014729     2125-03-19 15:10:00  MED//home//digoxin       null           digitalis glycosides
    10014729     null                 HISTORY                  null           atrial fibrillation

time: microseconds without zone, null where it is not known. numeric_value: Float32, null where there is none or where it is missing: never zero
for missing. Joined to studies there is a sixth column in front, `study_id`, and a row stands once for every study whose context it is in.

Codes, all of them (names in lower case, single blanks, '//' only between parts):

    TRIAGE//<vital>             at arrival; the vitals of regen.data_prep.vitals: heart_rate resp_rate sbp dbp spo2 temperature pain acuity
    VITAL//<vital>              afterwards, at a time
    RHYTHM                      text_value: the rhythm as charted
    LAB//<LOINC or name>[//<unit>]   numeric_value, or text_value where the result is words
    MED//home//<name>           taken before the visit; text_value: class of the drug, where the source gives one
    MED//given//<name>          administered or dispensed during it
    MED//ordered//<name>        prescribed
    DX//<system>//<code>        system: icd9, icd10 (no dots), snomed, other, text; text_value: its title
    COMPLAINT, INDICATION, HISTORY   text_value

Other codes of a MEDS archive are kept as they are (kind 'other').

The guard: of a study with a time, rows before that time enter, and rows without a time (fixed facts: a reader refuses a row that should have had a
time). Rows at or after it never do. Of a study without a time nobody can say what came first: only rows without a time enter. Duplicates (same
study, time, code and values) enter once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import polars as pl

MEDS: dict[str, Any] = {
    "subject_id": pl.String, "time": pl.Datetime("us"), "code": pl.String, "numeric_value": pl.Float32, "text_value": pl.String,
}  # fmt: skip
EVENTS: dict[str, Any] = {"study_id": pl.String, **MEDS}
"""Columns of events.parquet in a prepared folder."""
CANDIDATE: dict[str, Any] = {"table": pl.String, "stay_id": pl.String, **MEDS, "reason": pl.String, "note": pl.String}
"""What a reader yields: MEDS rows, their table, the stay they are bound to (null: the subject), why a row is refused (null: it is not), a note."""

_KINDS = {
    "TRIAGE": "triage", "VITAL": "vital", "RHYTHM": "rhythm", "LAB": "lab", "MED//home": "med_home", "MED//given": "med_given",
    "MED//ordered": "med_ordered", "DX": "diagnosis", "COMPLAINT": "complaint", "INDICATION": "indication", "HISTORY": "history",
}  # fmt: skip
_FORM = "%Y-%m-%d %H:%M:%S"
KINDS = (*_KINDS.values(), "other")
DX_SYSTEMS = ("icd9", "icd10", "snomed", "other", "text")
NO_TIME = "no time, so nobody can say that it came before the study"
NO_VALUE = "no value"
LATER = "at or after the study's time"
STUDY_HAS_NO_TIME = "the study has no time, the row has one"
TWICE = "the same row twice"
LOCAL_TIME = "times without a zone are taken as the archive's local time, the studies' times too"


def kind_of(code: str) -> str:
    """'MED//home//digoxin' -> 'med_home'; 'other' for a code that is not of this module."""
    parts = code.split("//")
    return _KINDS.get("//".join(parts[:2]) if parts[0] == "MED" else parts[0], "other")


def code_part(text: str) -> str:
    """A name as it stands in a code: '  Metoprolol  Tartrate' -> 'metoprolol tartrate'."""
    return " ".join(text.lower().replace("//", "/").split())


def code_part_of(text: str | pl.Expr) -> pl.Expr:
    """`code_part` of a text column, by name or as an expression."""
    return (
        (pl.col(text) if isinstance(text, str) else text)
        .str.to_lowercase()
        .str.replace_all("//", "/", literal=True)
        .str.replace_all(r"\s+", " ")
        .str.strip_chars()
    )


def parsed_time(column: str) -> pl.Expr:
    """ISO 8601 text -> time without zone; one with a zone becomes UTC, as regen.data_prep.tables.time_of has it. Null where it is no time."""
    return pl.col(column).map_batches(_parse_times, return_dtype=pl.Datetime("us"), is_elementwise=True)


def _parse_times(text: pl.Series) -> pl.Series:
    """The usual form first: the others cost ten times as much, and are tried on what is left."""
    usual = text.str.to_datetime(_FORM, strict=False, time_unit="us")
    left = usual.is_null() & text.is_not_null()
    if not left.any():
        return usual
    odd = text.to_frame("t").select(pl.when(left).then(pl.col("t").str.strip_chars().str.replace("T", " ", literal=True)).alias("t"))
    zoned = pl.col("t").str.replace(r"Z$", "+00:00").str.to_datetime(_FORM + "%.f%:z", strict=False, time_unit="us", time_zone="UTC")
    local = [pl.col("t").str.to_datetime(form, strict=False, time_unit="us") for form in (_FORM + "%.f", _FORM[:-3])]
    day = pl.col("t").str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    return odd.select(pl.coalesce(usual, *local, day, zoned.dt.replace_time_zone(None))).to_series()


def candidates(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Exactly the columns of CANDIDATE; those that the frame lacks are null."""
    have = frame.collect_schema().names()
    return frame.select((pl.col(name) if name in have else pl.lit(None)).cast(kind).alias(name) for name, kind in CANDIDATE.items())


@dataclass(slots=True)
class Tally:
    """Rows by table: read = used + refused, always. A row here is a MEDS row that a filled cell, a record or a resource became or would have become.

    notes: what was done to used rows. names: the first few culprits by (table, reason). remarks: what holds for all.
    """

    source: str
    read: Counter[str] = field(default_factory=Counter)
    used: Counter[str] = field(default_factory=Counter)
    refused: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    notes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    names: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    remarks: list[str] = field(default_factory=list)

    def add(self, table: str, n: int = 1, reason: str | None = None, name: str | None = None) -> None:
        """Count n rows that were read: used, or refused for a reason."""
        self.read[table] += n
        if reason is None:
            self.used[table] += n
        else:
            self.refused[table][reason] += n
        if reason is not None and name is not None and len(self.names[table, reason]) < 5:
            self.names[table, reason].append(name)

    def refuse_used(self, table: str, n: int, reason: str) -> None:
        """n rows that were counted as used turn out not to be."""
        self.used[table] -= n
        if n:
            self.refused[table][reason] += n

    def note(self, table: str, what: str, n: int = 1) -> None:
        self.notes[table][what] += n

    def remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)

    def count(self, frame: pl.LazyFrame) -> None:
        """Count a reader's rows (CANDIDATE)."""
        for table, reason, note, n in frame.group_by("table", "reason", "note").len().sort("table", "reason", "note").collect().iter_rows():
            self.add(table, n, reason)
            if note is not None and reason is None:
                self.note(table, note, n)

    def merge(self, other: Tally) -> None:
        self.read.update(other.read)
        self.used.update(other.used)
        for mine, theirs in ((self.refused, other.refused), (self.notes, other.notes)):
            for table, counts in theirs.items():
                mine[table].update(counts)
        for key, names in other.names.items():
            self.names[key] = (self.names[key] + names)[:5]
        for text in other.remarks:
            self.remark(text)

    def lines(self, most: int = 12) -> Iterator[str]:
        """A table for people: per table read, used, refused, then each reason and note with its count; beyond `most` of them only how many."""
        yield f"{self.source:34s} {'read':>9s} {'used':>9s} {'refused':>9s}"
        for table in sorted(self.read):
            refused = self.refused.get(table, Counter())
            yield f"  {table:32s} {self.read[table]:9d} {self.used[table]:9d} {sum(refused.values()):9d}"
            yield from self._reasons(table, "refused", refused, most)
            yield from self._reasons(table, "note", self.notes.get(table, Counter()), most)
        yield f"  {'all':32s} {self.read.total():9d} {self.used.total():9d} {sum(c.total() for c in self.refused.values()):9d}"
        yield from (f"  {text}" for text in self.remarks)

    def _reasons(self, table: str, what: str, counts: Counter[str], most: int) -> Iterator[str]:
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        for reason, n in ranked[:most]:
            names = self.names.get((table, reason), [])
            yield f"    {what} {n:9d}  {reason}" + (f" ({', '.join(names)}{', ...' if n > len(names) else ''})" if names else "")
        if len(ranked) > most:
            yield f"    {what} {sum(n for _, n in ranked[most:]):9d}  for {len(ranked) - most} more reasons"

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "source": self.source, "remarks": self.remarks,
            "tables": {
                table: {"read": self.read[table], "used": self.used[table], "refused": dict(sorted(self.refused.get(table, Counter()).items())),
                        "notes": dict(sorted(self.notes.get(table, Counter()).items()))}
                for table in sorted(self.read)
            },
        }  # fmt: skip
