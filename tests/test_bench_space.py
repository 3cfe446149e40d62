"""`regen bench cxr` behind the reader: both sides see the same images and agree; another kind of model has no plain peer."""

from __future__ import annotations

import pytest

from regen.errors import ConfigError
from regen.eval.bench_space import bench_encoder, lines


def test_both_sides_give_the_same_vectors() -> None:
    result = bench_encoder("timm:resnet10t", images=3, repeats=1, cases=200)
    assert result["cosine_min"] > 0.99
    assert result["product_per_s"]["median"] > 0
    text = "\n".join(lines(result))
    assert "3 images" in text
    assert "200 cases" in text
    with pytest.raises(ConfigError, match="expected timm:NAME"):
        bench_encoder("small")
