"""The page's piece for a chest X-ray: the image, the draft beside it, and for each sentence the places that moved it.

    cxr_card(study, draft, maps, archive.thumbnails(h.study_id for h in draft.neighbours))      one <article>, as regen.page.write_page takes it
    similar_page(study, hits, thumbnails, Path("similar"))                                      similar/index.html

maps: one array a view, (sentences, h, w) in [0, 1], in the order of draft.sentences: regen.encoders.heatmap.sentence_maps of each view's
pixels. A map lies over its view (regen.map_marks) and is printed small beside the sentence.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from regen.data_prep.image_store import Bytes
from regen.map_marks import SLOTS, TINT, choice, legend
from regen.page import (
    show_figure,
    show_findings,
    show_flag,
    show_heading,
    show_measurements,
    show_sentence,
    show_timing,
    write_document,
)
from regen.study import DISCLAIMER, Cxr, Draft, FloatArray, Hit, Sentence, Study

_SIDE = 640
"""Longest side of an image on the page, pixels."""
_ALIKE = 0.8
"""Maps of different sentences whose mean correlation is above this tell the sentences apart badly, and the page says so."""
_LEVELS, _OPAQUE = 32, 0.72
"""Steps of a map's opacity, and the highest."""
STYLE = """
.reading{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1.15fr);gap:1.2rem 2.2rem;margin-bottom:1.8rem;align-items:start}
.views{position:sticky;top:1rem}.views.more{position:static}.views figure{margin:0 0 1rem}
.view{position:relative;width:100%;background:#000 center/100% 100%;border-radius:3px;overflow:hidden}
.view .heat{position:absolute;inset:0;background:center/100% 100%}
.part{font-size:.8125rem;color:var(--soft);text-transform:uppercase;letter-spacing:.04em;margin:1rem 0 .1rem}
.small-maps{display:none;gap:.4rem;margin-top:.3rem}.small-maps .view{width:18mm}.small-maps .heat{opacity:1}
.similar{list-style:none;margin:0;padding:0}.similar p{margin:.15rem 0}
.similar li{display:grid;grid-template-columns:96px minmax(0,1fr);gap:.2rem 1rem;padding:.7rem 0;border-bottom:1px solid var(--line)}
.similar li:target{background:var(--warn)}.similar img,.similar .none{width:96px;height:96px;border-radius:2px;display:block}
.similar .none{border:1px dashed var(--line);font-size:.75rem;color:var(--soft);display:grid;place-items:center;text-align:center}
.label{display:inline-block;border:1px solid var(--line);border-radius:4px;padding:0 .4em;margin:0 .3em .2em 0;font-size:.8125rem}
@media screen and (max-width:760px){.reading{grid-template-columns:minmax(0,1fr)}.views{position:static}}
@supports not selector(:has(*)){.small-maps{display:flex}}
@media print{.reading{grid-template-columns:110mm minmax(0,1fr)}.views{position:static}.views .heat{display:none}
.draft li.mapped{display:grid;grid-template-columns:minmax(0,1fr) auto;gap:0 4mm}.small-maps{grid-area:1/2/span 2;margin:0}.small-maps{display:flex}}
"""


def cxr_card(study: Study, draft: Draft, maps: Sequence[FloatArray] = (), thumbnails: Mapping[str, Bytes] | None = None, number: int = 1) -> str:
    """One study as <article id="case-NUMBER">. thumbnails: study id -> (s, s) uint8; what has none says so. A study's ECG is drawn below."""
    mapped = {i for i in range(min(len(draft.sentences), SLOTS)) if any(i < len(view) and view[i].any() for view in maps)}
    flags = sorted(map(show_flag, dict.fromkeys((*draft.flags, *study.flags))), key=lambda item: item.startswith("<li class"))
    both = f"{show_figure(study)}<h3>Measurements</h3>{show_measurements(study, draft)}" if study.ecg is not None else ""
    return (
        f'<article class="cxr" id="case-{number}" aria-labelledby="title-{number}" style="{_inline(study.cxr, maps, mapped)}">'
        f"{show_heading(number, study)}"
        f'<div class="reading">{_views(number, study, mapped, _alike(draft, maps))}<section><h3>Draft report</h3>'
        f'<p class="disclaimer small">{escape(draft.disclaimer or DISCLAIMER)}</p>'
        + (f'<ul class="flags">{"".join(flags)}</ul>' if flags else "")
        + f"{_report(number, study, draft, mapped)}{_on_file(study)}</section></div>{both}"
        f'<div class="pair even"><section><h3>Finding probabilities</h3>{show_findings(draft.findings)}</section>'
        f"<section><h3>Similar cases</h3>{_similar(number, draft.neighbours, thumbnails or {})}</section></div>"
        f"<footer>{escape(show_timing(draft))}</footer></article>"
    )


