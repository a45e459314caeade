import json
from datetime import datetime, timedelta, timezone

import pytest

from webhooks import payloads
from webhooks.models import Event, EventType

AT = datetime(2024, 1, 1, 2, 30, 15, 999_999, tzinfo=timezone(timedelta(hours=2)))
ORGANIZATION = "org-01JqWnF0dWcXh9R2vN8bLz"


def test_the_body_is_the_references_envelope():
    body = payloads.body(event_type="completion.created", created_at=AT, data={"id": "chatcmpl-1", "model": "gpt-4"})
    assert body == (
        b'{"event":"completion.created","timestamp":"2024-01-01T00:30:15Z","data":{"id":"chatcmpl-1","model":"gpt-4"}}'
    )


def test_text_goes_out_as_utf_8():
    body = payloads.body(event_type="completion.created", created_at=AT, data={"end_user": "Zoë \u2028 😀"})
    assert "Zoë \u2028 😀".encode() in body
    assert json.loads(body)["data"] == {"end_user": "Zoë \u2028 😀"}


def test_what_is_no_json_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        payloads.body(event_type="completion.created", created_at=AT, data={"duration_ms": float("nan")})


@pytest.mark.django_db
@pytest.mark.parametrize("event_type", EventType)
def test_a_row_gives_the_same_bytes_each_time(organization, event_type):
    data = payloads.example(event_type, organization.public_id) | {"test": True}
    row = Event.objects.create(organization=organization, type=event_type, data=data)

    def sent() -> bytes:
        read = Event.objects.get(id=row.id)
        return payloads.body(event_type=read.type, created_at=read.created_at, data=read.data)

    first = sent()
    assert sent() == first
    assert json.loads(first)["data"] == data


@pytest.mark.parametrize("event_type", EventType)
def test_an_example_is_of_the_organization_and_ones_own(event_type):
    example = payloads.example(event_type, ORGANIZATION)
    assert example["organization_id"] == ORGANIZATION
    for value in example.values():
        if isinstance(value, dict):
            value.clear()
    example["organization_id"] = "changed"
    again = payloads.example(event_type, ORGANIZATION)
    assert again["organization_id"] == ORGANIZATION
    assert all(again.values())
