"""`regen train`, `index`, `adapt` and `bundle`: the steps that make a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

train_app = typer.Typer(no_args_is_help=True, help="Train the encoder, the writer, or all that a bundle needs.")
index_app = typer.Typer(no_args_is_help=True, help="Build the index of reported cases.")

Out = Annotated[Path, typer.Option(help="folder to write; it appears whole or not at all")]
Data = Annotated[Path, typer.Option(help="a prepared folder")]
Force = Annotated[bool, typer.Option("--force", help="replace an output that exists")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto")]
Threads = Annotated[int, typer.Option(help="CPU threads of torch; 0 leaves torch's own choice", min=0)]
Sets = Annotated[list[str] | None, typer.Option("--set", help="change a recipe's value: --set epochs=3")]


@train_app.command("encoder")
def encoder(
    recipe: Annotated[Path, typer.Argument(help="YAML, for instance configs/ecg.yaml, cxr.yaml or trimodal.yaml")],
    data: Data,
    out: Out,
    device: Device = "auto",
    threads: Threads = 0,
    sets: Sets = None,
    force: Force = False,
) -> None:
    """Pre-train, align, calibrate. Example: regen train encoder configs/ecg.yaml --data data --out encoder"""
    from regen.encoders.shared_recipe import SharedRecipe, load_encoder_recipe
    from regen.encoders.train import train_encoder
    from regen.encoders.train_shared import train_shared

    chosen = load_encoder_recipe(recipe, sets or ())
    if isinstance(chosen, SharedRecipe):
        train_shared(chosen, data, out, _device(device, threads), force, _bar())
    else:
        train_encoder(chosen, data, out, _device(device, threads), force, _bar())


@train_app.command("writer")
def writer(
    recipe: Annotated[Path, typer.Argument(help="YAML, for instance configs/writer.yaml")],
    data: Data,
    encoder: Annotated[Path, typer.Option(help="an encoder folder")],
    index: Annotated[Path, typer.Option(help="an index folder, built with that encoder")],
    out: Out,
    device: Device = "auto",
    threads: Threads = 0,
    sets: Sets = None,
    force: Force = False,
) -> None:
    """Evidence, language model, LoRA. Example: regen train writer configs/writer.yaml --data data --encoder encoder --index index --out generator"""
    from regen.config import load
    from regen.generators.recipe import WriterRecipe
    from regen.generators.train import train_writer

    train_writer(load(WriterRecipe, recipe, sets or ()), data, encoder, index, out, _device(device, threads), force, _bar())


@train_app.command("all")
def train_all(
    recipe: Annotated[Path, typer.Argument(help="YAML, for instance configs/starter.yaml")],
    data: Data,
    out: Out,
    device: Device = "auto",
    threads: Threads = 0,
    sets: Sets = None,
    force: Force = False,
) -> None:
    """The four steps in a row. Example: regen train all configs/starter.yaml --data data --out bundle --set encoder.pretrain_epochs=0"""
    from regen.train_all import train_bundle

    train_bundle(recipe, sets or (), data, out, _device(device, threads), force, _bar())


@index_app.command("build")
def build(
    encoder: Annotated[Path, typer.Option(help="an encoder folder")],
    data: Data,
    out: Out,
    split: Annotated[str, typer.Option(help="which split is searched later; others leak into tests")] = "train",
    thumbnails: Annotated[bool, typer.Option(help="keep a small copy of every image, to be shown beside a query")] = True,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Encode the reported cases of a split. Example: regen index build --encoder encoder --data data --out index"""
    from regen.index.build import build_index

    build_index(data, encoder, out, _device(device, 0), split, force, thumbnails)


def bundle(
    encoder: Annotated[Path, typer.Option(help="an encoder folder")],
    index: Annotated[Path, typer.Option(help="an index folder")],
    out: Out,
    generator: Annotated[Path | None, typer.Option(help="a writer's folder; without it the bundle drafts no ECG reports")] = None,
    adapter: Annotated[Path | None, typer.Option(help="what regen adapt wrote: findings of chest X-rays and their operating points")] = None,
    card: Annotated[Path | None, typer.Option(help="a model card in Markdown")] = None,
    force: Force = False,
) -> None:
    """Put the parts into one folder. Example: regen bundle --encoder encoder --index index --generator generator --out bundle"""
    from regen.bundle import make_bundle

    make_bundle(encoder, index, generator, out, card, force, adapter)


def _device(name: str, threads: int) -> Any:
    from regen.encoders.training import pick_device

    if threads:
        import torch

        torch.set_num_threads(threads)
    return pick_device(name)


def _bar() -> Any:
    from regen.progress import bar

    return bar
