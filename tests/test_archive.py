"""The archive: every modality searches its own cases, words and images meet, a bundle of X-rays alone searches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image
from test_shared import CPU, TINY

from regen.bundle import make_bundle
from regen.cli import main
from regen.data_prep.prepare import write
from regen.data_prep.prepared import Prepared
from regen.data_prep.synthetic_cohort import entries
from regen.encoders.shared_recipe import SharedRecipe
from regen.encoders.space import load_space
from regen.encoders.train_shared import train_shared
from regen.errors import ConfigError, DataError
from regen.index.archive import THUMB, Archive
from regen.index.build import build_index
from regen.index.case_index import Asker, CaseIndex
from regen.index.cases import RECORD
from regen.pipeline import Pipeline, is_query
from regen.study import Cxr, Study


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Prepared, Path]:
    """A synthetic cohort with both modalities, and a bundle of encoder and index."""
    root = tmp_path_factory.mktemp("archive")
    write(entries(40, 3, ("ecg", "cxr")), root / "data", "synthetic", {}, workers=1, pixels=32)
    train_shared(SharedRecipe(**TINY, ecg_tower=True), root / "data", root / "encoder", CPU)
    build_index(root / "data", root / "encoder", root / "index")
    make_bundle(root / "encoder", root / "index", None, root / "bundle")
    return Prepared.open(root / "data"), root / "bundle"


def test_each_modality_has_its_own_cases_in_one_store(made: tuple[Prepared, Path]) -> None:
    data, bundle = made
    archive = Archive.open(bundle / "index")
    assert archive.modalities == ("cxr", "ecg", "report")
    cxr, ecg = (archive.part(name).cases["study_id"].to_list() for name in ("cxr", "ecg"))
    assert cxr == data.split_cxr("train")["study_id"].to_list()
    assert ecg == data.split("train")["study_id"].to_list()
    assert sorted(archive.part("report").cases["study_id"].to_list()) == sorted(cxr + ecg) == sorted(archive.cases["study_id"].to_list())
    assert archive.part("cxr").cases["observations"].null_count() == 0


def test_an_image_finds_itself_unless_it_asks_as_itself(made: tuple[Prepared, Path]) -> None:
    _, bundle = made
    part = Archive.open(bundle / "index").part("cxr")
    row = part.cases.row(5, named=True)
    first = part.hits(part.vectors[5], 1, Asker())[0]
    assert (first.study_id, round(first.score, 4)) == (row["study_id"], 1.0)
    assert first.observations == {o["code"]: o["likelihood"] for o in row["observations"]}
    others = part.hits(part.vectors[5], len(part), Asker(row["study_id"], row["subject_id"]))
    assert row["subject_id"] not in {hit.subject_id for hit in others}


def test_thumbnails_are_those_of_the_cases(made: tuple[Prepared, Path]) -> None:
    data, bundle = made
    archive = Archive.open(bundle / "index")
    rows = data.split_cxr("train")
    wanted = [rows["study_id"][i] for i in (7, 2)]
    found = archive.thumbnails([*wanted, "nobody"])
    assert set(found) == set(wanted)
    whole = {i: image for at, block in data.images(rows) for i, image in zip(at.tolist(), block, strict=True)}
    for study, i in zip(wanted, (7, 2), strict=True):
        assert found[study].shape == (THUMB, THUMB)
        small = np.asarray(Image.fromarray(whole[i]).resize((THUMB, THUMB), Image.Resampling.BILINEAR), float)
        assert np.abs(small - found[study]).mean() < 2


def test_without_thumbnails_none_are_kept(made: tuple[Prepared, Path], tmp_path: Path) -> None:
    data, bundle = made
    build_index(data.path, bundle / "encoder", tmp_path / "index", thumbnails=False)
    assert not (tmp_path / "index" / "thumbs").exists()
    assert Archive.open(tmp_path / "index").thumbnails([data.split_cxr("train")["study_id"][0]]) == {}


def test_several_views_are_one_case_at_their_mean(made: tuple[Prepared, Path], tmp_path: Path) -> None:
    from regen.index.build import encode_views

    data, bundle = made
    space = load_space(bundle / "encoder")
    rows = data.split_cxr("train")[:3]
    numbers = rows["cxr_rows"].list.first().to_list()
    both = rows.with_columns(pl.Series("cxr_rows", [[numbers[0], numbers[2]], [numbers[1]], [numbers[2]]]))
    single, merged = encode_views(data, rows, space), encode_views(data, both, space)
    mean = single[0] + single[2]
    np.testing.assert_allclose(merged[0], mean / np.linalg.norm(mean), atol=1e-3)
    np.testing.assert_allclose(merged[1:], single[1:], atol=1e-3)


def test_the_pipeline_searches_across_modalities(made: tuple[Prepared, Path], tmp_path: Path) -> None:
    data, bundle = made
    pipe = Pipeline.from_pretrained(bundle, "cpu")
    rows = data.split_cxr("test")
    _, block = next(iter(data.images(rows)))
    study = Study("q", cxr=(Cxr(block[0].astype(np.float32) / 255),))
    found = {h.study_id for h in pipe.search(study, 3)}
    assert len(found) == 3
    assert found <= set(data.split_cxr("train")["study_id"])
    assert {h.study_id for h in pipe.search(study, 3, to="ecg")} <= set(data.split("train")["study_id"])
    assert all(h.report for h in pipe.search(study, 3, to="report"))
    assert len(pipe.search("right pleural effusion", 4, to="image")) == 4
    file = tmp_path / "x.png"
    Image.fromarray(block[0]).save(file)
    assert [h.study_id for h in pipe.search(file, 3)] == [h.study_id for h in pipe.search(study, 3)]
    with pytest.raises(ConfigError, match="did you mean 'image'"):
        pipe.search(study, to="imag")
    with pytest.raises(DataError, match="no such file"):
        pipe.search("missing.png")


def test_what_a_bundle_lacks_is_named(made: tuple[Prepared, Path], tiny_bundle: Path) -> None:
    _, bundle = made
    pipe = Pipeline.from_pretrained(bundle, "cpu")
    with pytest.raises(ConfigError, match="no generator/"):
        _ = pipe.writer
    ecg = Pipeline.from_pretrained(tiny_bundle, "cpu")
    with pytest.raises(ConfigError, match="this one has ecg, report"):
        ecg.search("effusion", to="image")
    with pytest.raises(ConfigError, match="expected an encoder that reads chest X-rays"):
        ecg.search(Study("q", cxr=(Cxr(np.eye(4, dtype=np.float32)),)))


def test_a_file_of_one_view_of_an_indexed_study_does_not_find_that_study(made: tuple[Prepared, Path], tmp_path: Path) -> None:
    _, bundle = made
    part = Archive.open(bundle / "index").part("cxr")
    cases = part.cases.with_columns(record=pl.when(pl.col("study_id") == part.cases["study_id"][4]).then(pl.lit("front|side")).otherwise(None))
    index = CaseIndex(cases, part.vectors, part.report_vectors, part.fingerprint)
    for name in ("front.png", "side.dcm"):
        asker = Asker.of(Study("anything", cxr=(Cxr(np.eye(4, dtype=np.float32), source=f"/scans/{name}"),)))
        assert index.hits(part.vectors[4], 1, asker)[0].study_id != part.cases["study_id"][4]
    assert index.hits(part.vectors[4], 1, Asker())[0].study_id == part.cases["study_id"][4]
    rows = pl.DataFrame({"source": ["a/front.jpg|a/side.jpg", "x/rec.hea", "synthetic", "a.b/c"]})
    assert rows.select(RECORD).to_series().to_list() == ["front|side", "rec", None, None]


def test_words_and_file_names_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "r.hea").write_text("")
    assert is_query("left bundle branch block")
    assert not is_query(str(tmp_path / "r"))
    assert not is_query("none.dcm")
    assert is_query("a pasted report, " * 40)
    assert is_query("FINDINGS:\nclear")


def test_search_on_the_command_line(made: tuple[Prepared, Path], capsys: pytest.CaptureFixture[str]) -> None:
    _, bundle = made
    with pytest.raises(SystemExit) as stopped:
        main(["search", "pacemaker", "--to", "image", "-k", "2", "--bundle", str(bundle), "--json"])
    assert stopped.value.code == 0
    hits: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    assert [h["rank"] for h in hits] == [1, 2]
