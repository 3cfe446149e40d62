"""What a chest X-ray of a made-up patient would show, as labels: drawn from the same conditions as the ECG.

    chest = draw_chest(patient, rng)     Chest(view="PA", ratio=0.57, effusions={"left": "small"}, edema="mild", pacemaker=2, ...)
    observations(chest)                  {"Cardiomegaly": 1.0, "Pleural Effusion": 1.0, "Pneumothorax": 0.0, ...}

Sides are the patient's. Heart failure enlarges the heart and brings water, a pacemaker is seen exactly where the ECG is paced; nodules,
pneumothoraces, fractures and consolidations come without regard to anything that an ECG shows. Synthetic; the frequencies are
plausible, not epidemiology. The words are in regen.data_prep.synthetic_chest_report, the pixels in regen.data_prep.synthetic_cxr.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from regen.data_prep.synthetic_patient import Patient

SIDES = ("right", "left")
SIZES = ("small", "moderate", "large")
GRADES = ("mild", "moderate", "severe")
LOBES = ("right upper lobe", "right middle lobe", "right lower lobe", "left upper lobe", "lingula", "left lower lobe")


@dataclass(frozen=True, slots=True)
class Chest:
    """The state behind one frontal view. Sides are 'right' and 'left' of the patient, lobes are of LOBES, sizes of SIZES."""

    view: str = "PA"
    """'PA' or 'AP'."""
    ratio: float = 0.45
    """Cardiothoracic ratio as this view shows it."""
    effusions: dict[str, str] = field(default_factory=dict)
    """Side -> size."""
    pneumothorax: tuple[str, int] | None = None
    """Side, and how far the pleural line is from the apex, mm."""
    consolidations: tuple[str, ...] = ()
    """Lobes."""
    nodule: tuple[str, int] | None = None
    """Lobe and diameter, mm; above 30 mm it is a mass."""
    edema: str | None = None
    """'mild' and 'moderate' are interstitial, 'severe' is alveolar."""
    atelectasis: tuple[str, ...] = ()
    """Sides with a linear atelectasis at the base."""
    hyperinflation: bool = False
    fracture: tuple[str, int] | None = None
    """Side and number of the rib."""
    pacemaker: int = 0
    """Leads: 0 where there is none, 1 or 2. The generator is on the left."""
    wires: bool = False
    """Of a median sternotomy."""
    tube: int | None = None
    """Endotracheal tube: its tip above the carina, mm."""
    line: bool = False
    """Right internal jugular central venous catheter."""
    rotation: str | None = None
    """Side that the patient is turned to."""
    ribs: int = 9
    """Posterior ribs above the diaphragm; 7 and less are low lung volumes."""

    @property
    def enlarged(self) -> bool:
        """A ratio above 0.50, in an AP view above 0.55 for its magnification."""
        return self.ratio > (0.55 if self.view == "AP" else 0.50)

    @property
    def devices(self) -> bool:
        return bool(self.pacemaker or self.wires or self.tube is not None or self.line)


def draw_chest(patient: Patient, rng: np.random.Generator, lasting: np.random.Generator | None = None) -> Chest:
    """One chest of this patient. lasting: a generator of the patient's own for what is there at every visit (None: rng)."""
    lasting = lasting or rng
    has = patient.conditions.__contains__
    size = lasting.normal(0.44, 0.022) + 0.06 * has("hypertension") + 0.025 * has("coronary_disease")
    size += lasting.uniform(0.07, 0.15) * has("heart_failure")
    pacemaker = int(lasting.choice([1, 2], p=[0.35, 0.65])) if has("pacemaker") else 0
    wires = bool(lasting.random() < 0.35 * has("coronary_disease"))
    nodule = (str(lasting.choice(LOBES)), int(lasting.integers(8, 31) if lasting.random() < 0.7 else lasting.integers(31, 61)))
    nodule_or_none = nodule if lasting.random() < 0.08 else None
    hyperinflation = bool(lasting.random() < 0.85 * has("copd"))

    taken = {nodule[0]} if nodule_or_none else set()
    pneumothorax = _pneumothorax(taken, rng)
    consolidations = _consolidations(taken, pneumothorax, rng)
    taken |= set(consolidations)
    low = {side_of(lobe) for lobe in taken if "upper" not in lobe}
    edema = str(rng.choice(GRADES, p=[0.45, 0.35, 0.2])) if has("heart_failure") and rng.random() < 0.6 else None
    if consolidations and edema == "severe":
        edema = "moderate"
    ap = bool(rng.random() < (0.6 if edema else 0.25))
    effusions = _effusions(edema, has("heart_failure"), rng)
    effusions = {side: "small" if side in low else extent for side, extent in effusions.items() if not pneumothorax or side != pneumothorax[0]}
    dry = [side for side in SIDES if effusions.get(side, "small") == "small" and side not in low and not (pneumothorax and side == pneumothorax[0])]
    ribs = int(rng.choice([10, 11]) if hyperinflation else rng.choice([7, 8, 9, 10], p=[0.14, 0.24, 0.42, 0.2]))
    return Chest(
        view="AP" if ap else "PA",
        ratio=_ratio(size + 0.05 * ap + rng.normal(0, 0.006), 0.55 if ap else 0.50),
        effusions=effusions,
        pneumothorax=pneumothorax,
        consolidations=consolidations,
        nodule=nodule_or_none,
        edema=edema,
        atelectasis=tuple(side for side in dry if rng.random() < (0.3 if side in effusions or ap else 0.07)),
        hyperinflation=hyperinflation,
        fracture=(str(rng.choice(SIDES)), int(rng.integers(4, min(9, ribs)))) if rng.random() < 0.03 else None,
        pacemaker=pacemaker,
        wires=wires,
        tube=int(rng.integers(25, 66)) if ap and rng.random() < 0.2 else None,
        line=bool(ap and rng.random() < 0.25),
        rotation=str(rng.choice(SIDES)) if rng.random() < (0.2 if ap else 0.06) else None,
        ribs=ribs,
    )


