"""The whole way at use: studies in, drafts out. The same functions that the training stages call; there is no second implementation.

pipe = Pipeline.from_pretrained("starter")
draft = pipe.draft("rec.hea")
print(draft.report, draft.sentences[0].evidence)
hits = pipe.search("rec.hea", k=5)
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
import torch
from torch import Tensor

from regen.artifact import load_manifest, require_partner
from regen.batch import read_studies
from regen.bundle import find_bundle, make_bundle
from regen.chest import draft_chest, see_chest
from regen.data_prep.clean import standard
from regen.data_prep.measure import UNITS
from regen.data_prep.readers import READERS
from regen.encoders.adapter import Adapter
from regen.encoders.recordings import FS, clean_and_measure
from regen.encoders.space import Space, load_space
from regen.encoders.store import Towers
from regen.encoders.training import pick_device
from regen.errors import ConfigError, DataError, did_you_mean
from regen.generators.base import Request, Writer
from regen.generators.local_writer import LocalWriter
from regen.index.archive import Archive
from regen.index.backends import Ids
from regen.index.case_index import Asker, CaseIndex
from regen.study import Draft, FloatArray, Hit, Study

Source = str | Path | Study
TO = {"image": "cxr", "cxr": "cxr", "ecg": "ecg", "report": "report"}
"""What a search may be told to compare with -> the archive's name for it."""
_BATCH = 150
_LONGEST_NAME = 250
"""A path with a longer part cannot exist; a longer text is words."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What the encoder and the ruler make of a batch: rows in the order of the studies."""

    embeddings: FloatArray
    probabilities: FloatArray
    tokens: Tensor
    measures: FloatArray
    flags: list[tuple[str, ...]]


