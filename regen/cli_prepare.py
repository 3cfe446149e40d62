"""`regen prepare`: one command an archive, all into the same kind of folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from regen.options import Folder, Force

prepare_app = typer.Typer(no_args_is_help=True, help="Read an archive into the folder that every other step reads.")

Root = Annotated[Path, typer.Argument(help="the unpacked download")]
Rate = Annotated[int, typer.Option(help="samples a second of stored ECGs: 100 or 500")]
Pixels = Annotated[int, typer.Option(help="side of stored images", min=16, max=2048)]
Workers = Annotated[int, typer.Option(help="processes that read files", min=1)]
PtbXl = Annotated[Path, typer.Option("--ptb-xl", help="the unpacked PTB-XL that the questions are about")]


@prepare_app.command("ptb-xl")
def prepare_ptb_xl(
    root: Annotated[Path, typer.Argument(help="the unpacked download, with ptbxl_database.csv")],
    out: Folder,
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

    _prepare(entries(root, rate, report, extra_reports), out, "ptb-xl", {"report": report}, workers, force, rate=rate)


@prepare_app.command("mimic-iv-ecg")
def prepare_mimic(
    root: Annotated[Path, typer.Argument(help="the download, with record_list.csv and machine_measurements.csv")],
    out: Folder,
    rate: Rate = 100,
    workers: Workers = 2,
    force: Force = False,
) -> None:
    """MIMIC-IV-ECG with the machine's statements as reports. Example: regen prepare mimic-iv-ecg mimic-iv-ecg-1.0 --out data"""
    from regen.data_prep.mimic_ecg import entries

    _prepare(entries(root), out, "mimic-iv-ecg", {}, workers, force, rate=rate)


@prepare_app.command("wfdb")
def prepare_wfdb(
    folder: Annotated[Path, typer.Argument(help="a folder of WFDB or DICOM recordings")],
    reports: Annotated[
        Path, typer.Option(help="CSV with the columns record, report; optional: study_id, subject_id, time, split, language, age, sex, statements")
    ],
    out: Folder,
    rate: Rate = 100,
    workers: Workers = 2,
    force: Force = False,
) -> None:
    """Your own ECGs and reports. Example: regen prepare wfdb records --reports reports.csv --out data"""
    from regen.data_prep.wfdb_folder import entries

    _prepare(entries(folder, reports), out, "wfdb", {}, workers, force, rate=rate)


@prepare_app.command("mimic-cxr")
def prepare_mimic_cxr(
    root: Annotated[Path, typer.Argument(help="MIMIC-CXR-JPG, or MIMIC-CXR with the JPG release's tables beside its files/")],
    out: Folder,
    reports: Annotated[Path | None, typer.Option(help="where the report texts are, if not below ROOT: mimic-cxr-reports.zip, unpacked")] = None,
    labels: Annotated[str, typer.Option(help="chexpert, negbio, or none")] = "chexpert",
    pixels: Pixels = 224,
    workers: Workers = 2,
    force: Force = False,
) -> None:
    """MIMIC-CXR, DICOM or JPG, in its own split. Example: regen prepare mimic-cxr mimic-cxr-jpg-2.1.0 --out data"""
    from regen.data_prep.mimic_cxr import entries

    _prepare(entries(root, reports, labels), out, "mimic-cxr", {"labels": labels}, workers, force, pixels=pixels)


@prepare_app.command("iu-xray")
def prepare_iu(root: Root, out: Folder, pixels: Pixels = 224, workers: Workers = 2, force: Force = False) -> None:
    """Indiana University's chest X-rays, as Open-i or Kaggle lays them out. Example: regen prepare iu-xray iu --out data"""
    from regen.data_prep.iu_xray import entries

    _prepare(entries(root), out, "iu-xray", {}, workers, force, pixels=pixels)


@prepare_app.command("nih-cxr")
def prepare_nih(root: Root, out: Folder, pixels: Pixels = 224, workers: Workers = 2, force: Force = False) -> None:
    """NIH ChestX-ray14: labels, no reports. Example: regen prepare nih-cxr nih --out data"""
    from regen.data_prep.nih_cxr import entries

    _prepare(entries(root), out, "nih-cxr", {}, workers, force, pixels=pixels)


@prepare_app.command("images")
def prepare_images(
    folder: Annotated[Path, typer.Argument(help="a folder of DICOM, PNG or JPEG chest X-rays")],
    reports: Annotated[
        Path,
        typer.Option(
            help="CSV with the columns image, report; optional: study_id, subject_id, time, split, language, age, sex, view, any CheXpert observation"
        ),
    ],
    out: Folder,
    pixels: Pixels = 224,
    workers: Workers = 2,
    force: Force = False,
) -> None:
    """Your own chest X-rays and reports. Example: regen prepare images scans --reports reports.csv --out data"""
    from regen.data_prep.image_folder import entries

    _prepare(entries(folder, reports), out, "images", {}, workers, force, pixels=pixels)


