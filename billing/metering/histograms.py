"""Histograms of durations that can be added up: across hours, keys and models. Pure.

A histogram is a list of counts, one per bucket, and may be shorter than the buckets are many: what is missing is zero.
Four buckets double the duration, so an answer of ``quantile`` is at most 9.1% from a duration that really has that
rank (half a bucket, by ratio) between 1 ms and 17 minutes; outside it is the nearest bound.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, zip_longest
from math import ceil, sqrt
from typing import Final

PER_DOUBLING: Final = 4
DOUBLINGS: Final = 20
# Bucket 0 is below the first bound, bucket i from bound i - 1 up to bound i, the last from the last bound on.
BOUNDS_MS: Final = tuple(2 ** (step / PER_DOUBLING) for step in range(DOUBLINGS * PER_DOUBLING + 1))
BUCKETS: Final = len(BOUNDS_MS) + 1


def index_of(ms: float) -> int:
    return bisect_right(BOUNDS_MS, ms)


def add(histogram: list[int], ms: float, count: int = 1) -> None:
    """In place. A negative ``count`` takes back what was added."""
    index = index_of(ms)
    histogram.extend([0] * (index + 1 - len(histogram)))
    histogram[index] += count


def merge(*histograms: Sequence[int]) -> list[int]:
    return [sum(counts) for counts in zip_longest(*histograms, fillvalue=0)]


def quantile(histogram: Sequence[int], q: float) -> float | None:
    """In milliseconds, with ``q`` from 0 to 1: the duration that a share of ``q`` did not exceed. None if empty."""
    seen = list(accumulate(histogram))
    if not seen or seen[-1] <= 0:
        return None
    index = bisect_left(seen, max(1, ceil(q * seen[-1])))
    if index == 0:
        return BOUNDS_MS[0]
    if index >= len(BOUNDS_MS):
        return BOUNDS_MS[-1]
    return sqrt(BOUNDS_MS[index - 1] * BOUNDS_MS[index])
