"""The command line: quick help, one line and exit code 2 for what a user can mend, and no half output."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from models import CONFIGS, command, run
from records import write_wfdb

from regen import Pipeline, __version__
from regen.artifact import load_manifest
from regen.cli import app, main
from regen.data_prep.prepared import Prepared
from regen.errors import ConfigError, DataError
from regen.eval.imported import read_predictions
from regen.study import Study


def words(group: Any = None, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and group, as it is typed."""
    group = typer.main.get_command(app) if group is None else group
    yield before
    for name, inner in getattr(group, "commands", {}).items():
        yield from words(inner, (*before, name))


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """`regen ...` in this process: exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_every_help_works_and_imports_nothing_heavy() -> None:
    commands = list(words())
    assert len(commands) >= 15
    assert {("draft",), ("prepare", "ptb-xl"), ("train", "all"), ("index", "build"), ("eval", "report"), ("bench",)} <= set(commands)
    script = textwrap.dedent(f"""
        import contextlib, io, json, sys
        from regen.cli import main
        shown = {{}}
        for words in {commands!r}:
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                try:
                    main([*words, "--help"])
                except SystemExit as end:
                    shown[" ".join(words)] = [end.code, out.getvalue()]
        heavy = [m for m in ("torch", "polars", "transformers", "faiss", "scipy", "numpy", "pandas", "matplotlib", "wfdb") if m in sys.modules]
        print(json.dumps([shown, heavy]))
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    shown, heavy = json.loads(done.stdout)
    assert heavy == []
    assert len(shown) == len(commands)
    for name, (code, text) in shown.items():
        assert code == 0, name
        assert text.startswith("Usage:"), name


def test_no_arguments_give_the_help_and_version_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys)
    assert code == 2
    assert err.startswith("Usage: ")
    assert call(capsys, "--version")[:2] == (0, f"{__version__}\n")


@pytest.mark.parametrize("arguments", [["drft"], ["draft", "--bundel", "x"], ["prepare", "synthetic"], ["search"], ["draft", "--threads", "-1"]])
def test_a_mistyped_command_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("regen: ")
    assert err.count("\n") == 1


