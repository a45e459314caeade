import random
from math import ceil

import pytest

from billing.metering import histograms


def of(durations):
    histogram: list[int] = []
    for ms in durations:
        histograms.add(histogram, ms)
    return histogram


def test_a_quantile_is_within_the_promised_error_of_a_duration_of_that_rank():
    dice = random.Random(1)
    durations = sorted(dice.lognormvariate(5, 2) + 1 for _ in range(5_000))
    histogram = of(durations)
    for q in (0.01, 0.5, 0.9, 0.99, 1.0):
        exact = durations[max(1, ceil(q * len(durations))) - 1]
        assert exact < histograms.BOUNDS_MS[-1]
        assert histograms.quantile(histogram, q) == pytest.approx(exact, rel=0.0911)


def test_merged_histograms_are_those_of_all_durations():
    first, second = [3.0, 0.1, 900.0], [5.0, 3.0, 10_000_000.0]
    assert histograms.merge(of(first), of(second), []) == of(first + second)


def test_what_was_added_can_be_taken_back():
    histogram = of([3.0, 700.0])
    histograms.add(histogram, 700.0, -1)
    assert sum(histogram) == 1
    assert histograms.quantile(histogram, 1) == pytest.approx(3.0, rel=0.1)


@pytest.mark.parametrize("ms", [0.0, 0.5, 1.0, 2.0, 1e9])
def test_each_duration_has_its_bucket(ms):
    index = histograms.index_of(ms)
    below = histograms.BOUNDS_MS[index - 1] if index else float("-inf")
    above = histograms.BOUNDS_MS[index] if index < len(histograms.BOUNDS_MS) else float("inf")
    assert below <= ms < above
    assert index < histograms.BUCKETS


def test_durations_beyond_the_bounds_are_given_as_the_nearest_bound():
    assert histograms.quantile(of([0.2]), 0.5) == histograms.BOUNDS_MS[0]
    assert histograms.quantile(of([1e9]), 0.5) == histograms.BOUNDS_MS[-1]


def test_an_empty_histogram_has_no_quantile():
    assert histograms.quantile([], 0.5) is None
    assert histograms.quantile([0, 0], 0.5) is None
