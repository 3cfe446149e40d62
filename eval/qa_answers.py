"""Anyone's answers to questions: JSON lines or CSV, whatever the columns are called.

    read_answers("mine.csv", {"question_id": "id", "answers": "prediction"})      {"test-80009": frozenset({"yes"}), ...}

answers: a JSON list, or one text with ';' between answers. An empty list or text answers nothing, and counts as no answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regen.errors import DataError
from regen.eval.imported import read_rows
from regen.eval.qa_metrics import AnswerSet

FIELDS = ("question_id", "answers")


def read_answers(path: str | Path, columns: Mapping[str, str] | None = None) -> dict[str, AnswerSet]:
    """Answer sets by question id. columns: field -> what the file calls it. Spaces around an answer go, case stays.

    Raises:
        DataError: a file that cannot be read, a row without the fields, a question answered twice, or no row at all.
    """
    out: dict[str, AnswerSet] = {}
    for where, row in read_rows(path, FIELDS, columns):
        question = row["question_id"]
        if not isinstance(question, (str, int)) or isinstance(question, bool):
            raise DataError(f"{where}: expected question_id as text, got {str(question)[:40]}; write the id of the questions folder")
        answer = _answer(row["answers"], where)
        if str(question) in out:
            raise DataError(f"{where}: expected one row a question, {str(question)!r} was answered before; write all answers into one row")
        out[str(question)] = answer
    if not out:
        raise DataError(f"{path}: expected answers, the file holds none; write them again")
    return {question: answer for question, answer in out.items() if answer}


def _answer(value: Any, where: str) -> AnswerSet:
    if isinstance(value, str):
        text = value.strip()
        if not text.startswith("["):
            return frozenset(part.strip() for part in text.split(";")) - {""}
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: expected answers as a JSON list or with ';' between them, got {text[:60]!r}; write them again") from error
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise DataError(f"{where}: expected answers as a list of texts, got {str(value)[:60]}; write a JSON list or ';' between them")
    return frozenset(part.strip() for part in value) - {""}
