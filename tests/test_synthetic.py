"""The made-up cohort shows what it says: findings are visible in measurements that know nothing of how they were drawn."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from regen.data_prep.beats import find_beats
from regen.data_prep.clean import remove_baseline, resample
from regen.data_prep.coding import Coding, render
from regen.data_prep.labeler import statements_in
from regen.data_prep.measure import measure
from regen.data_prep.prepared import Prepared
from regen.data_prep.statements import BY_CODE
from regen.data_prep.synthetic_cohort import entries, make_study
from regen.data_prep.synthetic_ecg import synthesize
from regen.data_prep.synthetic_patient import draw_coding, draw_patient
from regen.study import LEADS, FloatArray

SEEDS = 6


@cache
def measured(codes: str, seed: int, axis: str | None = None) -> dict[str, float]:
    return measure(remove_baseline(resample(raw(codes, seed, axis=axis), 500.0), 100.0))[0]


def raw(codes: str, seed: int, **coding: object) -> FloatArray:
    """(12, 5000) mV at 500 Hz: codes with a space between them."""
    return synthesize(Coding(dict.fromkeys(codes.split(), 1.0), **coding), np.random.default_rng(seed)).signal  # type: ignore[arg-type]


def median(name: str, codes: str, axis: str | None = None) -> float:
    """The median over some patients of one measurement."""
    return float(np.nanmedian([measured(codes, seed, axis)[name] for seed in range(SEEDS)]))


NORMAL = "SR NORM"
FINDINGS: list[tuple[str, str, Callable[[float, float], bool]]] = [
    ("STACH", "heart_rate", lambda got, normal: got > 100 > normal),
    ("SBRAD", "heart_rate", lambda got, normal: got < 60 < normal),
    ("SR SARRH", "rr_cv", lambda got, normal: got > 0.07 > normal),
    ("AFIB", "rr_jump", lambda got, normal: got > 0.12 > 3 * normal),
    ("AFIB", "rr_cv", lambda got, normal: got > 0.12 > normal),
    ("SR 1AVB", "pr", lambda got, normal: got > 205 > normal > 120),
    ("SR CLBBB", "qrs", lambda got, normal: got > 120 > normal),
    ("SR CRBBB", "qrs", lambda got, normal: got > 118 > normal),
    ("PACE", "qrs", lambda got, normal: got > 130 > normal),
    ("SR LVH", "sokolow", lambda got, normal: got > 3.5 > normal),
    ("SR VCLVH", "sokolow", lambda got, normal: got > 3.3 > normal),
    ("SR LVOLT", "sokolow", lambda got, normal: got < 0.55 * normal),
    ("SR LNGQT", "qtc", lambda got, normal: got > 465 > normal),
    ("SR PVC", "early_wide_beats", lambda got, normal: got >= 1 > normal),
    ("SR PAC", "premature_beats", lambda got, normal: got >= 1 > normal),
]


@pytest.mark.parametrize(("codes", "name", "holds"), FINDINGS, ids=[f"{codes}-{name}" for codes, name, _ in FINDINGS])
def test_a_finding_is_visible_in_its_measurement(codes: str, name: str, holds: Callable[[float, float], bool]) -> None:
    got, normal = median(name, codes), median(name, NORMAL)
    assert holds(got, normal), f"{name}: {got:.3g}, of normal ones {normal:.3g}"


@pytest.mark.parametrize(("axis", "low", "high"), [("MID", 0, 80), ("LAD", -45, 0), ("ALAD", -90, -28), ("RAD", 88, 135), ("ARAD", 120, 180)])
def test_the_axis_is_the_coded_one(axis: str, low: float, high: float) -> None:
    assert low < median("axis", NORMAL, axis=axis) < high


def test_fibrillation_has_no_p_wave_before_its_beats() -> None:
    """The average before the QRS is flat where every beat is preceded by other waves."""
    assert median("p_amplitude", NORMAL) > 0.06
    heights = [measured("AFIB", seed)["p_amplitude"] for seed in range(SEEDS)]
    assert np.nan_to_num(np.array(heights)).mean() < 0.06


@cache
def beat_of(codes: str, seed: int, stage: str | None = None) -> dict[str, FloatArray]:
    """Lead -> the median beat, 100 Hz, the QRS at sample 40."""
    return dict(zip(LEADS, find_beats(remove_baseline(resample(raw(codes, seed, stage=stage), 500.0), 100.0)).average))


def level(codes: str, lead: str, start: int, stop: int, stage: str | None = None) -> float:
    """Median over patients of a lead's mean from start to stop (samples of 10 ms after the QRS), against the PR segment."""
    beats = [beat_of(codes, s, stage)[lead] for s in range(SEEDS)]
    return float(np.median([b[40 + start : 40 + stop].mean() - b[33:36].mean() for b in beats]))


@pytest.mark.parametrize(("code", "lead", "opposite"), [("ASMI", "V2", "II"), ("IMI", "aVF", "V2"), ("LMI", "I", "V1")])
def test_an_acute_infarction_lifts_st_in_its_leads(code: str, lead: str, opposite: str) -> None:
    acute, normal = level(f"SR {code}", lead, 7, 11, stage="I"), level(NORMAL, lead, 7, 11)
    assert acute > normal + 0.08, f"{lead}: {acute:.2f} against {normal:.2f} mV"
    assert level(f"SR {code}", opposite, 7, 11, stage="I") < acute


