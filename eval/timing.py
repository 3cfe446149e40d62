"""Product and peer timed side by side: the same work, turn by turn, so that a busy machine slows both.

    times = interleave({"product": ours, "peer": theirs}, chunks, repeats=5)
    times["product"].wall                      [0.131, 0.128, ...] seconds a repeat, all chunks
    ratio(times["peer"], times["product"])     {"median": 17.2, "low": 16.1, "high": 18.0}

A figure is a median with the lowest and highest repeat beside it; ratios are taken within each repeat.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Figures = dict[str, float]


@dataclass(slots=True)
class Times:
    """Seconds of every repeat: wall clock, and CPU time of the process (all its threads)."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def interleave(parts: Mapping[str, Callable[[T], Any]], chunks: Sequence[T], repeats: int, warm: bool = True) -> dict[str, Times]:
    """Give every chunk to every part in turn, `repeats` times; one round before that is not counted, unless warm is False."""
    times = {name: Times() for name in parts}
    for repeat in range(-1 if warm else 0, repeats):
        spent = {name: [0.0, 0.0] for name in parts}
        for chunk in chunks[:1] if repeat < 0 else chunks:
            for name, part in parts.items():
                wall, cpu = time.perf_counter(), time.process_time()
                part(chunk)
                spent[name][0] += time.perf_counter() - wall
                spent[name][1] += time.process_time() - cpu
        for name, (wall, cpu) in spent.items() if repeat >= 0 else ():
            times[name].wall.append(wall)
            times[name].cpu.append(cpu)
    return times


def spread(values: Sequence[float], scale: float = 1.0) -> Figures:
    """Median, lowest and highest, each multiplied by `scale`."""
    return {"median": statistics.median(values) * scale, "low": min(values) * scale, "high": max(values) * scale}


def ratio(above: Times, below: Times, clock: str = "wall") -> Figures:
    """above / below, repeat by repeat. clock: 'wall' or 'cpu'."""
    return spread([a / max(b, 1e-9) for a, b in zip(getattr(above, clock), getattr(below, clock), strict=True)])


def shown(figures: Figures, digits: int = 2) -> str:
    """'17.21 [16.08, 18.00]'"""
    return f"{figures['median']:.{digits}f} [{figures['low']:.{digits}f}, {figures['high']:.{digits}f}]"


def peak_mib(children: bool = False) -> float:
    """The highest resident memory of this process so far, or of any child that has ended.

    Linux counts into ru_maxrss what the parent held when the process began, but not into VmHWM, which is read where it is there.
    """
    status = Path("/proc/self/status")
    if not children and status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 2**10
    most = resource.getrusage(resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import torch

    from regen.encoders.training import has_fast_bf16

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    return {
        "cpu": model, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "torch": torch.__version__,
        "fast_bf16": has_fast_bf16(torch.device("cpu")), "load": round(os.getloadavg()[0], 2),
    }  # fmt: skip


def machine_line(facts: Mapping[str, Any]) -> str:
    """The same as one line."""
    bf16 = "bfloat16 fast" if facts["fast_bf16"] else "no fast bfloat16: float32"
    return f"{facts['cpu']}, {facts['cores']} cores, torch {facts['torch']} on {facts['threads']} threads, {bf16}, load {facts['load']}"
