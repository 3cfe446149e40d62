"""What the views of a chest X-ray are called, and which of them are frontal.

view_of("CHEST PA PORT")      "PA"
is_lateral("LL")              True: MIMIC-CXR's left lateral
"""

from __future__ import annotations

import re

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
