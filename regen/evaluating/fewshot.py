"""`regen eval fewshot`: what a bundle's frozen encoder knows, from 1 to 128 examples of a statement, beside two floors.

    regen eval fewshot --studies data --bundle bundle --out fewshot.json

The floors: the same architecture with random weights, and the hand-made features of regen.data_prep.measure. A bundle's encoder was
aligned to the statements of its own training split; where that is the split given here, the curve says how well its features keep what
they were taught, not how they take to statements that are new to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from rich.table import Table

from regen.artifact import check_free_file
from regen.data_prep.measure import FEATURES
from regen.data_prep.prepared import Prepared
from regen.encoders.ecg import EcgEncoder
from regen.encoders.recordings import clean_and_measure
from regen.eval.bootstrap import DRAWS
from regen.eval.fewshot import COLUMNS, REPEATS, SHOTS, Block, FewShot, few_shot
from regen.eval.linear_probe import STRENGTH, standardised
from regen.eval.set_metrics import FEW
from regen.eval.table_views import markdown_table, percent, rich_table
from regen.evaluating.ends import check_split, open_towers, stated, write_result
from regen.progress import bar
from regen.study import FloatArray

SYSTEMS = ("encoder", "encoder, random weights", "hand-made features")
NOTES = (
    "AUROC in percent on {n} studies of {patients} patients with its 95 % BCa interval over {draws} bootstrap draws of patients (seed "
    "{seed}); mean over {repeats} draws of training cases, which the interval holds fixed, and over statements. L2 logistic regression (C = "
    "{strength}) on frozen features of k positives and k negatives out of {trained} studies, after EHRSHOT (Wornow et al. 2023). A statement "
    "counts at k with k positives in train and at least {few} in the split. 'Same': the statements that have enough at every k. The "
    "encoder's own training may have seen the statements of the training split."
)
_BATCH = 64


def evaluate_fewshot(
    studies: Path, split: str, bundle: str, out: Path | None, device: str, seed: int, force: bool, shots: Sequence[int] = SHOTS, draws: int = DRAWS
) -> FewShot:
    """Print the curve; with `out`, also write it as JSON, or as Markdown where the name ends in .md.

    Raises:
        ConfigError: a split that is none, or the training split; shots below 1; a device that is not there.
        ArtifactError: `out` exists without force, or a bundle or the prepared folder is damaged.
        DataError: no reported or coded recordings in the split or in train, or none with enough positives.
    """
    check_split(split)
    if out is not None:
        check_free_file(out, force)
    data, encoder = Prepared.open(studies), open_towers(bundle, device).ecg
    encoders = [encoder, random_encoder(encoder, seed)]
    (rows, test), (train_rows, train) = (stated(data, name) for name in (split, "train"))
    seen = [frozen_features(data, part, encoders) for part in (train_rows, rows)]
    features = {name: standardised(*pair) for name, pair in zip(SYSTEMS, zip(*seen, strict=True), strict=True)}
    made = few_shot(features, train.statements, test.statements, test.subjects, seed, shots, draws=draws)
    _print(made)
    write_result(out, {"split": split} | made.to_dict(), to_markdown(made))
    return made


def random_encoder(like: EcgEncoder, seed: int) -> EcgEncoder:
    """The same architecture, untrained, on the same device. Leaves torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return EcgEncoder(like.config).to(like.position.device).eval()


@torch.no_grad()
def frozen_features(data: Prepared, rows: pl.DataFrame, encoders: Sequence[EcgEncoder]) -> list[FloatArray]:
    """Of each encoder the features that its statement head reads, (n, feature_width), and last the measurements (n, FEATURES).

    In float32 on every device: what an untrained encoder tells apart is small, and bfloat16 would round it away.
    """
    widths = [*(encoder.feature_width for encoder in encoders), FEATURES]
    out = [np.zeros((len(rows), width), np.float32) for width in widths]
    for positions, raw in bar(data.signals(rows, _BATCH), "encoding"):
        cleaned, out[-1][positions] = clean_and_measure(raw, data.fs)
        for part, encoder in zip(out, encoders, strict=False):
            signal = torch.from_numpy(np.asarray(cleaned, np.float32)).to(encoder.position.device)
            part[positions] = encoder.features(*encoder.tokens(signal)).float().cpu().numpy()
    return out


def to_markdown(made: FewShot) -> str:
    """One table a column: systems down, shots across, then how to read it."""
    parts = []
    for column, title in COLUMNS.items():
        parts.append(markdown_table(_heads(made), _lines(made, column), title))
    return "\n\n".join([*parts, _notes(made)]) + "\n"


def to_rich(made: FewShot, column: str) -> Table:
    """The same for a terminal: the value over its interval."""
    return rich_table(COLUMNS[column], _heads(made), _lines(made, column, "\n"), wrap=False)


def _heads(made: FewShot) -> list[str]:
    return ["system", *(f"k = {block.shots}" for block in made.blocks)]


def _lines(made: FewShot, column: str, between: str = " ") -> Iterator[list[object]]:
    yield ["statements", *(_statements(block, column) for block in made.blocks)]
    for name in made.systems:
        yield [name, *(percent(block.rows[name][column], between=between) for block in made.blocks)]


def _statements(block: Block, column: str) -> int:
    return len(block.same) if column == "auroc_same" else len(block.statements)


def _notes(made: FewShot) -> str:
    return NOTES.format(
        n=made.n, patients=made.patients, draws=made.draws, seed=made.seed, repeats=REPEATS, strength=STRENGTH, trained=made.trained_on, few=FEW
    )


def _print(made: FewShot) -> None:
    from rich.console import Console

    wide = Console(width=190)
    for column in COLUMNS:
        wide.print(to_rich(made, column))
        wide.print()
    first, *others = made.systems
    for other in others:
        shown = (f"k = {b.shots}: {percent(b.rows[first]['auroc'].minus(b.rows[other]['auroc']), sign=True)}" for b in made.blocks)
        wide.print(f"{first} minus {other}: AUROC {', '.join(shown)}", highlight=False, markup=False)
    wide.print(_notes(made), highlight=False, markup=False)
