"""Recipes: flat YAML into a frozen pydantic model, every problem in one message.

config = load(EncoderConfig, "configs/ecg.yaml", overrides=["epochs=3", "width=128"])

ConfigError: configs/ecg.yaml: unknown key 'widht' (did you mean 'width'?); epochs must be greater than 0, got -1; 2 problems
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from regen.errors import ConfigError, did_you_mean


class Config(BaseModel):
    """Base of every recipe: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        """Of every pair of fields width and heads, base_width and base_heads, ..."""
        for heads in type(self).model_fields:
            width = f"{heads.removesuffix('heads')}width"
            if heads.endswith("heads") and width in type(self).model_fields and getattr(self, width) % getattr(self, heads):
                raise ValueError(f"{width} must be a multiple of {heads}, got {getattr(self, width)} and {getattr(self, heads)}")
        return self


C = TypeVar("C", bound=Config)


def load(model: type[C], path: str | Path | None, overrides: Sequence[str] = ()) -> C:
    """Read a recipe and apply `--set key=value` overrides, whose values are YAML.

    Raises:
        ConfigError: the file is absent or no YAML mapping, a key is unknown, a value is out of range: all problems at once.
    """
    values: dict[str, Any] = {} if path is None else read_yaml(path)
    problems: list[str] = []
    for override in overrides:
        key, sign, text = override.partition("=")
        if not sign:
            problems.append(f"--set {override!r}: expected key=value")
            continue
        try:
            _put(values, key.strip().split("."), yaml.safe_load(text))
        except (yaml.YAMLError, ValueError):
            problems.append(f"--set {override!r}: expected key=value with a value in YAML (1, true, name, [a, b])")
    return validate(model, values, str(path or "options"), problems)


def validate(model: type[C], values: Mapping[str, Any], who: str, problems: Sequence[str] = ()) -> C:
    """Build the model or say everything that is wrong with the values."""
    found = list(problems)
    try:
        config = model(**values)
    except ValidationError as error:
        found += [_describe(model, item) for item in error.errors()]
    if found:
        count = f"; {len(found)} problems" if len(found) > 1 else ""
        raise ConfigError(f"{who}: {'; '.join(found)}{count}")
    return config


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file that holds one mapping."""
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such recipe; the shipped ones are in configs/") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: expected a YAML file, could not read it ({' '.join(str(error).split())})") from error
    if values is None:
        return {}
    odd = [key for key in values if not isinstance(key, str)] if isinstance(values, dict) else []
    if odd:
        raise ConfigError(f"{path}: expected words as keys, got {odd[0]!r}; put it in quotes or name the key")
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values, got {type(values).__name__}; write 'key: value' lines")
    return values


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a key, or one inside a mapping ('head.width'); what is no mapping yet becomes one, for the model to judge."""
    for key in path[:-1]:
        inner = values.get(key)
        values[key] = values = dict(inner) if isinstance(inner, dict) else {}
    values[path[-1]] = value


def _describe(model: type[BaseModel], item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"unknown key {key!r} ({did_you_mean(key, model.model_fields).removeprefix('; ')})"
    if item["type"] == "missing":
        return f"key {key!r} is missing"
    reason = item["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{key} must be {reason}, got {item['input']!r}" if key else reason
