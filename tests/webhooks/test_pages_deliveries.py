"""The dashboard's page of one delivery, and sending it again. Who may see what of the log's pages."""

import itertools
import re
import shlex
import subprocess
from datetime import timedelta
from html import unescape

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from helixflow.lib import http
from tests import factories
from tests.webhooks import rows
from tests.webhooks.pages import HTMX, NOW, URL, failed, listed, polled, signed_in, text_of
from webhooks import delivery_words, payloads, sending
from webhooks.models import Delivery, DeliveryState, Endpoint, Event

EVIL = "</pre><script>alert(1)</script>\"'>{{7*7}}"
PAGES = [URL, URL + "/{delivery}", URL + "/{delivery}/resend", "/dashboard/webhooks/{endpoint}/resend-failed"]


@pytest.mark.parametrize("path", PAGES)
def test_every_page_requires_a_login(client, delivery, endpoint, path):
    url = path.format(delivery=delivery.public_id, endpoint=endpoint.public_id)
    response = client.get(url)
    assert (response.status_code, response["Location"]) == (302, f"/login?next={url}")


@pytest.mark.parametrize("path", PAGES)
def test_every_page_answers_its_owner(owner, delivery, endpoint, path):
    url = path.format(delivery=delivery.public_id, endpoint=endpoint.public_id)
    assert signed_in(owner).get(url, follow=True).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"), [*(("get", path) for path in PAGES[1:]), *(("post", path) for path in PAGES[2:])]
)
def test_what_is_another_organizations_is_404(outsider, endpoint, method, path):
    delivery = failed(endpoint)
    url = path.format(delivery=delivery.public_id, endpoint=endpoint.public_id)
    assert getattr(signed_in(outsider), method)(url).status_code == 404
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.FAILED


@pytest.mark.parametrize("bad", ["x", "whd_" + "0" * 22, "evt_" + "0" * 22, "%00", "%F0%9F%94%91"])
def test_odd_ids_are_404(owner, organization, bad):
    assert signed_in(owner).get(f"{URL}/{bad}").status_code == 404


def test_a_member_sees_everything_and_sends_nothing_again(member, endpoint):
    delivery = failed(endpoint)
    rows.attempt(delivery, succeeded=False, status=500, error_code="status", response_body="oops")
    client = signed_in(member)
    assert listed(client.get(URL)) == [delivery.public_id]
    page = client.get(f"{URL}/{delivery.public_id}")
    assert "oops" in text_of(page)
    assert "Owners and admins of the organization can send it again." in text_of(page)
    assert "<form method" not in page.content.decode().split("<main")[1]
    assert client.post(f"{URL}/{delivery.public_id}/resend").status_code == 403
    assert client.get(f"/dashboard/webhooks/{endpoint.public_id}/resend-failed").status_code == 403
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.FAILED


@pytest.mark.parametrize(
    ("fields", "line", "badge"),
    [
        ({}, "It is due to be sent now.", "Queued"),
        ({"leased_until": timedelta(seconds=30)}, "Being sent now.", "Sending"),
        (
            {"step": 3, "attempt_count": 3, "next_attempt_at": timedelta(minutes=4)},
            "Failed 3 times; next attempt in 4 minutes (2026-11-23 20:04:00 UTC)",
            "Retrying",
        ),
        (
            {"step": 1, "attempt_count": 11, "next_attempt_at": timedelta(hours=5)},
            "Failed once; next attempt in 5 hours (2026-11-24 01:00:00 UTC)",
            "Retrying",
        ),
        ({"step": 2, "attempt_count": 2}, "Failed twice; the next attempt is due now.", "Retrying"),
        (
            {"step": 2, "attempt_count": 2, "leased_until": timedelta(seconds=30)},
            "Failed twice; being sent again now.",
            "Sending",
        ),
        (
            {"state": "succeeded", "attempt_count": 1, "ended_at": timedelta(milliseconds=120)},
            "Delivered at the first attempt after 120 ms.",
            "Delivered",
        ),
        (
            {"state": "succeeded", "attempt_count": 2, "ended_at": timedelta(milliseconds=5300)},
            "Delivered at the 2nd attempt after 5.3 s.",
            "Delivered",
        ),
        (
            {"state": "failed", "attempt_count": 10, "step": 10, "next_attempt_at": None},
            "Failed 10 times, and no further attempt is planned.",
            "Failed",
        ),
        (
            {"state": "failed", "test": True, "attempt_count": 1, "step": 1, "next_attempt_at": None},
            "This test failed. Tests are not repeated by themselves.",
            "Failed",
        ),
        ({"state": "cancelled", "next_attempt_at": None}, "Cancelled: the endpoint was deleted", "Cancelled"),
    ],
)
def test_what_happened_is_said_in_one_line(owner, endpoint, fields, line, badge):
    values = {name: NOW + value if isinstance(value, timedelta) else value for name, value in fields.items()}
    delivery = rows.delivery(endpoint, at=NOW, **{"next_attempt_at": NOW} | values)
    client = signed_in(owner)
    with time_machine.travel(NOW, tick=False):
        assert line in text_of(client.get(f"{URL}/{delivery.public_id}"))
        assert f'badge--dot">{badge}<' in client.get(URL).content.decode()


