"""The errors a user can meet. Each message says who complains, what was expected, what it got, and what to do.

The command line prints a RegenError as one line and exits 2; anything else is a bug and shows its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RegenError(Exception):
    """Base of every error that a user can mend."""


class DataError(RegenError):
    """A file or a table is not what it says it is."""


class ConfigError(RegenError):
    """A recipe, an option or an argument is wrong. All problems of one file come in one message."""


class ArtifactError(RegenError):
    """A folder that a stage wrote is missing a part, damaged, or belongs to another partner."""


class MissingExtraError(RegenError):
    """An optional package is not installed; the message carries the pip line that installs it."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """'; did you mean 'vit_small'?' or, with nothing near, the list of what is known."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(known)}"
