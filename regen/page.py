"""The page a physician reads: one file, nothing loaded from anywhere, every sentence of every draft beside what holds it up.

write_page([(study, draft), ...], Path("demo"), "ReGen drafts", "Starter bundle, CPU.")  ->  demo/index.html
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from textwrap import shorten

import numpy as np

from regen.artifact import write_text
from regen.context_svg import show_context, show_moved
from regen.data_prep.image_store import Bytes
from regen.data_prep.measure import UNITS
from regen.data_prep.statements import BY_CODE
from regen.ecg_marks import STYLE as TRACE_STYLE
from regen.ecg_marks import grid, leads_of
from regen.ecg_svg import ecg_svg
from regen.map_marks import MAP_STYLE, SLOTS, choice, legend
from regen.study import DISCLAIMER, Draft, Finding, FloatArray, Hit, Sentence, Study

_STYLE = """
:root{color-scheme:light dark;--bg:#f7f8f9;--card:#fff;--ink:#1b2530;--soft:#53606e;--line:#d8dee5;--link:#1b5e8c;--bar:#2f6f9f;--low:#a5b3c1;
--supported:#17674a;--uncertain:#805200;--dropped:#a3262a;--warn:#fff6e0}
@media screen and (prefers-color-scheme:dark){
:root{--bg:#12171d;--card:#1a2129;--ink:#e5eaef;--soft:#a7b2be;--line:#343e49;--link:#86bfe8;--bar:#69aedd;--low:#55636f;--supported:#6fcaa3;
--uncertain:#e5b660;--dropped:#f29a97;--warn:#322a17}}*{box-sizing:border-box}html{scroll-padding-top:1rem;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
body>*{max-width:calc(270mm + 5.2rem);margin:0 auto;padding:1rem 1rem 0}h1{font-size:1.7rem;line-height:1.2;margin:0 0 .4rem}
h2{font-size:1.35rem;line-height:1.25;margin:0;overflow-wrap:anywhere}h3{font-size:1.0625rem;margin:0 0 .4rem}p{margin:0 0 .6rem}a{color:var(--link)}
.soft,caption,footer{color:var(--soft);font-size:.875rem}.code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.9em}
.disclaimer{border-left:4px solid var(--uncertain);background:var(--warn);padding:.55rem .9rem;margin:.8rem 0 1.2rem;font-weight:600}
.disclaimer.small{background:none;border-left-width:2px;padding:0 0 0 .6rem;margin:.2rem 0 .9rem;font-size:.8125rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}caption{text-align:left;padding-bottom:.35rem}
th,td{text-align:left;vertical-align:top;padding:.32rem .75rem .32rem 0;border-bottom:1px solid var(--line);overflow-wrap:anywhere}th{font-weight:600}
thead th{color:var(--soft);font-size:.8125rem}td.n,th.n{text-align:right;white-space:nowrap;overflow-wrap:normal}
td:last-child,th:last-child{padding-right:0}tbody th[colspan]{padding-top:.8rem;color:var(--soft);font-size:.8125rem}
tr.quiet>*{color:var(--soft);font-weight:400}tr:target>*{background:var(--warn)}nav tbody th{min-width:11rem}
.wide{white-space:nowrap;overflow-wrap:normal}.tally{display:flex;flex-wrap:wrap;gap:0 .9rem;width:15rem}
article{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:1.5rem;margin:1.75rem 0}
.title{display:flex;flex-wrap:wrap;gap:.3rem .8rem;align-items:center;margin-bottom:.15rem}
.badge{font-size:.8125rem;font-weight:600;border:1.5px solid var(--soft);border-radius:4px;padding:.05rem .5rem;white-space:nowrap}
.badge.made{border-style:dashed}.flags{list-style:none;margin:0 0 .8rem;padding:0}.flags .mark{white-space:normal;font-size:.9375rem}
figure{margin:.8rem 0 1.6rem}.paper{overflow-x:auto}.paper:focus-visible{outline:3px solid var(--link)}
svg.ecg{display:block;width:100%;max-width:270mm;min-width:190mm;height:auto}figcaption{font-size:.8125rem;color:var(--soft);margin-top:.3rem}
.pair{display:grid;grid-template-columns:minmax(0,1.75fr) minmax(0,1fr);gap:1.6rem 2.6rem;margin-bottom:1.8rem}
.even{grid-template-columns:repeat(2,minmax(0,1fr))}.gone{margin-top:1.3rem}.draft{list-style:none;margin:0;padding:0}
.draft li{padding:.5rem 0 .55rem;border-bottom:1px solid var(--line)}
.says{font-size:1.125rem;line-height:1.4;display:flex;justify-content:space-between;gap:.1rem 1rem;overflow-wrap:anywhere}del{color:var(--soft)}
.mark{font-size:.8125rem;font-weight:600;white-space:nowrap;padding-top:.15rem}
.mark svg{width:.85em;height:.85em;margin-right:.35em;vertical-align:-.06em;overflow:visible}.mark.supported{color:var(--supported)}
.mark.uncertain{color:var(--uncertain)}.mark.dropped{color:var(--dropped)}.why{color:var(--soft);font-size:.875rem;overflow-wrap:anywhere}
.why a{display:inline-block;max-width:100%;color:inherit;text-decoration-color:var(--low)}
summary{cursor:pointer;color:var(--link);font-size:.875rem;padding:.5rem 0}
.bar{display:block;width:100%;height:14px;min-width:4rem;margin-top:.3rem;overflow:visible}.bars{width:32%}
article>footer{border-top:1px solid var(--line);padding-top:.7rem}article th{overflow-wrap:break-word;hyphens:auto}
@media screen and (max-width:760px){article{padding:1rem .9rem;margin:1.2rem -.5rem}.pair,.even{grid-template-columns:minmax(0,1fr)}
.wide{display:none}nav tbody th{min-width:6rem}.tally{width:6.9rem}.bars{width:24%}.says{flex-direction:column-reverse}}
@page{size:A4 landscape;margin:10mm}
@media print{:root{--bg:#fff;--ink:#000;--link:#000;--warn:#fff}html,body{font-size:12px;print-color-adjust:exact;-webkit-print-color-adjust:exact}
body>*{max-width:none;padding:0}article{border:0;padding:0;margin:0;break-before:page}.paper{overflow:visible}
svg.ecg{width:270mm;min-width:270mm;max-width:none}li,tr,figure,.pair,.disclaimer{break-inside:avoid}h2,h3,caption{break-after:avoid}
a{text-decoration:none}details{display:none}}
"""
_SHAPES = {
    "supported": '<circle cx="5" cy="5" r="5" fill="currentColor"/>',
    "uncertain": '<path d="M5 .6 9.8 9.4H.2z" fill="none" stroke="currentColor" stroke-width="1.6"/>',
    "dropped": '<path d="M1 1l8 8M9 1 1 9" stroke="currentColor" stroke-width="2.4"/>',
}
_STATUS = {"supported": "supported", "contradicted": "dropped"}
_MEASURED: dict[str, tuple[str, tuple[int, int] | None]] = {
    "heart_rate": ("Heart rate", (60, 100)), "pr": ("PR interval", (120, 200)), "qrs": ("QRS duration", (0, 110)), "qt": ("QT interval", None),
    "qtc": ("QTc (Bazett)", (350, 450)), "axis": ("Frontal axis", (-30, 90)),
}  # fmt: skip
"""Name and usual adult range; QRS after Surawicz et al., QTc's upper end (460 ms in women) after Rautaharju et al., JACC 53:976 and 982, 2009."""
_FLAGS = {
    "low_evidence": "Low evidence: the nearest reported case is farther away than the calibrated limit. Read this draft with extra care.",
    "low_evidence:cases_disagree": "Low evidence: the nearest reported cases show other findings than this ECG. They did not count in this draft.",
    "no_rhythm": "No rhythm is likely enough to be stated; what is called possible is only the likeliest.",
    "unreliable": "The QT interval was not measured reliably and is withheld.",
    "measured": "Added because it was measured: {}.",
    "lead_missing": "Lead {} was not recorded.",
    "lead_flat": "Lead {} was a flat line and was left out.",
    "lead_derived": "Lead {} was computed from other leads.",
    "age_implausible": "The age on file, {}, is none that a person has and was left out.",
    "cropped": "The recording is longer than ten seconds; only its first ten seconds were read.",
    "padded": "The recording is shorter than ten seconds.",
    "chart_cut": "The patient's chart is longer than the writer reads; the oldest events were left out.",
    "no_retrieval": "Written without retrieved cases.",
    "unstated": "Found but not stated in the draft: {}.",
    "completed": "Left out by the writer and added from the findings: {}.",
    "sentences_dropped": "The writer proposed more than the study shows; what was taken out is listed below.",
}
_NOTES = {"lead_derived", "cropped", "completed", "measured", "sentences_dropped"}
"""Flags that inform; the others warn."""
_MAPPED = (
    "Hiding a marked second of a lead lowers the encoder's reading of the statement; what was measured and what retrieved cases add is not in it, "
    "and it does not outline a disease. The paper shows 2.5 s of most leads, the grid beside each sentence all of them, a column a second. "
)
_OTHERS, _NAMED = 5, 5
"""How many findings that are not positive are in sight, and how many retrieved cases are named beside a sentence."""


def write_page(
    cases: Sequence[tuple[Study, Draft]], out: Path, title: str, note: str,
    maps: Mapping[str, Sequence[FloatArray]] | None = None, thumbnails: Mapping[str, Bytes] | None = None,
) -> Path:  # fmt: skip
    """Write one self-contained index.html into the folder `out`, as one step. Returns its path.

    cases: each study beside its draft, in the order of the page; title and note are plain text. maps: study id -> heat maps, of a chest X-ray
    as regen.cxr_page.cxr_card takes them, of an ECG one array (sentences, 12, seconds). thumbnails: id of a retrieved study -> image.
    """
    from regen.cxr_page import STYLE, cxr_card

    images = any(study.cxr for study, _ in cases)
    marked = {study: made for study, made in (maps or {}).items() if made}
    style = (MAP_STYLE + TRACE_STYLE if marked else "") + (STYLE if images else "")
    body = "".join(
        cxr_card(study, draft, marked.get(study.study_id, ()), thumbnails or {}, number)
        if study.cxr
        else _case(number, study, draft, marked.get(study.study_id, ()))
        for number, (study, draft) in enumerate(cases, 1)
    )
    return write_document(out, title, note, f"{_contents(cases)}<main>{body}</main>", style, images)


def write_document(out: Path, title: str, note: str, body: str, style: str = "", images: bool = False) -> Path:
    """The frame of every page, written as out/index.html: title, note and disclaimer. body: HTML; style: more CSS; images: it holds some."""
    out.mkdir(parents=True, exist_ok=True)
    page = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'"
        f'{"; img-src data:" if images else ""}">'
        f"<title>{escape(title)}</title><style>{_STYLE}{style}</style></head><body><header><h1>{escape(title)}</h1>"
        f'<p class="soft">{escape(note)}</p><p class="disclaimer" role="note">{escape(DISCLAIMER)}</p></header>{body}'
        f"<footer><p>{escape(DISCLAIMER)}</p></footer></body></html>\n"
    )
    path = out / "index.html"
    write_text(path, page.encode("utf-8", "replace").decode("utf-8"))
    return path


def _contents(cases: Sequence[tuple[Study, Draft]]) -> str:
    rows = "".join(
        f'<tr><th scope="row"><a href="#case-{number}">{escape(study.study_id)}</a></th><td class="wide">{_source(study)[0]}</td>'
        f"<td>{escape(shorten(draft.report, 110, placeholder=' …') or 'No sentence was kept.')}</td><td>{_tally(draft)}</td></tr>"
        for number, (study, draft) in enumerate(cases, 1)
    )
    if not rows:
        return "<nav><p>No case was drafted.</p></nav>"
    head = '<tr><th scope="col">Case</th><th scope="col" class="wide">Source</th><th scope="col">Draft begins</th><th scope="col">Sentences</th></tr>'
    return f'<nav aria-label="Cases"><table><caption>Cases: {len(cases)}</caption><thead>{head}</thead><tbody>{rows}</tbody></table></nav>'


def _tally(draft: Draft) -> str:
    counts = Counter(_STATUS.get(s.status, "uncertain") for s in draft.sentences) + Counter({"dropped": len(draft.dropped)})
    marks = [show_mark(name, f"{counts[name]} {name}") for name in _SHAPES if counts[name]]
    marks += [show_mark("uncertain", "low evidence")] if any(flag.startswith("low_evidence") for flag in draft.flags) else []
    return f'<div class="tally">{"".join(marks) or "none"}</div>'


def show_mark(status: str, words: str) -> str:
    return f'<span class="mark {status}"><svg viewBox="0 0 10 10" aria-hidden="true">{_SHAPES[status]}</svg>{escape(words)}</span>'


def _case(number: int, study: Study, draft: Draft, maps: Sequence[FloatArray] = ()) -> str:
    marked = {i: heat for i, heat in enumerate(maps[0][: min(len(draft.sentences), SLOTS)]) if np.nansum(heat) > 0} if len(maps) else {}
    flags = sorted(map(show_flag, dict.fromkeys((*draft.flags, *study.flags))), key=lambda item: item.startswith("<li class"))
    other = f'<p>{escape(study.report or "")}</p><p class="soft">For comparison; the draft was written without it.</p>'
    return (
        f'<article{" class=traced" if marked else ""} id="case-{number}" aria-labelledby="title-{number}">{show_heading(number, study)}'
        f"{show_figure(study, marked)}{legend(number, _MAPPED) if marked else ''}"
        f'<div class="pair"><section><h3>Draft report</h3><p class="disclaimer small">{escape(draft.disclaimer or DISCLAIMER)}</p>'
        + (f'<ul class="flags">{"".join(flags)}</ul>' if flags else "")
        + f"{_sentences(number, draft, marked)}"
        + (f'<h3 class="gone">Report on file</h3>{other}' if study.report else "")
        + f"</section><section><h3>Measurements</h3>{show_measurements(study, draft)}</section></div>"
        f"{show_context(study, any(s.told is not None for s in (*draft.sentences, *draft.dropped)))}"
        f'<div class="pair even"><section><h3>Finding probabilities</h3>{show_findings(draft.findings)}</section>'
        f"<section><h3>Retrieved cases</h3>{_neighbours(number, draft.neighbours)}</section></div>"
        f"<footer>{escape(show_timing(draft))}</footer></article>"
    )


def show_heading(number: int, study: Study) -> str:
    badge, origin = _source(study)
    about = [f"subject {study.subject_id}" if study.subject_id else "", f"{study.age:.0f} years" if study.age is not None else "", study.sex or ""]
    about += [f"{study.time:%Y-%m-%d %H:%M}" if study.time else "", origin]
    return (
        f'<header><div class="title"><h2 id="title-{number}">{escape(study.study_id)}</h2>'
        f'<span class="badge{" made" if badge == "Synthetic" else ""}">{badge}</span></div>'
        f'<p class="soft">{escape(" · ".join(filter(None, about)))}</p></header>'
    )


def _source(study: Study) -> tuple[str, str]:
    """The badge, and a sentence: a synthetic study says so in its source or its id."""
    if study.source.startswith("synthetic") or study.study_id.startswith("synthetic"):
        return "Synthetic", "computed by a model, not recorded from a patient"
    what = "Real image" if study.cxr and study.ecg is None else "Real recording"
    name = study.source.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    return (what, f"read from {name}") if name else ("Source not stated", "")


def show_flag(flag: str) -> str:
    name, _, what = flag.partition(":")
    what = BY_CODE[what].label if what in BY_CODE else what
    wording = _FLAGS.get(flag, _FLAGS.get(name))
    text = wording.format(what) if wording else f"{name.replace('_', ' ').capitalize()}{': ' if what else ''}{what}."
    return f'<li class="soft">{escape(text)}</li>' if name in _NOTES else f"<li>{show_mark('uncertain', text)}</li>"


def show_figure(study: Study, maps: Mapping[int, FloatArray] | None = None) -> str:
    """maps: of the draft's sentences, as regen.ecg_svg takes them."""
    if study.ecg is None:
        return "<p>This study holds no ECG.</p>"
    return (
        f'<figure><div class="paper" tabindex="0" role="region" aria-label="ECG trace, scrolls sideways">{ecg_svg(study.ecg, maps)}</div>'
        "<figcaption>To scale when printed at 100 % on A4 landscape: a small square is 1 mm, 0.04 s and 0.1 mV.</figcaption></figure>"
    )


def _sentences(case: int, draft: Draft, maps: Mapping[int, FloatArray]) -> str:
    places = {hit.study_id: rank for rank, hit in enumerate(draft.neighbours, 1)}
    tails = {i: f'<div class="why">moved most by {leads_of(heat)} {choice(case, i, "on the trace")}</div>{grid(heat)}' for i, heat in maps.items()}
    kept = "".join(
        show_sentence(case, s, places, tail=tails.get(i, ""), name=f"mapped s{i}" if i in tails else "") for i, s in enumerate(draft.sentences)
    )
    out = f'<ol class="draft">{kept}</ol>' if kept else "<p>No sentence was kept: nothing the writer proposed is supported.</p>"
    if draft.dropped:
        gone = "".join(show_sentence(case, s, places, dropped=True) for s in draft.dropped)
        out += f'<h3 class="gone">Taken out of the draft</h3><ul class="draft">{gone}</ul>'
    return out


def show_sentence(case: int, sentence: Sentence, places: dict[str, int], dropped: bool = False, tail: str = "", name: str = "") -> str:
    """places: study id -> rank of a retrieved case. tail: HTML for the end of the item; name: its class."""
    status = "dropped" if dropped else _STATUS.get(sentence.status, "uncertain")
    text = f"<del>{escape(sentence.text)}</del>" if dropped else escape(sentence.text)
    reason = sentence.reason or "the findings contradict it"
    why = [f"<strong>{escape(reason[:1].upper() + reason[1:])}</strong>"] if dropped else []
    if sentence.finding:
        why.append(f'<span class="code">{escape(sentence.finding)}</span>')
    if sentence.probability is not None:
        word = "calibrated probability" if sentence.finding in BY_CODE else "probability"
        why.append(f"{word} {_share(sentence.probability)}")
    if sentence.measured and not dropped:
        why.append(f"{escape(sentence.measured)}")
    named = [_named(case, e.study_id, e.score, places) for e in sentence.evidence[:_NAMED]]
    more = f" and {len(sentence.evidence) - _NAMED} more" if len(sentence.evidence) > _NAMED else ""
    why.append(f"stated by {', '.join(named)}{more}" if named else "stated by no retrieved case")
    head = f'<div class="says"><span>{text}</span>{show_mark(status, status.capitalize())}</div>'
    opening = f'<li class="{name}">' if name else "<li>"
    moved = show_moved(sentence.told, sentence.only_told)
    return f'{opening}{head}<div class="why">{" · ".join(why)}</div>{moved}{tail}</li>'


def _named(case: int, study_id: str, score: float, places: dict[str, int]) -> str:
    text = escape(study_id)
    return f'<a href="#case-{case}-hit-{places[study_id]}">{text}</a> ({score:.2f})' if study_id in places else f"{text} ({score:.2f})"


def show_measurements(study: Study, draft: Draft) -> str:
    rows = "".join(_measurement(name, draft.measured.get(name), study) for name in _MEASURED)
    head = '<tr><th scope="col">Interval</th><th scope="col" class="n">Value</th><td></td><th scope="col" class="n">Usual adult</th></tr>'
    return f"<table><caption>Computed from the average beat</caption><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _measurement(name: str, value: float | None, study: Study) -> str:
    label, usual = _MEASURED[name]
    if study.age is not None and study.age < 18:
        usual = None
    elif name == "qtc" and study.sex == "female":
        usual = (350, 460)
    span = "" if usual is None else f"{usual[0]} to {usual[1]}".replace("-", "−") if usual[0] else f"up to {usual[1]}"
    if value is None or not math.isfinite(value):
        return f'<tr class="quiet"><th scope="row">{label}</th><td class="n" colspan="2">not measurable</td><td class="n">{span}</td></tr>'
    unit = {"degrees": "°"}.get(UNITS[name], f" {UNITS[name]}")
    beyond = "" if usual is None else "high" if round(value) > usual[1] else "low" if round(value) < usual[0] else ""
    mark = show_mark("uncertain", beyond) if beyond else ""
    shown = f"{round(value)}{unit}".replace("-", "−")
    return f'<tr><th scope="row">{label}</th><td class="n">{shown}</td><td>{mark}</td><td class="n soft">{span}</td></tr>'


def show_findings(findings: Iterable[Finding]) -> str:
    ranked = sorted(findings, key=lambda f: -f.probability)
    if not ranked:
        return "<p>No finding was scored.</p>"
    others = [f for f in ranked if not f.positive]
    head = '<tr><th scope="col">Finding</th><th scope="col" class="n">Probability</th><th scope="col">0 to 1</th></tr>'
    body = _finding_rows("Positive", [f for f in ranked if f.positive]) + _finding_rows("Not positive, likeliest first", others[:_OTHERS])
    rest = ", ".join(f'<span class="code">{escape(f.code)}</span> {_share(f.probability)}' for f in others[_OTHERS:])
    more = f'<details><summary>{len(others) - _OTHERS} less likely</summary><p class="soft">{rest}</p></details>' if rest else ""
    caption = "Calibrated probability; the upright tick is the finding's own threshold"
    return f"<table><caption>{caption}</caption><thead>{head}</thead><tbody>{body}</tbody></table>{more}"


def _finding_rows(title: str, findings: Sequence[Finding]) -> str:
    rows = "".join(
        f'<tr class="{"" if f.positive else "quiet"}"><th scope="row">{escape(f.label)}{_code(f)}{_odd(f)}</th>'
        f'<td class="n">{_share(f.probability)}</td><td class="bars">{_bar(f)}</td></tr>'
        for f in findings
    )
    return f'<tr><th colspan="3" scope="colgroup">{title}</th></tr>{rows or "<tr><td colspan=3>none</td></tr>"}'


def _code(finding: Finding) -> str:
    return "" if finding.code == finding.label else f' <span class="code soft">{escape(finding.code)}</span>'


def _odd(finding: Finding) -> str:
    """Why a finding is positive below its threshold, or not positive above it."""
    if finding.positive == (finding.probability >= finding.threshold):
        return ""
    return f'<br><span class="soft">{"nearest to its threshold of all" if finding.positive else "ruled out by a likelier finding"}</span>'


def _bar(finding: Finding) -> str:
    long, tick = (f"{100 * min(max(x, 0.0), 1.0):.1f}%" for x in (finding.probability, finding.threshold))
    return (
        f'<svg class="bar" role="img" aria-label="threshold {_share(finding.threshold)}"><rect y="3" width="100%" height="8" fill="var(--line)"/>'
        f'<rect y="3" width="{long}" height="8" fill="var(--{"bar" if finding.positive else "low"})"/>'
        f'<line x1="{tick}" x2="{tick}" y2="14" stroke="var(--ink)" stroke-width="2"/></svg>'
    )


def _neighbours(case: int, hits: Sequence[Hit]) -> str:
    if not hits:
        return "<p>No case was retrieved.</p>"
    head = '<tr><th scope="col" class="n">Score</th><th scope="col">Case and its report</th></tr>'
    rows = "".join(
        f'<tr id="case-{case}-hit-{rank}"><td class="n">{hit.score:.2f}</td>'
        f'<td><strong>{escape(hit.study_id)}</strong><br><span lang="{escape(hit.language or "")}">{escape(hit.report)}</span></td></tr>'
        for rank, hit in enumerate(hits, 1)
    )
    caption = "In the order used; the score is the cosine similarity, 1 is closest"
    filters = f'<p class="soft">Allowed because: {escape(hits[0].allowed)}.</p>' if hits[0].allowed else ""
    return f"<table><caption>{caption}</caption><thead>{head}</thead><tbody>{rows}</tbody></table>{filters}"


def show_timing(draft: Draft) -> str:
    steps = ", ".join(f"{name.replace('_', ' ')} {ms:.0f} ms" for name, ms in draft.timing_ms.items())
    return f"{f'Time taken: {steps}. ' if steps else ''}Bundle: {draft.bundle}."


def _share(p: float) -> str:
    """A probability to two decimals that never rounds to certainty."""
    return "&lt; 0.01" if 0 < p < 0.01 else "&gt; 0.99" if 0.99 < p < 1 else f"{p:.2f}" if math.isfinite(p) else "not available"