def similar_page(query: Study, hits: Sequence[Hit], thumbnails: Mapping[str, Bytes], out: Path) -> Path:
    """Write out/index.html: the query's images and the cases nearest to them. Returns its path."""
    note = f"The {len(hits)} reported cases nearest to {query.study_id}."
    body = (
        f'<main><article class="cxr" id="case-1" aria-labelledby="title-1" style="{_inline(query.cxr, (), set())}">{show_heading(1, query)}'
        f'<div class="reading">{_views(1, query, set())}<section><h3>Similar cases</h3>{_similar(1, hits, thumbnails)}</section></div>'
        "</article></main>"
    )
    return write_document(out, "ReGen: similar cases", note, body, STYLE, images=True)


def _views(number: int, study: Study, mapped: set[int], alike: bool = False) -> str:
    shown = "".join(_view(i, len(study.cxr), view, mapped) for i, view in enumerate(study.cxr))
    off = legend(
        number,
        "Hiding a marked place lowers how well image and sentence match; it is not an outline of disease. "
        + ("The maps of these sentences are nearly the same: they say little about any one of them. " if alike else ""),
    )
    return f'<div class="views{" more" if len(study.cxr) > 1 else ""}">{shown}{off if mapped else ""}</div>'


def _alike(draft: Draft, maps: Sequence[FloatArray]) -> bool:
    """Whether the maps over the first view hardly differ from sentence to sentence."""
    if not maps:
        return False
    first = {s.text: heat.ravel() for s, heat in zip(draft.sentences, maps[0], strict=False) if np.ptp(heat) > 0}
    if len(first) < 2:
        return False
    likeness = np.corrcoef(np.stack(list(first.values())))
    return float(likeness[np.triu_indices(len(first), 1)].mean()) > _ALIKE


def _view(place: int, count: int, view: Cxr, mapped: set[int]) -> str:
    height, width = view.pixels.shape
    name = f"{view.view or 'View not stated'}{f', image {place + 1} of {count}' if count > 1 else ''}"
    frontal = (view.view or "").upper() in ("", "PA", "AP")
    sides = ["shown as it hangs; of a frontal view, the patient's right is on the left"] if not view.view else []
    sides = sides or (["the patient's right is on the left"] if frontal else [])
    size = f"reduced to {_SIDE} of {max(height, width)} pixels: not for diagnosis" if max(height, width) > _SIDE else f"{width} x {height} pixels"
    heats = "".join(f'<div class="heat m{i}" style="background-image:var(--m{place}-{i},none)"></div>' for i in sorted(mapped))
    return (
        f'<figure><div class="view" role="img" aria-label="Chest X-ray, {escape(name)}" '
        f'style="aspect-ratio:{width}/{height};background-image:var(--v{place})">{heats}</div>'
        f"<figcaption>{escape(' · '.join([name, *sides, size]))}</figcaption></figure>"
    )


def _report(number: int, study: Study, draft: Draft, mapped: set[int]) -> str:
    places = {hit.study_id: rank for rank, hit in enumerate(draft.neighbours, 1)}
    out = ""
    for title, said in _grouped(draft):
        items = "".join(
            show_sentence(number, s, places, tail=_tail(number, i, study) if i in mapped else "", name=f"mapped s{i}" if i in mapped else "")
            for i, s in said
        )
        out += f'{_part(title)}<ol class="draft">{items}</ol>'
    if not draft.sentences:
        out += "<p>No sentence was kept: nothing the writer proposed is supported.</p>"
    if draft.dropped:
        gone = "".join(show_sentence(number, s, places, dropped=True) for s in draft.dropped)
        out += f'<h3 class="gone">Taken out of the draft</h3><ul class="draft">{gone}</ul>'
    return out


