"""`regen eval retrieval` where a bundle reads chest X-rays: do image, ECG and report of one visit find each other, and like images each other?

    made = evaluate_space(Path("data"), "test", "bundle", (1, 5, 10), None, "cpu", 0, False)
    made.edges["X-ray -> report"].rows["encoder"]["r@10"].value, .interval
    made.images["raw pixels"]["p@10"].value

Edges: queries and candidates are the studies of the split that have both sides; reports of one wording count as one. Images: queries are the
split's X-rays, the archive those of the training split, without the query's subject; relevant is what shares an observation. Lifts: X-rays that
show a finding, and how often the nearest ECGs of other patients belong to visits that have it, against how often any does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from rich.table import Table

from regen.artifact import check_free_file
from regen.bundle import find_bundle
from regen.data_prep.chexpert import OBSERVATIONS, SUPPORT_DEVICES
from regen.data_prep.prepared import Prepared
from regen.data_prep.statements import CODES
from regen.encoders.cxr import CxrEncoder
from regen.encoders.image_trunks import build_trunk
from regen.encoders.images import observation_matrix
from regen.encoders.pairs import pair_studies
from regen.encoders.recordings import clean_and_measure, statement_matrix
from regen.encoders.space import Space
from regen.errors import ConfigError, DataError
from regen.eval import retrieval_metrics as metrics
from regen.eval.blocks import INTERVAL, Group, Row, plain_rows
from regen.eval.bootstrap import DRAWS, Resamples, Sampled, Values, bootstrap
from regen.eval.lift import Found, by_chance, lift, nearest_others
from regen.eval.nearest import by_cosine, same_owner
from regen.eval.table_views import markdown_table, percent, rich_table
from regen.evaluating.ends import check_split, open_images, write_result
from regen.index.build import encode_views
from regen.progress import console
from regen.study import FloatArray

COUNTED = np.array([name != SUPPORT_DEVICES for name in OBSERVATIONS])
"""Observations that make an image relevant; most portable images have devices."""
FEW = 20
"""Queries that a finding must have for its lift to be printed."""
_SIDE = 32
"""Pixels a side of the raw-pixel neighbours."""


@dataclass(frozen=True, slots=True, eq=False)
class Edge(Group):
    """One direction between two modalities: queries among so many candidates."""

    candidates: int


@dataclass(frozen=True, slots=True, eq=False)
class Lift:
    """Of n queries; chance: where 95 % of the lifts lie when the finding is dealt anew."""

    n: int
    value: Sampled
    chance: tuple[float, float]

    @property
    def beyond(self) -> str:
        """'above' or 'below' what chance gives, else 'at chance'."""
        low, high = self.chance
        return "above" if self.value.value > high else "below" if self.value.value < low else "at chance"

    def plain(self) -> dict[str, Any]:
        return {"n": self.n} | self.value.plain() | {"chance": [round(end, 6) for end in self.chance], "beyond": self.beyond}


@dataclass(frozen=True, slots=True, eq=False)
class SpaceScores:
    """edges: by direction; images: image -> image, system -> column; lifts: by finding; archive: images searched."""

    edges: dict[str, Edge]
    images: dict[str, Row]
    image_queries: int
    archive: int
    lifts: dict[str, Lift]
    seed: int
    draws: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: shares in [0, 1], lifts as factors, null where undefined."""
        edges = {name: edge.to_dict(candidates=edge.candidates) for name, edge in self.edges.items()}
        lifts = {name: found.plain() for name, found in self.lifts.items()}
        images = {"n": self.image_queries, "archive": self.archive, "systems": plain_rows(self.images)}
        return {"seed": self.seed, "draws": self.draws, "interval": INTERVAL, "edges": edges, "images": images, "lifts": lifts}


def modality_of(studies: Path, bundle: str | None, asked: str | None) -> str:
    """'cxr' where the folder holds chest X-rays and the bundle reads them, else 'ecg'; asked: which of the two, None for that rule.

    Without a bundle, 'cxr' where the folder holds nothing else: drafts are scored without one.

    Raises:
        ConfigError: another word, or X-rays of a folder without any or for a bundle that does not read them.
    """
    if asked not in (None, "ecg", "cxr"):
        raise ConfigError(f"--modality: expected ecg or cxr, got {asked!r}")
    table = Prepared.open(studies).studies
    images, recordings = (not table[column].is_null().all() for column in ("cxr_rows", "ecg_row"))
    if asked == "cxr" and not images:
        raise ConfigError(f"--modality cxr: expected chest X-rays in {studies}, it holds none; prepare them, or leave --modality out")
    reads = bundle is None or (find_bundle(bundle) / "encoder" / "cxr.safetensors").is_file()
    if not reads and images and (asked == "cxr" or (asked is None and not recordings)):
        raise ConfigError(f"{bundle}: expected a bundle that reads the chest X-rays of {studies}, this one does not; give one with --bundle")
    if asked is not None:
        return asked
    return "cxr" if images and reads and not (bundle is None and recordings) else "ecg"


