"""Every shipped recipe loads, and every example, in a recipe or a help text, is a command that parses as typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from models import CONFIGS

from regen.cli import app
from regen.config import load, read_yaml
from regen.encoders.context_recipe import ContextRecipe
from regen.encoders.recipe import EncoderRecipe
from regen.encoders.shared_recipe import load_encoder_recipe
from regen.generators.recipe import WriterRecipe
from regen.train_all import _recipes

RECIPES = sorted(CONFIGS.glob("*.yaml"))


def parse(words: list[str]) -> tuple[str, dict[str, Any]]:
    """Names of group and command, and the values of the options, or what the command line says against them."""
    group: Any = typer.main.get_command(app)
    context, names = None, []
    while hasattr(group, "commands"):
        context = group.make_context("regen", words, parent=context)
        rest = [*getattr(context, "_protected_args", []), *context.args]
        name, group, words = group.resolve_command(context, rest)
        names.append(name)
    return " ".join(names), group.make_context(names[-1], words, parent=context).params


def leaves(group: Any = None, before: str = "") -> Iterator[tuple[str, Any]]:
    group = typer.main.get_command(app) if group is None else group
    for name, inner in group.commands.items():
        if hasattr(inner, "commands"):
            yield from leaves(inner, f"{before}{name} ")
        else:
            yield f"{before}{name}", inner


def test_the_recipes_are_found() -> None:
    assert {"ecg.yaml", "writer.yaml", "starter.yaml"} <= {path.name for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_loads_and_opens_with_its_command(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first.startswith("# regen "), f"{path.name}: the first line is no command: {first}"
    name, options = parse(shlex.split(first.removeprefix("# regen ")))
    stage, kind = name.split()
    assert stage == "train"
    assert Path(options["recipe"]).name == path.name
    if kind == "all":
        encoder, writer, _ = _recipes(path, ())
        assert isinstance(encoder, EncoderRecipe)
        assert isinstance(writer, WriterRecipe)
        return
    values = read_yaml(path)
    recipe = load_encoder_recipe(path) if kind == "encoder" else load(ContextRecipe if kind == "context" else WriterRecipe, path)
    assert values, "an empty recipe says nothing"
    assert {key: getattr(recipe, key) for key in values} == values, "every key says what it sets"


def test_every_help_ends_with_an_example_that_works_as_typed() -> None:
    found = 0
    for name, inner in leaves():
        text = " ".join((inner.help or "").split())
        example = re.search(r"Example: regen (.+)$", text)
        assert example, f"regen {name}: the help ends with no example"
        assert parse(shlex.split(example[1]))[0] == name
        found += 1
    assert found >= 12
