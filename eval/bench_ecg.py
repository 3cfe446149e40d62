"""`regen bench ecg`: reading and cleaning against wfdb and scipy, and the encoder against the matrix products it is made of.

The peers are what one would write: `wfdb.rdrecord` and a loop over the leads with `resample_poly` (same window) and `sosfiltfilt`; and
one matrix product a layer, of that layer's shape, in the number format that the encoder computes in. Attention's own products and all
that is no product count as the encoder's overhead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.signal
import torch
from torch import Tensor, nn

from regen.data_prep.clean import BASELINE_HZ, BASELINE_ORDER, low_pass, ratio, remove_baseline, standard
from regen.data_prep.leads import lead_of
from regen.data_prep.readers import find_files, read_study
from regen.encoders.ecg import EcgConfig, EcgEncoder
from regen.encoders.inference import FastEcg
from regen.encoders.store import load_towers
from regen.encoders.training import has_fast_bf16
from regen.errors import DataError
from regen.eval import timing
from regen.study import LEADS, FloatArray

HZ, SECONDS = 500.0, 10.0
"""What is read: PTB-XL's high-rate records."""
RATE = 100.0
TARGETS = {"clean": 15.0, "encoder": 0.5}
"""Reading and cleaning: times the peer. Encoder: share of the matrix rate."""
_BATCH = 64


def bench(root: Path, records: int, repeats: int, encoder: Path | None = None) -> dict[str, Any]:
    """Both comparisons. root: a folder of WFDB records; encoder: an encoder folder, None for the default shape with random weights.

    Raises:
        DataError: no 10-second record at 500 Hz below root.
    """
    paths = find_records(root, records)
    cleaned = [paths[i : i + _BATCH] for i in range(0, len(paths), _BATCH)]
    times = timing.interleave({"product": read_and_clean, "peer": read_and_clean_by_lead}, cleaned, repeats)
    each = 1000 / len(paths)
    return {
        "machine": timing.machine(),
        "clean": {
            "records": len(paths), "repeats": repeats, "product_ms": timing.spread(times["product"].wall, each),
            "peer_ms": timing.spread(times["peer"].wall, each), "ratio": timing.ratio(times["peer"], times["product"]),
            "ratio_cpu": timing.ratio(times["peer"], times["product"], "cpu"), **differences(cleaned),
        },
        "encoder": bench_encoder(_encoder(encoder), read_and_clean((paths * _BATCH)[:_BATCH]), repeats),
    }  # fmt: skip


def find_records(source: Path | Iterable[Path], records: int) -> list[Path]:
    """The first readable 12-lead records of 10 s at 500 Hz, of these files or below a folder (in its records500/ where there is one).

    Raises:
        DataError: there is none.
    """
    who = source if isinstance(source, Path) else "prepared records"
    if isinstance(source, Path):
        source = find_files([source / "records500" if (source / "records500").is_dir() else source])
    found: list[Path] = []
    for path in source:
        if len(found) == records:
            break
        try:
            ecg = read_study(path).ecg if path.suffix == ".hea" else None
        except DataError:
            continue
        if ecg is not None and ecg.fs == HZ and ecg.signal.shape[1] == HZ * SECONDS and ecg.present.all():
            found.append(path)
    if not found:
        raise DataError(f"{who}: expected 12-lead WFDB records of 10 s at 500 Hz, found none; give PTB-XL's folder as --root")
    return found


def read_and_clean(paths: list[Path]) -> FloatArray:
    """As the pipeline does it: (n, 12, 1000) mV."""
    raw = [standard(ecg, RATE)[0] for path in paths if (ecg := read_study(path).ecg) is not None]
    return remove_baseline(np.stack(raw), RATE)


def read_and_clean_by_lead(paths: list[Path]) -> npt.NDArray[np.float64]:
    """With wfdb and scipy: (n, 12, 1000) mV."""
    return np.stack([by_lead(path)[1] for path in paths])


def by_lead(path: Path) -> npt.NDArray[np.float64]:
    """One record with wfdb and scipy: (2, 12, 1000) mV, at 100 Hz with its baseline and without."""
    import wfdb

    up, down = ratio(HZ, RATE)
    window = low_pass(up, down, HZ)
    high_pass = scipy.signal.butter(BASELINE_ORDER, BASELINE_HZ, "highpass", fs=RATE, output="sos")
    out = np.empty((2, len(LEADS), round(RATE * SECONDS)))
    record: Any = wfdb.rdrecord(str(path.with_suffix("")))
    for name, lead in zip(record.sig_name, record.p_signal.T, strict=True):
        row = LEADS.index(lead_of(name) or name)
        out[0, row] = scipy.signal.resample_poly(lead, up, down, window=window, padtype="edge")
        out[1, row] = scipy.signal.sosfiltfilt(high_pass, out[0, row], padlen=int(RATE))
    return out


def differences(chunks: list[list[Path]]) -> dict[str, float]:
    """How far the two outputs lie apart, mV: largest and 99.9th percentile."""
    apart = np.concatenate([np.abs(read_and_clean(paths) - read_and_clean_by_lead(paths)).ravel() for paths in chunks])
    apart = apart[np.isfinite(apart)]
    return {"compared": len(apart), "difference_max_mv": float(apart.max()), "difference_p999_mv": float(np.quantile(apart, 0.999))}


