"""Worker processes that can be killed: a file that crashes, hangs or fills the memory costs itself and nothing else.

    for result in run_each(read_study, paths, workers=2, seconds=60):
        if isinstance(result, Lost):
            print(result.reason)                                  "the worker crashed (SIGSEGV)"

Results come in the order of the jobs, and jobs are taken as results are: memory stays flat however many there are. Every worker has pipes
of its own and shares no lock, so killing one harms no other; through them go values alone (regen.data_prep.wire), so a decoder that a
hostile file takes over cannot make the main process run anything. The time limit is the kernel's alarm, which ends even a decoder that never
returns to Python; Windows has neither alarm nor memory limit, and only crashes are caught there.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import Any, Generic, TypeVar

from regen.data_prep.wire import WireError, pack, unpack
from regen.errors import RegenError

J = TypeVar("J")
R = TypeVar("R")

MEMORY = 4 << 30
"""Bytes of address space that jobs may add to what their worker holds at its start."""
_AHEAD = 4
"""Chunks for each worker that may be under way beyond the oldest job that is not done."""
_PIPE = 1 << 20
_SMALL = 1 << 15
"""Bytes; a message of this size always fits into an empty pipe, so sending it to a busy worker never blocks."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A job without a result, and why, in one line."""

    reason: str


def run_each(
    function: Callable[[J], R], jobs: Iterable[J], workers: int = 2, seconds: float = 120.0, memory_bytes: int = MEMORY, chunk: int = 16
) -> Generator[R | Lost, None, None]:
    """function(job) for every job, in order, each in one of `workers` processes; Lost where a job crashed, hung or raised.

    function: of a module, or a partial of one. jobs and results: what regen.data_prep.wire packs. seconds: most for one job. chunk: jobs sent
    at once.

    Raises:
        WireError: a job of another kind.
    """
    pool = _Pool(function, enumerate(jobs), max(1, workers), seconds, memory_bytes, max(1, chunk))
    told = 0
    try:
        while pool.feed(told):
            pool.collect()
            while told in pool.ready:
                yield pool.ready.pop(told)
                told += 1
    finally:
        pool.kill()


@dataclass(slots=True, eq=False)
class _Worker:
    """assigned: (number, job) in the order in which results will come. retired: it ends by itself, having answered."""

    process: Any
    jobs: Any
    results: Any
    assigned: deque[tuple[int, Any]] = field(default_factory=deque)
    retired: bool = False


