"""What the tables of `regen eval` have in common: rows of cells, found by name, as plain JSON.

named(made.blocks, "all", "table: unknown block")
plain_rows(block.rows)                      {"system": {"micro_f1": {"value": 0.67, "low": 0.64, "high": 0.71}}}
plain_differences(block.rows)               the first system minus each other one, on the same draws
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from regen.errors import DataError, did_you_mean
from regen.eval.bootstrap import Sampled

Rows = Mapping[str, Mapping[str, Sampled]]
"""System -> column -> value and draws; the first system is compared with each other one."""
Row = dict[str, Sampled]
INTERVAL = "95 % BCa bootstrap by patient"


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """n things of so many patients; system -> column -> value and draws."""

    n: int
    patients: int
    rows: dict[str, Row]

    def to_dict(self, **more: int) -> dict[str, Any]:
        """Plain JSON; `more` stands before the systems."""
        return {"n": self.n, "patients": self.patients} | more | {"systems": plain_rows(self.rows)}


class Named(Protocol):
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=Named)


def named(items: Sequence[N], name: str, what: str) -> N:
    """The one of that name.

    Raises:
        DataError: none has it; the message begins with `what`.
    """
    for item in items:
        if item.name == name:
            return item
    raise DataError(f"{what} {name!r}{did_you_mean(name, [item.name for item in items])}")


def plain_rows(rows: Rows) -> dict[str, dict[str, Any]]:
    """Every cell as {"value", "low", "high"}."""
    return {system: {column: cell.plain() for column, cell in row.items()} for system, row in rows.items()}


def plain_differences(rows: Rows) -> dict[str, dict[str, Any]]:
    """The first system minus each other one, in the columns that both have."""
    (_, first), *others = rows.items()
    return {other: {column: first[column].minus(cell).plain() for column, cell in row.items() if column in first} for other, row in others}