def side_of(lobe: str) -> str:
    return "left" if lobe == "lingula" or lobe.startswith("left") else "right"


def _pneumothorax(taken: set[str], rng: np.random.Generator) -> tuple[str, int] | None:
    """On a side where the lung holds nothing else."""
    free = [side for side in SIDES if side not in {side_of(lobe) for lobe in taken}]
    return (str(rng.choice(free)), int(rng.integers(9, 55))) if rng.random() < 0.05 else None


def _consolidations(taken: set[str], pneumothorax: tuple[str, int] | None, rng: np.random.Generator) -> tuple[str, ...]:
    if rng.random() >= 0.14:
        return ()
    free = [lobe for lobe in LOBES if lobe not in taken and not (pneumothorax and side_of(lobe) == pneumothorax[0])]
    drawn = set(rng.choice(free, 2 if rng.random() < 0.2 else 1, replace=False).tolist())
    return tuple(lobe for lobe in LOBES if lobe in drawn)


def _effusions(edema: str | None, failing: bool, rng: np.random.Generator) -> dict[str, str]:
    """Both sides in failure, the right one more often; one side without."""
    shares = (0.7, 0.55) if edema else (0.25, 0.2) if failing else (0.04, 0.05)
    sizes = [0.5, 0.38, 0.12] if failing else [0.6, 0.28, 0.12]
    return {side: str(rng.choice(SIZES, p=sizes)) for side, share in zip(SIDES, shares, strict=True) if rng.random() < share}


def _ratio(drawn: float, limit: float) -> float:
    """Two decimals, never on the border between a normal and an enlarged heart."""
    ratio = round(float(np.clip(drawn, 0.37, 0.74)), 2)
    return ratio if abs(ratio - limit) > 0.005 else round(limit + (0.01 if drawn > limit else -0.01), 2)


def observations(chest: Chest) -> dict[str, float]:
    """CheXpert name -> 1 present, 0.5 uncertain, 0 stated as absent; what the report does not speak of is left out."""
    found = {
        "Enlarged Cardiomediastinum": 0.0,
        "Cardiomegaly": float(chest.enlarged),
        "Edema": float(chest.edema is not None),
        "Consolidation": float(bool(chest.consolidations)),
        "Pneumothorax": float(chest.pneumothorax is not None),
        "Pleural Effusion": float(bool(chest.effusions)),
    }
    if chest.consolidations:
        found |= {"Pneumonia": 0.5}
    if chest.consolidations or chest.edema == "severe":
        found |= {"Lung Opacity": 1.0}
    present = {"Lung Lesion": chest.nodule, "Atelectasis": chest.atelectasis, "Fracture": chest.fracture, "Support Devices": chest.devices}
    found |= {name: 1.0 for name, value in present.items() if value}
    if not any(value > 0 for name, value in found.items() if name != "Support Devices"):
        found["No Finding"] = 1.0
    return found
