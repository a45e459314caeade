"""A few seconds of the randomised run; `make soak` gives it minutes."""

import pytest

from tests.soak.run import soak


@pytest.mark.django_db(transaction=True)
def test_random_clients_and_a_misbehaving_upstream_break_nothing() -> None:
    report = soak(seed=20240101, seconds=8)
    assert report.calls > 100
    assert report.problems == []
