"""/dashboard/usage: charts, tiles and tables of usage over time, and the same as CSV."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.http import StreamingHttpResponse
from django.test.utils import CaptureQueriesContext

from billing import events, usage_csv
from billing.reports import timeseries
from helixflow.lib import csv_export
from tests.billing.readers import login, meter, new_key
from tests.billing.visits import EVIL, signed_in, text_of

pytestmark = pytest.mark.django_db

USAGE = "/dashboard/usage"
CSV = "/dashboard/usage.csv"
NOW = datetime(2026, 11, 23, 10, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _november():
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def key(organization, owner):
    return new_key(organization, owner)[0]


def page(user, **query):
    return signed_in(user).get(USAGE, query)


def table(response) -> list[list[str]]:
    """The chart's own table."""
    chart = response.context["chart"]
    return [["", *(shape.name for shape in chart.shapes)], *([label, *cells] for label, cells in chart.rows)]


def totals(response) -> dict[str, tuple[str, ...]]:
    return {row.name: (row.requests, row.failed, row.tokens, row.cost) for row in response.context["rows"]}


def lines(user, **query) -> list[dict[str, str]]:
    response = signed_in(user).get(CSV, query)
    assert response.status_code == 200
    return list(csv.DictReader(io.StringIO(b"".join(parts(response)).decode(), newline="")))


def parts(response: object) -> list[bytes]:
    assert isinstance(response, StreamingHttpResponse)
    return list(response)


@pytest.mark.parametrize("url", [USAGE, CSV])
def test_it_requires_a_login(client, url):
    response = client.get(url)
    assert response.status_code == 302
    assert response["Location"] == f"/login?next={url}"


def test_owner_and_member_see_it_and_an_outsider_their_own(owner, member, outsider, organization, key):
    meter(key, at=NOW)
    for user in (owner, member):
        assert totals(page(user)) == {"gpt-4": ("1", "0", "15", "0.02")}
    assert "No requests yet" in text_of(page(outsider))
    assert lines(outsider) == []


def test_another_organization_s_key_is_not_found(outsider, key):
    for url in (USAGE, CSV):
        assert signed_in(outsider).get(url, {"key": key.public_id}).status_code == 404
        assert signed_in(outsider).get(url, {"key": "nonsense"}).status_code == 404


def test_its_numbers_are_the_api_s(owner, organization, key):
    other, _ = new_key(organization, owner, "other")
    for days, of, model in ((0, key, "gpt-4"), (0, key, "small"), (1, other, "gpt-4"), (40, key, "gpt-4")):
        meter(of, at=NOW - timedelta(days=days), model=model, duration_ms=100.0 * (days + 1))
    shown = table(page(owner, group="model"))
    query: dict[str, Any] = {"group_by": "model", "start": "2026-10-25"}
    told = login(owner).get("/v1/usage/timeseries", query).json()["data"]["series"]
    assert shown[0][1:] == [series["model"] for series in told] == ["gpt-4", "small"]
    assert [[int(cell) for cell in row[1:]] for row in shown[1:]] == [
        [series["points"][index]["requests"] for series in told] for index in range(30)
    ]
    found = page(owner, group="key").context["found"]
    assert (found.totals.requests, found.before.requests) == (3, 1)


@pytest.mark.parametrize(
    ("query", "points", "first", "last"),
    [
        ({"range": "24h"}, 24, "22 Nov 2026, 11:00 UTC", "23 Nov 2026, 10:00 UTC"),
        ({"range": "7d"}, 168, "16 Nov 2026, 11:00 UTC", "23 Nov 2026, 10:00 UTC"),
        ({}, 30, "Sun 25 Oct 2026", "Mon 23 Nov 2026"),
        ({"range": "90d"}, 90, "Wed 26 Aug 2026", "Mon 23 Nov 2026"),
        ({"range": "12m"}, 12, "December 2025", "November 2026"),
        ({"range": "month"}, 23, "Sun 1 Nov 2026", "Mon 23 Nov 2026"),
        ({"range": "12m", "bucket": "day"}, 358, "Mon 1 Dec 2025", "Mon 23 Nov 2026"),
        ({"start": "2026-11-01", "end": "2026-11-02"}, 48, "1 Nov 2026, 00:00 UTC", "2 Nov 2026, 23:00 UTC"),
        ({"start": "2025-11-01", "end": "2026-10-31"}, 12, "November 2025", "October 2026"),
    ],
)
def test_ranges(owner, key, query, points, first, last):
    meter(key, at=NOW)
    rows = page(owner, **query).context["chart"].rows
    assert (len(rows), rows[0][0], rows[-1][0]) == (points, first, last)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"range": "custom"}, "Choose a day."),
        ({"start": "tomorrow", "end": "2026-11-02"}, "Enter a date, such as 2026-11-23."),
        ({"start": "2026-11-03", "end": "2026-11-02"}, "This is before “From”."),
        ({"start": "0001-01-01", "end": "2026-11-02"}, "Choose a day between 2020 and 2099."),
        ({"start": "2026-11-02", "end": "9999-12-31"}, "Choose a day between 2020 and 2099."),
        ({"range": "30d", "bucket": "hour"}, "a chart has room for 400"),
        ({"metric": "cost", "group": "status"}, "By status, only requests are counted"),
        ({"metric": EVIL}, "Choose one of these."),
        ({"group": "user"}, "Choose one of these."),
        ({"bucket": "week"}, "Choose one of these."),
        ({"range": "100y"}, "Choose one of these."),
        ({"metric": "latency", "percentile": "p12"}, "Choose one of these."),
        ({"model": "m" * 201}, "No model has such a name."),
        ({"model": "a\0b"}, "No model has such a name."),
    ],
)
def test_what_cannot_be_shown_is_said_and_how_to_go_on(owner, organization, query, message):
    response = page(owner, **query)
    text = text_of(response)
    assert message in text
    assert "This can't be shown" in text
    assert EVIL not in response.content.decode()
    assert signed_in(owner).get(CSV, query).status_code == 302


