"""`regen eval leak`: is anything of the split that is scored also in what the bundle was made from?

    leaks = find_leaks("bundle", Path("data"), "test", "cpu")        [] but for information on a clean pair
    code = check_leaks("bundle", Path("data"), "test", None, "cpu")  prints a table; 1 where there is a leak, else 0

Recordings are compared by signal with the other splits of the prepared folder and, where the index was built from that very folder (the
digests agree), with every study of it that the index holds. Cases whose signals are not at hand are compared by their embeddings. Dates are
compared where the index has any. What none of this sees: regen.eval.leaks.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from regen.artifact import check_free_file, load_manifest, require_partner, write_text
from regen.bundle import find_bundle
from regen.data_prep.clean import remove_baseline, resample
from regen.data_prep.prepared import Prepared, study_from
from regen.encoders.recordings import FS
from regen.encoders.store import Towers
from regen.errors import DataError
from regen.eval import leaks as checks
from regen.eval.baselines import coarse, look
from regen.eval.leaks import KINDS, Leak
from regen.eval.table_views import rich_table
from regen.evaluating.ends import check_split, open_towers
from regen.index.archive import Archive
from regen.index.case_index import Asker, CaseIndex
from regen.progress import bar, console
from regen.study import FloatArray

logger = logging.getLogger(__name__)
_SHOWN = 20
"""Leaks of one kind that a terminal lists; the JSON holds all."""
_NEIGHBOURS = 10
"""Cases asked for a query when dates are checked."""
_TOGETHER = 64
"""Pairs whose full signals are read at once."""


def check_leaks(bundle: str, studies: Path, split: str, out: Path | None, device: str, force: bool = False) -> int:
    """Print what was found, and with `out` write it as JSON. Returns the exit code: 1 where there is a leak, 0 otherwise.

    Raises:
        ArtifactError: `out` exists without force.
    """
    if out is not None:
        check_free_file(out, force)
    found = find_leaks(bundle, studies, split, device)
    _print(found, split)
    if out is not None:
        counts = Counter(leak.kind for leak in found)
        plain = {"split": split, "counts": {kind: counts[kind] for kind in KINDS}, "leaks": [asdict(leak) | {"fails": leak.fails} for leak in found]}
        write_text(out, json.dumps(plain, indent=1, ensure_ascii=False) + "\n")
    return int(any(leak.fails for leak in found))


def find_leaks(bundle: str, studies: Path, split: str, device: str) -> list[Leak]:
    """Every check of regen.eval.leaks between a bundle's index and a split; also the splits of the prepared folder among themselves.

    Raises:
        ConfigError: a split that is none, or the training split.
        ArtifactError: a bundle or prepared folder that is damaged, or parts that do not belong together.
        DataError: the split has no study.
    """
    check_split(split)
    data, folder = Prepared.open(studies), find_bundle(bundle)
    towers, index = open_towers(bundle, device), Archive.open(folder / "index").part("ecg")
    require_partner(f"{folder}/index", index.fingerprint, towers.fingerprint, "regen index build, then regen bundle")
    rows = data.split(split, with_ecg=False)
    if not len(rows):
        raise DataError(f"{studies}: expected studies in the {split} split, got none; choose another split or prepare more studies")
    same_folder = load_manifest(folder / "index", "index")["inputs"].get("data") == data.digest
    found = [*checks.split_overlaps(data.studies), *checks.shared_ids(index.cases, rows), *checks.shared_wordings(index.cases, rows)]
    return [*found, *_of_recordings(data, rows.filter(pl.col("ecg_row").is_not_null()), index, towers, same_folder)]


def _of_recordings(data: Prepared, rows: pl.DataFrame, index: CaseIndex, towers: Towers, same_folder: bool) -> list[Leak]:
    """Signals, embeddings, dates: what takes the recordings themselves."""
    if not len(rows):
        return []
    seen = look(data, rows, towers, partial(bar, title="recordings of the split"))
    assert seen.embedding is not None
    ids = rows["study_id"].to_list()
    indexed = pl.col("study_id").is_in(index.cases["study_id"].to_list()) & same_folder
    there = data.studies.filter(pl.col("ecg_row").is_not_null() & ((pl.col("split") != rows["split"][0]) | indexed))
    found = _twins(data, rows, there, seen.signal)
    at_hand = set(there["study_id"].to_list()) if same_folder else set()
    others = index.cases["study_id"].to_list()
    blind = np.array([i for i, study in enumerate(others) if study not in at_hand], np.int64)
    found += checks.embedded_twins(ids, [others[i] for i in blind], seen.embedding, index.vectors[blind])
    askers = [Asker.of(study_from(row, None, data.fs)) for row in rows.to_dicts()]
    logger.info("%d recordings: %d others compared by signal, %d cases by embedding", len(rows), len(there), len(blind))
    if not index.cases["time"].count():
        logger.info("no case of the index is dated: dates were not compared")
    shown, _ = index.search(seen.embedding, _NEIGHBOURS, askers)
    return found + checks.later_cases(ids, rows["time"].to_list(), shown, index.cases)


def _twins(data: Prepared, rows: pl.DataFrame, there: pl.DataFrame, ours: FloatArray) -> list[Leak]:
    """Near-duplicates by the coarse signal, each checked on the full one."""
    theirs = np.zeros((len(there), ours.shape[1]), np.float32)
    for positions, raw in bar(data.signals(there), "recordings to compare with"):
        theirs[positions] = coarse(_cleaned(raw, data.fs))
    ids, others = rows["study_id"].to_list(), there["study_id"].to_list()
    pairs = [pair for pair in checks.candidates(ours, theirs, checks.LIKE_SIGNAL) if ids[pair[0]] != others[pair[1]]]
    return checks.twins(ids, others, _checked(data, rows, there, pairs))


def _checked(data: Prepared, rows: pl.DataFrame, there: pl.DataFrame, pairs: checks.Pairs) -> Iterator[tuple[int, int, float, float]]:
    """Each pair with the correlation of its full cleaned signals."""
    for start in range(0, len(pairs), _TOGETHER):
        part = pairs[start : start + _TOGETHER]
        ours, theirs = _full(data, rows, [i for i, _, _ in part]), _full(data, there, [j for _, j, _ in part])
        for (i, j, cosine), one, other in zip(part, ours, theirs, strict=True):
            yield i, j, cosine, checks.correlation(one, other)


def _full(data: Prepared, table: pl.DataFrame, rows: Sequence[int]) -> FloatArray:
    """(n, 12, time) cleaned mV at 100 Hz of these rows, which may repeat."""
    wanted = sorted(set(rows))
    signals = _cleaned(data.load(table[wanted]), data.fs)
    return signals[[wanted.index(row) for row in rows]]


def _cleaned(raw: FloatArray, fs: float) -> FloatArray:
    return remove_baseline(raw if fs == FS else resample(raw, fs, FS), FS)


def _print(found: Sequence[Leak], split: str) -> None:
    from rich.console import Console

    wide, counts = Console(width=190), Counter(leak.kind for leak in found)
    rows = ([kind, counts[kind], meaning] for kind, meaning in KINDS.items())
    wide.print(rich_table(f"leaks into {split}", ["kind", "found", "what it is"], rows, left=3, title_left=True))
    for kind in KINDS:
        listed = [leak for leak in found if leak.kind == kind]
        for leak in listed[:_SHOWN] if kind not in checks.INFORMATION else []:
            wide.print(f"{kind}: {leak.study_id} and {leak.other}: {leak.detail}", highlight=False, markup=False)
        if len(listed) > _SHOWN and kind not in checks.INFORMATION:
            wide.print(f"{kind}: and {len(listed) - _SHOWN} more; --out writes all of them", highlight=False, markup=False)
    failing = sum(leak.fails for leak in found)
    console.print(f"{failing} leaks; prepare the data again without them, and train and index anew" if failing else "no leak")
