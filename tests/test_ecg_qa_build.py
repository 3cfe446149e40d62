"""Built questions: the annotations as names, the templates' truths by hand, balance, seeds, and agreement with ECG-QA's own answers."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from regen.data_prep.ecg_qa import ATTRIBUTE_TYPES, TYPES, Made, Questions, prepare_ecg_qa, read_options
from regen.data_prep.ecg_qa_attributes import FACETS, LEAD_NAMES, NORMAL_RANGES, RANGES, Annotated, annotated, leads_of
from regen.data_prep.ecg_qa_build import build, build_ecg_qa, measured_with_ruler, read_annotations
from regen.data_prep.ecg_qa_templates import BY_ID, LEFT_OUT, Ask
from regen.errors import ConfigError, DataError

COLUMNS = (
    "ecg_id", "patient_id", "recording_date", "scp_codes", "heart_axis", "infarction_stadium1", "baseline_drift", "static_noise", "burst_noise",
    "electrodes_problems", "extra_beats", "strat_fold", "filename_hr",
)  # fmt: skip


def row(ecg: int = 1, codes: str = "{'NORM': 100.0, 'SR': 0.0}", **cells: str) -> dict[str, str]:
    blank = dict.fromkeys(COLUMNS, "")
    return blank | {"ecg_id": str(ecg), "patient_id": f"{ecg}.0", "scp_codes": codes, "strat_fold": "1", "filename_hr": f"r/{ecg:05d}_hr"} | cells


def ecg(codes: str = "{'NORM': 100.0, 'SR': 0.0}", measured: dict[str, float] | None = None, **cells: str) -> Annotated:
    return annotated(row(1, codes, **cells), "train", None, measured)


def truth(template: int, names: tuple[str, ...] | str, *ecgs: Annotated, where: str = "") -> list[str] | None:
    found = BY_ID[template].truth(ecgs, Ask(where, (names,) if isinstance(names, str) else names))
    return None if found is None else sorted(found)


NORMAL = dict(zip(NORMAL_RANGES, (100.0, 160.0, 90.0, 400.0, 380.0, 800.0), strict=True))


@pytest.mark.parametrize(
    ("noted", "leads"),
    [
        (" , I-AVR,  ", "I II III aVR"), (" , alles, noisy recording,", " ".join(name[5:] for name in LEAD_NAMES)), ("V2,3", "V2 V3"),
        (" , v4-6", "V4 V5 V6"), (" , V1V6", "V1 V6"), ("I - V1", "I II III aVR aVL aVF V1"), ("I,II,AVR,AVL.AVF", "I II aVR aVL aVF"), ("", ""),
        (" ,  ", ""), ("Kontaktprobleme aVL ???", "aVL"), ("II-AVF,V5", "II III aVR aVL aVF V5"), ("I stark,  ,  ", "I"),
    ],
)  # fmt: skip
def test_leads_of_a_noise_column(noted: str, leads: str) -> None:
    assert leads_of(noted) == {f"lead {lead}" for lead in leads.split()}


def test_noise_without_readable_leads_is_noise_somewhere() -> None:
    assert leads_of(" , leicht,  ") is None
    slight = ecg(static_noise=" , leicht,  ")
    assert truth(27, "static noise", slight) == ["yes"]
    assert truth(26, "static noise", slight, where="lead I") is None
    assert truth(34, (), slight, where="static noise") is None


def test_noise_templates() -> None:
    noisy = ecg(static_noise=" , I-AVR,  ", baseline_drift=" , V6")
    assert truth(26, "static noise", noisy, where="lead aVR") == ["yes"]
    assert truth(26, "static noise", noisy, where="lead V6") == ["no"]
    assert truth(28, (), noisy, where="lead V6") == ["yes"]
    assert truth(28, (), noisy, where="lead V5") == ["no"]
    assert truth(30, ("burst noise", "static noise"), noisy) == ["static noise"]
    assert truth(30, ("burst noise", "electrodes problems"), noisy) == ["none"]
    assert truth(32, (), noisy) == ["baseline drift", "static noise"]
    assert truth(33, (), noisy, where="lead V6") == ["baseline drift"]
    assert truth(34, (), noisy, where="static noise") == ["lead I", "lead II", "lead III", "lead aVR"]
    assert truth(34, (), noisy, where="burst noise") == ["none"]


def test_statements_and_their_likelihood() -> None:
    sick = ecg("{'IMI': 35.0, 'LAFB': 100.0, 'NDT': 0.0, 'AFIB': 0.0}")
    assert truth(1, "myocardial infarction in inferior leads", sick) == ["not sure"]
    assert truth(1, "left anterior fascicular block", sick) == ["yes"]
    assert truth(1, "sinus rhythm", sick) == ["no"]
    assert truth(2, (), sick) == ["no"]
    assert truth(2, (), ecg()) == ["yes"]
    assert truth(2, (), ecg("{'NORM': 80.0}")) is None
    assert truth(3, ("conduction disturbance", "hypertrophy"), sick) == ["conduction disturbance"]
    diagnoses = ["left anterior fascicular block", "myocardial infarction in inferior leads", "non-diagnostic t abnormalities"]
    assert truth(8, (), sick) == diagnoses
    assert truth(9, (), sick) == [diagnoses[0], diagnoses[2]]
    assert truth(4, (diagnoses[1], "digitalis effect"), sick) == [diagnoses[1]]
    assert truth(5, (diagnoses[1], "digitalis effect"), sick) == ["none"]
    assert truth(10, (), sick) == ["atrial fibrillation"]
    assert truth(11, (), sick) == ["non-diagnostic t abnormalities"]
    assert truth(12, (), sick) == ["yes"]
    assert truth(12, (), ecg()) == ["no"]
    assert truth(14, (), ecg("{'IMI': 35.0}")) == ["no"]
    assert truth(13, (), ecg("{'IMI': 35.0}")) == ["yes"]


def test_statements_without_a_name_leave_the_ecg_out() -> None:
    assert truth(8, (), ecg("{'WPW': 100.0}")) is None
    assert truth(11, (), ecg("{'PRC(S)': 0.0}")) is None
    assert truth(10, (), ecg("{'TRIGU': 0.0}")) is None
    assert truth(10, (), ecg("{'WPW': 100.0, 'SR': 0.0}")) == ["sinus rhythm"]


def test_axis_stage_and_extra_systoles() -> None:
    assert truth(20, "left axis deviation", ecg(heart_axis="ALAD")) == ["yes"]
    assert truth(21, ("left axis deviation", "normal heart axis"), ecg(heart_axis="RAD")) == ["none"]
    assert truth(22, (), ecg(heart_axis="MID")) == ["normal heart axis"]
    assert truth(22, (), ecg()) is None
    assert truth(22, (), ecg(heart_axis="SAG")) is None
    stage = {name: f"{name} stage of myocardial infarction" for name in ("early", "middle", "old", "unknown")}
    mixed, unknown = ecg("{'IMI': 100.0}", infarction_stadium1="Stadium II-III"), ecg("{'IMI': 100.0}", infarction_stadium1="unknown")
    assert truth(25, (), mixed) == [stage["middle"], stage["old"]]
    assert truth(23, stage["early"], mixed) == ["no"]
    assert truth(24, (stage["early"], stage["old"]), mixed) == [stage["old"]]
    assert truth(25, (), unknown) == [stage["unknown"]]
    assert truth(23, stage["early"], unknown) is None
    assert truth(25, (), ecg()) == ["none of myocardial infarction"]
    assert truth(24, (stage["early"], stage["old"]), ecg()) == ["none"]
    kinds = {"1ES": ["extrasystoles"], "VES1,alles": ["ventricular extrasystoles"], "SVES": ["supraventricular extrasystoles"], "": ["none"],
             "5,alles": ["extrasystoles"], "7VES": ["ventricular extrasystoles"], "2ES,SVES": ["extrasystoles", "supraventricular extrasystoles"],
             "VES,SVES3,alles": ["supraventricular extrasystoles", "ventricular extrasystoles"]}  # fmt: skip
    assert {noted: truth(38, (), ecg(extra_beats=noted)) for noted in kinds} == kinds
    assert truth(35, (), ecg(extra_beats="VES")) == ["yes"]


def test_measured_features() -> None:
    slow = ecg(measured=NORMAL | {"rr interval": 1100.0, "qrs duration": 50.0})
    assert truth(39, RANGES[0], slow, where="rr interval") == ["yes"]
    assert truth(40, RANGES[1:], slow, where="rr interval") == ["none"]
    assert truth(41, (), slow, where="qrs duration") == [RANGES[1]]
    assert truth(42, (), slow, where=RANGES[1]) == ["qrs duration"]
    assert truth(42, (), ecg(measured=NORMAL), where=RANGES[0]) == ["none"]
    gone = ecg(measured=NORMAL | {"p duration": float("nan")})
    assert truth(41, (), gone, where="p duration") is None
    assert truth(42, (), gone, where=RANGES[0]) is None
    normal = ecg(measured=NORMAL)
    for template, answer in zip((50, 51, 52, 53), ("yes", "no", "no", "no"), strict=True):
        assert truth(template, "rr interval", slow, normal, where="abnormal") == [answer]
    assert truth(54, (), slow, normal, where="abnormal") == ["qrs duration", "rr interval"]
    assert truth(55, (), slow, normal, where="abnormal") == ["none"]
    assert truth(70, (), slow, slow, where="abnormal") == ["qrs duration", "rr interval"]


def test_comparisons() -> None:
    before, after = ecg("{'SR': 0.0, 'LVH': 100.0}"), ecg("{'SR': 0.0, 'AFIB': 0.0}")
    cases = {"left ventricular hypertrophy": "resolved", "atrial fibrillation": "new", "sinus rhythm": "still", "sinus bradycardia": "never"}
    for start in (43, 57):
        for name, change in cases.items():
            answers = [truth(start + i, name, before, after) == ["yes"] for i in range(4)]
            assert answers == [change == kind for kind in ("resolved", "new", "still", "never")]
        found = [truth(start + 4 + i, (), before, after) for i in range(3)]
        assert found == [["left ventricular hypertrophy"], ["atrial fibrillation"], ["sinus rhythm"]]
    assert truth(43, "sinus rhythm", before, ecg("{'WPW': 100.0}")) is None


def cohort(n: int, rng: np.random.Generator) -> list[Annotated]:
    """Synthetic ECGs of n / 2 patients, two each, by patient in train, val or test."""
    out = []
    for i in range(n):
        codes = {code: float(rng.choice([0.0, 50.0, 100.0])) for code in ("NORM", "IMI", "LVH", "NDT", "SR", "AFIB", "PVC") if rng.random() < 0.4}
        cells = {"heart_axis": str(rng.choice(["MID", "LAD", "RAD"])), "infarction_stadium1": str(rng.choice(["", "Stadium I", "Stadium III"])),
                 "static_noise": str(rng.choice(["", " , I-AVR", "alles"])), "burst_noise": str(rng.choice(["", "V1"])),
                 "extra_beats": str(rng.choice(["", "1ES", "VES"]))}  # fmt: skip
        measured = {name: float(value * rng.choice([0.5, 1.0, 2.0])) for name, value in NORMAL.items()}
        made = annotated(row(i, repr(codes), **cells), ("train", "val", "test")[i // 2 % 3], datetime(2000, 1, 1 + i % 2), measured)
        out.append(replace(made, subject_id=str(i // 2)))
    return out


def test_what_is_built_is_balanced_true_and_repeatable(rng: np.random.Generator) -> None:
    ecgs, made = cohort(240, rng), Made()
    rows = list(build(ecgs, np.random.default_rng(4), 6, made))
    assert rows == list(build(ecgs, np.random.default_rng(4), 6, Made()))
    assert rows != list(build(ecgs, np.random.default_rng(5), 6, Made()))
    assert {r["template_id"] for r in rows} | made.left_out.keys() == set(range(1, 71))
    assert made.left_out == LEFT_OUT
    assert {r["question_type"] for r in rows} == set(TYPES)
    assert {r["attribute_type"] for r in rows} == set(ATTRIBUTE_TYPES)
    by_id = {made_of.ecg_id: made_of for made_of in ecgs}
    counts: dict[tuple[str, str], Counter[tuple[str, ...]]] = defaultdict(Counter)
    for r in rows:
        counts[r["split"], r["asked"]][tuple(r["answer"])] += 1
        of = [by_id[i] for i in r["ecg_ids"]]
        assert set(r["answer"]) <= set(r["options"])
        assert {one.split for one in of} == {r["split"]}
        assert len({one.subject_id for one in of}) == (2 if "irrelevant" in r["question_type"] else 1)
        assert len(of) == (2 if r["question_type"].startswith("comparison") else 1)
        if "consecutive" in r["question_type"]:
            assert of[0].time < of[1].time
    for count in counts.values():
        first, second = count.most_common(2)
        assert first[1] == second[1] <= 6
    assert len({r["question_id"] for r in rows}) == len(rows)


def test_every_option_and_wording_is_filled() -> None:
    assert BY_ID.keys() | LEFT_OUT.keys() == set(range(1, 71))
    for template in BY_ID.values():
        texts = {template.question(ask) for ask in template.asks}
        assert len(texts) == len(template.asks), template.template_id
        assert not any("{" in text for text in texts)
        assert template.facet in FACETS


def write_database(root: Path, rows: list[dict[str, str]]) -> Path:
    root.mkdir()
    with (root / "ptbxl_database.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return root


def test_a_row_that_cannot_be_read_is_listed_and_measurements_come_from_the_function(tmp_path: Path) -> None:
    rows = [row(i, "{'IMI': 100.0}" if i % 2 else "{'NORM': 100.0}") for i in range(1, 9)] + [row(9, "{'XYZ': 100.0}"), row(10, "{'SR': 0.0}")]
    root = write_database(tmp_path / "ptbxl", rows)

    def measured(path: Path) -> dict[str, float]:
        if "00010" in path.name:
            raise DataError("cut")
        return NORMAL | {"rr interval": 500.0 + 100 * int(path.name[:5])}

    made = build_ecg_qa(root, tmp_path / "out", seed=1, measured=measured)
    assert [(r.question_id, "XYZ" in r.reason or r.reason == "cut") for r in made.refused] == [("9", True), ("10", True)]
    opened = Questions.open(tmp_path / "out")
    ranges = opened.table.filter(pl.col("asked") == "41|rr interval")
    assert {(e[0], a[0]) for e, a in zip(ranges["ecg_ids"], ranges["answer"], strict=True)} <= {
        (f"{i:05d}", RANGES[0] if i > 5 else RANGES[2]) for i in range(1, 9)
    }
    assert len(ranges) == 6
    assert opened.manifest["config"]["measured"] == "measured"
    assert opened.manifest["left_out"]["17"] == LEFT_OUT[17]
    plain = build_ecg_qa(root, tmp_path / "plain", seed=1)
    assert plain.left_out[41] == "no measurement function was given"
    assert not Questions.open(tmp_path / "plain").table["attribute_type"].is_in(["numeric_feature"]).any()
    with pytest.raises(ConfigError, match="--most"):
        build_ecg_qa(root, tmp_path / "out", most=0)
    with pytest.raises(DataError, match="got none"):
        build_ecg_qa(write_database(tmp_path / "one", [row(1)]), tmp_path / "none")


@pytest.mark.real_data
def test_rules_agree_with_the_tables_and_answers_of_ecg_qa(tmp_path: Path, data_root: Path, ptbxl_root: Path) -> None:
    options = read_options(data_root / "ecg-qa")
    for template in BY_ID.values():
        theirs = set(options[template.template_id])
        assert set(template.options) >= theirs if template.template_id in (48, 49) else set(template.options) == theirs
    with (data_root / "ecg-qa" / "templates.csv").open(newline="") as file:
        for theirs_row in csv.DictReader(file):
            ours = BY_ID.get(int(theirs_row["template_id"]))
            assert ours is None or (ours.question_type, ours.attribute_type) == (theirs_row["question_type"], theirs_row["attribute_type"])
    prepare_ecg_qa(data_root / "ecg-qa", ptbxl_root, tmp_path / "out")
    ecgs = {one.ecg_id: one for one in read_annotations(ptbxl_root, Made())}
    agreed: Counter[str] = Counter()
    for r in Questions.open(tmp_path / "out").table.filter(pl.col("attribute_type") == "noise").to_dicts():
        lead = next((name for name in r["attribute"] if name in LEAD_NAMES), "")
        names = tuple(name for name in r["attribute"] if name not in (lead, "any kind of noises"))
        found = BY_ID[r["template_id"]].truth([ecgs[r["ecg_ids"][0]]], Ask(lead, names))
        agreed["left out" if found is None else "same" if found == set(r["answer"]) else "other"] += 1
    print(f"noise questions of ECG-QA, our truth against theirs: {dict(agreed)}")
    assert agreed == {"same": 1189, "left out": 6}


@pytest.mark.real_data
def test_real_annotations_give_every_type(tmp_path: Path, ptbxl_root: Path) -> None:
    made = build_ecg_qa(ptbxl_root, tmp_path / "out", seed=0, most=3)
    table = Questions.open(tmp_path / "out").table
    print(f"built: {made.written}, left out {sorted(made.left_out)}")
    assert set(table["question_type"]) == set(TYPES)
    assert set(table["template_id"]) | made.left_out.keys() == set(range(1, 71))
    numeric = {t.template_id for t in BY_ID.values() if t.attribute_type == "numeric_feature"}
    assert made.left_out.keys() == LEFT_OUT.keys() | numeric
    values = measured_with_ruler(next(iter(sorted((ptbxl_root / "records500").rglob("*.hea")))))
    assert values.keys() == NORMAL_RANGES.keys()
    assert 300 < values["rr interval"] < 2000
