"""`regen adapt`: tables of labels, splits by subject, scores by hand, and the folder it writes. All images here are made up."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from regen.adapting import adapt
from regen.artifact import load_manifest, new_artifact
from regen.data_prep.chexpert import OBSERVATIONS
from regen.data_prep.image_folder import entries, locate_image
from regen.data_prep.label_table import assign_splits, read_label_table
from regen.data_prep.prepare import write
from regen.data_prep.prepared import SCHEMA, Prepared
from regen.encoders.adapter import Adapter
from regen.encoders.cxr import CxrEncoder
from regen.encoders.images import known_observations
from regen.encoders.operating_points import Aim
from regen.encoders.shared_recipe import SharedRecipe
from regen.encoders.space import load_space, save_space
from regen.encoders.text import TextTower
from regen.encoders.train_shared import make_cxr
from regen.errors import ArtifactError, ConfigError, DataError
from regen.eval.adapter_table import adapter_table, groups_of, wilson

N = 150


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny X-ray encoder with random weights."""
    out = tmp_path_factory.mktemp("tiny") / "encoder"
    recipe = SharedRecipe(cxr_width=32, cxr_depth=1, cxr_heads=1, dim=16, pixels=32)
    torch.manual_seed(0)
    cxr: CxrEncoder = make_cxr(recipe, 32)
    with new_artifact(out, "encoder", {}, {}) as work:
        work.manifest["fingerprint"] = save_space(work.path, recipe, TextTower.small(["no report"], 16, 32, 1, vocabulary=200), cxr, 32, 14.0)
    return out


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images/ and labels.csv: a bright square is a 'mark', a bright picture is 'Edema'; two images a subject, some labels blank or uncertain."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "images").mkdir()
    rng = np.random.default_rng(0)
    lines = ["image,subject_id,sex,age,view,mark,Edema,never"]
    for i in range(N):
        mark, edema = i % 2, int(rng.random() < 0.4)
        pixels = rng.integers(0, 60, (36, 32)) + 60 * edema
        if mark:
            pixels[8:20, 6:20] = 250
        Image.fromarray(pixels.astype(np.uint8)).save(root / "images" / f"{i:03d}.png")
        shown = "" if i % 10 == 4 else "-1" if i % 10 == 7 else str(edema)
        lines.append(f"{i:03d},p{i // 2},{'FM'[i // 2 % 2]},{30 + i // 2 % 50},PA,{mark},{shown},0")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# --- tables of labels


def test_a_table_is_read_with_what_is_unknown_left_out(tmp_path: Path) -> None:
    read = read_label_table(
        table(
            tmp_path / "t.csv", "image,a,b,subject_id,split,sex,age,report\nx.png,1,0,p,train,F,61,Clear.\ny.png,-1,1.0,,,,,\nz.png,0.5,,q,val,,,\n"
        )
    )
    assert read.names == ("a", "b")
    np.testing.assert_array_equal(read.labels, np.array([[1, 0], [np.nan, 1]], np.float32))
    assert (read.images, read.subjects, read.splits) == (["x.png", "y.png"], ["p", "y.png"], ["train", None])
    assert (read.sex, read.ages) == (["female", None], [61.0, None])
    assert read_label_table(table(tmp_path / "u.csv", "study_id,a\ns1,1\n")).study_ids == ["s1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,a\nx,1\n", "expected the column image or study_id, got file, a"),
        ("image,report\nx,Clear.\n", "expected named label columns"),
        ("image,a\nx,2\n", r"line 2: expected 1, 0, -1, 0.5 or nothing for label 'a', got '2'"),
        ("image,a\nx,yes\n", "got 'yes'; take the column away if it is no label"),
        ("image,a\nx,1\nx,0\n", "line 3: expected each image once"),
        ("image,a\n,1\n", "expected a name in image or study_id"),
        ("image,a,split\nx,1,tset\n", "did you mean 'test'"),
        ("image,a\nx,-1\n", "expected rows with a label of 1 or 0, got none"),
        ("image,a\n", "expected rows with a label of 1 or 0, got none"),
    ],
)
def test_a_table_that_is_wrong_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_label_table(table(tmp_path / "t.csv", text))


def test_splits_keep_subjects_whole_and_stay_when_the_table_grows() -> None:
    subjects = [f"p{i % 400}" for i in range(1200)]
    splits = assign_splits(subjects, [None] * 1200)
    assert all(len({splits[i], splits[i + 400], splits[i + 800]}) == 1 for i in range(400))
    shares = {name: splits.count(name) / 1200 for name in ("train", "val", "test")}
    assert shares == pytest.approx({"train": 0.6, "val": 0.2, "test": 0.2}, abs=0.06)
    assert assign_splits(subjects[:100], [None] * 100) == splits[:100]
    assert assign_splits(subjects, [None] * 1200, seed=1) != splits
    assert assign_splits(["a", "a", "b"], [None, "test", "val"]) == ["test", "test", "val"]
    with pytest.raises(DataError, match="'a' in train and test"):
        assign_splits(["a", "a"], ["train", "test"])


