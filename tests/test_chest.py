"""Chest X-rays from file to draft on the command line: draft, classify, adapt, search and eval retrieval on a tiny bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from records import write_wfdb
from test_shared import CPU, TINY

from regen.batch import read_studies
from regen.bundle import make_bundle
from regen.chest import draft_chest, see_chest
from regen.cli import main
from regen.data_prep.chexpert import OBSERVATIONS
from regen.data_prep.prepare import write
from regen.data_prep.prepared import Prepared
from regen.data_prep.synthetic_cohort import entries
from regen.data_prep.views import join_views
from regen.encoders.images import known_observations
from regen.encoders.shared_recipe import SharedRecipe
from regen.encoders.train_shared import train_shared
from regen.errors import ConfigError, DataError
from regen.eval.dicom_samples import phantom, write_dicom
from regen.evaluating.chest import evaluate_chest
from regen.evaluating.maps import evaluate_maps
from regen.evaluating.probe import evaluate_probe
from regen.evaluating.space import evaluate_space, modality_of
from regen.index import limits
from regen.index.build import build_index, encode_views
from regen.index.case_index import Asker
from regen.pipeline import Pipeline
from regen.study import Cxr, Study


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    out = tmp_path_factory.mktemp("chest") / "data"
    write(entries(90, 5, ("ecg", "cxr")), out, "synthetic", {}, workers=1, pixels=32)
    return Prepared.open(out)


@pytest.fixture(scope="module")
def bundle(data: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundle")
    train_shared(SharedRecipe(**TINY, ecg_tower=True), data.path, root / "encoder", CPU)
    build_index(data.path, root / "encoder", root / "index")
    make_bundle(root / "encoder", root / "index", None, root / "bundle")
    return root / "bundle"


@pytest.fixture
def image(data: Prepared, tmp_path: Path) -> Path:
    _, block = next(iter(data.images(data.split_cxr("test"))))
    path = tmp_path / "chest.png"
    Image.fromarray(block[0]).resize((200, 200)).save(path)
    return path


def test_draft_writes_sections_evidence_and_a_page(capsys: pytest.CaptureFixture[str], bundle: Path, image: Path, tmp_path: Path) -> None:
    out = tmp_path / "d.jsonl"
    code, _, _ = call(capsys, "draft", image, "--bundle", bundle, "--out", out, "--html", tmp_path / "page", "--device", "cpu")
    assert code == 0
    (row,) = [json.loads(text) for text in out.read_text().splitlines()]
    assert row["study_id"] == "chest"
    assert sorted(f["code"] for f in row["findings"]) == sorted(OBSERVATIONS)
    assert set(row["sections"]) == {"findings", "impression"}
    assert row["report"]
    assert {s["status"] for s in row["sentences"]} <= {"supported", "uncertain"}
    page = (tmp_path / "page" / "index.html").read_text()
    assert "data:image/png" in page
    assert row["disclaimer"] in page


def test_draft_of_a_prepared_split_drafts_the_images(capsys: pytest.CaptureFixture[str], data: Prepared, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "d.jsonl"
    assert call(capsys, "draft", "--studies", data.path, "--split", "val", "--bundle", bundle, "--out", out, "--device", "cpu")[0] == 0
    made = [json.loads(text)["study_id"] for text in out.read_text().splitlines()]
    assert made == data.split_cxr("val")["study_id"].to_list()


def test_views_are_averaged_and_studies_keep_their_rows(bundle: Path, rng: np.random.Generator) -> None:
    pipe = Pipeline.from_pretrained(bundle, "cpu")
    views = [Cxr(rng.random((40, 40), dtype=np.float32)) for _ in range(3)]
    studies = [Study("a", cxr=(views[0],)), Study("b", cxr=(views[1], views[2])), Study("c", cxr=(views[2],))]
    seen = see_chest(pipe.space, None, studies)
    alone, _, _ = pipe.space.encode_images([v.pixels for v in views])
    np.testing.assert_allclose(seen.vectors[[0, 2]], alone[[0, 2]], atol=1e-2)
    mean = alone[1] + alone[2]
    np.testing.assert_allclose(seen.vectors[1], mean / np.linalg.norm(mean), atol=1e-2)
    with pytest.raises(DataError, match="expected a chest X-ray"):
        see_chest(pipe.space, None, [Study("x")])


def test_a_mixed_folder_drafts_what_it_can_and_lists_the_rest(
    capsys: pytest.CaptureFixture[str], bundle: Path, tiny_bundle: Path, image: Path, tmp_path: Path
) -> None:
    beats = np.sin(np.arange(5000) / 30)[:, None] * np.arange(1, 13) * 80
    write_wfdb(tmp_path, "heart", beats.astype(np.int16))
    shutil.copy(image, tmp_path / "again.png")
    for chosen, kept, listed in ((bundle, {"chest", "again"}, "ECG"), (tiny_bundle, {"heart"}, "chest X-ray")):
        out = tmp_path / f"{listed[:3]}.jsonl"
        code, _, err = call(
            capsys, "draft", image, tmp_path / "again.png", tmp_path / "heart.hea", "--bundle", chosen, "--out", out, "--device", "cpu"
        )
        assert code == 1
        assert {json.loads(text)["study_id"] for text in out.read_text().splitlines()} == kept
        assert f"got {listed}" in " ".join(err.split())


def test_one_name_twice_becomes_two_studies(capsys: pytest.CaptureFixture[str], bundle: Path, image: Path, tmp_path: Path) -> None:
    out = tmp_path / "d.jsonl"
    assert call(capsys, "draft", image, image, image, "--bundle", bundle, "--out", out, "--device", "cpu")[0] == 0
    assert len({json.loads(text)["study_id"] for text in out.read_text().splitlines()}) == 3


def test_the_views_of_one_study_are_one_case(capsys: pytest.CaptureFixture[str], bundle: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    for name, view, study in (("a", "LL", "1.2.3"), ("b", "PA", "1.2.9"), ("c", "PA", "1.2.3")):
        write_dicom(folder / f"{name}.dcm", phantom(80, 64, rng), ViewPosition=view, StudyInstanceUID=study)
    (tmp_path / "empty").mkdir()
    out = tmp_path / "d.jsonl"
    code, _, err = call(capsys, "draft", tmp_path / "empty", folder, "--bundle", bundle, "--out", out, "--html", tmp_path / "page", "--device", "cpu")
    assert [json.loads(text)["study_id"] for text in out.read_text().splitlines()] == ["1.2.3", "1.2.9"]
    assert (code, "found none" in " ".join(err.split())) == (1, True)
    page = (tmp_path / "page" / "index.html").read_text()
    assert page.index("PA, image 1 of 2") < page.index("LATERAL, image 2 of 2")
    _, told, _ = call(capsys, "classify", folder, "--bundle", bundle, "--json", "--device", "cpu")
    rows = [json.loads(text) for text in told.splitlines()]
    assert [(row["study_id"], row["view"], row["views"]) for row in rows] == [("1.2.3", "PA", 2), ("1.2.9", "PA", 1)]
    pipe = Pipeline.from_pretrained(bundle, "cpu")
    with pytest.raises(DataError, match="expected one study, got a folder with 2"):
        pipe.search(folder)
    (folder / "b.dcm").unlink()
    pipe.search(folder)
    np.testing.assert_allclose(pipe.place(pipe.query(folder))[1], pipe.place(join_views(list(read_studies([folder / "c.dcm", folder / "a.dcm"]))))[1])


def test_without_retrieval_the_draft_cites_nothing_and_says_so(bundle: Path, rng: np.random.Generator) -> None:
    pipe = Pipeline.from_pretrained(bundle, "cpu")
    study = Study("a", cxr=(Cxr(rng.random((40, 40), dtype=np.float32)),))
    (draft,) = draft_chest(pipe.space, pipe.archive, None, [study], blank_retrieval=True)
    assert "no_retrieval" in draft.flags
    assert not draft.neighbours
    assert not any(s.evidence for s in draft.sentences)
    assert {s.status for s in draft.sentences} == {"uncertain"}


def test_a_new_index_knows_how_near_the_nearest_case_of_a_usual_image_is(
    data: Prepared, bundle: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FEWEST", 2)
    build_index(data.path, bundle / "encoder", tmp_path / "index")
    make_bundle(bundle / "encoder", tmp_path / "index", None, tmp_path / "bundle")
    pipe = Pipeline.from_pretrained(tmp_path / "bundle", "cpu")
    rows = data.split_cxr("val")
    near = [pipe.archive.part("cxr").hits(vector, 1, Asker())[0].score for vector in encode_views(data, rows, pipe.space)]
    assert pipe.archive.limits == {"cxr": pytest.approx(np.quantile(near, limits.RARE), abs=2e-3)}
    for limit, flagged in ((1.1, True), (-1.0, False)):
        pipe.archive.limits["cxr"] = limit
        assert ("low_evidence" in pipe.draft(image).flags) == flagged


def test_adapt_stores_an_adapter_that_draft_and_classify_use(
    capsys: pytest.CaptureFixture[str], data: Prepared, bundle: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FEWEST", 2)
    assert Pipeline.from_pretrained(bundle, "cpu").archive.limits == {}, "built from too few"
    other = tmp_path / "adapted"
    code, out, err = call(capsys, "adapt", "--bundle", bundle, "--studies", data.path, "--out", other, "--specificity", "0.8", "--device", "cpu")
    assert (code, "AUROC" in out) == (0, True), err
    pipe = Pipeline.from_pretrained(other, "cpu")
    assert pipe.adapter is not None
    assert 0 < pipe.archive.limits["cxr"] < 1
    learned = dict(zip(pipe.adapter.names, pipe.adapter.points, strict=True))
    code, out, _ = call(capsys, "classify", image, "--bundle", other, "--json", "--device", "cpu")
    rows = {row["name"]: row for row in json.loads(out)["findings"]}
    assert set(rows) >= set(OBSERVATIONS)
    assert {name for name, row in rows.items() if row["how"] == "adapter"} == set(learned)
    draft = pipe.draft(image)
    assert {finding.code for finding in draft.findings} == set(learned) & set(OBSERVATIONS), "what is not learned is not in the draft"
    for finding in draft.findings:
        assert finding.threshold == pytest.approx(learned[finding.code].threshold, abs=1e-4)
        assert finding.probability == pytest.approx(rows[finding.code]["probability"], abs=2e-2)
    code, _, err = call(capsys, "adapt", "--bundle", bundle, "--studies", data.path, "--out", tmp_path / "x", "--specificity", "0.8", "--f1")
    assert (code, "expected one aim" in err) == (2, True)


def test_classify_without_an_adapter_asks_by_prompts(capsys: pytest.CaptureFixture[str], bundle: Path, image: Path, tiny_bundle: Path) -> None:
    code, out, _ = call(capsys, "classify", image, "--bundle", bundle, "--labels", "pacemaker, big heart", "--json", "--device", "cpu")
    assert code == 0
    assert [(row["name"], row["how"]) for row in json.loads(out)["findings"]] == [("pacemaker", "zero-shot"), ("big heart", "zero-shot")]
    code, _, err = call(capsys, "classify", image, "--bundle", tiny_bundle, "--device", "cpu")
    assert (code, "expected an encoder that reads chest X-rays" in err) == (2, True)


def test_search_writes_a_page_of_similar_images(capsys: pytest.CaptureFixture[str], bundle: Path, image: Path, tmp_path: Path) -> None:
    code, out, _ = call(capsys, "search", image, "--bundle", bundle, "-k", "3", "--html", tmp_path / "page", "--device", "cpu")
    assert code == 0
    assert out.count("synthetic-5-") >= 3
    assert (tmp_path / "page" / "index.html").read_text().count("data:image/png") >= 3


def test_eval_retrieval_prints_every_direction(capsys: pytest.CaptureFixture[str], data: Prepared, bundle: Path, tmp_path: Path) -> None:
    assert modality_of(data.path, str(bundle), None) == "cxr"
    assert modality_of(data.path, str(bundle), "ecg") == modality_of(data.path, None, None) == "ecg"
    with pytest.raises(ConfigError, match="expected ecg or cxr"):
        modality_of(data.path, str(bundle), "ct")
    made = [evaluate_space(data.path, "test", str(bundle), (1, 5), tmp_path / f"{i}.json", "cpu", 0, False, draws=50) for i in range(2)]
    assert (tmp_path / "0.json").read_text() == (tmp_path / "1.json").read_text()
    visits = len(data.split_cxr("test"))
    assert {name: edge.n for name, edge in made[0].edges.items()} == dict.fromkeys(
        ("X-ray -> report", "report -> X-ray", "ECG -> report", "report -> ECG", "X-ray -> ECG", "ECG -> X-ray"), visits
    )
    assert set(made[0].images) == {"encoder", "encoder, random weights", "raw pixels", "random"}
    for row in made[0].images.values():
        assert 0 <= row["p@5"].value <= 1
    assert call(capsys, "eval", "retrieval", "--studies", data.path, "--bundle", bundle, "-k", "2", "--out", tmp_path / "r.md")[0] == 0
    text = (tmp_path / "r.md").read_text()
    assert "X-ray -> ECG" in text
    assert "raw pixels" in text
    with pytest.raises(ConfigError, match="-k"):
        evaluate_space(data.path, "test", str(bundle), (0,), None, "cpu", 0, False)


def test_eval_report_scores_the_drafts_of_images_beside_floors(
    capsys: pytest.CaptureFixture[str], data: Prepared, bundle: Path, tmp_path: Path
) -> None:
    made = evaluate_chest(data.path, "test", [], str(bundle), tmp_path / "r.json", "cpu", 0, False, draws=30)
    rows = made.blocks["all"].rows
    assert list(rows)[:2] == ["system", "system, retrieval blanked"]
    assert set(rows) >= {"random report", "most frequent report", "nearest raw pixels", "nearest in the encoder", "oracle: nearest observations"}
    oracle = rows["oracle: nearest observations"]["micro_f1"].value
    assert oracle >= max(rows[name]["micro_f1"].value for name in ("random report", "nearest raw pixels"))
    assert rows["most frequent report"]["constant"].value == 1
    assert "supported" in rows["system"]
    test = data.split_cxr("test")
    gold = tmp_path / "gold.jsonl"
    gold.write_text("".join(json.dumps({"study_id": s, "report": r}) + "\n" for s, r in zip(test["study_id"], test["report"], strict=True)))
    arguments = ("eval", "report", gold, "--studies", data.path, "--bundle", bundle, "--out", tmp_path / "g.json", "--device", "cpu")
    assert call(capsys, *arguments)[0] == 0
    cells = json.loads((tmp_path / "g.json").read_text())["blocks"][0]["systems"]["gold"]
    assert (cells["micro_f1"]["value"], cells["rouge_l"]["value"], cells["side_errors"]["value"]) == (1.0, 1.0, 0.0)
    gold.write_text(json.dumps({"study_id": "nobody", "report": "x"}) + "\n")
    code, _, err = call(capsys, *arguments, "--force")
    assert (code, "expected drafts of the studies to score" in err) == (2, True)


def test_eval_probe_reads_labels_and_patients(capsys: pytest.CaptureFixture[str], data: Prepared, bundle: Path, tmp_path: Path) -> None:
    made = [evaluate_probe(data.path, str(bundle), None, 3, "test", tmp_path / f"{i}.json", "cpu", 0, False, draws=30) for i in range(2)]
    assert (tmp_path / "0.json").read_text() == (tmp_path / "1.json").read_text()
    assert set(made[0].macro) == {"encoder", "encoder, random weights", "raw pixels"}
    known = known_observations(data.studies.filter(pl.col("cxr_rows").is_not_null()))
    counts = dict(zip(OBSERVATIONS, zip((~np.isnan(known)).sum(0).tolist(), (known == 1).sum(0).tolist(), strict=True), strict=True))
    assert {name: (scored.n, scored.positive) for name, scored in made[0].labels.items()} == {name: counts[name] for name in made[0].labels}
    assert made[0].patients.n > 0
    assert 0 < made[0].similar.n <= sum(known[:, :-1].max(1, initial=0, where=~np.isnan(known[:, :-1])) == 1)
    assert made[0].differences()["raw pixels"].value == pytest.approx(made[0].macro["encoder"].value - made[0].macro["raw pixels"].value)
    labels = tmp_path / "l.csv"
    studies = data.split_cxr("train")["study_id"].to_list()
    labels.write_text("study_id,odd\n" + "".join(f"{study},{i % 2}\n" for i, study in enumerate(studies)))
    arguments = ("eval", "probe", "--studies", data.path, "--bundle", bundle, "--labels", labels, "--device", "cpu")
    assert call(capsys, *arguments, "--folds", "3")[0] == 0
    code, _, err = call(capsys, *arguments, "--folds", "1")
    assert (code, "--folds" in err) == (2, True)


def test_eval_maps_checks_every_finding_sentence(capsys: pytest.CaptureFixture[str], data: Prepared, bundle: Path, tmp_path: Path) -> None:
    made = [evaluate_maps(data.path, "test", str(bundle), 6, tmp_path / f"{i}.json", "cpu", 0, False, draws=20) for i in range(2)]
    assert (tmp_path / "0.json").read_text() == (tmp_path / "1.json").read_text()
    assert 0 < made[0].patients <= 6
    assert made[0].n - made[0].empty > 0
    assert "finding sentences" in call(capsys, "eval", "maps", "--studies", data.path, "--bundle", bundle, "--limit", 3, "--device", "cpu")[2]
