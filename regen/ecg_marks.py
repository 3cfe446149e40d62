"""An ECG's map of a statement on the page: shades under the trace, and a grid of all leads and seconds beside the sentence.

    shade(heat, ("V1", 5.0, 7.5), 140, 30)     rectangles under one lead's window on the paper, strong where the map is high
    grid(heat)                                 <svg class="cells">: twelve rows, a column a second
    leads_of(heat)                             "V1, V2": the leads that hold half of the map

heat: (12, seconds) in [0, 1], NaN where nothing was recorded, as regen.encoders.ecg_map makes it. The paper shows 2.5 s of a lead, so the
grid is the whole of the map.
"""

from __future__ import annotations

import numpy as np

from regen.map_marks import TINT
from regen.study import LEADS, FloatArray

STYLE = """
.traced li.mapped{display:grid;grid-template-columns:minmax(0,1fr) auto;gap:0 1rem}.cells{grid-area:1/2/span 3;width:114px;height:90px;display:block}
.traced .key{background:linear-gradient(90deg,#fff6f4,#ff7a00)}
.traced .see{position:static}.traced .mapped .why{padding-right:0}
"""
_COLOUR = f"rgb{TINT}".replace(" ", "")
_OPAQUE, _LEAST = 0.75, 0.05
"""Opacity of a map's highest cell; below the second a cell is not drawn."""
_ABOVE, _TALL = 12, 19
"""Millimetres that a shade reaches above the baseline, and its height."""


def shade(heat: FloatArray, cell: tuple[str, float, float], x: float, y: int, mm_per_s: float) -> str:
    """cell: lead, first and last second shown; x, y: where that window begins, and its baseline, millimetres."""
    lead, begin, end = cell
    out = []
    for second, value in enumerate(heat[LEADS.index(lead)].tolist()):
        left, right = max(begin, second), min(end, second + 1)
        if left < right and value >= _LEAST:
            place = f'x="{x + (left - begin) * mm_per_s:g}" y="{y - _ABOVE}" width="{(right - left) * mm_per_s:g}" height="{_TALL}"'
            out.append(f'<rect {place} fill-opacity="{_OPAQUE * value:.2f}"/>')
    return "".join(out)


def layer(place: int, shades: str) -> str:
    """The shades of sentence `place`, as regen.map_marks shows and hides them."""
    return f'<g class="heat m{place}" fill="{_COLOUR}">{shades}</g>' if shades else ""


def grid(heat: FloatArray) -> str:
    """Every lead and second; a cell without a recording is crossed out."""
    rows, columns = heat.shape
    cells = []
    for (row, column), value in np.ndenumerate(heat):
        if np.isnan(value):
            cells.append(f'<path d="M{column} {row}l1 1" stroke="currentColor" stroke-width=".1"/>')
        elif value >= _LEAST:
            cells.append(f'<rect x="{column}" y="{row}" width="1" height="1" fill="{_COLOUR}" fill-opacity="{_OPAQUE * value:.2f}"/>')
    names = "".join(f'<text x="-.3" y="{i + 0.85}" font-size="1" text-anchor="end" fill="currentColor">{name}</text>' for i, name in enumerate(LEADS))
    return (
        f'<svg class="cells" role="img" aria-label="Moved most by {leads_of(heat)}; leads by seconds" viewBox="-3 -.2 {columns + 3.2} {rows + 0.4}">'
        f'{names}<rect width="{columns}" height="{rows}" fill="none" stroke="currentColor" stroke-width=".05"/>{"".join(cells)}</svg>'
    )


def leads_of(heat: FloatArray) -> str:
    """The fewest leads that hold half of a map together, the strongest first."""
    share = np.nansum(heat, axis=1)
    order = np.argsort(-share, kind="stable")
    count = int(np.searchsorted(np.cumsum(share[order]), share.sum() / 2)) + 1
    return ", ".join(LEADS[i] for i in order[:count])
