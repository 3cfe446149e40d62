"""A made-up chest shows what it says, on the side and at the height it says, and its report reads back to its labels."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from regen.data_prep import synthetic_cohort as cohort_of
from regen.data_prep.chexpert import OBSERVATIONS
from regen.data_prep.image_store import square
from regen.data_prep.prepare import Entry, write
from regen.data_prep.prepared import Prepared
from regen.data_prep.synthetic_chest import GRADES, LOBES, SIDES, SIZES, Chest, draw_chest, observations, side_of
from regen.data_prep.synthetic_chest_report import report
from regen.data_prep.synthetic_cohort import entries, latent, make_cxr_study, make_study
from regen.data_prep.synthetic_cxr import draw_cxr
from regen.data_prep.synthetic_cxr_layout import Build, Pose, draw_build, lay_out
from regen.data_prep.synthetic_patient import draw_patient
from regen.errors import ConfigError
from regen.study import FloatArray

SEEDS = range(4)


def shown(chest: Chest, seed: int = 0) -> FloatArray:
    return draw_cxr(chest, np.random.default_rng(seed), 256)


def change(chest: Chest, seed: int = 0, without: Chest | None = None) -> FloatArray:
    """(256, 256): the picture less that of the same chest without its finding (None: a healthy one), same pose and noise."""
    return shown(chest, seed) - (healthy(chest.view, seed) if without is None else shown(without, seed))


@cache
def healthy(view: str, seed: int) -> FloatArray:
    return shown(Chest(view=view), seed)


def half(picture: FloatArray, side: str) -> FloatArray:
    """The patient's left is the image's right."""
    return picture[:, 128:] if side == "left" else picture[:, :128]


def text_of(chest: Chest, rng: np.random.Generator) -> str:
    sections = report(chest, rng)
    return f"{sections['findings']} {sections['impression']}"


def drawn(number: int) -> Chest:
    rng = np.random.default_rng(number)
    return draw_chest(draw_patient(rng, f"p{number}"), rng)


ONE_SIDED = [
    *[(f"{size} effusion {side}", Chest(effusions={side: size}), side, 1) for side in SIDES for size in SIZES],
    *[(f"pneumothorax {side}", Chest(pneumothorax=(side, 30)), side, -1) for side in SIDES],
    *[(f"consolidation {lobe}", Chest(consolidations=(lobe,)), side_of(lobe), 1) for lobe in LOBES],
    *[(f"nodule {lobe}", Chest(nodule=(lobe, 14)), side_of(lobe), 1) for lobe in LOBES],
    *[(f"atelectasis {side}", Chest(atelectasis=(side,)), side, 1) for side in SIDES],
    *[(f"fracture {side}", Chest(fracture=(side, 6)), side, -1) for side in SIDES],
]


@pytest.mark.parametrize(("chest", "side", "sign"), [row[1:] for row in ONE_SIDED], ids=[row[0] for row in ONE_SIDED])
def test_a_one_sided_finding_is_on_its_side(chest: Chest, side: str, sign: int) -> None:
    for seed in SEEDS:
        difference = change(chest, seed)
        other = "left" if side == "right" else "right"
        here, there = (np.abs(half(difference, s)).sum() for s in (side, other))
        assert here > 10 * there
        strongest = half(difference, side).flat[np.abs(half(difference, side)).argmax()]
        assert abs(strongest) > 0.05
        if not chest.fracture:
            assert np.sign(strongest) == sign or chest.pneumothorax
        if chest.pneumothorax:
            assert half(difference, side)[38:48].sum() < -5, "the air at the apex is black"


PLACES = [
    ("effusion", Chest(effusions={"left": "small"}), (0.70, 0.85), "left"),
    ("pneumothorax", Chest(pneumothorax=("right", 40)), (0.12, 0.80), "right"),
    ("upper", Chest(consolidations=("right upper lobe",)), (0.18, 0.46), "right"),
    ("lingula", Chest(consolidations=("lingula",)), (0.42, 0.66), "left"),
    ("lower", Chest(consolidations=("left lower lobe",)), (0.50, 0.80), "left"),
    ("upper nodule", Chest(nodule=("left upper lobe", 20)), (0.30, 0.42), "left"),
    ("atelectasis", Chest(atelectasis=("right",)), (0.58, 0.70), "right"),
    ("pacemaker", Chest(pacemaker=1), (0.18, 0.75), None),
    ("wires", Chest(wires=True), (0.27, 0.66), None),
    ("tube", Chest(view="AP", tube=40), (0.0, 0.30), None),
    ("line", Chest(view="AP", line=True), (0.0, 0.50), "right"),
    ("wide heart", Chest(ratio=0.62), (0.36, 0.90), None),
]


@pytest.mark.parametrize(("chest", "rows", "side"), [row[1:] for row in PLACES], ids=[row[0] for row in PLACES])
def test_a_finding_changes_the_pixels_where_it_should(chest: Chest, rows: tuple[float, float], side: str | None) -> None:
    """The change lies between two heights (shares of the image), but for the blur; it can be told from the noise there."""
    for seed in SEEDS:
        size = np.abs(change(chest, seed))
        top, bottom = (round(256 * (share + slack)) for share, slack in zip(rows, (-0.04, 0.04)))
        inside = size[max(0, top) : bottom]
        assert inside.sum() > 0.9 * size.sum()
        assert (size > 0.04).sum() >= 12
        if side:
            assert half(inside, side).sum() > 0.9 * inside.sum()


def test_gradings_grow() -> None:
    for make in (lambda size: Chest(effusions={"left": size}), lambda size: Chest(effusions={"right": size})):
        amounts = [np.abs(change(make(size))).sum() for size in SIZES]
        assert amounts[0] < 0.6 * amounts[1]
        assert amounts[1] < 0.6 * amounts[2]
    edema = [np.abs(change(Chest(edema=grade))).sum() for grade in GRADES]
    air = [np.abs(change(Chest(pneumothorax=("left", mm)))).sum() for mm in (10, 25, 45)]
    nodule = [change(Chest(nodule=("right upper lobe", mm))).sum() for mm in (8, 16, 32, 60)]
    for amounts in (edema, air, nodule):
        assert amounts == sorted(amounts)


@pytest.mark.parametrize("ratio", [0.40, 0.48, 0.56, 0.64, 0.72])
@pytest.mark.parametrize("view", ["PA", "AP"])
def test_the_drawn_heart_has_its_ratio(ratio: float, view: str) -> None:
    """Measured on the masks as a reader does: widest heart over widest chest."""
    thorax = lay_out(Chest(view=view, ratio=ratio), Build(), Pose(), 512)
    heart = (thorax.heart > 0.5)[250:400].any(axis=0).sum()
    assert heart / (2 * thorax.width * 256) == pytest.approx(ratio, abs=0.012)


def test_the_apex_of_the_heart_is_on_the_right_of_the_image() -> None:
    heart = lay_out(Chest(), Build(), Pose(), 256).heart[130:175] > 0.5
    assert heart[:, 128:].sum() > 1.5 * heart[:, :128].sum()


def test_hyperinflation_flattens_and_lowers_the_diaphragm() -> None:
    flat, normal = (lay_out(Chest(hyperinflation=h, ribs=r), Build(), Pose(), 256).floor for h, r in ((True, 11), (False, 9)))
    assert np.ptp(flat[128, 40:128]) < 0.5 * np.ptp(normal[128, 40:128])
    assert flat.min() > normal.min() + 0.05


def test_pictures_are_in_range_and_every_size_works() -> None:
    for number in range(12):
        pixels = draw_cxr(drawn(number), np.random.default_rng(number), (64, 100, 224, 256)[number % 4])
        assert pixels.dtype == np.float32
        assert 0 <= pixels.min() < 0.2 < 0.6 < pixels.max() <= 1


def test_a_patient_keeps_the_anatomy_and_another_has_another() -> None:
    patient = draw_patient(np.random.default_rng(1), "p")
    mine, again, other = (draw_build(patient, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert mine == again != other
    first, second = make_cxr_study((0, 3)), make_cxr_study((0, 4))
    assert first.subject_id == second.subject_id
    assert first.cxr[0].pixels.tobytes() != second.cxr[0].pixels.tobytes()
    assert second.sections is not None
    assert second.sections["comparison"] == "Chest radiograph of January 2020."


def picture(number: int) -> tuple[Chest, FloatArray]:
    rng = np.random.default_rng([11, number])
    chest = draw_chest(draw_patient(rng, "p"), rng)
    side = SIDES[number % 2]
    chest = replace(chest, effusions={side: "moderate" if number % 4 < 2 else "large"}, pacemaker=1 + number % 2 if number % 3 == 0 else 0)
    chest = replace(chest, pneumothorax=None, consolidations=(), atelectasis=())
    return chest, square(draw_cxr(chest, rng, 96), 32).ravel()


def test_a_linear_probe_on_small_pixels_finds_side_and_pacemaker() -> None:
    """Ridge on 32 x 32 raw pixels, 280 to learn from and 120 to be tested on."""
    chests, rows = zip(*(picture(number) for number in range(400)))
    x = np.stack(rows).astype(np.float64)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-3)
    for y in ([1.0 if "left" in c.effusions else -1.0 for c in chests], [1.0 if c.pacemaker else -1.0 for c in chests]):
        truth = np.array(y)
        dual = np.linalg.solve(x[:280] @ x[:280].T + 300 * np.eye(280), truth[:280] - truth[:280].mean())
        score = x[280:] @ (x[:280].T @ dual)
        positive, negative = score[truth[280:] > 0], score[truth[280:] < 0]
        auc = (positive[:, None] > negative[None, :]).mean()
        assert auc > 0.9, f"area under the curve {auc:.2f}"


def test_reports_read_back_to_the_observations() -> None:
    label_report = pytest.importorskip("regen.data_prep.chest_labeler", reason="the chest labeler is not there").label_report
    seen: set[str] = set()
    for number in range(300):
        chest = drawn(number)
        text = text_of(chest, np.random.default_rng(number))
        assert label_report(text) == observations(chest), text
        seen |= {name for name, value in observations(chest).items() if value > 0}
    assert seen == set(OBSERVATIONS) - {"Enlarged Cardiomediastinum", "Pleural Other"}


def test_every_wording_of_a_chest_has_the_same_labels_and_most_differ() -> None:
    label_report = pytest.importorskip("regen.data_prep.chest_labeler", reason="the chest labeler is not there").label_report
    for number in (2, 9, 21, 25, 30):
        chest = drawn(number)
        texts = {text_of(chest, np.random.default_rng(seed)) for seed in range(40)}
        assert len(texts) > 30
        assert all(label_report(text) == observations(chest) for text in texts)


def test_a_report_says_sides_lobes_and_sizes() -> None:
    chest = Chest(
        view="AP", ratio=0.61, effusions={"left": "large"}, nodule=("right upper lobe", 42), fracture=("right", 7), pacemaker=2, tube=38,
        consolidations=("right lower lobe",), rotation="left", ribs=6, edema="mild",
    )  # fmt: skip
    for seed in range(20):
        sections = report(chest, np.random.default_rng(seed))
        assert list(sections) == ["indication", "comparison", "technique", "findings", "impression"]
        assert "AP" in sections["technique"]
        facts = ("0.61", "left pleural effusion", "4.2 cm mass", "right upper lobe", "right lower lobe", "right lateral 7th rib", "3.8 cm above")
        for fact in (*facts, "rotated to the left", "6 posterior ribs"):
            found = sections["findings"].lower()
            assert fact.lower() in found or (fact == "rotated to the left" and "rotation to the left" in found)
        assert "dual-lead" in sections["findings"] or "two leads" in sections["findings"]
        assert "no acute" not in sections["impression"].lower()


def test_two_chests_seldom_share_a_report() -> None:
    """In other words they never do; and in the same words only where the two chests are one, but for the view that technique names."""
    assert len({text_of(drawn(number), np.random.default_rng(number)) for number in range(400)}) > 390
    by_text: dict[str, Chest] = {}
    for number in range(400):
        chest = replace(drawn(number), view="PA")
        assert by_text.setdefault(text_of(chest, np.random.default_rng(0)), chest) == chest
    assert len(by_text) > 250


def test_drawn_chests_are_possible() -> None:
    for number in range(1500):
        rng = np.random.default_rng(number)
        patient = draw_patient(rng, "p")
        chest = draw_chest(patient, rng)
        assert observations(chest).keys() <= set(OBSERVATIONS)
        assert (chest.pacemaker > 0) == ("pacemaker" in patient.conditions)
        assert chest.view in {"PA", "AP"}
        assert 0.37 <= chest.ratio <= 0.75
        assert chest.view == "AP" or (chest.tube is None and not chest.line)
        assert len(set(chest.consolidations)) == len(chest.consolidations)
        if chest.nodule:
            assert chest.nodule[0] not in chest.consolidations
        if chest.pneumothorax:
            side = chest.pneumothorax[0]
            held = [*chest.consolidations, *([chest.nodule[0]] if chest.nodule else [])]
            assert side not in chest.effusions
            assert side not in chest.atelectasis
            assert side not in {side_of(lobe) for lobe in held}
        found = observations(chest)
        assert ("No Finding" in found) == (not any(v > 0 for n, v in found.items() if n not in {"No Finding", "Support Devices"}))


def test_the_chest_goes_with_the_heart_where_it_should_and_only_there() -> None:
    states = [latent(5, number) for number in range(4000)]
    for shared in cohort_of.shared_findings():
        ecg, cxr = (np.array([shows(s) for s in states]) for shows in (lambda s: shared.ecg(s.coding), lambda s: shared.cxr(s.chest)))  # noqa: B023
        assert (ecg & cxr).mean() > 1.4 * ecg.mean() * cxr.mean(), shared.name
        assert not shared.exact or (ecg == cxr).all()
    for name in cohort_of.only_cxr():
        there = np.array([observations(s.chest).get(name, 0) > 0 for s in states])
        for condition in ("heart_failure", "coronary_disease", "copd", "atrial_fibrillation"):
            ill = np.array([condition in s.patient.conditions for s in states])
            spread = np.sqrt(there.mean() * (1 / ill.sum() + 1 / (~ill).sum()))
            assert abs(there[ill].mean() - there[~ill].mean()) < 4 * spread, (name, condition)
    codes = {code for s in states for code in s.coding.statements}
    assert set(cohort_of.only_ecg()) <= codes


def test_an_x_ray_is_of_the_same_visit_and_patient_as_its_ecg() -> None:
    for number in range(6):
        ecg, cxr, state = make_study((2, number)), make_cxr_study((2, number)), latent(2, number)
        assert cxr.study_id == f"{ecg.study_id}-cxr"
        assert (cxr.subject_id, cxr.age, cxr.sex, cxr.language, cxr.source) == (ecg.subject_id, ecg.age, ecg.sex, "en", "synthetic")
        assert ecg.time is not None
        assert cxr.time is not None
        assert 1 <= (cxr.time - ecg.time).total_seconds() / 3600 <= 5
        assert (ecg.statements, cxr.observations) == (state.coding.statements, observations(state.chest))
        assert cxr.sections is not None
        assert cxr.report == f"{cxr.sections['findings']} {cxr.sections['impression']}"
        assert [view.view for view in cxr.cxr] == [state.chest.view]
        assert cxr.ecg is None
        assert ecg.cxr == ()


def test_modalities_choose_the_studies_and_unknown_ones_are_refused() -> None:
    ids = {names: [e.study_id for e in entries(3, 0, names)] for names in (("ecg",), ("cxr",), ("ecg", "cxr"))}
    assert ids["ecg",] == [e.study_id for e in entries(3, 0)] == [f"synthetic-0-0000{i}" for i in range(3)]
    assert ids["cxr",] == [f"synthetic-0-0000{i}-cxr" for i in range(3)]
    assert set(ids["ecg", "cxr"]) == {*ids["ecg",], *ids["cxr",]}
    with pytest.raises(ConfigError, match="did you mean 'cxr'"):
        entries(3, 0, ("cxrs",))
    with pytest.raises(ConfigError, match="at least one"):
        entries(3, 0, ())


ECG_BYTES = "ae096fd2c0f61019217856a6ce954efbdf5b0876d8d3ecdd2044249bcf8e74ce"


def test_ecg_studies_are_what_they_were_before_there_were_x_rays() -> None:
    """A digest, to 1 uV, of signals and reports of the cohort as it was first published."""
    digest = hashlib.sha256()
    for entry in (*entries(6, 0), *(e for e in entries(6, 9, ("ecg", "cxr")) if not e.study_id.endswith("-cxr"))):
        assert isinstance(entry, Entry)
        assert entry.make is not None
        study = entry.make[0](entry.make[1])
        assert study.ecg is not None
        digest.update(np.rint(study.ecg.signal * 1000).astype(np.int32).tobytes())
        digest.update(f"{study.study_id} {study.subject_id} {study.time} {study.report} {study.age} {study.sex}".encode())
    assert digest.hexdigest() == ECG_BYTES


def test_the_same_seed_gives_the_same_pixels_whatever_the_number_of_workers(tmp_path: Path) -> None:
    stored = []
    for workers in (1, 2):
        write(entries(8, 6, ("ecg", "cxr")), tmp_path / str(workers), "synthetic", {}, workers=workers)
        data = Prepared.open(tmp_path / str(workers))
        assert data.studies.height == 16
        stored.append((sorted(p.read_bytes() for p in (tmp_path / str(workers) / "cxr").iterdir()), data.studies.rows()))
    assert stored[0] == stored[1]
    again, other = make_cxr_study((6, 0)), make_cxr_study((7, 0))
    assert again.cxr[0].pixels.tobytes() == make_cxr_study((6, 0)).cxr[0].pixels.tobytes() != other.cxr[0].pixels.tobytes()
