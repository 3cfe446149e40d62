"""The benchmarks run, compare like with like, and print every figure with its spread. No test looks at how fast anything is."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from records import write_wfdb

from regen.benchmarks import bench, find_cases, peak_memory
from regen.cli import main
from regen.data_prep.coding import Coding
from regen.data_prep.synthetic_ecg import synthesize
from regen.encoders.ecg import EcgConfig, EcgEncoder
from regen.errors import ConfigError, DataError
from regen.eval import timing
from regen.eval.bench_ecg import find_records, products

CODES = ("SR", "AFIB", "CLBBB", "IMI", "PVC")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five synthetic recordings at 500 Hz as WFDB, and one at 250 Hz that no benchmark takes."""
    folder = tmp_path_factory.mktemp("wfdb")
    for i, code in enumerate(CODES):
        signal = synthesize(Coding({code: 1.0}), np.random.default_rng(i)).signal
        write_wfdb(folder, f"{i:05d}_hr", np.clip(signal.T * 1000, -32000, 32000).astype(np.int16))
    write_wfdb(folder, "slow", np.random.default_rng(9).integers(-500, 500, (2500, 12), dtype=np.int16), fs=250)
    return folder


def command(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    return int(stopped.value.code or 0)


def spread_is_sane(figures: dict[str, float]) -> bool:
    return 0 < figures["low"] <= figures["median"] <= figures["high"]


def test_bench_ecg_writes_its_figures(records: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "ecg.json"
    assert command("bench", "ecg", "--root", records, "--records", "4", "--repeats", "2", "--out", out) == 0
    result: dict[str, Any] = json.loads(out.read_text())
    clean, encoder = result["clean"], result["encoder"]
    assert (clean["records"], clean["repeats"], clean["compared"]) == (4, 2, 4 * 12 * 1000)
    assert clean["difference_p999_mv"] <= clean["difference_max_mv"] < 1e-4
    assert all(spread_is_sane(clean[name]) for name in ("product_ms", "peer_ms", "ratio", "ratio_cpu"))
    assert all(spread_is_sane(encoder[name]) for name in ("encoder_ms", "encoder_gflops", "products_gflops", "share", "float32_ratio"))
    assert encoder["cosine_to_float32"] > 0.999
    shown = capsys.readouterr().out
    assert "cores" in shown.splitlines()[0]
    assert "torch" in shown.splitlines()[0]
    assert f"ratio             {timing.shown(clean['ratio'], 1)}" in shown
    assert command("bench", "ecg", "--root", records, "--out", out) == 2


def test_bench_draft_compares_report_by_report(records: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "draft.json"
    sizes = ("--records", "3", "--repeats", "1", "--no-memory")
    assert command("bench", "draft", "--root", records, "--bundle", tiny_bundle, *sizes, "--out", out) == 0
    result: dict[str, Any] = json.loads(out.read_text())
    assert (result["records"], result["repeats"], result["peak_mib"]) == (3, 1, None)
    assert all(spread_is_sane(result[name]) for name in ("product_ms", "peer_ms", "ratio", "ratio_cpu"))
    assert set(result["product_parts_ms"]) == {"read", "clean", "measure", "encode", "retrieve", "plan", "prefix", "decode", "guard"}
    assert set(result["peer_parts_ms"]) == {"read, clean", "measure", "encode", "retrieve", "plan", "generate", "guard"}
    assert all(ms > 0 for ms in (*result["product_parts_ms"].values(), *result["peer_parts_ms"].values()))
    assert all(row["product"] != row["peer"] for row in result["different"])
    shown = capsys.readouterr().out
    assert f"{len(result['different'])} of 3 reports differ" in shown


def test_in_float32_the_stock_parts_write_the_same(records: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models import without_bf16

    without_bf16(monkeypatch)
    result = bench(find_cases(records, None, "test", 5), str(tiny_bundle), 1, memory=False)
    assert result["records"] == 5
    assert result["different"] == []


def test_peak_memory_is_measured_in_a_process_of_its_own(records: Path, tiny_bundle: Path) -> None:
    assert 100 < peak_memory(find_cases(records, None, "test", 2), str(tiny_bundle), 3) < 20000


def test_what_is_missing_is_named(records: Path, tmp_path: Path, tiny_data: Any) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected ECG files below this folder"):
        find_records(tmp_path / "empty", 3)
    write_wfdb(tmp_path / "slow", "r", np.random.default_rng(2).integers(-500, 500, (2500, 12), dtype=np.int16), fs=250)
    with pytest.raises(DataError, match="expected 12-lead WFDB records of 10 s at 500 Hz, found none"):
        find_records(tmp_path / "slow", 3)
    for root, studies, got in ((None, None, "neither"), (records, tmp_path, "both")):
        with pytest.raises(ConfigError, match=f"got {got}"):
            find_cases(root, studies, "test", 3)
    with pytest.raises(ConfigError, match="did you mean 'test'"):
        find_cases(None, tmp_path, "tset", 3)
    with pytest.raises(DataError, match="found none of them; give --root instead"):
        find_cases(None, tiny_data.path, "test", 3)


def test_a_prepared_split_finds_its_records_again(records: Path, tmp_path: Path) -> None:
    reports = tmp_path / "reports.csv"
    rows = "".join(f"{i:05d}_hr,Sinus rhythm.,p{i},{'test' if i < 3 else 'train'}\n" for i in range(5))
    reports.write_text("record,report,subject_id,split\n" + rows)
    out = tmp_path / "data"
    assert command("prepare", "wfdb", records, "--reports", reports, "--out", out) == 0
    cases = find_cases(None, out, "test", 10)
    assert [case.study().subject_id for case in cases] == ["p0", "p1", "p2"]
    assert all((ecg := case.study().ecg) is not None and ecg.fs == 500 for case in cases)


def test_layers_are_counted_as_products() -> None:
    """By hand for the default shape: 0.59 GFLOP a record, and the second convolution of the last stage is 125 steps of 7 x 192 inputs."""
    found = {p.layer: p for p in products(EcgEncoder(EcgConfig()).eval(), 2, 1000)}
    last = found["stages.2.conv2"]
    assert (last.rows, last.inner, last.columns) == (2 * 125, 7 * 192, 192)
    up = found["blocks.0.up"]
    assert (up.rows, up.inner, up.columns, up.flops) == (2 * 63, 256, 1024, 2 * 2 * 63 * 256 * 1024)
    assert 0.5e9 < sum(p.flops for p in found.values()) / 2 < 0.7e9


def test_turns_are_taken_and_ratios_are_of_one_round() -> None:
    calls: list[tuple[str, int]] = []

    def part(name: str, seconds: float) -> Any:
        def work(chunk: int) -> None:
            calls.append((name, chunk))
            time.sleep(seconds)

        return work

    times = timing.interleave({"product": part("product", 0.001), "peer": part("peer", 0.004)}, [1, 2], repeats=3)
    assert calls == [(name, 1) for name in ("product", "peer")] + [(name, chunk) for chunk in (1, 2) for name in ("product", "peer")] * 3
    assert all(len(t.wall) == len(t.cpu) == 3 for t in times.values())
    fixed = timing.ratio(timing.Times([8.0, 9.0, 4.0]), timing.Times([2.0, 3.0, 2.0]))
    assert fixed == {"median": 3.0, "low": 2.0, "high": 4.0}
    assert timing.shown(fixed, 1) == "3.0 [2.0, 4.0]"
    assert str(torch.get_num_threads()) in timing.machine_line(timing.machine())
