"""A bundle is whole, its parts belong together, or it is refused by name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from regen import Pipeline
from regen.artifact import file_digest, load_manifest
from regen.batch import prepared_studies
from regen.bundle import find_bundle, make_bundle
from regen.data_prep.prepared import Prepared
from regen.errors import ArtifactError, ConfigError


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def drop(bundle: Path) -> str:
    (bundle / "encoder" / "head.safetensors").unlink()
    return "encoder/head.safetensors"


def cut(bundle: Path) -> str:
    path = bundle / "generator" / "soft.safetensors"
    os.truncate(path, path.stat().st_size - 100)
    return "soft.safetensors"


def change(bundle: Path) -> str:
    path = bundle / "index" / "vectors.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    return "vectors.safetensors"


def add(bundle: Path) -> str:
    (bundle / "generator" / "base" / "pytorch_model.bin").write_bytes(b"foreign")
    return "generator/base/pytorch_model.bin"


@pytest.mark.parametrize("damage", [drop, cut, change, add])
def test_a_damaged_bundle_is_refused_by_name(copy: Path, damage: Callable[[Path], str]) -> None:
    name = damage(copy)
    with pytest.raises(ArtifactError, match=name.replace(".", r"\.")):
        Pipeline.from_pretrained(copy, "cpu")


def test_a_folder_that_is_no_bundle_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="stage 'bundle', got 'encoder'"):
        Pipeline.from_pretrained(tiny_bundle / "encoder", "cpu")
    with pytest.raises(ArtifactError, match="no such folder"):
        Pipeline.from_pretrained(tmp_path / "nowhere", "cpu")


def _with_fingerprint(folder: Path, fingerprint: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"fingerprint": fingerprint}))


@pytest.mark.parametrize(("part", "mend"), [("index", "regen index build"), ("generator", "regen train writer")])
def test_parts_of_another_encoder_are_not_bundled(copy: Path, tmp_path: Path, part: str, mend: str) -> None:
    _with_fingerprint(copy / part, "deadbeef" * 8)
    with pytest.raises(ArtifactError, match=f"{part} was built with encoder deadbeef.*rebuild: {mend}"):
        make_bundle(copy / "encoder", copy / "index", copy / "generator", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("part", "mend"), [("index", "regen index build"), ("generator", "regen train writer")])
def test_parts_of_another_encoder_are_not_loaded(copy: Path, part: str, mend: str) -> None:
    """Even where someone made the outer manifest agree with the exchanged part."""
    _with_fingerprint(copy / part, "deadbeef" * 8)
    path = copy / part / "manifest.json"
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"][f"{part}/manifest.json"] = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=f"deadbeef.*rebuild: {mend}"):
        Pipeline.from_pretrained(copy, "cpu")


def test_saved_and_loaded_again_it_writes_the_same_drafts(pipeline: Pipeline, tiny_data: Prepared, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "saved")
    assert load_manifest(tmp_path / "saved", "bundle")["fingerprint"] == pipeline.towers.fingerprint
    with pytest.raises(ArtifactError, match="exists already"):
        pipeline.save_pretrained(tmp_path / "saved")
    again = Pipeline.from_pretrained(tmp_path / "saved", "cpu")
    studies = list(prepared_studies(tiny_data, tiny_data.split("test")))
    ours, theirs = ([replace(d, bundle="", timing_ms={}) for d in p.draft(studies)] for p in (pipeline, again))
    assert ours == theirs
    assert any(draft.report for draft in ours)


def test_a_hub_name_without_network_is_one_clear_error() -> None:
    for name in ("nobody/no-such-bundle", "no body/no?such"):
        with pytest.raises(ArtifactError, match="no such folder, and the hub gave no bundle"):
            find_bundle(name)
    for name in ("nobody", "a/b/c", "./a/b"):
        with pytest.raises(ArtifactError, match="no such folder, and no hub id"):
            find_bundle(name)
    with pytest.raises(ConfigError, match="empty name"):
        find_bundle("")


def test_a_card_that_is_not_there_is_said_before_anything_is_copied(tiny_bundle: Path, tmp_path: Path) -> None:
    parts = [tiny_bundle / name for name in ("encoder", "index", "generator")]
    with pytest.raises(ConfigError, match=r"--card: expected a Markdown file, .*card\.md is none"):
        make_bundle(*parts, tmp_path / "out", tmp_path / "card.md")
    (tmp_path / "card.md").write_text("# Card of this test\n")
    make_bundle(*parts, tmp_path / "out", tmp_path / "card.md")
    assert (tmp_path / "out" / "MODEL_CARD.md").read_text() == "# Card of this test\n"


def test_weights_are_safetensors_and_nothing_is_pickled(tiny_bundle: Path) -> None:
    kinds = {path.suffix for path in tiny_bundle.rglob("*") if path.is_file()}
    assert kinds <= {".safetensors", ".json", ".parquet", ".png", ".md"}
    assert ".safetensors" in kinds
    assert sum(path.stat().st_size for path in tiny_bundle.rglob("*") if path.is_file()) < 30e6