def test_an_image_is_found_with_and_without_suffix(tmp_path: Path) -> None:
    (tmp_path / "1.2.3.png").touch()
    (tmp_path / "b").touch()
    assert locate_image(tmp_path, "1.2.3").name == locate_image(tmp_path, "1.2.3.png").name == "1.2.3.png"
    assert locate_image(tmp_path, "b") == tmp_path / "b"
    assert locate_image(tmp_path, "c") == tmp_path / "c"


# --- scores


@pytest.mark.parametrize(("share", "n", "low", "high"), [(1.0, 10, 0.7225, 1.0), (0.0, 10, 0.0, 0.2775), (0.5, 100, 0.4038, 0.5962)])
def test_wilson_by_known_values(share: float, n: int, low: float, high: float) -> None:
    assert wilson(share, n) == pytest.approx((low, high), abs=1e-4)
    assert all(math.isnan(end) for end in wilson(math.nan, 0))


def test_a_table_by_hand_counts_patients_and_leaves_out_what_is_not_known() -> None:
    p = np.array([[0.9, 0.5], [0.8, 0.5], [0.3, 0.5], [0.6, 0.5], [0.1, 0.5], [0.7, 0.5]])
    labels = np.array([[1, 0], [1, 0], [1, 0], [0, 0], [0, 0], [np.nan, 0]], np.float32)
    made = adapter_table(["a", "none"], p, np.array([0.5, 0.6]), labels, ["p", "p", "q", "r", "s", "t"], groups_of([None] * 6, [None] * 6), draws=50)
    (group,) = made
    a, none = group.labels
    assert (group.n, group.patients, group.in_macro, a.n, a.positives, a.patients) == (6, 5, 0, 5, 3, 4)
    assert a.auroc.value == pytest.approx(5 / 6)
    assert (a.sensitivity.value, a.specificity.value) == pytest.approx((2 / 3, 1 / 2))
    assert (a.sensitivity.low, a.sensitivity.high) == pytest.approx(wilson(2 / 3, 2)), "three positives, but two patients"
    assert a.ece.value == pytest.approx((0.1 + 0.2 + 0.7 + 0.6 + 0.1) / 5)
    assert math.isnan(none.auroc.value)
    assert math.isnan(none.sensitivity.value)
    assert none.specificity.value == 1
    assert none.specificity.low < 0.7
    plain = json.loads(json.dumps(group.to_dict(), allow_nan=False))
    assert plain["labels"][1]["auroc"] == {"value": None, "low": None, "high": None}
    assert plain["macro_auroc"]["value"] is None


def test_the_macro_average_is_of_labels_with_enough_positives() -> None:
    rng = np.random.default_rng(0)
    labels = np.stack([np.arange(60) < 30, np.arange(60) < 9], 1).astype(np.float32)
    p = np.stack([labels[:, 0] * 0.5 + rng.random(60) * 0.4, rng.random(60)], 1)
    made = adapter_table(["a", "b"], p, np.array([0.5, 0.5]), labels, [None] * 60, [("all", np.arange(60)), ("half", np.arange(30, 60))], draws=50)
    assert (made[0].in_macro, made[0].macro_auroc.value) == (1, 1.0)
    assert made[1].in_macro == 0


def test_groups_are_of_sex_and_age_with_enough_images() -> None:
    sex = ["female"] * 30 + ["male"] * 25 + [None] * 5
    ages = [25.0] * 20 + [99.0] * 20 + [85.0] * 10 + [45.0] * 9 + [None]
    names = {name: len(rows) for name, rows in groups_of(sex, ages)}
    assert names == {"all": 60, "female": 30, "male": 25, "age 20-39": 20, "age 80+": 30}
    assert [name for name, _ in groups_of(["female"] * 60, [None] * 60)] == ["all"], "one sex alone is no comparison"


# --- the whole