def _tail(number: int, place: int, study: Study) -> str:
    small = "".join(
        f'<div class="view" style="aspect-ratio:{view.pixels.shape[1]}/{view.pixels.shape[0]};background-image:var(--v{i})">'
        f'<div class="heat" style="background-image:var(--m{i}-{place},none)"></div></div>'
        for i, view in enumerate(study.cxr)
    )
    return f'{choice(number, place, "on the image")}<div class="small-maps" aria-hidden="true">{small}</div>'


def _grouped(draft: Draft) -> Iterator[tuple[str, list[tuple[int, Sentence]]]]:
    """(section, its sentences with their places), in the draft's order; one nameless section where the draft has none.

    A section takes the next sentences as long as its text holds them; what no section holds stays where it stands.
    """
    sections = {name: text for name, text in draft.sections.items() if text}
    names = list(sections) or [""]
    said: list[list[tuple[int, Sentence]]] = [[] for _ in names]
    at, start = 0, 0
    for i, sentence in enumerate(draft.sentences):
        for section in range(at, len(names)):
            found = sections.get(names[section], "").find(sentence.text, start if section == at else 0)
            if found >= 0:
                at, start = section, found + len(sentence.text)
                break
        said[at].append((i, sentence))
    yield from ((name, part) for name, part in zip(names, said, strict=True) if part)


def _on_file(study: Study) -> str:
    parts = study.sections or ({"": study.report} if study.report else {})
    if not parts:
        return ""
    shown = "".join(f"{_part(name)}<p>{escape(text)}</p>" for name, text in parts.items())
    return f'<h3 class="gone">Report on file</h3>{shown}<p class="soft">For comparison; the draft was written without it.</p>'


def _part(name: str) -> str:
    return f'<h4 class="part">{escape(name)}</h4>' if name else ""


def _similar(number: int, hits: Sequence[Hit], thumbnails: Mapping[str, Bytes]) -> str:
    if not hits:
        return "<p>No case was retrieved.</p>"
    rows = "".join(_hit(number, rank, hit, thumbnails.get(hit.study_id)) for rank, hit in enumerate(hits, 1))
    filters = f'<p class="soft">Allowed because: {escape(hits[0].allowed)}.</p>' if hits[0].allowed else ""
    return f'<p class="soft">In the order used; the score is the cosine similarity, 1 is closest.</p><ol class="similar">{rows}</ol>{filters}'


def _hit(number: int, rank: int, hit: Hit, image: Bytes | None) -> str:
    shown = '<span class="none">no image kept</span>'
    if image is not None:
        shown = f'<img alt="Chest X-ray of {escape(hit.study_id)}" src="{_uri(Image.fromarray(image))}"/>'
    said = {1.0: "", 0.5: " uncertain"}
    labels = "".join(f'<span class="label">{escape(name)}{said[value]}</span>' for name, value in hit.observations.items() if value in said)
    made = ' <span class="badge made">Synthetic</span>' if hit.study_id.startswith("synthetic") else ""
    return (
        f'<li id="case-{number}-hit-{rank}">{shown}<div><p><strong>{escape(hit.study_id)}</strong> · score {hit.score:.2f}{made}</p>'
        f'<p lang="{escape(hit.language or "")}">{escape(hit.report) or "No report."}</p><p>{labels}</p></div></li>'
    )


def _inline(views: Sequence[Cxr], maps: Sequence[FloatArray], mapped: set[int]) -> str:
    """Each picture once, as a custom property: --vI is view I, --mI-K the map of sentence K over it."""
    out = [f"--v{i}:url({_uri(_grey(view.pixels))})" for i, view in enumerate(views)]
    out += [f"--m{i}-{k}:url({_uri(_heat(view[k]))})" for i, view in enumerate(maps) for k in sorted(mapped) if k < len(view)]
    return ";".join(out)


def _grey(pixels: FloatArray) -> Image.Image:
    image = Image.fromarray(np.rint(pixels * 255).astype(np.uint8))
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return image


def _heat(heat: FloatArray) -> Image.Image:
    """One colour, as opaque as the map is high."""
    image = Image.fromarray(np.rint(heat.clip(0, 1) * (_LEVELS - 1)).astype(np.uint8), "P")
    image.putpalette(TINT * _LEVELS)
    image.info["transparency"] = bytes(round(255 * _OPAQUE * i / (_LEVELS - 1)) for i in range(_LEVELS))
    return image


def _uri(image: Image.Image) -> str:
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
