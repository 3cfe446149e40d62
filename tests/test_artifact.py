"""Folders that stages write: whole or not there, whatever stops the writer; checked when read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from regen.artifact import MANIFEST, check_free, file_digest, load_manifest, new_artifact, require_partner, write_text
from regen.errors import ArtifactError

CONFIG = {"width": 8}


def make(out: Path, text: str = "weights", force: bool = False) -> None:
    with new_artifact(out, "encoder", CONFIG, {"data": "d1"}, force) as work:
        (work.path / "inner").mkdir(exist_ok=True)
        (work.path / "inner" / "a.txt").write_text(text)
        (work.path / "b.bin").write_bytes(b"0123456789")
        (work.scratch / "step.txt").write_text("1")
        work.manifest["fingerprint"] = "f00d"


class Stop(Exception):
    """What stops a stage half-way in these tests."""


def stopped(out: Path, stage: str = "encoder") -> None:
    """A run that fails after it wrote a checkpoint and a file."""
    with new_artifact(out, stage, CONFIG, {}) as work:
        (work.scratch / "step.txt").write_text("7")
        (work.path / "left.txt").write_text("old")
        raise Stop


def beside(out: Path) -> list[str]:
    """What a run left next to its target, hidden or not."""
    return sorted(p.name for p in out.parent.iterdir() if p != out)


def test_manifest_lists_every_file_with_size_and_hash(tmp_path: Path) -> None:
    make(tmp_path / "deep" / "enc")
    manifest = load_manifest(tmp_path / "deep" / "enc", "encoder")
    assert manifest["files"].keys() == {"inner/a.txt", "b.bin"}
    assert manifest["files"]["b.bin"] == {"bytes": 10, "sha256": file_digest(tmp_path / "deep" / "enc" / "b.bin")}
    assert (manifest["stage"], manifest["config"], manifest["inputs"], manifest["fingerprint"]) == ("encoder", CONFIG, {"data": "d1"}, "f00d")
    assert manifest["libraries"]["numpy"]
    assert beside(tmp_path / "deep" / "enc") == [], "a finished run leaves nothing beside its folder"


def cut(folder: Path) -> None:
    os.truncate(folder / "b.bin", 5)


def change(folder: Path) -> None:
    (folder / "b.bin").write_bytes(b"012345678X")


def remove(folder: Path) -> None:
    (folder / "inner" / "a.txt").unlink()


def add(folder: Path) -> None:
    (folder / "inner" / "stranger.txt").write_text("x")


def cut_manifest(folder: Path) -> None:
    os.truncate(folder / MANIFEST, 20)


def foreign_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text(json.dumps({"stage": "encoder", "files": ["b.bin"]}))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (cut, ("b.bin", "expected 10 bytes, got 5")),
        (change, ("b.bin", "SHA-256")),
        (remove, ("inner/a.txt", "missing")),
        (add, ("inner/stranger.txt", "expected only")),
        (cut_manifest, (MANIFEST,)),
        (foreign_manifest, (MANIFEST,)),
    ],
)
def test_a_damaged_folder_is_refused_by_name(tmp_path: Path, damage: Callable[[Path], None], named: tuple[str, ...]) -> None:
    make(tmp_path / "enc")
    load_manifest(tmp_path / "enc", "encoder")
    damage(tmp_path / "enc")
    with pytest.raises(ArtifactError) as caught:
        load_manifest(tmp_path / "enc", "encoder")
    assert all(part in str(caught.value) for part in (*named, str(tmp_path / "enc")))


def test_another_stage_an_empty_folder_and_no_folder_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "enc")
    with pytest.raises(ArtifactError, match="stage 'index', got 'encoder'"):
        load_manifest(tmp_path / "enc", "index")
    with pytest.raises(ArtifactError, match="no such folder"):
        load_manifest(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match=r"no manifest\.json"):
        load_manifest(tmp_path)


def test_an_error_in_the_stage_publishes_nothing_and_the_next_run_resumes(tmp_path: Path) -> None:
    out = tmp_path / "enc"
    with pytest.raises(Stop):
        stopped(out)
    assert not out.exists()
    with new_artifact(out, "encoder", CONFIG, {}) as work:
        assert (work.scratch / "step.txt").read_text() == "7"
    assert load_manifest(out)["files"].keys() == {"left.txt"}, "checkpoints are not part of the artifact"


@pytest.mark.parametrize("other", [("index", CONFIG, {}), ("encoder", {"width": 9}, {}), ("encoder", CONFIG, {"data": "d2"})])
def test_what_another_recipe_left_behind_is_not_used(tmp_path: Path, other: tuple[str, dict[str, int], dict[str, str]]) -> None:
    out = tmp_path / "enc"
    with pytest.raises(Stop):
        stopped(out)
    stage, config, inputs = other
    with new_artifact(out, stage, config, inputs) as work:
        assert sorted(p.name for p in work.path.iterdir()) == [".recipe"]


def test_clear_starts_clean(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        stopped(tmp_path / "d", "prepare")
    with new_artifact(tmp_path / "d", "prepare", CONFIG, {}) as work:
        assert (work.path / "left.txt").exists()
        work.clear()
        (work.path / "new.txt").write_text("x")
    assert load_manifest(tmp_path / "d")["files"].keys() == {"new.txt"}


def test_an_existing_folder_needs_force(tmp_path: Path) -> None:
    out = tmp_path / "enc"
    make(out, "first")
    with pytest.raises(ArtifactError, match="--force"):
        make(out, "second")
    assert (out / "inner" / "a.txt").read_text() == "first"
    make(out, "second", force=True)
    assert (out / "inner" / "a.txt").read_text() == "second"
    load_manifest(out, "encoder")
    assert beside(out) == []


def test_force_replaces_a_damaged_or_empty_folder(tmp_path: Path) -> None:
    make(tmp_path / "enc")
    cut_manifest(tmp_path / "enc")
    (tmp_path / "empty").mkdir()
    for name in ("enc", "empty"):
        make(tmp_path / name, force=True)
        load_manifest(tmp_path / name, "encoder")


def test_force_never_deletes_what_regen_did_not_write(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / MANIFEST).write_text('{"name": "app"}')
    for name in ("home", "file", "web"):
        with pytest.raises(ArtifactError, match="regen wrote"):
            make(tmp_path / name, force=True)
    assert (tmp_path / "home" / "thesis.tex").read_text() == "years"
    assert (tmp_path / "file").read_text() == "mine"


def test_a_target_below_a_file_is_one_artifact_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match="can be written"):
        make(tmp_path / "file" / "enc")


def test_check_free_lets_a_free_name_pass(tmp_path: Path) -> None:
    check_free(tmp_path / "free", force=False)
    with pytest.raises(ArtifactError, match="exists already"):
        check_free(tmp_path, force=False)


def test_two_writers_of_one_folder_the_second_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "enc"
    with new_artifact(out, "encoder", CONFIG, {}) as work:
        (work.path / "a.txt").write_text("first")
        with pytest.raises(ArtifactError, match="another regen process"):
            make(out)
        assert (work.path / "a.txt").read_text() == "first"
    assert load_manifest(out)["files"].keys() == {"a.txt"}


WRITER = textwrap.dedent("""
    import sys, time
    from regen.artifact import new_artifact
    import regen.artifact as artifact
    out, when = sys.argv[1:]
    def stop():
        print("now", flush=True)
        time.sleep(60)
    if when == "publish":
        artifact._versions = stop
    if when == "rename":
        rename = artifact.Path.rename
        def half(self, target):
            if self.name.endswith(".partial"):
                stop()
            return rename(self, target)
        artifact.Path.rename = half
    with new_artifact(out, "encoder", {"width": 8}, {}, force=True) as work:
        (work.scratch / "step.txt").write_text("41")
        (work.path / "half.bin").write_bytes(b"x" * 100)
        if when == "body":
            stop()
