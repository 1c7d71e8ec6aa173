"""The measures against other libraries, against fixtures, and against what must hold."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.evaluation.metrics import assignment, intervals, label_maps, overlap, ranking


def counts_of(predicted, truth, classes, ignore=None):
    return label_maps.confusion(np.array(predicted), np.array(truth), classes, ignore=ignore)


def test_two_images_accumulated_and_each_for_itself():
    """Four pixels each: one image all right, the other all wrong."""
    truths, guesses = [[[0, 0, 0, 1]], [[0, 0, 0, 0]]], [[[0, 0, 0, 1]], [[1, 1, 1, 1]]]
    each = [counts_of(guess, truth, 2) for guess, truth in zip(guesses, truths, strict=True)]
    assert label_maps.mean_iou(sum(each)) == pytest.approx((3 / 7 + 1 / 5) / 2)
    assert np.mean([label_maps.mean_iou(one) for one in each]) == 0.5


def test_a_class_that_is_only_predicted_counts_by_the_rule():
    truth, guess = np.array([[0, 1, 1, 255]]), np.array([[0, 2, 1, 1]])
    counts = label_maps.confusion(guess, truth, 3, ignore=truth == 255)
    assert label_maps.mean_iou(counts) == 0.75  # detectron2: without true pixels it is left out
    assert label_maps.mean_iou(counts, all_classes=True) == pytest.approx(0.5)


@settings(max_examples=10)
@given(
    arrays.arrays(np.int64, (5, 7), elements=st.integers(0, 3)),
    arrays.arrays(np.int64, (5, 7), elements=st.sampled_from([0, 1, 2, 3, 255])),
)
def test_iou_of_classes_is_that_of_torchmetrics(guess, truth):
    from torchmetrics.classification import MulticlassJaccardIndex

    counts = label_maps.confusion(guess, truth, 4, ignore=truth == 255)
    right, union, _ = label_maps.intersections_and_unions(counts)
    oracle = MulticlassJaccardIndex(4, average="none", ignore_index=255)
    wanted = oracle(torch.from_numpy(guess), torch.from_numpy(truth)).numpy()
    np.testing.assert_allclose(right / np.maximum(union, 1), wanted, atol=1e-6)


@given(
    arrays.arrays(np.float64, 24, elements=st.sampled_from([0.0, 0.1, 0.5, 0.5, 0.9, 1.0])),
    arrays.arrays(bool, 24).filter(lambda mask: mask.any()),
)
def test_average_precision_is_that_of_scikit_learn(values, mask):
    from sklearn.metrics import average_precision_score

    found = ranking.average_precision(values.reshape(4, 6), mask.reshape(4, 6))
    assert found == pytest.approx(average_precision_score(mask, values))


def test_average_precision_counts_equal_values_together():
    values, mask = np.array([[0.9, 0.8, 0.8, 0.1]]), np.array([[True, False, True, False]])
    assert ranking.average_precision(values, mask) == pytest.approx(0.8333, abs=1e-4)


def test_the_stacked_average_precision_of_a_flat_map_is_a_half_whatever_the_object():
    mask = np.zeros((10, 10), dtype=bool)
    mask[:2] = True
    flat = np.full((10, 10), 0.5)
    assert ranking.stacked_average_precision(flat, mask) == pytest.approx(0.5)
    assert ranking.average_precision(flat, mask) == pytest.approx(0.2)
    zero = ranking.stacked_average_precision(np.zeros((10, 10)), mask)
    assert zero > 0.7, "a map that says nothing is rewarded for the background"


@given(arrays.arrays(bool, (4, 6)), arrays.arrays(bool, (4, 6)))
def test_accuracy_over_two_minus_accuracy_is_what_the_stacked_call_counts(guess, truth):
    """Two channels with the values 0 and 1, each compared by value over all of the pixels."""
    channels = [np.stack([1 - one, one]) for one in (guess.astype(int), truth.astype(int))]
    ious = []
    for value in (0, 1):
        both = (channels[0] == value) & (channels[1] == value)
        either = (channels[0] == value) | (channels[1] == value)
        ious.append(both.sum() / either.sum())
    accuracy = float((guess == truth).mean())
    assert np.mean(ious) == pytest.approx(overlap.accuracy_over_two_minus_accuracy(accuracy))
    pairs = ((guess, truth), (~guess, ~truth))
    true = [overlap.intersection_over_union(*pair) for pair in pairs if (pair[0] | pair[1]).any()]
    if len(true) == 2:
        assert np.mean(true) <= np.mean(ious) + 1e-12, "it is never below the mIoU of the masks"


def test_soft_measures_of_hard_masks_are_the_hard_ones():
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 6, 9)) > 0.4
    assert overlap.soft_intersection_over_union(one, other) == pytest.approx(
        overlap.intersection_over_union(one, other)
    )
    assert overlap.soft_intersection_over_area(one, other) == pytest.approx(
        overlap.intersection_over_area(one, other)
    )
    empty = np.zeros((6, 9), dtype=bool)
    assert overlap.intersection_over_union(empty, empty) == 0.0
    assert overlap.intersection_over_area(empty, one) == 0.0


def test_masks_of_two_sizes_are_refused():
    with pytest.raises(InputError, match=r"at one size; got \(4, 6\) and \(6, 4\)"):
        overlap.intersection_over_union(np.ones((4, 6), bool), np.ones((6, 4), bool))


def test_pointing_with_ties_with_a_tolerance_and_without_ignored_pixels():
    values = np.zeros((9, 11))
    values[2, 2] = values[2, 6] = 1.0
    mask = np.zeros((9, 11), dtype=bool)
    mask[2, 4] = True
    assert ranking.peak_of(values) == (2.0, 4.0)
    assert ranking.points_inside(values, mask), "the middle of the tied pixels"
    values[2, 6] = 0.0
    assert not ranking.points_inside(values, mask)
    assert not ranking.points_inside(values, mask, tolerance=2.0), "the distance is not under 2"
    assert ranking.points_inside(values, mask, tolerance=2.1)
    scored = values < 1.0
    values[2, 4] = 0.5
    assert ranking.points_inside(values, mask, scored=scored)


def test_energy_inside_of_a_flat_map_is_the_share_of_the_area():
    mask = np.zeros((4, 5), dtype=bool)
    mask[0] = True
    assert ranking.energy_inside(np.ones((4, 5)), mask) == pytest.approx(0.25)
    assert ranking.energy_inside(np.zeros((4, 5)), mask) == 0.0


def test_area_under_a_curve_is_that_of_trapezoids():
    curve = [1.0, 0.5, 0.25, 0.0]
    assert ranking.area_under_curve(curve) == pytest.approx(np.trapezoid(curve) / 3)


def test_matching_finds_the_best_pairs_and_the_two_rules_differ():
    counts = np.array([[1, 8, 0], [9, 2, 1], [0, 1, 5]])
    assert label_maps.matched_classes(counts).tolist() == [1, 0, 2]
    assert label_maps.unsupervised_mean_iou(counts) == pytest.approx(
        np.mean([9 / 13, 8 / 12, 5 / 7])
    )
    # DAAM's rule weighs a pair that occurs often by the sum of its IoU, and divides afterwards.
    sums = np.array([[0.9, 0.0], [1.0, 0.8]])
    assert label_maps.matched_iou(sums, np.array([[1, 1], [10, 1]])) == pytest.approx(0.85)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (5, 3), (3, 5), (8, 8), (4, 1)])
def test_the_plain_matching_is_as_good_as_scipys(size):
    generator = np.random.default_rng(sum(size))
    for _ in range(20):
        gains = generator.random(size) * (generator.random(size) > 0.3) - 0.2
        found = assignment.plain_best_columns(gains)
        taken = found[found >= 0]
        assert len(set(taken.tolist())) == len(taken) == min(size)
        sums = [
            sum(gains[row, column] for row, column in enumerate(columns) if column >= 0)
            for columns in (found, assignment.best_columns(gains))
        ]
        assert sums[0] == pytest.approx(sums[1])
    assert assignment.plain_best_columns(np.zeros((0, 3))).tolist() == []


def test_matching_does_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    assert label_maps.matched_classes(np.array([[1, 8, 0], [9, 2, 1]])).tolist() == [1, 0]


def test_more_segments_than_classes_leave_some_unmatched():
    assert sorted(label_maps.matched_classes(np.array([[3], [5]])).tolist()) == [-1, 0]
    assert label_maps.unsupervised_mean_iou(np.array([[3], [5]])) == pytest.approx(5 / 8)


def test_a_label_map_with_a_number_that_is_not_a_class_is_refused():
    with pytest.raises(InputError, match="the number 7, and there are 3 classes"):
        counts_of([[7]], [[0]], 3)


def test_intervals_are_the_same_twice_and_hold_images_together():
    values = np.array([0.0, 0.0, 1.0, 1.0])

    def mean(weights):
        return weights @ values / weights.sum(axis=1)

    weights = intervals.bootstrap_weights(["a", "a", "b", "b"], seed=3)
    again = intervals.bootstrap_weights(["a", "a", "b", "b"], seed=3)
    np.testing.assert_array_equal(weights, again)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 1])
    clustered = intervals.estimate(mean, weights, 2)
    apart = intervals.estimate(mean, intervals.bootstrap_weights(["a", "b", "c", "d"]), 4)
    assert clustered.value == apart.value == 0.5
    assert (clustered.low, clustered.high) == (0.0, 1.0)
    assert 0.0 <= apart.low < 0.5 < apart.high <= 1.0


def test_weighted_and_plain_resampling_agree():
    values = np.random.default_rng(1).random(40)
    weights = intervals.bootstrap_weights([str(i) for i in range(40)], seed=0)
    weighted = intervals.estimate(lambda w: w @ values / w.sum(axis=1), weights, 40)
    plain = intervals.resampled(values, lambda chosen: float(values[chosen].mean()))
    assert (weighted.value, weighted.low, weighted.high) == pytest.approx(plain)


def test_a_difference_on_the_same_images_is_narrower_than_its_parts():
    rng = np.random.default_rng(0)
    hard = rng.random(30)
    one, other = hard + 0.05 + rng.normal(0, 0.01, 30), hard
    weights = intervals.bootstrap_weights([str(i) for i in range(30)])

    def mean(values):
        return lambda w: w @ values / w.sum(axis=1)

    difference = intervals.paired_difference(mean(one), mean(other), weights, 30)
    assert 0.03 < difference.low < difference.value < difference.high < 0.07
    alone = intervals.estimate(mean(one), weights, 30)
    assert alone.high - alone.low > 5 * (difference.high - difference.low)


def test_the_normal_interval_of_daam_is_the_narrower_one():
    values = [0.2, 0.4, 0.9]
    mean, ours = intervals.normal_interval(values)
    assert mean == 0.5 and ours == pytest.approx(1.96 * np.std(values, ddof=1) / 3**0.5)
    assert intervals.normal_interval(values, ddof=0)[1] < ours
