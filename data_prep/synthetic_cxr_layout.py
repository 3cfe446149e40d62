"""Where things are in a made-up chest: a patient's build, how the image was taken, and the borders that follow from both.

    thorax = lay_out(chest, draw_build(patient, patient_rng), draw_pose(chest.view, rng), 256)
    thorax.lungs            (256, 256) soft mask of both lungs;  thorax.heart, thorax.floor (diaphragm), thorax.wall: the borders

Coordinates: x from -1 to 1 to the image's right, which is the patient's left; y from -1 to 1 downwards; one unit is MM millimetres.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from regen.data_prep.synthetic_chest import Chest
from regen.data_prep.synthetic_patient import Patient

MM = 190.0
"""Millimetres in one unit: the image is 380 mm wide."""
APEX, DOME, DROP, FLAT = -0.74, 0.36, 0.25, 0.42
"""y of the lung's apex and of the diaphragm's dome; how much deeper the costophrenic angle lies, and its share in hyperinflation."""
Point = tuple[float, float]
Grid = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Build:
    """A patient's own anatomy, the same at every visit. Lengths in units; breast and fat are attenuation; vessels: seed of their tree."""

    width: float = 0.74
    dome: float = 0.0
    slope: float = 0.20
    knob: float = 0.05
    apex: float = 0.30
    clavicle: float = -0.50
    breast: float = 0.0
    fat: float = 0.0
    vessels: int = 0


@dataclass(frozen=True, slots=True)
class Pose:
    """How this image was taken: shift and scale of the body, lean (shear), film latitude and noise."""

    shift: Point = (0.0, 0.0)
    scale: float = 1.0
    lean: float = 0.0
    gain: float = 1.0
    gamma: float = 1.0
    noise: float = 0.012


@dataclass(slots=True)
class Thorax:
    """Grids (n, n), columns (n, 1). left: the patient's left. out: distance from the midline; across: out as a share of the wall's."""

    chest: Chest
    x: Grid
    y: Grid
    left: npt.NDArray[np.bool_]
    out: Grid
    across: Grid
    wall: Grid
    floor: Grid
    """y of the diaphragm."""
    heart: Grid
    """Soft mask of heart and mediastinum."""
    hemi: Grid
    """Soft mask of both hemithoraces, before the heart is taken out."""
    lungs: Grid
    air: Grid
    """What the lungs' air takes from the attenuation of soft tissue."""
    width: float
    shift: float
    """x of the mediastinum: a turned patient's is off the midline."""
    dome: float
    """y of the diaphragm's domes, between right and left."""
    blur: float
    """Half the width of a soft edge: a pixel."""

    def side(self, name: str) -> npt.NDArray[np.bool_]:
        return self.left if name == "left" else ~self.left

    def soft(self, distance: Grid, width: float = 0.0) -> Grid:
        """0 outside, 1 inside, a ramp of the width around distance 0."""
        return within(0.5 + distance * (0.5 / max(width, self.blur)))


def draw_build(patient: Patient, rng: np.random.Generator) -> Build:
    """rng: the patient's own generator, the same at every visit. Men are wider; the aortic knob grows with age."""
    breast = rng.uniform(0.035, 0.085)
    return Build(
        width=0.74 + 0.02 * (patient.sex == "male") + rng.normal(0, 0.018),
        dome=rng.normal(0, 0.025),
        slope=rng.normal(0.20, 0.03),
        knob=0.02 + 0.0009 * patient.age + rng.normal(0, 0.008),
        apex=rng.normal(0.30, 0.02),
        clavicle=rng.normal(-0.50, 0.02),
        breast=breast if patient.sex == "female" else 0.0,
        fat=rng.normal(0, 0.02),
        vessels=int(rng.integers(2**31)),
    )


def draw_pose(view: str, rng: np.random.Generator) -> Pose:
    """AP views are closer, less straight and noisier."""
    loose = 1.6 if view == "AP" else 1.0
    x, y, lean, scale = (rng.normal(0, 1, 4) * loose).tolist()
    return Pose(
        shift=(0.012 * x, 0.015 * y), scale=(1.05 if view == "AP" else 1.0) + 0.012 * scale, lean=0.012 * lean,
        gain=rng.normal(1.0, 0.05), gamma=float(np.exp(rng.normal(0, 0.10))), noise=rng.uniform(0.008, 0.014) * loose,
    )  # fmt: skip


