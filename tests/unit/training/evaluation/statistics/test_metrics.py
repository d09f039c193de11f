from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from training.evaluation.scores import Scores, scores_from_columns
from training.evaluation.statistics.bootstrap import draw, resample
from training.evaluation.statistics.calibration import NUM_BINS, calibration, expected_calibration_error
from training.evaluation.statistics.metrics import (
    METRICS,
    MIN_VIDEOS,
    choose_threshold,
    confusion_at,
    equal_error_rate,
    measure,
    measure_classes,
    measure_groups,
    measure_with_intervals,
    tpr_at_fpr,
)

LABELS = np.array([0, 0, 1, 1, 0, 1])
SCORES = np.array([0.1, 0.4, 0.35, 0.8, 0.2, 0.4])


def made(num_videos: int = 60, frames_each: int = 4, *, seed: int = 0, distance: float = 1.0) -> Scores:
    """Half reals, half fakes of two manipulations; scores of a video are alike; larger distance, easier."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(num_videos) % 2, frames_each)
    video = np.repeat(np.arange(num_videos), frames_each)
    of_video = rng.normal(size=num_videos)[video]
    logit = distance * (2 * label - 1) + of_video + 0.5 * rng.normal(size=len(label))
    manipulation = np.array(("Deepfakes", "FaceSwap"), dtype=object)[video // 2 % 2]
    manipulation[label == 0] = None
    return scores_from_columns(
        {
            "key": [f"ffpp/{v}/00/{n:06d}" for n, v in enumerate(video)],
            "dataset": ["ffpp"] * len(label),
            "video_id": [f"ffpp/{v}" for v in video],
            "track_id": np.zeros(len(label)),
            "frame_index": np.arange(len(label)),
            "manipulation": manipulation,
            "compression": [("c23", "c40")[int(v) // 4 % 2] for v in video],
            "label": label,
            "p_fake": 1.0 / (1.0 + np.exp(-logit)),
        }
    )


def value_of(name: str, labels: npt.NDArray[np.int64], p_fake: npt.NDArray[np.float64], **options: Any) -> float:
    value = measure(labels, p_fake, **options)[name].value
    assert value is not None
    return value


def test_auc_by_hand_counts_a_tie_as_half() -> None:
    # Fakes .35 .8 .4 against reals .1 .4 .2: won 2, 3, 2 of three each, and .4 = .4 is half: 7.5 of 9.
    assert value_of("auc", LABELS, SCORES) == pytest.approx(7.5 / 9)


def test_decisions_by_hand() -> None:
    # Called fake at 0.5: only .8, rightly. At 0.4: .8, .4 rightly, one real wrongly.
    figures = measure(LABELS, SCORES, threshold=0.4)
    expected = {
        "accuracy": 4 / 6,
        "balanced_accuracy": (1 / 3 + 1) / 2,
        "f1": 2 / (2 + 2),
        "accuracy_at_threshold": 4 / 6,
        "balanced_accuracy_at_threshold": (2 / 3 + 2 / 3) / 2,
        "f1_at_threshold": 4 / (4 + 1 + 1),
    }
    assert {name: figures[name].value for name in expected} == pytest.approx(expected)


def test_average_precision_by_hand() -> None:
    # By falling score: .8 fake (1/1), .4 one of each (2/3 at recall 2/3), .35 fake (3/4).
    assert value_of("ap", LABELS, SCORES) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_equal_error_rate_by_hand() -> None:
    # The ROC passes (0, 1/2) and (1/2, 1/2), then (1/2, 1): it crosses FPR = 1 − TPR at one half.
    assert equal_error_rate(np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4])) == 0.5
    # A slanted piece (all tied) from (0, 0) to (1, 1) crosses in its middle.
    assert equal_error_rate(np.array([0, 1, 0, 1]), np.full(4, 0.5)) == 0.5
    # (0, 0) → (0, 2/3) → tie of one fake and one of two reals to (1/2, 1): 2/3 + x·2/3 = 1 − x at x = 1/5.
    assert equal_error_rate(np.array([0, 0, 1, 1, 1]), np.array([0.1, 0.5, 0.5, 0.8, 0.9])) == pytest.approx(0.2)


def test_tpr_at_fpr_is_the_highest_point_and_a_line_between() -> None:
    labels = np.array([0] * 100 + [1] * 4)
    p_fake = np.concatenate([np.linspace(0.0, 0.5, 100), [0.9, 0.8, 0.4999, 0.1]])
    assert tpr_at_fpr(labels, p_fake, 0.01) == 0.75  # one real (0.5) is above the third fake
    assert tpr_at_fpr(labels, p_fake, 0.005) == 0.5


def test_calibration_error_by_hand() -> None:
    # Two bins: .9 three times, two of them fake (off by .9 − 2/3); exactly 1 twice, both fake (off by 0).
    labels, p_fake = np.array([1, 1, 0, 1, 1]), np.array([0.9, 0.9, 0.9, 1.0, 1.0])
    assert expected_calibration_error(labels, p_fake) == pytest.approx(3 / 5 * (0.9 - 2 / 3))
    bins = calibration(labels, p_fake)
    assert [found.count for found in bins] == [0] * (NUM_BINS - 2) + [3, 2]
    assert (bins[-2].mean_p_fake, bins[-2].share_fake) == pytest.approx((0.9, 2 / 3))
    assert bins[0].mean_p_fake is None


def test_calibration_bins_add_up_to_the_error_of_torchmetrics() -> None:
    scores = made(200)
    found = calibration(scores.label, scores.p_fake)
    off = sum(
        one.count * abs(one.mean_p_fake - one.share_fake)
        for one in found
        if one.mean_p_fake is not None and one.share_fake is not None
    )
    assert off / len(scores) == pytest.approx(expected_calibration_error(scores.label, scores.p_fake))


@settings(max_examples=30, deadline=None)  # the first call imports scikit-learn
@given(
    labels=st.lists(st.integers(0, 1), min_size=2, max_size=40).filter(lambda found: len(set(found)) == 2),
    seed=st.integers(0, 1000),
)
def test_curves_do_not_change_under_rising_maps(labels: list[int], seed: int) -> None:
    truth = np.array(labels)
    p_fake = np.random.default_rng(seed).integers(0, 12, len(truth)) / 16.0  # with ties; the map keeps all apart
    mapped = p_fake**3 / 2.0 + p_fake / 4.0
    for name in ("auc", "ap", "eer"):
        assert value_of(name, truth, p_fake) == pytest.approx(value_of(name, truth, mapped))
    assert value_of("auc", truth, p_fake) == pytest.approx(1.0 - value_of("auc", 1 - truth, p_fake))


@pytest.mark.parametrize(
    ("labels", "name", "reason"),
    [
        ([], "accuracy", "no rows"),
        ([1, 1], "auc", "only fakes"),
        ([0, 0], "f1", "only reals"),
        ([0, 1], "tpr_at_1_fpr", "1 reals cannot show 1 %"),
        ([0, 1], "accuracy_at_threshold", "no threshold"),
    ],
)
def test_what_cannot_be_answered_says_why(labels: list[int], name: str, reason: str) -> None:
    figure = measure(np.array(labels, dtype=np.int64), np.full(len(labels), 0.25))[name]
    assert figure.value is None
    assert figure.reason is not None
    assert reason in figure.reason


def test_one_class_still_has_an_accuracy() -> None:
    assert value_of("accuracy", np.array([1, 1]), np.array([0.9, 0.2])) == 0.5


def test_resampling_is_what_scikit_learn_says_of_the_drawn_rows() -> None:
    scores = made(20, distance=0.3)
    units = np.repeat(np.arange(20), 4)
    strata = scores.label[::4]
    names = list(METRICS)
    found = resample(scores.label, scores.p_fake, units, strata, names, 0.4, 7, 5)
    weights = draw(strata, np.random.default_rng(7), 5)
    for number, weight in enumerate(weights):
        rows = np.repeat(np.arange(80), weight[units].astype(int))
        labels, p_fake = scores.label[rows], scores.p_fake[rows]
        expected = measure(labels, p_fake, threshold=0.4)
        for name in names:
            wanted = expected[name].value
            if wanted is None:  # 40 reals are too few for these
                wanted = tpr_at_fpr(labels, p_fake, {"tpr_at_1_fpr": 0.01, "tpr_at_0.1_fpr": 0.001}[name])
            assert found[name][number] == pytest.approx(wanted), name


def test_draw_keeps_the_number_of_each_class() -> None:
    strata = np.array([0] * 7 + [1] * 13)
    weights = draw(strata, np.random.default_rng(0), 50)
    assert (weights[:, :7].sum(axis=1) == 7).all()
    assert (weights[:, 7:].sum(axis=1) == 13).all()


def test_a_coarse_grid_changes_intervals_hardly(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = made(200, 10)
    exact = measure_with_intervals(scores, seed=1, num_resamples=100)
    monkeypatch.setattr("training.evaluation.statistics.bootstrap.MAX_GRID", 400)
    coarse = measure_with_intervals(scores, seed=1, num_resamples=100)
    for name in ("auc", "ap", "eer", "tpr_at_1_fpr", "accuracy", "ece"):
        wanted = exact[name].low, exact[name].high
        assert (coarse[name].low, coarse[name].high) == pytest.approx(wanted, abs=6e-3)


def test_intervals_cover_the_truth() -> None:
    # AUC of two normals 2·distance apart with variance 1.25 each.
    from scipy.stats import norm

    truth = norm.cdf(2.0 * 0.5 / np.sqrt(2 * 1.25))
    covered = 0
    for seed in range(60):
        figure = measure_with_intervals(made(80, seed=seed, distance=0.5), seed=seed, num_resamples=200)["auc"]
        assert figure.low is not None
        assert figure.high is not None
        covered += figure.low <= truth <= figure.high
    assert covered >= 52  # of 60 at 95 %: fewer than 52 comes by chance once in a thousand


def test_intervals_of_videos_are_wider_than_of_rows_taken_as_independent() -> None:
    alike = made(60, 20)
    apart = replace(alike, video_id=alike.key)
    widths = []
    for scores in (alike, apart):
        figure = measure_with_intervals(scores, num_resamples=200)["auc"]
        assert figure.low is not None
        assert figure.high is not None
        widths.append(figure.high - figure.low)
    assert widths[0] > 2 * widths[1]


def test_same_seed_same_interval_other_seed_another() -> None:
    scores = made()
    first, again, other = (measure_with_intervals(scores, seed=seed, num_resamples=50)["auc"] for seed in (3, 3, 4))
    assert first == again != other


def test_few_videos_have_values_but_no_interval() -> None:
    figure = measure_with_intervals(made(2 * MIN_VIDEOS - 2))["auc"]
    assert figure.value is not None
    assert figure.low is None
    assert figure.reason is not None
    assert "no interval" in figure.reason


def test_a_thousand_resamples_of_a_thousand_videos_take_seconds() -> None:
    scores = made(1000, 10)
    start = time.perf_counter()
    measure_with_intervals(scores)
    assert time.perf_counter() - start < 10.0  # some 2 s on one busy core


def test_a_manipulation_is_measured_against_the_reals_of_its_compression() -> None:
    scores = made(60, distance=0.4)
    groups = measure_groups(scores, num_resamples=0)
    names = {(group.level, group.compression, group.manipulation) for group in groups}
    assert ("video", "c23", "FaceSwap") in names
    assert len(groups) == 2 * (1 + 2 * (1 + 2))
    wanted = ("frame", "c40", "Deepfakes")
    (found,) = (group for group in groups if (group.level, group.compression, group.manipulation) == wanted)
    of_c40 = scores.compression == "c40"
    chosen = of_c40 & ((scores.label == 0) | (scores.manipulation == "Deepfakes"))
    assert found.num_reals == int((of_c40 & (scores.label == 0)).sum())
    assert found.figures["auc"].value == roc_auc_score(scores.label[chosen], scores.p_fake[chosen])
    assert found.figures["ap"].value == average_precision_score(scores.label[chosen], scores.p_fake[chosen])


def test_the_chosen_threshold_is_the_best_one_and_lies_between_scores() -> None:
    scores = made(100)
    at = choose_threshold(scores.label, scores.p_fake)
    assert at is not None
    assert at not in scores.p_fake
    fpr, tpr, _ = roc_curve(scores.label, scores.p_fake)
    confusion = confusion_at(scores, "frame", at)
    reals, fakes = int((scores.label == 0).sum()), int(scores.label.sum())
    assert confusion.fake_as_fake / fakes - confusion.real_as_fake / reals == pytest.approx((tpr - fpr).max())
    assert choose_threshold(np.array([1, 1]), np.array([0.2, 0.3])) is None
    assert choose_threshold(np.array([0, 1]), np.array([0.2, 0.3])) == pytest.approx(0.25)


def several(make: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float64]], truth: list[int]) -> Scores:
    probabilities = make(np.array(truth))
    rows = len(truth)
    return scores_from_columns(
        {
            "key": [str(n) for n in range(rows)],
            "dataset": ["ffpp"] * rows,
            "video_id": [str(n) for n in range(rows)],
            "track_id": [0] * rows,
            "frame_index": [0] * rows,
            "manipulation": [None] * rows,
            "compression": [None] * rows,
            "label": [int(c != 0) for c in truth],
            "p_fake": 1.0 - probabilities[:, 0],
            "class_names": ("Real", "NeuralTextures", "Face2Face"),
            "class_label": truth,
            "class_probabilities": probabilities,
        }
    )


def test_classes_by_hand() -> None:
    truth = [0, 0, 1, 1, 2, 2]
    wrong_once = [0, 1, 1, 1, 2, 2]
    found = measure_classes(several(lambda _: 0.7 * np.eye(3)[wrong_once] + 0.1, truth), "frame")
    assert found is not None
    assert found.accuracy.value == pytest.approx(5 / 6)
    assert found.confusion == ((1, 1, 0), (0, 2, 0), (0, 0, 2))
    # Real: one of two beats the four others, the other ties with them: 3/4. NeuralTextures: 2 fakes against one of
    # four tied: 7/8. Face2Face: perfect.
    assert found.macro_auc.value == pytest.approx((3 / 4 + 7 / 8 + 1) / 3)


def test_classes_that_are_missing_or_unknown() -> None:
    found = measure_classes(several(lambda t: 0.7 * np.eye(3)[abs(t)] + 0.1, [0, 1, -1]), "video")
    assert found is not None
    assert (found.num_rows, found.num_unknown) == (2, 1)
    assert found.macro_auc.value is None
    assert "Face2Face" in str(found.macro_auc.reason)
    assert measure_classes(made(), "frame") is None
