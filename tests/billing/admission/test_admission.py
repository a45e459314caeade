"""Every dimension of admission: refused at its limit, in a fixed order, and what is refused costs nothing."""

import asyncio
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import requests
from django.db import OperationalError

from billing import events, months
from billing.admission import limits, notes, quota, redis_keys
from billing.admission.limits import ADMITTED, BUDGET, KEY_BUDGET, KEY_MINUTE, KEY_MONTH, MINUTE, MONTH, PARALLEL
from billing.settling.settle import Settler
from helixflow.lib import errors, ids, redis
from tests.billing.admitting import PROCESS, Account, current_month, forget_snapshots
from tests.factories import MODEL, deploy
from tests.web import running_web

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _cold_at_the_begin_of_a_minute(monkeypatch):
    """So that no minute ends within a test."""
    forget_snapshots()
    now, _ = redis.sync_client().time()
    monkeypatch.setattr(limits, "clock_offset_s", -now % 60)
    monkeypatch.setattr(limits, "_ledger_failed_at", float("-inf"))


@pytest.fixture
def account(db):
    return Account.make()


def move_to(monkeypatch, epoch_s):
    """Redis's clock, as admission reads it."""
    now, _ = redis.sync_client().time()
    monkeypatch.setattr(limits, "clock_offset_s", epoch_s - now)


def next_month(number):
    return months.of(months.bounds(number)[1])


def fill(account, dimension):
    """One more is one too many, of this dimension alone. Returns the account's key."""
    own = {"minute": "requests_per_minute", "month": "requests_per_month", "parallel": "max_parallel"}
    key_own = {"key_minute": "requests_per_minute", "key_month": "requests_per_month"}
    if dimension in own:
        account.limit(**{own[dimension]: 2})
    elif dimension in key_own:
        account.limit_key(account.key, **{key_own[dimension]: 2})
    elif dimension == "budget":
        account.limit(monthly_budget="5.00")
    else:
        account.limit_key(account.key, monthly_budget="5.00")
    assert account.outcomes(2) == [ADMITTED, ADMITTED]
    if "budget" in dimension:
        account.spend("5.00")


DIMENSIONS = {
    "minute": errors.RateLimitExceeded,
    "key_minute": errors.RateLimitExceeded,
    "parallel": errors.RateLimitExceeded,
    "month": errors.InsufficientQuota,
    "key_month": errors.InsufficientQuota,
    "budget": errors.InsufficientQuota,
    "key_budget": errors.InsufficientQuota,
}


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_one_more_than_fits_is_refused_for_its_reason(account, dimension):
    fill(account, dimension)
    verdict = account.admit()
    assert (verdict.admitted, verdict.reason) == (False, dimension)
    assert type(verdict.error()) is DIMENSIONS[dimension]
    assert verdict.limit_met == (5_000_000 if "budget" in dimension else 2)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_what_is_refused_changes_nothing_in_redis(account, dimension):
    fill(account, dimension)
    before = account.everything()
    account.admit_many(3)
    assert account.everything() == before


@pytest.mark.parametrize("dimension", ["key_minute", "key_month", "key_budget"])
def test_a_key_s_own_limit_is_no_other_key_s(account, dimension):
    fill(account, dimension)
    other = account.new_key()
    assert account.admit(key=other).admitted
    assert not account.admit().admitted


def test_a_key_draws_on_its_organization_s_limits(account):
    account.limit(requests_per_minute=3)
    other = account.new_key(requests_per_minute=1_000)
    assert account.outcomes(2) == [ADMITTED] * 2
    assert sorted(account.outcomes(2, key=other)) == [ADMITTED, MINUTE]


