"""Completions are told to who subscribes, once each, in the transaction of their records."""

import uuid

import pytest
from django.db import DataError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing import events
from billing.metering import announcing, meter
from billing.models import UsageRecord, UsageReject
from helixflow.lib import errors, ids
from inference import calls
from tests.billing.metering.announced import CREATED, FAILED, delivered, listen, request_id, told, told_of
from tests.billing.sent_events import left, send
from tests.billing.usage_events import reaped, refused, usage, write
from webhooks import services
from webhooks.models import Delivery, Event, EventType

pytestmark = pytest.mark.django_db

BROKEN = {"status": 503, "error_code": "timeout", "units": 0, "usage_source": "none", "tokens": events.Tokens()}


@pytest.fixture
def ended(organization):
    """Usage events of the organization."""

    def ended(**fields):
        return usage(**{"organization_id": organization.id} | fields)

    return ended


# What is told


def test_a_completion_that_ended_well(organization, owner, ended):
    listen(organization)
    event = ended(user_id=owner.id, end_user="alice", tokens=events.Tokens(1, 2, 3, 4, 5, 6, 7), duration_ms=12.5)
    write(event)
    row = Event.objects.get()
    assert (row.type, row.organization) == ("completion.created", organization)
    assert row.data == {
        "id": ids.public_id("chatcmpl-", event.id),
        "model": "gpt-4",
        "user_id": owner.public_id,
        "organization_id": organization.public_id,
        "api_key_id": ids.public_id("key_", event.api_key_id),
        "request_id": ids.public_id("req_", event.id),
        "end_user": "alice",
        "usage": {"prompt_tokens": 10, "completion_tokens": 18, "total_tokens": 28},
        "duration_ms": 12.5,
    }


def test_one_that_failed_says_why_and_no_usage(organization, ended):
    listen(organization)
    event = ended(**BROKEN)
    write(event)
    assert told(FAILED) == [
        {
            "id": ids.public_id("chatcmpl-", event.id),
            "model": "gpt-4",
            "user_id": None,
            "organization_id": organization.public_id,
            "api_key_id": ids.public_id("key_", event.api_key_id),
            "request_id": ids.public_id("req_", event.id),
            "end_user": None,
            "duration_ms": 120.0,
            "error": {"code": "timeout", "message": "The model did not answer in time."},
        }
    ]


