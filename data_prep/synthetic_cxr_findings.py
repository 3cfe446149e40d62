"""What is wrong in a chest, and what was put into it, drawn upon the film of regen.data_prep.synthetic_cxr.

    draw_lungs(film, vessels, thorax, rng)      oedema, consolidation, nodule, atelectasis, pneumothorax: what happens to lung and vessels
    draw_pleura(film, thorax)                   effusion
    draw_devices(film, thorax)                  pacemaker, wires, tube, line

All three add to the film in place. Places come from the chest and the patient's borders; only texture comes from rng.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import gaussian_filter

from regen.data_prep.synthetic_chest import GRADES, Chest, side_of
from regen.data_prep.synthetic_cxr_anatomy import stroke
from regen.data_prep.synthetic_cxr_layout import APEX, DOME, DROP, FLAT, MM, Grid, Thorax, enlarge, half_width

CENTRES = {
    "right upper lobe": (-0.58, -0.36), "right middle lobe": (-0.46, 0.16), "right lower lobe": (-0.66, 0.24),
    "left upper lobe": (0.50, -0.28), "lingula": (0.70, 0.07), "left lower lobe": (0.72, 0.29),
}  # fmt: skip
"""Lobe -> where it is seen: x as a share of the chest's half width, y."""
_FLUID = {"small": (-0.15, 0.25), "moderate": (-0.40, 0.22), "large": (-0.75, 0.20)}
"""Size -> top of the fluid at the wall, from the costophrenic angle, and how much lower it is at the midline."""


def centre(t: Thorax, lobe: str) -> tuple[float, float]:
    """(x, y) of a lobe's middle in this image: lower ones go with the diaphragm, and those beside the heart give way to it."""
    share, y = CENTRES[lobe]
    x = abs(share) * t.width
    if "upper" not in lobe:
        border = (0.345 if share < 0 else 0.655) * 2 * t.chest.ratio * t.width
        x = min(max(x, border + 0.06), 0.84 * t.width)
    return (x if share > 0 else -x), y + (t.dome - DOME) * min(max((y + 0.4) / 0.6, 0), 1)


def draw_lungs(film: Grid, vessels: Grid, t: Thorax, rng: np.random.Generator) -> None:
    """What fills, darkens or collapses the lung, and the vessels where it is aerated."""
    chest = t.chest
    cloud = _clouds(film.shape[0], rng)
    grade = GRADES.index(chest.edema) + 1 if chest.edema else 0
    gain = t.lungs * (1 + 0.22 * grade * t.soft(-0.05 - t.y, 0.1)) + 0.25 * t.heart
    if grade:
        _edema(film, t, grade, cloud, rng)
    for lobe in chest.consolidations:
        _consolidation(film, t, lobe, cloud)
    if chest.nodule:
        lobe, mm = chest.nodule
        x, y = centre(t, lobe)
        radius = mm / 2 / MM
        ball = np.clip(1 - ((t.x - x) ** 2 + (t.y - y) ** 2) / radius**2, 0, 1)
        film += (0.13 + 0.08 * min(mm / 30, 1.5)) * np.sqrt(ball) * t.hemi
    for side in chest.atelectasis:
        sign = 1 if side == "left" else -1
        start = max(0.42 * t.width, 0.08 + (0.62 if side == "left" else 0.34) * chest.ratio * 2 * t.width)
        band = [(sign * start, t.dome - 0.085), (sign * (0.5 * start + 0.44 * t.width), t.dome - 0.06), (sign * 0.92 * t.width, t.dome - 0.045)]
        if side in chest.effusions:
            band = [(px, py - 0.06) for px, py in band]
        stroke(film, t, band, 0.016, 0.15)
    if chest.pneumothorax:
        gain = _pneumothorax(film, gain, t, *chest.pneumothorax)
    film += vessels * gain


def _clouds(size: int, rng: np.random.Generator) -> Grid:
    """Smooth noise, mean 0, deviation about 1."""
    coarse = gaussian_filter(rng.standard_normal((24, 24), np.float32), 0.8)
    return enlarge(coarse / coarse.std(), size)


def _edema(film: Grid, t: Thorax, grade: int, cloud: Grid, rng: np.random.Generator) -> None:
    """Haze around both hila, then Kerley's lines at the bases, then bat-wing clouds."""
    d = ((t.out - 0.28 - 0.03 * grade) / 0.26) ** 2 + ((t.y - 0.02) / 0.36) ** 2
    wings = np.exp(-np.minimum(d, 10)) * t.lungs
    film += (0.0, 0.05, 0.085, 0.20)[grade] * wings * np.clip(1 + (0.1 + 0.1 * grade) * cloud, 0, 1.5)
    net = enlarge(rng.standard_normal((96, 96), np.float32), film.shape[0])
    film += (0.012 + 0.003 * grade) * net * t.lungs
    for side in (-1, 1):
        for y in np.arange(0.12, 0.46, 0.042).tolist():
            wall = t.width - 0.015
            stroke(film, t, [(side * wall, y), (side * (wall - rng.uniform(0.06, 0.10)), y + 0.004)], 0.004, 0.055 + 0.02 * grade)