def evaluate_space(
    studies: Path, split: str, bundle: str, ks: Sequence[int], out: Path | None, device: str, seed: int, force: bool, draws: int = DRAWS
) -> SpaceScores:
    """Print the tables; with `out`, also write them as JSON, or as Markdown where the name ends in .md.

    Raises:
        ConfigError: a split that is none or the training split, k below 1, or a bundle that reads no X-rays.
        ArtifactError: `out` exists without force, or a bundle or the prepared folder is damaged.
        DataError: no chest X-rays in the split.
    """
    check_split(split)
    if not ks or min(ks) < 1:
        raise ConfigError(f"-k: expected at least one k, each of at least 1, got {', '.join(map(str, ks)) or 'none'}; for example -k 1 -k 5 -k 10")
    if out is not None:
        check_free_file(out, force)
    data, space = open_images(studies, bundle, device)
    rows, train = data.split_cxr(split), data.split_cxr("train")
    if not len(rows):
        raise DataError(f"{studies}: expected chest X-rays in the {split} split, got none; choose another --split")
    ks = tuple(sorted(set(ks)))
    ecg = data.split(split) if space.ecg is not None else data.studies[:0]
    vectors = {"X-ray": encode_views(data, rows, space), "ECG": _ecg_vectors(data, ecg, space)}
    edges = _edges(space, rows, ecg, vectors, ks, seed, draws)
    images = _image_rows(data, space, rows, train, vectors["X-ray"], ks, seed, draws) if len(train) else {}
    lifts = _lifts(rows, ecg, vectors, seed, draws)
    made = SpaceScores(edges, images, len(rows), len(train), lifts, seed, draws)
    for table in to_rich(made):
        console.print(table)
    write_result(out, {"split": split} | made.to_dict(), to_markdown(made))
    return made


def _ecg_vectors(data: Prepared, rows: pl.DataFrame, space: Space) -> FloatArray:
    out = np.zeros((len(rows), space.text.dim), np.float32)
    if space.ecg is not None:
        for positions, raw in data.signals(rows):
            cleaned, measures = clean_and_measure(raw, data.fs)
            out[positions] = space.ecg.encode(cleaned, measures)[0]
    return out


def _edges(
    space: Space, rows: pl.DataFrame, ecg: pl.DataFrame, vectors: dict[str, FloatArray], ks: tuple[int, ...], seed: int, draws: int
) -> dict[str, Edge]:
    """Every direction that the split has studies for."""
    out = {}
    for name, table in (("X-ray", rows), ("ECG", ecg)):
        told = np.flatnonzero((table["report"].fill_null("") != "").to_numpy())
        if len(told) > 1:
            texts = table["report"].gather(told.tolist()).to_list()
            group = np.unique(np.array(texts, dtype=object).astype(str), return_inverse=True)[1].astype(np.int64)
            written = space.text.encode(texts)
            subjects = table["subject_id"].gather(told.tolist()).to_list()
            own = vectors[name][told]
            out[f"{name} -> report"] = _edge(own, written, group, subjects, ks, seed, draws)
            out[f"report -> {name}"] = _edge(written, own, group, subjects, ks, seed, draws)
    units = pair_studies(ecg, rows, 1.0)
    both = units[(units >= 0).all(1)]
    if len(both) > 1:
        subjects = rows["subject_id"].gather(both[:, 1].tolist()).to_list()
        cxr, heart = vectors["X-ray"][both[:, 1]], vectors["ECG"][both[:, 0]]
        out["X-ray -> ECG"] = _edge(cxr, heart, np.arange(len(both)), subjects, ks, seed, draws)
        out["ECG -> X-ray"] = _edge(heart, cxr, np.arange(len(both)), subjects, ks, seed, draws)
    return out


def _edge(
    query: FloatArray, candidates: FloatArray, group: npt.NDArray[np.int64], subjects: Sequence[str | None], ks: tuple[int, ...], seed: int,
    draws: int,
) -> Edge:  # fmt: skip
    resamples = Resamples(subjects, np.random.default_rng(seed), draws)
    orders = {
        "encoder": metrics.shared_ranks(query @ candidates.T, group, group),
        "random": metrics.shared_ranks(np.random.default_rng([seed, 1]).random((len(query), len(candidates))), group, group),
    }
    rows = {name: {f"r@{k}": bootstrap(partial(metrics.recall_at, ranks, k), resamples) for k in ks} for name, ranks in orders.items()}
    return Edge(len(query), resamples.patients, rows, len(np.unique(group)))