def test_prepare_synthetic(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "data"
    assert call(capsys, "prepare", "synthetic", "--n", "12", "--seed", "5", "--out", out)[0] == 0
    assert len(Prepared.open(out).studies) == 12
    before = load_manifest(out)["files"]["studies.parquet"]["sha256"]
    code, _, err = call(capsys, "prepare", "synthetic", "--n", "13", "--out", out)
    assert code == 2
    assert err == f"regen: {out}: exists already; choose another --out, or replace it with --force\n"
    assert Prepared.open(out).digest == before
    assert call(capsys, "prepare", "synthetic", "--n", "13", "--out", out, "--force")[0] == 0
    assert len(Prepared.open(out).studies) == 13


@pytest.fixture
def records(tmp_path: Path, tiny_data: Prepared) -> Path:
    """A folder of three records, one of them cut."""
    folder = tmp_path / "records"
    rows = tiny_data.split("test")[:3]
    for number, signal_ in enumerate(tiny_data.load(rows)):
        write_wfdb(folder, f"r{number}", (signal_.T * 1000).round().astype("int16"), fs=100)
    os.truncate(folder / "r1.dat", 5000)
    return folder


def test_a_broken_file_is_listed_and_the_others_are_drafted(
    capsys: pytest.CaptureFixture[str], records: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    out, html = tmp_path / "drafts.jsonl", tmp_path / "page"
    arguments = ("draft", records, "--bundle", tiny_bundle, "--out", out, "--html", html, "--device", "cpu")
    code, _, err = call(capsys, *arguments)
    assert code == 1
    assert "2 drafts in" in err
    assert "1 could not be read:" in err
    assert re.search(r"r1\.dat.*expected", err.split("could not be read:")[1])
    assert [row["study_id"] for row in read_predictions(out)] == ["r0", "r2"]
    assert all(row["bundle"] == str(tiny_bundle) for row in read_predictions(out))
    page = (html / "index.html").read_text()
    assert [name for name in ("r0", "r1", "r2") if f">{name}<" in page] == ["r0", "r2"]

    code, _, err = call(capsys, *arguments)
    assert (code, err) == (2, f"regen: {out}: exists already; choose another --out, or replace it with --force\n")
    out.unlink()
    code, _, err = call(capsys, *arguments)
    assert code == 2
    assert "index.html: exists already" in err
    assert not out.exists()
    out.write_text("mine")
    assert call(capsys, *arguments, "--force")[0] == 1
    assert len(read_predictions(out)) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["drafts.jsonl", "page", "records"]


def test_draft_takes_files_or_a_prepared_split(capsys: pytest.CaptureFixture[str], tiny_data: Prepared, tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "drafts.jsonl"
    shared = ("--bundle", tiny_bundle, "--out", out, "--device", "cpu", "--threads", "1")
    assert call(capsys, "draft", "--studies", tiny_data.path / "studies.parquet", "--split", "val", *shared)[0] == 0
    assert [row["study_id"] for row in read_predictions(out)] == tiny_data.split("val")["study_id"].to_list()
    for arguments, message in (
        ([], "expected files, or --studies"), (["x.hea", "--studies", tiny_data.path], "got both"),
        (["--studies", tiny_data.path, "--split", "tets"], "did you mean 'test'?"), ([tmp_path], "expected ECG files below this folder"),
        (["--studies", tiny_bundle], "expected a folder of stage 'prepare', got 'bundle'"),
    ):  # fmt: skip
        code, _, err = call(capsys, "draft", *arguments, "--bundle", tiny_bundle, "--out", tmp_path / "none.jsonl")
        assert (code, err.count("\n")) == (2, 1)
        assert message in err
    assert not (tmp_path / "none.jsonl").exists()
    code, _, err = call(capsys, "draft", "x.hea", "--bundle", tiny_bundle, "--out", tmp_path)
    assert code == 2
    assert "expected the name of a file to write, got a folder" in err


def test_files_that_are_all_broken_leave_no_excuse(capsys: pytest.CaptureFixture[str], tiny_bundle: Path, tmp_path: Path) -> None:
    code, _, err = call(capsys, "draft", tmp_path / "no.hea", tmp_path / "no.dcm", "--bundle", tiny_bundle, "--out", tmp_path / "d.jsonl")
    assert code == 1
    assert "0 drafts" in err
    assert "2 could not be read" in err


def test_search(capsys: pytest.CaptureFixture[str], records: Path, tiny_bundle: Path) -> None:
    code, out, _ = call(capsys, "search", records / "r0.hea", "-k", "4", "--json", "--bundle", tiny_bundle, "--device", "cpu")
    rows = json.loads(out)
    assert code == 0
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    assert all({"rank", "study_id", "score", "report"} <= set(row) and -1 <= row["score"] <= 1 and row["report"] for row in rows)
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    code, out, _ = call(capsys, "search", records / "r0.hea", "-k", "2", "--bundle", tiny_bundle, "--device", "cpu")
    assert code == 0
    assert out.splitlines()[-1].startswith("shown because: another study id and file name; subject of the query unknown")
    assert rows[0]["study_id"] in out.splitlines()[0]
    code, out, err = call(capsys, "search", records / "r1.hea", "--bundle", tiny_bundle, "--device", "cpu")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_a_recipe_with_three_mistakes_names_all_three(capsys: pytest.CaptureFixture[str], tiny_data: Prepared, tmp_path: Path) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text("widht: 64\ndepth: 0\ntext_mode: freezing\n")
    code, _, err = call(capsys, "train", "encoder", recipe, "--data", tiny_data.path, "--out", tmp_path / "out")
    assert code == 2
    for part in ("unknown key 'widht' (did you mean 'width'?)", "depth must be", "got 0", "text_mode must be", "'freezing'", "3 problems"):
        assert part in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    code, _, err = call(
        capsys, "train", "all", CONFIGS / "starter.yaml", "--data", tiny_data.path, "--out", tmp_path / "out", "--set", "wirter.epochs=1"
    )
    assert (code, "expected encoder.KEY=VALUE or writer.KEY=VALUE" in err) == (2, True)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.yaml"]


def test_a_device_that_is_none_is_one_line(capsys: pytest.CaptureFixture[str], tiny_data: Prepared, tmp_path: Path) -> None:
    code, _, err = call(capsys, "train", "encoder", CONFIGS / "ecg.yaml", "--data", tiny_data.path, "--out", tmp_path / "out", "--device", "gpu")
    assert (code, err) == (2, "regen: --device: expected cpu, cuda, cuda:1 or auto, got 'gpu'\n")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    wrong = ("prepare", "synthetic", "--rate", "250", "--out", tmp_path / "x")
    plain, debug = run(*wrong), run("--debug", *wrong)
    assert (plain.returncode, plain.stdout) == (2, "")
    assert plain.stderr == "regen: --rate: expected 100 or 500, got 250; encoders read 100 Hz, 500 keeps more for later\n"
    assert "Traceback (most recent call last)" in debug.stderr
    assert ConfigError.__name__ in debug.stderr
    assert debug.returncode != 0


def test_ctrl_c_leaves_no_half_folder(tmp_path: Path) -> None:
    out = tmp_path / "data"
    process = subprocess.Popen(
        command("prepare", "synthetic", "--n", "20000", "--out", out),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until = time.monotonic() + 120
    while not (tmp_path / ".data.partial").exists() and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "regen: stopped" in err
    assert not out.exists()


def test_ctrl_c_leaves_no_half_drafts(
    capsys: pytest.CaptureFixture[str], tiny_data: Prepared, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafts = Pipeline.drafts

    def interrupted(self: Pipeline, studies: Iterator[Study], language: str | None = None) -> Iterator[Any]:
        yield next(drafts(self, studies, language))
        raise KeyboardInterrupt

    monkeypatch.setattr(Pipeline, "drafts", interrupted)
    out = tmp_path / "drafts.jsonl"
    code, _, err = call(capsys, "draft", "--studies", tiny_data.path, "--bundle", tiny_bundle, "--out", out, "--device", "cpu")
    assert code == 130
    assert "regen: stopped" in err
    assert list(tmp_path.iterdir()) == []


def test_the_demo_writes_a_page_and_may_be_repeated(capsys: pytest.CaptureFixture[str], tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    code, table, _ = call(capsys, "demo", "--bundle", tiny_bundle, "--out", out)
    assert code == 0
    assert "drafts, most of them of synthetic ECGs" in table
    rows = read_predictions(out / "drafts.jsonl")
    assert rows[0]["study_id"] == "real-waveform_ecg"
    assert len(rows) == 8
    page = (out / "index.html").read_text()
    assert page.count("<svg") >= 8
    assert all(row["study_id"] in page for row in rows)
    assert call(capsys, "demo", "--bundle", tiny_bundle, "--out", out)[0] == 2
    assert call(capsys, "demo", "--bundle", tiny_bundle, "--out", out, "--force")[0] == 0


def test_the_steps_one_by_one_make_the_same_bundle(
    capsys: pytest.CaptureFixture[str], tiny_bundle: Path, tiny_data: Prepared, tmp_path: Path
) -> None:
    index, out = tmp_path / "index", tmp_path / "bundle"
    assert call(capsys, "index", "build", "--encoder", tiny_bundle / "encoder", "--data", tiny_data.path, "--out", index, "--device", "cpu")[0] == 0
    assert load_manifest(index)["files"] == load_manifest(tiny_bundle / "index")["files"]
    parts = ("--encoder", tiny_bundle / "encoder", "--index", index, "--generator", tiny_bundle / "generator")
    assert call(capsys, "bundle", *parts, "--out", out)[0] == 0
    assert load_manifest(out, "bundle")["fingerprint"] == load_manifest(tiny_bundle)["fingerprint"]
    code, _, err = call(capsys, "bundle", *parts, "--out", out)
    assert (code, "exists already" in err) == (2, True)


def test_doctor_says_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "doctor")
    assert code == 0
    for part in (f"regen {__version__}", "torch ", "CPU: ", "GPU", "FAISS: ", "codec pylibjpeg", "starter: "):
        assert part in out


def test_drafts_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    bad = (("{", "line 1: expected a JSON object"), ('{"study_id": "a"}', "line 1: expected report, got the columns study_id"), ("[1]\n", "line 1"))
    for text, message in bad:
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_predictions(path)
    with pytest.raises(DataError, match="could not read the file"):
        read_predictions(tmp_path / "none.jsonl")
    path.write_text('{"study_id": "a", "report": "line\u2028separator"}\n\n')
    assert [row["report"] for row in read_predictions(path)] == ["line\u2028separator"]
