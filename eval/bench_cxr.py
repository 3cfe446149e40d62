"""`regen bench cxr`, the part before the encoder: DICOM files to squares of 224, against what one would write with pydicom and Pillow.

    result = bench_decode(repeats=5)
    result["decode"]["jpeg_lossless_sv1"]["ratio"]        {"median": ..., "low": ..., "high": ...}, or None where the peer cannot read it
    print("\\n".join(lines(result)))

The peer is `dcmread`, `pixel_array`, `apply_modality_lut`, `apply_voi_lut`, and Pillow's box filter: pydicom's defaults with the plug-ins
that are installed. Both sides run in this process; the files are synthetic (regen.eval.dicom_samples) and made on the spot.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from regen.data_prep.image_store import square
from regen.data_prep.killable import Lost, run_each
from regen.data_prep.readers import read_study
from regen.errors import DataError
from regen.eval import timing
from regen.eval.dicom_samples import encodable, phantom, write_dicom
from regen.study import FloatArray

SIZE = 224
SHAPE = (2500, 2000)
"""Rows and columns of the synthetic files."""
MEMORY_AT = (40, 160)
"""Numbers of images whose peak memory is compared."""


def bench_decode(
    shape: tuple[int, int] = SHAPE, repeats: int = 5, syntaxes: Sequence[str] | None = None, size: int = SIZE, workers: int = 2,
    memory_at: tuple[int, int] | None = MEMORY_AT, progress: Callable[[Sequence[str]], Any] = iter,
) -> dict[str, Any]:  # fmt: skip
    """Milliseconds a file by transfer syntax, both sides in turns; then images a second of `workers` processes, and peak memory.

    memory_at: images in the short and the long run whose peaks are compared, None leaves ingest out.
    """
    with tempfile.TemporaryDirectory() as folder:
        pixels = phantom(*shape, np.random.default_rng(0))
        names = list(syntaxes or encodable())
        paths = {name: write_dicom(Path(folder) / f"{name}.dcm", pixels, name) for name in names}
        decode = {name: _compare(paths[name], repeats, size) for name in progress(names)}
        ingest = None if memory_at is None else _ingest(list(paths.values()), repeats, size, workers, memory_at)
    return {"machine": timing.machine(), "shape": list(shape), "size": size, "repeats": repeats, "decode": decode, "ingest": ingest}


def ours(path: Path, size: int = SIZE) -> FloatArray:
    """(size, size) float32 in [0, 1], as `regen prepare` stores it."""
    return square(read_study(path).cxr[0].pixels, size)


def theirs(path: Path, size: int = SIZE) -> FloatArray:
    """The same with pydicom's defaults and Pillow: (height, width) of the scaled image, its longer side `size`."""
    import pydicom
    from PIL import Image
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    dataset = pydicom.dcmread(path)
    grey = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    image = Image.fromarray((grey / (2**dataset.BitsStored - 1)).astype(np.float32))
    scale = size / max(image.size)
    return np.asarray(image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BOX), np.float32)


def _compare(path: Path, repeats: int, size: int) -> dict[str, Any]:
    product = ours(path, size)
    try:
        peer = theirs(path, size)
    except Exception as error:  # pydicom has a kind of error for each reason
        times = timing.interleave({"product": lambda p: ours(p, size)}, [path], repeats)
        return {"bytes": path.stat().st_size, "product_ms": timing.spread(times["product"].wall, 1000), "peer_ms": None, "ratio": None,
                "ratio_cpu": None, "difference_max": None, "why": " ".join(str(error).split())[:160]}  # fmt: skip
    top, left = ((size - side) // 2 for side in peer.shape)
    apart = np.abs(product[top : top + peer.shape[0], left : left + peer.shape[1]] - peer)
    times = timing.interleave({"product": lambda p: ours(p, size), "peer": lambda p: theirs(p, size)}, [path], repeats)
    return {
        "bytes": path.stat().st_size, "product_ms": timing.spread(times["product"].wall, 1000),
        "peer_ms": timing.spread(times["peer"].wall, 1000), "ratio": timing.ratio(times["peer"], times["product"]),
        "ratio_cpu": timing.ratio(times["peer"], times["product"], "cpu"), "difference_max": float(apart.max()), "why": None,
    }  # fmt: skip


def _ingest(paths: list[Path], repeats: int, size: int, workers: int, counts: tuple[int, int]) -> dict[str, Any]:
    """Images a second through killable workers, and the highest resident memory of the main process and of any worker, MiB."""
    rates, peaks = [], {}
    for _ in range(repeats):
        began = time.perf_counter()
        done = _read(paths, min(counts), size, workers)
        rates.append(done / (time.perf_counter() - began))
    for count in counts:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            main, worker = pool.submit(_peak, paths, count, size, workers).result()
        peaks[str(count)] = {"main": main, "worker": worker}
    return {"workers": workers, "images_a_second": timing.spread(rates), "peak_mib": peaks}


def _read(paths: list[Path], count: int, size: int, workers: int) -> int:
    """Read `count` images, the files again and again."""
    jobs = ((paths[i % len(paths)], size) for i in range(count))
    done = 0
    for result in run_each(_one, jobs, workers, chunk=4):
        if isinstance(result, Lost):
            raise DataError(f"regen bench cxr: expected every synthetic file to read, got {result.reason}; check the codecs with regen doctor")
        done += 1
    return done


def _one(job: tuple[Path, int]) -> FloatArray:
    return ours(*job)


def _peak(paths: list[Path], count: int, size: int, workers: int) -> tuple[float, float]:
    _read(paths, count, size, workers)
    return timing.peak_mib(), timing.peak_mib(children=True)


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The result for people."""
    rows, columns = result["shape"]
    yield timing.machine_line(result["machine"])
    yield f"decode + window + resize to {result['size']}, synthetic DICOM {rows} x {columns}, {result['repeats']} repeats, median [lowest, highest]"
    for name, row in result["decode"].items():
        yield f"  {name:18s} {timing.shown(row['product_ms'], 0)} ms; " + (
            f"pydicom cannot: {row['why']}"
            if row["ratio"] is None
            else f"pydicom {timing.shown(row['peer_ms'], 0)} ms; ratio {timing.shown(row['ratio'])}, CPU {timing.shown(row['ratio_cpu'])}; "
            f"apart {row['difference_max']:.1e}"
        )
    if result["ingest"]:
        ingest = result["ingest"]
        yield f"  ingest: {timing.shown(ingest['images_a_second'], 1)} images a second with {ingest['workers']} workers, all syntaxes mixed"
        yield "  peak memory: " + ", ".join(f"{n} images {peak['main']:.0f} + {peak['worker']:.0f} MiB" for n, peak in ingest["peak_mib"].items())
