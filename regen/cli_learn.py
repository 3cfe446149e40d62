"""`regen prepare`, `train`, `index` and `bundle`: the steps that make a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

prepare_app = typer.Typer(no_args_is_help=True, help="Read an archive into the folder that every other step reads.")
train_app = typer.Typer(no_args_is_help=True, help="Train the encoder, the writer, or all that a bundle needs.")
index_app = typer.Typer(no_args_is_help=True, help="Build the index of reported cases.")

Out = Annotated[Path, typer.Option(help="folder to write; it appears whole or not at all")]
Data = Annotated[Path, typer.Option(help="a prepared folder")]
Force = Annotated[bool, typer.Option("--force", help="replace an output that exists")]
Rate = Annotated[int, typer.Option(help="samples a second to store: 100 or 500")]
Workers = Annotated[int, typer.Option(help="processes that read files", min=1)]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto")]
Threads = Annotated[int, typer.Option(help="CPU threads of torch; 0 leaves torch's own choice", min=0)]
Sets = Annotated[list[str] | None, typer.Option("--set", help="change a recipe's value: --set epochs=3")]


@prepare_app.command("ptb-xl")
def prepare_ptb_xl(
    root: Annotated[Path, typer.Argument(help="the unpacked download, with ptbxl_database.csv")],
    out: Out,
    rate: Rate = 100,
    report: Annotated[
        str, typer.Option(help="english: rendered from the coded statements; original: as written, German, English or Swedish")
    ] = "english",
    extra_reports: Annotated[Path | None, typer.Option(help="a table with the columns of ptbxl_database.csv: reports without recordings")] = None,
    workers: Workers = 2,
    force: Force = False,
) -> None:
    """PTB-XL, folds 1-7 train, 8 val, 9-10 test. Example: regen prepare ptb-xl ptb-xl-1.0.3 --out data"""
    from regen.data_prep.ptbxl import entries

    _prepare(entries(root, rate, report, extra_reports), out, "ptb-xl", {"report": report}, rate, workers, force)


@prepare_app.command("mimic-iv-ecg")
def prepare_mimic(
    root: Annotated[Path, typer.Argument(help="the download, with record_list.csv and machine_measurements.csv")],
    out: Out,
    rate: Rate = 100,
    workers: Workers = 2,
    force: Force = False,
) -> None:
    """MIMIC-IV-ECG with the machine's statements as reports. Example: regen prepare mimic-iv-ecg mimic-iv-ecg-1.0 --out data"""
    from regen.data_prep.mimic_ecg import entries

    _prepare(entries(root), out, "mimic-iv-ecg", {}, rate, workers, force)


@prepare_app.command("wfdb")
def prepare_wfdb(
    folder: Annotated[Path, typer.Argument(help="a folder of WFDB or DICOM recordings")],
    reports: Annotated[
        Path, typer.Option(help="CSV with the columns record, report; optional: study_id, subject_id, time, split, language, age, sex, statements")
    ],
    out: Out,
    rate: Rate = 100,
    workers: Workers = 2,
    force: Force = False,
) -> None:
    """Your own recordings and reports. Example: regen prepare wfdb records --reports reports.csv --out data"""
    from regen.data_prep.wfdb_folder import entries

    _prepare(entries(folder, reports), out, "wfdb", {}, rate, workers, force)


@prepare_app.command("synthetic")
def prepare_synthetic(
    out: Out,
    n: Annotated[int, typer.Option("--n", help="studies", min=1)] = 300,
    seed: Annotated[int, typer.Option(help="the same seed gives the same cohort")] = 0,
    rate: Rate = 100,
    workers: Workers = 2,
    force: Force = False,
) -> None:
    """Made-up patients, ECGs and reports that agree. Example: regen prepare synthetic --n 300 --seed 0 --out data"""
    from regen.data_prep.synthetic_cohort import entries

    _prepare(entries(n, seed), out, "synthetic", {"n": n, "cohort_seed": seed}, rate, workers, force, total=n)


@train_app.command("encoder")
def encoder(
    recipe: Annotated[Path, typer.Argument(help="YAML, for instance configs/ecg.yaml")],
    data: Data,
    out: Out,
    device: Device = "auto",
    threads: Threads = 0,
    sets: Sets = None,
    force: Force = False,
) -> None:
    """Pre-train, align, calibrate. Example: regen train encoder configs/ecg.yaml --data data --out encoder"""
    from regen.config import load
    from regen.encoders.recipe import EncoderRecipe
    from regen.encoders.train import train_encoder

    train_encoder(load(EncoderRecipe, recipe, sets or ()), data, out, _device(device, threads), force, _bar())


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
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Encode the reported cases of a split. Example: regen index build --encoder encoder --data data --out index"""
    from regen.index.build import build_index

    build_index(data, encoder, out, _device(device, 0), split, force)


def bundle(
    encoder: Annotated[Path, typer.Option(help="an encoder folder")],
    index: Annotated[Path, typer.Option(help="an index folder")],
    generator: Annotated[Path, typer.Option(help="a writer's folder")],
    out: Out,
    card: Annotated[Path | None, typer.Option(help="a model card in Markdown")] = None,
    force: Force = False,
) -> None:
    """Put the three parts into one folder. Example: regen bundle --encoder encoder --index index --generator generator --out bundle"""
    from regen.bundle import make_bundle

    make_bundle(encoder, index, generator, out, card, force)


def _prepare(entries: Any, out: Path, source: str, options: dict[str, Any], rate: int, workers: int, force: bool, total: int | None = None) -> None:
    from regen.artifact import check_free
    from regen.data_prep.prepare import write
    from regen.errors import ConfigError
    from regen.failures import report_failures
    from regen.progress import bar, console

    if rate not in (100, 500):
        raise ConfigError(f"--rate: expected 100 or 500, got {rate}; encoders read 100 Hz, 500 keeps more for later")
    check_free(out, force)
    summary = write(entries, out, source, options, float(rate), workers=workers, force=force, progress=lambda items: bar(items, "reading", total))
    console.print(f"{out}: " + ", ".join(f"{n} {split}" for split, n in sorted(summary.written.items())))
    raise typer.Exit(report_failures(summary.failures))


def _device(name: str, threads: int) -> Any:
    from regen.encoders.training import pick_device

    if threads:
        import torch

        torch.set_num_threads(threads)
    return pick_device(name)


def _bar() -> Any:
    from regen.progress import bar

    return bar