def test_filters_by_key_and_model(owner, organization, key):
    other, _ = new_key(organization, owner, "other")
    meter(key, at=NOW)
    meter(key, at=NOW, model="small")
    meter(other, at=NOW)

    def requests(**query):
        return page(owner, **query).context["found"].totals.requests

    assert requests() == 3
    assert requests(key=key.public_id) == 2
    assert requests(model="gpt-4") == 2
    assert requests(key=key.public_id, model="small") == 1
    assert requests(model="never") == 0
    models = [name for name, _ in page(owner, model="never").context["form"].fields["model"].choices]
    assert models == ["", "gpt-4", "small", "never"], "the filters don't take away what can be chosen"
    html = page(owner, key=key.public_id).content.decode()
    assert f'<option value="{key.public_id}" selected>CI</option>' in html
    assert '<select name="key" data-autosubmit="" id="id_key">' in html


def test_by_status(owner, key):
    for code in ("", "", "timeout"):
        meter(key, at=NOW, status=503 if code else 200, error_code=code)
    response = page(owner, group="status")
    assert table(response)[0] == ["", "Succeeded", "timeout"]
    assert table(response)[-1][1:] == ["2", "1"]
    assert "33.33%" in text_of(response)


def test_by_environment(owner, organization, key):
    type(key).objects.filter(id=key.id).update(environment="production")
    other, _ = new_key(organization, owner, "other")
    gone, _ = new_key(organization, owner, "gone")
    for each in (key, key, key, other, other, gone):
        meter(each, at=NOW)
    type(key).objects.filter(id=gone.id).delete()
    assert list(totals(page(owner, group="environment"))) == ["Production", "Development", "Keys that are gone"]


@pytest.mark.parametrize("metric", ["latency", "first_token"])
def test_durations_are_lines_of_percentiles(owner, key, metric):
    for times in (1, 1, 100):
        meter(key, at=NOW, duration_ms=100.0 * times, first_token_ms=100.0 * times)
    apart = table(page(owner, metric=metric, group="none"))
    assert apart[0] == ["", "p50", "p95", "p99"]
    assert apart[-2][1:] == ["–", "–", "–"]
    assert apart[-1][2] == apart[-1][3] != apart[-1][1]
    grouped = table(page(owner, metric=metric, group="key", percentile="p50"))
    assert (grouped[0], grouped[-1][1]) == (["", "CI"], apart[-1][1])


def test_beyond_seven_groups_the_others_are_one(owner, key):
    for number in range(10):
        for _ in range(10 - number):
            meter(key, at=NOW, model=f"model-{number}", duration_ms=50.0)
    response = page(owner)
    names = list(totals(response))
    assert names == [*(f"model-{number}" for number in range(7)), "3 others"]
    assert totals(response)["3 others"][0] == "6"
    assert response.context["total"].requests == "55"
    assert table(response)[-1][1:] == ["10", "9", "8", "7", "6", "5", "4", "6"]
    assert response.context["rows"][-1].latency == response.context["rows"][0].latency != "–"
    by_tokens = page(owner, metric="tokens", model="model-9")
    assert list(totals(by_tokens)) == ["model-9"]


def test_tiles_compare_with_the_time_before(owner, key):
    for days in (0, 1, 2, 31):
        meter(key, at=NOW - timedelta(days=days))
    tiles = {tile.label: tile for tile in page(owner).context["tiles"]}
    assert (tiles["Requests"].value, tiles["Requests"].note) == ("3", "▲ 200% on the 30 days before")
    assert (tiles["Failed"].value, tiles["Failed"].unit) == ("0", "0.00%")
    assert page(owner, range="24h").context["tiles"][0].note == "As much as in the 24 hours before"


