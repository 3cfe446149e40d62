"""`regen doctor`: what is installed, what this machine can do, and what an absent extra would add."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Iterator
from importlib import metadata

from regen import __version__

_PACKAGES = (
    "torch", "torchvision", "timm", "open_clip_torch", "transformers", "peft", "sentence-transformers", "langchain", "wfdb", "pydicom",
    "faiss-cpu", "faiss-gpu", "numpy", "scipy", "polars",
)  # fmt: skip
_CODECS = {
    "pylibjpeg": "JPEG and JPEG 2000 in DICOM images", "openjpeg": "JPEG 2000 in DICOM images (pylibjpeg-openjpeg)",
    "jpeg_ls": "JPEG-LS in DICOM images (pyjpegls)", "imagecodecs": "lossless JPEG in DICOM images, quickly",
}  # fmt: skip


def report() -> Iterator[str]:
    """Lines of text, in the order in which a person debugs."""
    yield f"regen {__version__}, Python {platform.python_version()}, {platform.platform()}"
    missing = []
    for name in _PACKAGES:
        version = _version(name)
        if version:
            yield f"  {name} {version}"
        else:
            missing.append(name)
    yield from _devices()
    yield from _search(missing)
    for module, gives in _CODECS.items():
        there = importlib.util.find_spec(module) is not None
        yield f"codec {module}: {'there' if there else f'absent; would add {gives}'}"
    others = [name for name in missing if not name.startswith("faiss")]
    if others:
        yield f"missing: {', '.join(others)}; install again: pip install 'regen-ecg[cpu]'"
    yield from _starter()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[str]:
    import torch

    from regen.encoders.training import has_fast_bf16

    fast = "bfloat16" if has_fast_bf16(torch.device("cpu")) else "float32"
    yield f"CPU: {torch.get_num_threads()} threads, computes in {fast}"
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            yield f"GPU {i}: {torch.cuda.get_device_name(i)}, {torch.cuda.mem_get_info(i)[1] / 2**30:.0f} GiB (--device cuda)"
    else:
        yield "GPU: torch sees none; everything runs on the CPU"


def _search(missing: list[str]) -> Iterator[str]:
    both = [name for name in ("faiss-cpu", "faiss-gpu") if name not in missing]
    if len(both) == 2:
        yield "FAISS: faiss-cpu and faiss-gpu are both installed and overwrite each other; pip uninstall both, then install one"
    elif not both:
        yield "FAISS: absent; search runs exactly in torch. pip install 'regen-ecg[cpu]' adds it, '[gpu]' on a CUDA machine"
    else:
        import faiss

        gpus = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
        yield f"FAISS: {both[0]}, {gpus} GPUs" + ("" if both[0] == "faiss-gpu" else "; the extra [gpu] would add search on a CUDA GPU")


def _starter() -> Iterator[str]:
    from regen.artifact import load_manifest
    from regen.bundle import STARTER
    from regen.errors import ArtifactError

    try:
        manifest = load_manifest(STARTER, "bundle")
    except ArtifactError as error:
        yield f"starter: damaged ({error})"
    else:
        yield f"starter: whole, fingerprint {manifest['fingerprint'][:8]}"
