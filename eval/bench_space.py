"""`regen bench cxr`, the part behind the reader: images to vectors, and a vector to its nearest cases.

    result = bench_encoder("timm:vit_small_patch16_224", images=64, repeats=5)
    result["ratio"]                                       images a second, ours over the same timm model called plainly in float32

The plain call is the model itself on a batch of ready tensors. Ours starts at the pixels: it normalises, encodes in bfloat16 where that is fast,
pools and projects to the unit vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from regen.encoders.cxr import CxrEncoder
from regen.encoders.image_sources import plan_trunk
from regen.encoders.image_trunks import build_trunk
from regen.encoders.space import Space
from regen.encoders.text import TextTower
from regen.errors import ConfigError
from regen.eval import timing
from regen.index.backends import make_backend

_DIM = 256


def bench_encoder(name: str, images: int = 64, repeats: int = 5, cases: int = 100_000) -> dict[str, Any]:
    """Both sides in turns on the same random images, then single queries against an archive of `cases` random vectors.

    Raises:
        ConfigError: not a timm model.
    """
    if not name.startswith("timm:"):
        raise ConfigError(f"--encoder: expected timm:NAME, whose plain call is the peer, got {name!r}")
    torch.manual_seed(0)
    plan = plan_trunk(name, 224, False)
    tower = CxrEncoder(build_trunk(plan), _DIM).eval()
    space = Space(TextTower.small(["x"], _DIM, 32, 1, vocabulary=64), "", None, tower, plan.size)
    pixels = np.random.default_rng(0).integers(0, 256, (images, plan.size, plan.size), np.uint8)
    ready = ((torch.from_numpy(pixels.astype(np.float32) / 255)[:, None] - tower.trunk.mean) / tower.trunk.std).contiguous()
    plain = tower.trunk.model

    @torch.no_grad()
    def theirs(_: None) -> torch.Tensor:
        return torch.cat([plain.forward_features(part) for part in ready.split(64)])  # type: ignore[operator]

    times = timing.interleave({"product": lambda _: space.encode_images(pixels), "peer": theirs}, [None], repeats)
    with torch.no_grad():
        plainly = tower.embed(tower.features(tower.trunk.patches(ready)))
        cosine = float((torch.from_numpy(space.encode_images(pixels)[0]) * plainly).sum(1).min())
    vectors = F.normalize(torch.randn(cases, _DIM), dim=1).numpy()
    backend = make_backend("auto", vectors)
    nobody = [np.zeros(0, np.int64)]
    search = timing.interleave({"search": lambda i: backend.search(vectors[i : i + 1], 10, nobody)}, list(range(20)), repeats)
    return {
        "machine": timing.machine(), "model": name, "images": images, "cases": cases, "repeats": repeats,
        "product_per_s": timing.spread([images / t for t in times["product"].wall]),
        "peer_per_s": timing.spread([images / t for t in times["peer"].wall]),
        "ratio": timing.ratio(times["peer"], times["product"]), "cosine_min": cosine,
        "search_ms": timing.spread(search["search"].wall, 1000 / 20),
    }  # fmt: skip


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The result for people."""
    yield timing.machine_line(result["machine"])
    yield (
        f"encoder {result['model']}, {result['images']} images: {timing.shown(result['product_per_s'], 1)} a second; the model alone in float32 "
        f"{timing.shown(result['peer_per_s'], 1)}; ratio {timing.shown(result['ratio'])}; cosine of the vectors at least {result['cosine_min']:.4f}"
    )
    yield f"search: {timing.shown(result['search_ms'])} ms a query among {result['cases']} cases of {_DIM} numbers"
