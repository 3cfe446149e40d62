"""The house: who may import whom, what is packaged, and that nothing lands bare in site-packages."""

from __future__ import annotations

import ast
import os
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STAGES = ("data_prep", "encoders", "index", "generators", "eval")
GROUND = {"study", "errors", "config", "artifact"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).glob("*.py"))


def imported(path: Path) -> set[str]:
    """Every regen.* or bare stage module that a file imports, at any depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: write the whole name, not a relative import"
            names |= {f"{node.module}.{a.name}" for a in node.names} if node.module == "regen" else {node.module}
    return names


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_only_the_ground_floor_and_stages_before_it(stage: str) -> None:
    allowed = set(STAGES[: STAGES.index(stage) + 1]) | GROUND | {"__version__"}
    assert modules(stage), f"{stage}/ holds no module"
    for path in modules(stage):
        for name in imported(path):
            if name.startswith("regen."):
                assert name.split(".")[1] in allowed, f"{path.name} of {stage}/ imports {name}"


def test_the_ground_floor_imports_no_stage() -> None:
    for name in GROUND:
        for module in imported(ROOT / "regen" / f"{name}.py"):
            assert not module.startswith("regen.") or module.split(".")[1] in GROUND | {"__version__"}, f"regen/{name}.py imports {module}"


def test_no_bare_import_of_a_stage() -> None:
    folders = [*STAGES, "regen", "tests", "configs"]
    seen = [path for folder in folders for path in modules(folder)]
    assert len(seen) > 40
    for path in seen:
        assert not {name.split(".")[0] for name in imported(path)} & set(STAGES), f"{path} imports a stage by its bare name"


def test_every_folder_is_packaged_and_linked() -> None:
    setuptools = PROJECT["tool"]["setuptools"]
    folders = [*STAGES, "configs"]
    assert set(setuptools["packages"]) == {"regen", "regen.evaluating", *(f"regen.{name}" for name in folders)}
    assert setuptools["package-dir"] == {"regen": "regen"} | {f"regen.{name}": name for name in folders}
    for name in folders:
        assert os.readlink(ROOT / "regen" / name) == f"../{name}"
        inside = [p for p in (ROOT / name).iterdir() if p.is_dir() and not p.name.startswith(("__", "."))]
        assert not inside, f"{name}/ must stay flat: a sub-package that is not listed is missing from the wheel ({inside})"


def test_bare_imports_are_banned_by_ruff() -> None:
    assert set(PROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]) == {*STAGES, "configs"}


def test_no_module_has_a_library_name() -> None:
    libraries = {"torch", "faiss", "wfdb", "pydicom", "transformers", "peft", "timm", "numpy", "scipy", "polars", "langchain", "statistics", "types"}
    for folder in (*STAGES, "regen"):
        assert not {path.stem for path in modules(folder)} & libraries
