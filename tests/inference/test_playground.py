"""The playground's door to the data plane: a session, its organization, CSRF; then everything as for everybody."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import requests
from django.conf import settings
from django.test import Client

from accounts import impersonation
from accounts import playground as playground_keys
from accounts.models import ApiKey, Membership, User
from billing import subscriptions
from helixflow.lib import errors, ids
from inference import gateway, playground
from tests.factories import MODEL
from tests.factories import organization as make_organization

TOKEN = "c" * 32
Ask = Callable[..., requests.Response]


@pytest.fixture
def ask(plane, deployment, member, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """POST from the playground's page; ``user`` None: after the session has ended. ``headers`` replace the page's."""
    monkeypatch.setattr(gateway, "chat_completions", plane.gateway.chat_completions)
    site = plane.url.removesuffix("/v1")

    def ask(user: User | None = member, *, headers: dict[str, Any] | None = None, **options: Any) -> requests.Response:
        cookies = {settings.CSRF_COOKIE_NAME: TOKEN}
        if user is not None:
            client = Client()
            client.force_login(user)
            cookies[settings.SESSION_COOKIE_NAME] = client.cookies[settings.SESSION_COOKIE_NAME].value
        return requests.post(
            f"{site}/dashboard/playground/completions",
            json={"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]} | options,
            headers={"Origin": site, "X-CSRFToken": TOKEN} | (headers or {}),
            cookies=cookies,
            stream=bool(options.get("stream")),
            timeout=20,
        )

    return ask


def refusal(answer: requests.Response) -> tuple[int, str]:
    assert answer.headers["X-Request-ID"] == answer.json()["error"]["request_id"]
    return answer.status_code, answer.json()["error"]["code"]


def test_it_streams_and_is_recorded_as_the_members_own_use(ask, settled, member, organization):
    answer = ask(stream=True, stream_options={"include_usage": True})
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert int(answer.headers["X-RateLimit-Remaining"]) == int(answer.headers["X-RateLimit-Limit"]) - 1
    frames = [line.removeprefix("data: ") for line in answer.iter_lines(decode_unicode=True) if line]
    assert frames[-1] == "[DONE]"
    assert json.loads(frames[-2])["usage"]["completion_tokens"] > 0
    event = settled()
    key = ApiKey.objects.get(is_playground=True)
    assert (event.organization_id, event.user_id, event.api_key_id) == (organization.id, member.id, key.id)
    assert answer.headers["X-Request-ID"] == ids.public_id(ids.REQUEST, event.id)


def test_a_whole_answer_is_answered_too(ask):
    answer = ask()
    assert answer.json()["object"] == "chat.completion"
    assert answer.headers["X-HelixFlow-Upstream"] == "first"


def test_what_is_wrong_with_a_request_is_told_by_its_field(ask):
    answer = ask(temperature=3)
    assert refusal(answer) == (400, "invalid_request")
    assert answer.json()["error"]["param"] == "temperature"


def test_who_is_logged_out_is_told_so_in_json(ask):
    assert refusal(ask(None)) == (401, "authentication_failed")
    assert not ApiKey.objects.exists()


def test_a_user_who_was_deactivated_is_logged_out(ask, member):
    member.is_active = False
    member.save()
    assert refusal(ask())[0] == 401


@pytest.mark.parametrize(
    "headers",
    [{"X-CSRFToken": None}, {"X-CSRFToken": "d" * 32}, {"Origin": "https://evil.example"}, {"Origin": "null"}],
)
def test_other_pages_cannot_spend_its_quota(ask, organization, upstream, headers):
    answer = ask(headers=headers)
    assert refusal(answer) == (403, "authorization_failed")
    assert "Reload" in answer.json()["error"]["message"]
    assert upstream.requests == []


def test_credentials_that_a_request_brings_do_not_count(ask, token, settled, member):
    assert ask(headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert settled().user_id == member.id
    assert refusal(ask(None, headers={"Authorization": f"Bearer {token}"}))[0] == 401


def test_only_post_is_answered(plane):
    site = plane.url.removesuffix("/v1")
    answer = requests.get(f"{site}/dashboard/playground/completions", timeout=10)
    assert refusal(answer) == (405, "invalid_request")
    assert answer.headers["Allow"] == "POST"


def test_the_page_names_its_organization_and_another_is_not_found(ask, member, organization, outsider):
    theirs = Membership.objects.get(user=outsider).organization
    assert refusal(ask(headers={"X-HelixFlow-Organization": theirs.public_id}))[0] == 404
    second = make_organization(owner=member, name="Second")
    assert ask(headers={"X-HelixFlow-Organization": second.public_id}).status_code == 200
    assert ApiKey.objects.get(is_playground=True).organization == second


def test_a_member_who_was_removed_is_refused_at_once(ask, member, organization):
    assert ask().status_code == 200
    membership = Membership.objects.get(user=member)
    playground_keys.revoke(membership)
    membership.delete()
    assert refusal(ask()) == (403, "authorization_failed")


@pytest.mark.parametrize("field", ["disabled_at", "deletion_due_at"])
def test_an_organization_that_is_disabled_or_about_to_be_deleted_is_refused(ask, organization, upstream, field):
    setattr(organization, field, organization.created_at)
    organization.save()
    assert refusal(ask()) == (403, "authorization_failed")
    assert upstream.requests == []


def test_a_spent_budget_is_refused_as_everywhere(ask, organization, owner, upstream):
    subscriptions.set_caps(organization=organization, user=owner, monthly_budget=Decimal(0))
    answer = ask()
    assert refusal(answer) == (429, "insufficient_quota")
    assert answer.headers["X-RateLimit-Reset-Month"].isdigit()
    assert upstream.requests == []


def test_the_key_is_shown_to_nobody(ask, member, organization, plane, caplog):
    with caplog.at_level("DEBUG"):
        answers = [ask(), ask(stream=True), ask(model="nothing"), ask(headers={"X-CSRFToken": None})]
    secret = playground_keys.secret_of(Membership.objects.get(user=member))
    for answer in answers:
        assert secret not in answer.text + str(answer.headers)
    assert secret not in caplog.text


def test_a_session_that_looks_as_support_spends_nothing_not_even_on_its_own(member, organization):
    client = Client()
    client.force_login(member)
    session = client.session
    session[impersonation.KEY] = {"organization": organization.id.hex, "until": 2**40}
    session.save()
    cookie = f"{settings.SESSION_COOKIE_NAME}={session.session_key}; {settings.CSRF_COOKIE_NAME}={TOKEN}"
    headers = [(b"host", b"localhost"), (b"x-csrftoken", TOKEN.encode()), (b"cookie", cookie.encode())]
    named = (playground.ORGANIZATION.lower().encode(), organization.public_id.encode())
    for given in (headers, [*headers, named]):
        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": given}
        with pytest.raises(errors.AuthorizationFailed, match="as support"):
            playground.membership_of(scope)
