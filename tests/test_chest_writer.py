"""The chest X-ray writer on hand-made witnesses: what is cut, what is replaced, what is added, and what stands behind it. Synthetic."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from chest_drafts import EFFUSION, LEFT, NORMAL, RIGHT, THRESHOLDS, chances, draft, dropped, index_of

from regen.data_prep.chest_labeler import label_report
from regen.data_prep.chexpert import OBSERVATIONS
from regen.errors import DataError
from regen.generators.chest_claims import claims, read_report
from regen.generators.chest_writer import ChestRequest, ChestWriter
from regen.study import Cxr, FloatArray, Study


def test_a_normal_chest_is_written_in_the_words_of_the_nearest() -> None:
    out = draft([NORMAL] * 3, chances())
    assert out.sections["findings"] == NORMAL.removesuffix(" No acute cardiopulmonary process.")
    assert out.sections["impression"] == "No acute cardiopulmonary abnormality."
    assert out.report == f"{out.sections['findings']} {out.sections['impression']}"
    assert {s.status for s in out.sentences} == {"supported"}
    assert not out.dropped
    assert (out.sentences[-1].finding, out.sentences[-1].probability) == ("No Finding", pytest.approx(0.95))


def test_what_the_probabilities_deny_is_taken_out_with_its_reason() -> None:
    out = draft([LEFT] * 3, chances())
    assert "effusion" not in out.report.replace("No pleural effusion", "")
    assert dropped(out, "effusion").reason == "probability 0.02, under the threshold of 0.40"
    assert dropped(out, "effusion").probability == pytest.approx(0.02)
    assert out.sections["impression"] == "No acute cardiopulmonary abnormality."


def test_what_denies_a_finding_is_taken_out_and_the_rest_of_it_said_again() -> None:
    out = draft([NORMAL] * 3, EFFUSION)
    assert "probability 0.90" in str(dropped(out, "No pleural effusion or pneumothorax").reason)
    assert label_report(out.sections["findings"])["Pleural Effusion"] == 1.0
    assert "No pneumothorax." in out.sections["findings"]
    assert out.sections["impression"] == "Pleural effusion."
    assert "completed:Pleural Effusion" in out.flags


@pytest.mark.parametrize("said", ["The lungs are clear.", "No acute cardiopulmonary abnormality.", "Normal chest."])
def test_normality_that_names_nothing_does_not_stand_beside_a_finding(said: str) -> None:
    told = f"{said} {NORMAL}"
    assert said in draft([told] * 3, chances()).report
    out = draft([told] * 3, chances(Consolidation=0.8, Lung_Opacity=0.8))
    assert said not in out.report


def test_intact_bones_do_not_stand_beside_a_fracture() -> None:
    out = draft([NORMAL] * 3, chances(Fracture=0.8))
    assert "intact" not in out.report
    assert "Fracture." in out.report


@pytest.mark.parametrize("said", ["Heart size is unchanged and normal.", "No new consolidation.", "Interval removal of the tube."])
def test_comparisons_need_a_prior(said: str) -> None:
    told = f"{said} {NORMAL}"
    out = draft([told] * 3, chances())
    assert said not in out.report
    assert "compares" in str(dropped(out, said).reason)
    study = Study("query", "me", priors=("Small left pleural effusion.",))
    with_prior = draft([told] * 3, chances(), study)
    assert all("compares" not in str(s.reason) for s in with_prior.dropped)
    assert all(s.status == "uncertain" for s in with_prior.sentences if s.text == said)


def test_a_finding_that_the_frame_left_out_comes_in_the_words_most_witnesses_use() -> None:
    told = NORMAL.replace("No focal consolidation.", "No focal consolidation. Linear atelectasis at the left lung base.")
    other = told.replace("Linear atelectasis at", "Streaky atelectasis is seen at")
    out = draft([LEFT, told, told, other], chances(Pleural_Effusion=0.95, Atelectasis=0.9))
    assert "Linear atelectasis at the left lung base." in out.sections["findings"]
    assert "completed:Atelectasis" in out.flags
    assert out.sections["findings"].index("atelectasis") < out.sections["findings"].index("effusion")
    assert out.sections["impression"].startswith("Small left pleural effusion.")


def test_routine_absences_are_added_where_the_witnesses_state_them() -> None:
    short = "Mediastinal contours are normal. No acute cardiopulmonary process."
    out = draft([short, NORMAL, NORMAL, NORMAL], chances())
    assert "No pleural effusion or pneumothorax." in out.report
    assert "Heart size is normal." in out.report
    alone = draft([short] * 4, chances())
    assert "pneumothorax" not in alone.report, "no witness says so"
    unsure = draft([short, NORMAL, NORMAL, NORMAL], chances(Pneumothorax=0.35))
    assert "No pleural effusion." in unsure.sections["findings"]
    assert "pneumothorax" not in unsure.report, "too likely to be denied as a matter of course"


def test_an_absence_on_one_side_says_nothing_without_a_finding_on_the_other() -> None:
    told = LEFT.replace("No pneumothorax.", "The right costophrenic angle is sharp. No pneumothorax.")
    assert "The right costophrenic angle is sharp." in draft([told] * 3, EFFUSION).report
    out = draft([told] * 3, chances())
    assert "costophrenic" not in out.report
    assert "one side alone" in str(dropped(out, "costophrenic").reason)


def test_devices_and_history_need_votes() -> None:
    out = draft([f"Left-sided dual-lead pacemaker, its leads in the right atrium and right ventricle. {NORMAL}"] * 3, chances())
    assert "pacemaker" not in out.report
    assert "probability 0.02" in str(dropped(out, "pacemaker").reason)
    operated = draft([f"Status post lobectomy. {NORMAL}", NORMAL, NORMAL, NORMAL], chances())
    assert "lobectomy" not in operated.report
    assert "nothing measures it" in str(dropped(operated, "lobectomy").reason)
    tube = f"The endotracheal tube ends 3.1 cm above the carina. {NORMAL}"
    paced = f"Left-sided dual-lead pacemaker is in place. {NORMAL}"
    voted = draft([tube, paced, paced, paced], chances(Support_Devices=0.9))
    assert "endotracheal" not in voted.report
    assert "pacemaker" in voted.sections["findings"]
    assert voted.sections["impression"] == "No acute cardiopulmonary abnormality."
    mixed = draft([tube, paced, NORMAL, NORMAL], chances(Support_Devices=0.9), step=0.0)
    assert "Support devices are present." in mixed.report
    assert "endotracheal" not in mixed.report
    assert "pacemaker" not in mixed.report


def test_lateral_views_and_other_patients_care_go() -> None:
    told = f"On the lateral view the spine is straight. Discussed with Dr. Smith. {NORMAL}"
    out = draft([told] * 3, chances())
    assert "lateral view" in str(dropped(out, "lateral").reason)
    assert "care" in str(dropped(out, "Discussed").reason)
    pixels = np.linspace(0, 1, 4, dtype=np.float32).reshape(2, 2)
    lateral = draft([told] * 3, chances(), Study("query", cxr=(Cxr(pixels, "PA"), Cxr(pixels, "LATERAL"))))
    assert "On the lateral view the spine is straight." in lateral.report


def test_a_sentence_that_refers_back_goes_with_the_one_before() -> None:
    told = NORMAL.replace("No focal consolidation.", "Consolidation in the right upper lobe. This opacity reaches down to the minor fissure.")
    lower = NORMAL.replace("No focal consolidation.", "Consolidation in the left lower lobe.")
    out = draft([told, lower, lower, lower], chances(Consolidation=0.9, Lung_Opacity=0.9))
    assert "This opacity" not in out.report
    assert "refers" in str(dropped(out, "This opacity").reason)
    assert "Consolidation in the left lower lobe." in out.report


def test_without_neighbours_the_probabilities_are_written_alone() -> None:
    out = draft([], chances(Pleural_Effusion=0.9, Cardiomegaly=0.6))
    assert "no_retrieval" in out.flags
    assert not out.neighbours
    assert out.sections["impression"] == "Pleural effusion. Cardiomegaly."
    assert "No pneumothorax." in out.sections["findings"]
    assert all(not s.evidence and s.probability is not None for s in out.sentences)
    padded = ChestWriter(index_of([NORMAL]), THRESHOLDS).write(
        [ChestRequest(Study("query"), chances(), np.full(3, -1), np.full(3, np.nan, np.float32))]
    )
    assert "no_retrieval" in padded[0].flags


def test_cases_without_a_report_speak_by_their_labels() -> None:
    index = index_of([""] * 3, [{"Pleural Effusion": 1.0, "Cardiomegaly": 0.0}] * 3)
    (out,) = ChestWriter(index, THRESHOLDS).write([ChestRequest(Study("query"), EFFUSION, np.arange(3), np.full(3, 0.8, np.float32))])
    assert "no_report" in out.flags
    assert "no_retrieval" not in out.flags
    assert out.sections["impression"] == "Pleural effusion."
    assert [e.study_id for e in out.sentences[-1].evidence] == ["case0", "case1", "case2"]


def test_far_neighbours_are_flagged() -> None:
    assert "low_evidence" in draft([NORMAL] * 3, chances(), limit=0.95).flags
    assert "low_evidence" not in draft([NORMAL] * 3, chances(), limit=0.85).flags


def test_every_sentence_carries_status_and_evidence_that_states_the_same() -> None:
    reports = [LEFT, RIGHT, LEFT, NORMAL, LEFT]
    out = draft(reports, EFFUSION)
    for sentence in out.sentences:
        assert sentence.status in ("supported", "uncertain")
        assert sentence.evidence
        for case in sentence.evidence:
            told = read_report(reports[int(case.study_id.removeprefix("case"))]).claims
            for claim in claims(sentence.text):
                assert any(c.observation == claim.observation and c.sides >= claim.sides and (c.state > 0) == (claim.state > 0) for c in told)
    assert {s.status for s in out.dropped} <= {"contradicted"}
    assert {e.study_id for s in out.sentences for e in s.evidence} <= {h.study_id for h in out.neighbours}
    assert all(h.allowed == "another subject" for h in out.neighbours)


def test_the_draft_never_says_otherwise_than_its_findings() -> None:
    rng = np.random.default_rng(0)
    pool = [NORMAL, LEFT, RIGHT, NORMAL.replace("Heart size is normal.", "Moderate cardiomegaly."), f"Dual-lead pacemaker is in place. {LEFT}"]
    for _ in range(60):
        reports = [pool[i] for i in rng.integers(0, len(pool), 6)]
        out = draft(reports, np.where(rng.random(14) < 0.2, 0.8, 0.05).astype(np.float32))
        positive = {f.code for f in out.findings if f.positive}
        labels = label_report(out.report)
        assert {name for name, value in labels.items() if value > 0} - {"No Finding", "Lung Opacity"} == positive - {"No Finding", "Lung Opacity"}


def test_the_study_own_report_never_reaches_the_writer() -> None:
    poison = "Zebra stripes over both lungs. Small right pleural effusion."
    study = Study("case0", "me", report=poison, sections={"findings": poison}, observations={"Pleural Effusion": 1.0})
    reports = [f"Zebra stripes over both lungs. {RIGHT}", LEFT, LEFT]
    out = draft(reports, EFFUSION, study)
    assert "ebra" not in json.dumps(out.to_dict())
    assert "right" not in out.report
    assert "case0" not in {h.study_id for h in out.neighbours}
    blank = draft(reports, EFFUSION, replace(study, report=None, sections=None, observations=None))
    assert blank.report == out.report


def test_findings_and_the_json_object() -> None:
    out = draft([LEFT] * 3, EFFUSION)
    assert sorted(f.code for f in out.findings) == sorted(OBSERVATIONS)
    assert [f.code for f in out.findings if f.positive] == ["Pleural Effusion"]
    stored = json.loads(json.dumps(out.to_dict()))
    assert stored["sections"] == out.sections
    assert set(out.sections) == {"findings", "impression"}


def unmeasured(probabilities: FloatArray, *names: str) -> FloatArray:
    out = probabilities.copy()
    out[[OBSERVATIONS.index(name) for name in names]] = np.nan
    return out


def test_what_nothing_measures_is_no_finding_and_needs_a_majority() -> None:
    broken = LEFT.replace("Bony structures are intact.", "Healing right rib fracture.")
    given = unmeasured(EFFUSION, "Fracture")
    most = draft([broken, broken, LEFT], given)
    (said,) = [s for s in most.sentences if "fracture" in s.text]
    assert (said.status, said.probability, said.finding) == ("uncertain", None, "Fracture")
    assert "Fracture" not in {f.code for f in most.findings}
    few = draft([broken, LEFT, LEFT, LEFT], given)
    assert "fracture" not in few.report
    assert "nothing measures it" in str(dropped(few, "fracture").reason)
    assert "Bony structures are intact." in draft([LEFT] * 3, given).report
    assert next(s for s in draft([LEFT] * 3, given).sentences if "Bony" in s.text).status == "uncertain"


def test_nothing_acute_is_no_more_than_what_is_measured() -> None:
    whole, part = draft([NORMAL] * 3, chances()), draft([NORMAL] * 3, unmeasured(chances(), "Pneumonia"))
    assert [s.status for s in (whole.sentences[-1], part.sentences[-1])] == ["supported", "uncertain"]
    assert whole.sections["impression"] == part.sections["impression"] != ""
    blind = draft([NORMAL] * 3, unmeasured(chances(), *OBSERVATIONS))
    assert (blind.sections["impression"], blind.findings) == ("", ())
    assert "no_impression" in blind.flags


def test_an_opacity_is_not_denied_beside_a_finding_that_is_one() -> None:
    said = NORMAL.replace("No focal consolidation.", "No focal opacity.")
    out = draft([said] * 3, unmeasured(chances(Consolidation=0.9), "Lung Opacity"))
    assert "No focal opacity." not in out.report
    assert dropped(out, "No focal opacity.").reason == "another finding of this study is one"


def test_thresholds_of_the_request_come_first() -> None:
    writer = ChestWriter(index_of([LEFT] * 3), THRESHOLDS)
    request = ChestRequest(Study("query"), EFFUSION, np.arange(3), np.full(3, 0.8, np.float32), np.full(14, 0.95, np.float32))
    assert "effusion" in writer.write([replace(request, thresholds=None)])[0].sections["impression"]
    assert "effusion" not in writer.write([request])[0].sections["impression"]


def test_batches_are_written_one_by_one() -> None:
    writer = ChestWriter(index_of([LEFT, RIGHT, NORMAL]), THRESHOLDS)
    requests = [ChestRequest(Study(str(i)), p, np.arange(3), np.full(3, 0.8, np.float32)) for i, p in enumerate((EFFUSION, chances()))]
    assert [d.report for d in writer.write(requests)] == [writer.write([r])[0].report for r in requests]
    assert writer.write([]) == []
    assert writer.needs == 20


def test_bad_requests_are_refused() -> None:
    with pytest.raises(DataError, match="14 probabilities"):
        ChestRequest(Study("query"), np.zeros(13, np.float32), np.arange(0), np.zeros(0, np.float32))
    with pytest.raises(DataError, match="14 thresholds"):
        ChestRequest(Study("query"), EFFUSION, np.arange(0), np.zeros(0, np.float32), np.full(14, 2.0, np.float32))
    with pytest.raises(DataError, match="14 thresholds"):
        ChestRequest(Study("query"), EFFUSION, np.arange(0), np.zeros(0, np.float32), np.full(14, np.nan, np.float32))
    with pytest.raises(DataError, match="as many scores"):
        ChestRequest(Study("query"), EFFUSION, np.arange(2), np.zeros(1, np.float32))
    with pytest.raises(DataError, match="14 thresholds"):
        ChestWriter(index_of([NORMAL]), np.zeros(3, np.float32))


def test_sections_are_read_with_and_without_headings() -> None:
    told = read_report("FINDINGS: Small left pleural effusion. The bones are intact.\n\nIMPRESSION: Small left pleural effusion.")
    assert told.impression == ("Small left pleural effusion.",)
    assert len(told.findings) == 2
    joined = read_report(LEFT)
    assert joined.impression == ("Small left pleural effusion.",)
    assert joined.findings[-1] == "Bony structures are intact."
    assert read_report(NORMAL).impression == ("No acute cardiopulmonary process.",)
    assert read_report("Small left pleural effusion.").findings == ("Small left pleural effusion.",)