def test_a_disabled_endpoint_is_waited_for(owner, endpoint, delivery):
    Endpoint.objects.update(disabled_at=timezone.now(), disabled_reason="manual")
    page = text_of(signed_in(owner).get(f"{URL}/{delivery.public_id}"))
    assert "It waits until the endpoint is enabled again." in page
    assert "When enabled" in text_of(signed_in(owner).get(URL))


ADVICE = [
    ({"error_code": "timeout"}, "Answer at once with a 2xx"),
    ({"error_code": "tls"}, "comes with its whole chain"),
    ({"error_code": "dns"}, "names of an internal network"),
    ({"error_code": "connect"}, "firewall"),
    ({"error_code": "refused_address"}, "where its name leads"),
    ({"error_code": "broken_answer"}, "Look into the receiver's log"),
    ({"error_code": "redirect", "status": 302}, "Location header"),
    ({"error_code": "answer_too_long", "status": 200}, "Nothing of what is in an answer is used."),
    ({"error_code": "status", "status": 410}, "Enable the endpoint again"),
    ({"error_code": "status", "status": 400}, "signature check"),
    ({"error_code": "status", "status": 404}, "nothing at this path"),
    ({"error_code": "status", "status": 503}, "Look into its log"),
    ({"error_code": "status", "status": 418}, "Look into the receiver's log"),
    ({"error_code": "status", "status": 799}, "The receiver failed"),
    ({"error_code": "of another time"}, "Look into the receiver's log"),
]


@pytest.mark.parametrize(("fields", "words"), ADVICE)
def test_each_failure_comes_with_what_to_do(owner, delivery, fields, words):
    rows.attempt(delivery, **{"succeeded": False, "status": None, "error": "These are its words."} | fields)
    page = text_of(signed_in(owner).get(f"{URL}/{delivery.public_id}"))
    assert "These are its words." in page
    assert words in page


def test_a_test_that_is_answered_410_is_not_said_to_disable_the_endpoint(owner, endpoint):
    delivery = rows.delivery(endpoint, test=True, state=DeliveryState.FAILED, next_attempt_at=None)
    rows.attempt(delivery, succeeded=False, status=410, error_code="status", error="These are its words.")
    page = text_of(signed_in(owner).get(f"{URL}/{delivery.public_id}"))
    assert "To an event it would disable the endpoint." in page
    assert "Enable the endpoint again" not in page


def test_a_200_that_failed_is_shown_by_what_was_wrong_with_it(owner, endpoint):
    spent = failed(endpoint, last_status=200, last_error="answer_too_long")
    rows.attempt(spent, succeeded=False, status=200, error_code="answer_too_long", error="These are its words.")
    client = signed_in(owner)
    log = text_of(client.get(URL))
    assert ("Answer too long" in log, " 200 " in log) == (True, False)
    page = text_of(client.get(f"{URL}/{spent.public_id}"))
    assert page.index("Answer too long") < page.index("200 OK")  # which is below, in the answer


def test_each_code_of_a_failure_has_its_words():
    codes = {http.REFUSED_ADDRESS, http.DNS, http.CONNECT, http.TLS, http.TIMEOUT, http.BROKEN_ANSWER}
    codes |= {sending.REDIRECT, sending.TOO_LONG, sending.SECRET_LOST}
    assert set(delivery_words.ERRORS) == set(delivery_words.ADVICE) == codes


