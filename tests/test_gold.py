"""What `eval report` says of drafts whose score is known: gold is 1, shuffled gold is near the random row, empty is 0 and counted."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from regen.data_prep.statements import CODES
from regen.eval.predictions import Predictions, References, read_sets
from regen.eval.report_table import table
from regen.eval.table_views import to_markdown

N = 300


@pytest.mark.real_data
def test_real_reports_as_gold_shuffled_and_empty_drafts(data_root: Path) -> None:
    path = data_root / "ptb-xl" / "ptbxl_reports_only.csv"
    if not path.exists():
        pytest.skip(f"no PTB-XL reports at {path}")
    with path.open(encoding="utf-8") as file:
        rows = [row for row, _ in zip((row for row in csv.DictReader(file) if row["report"].strip()), range(2 * N), strict=False)]
    rng = np.random.default_rng(0)
    texts, pool = [row["report"] for row in rows[:N]], [row["report"] for row in rows[N:]]
    ids, subjects = [str(i) for i in range(N)], [row["patient_id"] for row in rows[:N]]
    references = References(ids, list(subjects), texts, ["de"] * N, read_sets(texts), np.zeros(N, np.bool_))
    assert references.statements.shape == (N, len(CODES))
    given = {
        "gold": texts,
        "shuffled": [texts[i] for i in rng.permutation(N)],
        "random": [pool[i] for i in rng.permutation(N)],
        "empty": [""] * N,
        "half": [text if i % 2 else " " for i, text in enumerate(texts)],
    }
    made = table(references, [Predictions.from_reports(name, drafts) for name, drafts in given.items()], pool, draws=200)
    cells = made.block("all").rows
    for column in ("micro_f1", "macro_f1", "bleu_4", "rouge_l"):
        assert (cells["gold"][column].value, *cells["gold"][column].interval) == pytest.approx((1, 1, 1)), column
        assert (cells["empty"][column].value, *cells["empty"][column].interval) == pytest.approx((0, 0, 0)), column
        assert 0 < cells["half"][column].value < 1, column
    for column in ("micro_f1", "rouge_l"):
        low, high = made.difference("shuffled", "random", column).interval
        assert low <= 0 <= high, f"{column}: shuffled gold differs from reports drawn at random"
    assert made.missing == {"gold": 0, "shuffled": 0, "random": 0, "empty": N, "half": N // 2}
    assert f"empty: {N} studies without a draft or with an empty one" in to_markdown(made)
