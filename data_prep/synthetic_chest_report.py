"""The radiologist's report of a made-up chest, by sections: every fact in one of several wordings, every sentence true of the chest.

    report(chest, rng)["findings"]      "Heart size is normal, cardiothoracic ratio 0.46. The mediastinal contours are unremarkable. ..."
    report(chest, rng)["impression"]    "Small left pleural effusion. 14 mm nodule in the right upper lobe."

What is stated follows from the chest alone and only the wording from rng, so regen.data_prep.synthetic_chest.observations(chest) are
the labels of any of its reports. Synthetic.
"""

from __future__ import annotations

import numpy as np

from regen.data_prep.synthetic_chest import SIDES, Chest

_REASONS = ("Shortness of breath.", "Chest pain.", "Cough.", "Evaluate for acute process.", "Dyspnea on exertion.", "Weakness.", "Chest discomfort.")
_OTHER = {"right": "left", "left": "right"}


def report(chest: Chest, rng: np.random.Generator, prior: str | None = None) -> dict[str, str]:
    """Sections indication, comparison, technique, findings and impression. prior: what an earlier film is called, where there is one."""
    reasons = [*_REASONS, *(["Intubated, check tube position."] * 4 if chest.tube is not None else []), *(["Fall."] * 4 if chest.fracture else [])]
    return {
        "indication": _one(rng, *reasons),
        "comparison": f"{prior}." if prior else _one(rng, "None.", "None available.", "No prior study."),
        "technique": _technique(chest.view, rng),
        "findings": " ".join(_findings(chest, rng)),
        "impression": " ".join(_impression(chest, rng)),
    }


def _one(rng: np.random.Generator, *wordings: str) -> str:
    return wordings[int(rng.integers(len(wordings)))]


def _technique(view: str, rng: np.random.Generator) -> str:
    if view == "AP":
        return _one(rng, "Single portable AP view of the chest.", "Portable AP chest radiograph.", "AP chest radiograph, one view.")
    return _one(rng, "Single PA view of the chest.", "Upright PA chest radiograph.", "PA chest radiograph, one view.")


def _findings(chest: Chest, rng: np.random.Generator) -> list[str]:
    return [
        *_hardware(chest, rng),
        *_quality(chest, rng),
        _heart(chest, rng),
        _mediastinum(chest, rng),
        _edema(chest, rng),
        *_lungs(chest, rng),
        *_pleura(chest, rng),
        _bones(chest, rng),
    ]


def _hardware(chest: Chest, rng: np.random.Generator) -> list[str]:
    out = []
    if chest.pacemaker == 1:
        out.append(_one(
            rng, "Left-sided single-lead pacemaker, its lead in the right ventricle.",
            "A single-lead pacemaker is in place on the left with the lead tip in the right ventricle.",
            "Left chest wall pacemaker with one lead, which ends in the right ventricle.",
        ))  # fmt: skip
    if chest.pacemaker == 2:
        out.append(_one(
            rng, "Left-sided dual-lead pacemaker, its leads in the right atrium and right ventricle.",
            "A dual-lead pacemaker is in place on the left with lead tips in the right atrium and right ventricle.",
            "Left chest wall pacemaker with two leads, which end in the right atrium and right ventricle.",
        ))  # fmt: skip
    if chest.tube is not None:
        cm = f"{chest.tube / 10:.1f} cm above the carina"
        out.append(_one(rng, f"The endotracheal tube ends {cm}.", f"Endotracheal tube tip {cm}.", f"An endotracheal tube is in place, tip {cm}."))
    if chest.line:
        tip = _one(rng, "in the superior vena cava", "over the mid superior vena cava")
        out.append(_one(rng, f"Right internal jugular central venous catheter with its tip {tip}.", f"A right jugular catheter ends {tip}."))
    if chest.wires:
        out.append(_one(rng, "Median sternotomy wires are intact.", "Midline sternotomy wires are present.", "Intact sternotomy wires."))
    return out


