"""The joint stage: cached against plain gradients, several ranks against one, any modality missing, what is saved is what is loaded."""

from __future__ import annotations

import os
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch import nn

from regen.artifact import new_artifact
from regen.data_prep.chexpert import OBSERVATIONS
from regen.data_prep.prepare import write
from regen.data_prep.prepared import Prepared
from regen.data_prep.synthetic_cohort import entries
from regen.encoders.cxr import CxrEncoder, disturb_images
from regen.encoders.grad_cache import cached_backward
from regen.encoders.image_sources import plan_trunk
from regen.encoders.image_trunks import build_trunk
from regen.encoders.images import load_images, observation_matrix
from regen.encoders.losses import info_nce
from regen.encoders.pairs import pair_studies
from regen.encoders.ranks import Ranks
from regen.encoders.shared import Criterion, Joint, Scales, finding_groups, forward
from regen.encoders.shared_recipe import SharedRecipe
from regen.encoders.space import load_space
from regen.encoders.text import TextTower
from regen.encoders.train_shared import make_cxr, train_shared
from regen.errors import ConfigError, DataError

CPU = torch.device("cpu")
TINY: dict[str, Any] = {
    "cxr_width": 32, "cxr_depth": 1, "cxr_heads": 1, "width": 32, "depth": 1, "heads": 1, "dim": 16, "text_width": 32, "text_depth": 1,
    "text_length": 64, "vocabulary": 200, "batch": 8, "pretrain_epochs": 0, "align_epochs": 1, "pixels": 32,
}  # fmt: skip


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Synthetic visits with an ECG and a chest X-ray each."""
    out = tmp_path_factory.mktemp("both") / "data"
    write(entries(60, 0, ("ecg", "cxr")), out, "synthetic", {}, workers=1, pixels=32)
    return Prepared.open(out)


# --- pairs


def table(*rows: tuple[str, str | None, int | None]) -> pl.DataFrame:
    start = datetime(2020, 1, 1)
    made = [(study, subject, None if day is None else start + timedelta(days=day)) for study, subject, day in rows]
    return pl.DataFrame(made, schema={"study_id": pl.String, "subject_id": pl.String, "time": pl.Datetime("us")}, orient="row")


def test_pairs_are_the_nearest_within_the_window_and_every_row_stands_once() -> None:
    ecg = table(("e0", "a", 0), ("e1", "a", 10), ("e2", "b", 0), ("e3", None, 0), ("e4", "c", None))
    cxr = table(("c0", "a", 9), ("c1", "a", 2), ("c2", "b", 70), ("c3", None, 0), ("c4", "c", 0))
    units = pair_studies(ecg, cxr, 60)
    assert units.tolist() == [[1, 0], [0, 1], [-1, 2], [-1, 3], [-1, 4], [2, -1], [3, -1], [4, -1]]
    assert [2, 2] in pair_studies(ecg, cxr, 70).tolist()


def test_a_study_that_holds_both_is_its_own_pair_even_without_a_time() -> None:
    assert pair_studies(table(("s", "a", None), ("t", "a", None)), table(("s", "a", None)), 1).tolist() == [[0, 0], [1, -1]]


# --- the gradient cache and the ranks


def towers() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({name: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.3), nn.GELU(), nn.Linear(8, 4)) for name in ("a", "b")})


def test_the_cached_gradient_is_the_plain_one() -> None:
    model, x = towers().train(), torch.randn(12, 6, generator=torch.Generator().manual_seed(1))

    def through(rows: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: nn.functional.normalize(model[name](x[rows]), dim=1) for name in ("a", "b")}

    def contrast(outputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return info_nce(outputs["a"], outputs["b"], scale=10.0)

    chunks = list(torch.arange(12).split(5))
    torch.manual_seed(3)
    plain = [through(rows) for rows in chunks]
    loss = contrast({name: torch.cat([p[name] for p in plain]) for name in ("a", "b")})
    loss.backward()
    wanted = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    torch.manual_seed(3)
    assert cached_backward(through, chunks, contrast) == pytest.approx(float(loss), abs=1e-6)
    for p, gradient in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(p.grad, gradient, atol=1e-5, rtol=0)


def test_an_output_that_only_some_chunks_have() -> None:
    model, x = towers().eval(), torch.randn(6, 6)
    chunks = [torch.arange(3), torch.arange(3, 6)]

    def through(rows: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"a": model["a"](x[rows])} | ({"b": model["b"](x[rows])} if rows[0] == 3 else {})

    cached_backward(through, chunks, lambda o: o["a"].square().sum() + o["b"].sum())
    wanted = torch.autograd.grad(model["b"](x[3:]).sum(), list(model["b"].parameters()))
    for p, gradient in zip(model["b"].parameters(), wanted, strict=True):
        torch.testing.assert_close(p.grad, gradient)


def _one_rank(rank: int, port: int, out: str) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    ranks = Ranks.join(CPU)
    model, x = towers().eval(), torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    mine = x[rank::2]
    a, b = (nn.functional.normalize(model[name](mine), dim=1) for name in ("a", "b"))
    info_nce(ranks.gather(a), ranks.gather(b), scale=10.0).backward()
    ranks.average(model.parameters())
    if rank == 0:
        save_file({name: p.grad for name, p in model.named_parameters() if p.grad is not None}, out)
    torch.distributed.destroy_process_group()


def test_two_ranks_give_the_gradient_of_one_batch(tmp_path: Path) -> None:
    model, x = towers().eval(), torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    order = [0, 2, 4, 6, 1, 3, 5]
    a, b = (nn.functional.normalize(model[name](x[order]), dim=1) for name in ("a", "b"))
    info_nce(a, b, scale=10.0).backward()
    mp.spawn(_one_rank, (20000 + os.getpid() % 20000, str(tmp_path / "g")), 2)
    torch.testing.assert_close(load_file(tmp_path / "g"), {name: p.grad for name, p in model.named_parameters()}, atol=1e-5, rtol=0)


# --- the encoder, its images and labels


def test_the_encoder_gives_unit_vectors_and_its_parts_agree() -> None:
    encoder = CxrEncoder(build_trunk(plan_trunk("small", 32, False, width=32, depth=1, heads=1, drop_path=0.0)), 16).eval()
    x = torch.rand(3, 32, 32)
    tokens = encoder.tokens(x)
    assert tokens.shape == (3, 4, 32)
    vector = encoder(x)
    torch.testing.assert_close(vector.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(vector, encoder.embed(encoder.features(tokens)))
    assert (encoder.modality, encoder.dim) == ("cxr", 16)


def test_disturbed_images_stay_images_and_are_never_flipped() -> None:
    torch.manual_seed(0)
    x = torch.zeros(200, 32, 32)
    x[:, :, 20:] = 1.0
    out = disturb_images(x)
    assert float(out.min()) >= 0
    assert float(out.max()) <= 1
    assert bool((out[:, :, 24:28].mean((1, 2)) > out[:, :, 4:8].mean((1, 2))).float().mean() > 0.95)


def test_observations_of_a_table() -> None:
    def stated(**labels: float) -> list[dict[str, Any]]:
        return [{"code": name.replace("_", " "), "likelihood": value} for name, value in labels.items()]

    rows = pl.DataFrame({"observations": [stated(Edema=1.0, Pneumonia=0.5), stated(No_Finding=1.0, Support_Devices=1.0), None]})
    made = observation_matrix(rows)
    at = {name: i for i, name in enumerate(OBSERVATIONS)}
    assert made[0, [at["Edema"], at["Pneumonia"], at["No Finding"]]].tolist() == [1.0, 0.5, 0.0]
    assert np.isnan(made[0, at["Fracture"]])
    assert made[1, [at["Edema"], at["Support Devices"], at["No Finding"]]].tolist() == [0.0, 1.0, 1.0]
    assert np.isnan(made[2]).all()


def test_who_is_positive_to_whom() -> None:
    nan = np.nan
    labels = np.array([[1, 0], [1, nan], [nan, nan], [nan, nan]], np.float32)
    groups = finding_groups(["x", "y", "x", ""], labels)
    same = (groups[:, None] == groups[None]).any(-1)
    assert np.argwhere(np.triu(same, 1)).tolist() == [[0, 1], [0, 2]]
    groups = finding_groups(["x", "y", "x", ""], labels, by_findings=False)
    assert np.argwhere(np.triu((groups[:, None] == groups[None]).any(-1), 1)).tolist() == [[0, 2]]


# --- the joint stage


def joint_of(data: Prepared, scratch: Path, recipe: SharedRecipe) -> Joint:
    from regen.encoders.ecg import EcgEncoder
    from regen.encoders.head import StatementHead
    from regen.encoders.recordings import load_recordings

    images = load_images(data, data.split_cxr("train"), scratch, "t")
    recordings = load_recordings(data, data.split("train"), scratch, "t")
    ecg = EcgEncoder(recipe.ecg())
    text = TextTower.small(images.reports, recipe.dim, 32, 1, 64, 200)
    units = pair_studies(recordings.rows, images.rows, recipe.window_days)
    return Joint(make_cxr(recipe, 32), text, images, units, ecg, StatementHead(ecg.feature_width), recordings)


@pytest.mark.parametrize("present", [(1, 1), (1, 0), (0, 1)])
@pytest.mark.parametrize("with_text", [True, False])
def test_every_subset_of_modalities_has_a_loss_and_gradients(both: Prepared, tmp_path: Path, present: tuple[int, int], with_text: bool) -> None:
    recipe = SharedRecipe(**TINY, ecg_tower=True)
    joint = joint_of(both, tmp_path, recipe)
    if not with_text:
        for part in (joint.images, joint.recordings):
            assert part is not None
            part.reports[:] = [""] * len(part.reports)
    units = joint.units[(joint.units >= 0).all(1)][:6].copy()
    units[:, [not p for p in present]] = -1
    outputs = forward(joint, units, recipe, CPU)
    assert set(outputs) == {
        name for name, has in (
            ("ecg", present[0]), ("statements", present[0]), ("ecg_text", present[0] and with_text), ("cxr", present[1]),
            ("observations", present[1]), ("cxr_text", present[1] and with_text),
        ) if has
    }  # fmt: skip
    loss = Criterion(joint, recipe, Scales(), Ranks()).of(units)(outputs)
    assert torch.isfinite(loss)
    loss.backward()
    reached = {name: any(p.grad is not None and bool(p.grad.any()) for p in module.parameters()) for name, module in joint.modules().items()}
    assert reached == {"cxr": bool(present[1]), "text": with_text, "ecg": bool(present[0]), "learned": bool(present[0])}


def test_a_mixed_batch_contrasts_each_with_its_own(both: Prepared, tmp_path: Path) -> None:
    """Rows line up: with perfect vectors the contrast is near zero, with vectors of the wrong unit it is not."""
    recipe = SharedRecipe(**TINY, ecg_tower=True, statement_weight=0, observation_weight=0, positives="report")
    joint = joint_of(both, tmp_path, recipe)
    paired = joint.units[(joint.units >= 0).all(1)]
    units = paired[:4].copy()
    units[1, 0] = units[3, 1] = -1
    eye = torch.eye(16)
    own = {"ecg": [0, 2, 3], "ecg_text": [0, 2, 3], "cxr": [0, 1, 2], "cxr_text": [0, 1, 2]}
    scales = Scales()
    for log in scales.logs.values():
        log.data.fill_(4.6)
    criterion = Criterion(joint, recipe, scales, Ranks())
    criterion.groups = {name: np.arange(1000)[:, None].repeat(2, 1) for name in ("ecg", "cxr")}
    right = float(criterion.of(units)({name: eye[rows] for name, rows in own.items()}).detach())
    wrong = float(criterion.of(units)({name: eye[rows[::-1] if name == "cxr" else rows] for name, rows in own.items()}).detach())
    assert right < 1e-6
    assert wrong > 10


@pytest.mark.parametrize("changes", [{}, {"ecg_tower": True, "chunk": 3}, {"cxr": "timm:vit_tiny_patch16_224", "cxr_mode": "lora"}])
def test_what_is_trained_is_what_is_loaded(both: Prepared, tmp_path: Path, changes: dict[str, Any]) -> None:
    recipe = SharedRecipe(**TINY | changes)
    train_shared(recipe, both.path, tmp_path / "e", CPU)
    space = load_space(tmp_path / "e")
    assert space.modalities == (("cxr", "ecg", "text") if recipe.ecg_tower else ("cxr", "text"))
    images = load_images(both, both.split_cxr("test"), tmp_path, "x")
    vectors, stated, _ = space.encode_images(images.pixels)
    assert vectors.shape == (len(images), 16)
    assert stated.shape == (len(images), 14)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    again, _, _ = space.encode_images([p.astype(np.float32) / 255 for p in images.pixels])
    np.testing.assert_allclose(again, vectors, atol=2e-2)
    assert space.text.encode(["Right pleural effusion."]).shape == (1, 16)


def test_training_goes_on_from_an_encoder_and_needs_no_report(both: Prepared, tmp_path: Path) -> None:
    train_shared(SharedRecipe(**TINY), both.path, tmp_path / "a", CPU)
    silent = both.studies.with_columns(report=pl.lit(None, pl.String))
    data = tmp_path / "silent"
    with new_artifact(data, "prepare", both.manifest["config"], {}) as work:
        shutil.copytree(both.path / "cxr", work.path / "cxr")
        silent.write_parquet(work.path / "studies.parquet")
        work.manifest |= {name: both.manifest[name] for name in ("fs", "pixels", "studies", "failed")}
    recipe = SharedRecipe(**TINY | {"start": str(tmp_path / "a"), "image_weight": 1.0, "align_rate": 1e-9})
    train_shared(recipe, data, tmp_path / "b", CPU)
    images = load_images(both, both.split_cxr("test"), tmp_path, "x")
    first, second = (load_space(tmp_path / name).encode_images(images.pixels)[0] for name in "ab")
    np.testing.assert_allclose(first, second, atol=2e-2)


def test_two_views_of_an_image_are_contrasted_where_asked(both: Prepared, tmp_path: Path) -> None:
    recipe = SharedRecipe(**TINY, image_weight=1.0, observation_weight=0, text_weight=0, positives="report")
    images = load_images(both, both.split_cxr("train"), tmp_path, "t")
    units = np.stack([np.full(4, -1), np.arange(4)], 1)
    joint = Joint(make_cxr(recipe, 32), TextTower.small(images.reports, 16, 32, 1, 64, 200), images, units)
    assert "cxr_again" in forward(joint, units, recipe, CPU)
    assert "cxr_again" not in forward(joint, units, SharedRecipe(**TINY), CPU)
    eye = torch.eye(16)[:4]
    criterion = Criterion(joint, recipe, Scales(), Ranks())
    criterion.groups = {"cxr": np.arange(1000)[:, None].repeat(2, 1)}
    right, wrong = (float(criterion.of(units)({"cxr": eye, "cxr_again": again}).detach()) for again in (eye, eye.flip(0)))
    assert right < 0.01
    assert wrong > 10


def test_the_same_seed_gives_the_same_encoder(both: Prepared, tmp_path: Path) -> None:
    for name, changes in (("a", {}), ("b", {}), ("c", {"seed": 1})):
        train_shared(SharedRecipe(**TINY | changes), both.path, tmp_path / name, CPU)
    prints = [load_space(tmp_path / name).fingerprint for name in "abc"]
    assert prints[0] == prints[1] != prints[2]


def test_a_folder_without_images_and_a_space_without_an_eye_are_refused(tiny_data: Prepared, tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected chest X-rays in the train split"):
        train_shared(SharedRecipe(**TINY), tiny_data.path, tmp_path / "e", CPU)
    assert not (tmp_path / "e").exists()
    space = load_space(tiny_bundle / "encoder")
    assert space.modalities == ("ecg", "text")
    with pytest.raises(ConfigError, match="reads ecg, text"):
        space.encode_images([np.zeros((4, 4), np.float32)])
