"""A bundle is encoder/ + index/, mostly generator/ and adapter/, and a model card in one folder: what users load and share."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from regen.artifact import MANIFEST, load_manifest, new_artifact, require_partner
from regen.errors import ArtifactError, ConfigError
from regen.study import DISCLAIMER

if TYPE_CHECKING:
    from regen.encoders.space import Space

STARTER = Path(__file__).parent / "starter"
"""The bundle that ships with the package."""
_PARTS = {"encoder": "encoder", "index": "index", "generator": "writer", "adapter": "adapter"}
"""Folder -> the stage that its manifest names."""


def make_bundle(
    encoder: str | Path, index: str | Path, generator: str | Path | None, out: str | Path, card: str | Path | None = None, force: bool = False,
    adapter: str | Path | None = None, limits: Mapping[str, float] | None = None,
) -> None:  # fmt: skip
    """Copy folders that belong together into one. card: a Markdown file; without one, the facts of the manifests are written.

    generator: writes ECG drafts; adapter: says what a chest X-ray shows (regen adapt). A bundle without them still searches. limits: of an index
    that was built without them (regen.index.limits).

    Raises:
        ArtifactError: a part is damaged, or was made with another encoder; `out` exists without force.
        ConfigError: no such card.
    """
    if card is not None and not Path(card).is_file():
        raise ConfigError(f"--card: expected a Markdown file, {card} is none")
    given = {"encoder": encoder, "index": index, "generator": generator, "adapter": adapter}
    folders = {name: Path(folder) for name, folder in given.items() if folder is not None}
    manifests = {name: load_manifest(folder, _PARTS[name]) for name, folder in folders.items()}
    fingerprint = manifests["encoder"]["fingerprint"]
    mend = {
        "index": "regen index build --encoder E --data D --out I", "generator": "regen train writer RECIPE --encoder E --index I --out G",
        "adapter": "regen adapt --bundle B --labels FILE.csv",
    }  # fmt: skip
    for name in (name for name in folders if name in mend):
        require_partner(str(folders[name]), manifests[name]["fingerprint"], fingerprint, mend[name])
    with new_artifact(out, "bundle", {}, {}, force) as work:
        work.clear()
        for name, folder in folders.items():
            shutil.rmtree(work.path / name, ignore_errors=True)
            shutil.copytree(folder, work.path / name)
        text = Path(card).read_text(encoding="utf-8") if card else _plain_card(manifests)
        (work.path / "MODEL_CARD.md").write_text(text, encoding="utf-8")
        work.manifest |= {"limits": dict(limits)} if limits else {}
        work.manifest |= {"fingerprint": fingerprint, "inputs": {name: manifests[name]["inputs"] for name in manifests}}


def find_bundle(name: str | Path) -> Path:
    """'starter', a folder, or a hub id ('owner/name', fetched from the hub because the user named it).

    Raises:
        ArtifactError: no such folder, not on the hub, or the hub cannot be reached.
        ConfigError: an empty name.
    """
    if not str(name):
        raise ConfigError("bundle: expected 'starter', a folder or a hub id, got an empty name")
    if str(name) == "starter":
        return STARTER
    path = Path(name)
    if path.exists():
        return path
    parts = str(name).split("/")
    if len(parts) != 2 or not all(parts) or str(name).startswith((".", "~")):
        raise ArtifactError(f"{name}: no such folder, and no hub id (owner/name); give a bundle's folder, or leave it out for the starter")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(name), allow_patterns=[MANIFEST, "MODEL_CARD.md", *(f"{part}/**" for part in _PARTS)]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ArtifactError(f"{name}: no such folder, and the hub gave no bundle of that name ({reason})") from error


def open_space(name: str | Path, device: str) -> tuple[Path, Space]:
    """A bundle's folder and its encoder, without index and writer.

    Raises:
        ArtifactError: no such bundle, or a damaged one.
        ConfigError: no such device.
    """
    from regen.encoders.space import load_space
    from regen.encoders.training import pick_device

    folder = find_bundle(name)
    load_manifest(folder, "bundle")
    return folder, load_space(folder / "encoder", pick_device(device))


def _plain_card(manifests: dict[str, dict[str, object]]) -> str:
    lines = ["# ReGen bundle", "", DISCLAIMER, ""]
    lines += [f"- {name}: stage {m['stage']}, made from {json.dumps(m['inputs'])}" for name, m in manifests.items()]
    return "\n".join(
        [*lines, "", "Nobody has written down yet what data this was trained on and how it performs: `regen eval report` prints it.", ""]
    )
