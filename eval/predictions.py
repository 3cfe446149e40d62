"""What is scored, and against what: one row a study, the same order on both sides.

    references = References.from_rows(data.split("test"))
    system = Predictions.from_drafts("starter", drafts, references)     drafts: the objects of `regen draft`
    peer = Predictions.from_reports("peer", texts)                      anyone's texts, one a reference row

The set of statements of a prediction is what the labeler reads in its report, whoever wrote it: the report is what the user sees, and one
reader for all systems favours none. `misread` lists the references whose own report does not read back to what was coded; where those are
many (reports as people wrote them), what a system declares beside its text is scored in a column of its own.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from regen.data_prep.labeler import statements_in
from regen.data_prep.statements import CODES
from regen.encoders.recordings import labels_of
from regen.errors import DataError
from regen.eval.bootstrap import Values
from regen.eval.set_metrics import Sets
from regen.study import FloatArray

logger = logging.getLogger(__name__)
_COLUMN = {code: i for i, code in enumerate(CODES)}


def read_sets(reports: Iterable[str]) -> Sets:
    """(n, 71) bool: the SCP statements that the labeler reads in each report, doubted ones included, denied ones not."""
    rows = [statements_in(text) for text in reports]
    out = np.zeros((len(rows), len(CODES)), np.bool_)
    for i, row in enumerate(rows):
        out[i, [_COLUMN[code] for code in row]] = True
    return out


@dataclass(frozen=True, slots=True, eq=False)
class References:
    """Reported studies: what a draft is compared with, and, of the training split, what a baseline may copy.

    study_ids, subjects (None: unknown), reports ('' where there is none), languages (None: unknown): n each.
    statements: (n, 71) bool, coded with any likelihood; where nobody coded the study, what the labeler reads in its report.
    coded: (n,) bool, whether somebody did.
    """

    study_ids: list[str]
    subjects: list[str | None]
    reports: list[str]
    languages: list[str | None]
    statements: Sets
    coded: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.study_ids)

    @classmethod
    def from_rows(cls, rows: pl.DataFrame) -> References:
        """Rows of a prepared folder (regen.data_prep.prepared.SCHEMA), in their order.

        Raises:
            DataError: a column is missing, or a study has neither a report nor statements.
        """
        missing = {"study_id", "subject_id", "report", "statements", "language"} - set(rows.columns)
        if missing:
            raise DataError(f"references: expected the columns of a prepared folder, {', '.join(sorted(missing))} missing; run regen prepare")
        labels = labels_of(rows)
        coded = np.asarray(~np.isnan(labels).any(axis=1), np.bool_)
        reports = [text or "" for text in rows["report"].to_list()]
        bare = [study for study, text, known in zip(rows["study_id"], reports, coded, strict=True) if not text and not known]
        if bare:
            raise DataError(f"references: expected a report or coded statements of every study, {len(bare)} have neither ({bare[0]}); leave them out")
        statements = np.asarray(np.nan_to_num(labels) > 0, np.bool_)
        statements[~coded] = read_sets(text for text, known in zip(reports, coded, strict=True) if not known)
        return cls(rows["study_id"].to_list(), rows["subject_id"].to_list(), reports, rows["language"].to_list(), statements, coded)

    def take(self, rows: npt.NDArray[np.int64]) -> References:
        """Some of the studies, in the order given."""
        return References(
            [self.study_ids[i] for i in rows],
            [self.subjects[i] for i in rows],
            [self.reports[i] for i in rows],
            [self.languages[i] for i in rows],
            self.statements[rows],
            self.coded[rows],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """One system's answer to n references, row by row.

    reports: n texts, '' where the system gave none; statements: (n, 71) bool, read in them; probabilities: (n, 71) or None where the
    system gives none; missing: how many studies it gave no draft for (they score as empty drafts); declared: (n, 71) bool, the findings that
    the system calls positive, or what was coded for the report it copied, None where it says nothing but its text.
    """

    name: str
    reports: list[str]
    statements: Sets
    probabilities: FloatArray | None = None
    missing: int = 0
    declared: Sets | None = None
    sentences: Values | None = None
    """(n, 2): how many sentences of each draft are supported, and how many it has; None where the drafts do not say."""

    @classmethod
    def from_reports(cls, name: str, reports: Sequence[str], probabilities: FloatArray | None = None) -> Predictions:
        """Plain texts, one a reference row."""
        if probabilities is not None and probabilities.shape != (len(reports), len(CODES)):
            raise DataError(f"{name}: expected probabilities of shape {(len(reports), len(CODES))}, got {probabilities.shape}")
        return cls(name, list(reports), read_sets(reports), probabilities)

    @classmethod
    def from_drafts(cls, name: str, drafts: Iterable[Mapping[str, Any]], references: References) -> Predictions:
        """Draft objects (study_id, report, findings[code, probability]) in any order; drafts of other studies are left out.

        A statement that a draft gives no probability for has probability 0; where no draft has findings there are none at all.

        Raises:
            DataError: two drafts of one study, no study in common, a draft without study_id or report.
        """
        found = _by_study(name, drafts)
        known = [study in found for study in references.study_ids]
        if not any(known):
            example = next(iter(found), "none")
            raise DataError(
                f"{name}: expected drafts of the studies to score, got none of them (a draft's study_id: {example}); check the split and --modality"
            )
        if len(found) > sum(known):
            logger.info("%s: %d drafts are of studies that are not scored", name, len(found) - sum(known))
        rows = [found.get(study, {}) for study in references.study_ids]
        reports = [str(row.get("report") or "") for row in rows]
        probabilities = np.zeros((len(rows), len(CODES)), np.float32)
        declared = np.zeros(probabilities.shape, np.bool_)
        foreign: Counter[str] = Counter()
        for i, row in enumerate(rows):
            for finding in row.get("findings") or ():
                if (column := _COLUMN.get(finding["code"])) is not None:
                    probabilities[i, column] = finding["probability"]
                    declared[i, column] = bool(finding.get("positive"))
                else:
                    foreign[finding["code"]] += 1
            for code in row.get("declared") or ():
                if code in _COLUMN:
                    declared[i, _COLUMN[code]] = True
        silent = sum(there and not row.get("findings") for there, row in zip(known, rows, strict=True))
        given = any(row.get("findings") for row in rows)
        if foreign:
            shown = ", ".join(f"{code} ({n})" for code, n in foreign.most_common(5))
            logger.warning("%s: %d findings are of codes that are no SCP statements, and not scored: %s", name, foreign.total(), shown)
        if given and silent:
            logger.warning("%s: %d drafts give no findings, which counts as none found", name, silent)
        said = given or any("declared" in row for row in rows)
        kept = [row.get("sentences") for row in rows]
        sentences = np.array([supported(each) for each in kept]) if any(kept) else None
        return cls(name, reports, read_sets(reports), probabilities if given else None, known.count(False), declared if said else None, sentences)


def unsaid(reports: Iterable[str]) -> int:
    """How many are empty: no draft was given, or one that says nothing."""
    return sum(not text.strip() for text in reports)


def supported(sentences: Any) -> tuple[float, float]:
    """(supported, all) of a draft's sentences; whatever is no sentence with a status counts as one that nothing supports."""
    items = sentences if isinstance(sentences, list) else []
    return float(sum(isinstance(s, dict) and s.get("status") == "supported" for s in items)), float(len(items))