def _quality(chest: Chest, rng: np.random.Generator) -> list[str]:
    out = []
    if chest.rotation:
        out.append(_one(rng, f"The patient is rotated to the {chest.rotation}.", f"There is rotation to the {chest.rotation}."))
    ribs = f"{chest.ribs} posterior ribs above the diaphragm"
    if chest.hyperinflation:
        out.append(_one(
            rng, f"The lungs are hyperinflated with flattened hemidiaphragms, {ribs}.", f"Hyperinflated lungs with flat diaphragms and {ribs}.",
            f"Hyperinflation of both lungs with flattening of the diaphragm, {ribs}.",
        ))  # fmt: skip
    elif chest.ribs <= 7:
        out.append(_one(rng, f"Lung volumes are low, {ribs}.", f"Low lung volumes with {ribs}.", f"Inspiration is shallow with {ribs}."))
    else:
        out.append(_one(rng, f"Adequate inspiration with {ribs}.", f"The lungs are well expanded, {ribs}.", f"Inspiration is adequate, {ribs}."))
    return out


def _heart(chest: Chest, rng: np.random.Generator) -> str:
    ratio = _one(rng, f", cardiothoracic ratio {chest.ratio:.2f}", f", with a cardiothoracic ratio of {chest.ratio:.2f}")
    if not chest.enlarged:
        return _one(rng, "Heart size is normal", "The heart is normal in size", "The cardiac silhouette is normal in size") + ratio + "."
    word = _degree(chest)
    return (
        _one(rng, f"The heart is {word}ly enlarged", f"{word.capitalize()} cardiomegaly", f"The cardiac silhouette is {word}ly enlarged")
        + ratio
        + "."
    )


def _degree(chest: Chest) -> str:
    above = chest.ratio - (0.55 if chest.view == "AP" else 0.50)
    return "mild" if above <= 0.06 else "moderate" if above <= 0.12 else "severe"


def _mediastinum(chest: Chest, rng: np.random.Generator) -> str:
    if chest.edema:
        return _one(rng, "The mediastinal contours are unremarkable.", "Mediastinal contours are normal.", "The mediastinal silhouette is normal.")
    return _one(
        rng, "The mediastinal and hilar contours are unremarkable.", "Mediastinal contours are normal.", "Normal mediastinal and hilar contours.",
    )  # fmt: skip


def _edema(chest: Chest, rng: np.random.Generator) -> str:
    if chest.edema is None:
        return _one(
            rng, "No pulmonary edema.", "There is no pulmonary edema.", "Pulmonary vasculature is normal without edema.", "No evidence of edema."
        )
    if chest.edema == "severe":
        return _one(
            rng, "Severe alveolar pulmonary edema with confluent perihilar opacities on both sides.",
            "Bilateral perihilar airspace opacities due to severe pulmonary edema.", "Severe pulmonary edema with bilateral batwing opacities.",
        )  # fmt: skip
    grade = chest.edema
    signs = _one(rng, "Kerley B lines", "septal lines at both bases")
    return _one(
        rng, f"{grade.capitalize()} interstitial pulmonary edema with {signs} and upper zone redistribution.",
        f"There is {grade} interstitial edema with perihilar haze and {signs}.", f"Perihilar haze and {signs} of {grade} interstitial edema.",
    )  # fmt: skip


_BORDER = {
    "right upper lobe": "reaches down to the minor fissure", "right middle lobe": "obscures the right heart border",
    "right lower lobe": "lies above the right hemidiaphragm", "left upper lobe": "lies lateral to the aortic knob",
    "lingula": "obscures the left heart border", "left lower lobe": "lies above the left hemidiaphragm",
}  # fmt: skip


def _lungs(chest: Chest, rng: np.random.Generator) -> list[str]:
    out = []
    for lobe in chest.consolidations:
        out.append(
            _one(rng, f"There is focal consolidation in the {lobe}.", f"Consolidation in the {lobe}.", f"Focal {lobe} consolidation is present.")
        )
        out.append(f"{_one(rng, 'This opacity', 'The airspace opacity')} {_BORDER[lobe]}.")
    if not chest.consolidations:
        out.append(_one(rng, "No focal consolidation.", "There is no focal consolidation.", "No consolidation is seen."))
    if chest.nodule:
        lobe, mm = chest.nodule
        what = _lesion(mm)
        out.append(_one(rng, f"A {what} projects over the {lobe}.", f"There is a {what} in the {lobe}.", f"Round {what} in the {lobe}."))
    if chest.atelectasis:
        where = _bases(chest.atelectasis)
        out.append(
            _one(rng, f"Linear atelectasis at {where}.", f"There is bandlike atelectasis at {where}.", f"Streaky atelectasis is seen at {where}.")
        )
    return out


