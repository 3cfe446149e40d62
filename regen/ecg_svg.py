"""A 12-lead ECG on ECG paper, as inline SVG in millimetres: 25 mm/s, 10 mm/mV, three rows of four leads and a rhythm strip.

    ecg_svg(study.ecg)  ->  '<svg class="ecg" width="270mm" height="135mm" viewBox="0 0 270 135" ...>'

The signal keeps its own rate. Its wander is found at 100 Hz, where the cleaning of the whole pipeline runs, and taken away; nothing else
is filtered. Samples are drawn on a grid of 0.05 mm (2 ms, 5 microvolts), and those that lie on a straight line to within half of it are
left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from regen.data_prep.clean import remove_baseline, resample
from regen.ecg_marks import layer, shade
from regen.study import LEADS, Ecg, FloatArray

MM_PER_S, MM_PER_MV = 25.0, 10.0
GRID = 20
"""Drawing units a millimetre."""
SECONDS, COLUMN = 10.0, 2.5
"""Seconds of the rhythm strip and of each column."""
LAYOUT = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
RHYTHM = ("II", "V1", "V5")
"""The strip shows the first of these that was recorded."""
_LEFT, _WIDTH = 15, 270
"""Millimetres: the first sample's place (the calibration pulse is left of it), the paper."""
_NEAREST, _FARTHEST = 25, 40
"""Millimetres between two rows' baselines: as much as the traces need, within these."""
_REACH, _HIGHEST = 35, 22
"""A trace is cut so far from its baseline, and a name stands at most so far above it, mm."""
_RATE, _MARGIN = 100.0, 2.0
"""The wander is found at this rate (Hz), with so many seconds of quiet line at both ends: a recording may end within a QRS."""
_PAPER, _FINE, _COARSE, _INK, _QUIET = "#fff6f4", "#f7d5cf", "#eeaaa2", "#161616", "#6b3b36"

Array = npt.NDArray[np.float64]
Cell = tuple[str, float, float]
"""Lead, and the seconds of the recording that it shows: from, to."""


def ecg_svg(ecg: Ecg, maps: Mapping[int, FloatArray] | None = None) -> str:
    """Draw the first ten seconds. A recording too short for four consecutive columns shows its beginning in each.

    maps: number of a sentence -> (12, seconds) in [0, 1], drawn under the trace and seen as regen.map_marks says.
    """
    signal = level(ecg)
    seconds = signal.shape[1] / ecg.fs
    running = seconds > 3.4 * COLUMN
    rows = [[(lead, i * COLUMN * running, (i * running + 1) * COLUMN) for i, lead in enumerate(leads)] for leads in LAYOUT]
    rows.append([(_rhythm_lead(ecg), 0.0, SECONDS)])
    baselines, height = _rows_down(signal, ecg.fs, rows)
    places = [(cell, _LEFT + i * COLUMN * MM_PER_S, y) for row, y in zip(rows, baselines, strict=True) for i, cell in enumerate(row)]
    parts = [_paper(height), _legend(ecg, signal, running, height)]
    parts += [layer(number, "".join(shade(heat, *place, MM_PER_S) for place in places)) for number, heat in (maps or {}).items()]
    parts += [f'<path d="M5 {y}h2.5v-10h5v10h2.5" fill="none" stroke="{_INK}" stroke-width=".3"/>' for y in baselines]
    parts += [_name(signal, ecg.fs, *place) for place in places] + [_trace(signal, ecg.fs, *place) for place in places]
    missing = [lead for lead, there in zip(LEADS, ecg.present, strict=True) if not there]
    told = f"12-lead ECG, {seconds:.1f} seconds at 25 mm/s and 10 mm/mV" + (f"; not recorded: {', '.join(missing)}" if missing else "")
    return (
        f'<svg class="ecg" role="img" aria-label="{escape(told)}" width="{_WIDTH}mm" height="{height}mm" viewBox="0 0 {_WIDTH} {height}" '
        f'font-family="system-ui, sans-serif" fill="{_INK}">{"".join(parts)}</svg>'
    )


