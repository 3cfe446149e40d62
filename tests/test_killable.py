"""Workers that can be killed: what one job does wrong costs that job, and the rest comes in order."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from regen.data_prep.killable import Lost, run_each
from regen.data_prep.prepare import Entry, write
from regen.errors import DataError
from regen.study import Ecg, Study


def act(job: object) -> object:
    """What a job says is done; a number is answered by its double."""
    if isinstance(job, int):
        return 2 * job
    if job == "segfault":
        ctypes.string_at(0)
    if job == "abort":
        os.abort()
    if job == "exit":
        os._exit(0)
    if job == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "hang":
        time.sleep(600)
    if job == "hang in C":
        ctypes.PyDLL(None).sleep(600)  # holds the interpreter's lock: no thread of the worker runs
    if job == "memory":
        return np.ones(1 << 31, np.uint8).sum()
    if job == "raise":
        raise ValueError("two\nlines")
    if job == "data":
        raise DataError("x.dcm: expected an image, got none; look")
    if job == "base":
        raise BaseException("panic")
    if job == "system exit":
        sys.exit(3)
    if job == "lambda":
        return lambda: None
    if job == "pid":
        return os.getpid()
    raise AssertionError(job)


BAD = {
    "segfault": "crashed (SIGSEGV)", "abort": "crashed (SIGABRT)", "exit": "exit code 0", "killed": "SIGKILL", "hang": "longer than 0.5 s",
    "hang in C": "longer than 0.5 s", "memory": "more memory than 512 MiB", "raise": "ValueError: two lines", "data": "x.dcm: expected an image",
    "base": "BaseException: panic", "system exit": "SystemExit: 3", "lambda": "got function",
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("chunk", [1, 4])
def test_what_one_job_does_wrong_costs_that_job_alone(bad: str, chunk: int) -> None:
    jobs: list[object] = [*range(11), bad, *range(20, 31)]
    results = list(run_each(act, jobs, 2, seconds=0.5, memory_bytes=512 << 20, chunk=chunk))
    assert [2 * job for job in jobs if isinstance(job, int)] == [r for r in results if not isinstance(r, Lost)]
    lost = results[11]
    assert isinstance(lost, Lost)
    assert BAD[bad].lower() in lost.reason.lower()
    assert "\n" not in lost.reason


def test_nothing_but_bad_jobs() -> None:
    results = list(run_each(act, ["exit", "segfault", "abort"] * 5, 2, chunk=4))
    assert [type(r) for r in results] == [Lost] * 15


def slow_when_early(job: int) -> int:
    time.sleep(0.2 if job % 40 == 0 else 0)
    return job


def test_order_holds_and_jobs_are_taken_as_results_are() -> None:
    taken = 0

    def source() -> Iterator[int]:
        nonlocal taken
        while taken < 400:
            yield taken
            taken += 1

    ahead = []
    for told, result in enumerate(run_each(slow_when_early, source(), 3, chunk=4)):
        assert told == result
        ahead.append(taken - told)
    assert told == 399
    assert max(ahead) <= 3 * 4 * 4


def big(job: tuple[int, bytes]) -> tuple[int, bytes]:
    return job


def test_jobs_and_results_larger_than_a_pipe_do_not_block() -> None:
    jobs = [(i, bytes(3_000_000 if i % 7 == 0 else 10)) for i in range(40)]
    assert [r if isinstance(r, Lost) else r[0] for r in run_each(big, jobs, 2, seconds=20, chunk=4)] == list(range(40))


def test_many_small_jobs_with_bad_ones_among_them() -> None:
    jobs: list[object] = ["exit" if i % 500 == 250 else i for i in range(3000)]
    results = list(run_each(act, jobs, 2, chunk=32))
    assert [isinstance(r, Lost) for r in results] == [job == "exit" for job in jobs]
    assert all(r == 2 * i for i, r in enumerate(results) if not isinstance(r, Lost))


def test_no_job_no_worker() -> None:
    assert list(run_each(act, [], 2)) == []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int], seconds: float = 15) -> bool:
    until = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(alive, pids))


def test_leaving_early_ends_the_workers() -> None:
    running = run_each(act, ["pid", *range(500)], 2, chunk=1)
    pid = next(running)
    assert isinstance(pid, int)
    assert alive(pid)
    running.close()
    assert gone([pid], 2)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to see processes")
def test_the_end_of_the_main_process_ends_its_workers(end: signal.Signals) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_killable import act; from regen.data_prep.killable import run_each\n"
        "for r in run_each(act, ['pid', 'pid', 'hang', 'hang'], 2, chunk=1): print(r, flush=True)"
    )
    main = subprocess.Popen([sys.executable, "-c", code, str(Path(__file__).parent)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert main.stdout is not None
    first = int(main.stdout.readline())
    pids = [int(pid) for pid in Path(f"/proc/{main.pid}/task/{main.pid}/children").read_text().split()]
    assert first in pids
    main.send_signal(end)
    main.wait(10)
    main.stdout.close()
    assert gone(pids)


def make(what: object) -> Study:
    act(what)
    return Study("x", "p", ecg=Ecg(np.random.default_rng(0).normal(0, 0.2, (12, 1000)).astype(np.float32), 100.0))


def test_an_archive_with_a_file_that_crashes_its_reader_is_prepared_without_it(tmp_path: Path) -> None:
    whats = [0, "segfault", 1, "base", 2]
    entries = [Entry(f"s{i}", f"p{i}", path=f"{i}.dcm", make=(make, what), split="train") for i, what in enumerate(whats)]
    summary = write(entries, tmp_path / "data", "test", {}, workers=1)
    assert summary.written == {"train": 3}
    assert [(f.study_id, f.path, f.reason) for f in summary.failures] == [
        ("s1", "1.dcm", "1.dcm: the worker crashed (SIGSEGV)"),
        ("s3", "3.dcm", "3.dcm: BaseException: panic"),
    ]
