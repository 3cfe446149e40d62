"""What the patient and earlier reports say in words, as lines of the prompt: read through the language model's own embeddings.

    context_lines(study, tokenizer, recipe)       ["complaint: Chest pain", "history: Leadless pacemaker", "prior: Sinus rhythm."]

Each line has a budget of tokens and is cut there, so that the prompt does not grow with the chart; a line that is missing is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from regen.data_prep.context import PRIORS
from regen.data_prep.events import kind_of
from regen.data_prep.study_context import PARTS, only
from regen.encoders.chart import SOURCES, source_of
from regen.generators.recipe import WriterRecipe
from regen.study import Study

KINDS = ("complaint", "indication", "history")


def said(study: Study) -> list[tuple[str, str]]:
    """(name of the line, text) of all that the context says in words, nothing twice; priors older first."""
    texts: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for event in study.events:
        if (kind := kind_of(event.code)) in texts and event.text:
            texts[kind].append(" ".join(event.text.split()))
    told: set[str] = set()
    lines = []
    for kind in KINDS:
        new = [text for text in dict.fromkeys(texts[kind]) if text.casefold().rstrip(".") not in told]
        told |= {text.casefold().rstrip(".") for text in new}
        lines += [(kind, "; ".join(new))] if new else []
    return lines + [("prior", " ".join(prior.split())) for prior in study.priors[-PRIORS:]]


def context_lines(study: Study, tokenizer: Any, recipe: WriterRecipe) -> list[str]:
    """The lines of a study's context, each within its budget."""
    return cut_lines(said(study), tokenizer, recipe)


def cut_lines(lines: Sequence[tuple[str, str]], tokenizer: Any, recipe: WriterRecipe) -> list[str]:
    out = []
    for name, text in lines:
        budget = recipe.prior_tokens if name == "prior" else recipe.line_tokens
        ids = tokenizer(text, add_special_tokens=False)["input_ids"] if budget else []
        kept = text if len(ids) <= budget else tokenizer.decode(ids[:budget], skip_special_tokens=True).strip()
        out += [f"{name}: {kept}"] if ids else []
    return out


def dropped(study: Study, recipe: WriterRecipe, rng: np.random.Generator) -> Study:
    """The study with its context thinned for training: each source, line and prior hidden on its own, now and then all of it."""
    if rng.random() < recipe.drop_all_context:
        return only(study, ())
    gone = {name for name in (*SOURCES, *KINDS) if rng.random() < recipe.drop_context}
    events = tuple(event for event in study.events if (source_of(event) or kind_of(event.code)) not in gone)
    return replace(study, events=events, priors=tuple(p for p in study.priors if rng.random() >= recipe.drop_context))


def has_context(study: Study) -> bool:
    """Whether anything is known of the patient that the recording does not show."""
    return bool(study.priors) or any(kind_of(event.code) in kinds for kinds in PARTS.values() for event in study.events)
