"""What the tests share: where the open data is, PTB-XL laid out once, a small synthetic cohort, and records made on the spot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from regen.data_prep import synthetic_cohort
from regen.data_prep.prepared import Prepared, write

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of open data: REGEN_DATA, else ../shared/data beside the project."""
    root = Path(os.environ.get("REGEN_DATA") or ROOT.parent / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"no open data: neither REGEN_DATA nor {root} is a folder")
    return root


@pytest.fixture(scope="session")
def ptbxl_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PTB-XL in its official layout: REGEN_PTBXL where it is unpacked already, else unpacked here. A cut archive gives what it holds."""
    ready = os.environ.get("REGEN_PTBXL")
    if ready:
        return Path(ready)
    packed = Path(os.environ.get("REGEN_DATA") or ROOT.parent / "shared" / "data") / "ptb-xl"
    if not (packed / "unpack.py").exists():
        pytest.skip(f"no PTB-XL: set REGEN_PTBXL to an unpacked folder, or put the packed one at {packed}")
    out = tmp_path_factory.mktemp("ptbxl")
    done = subprocess.run([sys.executable, str(packed / "unpack.py"), str(packed), str(out)], capture_output=True, text=True, check=False)
    if not any(out.rglob("*.hea")):
        pytest.skip(f"PTB-XL does not unpack: {done.stderr.strip().splitlines()[-1:]}")
    return out


@pytest.fixture(scope="session")
def ptbxl_records(ptbxl_root: Path) -> list[Path]:
    """Every PTB-XL header at hand whose samples are there too."""
    records = sorted(p for p in (ptbxl_root / "records500").rglob("*.hea") if p.with_suffix(".dat").exists())
    if not records:
        pytest.skip(f"no PTB-XL record below {ptbxl_root}")
    return records


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A prepared folder of 60 synthetic studies of 48 patients."""
    out = tmp_path_factory.mktemp("cohort") / "data"
    write(synthetic_cohort.entries(60, seed=7), out, "synthetic", {"n": 60}, workers=2)
    return Prepared.open(out)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240301)