def test_an_adapter_is_fitted_scored_and_written(encoder: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "images" / "002.png").write_bytes(b"no picture")
    made = adapt(encoder, tmp_path / "adapter", pictures / "labels.csv", pictures / "images", aim=Aim("sensitivity", 0.8, 0.2), draws=50)
    assert [failure.study_id for failure in made.failures] == ["002"]
    assert sum(made.counts.values()) == N - 1
    whole = {score.name: score for score in made.groups[0].labels}
    assert set(whole) == {"mark", "Edema"}
    assert "never" in made.adapter.left_out
    assert whole["mark"].auroc.value > 0.9
    assert whole["mark"].sensitivity.value > 0.7
    assert {group.name for group in made.groups} >= {"all"}
    files = set(load_manifest(tmp_path / "adapter", "adapter")["files"])
    assert files == {"adapter.safetensors", "adapter.json", "metrics.json", "curves.json", "curves.png"}
    space = load_space(encoder)
    again = Adapter.load(tmp_path / "adapter", space.fingerprint)
    assert again.points == made.adapter.points
    stored = json.loads((tmp_path / "adapter" / "metrics.json").read_text())
    assert stored["groups"][0]["labels"][0]["auroc"]["value"] == pytest.approx(whole["mark"].auroc.value, abs=1e-6)
    curves = json.loads((tmp_path / "adapter" / "curves.json").read_text())["mark"]
    assert np.trapezoid(curves["true_positive_rate"], curves["false_positive_rate"]) == pytest.approx(whole["mark"].auroc.value, abs=1e-4)
    text = "\n".join(made.lines())
    assert "never: left out" in text
    assert "sensitivity >= 0.8 with confidence 0.8" in text
    with pytest.raises(ArtifactError, match="exists already"):
        adapt(encoder, tmp_path / "adapter", pictures / "labels.csv", pictures / "images")


@pytest.fixture(scope="module")
def data(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The same pictures prepared, 48 px a side; Edema is an observation."""
    root = tmp_path_factory.mktemp("prepared")
    rows = pl.read_csv(pictures / "labels.csv", infer_schema=False).drop("mark", "never")
    rows = rows.filter(pl.col("image") != "002").with_columns(pl.lit("").alias("report"))
    rows.write_csv(root / "t.csv")
    write(entries(pictures / "images", root / "t.csv"), root / "data", "test", {}, workers=1, pixels=48)
    return Prepared.open(root / "data")


def test_a_prepared_folder_brings_labels_and_splits(encoder: Path, data: Prepared, pictures: Path, tmp_path: Path) -> None:
    own = adapt(encoder, tmp_path / "own", studies=data.path, draws=20)
    assert own.adapter.names == ("Edema",)
    known = data.studies.filter(pl.col("observations").is_not_null())
    assert own.counts == {split: int((known["split"] == split).sum()) for split in ("train", "val", "test")}
    assert load_manifest(tmp_path / "own")["inputs"]["studies"] == data.digest
    text = (pictures / "labels.csv").read_text().replace("image,", "study_id,")
    asked = table(tmp_path / "t.csv", "\n".join(line for line in text.splitlines() if not line.startswith("002,")))
    with_table = adapt(encoder, tmp_path / "tab", asked, studies=data.path, draws=20)
    assert set(with_table.adapter.names) == {"mark", "Edema"}
    with pytest.raises(DataError, match=r"got 1 others \('002'\)"):
        adapt(encoder, tmp_path / "x", table(tmp_path / "u.csv", text), studies=data.path)


def test_no_finding_is_known_only_where_it_follows() -> None:
    told = [{"Edema": 0.0}, {"Edema": 0.5}, {"Fracture": 1.0}, {"No Finding": 1.0}, {"Support Devices": 1.0}, None]
    rows = pl.DataFrame(
        {"observations": [None if each is None else [{"code": code, "likelihood": p} for code, p in each.items()] for each in told]},
        schema={"observations": SCHEMA["observations"]},
    )
    labels = known_observations(rows)
    np.testing.assert_array_equal(labels[:, 0], [np.nan, 0, 0, 1, np.nan, np.nan])
    np.testing.assert_array_equal(labels[:, OBSERVATIONS.index("Edema")], [0, np.nan, 0, 0, 0, np.nan])  # unmentioned beside others: absent
    assert np.isnan(known_observations(rows[:3])[:, OBSERVATIONS.index("Pneumonia")]).all(), "nobody labels it there"


def test_what_cannot_be_done_is_refused_before_anything_is_written(encoder: Path, pictures: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    labels, images, out = pictures / "labels.csv", pictures / "images", tmp_path / "out"
    with pytest.raises(ConfigError, match="got both or none"):
        adapt(encoder, out, labels)
    with pytest.raises(ConfigError, match=r"expected --labels FILE\.csv"):
        adapt(encoder, out, images=images)
    with pytest.raises(ConfigError, match="reads ecg, text"):
        adapt(tiny_bundle / "encoder", out, labels, images)
    with pytest.raises(DataError, match="expected the folder of the images"):
        adapt(encoder, out, labels, tmp_path / "nowhere")
    with pytest.raises(DataError, match="none of 1"):
        adapt(encoder, out, table(tmp_path / "t.csv", "image,a\nmissing,1\n"), images)
    with pytest.raises(DataError, match="got none in val, test"):
        adapt(encoder, out, table(tmp_path / "u.csv", "image,a,split\n000,1,train\n001,0,train\n"), images)
    assert not out.exists()
