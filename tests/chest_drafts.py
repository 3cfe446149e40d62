"""Drafts of chest X-rays from hand-made witnesses. Synthetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from regen.data_prep.chexpert import OBSERVATIONS
from regen.generators.chest_writer import ChestRequest, ChestWriter
from regen.index.case_index import CaseIndex
from regen.index.cases import CASES
from regen.study import Cxr, Draft, FloatArray, Sentence, Study

THRESHOLDS = np.full(14, 0.4, np.float32)
NORMAL = (
    "Heart size is normal. Mediastinal contours are normal. No pulmonary edema. No focal consolidation. No pleural effusion or pneumothorax. "
    "Bony structures are intact. No acute cardiopulmonary process."
)
LEFT = (
    "Heart size is normal. Mediastinal contours are normal. No pulmonary edema. No focal consolidation. Small left pleural effusion. "
    "No pneumothorax. Bony structures are intact. Small left pleural effusion."
)
RIGHT = LEFT.replace("left", "right")


def index_of(reports: Sequence[str], observations: Sequence[dict[str, float] | None] | None = None) -> CaseIndex:
    labels = observations or [None] * len(reports)
    rows = [
        {name: None for name in CASES}
        | {"study_id": f"case{i}", "subject_id": f"other{i}", "report": report, "language": "en", "source": "hand-made"}
        | {"observations": None if known is None else [{"code": k, "likelihood": v} for k, v in known.items()]}
        for i, (report, known) in enumerate(zip(reports, labels, strict=True))
    ]
    vectors = np.tile(np.eye(1, 4, dtype=np.float32), (len(rows), 1))
    return CaseIndex(pl.DataFrame(rows, CASES), vectors, vectors, "hand-made", "torch")


def chances(**known: float) -> FloatArray:
    """0.02 everywhere but for the observations named (with _ for a blank); 'No Finding' follows."""
    named = {name.replace("_", " "): p for name, p in known.items()}
    normal = 0.05 if any(p >= 0.4 for p in named.values()) else 0.95
    return np.array([named.get(name, normal if name == "No Finding" else 0.02) for name in OBSERVATIONS], np.float32)


def draft(reports: Sequence[str], probabilities: FloatArray, study: Study | None = None, step: float = 0.01, **changes: float) -> Draft:
    """Witness i lies at the cosine 0.9 - i * step."""
    writer = ChestWriter(index_of(reports) if reports else index_of([NORMAL]), THRESHOLDS, **changes)  # type: ignore[arg-type]
    scores = np.array([0.9 - i * step for i in range(len(reports))], np.float32)
    study = study or Study("query", "me", cxr=(Cxr(np.linspace(0, 1, 4, dtype=np.float32).reshape(2, 2), "PA"),))
    (out,) = writer.write([ChestRequest(study, probabilities, np.arange(len(reports)), scores, allowed="another subject")])
    return out


def dropped(out: Draft, word: str) -> Sentence:
    (found,) = [s for s in out.dropped if word in s.text]
    return found


EFFUSION = chances(Pleural_Effusion=0.9)
