"""Two prepared folders as one: every study whole, subjects in one split, and pairs that train."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from test_shared import CPU, TINY

from regen.cli import main
from regen.data_prep import joining
from regen.data_prep.joining import join
from regen.data_prep.prepare import Entry, write
from regen.data_prep.prepared import Prepared
from regen.data_prep.synthetic_cohort import entries
from regen.encoders.pairs import pair_studies
from regen.encoders.shared_recipe import SharedRecipe
from regen.encoders.train_shared import train_shared
from regen.errors import ConfigError, DataError
from regen.index.cases import cases_from


def prepared(out: Path, given: Iterable[Entry], **options: object) -> Prepared:
    write(given, out, "synthetic", {}, workers=1, **({"pixels": 32} | options))  # type: ignore[arg-type]
    return Prepared.open(out)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Prepared, Prepared]:
    """X-rays and ECGs of the same made-up people, prepared one by one."""
    root = tmp_path_factory.mktemp("join")
    every = list(entries(40, 5, ("ecg", "cxr")))
    images = [entry for entry in every if entry.study_id.endswith("cxr")]
    hearts = [entry for entry in every if not entry.study_id.endswith("cxr")]
    assert len(images) == len(hearts) == 40
    return prepared(root / "cxr", images), prepared(root / "ecg", hearts)


def test_every_study_is_there_whole(parts: tuple[Prepared, Prepared], tmp_path: Path) -> None:
    made = join(parts[0].path, parts[1].path, tmp_path / "both")
    both = Prepared.open(tmp_path / "both")
    subjects = [set(part.studies["subject_id"]) for part in parts]
    assert made.shared == len(subjects[0] & subjects[1])
    assert sum(made.written.values()) == len(both.studies) == 80
    same = [name for name in both.studies.columns if name not in ("ecg_row", "cxr_rows")]
    for part, rows in zip(parts, (both.studies[:40], both.studies[40:]), strict=True):
        assert rows.select(same).equals(part.studies.select(same))
    np.testing.assert_array_equal(both.load(both.studies[40:]), parts[1].load(parts[1].studies))
    for mine, theirs in zip(both.images(both.studies[:40], every=True), parts[0].images(parts[0].studies, every=True), strict=True):
        np.testing.assert_array_equal(mine[0], theirs[0])
        np.testing.assert_array_equal(mine[1], theirs[1])


def test_several_views_and_both_kinds_in_one_folder_keep_their_order(parts: tuple[Prepared, Prepared], tmp_path: Path) -> None:
    one = join(parts[0].path, parts[1].path, tmp_path / "both")
    assert one.shared
    rows = Prepared.open(tmp_path / "both").studies
    other = prepared(tmp_path / "other", [replace(entry, study_id=f"new-{entry.study_id}") for entry in entries(6, 5, ("ecg", "cxr"))])
    join(tmp_path / "both", other.path, tmp_path / "more")
    more = Prepared.open(tmp_path / "more")
    assert more.studies[:80].equals(rows)
    hearts = more.studies[80:].filter(more.studies[80:]["ecg_row"].is_not_null())
    np.testing.assert_array_equal(more.load(hearts), other.load(other.studies.filter(other.studies["ecg_row"].is_not_null())))


def test_shifted_dates_stay_incomparable(parts: tuple[Prepared, Prepared], tmp_path: Path) -> None:
    folders = []
    for source, given in (("mimic-cxr", entries(4, 5, ("cxr",))), ("mimic-iv-ecg", entries(4, 5, ("ecg",)))):
        named = [replace(entry, study_id=f"{source}-{entry.study_id}", time=datetime(2180, 5, 6)) for entry in given]
        write(named, tmp_path / source, source, {}, workers=1, pixels=32)
        folders.append(tmp_path / source)
    join(*folders, tmp_path / "both")
    both = Prepared.open(tmp_path / "both")
    assert both.manifest["config"]["source"] == "mimic-cxr+mimic-iv-ecg"
    assert both.studies["time"].null_count() == 0
    cases = cases_from(both, both.studies)
    assert cases["time"].null_count() == len(cases) == 8


def test_a_tri_modal_encoder_trains_on_the_pairs(parts: tuple[Prepared, Prepared], tmp_path: Path) -> None:
    join(parts[0].path, parts[1].path, tmp_path / "both")
    data = Prepared.open(tmp_path / "both")
    pairs = pair_studies(data.split("train"), data.split_cxr("train"), 60)
    assert (pairs >= 0).all(1).any()
    assert not (pair_studies(parts[1].split("train"), parts[0].split_cxr("train"), 60)[:, 0] < -1).any()
    train_shared(SharedRecipe(**TINY, ecg_tower=True), data.path, tmp_path / "encoder", CPU)
    assert (tmp_path / "encoder" / "cxr.safetensors").is_file()


def test_what_contradicts_itself_is_refused_by_name(parts: tuple[Prepared, Prepared], tmp_path: Path) -> None:
    cxr, ecg = (part.path for part in parts)
    with pytest.raises(DataError, match=r"each study_id in one of the folders, got .* and 37 more in both"):
        join(cxr, cxr, tmp_path / "x")
    few = [entry for entry in entries(6, 5, ("ecg",))]
    strangers = prepared(tmp_path / "strangers", [replace(entry, subject_id=f"other-{i}") for i, entry in enumerate(few)])
    with pytest.raises(DataError, match=r"expected subjects that .* share, got none"):
        join(cxr, strangers.path, tmp_path / "x")
    slow = prepared(tmp_path / "slow", few, rate=500.0)
    fast = prepared(tmp_path / "fast", [replace(entry, study_id=f"again-{entry.study_id}") for entry in few])
    with pytest.raises(ConfigError, match=r"expected one --rate, got 100 in .* and 500 in .*slow"):
        join(fast.path, slow.path, tmp_path / "x")
    with pytest.raises(ConfigError, match="did you mean 'first'"):
        join(cxr, ecg, tmp_path / "x", "frist")
    assert joining._RULES == ("same", "first")


def test_a_subject_in_two_splits_is_refused_or_takes_the_first_ones(
    parts: tuple[Prepared, Prepared], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = dict(parts[0].studies.select("subject_id", "split").iter_rows())
    turned = {"train": "test", "val": "train", "test": "val"}
    hearts = [replace(entry, split=turned[split[entry.subject_id]]) for entry in entries(40, 5, ("ecg",))]
    other = prepared(tmp_path / "other", hearts)
    with pytest.raises(DataError, match=r"each subject in one split, got .*\(\w+, \w+\).* in two; .*--splits first"):
        join(parts[0].path, other.path, tmp_path / "x")
    assert not (tmp_path / "x").exists()
    with pytest.raises(SystemExit):
        main(["prepare", "join", str(parts[0].path), str(other.path), "--splits", "first", "--out", str(tmp_path / "both")])
    assert "subjects in both" in capsys.readouterr().err
    both = Prepared.open(tmp_path / "both").studies
    assert {subject: where for subject, where in both.select("subject_id", "split").iter_rows()} == split
