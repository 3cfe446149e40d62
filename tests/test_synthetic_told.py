"""What only the chart reveals: the reports tell it, the pictures and their labels stay, and without 'ed' nothing changes."""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from regen.artifact import load_manifest
from regen.data_prep.chest_labeler import label_report
from regen.data_prep.labeler import statements_in
from regen.data_prep.prepared import Prepared
from regen.data_prep.statements import BY_CODE
from regen.data_prep.synthetic_chest import observations
from regen.data_prep.synthetic_cohort import (
    _cxr_sections,
    _ecg_written,
    emergency,
    entries,
    latent,
    make_cxr_study,
    make_study,
    make_told_cxr_study,
    make_told_study,
)  # fmt: skip
from regen.data_prep.synthetic_ed import Told, facts
from regen.data_prep.synthetic_ed_tables import COLUMNS
from regen.data_prep.synthetic_told import EPISODE_FACTS, FACTS, stated
from regen.errors import ConfigError

N, SEED = 1000, 1
CXR_BYTES = "0b03721846d39bd56d33e3ca43d206d8943eb0b704000ff55428b3209b2b0b0b"


@cache
def of(number: int) -> dict[str, Told]:
    return facts(SEED, number)


def test_without_ed_the_films_are_what_they_were() -> None:
    """A digest, to a thousandth of the range, of films and reports from before there were stays; test_synthetic_cxr has the ECGs'."""
    digest = hashlib.sha256()
    for key in ((0, 0), (0, 3), (0, 4), (9, 1)):
        study = make_cxr_study(key)
        digest.update(np.rint(study.cxr[0].pixels * 1000).astype(np.int32).tobytes())
        words = (study.study_id, study.subject_id, study.time, study.report, study.sections, study.observations, study.age, study.sex)
        digest.update(" ".join(map(str, words)).encode())
    assert digest.hexdigest() == CXR_BYTES


def test_the_pictures_are_the_same_with_and_without_a_stay() -> None:
    for key in ((SEED, 0), (SEED, 4), (SEED, 7)):
        plain, told = make_study(key), make_told_study(key)
        assert plain.ecg is not None
        assert told.ecg is not None
        assert plain.ecg.signal.tobytes() == told.ecg.signal.tobytes()
        assert (plain.study_id, plain.subject_id, plain.time) == (told.study_id, told.subject_id, told.time)
        film, told_film = make_cxr_study(key), make_told_cxr_study(key)
        assert film.cxr[0].pixels.tobytes() == told_film.cxr[0].pixels.tobytes()
        assert (film.study_id, film.time, film.observations) == (told_film.study_id, told_film.time, told_film.observations)


def test_ed_goes_with_a_picture_and_adds_no_study() -> None:
    assert [e.study_id for e in entries(3, 0, ("ecg", "cxr", "ed"))] == [e.study_id for e in entries(3, 0, ("ecg", "cxr"))]
    with pytest.raises(ConfigError, match="at least one modality of ecg, cxr, got ed"):
        entries(3, 0, ("ed",))


def test_reports_read_back_to_the_labels_and_the_facts() -> None:
    for number in range(400):
        coding, text = _ecg_written(SEED, number)
        assert statements_in(text) == set(coding.statements), text
        assert set(coding.statements) - {"DIG"} == set(of(number)["ecg"].signal)
        assert stated(text) == set(of(number)["ecg"].context), text
        sections = _cxr_sections(SEED, number)
        text = f"{sections['findings']} {sections['impression']}"
        assert label_report(text) == observations(latent(SEED, number).chest), text
        assert stated(text) == set(of(number)["cxr"].context), text


def test_every_fact_is_told_in_eight_to_twenty_per_cent_of_visits() -> None:
    counts = Counter(name for number in range(N) for told in of(number).values() for name in told.context if name != "comparison")
    counts |= Counter(f"comparison of {kind}" for number in range(N) for kind, told in of(number).items() if "comparison" in told.context)
    assert counts.keys() == {fact.name for fact in FACTS if fact.name != "comparison"} | {"comparison of ecg", "comparison of cxr"}
    for name, count in counts.items():
        assert 0.07 < count / N < 0.20, (name, count / N)


