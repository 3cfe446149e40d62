"""A healthy chest as attenuation: soft tissue, bones, airways, and the lungs' vessels as a layer of their own.

film = draw_anatomy(thorax, build)          (256, 256): 0 air, about 0.15 lung, 0.4 soft tissue, 0.6 heart
vessels = draw_vessels(thorax, build)       (256, 256), to be added where the lung is aerated
stroke(film, thorax, [(0.1, -0.5), (0.8, -0.6)], half=0.02, value=0.1)
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from regen.data_prep.synthetic_cxr_layout import Build, Grid, Point, Thorax, within


def draw_anatomy(t: Thorax, build: Build) -> Grid:
    """Soft tissue, bones and airways, without the lungs' vessels. (n, n) attenuation."""
    x, y = t.x, t.y
    outline = np.interp(y[:, 0], [-1.3, -0.97, -0.86, -0.76, -0.62, -0.45, 0.1, 1.3], [0.24, 0.27, 0.48, 0.80, 1.0, 1.02, 0.90, 0.94])
    body = t.soft(outline.astype(np.float32)[:, None] + build.fat - t.out, 0.02)
    film = body * (0.40 + 1.2 * build.fat + 0.10 * t.soft(y - t.floor, 0.03) - 0.10 * np.clip((t.out - t.width) / 0.25, 0, 1))
    film -= t.air
    chord = np.clip(1 - ((x - t.shift - 0.08) / 0.75) ** 2, 0, 1)
    film += 0.13 * chord * t.heart * t.soft(t.floor + 0.1 - y, 0.1)
    _spine(film, t)
    _airways(film, t)
    film += _ribs(t, build) * body
    _shoulders(film, t, build)
    if build.breast:
        for sign in (-1, 1):
            d = ((x - sign * 0.42) / 0.33) ** 2 + ((y - 0.33) / 0.27) ** 2
            film += build.breast * np.clip(1.15 - d, 0, 1) ** 0.6 * np.clip((y - 0.02) / 0.35, 0, 1)
    bubble = np.clip(1.2 - ((x - 0.36) / 0.15) ** 2 - ((y - t.dome - 0.17) / 0.085) ** 2, 0, 0.5)
    film -= 0.26 * bubble
    return film


def _spine(film: Grid, t: Thorax) -> None:
    column = t.soft(0.085 - np.abs(t.x), 0.02)
    discs = 0.5 + 0.5 * np.cos(2 * np.pi * (t.y + 0.03) / 0.125)
    film += column * (0.075 - 0.03 * discs**6)
    film += 0.03 * t.soft(0.014 - np.abs(t.x), 0.012) * discs**2


def _airways(film: Grid, t: Thorax) -> None:
    """Trachea to the carina at y = -0.28, then the main bronchi; the right one is steeper."""
    centre = t.shift * np.clip((t.y + 1) / 0.6, 0, 1) - 0.012
    film -= 0.085 * t.soft(0.045 - np.abs(t.x - centre), 0.012) * t.soft(-0.27 - t.y, 0.02)
    carina = t.shift - 0.012
    stroke(film, t, [(carina, -0.28), (carina - 0.13, -0.13)], 0.028, -0.08)
    stroke(film, t, [(carina, -0.28), (carina + 0.16, -0.15)], 0.025, -0.07)


def _ribs(t: Thorax, build: Build) -> Grid:
    """All ribs at once: the distance to the nearest of a family of parallel curves. Behind 1 to 11, in front 1 to 7, fainter.

    Their spacing is such that as many as the chest says are above the dome, half way to the wall.
    """
    spacing = (t.dome + 0.775) / (t.chest.ribs - 0.4)
    share = np.clip(t.out / (t.wall + 0.03), 0, 1.1)
    inside = t.soft(t.wall + 0.035 - t.out, 0.012)
    low = t.soft(t.floor + 0.03 - t.y, 0.10)
    number = (t.y - (-0.76 - 0.05 * np.sin(np.pi * share) + build.slope * share**2.5)) / spacing + 1
    gap: Grid | float = 1.0
    if t.chest.fracture:
        side, rib = t.chest.fracture
        broken = t.side(side) & (np.abs(number - rib) < 0.5)
        number = np.where(broken & (share > 0.76), number + 0.42, number)
        gap = 1 - broken * t.soft(0.020 - np.abs(share - 0.76))
    behind = np.where((number > 0.5) & (number < 11.5) & (t.out > 0.07), _band(number, 0.20), 0) * inside * low * gap
    forward = (t.y - (-0.66 + 0.36 * (1 - share) + 0.12 * share**4)) / (1.12 * spacing) + 1
    before = np.where((forward > 0.5) & (forward < 7.5), _band(forward, 0.27), 0) * inside * np.clip((share - 0.38) / 0.12, 0, 1)
    return 0.085 * behind + 0.045 * before * low


def _band(number: Grid, half: float) -> Grid:
    """A band around each whole number, brighter at its cortex."""
    d = np.abs(number - np.rint(number)) / half
    return np.clip((1.15 - d) / 0.3, 0, 1) * (0.65 + 0.5 * np.clip(d, 0, 1) ** 4)