@prepare_app.command("join")
def prepare_join(
    first: Annotated[Path, typer.Argument(help="a prepared folder, for instance of mimic-cxr")],
    second: Annotated[Path, typer.Argument(help="another one of the same people, for instance of mimic-iv-ecg")],
    out: Folder,
    splits: Annotated[
        str, typer.Option(help="of subjects in both: same refuses those in two splits; first moves their studies of the second folder")
    ] = "same",
    force: Force = False,
) -> None:
    """Two prepared folders as one, so that X-ray and ECG of a subject are a pair. Example: regen prepare join cxr ecg --splits first --out data"""
    from regen.data_prep.joining import join
    from regen.progress import console

    made = join(first, second, out, splits, force)
    console.print(f"{made.shared} subjects in both")
    _done(made.written, (), out)


@prepare_app.command("synthetic")
def prepare_synthetic(
    out: Folder,
    n: Annotated[int, typer.Option("--n", help="visits", min=1)] = 300,
    seed: Annotated[int, typer.Option(help="the same seed gives the same cohort")] = 0,
    modalities: Annotated[str, typer.Option(help="what every visit has: ecg, cxr or both; ed: an emergency stay too, its tables in OUT/ed")] = "ecg",
    rate: Rate = 100,
    pixels: Pixels = 224,
    workers: Workers = 2,
    force: Force = False,
) -> None:
    """Made-up patients whose ECGs, X-rays, reports and charts agree. Example: regen prepare synthetic --n 300 --modalities ecg,cxr,ed --out data"""
    from regen.data_prep.synthetic_cohort import entries
    from regen.data_prep.synthetic_ed import write_ed

    kinds = tuple(dict.fromkeys(part.strip() for part in modalities.split(",")))
    options = {"n": n, "cohort_seed": seed} | ({} if kinds == ("ecg",) else {"modalities": list(kinds)})
    beside = (lambda folder: write_ed(folder / "ed", n, seed)) if "ed" in kinds else None
    total = n * len(set(kinds) - {"ed"})
    _prepare(entries(n, seed, kinds), out, "synthetic", options, workers, force, rate=rate, pixels=pixels, total=total, beside=beside)


@prepare_app.command("ecg-qa")
def prepare_ecg_qa(
    root: Annotated[Path, typer.Argument(help="ECG-QA's ptbxl folder, or its open part")],
    ptb_xl: PtbXl,
    out: Folder,
    variant: Annotated[str, typer.Option(help="paraphrased or template")] = "paraphrased",
    splits: Annotated[str, typer.Option(help="auto; given: ECG-QA's own; folds: PTB-XL's, 1-7 train, 8 valid, 9-10 test")] = "auto",
    force: Force = False,
) -> None:
    """ECG-QA's questions and answers. Example: regen prepare ecg-qa ecg-qa --ptb-xl ptb-xl-1.0.3 --out questions"""
    from regen.data_prep.ecg_qa import prepare_ecg_qa as run

    _asked(run(root, ptb_xl, out, force, variant, splits), out)


@prepare_app.command("ecg-qa-build")
def prepare_ecg_qa_build(
    ptb_xl: PtbXl,
    out: Folder,
    seed: Annotated[int, typer.Option(help="the same seed gives the same questions", min=0)] = 0,
    most: Annotated[int, typer.Option(help="questions of one kind and answer", min=1)] = 10,
    measure: Annotated[bool, typer.Option("--measure", help="also ask for measurements; the truth is this program's ruler, not ECG-QA's")] = False,
    force: Force = False,
) -> None:
    """Questions of all types from PTB-XL's annotations. Example: regen prepare ecg-qa-build --ptb-xl ptb-xl-1.0.3 --out questions"""
    from regen.data_prep.ecg_qa_build import build_ecg_qa, measured_with_ruler
    from regen.progress import bar

    made = build_ecg_qa(ptb_xl, out, seed, force, most, measured_with_ruler if measure else None, lambda items: bar(items, "measuring"))
    _asked(made, out)


def _prepare(
    entries: Any, out: Path, source: str, options: dict[str, Any], workers: int, force: bool, rate: int = 100, pixels: int = 224,
    total: int | None = None, beside: Any = None,
) -> None:  # fmt: skip
    from regen.artifact import check_free
    from regen.data_prep.prepare import write
    from regen.errors import ConfigError
    from regen.progress import bar

    if rate not in (100, 500):
        raise ConfigError(f"--rate: expected 100 or 500, got {rate}; encoders read 100 Hz, 500 keeps more for later")
    check_free(out, force)
    made = write(
        entries, out, source, options, float(rate), workers=workers, force=force, pixels=pixels, progress=lambda items: bar(items, "reading", total),
        beside=beside,
    )  # fmt: skip
    _done(made.written, made.failures, out)


def _asked(made: Any, out: Path) -> None:
    from regen.progress import console

    for template, why in made.left_out.items():
        console.print(f"template {template} was left out: {why}")
    _done(made.written, made.refused, out)


def _done(written: dict[str, int], failures: Sequence[Any], out: Path) -> None:
    from regen.failures import report_failures
    from regen.progress import console

    console.print(f"{out}: " + ", ".join(f"{n} {split}" for split, n in sorted(written.items())))
    raise typer.Exit(report_failures(failures))