def test_what_lasts_longest_is_told_first(account):
    """Whoever is told of the minute, waits, and then meets the month has waited for nothing."""
    account.admit()
    account.spend("9.00")
    full: dict[int, dict[str, Any]] = {
        MONTH: {"requests_per_month": 1},
        KEY_MONTH: {"key": {"requests_per_month": 1}},
        BUDGET: {"monthly_budget": "9.00"},
        KEY_BUDGET: {"key": {"monthly_budget": "9.00"}},
        MINUTE: {"requests_per_minute": 1},
        KEY_MINUTE: {"key": {"requests_per_minute": 1}},
        PARALLEL: {"max_parallel": 1},
    }
    order = list(full)
    found = []
    for first in range(len(order)):
        own: dict[str, Any] = {}
        of_key: dict[str, Any] = {}
        for outcome in order[first:]:
            terms = dict(full[outcome])
            of_key |= terms.pop("key", {})
            own |= terms
        account.limit(**own)
        account.limit_key(account.key, **of_key)
        if order[first] == PARALLEL:  # a lease is taken where there is a cap
            redis.sync_client().zadd(redis_keys.parallel(account.id), {"another": 2**40})
        found.append(account.admit().outcome)
    assert found == order


# Counting


def test_the_month_counts_all_and_each_key(account):
    other = account.new_key()
    account.admit_many(2)
    account.admit(key=other)
    month = account.month()
    assert (month["used"], month[f"k:{account.key.row.id.hex}"], month[f"k:{other.row.id.hex}"]) == (3, 2, 1)


def test_a_request_is_admitted_once_however_often_it_asks(account):
    account.limit(requests_per_minute=1, requests_per_month=1, max_parallel=1)
    request_id = ids.uuid7()
    verdicts = [account.admit(request_id) for _ in range(3)]
    assert [verdict.outcome for verdict in verdicts] == [ADMITTED] * 3
    assert (verdicts[-1].remaining, account.used(), account.leases(), len(account.notes())) == (0, 1, 1, 1)


def test_a_request_that_was_refused_may_ask_again(account):
    account.limit(requests_per_minute=1)
    request_id = ids.uuid7()
    account.admit()
    assert not account.admit(request_id).admitted
    account.limit(requests_per_minute=2)
    assert account.admit(request_id).admitted


def test_the_note_says_whose_request_it_is(account):
    account.limit(max_parallel=4)
    request_id = ids.uuid7()
    verdict = account.admit(request_id)
    note = account.notes()[request_id]
    assert note == notes.Note(
        PROCESS, account.id, account.key.row.id, account.owner.id, verdict.month, True, verdict.now, notes.Mark()
    )


def test_a_month_counts_to_its_limit_under_any_concurrency(account):
    account.limit(requests_per_month=10)
    assert sorted(account.outcomes(100)) == [ADMITTED] * 10 + [MONTH] * 90
    assert account.used() == 10


# Parallel requests


def test_a_slot_is_free_when_its_request_is_settled(account):
    account.limit(max_parallel=1)
    request_id = ids.uuid7()
    verdict = account.admit(request_id)
    assert account.outcomes(1) == [PARALLEL]
    account.settle(verdict, request_id)
    assert account.leases() == 0
    assert account.outcomes(2) == [ADMITTED, PARALLEL]


def test_a_lease_nobody_gives_back_expires(account, monkeypatch):
    account.limit(max_parallel=1)
    now = account.admit().now
    assert account.outcomes(1) == [PARALLEL]
    move_to(monkeypatch, now + notes.LIFE_S + 1)
    assert account.outcomes(2) == [ADMITTED, PARALLEL]


def test_a_refusal_for_parallel_requests_says_to_come_back_at_once(account):
    account.limit(max_parallel=1)
    account.admit()
    assert account.admit().error().retry_after == 1


def test_an_admission_that_redis_may_have_heard_of_may_hold_a_lease(account, settings):
    """The local limiter admits; the settlement then gives back what Redis may have given meanwhile."""
    account.limit(max_parallel=1)
    account.admit()
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    verdict = account.admit()
    assert (verdict.admitted, verdict.local, verdict.uncertain, verdict.leased) == (True, True, True, True)


# The minute and the month


def test_the_clock_is_redis_s(account, monkeypatch):
    monkeypatch.setattr(limits, "clock_offset_s", 7_200)
    before, _ = redis.sync_client().time()
    verdict = account.admit()
    after, _ = redis.sync_client().time()
    assert before + 7_200 <= verdict.now <= after + 7_200


