"""Text metrics that a trained model computes: BERTScore, CheXbert, RadGraph F1, RaTEScore, GREEN. Extras; the user brings the weights.

    for metric in scorers(["bertscore=/models/roberta-large,layer=17", "chexbert=/models/chexbert"]):
        mean(metric.score(drafts, references)), metric.weights          array([0.91]), {"folder": "roberta-large", "model.safetensors": "3f9a..."}

    bertscore=FOLDER[,layer=17][,idf=true]   F1 of greedy token matching; any Hugging Face encoder
    chexbert=FOLDER                          F1 of the positive observations of each report (chest X-rays)
    radgraph=ANNOTATIONS.json[,level=partial]  what RadGraph annotated in drafts and references; a folder of such files
    ratescore=FOLDER                         FOLDER/ner and FOLDER/synonyms, run by the package RaTEScore
    green=RESULTS.csv                        what the package green_score wrote: columns reference, predictions, green

Everything is read from this disk; weights are safetensors. RadGraph's and GREEN's packages are run elsewhere, on the same texts, and their
output is scored here: the one unpickles its weights, the other runs code from its model's folder and needs an older transformers.

A study without a reference text is NaN and an empty draft scores 0, whatever the model would say.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from regen.artifact import file_digest
from regen.encoders.hub import quiet
from regen.errors import ConfigError, DataError, MissingExtraError, did_you_mean
from regen.eval.bertscore import BertScore
from regen.eval.bootstrap import Values
from regen.eval.chexbert import Chexbert, positive
from regen.eval.local_weights import pickles_in, weights_of
from regen.eval.radgraph_f1 import LEVELS, Annotations, radgraph_f1
from regen.eval.set_metrics import study_f1

Scores = Callable[[list[str], list[str]], Values]
"""n drafts, n references, all with words -> (n,)."""
Options = dict[str, str]
RATESCORE_PIP = "pip install RaTEScore medspacy"
GREEN_PIP = "pip install git+https://github.com/Stanford-AIMI/GREEN"


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """name: as the user gave it ('bertscore'); weights: what must be reported with a score: folder or file, SHA-256 of each file, options."""

    name: str
    weights: dict[str, str]
    pairs: Scores

    def score(self, drafts: Sequence[str], references: Sequence[str]) -> Values:
        """(n,) float64, row by row; NaN where the reference has no text, 0 where only the draft has none.

        Raises:
            DataError: more or fewer drafts than references, or texts that a file given for the metric does not hold.
        """
        if len(drafts) != len(references):
            raise DataError(f"{self.name}: expected a draft a reference, got {len(drafts)} drafts and {len(references)} references")
        out = np.array([0.0 if reference.strip() else math.nan for reference in references], np.float64)
        rows = [i for i, pair in enumerate(zip(drafts, references, strict=True)) if pair[0].strip() and pair[1].strip()]
        if rows:
            out[rows] = self.pairs([drafts[i] for i in rows], [references[i] for i in rows])
        return out


def scorers(specs: Sequence[str], device: str = "cpu") -> list[Learned]:
    """One metric a 'name=path[,option=value ...]', in order.

    Raises:
        ConfigError: an unknown name or option, a path that is not there, or weights that cannot be read without unpickling.
        DataError: a file of annotations or results that is not one.
        MissingExtraError: a package is not installed; the message has the pip line.
    """
    made: list[Learned] = []
    for spec in specs:
        name, _, rest = spec.partition("=")
        path, *given = rest.split(",")
        if name not in _OPEN or not path:
            raise ConfigError(f"learned metric: expected name=path, got {spec!r}{did_you_mean(name, _OPEN)}")
        if name in {metric.name for metric in made}:
            raise ConfigError(f"learned metric: expected each metric once, got {name} twice; leave one out")
        made.append(_OPEN[name](Path(path), dict(_option(spec, option) for option in given), device))
    return made


def _option(spec: str, option: str) -> tuple[str, str]:
    name, given, value = option.partition("=")
    known = _OPTIONS.get(spec.partition("=")[0], ())
    if not given or name not in known:
        raise ConfigError(f"learned metric: {spec!r}: unknown option {option!r}; known: {', '.join(f'{k}=...' for k in known) or 'none'}")
    return name, value


def _bertscore(folder: Path, options: Options, device: str) -> Learned:
    weights = weights_of(folder, "bertscore")
    layer, idf = options.get("layer"), options.get("idf", "false")
    if (layer is not None and not layer.isdecimal()) or idf not in {"true", "false"}:
        raise ConfigError(f"bertscore: expected layer=<number> and idf=true or false, got layer={layer}, idf={idf}")
    made = BertScore.open(folder, None if layer is None else int(layer), idf == "true", device)
    return Learned("bertscore", weights | {"layer": str(made.layer), "idf": idf}, lambda drafts, references: made.match(drafts, references)[:, 2])


def _chexbert(folder: Path, options: Options, device: str) -> Learned:
    weights, made = weights_of(folder, "chexbert"), Chexbert.open(folder, device)

    def pairs(drafts: list[str], references: list[str]) -> Values:
        return study_f1(positive(made.classes(drafts)), positive(made.classes(references)))

    return Learned("chexbert", weights, pairs)


def _radgraph(path: Path, options: Options, device: str) -> Learned:
    level = options.get("level", "partial")
    if level not in LEVELS:
        raise ConfigError(f"radgraph: unknown level {level!r}{did_you_mean(level, LEVELS)}")
    if (path.is_dir() and not any(path.glob("*.json"))) or (path / "config.json").exists():
        pickled = ", ".join(pickles_in(path)) or "no annotations"
        raise ConfigError(
            f"radgraph: expected annotations (JSON), got the folder {path} with {pickled}; RadGraph's weights are pickled and never read here: "
            "annotate drafts and references with its package in an environment of its own, and give the JSON"
        )
    made = Annotations.open(path)

    def pairs(drafts: list[str], references: list[str]) -> Values:
        return np.array([radgraph_f1(made.of(a), made.of(b), level) for a, b in zip(drafts, references, strict=True)], np.float64)

    return Learned("radgraph", _files(path, "*.json") | {"level": level}, pairs)


def _ratescore(folder: Path, options: Options, device: str) -> Learned:
    parts = {part: weights_of(folder / part, "ratescore") for part in ("ner", "synonyms")}
    if find_spec("RaTEScore") is None or find_spec("medspacy") is None:
        raise MissingExtraError(f"ratescore: expected the packages RaTEScore and medspacy, one is missing; install: {RATESCORE_PIP}")
    with _offline(), quiet():
        package: Any = importlib.import_module("RaTEScore")
        model = package.RaTEScore(bert_model=str(folder / "ner"), eval_model=str(folder / "synonyms"), use_gpu=device.startswith("cuda"))

    def pairs(drafts: list[str], references: list[str]) -> Values:
        with _offline(), quiet():
            return np.array(model.compute_score(drafts, references), np.float64)

    weights = {f"{part}/{name}": value for part, row in parts.items() for name, value in row.items() if name != "folder"}
    return Learned("ratescore", {"folder": folder.resolve().name} | weights, pairs)


def _green(path: Path, options: Options, device: str) -> Learned:
    if path.is_dir():
        remedy = "run it in an environment of its own and give the results_*.csv that it writes"
        if find_spec("green_score") is None:
            raise MissingExtraError(f"green: expected results of the package green_score, got the folder {path}; install: {GREEN_PIP}, then {remedy}")
        raise ConfigError(f"green: expected results (CSV), got the folder {path}; the package runs code from it, which regen does not: {remedy}")
    by_pair = _green_results(path)

    def pairs(drafts: list[str], references: list[str]) -> Values:
        missing = [pair for pair in zip(drafts, references, strict=True) if pair not in by_pair]
        if missing:
            first = f"{len(missing)} are missing (prediction {missing[0][0][:60]!r})"
            raise DataError(f"{path}: expected a row for every draft and reference, {first}; run GREEN on them")
        return np.array([by_pair[pair] for pair in zip(drafts, references, strict=True)], np.float64)

    return Learned("green", _files(path, "*.csv"), pairs)


def _green_results(path: Path) -> Mapping[tuple[str, str], float]:
    """(prediction, reference) -> GREEN in [0, 1]; NaN where the model's answer could not be parsed."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        found = {(row["predictions"], row["reference"]): float(row["green"] or "nan") for row in rows}
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise DataError(f"{path}: expected GREEN's results with columns reference, predictions, green; could not read them ({error})") from error
    bad = [value for value in found.values() if not (math.isnan(value) or 0 <= value <= 1)]
    if bad or not found:
        raise DataError(f"{path}: expected GREEN scores from 0 to 1, got {bad[0] if bad else 'none'}; give the file that green_score wrote")
    return found


def _files(path: Path, pattern: str) -> dict[str, str]:
    files = sorted(path.glob(pattern)) if path.is_dir() else [path]
    return {"folder": path.resolve().name if path.is_dir() else path.resolve().parent.name} | {file.name: file_digest(file) for file in files}


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Whoever asks the hub while the body runs is told that there is no network, whatever HF_HUB_OFFLINE says."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


_OPEN: dict[str, Callable[[Path, Options, str], Learned]] = {
    "bertscore": _bertscore, "chexbert": _chexbert, "radgraph": _radgraph, "ratescore": _ratescore, "green": _green,
}  # fmt: skip
_OPTIONS = {"bertscore": ("layer", "idf"), "radgraph": ("level",)}
