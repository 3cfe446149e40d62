"""The writer of chest X-ray drafts: sentences that retrieved reports hold, each checked before it is kept.

    writer = ChestWriter(archive.part("cxr"), thresholds)
    drafts = writer.write([ChestRequest(study, probabilities, ids, scores)])
    drafts[0].sections["impression"]        "Small left pleural effusion."

The reports of the nearest cases are witnesses. One weighs exp(cosine / temperature) times the squared expected F1 of what it states with the
study's probabilities, as in regen.generators.consensus. The findings of the heaviest are the frame; regen.generators.chest_guards takes out
what the probabilities or most witnesses speak against; findings left unsaid are added in the words that most witnesses use, and so are the
absences that radiologists state routinely. The impression lists the findings, the likeliest first. Nothing is written that is not in a
witness's report or in chest_page's PLAIN and ABSENT, and the study's own report is never read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from regen.data_prep.chexpert import NO_FINDING, OBSERVATIONS, PATHOLOGIES
from regen.data_prep.sections import report_of
from regen.data_prep.views import is_lateral
from regen.errors import DataError
from regen.generators.chest_claims import Claim, Told, read_report
from regen.generators.chest_guards import Basis, Witness
from regen.generators.chest_page import Page, joined
from regen.generators.consensus import POWER, TEMPERATURE
from regen.generators.evidence import expected_f1
from regen.index.case_index import CaseIndex
from regen.index.cases import hits_from
from regen.study import Draft, Finding, FloatArray, Hit, Study

_SHOWN = 5
"""Nearest cases that a draft shows beside those that it cites."""


@dataclass(frozen=True, slots=True, eq=False)
class ChestRequest:
    """One study to write about. probabilities: (14,) calibrated, in the order of OBSERVATIONS, NaN where nothing measures one; ids, scores: rows
    of the writer's index and their cosines, nearest first, -1 for none; thresholds: (14,), None for the writer's; allowed: why the cases
    may be seen."""

    study: Study
    probabilities: npt.NDArray[np.float64]
    ids: npt.NDArray[np.int64]
    scores: FloatArray
    thresholds: FloatArray | None = None
    allowed: str = ""

    def __post_init__(self) -> None:
        for name, row, masked in (("probabilities", self.probabilities, True), ("thresholds", self.thresholds, False)):
            if row is not None and (row.shape != (len(OBSERVATIONS),) or not (((row >= 0) & (row <= 1)) | (masked & np.isnan(row))).all()):
                raise DataError(f"{self.study.study_id}: expected {len(OBSERVATIONS)} {name} in [0, 1], got shape {row.shape}; one an observation")
        if self.ids.shape != self.scores.shape or self.ids.ndim != 1:
            raise DataError(f"{self.study.study_id}: expected as many scores as ids, got {self.scores.shape} for {self.ids.shape}")

    @property
    def priors(self) -> bool:
        return bool(self.study.priors)


class ChestWriter:
    """See the module. index: whose cases requests point to; thresholds: (14,); limit: the cosine of the nearest case below which a study is
    unlike what was indexed; name: of the bundle."""

    def __init__(self, index: CaseIndex, thresholds: npt.NDArray, needs: int = 20, limit: float = -1.0, name: str = "") -> None:
        if thresholds.shape != (len(OBSERVATIONS),):
            raise DataError(f"chest writer: expected {len(OBSERVATIONS)} thresholds, got shape {thresholds.shape}")
        self.index, self.thresholds, self.limit, self.name = index, thresholds, limit, name
        self._needs = needs

    @property
    def needs(self) -> int:
        """How many nearest cases a request should carry."""
        return self._needs

    def write(self, requests: Sequence[ChestRequest]) -> list[Draft]:
        """One draft a request, in order."""
        rows = self.index.rows(i for request in requests for i in request.ids.tolist())
        return [self._draft(request, rows) for request in requests]

    def _draft(self, request: ChestRequest, rows: dict[int, dict[str, object]]) -> Draft:
        start = time.perf_counter()
        study = request.study
        findings = decide(request.probabilities, self.thresholds if request.thresholds is None else request.thresholds)
        near = hits_from(rows, request.ids.tolist(), request.scores.tolist(), request.allowed)
        near = [hit for hit in near if hit.study_id != study.study_id]
        lateral = any(is_lateral(image.view) for image in study.cxr)
        basis = Basis(findings, witnesses(near, request.probabilities), request.priors, lateral)
        page = Page(basis)
        page.write()
        sentences = (*page.findings, *page.impression)
        if not basis.witnesses:  # nothing was retrieved that could support a sentence
            sentences = tuple(replace(s, status="uncertain") for s in sentences)
        sections = {"findings": joined(page.findings), "impression": joined(page.impression)}
        cited = {e.study_id for s in sentences for e in s.evidence}
        shown = tuple(hit for hit in near if hit.rank <= _SHOWN or hit.study_id in cited)
        flags = [*study.flags, *page.flags]
        if not near:
            flags.append("no_retrieval")
        elif not any(hit.report for hit in near):
            flags.append("no_report")
        elif near[0].score < self.limit:
            flags.append("low_evidence")
        likely = tuple(sorted(findings.values(), key=lambda f: -f.probability))
        spent = round(1000 * (time.perf_counter() - start), 3)
        return Draft(
            study.study_id, study.subject_id, report_of(sections), sentences, likely, shown, tuple(dict.fromkeys(flags)), {}, self.name,
            {"write": spent}, tuple(page.dropped), sections,
        )  # fmt: skip


def decide(probabilities: npt.NDArray, thresholds: npt.NDArray) -> dict[str, Finding]:
    """Observation that is measured -> its finding; 'No Finding' only where no pathology is one."""
    values = (np.asarray(row, np.float64).tolist() for row in (probabilities, thresholds))
    rows = zip(OBSERVATIONS, *values, strict=True)
    found = {name: Finding(name, name, round(p, 5), round(limit, 5), p >= limit) for name, p, limit in rows if p == p}
    if NO_FINDING in found and any(finding.positive for name, finding in found.items() if name in PATHOLOGIES):
        found[NO_FINDING] = replace(found[NO_FINDING], positive=False)
    return found


def witnesses(near: Sequence[Hit], probabilities: npt.NDArray) -> list[Witness]:
    """The cases of which something is known, nearest first, with weights that sum to 1. One without a report speaks by its labels."""
    told = [(hit, read_report(hit.report) if hit.report.strip() else _labelled(hit)) for hit in near]
    told = [(hit, said) for hit, said in told if said.claims]
    if not told:
        return []
    known = ~np.isnan(probabilities)
    agreement = np.array([expected_f1(_stated(said)[known], probabilities[known]) for _, said in told])
    closeness = np.exp((np.array([hit.score for hit, _ in told]) - told[0][0].score) / TEMPERATURE)
    weights = closeness * agreement**POWER
    weights = weights / weights.sum() if weights.sum() > 0 else closeness / closeness.sum()
    return [Witness(hit, said, float(weight)) for (hit, said), weight in zip(told, weights, strict=True)]


def _labelled(hit: Hit) -> Told:
    return Told((), (), tuple(Claim(name, state) for name, state in hit.observations.items() if name != NO_FINDING))


def _stated(told: Told) -> npt.NDArray[np.bool_]:
    """(14,) the observations that a report states or suspects."""
    names = {c.observation for c in told.claims if c.state > 0}
    if names.isdisjoint(PATHOLOGIES):
        names.add(NO_FINDING)
    return np.array([name in names for name in OBSERVATIONS])
