"""The made-up emergency stays: official tables, physiology that follows the state, gaps and mistakes at their rates, late rows, planted causes."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from regen.data_prep import synthetic_cohort
from regen.data_prep import synthetic_ed_tables as tables
from regen.data_prep import synthetic_stay as stays
from regen.data_prep.synthetic_cohort import entries, make_cxr_study, make_study, visit
from regen.data_prep.synthetic_ed import facts, planted, write_ed
from regen.data_prep.synthetic_known import Known

N, SEED = 2000, 1
Tables = dict[str, pl.DataFrame]
NUMBERS = ["temperature", "heartrate", "resprate", "o2sat", "sbp", "dbp"]


def read(folder: Path) -> Tables:
    out = {name: pl.read_csv(folder / f"{name}.csv.gz", infer_schema=False) for name in tables.COLUMNS}
    for name in ("triage", "vitalsign"):
        out[name] = out[name].with_columns(pl.col(NUMBERS).cast(pl.Float64))
    return {
        name: t.with_columns(pl.col("^(intime|outtime|charttime)$").str.to_datetime("%Y-%m-%d %H:%M:%S"), number=pl.col("stay_id").str.slice(12, 5))
        .with_columns(pl.col("number").cast(pl.Int64))
        for name, t in out.items()
    }  # fmt: skip


@pytest.fixture(scope="module")
def ed(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    folder = tmp_path_factory.mktemp("ed")
    write_ed(folder, N, SEED)
    return read(folder)


@pytest.fixture(scope="module")
def states() -> list[stays.Visit]:
    return [visit(SEED, number) for number in range(N)]


@cache
def drawn(number: int) -> tuple[stays.Stay, Known]:
    return synthetic_cohort.emergency(SEED, number)


def near(share: float, rate: float, n: int) -> bool:
    """Within four standard errors."""
    return abs(share - rate) < 4 * np.sqrt(rate * (1 - rate) / n)


def before_ecg(ed: Tables, name: str) -> pl.DataFrame:
    """Rows of a table before the ECG, with hours: how long before."""
    hours = (pl.lit(visit(SEED, 0).ecg_time) + pl.duration(hours=8 * pl.col("number")) - pl.col("charttime")).dt.total_seconds() / 3600
    return ed[name].with_columns(hours=hours).filter(pl.col("hours") > 0)


def test_tables_have_the_official_columns_and_one_stay_a_visit(ed: Tables) -> None:
    for name, columns in tables.COLUMNS.items():
        assert ed[name].columns[:-1] == columns
        assert ed[name]["stay_id"].is_in(ed["edstays"]["stay_id"].to_list()).all()
    assert ed["edstays"].columns[:5] == ["subject_id", "hadm_id", "stay_id", "intime", "outtime"]
    assert ed["edstays"]["subject_id"].to_list() == [e.subject_id for e in entries(N, SEED, ("ecg", "ed"))]
    assert ed["triage"]["number"].to_list() == list(range(N))


def test_studies_lie_within_their_stay_and_no_other(ed: Tables, states: list[stays.Visit]) -> None:
    reversed_ = 0
    for state, row in zip(states, ed["edstays"].iter_rows(named=True), strict=True):
        if row["outtime"] < row["intime"]:
            reversed_ += 1
        else:
            assert row["intime"] < state.ecg_time < state.cxr_time < row["outtime"]
    assert reversed_ > 0
    assert near(reversed_ / N, stays.REVERSED, N)
    good = ed["edstays"].filter(pl.col("outtime") > pl.col("intime")).sort("subject_id", "intime")
    later = good.with_columns(last=pl.col("outtime").shift(1).over("subject_id")).filter(pl.col("last").is_not_null())
    assert len(later) > 300
    assert (later["intime"] > later["last"]).all()
    for number in (0, 3, 4):
        assert make_study((SEED, number)).time == states[number].ecg_time
        assert make_cxr_study((SEED, number)).time == states[number].cxr_time


def test_physiology_follows_the_state(ed: Tables, states: list[stays.Visit]) -> None:
    triage = ed["triage"]
    plausible = triage.filter(pl.col("temperature") > 80, pl.col("sbp") > pl.col("dbp"), pl.col("sbp") > 50, pl.col("o2sat") <= 100)

    def mean(name: str, numbers: list[int]) -> float:
        return float(plausible.filter(pl.col("number").is_in(numbers))[name].mean())  # type: ignore[arg-type]

    def groups(ill: list[bool]) -> tuple[list[int], list[int]]:
        assert sum(ill) > 30
        return [i for i, x in enumerate(ill) if x], [i for i, x in enumerate(ill) if not x]

    infected, clear = groups([bool(s.chest.consolidations) for s in states])
    assert mean("temperature", infected) > mean("temperature", clear) + 1
    assert mean("resprate", infected) > mean("resprate", clear) + 3
    for ill in (
        [s.chest.edema is not None for s in states], [bool(s.chest.effusions) for s in states],
        [s.chest.pneumothorax is not None for s in states], ["copd" in s.patient.conditions for s in states],
    ):  # fmt: skip
        sick, well = groups(ill)
        assert mean("o2sat", sick) < mean("o2sat", well) - 1
    high, normal = groups(["hypertension" in s.patient.conditions for s in states])
    assert mean("sbp", high) > mean("sbp", normal) + 12
    rates = plausible.filter(pl.col("heartrate") > 0, pl.col("heartrate").is_not_null())
    gaps = [abs(states[number].rate - rate) for number, rate in rates.select("number", "heartrate").iter_rows()]
    assert np.median(gaps) < 4
    assert max(gaps) < 25


def test_shock_is_low_pressure_of_the_sickest() -> None:
    shocked = [stay for stay, _ in (drawn(number) for number in range(600)) if stay.triage["sbp"] < 95]
    assert len(shocked) > 10
    assert all(stay.acuity == 1 for stay in shocked)


def test_the_rate_is_that_of_the_trace() -> None:
    from regen.data_prep.beats import find_beats
    from regen.data_prep.clean import remove_baseline, resample

    close = []
    for number in range(20):
        study = make_study((SEED, number))
        assert study.ecg is not None
        beats = len(find_beats(remove_baseline(resample(study.ecg.signal, 500.0), 100.0)).peaks)
        close.append(abs(6 * beats - visit(SEED, number).rate) < 12)
    assert np.mean(close) >= 0.9


def test_gaps_come_at_their_rates_and_more_often_in_a_rush(ed: Tables) -> None:
    acuity = np.array([drawn(number)[0].acuity for number in range(N)])
    for name, rate in tables.MISSING.items():
        empty = ed["triage"][name].is_null().to_numpy()
        for rushed in (False, True):
            group = empty[(acuity <= 2) == rushed]
            assert near(group.mean(), rate * (tables.RUSHED if rushed else 1), len(group)), (name, rushed)
    calm = ed["vitalsign"].filter(pl.col("number").is_in(np.flatnonzero(acuity > 2).tolist()))
    for name, rate in tables.MISSING_LATER.items():
        assert abs(calm[name].null_count() / len(calm) - rate) < 0.02, name


def test_mistakes_come_at_their_rates(ed: Tables) -> None:
    rows = pl.concat([ed[name].select(*NUMBERS, "pain") for name in ("triage", "vitalsign")])

    def share(name: str, *wrong: pl.Expr) -> float:
        there = rows.filter(pl.col(name).is_not_null())
        return len(there.filter(*wrong)) / len(there)

    rates = [
        (share("temperature", pl.col("temperature") < 50), tables.CELSIUS),
        (share("sbp", pl.col("sbp") < 35), tables.KILOPASCAL),
        (share("o2sat", pl.col("o2sat") > 100), tables.IMPLAUSIBLE / 4),
        (share("sbp", pl.col("sbp") < pl.col("dbp")), tables.IMPLAUSIBLE / 4),
        (share("resprate", pl.col("resprate") > 80), tables.IMPLAUSIBLE / 4),
        (share("heartrate", pl.col("heartrate") < 0), tables.IMPLAUSIBLE / 4),
        (share("pain", ~pl.col("pain").str.contains(r"^\d+$")), tables.PAIN_TEXT),
    ]
    for got, rate in rates:
        assert 0.6 * rate < got < 1.5 * rate
    assert (rows["o2sat"] == 988).any()
    assert "unable" in rows["pain"].to_list()
    for name in ("vitalsign", "medrecon", "pyxis"):
        assert ed[name].is_duplicated().sum() / 2 / len(ed[name]) == pytest.approx(tables.DUPLICATE, abs=0.008)
    unasked = 1 - len({n for n in ed["medrecon"]["number"]}) / len([n for n in range(N) if drawn(n)[1].medications])
    assert near(unasked, stays.UNRECONCILED, N)


def test_late_rows_follow_the_study_and_tell_what_it_showed(ed: Tables, states: list[stays.Visit]) -> None:
    last = {number: time for number, time in ed["vitalsign"].group_by("number").agg(pl.col("charttime").max()).iter_rows()}
    assert np.mean([last[number] > state.ecg_time for number, state in enumerate(states) if number in last]) > 0.9
    drugs = ed["pyxis"].select("number", "name", "charttime").rows()
    for drug, shows, at in (
        ("diltiazem", lambda s: bool(s.coding.statements.keys() & {"AFIB", "AFLT"}), "ecg_time"),
        ("ceftriaxone", lambda s: bool(s.chest.consolidations), "cxr_time"),
        ("furosemide", lambda s: s.chest.edema is not None, "cxr_time"),
    ):
        when = {number: time for number, name, time in drugs if name == drug}
        assert len(when) > 50
        assert all(shows(states[n]) and timedelta() < time - getattr(states[n], at) < timedelta(minutes=15) for n, time in when.items())
        assert len(when) / sum(shows(s) for s in states) > 0.7
    after = [n for n in range(N) for row in drawn(n)[0].series if row.kept and row.time > states[n].ecg_time]
    assert near(len(after) / N, stays.LATE_EPISODE, N)


def test_a_planted_cause_is_found_in_the_tables_and_nowhere_else(ed: Tables) -> None:
    """One value beyond its range where the rest of the stay and its triage are calm: looking there finds it."""
    beyond = {"sbp": pl.col("sbp").is_between(40, 85) & (pl.col("sbp") > pl.col("dbp").fill_null(0)), "o2sat": pl.col("o2sat") < 86,
              "temperature": pl.col("temperature") > 102.4}  # fmt: skip
    rows = before_ecg(ed, "vitalsign").unique()
    found: dict[int, list[tuple[str, int]]] = {}
    for name, outside in beyond.items():
        low, high = stays.CALM[name]
        calm = {n for n in range(N) if low <= drawn(n)[0].triage[name] <= high}
        for number, hours in rows.filter(outside).select("number", "hours").iter_rows():
            if number in calm:
                found.setdefault(number, []).append((name, round(hours)))
    truth = {number: drawn(number)[0].episode for number in range(N)}
    planted_ = {number: [episode] for number, episode in truth.items() if episode}
    assert len(planted_) > 600
    wrong = [number for number in planted_.keys() | found.keys() if planted_.get(number) != found.get(number)]
    assert len(wrong) < 0.01 * len(planted_), "but for a pressure typed into the other's cell where the other is missing"
    for number, episode in list(truth.items())[:50]:
        assert planted(SEED, number) == (None if drawn(number)[0].reversed else episode)


def test_only_the_time_tells_recent_nitroglycerin_from_an_old_one(ed: Tables) -> None:
    hours = dict(before_ecg(ed, "pyxis").filter(pl.col("name") == "nitroglycerin").select("number", "hours").iter_rows())
    recent, old = ([n for n, h in hours.items() if (h < stays.NITRATE_HOURS) == soon] for soon in (True, False))
    assert min(len(recent), len(old)) > 150
    assert all(hours[n] > 12 for n in old)
    for number, hour in hours.items():
        told = "recent nitroglycerin" in facts(SEED, number)["ecg"].context
        assert told == (hour < stays.NITRATE_HOURS and not drawn(number)[0].reversed)
    counts = dict(before_ecg(ed, "vitalsign").group_by("number").len().iter_rows())
    means, spread = zip(*[(np.mean(c), np.var(c) / len(c)) for c in ([counts.get(n, 0) for n in group] for group in (recent, old))])
    assert abs(means[0] - means[1]) < 4 * np.sqrt(sum(spread))


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, n, seed in (("one", 30, 2), ("again", 30, 2), ("other", 30, 3), ("more", 40, 2)):
        write_ed(tmp_path / name, n, seed)
    for table in tables.COLUMNS:
        one, again, other = ((tmp_path / name / f"{table}.csv.gz").read_bytes() for name in ("one", "again", "other"))
        assert one == again != other
        assert one[4:8] == b"\0\0\0\0"
    few, many = (read(tmp_path / name) for name in ("one", "more"))
    for table in tables.COLUMNS:
        assert few[table].equals(many[table].head(len(few[table])))