def test_a_fact_is_told_exactly_where_the_chart_has_it() -> None:
    for number in range(N):
        stay, known = emergency(SEED, number)
        codes, told = set(of(number)["ecg"].signal), of(number)["ecg"].context
        charted = not stay.reversed
        assert ("digoxin effect" in told) == (charted and stay.reconciled and "digoxin" in known.medications and not codes & {"NORM", "PACE"})
        fibrillating = bool(codes & {"AFIB", "AFLT", "PACE"})
        assert ("known atrial fibrillation" in told) == (charted and "paroxysmal atrial fibrillation" in known.history and not fibrillating)
        assert ("known pacemaker" in told) == (charted and "leadless pacemaker" in known.history)
        assert "known pacemaker" not in told or "PACE" not in codes
        assert ("known heart failure" in of(number)["cxr"].context) == (charted and "heart failure" in known.history)
        episode = {EPISODE_FACTS[stay.episode[0]]} if stay.episode and charted else set()
        assert told.keys() & set(EPISODE_FACTS.values()) == episode


def test_what_is_told_does_not_go_with_what_is_shown() -> None:
    """Facts that are drawn flat are as frequent among the visits with a statement as among the others."""
    for name in ("recent nitroglycerin", "known pacemaker"):
        told = np.array([name in of(n)["ecg"].context for n in range(N) if "PACE" not in of(n)["ecg"].signal])
        for code in ("NORM", "AFIB", "LVH", "STACH", "STD_", "LNGQT"):
            shown = np.array([code in of(n)["ecg"].signal for n in range(N) if "PACE" not in of(n)["ecg"].signal])
            spread = np.sqrt(told.mean() * (1 / shown.sum() + 1 / (~shown).sum()))
            assert abs(told[shown].mean() - told[~shown].mean()) < 4 * spread, (name, code)


def test_comparisons_need_a_prior_and_speak_of_what_it_says() -> None:
    kinds: set[str] = set()
    for number in range(N):
        told = of(number)["ecg"].context
        assert number % 5 == 4 or not any("comparison" in side.context for side in of(number).values())
        for sentence in told.get("comparison", "").split(". "):
            code = next((c for c in ("AFIB", "CLBBB", "LVH") if sentence.startswith(BY_CODE[c].label)), None)
            if code:
                before, now = (code in of(n)["ecg"].signal for n in (number - 1, number))
                word = next(w for w in ("unchanged", "new", "no longer") if w in sentence)
                assert (before, now) == {"unchanged": (True, True), "new": (False, True), "no longer": (True, False)}[word]
                kinds.add(word)
    assert kinds == {"unchanged", "new", "no longer"}


def test_a_second_visit_has_the_first_report_as_its_prior() -> None:
    first, second = make_told_study((SEED, 3)), make_told_study((SEED, 4))
    assert (first.priors, second.priors) == ((), (first.report,))
    film, later = make_told_cxr_study((SEED, 3)), make_told_cxr_study((SEED, 4))
    assert (film.priors, later.priors) == ((), (film.report,))
    stay, known = emergency(SEED, 4)
    for study in (second, later):
        assert study.sections is not None
        assert study.sections["indication"] == f"{stay.complaint}."
        assert ("history" in study.sections) == bool(known.history)


def test_the_command_writes_the_tables_under_the_manifest(tmp_path: Path) -> None:
    from regen.cli import main

    with pytest.raises(SystemExit) as done:
        main(["prepare", "synthetic", "--n", "6", "--modalities", "ecg,ed", "--out", str(tmp_path / "data")])
    assert done.value.code == 0
    assert {f"ed/{table}.csv.gz" for table in COLUMNS} <= load_manifest(tmp_path / "data")["files"].keys()
    rows = Prepared.open(tmp_path / "data").studies.sort("study_id")
    assert rows["report"].to_list() == [make_told_study((0, number)).report for number in range(6)]
