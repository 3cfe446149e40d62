"""The archive: one case store, one index for each modality that its cases have.

    archive = Archive.open("index")
    archive.modalities                                 ("cxr", "ecg", "report")
    archive.part("cxr").hits(query, k=5, asker=asker)  the images nearest to any vector of the space

    index/
      cases.parquet        all cases, of any modality
      vectors.safetensors  cxr, ecg, report: unit vectors; cxr.rows ...: the cases they belong to (all of them where that is left out)
      thumbs/              small images, where they were asked for
      manifest.json        fingerprint of the encoder; limits: below which cosine nothing is near (regen.index.limits)

A study with several images is one case: its vector is the mean of theirs, of unit length again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from safetensors.numpy import load_file, save_file

from regen.artifact import load_manifest
from regen.data_prep.image_store import Bytes, read_images
from regen.errors import ArtifactError, ConfigError, DataError
from regen.index.case_index import CaseIndex
from regen.index.cases import read_cases
from regen.study import FloatArray

MODALITIES = ("cxr", "ecg", "report")
THUMB = 96
"""Side of a stored thumbnail, pixels."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """rows: (n,) case numbers; vectors: (n, dim) unit."""

    rows: npt.NDArray[np.int64]
    vectors: FloatArray


class Archive:
    """See the module. cases: all of them; found: modality -> which cases have it and their vectors; reports: (n, dim) unit, one a case."""

    def __init__(
        self, cases: pl.DataFrame, found: dict[str, Vectors], reports: FloatArray, fingerprint: str, backend: str = "auto", gpu: bool = False,
        folder: Path | None = None,
    ) -> None:  # fmt: skip
        told = np.flatnonzero(cases["report"].to_numpy() != "")
        self.found = found | ({"report": Vectors(told, reports[told])} if len(told) else {})
        self.cases = cases
        self.reports = reports
        self.fingerprint = fingerprint
        self.folder = folder
        self.limits: dict[str, float] = {}
        """Modality -> cosine of the nearest case below which a study is unlike what was indexed (regen.index.limits)."""
        self._options = (backend, gpu)
        self._parts: dict[str, CaseIndex] = {}

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(name for name in MODALITIES if name in self.found)

    def part(self, modality: str) -> CaseIndex:
        """The index of one modality.

        Raises:
            ConfigError: no case has it.
            DataError: its vectors are not of unit length, or its cases not as the store needs them.
        """
        if modality not in self.found:
            raise ConfigError(f"expected an archive with {modality} cases, this one has {', '.join(self.modalities)}; build it from such studies")
        if modality not in self._parts:
            part = self.found[modality]
            cases = self.cases if len(part.rows) == len(self.cases) else self.cases[part.rows.tolist()]
            self._parts[modality] = CaseIndex(cases, part.vectors, self.reports[part.rows], self.fingerprint, *self._options)
        return self._parts[modality]

    def with_part(self, modality: str, part: CaseIndex) -> Archive:
        """The same archive that searches one modality through another index over the same cases."""
        other = Archive(self.cases, self.found, self.reports, self.fingerprint, *self._options, self.folder)
        other._parts, other.limits = self._parts | {modality: part}, self.limits
        return other

    def thumbnails(self, study_ids: Iterable[str]) -> dict[str, Bytes]:
        """(THUMB, THUMB) uint8 of each of these studies that has one."""
        if self.folder is None or not (self.folder / "thumbs").is_dir() or "cxr" not in self.found:
            return {}
        names = self.part("cxr").cases["study_id"].to_list()
        number = {study: i for i, study in enumerate(names)}
        wanted = [study for study in dict.fromkeys(study_ids) if study in number]
        rows = np.array([number[study] for study in wanted], np.int64)
        return {wanted[i]: image for at, block in read_images(self.folder / "thumbs", rows, THUMB) for i, image in zip(at, block, strict=True)}

    @classmethod
    def open(cls, folder: str | Path, backend: str = "auto", gpu: bool = False) -> Archive:
        """Read and check an index folder.

        Raises:
            ArtifactError: not an index, damaged, or cases and vectors of different number.
        """
        folder = Path(folder)
        manifest = load_manifest(folder, "index")
        stored = load_file(folder / "vectors.safetensors")
        try:
            cases = read_cases(folder / "cases.parquet")
            reports = stored["report"].astype(np.float32)
            reports /= np.linalg.norm(reports, axis=1, keepdims=True).clip(1e-6)
            every = np.arange(len(cases))
            held: list[str] = [name for name in ("cxr", "ecg") if name in stored]
            found = {name: Vectors(stored.get(f"{name}.rows", every), stored[name].astype(np.float32)) for name in held}
            archive = cls(cases, found, reports, manifest["fingerprint"], backend, gpu, folder)
            archive.limits = {name: float(limit) for name, limit in manifest.get("limits", {}).items()}
            for name in found:
                archive.part(name)
        except (DataError, KeyError, IndexError) as error:
            raise ArtifactError(f"{folder}: {error}; rebuild it: regen index build") from error
        return archive

    def save(self, folder: Path) -> None:
        """Write cases and vectors into a folder that is being made (regen.artifact.new_artifact)."""
        self.cases.write_parquet(folder / "cases.parquet")
        stored: dict[str, npt.NDArray] = {"report": self.reports.astype(np.float16)}
        for name in self.found.keys() - {"report"}:
            stored[name] = np.ascontiguousarray(self.found[name].vectors, np.float32)
            if len(self.found[name].rows) < len(self.cases):
                stored[f"{name}.rows"] = self.found[name].rows
        save_file(stored, folder / "vectors.safetensors")
