"""Zero-shot probabilities by hand, on their own for every image, and who answers for which label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from regen.data_prep.chexpert import OBSERVATIONS
from regen.encoders.adapter import Adapter
from regen.encoders.cxr import CxrEncoder
from regen.encoders.image_sources import plan_trunk
from regen.encoders.image_trunks import build_trunk
from regen.encoders.operating_points import OperatingPoint
from regen.encoders.space import Space
from regen.encoders.text import TextTower
from regen.encoders.zero_shot import PROMPTS, Row, classify, wordings, zero_shot
from regen.errors import ArtifactError, ConfigError


class Words:
    """A text tower that knows a few texts by heart."""

    def __init__(self, known: dict[str, tuple[float, float]]) -> None:
        self.known = known

    def encode(self, texts: Sequence[str], batch: int = 256) -> np.ndarray:
        return np.array([self.known[text] for text in texts], np.float32).reshape(len(texts), 2)


def by_heart() -> Space:
    known = {
        "scar.": (1.0, 0.0), "There is scar.": (0.6, 0.8), "Findings of scar.": (0.6, -0.8),
        "No scar.": (0.0, 1.0), "There is no scar.": (0.0, 1.0), "No evidence of scar.": (0.0, 1.0),
    }  # fmt: skip
    text: Any = Words(known)
    return Space(text, "f" * 64)


@pytest.fixture(scope="module")
def space() -> Space:
    """A tiny space with random weights."""
    torch.manual_seed(0)
    cxr = CxrEncoder(build_trunk(plan_trunk("small", 32, False, width=32, depth=1, heads=1, drop_path=0.0)), 16)
    text = TextTower.small([text for pair in PROMPTS.values() for side in pair for text in side], 16, width=32, depth=1, vocabulary=200)
    return Space(text.eval(), "f" * 64, cxr=cxr.eval(), side=32)


def pictures(n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.random((40, 30)).astype(np.float32) for _ in range(n)]


def adapter_for(space: Space, names: list[str], fingerprint: str | None = None) -> Adapter:
    torch.manual_seed(1)
    adapter = Adapter(names, space.image_tower().feature_width, fingerprint=fingerprint or space.fingerprint)
    adapter.points = tuple(OperatingPoint((0.2, 0.3)[i], 5, False, None, "made up") for i in range(len(names)))
    return adapter.eval()


def test_the_probability_is_a_softmax_over_the_two_sides() -> None:
    image = np.array([[0.8, 0.6]], np.float32)
    # the mean of the wordings of presence points along (1, 0), that of absence along (0, 1): 0.8 against 0.6
    assert zero_shot(by_heart(), image, ["scar"], scale=10.0)[0, 0] == pytest.approx(np.exp(8) / (np.exp(8) + np.exp(6)), abs=1e-6)
    # the nearest wording of presence is (0.6, 0.8): 0.96 against 0.6
    best = zero_shot(by_heart(), image, ["scar"], best=True, scale=10.0)[0, 0]
    assert best == pytest.approx(1 / (1 + np.exp(-3.6)), abs=1e-6)


def test_all_14_observations_have_wordings_of_both_sides_and_others_get_general_ones() -> None:
    assert tuple(PROMPTS) == OBSERVATIONS
    texts = [text for pair in PROMPTS.values() for side in pair for text in side]
    assert len(texts) == len(set(texts)), "a wording stands once"
    assert all(len(present) == len(absent) >= 3 for present, absent in PROMPTS.values())
    assert wordings("Pleural_Thickening")[0][0] == "pleural thickening."
    with pytest.raises(ConfigError, match="empty"):
        wordings(" ")


@pytest.mark.parametrize("best", [False, True])
def test_an_image_alone_gets_what_it_gets_among_others(space: Space, best: bool) -> None:
    vectors, _, _ = space.encode_images(pictures(6))
    names = [*OBSERVATIONS, "hiatal hernia"]
    together = zero_shot(space, vectors, names, best)
    assert together.shape == (6, 15)
    assert ((together > 0) & (together < 1)).all()
    alone = np.concatenate([zero_shot(space, vectors[i : i + 1], names, best) for i in range(6)])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    np.testing.assert_allclose(zero_shot(space, vectors, names[::-1], best)[:, ::-1], together, atol=1e-4)
    assert zero_shot(space, vectors, [], best).shape == (6, 0)
    assert zero_shot(space, vectors[:0], names, best).shape == (0, 15)


def test_a_nearer_text_is_likelier(space: Space) -> None:
    """Images put where the wordings lie: each side wins where it should."""
    for name in OBSERVATIONS:
        present, absent = (space.text.encode(list(side)) for side in wordings(name))
        p = zero_shot(space, np.concatenate([present, absent]), [name], best=True)[:, 0]
        assert (p[: len(present)] >= 0.5).all()
        assert (p[len(present) :] <= 0.5).all()


def test_classify_says_who_says_what(space: Space) -> None:
    rows = classify(space, pictures(3))
    assert [[row.name for row in each] for each in rows] == [list(OBSERVATIONS)] * 3
    assert {(row.how, row.threshold) for each in rows for row in each} == {("zero-shot", 0.5)}

    adapter = adapter_for(space, ["tube too deep", "Edema"])
    mixed = classify(space, pictures(3), adapter=adapter)
    assert [row.name for row in mixed[0]] == [*OBSERVATIONS, "tube too deep"]
    assert {row.name for row in mixed[0] if row.how == "adapter"} == {"tube too deep", "Edema"}
    stated = adapter.probabilities(space.encode_images(pictures(3))[2])
    for i, each in enumerate(mixed):
        for row, before in zip(each, rows[i], strict=False):
            if row.how == "zero-shot":
                assert row == before
        of = {row.name: row for row in each}
        assert of["Edema"] == Row("Edema", stated[i, 1], 0.3, stated[i, 1] >= 0.3, "adapter")
        assert of["tube too deep"].threshold == 0.2
    own = classify(space, pictures(1), ["Edema", "rib notching"], adapter)
    assert [(row.name, row.how) for row in own[0]] == [("Edema", "adapter"), ("rib notching", "zero-shot")]
    assert classify(space, []) == []


def test_what_does_not_fit_is_refused(space: Space) -> None:
    with pytest.raises(ConfigError, match="expected 'chexpert' or a list"):
        classify(space, pictures(1), "Edema")
    with pytest.raises(ArtifactError, match="rebuild: regen adapt"):
        classify(space, pictures(1), adapter=adapter_for(space, ["Edema"], "a" * 64))
    with pytest.raises(ConfigError, match="above 0"):
        zero_shot(space, np.zeros((1, 16), np.float32), ["Edema"], scale=0)
    with pytest.raises(ConfigError, match="reads text"):
        classify(by_heart(), pictures(1), ["scar"])
