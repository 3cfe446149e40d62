"""The card of chest X-ray drafts, and which modality is scored where nobody says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from regen.bundle import STARTER
from regen.cli import main
from regen.data_prep.chexpert import OBSERVATIONS
from regen.data_prep.prepare import write
from regen.data_prep.prepared import Prepared
from regen.data_prep.synthetic_cohort import entries
from regen.errors import ArtifactError, ConfigError
from regen.evaluating.card import write_card
from regen.evaluating.chest import chest_card, chest_table, evaluate_chest
from regen.evaluating.chest_systems import Drafted, lines, read, references_of
from regen.evaluating.space import modality_of


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Synthetic chest X-rays alone."""
    out = tmp_path_factory.mktemp("chest_card") / "data"
    write(entries(90, 5, ("cxr",)), out, "synthetic", {}, workers=1, pixels=32)
    return Prepared.open(out)


@pytest.fixture
def rows(data: Prepared) -> pl.DataFrame:
    return data.split_cxr("test")


@pytest.fixture
def system(rows: pl.DataFrame, rng: np.random.Generator) -> Drafted:
    """Gold drafts but for the first study's, with probabilities and judged sentences."""
    n = len(rows)
    return Drafted("gold", ["", *rows["report"].to_list()[1:]], np.array([[1.0, 2.0]] * n), rng.random((n, len(OBSERVATIONS))))


def test_the_folder_holds_tables_curves_images_and_drafts_to_score_again(data: Prepared, rows: pl.DataFrame, system: Drafted, tmp_path: Path) -> None:
    references = references_of(rows)
    made = chest_table(rows, references, [system, Drafted("other", ["No pneumothorax."] * len(rows))], set(), draws=20)
    assert made.missing == {"gold": 1, "other": 0}
    write_card(chest_card(made, data, rows, references, [system], None, "test"), tmp_path / "card")
    metrics = json.loads((tmp_path / "card" / "metrics.json").read_text())
    assert metrics == json.loads(json.dumps(made.to_dict())) | {"split": "test", "bundle": "none"}
    page = (tmp_path / "card" / "card.html").read_text()
    assert page.count("<svg") == 3
    assert page.count("data:image/png") >= min(len(rows), 9)
    for kind in ("Best", "Worst", "Drawn at random", "Risk over coverage", "gold: 1 studies without a draft"):
        assert kind in page
    assert not re.findall(r"(?:src|href)=.https?:", page)
    worst = page[page.index("<h2>Worst") : page.index("<h2>Drawn")]
    assert f"{rows['study_id'][0]}, F1 0" in worst
    again = read(tmp_path / "card" / "predictions" / "00-gold.jsonl", None, references)
    assert again.reports == system.reports
    np.testing.assert_allclose(again.probabilities, system.probabilities, atol=1e-5)
    np.testing.assert_array_equal(again.sentences, system.sentences)
    with pytest.raises(ArtifactError, match="exists"):
        write_card(chest_card(made, data, rows, references, [system], None, "test"), tmp_path / "card")


def test_without_probabilities_there_are_no_curves(data: Prepared, rows: pl.DataFrame, system: Drafted, tmp_path: Path) -> None:
    references, plain = references_of(rows), Drafted("plain", system.reports)
    made = chest_table(rows, references, [plain], set(), draws=5)
    assert all("findings" not in line and "sentences" not in line for line in lines(plain, references))
    write_card(chest_card(made, data, rows, references, [plain], "b", "test"), tmp_path / "card")
    assert "No probabilities, so no curves." in (tmp_path / "card" / "card.html").read_text()


def test_drafts_of_images_are_scored_without_a_bundle(capsys: pytest.CaptureFixture[str], data: Prepared, rows: pl.DataFrame, tmp_path: Path) -> None:
    peer = tmp_path / "peer.csv"
    peer.write_text("study_id,report\n" + "".join(f"{study},No pneumothorax.\n" for study in rows["study_id"]))
    with pytest.raises(SystemExit) as stopped:
        main(["eval", "report", str(peer), "--studies", str(data.path), "--out", str(tmp_path / "card")])
    assert stopped.value.code in (None, 0), capsys.readouterr().err
    systems = json.loads((tmp_path / "card" / "metrics.json").read_text())["blocks"][0]["systems"]
    assert next(iter(systems)) == "peer"
    assert "nearest raw pixels" in systems
    assert "nearest in the encoder" not in systems


def test_what_is_missing_is_named(data: Prepared, cohort: Prepared) -> None:
    assert modality_of(data.path, None, None) == modality_of(data.path, None, "cxr") == "cxr"
    assert modality_of(cohort.path, None, None) == "ecg"
    with pytest.raises(ConfigError, match="expected drafts of chest X-rays to score or a --bundle"):
        evaluate_chest(data.path, "test", [], None, None, "cpu", 0, False)
    with pytest.raises(ConfigError, match=r"expected chest X-rays in .* it holds none"):
        modality_of(cohort.path, None, "cxr")
    for asked in (None, "cxr"):
        with pytest.raises(ConfigError, match="expected a bundle that reads the chest X-rays"):
            modality_of(data.path, str(STARTER), asked)
