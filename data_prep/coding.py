"""What a cardiologist coded about one ECG, and its rendering as an English report.

    Coding(statements={"SR": 1.0, "IMI": 0.5}, axis="LAD", stage="II-III")
    render(coding) -> "Sinus rhythm. Left axis deviation. Possible inferior myocardial infarction, stage II-III."

Every rendered sentence reads back (regen.data_prep.labeler) to the statement it was made from; a test holds the catalogue to it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from regen.data_prep.statements import BY_CODE, GROUPS, STATEMENTS
from regen.errors import DataError

_INFARCTIONS = frozenset(s.code for s in STATEMENTS if s.code.endswith("MI") and s.group == "infarction")
_ORDER = {s.code: (GROUPS.index(s.group), i) for i, s in enumerate(STATEMENTS)}
_QUALITY = {"baseline_drift": "DRIFT", "static_noise": "STATIC", "burst_noise": "BURST", "electrodes_problems": "ELECTRODE"}


@dataclass(frozen=True, slots=True)
class Coding:
    """statements: SCP code -> likelihood in [0, 1]; axis: a PTB-XL heart_axis code; stage: of the infarction, 'II-III'.

    extra_beats: as PTB-XL notes them ('2ES', 'VES4,alles'); quality: DRIFT, STATIC, BURST, ELECTRODE -> leads, as noted.
    """

    statements: dict[str, float]
    axis: str | None = None
    stage: str | None = None
    extra_beats: str | None = None
    quality: dict[str, str] = field(default_factory=dict)


def certainty(likelihood: float) -> str:
    """The word before a statement: PTB-XL's likelihoods are 1.0 (or 0, 'stated without one'), .8, .5, .35, .15."""
    if likelihood <= 0 or likelihood > 0.9:
        return ""
    if likelihood >= 0.7:
        return "probable"
    return "possible" if likelihood >= 0.4 else "cannot exclude"


def sentence(code: str, likelihood: float = 1.0, detail: str = "") -> str:
    """One sentence for one statement: 'Possible inferior myocardial infarction, stage II-III.'"""
    label = BY_CODE[code].label
    word = certainty(likelihood)
    if code == "NORM":
        text = {"": "Normal ECG", "probable": "Otherwise normal ECG", "possible": "Possibly normal ECG"}.get(word, "Possibly normal ECG")
    elif word == "cannot exclude":
        text = f"{_lower(label)} cannot be excluded"
        text = text[0].upper() + text[1:]
    elif word:
        text = f"{word.capitalize()} {_lower(label)}"
    else:
        text = label
    return text + detail + "."


def _lower(label: str) -> str:
    """Lower the first letter unless the word is an abbreviation or a name."""
    first = label.split()[0]
    keep = first.isupper() or first.startswith(("ST", "QRS", "Wolff", "T-wave", "Q "))
    return label if keep or (len(first) > 1 and first[1].isupper()) or len(first) == 1 else label[0].lower() + label[1:]


def sentences(coding: Coding) -> list[tuple[str, str]]:
    """(sentence, code) in clinical order: rhythm, axis, conduction, hypertrophy, infarction, ST-T, ectopy, summary, quality."""
    details: dict[str, str] = {}
    if coding.stage:
        details |= {code: f", stage {coding.stage}" for code in _INFARCTIONS & coding.statements.keys()}
    beats = _beats(coding.extra_beats)
    extra: dict[str, str] = {}
    if beats:
        kind, count = beats
        coded = {"ventricular": "PVC", "supraventricular": "PAC"}.get(kind)
        if coded in coding.statements and count:
            details[coded] = f" ({count})"
        elif coded not in coding.statements:
            extra["XB"] = f": {' '.join(filter(None, (count, kind)))}"
    rows = [(code, sentence(code, likelihood, details.get(code, ""))) for code, likelihood in coding.statements.items()]
    if coding.axis:
        rows.append((coding.axis, sentence(coding.axis)))
    rows += [(code, BY_CODE[code].label + text + ".") for code, text in extra.items()]
    rows += [(code, f"{BY_CODE[code].label}{f' in {leads}' if leads else ''}.") for code, leads in coding.quality.items()]
    return [(text, code) for code, text in sorted(rows, key=lambda row: _ORDER[row[0]])]


def render(coding: Coding) -> str:
    """The English report of a coding; empty where nothing was coded."""
    return " ".join(text for text, _ in sentences(coding))


def _beats(noted: str | None) -> tuple[str, str] | None:
    """'2ES', 'SVES', 'VES4,alles' -> (kind, count as text or '')."""
    match = re.match(r"(?P<before>\d*)\s*(?P<kind>SVES|VES|ES)?\s*(?P<after>\d*)", (noted or "").strip())
    if not match or not (noted or "").strip():
        return None
    kind = {"SVES": "supraventricular", "VES": "ventricular"}.get(match["kind"] or "", "of unspecified origin")
    return kind, match["before"] or match["after"]


def from_ptbxl(row: Mapping[str, str | None]) -> Coding:
    """One row of ptbxl_database.csv. Statements that the catalogue does not know are refused by name.

    Raises:
        DataError: scp_codes is no mapping of code to number, or holds an unknown code.
    """
    who = f"ptbxl_database.csv, ecg_id {row.get('ecg_id')}"
    try:
        raw = ast.literal_eval(row.get("scp_codes") or "{}")
        statements = {str(code): float(value) / 100 for code, value in raw.items()}
    except (ValueError, SyntaxError, TypeError, AttributeError) as error:
        raise DataError(f"{who}: expected scp_codes like {{'NORM': 100.0}}, got {row.get('scp_codes')!r}; restore the official file") from error
    unknown = sorted(statements.keys() - BY_CODE.keys())
    if unknown:
        raise DataError(f"{who}: expected SCP codes of the catalogue, got {', '.join(unknown)}; add them to data_prep/statements.py")
    stage = (row.get("infarction_stadium1") or "").removeprefix("Stadium").strip()
    quality = {code: _leads(row.get(column)) for column, code in _QUALITY.items() if (row.get(column) or "").strip(" ,")}
    axis = (row.get("heart_axis") or "").strip() or None
    return Coding(
        statements=statements,
        axis=axis if axis in BY_CODE else None,
        stage=stage if stage and stage != "unknown" else None,
        extra_beats=(row.get("extra_beats") or "").strip() or None,
        quality=quality,
    )


def _leads(noted: str | None) -> str:
    """' , I-AVR,  ' -> 'I-aVR'; words that are no leads ('leicht', 'noisy recording') are left out."""
    text = re.sub(r"\s+", "", noted or "").strip(",")
    parts = [part for part in text.split(",") if part]
    if any(part.lower() == "alles" for part in parts):
        return "all leads"
    lead = re.compile(r"(?i)(?:av[rlf]|v[1-6]|i{1,3})(?:-(?:av[rlf]|v[1-6]|i{1,3}))?$")
    named = [re.sub("(?i)av([rlf])", lambda m: f"aV{m[1].upper()}", part.upper()) for part in parts if lead.match(part)]
    return ", ".join(named)