""")


def kill_writer(out: Path, when: str) -> None:
    """Run WRITER until it says that it is in the middle of things, then kill -9."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(out), when], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "now"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("when", ["body", "publish"])
def test_kill_9_leaves_no_folder_and_the_next_run_resumes(tmp_path: Path, when: str) -> None:
    out = tmp_path / "enc"
    kill_writer(out, when)
    assert not out.exists()
    with pytest.raises(ArtifactError):
        load_manifest(out)
    with new_artifact(out, "encoder", CONFIG, {}) as work:
        assert (work.scratch / "step.txt").read_text() == "41"
        (work.path / "half.bin").write_bytes(b"whole")
    assert load_manifest(out)["files"]["half.bin"]["bytes"] == 5
    assert beside(out) == []


@pytest.mark.parametrize("when", ["body", "publish"])
def test_kill_9_while_replacing_keeps_the_old_folder(tmp_path: Path, when: str) -> None:
    out = tmp_path / "enc"
    make(out, "old")
    kill_writer(out, when)
    load_manifest(out, "encoder")
    assert (out / "inner" / "a.txt").read_text() == "old"


def test_kill_9_between_the_two_renames_loses_neither_folder(tmp_path: Path) -> None:
    out = tmp_path / "enc"
    make(out, "old")
    kill_writer(out, "rename")
    assert not out.exists()
    with pytest.raises(ArtifactError, match="exists already"):
        make(out, "new")
    load_manifest(out, "encoder")
    assert (out / "inner" / "a.txt").read_text() == "old"
    make(out, "new", force=True)
    assert (out / "inner" / "a.txt").read_text() == "new"
    assert beside(out) == []


def test_require_partner_names_both_and_the_command() -> None:
    require_partner("index/", "abc", "abc", "never shown")
    with pytest.raises(ArtifactError, match=r"index/ was built with encoder 3f9a0000, this one is 77c10000; rebuild: regen index build"):
        require_partner("index/", "3f9a0000ffff", "77c10000ffff", "regen index build")


def test_write_text_replaces_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", "one")
    write_text(tmp_path / "a.json", "two")
    assert (tmp_path / "a.json").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
