"""Who is scored by `regen eval report` for chest X-rays: the bundle's drafts, anyone's, and copies of training reports.

systems = [read(Path("peer.jsonl"), None, references), *floors(None, data, rows, train, seed=0)]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from regen.batch import prepared_studies
from regen.data_prep.chest_labeler import label_report
from regen.data_prep.chexpert import OBSERVATIONS
from regen.data_prep.prepared import Prepared
from regen.data_prep.statements import CODES
from regen.encoders.space import Space
from regen.errors import DataError
from regen.eval.bootstrap import Values
from regen.eval.imported import read_predictions
from regen.eval.nearest import Score, by_cosine, same_owner
from regen.eval.predictions import References, check_parts, supported
from regen.eval.set_metrics import Sets, study_f1
from regen.evaluating.card import judged
from regen.evaluating.space import raw_pixels
from regen.index.build import encode_views
from regen.pipeline import Pipeline
from regen.progress import bar


@dataclass(frozen=True, slots=True, eq=False)
class Drafted:
    """One system's texts, n in the order of the references; sentences: (n, 2) supported and all, None where they do not say;
    probabilities: (n, 14) of the observations, 0 where a draft gives none, None where none gives any."""

    name: str
    reports: list[str]
    sentences: Values | None = None
    probabilities: Values | None = None


def observations_in(reports: Sequence[str]) -> Sets:
    """(n, 14) bool: present or uncertain in the text."""
    read = cache(label_report)
    return np.array([[read(text).get(name, 0.0) > 0 for name in OBSERVATIONS] for text in reports], np.bool_).reshape(-1, len(OBSERVATIONS))


def references_of(rows: pl.DataFrame) -> References:
    """As strata and readers of drafts need them; ECG statements have no part in it."""
    none = np.zeros((len(rows), len(CODES)), np.bool_)
    ids, subjects, reports, languages = (rows[name].to_list() for name in ("study_id", "subject_id", "report", "language"))
    return References(ids, subjects, reports, languages, none, np.zeros(len(rows), np.bool_))


def run(pipeline: Pipeline, data: Prepared, rows: pl.DataFrame, name: str, blank_retrieval: bool = False) -> Drafted:
    """The bundle's own drafts."""
    made = {draft.study_id: draft for draft in bar(pipeline.drafts(prepared_studies(data, rows), blank_retrieval=blank_retrieval), name, len(rows))}
    drafts = [made[study] for study in rows["study_id"]]
    sentences = np.array([supported([{"status": s.status} for s in draft.sentences]) for draft in drafts])
    return Drafted(name, [draft.report for draft in drafts], sentences, _probabilities([d.to_dict() for d in drafts]))


def read(path: Path, columns: Mapping[str, str] | None, references: References) -> Drafted:
    """Anyone's drafts of X-rays, JSON lines or CSV.

    Raises:
        DataError: no predictions, several of one study, or none of the studies to score.
    """
    drafts_given = read_predictions(path, columns)
    for draft in drafts_given:
        check_parts(path.name, draft)
    found = {str(draft["study_id"]): draft for draft in drafts_given}
    if len(found) < len(drafts_given):
        raise DataError(f"{path}: expected one draft a study, got several of one; remove all but one")
    if not found.keys() & set(references.study_ids):
        raise DataError(
            f"{path}: expected drafts of the studies to score, got none of them ({next(iter(found), 'none')}); check the split and --modality"
        )
    drafts = [found.get(study, {}) for study in references.study_ids]
    told = any(draft.get("sentences") for draft in drafts)
    sentences = np.array([supported(draft.get("sentences")) for draft in drafts]) if told else None
    return Drafted(path.stem, [str(draft.get("report") or "") for draft in drafts], sentences, _probabilities(drafts))


def _probabilities(drafts: Sequence[Mapping[str, Any]]) -> Values | None:
    out = np.zeros((len(drafts), len(OBSERVATIONS)))
    for row, draft in zip(out, drafts, strict=True):
        for finding in draft.get("findings") or ():
            if finding["code"] in OBSERVATIONS:
                row[OBSERVATIONS.index(finding["code"])] = finding["probability"]
    return out if out.any() else None


def lines(system: Drafted, references: References) -> Iterator[dict[str, Any]]:
    """A system's drafts as `read` takes them."""
    for row, study in enumerate(references.study_ids):
        draft: dict[str, Any] = {"study_id": study, "system": system.name, "report": system.reports[row]}
        if system.probabilities is not None:
            draft["findings"] = [{"code": c, "probability": round(float(p), 5)} for c, p in zip(OBSERVATIONS, system.probabilities[row], strict=True)]
        if system.sentences is not None:
            draft["sentences"] = judged(system.sentences, row)
        yield draft


def floors(space: Space | None, data: Prepared, rows: pl.DataFrame, train: pl.DataFrame, seed: int) -> list[Drafted]:
    """Copies of training reports, never one of the same study or patient. space: of the nearest copy in an encoder, which needs one."""
    texts = train["report"].to_list()
    barred = same_owner(rows["study_id"].to_list(), rows["subject_id"].to_list(), train["study_id"].to_list(), train["subject_id"].to_list())
    rng = np.random.default_rng([seed, 4])
    truth, archive = observations_in(rows["report"].to_list()), observations_in(texts)
    agreement: Score = lambda part: np.stack([study_f1(archive, np.broadcast_to(row, archive.shape)) for row in truth[part]]).astype(np.float32)  # noqa: E731
    scores: dict[str, Score] = {
        "random report": lambda part: rng.random((part.stop - part.start, len(train))).astype(np.float32),
        "nearest raw pixels": by_cosine(raw_pixels(data, rows), raw_pixels(data, train)),
    }
    if space is not None:
        scores["nearest in the encoder"] = by_cosine(encode_views(data, rows, space), encode_views(data, train, space))
    scores["oracle: nearest observations"] = agreement
    made = [Drafted(name, _copied(score, barred, len(rows), texts)) for name, score in scores.items()]
    common = Counter(texts).most_common(1)[0][0]
    return [made[0], Drafted("most frequent report", [common] * len(rows)), *made[1:]]


def _copied(score: Score, barred: Callable[[slice], Sets], n: int, texts: Sequence[str]) -> list[str]:
    out: list[str] = []
    for start in range(0, n, 256):
        part = slice(start, min(start + 256, n))
        forbidden = barred(part)
        best = np.where(forbidden, -np.inf, score(part)).argmax(axis=1)
        out += ["" if forbidden[i].all() else texts[row] for i, row in enumerate(best)]
    return out