@dataclass(slots=True, eq=False)
class Pipeline:
    """Encoder, archive, writer and adapter of one bundle. ecg_writer: of ECG drafts; adapter: what images show; None where it has none."""

    space: Space
    archive: Archive
    ecg_writer: Writer | None
    folder: Path
    adapter: Adapter | None = None
    name: str = ""

    @classmethod
    def from_pretrained(cls, name: str | Path = "starter", device: str = "auto") -> Pipeline:
        """Load a bundle: 'starter', a folder, or a hub id.

        Raises:
            ArtifactError: no such bundle, a missing, cut or foreign file, or parts that do not belong together.
            ConfigError: device 'cuda' without a GPU.
        """
        folder = find_bundle(name)
        where = pick_device(device)
        manifest = load_manifest(folder, "bundle")
        space = load_space(folder / "encoder", where)
        archive = Archive.open(folder / "index", gpu=where.type == "cuda")
        archive.limits = {**manifest.get("limits", {}), **archive.limits}
        require_partner(f"{folder}/index", archive.fingerprint, space.fingerprint, "regen index build, then regen bundle")
        writer = LocalWriter.open(folder / "generator", archive.part("ecg"), where) if (folder / "generator").is_dir() else None
        if writer is not None:
            writer.name = str(name)
        adapter = Adapter.load(folder / "adapter", space.fingerprint) if (folder / "adapter").is_dir() else None
        return cls(space, archive, writer, folder, adapter, str(name))

    def save_pretrained(self, out: str | Path, force: bool = False) -> None:
        """Copy the bundle this pipeline was loaded from to another folder, whole or not at all."""
        generator, adapter = (self.folder / part if (self.folder / part).is_dir() else None for part in ("generator", "adapter"))
        make_bundle(self.folder / "encoder", self.folder / "index", generator, out, self.folder / "MODEL_CARD.md", force, adapter)

    @property
    def towers(self) -> Towers:
        """The ECG encoder. Raises ConfigError where the bundle has none."""
        if self.space.ecg is None:
            raise ConfigError(f"{self.folder}: expected a bundle that reads ECGs, this one reads {', '.join(self.space.modalities)}; choose another")
        return self.space.ecg

    @property
    def index(self) -> CaseIndex:
        """The archive's ECGs. Raises ConfigError where it has none."""
        return self.archive.part("ecg")

    @property
    def writer(self) -> Writer:
        """The writer of ECG drafts. Raises ConfigError where the bundle has none."""
        if self.ecg_writer is None:
            raise ConfigError(f"{self.folder}: expected a bundle that writes ECG drafts, this one has no generator/; add it with regen bundle")
        return self.ecg_writer

    @property
    def reads_context(self) -> bool:
        """Whether the writer of ECG drafts reads the patient's context."""
        return isinstance(self.ecg_writer, LocalWriter) and self.ecg_writer.recipe.context

    @overload
    def draft(self, source: Source, language: str | None = None) -> Draft: ...  # type: ignore[overload-overlap]
    @overload
    def draft(self, source: Sequence[Source], language: str | None = None) -> list[Draft]: ...
    def draft(self, source: Source | Sequence[Source], language: str | None = None) -> Draft | list[Draft]:
        """Draft a report for a file, a Study or a folder with the views of one chest X-ray, or for several of them.

        Images are decoded in a process that can be killed.

        Raises:
            DataError: a file that cannot be read, or a study without an ECG or a chest X-ray.
        """
        if isinstance(source, (str, Path, Study)):
            return next(self.drafts(read_studies([source]), language))
        return list(self.drafts(read_studies(source), language))

    def drafts(
        self, studies: Iterable[Study], language: str | None = None, *, blank_ecg: bool = False, blank_retrieval: bool = False
    ) -> Iterator[Draft]:
        """Drafts in the order of the studies, batch by batch: memory does not grow with their number.

        language: of the reports, for bundles that know several; without one, what each study declares. blank_ecg, blank_retrieval: hide
        the recording, or the cases, to see what they are worth (`regen eval report` does).
        """
        if language is not None and language not in self.index.languages:
            known = ", ".join(sorted(self.index.languages))
            raise ConfigError(f"language: expected one that the bundle's cases are written in ({known}), got {language!r}")
        studies = iter(studies)
        while batch := list(islice(studies, _BATCH)):
            made: dict[int, Draft] = {}
            chest = [i for i, study in enumerate(batch) if study.cxr and study.ecg is None]
            if chest:
                made |= zip(
                    chest, draft_chest(self.space, self.archive, self.adapter, [batch[i] for i in chest], self.name, blank_retrieval), strict=True
                )
            hearts = [i for i in range(len(batch)) if i not in made]
            if hearts:
                made |= zip(hearts, self._draft_batch([batch[i] for i in hearts], language, blank_ecg, blank_retrieval), strict=True)
            yield from (made[i] for i in range(len(batch)))

    def search(self, source: Source, k: int = 5, own_subject: bool = False, to: str | None = None) -> list[Hit]:
        """The k nearest reported cases. The study itself, later studies and, unless own_subject, its subject's others are never shown.

        source: a file, a folder with the views of one chest X-ray, a Study, or words; to: 'image', 'ecg' or 'report', what to compare with;
        without it the query's own modality, for words the reports.

        Raises:
            DataError: a file that cannot be read.
            ConfigError: the bundle does not read such a study, or its archive holds nothing of that modality.
        """
        if to is not None and to not in TO:
            raise ConfigError(f"--to: expected one of {', '.join(TO)}, got {to!r}{did_you_mean(to, TO)}")
        if isinstance(source, str) and is_query(source):
            return self.archive.part(TO[to or "report"]).hits(self.space.text.encode([source])[0], k, Asker())
        study = self.query(source)
        own, vector = self.place(study)
        return self.archive.part(TO[to] if to else own).hits(vector, k, Asker.of(study, own_subject))

    @staticmethod
    def query(source: Source) -> Study:
        """The study that a search is about; words become a study that holds nothing but them, as its id."""
        return Study(source) if isinstance(source, str) and is_query(source) else next(read_studies([source]))

    def place(self, study: Study) -> tuple[str, FloatArray]:
        """Where a study lies in the space: its modality, 'cxr' or 'ecg', and its vector (dim,). The views of an X-ray are averaged."""
        if study.cxr and (self.space.cxr is not None or study.ecg is None):
            return "cxr", see_chest(self.space, None, [study]).vectors[0]
        return "ecg", self.see([study]).embeddings[0]

    def see(self, studies: Sequence[Study], blank: bool = False) -> Seen:
        """Clean, measure and encode recordings of any rate and length, as training did."""
        raw, flags = [], []
        for study in studies:
            if study.ecg is None:
                lacks = "the study holds nothing but the patient's context" if study.events or study.priors else "the study has none"
                raise DataError(f"{study.study_id}: expected an ECG or a chest X-ray, {lacks}; give a study with a recording")
            signal, more = standard(study.ecg, FS)
            raw.append(np.full_like(signal, np.nan) if blank else signal)
            flags.append(tuple(f for f in more if f not in study.flags))
        cleaned, measures = clean_and_measure(np.stack(raw), FS)
        embeddings, probabilities, tokens = self.towers.encode(cleaned, measures)
        return Seen(embeddings, probabilities, tokens, measures, flags)

    def requests(
        self, studies: Sequence[Study], language: str | None = None, needs: int | None = None, blank_ecg: bool = False
    ) -> tuple[list[Request], dict[str, float]]:
        """What the ECG writer is asked about each study, and the milliseconds a study that finding it out took.

        needs: cases to retrieve, by default as many as the writer needs.
        """
        started = time.perf_counter()
        seen = self.see(studies, blank_ecg)
        encoded = time.perf_counter()
        askers = [Asker.of(study) for study in studies]
        k = self.writer.needs if needs is None else needs
        ids, scores = self.index.search(seen.embeddings, k, askers) if k else _nothing(len(studies))
        found = time.perf_counter()
        declared = [study.language if study.language in self.index.languages else None for study in studies]
        requests = [
            Request(
                replace(study, flags=study.flags + seen.flags[i]), seen.tokens[i], seen.probabilities[i],
                dict(zip(UNITS, seen.measures[i, : len(UNITS)].tolist(), strict=True)), ids[i], scores[i], language or declared[i],
                self.index.why(askers[i]),
            )
            for i, study in enumerate(studies)
        ]  # fmt: skip
        each = 1000 / len(studies)
        return requests, {"encode": round((encoded - started) * each, 3), "retrieve": round((found - encoded) * each, 3)}

    def _draft_batch(self, studies: list[Study], language: str | None, blank_ecg: bool, blank_retrieval: bool) -> list[Draft]:
        requests, spent = self.requests(studies, language, 0 if blank_retrieval else None, blank_ecg)
        return [replace(draft, timing_ms=spent | draft.timing_ms) for draft in self.writer.write(requests)]


def _nothing(rows: int) -> tuple[Ids, FloatArray]:
    return np.zeros((rows, 0), np.int64), np.zeros((rows, 0), np.float32)


def is_query(text: str) -> bool:
    """Words to look for, not the name of a file: nothing of that name exists, and it does not end as files do that are read."""
    if not text.strip():
        raise ConfigError("search: expected a file or words, got nothing; name one")
    if "\n" in text or len(text) > _LONGEST_NAME:
        return True
    path = Path(text)
    if " " not in text and ("." in text or "/" in text):
        return False
    return not path.exists() and path.suffix.lower() not in {*READERS, ".dat", ".mat"} and not path.with_name(path.name + ".hea").exists()


def set_threads(threads: int) -> None:
    """Let torch use this many CPU threads."""
    torch.set_num_threads(threads)
