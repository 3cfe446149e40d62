"""`regen train all`: encoder, index, writer, bundle in a row, each step kept until the bundle is there, so that a stopped run goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from regen.artifact import check_free, load_manifest
from regen.bundle import make_bundle
from regen.config import load, read_yaml
from regen.data_prep.prepared import Prepared
from regen.encoders.recipe import EncoderRecipe
from regen.encoders.train import train_encoder
from regen.errors import ArtifactError, ConfigError, did_you_mean
from regen.generators.recipe import WriterRecipe
from regen.generators.train import train_writer
from regen.index.build import build_index

_KEYS = ("encoder", "writer", "card")


def train_bundle(
    recipe: Path,
    overrides: Sequence[str],
    data: Path,
    out: Path,
    device: torch.device,
    force: bool,
    progress: Callable[[Iterable[int], str], Iterable[int]],
) -> None:
    """recipe: YAML with the recipes of encoder and writer, and a model card, as paths beside it; overrides: 'encoder.width=128'.

    The steps stand in OUT.steps until the bundle is written. A step whose recipe or data changed is made again.

    Raises:
        ConfigError: a recipe is wrong (all problems of one file at once), or the model card it names is not there.
        ArtifactError: `out` exists without force, or an input is damaged.
    """
    check_free(out, force)
    encoder_recipe, writer_recipe, card = _recipes(recipe, overrides)
    digest = Prepared.open(data).digest
    steps = out.parent / f"{out.name}.steps"
    steps.mkdir(parents=True, exist_ok=True)
    encoder, index, generator = (steps / name for name in ("encoder", "index", "generator"))
    if not _done(encoder, "encoder", encoder_recipe.model_dump(), {"data": digest}):
        train_encoder(encoder_recipe, data, encoder, device, True, progress)
    made = load_manifest(encoder, "encoder")
    inputs = made["inputs"] | {"encoder": made["fingerprint"]}
    if not _done(index, "index", {"split": "train"}, inputs):
        build_index(data, encoder, index, device, force=True)
    if not _done(generator, "writer", writer_recipe.model_dump(), inputs):
        train_writer(writer_recipe, data, encoder, index, generator, device, True, progress)
    make_bundle(encoder, index, generator, out, card, force)
    shutil.rmtree(steps)


def _recipes(recipe: Path, overrides: Sequence[str]) -> tuple[EncoderRecipe, WriterRecipe, Path | None]:
    values = read_yaml(recipe)
    problems = [f"{recipe}: unknown key {key!r}{did_you_mean(key, _KEYS)}" for key in sorted(values.keys() - set(_KEYS))]
    strange = [o for o in overrides if o.split(".")[0] not in ("encoder", "writer")]
    problems += [f"--set {text}: expected encoder.KEY=VALUE or writer.KEY=VALUE" for text in strange]

    def path(key: str) -> Path | None:
        return recipe.parent / str(values[key]) if values.get(key) else None

    def changes(key: str) -> list[str]:
        return [o.removeprefix(f"{key}.") for o in overrides if o.startswith(f"{key}.")]

    card = path("card")
    if card is not None and not card.is_file():
        problems.append(f"{recipe}: card: expected a Markdown file, {card} is none")
    made: list[Any] = []
    for key, model in (("encoder", EncoderRecipe), ("writer", WriterRecipe)):
        try:
            made.append(load(model, path(key), changes(key)))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("; ".join(problems))
    return made[0], made[1], card


def _done(folder: Path, stage: str, config: dict[str, Any], inputs: dict[str, str]) -> bool:
    try:
        manifest = load_manifest(folder, stage)
    except ArtifactError:
        return False
    return bool(manifest["config"] == json.loads(json.dumps(config)) and manifest["inputs"] == inputs)
