"""`regen eval`: drafts, findings, retrieval, leaks and robustness, with floors beside every score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regen.options import Bundle, CxrBundle, Data, Device, Force

Split = Annotated[str, typer.Option(help="val or test")]
Out = Annotated[Path | None, typer.Option(help="also write the result: .json or .md")]
Language = Annotated[str | None, typer.Option(help="of the drafts; by default what each study declares")]
Seed = Annotated[int, typer.Option(help="of the bootstrap and of everything drawn", min=0)]
Columns = Annotated[str, typer.Option(help="what the files call study_id and report: study_id=dicom,report=text")]
Limit = Annotated[int | None, typer.Option(help="studies drawn by the seed; by default all", min=2)]
Modality = Annotated[str | None, typer.Option(help="ecg or cxr, where bundle and studies have both; by default cxr there")]

eval_app = typer.Typer(no_args_is_help=True, help="Score drafts, with floors beside them.")


@eval_app.callback()
def _eval() -> None:
    pass


@eval_app.command("report")
def report(
    studies: Data,
    predictions: Annotated[list[Path] | None, typer.Argument(help="drafts to score, JSON lines or CSV; without any, the bundle drafts")] = None,
    columns: Columns = "",
    bundle: Annotated[str | None, typer.Option(help="a bundle's folder, a hub id, or 'starter', scored first; the floors' encoder too")] = None,
    modality: Modality = None,
    split: Split = "test",
    random_init: Annotated[Path | None, typer.Option(help="an encoder folder that was aligned without pre-training, to compare with")] = None,
    language: Language = None,
    out: Annotated[Path | None, typer.Option(help="a folder for metrics, predictions and card; or a file: .json, .md")] = None,
    device: Device = "auto",
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """One table: systems, parts hidden, every floor; n and 95 % intervals. Example: regen eval report peer.csv --studies data --out card"""
    from regen.errors import ConfigError
    from regen.eval.imported import parse_columns
    from regen.evaluating.chest import evaluate_chest
    from regen.evaluating.report import evaluate
    from regen.evaluating.space import modality_of

    if modality_of(studies, bundle, modality) == "cxr":
        given = [name for name, value in (("--random-init", random_init), ("--language", language)) if value is not None]
        if given:
            raise ConfigError(f"{' and '.join(given)}: not for chest X-rays; leave it out, or give --modality ecg")
        evaluate_chest(studies, split, predictions or [], bundle, out, device, seed, force, parse_columns(columns))
        return
    evaluate(studies, split, predictions or [], bundle, random_init, language, out, device, seed, force, parse_columns(columns))


@eval_app.command("text")
def text(
    predictions: Annotated[list[Path], typer.Argument(help="drafts to score, JSON lines or CSV")],
    studies: Data,
    metric: Annotated[
        list[str] | None, typer.Option(help="bertscore=FOLDER[,layer=17]; chexbert, ratescore=FOLDER; radgraph=JSON; green=CSV")
    ] = None,
    columns: Columns = "",
    split: Split = "test",
    out: Out = None,
    device: Device = "cpu",
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Trained metrics from local weights, which are named. Example: regen eval text a.jsonl --studies data --metric bertscore=roberta"""
    from regen.eval.imported import parse_columns
    from regen.evaluating.learned import evaluate_text

    evaluate_text(predictions, studies, split, metric or [], parse_columns(columns), out, device, seed, force)


