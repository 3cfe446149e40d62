"""Folders that stages write: whole or not there, checked when read, refused to the wrong partner.

    with new_artifact("enc", stage="encoder", config=config, inputs={"data": data.digest}) as work:
        save_file(tensors, work.path / "encoder.safetensors")
        work.manifest["fingerprint"] = ...

A stage works in a hidden folder beside the target ('.enc.partial'), so that a stopped run finds its checkpoints again; when it is
done every file is hashed, synced, and the folder renamed. manifest.json holds stage, config, inputs, versions and a SHA-256 per file.
Hidden files in the work folder ('.recipe') are its own and never published.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from regen import __version__
from regen.errors import ArtifactError

MANIFEST = "manifest.json"
SCRATCH = "scratch"
"""Sub-folder of the work folder for checkpoints and caches; it is left out of the artifact."""
_PATIENCE = 1.0
"""Seconds to wait for another writer: the worker processes of a killed run hold its lock until they notice that it is gone."""
_LIBRARIES = ("torch", "transformers", "peft", "faiss-cpu", "faiss-gpu", "numpy", "polars", "wfdb", "pydicom")


@dataclass(slots=True)
class Work:
    """The folder a stage writes into, and what its manifest will say besides the files."""

    path: Path
    manifest: dict[str, Any] = field(default_factory=dict)
    resumes: bool = True
    """A stage that does not, because it clears what a stopped run left, leaves nothing where it fails."""

    @property
    def scratch(self) -> Path:
        folder = self.path / SCRATCH
        folder.mkdir(exist_ok=True)
        return folder

    def clear(self) -> None:
        """Start clean: for a stage that cannot use what a stopped run left behind, and so leaves nothing either."""
        self.resumes = False
        _empty(self.path)


@contextlib.contextmanager
def new_artifact(out: str | Path, stage: str, config: Mapping[str, Any], inputs: Mapping[str, str], force: bool = False) -> Iterator[Work]:
    """Write a folder as one step. The body fills `work.path`; leaving it without an error publishes the folder at `out`.

    A run that stopped half-way left its work folder behind; the next run with the same stage, config and inputs finds the files in it
    (`work.scratch` holds checkpoints), a run with others starts clean. A stage that does not resume leaves nothing, unless it is killed.

    Raises:
        ArtifactError: `out` exists and force is false, is no folder of regen's, cannot be written, or another process is writing it.
    """
    out = Path(out)
    out = out if out.name not in {"", ".."} else out.resolve()
    check_free(out, force)
    partial = _beside(out, "partial")
    recipe = {"stage": stage, "config": dict(config), "inputs": dict(inputs), "regen": __version__}
    with _locked(out):
        _restore(out)
        check_free(out, force)
        _make_folder(partial)
        if _read_json(partial / ".recipe") != json.loads(json.dumps(recipe)):
            _empty(partial)
            write_text(partial / ".recipe", json.dumps(recipe, indent=1))
        work = Work(partial, dict(recipe))
        try:
            yield work
            _publish(work, out)
        except BaseException:
            if not work.resumes:
                shutil.rmtree(partial, ignore_errors=True)
            raise


def check_free(out: Path, force: bool) -> None:
    """Refuse a target that exists before any work is done. Force replaces what regen wrote or an empty folder, nothing else.

    Raises:
        ArtifactError: `out` exists and force is false, or holds something that regen did not write.
    """
    if not out.exists():
        return
    if not force:
        raise ArtifactError(f"{out}: exists already; choose another --out, or replace it with --force")
    if not out.is_dir() or (any(out.iterdir()) and not _is_ours(out)):
        raise ArtifactError(f"{out}: expected a folder that regen wrote, got something else, which --force does not delete; choose another --out")


def check_free_file(out: Path, force: bool) -> None:
    """The same for an output that is one file: force replaces a file, never a folder.

    Raises:
        ArtifactError: `out` exists and force is false, or is a folder.
    """
    if out.is_dir():
        raise ArtifactError(f"{out}: expected the name of a file to write, got a folder; choose another name")
    if out.exists() and not force:
        raise ArtifactError(f"{out}: exists already; choose another --out, or replace it with --force")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir():
        raise ArtifactError(f"{out}: expected a folder to write in, {above} is a file; choose another --out")


def load_manifest(path: str | Path, stage: str | None = None) -> dict[str, Any]:
    """Check a folder against its manifest: every file there, whole, and none that does not belong.

    Raises:
        ArtifactError: not an artifact, of another stage, a file missing, cut, changed or foreign. The message names it.
    """
    path = Path(path)
    manifest = _read_json(path / MANIFEST)
    if not _is_manifest(manifest):
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
    path.parent.mkdir(parents=True, exist_ok=True)
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
    """Checkpoints and recipe stay until every file is hashed and synced, so that a run killed here resumes too."""
    partial = work.path
    hidden = [p for p in partial.iterdir() if p.name.startswith(".")]
    own = {*hidden, partial / SCRATCH, partial / MANIFEST}
    files = sorted(p for p in partial.rglob("*") if p.is_file() and not own & {p, *p.parents})
    work.manifest["libraries"] = _versions()
    work.manifest["files"] = {p.relative_to(partial).as_posix(): {"bytes": p.stat().st_size, "sha256": file_digest(p)} for p in files}
    write_text(partial / MANIFEST, json.dumps(work.manifest, indent=1, sort_keys=True))
    for path in (*files, partial / MANIFEST, partial):
        _sync(path)
    shutil.rmtree(partial / SCRATCH, ignore_errors=True)
    for path in hidden:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    old = _beside(out, "old")
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


def _restore(out: Path) -> None:
    """A run killed between the two renames of a replacement left the folder that it replaced under another name: put it back."""
    old = _beside(out, "old")
    if old.exists() and not out.exists():
        old.rename(out)


def _beside(out: Path, suffix: str) -> Path:
    return out.parent / f".{out.name}.{suffix}"


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"{path}: expected a folder that can be written, got {error.strerror}; choose another --out") from error


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the lock file beside `out`. It goes with its owner, so whoever locks a file checks that it is still the one in place."""
    path = _beside(out, "lock")
    _make_folder(out.parent)
    until = time.monotonic() + _PATIENCE
    while True:
        with _opened(path) as lock:
            if _take(lock, path):
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return
        if time.monotonic() > until:
            raise ArtifactError(f"{out}: another regen process is writing it; wait for it, or choose another --out")
        time.sleep(0.05)


def _opened(path: Path) -> IO[str]:
    try:
        return path.open("a")
    except OSError as error:
        raise ArtifactError(f"{path}: expected a folder that can be written, got {error.strerror}; choose another --out") from error


def _take(lock: IO[str], path: Path) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError as error:
        raise ArtifactError(f"{path}: the disk does not lock files ({error.strerror}); write to another disk") from error


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != ".recipe":
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _is_ours(folder: Path) -> bool:
    """It has regen's manifest, or a damaged one."""
    manifest = _read_json(folder / MANIFEST)
    return _is_manifest(manifest) or (manifest is None and (folder / MANIFEST).is_file())


def _is_manifest(value: Any) -> bool:
    """A dict with a stage and, per file, its size and hash."""
    if not isinstance(value, dict) or not isinstance(value.get("files"), dict) or "stage" not in value:
        return False
    return all(isinstance(entry, dict) and entry.keys() >= {"bytes", "sha256"} for entry in value["files"].values())


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
