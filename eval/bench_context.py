"""`regen bench context`: an ED archive in MIMIC-IV-ED's layout joined to studies, against the same join in pandas.

The archive is made up: as many stays as asked for, two a subject, one study in each, with the tables' usual numbers of rows, and units, texts and
signs gone wrong here and there. Both sides read the CSV files, check and convert vital signs, keep what came before each study, drop duplicates
and write one parquet file; the product also counts every refusal, hashes the folder and publishes it. Both must write the same rows. Every run
has a process of its own, whose highest memory is printed.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from regen.artifact import new_artifact
from regen.data_prep import mimic_ed
from regen.data_prep.prepared import SCHEMA, Prepared
from regen.data_prep.vitals import VITALS
from regen.eval import timing

_ROWS_A_STAY = {"vitalsign": 3.7, "medrecon": 7.0, "pyxis": 3.7, "diagnosis": 2.1}
"""About those of MIMIC-IV-ED 2.2: 425 thousand stays, 1.6 M vitalsign, 3.0 M medrecon, 1.6 M pyxis, 0.9 M diagnosis rows."""
_CENTRES = {
    "temperature": (98.4, 1.0),
    "heartrate": (86, 18),
    "resprate": (18, 3),
    "o2sat": (97, 2),
    "sbp": (132, 22),
    "dbp": (76, 14),
    "pain": (4, 3),
}
_COLUMNS = {"temperature": "temperature", "heartrate": "heart_rate", "resprate": "resp_rate", "o2sat": "spo2", "sbp": "sbp", "dbp": "dbp",
            "pain": "pain", "acuity": "acuity"}  # fmt: skip


def bench(stays: int, repeats: int) -> dict[str, Any]:
    """Both sides in turn, each run in a new process; the product alone on a quarter of the stays, for the growth of its memory."""
    peer = _pandas_version()
    with tempfile.TemporaryDirectory() as folder:
        whole, part = Path(folder) / "whole", Path(folder) / "part"
        rows = make(whole, stays)
        make(part, max(stays // 4, 1))
        times = {name: timing.Times() for name in (("product", "peer") if peer else ("product",))}
        peaks: dict[str, float] = {}
        for _ in range(repeats):
            for name, spent in times.items():
                wall, cpu, peak = _apart(run_product if name == "product" else run_peer, whole)
                spent.wall.append(wall)
                spent.cpu.append(cpu)
                peaks[name] = max(peak, peaks.get(name, 0.0))
        same = _same(whole) if peer else None
        peaks["product on a quarter"] = _apart(run_product, part)[2]
    return {
        "machine": timing.machine(), "stays": stays, "rows": rows, "repeats": repeats, "pandas": peer, "same": same,
        "seconds": {name: timing.spread(t.wall) for name, t in times.items()},
        "cpu_seconds": {name: timing.spread(t.cpu) for name, t in times.items()},
        "rows_per_second": {name: timing.spread([rows / wall for wall in t.wall]) for name, t in times.items()},
        "ratio": {clock: timing.ratio(times["peer"], times["product"], clock) for clock in ("wall", "cpu")} if peer else None, "peak_mib": peaks,
    }  # fmt: skip


def make(folder: Path, stays: int, seed: int = 0) -> int:
    """Write folder/ed (the six tables) and folder/data (a prepared folder of one study a stay, without recordings); the number of table rows."""
    rng = np.random.default_rng(seed)
    ed = folder / "ed"
    ed.mkdir(parents=True)
    base = np.datetime64("2150-01-01T00:00:00") + rng.integers(0, 20 * 365 * 86400, stays).astype("timedelta64[s]")
    length = rng.integers(2 * 3600, 12 * 3600, stays)
    subject, stay = 10_000_000 + np.arange(stays) // 2, 30_000_000 + np.arange(stays)
    written = _write(ed / "edstays.csv", {"subject_id": subject, "stay_id": stay, "intime": base, "outtime": base + length.astype("timedelta64[s]")})
    triage = {"subject_id": subject, "stay_id": stay, **_vitals(rng, stays), "acuity": rng.integers(1, 6, stays).astype(str)}
    complaints = np.array(["Chest pain", "Dyspnea", "Abd pain", "s/p Fall", "Syncope, Dizziness", "Weakness"])
    written += _write(ed / "triage.csv", triage | {"chiefcomplaint": complaints[rng.integers(0, 6, stays)]})
    for table, mean in _ROWS_A_STAY.items():
        of = np.sort(rng.integers(0, stays, round(stays * mean)))
        keys = {"subject_id": subject[of], "stay_id": stay[of]}
        charted = base[of] + (rng.random(len(of)) * length[of]).astype("timedelta64[s]")
        written += _write(ed / f"{table}.csv", keys | _columns(rng, table, len(of), charted))
    _studies(folder / "data", subject, base + (rng.random(stays) * length).astype("timedelta64[s]"))
    return written


def _vitals(rng: np.random.Generator, n: int) -> dict[str, Any]:
    """Text cells: some empty, some temperatures in Celsius, some pains in words, some pressures negative."""
    out: dict[str, Any] = {}
    for name, (mean, spread) in _CENTRES.items():
        values = rng.normal(mean, spread, n)
        values = np.where(rng.random(n) < 0.01, (values - 32) / 1.8, values) if name == "temperature" else np.clip(np.round(values), 0, None)
        values = np.where(rng.random(n) < 0.001, -values, values) if name == "sbp" else values
        text = np.char.mod("%.1f", values) if name == "temperature" else np.char.mod("%d", values)
        text = np.where(rng.random(n) < 0.02, "unable", text) if name == "pain" else text
        out[name] = np.where(rng.random(n) < 0.1, "", text)
    return out


def _columns(rng: np.random.Generator, table: str, n: int, charted: Any) -> dict[str, Any]:
    drugs = np.array([f"Drug {i:03d} {i % 7 * 25 + 25} MG" for i in range(400)])[rng.integers(0, 400, n)]
    if table == "vitalsign":
        vitals = _vitals(rng, n)
        return {"charttime": charted, **vitals, "rhythm": np.where(rng.random(n) < 0.05, "Sinus Rhythm", "")}
    if table == "diagnosis":
        code = np.char.mod("I%d", rng.integers(100, 999, n))
        return {"seq_num": rng.integers(1, 5, n), "icd_code": code, "icd_version": np.full(n, 10), "icd_title": np.char.add("TITLE OF ", code)}
    rank = (rng.random(n) < 0.2).astype(int) + 1
    if table == "pyxis":
        return {"charttime": charted, "med_rn": np.ones(n, int), "name": drugs, "gsn_rn": rank, "gsn": rng.integers(1, 9999, n)}
    return {"charttime": charted, "name": drugs, "gsn": rng.integers(1, 9999, n), "ndc": rng.integers(1, 9999, n), "etc_rn": rank,
            "etccode": rng.integers(1, 9999, n), "etcdescription": np.char.add("Class of ", drugs)}  # fmt: skip


def _write(path: Path, columns: dict[str, Any]) -> int:
    frame = pl.DataFrame({name: c.astype("datetime64[ms]") if c.dtype.kind == "M" else c for name, c in columns.items()})
    frame.write_csv(path, datetime_format="%Y-%m-%d %H:%M:%S")
    return len(frame)


def _studies(folder: Path, subject: Any, times: Any) -> None:
    rows = pl.DataFrame({"subject_id": subject, "time": times.astype("datetime64[ms]")}).with_row_index("study_id")
    have = rows.select(pl.col("study_id").cast(pl.String), pl.col("subject_id").cast(pl.String), pl.col("time").cast(pl.Datetime("us")))
    studies = have.select(*[(pl.col(c) if c in have.columns else pl.lit(None, kind)).alias(c) for c, kind in SCHEMA.items()])
    with new_artifact(folder, "prepare", {"source": "made up"}, {}) as work:
        studies.with_columns(pl.lit("train").alias("split")).write_parquet(work.path / "studies.parquet")
        work.manifest |= {"fs": 100.0, "pixels": 0, "studies": len(studies), "failed": 0}


def run_product(folder: Path) -> None:
    mimic_ed.prepare(folder / "ed", Prepared.open(folder / "data"), folder / "product", force=True)


def run_peer(folder: Path) -> None:
    """The same rows with pandas, table by table."""
    import pandas as pd

    ed = folder / "ed"
    ids = {"subject_id": str, "stay_id": str}
    stays = pd.read_csv(ed / "edstays.csv", dtype=ids, parse_dates=["intime", "outtime"])
    studies = pd.read_parquet(folder / "data" / "studies.parquet", columns=["study_id", "subject_id", "time"]).rename(columns={"time": "at"})
    inside = studies.merge(stays, on="subject_id").query("intime < at and at < outtime")
    inside = inside.sort_values("intime").groupby("study_id").last().reset_index()[["study_id", "subject_id", "stay_id", "at"]]
    owners = stays[["stay_id", "subject_id", "intime", "outtime"]]
    parts = []
    for table in ("triage", *_ROWS_A_STAY):
        timed = ["charttime"] if table in ("vitalsign", "medrecon", "pyxis") else []
        rows = pd.read_csv(ed / f"{table}.csv", dtype=ids | {"pain": str}, parse_dates=timed).merge(owners, on=["stay_id", "subject_id"])
        rows["time"] = rows["charttime" if timed else "intime" if table == "triage" else "outtime"]
        long = _pandas_rows(rows, table)
        joined = long.merge(studies, on="subject_id") if table == "diagnosis" else long.merge(inside, on=["stay_id", "subject_id"])
        parts.append(joined[joined["time"] < joined["at"]])
    columns = ["study_id", "subject_id", "time", "code", "numeric_value", "text_value"]
    events = pd.concat(parts)[columns].drop_duplicates().sort_values(["study_id", "time", "code", "text_value", "numeric_value"])
    events.to_parquet(folder / "peer.parquet", index=False)


def _pandas_rows(rows: Any, table: str) -> Any:
    import pandas as pd

    keys = ["subject_id", "stay_id", "time"]
    if table == "diagnosis":
        named = rows.assign(code="DX//icd10//" + rows["icd_code"].str.lower(), text_value=rows["icd_title"], numeric_value=np.float32("nan"))
        return named[[*keys, "code", "numeric_value", "text_value"]]
    if table in ("medrecon", "pyxis"):
        home = table == "medrecon"
        rows = rows[rows["etc_rn" if home else "gsn_rn"] == 1]
        code = ("MED//home//" if home else "MED//given//") + rows["name"].str.lower().str.split().str.join(" ")
        text = rows["etcdescription"].str.lower() if home else None
        return rows.assign(code=code, text_value=text, numeric_value=np.float32("nan"))[[*keys, "code", "numeric_value", "text_value"]]
    names = {column: name for column, name in _COLUMNS.items() if column in rows}
    long = rows.melt(keys, list(names), "column", "raw").dropna(subset=["raw"])
    value = pd.to_numeric(long["raw"], errors="coerce")
    long, value = long[value >= 0], value[value >= 0]
    name = long["column"].map(names)
    low, high = name.map({n: v.low for n, v in VITALS.items()}), name.map({n: v.high for n, v in VITALS.items()})
    fahrenheit = (value - 32) / 1.8
    value = value.where((name != "temperature") | ~fahrenheit.between(low, high), fahrenheit)
    long["numeric_value"] = value.where(value.between(low, high)).astype("float32")
    long["code"] = ("TRIAGE//" if table == "triage" else "VITAL//") + name
    column, code = ("chiefcomplaint", "COMPLAINT") if table == "triage" else ("rhythm", "RHYTHM")
    told = rows.dropna(subset=[column]).assign(code=code, text_value=rows[column], numeric_value=np.float32("nan"))
    return pd.concat([long.assign(text_value=None), told])[[*keys, "code", "numeric_value", "text_value"]]


def _same(folder: Path) -> bool:
    """Both sides wrote the same rows."""
    ours = pl.read_parquet(folder / "product" / "events.parquet")
    theirs = pl.read_parquet(folder / "peer.parquet").select(*[pl.col(c).cast(kind) for c, kind in ours.schema.items()]).fill_nan(None)
    order = list(ours.columns)
    rounded = pl.col("numeric_value").round(3)
    return ours.with_columns(rounded).sort(order).equals(theirs.with_columns(rounded).sort(order))


def _pandas_version() -> str | None:
    try:
        import pandas
        import pyarrow
    except ImportError:
        return None
    return f"{pandas.__version__} with pyarrow {pyarrow.__version__}"


def _apart(run: Callable[[Path], None], folder: Path) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and highest resident memory (MiB) of a run in a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, run, folder).result()


def _measured(run: Callable[[Path], None], folder: Path) -> tuple[float, float, float]:
    if run is run_peer:
        import pandas  # noqa: F401  (importing is not what is timed)
    wall, cpu = time.perf_counter(), time.process_time()
    run(folder)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return wall, cpu, timing.peak_mib()


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The result for people."""
    yield timing.machine_line(result["machine"])
    yield f"context, {result['stays']} stays, {result['rows']} table rows, {result['repeats']} repeats, median [lowest, highest]"
    for name, label in (("product", "regen"), ("peer", f"pandas {result['pandas']}")):
        if name in result["seconds"]:
            seconds, cpu = timing.shown(result["seconds"][name]), timing.shown(result["cpu_seconds"][name])
            yield f"  {label:34s} {timing.shown(result['rows_per_second'][name], 0)} rows/s; {seconds} s, of CPU {cpu} s"
    if result["ratio"]:
        wall, cpu = (timing.shown(result["ratio"][clock]) for clock in ("wall", "cpu"))
        yield f"  {'times the peer':34s} {wall} by the clock, {cpu} by CPU time; {'the same rows' if result['same'] else 'DIFFERENT ROWS'}"
    else:
        yield "  no pandas here to compare with; pip install pandas pyarrow"
    yield "  peak memory                        " + ", ".join(f"{name} {mib:.0f} MiB" for name, mib in result["peak_mib"].items())
