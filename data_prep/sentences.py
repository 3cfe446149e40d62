"""Where the sentences of a report end, by the habits of chest X-ray reports or of ECG reports.

    sentence_spans("1. No edema.\\n2. A 2.5 cm nodule vs. artifact.")        [(0, 12), (13, 45)]     chest X-ray
    split_sentences("Infarct, stage I. V.a. Hypertrophie; AV-Block 1. grades")
      -> ["Infarct, stage I.", "V.a. Hypertrophie;", "AV-Block 1. grades"]                            ECG

Chest X-ray reports have lists, blank lines and abbreviations, and their semicolons part what one denial reaches. ECG reports come without
either, often in lower case, with semicolons for stops and Roman or ordinal numbers before them.
"""

from __future__ import annotations

import re

_CHEST_STOP = re.compile(r"(?:[.!]+|(?<=\w)\?+)(?=\s|$)|(?<=[a-z)])\.(?=[A-Z])|\n[ \t]*\n|\n(?=[ \t]{0,20}(?:\d{1,2}[.)]|[-•*])[ \t])")
_ECG_STOP = re.compile(r"(?<=[.!?;])(?<!\b[a-zV]\.)(?:(?<!\d\.)\s+|\s+(?=[A-ZÄÖÜÅ]))")
_ABBREVIATIONS = frozenset(
    {"dr", "mr", "mrs", "st", "vs", "approx", "e.g", "i.e", "etc", "fig", "cf", "incl", "resp", "prob", "poss", "a.m", "p.m", "ca"}
)
_LAST_WORD = re.compile(r"(?:^|[\s(])([\w.]{1,6})$")


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of each sentence of a chest X-ray report. The stops of 'Dr.', 'vs.', '2.5 cm' and of a list's '1.' are no ends; blank lines
    and list marks are."""
    spans, begin = [], 0
    for stop in _CHEST_STOP.finditer(text):
        if stop[0] == "." and _no_end(text[max(begin, stop.start() - 8) : stop.start()], text[begin : min(begin + 40, stop.start())]):
            continue
        spans.append((begin, stop.end()))
        begin = stop.end()
    spans.append((begin, len(text)))
    return [(start, end) for start, end in spans if re.search(r"\w", text[start:end])]


def split_sentences(report: str) -> list[str]:
    """An ECG report's sentences. The stops of 'V.a.' and of '1. grades' are no ends: a number's stop ends a sentence only before a capital."""
    return [part.strip() for part in _ECG_STOP.split(report.strip()) if part.strip(" .;")]


def _no_end(before: str, opening: str) -> bool:
    word = _LAST_WORD.search(before)
    if word is None:
        return False
    return word[1].lower() in _ABBREVIATIONS or (word[1].isupper() and len(word[1]) == 1) or re.fullmatch(r"\s*\d{1,2}", opening) is not None