def check_parts(name: str, row: Mapping[str, Any]) -> None:
    """Raises DataError unless each finding is a code, a probability in [0, 1], and perhaps whether it is positive, and the sentences are a list."""
    if not isinstance(row.get("sentences") or [], list):
        raise DataError(
            f"{name}, {row.get('study_id')}: expected sentences as a list of text and status, got {str(row['sentences'])[:80]}; write them as "
            "regen draft does, or leave them out"
        )
    found = row.get("findings") or ()
    for finding in found if isinstance(found, list) else [found] if found else ():
        p = finding.get("probability") if isinstance(finding, dict) else None
        whole = isinstance(finding, dict) and isinstance(finding.get("code"), str) and isinstance(finding.get("positive", False), bool)
        if not whole or not isinstance(found, list) or isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p <= 1:
            raise DataError(
                f"{name}, {row.get('study_id')}: expected findings as a list of code, probability from 0 to 1 and positive (true or false), "
                f"got {str(finding)[:80]}; write them as regen draft does, or leave them out"
            )


def _by_study(name: str, drafts: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    out: dict[str, Mapping[str, Any]] = {}
    for number, draft in enumerate(drafts, 1):
        absent = {"study_id", "report"} - draft.keys()
        if absent:
            raise DataError(f"{name}, draft {number}: expected study_id and report, {' and '.join(sorted(absent))} missing")
        check_parts(name, draft)
        if draft["study_id"] in out:
            raise DataError(f"{name}, draft {number}: expected one draft a study, got a second one of {draft['study_id']}; remove one")
        out[draft["study_id"]] = draft
    return out


def misread(references: References) -> list[str]:
    """Coded studies whose own report does not read back to exactly what was coded.

    For reports rendered from the codes this must be empty; for reports as written it says how far the reader and the coders disagree.
    """
    wrong = (read_sets(references.reports) != references.statements).any(axis=1) & references.coded
    return [study for study, bad in zip(references.study_ids, wrong, strict=True) if bad]