def test_one_that_broke_off_says_what_it_had_produced(organization, ended):
    listen(organization)
    write(ended(status=500, error_code="server_error", streamed=True))
    (data,) = told(FAILED)
    assert data["usage"] == {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    assert data["error"] == {"code": "server_error", "message": errors.ServerError.default_message}


def test_a_caller_who_left_is_a_failure(organization, ended):
    listen(organization)
    write(ended(status=499, error_code="client_disconnected"))
    (data,) = told(FAILED)
    assert data["error"] == {
        "code": "client_disconnected",
        "message": "The caller left before the answer was complete.",
    }


@pytest.mark.parametrize("fields", [{"status": 404}, {"error_code": "from_a_later_version"}])
def test_a_failure_of_no_known_code_is_told_too(organization, ended, fields):
    listen(organization)
    write(ended(**fields))
    assert told(FAILED)[0]["error"] == {"code": fields.get("error_code", ""), "message": "The request failed."}


def test_every_error_of_a_caller_s_has_its_message():
    codes = {error.code: error for error in everything_under(errors.HelixError)}
    for code in codes:
        assert announcing._MESSAGES[code], code
    assert announcing._MESSAGES["invalid_request"] == errors.InvalidRequest.default_message
    assert announcing._MESSAGES["rate_limit_exceeded"] == errors.RateLimitExceeded.default_message


def everything_under(kind):
    return [kind, *(each for child in kind.__subclasses__() for each in everything_under(child))]


def test_a_request_that_was_never_understood_names_no_model(organization, ended):
    listen(organization)
    write(ended(**BROKEN | {"model": "", "status": 400, "error_code": "invalid_request"}))
    assert told(FAILED)[0]["model"] is None


def test_a_fallback_s_answer_is_told_under_the_name_that_was_asked_for(organization, ended):
    listen(organization)
    write(ended(fallback_model="gpt-3.5-turbo"))
    assert told(CREATED)[0]["model"] == "gpt-4"


def test_a_text_completion_has_an_id_of_its_kind(organization, ended):
    listen(organization)
    event = ended(operation="completions")
    write(event)
    assert told(CREATED)[0]["id"] == ids.public_id("cmpl-", event.id)


def test_embeddings_are_not_told(organization, ended):
    listen(organization)
    write(ended(operation="embeddings"), ended(operation="embeddings", **BROKEN))
    assert UsageRecord.objects.count() == 2
    assert told() == []


def test_operations_and_ids_are_those_of_the_gateway():
    kinds = (calls.ChatCall, calls.CompletionCall)
    assert {kind.operation.replace(" ", "."): kind.id_prefix for kind in kinds} == announcing.ANSWERS


# To whom


def test_who_does_not_subscribe_costs_one_query_and_no_row(organization, outsider, ended):
    stranger = outsider.memberships.get().organization
    write(ended())  # which learns the quota's plan
    with CaptureQueriesContext(connection) as embeddings:
        write(*[ended(operation="embeddings") for _ in range(9)])
    listen(stranger)
    listen(organization, EventType.QUOTA_LOW)
    listen(organization, disabled_at=timezone.now())
    listen(organization, deleted_at=timezone.now())
    with CaptureQueriesContext(connection) as completions:
        write(*[ended(**fields) for fields in ({}, BROKEN) for _ in range(9)])
    assert len(completions) == len(embeddings) + 1
    assert not Event.objects.exists()


def test_all_that_a_batch_tells_costs_one_query_and_the_rows(organization, ended, django_assert_num_queries):
    listen(organization)
    batch = [
        *(ended() for _ in range(30)),
        *(ended(**BROKEN) for _ in range(30)),
        refused(organization_id=organization.id),
    ]
    write(ended(), refused(organization_id=organization.id, minute=1))
    with CaptureQueriesContext(connection) as few:
        write(ended(), refused(organization_id=organization.id, minute=2))
    with CaptureQueriesContext(connection) as many:
        write(*batch)
    assert len(many) == len(few)
    assert Event.objects.count() == 2 + 2 + 61


def test_only_the_types_that_somebody_wants_are_written(organization, ended):
    listen(organization, FAILED)
    good, bad = ended(), ended(**BROKEN)
    write(good, bad)
    assert (told_of(good), told_of(bad)) == ([], [FAILED])


def test_filters_by_key_and_model(organization, ended):
    key, other = uuid.uuid4(), uuid.uuid4()
    by_key = listen(organization, api_key_ids=[key])
    by_model = listen(organization, model_names=["gpt-4", "gpt-5"])
    by_both = listen(organization, api_key_ids=[key], model_names=["gpt-5"])
    everything = listen(organization)
    batch = [
        ended(api_key_id=whose, model=model, **outcome)
        for whose in (key, other)
        for model in ("gpt-4", "gpt-5", "gpt-6")
        for outcome in ({}, BROKEN)
    ]
    write(*batch)

    def names(endpoint):
        return {data["request_id"] for data in delivered(endpoint)}

    assert names(everything) == {request_id(event) for event in batch}
    assert names(by_key) == {request_id(event) for event in batch if event.api_key_id == key}
    assert names(by_model) == {request_id(event) for event in batch if event.model != "gpt-6"}
    assert names(by_both) == {request_id(each) for each in batch if (each.api_key_id, each.model) == (key, "gpt-5")}


def test_a_limit_that_was_met_is_told_of_the_key_that_met_it(organization):
    key, other = uuid.uuid4(), uuid.uuid4()
    listening = listen(organization, api_key_ids=[key])
    write(*(refused(organization_id=organization.id, api_key_id=each) for each in (key, other)))
    assert len(told(EventType.RATE_LIMIT_EXCEEDED)) == 2
    assert [data["api_key_id"] for data in delivered(listening)] == [ids.public_id("key_", key)]


# Once


def test_what_comes_again_is_told_once(organization, ended):
    endpoint = listen(organization)
    batch = [*(ended() for _ in range(5)), ended(**BROKEN)]
    write(*batch, batch[0])
    write(*batch)
    write(*batch, late=True)
    assert [len(told_of(event)) for event in batch] == [1] * 6
    assert Delivery.objects.filter(endpoint=endpoint).count() == 6


def test_the_reaper_s_failure_that_was_none_is_followed_by_what_came_of_it(organization, ended):
    endpoint = listen(organization)
    truth = ended()
    write(reaped(truth))
    assert told_of(truth) == [FAILED]
    write(truth, late=True)
    write(truth, late=True)
    assert told_of(truth) == [CREATED, FAILED]
    assert [data["duration_ms"] for data in delivered(endpoint)] == [60_000.0, 120.0]


def test_the_reaper_s_failure_that_was_one_is_told_once(organization, ended):
    listen(organization)
    truth = ended(**BROKEN)
    write(reaped(truth))
    write(truth, late=True)
    assert UsageRecord.objects.get().error_code == "timeout"
    assert [data["error"]["code"] for data in told()] == ["server_error"]


def test_of_a_guess_and_the_truth_in_one_batch_only_the_truth_is_told(organization, ended):
    listen(organization)
    truth = ended()
    write(reaped(truth), truth, late=True)
    assert told_of(truth) == [CREATED]


def test_the_reaper_s_word_after_the_gateway_s_is_not_told(organization, ended):
    listen(organization)
    truth = ended()
    write(truth)
    write(reaped(truth), late=True)
    assert told_of(truth) == [CREATED]


# With its cause


@pytest.mark.django_db(transaction=True)
def test_a_batch_that_is_rolled_back_leaves_neither_record_nor_event(organization, ended):
    listen(organization)
    event = ended()
    with transaction.atomic():
        write(event)
        assert Event.objects.exists()
        transaction.set_rollback(True)
    assert [model.objects.count() for model in (UsageRecord, Event, Delivery)] == [0, 0, 0]
    write(event)
    assert told_of(event) == [CREATED]


@pytest.mark.django_db(transaction=True)
def test_what_cannot_be_told_is_set_aside_with_its_record(organization, ended, monkeypatch):
    listen(organization)
    batch = [ended() for _ in range(20)]

    def publish_all(happenings, **given):
        happenings = list(happenings)
        if any(happening.data["request_id"] == request_id(batch[7]) for happening in happenings):
            raise DataError("not as jsonb") from type("Cause", (Exception,), {"sqlstate": "22P05"})()
        return services.publish_all(happenings, **given)

    with monkeypatch.context() as patch:
        patch.setattr("billing.metering.announcing.publish_all", publish_all)
        send(*batch)
        meter.Meter().drain()
    assert (UsageRecord.objects.count(), Event.objects.count(), left()) == (19, 19, 0)
    assert UsageReject.objects.get().reason == "DataError: not as jsonb"
    assert meter.put_rejects_back() == (1, 0)
    meter.Meter().drain()
    assert [told_of(event) for event in batch] == [[CREATED]] * 20


@pytest.mark.django_db(transaction=True)
def test_a_broker_that_fails_as_nobody_foresaw_sets_nothing_aside(organization, ended, monkeypatch):
    """What was committed is no failure of the batch: the sweeper finds its deliveries."""
    endpoint = listen(organization)
    calls_of_broker = []

    def fail(*_, **__):
        calls_of_broker.append(1)
        raise RuntimeError("of a kind that nobody foresaw")

    monkeypatch.setattr("helixflow.lib.tasks.nudge", fail)
    send(ended(), ended())
    meter.Meter().drain()
    assert calls_of_broker
    assert (UsageRecord.objects.count(), UsageReject.objects.count(), left()) == (2, 0, 0)
    assert Delivery.objects.filter(endpoint=endpoint).count() == 2


@pytest.mark.django_db(transaction=True)
def test_text_of_clients_is_told_as_it_is_recorded(organization, ended):
    listen(organization, model_names=["a\ufffdb"])
    listen(organization)
    write(ended(model="a\0b", end_user="\u2028<script>"))
    write(ended(model="a\ud800b", end_user="x" * 600, error_code="\0", status=500))
    (first,), (second,) = told(CREATED), told(FAILED)
    assert (first["model"], first["end_user"]) == ("a\ufffdb", "\u2028<script>")
    assert (second["model"], second["end_user"], second["error"]["code"]) == ("a\ufffdb", "x" * 512, "\ufffd")
    assert Delivery.objects.count() == 4


@pytest.mark.django_db(transaction=True)
def test_an_organization_that_is_gone_keeps_nobody_s_records_back(organization, ended):
    listen(organization)
    gone = usage(organization_id=uuid.uuid4())
    event = ended()
    later = ended()
    write(gone, event)
    assert UsageRecord.objects.count() == 2
    assert told_of(event) == [CREATED]
    organization.delete()
    write(later)
    assert UsageRecord.objects.count() == 3
    assert not Event.objects.exists()