def half_width(y: Grid, width: float, apex: float = APEX) -> Grid:
    """Inner chest wall's distance from the midline at height y: a dome that is widest at y = 0.45 and stays so below."""
    share = np.clip((y - apex) / (0.45 - apex), 0, 1)
    return 0.24 + (width - 0.24) * np.sqrt(1 - (1 - share) ** 2.5)


def lay_out(chest: Chest, build: Build, pose: Pose, size: int) -> Thorax:
    """Grids and borders of one image: the heart by its ratio, the diaphragm by inspiration, the mediastinum by rotation."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    y = ((axis - pose.shift[1]) / pose.scale)[:, None]
    x = (axis[None, :] - pose.shift[0]) / pose.scale + pose.lean * y
    left, out = x > 0, np.abs(x)
    wall = half_width(y, build.width)
    across = np.minimum(out / build.width, 1.3)
    drop = 0.05 * (chest.ribs - 9) + 0.04 * chest.hyperinflation
    dome = DOME + build.dome + drop
    lateral, medial = np.clip((across - 0.5) / 0.5, 0, 1.2), np.clip((0.5 - across) / 0.5, 0, 1)
    deep = DROP * (FLAT if chest.hyperinflation else 1.0)
    floor = dome + 0.025 * np.sign(x) + deep * lateral**2.1 + 0.04 * medial**2
    turn = {"left": 0.05, "right": -0.05, None: 0.0}[chest.rotation]
    thorax = Thorax(
        chest, x, y, left, out, across, wall, floor, x, x, x, x, build.width, turn, dome, 2.0 / size,
    )  # fmt: skip
    right_border, left_border = _borders(chest, build, y[:, 0], turn, drop)
    thorax.heart = thorax.soft(x - right_border[:, None], 0.014) * thorax.soft(left_border[:, None] - x, 0.014)
    medial_edge = 0.10 + 0.10 * np.clip(1 - (y - APEX) / 0.16, 0, 1) ** 2
    thorax.hemi = thorax.soft(wall - out) * thorax.soft(floor - y, 0.01) * thorax.soft(out - medial_edge, 0.02) * thorax.soft(y - APEX, 0.02)
    thorax.lungs = thorax.hemi * (1 - thorax.heart)
    thorax.air = (0.27 + 0.5 * build.fat) * thorax.lungs * (1 - 0.35 * np.minimum(across, 1) ** 8)
    return thorax


def _borders(chest: Chest, build: Build, y: Grid, turn: float, drop: float) -> tuple[Grid, Grid]:
    """x of the right and the left border of mediastinum and heart at each y; their widest sum is ratio x inner chest width."""
    diameter = chest.ratio * 2 * build.width
    to_left, to_right = 0.655 * diameter, 0.345 * diameter
    knob, apex = 0.13 + build.knob, build.apex
    bulge = 0.2 + 0.45 * (to_left - 0.2)
    lower = y - drop * np.clip((y + 0.3) / 0.5, 0, 1)
    left = np.interp(
        lower,
        [-1, -0.62, -0.46, -0.39, -0.33, -0.25, -0.16, -0.05, 0.5 * apex, apex - 0.08, apex + 0.04, apex + 0.14, apex + 0.24, apex + 0.32],
        [0.08, 0.10, 0.12, knob, knob, 0.125, 0.165, bulge, 0.80 * to_left + 0.02, to_left, to_left, 0.93 * to_left, 0.7 * to_left, 0.15],
    )
    right = np.interp(
        lower,
        [-1, -0.6, -0.3, -0.10, 0.0, 0.13, 0.26, 0.36, 0.5, 0.62],
        [0.08, 0.11, 0.13, 0.14, 0.15 + 0.45 * (to_right - 0.15), to_right, to_right, 0.9 * to_right, 0.6 * to_right, 0.1],
    )
    step = 0.03 * len(y) / 2
    turned = turn * np.clip((y + 1) / 0.5, 0, 1)
    edges = gaussian_filter1d(np.stack([-right, left]), step, axis=1, mode="nearest").astype(np.float32)
    return turned + edges[0], turned + edges[1]


def within(values: Grid) -> Grid:
    """Clipped to [0, 1] in place; np.clip costs more than the clipping where arrays are small."""
    np.maximum(values, 0, out=values)
    return np.minimum(values, 1, out=values)


def enlarge(small: Grid, size: int) -> Grid:
    """(k, k) -> (size, size), bilinear."""
    weights = _weights(small.shape[0], size)
    return weights @ small @ weights.T


@cache
def _weights(small: int, size: int) -> Grid:
    at = np.linspace(0, small - 1, size)[:, None]
    return np.clip(1 - np.abs(at - np.arange(small)), 0, 1).astype(np.float32)
