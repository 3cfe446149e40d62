"""ReGen: retrieval-augmented report drafting for ECGs and chest X-rays.

    from regen import Pipeline
    draft = Pipeline.from_pretrained("starter").draft("rec.hea")
    draft.sentences[0].evidence

Research software, not a medical device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Pipeline", "__version__"]

if TYPE_CHECKING:
    from regen.pipeline import Pipeline


def __getattr__(name: str) -> Any:
    """Import the pipeline, and torch with it, only when someone asks for it: `regen --help` must stay quick."""
    if name == "Pipeline":
        from regen.pipeline import Pipeline

        return Pipeline
    raise AttributeError(f"module 'regen' has no attribute {name!r}")