@dataclass(frozen=True, slots=True)
class Product:
    """One layer as a matrix product: (rows, inner) @ (inner, columns)."""

    layer: str
    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        return 2 * self.rows * self.inner * self.columns


def products(encoder: EcgEncoder, batch: int, samples: int) -> list[Product]:
    """Every convolution and linear layer that a recording passes on its way to its tokens, by shape."""
    found: list[Product] = []

    def note(name: str, layer: nn.Conv1d | nn.Linear) -> Any:
        def hook(_: nn.Module, __: tuple[Tensor, ...], out: Tensor) -> None:
            inner, columns = layer.weight[0].numel(), layer.weight.shape[0]
            found.append(Product(name, batch * (out.numel() // columns), inner, columns))

        return layer.register_forward_hook(hook)

    hooks = [note(name, layer) for name, layer in encoder.named_modules() if isinstance(layer, (nn.Conv1d, nn.Linear))]
    with torch.no_grad():
        encoder.tokens(torch.zeros(1, len(LEADS), samples))
    for hook in hooks:
        hook.remove()
    return found


def bench_encoder(encoder: EcgEncoder, signals: FloatArray, repeats: int) -> dict[str, Any]:
    """The encoder's forward pass at batch 64 against the products of its layers alone. signals: (64, 12, 1000) cleaned mV."""
    bf16 = has_fast_bf16(torch.device("cpu"))
    dtype = torch.bfloat16 if bf16 else torch.float32
    signal = torch.from_numpy(signals)
    layers = products(encoder, len(signal), signal.shape[2])
    shapes = [((p.rows, p.inner), (p.inner, p.columns), (p.rows, p.columns)) for p in layers]
    operands = [(torch.randn(left).to(dtype), torch.randn(right[::-1]).to(dtype).T, torch.empty(out, dtype=dtype)) for left, right, out in shapes]
    fast = FastEcg(encoder) if bf16 else None

    def forward(_: int) -> Tensor:
        states, mask = fast.tokens(signal) if fast else encoder.tokens(signal)
        return encoder.embed(encoder.features(states.float(), mask))

    def matrices(_: int) -> None:
        for left, right, out in operands:
            torch.mm(left, right, out=out)

    parts = {"encoder": forward, "products": matrices, "float32": lambda _: encoder(signal)}
    with torch.no_grad():
        times = timing.interleave(parts, range(3), repeats)
        cosine = float((forward(0) * encoder(signal)).sum(1).min())
    flops = 3 * sum(p.flops for p in layers)
    return {
        "batch": len(signal), "repeats": repeats, "dtype": str(dtype).removeprefix("torch."), "gflop_a_record": flops / 3e9 / len(signal),
        "encoder_ms": timing.spread(times["encoder"].wall, 1000 / 3 / len(signal)),
        "encoder_gflops": timing.spread([flops / s / 1e9 for s in times["encoder"].wall]),
        "products_gflops": timing.spread([flops / s / 1e9 for s in times["products"].wall]),
        "share": timing.ratio(times["products"], times["encoder"]), "share_cpu": timing.ratio(times["products"], times["encoder"], "cpu"),
        "float32_ratio": timing.ratio(times["float32"], times["encoder"]), "cosine_to_float32": cosine,
    }  # fmt: skip


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The result for people."""
    clean, encoder = result["clean"], result["encoder"]
    yield timing.machine_line(result["machine"])
    yield f"reading + cleaning, {clean['records']} records of 12 x 5000 samples, {clean['repeats']} repeats, median [lowest, highest]"
    yield f"  regen             {timing.shown(clean['product_ms'])} ms a record"
    yield f"  wfdb + scipy      {timing.shown(clean['peer_ms'])} ms a record"
    yield (
        f"  ratio             {timing.shown(clean['ratio'], 1)} by the clock, {timing.shown(clean['ratio_cpu'], 1)} in CPU time; "
        f"wanted {TARGETS['clean']:g}"
    )
    yield (
        f"  largest difference {clean['difference_max_mv']:.1e} mV, 99.9 % within {clean['difference_p999_mv']:.1e} mV, "
        f"{clean['compared']} samples of {clean['records']} records"
    )
    yield f"encoder, batch {encoder['batch']}, {encoder['dtype']}, {encoder['gflop_a_record']:.2f} GFLOP a record, {encoder['repeats']} repeats"
    yield f"  encoder           {timing.shown(encoder['encoder_ms'])} ms a record, {timing.shown(encoder['encoder_gflops'], 0)} GFLOP/s"
    yield f"  products alone    {timing.shown(encoder['products_gflops'], 0)} GFLOP/s"
    yield (
        f"  share             {timing.shown(encoder['share'])} by the clock, {timing.shown(encoder['share_cpu'])} in CPU time; "
        f"wanted {TARGETS['encoder']:g}"
    )
    yield f"  float32           {timing.shown(encoder['float32_ratio'], 1)} times as long; least cosine to it {encoder['cosine_to_float32']:.6f}"


def _encoder(folder: Path | None) -> EcgEncoder:
    if folder is not None:
        return load_towers(folder).ecg
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return EcgEncoder(EcgConfig()).eval()
