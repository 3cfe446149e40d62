"""A frontal chest X-ray phantom that shows what a made-up chest has.

    draw_cxr(Chest(effusions={"left": "moderate"}), rng, size=256)      (256, 256) float32 in [0, 1], 0 = black = air

A sum of soft masks in units of attenuation, then exposure, blur and noise: a schematic, not a simulation of X-ray physics. As a film
hangs: the patient's left is the image's right, and nothing is ever flipped. Synthetic, for tests and demonstrations.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from regen.data_prep.synthetic_chest import Chest
from regen.data_prep.synthetic_cxr_anatomy import draw_anatomy, draw_vessels
from regen.data_prep.synthetic_cxr_findings import draw_devices, draw_lungs, draw_pleura
from regen.data_prep.synthetic_cxr_layout import Build, Grid, Pose, draw_pose, enlarge, lay_out
from regen.study import FloatArray


def draw_cxr(chest: Chest, rng: np.random.Generator, size: int = 256, build: Build | None = None) -> FloatArray:
    """One view. build: the patient's anatomy, the same at every visit (None: drawn from rng).

    A finding changes only what it touches: two chests drawn from generators in the same state share pose, anatomy and noise.
    """
    body, pose_seed, detail, grain = (np.random.default_rng(seed) for seed in rng.integers(2**63, size=4))
    if build is None:
        build = Build(width=body.normal(0.74, 0.02), dome=body.normal(0, 0.025), vessels=int(body.integers(2**31)))
    pose = draw_pose(chest.view, pose_seed)
    thorax = lay_out(chest, build, pose, size)
    film = draw_anatomy(thorax, build)
    draw_lungs(film, draw_vessels(thorax, build), thorax, detail)
    draw_pleura(film, thorax)
    draw_devices(film, thorax)
    return _expose(film, pose, grain)


def _expose(film: Grid, pose: Pose, rng: np.random.Generator) -> FloatArray:
    """Scatter veils, the detector saturates and grains."""
    size = film.shape[0]
    film = gaussian_filter(film.astype(np.float32), 0.0022 * size)
    step = max(1, size // 32)
    veil = enlarge(gaussian_filter(film[::step, ::step], 3), size)
    light = np.clip(pose.gain * (0.88 * film + 0.12 * veil) * 1.25, 0, None)
    light = 1.04 * light / (1 + 0.28 * light**3)
    grain = rng.standard_normal(film.shape, np.float32)
    return np.clip(np.clip(light, 0, 1) ** pose.gamma + pose.noise * grain, 0, 1).astype(np.float32)
