"""RadGraph F1: how many of the entities (and their relations) of one report's annotation the other's has (Jain et al. 2021, NeurIPS).

    annotations = Annotations.open(Path("annotations.json"))       what `radgraph` or its authors' files hold, report by report
    radgraph_f1(annotations.of("No effusion."), annotations.of("Small effusion."))         0.0

    {"0": {"text": "No effusion .", "entities": {"1": {"tokens": "effusion", "label": "Observation::definitely absent",
                                                       "start_ix": 1, "end_ix": 1, "relations": []}}}}

Levels as in Delbrouck et al. (EMNLP Findings 2022): simple compares (tokens, label); partial, their RG_ER and the usual one, also whether the
entity has any relation; complete the relations themselves. An entity that is stated twice counts once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regen.errors import ConfigError, DataError, did_you_mean

LEVELS = ("simple", "partial", "complete")
Annotation = Mapping[str, Any]
_REMEDY = "write it with RadGraph()([report, ...]) of the radgraph package"


def radgraph_f1(draft: Annotation, reference: Annotation, level: str = "partial") -> float:
    """F1 of two annotations in [0, 1]; 0 where one has no entity.

    Raises:
        ConfigError: an unknown level.
    """
    if level not in LEVELS:
        raise ConfigError(f"radgraph: unknown level {level!r}{did_you_mean(level, LEVELS)}")
    ours, theirs = _facts(draft["entities"], level), _facts(reference["entities"], level)
    return 2 * len(ours & theirs) / (len(ours) + len(theirs)) if ours and theirs else 0.0


def _facts(entities: Mapping[str, Any], level: str) -> set[tuple[Any, ...]]:
    out: set[tuple[Any, ...]] = set()
    for entity in entities.values():
        tokens, label, relations = entity["tokens"], entity["label"], entity["relations"]
        if level == "complete" and relations:
            out |= {(tokens.lower(), label, kind, entities[other]["tokens"].lower()) for kind, other in relations}
        else:
            out.add((tokens, label, bool(relations) and level == "partial"))
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Annotations:
    """Annotations by text. RadGraph sets blanks around punctuation, so that texts are told apart by their characters alone."""

    path: Path
    by_text: dict[str, Annotation]

    @classmethod
    def open(cls, path: Path) -> Annotations:
        """Read one JSON file, or every *.json of a folder.

        Raises:
            DataError: no file, no JSON, or a report without text and entities as RadGraph writes them.
        """
        files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        found: dict[str, Annotation] = {}
        for file in files:
            try:
                reports = json.loads(file.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise DataError(f"{file}: expected RadGraph's JSON of annotations, could not read it ({error}); {_REMEDY}") from error
            each: dict[str, Any] = reports if isinstance(reports, dict) else {"the file": None}
            for name, report in each.items():
                if not _is_annotation(report):
                    raise DataError(f"{file}, {name}: expected text, and entities with tokens, label and relations; {_REMEDY}")
                found[_key(report["text"])] = report
        if not found:
            raise DataError(f"{path}: expected RadGraph's annotations, found none; {_REMEDY}")
        return cls(path, found)

    def of(self, text: str) -> Annotation:
        """The annotation of a report.

        Raises:
            DataError: nobody annotated it.
        """
        found = self.by_text.get(_key(text))
        if found is None:
            raise DataError(f"{self.path}: expected an annotation of every draft and reference, none of {text[:60]!r}; annotate it with radgraph too")
        return found


def _key(text: str) -> str:
    return "".join(text.split()).replace('\\"', "``")


def _is_annotation(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("text"), str) or not isinstance(value.get("entities"), dict):
        return False
    entities = value["entities"]
    return all(
        isinstance(e, dict)
        and isinstance(e.get("tokens"), str)
        and isinstance(e.get("label"), str)
        and isinstance(e.get("relations"), list)
        and all(isinstance(r, list) and len(r) == 2 and r[1] in entities for r in e["relations"])
        for e in entities.values()
    )
