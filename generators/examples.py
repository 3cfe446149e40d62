"""What the language model learns from: (prompt, report) pairs with the plan, the retrieved text and their imperfections.

At use the plan is what the evidence model found, which is not always true. Training therefore drops planned findings now and then, and adds
some that the retrieved cases state, so that the model reads the whole prompt and not the plan alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from regen.data_prep.labeler import coded
from regen.data_prep.statements import CODES
from regen.generators.prompt import plan_text, prompt_text, without_comparisons

_RANK = {code: i for i, code in enumerate(CODES)}


@dataclass(frozen=True, slots=True)
class Told:
    """A report and what it states, with or without a recording behind it."""

    report: str
    codes: tuple[str, ...]
    language: str
    lines: tuple[tuple[str, str], ...] = ()
    """What the patient's context says in words (regen.generators.context_lines.said)."""


def told_from(rows: pl.DataFrame, lines: Sequence[tuple[tuple[str, str], ...]] | None = None) -> list[Told]:
    """Prepared rows that have a report, each wording once; uncoded ones are read by the labeler. lines: of each row's context."""
    out: dict[Told, None] = {}
    for (report, statements, language), said in zip(
        rows.select("report", "statements", "language").iter_rows(), lines or [()] * len(rows), strict=True
    ):
        if not report:
            continue
        codes = coded(report) if statements is None else {s["code"] for s in statements}
        out[Told(report, ordered(codes), language or "en", said)] = None
    return list(out)


def ordered(codes: Mapping[str, float] | set[str] | frozenset[str]) -> tuple[str, ...]:
    """Codes of the catalogue in clinical order; others are left out."""
    return tuple(sorted((c for c in codes if c in _RANK), key=_RANK.__getitem__))


def noisy(codes: Sequence[str], others: Sequence[str], share: float, rng: np.random.Generator) -> tuple[str, ...]:
    """The plan with a share of it dropped, and as many of `others` added as that share says."""
    kept = {c for c in codes if rng.random() >= share} or set(codes)
    added = {c for c in others if rng.random() < share / 2}
    return ordered(kept | added)


def text_examples(
    told: Sequence[Told], texts: int, noise: float, rng: np.random.Generator,
    cut: Callable[[Sequence[tuple[str, str]], np.random.Generator], list[str]] | None = None,
) -> list[tuple[str, str]]:  # fmt: skip
    """One (prompt, report) a report: the plan, and other reports with the same findings in the place of retrieved ones.

    cut: makes prompt lines of a report's context, some of them left out; None leaves all out.
    """
    alike: dict[tuple[str, ...], list[int]] = {}
    for i, item in enumerate(told):
        alike.setdefault(item.codes, []).append(i)
        alike.setdefault(item.codes[:1], []).append(i)
    out = []
    for i, item in enumerate(told):
        pool = [j for j in alike[item.codes] if j != i] or [j for j in alike[item.codes[:1]] if j != i]
        picked = rng.choice(pool, min(texts, len(pool)), replace=False).tolist() if pool and rng.random() < 0.8 else []
        others = [c for j in picked for c in told[j].codes]
        plan = plan_text(noisy(item.codes, others, noise, rng))
        prompt = prompt_text([without_comparisons(told[j].report) for j in picked], "", plan, item.language, cut(item.lines, rng) if cut else ())
        out.append((prompt, item.report))
    return out


def vocabulary_texts(told: Sequence[Told]) -> list[str]:
    """What the tokenizer is made from: reports, and prompts with their measurements."""
    measured = "rate 0123456789, pr 160, qrs 84, qtc 410, axis -41"
    prompts = [
        prompt_text([item.report], measured, plan_text(item.codes), item.language, [f"{name}: {text}" for name, text in item.lines]) for item in told
    ]
    return [text for pair in zip(prompts, (f" {item.report}" for item in told), strict=True) for text in pair]
