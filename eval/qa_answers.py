"""Anyone's answers to questions: JSON lines or CSV, whatever the columns are called.

    read_answers("mine.csv", {"question_id": "id", "answers": "prediction"})      {"test-80009": frozenset({"yes"}), ...}

answers: a JSON list, or one text with ';' between answers. An empty list or text answers nothing, and counts as no answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from regen.data_prep.tables import read_table
from regen.errors import ConfigError, DataError, did_you_mean
from regen.eval.qa_metrics import AnswerSet

FIELDS = ("question_id", "answers")
_REMEDY = "name them: --columns question_id=...,answers=..."


def read_answers(path: str | Path, columns: Mapping[str, str] | None = None) -> dict[str, AnswerSet]:
    """Answer sets by question id. columns: field -> what the file calls it. Spaces around an answer go, case stays.

    Raises:
        DataError: a file that cannot be read, a row without the fields, a question answered twice, or no row at all.
    """
    path = Path(path)
    names = {field: field for field in FIELDS} | dict(columns or {})
    rows = read_table(path, set(names.values()), _REMEDY) if path.suffix.lower() == ".csv" else _lines(path)
    out: dict[str, AnswerSet] = {}
    for where, row in rows:
        missing = [f"{field} (in column {name!r})" if name != field else field for field, name in names.items() if row.get(name) is None]
        if missing:
            raise DataError(f"{where}: expected {' and '.join(missing)}, got the columns {', '.join(map(str, list(row)[:8]))}; {_REMEDY}")
        question = row[names["question_id"]]
        if not isinstance(question, (str, int)) or isinstance(question, bool):
            raise DataError(f"{where}: expected question_id as text, got {str(question)[:40]}; write the id of the questions folder")
        answer = _answer(row[names["answers"]], where)
        if str(question) in out:
            raise DataError(f"{where}: expected one row a question, {str(question)!r} was answered before; write all answers into one row")
        out[str(question)] = answer
    if not out:
        raise DataError(f"{path}: expected answers, the file holds none; write them again")
    return {question: answer for question, answer in out.items() if answer}


def parse_answer_columns(given: str) -> dict[str, str]:
    """'question_id=id,answers=prediction' -> a mapping.

    Raises:
        ConfigError: no such field, or no '='.
    """
    out: dict[str, str] = {}
    for part in filter(None, given.split(",")):
        field, sign, name = (text.strip() for text in part.partition("="))
        if field not in FIELDS or not sign or not name:
            hint = did_you_mean(field, FIELDS) if sign else ""
            raise ConfigError(f"--columns: expected FIELD=COLUMN with {' or '.join(FIELDS)}, got {part!r}{hint}")
        out[field] = name
    return out


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


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected answers as JSON lines or CSV in UTF-8, could not read the file ({error}); check the path") from error
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, line {number}: expected a JSON object, could not read it ({error}); write it again") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: expected a JSON object, got {line[:60]!r}; write one object a line")
            yield f"{path}, line {number}", row
