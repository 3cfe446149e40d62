"""Training that was stopped goes on and ends with the weights it would have had; nothing half-done bears the final name."""

from __future__ import annotations

import logging
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from models import CONFIGS, CPU, ENCODER, WRITER, command, encoder_recipe, plain, train_tiny, writer_recipe
from torch import nn

from regen.artifact import load_manifest
from regen.config import load
from regen.data_prep.prepared import Prepared
from regen.encoders import training
from regen.encoders.recipe import EncoderRecipe
from regen.encoders.store import load_towers
from regen.encoders.train import train_encoder
from regen.encoders.training import Checkpoint, Curve, Ema, draw_curves, epoch_seed, make_optimizer, one_cycle, pick_device, seeded, take_step
from regen.errors import ConfigError, DataError
from regen.generators.train import train_writer


class Stop(Exception):
    """What stops a training in these tests."""


class Stopping:
    """A progress bar that stops a stage after some epochs, and notes which stages came by."""

    def __init__(self, stage: str = "", after: int = 0) -> None:
        self.stage, self.after = stage, after
        self.seen: list[str] = []

    def __call__(self, items: Iterable[int], title: str) -> Iterator[int]:
        for i, item in enumerate(items):
            if (title, i) == (self.stage, self.after):
                raise Stop
            self.seen.append(title)
            yield item


def weights(folder: Path) -> dict[str, str]:
    files = load_manifest(folder)["files"]
    return {name: entry["sha256"] for name, entry in files.items() if name.endswith(".safetensors")}


def left(out: Path) -> list[str]:
    return sorted(p.name for p in out.parent.iterdir())


def test_an_encoder_goes_on_where_it_stopped(tiny_bundle: Path, tiny_data: Prepared, tmp_path: Path) -> None:
    """Stopped in the middle of the alignment; the test of kill -9 stops one right after its pre-training."""
    out = tmp_path / "encoder"
    with pytest.raises(Stop):
        train_encoder(encoder_recipe(), tiny_data.path, out, CPU, progress=Stopping("alignment", 2))
    assert not out.exists()
    rest = Stopping()
    train_encoder(encoder_recipe(), tiny_data.path, out, CPU, progress=rest)
    assert rest.seen == ["alignment"]
    assert weights(out) == weights(tiny_bundle / "encoder")
    assert left(out) == ["encoder"]


@pytest.mark.parametrize(("stage", "after"), [("writer", 0), ("writer", 1)])
def test_a_writer_goes_on_where_it_stopped(tiny_bundle: Path, tiny_data: Prepared, tmp_path: Path, stage: str, after: int) -> None:
    out = tmp_path / "generator"
    parts = (tiny_data.path, tiny_bundle / "encoder", tiny_bundle / "index", out, CPU)
    with pytest.raises(Stop):
        train_writer(writer_recipe(), *parts, progress=Stopping(stage, after))
    assert not out.exists()
    rest = Stopping()
    train_writer(writer_recipe(), *parts, progress=rest)
    assert rest.seen == ["writer"] * (2 - after)
    assert weights(out) == weights(tiny_bundle / "generator")
    assert left(out) == ["generator"]


def test_another_recipe_starts_clean(tiny_data: Prepared, tmp_path: Path) -> None:
    out = tmp_path / "encoder"
    with pytest.raises(Stop):
        train_encoder(encoder_recipe(), tiny_data.path, out, CPU, progress=Stopping("pre-training", 0))
    (tmp_path / ".encoder.partial" / "scratch" / "old").touch()
    with pytest.raises(Stop):
        train_encoder(encoder_recipe("seed=1"), tiny_data.path, out, CPU, progress=Stopping("pre-training", 0))
    assert not (tmp_path / ".encoder.partial" / "scratch" / "old").exists()
    assert not out.exists()


def kill_when(there: Path, *arguments: str | Path) -> None:
    """Run `regen ...`, and end it with kill -9 as soon as a file is there."""
    process = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until = time.monotonic() + 240
    while not there.exists():
        if process.poll() is not None:
            raise AssertionError(f"ended before {there} was there: {process.communicate()[0]}")
        assert time.monotonic() < until, f"{there} did not appear"
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -9


