"""`regen`: a table of commands. Nothing heavy is imported until a command runs, and a RegenError becomes one line and exit code 2."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from regen import __version__
from regen.errors import RegenError
from regen.options import Bundle, CxrBundle, Device, Force, Threads

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None,
    help="Draft reports for ECGs and chest X-rays from what was retrieved and measured, with evidence behind every sentence. "
    "Research software, not a medical device. Start with: regen demo",
)  # fmt: skip

_state = {"debug": False}
_STOPPED = 130
"""Exit code after Ctrl-C."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="say what is being done")] = False,
    version: Annotated[bool, typer.Option("--version", help="print the version and stop", callback=_print_version, is_eager=True)] = False,
) -> None:
    _state["debug"] = debug
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(name)s: %(message)s")


@app.command()
def draft(
    files: Annotated[list[Path] | None, typer.Argument(help="WFDB headers, DICOM ECGs, chest X-rays (DICOM, PNG, JPEG), or folders of them")] = None,
    bundle: Bundle = "starter",
    studies: Annotated[Path | None, typer.Option(help="instead of files: a prepared folder or its studies.parquet")] = None,
    split: Annotated[str, typer.Option(help="with --studies: train, val or test")] = "test",
    out: Annotated[Path, typer.Option(help="one JSON object a study")] = Path("drafts.jsonl"),
    html: Annotated[Path | None, typer.Option(help="also write a page with traces and evidence into this folder")] = None,
    language: Annotated[str | None, typer.Option(help="of the reports, for bundles that know several: en, de, sv")] = None,
    any_image: Annotated[bool, typer.Option("--any-image", help="also read what does not look like a chest X-ray; the draft says so")] = False,
    context: Annotated[Path | None, typer.Option(help="the patient's: patient.json, a FHIR bundle or a MEDS parquet, for one file")] = None,
    device: Device = "auto",
    threads: Threads = 0,
    force: Force = False,
) -> None:
    """Draft reports. Example: regen draft rec.hea dicom_folder --out drafts.jsonl --html pages"""
    from regen.drafting import draft_files

    raise typer.Exit(draft_files(files or [], bundle, studies, split, out, html, language, device, threads, force, any_image, context))


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="a WFDB header, a DICOM ECG, a chest X-ray (DICOM, PNG, JPEG), a folder with its views, or words")],
    to: Annotated[str | None, typer.Option(help="what to compare with: image, ecg or report; by default what the query is")] = None,
    k: Annotated[int, typer.Option("-k", help="how many cases", min=1)] = 5,
    bundle: Bundle = "starter",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    html: Annotated[Path | None, typer.Option(help="also write a page with the images into this folder")] = None,
    force: Force = False,
    own_subject: Annotated[bool, typer.Option("--own-subject", help="also show earlier studies of the same subject")] = False,
    device: Device = "auto",
) -> None:
    """The nearest reported cases. Example: regen search chest.dcm --to report -k 5 --bundle bundle"""
    import json

    from regen.pipeline import Pipeline

    if html is not None:
        from regen.artifact import check_free_file

        check_free_file(html / "index.html", force)
    pipeline = Pipeline.from_pretrained(bundle, device)
    hits = pipeline.search(query, k, own_subject, to)
    if html is not None:
        from regen.cxr_page import similar_page

        similar_page(pipeline.query(query), hits, pipeline.archive.thumbnails(hit.study_id for hit in hits), html)
    if as_json:
        rows = [{"rank": h.rank, "study_id": h.study_id, "score": round(h.score, 6), "report": h.report, "allowed": h.allowed} for h in hits]
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=1))
        return
    for hit in hits:
        typer.echo(f"{hit.rank:3d}  {hit.score:6.3f}  {hit.study_id}  {hit.report}")
    typer.echo(f"shown because: {hits[0].allowed}" if hits else "no case may be shown: all are the query's own, its subject's, or dated after it")


@app.command()
def classify(
    files: Annotated[list[Path], typer.Argument(help="chest X-rays: DICOM, PNG, JPEG, or folders of them")],
    bundle: CxrBundle,
    labels: Annotated[str, typer.Option(help="chexpert, or names separated by commas")] = "chexpert",
    best_prompt: Annotated[bool, typer.Option("--best-prompt", help="zero-shot by the nearest wording instead of the mean of all")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    any_image: Annotated[bool, typer.Option("--any-image", help="also read what does not look like a chest X-ray")] = False,
    device: Device = "auto",
) -> None:
    """What an image shows: by the bundle's adapter, else zero-shot by prompts. Example: regen classify chest.dcm --bundle bundle"""
    from regen.classifying import classify_files

    raise typer.Exit(classify_files(files, bundle, labels, best_prompt, as_json, any_image, device))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder for index.html and drafts.jsonl")] = Path("demo"),
    bundle: Bundle = "starter",
    force: Force = False,
) -> None:
    """Draft a real ECG and some synthetic ones, offline, and write a page. Example: regen demo --out demo"""
    from regen.demo import run_demo

    run_demo(out, bundle, force)


@app.command()
def doctor() -> None:
    """Versions, devices, codecs, and what an absent extra would add. Example: regen doctor"""
    from regen.doctor import report

    for text in report():
        typer.echo(text)


def _add_groups() -> None:
    from regen import cli_bench, cli_context, cli_eval
    from regen import cli_learn as learn

    app.add_typer(cli_context.prepare_app, name="prepare")
    app.add_typer(learn.train_app, name="train")
    app.add_typer(learn.index_app, name="index")
    app.command(name="adapt")(learn.adapt)
    app.command(name="bundle")(learn.bundle)
    app.add_typer(cli_eval.eval_app, name="eval")
    app.add_typer(cli_bench.bench_app, name="bench")


_add_groups()


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `regen` command."""
    try:
        code: Any = app(arguments, standalone_mode=False)
    except RegenError as error:
        if _state["debug"]:
            raise
        sys.stderr.write(f"regen: {error}\n")
        sys.exit(2)
    except OSError as error:
        if _state["debug"] or error.filename is None:
            raise
        sys.stderr.write(f"regen: {error.filename}: expected a path that can be read and written, {error.strerror}; check path and rights\n")
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        code = _STOPPED
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):
            text = error.format_message()
            sys.stderr.write(text + "\n" if text.startswith("Usage:") else f"regen: {text}\n")
            sys.exit(error.exit_code)
        raise
    if code == _STOPPED:
        sys.stderr.write("regen: stopped; nothing half-done was left, the same command starts again or goes on where a training stopped\n")
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
