"""Prompts and answers through the data plane: stored where an organization asks for it, and nowhere else."""

import logging
import secrets
import threading
import uuid
from datetime import timedelta

import pytest
import time_machine
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.db import OperationalError
from django.utils import timezone

from accounts import organizations
from accounts.models import AuditEvent, Membership, Organization
from helixflow.lib import errors, ids, metrics
from inference import contents
from inference.keeping import contents as keeping
from inference.keeping import transcript
from inference.models import StoredContents
from inference.schemas import parse_chat_request
from inference.tasks import drop_contents
from tests.stack import wait_for

SECRET = "The patient has 3 weeks."


@pytest.fixture
def storing(organization, owner, deployment) -> Organization:
    return organizations.update(organization=organization, user=owner, contents_days=30)


@pytest.fixture
def off(organization, owner, storing) -> Organization:
    return organizations.update(organization=organization, user=owner, contents_days=None)


def asked(answer) -> str:
    request_id: str = answer.headers["x-request-id"]
    return request_id


def stored(organization, answer) -> contents.Contents:
    request_id = ids.parse_public_id(ids.REQUEST, asked(answer))
    wait_for(lambda: StoredContents.objects.filter(id=request_id).exists(), what="it was not stored")
    found = contents.of(organization, request_id)
    assert found is not None
    return found


def said(turns) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in turns]


def row(organization, *, at=None, days=30) -> StoredContents:
    """One that is there already."""
    moment = at or timezone.now()
    return StoredContents.objects.create(
        id=uuid.UUID(int=ids.first_at(moment + timedelta(milliseconds=1)).int + secrets.randbits(32)),
        organization=organization,
        sealed_contents="x",
        expires_at=moment + timedelta(days=days),
    )


@pytest.mark.parametrize("stream", [False, True])
def test_prompt_and_answer_are_stored_encrypted(plane, token, storing, stream):
    answer = plane.chat(token, stream=stream, messages=[{"role": "user", "content": SECRET}], temperature=0.5)
    assert answer.status_code == 200
    assert answer.content
    found = stored(storing, answer)
    assert said(found.turns) == [("user", SECRET)]
    assert found.parameters == {"temperature": 0.5, "stream": stream}
    [turn] = found.answer.turns
    assert turn.role == "assistant"
    assert turn.text
    assert found.answer.error is None
    if not stream:
        assert turn.text == answer.json()["choices"][0]["message"]["content"]
    assert SECRET not in StoredContents.objects.get().sealed_contents


def test_nothing_is_stored_unless_it_was_asked_for(plane, token, deployment, organization):
    assert plane.chat(token).status_code == 200
    assert plane.gateway.contents._writing is None
    assert not StoredContents.objects.exists()


def test_it_counts_from_the_next_request_on(plane, token, deployment, organization, owner):
    assert plane.chat(token).status_code == 200
    organization = organizations.update(organization=organization, user=owner, contents_days=1)
    assert stored(organization, plane.chat(token)).turns
    organizations.update(organization=organization, user=owner, contents_days=None)
    assert plane.chat(token).status_code == 200
    wait_for(lambda: not plane.gateway.contents._waiting)
    assert StoredContents.objects.count() == 1


def test_a_request_that_failed_is_stored_with_its_error(plane, token, storing):
    answer = plane.chat(token, model="nobody")
    assert answer.status_code == 404
    found = stored(storing, answer)
    assert said(found.turns) == [("user", "Hello")]
    assert found.answer.error is not None
    assert found.answer.error[0] == "model_not_found"
    assert not found.answer.turns


def test_a_body_that_was_never_understood_is_not(plane, token, storing):
    assert plane.chat(token, {"model": 5}).status_code == 400
    assert plane.chat(token).status_code == 200
    wait_for(lambda: StoredContents.objects.count() == 1)


def test_an_answer_given_again_is_stored_once(plane, token, storing, patient_with_redis):
    headers = {"Idempotency-Key": "order-1"}
    first, second = (plane.chat(token, headers=headers) for _ in range(2))
    assert second.headers["idempotent-replayed"] == "true"
    assert stored(storing, first).answer.turns
    assert StoredContents.objects.count() == 1


def test_a_cached_answer_is_stored_for_each_request(plane, token, storing, owner, patient_with_redis):
    organizations.update(organization=storing, user=owner, cache_ttl_s=600)
    first = plane.chat(token, temperature=0)

    def hit():
        return plane.chat(token, temperature=0)

    wait_for(lambda: hit().headers.get("x-helixflow-cache") == "hit")
    again = hit()
    assert said(stored(storing, again).answer.turns) == said(stored(storing, first).answer.turns)


def test_text_completions_and_embeddings(plane, token, storing):
    text = plane.complete(token, prompt=SECRET)
    found = stored(storing, text)
    assert said(found.turns) == [("prompt", SECRET)]
    assert found.answer.turns[0].text == text.json()["choices"][0]["text"]
    vectors = stored(storing, plane.embed(token, input=["a", "b"]))
    assert said(vectors.turns) == [("prompt", "a"), ("prompt", "b")]
    assert (vectors.answer.turns, vectors.answer.raw) == ([], "")


