"""The audit log as its readers get it: /dashboard/audit, its CSV, and /v1/audit-events."""

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
import time_machine
from django.test import Client

from accounts import audit, audit_log, jwt, sessions
from accounts.models import AuditEvent, Membership, Organization, Role, User
from helixflow.lib import ids
from tests import factories

URL = "/dashboard/audit"
CSV = "/dashboard/audit.csv"
API = "/v1/audit-events"
pytestmark = pytest.mark.django_db


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def get(user: User, url: str = API, **query: str) -> Any:
    token = jwt.access_token(sessions.start(user=user))
    return Client().get(url, query, headers={"authorization": f"Bearer {token}"})


def record(organization: Organization | None, user: User | None, action: str = "api_key.created", **more: Any) -> None:
    audit.record(action, **{"organization": organization, "user": user, "summary": f"did {action}"} | more)


def text_of(response: Any) -> str:
    text = response.getvalue() if response.streaming else response.content
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text.decode())).split())


@pytest.fixture
def admin(organization: Organization) -> User:
    return factories.user("admin", organization=organization, role=Role.ADMIN)


@pytest.mark.parametrize("url", [URL, CSV])
def test_pages_are_the_owners_alone(client: Client, owner, organization, member, admin, outsider, url: str) -> None:
    record(organization, owner, summary="created the API key “CI”")
    assert "“CI”" in text_of(signed_in(owner).get(url))
    for other in (member, admin):
        assert signed_in(other).get(url).status_code == 403
    assert "“CI”" not in text_of(signed_in(outsider).get(url))
    assert client.get(url)["Location"].startswith("/login")
    assert signed_in(owner).post(url).status_code == 405


@pytest.mark.parametrize("page", ["/dashboard/profile", "/dashboard/webhooks"])
def test_only_owners_are_led_to_it(owner, organization, member, page: str) -> None:
    assert f'href="{URL}"' in signed_in(owner).get(page).content.decode()
    assert f'href="{URL}"' not in signed_in(member).get(page).content.decode()


def test_the_api_is_the_owners_alone(client: Client, owner, organization, member, admin, outsider) -> None:
    record(organization, owner)
    [event] = get(owner).json()["data"]
    assert event["actor"] == owner.email
    for other in (member, admin):
        assert get(other).status_code == 403
    assert get(outsider).json()["data"] == []
    assert client.get(API).status_code == 401
    token = jwt.access_token(sessions.start(user=outsider))
    headers = {"authorization": f"Bearer {token}", "x-helixflow-organization": organization.public_id}
    assert Client().get(API, headers=headers).status_code == 404


def test_an_event_of_the_api_tells_all_of_it(owner: User, organization: Organization) -> None:
    with audit.calling_from("203.0.113.9", "curl/8"):
        record(organization, owner, target="key_1", changes={"name": ("CI", "CD"), "models": (None, ["a", "b"])})
    [event] = get(owner).json()["data"]
    row = AuditEvent.objects.get(organization_id=organization.id)
    assert event.pop("created_at").endswith("Z")
    assert event == {
        "id": row.public_id,
        "object": "audit_event",
        "action": "api_key.created",
        "summary": "did api_key.created",
        "actor": owner.email,
        "user_id": owner.public_id,
        "is_support": False,
        "target": "key_1",
        "changes": {"name": {"before": "CI", "after": "CD"}, "models": {"before": None, "after": ["a", "b"]}},
        "address": "203.0.113.9",
        "user_agent": "curl/8",
    }


def test_the_page_tells_what_changed_and_from_where(owner: User, organization: Organization) -> None:
    with audit.calling_from("203.0.113.9", "curl/8"):
        record(
            organization, owner, changes={"monthly_budget": (None, 25), "enabled": (True, False), "note": ("", "<b>")}
        )
    response = signed_in(owner).get(URL)
    text = text_of(response)
    assert "monthly budget nothing → 25" in text
    assert "enabled yes → no" in text
    assert "<b>" not in response.content.decode()
    assert "203.0.113.9 , curl" in text


def test_account_events_are_nobody_elses(owner: User, organization: Organization, member: User) -> None:
    record(None, member, "login.succeeded", summary="logged in")
    assert "logged in" not in text_of(signed_in(owner).get(URL))


def actions(user: User, **query: str) -> list[str]:
    answer = get(user, **query)
    assert answer.status_code == 200, answer.content
    return [event["action"] for event in answer.json()["data"]]