@pytest.mark.parametrize("second", [0, 1, 29, 58])
def test_retry_after_is_right_to_the_second(account, monkeypatch, second):
    account.limit(requests_per_minute=0)
    now, _ = redis.sync_client().time()
    move_to(monkeypatch, now - now % 60 + 60 + second)
    verdict = account.admit()
    assert verdict.now % 60 - second in {0, 1}  # Redis's clock goes on
    assert verdict.error().retry_after == 60 - verdict.now % 60
    assert verdict.reset_at == verdict.now + verdict.error().retry_after


def test_a_month_begins_with_its_own_counter_and_the_minute_goes_its_way(account, monkeypatch):
    account.limit(requests_per_month=2)
    now = current_month()
    edge = months.bounds(now)[1]
    move_to(monkeypatch, edge - 30)
    assert account.outcomes(3) == [ADMITTED, ADMITTED, MONTH]
    move_to(monkeypatch, edge)
    verdicts = account.admit_many(3)
    assert [verdict.outcome for verdict in verdicts] == [ADMITTED, ADMITTED, MONTH]
    assert {verdict.month for verdict in verdicts} == {next_month(now)}
    assert (account.used(now), account.used(next_month(now))) == (2, 2)


def test_a_request_gives_its_unit_back_to_the_month_it_began_in(account, monkeypatch):
    now = current_month()
    edge = months.bounds(now)[1]
    move_to(monkeypatch, edge - 30)
    request_id = ids.uuid7()
    verdict = account.admit(request_id)
    move_to(monkeypatch, edge + 5)
    account.admit()
    account.settle(verdict, request_id, units=0)
    assert (account.used(now), account.used(next_month(now))) == (0, 1)


def headers(verdict):
    return {name.decode(): int(value) for name, value in verdict.headers()}


def test_the_headers_tell_minute_and_month(account):
    account.limit(requests_per_minute=5, requests_per_month=50)
    account.admit()
    verdict = account.admit()
    assert headers(verdict) == {
        "x-ratelimit-limit": 5,
        "x-ratelimit-remaining": 3,
        "x-ratelimit-reset": verdict.now - verdict.now % 60 + 60,
        "x-ratelimit-limit-month": 50,
        "x-ratelimit-remaining-month": 48,
        "x-ratelimit-reset-month": months.bounds(verdict.month)[1],
    }


def test_the_headers_tell_of_the_key_where_it_has_less(account):
    account.limit(requests_per_minute=5, requests_per_month=50)
    key = account.new_key(requests_per_minute=2, requests_per_month=3)
    told = headers(account.admit(key=key))
    assert (told["x-ratelimit-limit"], told["x-ratelimit-remaining"]) == (2, 1)
    assert (told["x-ratelimit-limit-month"], told["x-ratelimit-remaining-month"]) == (3, 2)
    account.admit_many(4)
    told = headers(account.admit(key=key))
    assert (told["x-ratelimit-limit"], told["x-ratelimit-remaining"]) == (5, 0)


# Refusals are told to the meter


def test_refusals_are_told_at_once_and_the_rest_when_the_minute_is_over(account, monkeypatch):
    account.limit(requests_per_minute=0)

    async def refuse():
        settler = Settler()
        for _ in range(3):
            settler.refused(await limits.admit(account.key.token, ids.uuid7(), PROCESS))
            await settler._send_refusals()
        monkeypatch.setattr(limits, "clock_offset_s", limits.clock_offset_s + 60)
        await settler._send_refusals()

    asyncio.run(refuse())
    told = [entry.event for entry in account.stream()]
    assert all(isinstance(event, events.Refused) for event in told)
    assert [event.count for event in told] == [1, 2]
    assert (told[0].api_key_id, told[0].reason, told[0].limit) == (account.key.row.id, "minute", 0)


# A month nobody has counted yet


def test_a_month_without_its_counter_is_seeded_before_anybody_is_admitted(account):
    account.admit_many(2)
    redis.sync_client().delete(redis_keys.month(account.id, current_month()))
    account.limit(requests_per_month=3)
    assert sorted(account.outcomes(3)) == [ADMITTED, MONTH, MONTH]
    assert account.used() == 3