def level(ecg: Ecg) -> FloatArray:
    """The recording's first ten seconds at its own rate without its wander below 0.5 Hz. (12, time) mV, gaps stay NaN."""
    signal = ecg.signal[:, : round(SECONDS * ecg.fs)]
    slow = resample(signal, ecg.fs, _RATE)
    margin, second = round(_MARGIN * _RATE), round(_RATE)
    longer = np.concatenate([_quiet(slow[:, :second], margin), slow, _quiet(slow[:, -second:], margin)], axis=1)
    wander = (longer - remove_baseline(longer, _RATE))[:, margin:-margin]
    at, slow_at = np.arange(signal.shape[1]) / ecg.fs, np.arange(slow.shape[1]) / _RATE
    out = signal.copy()
    for lead, line in zip(out, wander, strict=True):
        good = np.isfinite(line)
        if good.any():
            lead -= np.interp(at, slow_at[good], line[good]).astype(np.float32)
    return out


def _quiet(part: FloatArray, samples: int) -> FloatArray:
    """Each lead's median as a flat line, (12, samples); NaN where it holds nothing."""
    medians = [np.median(lead[good]) if (good := np.isfinite(lead)).any() else np.nan for lead in part]
    return np.tile(np.array(medians, np.float32)[:, None], (1, samples))


def _rhythm_lead(ecg: Ecg) -> str:
    present = dict(zip(LEADS, ecg.present, strict=True))
    return next((lead for lead in (*RHYTHM, *LEADS) if present[lead]), RHYTHM[0])


def _cut(signal: FloatArray, fs: float, cell: Cell) -> FloatArray:
    lead, begin, end = cell
    return signal[LEADS.index(lead), round(begin * fs) : round(end * fs) + 1]


