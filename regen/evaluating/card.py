"""The folder of an evaluation: what was scored, every number, and a page to read.

OUT/
  metrics.json     the table, one schema for every command of regen eval
  predictions/     one file of JSON lines a system: score them again with regen eval report OUT/predictions/*.jsonl
  card.md          the tables
  card.html        the tables, ROC, reliability and risk over coverage, and the best, the worst and some random drafts with their traces
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from regen.artifact import new_artifact
from regen.batch import prepared_studies
from regen.data_prep.prepared import Prepared
from regen.data_prep.statements import CODES, SUPERCLASSES
from regen.ecg_svg import ecg_svg
from regen.eval.curves import reliability, risk_coverage, roc
from regen.eval.predictions import Predictions, References
from regen.eval.report_table import COLUMNS, Block, Table
from regen.eval.set_metrics import study_f1, superclass_probabilities, superclasses
from regen.eval.table_views import heading, percent, remarks, to_markdown
from regen.generators.evidence import expected_f1
from regen.study import DISCLAIMER

EXAMPLES = 3
"""Drafts of each kind on the page."""
_STYLE = """
body{margin:0 auto;max-width:1180px;padding:1rem;font:15px/1.5 system-ui,sans-serif;color:#1b2530}table{border-collapse:collapse;font-size:12px}
td,th{padding:.25rem .5rem;border-bottom:1px solid #d8dee5;text-align:right;white-space:nowrap}td:first-child,th:first-child{text-align:left}
td small{display:block;color:#53606e}.scroll{overflow-x:auto}.note{border-left:4px solid #805200;background:#fff6e0;padding:.5rem .9rem}
.plots svg{max-width:32%;height:auto}.pair{display:grid;grid-template-columns:1fr 1fr;gap:1rem}article{border:1px solid #d8dee5;padding:1rem}
svg.ecg{width:100%;height:auto}h3{margin:.2rem 0}.soft{color:#53606e}
"""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A table and what it was made from: the prepared rows in order, their references, and every system's predictions, the first one first."""

    table: Table
    data: Prepared
    rows: pl.DataFrame
    references: References
    systems: list[Predictions]
    bundle: str
    split: str


def write_card(scored: Scored, out: Path, force: bool = False) -> None:
    """Write the folder, whole or not at all.

    Raises:
        ArtifactError: it exists and force is false, or holds what regen did not write.
    """
    config = {"systems": list(scored.table.systems), "seed": scored.table.seed, "bundle": scored.bundle, "split": scored.split}
    with new_artifact(out, "evaluation", config, {"data": scored.data.digest}, force) as work:
        (work.path / "metrics.json").write_text(
            json.dumps(scored.table.to_dict() | {"split": scored.split, "bundle": scored.bundle}, indent=1) + "\n", encoding="utf-8"
        )
        (work.path / "card.md").write_text(f"{DISCLAIMER}\n\n{to_markdown(scored.table)}", encoding="utf-8")
        folder = work.path / "predictions"
        folder.mkdir(exist_ok=True)
        for number, system in enumerate(scored.systems):
            name = re.sub(r"\W+", "-", system.name).strip("-")
            text = "".join(_line(system, scored.references, i) for i in range(len(scored.rows)))
            (folder / f"{number:02d}-{name}.jsonl").write_text(text, encoding="utf-8", errors="replace")
        (work.path / "card.html").write_text(page(scored), encoding="utf-8", errors="replace")


def _line(system: Predictions, references: References, row: int) -> str:
    draft: dict[str, Any] = {"study_id": references.study_ids[row], "system": system.name, "report": system.reports[row]}
    if system.probabilities is not None:
        said = system.declared if system.declared is not None else system.statements
        draft["findings"] = [
            {"code": code, "probability": round(float(p), 5), "positive": bool(yes)}
            for code, p, yes in zip(CODES, system.probabilities[row], said[row], strict=True)
        ]
    elif system.declared is not None:
        draft["declared"] = [CODES[column] for column in np.flatnonzero(system.declared[row])]
    if system.sentences is not None:
        supported, all_of_them = (int(count) for count in system.sentences[row])
        draft["sentences"] = [{"status": "supported"}] * supported + [{"status": "uncertain"}] * (all_of_them - supported)
    return json.dumps(draft, ensure_ascii=False) + "\n"


def page(scored: Scored) -> str:
    """The card as one self-contained HTML page."""
    first = scored.systems[0]
    tables = "".join(_table(block, open_=block.name == "all") for block in scored.table.blocks)
    notes = "".join(f"<p class='soft'>{escape(text)}</p>" for text in remarks(scored.table))
    return (
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; "
        f"style-src 'unsafe-inline'\"><title>Evaluation: {escape(first.name)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>Evaluation of {escape(first.name)}</h1><p class='soft'>Bundle: {escape(scored.bundle)}. "
        f"Studies: {escape(str(scored.data.path))}, {scored.split}.</p>"
        f"<p class='note'>{escape(DISCLAIMER)}</p>{tables}{notes}{_plots(first, scored.references)}{_examples(scored, first)}</body></html>\n"
    )


def _table(block: Block, open_: bool) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in COLUMNS.values())
    body = "".join(
        f"<tr><td>{escape(name)}</td>" + "".join(f"<td>{_cell(percent(row.get(column)))}</td>" for column in COLUMNS) + "</tr>"
        for name, row in block.rows.items()
    )
    title = escape(heading(block))
    return (
        f"<details{' open' if open_ else ''}><summary>{title}</summary><div class='scroll'><table><thead><tr><th>system</th>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div></details>"
    )


def _cell(text: str) -> str:
    value, _, interval = text.partition(" ")
    return f"{value}<small>{interval}</small>" if interval else value


def _plots(system: Predictions, references: References) -> str:
    """ROC of the superclasses, reliability over all statements, loss over coverage; nothing without probabilities."""
    if system.probabilities is None or not len(references):
        return "<p class='soft'>No probabilities, so no curves.</p>"
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "regen"
    import matplotlib.pyplot as plt

    truth = superclasses(references.statements)
    probabilities = superclass_probabilities(system.probabilities)
    first, one = plt.subplots(figsize=(4.2, 4))
    for column, name in enumerate(SUPERCLASSES):
        if 0 < truth[:, column].sum() < len(truth):
            one.plot(*roc(probabilities[:, column], truth[:, column]), label=f"{name}, {truth[:, column].sum()} of {len(truth)}")
    one.plot([0, 1], [0, 1], ":", color="grey")
    one.set(xlabel="1 - specificity", ylabel="sensitivity", title="ROC, superclasses")
    one.legend(fontsize=8)
    second, two = plt.subplots(figsize=(4.2, 4))
    mean, share, count = reliability(system.probabilities, references.statements)
    two.plot([0, 1], [0, 1], ":", color="grey")
    two.plot(mean, share, "o-")
    for x, y, n in zip(mean, share, count, strict=True):
        two.annotate(str(n), (x, y), fontsize=6, textcoords="offset points", xytext=(4, -8))
    two.set(xlabel="predicted probability", ylabel="share that is true", title="Reliability, all statements")
    third, three = plt.subplots(figsize=(4.2, 4))
    three.plot(*risk_coverage(expected_f1(system.statements, system.probabilities), 1 - study_f1(system.statements, references.statements)))
    three.set(xlabel="coverage, most confident first", ylabel="1 - F1 of the study", title="Risk over coverage", ylim=(0, None))
    return f"<div class='plots'>{''.join(_svg(figure, plt) for figure in (first, second, third))}</div>"


def _svg(figure: Any, plt: Any) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return out.getvalue()[out.getvalue().index("<svg") :]


def _examples(scored: Scored, system: Predictions) -> str:
    """The best, the worst, and some at random (the table's seed), each once."""
    f1 = study_f1(system.statements, scored.references.statements)
    order = np.argsort(-f1, kind="stable")
    left = order[EXAMPLES : max(len(order) - EXAMPLES, EXAMPLES)]
    drawn = np.random.default_rng(scored.table.seed).permutation(left)[:EXAMPLES]
    kinds = {"Best": order[:EXAMPLES], "Worst": order[::-1][: max(min(EXAMPLES, len(order) - EXAMPLES), 0)], "Drawn at random": drawn}
    out = ""
    for kind, rows in kinds.items():
        studies = list(prepared_studies(scored.data, scored.rows[rows.tolist()])) if len(rows) else []
        out += f"<h2>{kind}</h2>"
        for row, study in zip(rows, studies, strict=True):
            trace = ecg_svg(study.ecg) if study.ecg is not None else ""
            both = (("Report", scored.references.reports[row]), ("Draft", system.reports[row] or "(none)"))
            pair = "".join(f"<div><h3>{title}</h3><p>{escape(text)}</p></div>" for title, text in both)
            out += f"<article><h3>{escape(study.study_id)}, F1 {100 * f1[row]:.0f}</h3>{trace}<div class='pair'>{pair}</div></article>"
    return out