@eval_app.command("findings")
def findings(
    studies: Data,
    predictions: Annotated[Path | None, typer.Argument(help="drafts with findings, JSON lines; without them the bundle drafts")] = None,
    bundle: Bundle = "starter",
    split: Split = "test",
    language: Language = None,
    out: Out = None,
    device: Device = "auto",
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """AUROC, AUPRC, Brier, calibration, operating points by finding and group. Example: regen eval findings --studies data"""
    from regen.evaluating.findings import evaluate_findings

    evaluate_findings(studies, split, bundle, predictions, language, out, device, seed, force)


@eval_app.command("retrieval")
def retrieval(
    studies: Data,
    bundle: Bundle = "starter",
    modality: Modality = None,
    split: Split = "test",
    k: Annotated[list[int] | None, typer.Option("-k", help="depths; may be given several times [default: 1, 5, 10]")] = None,
    out: Out = None,
    device: Device = "auto",
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Precision, mAP, nDCG at k by group; images, ECGs and reports finding each other. Example: regen eval retrieval --studies data -k 1 -k 10"""
    from regen.evaluating.retrieval import evaluate_retrieval
    from regen.evaluating.space import evaluate_space, modality_of

    run = evaluate_space if modality_of(studies, bundle, modality) == "cxr" else evaluate_retrieval
    run(studies, split, bundle, k or [1, 5, 10], out, device, seed, force)


@eval_app.command("probe")
def probe(
    studies: Data,
    bundle: CxrBundle,
    labels: Annotated[Path | None, typer.Option(help="CSV: study_id, then a column a label; by default the folder's observations")] = None,
    folds: Annotated[int, typer.Option(help="by patient, over all splits; 0 learns on train and scores --split", min=0)] = 5,
    split: Split = "test",
    out: Out = None,
    device: Device = "auto",
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """What a linear probe reads off frozen image vectors; same-patient images. Example: regen eval probe --studies data --bundle bundle"""
    from regen.evaluating.probe import evaluate_probe

    evaluate_probe(studies, bundle, labels, folds, split, out, device, seed, force)


@eval_app.command("maps")
def maps(
    studies: Data,
    bundle: Bundle = "starter",
    split: Split = "test",
    limit: Annotated[int | None, typer.Option(help="studies drawn by the seed; by default all", min=1)] = None,
    modality: Modality = None,
    out: Out = None,
    device: Device = "auto",
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Do heat maps mark what moves a sentence's score? Example: regen eval maps --studies data --bundle bundle --limit 60"""
    from regen.evaluating.maps import evaluate_maps

    evaluate_maps(studies, split, bundle, limit, out, device, seed, force, modality=modality)


@eval_app.command("fewshot")
def fewshot(
    studies: Data,
    bundle: Bundle = "starter",
    split: Split = "test",
    out: Out = None,
    device: Device = "auto",
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """What the frozen encoder knows from 1 to 128 examples (EHRSHOT). Example: regen eval fewshot --studies data"""
    from regen.evaluating.fewshot import evaluate_fewshot

    evaluate_fewshot(studies, split, bundle, out, device, seed, force)


@eval_app.command("qa")
def qa(
    questions: Annotated[Path, typer.Option(help="a questions folder: regen prepare ecg-qa, or ecg-qa-build")],
    answers: Annotated[Path | None, typer.Argument(help="answers to score, JSON lines or CSV; without them the floors alone")] = None,
    columns: Annotated[str, typer.Option(help="what the file calls question_id and answers: question_id=id,answers=prediction")] = "",
    bundle: Annotated[str | None, typer.Option(help="with --studies: also what the nearest training ECG's annotation answers")] = None,
    studies: Annotated[Path | None, typer.Option(help="with --bundle: the prepared folder of the questions' ECGs")] = None,
    protocol: Annotated[str, typer.Option(help="supervised: a set of answers; llm: a language model that was given the options")] = "supervised",
    split: Split = "test",
    out: Out = None,
    device: Device = "auto",
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Exact match of answer sets by type, beside majority and random. Example: regen eval qa answers.jsonl --questions questions"""
    from regen.eval.imported import parse_columns
    from regen.eval.qa_answers import FIELDS
    from regen.evaluating.qa import evaluate_qa

    named = parse_columns(columns, FIELDS) if columns else None
    evaluate_qa(answers, questions, split, out, bundle, studies, named, protocol, device, seed, force=force)


@eval_app.command("context")
def context(
    studies: Annotated[Path, typer.Option(help="a prepared folder with events")],
    bundle: Annotated[str, typer.Option(help="a bundle whose writer reads context: a folder or a hub id")],
    split: Split = "test",
    limit: Annotated[int | None, typer.Option(help="studies drawn by the seed; by default all", min=2)] = None,
    subset_studies: Annotated[int, typer.Option(help="studies drafted with every subset of the context", min=0)] = 20,
    out: Out = None,
    device: Device = "auto",
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """What each part of the patient's context is worth. Example: regen eval context --studies with-context --bundle bundle"""
    from regen.evaluating.context import evaluate_context

    evaluate_context(studies, bundle, split, limit, subset_studies, out, device, seed, force)


@eval_app.command("llm")
def llm(
    studies: Data,
    bundle: Bundle = "starter",
    split: Split = "test",
    limit: Limit = None,
    out: Out = None,
    device: Device = "auto",
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """The writer's own card: summarising, valid coding, abstention, before and after LoRA. Example: regen eval llm --studies data --limit 100"""
    from regen.eval.bootstrap import DRAWS
    from regen.evaluating.llm import evaluate_llm

    evaluate_llm(studies, bundle, split, limit, seed, DRAWS, out, device, force)


@eval_app.command("labeler")
def labeler(
    reports: Annotated[Path, typer.Option(help="CSV with the column report (or text) and the 14 CheXpert observations: 1, 0, -1, blank")],
    out: Annotated[Path | None, typer.Option(help="also write the table as JSON")] = None,
    force: Force = False,
) -> None:
    """How far the chest X-ray labeler agrees with labelled reports. Example: regen eval labeler --reports labelled.csv"""
    import json
    from dataclasses import asdict

    from regen.artifact import check_free_file, write_text
    from regen.eval.labeler_agreement import agreement, lines, read_labelled

    if out is not None:
        check_free_file(out, force)
    made = agreement(*read_labelled(reports))
    for text in lines(made):
        typer.echo(text)
    if out is not None:
        rows = [{name: None if value != value else value for name, value in asdict(row).items()} for row in made]
        write_text(out, json.dumps(rows, indent=1) + "\n")


@eval_app.command("compare")
def compare(
    a: Annotated[Path, typer.Argument(help="predictions, JSON lines")],
    b: Annotated[Path, typer.Argument(help="predictions to compare with")],
    studies: Data,
    split: Split = "test",
    out: Out = None,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """a minus b on the same draws of patients, by group. Example: regen eval compare a.jsonl b.jsonl --studies data"""
    from regen.evaluating.compare import compare as run

    run(a, b, studies, split, out, seed, force)


@eval_app.command("robust")
def robust(
    studies: Data,
    bundle: Bundle = "starter",
    split: Split = "test",
    language: Language = None,
    limit: Limit = None,
    out: Out = None,
    device: Device = "auto",
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Leads dropped, noise, rates, cases swapped for others: what each does to the drafts. Example: regen eval robust --studies data --limit 100"""
    from regen.evaluating.robust import evaluate_robust

    evaluate_robust(studies, split, bundle, language, out, device, seed, force, limit)


@eval_app.command("leak")
def leak(
    studies: Data,
    bundle: Bundle = "starter",
    split: Split = "test",
    out: Annotated[Path | None, typer.Option(help="also write the list as JSON")] = None,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """What test and archive share that they must not; exit code 1 if anything. Example: regen eval leak --bundle bundle --studies data"""
    from regen.evaluating.leak import check_leaks

    raise typer.Exit(check_leaks(bundle, studies, split, out, device, force))
