"""The adapter: its fit against scikit-learn, its operating points against simulation, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from regen.artifact import new_artifact
from regen.encoders.adapter import STAGE, Adapter, Cases, fit_adapter, platt
from regen.encoders.operating_points import Aim, auroc_at_most, choose, one_a_subject, order_statistic
from regen.encoders.reading import FOLDS, Choice, fit_reading, folds, select
from regen.errors import ArtifactError, ConfigError, DataError
from regen.eval.set_metrics import auc

# --- operating points


@pytest.mark.parametrize(
    ("value", "delta", "n", "k", "smallest"),
    [(0.95, 0.05, 59, 1, 59), (0.95, 0.05, 92, 1, 59), (0.95, 0.05, 93, 2, 59), (0.9, 0.05, 46, 2, 29), (0.9, 0.1, 22, 1, 22), (0.5, 0.5, 1, 1, 1)],
)
def test_the_order_statistic_is_the_one_in_tables_of_tolerance_limits(value: float, delta: float, n: int, k: int, smallest: int) -> None:
    aim = Aim("sensitivity", value, delta)
    assert aim.smallest == smallest
    found, confidence = order_statistic(n, aim)
    assert found == k
    assert confidence >= 1 - delta
    assert smallest == 1 or order_statistic(smallest - 1, aim)[1] < 1 - delta


def simulated(rng: np.random.Generator, patients: int, centre: float) -> tuple[np.ndarray, list[str | None]]:
    """Scores of patients with 1 to 8 images that resemble each other: N(centre, 3 ** 2 + 1)."""
    images = rng.integers(1, 9, patients)
    effect = np.repeat(rng.normal(centre, 3.0, patients), images)
    subjects: list[str | None] = [f"{centre}:{i}" for i in np.repeat(np.arange(patients), images)]
    return effect + rng.normal(0, 1.0, len(effect)), subjects


@pytest.mark.parametrize("kind", ["sensitivity", "specificity"])
def test_the_asked_rate_holds_on_new_patients_in_as_many_of_2000_draws_as_promised(kind: str) -> None:
    aim, patients, spread = Aim(kind, 0.9, 0.05), 100, 10**0.5  # type: ignore[arg-type]
    rng = np.random.default_rng(7)
    held, held_naive = [], []
    for _ in range(2000):
        negative, their = simulated(rng, patients, 0.0)
        positive, other = simulated(rng, patients, 4.0)
        scores, truth = np.append(negative, positive), np.arange(len(negative) + len(positive)) >= len(negative)
        for kept, subjects in ((held, their + other), (held_naive, [None] * len(scores))):
            point = choose(scores, truth, subjects, aim, rng)
            assert point.holds
            true = norm.sf(point.threshold, 4, spread) if kind == "sensitivity" else norm.cdf(point.threshold, 0, spread)
            kept.append(true >= 0.9)
    promised = order_statistic(patients, aim)[1]
    assert np.mean(held) >= 0.95
    assert abs(np.mean(held) - promised) < 0.015
    assert np.mean(held_naive) < 0.95, "images of one patient are not independent: counted as if they were, the promise breaks"


def test_it_holds_for_scores_with_ties() -> None:
    rng, aim = np.random.default_rng(1), Aim("sensitivity", 0.8, 0.1)
    share = np.array([0.1, 0.15, 0.35, 0.4])
    above = share[::-1].cumsum()[::-1]
    held = []
    for _ in range(2000):
        scores = rng.choice(4, 60, p=share) / 4
        point = choose(np.append(scores, 0.0), np.arange(61) < 60, [None] * 61, aim, rng)
        held.append(above[round(point.threshold * 4)] >= 0.8 - 1e-12)
    assert np.mean(held) >= 0.9


def test_with_too_few_positives_the_lowest_score_is_taken_and_the_confidence_told() -> None:
    scores, truth = np.array([0.3, 0.2, 0.9, 0.1, 0.05]), np.array([1, 1, 1, 0, 0], bool)
    point = choose(scores, truth, ["a", "a", "b", "c", "d"], Aim("sensitivity", 0.95), np.random.default_rng(0))
    assert (point.threshold, point.n, point.holds) == (0.2, 2, False)
    assert point.confidence == pytest.approx(1 - 0.95**2)
    assert "59 are needed" in point.method
    other = choose(scores, truth, ["a", "a", "b", "c", "d"], Aim("specificity", 0.95), np.random.default_rng(0))
    assert 0.1 < other.threshold < 0.1000001
    assert not other.holds


def test_the_limit_of_an_auroc_is_hanley_and_mcneils_and_holds() -> None:
    area, most = auroc_at_most(np.array([1.0, 2.0, 3.0, 2.0]), np.array([False, False, True, True]))
    q1, q2 = 0.875 / 1.125, 2 * 0.875**2 / 1.875
    assert area == 0.875
    assert most == pytest.approx(0.875 + 1.6448536 * ((0.875 * 0.125 + (q1 - 0.875**2) + (q2 - 0.875**2)) / 4) ** 0.5, abs=1e-6)
    assert auroc_at_most(np.array([0.0, 1.0]), np.array([False, True]))[1] > 1, "one pair in order says little"
    rng, truth = np.random.default_rng(0), np.arange(300) < 30
    held = [auroc_at_most(rng.normal(0, 1, 300) + 0.7 * truth, truth)[1] >= norm.cdf(0.7 / 2**0.5) for _ in range(1000)]
    assert 0.93 <= np.mean(held) <= 0.97


def test_a_label_that_is_shown_not_to_be_told_is_left_out_and_one_of_too_few_cases_is_not() -> None:
    rng = np.random.default_rng(0)

    def cases(n: int, start: int) -> Cases:
        features = rng.normal(0, 1, (n, 6)).astype(np.float32)
        labels = np.stack([features[:, 0] + rng.normal(0, 0.5, n) > 0, rng.random(n) < 0.1], 1)
        return Cases(features, labels.astype(np.float32), [str(start + i) for i in range(n)])

    train, many, few = cases(800, 0), cases(900, 1000), cases(60, 3000)
    shown = fit_adapter(["seen", "noise"], train, many, Aim("f1"))
    assert shown.names == ("seen",)
    assert "no better than 0.65" in shown.left_out["noise"]
    both = fit_adapter(["seen", "noise"], train, few, Aim("f1"))
    assert both.names == ("seen", "noise")
    np.testing.assert_allclose(both.only([0]).probabilities(few.features)[:, 0], both.probabilities(few.features)[:, 0], rtol=1e-12)
    with pytest.raises(DataError, match="label that can be learned, got none"):
        fit_adapter(
            ["noise"], Cases(train.features, train.labels[:, 1:], train.subjects), Cases(many.features, many.labels[:, 1:], many.subjects), Aim()
        )


def test_youden_and_f1_by_hand() -> None:
    scores, truth = np.array([0.1, 0.2, 0.4, 0.6, 0.8]), np.array([0, 0, 1, 0, 1], bool)
    youden = choose(scores, truth, [None] * 5, Aim(), np.random.default_rng(0))
    assert youden.threshold == pytest.approx(0.3), "sensitivity 1, specificity 2/3, half-way to the next score"
    assert (youden.holds, youden.confidence) == (False, None)
    assert choose(scores, truth, [None] * 5, Aim("f1"), np.random.default_rng(0)).threshold == pytest.approx(0.4), "best F1 is 4/5"


def test_of_each_subject_one_row_is_drawn_and_all_without_a_subject() -> None:
    subjects = ["a", "a", None, "b", None, "a"]
    seen = {tuple(one_a_subject(np.arange(6), subjects, np.random.default_rng(seed)).tolist()) for seed in range(40)}
    assert seen == {(0, 2, 3, 4), (1, 2, 3, 4), (2, 3, 4, 5)}


@pytest.mark.parametrize("wrong", [{"kind": "sensitivty"}, {"kind": "sensitivity", "value": 1.0}, {"kind": "specificity"}, {"delta": 0.0}])
def test_an_aim_that_is_none_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        Aim(**wrong)  # type: ignore[arg-type]


def test_one_class_alone_has_no_operating_point() -> None:
    with pytest.raises(DataError, match="0 of 2"):
        choose(np.array([0.1, 0.2]), np.zeros(2, bool), [None, None], Aim(), np.random.default_rng(0))


# --- the readings


def problem(n: int, width: int, labels: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, width))
    y = (x @ rng.normal(size=(width, labels)) / width**0.5 + rng.normal(size=(n, labels)) - 0.5 > 0).astype(float)
    return torch.from_numpy(x), torch.from_numpy(y)


@pytest.mark.parametrize(("n", "width"), [(300, 20), (60, 200)])
def test_the_linear_reading_is_scikit_learns(n: int, width: int) -> None:
    """Also with more features than cases, where the fit runs in the space of the cases."""
    x, y = problem(n, width, 3)
    reading = fit_reading(x, y, Choice(10.0))
    for c in range(3):
        other = LogisticRegression(C=0.1, max_iter=5000, tol=1e-10).fit(x.numpy(), y[:, c].numpy())
        np.testing.assert_allclose(reading.last.weight[c].detach(), other.coef_[0], atol=2e-3)
        np.testing.assert_allclose(reading.last.bias[c].item(), other.intercept_[0], atol=2e-3)


def test_a_missing_label_is_a_case_left_out() -> None:
    x, y = problem(200, 10, 2)
    holes = y.clone()
    holes[::3, 0] = float("nan")
    holes[1::4, 1] = float("nan")
    reading = fit_reading(x, holes, Choice(5.0))
    for c in range(2):
        known = ~torch.isnan(holes[:, c])
        alone = fit_reading(x[known], y[known, c : c + 1], Choice(5.0))
        np.testing.assert_allclose(reading.last.weight[c].detach(), alone.last.weight[0].detach(), atol=1e-3)


def test_a_hidden_layer_is_taken_where_it_helps_and_only_there() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 4))
    curved = torch.from_numpy((x[:, :1] * x[:, 1:2] > 0).astype(float))
    straight = torch.from_numpy((x[:, :1] + 0.5 * rng.normal(size=(600, 1)) > 0).astype(float))
    subjects = [str(i // 2) for i in range(600)]
    chosen = [select(torch.from_numpy(x), y, subjects, (0, 16), np.random.default_rng(0))[0].hidden for y in (curved, straight)]
    assert chosen == [16, 0]


def test_folds_keep_subjects_whole_and_are_bounded() -> None:
    subjects: list[str | None] = [str(i // 3) for i in range(90)] + [None, None]
    fold = folds(subjects, np.random.default_rng(0))
    assert set(fold) == set(range(FOLDS))
    assert all(len(set(fold[i : i + 3])) == 1 for i in range(0, 90, 3))
    few = folds(subjects, np.random.default_rng(0), most=30)
    assert 24 <= (few >= 0).sum() <= 30
    assert select(*problem(9, 2, 1), ["a"] * 9, (0,), np.random.default_rng(0))[1] == {}


# --- calibration


def test_platt_undoes_a_known_distortion_and_never_turns_a_score_round() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(-1, 2, 20000)
    y = torch.from_numpy((rng.random(20000) < 1 / (1 + np.exp(-true))).astype(float))
    slope, shift = platt(torch.from_numpy(np.stack([3 * true + 1, -true], 1)), torch.stack([y, y], 1))
    assert slope[0].item() == pytest.approx(1 / 3, abs=0.02)
    assert shift[0].item() == pytest.approx(-1 / 3, abs=0.05)
    assert 0 < slope[1].item() < 0.05
    few = platt(torch.tensor([[5.0], [-5.0]], dtype=torch.float64), torch.tensor([[0.0], [1.0]], dtype=torch.float64))
    assert 0.1 < few[0].item() < 1


# --- the whole


def material(seed: int = 0, n: int = 400, width: int = 12) -> tuple[Cases, Cases, Cases]:
    """Two labels that the features tell, one that is rare, and holes; two images a subject."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, width)).astype(np.float32) * 5 + 3
    y = np.stack([x[:, 0] + rng.normal(0, 2, n) > 5, x[:, 1] > 3, np.arange(n) < 2], 1).astype(np.float32)
    y[rng.random(y.shape) < 0.1] = np.nan
    subjects = [str(i // 2) for i in range(n)]
    cut = (n // 2, 3 * n // 4)
    parts = [slice(0, cut[0]), slice(cut[0], cut[1]), slice(cut[1], n)]
    train, val, test = (Cases(x[part], y[part], subjects[part]) for part in parts)
    return train, val, test


NAMES = ["wide", "tube", "rare"]


def test_it_learns_what_is_there_says_what_is_not_and_repeats_itself() -> None:
    train, val, test = material()
    made = [fit_adapter(NAMES, train, val, Aim("sensitivity", 0.9), seed, "f" * 64, hidden=(0,)) for seed in (0, 0)]
    assert made[0].names == ("wide", "tube")
    rare = int(np.nansum(train.labels[:, 2]))
    assert made[0].left_out == {"rare": f"{rare} positive in train, 5 needed"}
    np.testing.assert_array_equal(made[0].probabilities(test.features), made[1].probabilities(test.features))
    assert made[0].points == made[1].points
    p = made[0].probabilities(test.features)
    for c in range(2):
        known = ~np.isnan(test.labels[:, c])
        assert auc(p[known, c], test.labels[known, c] == 1)[0] > 0.9
        assert (p[known, c] >= made[0].thresholds[c])[test.labels[known, c] == 1].mean() > 0.8
        assert abs(p[known, c].mean() - test.labels[known, c].mean()) < 0.1
    np.testing.assert_allclose(made[0].probabilities(test.features[:1]), p[:1], atol=1e-12)
    assert made[0].probabilities(test.features[:0]).shape == (0, 2)


def test_the_promise_holds_through_calibration_on_the_same_validation_split() -> None:
    """A reading that never saw val; fresh validation splits, each used for Platt and for the operating point; sensitivity on 50,000 new cases."""
    rng, aim = np.random.default_rng(3), Aim("sensitivity", 0.9, 0.1)

    def draw(n: int) -> tuple[torch.Tensor, np.ndarray]:
        truth = rng.random(n) < 0.4
        return torch.from_numpy(rng.gumbel(truth * 1.5, 1.0)[:, None]), truth

    new, positive = draw(50_000)
    held = []
    for _ in range(300):
        logits, truth = draw(150)
        slope, shift = platt(logits, torch.from_numpy(truth[:, None].astype(float)))
        point = choose(torch.sigmoid(logits * slope + shift)[:, 0].numpy(), truth, [None] * 150, aim, rng)
        held.append((torch.sigmoid(new * slope + shift)[:, 0].numpy() >= point.threshold)[positive].mean() >= 0.9)
    assert np.mean(held) >= 0.9


def test_what_is_saved_is_what_is_loaded_and_another_encoder_is_refused(tmp_path: Path) -> None:
    train, val, test = material()
    adapter = fit_adapter(NAMES, train, val, Aim("specificity", 0.8), 0, "a" * 64)
    with new_artifact(tmp_path / "adapter", STAGE, {}, {}) as work:
        adapter.save(work.path)
        work.manifest["fingerprint"] = adapter.fingerprint
    again = Adapter.load(tmp_path / "adapter", "a" * 64)
    np.testing.assert_array_equal(again.probabilities(test.features), adapter.probabilities(test.features))
    assert (again.points, again.names, again.aim, again.left_out) == (adapter.points, adapter.names, adapter.aim, adapter.left_out)
    with pytest.raises(ArtifactError, match="was built with encoder aaaaaaaa, this one is bbbbbbbb; rebuild: regen adapt"):
        Adapter.load(tmp_path / "adapter", "b" * 64)
    stored = tmp_path / "adapter" / "adapter.json"
    stored.write_text(json.dumps(json.loads(stored.read_text()) | {"width": 3}))
    with pytest.raises(ArtifactError):
        Adapter.load(tmp_path / "adapter")


def test_youden_survives_its_missing_value(tmp_path: Path) -> None:
    train, val, _ = material()
    with new_artifact(tmp_path / "adapter", STAGE, {}, {}) as work:
        fit_adapter(NAMES, train, val, Aim(), hidden=(0,)).save(work.path)
        assert "NaN" not in (work.path / "adapter.json").read_text()
    assert Adapter.load(tmp_path / "adapter").aim.kind == "youden"


def test_bad_input_is_refused() -> None:
    train, val, _ = material()
    with pytest.raises(DataError, match="no subject in both train and val"):
        fit_adapter(NAMES, train, Cases(val.features, val.labels, train.subjects[: len(val.subjects)]), Aim())
    with pytest.raises(DataError, match="3 different names"):
        fit_adapter(["a", "b"], train, val, Aim())
    with pytest.raises(DataError, match="1, 0 or NaN"):
        Cases(train.features, np.full_like(train.labels, 0.5), train.subjects)
    with pytest.raises(DataError, match="finite"):
        Cases(train.features * np.nan, train.labels, train.subjects)
    with pytest.raises(DataError, match="n subjects"):
        Cases(train.features[:3], train.labels, train.subjects)
    with pytest.raises(DataError, match="none \\(wide: 0 positive in val"):
        fit_adapter(NAMES, train, Cases(val.features, val.labels * 0, val.subjects), Aim())
    with pytest.raises(DataError, match=r"\(n, 12\)"):
        fit_adapter(NAMES, train, val, Aim(), hidden=(0,)).probabilities(val.features[:, :3])


@pytest.mark.real_data
def test_raw_pixels_of_nih_tell_more_than_chance(data_root: Path) -> None:
    """The floor: no encoder, 64 x 64 pixels, all images of 216 patients, split by patient."""
    from PIL import Image

    from regen.data_prep import nih_cxr
    from regen.data_prep.label_table import assign_splits

    if not (data_root / "nih-cxr-64").is_dir():
        pytest.skip(f"no NIH images at {data_root / 'nih-cxr-64'}")
    entries = [entry for entry in nih_cxr.entries(data_root / "nih-cxr-64") if not entry.broken]
    names = ["Cardiomegaly", "Pleural Effusion"]
    labels = np.array([[(entry.observations or {})[name] for name in names] for entry in entries], np.float32)
    pixels = np.stack([np.asarray(Image.open(entry.images[0]).convert("L"), np.float32).ravel() / 255 for entry in entries])
    subjects = [entry.subject_id for entry in entries]
    splits = np.array(assign_splits(subjects, [None] * len(subjects)))
    train, val, test = (
        Cases(pixels[splits == s], labels[splits == s], [subjects[i] for i in np.flatnonzero(splits == s)]) for s in ("train", "val", "test")
    )
    adapter = fit_adapter(names, train, val, Aim("sensitivity", 0.95), hidden=(0,))
    p = adapter.probabilities(test.features)
    areas = [auc(p[:, c], test.labels[:, c] == 1)[0] for c in range(2)]
    assert min(areas) > 0.5
    assert not any(point.holds for point in adapter.points), "fewer than 59 positive patients"
