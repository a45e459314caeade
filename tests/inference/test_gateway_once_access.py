"""Who may have the answer under an Idempotency-Key again, and who is over a limit and sends bodies all the same."""

import socket

import pytest
from django.db import transaction

from accounts import api_keys, generation
from accounts.models import Organization
from inference.models import Model
from tests.factories import MODEL, reread_catalogue
from tests.inference.errors_told import error
from tests.inference.test_gateway_once import ONCE, limit_to


def test_a_key_that_lost_the_model_does_not_have_its_answer_again(plane, deployment, token, organization):
    plane.chat(token, headers=ONCE)
    api_keys.update(key=organization.api_keys.get(), models=["another"])
    error(plane.chat(token, headers=ONCE), 403, "authorization_failed")
    api_keys.update(key=organization.api_keys.get(), models=[MODEL])
    assert plane.chat(token, headers=ONCE).headers["idempotent-replayed"] == "true"


def test_nor_does_an_organization_that_lost_it(plane, deployment, token):
    plane.chat(token, headers=ONCE)
    Model.objects.get().only_for.add(Organization.objects.create(name="Others"))
    reread_catalogue()
    error(plane.chat(token, headers=ONCE), 404, "model_not_found")


def test_a_model_that_nobody_answers_for_any_more_is_no_reason_to_bill_again(plane, deployment, token):
    first = plane.chat(token, headers=ONCE)
    Model.objects.update(enabled=False)
    reread_catalogue()
    assert plane.chat(token, headers=ONCE).content == first.content


def test_a_disabled_organization_has_nothing_again(plane, deployment, token, organization):
    plane.chat(token, headers=ONCE)
    with transaction.atomic():
        Organization.objects.filter(id=organization.id).update(disabled_at="2026-01-01T00:00Z")
        generation.bump(organization.id)
    error(plane.chat(token, headers=ONCE), 403, "authorization_failed")


@pytest.mark.parametrize("per_minute", [1, 3])
def test_who_is_over_the_limit_is_refused_before_the_body(plane, deployment, token, organization, per_minute):
    """As without a key: or a flood of large bodies would be read and parsed at no cost to who sends them."""
    limit_to(organization, per_minute)
    for number in range(per_minute):
        assert plane.chat(token, headers={"Idempotency-Key": f"first-{number}"}).status_code == 200
    for number in range(per_minute + 1):
        error(plane.chat(token, headers={"Idempotency-Key": f"over-{number}"}), 429, "rate_limit_exceeded")
    host, port = plane.url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as caller:
        caller.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer %b\r\nIdempotency-Key: over-and-out\r\nContent-Length: 9000000\r\n\r\n{"
            % token.encode()
        )
        assert caller.recv(1000).startswith(b"HTTP/1.1 429 ")


def test_retries_of_who_is_over_the_limit_are_counted_once(plane, deployment, token, organization):
    limit_to(organization, 2)
    first = plane.chat(token, headers=ONCE)
    plane.chat(token)
    error(plane.chat(token), 429, "rate_limit_exceeded")
    for _ in range(2):
        again = plane.chat(token, headers=ONCE)
        assert again.content == first.content
        assert again.headers["x-ratelimit-limit"] == "2"
    error(plane.chat(token, headers=ONCE), 429, "rate_limit_exceeded")
