"""`regen train`, `index`, `adapt` and `bundle`: the steps that make a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from regen.options import CxrBundle, Data, Device, Folder, Force, Threads

train_app = typer.Typer(no_args_is_help=True, help="Train the encoder, the writer, or all that a bundle needs.")
index_app = typer.Typer(no_args_is_help=True, help="Build the index of reported cases.")

Sets = Annotated[list[str] | None, typer.Option("--set", help="change a recipe's value: --set epochs=3")]


@train_app.command("encoder")
def encoder(
    recipe: Annotated[Path, typer.Argument(help="YAML, for instance configs/ecg.yaml, cxr.yaml or trimodal.yaml")],
    data: Data,
    out: Folder,
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


@train_app.command("context")
def context(
    recipe: Annotated[Path, typer.Argument(help="YAML, for instance configs/context.yaml")],
    data: Annotated[Path, typer.Option(help="a prepared folder with events (regen prepare mimic-iv-ed)")],
    encoder: Annotated[Path, typer.Option(help="an encoder folder, in whose report space the charts are placed")],
    out: Folder,
    device: Device = "auto",
    threads: Threads = 0,
    sets: Sets = None,
    force: Force = False,
) -> None:
    """The chart encoder. Example: regen train context configs/context.yaml --data with-context --encoder encoder --out context"""
    from regen.config import load
    from regen.encoders.context_recipe import ContextRecipe
    from regen.encoders.train_chart import train_context

    train_context(load(ContextRecipe, recipe, sets or ()), data, encoder, out, _device(device, threads), force, _bar())


@train_app.command("writer")
def writer(
    recipe: Annotated[Path, typer.Argument(help="YAML, for instance configs/writer.yaml")],
    data: Data,
    encoder: Annotated[Path, typer.Option(help="an encoder folder")],
    index: Annotated[Path, typer.Option(help="an index folder, built with that encoder")],
    out: Folder,
    context: Annotated[Path | None, typer.Option(help="a folder of regen train context, for recipes with context_tokens")] = None,
    device: Device = "auto",
    threads: Threads = 0,
    sets: Sets = None,
    force: Force = False,
) -> None:
    """Evidence, language model, LoRA. Example: regen train writer configs/writer.yaml --data data --encoder encoder --index index --out generator"""
    from regen.config import load
    from regen.generators.recipe import WriterRecipe
    from regen.generators.train import train_writer

    train_writer(load(WriterRecipe, recipe, sets or ()), data, encoder, index, out, _device(device, threads), force, _bar(), context)


@train_app.command("all")
def train_all(
    recipe: Annotated[Path, typer.Argument(help="YAML, for instance configs/starter.yaml")],
    data: Data,
    out: Folder,
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
    out: Folder,
    split: Annotated[str, typer.Option(help="which split is searched later; others leak into tests")] = "train",
    thumbnails: Annotated[bool, typer.Option(help="keep a small copy of every image, to be shown beside a query")] = True,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Encode the reported cases of a split. Example: regen index build --encoder encoder --data data --out index"""
    from regen.index.build import build_index

    build_index(data, encoder, out, _device(device, 0), split, force, thumbnails)


def adapt(
    bundle: CxrBundle,
    out: Folder,
    labels: Annotated[
        Path | None, typer.Option(help="CSV: study_id or image, then a column a label: 1, 0, blank; optional subject_id, split")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="the folder of the images that the table names")] = None,
    studies: Annotated[Path | None, typer.Option(help="instead of images: a prepared folder; without --labels its own observations")] = None,
    sensitivity: Annotated[float | None, typer.Option(help="operating points with at least this sensitivity")] = None,
    specificity: Annotated[float | None, typer.Option(help="operating points with at least this specificity")] = None,
    f1: Annotated[bool, typer.Option("--f1", help="operating points of the best F1; by default those of Youden's J")] = False,
    delta: Annotated[float, typer.Option(help="the asked rate may fail with this probability")] = 0.05,
    seed: Annotated[int, typer.Option(help="of the split by subject", min=0)] = 0,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """A small adapter on frozen vectors, stored in a copy of the bundle. Example: regen adapt --bundle B --labels l.csv --images scans --out C"""
    from regen.adapting import adapt_bundle
    from regen.encoders.operating_points import Aim
    from regen.errors import ConfigError
    from regen.failures import report_failures

    aims = {"--f1": Aim("f1", delta=delta)} if f1 else {}
    aims |= {} if sensitivity is None else {"--sensitivity": Aim("sensitivity", sensitivity, delta)}
    aims |= {} if specificity is None else {"--specificity": Aim("specificity", specificity, delta)}
    if len(aims) > 1:
        raise ConfigError(f"regen adapt: expected one aim, got {' and '.join(aims)}; give one of them")
    aim = next(iter(aims.values()), Aim(delta=delta))
    made = adapt_bundle(bundle, out, labels, images, studies, aim, seed, _device(device, 0), force, _bar())
    for text in made.lines():
        typer.echo(text)
    raise typer.Exit(report_failures(made.failures))


def bundle(
    encoder: Annotated[Path, typer.Option(help="an encoder folder")],
    index: Annotated[Path, typer.Option(help="an index folder")],
    out: Folder,
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
