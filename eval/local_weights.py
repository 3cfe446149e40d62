"""Model folders that the user names: never the network, never a pickle, and a digest of what was used.

weights_of(Path("roberta-large"), "bertscore")     {"folder": "roberta-large", "model.safetensors": "3f9a..."}
"""

from __future__ import annotations

from pathlib import Path

from regen.artifact import file_digest
from regen.errors import ConfigError

_PICKLED = (".bin", ".pt", ".pth", ".th", ".ckpt", ".pkl", ".tar.gz")
CONVERT = (
    "python -c \"import torch, safetensors.torch as s; w = torch.load('{name}', map_location='cpu', weights_only=True); "
    "w = w.get('model_state_dict', w); s.save_file({{k.removeprefix('module.'): v.clone() for k, v in w.items()}}, "
    "'model.safetensors', metadata={{'format': 'pt'}})\""
)
"""Turns a pickled state dict into safetensors, read by torch's restricted unpickler, on the user's own decision."""


def pickles_in(folder: Path) -> list[str]:
    """Names of the files directly in a folder that can only be read by unpickling."""
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(_PICKLED))


def weights_of(folder: Path, who: str) -> dict[str, str]:
    """{"folder": its name, "<file>.safetensors": SHA-256, hex}: what a score must be reported with.

    Raises:
        ConfigError: no such folder (a hub name is not fetched), or no safetensors in it; where there are pickles, how to convert them.
    """
    if not folder.is_dir():
        raise ConfigError(f"{who}: expected a folder with the model on this disk, got {str(folder)!r}; download it first, nothing is fetched here")
    files = sorted(folder.glob("*.safetensors"))
    pickled = pickles_in(folder)
    if not files and pickled:
        mend = CONVERT.format(name=pickled[0])
        raise ConfigError(f"{who}: expected safetensors in {folder}, got {', '.join(pickled)}, and pickles are never read; convert: {mend}")
    if not files:
        raise ConfigError(f"{who}: expected a Hugging Face folder with model.safetensors, got none in {folder}; check the path")
    return {"folder": folder.resolve().name} | {path.name: file_digest(path) for path in files}