def _lesion(mm: int) -> str:
    return f"{mm / 10:.1f} cm mass" if mm > 30 else f"{mm} mm nodule"


def _bases(sides: tuple[str, ...]) -> str:
    return "both lung bases" if len(sides) == 2 else f"the {sides[0]} lung base"


def _effusion(effusions: dict[str, str]) -> str:
    """'small left pleural effusion', 'small right and moderate left pleural effusions', 'small bilateral pleural effusions'"""
    sides = [side for side in SIDES if side in effusions]
    if len(sides) == 1:
        return f"{effusions[sides[0]]} {sides[0]} pleural effusion"
    right, left = (effusions[side] for side in SIDES)
    return f"{right} bilateral pleural effusions" if right == left else f"{right} right and {left} left pleural effusions"


def _air(chest: Chest) -> str:
    assert chest.pneumothorax is not None
    side, mm = chest.pneumothorax
    return f"{'small' if mm < 20 else 'moderate' if mm < 40 else 'large'} {side} pneumothorax"


def _pleura(chest: Chest, rng: np.random.Generator) -> list[str]:
    if not chest.effusions and not chest.pneumothorax:
        return [
            _one(rng, "No pleural effusion or pneumothorax.", "There is no pleural effusion or pneumothorax.", "No pneumothorax or pleural effusion.")
        ]
    out = []
    if chest.effusions:
        what = _effusion(chest.effusions)
        be = "are" if len(chest.effusions) == 2 else "is a"
        out.append(_one(rng, f"There {be} {what}.", f"{what.capitalize()}.", f"{what.capitalize()} with blunting of the costophrenic sulcus."))
        if len(chest.effusions) == 1:
            side = _OTHER[next(iter(chest.effusions))]
            out.append(_one(rng, f"The {side} costophrenic angle is sharp.", f"Sharp {side} costophrenic angle."))
    else:
        out.append(_one(rng, "No pleural effusion.", "There is no pleural effusion."))
    if chest.pneumothorax:
        mm = chest.pneumothorax[1]
        how = _one(rng, f"the pleural line {mm} mm from the apex", f"measuring {mm} mm at the apex")
        out.append(_one(rng, f"There is a {_air(chest)}, {how}.", f"{_air(chest).capitalize()}, {how}."))
    else:
        out.append(_one(rng, "No pneumothorax.", "There is no pneumothorax.", "No pneumothorax is seen."))
    return out


def _bones(chest: Chest, rng: np.random.Generator) -> str:
    if chest.fracture:
        rib = f"{chest.fracture[0]} lateral {chest.fracture[1]}th rib"
        return _one(rng, f"Displaced fracture of the {rib}.", f"There is a fracture of the {rib}.", f"Fracture of the {rib} is noted.")
    return _one(rng, "No acute osseous abnormality.", "Bony structures are intact.", "The visualized bones are unremarkable.")


def _impression(chest: Chest, rng: np.random.Generator) -> list[str]:
    out = []
    if chest.pneumothorax:
        out.append(_air(chest))
    if chest.edema:
        out.append(f"{chest.edema} pulmonary edema")
    for lobe in chest.consolidations:
        out.append(f"{lobe} consolidation, {_one(rng, 'which may represent pneumonia', 'possibly pneumonia', 'suspicious for pneumonia')}")
    if chest.effusions:
        out.append(_effusion(chest.effusions))
    if chest.nodule:
        follow = _one(rng, "", ", CT is recommended", ", for which chest CT is advised")
        out.append(f"{_lesion(chest.nodule[1])} in the {chest.nodule[0]}{follow}")
    if chest.fracture:
        out.append(f"fracture of the {chest.fracture[0]} {chest.fracture[1]}th rib")
    if chest.enlarged:
        out.append(f"{_degree(chest)} cardiomegaly")
    if chest.hyperinflation:
        out.append(_one(rng, "hyperinflated lungs", "hyperinflation"))
    if chest.atelectasis:
        out.append(f"atelectasis at {_bases(chest.atelectasis)}")
    if not out:
        return [_one(rng, "No acute cardiopulmonary process.", "No acute cardiopulmonary abnormality.", "No acute intrathoracic process.")]
    return [f"{text[0].upper()}{text[1:]}." for text in out]