def test_a_delivery_shows_everything_that_was_said(owner, endpoint, delivery):
    rows.attempt(
        delivery,
        succeeded=False,
        status=503,
        address="203.0.113.9",
        duration_ms=1250,
        request_headers={"webhook-id": delivery.event.public_id, "Content-Type": "application/json"},
        response_headers={"Server": "nginx"},
        response_body="down for\nmaintenance",
        response_truncated=True,
        error_code="status",
        error="The receiver answered 503.",
        next_attempt_at=NOW,
    )
    page = text_of(signed_in(owner).get(f"{URL}/{delivery.public_id}"))
    for words in (
        delivery.event.public_id,
        endpoint.url,
        "503 Service Unavailable",
        "203.0.113.9",
        "1.2 s",
        f"webhook-id: {delivery.event.public_id}",
        "Server: nginx",
        "down for maintenance",
        "first 20 kB",
        "Next attempt at 2026-11-23 20:00:00 UTC",
    ):
        assert words in page


def test_the_body_is_copied_byte_for_byte_and_curl_repeats_the_request(owner, organization, endpoint):
    data = {"z": "it's “ü”", "a": {"cost": 1.50, "note": "$(rm -rf /) `x` \\ \n"}}
    delivery = factories.delivery(endpoint, data=data)
    event = Event.objects.get()
    sent = payloads.body(event_type=event.type, created_at=event.created_at, data=event.data)
    headers = {"webhook-signature": "v1,abc=", "X-Odd": "it's\t“x”", "Host": "x", "Content-Length": "9"}
    rows.attempt(delivery, request_headers=headers)
    page = signed_in(owner).get(f"{URL}/{delivery.public_id}").content.decode()
    copies = [unescape(text) for text in re.findall(r'data-copy="([^"]*)"', page)]
    assert sent.decode() in copies
    [command] = [text for text in copies if text.startswith("curl")]
    words = shlex.split(command)
    assert words[:4] == ["curl", "--globoff", "--request", "POST"]
    assert words[4] == endpoint.url
    assert words[words.index("--data-raw") + 1].encode() == sent
    given = [word for before, word in itertools.pairwise(words) if before == "--header"]
    assert sorted(given) == ["X-Odd: it's\t“x”", "webhook-signature: v1,abc="]


def test_what_is_copied_as_curl_holds_no_key_that_a_terminal_would_obey(delivery):
    evil = "\x7f" * 400 + "touch owned #\x9b2J\u202e' \\ \\\\x41 ü\ufeff123"
    body = payloads.body(event_type="completion.created", created_at=NOW, data={"end_user": evil})
    command = delivery_words.curl(rows.attempt(delivery), body)
    assert re.search("[\x7f-\x9f\u202e\ufeff]", command) is None
    shown = subprocess.run(
        ["bash", "-c", f'curl() {{ printf "%s\\0" "$@"; }}\n{command}'], capture_output=True, check=True
    )
    assert shown.stdout.split(b"\0")[-2] == body
    assert shown.stderr == b""


def test_attempts_are_numbered_and_capped_at_the_newest_fifty(owner, delivery, django_assert_max_num_queries):
    for n in range(53):
        rows.attempt(delivery, at=NOW + timedelta(seconds=n), succeeded=False, status=500)
    Delivery.objects.update(attempt_count=53)
    client = signed_in(owner)
    with django_assert_max_num_queries(8):
        response = client.get(f"{URL}/{delivery.public_id}")
    numbers = re.findall(r"Attempt (\d+)</span>", response.content.decode())
    assert numbers == [str(n) for n in range(53, 3, -1)]
    assert "The newest 50 of 53." in text_of(response)


def test_a_pending_delivery_asks_again_and_keeps_what_is_open(owner, delivery):
    attempt = rows.attempt(delivery, succeeded=False, status=500)
    client, url = signed_in(owner), f"{URL}/{delivery.public_id}"
    query = polled(client.get(url))
    assert client.get(url + query, headers=HTMX).status_code == 204
    Delivery.objects.update(state=DeliveryState.SUCCEEDED, attempt_count=2, next_attempt_at=None)
    response = client.get(url + query, headers=HTMX)
    page = response.content.decode()
    assert "Delivered at the 2nd attempt." in text_of(response)
    assert "<html" not in page
    assert "data-live" not in page
    assert f'id="attempt-{attempt.id.hex}" hx-preserve' in page


