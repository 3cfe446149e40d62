"""Heat maps: an encoder that looks at two known squares and nowhere else, so that it is known what each map must show."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from regen.encoders import heatmap
from regen.encoders.cxr import CxrEncoder
from regen.encoders.heatmap import Method, gradient_grid, occlusion_check, occlusion_grid, sentence_maps, top_tenth
from regen.encoders.image_sources import plan_trunk
from regen.encoders.image_trunks import build_trunk
from regen.encoders.space import Space
from regen.errors import ConfigError, DataError
from regen.study import FloatArray

SIDE = 48
SQUARES = {"upper": (slice(8, 24), slice(4, 20)), "lower": (slice(28, 44), slice(28, 44))}
WAYS: tuple[Method, Method] = ("occlusion", "gradient")


class Squares(nn.Module):
    """A trunk whose tokens are the pixels of two squares: channel 0 holds the upper one's, channel 1 the lower one's."""

    width = 2

    def forward(self, images: Tensor) -> Tensor:
        seen = torch.zeros(2, SIDE, SIDE)
        for channel, square in enumerate(SQUARES.values()):
            seen[channel][square] = SIDE * SIDE / 256
        return (images[:, None] * seen).flatten(2).transpose(1, 2)


class Words(nn.Module):
    """'upper' is the first axis, 'lower' the second."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(1, 1)

    def encode(self, texts: list[str]) -> FloatArray:
        return np.array([[text == "upper", text == "lower", text == "neither"] for text in texts], np.float32).reshape(-1, 3)


def space_of(scale: float = 1.0) -> Space:
    """Embeds as (upper, lower, 0.5), before it is brought to unit length; scale 0: the same for all images."""
    tower = CxrEncoder(Squares(), 3)  # type: ignore[arg-type]
    tower.last = nn.Identity()  # type: ignore[assignment]
    with torch.no_grad():
        tower.project.weight.zero_()
        tower.project.weight[0, 0] = tower.project.weight[1, 1] = scale
        tower.project.bias.copy_(torch.tensor([0.0, 0.0, 0.5]))
    return Space(Words(), "f", None, tower.eval(), SIDE)  # type: ignore[arg-type]


def image_of() -> FloatArray:
    """Both squares bright in a dark, noisy image."""
    out = np.random.default_rng(0).uniform(0, 0.2, (SIDE, SIDE)).astype(np.float32)
    for square in SQUARES.values():
        out[square] += 0.6
    return out


def inside(heat: FloatArray, name: str) -> float:
    """Share of the map's top tenth in the square."""
    true = np.zeros(heat.shape, np.bool_)
    true[SQUARES[name]] = True
    return float(true[top_tenth(heat)].mean())


@pytest.mark.parametrize("method", WAYS)
def test_the_top_tenth_lies_where_the_score_comes_from(method: Method) -> None:
    maps = sentence_maps(space_of(), image_of(), ["upper", "lower"], method)
    assert maps.shape == (2, SIDE, SIDE)
    assert maps.dtype == np.float32
    assert maps.min() >= 0
    assert maps.max((1, 2)).tolist() == [1, 1]
    for heat, here, there in zip(maps, SQUARES, reversed(SQUARES), strict=True):
        assert inside(heat, here) > 0.85
        assert inside(heat, there) == 0


def test_the_two_methods_agree() -> None:
    one, other = (sentence_maps(space_of(), image_of(), ["lower"], method)[0] for method in WAYS)
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.8


@pytest.mark.parametrize("method", WAYS)
def test_what_moves_nothing_is_zero_and_never_nan(method: Method) -> None:
    assert not sentence_maps(space_of(0.0), image_of(), ["upper", "neither"], method).any()
    flat = sentence_maps(space_of(), np.full((SIDE, SIDE), 0.5, np.float32), ["upper"], method)
    assert np.abs(np.nan_to_num(flat, nan=9)).max() == 0


@pytest.mark.parametrize("method", WAYS)
@pytest.mark.parametrize(("shape", "wanted"), [((60, 30), (48, 24)), ((20, 40), (24, 48)), ((48, 48), (48, 48))])
def test_maps_have_the_shape_of_the_image(method: Method, shape: tuple[int, int], wanted: tuple[int, int]) -> None:
    image = (np.random.default_rng(0).random(shape) * 255).astype(np.uint8)
    maps = sentence_maps(space_of(), image, ["upper"], method)
    assert maps.shape == (1, *wanted)
    np.testing.assert_allclose(sentence_maps(space_of(), image.astype(np.float32) / 255, ["upper"], method), maps, atol=1e-5)
    assert sentence_maps(space_of(), image, [], method).shape == (0, *wanted)


def test_a_map_lies_over_its_image_where_the_square_was_padded() -> None:
    """The wide image is the middle of the tower's square: what is upper there is moved up by the padding."""
    wide = image_of()[6:42]
    heat = sentence_maps(space_of(), wide, ["upper"])[0]
    assert heat.shape == wide.shape
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 2 <= row < 18
    assert 4 <= column < 20


