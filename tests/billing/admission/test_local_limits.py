"""A process's share of the limits while Redis is away."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.admission.local_limits import KEY, ORGANIZATION, LocalLimiter, Taken

ACME, OTHER = uuid.uuid4(), uuid.uuid4()
FIRST, SECOND = uuid.uuid4(), uuid.uuid4()


def _take(limiter, organization=ACME, key=FIRST, *, limit=10, key_limit=None, minute=1):
    return limiter.take(
        organization_id=organization, api_key_id=key, per_minute=limit, key_per_minute=key_limit, minute=minute
    )


def test_it_lets_its_share_through_and_says_how_much_is_left():
    limiter = LocalLimiter(4)
    taken = [_take(limiter, limit=11) for _ in range(3)]
    assert taken == [
        Taken(True, 1, 2, 0, None, None),
        Taken(True, 2, 2, 0, None, None),
        Taken(False, 2, 2, 0, None, ORGANIZATION),
    ]


@pytest.mark.parametrize(("limit", "processes", "share"), [(10, 1, 10), (10, 3, 3), (10, 10, 1), (3, 8, 1), (0, 4, 0)])
def test_the_share_is_at_least_one_of_any_limit_but_zero(limit, processes, share):
    limiter = LocalLimiter(processes)
    admitted = sum(_take(limiter, limit=limit).admitted for _ in range(20))
    assert admitted == share


def test_organizations_do_not_share():
    limiter = LocalLimiter(1)
    assert _take(limiter, limit=1).admitted
    assert not _take(limiter, limit=1).admitted
    assert _take(limiter, OTHER, SECOND, limit=1).admitted


def test_keys_of_one_organization_draw_on_the_same_limit():
    limiter = LocalLimiter(1)
    assert _take(limiter, key=FIRST, limit=2).used == 1
    assert _take(limiter, key=SECOND, limit=2).used == 2
    assert _take(limiter, key=SECOND, limit=2).refused_by == ORGANIZATION


def test_a_keys_own_limit_refuses_that_key_and_costs_the_organization_nothing():
    limiter = LocalLimiter(1)
    assert _take(limiter, key_limit=1) == Taken(True, 1, 10, 1, 1, None)
    assert _take(limiter, key_limit=1) == Taken(False, 1, 10, 1, 1, KEY)
    assert _take(limiter, key=SECOND) == Taken(True, 2, 10, 0, None, None)


def test_what_the_organization_refuses_costs_the_key_nothing():
    limiter = LocalLimiter(1)
    assert _take(limiter, key=SECOND, limit=1).admitted
    assert _take(limiter, limit=1, key_limit=5) == Taken(False, 1, 1, 0, 5, ORGANIZATION)
    assert _take(limiter, limit=2, key_limit=5).key_used == 1


def test_a_key_limit_of_zero_admits_nothing():
    assert _take(LocalLimiter(1), key_limit=0) == Taken(False, 0, 10, 0, 0, KEY)


def test_every_minute_begins_anew_and_the_past_is_forgotten():
    limiter = LocalLimiter(1)
    for minute in range(1, 50):
        for organization in (ACME, OTHER):
            assert _take(limiter, organization, uuid.uuid4(), limit=1, key_limit=1, minute=minute).admitted
    assert len(limiter._used) == 4  # of this minute alone


def test_a_clock_that_steps_back_stays_in_the_minute_it_counts():
    limiter = LocalLimiter(1)
    assert _take(limiter, limit=1, minute=8).admitted
    assert not _take(limiter, limit=1, minute=7).admitted
    assert _take(limiter, limit=1, minute=9).admitted


@given(st.integers(1, 5), st.integers(0, 12), st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), max_size=40))
def test_neither_limit_is_ever_passed(processes, limit, calls):
    limiter = LocalLimiter(processes)
    keys = [uuid.UUID(int=1), uuid.UUID(int=2), uuid.UUID(int=3)]
    admitted = [
        index
        for index, key_limit in calls
        if _take(limiter, key=keys[index], limit=limit, key_limit=key_limit * 2).admitted
    ]
    assert len(admitted) <= max(min(limit, 1), limit // processes)
    for index, key in enumerate(keys):
        most = max((key_limit * 2 for at, key_limit in calls if at == index), default=0)
        assert admitted.count(index) <= max(1, most // processes)
        assert limiter._used.get(key, 0) == admitted.count(index)