def test_while_the_ledger_is_away_the_month_waits_and_the_minute_holds(account, monkeypatch):
    account.limit(requests_per_minute=3, requests_per_month=1)
    account.admit()
    redis.sync_client().delete(redis_keys.month(account.id, current_month()))
    totals = quota._totals
    monkeypatch.setattr(quota, "_totals", _away)
    assert account.outcomes(3) == [ADMITTED, ADMITTED, MINUTE]
    assert account.used() is None
    monkeypatch.setattr(quota, "_totals", totals)
    monkeypatch.setattr(limits, "_ledger_failed_at", float("-inf"))
    account.limit(requests_per_month=1)
    assert account.outcomes(1) == [MONTH]
    assert account.used() == 3


def test_a_ledger_that_hangs_for_some_refuses_nobody_else(account, monkeypatch):
    """Who seeds is stuck, so the next organization's seeding does not even begin."""
    others = [Account.make(f"stuck-{number}") for number in range(limits.SEEDERS)]
    ended = threading.Event()

    def hangs(*given):
        ended.wait()
        raise OperationalError("the connection was closed")

    monkeypatch.setattr(quota, "_totals", hangs)
    monkeypatch.setattr(limits, "SEED_WAIT_S", 0.5)
    monkeypatch.setattr(limits, "PAUSE_S", 0.0)

    async def admit_all():
        try:
            return [await limits.admit(each.key.token, ids.uuid7(), PROCESS) for each in (*others, account)]
        finally:
            ended.set()

    assert [verdict.outcome for verdict in asyncio.run(admit_all())] == [ADMITTED] * (limits.SEEDERS + 1)


def _away(*given):
    raise OperationalError("no")


# Four processes


def chat(web, token):
    """On a connection of its own, so that the kernel chooses the process anew."""
    return requests.post(
        f"{web.url}/v1/chat/completions",
        json={"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]},
        headers={"Authorization": f"Bearer {token}", "Connection": "close"},
        timeout=30,
    )


def chat_many(webs, token, count):
    with ThreadPoolExecutor(32) as pool:
        return list(pool.map(lambda number: chat(webs[number % len(webs)], token), range(count)))


def passed(answers):
    assert {answer.status_code for answer in answers} <= {200, 429}
    return [answer for answer in answers if answer.status_code == 200]


def test_four_processes_admit_exactly_ten_a_minute_on_both_sides_of_its_edge(upstream):
    """Two of them are a minute ahead, so nobody waits for one to end."""
    deploy(upstream)
    now, _ = redis.sync_client().time()
    start = -now % 60  # the minute has just begun
    with ExitStack() as running:
        webs = [
            running.enter_context(running_web(workers=2, environment={"HELIXFLOW_CLOCK_OFFSET_S": str(offset)}))
            for offset in (start, start + 60)
        ]
        for attempt in range(3):
            account = Account.make(f"edge-{attempt}", requests_per_minute=10)
            before = minute(start)
            first = chat_many(webs[:1], account.key.token, 100)
            second = chat_many(webs[1:], account.key.token, 100)
            third = chat_many(webs, account.key.token, 20)
            if minute(start) == before:
                break
        else:
            pytest.fail("the machine is too slow to send 220 requests within a minute")
    for answers, begins in ((first, before), (second, before + 1)):
        assert len(passed(answers)) == 10
        assert sorted(int(answer.headers["x-ratelimit-remaining"]) for answer in passed(answers)) == list(range(10))
        for answer in answers:
            assert int(answer.headers["x-ratelimit-limit"]) == 10
            assert int(answer.headers["x-ratelimit-reset"]) == (begins + 1) * 60
            assert {"x-ratelimit-limit-month", "x-ratelimit-remaining-month"} < {*map(str.lower, answer.headers)}
        for answer in answers:
            if answer.status_code == 429:
                assert answer.json()["error"]["code"] == "rate_limit_exceeded"
                assert 1 <= int(answer.headers["retry-after"]) <= 60
                assert answer.headers["x-ratelimit-remaining"] == "0"
    assert passed(third) == []
    assert account.used() == 20


def minute(offset_s):
    now, _ = redis.sync_client().time()
    return (now + offset_s) // 60


def test_ids_of_requests_are_what_admission_counts_by(account):
    """Two requests with one id are one request, whichever process asks."""
    request_id = uuid.uuid4()
    assert account.admit(request_id, process="one").admitted
    assert account.admit(request_id, process="two").admitted
    assert account.used() == 1
    assert account.notes()[request_id].process == "one"
