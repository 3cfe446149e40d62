"""`regen bench eval`: scoring drafts against the loops that one would write with sacrebleu, rouge-score, nltk and scikit-learn.

Drafts are reports of a prepared folder, drawn with replacement, half of them paired with another study's report, so that both wordings and
errors repeat as they do in practice. Both sides compute corpus BLEU-4, mean ROUGE-L, mean METEOR, micro-F1, and the interval of micro-F1 by
patient; the values must agree to 1e-6. METEOR knows no synonyms on either side.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from regen.data_prep.prepared import Prepared
from regen.data_prep.wording import words
from regen.errors import ConfigError, DataError
from regen.eval import timing
from regen.eval.averages import mean
from regen.eval.bootstrap import Resamples, Sampled, bootstrap
from regen.eval.predictions import Predictions, References
from regen.eval.report_table import table
from regen.eval.set_metrics import micro_f1
from regen.eval.text_metrics import bleu, text_scores

TARGET_S = 60.0
"""Seconds that the whole table of 10,000 drafts may take."""
_MEMORY_AT = (1000, 10000)
Pairs = tuple[References, Predictions]


def bench(studies: Path, drafts: int, draws: int, repeats: int) -> dict[str, Any]:
    """Both sides on the same drafts, then the whole table alone, and its peak memory at two numbers of drafts.

    Raises:
        ConfigError: a peer is not installed.
        DataError: the folder holds no reports.
    """
    try:
        import rouge_score
        import sacrebleu  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"regen bench eval: expected the peers sacrebleu and rouge-score, {error.name} is missing; pip install -e '.[dev]'"
        ) from error
    assert rouge_score
    pairs = drawn(studies, drafts)
    values: dict[str, dict[str, float]] = {}

    def keep(name: str, result: dict[str, float]) -> None:
        values[name] = result

    parts = {
        "product": lambda _: keep("product", ours(pairs, draws)), "peer": lambda _: keep("peer", theirs(pairs, draws)),
        "table": lambda _: table(pairs[0], [pairs[1]], pairs[0].reports[:100]),
    }  # fmt: skip
    times = timing.interleave(parts, [0], repeats, warm=False)
    apart = {name: abs(values["product"][name] - values["peer"][name]) for name in values["product"]}
    return {
        "machine": timing.machine(), "drafts": drafts, "draws": draws, "repeats": repeats,
        "product_s": timing.spread(times["product"].wall), "peer_s": timing.spread(times["peer"].wall),
        "ratio": timing.ratio(times["peer"], times["product"]), "table_s": timing.spread(times["table"].wall),
        "values": values["product"], "apart": apart, "peak_mib": {str(n): _peak_memory(studies, n) for n in _MEMORY_AT},
    }  # fmt: skip


def drawn(studies: Path, drafts: int) -> Pairs:
    """References drawn from a prepared folder with replacement, and drafts: every second one is another study's report."""
    rows = Prepared.open(studies).studies
    rows = rows.filter(rows["report"].is_not_null() & (rows["report"] != ""))
    if len(rows) < 2:
        raise DataError(f"{studies}: expected a prepared folder with reports, got {len(rows)}; prepare with reports")
    rng = np.random.default_rng(0)
    all_of_them = References.from_rows(rows)
    references = all_of_them.take(rng.integers(0, len(rows), drafts))
    other = rng.permutation(drafts)
    texts = [references.reports[other[i]] if i % 2 else report for i, report in enumerate(references.reports)]
    return references, Predictions.from_reports("drawn", texts)


def ours(pairs: Pairs, draws: int) -> dict[str, float]:
    """With the product's functions."""
    references, made = pairs
    scores = text_scores(made.reports, references.reports)
    resamples = Resamples(references.subjects, np.random.default_rng(0), draws)
    sampled = bootstrap(partial(micro_f1, made.statements, references.statements), resamples)
    return {
        "bleu_4": float(bleu(scores)[0]), "rouge_l": float(mean(scores.rouge_l)[0]), "meteor": float(mean(scores.meteor)[0]),
        "micro_f1": sampled.value, "micro_f1_low": sampled.interval[0], "micro_f1_high": sampled.interval[1],
    }  # fmt: skip


def theirs(pairs: Pairs, draws: int) -> dict[str, float]:
    """One pair after the other, one draw after the other, with the usual libraries."""
    from nltk.translate.meteor_score import single_meteor_score
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU
    from sklearn.metrics import f1_score

    references, made = pairs
    split = [(words(draft), words(report)) for draft, report in zip(made.reports, references.reports, strict=True)]
    joined = [[" ".join(pair[side]) for pair in split] for side in (0, 1)]
    rouge = RougeScorer(["rougeL"], tokenizer=_Blanks())
    value = f1_score(references.statements, made.statements, average="micro", zero_division=0)
    resamples = Resamples(references.subjects, np.random.default_rng(0), draws)
    sampled: list[list[float]] = [[], []]
    for values, each in zip(sampled, (iter(resamples), resamples.left_out()), strict=True):
        for draw in (draw for weights in each for draw in weights.astype(int)):
            rows = np.repeat(np.arange(len(draw)), draw)
            values.append(f1_score(references.statements[rows], made.statements[rows], average="micro", zero_division=0))
    low, high = Sampled(float(value), np.array(sampled[0]), np.array(sampled[1]), resamples.patients).interval
    return {
        "bleu_4": BLEU(tokenize="none", smooth_method="none").corpus_score(joined[0], [joined[1]]).score / 100,
        "rouge_l": float(np.mean([rouge.score(report, draft)["rougeL"].fmeasure for draft, report in zip(*joined, strict=True)])),
        "meteor": float(np.mean([single_meteor_score(report, draft, wordnet=_NoSynonyms()) for draft, report in split])),
        "micro_f1": float(value), "micro_f1_low": float(low), "micro_f1_high": float(high),
    }  # fmt: skip


class _Blanks:
    """The product's words, for rouge-score: its own tokenizer takes umlauts apart."""

    def tokenize(self, text: str) -> list[str]:
        return text.split()


class _NoSynonyms:
    def synsets(self, _: str) -> list[Any]:
        return []


def _peak_memory(studies: Path, drafts: int) -> float:
    """Highest resident memory of a new process that makes the table, MiB."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak, studies, drafts).result()


def _peak(studies: Path, drafts: int) -> float:
    references, made = drawn(studies, drafts)
    table(references, [made], references.reports[:100])
    return timing.peak_mib()


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The result for people."""
    yield timing.machine_line(result["machine"])
    yield f"scoring, {result['drafts']} drafts, {result['draws']} draws, {result['repeats']} repeats, median [lowest, highest]"
    yield f"  regen             {timing.shown(result['product_s'])} s"
    yield f"  usual loops       {timing.shown(result['peer_s'])} s"
    yield f"  ratio             {timing.shown(result['ratio'], 1)}"
    yield f"  largest difference {max(result['apart'].values()):.1e} ({', '.join(f'{name} {value:.4f}' for name, value in result['values'].items())})"
    yield f"  whole table       {timing.shown(result['table_s'])} s with 1,000 draws and every group; wanted {TARGET_S:g} s for 10,000 drafts"
    yield "  peak memory       " + ", ".join(f"{mib:.0f} MiB at {count} drafts" for count, mib in result["peak_mib"].items())
