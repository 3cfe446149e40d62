"""The folder of an evaluation of reports: what was scored, every number, and a page to read.

    write_card(ecg_card(scored), Path("card"))      regen.evaluating.ecg_card and chest_card say what a card holds

OUT/
  metrics.json     the table, one schema for every command of regen eval
  predictions/     one file of JSON lines a system: score them again with regen eval report OUT/predictions/*.jsonl
  card.md          the tables
  card.html        the tables, ROC, reliability and risk over coverage, and the best, the worst and some random drafts with traces or images
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image

from regen.artifact import new_artifact
from regen.batch import prepared_studies
from regen.data_prep.prepared import Prepared
from regen.ecg_svg import ecg_svg
from regen.eval.blocks import Rows
from regen.eval.bootstrap import Values
from regen.eval.curves import reliability, risk_coverage, roc
from regen.eval.set_metrics import Sets
from regen.eval.table_views import percent
from regen.study import DISCLAIMER, Study

EXAMPLES = 3
"""Drafts of each kind on the page."""
_STYLE = """
body{margin:0 auto;max-width:1180px;padding:1rem;font:15px/1.5 system-ui,sans-serif;color:#1b2530}table{border-collapse:collapse;font-size:12px}
td,th{padding:.25rem .5rem;border-bottom:1px solid #d8dee5;text-align:right;white-space:nowrap}td:first-child,th:first-child{text-align:left}
td small{display:block;color:#53606e}.scroll{overflow-x:auto}.note{border-left:4px solid #805200;background:#fff6e0;padding:.5rem .9rem}
.plots svg{max-width:32%;height:auto}.pair{display:grid;grid-template-columns:1fr 1fr;gap:1rem}article{border:1px solid #d8dee5;padding:1rem}
svg.ecg{width:100%;height:auto}h3{margin:.2rem 0}.soft{color:#53606e}
.views{display:flex;gap:.6rem;flex-wrap:wrap}.views img{height:320px}
"""


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """What the plots are made of. ranked: name of a class -> scores and truth, (n,) each; probabilities, truth: (n, classes) of all findings;
    confidence: (n,), higher is surer."""

    ranked: Mapping[str, tuple[npt.NDArray, npt.NDArray[np.bool_]]]
    probabilities: npt.NDArray
    truth: Sets
    confidence: npt.NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Card:
    """An evaluation of reports, of any modality.

    systems: names, the first one is the system that the page is about; drafts: of each system its lines of JSON; columns: key -> heading;
    blocks: heading -> rows; notes: how to read them; metrics: the table as plain JSON, seed and all; f1: (n,) of each study's draft.
    """

    data: Prepared
    rows: pl.DataFrame
    bundle: str
    split: str
    systems: Sequence[str]
    drafts: Sequence[Iterator[Mapping[str, Any]]]
    columns: Mapping[str, str]
    blocks: Mapping[str, Rows]
    notes: Sequence[str]
    metrics: Mapping[str, Any]
    markdown: str
    references: Sequence[str]
    reports: Sequence[str]
    f1: Values
    curves: Curves | None


def write_card(card: Card, out: Path, force: bool = False) -> None:
    """Write the folder, whole or not at all.

    Raises:
        ArtifactError: it exists and force is false, or holds what regen did not write.
    """
    config = {"systems": list(card.systems), "seed": card.metrics["seed"], "bundle": card.bundle, "split": card.split}
    with new_artifact(out, "evaluation", config, {"data": card.data.digest}, force) as work:
        metrics = dict(card.metrics) | {"split": card.split, "bundle": card.bundle}
        (work.path / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
        (work.path / "card.md").write_text(f"{DISCLAIMER}\n\n{card.markdown}", encoding="utf-8")
        folder = work.path / "predictions"
        folder.mkdir(exist_ok=True)
        for number, (system, drafts) in enumerate(zip(card.systems, card.drafts, strict=True)):
            name = re.sub(r"\W+", "-", system).strip("-")
            text = "".join(json.dumps(draft, ensure_ascii=False) + "\n" for draft in drafts)
            (folder / f"{number:02d}-{name}.jsonl").write_text(text, encoding="utf-8", errors="replace")
        (work.path / "card.html").write_text(page(card), encoding="utf-8", errors="replace")


def judged(sentences: Values, row: int) -> list[dict[str, str]]:
    """A draft's sentences as they are scored: so many supported ones, then the others. sentences: (n, 2) supported and all."""
    good, every = (int(count) for count in sentences[row])
    return [{"status": "supported"}] * good + [{"status": "uncertain"}] * (every - good)


def page(card: Card) -> str:
    """The card as one self-contained HTML page."""
    name = escape(card.systems[0])
    tables = "".join(_table(card, title, rows, open_=number == 0) for number, (title, rows) in enumerate(card.blocks.items()))
    notes = "".join(f"<p class='soft'>{escape(text)}</p>" for text in card.notes)
    plots = "<p class='soft'>No probabilities, so no curves.</p>" if card.curves is None else _plots(card.curves, card.f1)
    return (
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; "
        f"style-src 'unsafe-inline'; img-src data:\"><title>Evaluation: {name}</title><style>{_STYLE}</style></head><body>"
        f"<h1>Evaluation of {name}</h1><p class='soft'>Bundle: {escape(card.bundle)}. Studies: {escape(str(card.data.path))}, {card.split}.</p>"
        f"<p class='note'>{escape(DISCLAIMER)}</p>{tables}{notes}{plots}{_examples(card)}</body></html>\n"
    )


def _table(card: Card, title: str, rows: Rows, open_: bool) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in card.columns.values())
    body = "".join(
        f"<tr><td>{escape(name)}</td>" + "".join(f"<td>{_cell(percent(row.get(column)))}</td>" for column in card.columns) + "</tr>"
        for name, row in rows.items()
    )
    return (
        f"<details{' open' if open_ else ''}><summary>{escape(title)}</summary><div class='scroll'><table><thead><tr><th>system</th>{head}</tr>"
        f"</thead><tbody>{body}</tbody></table></div></details>"
    )


def _cell(text: str) -> str:
    value, _, interval = text.partition(" ")
    return f"{value}<small>{interval}</small>" if interval else value


def _plots(curves: Curves, f1: Values) -> str:
    """ROC of the classes, reliability over all findings, loss over coverage."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "regen"
    import matplotlib.pyplot as plt

    first, one = plt.subplots(figsize=(4.2, 4))
    for name, (scores, truth) in curves.ranked.items():
        if 0 < truth.sum() < len(truth):
            one.plot(*roc(scores, truth), label=f"{name}, {truth.sum()} of {len(truth)}")
    one.plot([0, 1], [0, 1], ":", color="grey")
    one.set(xlabel="1 - specificity", ylabel="sensitivity", title="ROC")
    if one.get_legend_handles_labels()[0]:
        one.legend(fontsize=7)
    second, two = plt.subplots(figsize=(4.2, 4))
    mean, share, count = reliability(curves.probabilities, curves.truth)
    two.plot([0, 1], [0, 1], ":", color="grey")
    two.plot(mean, share, "o-")
    for x, y, n in zip(mean, share, count, strict=True):
        two.annotate(str(n), (x, y), fontsize=6, textcoords="offset points", xytext=(4, -8))
    two.set(xlabel="predicted probability", ylabel="share that is true", title="Reliability, all findings")
    third, three = plt.subplots(figsize=(4.2, 4))
    three.plot(*risk_coverage(curves.confidence, 1 - f1))
    three.set(xlabel="coverage, most confident first", ylabel="1 - F1 of the study", title="Risk over coverage", ylim=(0, None))
    return f"<div class='plots'>{''.join(_svg(figure, plt) for figure in (first, second, third))}</div>"


def _svg(figure: Any, plt: Any) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return out.getvalue()[out.getvalue().index("<svg") :]


def _examples(card: Card) -> str:
    """The best, the worst, and some at random (the table's seed), each once."""
    order = np.argsort(-card.f1, kind="stable")
    left = order[EXAMPLES : max(len(order) - EXAMPLES, EXAMPLES)]
    drawn = np.random.default_rng(card.metrics["seed"]).permutation(left)[:EXAMPLES]
    kinds = {"Best": order[:EXAMPLES], "Worst": order[::-1][: max(min(EXAMPLES, len(order) - EXAMPLES), 0)], "Drawn at random": drawn}
    out = ""
    for kind, rows in kinds.items():
        studies = {study.study_id: study for study in prepared_studies(card.data, card.rows[rows.tolist()])} if len(rows) else {}
        out += f"<h2>{kind}</h2>"
        for row in rows:
            study = studies[card.rows["study_id"][int(row)]]
            both = (("Report", card.references[row]), ("Draft", card.reports[row] or "(none)"))
            pair = "".join(f"<div><h3>{title}</h3><p>{escape(text)}</p></div>" for title, text in both)
            out += f"<article><h3>{escape(study.study_id)}, F1 {100 * card.f1[row]:.0f}</h3>{_shown(study)}<div class='pair'>{pair}</div></article>"
    return out


def _shown(study: Study) -> str:
    """The traces, or the stored images."""
    if study.ecg is not None:
        return ecg_svg(study.ecg)
    images = "".join(f"<img alt='{escape(view.view or 'chest X-ray')}' src='{_uri(view.pixels)}'>" for view in study.cxr)
    return f"<div class='views'>{images}</div>"


def _uri(pixels: npt.NDArray) -> str:
    file = io.BytesIO()
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