def _image_rows(
    data: Prepared, space: Space, rows: pl.DataFrame, train: pl.DataFrame, own: FloatArray, ks: tuple[int, ...], seed: int, draws: int
) -> dict[str, Row]:
    truth, archive = (observation_matrix(part) == 1 for part in (rows, train))
    barred = same_owner(rows["study_id"].to_list(), rows["subject_id"].to_list(), train["study_id"].to_list(), train["subject_id"].to_list())
    systems: dict[str, Callable[[slice], Values | FloatArray]] = {"encoder": by_cosine(own, encode_views(data, train, space))}
    random = untrained(space)
    systems["encoder, random weights"] = by_cosine(encode_views(data, rows, random), encode_views(data, train, random))
    systems["raw pixels"] = by_cosine(raw_pixels(data, rows), raw_pixels(data, train))
    noise = np.random.default_rng([seed, 2])
    systems["random"] = lambda part: noise.random((part.stop - part.start, len(train))).astype(np.float32)
    resamples = Resamples(rows["subject_id"].to_list(), np.random.default_rng(seed), draws)
    out = {}
    for name, score in systems.items():
        ranked = metrics.judge(truth, archive, barred, score, ks[-1], COUNTED)  # type: ignore[arg-type]
        cells = {f"p@{k}": partial(metrics.precision, ranked, k) for k in ks} | {f"ndcg@{ks[-1]}": partial(metrics.ndcg, ranked, ks[-1])}
        out[name] = {column: bootstrap(value, resamples) for column, value in cells.items()}
    return out


def untrained(space: Space) -> Space:
    """The same tower as it was before it saw anything."""
    tower = space.image_tower()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = CxrEncoder(build_trunk(tower.trunk.plan), tower.dim)
    return Space(space.text, "", None, fresh.to(space.device).eval(), space.side)


def raw_pixels(data: Prepared, rows: pl.DataFrame) -> FloatArray:
    """(n, 1024): first views at 32 x 32, each with mean 0."""
    out = np.zeros((len(rows), _SIDE * _SIDE), np.float32)
    for positions, images in data.images(rows):
        small = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(images.astype(np.float32))[:, None], _SIDE)
        out[positions] = small.flatten(1).numpy()
    return out - out.mean(axis=1, keepdims=True)


def _lifts(rows: pl.DataFrame, ecg: pl.DataFrame, vectors: dict[str, FloatArray], seed: int, draws: int) -> dict[str, Lift]:
    """X-ray -> ECG by finding, of either modality, of the visits that have both."""
    units = pair_studies(ecg, rows, 1.0)
    both = units[(units >= 0).all(1)]
    if len(both) < 2:
        return {}
    subjects = rows["subject_id"].gather(both[:, 1].tolist()).to_list()
    names = np.array(subjects, dtype=object).astype(str)
    own = names[:, None] == names
    nearest = nearest_others(vectors["X-ray"][both[:, 1]] @ vectors["ECG"][both[:, 0]].T, own, 10)
    seen = observation_matrix(rows)[both[:, 1]] == 1
    said = statement_matrix(ecg)[both[:, 0]] > 0
    resamples = Resamples(subjects, np.random.default_rng(seed), draws)
    out: dict[str, Lift] = {}
    for kind, labels, titles in (("X-ray", seen, OBSERVATIONS), ("ECG", said, CODES)):
        for column, title in enumerate(titles):
            has = labels[:, column]
            if has.sum() >= FEW:
                found = Found.of(nearest, own, has)
                chance = by_chance(nearest, has, found, draws, np.random.default_rng([seed, 5]))
                out[f"{kind}: {title}"] = Lift(int(has.sum()), bootstrap(partial(lift, found), resamples), chance)
    return out


def to_markdown(made: SpaceScores) -> str:
    """One table a question, then how to read them."""
    parts = [markdown_table(head, lines, title) for title, head, lines in _tables(made)]
    parts.append(
        f"Percent, lifts as factors, with 95 % BCa intervals over {made.draws} bootstrap draws of patients (seed {made.seed}). Reports of "
        "one wording are one candidate; ties count against. By chance: 95 % of the lifts when the finding is dealt anew to the ECGs. Relevant "
        "image: shares an observation other than devices."
    )
    return "\n\n".join(parts) + "\n"


def to_rich(made: SpaceScores) -> list[Table]:
    return [rich_table(*table) for table in _tables(made)]


def _tables(made: SpaceScores) -> list[tuple[str, list[str], list[list[str]]]]:
    out = []
    if made.edges:
        columns = list(next(iter(made.edges.values())).rows["encoder"])
        lines = [
            [name, system, str(e.n), str(e.patients), str(e.candidates), *(percent(row[c]) for c in columns)]
            for name, e in made.edges.items() for system, row in e.rows.items()
        ]  # fmt: skip
        out.append(("One visit's modalities find each other", ["direction", "system", "n", "patients", "candidates", *columns], lines))
    if made.images:
        columns = list(made.images["encoder"])
        lines = [[name, str(made.image_queries), *(percent(row[c]) for c in columns)] for name, row in made.images.items()]
        out.append((f"Images find images that show the same ({made.archive} in the archive)", ["system", "n", *columns], lines))
    if made.lifts:
        lines = [
            [name, str(found.n), "{:.2f} [{:.2f}, {:.2f}]".format(found.value.value, *found.value.interval),
             "{:.2f} to {:.2f}".format(*found.chance), found.beyond]
            for name, found in made.lifts.items()
        ]  # fmt: skip
        title = "X-ray to ECG of other patients: how much likelier the finding among the nearest 10"
        out.append((title, ["finding", "n", "lift", "by chance", ""], lines))
    return out
