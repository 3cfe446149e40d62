"""The emergency stays of the made-up cohort: tables in MIMIC-IV-ED 2.2's layout, and the truth that tests and evaluation compare with.

    write_ed("ed", n=200, seed=0)       ed/edstays.csv.gz, triage, vitalsign, medrecon, pyxis, diagnosis: one stay for each visit of entries(200, 0)
    planted(0, 7)                       ("sbp", 3): systolic pressure fell out of its range three hours before the ECG; None where nothing did
    facts(0, 7)["ecg"].context          {"hypotension": "Recorded after an episode of hypotension."}: told, and not seen in the trace
    facts(0, 7)["ecg"].signal           ("SR", "LVH"): seen in the trace

Studies of the same cohort made with modality 'ed' (regen.data_prep.synthetic_cohort.entries) tell these facts. Synthetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regen.data_prep.synthetic_chest import observations
from regen.data_prep.synthetic_cohort import emergency, told, visit
from regen.data_prep.synthetic_ed_tables import Rows, chart, write_tables


@dataclass(frozen=True, slots=True)
class Told:
    """What one report states. context: fact (regen.data_prep.synthetic_told.FACTS) -> its sentence; signal: the picture's statements or
    positive observations.
    """

    context: dict[str, str]
    signal: tuple[str, ...]


def write_ed(folder: str | Path, n: int, seed: int) -> None:
    """The six tables of the stays of n visits. The same n and seed give the same bytes; stays of fewer visits begin the tables of more."""
    write_tables(folder, _charted(n, seed))


def planted(seed: int, number: int) -> tuple[str, int] | None:
    """(column of vitalsign, whole hours before the ECG) of the episode that the ECG's report tells of; None where it tells of none."""
    stay, _ = emergency(seed, number)
    return None if stay.reversed else stay.episode


def facts(seed: int, number: int) -> dict[str, Told]:
    """'ecg' and 'cxr' -> what the reports of a visit state, by what reveals it."""
    state = visit(seed, number)
    ecg, cxr = told(seed, number)
    return {
        "ecg": Told(ecg, tuple(state.coding.statements)),
        "cxr": Told(cxr, tuple(name for name, value in observations(state.chest).items() if value > 0)),
    }


def _charted(n: int, seed: int) -> Iterator[Rows]:
    for number in range(n):
        state = visit(seed, number)
        stay, known = emergency(seed, number)
        rhythm = next(iter(state.coding.statements))
        yield chart(stay, known, state.patient, rhythm, f"synthetic-{seed}-{number:05d}-stay", np.random.default_rng([seed, number, 8]))
