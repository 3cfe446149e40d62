"""What flows between the stages: a study comes in, hits are found, a draft goes out.

    Study(study_id="00001", subject_id="15709", time=None, ecg=Ecg(signal, fs=500.0), report="Sinus rhythm. ...")
    Hit(study_id="20312", score=0.91, report="Sinus rhythm. Left axis deviation.")

Everything in a Study but its ids may be missing, and missing is None or NaN with a mask, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from regen.errors import DataError

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
DISCLAIMER = "Research software, not a medical device. Machine-written draft: a physician must check it."

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Ecg:
    """One 12-lead recording.

    signal: (12, time) float32, millivolts, rows in the order of LEADS, NaN where a lead is off or missing.
    fs: samples a second, Hz.
    """

    signal: FloatArray
    fs: float

    def __post_init__(self) -> None:
        if self.signal.ndim != 2 or self.signal.shape[0] != len(LEADS):
            raise DataError(
                f"Ecg: expected a signal of shape (12, time) in the order {', '.join(LEADS)}, got "
                f"{self.signal.shape}; map the recording's leads with regen.data_prep.leads.to_twelve"
            )
        if self.signal.dtype != np.float32:
            raise DataError(f"Ecg: expected float32 millivolts, got {self.signal.dtype}; convert with .astype('float32')")
        if not 0 < self.fs < float("inf"):
            raise DataError(f"Ecg: expected a sampling rate above 0 Hz, got {self.fs}")

    @property
    def seconds(self) -> float:
        return self.signal.shape[1] / self.fs

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """(12,) bool: the lead holds at least one sample."""
        return np.asarray(~np.isnan(self.signal).all(axis=1), np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class Cxr:
    """One view of a chest X-ray.

    pixels: (height, width) float32 in [0, 1], 0 = black = air, as the image hangs: never flipped.
    view: 'PA', 'AP', 'LATERAL', another word of the archive, or None. source: where it was read.
    """

    pixels: FloatArray
    view: str | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or 0 in self.pixels.shape or self.pixels.dtype != np.float32:
            raise DataError(f"Cxr: expected (height, width) float32 pixels, got {self.pixels.shape} {self.pixels.dtype}; read it as regen draft does")
        low, high = float(self.pixels.min()), float(self.pixels.max())
        if not (low >= 0 and high <= 1):
            raise DataError(f"Cxr: expected pixels in [0, 1], got {low:g} to {high:g}; window the image first")
        if low == high:
            raise DataError(f"Cxr: expected an image, got the value {low:g} in every pixel; check the export")


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the patient's context, seen from the study. code: as regen.data_prep.events has them.

    hours: before the study, None where the time is not known; value: in the code's unit, None where there is none or it is missing.
    """

    code: str
    hours: float | None = None
    value: float | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Study:
    """One visit to the machine: ids, when, what was recorded, and what is known beside it."""

    study_id: str
    subject_id: str | None = None
    time: datetime | None = None
    ecg: Ecg | None = None
    cxr: tuple[Cxr, ...] = ()
    """Views of one chest X-ray study."""
    report: str | None = None
    """What was written of it; of a chest X-ray the findings and the impression, in that order."""
    sections: dict[str, str] | None = None
    """Sections of a chest X-ray report by name: findings, impression, indication, comparison, technique, history."""
    statements: dict[str, float] | None = None
    """SCP statement code -> likelihood in [0, 1]; None where nobody coded the study."""
    observations: dict[str, float] | None = None
    """CheXpert observation -> 1 present, 0.5 uncertain, 0 absent; not mentioned ones are left out. None where nobody labelled the study."""
    age: float | None = None
    sex: str | None = None
    """'female', 'male' or None."""
    language: str | None = None
    source: str = ""
    priors: tuple[str, ...] = ()
    """Earlier reports of the subject, older first."""
    events: tuple[Event, ...] = ()
    """What was charted before the study: triage, vital signs, medications, diagnoses, complaint, indication, history."""
    flags: tuple[str, ...] = ()
    """What the reader had to do or saw: 'lead_missing:V6', 'cropped', 'padded' ..."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One retrieved case. score: cosine in [-1, 1], higher is closer; never a distance."""

    study_id: str
    score: float
    report: str
    statements: dict[str, float] = field(default_factory=dict)
    subject_id: str | None = None
    rank: int = 0
    language: str | None = None
    observations: dict[str, float] = field(default_factory=dict)
    allowed: str = ""
    """Why the query may see it: what the filters on study, subject and time found."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A statement's calibrated probability beside the threshold that the bundle stores for it."""

    code: str
    label: str
    probability: float
    threshold: float
    positive: bool
    """At or above the threshold, and not ruled out by a measurement or by a likelier finding that excludes it."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A retrieved case that states the same thing."""

    study_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a draft and what holds it up.

    status: 'supported', 'uncertain' or 'contradicted' (contradicted ones are kept out of the report and listed).
    finding: the SCP code of what it states, None where it states none.
    probability: the calibrated probability of what the sentence claims, None where nothing measures it.
    """

    text: str
    status: str
    finding: str | None = None
    probability: float | None = None
    evidence: tuple[Evidence, ...] = ()
    measured: str | None = None
    """The measurement that supports it ('frontal axis -52 degrees'), where one does."""
    reason: str | None = None
    """Why a contradicted sentence was taken out, or the measurement that leaves a kept one in doubt."""
    told: float | None = None
    """Nats a token by which the patient's context made the sentence likelier; None where no context was read."""
    only_told: bool = False
    """Nothing but the context holds it up: it was told, and not seen in the recording."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A drafted report. `report` is the kept sentences in order; `dropped` is what the guards took out, and why."""

    study_id: str
    subject_id: str | None
    report: str
    sentences: tuple[Sentence, ...]
    findings: tuple[Finding, ...]
    neighbours: tuple[Hit, ...]
    flags: tuple[str, ...]
    measured: dict[str, float | None]
    bundle: str
    timing_ms: dict[str, float]
    dropped: tuple[Sentence, ...] = ()
    sections: dict[str, str] = field(default_factory=dict)
    """Of a chest X-ray: 'findings' and 'impression'; empty for an ECG."""
    disclaimer: str = DISCLAIMER

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of `regen draft`: plain numbers and strings only."""
        out = _row(self)
        for name in ("sentences", "dropped"):
            out[name] = [_sentence_row(s) for s in out[name]]
        out["findings"] = [_row(f) for f in self.findings]
        out["neighbours"] = [{"study_id": h.study_id, "score": h.score, "report": h.report} for h in self.neighbours]
        return out


def _sentence_row(sentence: Sentence) -> dict[str, Any]:
    """What only drafts with context have is left out of the others."""
    row = _row(sentence) | {"evidence": [_row(e) for e in sentence.evidence]}
    return row if sentence.told is not None or sentence.only_told else {k: v for k, v in row.items() if k not in ("told", "only_told")}


def _row(item: Any) -> dict[str, Any]:
    """A slotted dataclass as a dict of its fields; dataclasses.asdict copies all they hold, ten times as slowly."""
    return {name: getattr(item, name) for name in item.__slots__}
