"""What the tests share: where the open data is, PTB-XL laid out once, a small synthetic cohort, and records made on the spot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
from pictures import COLUMNS, ROWS

from regen.data_prep import synthetic_cohort
from regen.data_prep.prepare import write
from regen.data_prep.prepared import Prepared
from regen.eval.dicom_samples import phantom

if TYPE_CHECKING:
    from regen import Pipeline

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
def pixels() -> npt.NDArray[np.uint16]:
    """(90, 70) a synthetic chest as a DICOM holds it."""
    return phantom(ROWS, COLUMNS, np.random.default_rng(5))


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A prepared folder of 60 synthetic studies of 48 patients."""
    out = tmp_path_factory.mktemp("cohort") / "data"
    write(synthetic_cohort.entries(60, seed=7), out, "synthetic", {"n": 60}, workers=2)
    return Prepared.open(out)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240301)


# What follows is shared by the tests that need a model. One thread a process: on two busy cores threads that wait for each other cost more
# than they give, here by a factor of eight. No test may reach the network.
os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A prepared folder of 160 synthetic studies, from which the tiny bundle is made."""
    out = tmp_path_factory.mktemp("tiny") / "data"
    write(synthetic_cohort.entries(160, seed=3), out, "synthetic", {"n": 160}, workers=2)
    return Prepared.open(out)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory, tiny_data: Prepared) -> Path:
    """A whole bundle, trained once in about half a minute through the function behind `regen train all`."""
    from models import train_tiny

    out = tmp_path_factory.mktemp("tiny") / "bundle"
    train_tiny(tiny_data.path, out)
    return out


@pytest.fixture(scope="session")
def pipeline(tiny_bundle: Path) -> Pipeline:
    """The tiny bundle, loaded as a user loads it."""
    from regen import Pipeline

    return Pipeline.from_pretrained(tiny_bundle, "cpu")


@pytest.fixture(scope="session")
def float32_pipeline(tiny_bundle: Path) -> Pipeline:
    from models import without_bf16

    from regen import Pipeline

    with pytest.MonkeyPatch.context() as patch:
        without_bf16(patch)
        return Pipeline.from_pretrained(tiny_bundle, "cpu")


@pytest.fixture
def exact(float32_pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """The tiny bundle in float32, where a batch and its studies one by one differ by rounding alone, not by bfloat16's."""
    from models import without_bf16

    without_bf16(monkeypatch)
    return float32_pipeline


@pytest.fixture(scope="session")
def ed_data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A prepared folder of 120 synthetic visits with their emergency stays joined."""
    from regen.data_prep.mimic_ed import prepare
    from regen.data_prep.synthetic_ed import write_ed

    folder = tmp_path_factory.mktemp("ed")
    write(synthetic_cohort.entries(120, 9, ("ecg", "ed")), folder / "plain", "synthetic", {"n": 120}, 100, workers=1)
    write_ed(folder / "ed", 120, 9)
    prepare(folder / "ed", Prepared.open(folder / "plain"), folder / "data")
    return Prepared.open(folder / "data")


@pytest.fixture(scope="session")
def ed_encoder(ed_data: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ECG encoder of that cohort."""
    from models import CPU, encoder_recipe

    from regen.encoders.train import train_encoder

    out = tmp_path_factory.mktemp("ed_encoder") / "encoder"
    train_encoder(encoder_recipe("pretrain_epochs=0", "align_epochs=1"), ed_data.path, out, CPU)
    return out
