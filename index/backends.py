"""Exact inner-product search, behind one signature: FAISS on CPU or GPU, and torch, which is FAISS's oracle and needs no FAISS.

    search(queries (b, dim), k, banned) -> ids (b, k) int64, scores (b, k) float32; id -1 and score NaN where fewer than k exist

`banned[i]` holds the rows that query i must not see. They are kept out by FAISS's own id selectors, so k results come back where k exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from regen.errors import ConfigError, MissingExtraError, did_you_mean
from regen.study import FloatArray

Ids = npt.NDArray[np.int64]
_GPU_MOST = 2048
"""Neighbours that FAISS finds on a GPU at once; for more the CPU is asked."""


class Backend(Protocol):
    """What an index needs of a search library."""

    def search(self, queries: FloatArray, k: int, banned: Sequence[Ids]) -> tuple[Ids, FloatArray]: ...


class FaissBackend:
    """IndexFlatIP. A batch is searched at once with room for what is banned; rows where that was too little, alone with a selector."""

    def __init__(self, vectors: FloatArray, gpu: bool = False) -> None:
        faiss = import_faiss()
        faiss.cvar.distance_compute_blas_threshold = 20
        self._faiss = faiss
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(np.ascontiguousarray(vectors, np.float32))
        self._index: Any = index
        self._on_gpu = gpu and hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0
        self._batch: Any = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index) if self._on_gpu else index

    def search(self, queries: FloatArray, k: int, banned: Sequence[Ids]) -> tuple[Ids, FloatArray]:
        total = self._index.ntotal
        queries = np.ascontiguousarray(queries, np.float32)
        room = min(total, k + min(64, max((len(b) for b in banned), default=0)))
        if room == 0:
            return _nothing(len(queries), k)
        scores, ids = (self._batch if room <= _GPU_MOST else self._index).search(queries, room)
        out_ids, out_scores = _nothing(len(queries), k)
        for i, forbidden in enumerate(banned):
            keep = ~np.isin(ids[i], forbidden) & (ids[i] >= 0)
            if keep.sum() < min(k, total - len(forbidden)):
                alone_scores, alone_ids = self._alone(queries[i], min(k, total - len(forbidden)), forbidden)
            else:
                alone_scores, alone_ids = scores[i][keep][:k], ids[i][keep][:k]
            out_ids[i, : len(alone_ids)], out_scores[i, : len(alone_ids)] = alone_ids, alone_scores
        return out_ids, out_scores

    def _alone(self, query: FloatArray, k: int, forbidden: Ids) -> tuple[FloatArray, Ids]:
        allowed = self._faiss.IDSelectorNot(self._faiss.IDSelectorBatch(forbidden))
        scores, ids = self._index.search(query[None], k, params=self._faiss.SearchParameters(sel=allowed))
        return scores[0], ids[0]


class TorchBackend:
    """A matrix product and a partial sort, in float32, on the CPU or a GPU."""

    def __init__(self, vectors: FloatArray, gpu: bool = False) -> None:
        import torch

        self._device = torch.device("cuda" if gpu and torch.cuda.is_available() else "cpu")
        self._vectors = torch.from_numpy(np.ascontiguousarray(vectors, np.float32)).to(self._device)

    def search(self, queries: FloatArray, k: int, banned: Sequence[Ids]) -> tuple[Ids, FloatArray]:
        import torch

        out_ids, out_scores = _nothing(len(queries), k)
        take = min(k, len(self._vectors))
        if take == 0:
            return out_ids, out_scores
        scores = torch.from_numpy(np.ascontiguousarray(queries, np.float32)).to(self._device) @ self._vectors.T
        for i, forbidden in enumerate(banned):
            scores[i, torch.from_numpy(forbidden).to(self._device)] = -torch.inf
        best, ids = (x.cpu().numpy() for x in scores.topk(take, dim=1))
        there = np.isfinite(best)
        out_ids[:, :take] = np.where(there, ids, -1)
        out_scores[:, :take] = np.where(there, best, np.nan)
        return out_ids, out_scores


BACKENDS: dict[str, type[Any]] = {"faiss": FaissBackend, "torch": TorchBackend}


def make_backend(name: str, vectors: FloatArray, gpu: bool = False) -> Backend:
    """'faiss', 'torch', or 'auto': FAISS where it is installed.

    Raises:
        ConfigError: an unknown name.
        MissingExtraError: FAISS was asked for and is not installed.
    """
    if name == "auto":
        name = "faiss" if has_faiss() else "torch"
    if name not in BACKENDS:
        raise ConfigError(f"index backend: expected one of {', '.join(BACKENDS)}, got {name!r}{did_you_mean(name, BACKENDS)}")
    backend: Backend = BACKENDS[name](vectors, gpu)
    return backend


def has_faiss() -> bool:
    try:
        import_faiss()
    except MissingExtraError:
        return False
    return True


def import_faiss() -> Any:
    """The faiss module.

    Raises:
        MissingExtraError: neither faiss-cpu nor faiss-gpu is installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError(
            "FAISS is not installed: pip install 'regen-ecg[cpu]' (or '[gpu]' for CUDA 12, never both: they own the same folder)"
        ) from error
    return faiss


def _nothing(rows: int, k: int) -> tuple[Ids, FloatArray]:
    return np.full((rows, k), -1, np.int64), np.full((rows, k), np.nan, np.float32)