def _rows_down(signal: FloatArray, fs: float, rows: list[list[Cell]]) -> tuple[list[int], int]:
    """Baselines (mm from the top, on thick lines) so that neighbours in a column do not meet, and the paper's height."""
    reach = []
    for row in rows:
        cut = [_cut(signal, fs, cell) * MM_PER_MV for cell in row]
        up = [max(float(np.fmax.reduce(x, initial=0.0)), 8.0) + 4.5 for x in cut]
        down = [max(-float(np.fmin.reduce(x, initial=0.0)), 3.0) for x in cut]
        reach.append((up * (4 // len(row)), down * (4 // len(row))))
    baselines = [int(np.clip(_fives(max(reach[0][0])), 15, 30))]
    for (_, above), (below, _) in pairwise(reach):
        gap = max(a + b for a, b in zip(above, below, strict=True))
        baselines.append(baselines[-1] + int(np.clip(_fives(gap), _NEAREST, _FARTHEST)))
    return baselines, baselines[-1] + int(np.clip(_fives(max(reach[-1][1]) + 7), 15, 30))


def _fives(mm: float) -> int:
    return 5 * int(np.ceil(mm / 5))


def _paper(height: int) -> str:
    """One square a millimetre, every fifth line thick."""
    lines = {True: "", False: ""}
    for x in range(_WIDTH + 1):
        lines[x % 5 == 0] += f"M{x} 0v{height}"
    for y in range(height + 1):
        lines[y % 5 == 0] += f"M0 {y}h{_WIDTH}"
    return (
        f'<rect width="{_WIDTH}" height="{height}" fill="{_PAPER}"/>'
        f'<path d="{lines[False]}" stroke="{_FINE}" stroke-width=".1"/><path d="{lines[True]}" stroke="{_COARSE}" stroke-width=".15"/>'
    )


def _name(signal: FloatArray, fs: float, cell: Cell, x: float, y: int) -> str:
    """A lead's name above its first beats and beneath the ink, or that there is nothing to see."""
    lead, begin, end = cell
    if not np.isfinite(signal[LEADS.index(lead)]).any():
        width = (end - begin) * MM_PER_S
        return (
            f'<path d="M{x + 1:g} {y}h{width - 2:g}" stroke="{_QUIET}" stroke-width=".2" stroke-dasharray="1.5 1.5"/>'
            f'<text x="{x + width / 2:g}" y="{y - 2}" font-size="4" text-anchor="middle" fill="{_QUIET}">{lead} not recorded</text>'
        )
    beneath = _cut(signal, fs, cell)[: round((3 + 2.6 * len(lead)) / MM_PER_S * fs)]
    lift = min(max(8.0, float(np.fmax.reduce(beneath, initial=0.0)) * MM_PER_MV + 1.0), _HIGHEST)
    return (
        f'<path d="M{x:g} {y - lift + 0.5:.1f}v-4" stroke="{_QUIET}" stroke-width=".2"/>'
        f'<text x="{x + 1.2:g}" y="{y - lift:.1f}" font-size="4" font-weight="600">{lead}</text>'
    )


def _trace(signal: FloatArray, fs: float, cell: Cell, x: float, y: int) -> str:
    """One lead in a window of its own, which cuts what reaches too far; nothing where nothing was recorded."""
    path = path_data(_cut(signal, fs, cell), fs)
    if not path:
        return ""
    width, tall = (cell[2] - cell[1]) * MM_PER_S, 2 * _REACH
    return (
        f'<svg class="lead" x="{x:g}" y="{y - _REACH}" width="{width:g}" height="{tall}" '
        f'viewBox="0 {-_REACH * GRID} {width * GRID:g} {tall * GRID}" overflow="hidden">'
        f'<path d="{path}" fill="none" stroke="{_INK}" stroke-width="6" stroke-linecap="round" stroke-linejoin="round"/></svg>'
    )


def path_data(millivolts: FloatArray, fs: float) -> str:
    """SVG path of one lead in drawing units, baseline at 0, upwards negative; a gap lifts the pen. millivolts: (time,)."""
    x = np.arange(len(millivolts)) / fs * MM_PER_S * GRID
    y = -millivolts.astype(np.float64) * MM_PER_MV * GRID
    good = np.flatnonzero(np.isfinite(y))
    runs = np.split(good, np.flatnonzero(np.diff(good) > 1) + 1) if good.size else []
    parts = []
    for run in runs:
        kept = run[_corners(x[run], y[run])]
        points = np.rint(np.stack([x[kept], y[kept]], axis=1)).astype(int)
        steps = np.diff(points, axis=0)
        steps = steps[np.any(steps != 0, axis=1)]
        parts.append(f"M{points[0][0]} {points[0][1]}l" + " ".join(f"{dx} {dy}" for dx, dy in (steps if len(steps) else [(0, 0)])))
    return "".join(parts).replace(" -", "-")


def _corners(x: Array, y: Array, tolerance: float = 0.5) -> list[int]:
    """Samples whose polyline passes every other sample within the tolerance (vertically): a cone narrows until a sample leaves it."""
    xs, ys = x.tolist(), y.tolist()
    kept, anchor = [0], 0
    low, high = -np.inf, np.inf
    for i in range(1, len(xs)):
        run = xs[i] - xs[anchor]
        rise = ys[i] - ys[anchor]
        if not low <= rise / run <= high:
            anchor = i - 1
            kept.append(anchor)
            run, rise = xs[i] - xs[anchor], ys[i] - ys[anchor]
            low, high = -np.inf, np.inf
        low, high = max(low, (rise - tolerance) / run), min(high, (rise + tolerance) / run)
    if len(xs) > 1:
        kept.append(len(xs) - 1)
    return kept


def _legend(ecg: Ecg, signal: FloatArray, running: bool, height: int) -> str:
    seconds = signal.shape[1] / ecg.fs
    tallest = float(np.fmax.reduce(np.abs(signal), axis=None, initial=0.0)) * MM_PER_MV
    shown = f"first {seconds:.1f} s of {ecg.seconds:.1f} s" if ecg.seconds > seconds + 0.05 else f"{seconds:.1f} s"
    words = ["Filter: baseline below 0.5 Hz removed, no other applied here", f"{ecg.fs:g} Hz, {shown}"]
    words += [] if running else ["every column begins at 0 s"]
    words += [f"cut beyond ±{_REACH / MM_PER_MV:g} mV"] if tallest > _REACH else []
    return (
        f'<text x="5" y="{height - 2}" font-size="3.4" fill="{_QUIET}">'
        f'<tspan font-weight="600" fill="{_INK}">25 mm/s&#8195;10 mm/mV</tspan>&#8195;{"&#8195;".join(words)}</text>'
    )