def _consolidation(film: Grid, t: Thorax, lobe: str, cloud: Grid) -> None:
    """A fuzzy patch within its lobe: above the minor fissure, against the heart's border, or upon the diaphragm."""
    x, y = centre(t, lobe)
    wide, tall = {"right upper lobe": (0.27, 0.22), "right middle lobe": (0.24, 0.17), "lingula": (0.20, 0.17)}.get(lobe, (0.25, 0.20))
    d = ((t.x - x) / wide) ** 2 + ((t.y - y) / tall) ** 2
    patch = np.clip(1.35 - d + 0.16 * cloud, 0, 1) * t.side(side_of(lobe))
    if lobe == "right upper lobe":
        patch = patch * t.soft(-0.14 - t.y, 0.012)
    if lobe == "right middle lobe":
        patch = patch * t.soft(t.y + 0.05, 0.012)
    film += (0.19 + 0.025 * cloud) * patch * (t.lungs + 0.35 * t.hemi * t.heart)


def _pneumothorax(film: Grid, gain: Grid, t: Thorax, side: str, mm: int) -> Grid:
    """Air between wall and lung: black, without vessels, bounded by the pleura's line. Returns the vessels' gain without it."""
    apart = mm / MM
    pleura = half_width(t.y, t.width - 0.55 * apart, APEX + 1.0 * apart)
    depth = np.minimum(pleura - t.out, 0.75 * (t.y - (APEX + 1.0 * apart)))
    here = t.lungs * t.side(side)
    air = here * t.soft(-depth)
    film -= 0.075 * air
    film += 0.10 * here * np.clip(1.3 - np.abs(depth) / 0.008, 0, 1)
    film += 0.25 * min(apart, 0.25) * here * (1 - air)
    return gain * (1 - air)


def draw_pleura(film: Grid, t: Thorax) -> None:
    """Fluid fills from the costophrenic angle; its surface climbs along the wall."""
    for side, size in t.chest.effusions.items():
        rise, sag = _FLUID[size]
        angle = t.dome + DROP * (FLAT if t.chest.hyperinflation else 1.0)
        surface = angle + rise + sag * (1 - np.minimum(t.out / t.wall, 1) ** 4)
        film += t.soft(t.y - surface, 0.02) * (t.air + t.hemi * (0.10 - 0.04 * t.heart)) * t.side(side)


def draw_devices(film: Grid, t: Thorax) -> None:
    """Metal and plastic, brighter than bone."""
    chest, m = t.chest, t.shift
    if chest.pacemaker:
        _pacemaker(film, t, chest)
    if chest.wires:
        for i, y in enumerate(np.linspace(-0.36, 0.22, 6).tolist()):
            tilt = 0.012 * (-1) ** i
            ring = [(m + 0.032 * math.cos(a), y + 0.016 * math.sin(a) + tilt * math.cos(a)) for a in np.linspace(0, 2 * np.pi, 9).tolist()]
            stroke(film, t, ring, 0.0045, 0.30)
    if chest.tube is not None:
        tip = -0.28 - chest.tube / MM
        for offset in (-0.018, 0.018):
            stroke(film, t, [(m - 0.012 + offset, -1.1), (m - 0.012 + offset, tip)], 0.004, 0.22)
        stroke(film, t, [(m - 0.020, -1.1), (m - 0.020, tip)], 0.003, 0.25)
    if chest.line:
        stroke(film, t, [(m - 0.24, -1.1), (m - 0.19, -0.80), (m - 0.13, -0.55), (m - 0.115, -0.30), (m - 0.12, -0.08)], 0.006, 0.24)


def _pacemaker(film: Grid, t: Thorax, chest: Chest) -> None:
    """Box below the left clavicle; one lead to the right ventricle's apex, the other curls up in the right atrium."""
    x, y, m = 0.60, -0.40, t.shift
    box = np.maximum(np.abs(t.x - x) / 0.105, np.abs(t.y - y) / 0.09)
    corner = np.sqrt(((t.x - x) / 0.105) ** 2 + ((t.y - y) / 0.09) ** 2)
    film += 0.42 * t.soft(1.0 - np.maximum(box, corner - 0.22), 0.08)
    film += 0.12 * t.soft(1.0 - box, 0.08) * t.soft(y - 0.03 - t.y)
    way = [(x - 0.06, y - 0.09), (x - 0.12, -0.54), (0.26, -0.53), (0.08 + m, -0.49), (m - 0.06, -0.42), (m - 0.11, -0.26)]
    low = 0.5 * (t.dome - DOME)
    tip = (m + 0.36 * chest.ratio * t.width * 1.6, 0.34 + low)
    stroke(film, t, [*way, (m - 0.14, 0.0), (m - 0.10, 0.20), (m + 0.04, 0.32 + low), tip], 0.0065, 0.30)
    stroke(film, t, [(tip[0] - 0.02, tip[1]), tip], 0.012, 0.25)
    if chest.pacemaker == 2:
        second = [(px + 0.018, py + 0.02) for px, py in way]
        end = (m - 0.03, 0.03)
        stroke(film, t, [*second, (m - 0.155, 0.0), (m - 0.16, 0.12), (m - 0.10, 0.14), end], 0.0065, 0.30)
        stroke(film, t, [(end[0] - 0.01, end[1] + 0.02), end], 0.012, 0.25)