def small_space() -> Space:
    torch.manual_seed(0)
    plan = plan_trunk("small", SIDE, False, width=32, depth=2, heads=1, drop_path=0.0)
    return Space(Words(), "f", None, CxrEncoder(build_trunk(plan), 3).eval(), SIDE)  # type: ignore[arg-type]


def test_occlusion_in_batches_is_occlusion_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    space, seen = small_space(), torch.from_numpy(image_of())
    tower = space.image_tower()
    wanted, count = np.zeros((12, 12)), np.zeros((12, 12))
    with torch.no_grad():
        whole = tower(seen[None])[0, 1]
        for i in range(11):
            for j in range(11):
                hidden = seen.clone()
                hidden[4 * i : 4 * i + 8, 4 * j : 4 * j + 8] = seen.mean()
                wanted[i : i + 2, j : j + 2] += float(whole - tower(hidden[None])[0, 1])
                count[i : i + 2, j : j + 2] += 1
    for batch in (64, 7):
        monkeypatch.setattr(heatmap, "_BATCH", batch)
        made = occlusion_grid(space, seen, lambda features: tower.embed(features)[:, 1:2])
        np.testing.assert_allclose(made[0].numpy(), wanted / count, atol=2e-6)


def test_the_gradients_add_up_to_the_change_of_the_score() -> None:
    """Completeness of integrated gradients: over all pixels they sum to the score of the image less that of the blurred one."""
    space, image = space_of(), image_of()
    tower = space.image_tower()
    grid = gradient_grid(space, torch.from_numpy(image), lambda features: tower.embed(features)[:, :2])
    with torch.no_grad():
        change = (tower(torch.from_numpy(image)[None]) - tower(torch.from_numpy(heatmap._blurred(image))[None]))[0, :2]
    torch.testing.assert_close(grid.sum((1, 2)), change, atol=1e-3, rtol=0)
    assert not any(p.grad is not None for p in tower.parameters())


# --- the check


def test_the_check_tells_a_right_map_from_a_wrong_one() -> None:
    right = np.zeros((SIDE, SIDE), np.float32)
    right[SQUARES["upper"]] = 1
    wrong = np.roll(right, (0, 24), (0, 1))
    image = image_of()
    image[SQUARES["lower"]] -= 0.6
    images = [image] * 3
    made = occlusion_check(space_of(), images, ["upper"] * 3, [right, wrong, 0 * right], np.random.default_rng(0))
    assert made[0] > 0
    assert made[1] < 0
    assert np.isnan(made[2]), "nothing was claimed"
    again = occlusion_check(space_of(), images, ["upper"] * 3, [right, wrong, 0 * right], np.random.default_rng(0))
    np.testing.assert_array_equal(again, made)


def test_the_check_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """No blur but black, one draw that is the map itself: nothing is left of the difference. A draw elsewhere: all of it."""
    monkeypatch.setattr(heatmap, "_blurred", np.zeros_like)
    right = np.zeros((SIDE, SIDE), np.float32)
    right[SQUARES["upper"]] = 1
    right[23] = 0  # 240 pixels: a little more than a tenth
    space, image = space_of(), image_of()
    hidden = image.copy()
    hidden[top_tenth(right)] = 0
    with torch.no_grad():
        scores = space.image_tower()(torch.from_numpy(np.stack([image, hidden])))[:, 0]

    def check(*shift: int) -> float:
        steps = iter(shift)
        rng: Any = SimpleNamespace(integers=lambda low, high, n: np.array([next(steps)]))
        return float(occlusion_check(space, [image], ["upper"], [right], rng, draws=1)[0])

    assert check(0, 0) == pytest.approx(0, abs=1e-6)
    assert check(0, 24) == pytest.approx(float(scores[0] - scores[1]), abs=1e-6)


def test_top_tenth_takes_the_highest_and_nothing_that_is_zero() -> None:
    heat = np.arange(100, dtype=np.float32).reshape(10, 10)
    assert np.flatnonzero(top_tenth(heat)).tolist() == list(range(90, 100))
    heat[heat < 96] = 0
    assert np.flatnonzero(top_tenth(heat)).tolist() == list(range(96, 100))
    assert not top_tenth(np.zeros((10, 10), np.float32)).any()


def test_what_does_not_fit_is_refused() -> None:
    space, image = space_of(), image_of()
    with pytest.raises(ConfigError, match="did you mean 'gradient'"):
        sentence_maps(space, image, ["upper"], "gradients")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="reads text"):
        sentence_maps(Space(Words(), "f"), image, ["upper"])  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"expected an image of \(height, width\)"):
        sentence_maps(space, image[None], ["upper"])
    with pytest.raises(DataError, match="got 1, 2, 1"):
        occlusion_check(space, [image], ["upper"] * 2, [image], np.random.default_rng(0))
    with pytest.raises(DataError, match=r"expected a map of \(48, 48\)"):
        occlusion_check(space, [image], ["upper"], [image[1:]], np.random.default_rng(0))
    assert occlusion_check(space, [], [], [], np.random.default_rng(0)).shape == (0,)
