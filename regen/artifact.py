"""Folders that stages write: whole or not there, checked when read, refused to the wrong partner.

    with new_artifact("enc", stage="encoder", config=config, inputs={"data": data.digest}) as work:
        save_file(tensors, work.path / "encoder.safetensors")
        work.manifest["fingerprint"] = ...

A stage works in a hidden folder beside the target ('.enc.partial'), so that a stopped run finds its checkpoints again; when it is
done every file is hashed, synced, and the folder renamed. manifest.json holds stage, config, inputs, versions and a SHA-256 per file.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from regen import __version__
from regen.errors import ArtifactError

MANIFEST = "manifest.json"
SCRATCH = "scratch"
"""Sub-folder of the work folder for checkpoints and caches; it is left out of the artifact."""
_LIBRARIES = ("torch", "transformers", "peft", "faiss-cpu", "faiss-gpu", "numpy", "polars", "wfdb", "pydicom")


@dataclass(slots=True)
class Work:
    """The folder a stage writes into, and what its manifest will say besides the files."""

    path: Path
    manifest: dict[str, Any] = field(default_factory=dict)

    @property
    def scratch(self) -> Path:
        folder = self.path / SCRATCH
        folder.mkdir(exist_ok=True)
        return folder


@contextlib.contextmanager
def new_artifact(out: str | Path, stage: str, config: Mapping[str, Any], inputs: Mapping[str, str], force: bool = False) -> Iterator[Work]:
    """Write a folder as one step. The body fills `work.path`; leaving it without an error publishes the folder at `out`.

    A run that stopped half-way left its work folder behind; the next run with the same stage, config and inputs finds the
    files in it (`work.scratch` holds checkpoints), a run with others starts clean.

    Raises:
        ArtifactError: `out` exists and force is false, or another process is writing it.
    """
    out = Path(out)
    check_free(out, force)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.parent / f".{out.name}.partial"
    recipe = {"stage": stage, "config": dict(config), "inputs": dict(inputs), "regen": __version__}
    partial.mkdir(exist_ok=True)
    with _locked(partial, out):
        if _read_json(partial / ".recipe") != json.loads(json.dumps(recipe)):
            _empty(partial)
            write_text(partial / ".recipe", json.dumps(recipe, indent=1))
        work = Work(partial, dict(recipe))
        yield work
        _publish(work, out)


def check_free(out: Path, force: bool) -> None:
    """Refuse a target that exists before any work is done."""
    if out.exists() and not force:
        raise ArtifactError(f"{out}: exists already; choose another --out, or replace it with --force")


def load_manifest(path: str | Path, stage: str | None = None) -> dict[str, Any]:
    """Check a folder against its manifest: every file there, whole, and none that does not belong.

    Raises:
        ArtifactError: not an artifact, of another stage, a file missing, cut, changed or foreign. The message names it.
    """
    path = Path(path)
    manifest = _read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or "files" not in manifest:
        what = "no such folder" if not path.exists() else f"no {MANIFEST} that reads"
        raise ArtifactError(f"{path}: expected a folder written by regen, got {what}; write it again or check the path")
    if stage is not None and manifest.get("stage") != stage:
        raise ArtifactError(f"{path}: expected a folder of stage {stage!r}, got {manifest.get('stage')!r}; give the right folder")
    expected: dict[str, dict[str, Any]] = manifest["files"]
    there = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()} - {MANIFEST}
    missing, foreign = sorted(expected.keys() - there), sorted(there - expected.keys())
    if missing:
        raise ArtifactError(f"{path}: expected {', '.join(missing)}, missing; copy the folder again or rebuild it")
    if foreign:
        raise ArtifactError(f"{path}: expected only the files of its manifest, got {', '.join(foreign)} as well; remove them or rebuild")
    for name, entry in expected.items():
        size = (path / name).stat().st_size
        if size != entry["bytes"]:
            raise ArtifactError(f"{path / name}: expected {entry['bytes']} bytes, got {size}; the file was cut or changed: copy it again")
        if file_digest(path / name) != entry["sha256"]:
            raise ArtifactError(f"{path / name}: expected SHA-256 {entry['sha256'][:12]}, got another; the file changed: copy it again")
    return manifest


def require_partner(who: str, built_with: str, have: str, mend: str) -> None:
    """Two artifacts that must come from the same encoder.

    Raises:
        ArtifactError: the fingerprints differ; `mend` is the command that rebuilds the first.
    """
    if built_with != have:
        raise ArtifactError(f"{who} was built with encoder {built_with[:8]}, this one is {have[:8]}; rebuild: {mend}")


def write_text(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old one or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _publish(work: Work, out: Path) -> None:
    partial = work.path
    shutil.rmtree(partial / SCRATCH, ignore_errors=True)
    (partial / ".recipe").unlink(missing_ok=True)
    (partial / ".lock").unlink(missing_ok=True)
    files = sorted(p for p in partial.rglob("*") if p.is_file())
    work.manifest["libraries"] = _versions()
    work.manifest["files"] = {p.relative_to(partial).as_posix(): {"bytes": p.stat().st_size, "sha256": file_digest(p)} for p in files}
    write_text(partial / MANIFEST, json.dumps(work.manifest, indent=1, sort_keys=True))
    for path in (*files, partial / MANIFEST, partial):
        _sync(path)
    old = out.parent / f".{out.name}.old"
    if out.exists():
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
    partial.rename(out)
    _sync(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(partial: Path, out: Path) -> Iterator[None]:
    with (partial / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ArtifactError(f"{out}: another regen process is writing it; wait for it, or choose another --out") from error
        yield


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name == ".lock":
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _versions() -> dict[str, str]:
    found = {"regen": __version__}
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
