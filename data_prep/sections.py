"""A chest X-ray report -> its sections: findings, impression, indication, comparison, technique, history.

    parse_sections("FINAL REPORT\\n INDICATION: Cough.\\n\\n FINDINGS: Clear lungs.\\n\\n IMPRESSION: Normal.")
      -> {"findings": "Clear lungs.", "impression": "Normal.", "indication": "Cough."}
    report_of(sections)             "Clear lungs. Normal."

A heading is a phrase in capitals with a colon at the start of a line, the rules of MIMIC-CXR's own sections (Johnson et al., Scientific Data
2019); beyond those, a known name in any case there, in capitals inside a line, or alone on a line. Views ('PORTABLE CHEST:') and organs
('LUNGS:') open the findings. FINDINGS AND IMPRESSION, conclusion, recommendation and addendum belong to the impression, examination to the
technique. A wet read counts only where there is nothing else; whom one telephoned is left out. Without findings and impression, what follows
the first paragraph of the last section is the report: its last paragraph the impression, those before it the findings. Whitespace is joined,
'___' stays. Time is linear in the text.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from functools import lru_cache

SECTIONS = ("findings", "impression", "indication", "comparison", "technique", "history")

_NAMES = {
    "findings": "findings finding observations",
    "impression": "impression impressions conclusion conclusions opinion recommendation recommendations recommendation(s) "
    "findings_and_impression findings/impression findings_/_impression findings/_impression",
    "indication": "indication indications clinical_indication reason reason_for_exam reason_for_examination reason_for_this_exam "
    "reason_for_this_examination reason_for_study study_indication clinical_question",
    "history": "history clinical_history patient_history medical_history past_medical_history history_of_present_illness clinical_information "
    "clinical_data medical_condition underlying_medical_condition",
    "comparison": "comparison comparisons comparison_exam comparison_film comparison_films comparison_study reference_exam prior_studies",
    "technique": "technique examination exam type_of_examination type_of_exam exam_type procedure views study",
    "addendum": "addendum addenda final_addendum",
    "wet read": "wet_read wetread pfi preliminary_report provisional_findings_impression provisional_findings_impression_(pfi)",
    "left out": "notification notifications communication date dictated_by attending",
    "preamble": "final_report",
}
_KNOWN = {name.replace("_", " "): key for key, names in _NAMES.items() for name in names.split()}
_ONLY_AT_LINE_START = {"observations", "opinion", "reason", "exam", "procedure", "views", "study", "date", "attending", "communication", "finding"}
_PARTS = [
    ("provisional", "wet read"), ("wet read", "wet read"), ("addend", "addendum"), ("impression", "impression"), ("finding", "findings"),
    ("conclusion", "impression"), ("reason for", "indication"), ("indication", "indication"), ("histor", "history"), ("comparison", "comparison"),
    ("technique", "technique"), ("recommendation", "impression"), ("notif", "left out"), ("type of exam", "technique"),
]  # fmt: skip
"""What a heading that is not known as a whole is known by, first one first."""
_TYPOS = {word: _KNOWN[word] for word in ("findings", "impression", "indication", "comparison", "technique", "history", "examination", "conclusion")}
_VIEWS = {"chest", "portable", "frontal", "lateral", "pa", "ap", "view", "radiograph", "radiographs", "ribs", "upright"}
_ORGANS = {"lungs", "lung", "heart", "mediastinum", "cardiomediastinum", "cardiomediastinal", "pleura", "hila", "bones", "osseous", "lines", "tubes"}
_CAPITALS = re.compile(r"(?<![A-Za-z0-9_(])[A-Z(][A-Z0-9_ ()/,&.-]{1,70}:(?=(\s|$)?)")
_ANY_CASE = re.compile(r"[ \t]*([A-Za-z][A-Za-z ()/,&-]{1,50}):")
_RULER = re.compile(r"(?m)^[ \t]*[_=*-]{10,}[ \t\r]*$")


def parse_sections(text: str) -> dict[str, str]:
    """The sections that the report has, in the order of SECTIONS; of two with one name both, in their order."""
    text = _RULER.sub("", text)
    pieces = _pieces(text)
    found: dict[str, list[str]] = {}
    for name, raw in pieces:
        joined = _joined(raw)
        if any(c.isalpha() for c in joined) or (joined and name not in {"findings", "impression"}):
            found.setdefault(name, []).append(joined)
    if "findings" not in found and "impression" not in found:
        _read_the_end(pieces, found)
    if "findings" not in found and "impression" not in found:
        found["impression"] = found.get("wet read", [])
    found["impression"] = found.get("impression", []) + found.get("addendum", [])
    return {name: " ".join(found[name]) for name in SECTIONS if found.get(name)}


def has_headings(text: str) -> bool:
    """Whether a report names at least one section of its own."""
    return any(name != "preamble" for _, _, name in _headings(text))


def report_of(sections: dict[str, str]) -> str:
    """Findings, then impression; empty where there is neither."""
    findings, impression = sections.get("findings", ""), sections.get("impression", "")
    stop = "." if findings and impression and findings[-1].isalnum() else ""
    return f"{findings}{stop} {impression}".strip()


def _pieces(text: str) -> list[tuple[str, str]]:
    """(name, text) in the order of the report; what stands before the first heading is its preamble."""
    marks = [(0, 0, "preamble"), *_headings(text)]
    ends = [start for start, _, _ in marks[1:]] + [len(text)]
    return [(name, text[after:end]) for (_, after, name), end in zip(marks, ends, strict=True)]


def _headings(text: str) -> Iterator[tuple[int, int, str]]:
    """(where the heading starts, where its text does, name of the section)."""
    offset, current = 0, "preamble"
    for line in text.splitlines(keepends=True):
        for start, after, name in _headings_of_line(line, current):
            current = name
            yield offset + start, offset + after, name
        offset += len(line)


def _headings_of_line(line: str, current: str) -> Iterator[tuple[int, int, str]]:
    alone, indent = line.strip(), len(line) - len(line.lstrip())
    if alone.isupper() and (name := _KNOWN.get(alone.lower())):
        yield 0, len(line), name
        return
    done = 0
    if (match := _ANY_CASE.match(line)) and (name := _KNOWN.get(match[1].strip().lower())):
        yield 0, match.end(), name
        done = match.end()
        current = name
    for match in _CAPITALS.finditer(line, done):
        phrase = match[0][:-1].strip()
        start, after = match.span()
        if not done and start == indent and ". " not in phrase:
            heading = _classify(phrase.lower().removeprefix("final report ").strip()) if match[1] is not None else ""
            if heading == "organ":
                heading = "" if current in {"findings", "impression", "addendum", "wet read"} else "findings"
                after = start
        else:
            heading, words = _ending(phrase)
            start = after - 1 - len(words)
        if heading:
            yield start, after, heading
            current = heading
            done = after


def _ending(phrase: str) -> tuple[str, str]:
    """The longest known name that ends a phrase in capitals, and its words: 'CHEST (PA AND LAT) INDICATION' -> indication."""
    for match in re.finditer(r"(?<![^\s.)])\S", phrase):
        words = phrase[match.start() :]
        if words.lower() in _KNOWN and words.lower() not in _ONLY_AT_LINE_START:
            return _KNOWN[words.lower()], words
    return "", ""


@lru_cache(maxsize=4096)
def _classify(phrase: str) -> str:
    """Name of the section that a phrase in capitals opens at the start of a line; 'organ' for one below the findings, '' for none."""
    if phrase in _KNOWN:
        return _KNOWN[phrase]
    for part, name in _PARTS:
        if part in phrase:
            return name
    words = set(re.findall(r"[a-z]+", phrase))
    if words & _VIEWS or {"two", "views"} <= words:
        return "findings"
    if words & _ORGANS:
        return "organ"
    near = difflib.get_close_matches(phrase, _TYPOS, n=1, cutoff=0.84)
    return _TYPOS[near[0]] if near else ""


def _read_the_end(pieces: list[tuple[str, str]], found: dict[str, list[str]]) -> None:
    """The report of one who named neither findings nor impression: the paragraphs behind the first of the last section."""
    usable = [(name, raw) for name, raw in pieces if name not in {"wet read", "left out", "addendum"} and raw.strip()]
    if not usable:
        return
    name, raw = usable[-1]
    paragraphs = _paragraphs(raw)
    whole = name == "preamble" and (len(paragraphs) == 1 or not _is_title(paragraphs[0]))
    rest = paragraphs if whole else paragraphs[1:]
    if not rest:
        return
    if name in found:
        found[name][-1] = paragraphs[0]
    found["impression"] = rest[-1:]
    if rest[:-1]:
        found["findings"] = [" ".join(rest[:-1])]


def _is_title(paragraph: str) -> bool:
    return paragraph.isupper() or (len(paragraph.split()) <= 12 and paragraph[-1] not in ".!?")


def _paragraphs(text: str) -> list[str]:
    """Joined paragraphs; a line without a visible character ends one."""
    out: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.strip():
            out[-1].append(line)
        elif out[-1]:
            out.append([])
    return [_joined(" ".join(lines)) for lines in out if lines]


def _joined(text: str) -> str:
    return " ".join(text.split())