@pytest.mark.parametrize("path", [URL, URL + "/{delivery}", "/dashboard/webhooks/{endpoint}/resend-failed"])
def test_what_strangers_write_is_inert(owner, organization, path):
    endpoint = factories.endpoint(organization, url=f"https://example.com/{EVIL}", description=EVIL)
    delivery = failed(endpoint)
    Event.objects.update(data={"model": EVIL})
    rows.attempt(
        delivery,
        succeeded=False,
        error=EVIL,
        error_code=EVIL[:40],
        request_headers={EVIL: EVIL},
        response_headers={EVIL: EVIL},
        response_body=EVIL,
    )
    url = path.format(delivery=delivery.public_id, endpoint=endpoint.public_id)
    page = signed_in(owner).get(url).content.decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    assert "{{7*7}}" in page
    assert page.count("<pre") == page.count("</pre>")


def test_marks_that_show_nothing_or_turn_text_around_are_written_out(owner, delivery):
    rows.attempt(delivery, response_body="a\u202eb\u2066c\x1bd\ufffde\tf\ng\u200dh")
    page = signed_in(owner).get(f"{URL}/{delivery.public_id}").content.decode()
    shown = unescape(
        page.split('aria-label="Body of the response of attempt')[1].split("<code>")[1].split("</code>")[0]
    )
    assert shown == "a<U+202E>b<U+2066>c<U+001B>d\ufffde\tf\ng\u200dh"


def test_resending_begins_anew_under_the_same_event_id(owner, endpoint):
    delivery = failed(endpoint)
    client = signed_in(owner)
    response = client.post(f"{URL}/{delivery.public_id}/resend", follow=True)
    assert response.redirect_chain == [(f"{URL}/{delivery.public_id}", 302)]
    assert "sent again, under the same event id" in text_of(response)
    again = Delivery.objects.get()
    assert (again.state, again.step, again.event_id) == (DeliveryState.PENDING, 0, delivery.event_id)


def test_one_that_succeeded_is_sent_again_after_a_question(owner, endpoint):
    delivery = rows.delivery(endpoint, state=DeliveryState.SUCCEEDED, attempt_count=1, next_attempt_at=None)
    page = signed_in(owner).get(f"{URL}/{delivery.public_id}").content.decode()
    assert "data-confirm=" in page
    signed_in(owner).post(f"{URL}/{delivery.public_id}/resend")
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.PENDING


def test_what_is_refused_is_said(owner, delivery):
    rows.lease(delivery, seconds=60)
    response = signed_in(owner).post(f"{URL}/{delivery.public_id}/resend", follow=True)
    assert "being sent right now" in text_of(response)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"deleted_at": NOW}, "Its endpoint is deleted"),
        ({"disabled_at": NOW, "disabled_reason": "manual"}, "Its endpoint is disabled."),
    ],
)
def test_no_resend_is_offered_to_an_endpoint_that_takes_nothing(owner, endpoint, changed, words):
    delivery = failed(endpoint)
    Endpoint.objects.update(**changed)
    page = signed_in(owner).get(f"{URL}/{delivery.public_id}")
    assert words in text_of(page)
    assert f"{delivery.public_id}/resend" not in page.content.decode()


def test_a_test_leads_to_another_one_instead(owner, member, endpoint):
    delivery = failed(endpoint, test=True)
    another = f'href="/dashboard/webhooks/{endpoint.public_id}/test?event=completion.created"'
    page = signed_in(owner).get(f"{URL}/{delivery.public_id}").content.decode()
    assert another in page
    assert f"{delivery.public_id}/resend" not in page
    assert another not in signed_in(member).get(f"{URL}/{delivery.public_id}").content.decode()


def test_resending_by_get_does_nothing(owner, endpoint):
    delivery = failed(endpoint)
    response = signed_in(owner).get(f"{URL}/{delivery.public_id}/resend")
    assert response["Location"] == f"{URL}/{delivery.public_id}"
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.FAILED


@pytest.mark.parametrize("path", PAGES[2:])
def test_a_post_without_csrf_token_is_refused(owner, endpoint, path):
    delivery = failed(endpoint)
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner)
    url = path.format(delivery=delivery.public_id, endpoint=endpoint.public_id)
    assert client.post(url).status_code == 403
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.FAILED