def test_filters_choose(owner: User, organization: Organization, member: User) -> None:
    for day, who, action in (
        (20, owner, "api_key.created"),
        (21, member, "webhook.created"),
        (22, None, "plan.changed"),
    ):
        with time_machine.travel(datetime(2026, 11, day, 23, 59, 59, tzinfo=UTC)):
            record(organization, who, action)
    operator = factories.superuser("operator")
    with time_machine.travel(datetime(2026, 11, 23, tzinfo=UTC)):
        record(organization, operator, "api_key.revoked")
    everything = ["api_key.revoked", "plan.changed", "webhook.created", "api_key.created"]
    assert actions(owner) == everything
    assert actions(owner, actor="MEMBER@example.com") == ["webhook.created"]
    assert actions(owner, actor=audit.PLATFORM) == ["plan.changed"]
    assert actions(owner, group="keys") == ["api_key.revoked", "api_key.created"]
    assert actions(owner, group="support") == ["api_key.revoked"]
    assert actions(owner, since="2026-11-21", until="2026-11-22") == ["plan.changed", "webhook.created"]
    assert actions(owner, since="2026-11-23") == ["api_key.revoked"]
    page = text_of(signed_in(owner).get(URL, {"group": "webhooks"}))
    assert "did webhook.created" in page
    assert "did api_key" not in page
    assert "Nothing matches" in text_of(signed_in(owner).get(URL, {"actor": "nobody@example.com"}))


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"group": "nonsense"}, "group"),
        ({"since": "yesterday"}, "since"),
        ({"since": "1950-01-01"}, "since"),
        ({"until": "2026-13-01"}, "until"),
        ({"since": "2026-11-23", "until": "2026-11-22"}, "until"),
        ({"actor": "a\0b"}, "actor"),
        ({"cursor": "aud_nonsense"}, "cursor"),
        ({"limit": "101"}, "limit"),
    ],
)
def test_bad_filters_are_refused_by_name(owner: User, organization: Organization, query, field: str) -> None:
    answer = get(owner, **query)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
    if field != "limit":
        assert signed_in(owner).get(URL, query).status_code == (400 if field == "cursor" else 200)
    if field not in {"limit", "cursor"}:
        assert signed_in(owner).get(CSV, query).status_code == 400


def test_it_is_paged_by_key(owner: User, organization: Organization) -> None:
    for number in range(55):
        with time_machine.travel(datetime(2026, 11, 1, 12, number, tzinfo=UTC)):  # ids of one millisecond have no order
            record(organization, owner, summary=f"did {number:02}")
    browser = signed_in(owner)
    first = browser.get(URL)
    assert len(re.findall(r'class="audit__event"', first.content.decode())) == 50
    [older] = re.findall(r'rel="next" href="(\?[^"]+)"', first.content.decode())
    last = text_of(browser.get(URL + unescape(older)))
    assert "did 04" in last
    assert "did 05" not in last
    answer = get(owner, limit="2").json()
    assert [event["summary"] for event in answer["data"]] == ["did 54", "did 53"]
    following = get(owner, limit="2", cursor=answer["meta"]["next_cursor"]).json()
    assert [event["summary"] for event in following["data"]] == ["did 52", "did 51"]


def test_the_page_takes_few_queries(owner: User, organization: Organization, django_assert_max_num_queries) -> None:
    for number in range(60):
        record(organization, owner, summary=f"did {number}")
        factories.user(f"user{number}", organization=organization)
    browser = signed_in(owner)
    with django_assert_max_num_queries(12):
        page = browser.get(URL).content.decode()
    assert page.count("<option value=") < 70


def test_the_csv_holds_all_of_it_and_no_formula(owner: User, organization: Organization) -> None:
    with time_machine.travel(datetime(2026, 11, 1, tzinfo=UTC)):
        record(organization, owner, summary="=HYPERLINK(1)", target="@target", changes={"name": ("-1", "b")})
    for number in range(600):
        record(organization, owner, "webhook.created", summary=f"did {number}")
    response = signed_in(owner).get(CSV)
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"].startswith('attachment; filename="audit-log-')
    rows = list(csv.DictReader(io.StringIO(response.getvalue().decode(), newline="")))
    assert len(rows) == 601
    assert (rows[-1]["what"], rows[-1]["target"]) == ("'=HYPERLINK(1)", "'@target")
    assert rows[-1]["changes"] == "name: -1 → b"
    assert sorted(row["what"] for row in rows[:-1]) == sorted(f"did {number}" for number in range(600))
    filtered = signed_in(owner).get(CSV, {"group": "keys"})
    assert len(filtered.getvalue().decode().splitlines()) == 2


def test_who_is_an_owner_no_longer_reads_no_longer(owner: User, organization: Organization) -> None:
    browser = signed_in(owner)
    assert browser.get(URL).status_code == 200
    Membership.objects.filter(user=owner).update(role=Role.ADMIN)
    assert browser.get(URL).status_code == 403


def test_days_are_utc_and_the_last_is_included(owner: User, organization: Organization) -> None:
    with time_machine.travel(datetime(2026, 11, 22, 0, 0, 0, tzinfo=UTC), tick=False) as clock:
        record(organization, owner, "api_key.created")
        clock.shift(timedelta(days=1) - timedelta(milliseconds=1))
        record(organization, owner, "api_key.updated")
        clock.shift(timedelta(milliseconds=1))
        record(organization, owner, "api_key.revoked")
    day = datetime(2026, 11, 22, tzinfo=UTC).date()
    found = audit_log.of_organization(organization, since=day, until=day).order_by("id")
    assert [event.action for event in found] == ["api_key.created", "api_key.updated"]
    assert all(ids.time_of(event.id).date() == day for event in found)
