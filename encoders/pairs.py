"""Which X-ray belongs to which ECG: same subject, nearest in time, within a window.

units = pair_studies(ecg_rows, cxr_rows, window_days=60)      (n, 2) row numbers, -1 where a unit has only the other
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl


def pair_studies(ecg: pl.DataFrame, cxr: pl.DataFrame, window_days: float) -> npt.NDArray[np.int64]:
    """Every row of both tables once: pairs first, in the order of the X-rays, then X-rays alone, then ECGs alone.

    A pair is taken greedily, the nearest first; rows without a subject or a time pair with nobody, but one study that holds both is its
    own pair.
    """
    columns = ["study_id", "subject_id", "time"]
    e, c = (table.select(columns).with_row_index("row") for table in (ecg, cxr))
    both = c.join(e, on="subject_id", suffix="_e")
    same = pl.col("study_id") == pl.col("study_id_e")
    gap = pl.when(same).then(pl.duration(seconds=0)).otherwise((pl.col("time") - pl.col("time_e")).abs())
    near = both.with_columns(gap=gap).filter(pl.col("gap") <= timedelta(days=window_days)).sort("gap", "row", "row_e")
    taken_c: dict[int, int] = {}
    taken_e: set[int] = set()
    for row, other in near.select("row", "row_e").iter_rows():
        if row not in taken_c and other not in taken_e:
            taken_c[row] = other
            taken_e.add(other)
    units = [(taken_c[row], row) for row in sorted(taken_c)]
    units += [(-1, row) for row in range(len(cxr)) if row not in taken_c]
    units += [(row, -1) for row in range(len(ecg)) if row not in taken_e]
    return np.array(units, np.int64).reshape(-1, 2)
