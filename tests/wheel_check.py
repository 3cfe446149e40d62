"""Run by tests/wheel.sh with the installed wheel: every stage is there under regen., none bare, and the recipes came along."""

from __future__ import annotations

import importlib
import importlib.util
from importlib import resources
from pathlib import Path

import regen

if "site-packages" not in str(Path(regen.__file__)):
    raise SystemExit(f"expected the installed package, got {regen.__file__}")
for name in ("data_prep", "encoders", "index", "generators", "eval", "configs"):
    importlib.import_module(f"regen.{name}")
    if importlib.util.find_spec(name) is not None:
        raise SystemExit(f"{name} landed bare in site-packages")
if not [p for p in resources.files("regen.configs").iterdir() if p.name.endswith(".yaml")]:
    raise SystemExit("the recipes are missing from the wheel")