def test_nothing_of_them_is_logged(plane, token, storing, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)

    def breaks(*_args, **_kwargs):
        raise ValueError(SECRET)

    monkeypatch.setattr(transcript, "pack", breaks)
    before = metrics.total().contents_dropped
    assert plane.chat(token, messages=[{"role": "user", "content": SECRET}]).status_code == 200
    wait_for(lambda: metrics.total().contents_dropped == before + 1)
    assert "were not stored: ValueError" in caplog.text
    assert SECRET not in caplog.text


def test_they_wait_while_postgresql_is_away(plane, token, storing, monkeypatch):
    real, away = keeping.write, threading.Event()
    away.set()

    def write(batch):
        if away.is_set():
            raise OperationalError("gone")
        real(batch)

    monkeypatch.setattr(keeping, "write", write)
    plane.gateway.contents._retry_s = 0.05
    answers = [plane.chat(token) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert not StoredContents.objects.exists()
    away.clear()
    for answer in answers:
        assert stored(storing, answer).answer.turns


def test_nothing_is_sealed_for_a_postgresql_that_is_away(monkeypatch):
    """It is tried every two seconds, beside the calls that go on being served."""

    def refuse():
        raise OperationalError("gone")

    monkeypatch.setattr("inference.keeping.contents.connection.ensure_connection", refuse)
    monkeypatch.setattr(keeping, "_seal", lambda _: pytest.fail("sealed in vain"))
    with pytest.raises(OperationalError):
        keeping.write([keeping.Taken(ids.uuid7(), ids.uuid7(), None, None, 0)])


def test_what_finds_no_room_is_dropped_and_counted(plane, token, storing, monkeypatch):
    monkeypatch.setattr(keeping, "MAX_WAITING", 0)
    before = metrics.total().contents_dropped
    assert plane.chat(token).status_code == 200
    wait_for(lambda: metrics.total().contents_dropped == before + 1)
    assert not StoredContents.objects.exists()


def test_turned_off_they_are_out_of_sight_at_once_and_then_gone(organization, storing, owner):
    request_id = row(storing).id
    off = organizations.update(organization=organization, user=owner, contents_days=None)
    assert contents.of(off, request_id) is None
    with time_machine.travel(timezone.now() + timedelta(seconds=5), tick=False):
        again = organizations.update(organization=organization, user=owner, contents_days=30)
        assert contents.of(again, request_id) is None
        drop_contents()
    assert not StoredContents.objects.exists()


def test_what_was_under_way_while_they_were_turned_off_is_not_stored(off, organization):
    taken = keeping.Taken(ids.uuid7(), off.id, None, None, 0)
    keeping.write([taken._replace(request=chat_request())])
    assert not StoredContents.objects.exists()


def test_an_organization_that_is_gone_holds_up_nobody(storing):
    gone, there = (keeping.Taken(ids.uuid7(), each, chat_request(), None, 0) for each in (ids.uuid7(), storing.id))
    keeping.write([gone, there])
    assert [each.id for each in StoredContents.objects.all()] == [there.id]


def test_they_are_dropped_when_their_days_are_over(storing, owner, outsider):
    other = Membership.objects.get(user=outsider).organization
    other = organizations.update(organization=other, user=outsider, contents_days=365)
    now = timezone.now()
    Organization.objects.update(contents_since=now - timedelta(days=99))
    due, kept = row(storing, at=now - timedelta(days=31)), row(storing, at=now - timedelta(days=9))
    theirs = row(other, at=now - timedelta(days=31), days=365)
    assert contents.drop(batch=1) == 1
    assert set(StoredContents.objects.all()) == {kept, theirs}
    assert due not in {kept, theirs}
    organizations.update(organization=storing, user=owner, contents_days=7)  # fewer days count for what is stored
    assert contents.drop() == 1
    assert list(StoredContents.objects.all()) == [theirs]


def test_owners_forget_a_single_one(plane, token, storing, owner, member, outsider):
    request_id = asked(answer := plane.chat(token))
    stored(storing, answer)
    roles = {user: Membership.objects.get(user=user) for user in (owner, member, outsider)}
    with pytest.raises(errors.AuthorizationFailed):
        contents.forget(membership=roles[member], request_id=request_id)
    with pytest.raises(errors.NotFound):
        contents.forget(membership=roles[outsider], request_id=request_id)
    contents.forget(membership=roles[owner], request_id=request_id)
    assert not StoredContents.objects.exists()
    noted = AuditEvent.objects.order_by("-id")[0]
    assert (noted.action, noted.target, noted.actor) == ("contents.deleted", request_id, owner.email)
    with pytest.raises(errors.NotFound):
        contents.forget(membership=roles[owner], request_id=request_id)


def chat_request():
    return parse_chat_request(b'{"model": "m", "messages": [{"role": "user", "content": "Hello"}]}')


def test_they_are_sealed_anew_under_a_new_key(storing, settings):
    taken = keeping.Taken(ids.uuid7(), storing.id, chat_request(), None, 0)
    keeping.write([taken])
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode(), *settings.ENCRYPTION_KEYS]
    call_command("reseal_credentials")
    settings.ENCRYPTION_KEYS = settings.ENCRYPTION_KEYS[:1]
    found = contents.of(storing, taken.id)
    assert found is not None
    assert said(found.turns) == [("user", "Hello")]
