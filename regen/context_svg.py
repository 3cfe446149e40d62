"""The context that a draft was written with: a timeline of what was charted before the study, and what was said in words.

    show_context(study, read=True)  ->  '<section class="context">...<svg class="timeline" ...>...</section>', '' where nothing is known

One row a source, the study at the right end, a mark for each event at its hour; what has no time stands left of the axis. Pointing at a mark
names what it held. Sizes are in units of the viewBox.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from regen.encoders.chart import SOURCES, source_of
from regen.generators.context_lines import said
from regen.study import Event, Study

_NAMES = {
    "triage": "Triage", "vital": "Vital signs", "lab": "Laboratory", "med_given": "Medications given", "med_home": "Home medications",
    "diagnosis": "Diagnoses", "other": "Other",
}  # fmt: skip
_LEFT, _AXIS, _WIDTH, _ROW = 190, 240, 800, 26
"""Where the marks without a time stand, where the axis begins, where the study is, and the height of a row."""
_WORDS = {"complaint": "Complaint", "indication": "Indication", "history": "History", "prior": "Earlier report"}
_TICKS = 6


def show_context(study: Study, read: bool) -> str:
    """HTML of one study's context. read: whether the bundle's writer reads any."""
    lines = said(study)
    charted = [(source, events) for source in SOURCES if (events := [e for e in study.events if source_of(e) == source])]
    if not lines and not charted:
        return ""
    words = "".join(f"<tr><th scope='row'>{_WORDS[name]}</th><td>{escape(text)}</td></tr>" for name, text in lines)
    caption = "What was known before the study" + ("" if read else "; this bundle's writer reads none of it")
    table = f"<table><caption>{caption}</caption><tbody>{words}</tbody></table>" if words else f'<p class="soft">{caption}</p>'
    return f'<section class="context"><h3>Context</h3>{_timeline(charted) if charted else ""}{table}</section>'


def _timeline(charted: list[tuple[str, list[Event]]]) -> str:
    longest = max([e.hours for _, events in charted for e in events if e.hours is not None], default=1.0)
    height = _ROW * (len(charted) + 1) + 8
    rows = "".join(_row(i, source, events, longest) for i, (source, events) in enumerate(charted))
    step = next((s for s in (1, 2, 3, 6, 12, 24, 48, 168, 720) if longest / s <= _TICKS), 8760)
    ticks = "".join(_tick(hours, longest, height) for hours in range(0, int(longest) + 1, step))
    n = sum(len(events) for _, events in charted)
    return (
        f'<svg class="timeline" role="img" aria-label="{n} rows of the chart in the {longest:.1f} hours before the study" viewBox="0 0 840 {height}" '
        f'width="100%" font-size="13" fill="currentColor">{ticks}{rows}</svg>'
    )


def _tick(hours: int, longest: float, height: int) -> str:
    x, label = _x(hours, longest), "study" if hours == 0 else f"−{hours} h"
    line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{height - _ROW}" stroke="var(--line)"/>'
    return f'{line}<text x="{x:.1f}" y="{height - 8}" text-anchor="middle" font-size="11">{label}</text>'


def _row(number: int, source: str, events: list[Event], longest: float) -> str:
    y = _ROW * number + 18
    times: dict[float | None, list[str]] = {}
    for event in events:
        times.setdefault(event.hours, []).append(_words(event))
    marks = "".join(_mark(hours, held, longest, y) for hours, held in times.items())
    return f'<text x="0" y="{y + 4}">{_NAMES[source]}</text>{marks}'


def _mark(hours: float | None, held: Iterable[str], longest: float, y: int) -> str:
    title = f"<title>{escape('; '.join(held))}{'' if hours is not None else ' (time not known)'}</title>"
    if hours is None:
        return f'<rect x="{_LEFT}" y="{y - 5}" width="10" height="10" fill="none" stroke="currentColor">{title}</rect>'
    return f'<circle cx="{_x(hours, longest):.1f}" cy="{y}" r="5" fill="var(--bar)">{title}</circle>'


def _x(hours: float, longest: float) -> float:
    return _WIDTH - (_WIDTH - _AXIS) * hours / max(longest, 1e-9)


def _words(event: Event) -> str:
    name = event.code.split("//", 1)[-1].replace("//", " ").replace("_", " ")
    value = (
        f" {event.value:g}" if event.value is not None else " missing" if event.text is None and event.code.startswith(("TRIAGE", "VITAL")) else ""
    )
    return f"{name}{value}{f' ({event.text})' if event.text else ''}"


def show_moved(told: float | None, only: bool) -> str:
    """The bar of how much the context moved a sentence, from -2 to 2 nats a token, and a word where nothing but the context holds it up."""
    if told is None and not only:
        return ""
    mark = "<strong>told, not seen in the recording</strong>" if only else ""
    if told is None:
        return f'<div class="why">{mark}</div>'
    long = min(abs(told), 2.0) * 25
    x = 50 if told >= 0 else 50 - long
    bar = (
        f'<svg class="bar" role="img" aria-label="moved by the context: {told:+.2f} nats a token">'
        '<rect y="3" width="100%" height="8" fill="var(--line)"/>'
        f'<rect x="{x:.1f}%" y="3" width="{long:.1f}%" height="8" fill="var(--uncertain)"/>'
        '<line x1="50%" x2="50%" y2="14" stroke="var(--ink)" stroke-width="2"/></svg>'
    )
    moved = f"the context made it {'likelier' if told >= 0 else 'less likely'}: {told:+.2f} nats a token"
    return f'<div class="why">{" · ".join(filter(None, (mark, moved)))}{bar}</div>'