@dataclass(slots=True)
class _Pool(Generic[J, R]):
    function: Callable[[J], R]
    source: Iterator[tuple[int, J]]
    size: int
    seconds: float
    memory_bytes: int
    chunk: int
    workers: list[_Worker] = field(default_factory=list)
    waiting: deque[tuple[int, J]] = field(default_factory=deque)
    """Taken from the source, or given back by a worker that ended, and not yet sent."""
    ready: dict[int, R | Lost] = field(default_factory=dict)
    taken: int = 0
    large: bool = False
    """Jobs do not fit into a pipe: only idle workers, which are reading, get more."""

    def feed(self, told: int) -> bool:
        """Give every worker with little left its next chunk. False when all is done."""
        for place in range(self.size):
            worker = self.workers[place] if place < len(self.workers) else None
            if worker is not None and (worker.retired or len(worker.assigned) > (0 if self.large else self.chunk // 2)):
                continue
            part = self._take(told + self.size * self.chunk * _AHEAD)
            if not part:
                break
            message = pack([job for _, job in part])
            self.large |= len(message) > _SMALL
            if worker is None:
                worker = self._start()
            elif self.large and worker.assigned:
                self.waiting.extendleft(reversed(part))
                continue
            worker.assigned.extend(part)
            with suppress(OSError):  # it has just died: collect will see that
                worker.jobs.send_bytes(message)
        return any(worker.assigned for worker in self.workers)

    def collect(self) -> None:
        """Wait for news; take the results, and note what a worker that ended was at."""
        heard = set(connection.wait([end for worker in self.workers for end in (worker.results, worker.process.sentinel)]))
        for worker in [w for w in self.workers if w.results in heard or w.process.sentinel in heard]:
            try:
                while worker.results.poll():
                    done, value, worker.retired = unpack(worker.results.recv_bytes())
                    self.ready[worker.assigned.popleft()[0]] = value if done else Lost(str(value))
            except (EOFError, OSError):
                self._bury(worker)
            except (WireError, TypeError, IndexError) as error:
                worker.process.kill()
                self._bury(worker, f"the worker's answer cannot be read ({error})")
            else:
                if worker.process.sentinel in heard:
                    self._bury(worker)

    def kill(self) -> None:
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.join()
            worker.jobs.close()
            worker.results.close()

    def _take(self, end: int) -> list[tuple[int, J]]:
        """At most a chunk of jobs, none numbered `end` or more."""
        while len(self.waiting) < self.chunk and self.taken < end:
            try:
                self.waiting.append(next(self.source))
            except StopIteration:
                break
            self.taken += 1
        return [self.waiting.popleft() for _ in range(min(self.chunk, len(self.waiting)))]

    def _start(self) -> _Worker:
        jobs, sent = multiprocessing.Pipe(duplex=False)
        results, answered = multiprocessing.Pipe(duplex=False)
        for pipe in (jobs, results):
            _widen(pipe.fileno())
        how = (self.function, jobs, answered, self.seconds, self.memory_bytes)
        process = multiprocessing.Process(target=_serve, args=how, daemon=True)
        process.start()
        jobs.close()  # so that the end of either side is seen as the end of the pipe
        answered.close()
        self.workers.append(_Worker(process, sent, results))
        return self.workers[-1]

    def _bury(self, worker: _Worker, why: str | None = None) -> None:
        """The first job without a result is lost, unless the worker retired; the others go back."""
        worker.process.join()
        if worker.assigned and not worker.retired:
            self.ready[worker.assigned.popleft()[0]] = Lost(why or _why(worker.process.exitcode, self.seconds))
        self.waiting.extendleft(reversed(worker.assigned))
        worker.jobs.close()
        worker.results.close()
        self.workers.remove(worker)


def _widen(pipe: int) -> None:
    """A pipe that holds some results lets the workers go on while the reader is busy. Linux."""
    try:
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
    except (ImportError, AttributeError, OSError):
        pass


def _why(code: int | None, seconds: float) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        if hasattr(signal, "SIGALRM") and -code == signal.SIGALRM:
            return f"it took longer than {seconds:g} s and was ended"
        return "the worker was killed (SIGKILL); the machine may be short of memory" if name == "SIGKILL" else f"the worker crashed ({name})"
    return f"the worker ended (exit code {code})"


def _serve(function: Callable[[J], R], jobs: Any, results: Any, seconds: float, memory_bytes: int) -> None:
    """A worker's life. Each answer goes out as soon as it is there, so that a crash takes nothing but the job it is on."""
    warnings.simplefilter("ignore")  # readers report by flags and errors; thousands of lines of pydicom's help nobody
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    alarm: Callable[[float], object] = lambda _: None  # noqa: E731
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        alarm = lambda after: signal.setitimer(signal.ITIMER_REAL, after)  # noqa: E731
    end_with_parent()
    _limit_memory(memory_bytes)
    while True:
        try:
            chunk = unpack(jobs.recv_bytes())
        except EOFError:
            return
        for job in chunk:
            full = False
            alarm(seconds)
            try:
                answer = pack((True, function(job), full))
            except MemoryError:
                full = True  # a fresh process takes over: what is left of this one may be full for every job to come
                answer = pack((False, f"it needs more memory than {memory_bytes >> 20} MiB", full))
            except RegenError as error:
                answer = pack((False, str(error), full))
            except BaseException as error:
                answer = pack((False, " ".join(f"{type(error).__name__}: {error}".split())[:300], full))
            alarm(0)
            results.send_bytes(answer)
            if full:
                return


def end_with_parent() -> None:
    """In a worker: end when the main process is killed, instead of waiting for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def _exit_after(process: Any) -> None:
    process.join()
    os._exit(1)


def _limit_memory(more: int) -> None:
    """Limit the address space to what is held now and `more` bytes. Linux."""
    try:
        import resource

        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + more, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (ImportError, OSError, ValueError):
        pass