def sets(changes: tuple[str, ...]) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def test_kill_9_while_an_encoder_trains(tiny_bundle: Path, tiny_data: Prepared, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "encoder"
    checkpoint = tmp_path / ".encoder.partial" / "scratch" / "pretrain.safetensors"
    kill_when(checkpoint, "train", "encoder", CONFIGS / "ecg.yaml", "--data", tiny_data.path, "--out", out, "--device", "cpu", *sets(ENCODER))
    assert not out.exists()
    with caplog.at_level(logging.INFO, "regen.encoders.training"):
        train_encoder(encoder_recipe(), tiny_data.path, out, CPU, progress=plain)
    assert "resumed pretrain after 1 epochs" in caplog.text
    assert load_towers(out).fingerprint == load_manifest(tiny_bundle / "encoder")["fingerprint"]
    assert left(out) == ["encoder"]


def test_kill_9_while_a_writer_trains(tiny_bundle: Path, tiny_data: Prepared, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "generator"
    checkpoint = tmp_path / ".generator.partial" / "scratch" / "base.safetensors"
    parts = ["--data", tiny_data.path, "--encoder", tiny_bundle / "encoder", "--index", tiny_bundle / "index", "--out", out, "--device", "cpu"]
    kill_when(checkpoint, "train", "writer", CONFIGS / "writer.yaml", *parts, *sets(WRITER))
    assert not out.exists()
    with caplog.at_level(logging.INFO, "regen.encoders.training"):
        train_writer(writer_recipe(), tiny_data.path, tiny_bundle / "encoder", tiny_bundle / "index", out, CPU)
    assert "resumed base after" in caplog.text
    assert weights(out) == weights(tiny_bundle / "generator")
    assert left(out) == ["generator"]


def test_train_all_keeps_the_steps_that_are_done(tiny_bundle: Path, tiny_data: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, steps = tmp_path / "bundle", tmp_path / "bundle.steps"
    for part in ("encoder", "generator"):
        shutil.copytree(tiny_bundle / part, steps / part)
    monkeypatch.setattr("regen.train_all.train_encoder", None)
    monkeypatch.setattr("regen.train_all.train_writer", None)
    train_tiny(tiny_data.path / "studies.parquet", out)
    assert weights(out) == weights(tiny_bundle)
    assert left(out) == ["bundle"], "the steps go when the bundle is there"


def test_a_missing_model_card_is_said_before_hours_of_training(tiny_data: Prepared, tmp_path: Path) -> None:
    from regen.train_all import train_bundle

    (tmp_path / "all.yaml").write_text("card: CARD.md\n")
    with pytest.raises(ConfigError, match=r"card: expected a Markdown file, .*CARD\.md is none"):
        train_bundle(tmp_path / "all.yaml", [], tiny_data.path, tmp_path / "out", CPU, False, plain)
    assert left(tmp_path / "out") == ["all.yaml"]


def test_too_little_data_is_said(tiny_data: Prepared, tmp_path: Path) -> None:
    data = Prepared(tiny_data.path, tiny_data.studies.filter(tiny_data.studies["split"] != "val"), tiny_data.manifest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Prepared, "open", lambda path: data)
        with pytest.raises(DataError, match="expected coded recordings in the val split, got 0 of 0"):
            train_encoder(encoder_recipe(), tiny_data.path, tmp_path / "out", CPU)


def test_curves_are_drawn(tiny_bundle: Path, tmp_path: Path) -> None:
    for part in ("encoder", "generator"):
        image = (tiny_bundle / part / "curves.png").read_bytes()
        assert image[:8] == b"\x89PNG\r\n\x1a\n"
        assert len(image) > 5000
    draw_curves({"nothing": Curve(tmp_path / "none.jsonl", 0)}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_a_curve_forgets_epochs_that_no_checkpoint_holds(tmp_path: Path) -> None:
    curve = Curve(tmp_path / "curve.jsonl", 0)
    for value in (3.0, 2.0, 1.0):
        curve.add(loss=value)
    assert Curve(tmp_path / "curve.jsonl", 2).rows == [{"loss": 3.0}, {"loss": 2.0}]
    assert Curve(tmp_path / "curve.jsonl", 0).rows == []


class Toy:
    """A small network with batch norm and dropout, trained on numbers that the epoch's seed draws."""

    def __init__(self, path: Path) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.optimizer = make_optimizer({"net": self.net}, 0.1)
        self.ema = Ema(self.net, 0.9)
        self.checkpoint = Checkpoint(path, {"net": self.net}, self.optimizer, self.ema)

    def train(self, epochs: int) -> None:
        for epoch in range(self.checkpoint.load(), epochs):
            with seeded(epoch_seed(3, "toy", epoch)) as rng:
                for step in range(4):
                    x = torch.from_numpy(rng.normal(size=(16, 5)).astype(np.float32))
                    take_step(self.optimizer, (self.net(x) - x.sum(1, keepdim=True)).square().mean(), one_cycle(4 * epoch + step, 24, 0.01))
                    self.ema.update(self.net)
            self.checkpoint.save(epoch + 1)


def test_a_checkpoint_holds_all_that_matters(tmp_path: Path) -> None:
    whole = Toy(tmp_path / "whole.safetensors")
    whole.train(6)
    Toy(tmp_path / "parts.safetensors").train(2)
    torch.manual_seed(77)
    Toy(tmp_path / "parts.safetensors").train(5)
    last = Toy(tmp_path / "parts.safetensors")
    last.train(6)
    for a, b in ((whole.net.state_dict(), last.net.state_dict()), (whole.ema.state, last.ema.state)):
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert last.ema.steps == whole.ema.steps == 24
    assert not list(tmp_path.glob("*.tmp"))


def test_the_moving_average_averages_weights_and_copies_statistics() -> None:
    net = nn.BatchNorm1d(2)
    ema = Ema(net, 0.5)
    for value in (1.0, 2.0):
        with torch.no_grad():
            net.weight.fill_(value)
        net.running_mean = torch.full((2,), value)
        ema.update(net)
    first = 1.0
    second = first + (2.0 - first) * (1 - min(0.5, 3 / 12))
    assert ema.state["weight"].tolist() == pytest.approx([second] * 2)
    assert ema.state["running_mean"].tolist() == [2.0, 2.0]
    ema.apply(net)
    assert net.weight.tolist() == pytest.approx([second] * 2)


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [one_cycle(step, 100, 2.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.08)
    assert max(rates) == rates[20] == pytest.approx(2.0)
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] < 0.01
    assert one_cycle(200, 100, 2.0) == pytest.approx(0.002)


def test_every_epoch_of_every_stage_has_its_own_seed() -> None:
    seeds = {epoch_seed(seed, stage, epoch) for seed in range(3) for stage in ("a", "b") for epoch in range(-1, 20)}
    assert len(seeds) == 3 * 2 * 21
    assert epoch_seed(0, "align", 0) == 190491567777152, "the same on every machine"


def test_decay_is_for_matrices() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    groups = make_optimizer({"net": net}, 0.2).param_groups
    assert [(g["weight_decay"], [p.ndim for p in g["params"]]) for g in groups] == [(0.2, [2]), (0.0, [1, 1, 1])]


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "mps", "", "cuda:99"])
def test_a_device_that_is_not_there_is_one_clear_error(name: str) -> None:
    with pytest.raises(ConfigError, match="--device"):
        pick_device(name)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_device("cpu") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert pick_device("auto") == CPU
    with pytest.raises(ConfigError, match="torch sees no such GPU"):
        pick_device("cuda")
    assert isinstance(training.has_fast_bf16(CPU), bool)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="width must be a multiple of heads, got 64 and 5"):
        load(EncoderRecipe, CONFIGS / "ecg.yaml", ["width=64", "heads=5"])
