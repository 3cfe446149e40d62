"""What the reports of a made-up visit say that no picture shows: what the chart, the clock and the report before tell.

    told_ecg(stay, known, coding, prior, rng)   {"recent nitroglycerin": "Recorded shortly after nitroglycerin."}
    told_cxr(stay, known, chest, prior, rng)  {"known heart failure": "History of heart failure, on furosemide."}
    stated("Sinus rhythm. Digitalis effect.")   {"digoxin effect"}

FACTS names each kind, the words by which stated() finds it, and the part of the context that alone reveals it. A fact is told only where that
part is charted; a comparison only where there is a prior, and only of what the prior's own report says. Every sentence reads back, through
the labelers of both pictures, to nothing but what the picture's own labels say. Synthetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from regen.data_prep.coding import Coding
from regen.data_prep.statements import BY_CODE
from regen.data_prep.synthetic_chest import Chest, observations
from regen.data_prep.synthetic_known import AF, HEART_FAILURE, LEADLESS, Known
from regen.data_prep.synthetic_stay import NITRATE_HOURS, Stay


@dataclass(frozen=True, slots=True)
class Fact:
    """phrase: what every sentence of the fact holds, and no other sentence, in lower case; source: 'medrecon', 'history', 'pyxis',
    'vitalsign' or 'priors', what has to reach the writer; timed: it takes the time of the row, not only the row.
    """

    name: str
    phrase: str
    source: str
    timed: bool = False


FACTS = (
    Fact("digoxin effect", "digitalis effect", "medrecon"),
    Fact("known atrial fibrillation", "paroxysmal af", "history"),
    Fact("known pacemaker", "leadless pacemaker", "history"),
    Fact("known heart failure", "history of heart failure", "history"),
    Fact("recent nitroglycerin", "nitroglycerin", "pyxis", timed=True),
    Fact("hypotension", "hypotension", "vitalsign"),
    Fact("desaturation", "desaturation", "vitalsign"),
    Fact("fever", "fever", "vitalsign"),
    Fact("comparison", "the prior", "priors"),
)
"""Every fact that only the context reveals."""
COMPARED = ("AFIB", "AFLT", "1AVB", "CLBBB", "CRBBB", "IRBBB", "LAFB", "LVH", "ASMI", "IMI", "LMI")
"""Statements that an ECG is compared with its prior for."""
EPISODE_FACTS = {"sbp": "hypotension", "o2sat": "desaturation", "temperature": "fever"}
_COMPARED_CXR = {"Pneumothorax": "Pneumothorax", "Edema": "Pulmonary edema", "Consolidation": "Consolidation", "Pleural Effusion": "Pleural effusion"}


def stated(text: str) -> set[str]:
    """Names of the facts of FACTS that a text states."""
    lower = text.lower()
    return {fact.name for fact in FACTS if fact.phrase in lower}


def told_ecg(stay: Stay, known: Known, coding: Coding, prior: Coding | None, rng: np.random.Generator) -> dict[str, str]:
    """Fact -> its sentence, in the order of the report. prior: the coding of the patient's earlier ECG."""
    codes = coding.statements.keys()
    first, second = (bool(coin < 0.5) for coin in rng.random(2))
    told: dict[str, str] = {}
    if not stay.reversed:
        if "digoxin" in known.medications and stay.reconciled and not codes & {"NORM", "PACE"}:
            told["digoxin effect"] = "Digitalis effect."
        if AF in known.history and not codes & {"AFIB", "AFLT", "PACE"}:
            drug = f" on {known.anticoagulant}" if stay.reconciled else ""
            told["known atrial fibrillation"] = f"Known paroxysmal AF{drug}, {'not in this trace' if first else 'none today'}."
        if LEADLESS in known.history:
            told["known pacemaker"] = f"Leadless pacemaker present by history, not pacing {'in this trace' if first else 'today'}."
        if stay.nitrate is not None and stay.nitrate < NITRATE_HOURS:
            told["recent nitroglycerin"] = "Recorded shortly after nitroglycerin." if second else "Nitroglycerin was given shortly before this trace."
        if stay.episode:
            name = EPISODE_FACTS[stay.episode[0]]
            told[name] = f"Recorded after an episode of {name}." if second else f"An episode of {name} preceded this trace."
    if prior is not None and (compared := _compare(prior.statements, coding.statements, {code: BY_CODE[code].label for code in COMPARED}, "ECG")):
        told["comparison"] = compared
    return told


def told_cxr(stay: Stay, known: Known, chest: Chest, prior: Chest | None, rng: np.random.Generator) -> dict[str, str]:
    """Fact -> its sentence, at the end of the impression. prior: the patient's earlier film."""
    first = bool(rng.random() < 0.5)
    told: dict[str, str] = {}
    if HEART_FAILURE in known.history and not stay.reversed:
        drug = (", on furosemide" if first else ", taking furosemide") if stay.reconciled else ""
        told["known heart failure"] = f"History of heart failure{drug}."
    if prior is not None:
        before, now = ({name: value for name, value in observations(c).items() if value > 0} for c in (prior, chest))
        if compared := _compare(before, now, _COMPARED_CXR, "radiograph"):
            told["comparison"] = compared
    return told


def _compare(before: Mapping[str, float], now: Mapping[str, float], words: dict[str, str], picture: str) -> str:
    """What of `words` came, stayed or went; doubtful ones are not compared. Empty where there is nothing to compare."""
    out = []
    for code, label in words.items():
        likelihoods = before.get(code, 0.0), now.get(code, 0.0)
        if likelihoods == (1, 1):
            out.append(f"{label} is unchanged since the prior {picture}.")
        elif likelihoods == (0, 1):
            out.append(f"{label} is new since the prior {picture}.")
        elif likelihoods == (1, 0):
            out.append(f"{label} is no longer seen, compared with the prior {picture}.")
    return " ".join(out)
