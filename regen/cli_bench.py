"""`regen bench`: product and peer in the same run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from regen.options import Bundle, Force, Threads

bench_app = typer.Typer(no_args_is_help=True, help="Measure speed against stock parts, side by side in one run.")


@bench_app.callback()
def _bench() -> None:
    pass


@bench_app.command("ecg")
def bench_ecg(
    root: Annotated[Path, typer.Option(help="a folder of WFDB records: 12 leads, 10 s, 500 Hz (PTB-XL)")],
    records: Annotated[int, typer.Option(help="how many are read", min=1)] = 256,
    repeats: Annotated[int, typer.Option(help="rounds; product and peer take turns in each", min=1)] = 7,
    encoder: Annotated[Path | None, typer.Option(help="an encoder folder; by default the starter's shape with random weights")] = None,
    threads: Threads = 0,
    out: Annotated[Path | None, typer.Option(help="also write every figure as JSON")] = None,
    force: Force = False,
) -> None:
    """Reading, cleaning, encoding against wfdb, scipy and plain matrix products. Example: regen bench ecg --root ptb-xl --records 256"""
    from regen.eval import bench_ecg as ecg

    _prepare(out, force, threads)
    result = ecg.bench(root, records, repeats, encoder)
    _show(result, ecg.lines(result), out)


@bench_app.command("draft")
def bench_draft(
    root: Annotated[Path | None, typer.Option(help="a folder of WFDB records: 12 leads, 10 s, 500 Hz (PTB-XL)")] = None,
    studies: Annotated[Path | None, typer.Option(help="instead: a prepared folder whose WFDB records are still in their place")] = None,
    split: Annotated[str, typer.Option(help="with --studies: train, val or test")] = "test",
    bundle: Bundle = "starter",
    records: Annotated[int, typer.Option(help="how many are drafted", min=1)] = 300,
    repeats: Annotated[int, typer.Option(help="rounds; product and peer take turns in each", min=1)] = 3,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="also measure peak memory at 100 and 300 studies")] = True,
    threads: Threads = 0,
    out: Annotated[Path | None, typer.Option(help="also write every figure as JSON")] = None,
    force: Force = False,
) -> None:
    """Drafting against the same bundle with stock parts, study by study. Example: regen bench draft --root ptb-xl --bundle bundle"""
    from regen import benchmarks

    _prepare(out, force, threads)
    result = benchmarks.bench(benchmarks.find_cases(root, studies, split, records), bundle, repeats, memory)
    _show(result, benchmarks.lines(result), out)


@bench_app.command("eval")
def bench_eval(
    studies: Annotated[Path, typer.Option(help="a prepared folder with reports, of any language")],
    drafts: Annotated[int, typer.Option(help="how many are scored", min=2)] = 10000,
    draws: Annotated[int, typer.Option(help="of the bootstrap, on both sides", min=2)] = 100,
    repeats: Annotated[int, typer.Option(help="rounds; product and peer take turns in each", min=1)] = 1,
    out: Annotated[Path | None, typer.Option(help="also write every figure as JSON")] = None,
    force: Force = False,
) -> None:
    """Scoring against loops over sacrebleu, rouge-score, nltk and scikit-learn. Example: regen bench eval --studies data"""
    from regen.eval import bench_eval as scoring

    _prepare(out, force, 0)
    result = scoring.bench(studies, drafts, draws, repeats)
    _show(result, scoring.lines(result), out)


@bench_app.command("coverage")
def bench_coverage(
    patients: Annotated[list[int] | None, typer.Option(help="in a sample; may be given several times [default: 60, 300]")] = None,
    repeats: Annotated[int, typer.Option(help="samples simulated for each number of patients", min=1)] = 1000,
    draws: Annotated[int, typer.Option(help="of the bootstrap", min=2)] = 1000,
    seed: Annotated[int, typer.Option(help="of the simulation", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="also write every figure as JSON")] = None,
    force: Annotated[bool, typer.Option("--force", help="replace an output that exists")] = False,
) -> None:
    """How often 95 % intervals hold the truth, on simulated patients. Example: regen bench coverage --patients 60 --repeats 500"""
    from regen.eval import coverage

    _prepare(out, force, 0)
    result = coverage.bench(patients or [60, 300], repeats, draws, seed)
    _show(result, coverage.lines(result), out)


@bench_app.command("cxr")
def bench_cxr(
    repeats: Annotated[int, typer.Option(help="rounds; product and peer take turns in each", min=1)] = 5,
    workers: Annotated[int, typer.Option(help="processes that read files", min=1)] = 2,
    syntax: Annotated[list[str] | None, typer.Option(help="a transfer syntax by name; may be given several times [default: all]")] = None,
    encoder: Annotated[str, typer.Option(help="timm:NAME, with random weights on both sides")] = "timm:vit_small_patch16_224",
    threads: Threads = 0,
    out: Annotated[Path | None, typer.Option(help="also write every figure as JSON")] = None,
    force: Force = False,
) -> None:
    """DICOM decoding against pydicom and Pillow on synthetic files; encoding against timm; search. Example: regen bench cxr --repeats 5"""
    from regen.eval import bench_cxr as cxr
    from regen.eval import bench_space as space

    _prepare(out, force, threads)
    decoded = cxr.bench_decode(repeats=repeats, syntaxes=syntax or None, workers=workers)
    encoded = space.bench_encoder(encoder, repeats=repeats)
    _show({"decode": decoded, "encode": encoded}, [*cxr.lines(decoded), *space.lines(encoded)], out)


@bench_app.command("context")
def bench_context(
    stays: Annotated[int, typer.Option(help="how many ED stays are made up", min=100)] = 100000,
    repeats: Annotated[int, typer.Option(help="rounds; product and peer take turns in each", min=1)] = 3,
    out: Annotated[Path | None, typer.Option(help="also write every figure as JSON")] = None,
    force: Annotated[bool, typer.Option("--force", help="replace an output that exists")] = False,
) -> None:
    """ED tables joined to studies against the same join in pandas. Example: regen bench context --stays 100000"""
    from regen.eval import bench_context as context

    _prepare(out, force, 0)
    result = context.bench(stays, repeats)
    _show(result, context.lines(result), out)


def _prepare(out: Path | None, force: bool, threads: int) -> None:
    from regen.artifact import check_free_file

    if out is not None:
        check_free_file(out, force)
    if threads:
        from regen.pipeline import set_threads

        set_threads(threads)


def _show(result: dict[str, Any], lines: Iterable[str], out: Path | None) -> None:
    import json

    from regen.artifact import write_text

    for text in lines:
        typer.echo(text)
    if out is not None:
        write_text(out, json.dumps(result, indent=1) + "\n")