@pytest.mark.parametrize(("code", "lead"), [("IMI", "aVF"), ("LMI", "I")])
def test_an_old_infarction_takes_r_away_and_leaves_q(code: str, lead: str) -> None:
    def deepest(codes: str, stage: str | None = None) -> float:
        return float(np.median([beat_of(codes, s, stage)[lead][36:41].min() for s in range(SEEDS)]))

    assert deepest(f"SR {code}", stage="III") < deepest(NORMAL) - 0.05


def test_depressed_st_and_inverted_t_point_down() -> None:
    assert level("SR STD_", "V5", 8, 12) < level(NORMAL, "V5", 8, 12) - 0.05
    assert level("SR INVT", "V5", 22, 30) < 0 < level(NORMAL, "V5", 22, 30)


def test_right_bundle_branch_block_ends_upwards_in_v1_and_left_downwards() -> None:
    """The last stroke of V1's QRS: r-s-R' against a broad S."""
    for seed in range(SEEDS):
        right, left = (beat_of(codes, seed)["V1"][34:54] for codes in ("SR CRBBB", "SR CLBBB"))
        assert right.argmin() < right.argmax()
        assert right.max() > 0.3
        assert left.min() < -0.8
        assert left[:10].max() < 0.3


def test_a_pacemaker_spike_precedes_every_beat() -> None:
    for seed in range(4):
        steep = np.abs(np.diff(raw("PACE", seed)[1]))
        assert (steep > 0.5).sum() >= 9
        assert np.abs(np.diff(raw(NORMAL, seed)[1])).max() < 0.4


@pytest.mark.parametrize(("noise", "name"), [("STATIC", "noise"), ("DRIFT", "wander"), ("ELECTRODE", "wander")])
def test_each_noise_is_worse_than_none(noise: str, name: str) -> None:
    def level_of(quality: dict[str, str]) -> float:
        signals = [resample(raw(NORMAL, s, quality=quality), 500.0) for s in range(SEEDS)]
        return float(np.median([measure(remove_baseline(x, 100.0), x)[0][name] for x in signals]))

    assert level_of({noise: "all leads"}) > 2 * level_of({})


def test_burst_noise_stays_in_its_leads_and_its_moment() -> None:
    with_burst, without = raw(NORMAL, 5, quality={"BURST": "V1, V2"}), raw(NORMAL, 5)
    difference = with_burst - without
    assert [lead for lead, row in zip(LEADS, difference) if np.abs(row).max() > 1e-6] == ["V1", "V2"]
    struck = np.flatnonzero(np.abs(difference[6]) > 1e-6)
    assert 0.5 < (struck[-1] - struck[0]) / 500 < 2.1


def test_limb_leads_obey_einthoven_and_goldberger() -> None:
    quiet = raw(NORMAL, 0).astype(np.float64)
    one, two, three, avr, avl, avf = quiet[:6]
    for left, right in ((three, two - one), (avr, -(one + two) / 2), (avl, one - two / 2), (avf, two - one / 2)):
        assert np.abs(left - right).mean() < 0.06, "but for the noise of each lead"


def test_the_same_seed_gives_the_same_cohort_and_another_seed_another() -> None:
    first, again, other = (list(entries(12, seed)) for seed in (3, 3, 4))
    assert first == again
    for entry in first[:4]:
        assert entry.make is not None
        one, two = entry.make[0](entry.make[1]), make_study(entry.make[1])
        assert one.ecg is not None
        assert two.ecg is not None
        assert one.ecg.signal.tobytes() == two.ecg.signal.tobytes()
        assert (one.report, one.statements, one.age, one.time) == (two.report, two.statements, two.age, two.time)
    assert not {e.study_id for e in first} & {e.study_id for e in other}
    assert make_study((3, 0)).report != make_study((4, 0)).report or make_study((3, 1)).report != make_study((4, 1)).report


def test_a_second_visit_is_of_the_same_person_later() -> None:
    before, after = make_study((0, 3)), make_study((0, 4))
    assert (before.subject_id, before.age, before.sex) == (after.subject_id, after.age, after.sex)
    assert before.time is not None
    assert after.time is not None
    assert before.time < after.time
    assert before.study_id != after.study_id


def test_drawn_findings_are_known_and_fit_their_patient() -> None:
    seen: set[str] = set()
    for number in range(300):
        rng = np.random.default_rng(number)
        patient = draw_patient(rng, f"p{number}")
        coding = draw_coding(patient, rng)
        assert coding.statements.keys() <= BY_CODE.keys()
        assert statements_in(render(coding)) == set(coding.statements)
        assert 18 < patient.age < 96
        rhythms = coding.statements.keys() & {"SR", "STACH", "SBRAD", "SARRH", "AFIB", "AFLT", "PACE"}
        assert len(rhythms) == 1
        assert not ("NORM" in coding.statements and coding.statements.keys() & {"IMI", "ASMI", "LMI", "LVH", "CLBBB", "AFIB"})
        assert ("pacemaker" in patient.conditions) == (rhythms == {"PACE"})
        seen |= coding.statements.keys()
    assert {"AFIB", "AFLT", "CLBBB", "CRBBB", "LVH", "IMI", "ASMI", "PVC", "PAC", "STD_", "INVT", "LNGQT", "PACE", "1AVB", "LVOLT"} <= seen


def test_the_cohort_says_that_it_is_synthetic(cohort: Prepared) -> None:
    assert cohort.studies["study_id"].str.starts_with("synthetic-").all()
    assert cohort.studies["source"].unique().to_list() == ["synthetic"]
