"""What the views of a chest X-ray are called, which of them are frontal, and several of them as one study.

view_of("CHEST PA PORT")             "PA"
is_lateral("LL")                     True: MIMIC-CXR's left lateral
join_views([lateral, frontal])       a Study of two views, the frontal one first
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from regen.errors import DataError
from regen.study import Cxr, Study

SMALLEST, LONGEST = 16, 4
"""Pixels that the shorter side of a chest X-ray has at least, and how many times as long the longer one is at most."""

_VIEWS = (
    ("PA", re.compile(r"\bPA\b|POSTERO-?\s?ANTERIOR", re.IGNORECASE)),
    ("AP", re.compile(r"\bAP\b|ANTERO-?\s?POSTERIOR", re.IGNORECASE)),
    ("LATERAL", re.compile(r"^(LL|RL|LLAT|RLAT)$|\b(LAT|LATERAL|SEITLICH|PROFIL)\b(?!\s*DECUB)", re.IGNORECASE)),
)
_SIDEWAYS = re.compile(r"(?i)lat|^(?:LL|RL|LPO|RPO|LAO|RAO)$|swim")


def view_of(text: str) -> str | None:
    """The one view that a text names; None where it names none or two ('PA + LAT')."""
    found = [view for view, pattern in _VIEWS if pattern.search(text.strip())]
    return found[0] if len(found) == 1 else None


def is_lateral(view: str | None) -> bool:
    """Lateral or oblique. A view without a name is taken for frontal."""
    return view is not None and bool(_SIDEWAYS.search(view))


def frontal_rank(view: str | None) -> int:
    """0 for a frontal view, 1 for one without a name, 2 for a lateral or oblique one: the order in which a study's views are kept."""
    return 1 if not view else 2 if is_lateral(view) else 0


def check_shape(view: Cxr, path: Path) -> None:
    """Refuse what is too small or too long to be a view of a chest.

    Raises:
        DataError: a side below SMALLEST, or LONGEST times as long as the other one.
    """
    height, width = view.pixels.shape
    short, long = sorted((height, width))
    if short < SMALLEST or long > LONGEST * short:
        raise DataError(
            f"{path}: expected a chest X-ray of at least {SMALLEST} pixels a side, at most {LONGEST} times as long as wide, got {width} x {height}; "
            "give the whole image"
        )


def join_views(studies: Sequence[Study]) -> Study:
    """One chest X-ray study of the studies of its files: all views, frontal ones first; of the patient what the first file knows."""
    views = sorted((view for study in studies for view in study.cxr), key=lambda view: frontal_rank(view.view))
    flags = tuple(dict.fromkeys(flag for study in studies for flag in study.flags))
    return replace(studies[0], cxr=tuple(views), flags=flags)
