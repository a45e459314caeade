"""Quota granted for a month: counted exactly by admission, in every process, until it is taken back."""

import asyncio
import datetime as dt

import pytest

from accounts.models import AuditEvent
from billing import grants, months, plans
from billing.admission import snapshots
from billing.metering import thresholds
from billing.plan_models import QuotaGrant
from billing.reports import usage
from helixflow.lib import errors, ids
from tests import factories
from tests.billing.admitting import Account, current_month, forget_snapshots

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _cold_cache():
    forget_snapshots()


@pytest.fixture
def account() -> Account:
    return Account.make(requests_per_month=3)


@pytest.fixture
def operator():
    return factories.superuser("operator")


def admitted(account: Account, count: int) -> int:
    return sum(verdict.admitted for verdict in account.admit_many(count))


def test_a_grant_counts_from_the_next_request_on_and_exactly(account, operator):
    assert admitted(account, 5) == 3
    grants.grant(organization=account.organization, user=operator, units=4, reason="launch day")
    assert admitted(account, 10) == 4
    grants.grant(organization=account.organization, user=operator, units=1, reason="and one")
    assert admitted(account, 10) == 1


def test_headers_and_refusals_tell_the_raised_limit(account, operator):
    grants.grant(organization=account.organization, user=operator, units=2, reason="launch day")
    verdict = account.admit()
    headers = dict(verdict.headers())
    assert (headers[b"x-ratelimit-limit-month"], headers[b"x-ratelimit-remaining-month"]) == (b"5", b"4")
    account.admit_many(4)
    refused = account.admit()
    assert refused.limit_met == 5
    assert "quota of 5 requests" in refused.error().message


def test_what_is_taken_back_no_longer_counts(account, operator):
    given = grants.grant(organization=account.organization, user=operator, units=4, reason="launch day")
    assert admitted(account, 5) == 5
    assert grants.revoke(grant=given, user=operator)
    assert not account.admit().admitted
    assert not grants.revoke(grant=given, user=operator)


def test_a_grant_is_its_month_s_alone(account, operator):
    year, number = divmod(current_month(), 100)
    following = (year + 1) * 100 + 1 if number == 12 else current_month() + 1
    grants.grant(organization=account.organization, user=operator, units=50, reason="later", month=following)
    assert admitted(account, 5) == 3
    snapshot = snapshots.cache.get_sync(account.key.token)
    assert (snapshot.month_limit(current_month()), snapshot.month_limit(following)) == (3, 53)


def test_pages_and_thresholds_know_it(account, operator):
    grants.grant(organization=account.organization, user=operator, units=97, reason="launch day")
    assert plans.in_force(account.organization).requests_per_month == 100
    assert usage.current(account.id).month_limit == 100
    day = months.first_day(current_month())
    assert thresholds.low({(account.id, day): (0, 79)}) == []
    [told] = thresholds.low({(account.id, day): (79, 80)})
    assert told.data["limit"] == 100
    before = (day - dt.timedelta(days=1)).replace(day=1)
    [told, _] = thresholds.low({(account.id, before): (0, 3)})
    assert told.data["limit"] == 3


@pytest.mark.parametrize(
    "wrong", [{"units": 0}, {"units": 2_000_000_000}, {"reason": " "}, {"month": 202001}, {"reason": "x" * 301}]
)
def test_what_makes_no_sense_is_refused(account, operator, wrong):
    given = {"units": 5, "reason": "launch day"} | wrong
    with pytest.raises(errors.InvalidRequest):
        grants.grant(organization=account.organization, user=operator, **given)
    assert not QuotaGrant.objects.exists()


def test_both_are_in_the_organization_s_audit_log(account, operator):
    given = grants.grant(organization=account.organization, user=operator, units=4, reason="launch day")
    grants.revoke(grant=given, user=operator)
    events = AuditEvent.objects.filter(organization_id=account.id, action__startswith="quota.").order_by("id")
    assert [(event.action, event.is_staff, event.target) for event in events] == [
        ("quota.granted", True, ids.public_id(ids.ORGANIZATION, account.id)),
        ("quota.revoked", True, ids.public_id(ids.ORGANIZATION, account.id)),
    ]
    assert "4 more requests" in events[0].summary
    assert "launch day" in events[0].summary


def test_another_organization_has_nothing_of_it(account, operator):
    other = Account.make("other", requests_per_month=2)
    grants.grant(organization=account.organization, user=operator, units=4, reason="launch day")
    assert admitted(other, 5) == 2
    assert asyncio.run(snapshots.cache.get(other.key.token)).granted == {}
