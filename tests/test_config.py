"""Recipes: every mistake in one message, and overrides from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from regen.config import Config, load, read_yaml, validate
from regen.encoders.context_recipe import ContextRecipe
from regen.encoders.recipe import EncoderRecipe
from regen.encoders.shared_recipe import SharedRecipe
from regen.errors import ConfigError, RegenError, did_you_mean
from regen.generators.recipe import WriterRecipe


class Inner(Config):
    width: int = 4


class Recipe(Config):
    """A recipe with each kind of key."""

    epochs: int = Field(1, gt=0)
    temperature: float = Field(0.07, gt=0)
    name: str = "starter"
    text: str | None = None
    inner: Inner = Inner()


def test_a_recipe_is_read_and_frozen(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("# regen train encoder r.yaml\nepochs: 3\nname: sm\ninner: {width: 5}\n")
    recipe = load(Recipe, path)
    assert (recipe.epochs, recipe.name, recipe.inner.width, recipe.temperature) == (3, "sm", 5, 0.07)
    with pytest.raises(ValidationError, match="frozen"):
        recipe.epochs = 4  # type: ignore[misc]


def test_three_mistakes_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("epohcs: 3\ntemperature: -1\nname: [a]\n")
    with pytest.raises(ConfigError) as caught:
        load(Recipe, path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "unknown key 'epohcs' (did you mean 'epochs'?)" in message
    assert "temperature must be greater than 0, got -1" in message
    assert "name must be a valid string, got ['a']" in message
    assert message.endswith("; 3 problems")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["epochs=3"], {"epochs": 3}),
        (["epochs=3", "epochs=4"], {"epochs": 4}),
        (["temperature=1e-4"], {"temperature": 1e-4}),
        (["text=a=b"], {"text": "a=b"}),
        (["text=null"], {"text": None}),
        (["inner.width=9"], {"inner": Inner(width=9)}),
    ],
)
def test_set_changes_one_key(overrides: list[str], expected: dict[str, object]) -> None:
    recipe = load(Recipe, None, overrides)
    assert {key: getattr(recipe, key) for key in expected} == expected
    assert recipe.model_copy(update={key: getattr(Recipe(), key) for key in expected}) == Recipe(), "nothing else changed"


def test_set_beats_the_file_and_leaves_its_neighbours(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("epochs: 3\nname: file\n")
    recipe = load(Recipe, path, ["epochs=5"])
    assert (recipe.epochs, recipe.name) == (5, "file")


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("epochs", "expected key=value"),
        ("=3", "unknown key ''"),
        ("name=[1", "YAML"),
        ("epochs.deep=3", "epochs must be a valid integer"),
        ("epochs=0", "epochs must be greater than 0, got 0"),
        ("temperature=warm", "temperature must be a valid number"),
        ("zzz=1", "known: epochs"),
        ("inner.widht=1", "inner.widht"),
    ],
)
def test_a_wrong_override_is_one_config_error(override: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(Recipe, None, [override])
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overrides_and_file_are_judged_together(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("epohcs: 3\n")
    with pytest.raises(ConfigError, match="3 problems"):
        load(Recipe, path, ["temperature=-1", "oops"])


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"- a\n- b\n", "got list"),
        (b"epochs: [1\n", "could not read it"),
        (b"\xff\xfe\x00", "could not read it"),
        (b"1: 2\n", "expected words as keys, got 1"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_config_error(tmp_path: Path, content: bytes, named: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(Recipe, path)
    assert str(path) in str(caught.value)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such recipe"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="could not read it"):
        read_yaml(tmp_path)


def test_an_empty_file_is_the_default_recipe(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("# nothing set\n")
    assert load(Recipe, tmp_path / "r.yaml") == Recipe()


def test_a_missing_key_is_named() -> None:
    class Needs(Config):
        base: str

    with pytest.raises(ConfigError, match=r"r.yaml: key 'base' is missing$"):
        validate(Needs, {}, "r.yaml")


def test_config_errors_are_regen_errors_and_names_help() -> None:
    assert issubclass(ConfigError, RegenError)
    assert did_you_mean("vit_smal", ["vit_small", "resnet"]) == "; did you mean 'vit_small'?"
    assert did_you_mean("qqq", ["b", "a"]) == "; known: a, b"


@pytest.mark.parametrize(("recipe", "field"), [(EncoderRecipe, ""), (SharedRecipe, "cxr_"), (WriterRecipe, "base_"), (ContextRecipe, "")])
def test_heads_divide_the_width_in_every_recipe(recipe: type[Config], field: str) -> None:
    with pytest.raises(ConfigError, match=f"{field}width must be a multiple of {field}heads, got 64 and 5"):
        validate(recipe, {f"{field}width": 64, f"{field}heads": 5}, "test")
