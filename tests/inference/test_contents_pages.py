"""What a request's page shows of its stored contents, to whom, and deleting them."""

import msgspec
import pytest

from accounts import api_keys, organizations
from accounts.models import Organization
from helixflow.lib import crypto, ids
from inference import calls
from inference.keeping import contents, transcript
from inference.keeping.kept import MAX_BODY, Recording
from inference.models import StoredContents
from tests import factories
from tests.billing.readers import meter
from tests.billing.visits import EVIL, signed_in, text_of

pytestmark = pytest.mark.django_db

URL = "/dashboard/requests"
ANSWER = {"object": "chat.completion", "choices": [{"message": {"role": "assistant", "content": "Fine."}}]}


@pytest.fixture
def storing(organization, owner) -> Organization:
    return organizations.update(organization=organization, user=owner, contents_days=30)


@pytest.fixture
def event(storing, owner):
    """A request as the meter writes it."""
    key, _ = api_keys.create(organization=storing, user=owner, name="CI")
    return meter(key, id=ids.uuid7())


def page_of(event) -> str:
    return f"{URL}/{ids.public_id(ids.REQUEST, event.id)}"


def recorded(answer: object) -> Recording:
    recording = Recording(head=True)
    recording.add(answer if isinstance(answer, bytes) else msgspec.json.encode(answer))
    return recording


def store(event, answer: object = ANSWER, **fields: object) -> None:
    body = {"model": "gpt-4", "messages": [{"role": "user", "content": "How are you?"}]} | fields
    request = calls.ChatCall.parse(msgspec.json.encode(body))
    contents.write([contents.Taken(event.id, event.organization_id, request, recorded(answer), 0)])


def frames(*deltas: object) -> bytes:
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    return b"".join(b"data: %b\n\n" % msgspec.json.encode(chunk) for chunk in chunks)


def test_everybody_in_the_organization_reads_them(owner, member, outsider, event):
    store(event)
    for user in (owner, member):
        page = text_of(signed_in(user).get(page_of(event)))
        assert "user Copy How are you?" in page
        assert "assistant Copy Fine." in page
    assert signed_in(outsider).get(page_of(event)).status_code == 404


def test_support_that_looks_at_the_dashboard_does_not(event, storing):
    store(event)
    operator = signed_in(factories.superuser("operator"))
    operator.post(f"/admin/accounts/organization/{storing.id}/act/view-as/", {"reason": "Ticket 7"})
    page = text_of(operator.get(page_of(event)))
    assert "Not shown to support." in page
    assert "How are you?" not in page


def test_the_page_says_how_to_turn_them_on(owner, member, organization, event):
    assert "Nothing is stored of this request." in text_of(signed_in(owner).get(page_of(event)))
    organizations.update(organization=organization, user=owner, contents_days=None)
    assert "Turn stored contents on" in text_of(signed_in(owner).get(page_of(event)))
    assert "An owner or admin can turn that on." in text_of(signed_in(member).get(page_of(event)))


def test_hostile_contents_are_text(owner, event):
    call = {"id": "c", "type": "function", "function": {"name": "run", "arguments": EVIL}}
    store(
        event,
        {"choices": [{"message": {"role": "assistant", "content": EVIL + "\u202e", "tool_calls": [call]}}]},
        messages=[{"role": "user", "content": EVIL, "name": EVIL}],
        stop=EVIL,
    )
    page = signed_in(owner).get(page_of(event)).content.decode()
    assert EVIL not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "&lt;U+202E&gt;" in page


def test_streams_are_put_together(owner, event):
    calls = [
        {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "add", "arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]},
    ]
    store(event, frames({"role": "assistant", "content": "Hel"}, {"content": "lo"}, *calls) + b"data: [DONE]\n\n")
    page = text_of(signed_in(owner).get(page_of(event)))
    assert "assistant Copy Hello" in page
    assert 'calls add {"a":1}' in page


def test_a_stream_that_broke_shows_what_came_and_the_error(owner, event):
    store(
        event, frames({"content": "Hel"}) + b'data: {"error":{"code":"timeout","message":"Too late."}}\n\ndata: {"cho'
    )
    page = text_of(signed_in(owner).get(page_of(event)))
    assert "assistant Copy Hel" in page
    assert "timeout Too late." in page


def test_data_is_left_out_and_named(owner, event):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 50_000}}
    store(event, messages=[{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}])
    page = text_of(signed_in(owner).get(page_of(event)))
    assert "What is it?" in page
    assert "Image (image/png, 49 kB, not stored)" in page
    assert len(StoredContents.objects.get().sealed_contents) < 2_000


def test_of_a_long_conversation_the_newest_is_kept(owner, event):
    old = [{"role": "user", "content": "x" * 100_000}] * 5
    store(event, messages=[*old, {"role": "user", "content": "And now?"}])
    page = text_of(signed_in(owner).get(page_of(event)))
    assert "And now?" in page
    assert "3 older messages are not stored" in page


def test_one_message_that_is_too_long_is_cut(owner, event):
    store(event, messages=[{"role": "user", "content": "é" * 400_000}])
    page = text_of(signed_in(owner).get(page_of(event)))
    assert "Only the beginning of the prompt is stored" in page
    assert page.count("é") <= 2 * transcript.MAX_PROMPT  # with the copy button's


def test_an_answer_that_is_too_long_says_so(owner, event):
    many = [{"content": "word "}] * 40_000
    assert len(frames(*many)) > MAX_BODY
    store(event, frames(*many))
    page = text_of(signed_in(owner).get(page_of(event)))
    assert "Only the beginning of the answer is stored" in page
    assert "word word" in page


def test_what_no_key_opens_is_told(owner, event):
    store(event)
    StoredContents.objects.update(sealed_contents=crypto.encrypt("no such thing"))
    assert "can't be read" in text_of(signed_in(owner).get(page_of(event)))
    StoredContents.objects.update(sealed_contents="damaged")
    assert "can't be read" in text_of(signed_in(owner).get(page_of(event)))


def test_owners_delete_those_of_one_request(owner, member, outsider, event):
    store(event)
    url = f"{page_of(event)}/contents/delete"
    assert url in signed_in(owner).get(page_of(event)).content.decode()
    assert url not in signed_in(member).get(page_of(event)).content.decode()
    for user, status in ((member, 403), (outsider, 404)):
        assert signed_in(user).get(url).status_code == signed_in(user).post(url).status_code == status
    assert "can't be undone" in text_of(signed_in(owner).get(url))
    assert StoredContents.objects.exists()
    assert signed_in(owner).post(url)["Location"] == page_of(event)
    assert not StoredContents.objects.exists()
    assert signed_in(owner).post(url).status_code == 404