def _shoulders(film: Grid, t: Thorax, build: Build) -> None:
    """Clavicles, scapulae, upper arms. In an AP view the scapulae lie over the lungs and the clavicles are higher and flatter."""
    ap = t.chest.view == "AP"
    for sign in (-1, 1):
        head, rise = build.clavicle - 0.05 * ap, 0.15 - 0.04 * ap
        clavicle = [(sign * 0.09 + 0.7 * t.shift, head), (sign * 0.30, head - 0.045), (sign * 0.55, head - rise), (sign * 0.82, head - rise - 0.05)]
        stroke(film, t, clavicle, 0.026, 0.13)
        stroke(film, t, [(px, py - 0.02) for px, py in clavicle], 0.006, 0.05)
        inner = 0.56 if ap else 0.80
        blade = [(sign * inner, -0.52), (sign * (inner + 0.05), -0.25), (sign * (inner + 0.13), 0.02)]
        stroke(film, t, blade, 0.012, 0.05 if ap else 0.08)
        stroke(film, t, [blade[-1], (sign * (inner + 0.20), -0.25), (sign * (inner + 0.24), -0.50)], 0.012, 0.06)
        stroke(film, t, [(sign * inner, -0.52), (sign * (inner + 0.26), -0.64)], 0.014, 0.05)
        stroke(film, t, [(sign * 0.93, -0.60), (sign * 1.0, -0.40), (sign * 1.06, 0.0)], 0.075, 0.10)


def draw_vessels(t: Thorax, build: Build) -> Grid:
    """Hila and a tree of vessels in each lung, the same at every visit. (n, n) attenuation."""
    rng = np.random.default_rng(build.vessels)
    layer = np.zeros(t.x.shape, np.float32)
    for sign, height in ((-1, -0.07), (1, -0.11)):
        for dx, dy, radius in ((0.0, 0.0, 0.075), (0.03, 0.10, 0.06), (0.03, -0.07, 0.05)):
            middle = 0.205 + dx
            d = ((t.x - t.shift - sign * middle) ** 2 + (t.y - height - dy) ** 2) / radius**2
            np.maximum(layer, 0.115 * np.exp(-np.minimum(d, 12)), out=layer)
        for angle in (np.linspace(-1.3, 1.3, 9) + rng.normal(0, 0.08, 9)).tolist():
            root = sign * rng.uniform(0.17, 0.21) + t.shift, height + 0.07 * angle + rng.normal(0, 0.012)
            _branch(layer, t, root, angle, sign, 0.0125 if angle > 0 else 0.0095, rng)
    return layer


def _branch(layer: Grid, t: Thorax, start: Point, angle: float, sign: int, half: float, rng: np.random.Generator) -> None:
    """A vessel that bends, thins and forks twice on its way out. angle: from the horizontal, positive to the feet."""
    points = [start]
    length = rng.uniform(0.10, 0.13)
    for bend in rng.normal(0, 0.22, 4).tolist():
        angle += bend
        points.append(_step(points[-1], angle, length, sign))
    forks = [(points[i], _step(points[i], angle + turn, 1.5 * length, sign)) for i, turn in ((1, 0.7), (2, -0.6))]
    for way, width, value in ((points[:3], half, 0.060), (points[2:], 0.6 * half, 0.045), (forks[0], 0.5 * half, 0.04), (forks[1], 0.4 * half, 0.04)):
        part, mask = ribbon(t, list(way), width)
        layer[part] = np.maximum(layer[part], value * mask)


def _step(start: Point, angle: float, length: float, sign: int) -> Point:
    return start[0] + sign * length * math.cos(angle), start[1] + 1.15 * length * math.sin(angle)


def stroke(film: Grid, t: Thorax, points: list[Point], half: float, value: float) -> None:
    """Add a soft polyline. half: half its width in units; value: what it adds to the attenuation. Joints are not counted twice."""
    part, mask = ribbon(t, points, half)
    film[part] += value * mask


def ribbon(t: Thorax, points: list[Point], half: float) -> tuple[tuple[slice, slice], Grid]:
    """Soft mask of a polyline, and the rows and columns that it lies in."""
    xs, ys = zip(*points)
    soft = max(t.blur, 0.35 * half)
    reach = half + soft + 0.01
    rows = np.searchsorted(t.y[:, 0], [min(ys) - reach, max(ys) + reach])
    columns = np.searchsorted(t.x[len(t.y) // 2], [min(xs) - reach - 0.03, max(xs) + reach + 0.03])
    part = slice(*rows.tolist()), slice(*columns.tolist())
    x, y = t.x[part], t.y[part[0]]
    nearest = np.full(x.shape, 9.0, np.float32)
    for (ax, ay), (bx, by) in pairwise(points):
        dx, dy = bx - ax, by - ay
        share = 1 / (dx * dx + dy * dy + 1e-9)
        fromx, fromy = x - ax, y - ay
        along = within(fromx * (dx * share) + fromy * (dy * share))
        fromx -= dx * along
        across = fromy - dy * along
        np.minimum(nearest, fromx * fromx + across * across, out=nearest)
    return part, within((half + soft - np.sqrt(nearest)) * (0.5 / soft))