def test_keys_with_one_name_are_told_apart(owner, organization, key):
    twin, _ = new_key(organization, owner, "CI")
    for each in (key, twin):
        meter(each, at=NOW)
    assert set(totals(page(owner, group="key"))) == {f"CI ({key.hint})", f"CI ({twin.hint})"}


def test_names_are_shown_as_they_are_and_never_run(owner, organization, key):
    type(key).objects.filter(id=key.id).update(name=EVIL)
    meter(key, at=NOW, model=f"{EVIL}2")
    for group in ("key", "model"):
        response = page(owner, group=group)
        assert EVIL not in response.content.decode()
        assert EVIL in text_of(response)


def test_htmx_is_told_the_short_address(owner, key):
    response = page(owner, metric="requests", range="7d", group="model", bucket="", key="", model="")
    assert response["HX-Push-Url"] == f"{USAGE}?range=7d"
    assert page(owner)["HX-Push-Url"] == USAGE


def test_the_queries_are_as_many_for_many_keys(owner, organization, key):
    meter(key, at=NOW)

    def queries(**query):
        browser = signed_in(owner)
        with CaptureQueriesContext(connection) as found:
            assert browser.get(USAGE, query).status_code == 200
        assert not [each["sql"] for each in found if "billing_usagerecord" in each["sql"]]
        return len(found)

    few = {group: queries(group=group) for group in ("key", "environment", "model", "status", "none")}
    for number in range(20):
        meter(new_key(organization, owner, f"key {number}")[0], at=NOW, model=f"model {number}")
    assert few == {group: queries(group=group) for group in few}
    assert max(few.values()) <= 12


def test_a_file_has_every_group_and_all_columns(owner, key):
    for number in range(9):
        meter(key, at=NOW - timedelta(days=number), model=f"model-{number}", error_code="timeout" if number else "")
    found = lines(owner)
    assert len(found) == 9
    assert found[-1] == {
        "start": "2026-11-23T00:00:00Z",
        "model": "model-0",
        "requests": "1",
        "failed": "0",
        "prompt_tokens": "10",
        "cached_tokens": "0",
        "completion_tokens": "5",
        "total_tokens": "15",
        "cost": "0.015",
        "currency": "USD",
        **{f"duration_ms_{name}": "117.4" for name in ("p50", "p95", "p99")},
        **{f"first_token_ms_{name}": found[-1]["first_token_ms_p50"] for name in ("p50", "p95", "p99")},
    }
    assert [line["failed"] for line in found[:-1]] == ["1"] * 8
    assert len(lines(owner, model="model-3")) == 1


def test_a_file_by_status_key_environment_or_nothing(owner, key):
    meter(key, at=NOW)
    meter(key, at=NOW, status=500, error_code="server_error")
    assert [(line["status"], line["requests"]) for line in lines(owner, group="status")] == [
        ("ok", "1"),
        ("server_error", "1"),
    ]
    (by_key,) = lines(owner, group="key")
    assert (by_key["api_key"], by_key["api_key_name"], by_key["requests"]) == (key.public_id, "CI", "2")
    assert lines(owner, group="environment")[0]["environment"] == "development"
    assert list(lines(owner, group="none")[0])[:2] == ["start", "requests"]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://a.example","b")'])
def test_a_file_carries_no_formula(owner, key, name):
    type(key).objects.filter(id=key.id).update(name=name)
    meter(key, at=NOW, model=name)
    assert lines(owner, group="model")[0]["model"] == f"'{name}"
    assert lines(owner, group="key")[0]["api_key_name"] == f"'{name}"


def test_a_file_is_read_and_sent_in_parts_that_come_to_the_same(owner, key, monkeypatch):
    for hours in range(30):
        meter(key, at=NOW - timedelta(hours=hours), model="a, “quoted” é")
    whole = lines(owner, range="7d")
    monkeypatch.setattr(timeseries, "MAX_POINTS", 5)
    monkeypatch.setattr(csv_export, "PART", 5)
    response = signed_in(owner).get(CSV, {"range": "7d"})
    assert len(parts(response)) > 1
    assert lines(owner, range="7d") == whole
    assert [line["model"] for line in whole] == ["a, “quoted” é"] * 30


def test_a_file_that_would_be_too_long_is_refused_with_what_to_do(owner, key, monkeypatch):
    meter(key, at=NOW)
    monkeypatch.setattr(usage_csv, "ROWS", 29)
    response = signed_in(owner).get(CSV, {"group": "model"}, follow=True)
    assert response.redirect_chain == [(f"{USAGE}?group=model", 302)]
    assert "more than 29 lines" in response.content.decode()


def test_a_file_is_named_for_its_days(owner, key):
    meter(key, at=NOW, tokens=events.Tokens(input=1))
    response = signed_in(owner).get(CSV, {"range": "7d", "group": "key"})
    assert response["Content-Disposition"] == 'attachment; filename="usage-2026-11-16-to-2026-11-23-by-key.csv"'
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Cache-Control"] == "private, no-store"
